"""The last minutes of servers, for who looks on: what happened in the last minute, and points of charts.

A page counts from the server's start, so that what happened in the last minute takes the page of a minute
ago. Of each target a few readings that old are kept, and the numbers of its charts.
"""

from __future__ import annotations

import json
import math
from array import array
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from . import _core
from ._answers import sentence
from .aggregate import Part, combined, part_of
from .catalog import Reading, Value, sglang_fields
from .groups import NATIVE_GROUPS, finite
from .window import LATENCIES, Difference

if TYPE_CHECKING:
    from ._result import ScrapeResult

__all__ = ["Points", "Recent", "compact", "point_of_all", "totals"]

_MINUTE = 60.0  # seconds
_KEPT_EVERY = 15.0  # seconds between two readings that are kept
_POINTS = 300  # of a chart
_EARLY = 0.9  # of an interval: a point that is that late is not too early
_RATE_OVER = 10.0  # seconds

_IN_ROWS = ("time_to_first_token", "inter_token")
_QUANTILES = {"p50": 0.5, "p95": 0.95}

_COUNTERS: Mapping[str, Callable[[Reading], float | None]] = {
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
_LATENCIES = {name: _FIELDS[f"latency.{name}"] for name in _IN_ROWS}


class _Minute(NamedTuple):
    """What happened between a page of about a minute ago and the newest one."""

    seconds: float
    difference: Difference


class _Seen:
    """What a target that is up has to say of now and of the minute before, for itself or among others."""

    def __init__(self, reading: Reading, minute: _Minute | None) -> None:
        self.gauges = {name: part_of(field, reading) for name, field in _GAUGES.items()}
        self.seconds = None if minute is None else minute.seconds
        self.rates: dict[str, float | None] = {}
        self.hit_rate: Part | None = None
        self.latencies: dict[str, Part | None] = {}
        if minute is not None:
            for name, count in _COUNTERS.items():
                amount = count(minute.difference)
                self.rates[name] = None if amount is None else amount / minute.seconds
            self.hit_rate = part_of(_HIT_RATE, minute.difference)
            self.latencies = {name: part_of(field, minute.difference) for name, field in _LATENCIES.items()}


class Recent:
    """What is known of one target. It is not for several threads."""

    def __init__(self, instance_id: str) -> None:
        self.instance_id = instance_id
        self._result: ScrapeResult | None = None
        self._minute: _Minute | None = None
        self._restarted: float | None = None  # time.monotonic
        self._kept: deque[tuple[float, _core.Fold]] = deque()
        self._rates = _Rates()
        self._points = Points()
        self._seen: _Seen | None = None
        self._row: bytes | None = None

    def note(self, result: ScrapeResult) -> None:
        """Takes in the newest result of the target."""
        self._result = result
        self._seen = self._row = None
        good = result._last
        if result.up and good is not None:
            before = result._before
            reading = Reading(good.fold)
            if before is None or self._began_again(good.at, reading, Reading(before.fold)):
                self._kept.clear()
                self._rates.begin_again()
            self._minute = self._minute_to(good.at, good.fold)
            if self._points.is_due(good.started):
                rates = self._rates.until(good.started, reading)
                self._points.add(good.started, _point(self.seen, rates))
        else:
            self._minute = None
            self._rates.begin_again()
            if self._points.is_due(result._started):
                self._points.add(result._started, {})

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
    def is_read(self) -> bool:
        """Is anything known of it yet, be it that it is down?"""
        return self._result is not None

    @property
    def _reading(self) -> Reading | None:
        """Its newest page, where the newest scrape was good."""
        fold = None if self._result is None else self._result._fold_within(math.inf)
        return None if fold is None else Reading(fold)

    @property
    def seen(self) -> list[_Seen]:
        """It alone; empty where it is down, or nothing is known yet."""
        if self._seen is None and (reading := self._reading) is not None:
            self._seen = _Seen(reading, self._minute)
        return [] if self._seen is None else [self._seen]

    # -------------------------------------------------------------- for who looks

    def row(self) -> bytes:
        """It in one line of JSON. What is not known is null, as is every number of a target that is down."""
        if self._row is None:
            self._row = compact(self._row_values())
        return self._row

    def _row_values(self) -> dict[str, Any]:
        result = self._result
        error = None if result is None else result.error
        return {
            "instance_id": self.instance_id,
            "up": None if result is None else result.up,
            "error": None if error is None else sentence(error) or "internal error",
            "at": None if result is None or result._last is None else result._last.at,
            "restarted": self._restarted,
            **_shown(self.seen),
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


class _Rates:
    """What the counters of a target grow by, per second, over some ten seconds: servers count in steps."""

    def __init__(self) -> None:
        self._counted: deque[tuple[float, dict[str, float | None]]] = deque()  # when, and the counters then

    def begin_again(self) -> None:
        """What was counted so far is no part of the rates to come."""
        self._counted.clear()

    def until(self, moment: float, reading: Reading) -> dict[str, float]:
        """Those until a page that was read at that moment, in seconds; what is not known is missing."""
        counted = self._counted
        while len(counted) > 1 and moment - counted[0][0] > _RATE_OVER:
            counted.popleft()
        counters = {name: count(reading) for name, count in _COUNTERS.items()}
        rates = {}
        for name, count in counters.items():
            then, was = (counted[0][0], counted[0][1][name]) if counted else (moment, None)
            if count is not None and was is not None and count >= was and moment > then:
                rates[name] = (count - was) / (moment - then)
        counted.append((moment, counters))
        return rates


class Points:
    """The points of charts, a column of numbers for each line; NaN where one is absent.

    Args:
        interval: seconds between two of them, but for some jitter; at least 1.
    """

    def __init__(self, interval: float = 1.0) -> None:
        self._apart = _EARLY * max(interval, 1.0)
        self._columns: dict[str, array[float]] = {name: array("d") for name in _LINES}

    def is_due(self, moment: float) -> bool:
        """Is a moment, in seconds since 1970, late enough for another point?"""
        times = self._columns["time"]
        return not times or not 0 <= moment - times[-1] < self._apart

    def add(self, moment: float, values: Mapping[str, float | None]) -> None:
        """One more; what ``values`` has no number for is a gap."""
        for name, column in self._columns.items():
            value = moment if name == "time" else values.get(name)
            column.append(math.nan if value is None else value)
            del column[:-_POINTS]

    def columns(self) -> dict[str, list[float | None]]:
        return {name: [finite(value) for value in column] for name, column in self._columns.items()}

    def newest(self) -> dict[str, float | None]:
        return {name: finite(column[-1]) for name, column in self._columns.items() if column}


_LINES = (
    *("time", *_GAUGES, *_COUNTERS),
    *(f"{name}_{quantile}" for name in _IN_ROWS for quantile in _QUANTILES),
)


# ---------------------------------------------- numbers of a row, and of a point


def totals(recents: Iterable[Recent]) -> dict[str, Any]:
    """The targets that are up as one server, in the numbers of a row."""
    seen = [one for recent in recents for one in recent.seen]
    return {"up": len(seen), **_shown(seen)}


def point_of_all(recents: Collection[Recent]) -> dict[str, float | None]:
    """The targets that are up as one server, in the numbers of a point: rates add up."""
    newest = [recent.newest_point() for recent in recents if recent.seen]
    rates = {}
    for name in _COUNTERS:
        known = [rate for point in newest if (rate := point.get(name)) is not None]
        if known:
            rates[name] = sum(known)
    return _point([one for recent in recents for one in recent.seen], rates)


def _shown(seen: Sequence[_Seen]) -> dict[str, Any]:
    """The numbers of now and of the minute before, of one target or of many."""
    return {
        **_gauges(seen),
        "seconds": max((one.seconds for one in seen if one.seconds is not None), default=None),
        **{name: _rate(name, seen) for name in _COUNTERS},
        "cache_hit_rate": _number(combined(_HIT_RATE, (one.hit_rate for one in seen))),
        **_latencies(seen),
    }


def _point(seen: Sequence[_Seen], rates: Mapping[str, float]) -> dict[str, float | None]:
    """The same as a point of charts, whose rates are of ten seconds."""
    values = {**_gauges(seen), **rates}
    for name, quantiles in _latencies(seen).items():
        values |= {f"{name}_{label}": value for label, value in zip(_QUANTILES, quantiles, strict=True)}
    return values


def _gauges(seen: Sequence[_Seen]) -> dict[str, float | None]:
    return {
        name: _number(combined(field, (one.gauges[name] for one in seen))) for name, field in _GAUGES.items()
    }


def _latencies(seen: Sequence[_Seen]) -> dict[str, tuple[float | None, ...]]:
    return {
        name: _quantiles(combined(field, (one.latencies.get(name) for one in seen)))
        for name, field in _LATENCIES.items()
    }


def _rate(name: str, seen: Iterable[_Seen]) -> float | None:
    """A rate of all of them together; None where none has a source for it."""
    rates = [rate for one in seen if (rate := one.rates.get(name)) is not None]
    return sum(rates) if rates else None


def _quantiles(value: Value) -> tuple[float | None, ...]:
    """The median and the 95th percentile of a histogram; None where it is empty."""
    if not isinstance(value, _core.Histogram):
        return (None,) * len(_QUANTILES)
    return tuple(value.quantile(q) for q in _QUANTILES.values())


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
