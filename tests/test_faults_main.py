"""The faults a scrape meets first: each is a named exception within the timeout, and the next scrape works.

Through both doors: `scrape`, and a collector whose one driver meets all of them in turn.
"""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from servers import Request, Server, answer, serving, silence, unused_port
from stopwatch import Stopwatch

import sglang_collect as sc

TIMEOUT = 2.0
LIMITS = sc.Limits(body_bytes=100_000)
GOOD = answer("sglang:num_requests_running 4\n")
LINES = "".join(f'sglang:num_requests_running{{rank="{n}"}} 1\n' for n in range(100))


def one_bad_line(request: Request, connection: socket.socket) -> bytes:
    return answer(LINES + "sglang:gen_throughput one\n" + LINES)


def html(request: Request, connection: socket.socket) -> bytes:
    return answer("<!DOCTYPE html><title>secret</title>", content_type="text/html")


def html_that_says_it_is_text(request: Request, connection: socket.socket) -> bytes:
    return answer("<!DOCTYPE html><title>secret</title>\n")


def not_found(request: Request, connection: socket.socket) -> bytes:
    return answer("secret", status="404 Not Found")


def cut_body(request: Request, connection: socket.socket) -> None:
    connection.sendall(answer(LINES, headers={"Content-Length": str(len(LINES) + 1000)}))


def cut_line(request: Request, connection: socket.socket) -> bytes:
    return answer(LINES + "sglang:gen_throughput 12")


def oversized_body(request: Request, connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n")
    for _ in range(1000):
        connection.sendall(LINES.encode())


def oversized_length(request: Request, connection: socket.socket) -> None:
    connection.sendall(answer(LINES, headers={"Content-Length": "5000000000"}))
    silence(request, connection)


@dataclass
class Fault:
    reply: Callable[[Request, socket.socket], bytes | None] | None
    error: type[sc.SGLangCollectError]
    attributes: dict[str, Any] = field(default_factory=dict)
    seconds: float = 1.0
    words: str = ""


FAULTS = {
    "one bad line": Fault(
        one_bad_line,
        sc.ExpositionError,
        {"line": 101, "column": 23, "excerpt": "one"},
        words="line 101, column 23",
    ),
    "an HTML page": Fault(html, sc.NotExposition, {"reason": "not_exposition"}, words="text/html"),
    "an HTML page sent as text": Fault(
        html_that_says_it_is_text, sc.NotExposition, {"reason": "not_exposition"}
    ),
    "a 404": Fault(not_found, sc.HTTPStatusError, {"reason": "http_status", "status": 404}, words="404"),
    "a refused connection": Fault(None, sc.ConnectError, {"reason": "connect_failed"}),
    "a silent server": Fault(
        silence, sc.ScrapeTimeout, {"reason": "timeout_first_byte"}, seconds=TIMEOUT + 0.3
    ),
    "a cut body": Fault(cut_body, sc.ScrapeError, {"reason": "truncated"}),
    "a cut line": Fault(cut_line, sc.ScrapeError, {"reason": "truncated"}),
    "an oversized body": Fault(oversized_body, sc.LimitExceeded, {"limit": "body_bytes", "allowed": 100_000}),
    "an oversized length": Fault(
        oversized_length, sc.LimitExceeded, {"limit": "body_bytes", "allowed": 100_000}
    ),
}


@pytest.fixture
def healthy() -> Iterator[Server]:
    with serving(GOOD) as server:
        yield server


def check(fault: Fault, error: sc.SGLangCollectError, endpoint: str, seconds: float) -> None:
    assert type(error) is fault.error
    assert {name: getattr(error, name) for name in fault.attributes} == fault.attributes
    assert error.endpoint == endpoint  # type: ignore[attr-defined]
    assert seconds < fault.seconds
    text = str(error)
    assert text.startswith(endpoint)
    assert fault.words in text
    assert text.isprintable()
    assert len(text) <= 300
    assert "secret" not in text
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), text, vars(error))


@pytest.mark.parametrize("name", FAULTS)
def test_scrape_raises_the_named_error_in_time(name: str, healthy: Server) -> None:
    fault = FAULTS[name]
    with serving(fault.reply or GOOD) as server:
        url = server.url if fault.reply else f"http://127.0.0.1:{unused_port()}/metrics"
        with Stopwatch() as took, pytest.raises(fault.error) as caught:
            sc.scrape(url, timeout=TIMEOUT, limits=LIMITS)
        check(fault, caught.value, url, took.seconds)
    assert sc.scrape(healthy.url).system_metrics.num_requests_running == 4


async def test_a_collector_survives_them_all_one_after_another(healthy: Server) -> None:
    async with sc.SGLangCollector(timeout=TIMEOUT, limits=LIMITS) as collector:
        for fault in FAULTS.values():
            with serving(fault.reply or GOOD) as server:
                url = server.url if fault.reply else f"http://127.0.0.1:{unused_port()}/metrics"
                with Stopwatch() as took, pytest.raises(fault.error) as caught:
                    await collector.collect(instance_id="x", endpoint=url)
                check(fault, caught.value, url, took.seconds)
            snapshot = await collector.collect(instance_id="x", endpoint=healthy.url)
            assert snapshot.system_metrics.num_requests_running == 4
    assert healthy.opened == 1


async def test_a_collector_survives_them_all_at_once(healthy: Server) -> None:
    servers = [Server(fault.reply) for fault in FAULTS.values() if fault.reply]
    try:
        async with sc.SGLangCollector(timeout=TIMEOUT, limits=LIMITS) as collector:
            urls = [server.url for server in servers for _ in range(3)] + [healthy.url] * 10
            outcomes = await asyncio.gather(
                *(collector.collect(instance_id="x", endpoint=url) for url in urls), return_exceptions=True
            )
    finally:
        for server in servers:
            server.close()
    expected = [fault.error for fault in FAULTS.values() if fault.reply for _ in range(3)]
    assert [type(outcome) for outcome in outcomes] == expected + [sc.SGLangMetricsSnapshot] * 10
