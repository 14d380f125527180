"""A fleet as a table for people: a line for each target, and one for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from ._table import _ABSENT, _printable, _rich_table, _Section, _write_plain
from .collector import _reason
from .top.cells import ABSENT, duration, fit, milliseconds, percent

if TYPE_CHECKING:
    from ._result import ScrapeResult
    from .aggregate import FleetAggregate
    from .fleet import Fleet
    from .models import SGLangMetricsSnapshot

__all__ = ["live", "write_fleet"]

_HEAD = ("target", "age", "run", "wait", "tok/s", "hit", "KV used", "TTFT p90, ms", "state")
_NUMBERS = len(_HEAD) - 2
_WIDE = 9  # of a column but the first, at most, so that a line with an address has room in 80 columns
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

        def show() -> None:
            table = _rich_table(_section(fleet))
            table.show_edge, table.padding = False, (0, 1, 0, 0)
            for column in table.columns[1:]:
                column.max_width = _WIDE
            screen.update(table, refresh=True)

        yield _at_most_every(min(pause, _PAUSE), show)


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
    shown = [tuple(_ABSENT if cell == ABSENT else cell for cell in row) for row in rows]
    return _Section("fleet", _HEAD, shown, _NUMBERS)


def _row(name: str, result: ScrapeResult | None) -> tuple[str, ...]:
    """A target whose last scrape failed shows no number that was true before."""
    if result is None:
        return (_printable(name), *[ABSENT] * _NUMBERS, "not read yet")
    if result.error is not None:
        numbers = [duration(result.age), *[ABSENT] * (_NUMBERS - 1)]
        state = (_reason(result.error) or "error").replace("_", " ")
    else:
        assert result.snapshot is not None
        numbers, state = _numbers(result.age, result.snapshot), "up"
    return (_printable(name), *numbers, state)


def _numbers(age: float | None, of: SGLangMetricsSnapshot | FleetAggregate) -> list[str]:
    throughput, hit_rate = "system_metrics.throughput_tokens_per_second", "cache_metrics.cache_hit_rate"
    return [
        duration(age),
        fit(of.queues.running, _WIDE),
        fit(of.queues.waiting, _WIDE),
        fit(None if throughput in of.absent else of.system_metrics.throughput_tokens_per_second, _WIDE),
        percent(None if hit_rate in of.absent else of.cache_metrics.cache_hit_rate),
        percent(of.kv_cache.usage_ratio),
        milliseconds(of.latency.time_to_first_token, "p90", _WIDE),
    ]
