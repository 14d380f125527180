"""A fleet as a table for people: a line for each target, and one for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from ._table import _printable, _rich_table, _Section, _text, _write_plain
from .collector import _reason

if TYPE_CHECKING:
    from ._result import ScrapeResult
    from .aggregate import FleetAggregate
    from .fleet import Fleet
    from .models import SGLangMetricsSnapshot

__all__ = ["live", "write_fleet"]

_HEAD = ("target", "age, s", "running", "waiting", "tokens/s", "cache hit", "KV used", "TTFT p90, s", "state")
_NUMBERS = len(_HEAD) - 2
_PAUSE = 0.25  # seconds between two pictures of a terminal


def write_fleet(fleet: Fleet, out: TextIO) -> None:
    """Writes what is known of the fleet: with rich on a terminal, where rich is installed."""
    with live(fleet, out, pause=0.0) as show:
        show()


@contextmanager
def live(fleet: Fleet, out: TextIO, *, pause: float) -> Iterator[Callable[[], None]]:
    """Gives a function that shows the fleet as it is now, in the place of what it showed before.

    Without rich the tables follow each other, ``pause`` seconds apart.
    """
    try:
        if not out.isatty():
            raise ImportError
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        yield _at_most_every(pause, lambda: _write_plain([], [_section(fleet)], [], out))
        return
    with Live(console=Console(file=out), auto_refresh=False) as screen:
        yield _at_most_every(
            min(pause, _PAUSE), lambda: screen.update(_rich_table(_section(fleet)), refresh=True)
        )


def _at_most_every(pause: float, show: Callable[[], None]) -> Callable[[], None]:
    due = 0.0

    def show_where_due() -> None:
        nonlocal due
        if time.monotonic() >= due:
            show()
            due = time.monotonic() + pause

    return show_where_due


def _section(fleet: Fleet) -> _Section:
    latest = fleet.latest
    rows = [_row(target.instance_id, latest.get(target.instance_id)) for target in fleet.targets]
    whole = fleet.aggregate()
    ages = [result.age for result in latest.values() if result.up and result.age is not None]
    rows.append(("all", *_numbers(max(ages, default=None), whole), f"{whole.fresh} of {whole.targets} up"))
    return _Section("fleet", _HEAD, rows, _NUMBERS)


def _row(name: str, result: ScrapeResult | None) -> tuple[str, ...]:
    """A target whose last scrape failed shows no number that was true before."""
    if result is None:
        return (_printable(name), *[_text(None)] * _NUMBERS, "not read yet")
    if result.error is not None:
        empty = [_text(None)] * (_NUMBERS - 1)
        return (_printable(name), _text(result.age), *empty, _reason(result.error) or "error")
    assert result.snapshot is not None
    return (_printable(name), *_numbers(result.age, result.snapshot), "up")


def _numbers(age: float | None, of: SGLangMetricsSnapshot | FleetAggregate) -> list[str]:
    throughput, hit_rate = "system_metrics.throughput_tokens_per_second", "cache_metrics.cache_hit_rate"
    first_token = of.latency.time_to_first_token
    return [
        _text(age),
        _text(of.queues.running),
        _text(of.queues.waiting),
        _text(None if throughput in of.absent else of.system_metrics.throughput_tokens_per_second),
        _text(None if hit_rate in of.absent else of.cache_metrics.cache_hit_rate),
        _text(of.kv_cache.usage_ratio),
        _text(None if first_token is None else first_token.p90),
    ]
