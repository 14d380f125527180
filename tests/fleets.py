"""What tests of collectors and fleets share: pages with one number, targets, and the parts of a result."""

from __future__ import annotations

import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from servers import Answer, Request, Server, answer, eventually, unused_port

import sglang_collect as sc
from sglang_collect import _core

PAGE = answer("sglang:num_requests_running 4\n")


def echo(request: Request, connection: socket.socket) -> bytes:
    """A page whose one number is the last part of the path."""
    number = request.path.partition("?")[0].rpartition("/")[2]
    return answer(f"sglang:num_requests_running {number}\n")


def targets(server: Server, n: int) -> list[sc.Target]:
    return [sc.Target(str(k), f"{server.url}/{k}") for k in range(n)]


def running(result: sc.ScrapeResult) -> int | None:
    return result.snapshot.system_metrics.num_requests_running if result.snapshot else None


def reason(result: sc.ScrapeResult) -> Any:
    return getattr(result.error, "reason", None)


def names(results: list[sc.ScrapeResult]) -> list[str]:
    return [result.target.instance_id for result in results]


def waiting(fleet: sc.Fleet) -> list[int]:
    """How many wait for the scrape of each target that is under way."""
    flights = [member.flight for member in fleet._roster.members()]
    return [len(flight.inboxes) for flight in flights if flight is not None]


def dead() -> str:
    """An endpoint that refuses connections."""
    return f"http://127.0.0.1:{unused_port()}/metrics"


def fail_once(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    """The next scraper fails in its first wait for something; those after it do not."""

    class Failing:
        def __init__(self, **options: Any) -> None:
            self._scraper = real(**options)

        def attend(self) -> list[Any]:
            assert eventually(lambda: self._scraper.pending > 0)
            monkeypatch.setattr(_core, "Scraper", real)
            raise error

        def __getattr__(self, name: str) -> Any:
            return getattr(self._scraper, name)

    real = _core.Scraper
    monkeypatch.setattr(_core, "Scraper", Failing)


def once_asked(server: Server, n: int) -> Answer:
    """Answers as soon as another server has been asked so many times."""

    def reply(request: Request, connection: socket.socket) -> bytes:
        assert eventually(lambda: len(server.requests) >= n)
        return PAGE

    return reply


def python(script: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-W", "default", "-c", textwrap.dedent(script), *args],
        capture_output=True,
        text=True,
    )


def counting(page: Callable[[int], bytes]) -> Callable[[Request, socket.socket], bytes]:
    """Answers by the number of the request, from 0."""
    numbers = iter(range(10**6))
    return lambda request, connection: page(next(numbers))


def finished(n: int) -> bytes:
    return answer(
        f'# TYPE sglang:num_requests_total counter\nsglang:num_requests_total{{model_name="m"}} {n}\n'
    )
