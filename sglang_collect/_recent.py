"""The last minutes of a server, for who looks on: what happened in the last minute, and points of charts.

A page counts from the server's start, so that what happened in the last minute takes the page of a minute
ago. Of each target a few readings that old are kept, and the numbers of its charts.
"""

from __future__ import annotations

import json
import math
from array import array
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core
from ._answers import sentence
from .aggregate import combined
from .catalog import Reading, Value, sglang_fields
from .groups import NATIVE_GROUPS, finite
from .window import LATENCIES, Difference

if TYPE_CHECKING:
    from ._result import ScrapeResult

__all__ = ["Recent", "compact", "totals"]

_MINUTE = 60.0  # seconds
_KEPT_EVERY = 15.0  # seconds between two readings that are kept
_POINTS = 300  # of a chart
_APART = 0.9  # seconds between two points, at least
_RATE_OVER = 10.0  # seconds

_IN_ROWS = ("time_to_first_token", "inter_token")

_COUNTERS = {
    "requests_per_second": sglang_fields.finished_requests,
    "prompt_tokens_per_second": sglang_fields.prompt_tokens,
    "generation_tokens_per_second": sglang_fields.generation_tokens,
}
"""What rates are rates of, by their names in ``SGLangWindow``."""

_FIELDS = {field.name: field for field in sglang_fields.FIELDS}
_GAUGES = {
    "running": _FIELDS["system_metrics.num_requests_running"],
    "waiting": _FIELDS["system_metrics.num_requests_waiting"],
    "kv_usage_ratio": _FIELDS["kv_cache.usage_ratio"],
}
_HIT_RATE = replace(_FIELDS["cache_metrics.cache_hit_rate"], own="", read=sglang_fields.hit_ratio)
"""By counters alone: a gauge says nothing of a minute."""


class _Minute(NamedTuple):
    """What happened between a page of about a minute ago and the newest one."""

    seconds: float
    difference: Difference


class Recent:
    """What is known of one target. It is not for several threads."""

    def __init__(self, instance_id: str) -> None:
        self.instance_id = instance_id
        self._result: ScrapeResult | None = None
        self._minute: _Minute | None = None
        self._restarted: float | None = None  # time.monotonic
        self._kept: deque[tuple[float, _core.Fold]] = deque()
        self._points = _Points()
        self._row: bytes | None = None

    def note(self, result: ScrapeResult) -> None:
        """Takes in the newest result of the target."""
        self._result = result
        self._row = None
        good = result._last
        if result.up and good is not None:
            before = result._before
            if before is None or self._began_again(good.at, Reading(good.fold), Reading(before.fold)):
                self._kept.clear()
                self._points.begin_again()
            self._minute = self._minute_to(good.at, good.fold)
            self._points.add(good.started, Reading(good.fold), self._minute)
        else:
            self._minute = None
            self._points.add(result._started, None, None)

    def _began_again(self, at: float, now: Reading, before: Reading) -> bool:
        """Does nothing of before count any more?"""
        try:
            restarted = Difference(now, before).restarted
        except ValueError:  # a page of several servers, of which one came, left or began again
            return True
        if restarted:
            self._restarted = at
        return restarted

    def _minute_to(self, at: float, fold: _core.Fold) -> _Minute | None:
        """The minute before a page; None where nothing is kept of it."""
        kept = self._kept
        while len(kept) > 1 and at - kept[0][0] > _MINUTE:
            kept.popleft()
        minute = None
        if kept:
            then, before = kept[0]
            minute = _Minute(at - then, Difference(Reading(fold), Reading(before), restarts=[]))
        if not kept or at - kept[-1][0] >= _KEPT_EVERY:
            kept.append((at, fold))
        return minute

    @property
    def _reading(self) -> Reading | None:
        """Its newest page, where the newest scrape was good."""
        fold = None if self._result is None else self._result._fold_within(math.inf)
        return None if fold is None else Reading(fold)

    # -------------------------------------------------------------- for who looks

    def row(self) -> bytes:
        """It in one line of JSON. What is not known is null, as is every number of a target that is down."""
        if self._row is None:
            self._row = compact(self._row_values())
        return self._row

    def _row_values(self) -> dict[str, Any]:
        result, reading = self._result, self._reading
        error = None if result is None else result.error
        return {
            "instance_id": self.instance_id,
            "up": None if result is None else result.up,
            "error": None if error is None else sentence(error) or "internal error",
            "at": None if result is None or result._last is None else result._last.at,
            "restarted": self._restarted,
            **_shown([] if reading is None else [reading], [] if self._minute is None else [self._minute]),
        }

    def history(self) -> dict[str, Any]:
        """The points of its charts, by column."""
        return self._points.columns()

    def newest_point(self) -> dict[str, float | None]:
        return self._points.newest()

    def depth(self) -> dict[str, Any]:
        """All there is to say of its newest page; empty where it is down, or nothing is known yet."""
        reading = self._reading
        snapshot = None if self._result is None else self._result.snapshot
        if reading is None or snapshot is None:
            return {}
        return {
            "model_names": snapshot.model_names,
            "engine_type": snapshot.engine_type,
            "notes": snapshot.notes,
            "ranks": [rank.model_dump(mode="json") for rank in snapshot.ranks],
            **{name: getattr(snapshot, name).model_dump(mode="json") for name in NATIVE_GROUPS},
            "histograms": {
                name: {
                    "minute": _buckets(self._minute.difference.histogram(metric) if self._minute else None),
                    "lifetime": _buckets(reading.histogram(metric)),
                }
                for name, metric in LATENCIES.items()
            },
        }


class _Points:
    """The points of a target's charts, a column of numbers for each line; NaN where one is absent."""

    def __init__(self) -> None:
        self._columns: dict[str, array[float]] = {name: array("d") for name in _LINES}
        self._counted: deque[tuple[float, dict[str, float | None]]] = deque()  # when, and the counters then

    def add(self, moment: float, reading: Reading | None, minute: _Minute | None) -> None:
        """The point of a page; of a failed scrape, None, it is a gap. ``moment`` is in seconds since 1970.

        Where it is hardly later than the one before, there is none.
        """
        times = self._columns["time"]
        if times and 0 <= moment - times[-1] < _APART:
            return
        values: dict[str, float | None] = {"time": moment}
        if reading is not None:
            values |= {name: _number(field.value(reading)) for name, field in _GAUGES.items()}
            values |= self._rates(moment, {name: count(reading) for name, count in _COUNTERS.items()})
        else:
            self.begin_again()
        for name in _IN_ROWS:
            p50, p95 = _quantiles(minute.difference.histogram(LATENCIES[name]) if minute else None)
            values |= {f"{name}_p50": p50, f"{name}_p95": p95}
        for name, column in self._columns.items():
            value = values.get(name)
            column.append(math.nan if value is None else value)
            del column[:-_POINTS]

    def begin_again(self) -> None:
        """What was counted so far is no part of the rates to come."""
        self._counted.clear()

    def _rates(self, moment: float, counters: dict[str, float | None]) -> dict[str, float | None]:
        """What counters grew by, per second, since some ten seconds ago: servers count in steps."""
        counted = self._counted
        while len(counted) > 1 and moment - counted[0][0] > _RATE_OVER:
            counted.popleft()
        rates: dict[str, float | None] = {}
        for name, count in counters.items():
            then, was = (counted[0][0], counted[0][1][name]) if counted else (moment, None)
            if count is not None and was is not None and count >= was and moment > then:
                rates[name] = (count - was) / (moment - then)
        counted.append((moment, counters))
        return rates

    def columns(self) -> dict[str, list[float | None]]:
        return {name: [finite(value) for value in column] for name, column in self._columns.items()}

    def newest(self) -> dict[str, float | None]:
        return {name: finite(column[-1]) for name, column in self._columns.items() if column}


_LINES = (
    *("time", *_GAUGES, *_COUNTERS),
    *(f"{name}_{quantile}" for name in _IN_ROWS for quantile in ("p50", "p95")),
)


# ------------------------------------------------------------ numbers of a row


def totals(recents: Iterable[Recent]) -> dict[str, Any]:
    """The targets that are up as one server, in the numbers of a row."""
    readings, minutes = [], []
    for recent in recents:
        if (reading := recent._reading) is not None:
            readings.append(reading)
        if recent._minute is not None:
            minutes.append(recent._minute)
    return {"up": len(readings), **_shown(readings, minutes)}


def _shown(readings: Sequence[Reading], minutes: Sequence[_Minute]) -> dict[str, Any]:
    """The numbers of pages and of the minutes before them, of one target or of many."""
    differences = [minute.difference for minute in minutes]
    return {
        **{name: _number(combined(field, readings)) for name, field in _GAUGES.items()},
        "seconds": max((minute.seconds for minute in minutes), default=None),
        **{name: _per_second(name, minutes) for name in _COUNTERS},
        "cache_hit_rate": _number(combined(_HIT_RATE, differences)),
        **{name: _quantiles(combined(_FIELDS[f"latency.{name}"], differences)) for name in _IN_ROWS},
    }


def _per_second(name: str, minutes: Sequence[_Minute]) -> float | None:
    """A rate of all of them together; None where none has a source for it."""
    rates = [
        amount / minute.seconds
        for minute in minutes
        if (amount := _COUNTERS[name](minute.difference)) is not None
    ]
    return sum(rates) if rates else None


def _quantiles(value: Value) -> tuple[float | None, float | None]:
    """The median and the 95th percentile of a histogram; None where it is empty."""
    if not isinstance(value, _core.Histogram):
        return None, None
    return value.quantile(0.5), value.quantile(0.95)


def _number(value: Value) -> float | None:
    return finite(value) if isinstance(value, float) else None


def _buckets(histogram: _core.Histogram | None) -> dict[str, Any] | None:
    """Upper bounds, null for the last, and how many are in each bucket alone."""
    if histogram is None:
        return None
    below = (0.0, *histogram.counts[:-1])
    return {
        "count": histogram.count,
        "quantiles": {f"p{n}": histogram.quantile(n / 100) for n in (50, 95, 99)},
        "bounds": [finite(bound) for bound in histogram.bounds],
        "counts": [upto - before for before, upto in zip(below, histogram.counts, strict=True)],
    }


def compact(value: object) -> bytes:
    """JSON in one line of ASCII."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
