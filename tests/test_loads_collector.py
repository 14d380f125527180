"""A collector that asks for ``/v1/loads`` beside the page, and what it does where that fails."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from socket import socket
from typing import Any

import pytest
from servers import Request, answer, eventually, serving, silence
from stopwatch import Stopwatch
from test_loads import OLD, PAGE, encoded

import sglang_collect as sc
from sglang_collect import _core
from sglang_collect.catalog import sglang
from sglang_collect.loads import loads_url
from sglang_collect.simulator import LoadModel, Simulator


async def collect(url: str, *, loads: bool = True, **options: Any) -> sc.SGLangMetricsSnapshot:
    async with sc.SGLangCollector(**options) as collector:
        return await collector.collect(instance_id="sglang-001", endpoint=url, loads=loads)


@pytest.fixture
def busy() -> Iterator[Simulator]:
    with Simulator(LoadModel(dp=3, tp=2, seed=4, load=0.9), frozen=True) as simulator:
        simulator.step(61)
        yield simulator


async def test_a_simulated_server_tells_the_truth_twice(busy: Simulator) -> None:
    snapshot = await collect(busy.url)
    truth = busy.truth()
    assert snapshot.queues.running == truth["server_level"]["running"]
    assert snapshot.queues.waiting == truth["server_level"]["waiting"]
    assert snapshot.kv_cache.used_tokens == truth["server_level"]["used_tokens"]
    assert snapshot.kv_cache.usage_ratio == pytest.approx(truth["server_level"]["used_ratio"])
    assert [(rank.dp_rank, rank.running, rank.used_tokens) for rank in snapshot.ranks] == [
        (rank["dp_rank"], rank["running"], rank["used_tokens"]) for rank in truth["ranks"]
    ]
    assert snapshot.loads_timestamp is not None
    assert abs((snapshot.loads_timestamp - snapshot.timestamp).total_seconds()) < 5
    assert not any("loads" in note for note in snapshot.notes)


async def test_a_fresh_server_without_a_gauge_tells_its_load() -> None:
    with Simulator(LoadModel(load=0), frozen=True) as fresh:
        page, both = await collect(fresh.url, loads=False), await collect(fresh.url)
    assert (page.queues.running, both.queues.running, both.queues.backlog) == (None, 0, 0)
    assert (page.loads_timestamp is None, both.loads_timestamp is None) == (True, False)


def answering(loads: Any) -> Any:
    """A server of PAGE that answers what is given to all else."""

    def reply(request: Request, connection: socket) -> bytes | None:
        if request.path == "/metrics":
            return answer(PAGE)
        sent: bytes | None = loads(request, connection) if callable(loads) else loads
        return sent

    return serving(reply)


def as_json(body: bytes) -> bytes:
    return answer(body, content_type="application/json")


async def test_it_is_asked_for_as_json_with_the_same_credentials_and_only_when_wanted() -> None:
    with answering(as_json(encoded(OLD))) as server:
        await collect(server.url, loads=False)
        assert [request.path for request in server.requests] == ["/metrics"]
        snapshot = await collect(server.url, bearer_token="secret", headers={"X-Tenant": "a"})
    (asked,) = (request for request in server.requests if request.path != "/metrics")
    assert (asked.method, asked.path, asked.headers["accept"]) == ("GET", "/v1/loads", "application/json")
    assert (asked.headers["authorization"], asked.headers["x-tenant"]) == ("Bearer secret", "a")
    assert snapshot.queues.running == 31


def test_an_endpoint_of_json_is_never_read_as_a_page() -> None:
    body = encoded(OLD)
    with answering(as_json(body)) as server, _core.Scraper() as scraper:
        scraper.submit(_core.Endpoint(loads_url(server.url), json=True), sglang.plan())
        (result,) = scraper.wait(10)
    assert result.error is None
    assert (result.fold, bytes(result.body or b"")) == (None, body)
    with pytest.raises(TypeError, match="json must be a bool, not int"):
        _core.Endpoint(server.url, json=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("loads", "why"),
    [
        (answer("no", status="404 Not Found"), "HTTP status 404"),
        (answer("no", status="307 Temporary Redirect", headers={"Location": "/x"}), "redirects"),
        (as_json(b'{"loads": [}'), "/v1/loads: Expecting value"),
        (as_json(b'{"detail": "Not Found"}'), "answer has no loads"),
        (answer(PAGE), "answer is text/plain; expected application/json"),
        (lambda request, connection: None, "connection|reply|reset|closed"),
    ],
    ids=["404", "redirect", "cut", "other", "page", "hung up"],
)
async def test_where_it_fails_the_numbers_are_the_pages_and_a_note_says_why(loads: Any, why: str) -> None:
    with answering(loads) as server:
        snapshot = await collect(server.url)
    (note,) = (note for note in snapshot.notes if note.startswith("loads not read: "))
    assert "/v1/loads" in note
    assert re.search(why, note)
    assert (snapshot.queues.running, snapshot.kv_cache.used_tokens, len(snapshot.ranks)) == (3, 150, 3)
    assert snapshot.loads_timestamp is None


async def test_it_is_bound_by_the_same_deadline() -> None:
    with answering(silence) as server:
        with Stopwatch() as took:
            snapshot = await collect(server.url, timeout=1.5)
        assert took.seconds < 3
    assert any(note.startswith("loads not read: ") for note in snapshot.notes)
    assert snapshot.queues.running == 3


async def test_it_is_bound_by_the_same_guard_and_limits() -> None:
    with answering(as_json(encoded(OLD) + b" " * 100_000)) as server:
        allowed = await collect(server.url, guard=sc.Guard(allow=[f"127.0.0.1:{server.port}"]))
        assert allowed.queues.running == 31
        small = await collect(server.url, limits=sc.Limits(body_bytes=50_000))
    assert any("body_bytes" in note for note in small.notes)
    assert small.queues.running == 3


async def test_where_the_page_fails_so_does_the_collection_and_at_once() -> None:
    def reply(request: Request, connection: socket) -> bytes | None:
        if request.path == "/metrics":
            return answer("no", status="404 Not Found")
        return silence(request, connection)  # type: ignore[func-returns-value]

    with serving(reply) as server:
        with Stopwatch() as took, pytest.raises(sc.HTTPStatusError):
            await collect(server.url, timeout=60)
        assert took.seconds < 30


async def test_a_cancelled_collection_ends_both() -> None:
    with serving(silence) as server:
        async with sc.SGLangCollector() as collector:
            task = asyncio.create_task(collector.collect("sglang-001", server.url, loads=True))
            assert await asyncio.to_thread(eventually, lambda: len(server.requests) == 2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(eventually, lambda: server.closed == 2)
