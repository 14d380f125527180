"""What is known of each target: its last scrapes as the numbers of a row.

A scrape costs a few look-ups in its fold. What needs more, the window of the last seconds, is computed when
a row is looked at, and rows that are scrolled out of sight are not.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..aggregate import weighted_mean
from ..catalog import Reading, sglang_fields
from ..groups import Distribution, finite, nearest
from ..window import LATENCIES, Difference, window_of

if TYPE_CHECKING:
    from .._core import Histogram
    from .._result import Good, ScrapeResult
    from ..fleet import Fleet, Target
    from ..window import SGLangWindow

__all__ = ["HISTORY", "SERIES", "Board", "Row", "Totals", "View"]

SERIES = ("tokens_per_second", "running", "waiting", "kv_used")
"""What a row remembers of the last minutes."""

HISTORY = 120
"""So many spans of time it remembers: four minutes, or as many intervals where those are longer."""

_SHORTEST_SPAN = 2.0  # seconds
_KEPT = 6  # scrapes are kept to begin a window with, so that one may be a sixth longer than asked for
_STALE_AFTER = 3.0  # intervals without a page
_FIELDS = {field.name: field for field in sglang_fields.FIELDS}


def _number(reading: Reading, field: str) -> float | None:
    value = _FIELDS[field].value(reading)
    return finite(value) if isinstance(value, float) else None


def _count(reading: Reading, field: str) -> int | None:
    value = _number(reading, field)
    return None if value is None else nearest(value)


class History:
    """Means of a row's numbers over spans of equal length: the last ``HISTORY`` of them."""

    __slots__ = ("_counts", "_means", "_number", "_sums", "span")

    def __init__(self, span: float) -> None:
        self.span = span
        self._means: deque[tuple[int, tuple[float | None, ...]]] = deque(maxlen=HISTORY)
        self._number = -1  # of the span that has not ended
        self._sums: list[float] = []
        self._counts: list[int] = []

    def add(self, at: float, values: Sequence[float | None]) -> None:
        """What was true at a moment, by ``SERIES``; seconds of a clock that never goes back."""
        number = int(at // self.span)
        if number != self._number:
            if self._sums:
                self._means.append((self._number, self._current()))
            self._number = number
            self._sums, self._counts = [0.0] * len(SERIES), [0] * len(SERIES)
        for place, value in enumerate(values):
            if value is not None:
                self._sums[place] += value
                self._counts[place] += 1

    def _current(self) -> tuple[float | None, ...]:
        pairs = zip(self._sums, self._counts, strict=True)
        return tuple(total / count if count else None for total, count in pairs)

    def values(self, series: str, n: int, now: float) -> list[float | None]:
        """All that is remembered as ``n`` means, the newest last; None where nothing was measured."""
        place, each = SERIES.index(series), -(-HISTORY // n)  # spans that become one mean
        last = int(now // self.span)
        if self._number < last:
            last -= 1  # a span that has only begun, and has no scrape yet
        found: list[list[float]] = [[] for _ in range(n)]
        for number, means in (*self._means, (self._number, self._current())):
            back = last // each - number // each
            if 0 <= back < n and means and (mean := means[place]) is not None:
                found[n - 1 - back].append(mean)
        return [sum(means) / len(means) if means else None for means in found]


class Row:
    """One target: its newest result, and what the screen says of it. None is absent."""

    def __init__(self, target: Target, board: Board) -> None:
        self.target = target
        self.result: ScrapeResult | None = None
        self.running: int | None = None
        self.waiting: int | None = None
        self.backlog: int | None = None  # all that wait, in whatever queue
        self.kv_used: float | None = None  # ratio, 0 to 1
        self.kv_capacity: float | None = None  # tokens
        self.tokens_per_second: float | None = None
        self.history = History(board.span)
        self._board = board
        self._newest: Good | None = None
        self._starts: deque[Good] = deque(maxlen=_KEPT + 2)  # oldest first
        self._difference: Difference | None = None  # that the window is of
        self._window: SGLangWindow | None = None
        self._window_made = False

    @property
    def name(self) -> str:
        return self.target.instance_id

    @property
    def up(self) -> bool:
        """Was its last scrape a good one?"""
        return self.result is not None and self.result.up

    @property
    def age(self) -> float | None:
        """Seconds since its newest page was asked for; None where there was none."""
        return None if self.result is None else self.result.age

    @property
    def state(self) -> str:
        """``new`` (not read yet), ``down`` (the last scrape failed), ``stale``, ``idle`` or ``up``."""
        if self.result is None:
            return "new"
        if not self.result.up:
            return "down"
        if (self.age or 0.0) > _STALE_AFTER * self._board.interval + self.result.elapsed:
            return "stale"
        return "idle" if self.running == 0 and not self.backlog else "up"

    @property
    def models(self) -> list[str]:
        return [] if self._newest is None else list(Reading(self._newest.fold).labels("model_name"))

    def take(self, result: ScrapeResult) -> None:
        """A newer result. One that failed leaves no number that was true before."""
        self.result = result
        self._difference, self._window, self._window_made = None, None, False
        good = result._kept()
        if good is None:
            self.running = self.waiting = self.backlog = None
            self.kv_used = self.kv_capacity = self.tokens_per_second = None
            return
        reading = Reading(good.fold)
        self.running = _count(reading, "queues.running")
        self.waiting = _count(reading, "queues.waiting")
        self.backlog = _count(reading, "queues.backlog")
        self.kv_used = _number(reading, "kv_cache.usage_ratio")
        self.kv_capacity = _number(reading, "kv_cache.capacity_tokens")
        before, self._newest = self._newest, good
        self._keep(good)
        start = self.start
        self.tokens_per_second = None if start is None else _token_rate(start, good)
        rate = None if before is None else _token_rate(before, good)
        self.history.add(good.at, (rate, self.running, self.waiting, self.kv_used))

    def _keep(self, good: Good) -> None:
        """Remembers it as one that a window may begin with, and forgets what is too old for that."""
        window = self._board.window
        while self._starts and self._starts[0].at < good.at - 2 * window:
            self._starts.popleft()
        while len(self._starts) > 1 and self._starts[1].at <= good.at - window:
            self._starts.popleft()
        if not self._starts or good.at - self._starts[-1].at >= window / _KEPT:
            self._starts.append(good)

    @property
    def start(self) -> Good | None:
        """The page that the window of the last seconds begins with; None where there is one page alone."""
        if not self._starts or self._newest is None or self._starts[0] is self._newest:
            return None
        return self._starts[0]

    @property
    def window(self) -> SGLangWindow | None:
        """What the server did in the last seconds; None where it is down, or was read once only."""
        if not self._window_made:
            self._window_made = True
            start, end = self.start, self._newest
            if self.up and start is not None and end is not None:
                self._difference = _difference(start, end)
            if self._difference is not None and start is not None and end is not None:
                self._window = window_of(self._difference, end.at - start.at)
        return self._window

    @property
    def cache_hit_rate(self) -> float | None:
        return None if self.window is None else self.window.cache_hit_rate

    @property
    def first_token(self) -> Distribution | None:
        """Time to first token in the window, seconds."""
        return None if self.window is None else self.window.latency.time_to_first_token

    @property
    def inter_token(self) -> Distribution | None:
        """Time between tokens in the window, seconds."""
        return None if self.window is None else self.window.latency.inter_token

    @property
    def histograms(self) -> dict[str, Histogram | None]:
        """The latencies since the server started, seconds, by the names of ``latency``; empty where down."""
        if self._newest is None or not self.up:
            return {}
        reading = Reading(self._newest.fold)
        return {name: reading.histogram(metric) for name, metric in LATENCIES.items()}

    @property
    def window_histograms(self) -> dict[str, Histogram | None]:
        """The same of the window; empty where there is none."""
        if self.window is None or self._difference is None:
            return {}
        return {name: self._difference.histogram(metric) for name, metric in LATENCIES.items()}

    @property
    def quick(self) -> Difference | None:
        """What came in during the window, without a search for signs of a restart: a few look-ups."""
        start, end = self.start, self._newest
        return _difference(start, end, restarts=[]) if self.up and start and end else None

    def matches(self, words: Iterable[str]) -> bool:
        """Has it every word in its name, endpoint, labels, models or state?"""
        labels = (f"{name}={value}" for name, value in self.target.labels.items())
        text = "\n".join((self.name, *self.target.endpoints, *labels, *self.models, self.state)).lower()
        return all(word in text for word in words)


def _difference(start: Good, end: Good, *, restarts: list[str] | None = None) -> Difference | None:
    """What came in between two pages; None where servers came and left on a page of several."""
    try:
        return Difference(Reading(end.fold), Reading(start.fold), restarts=restarts)
    except ValueError:
        return None


def _token_rate(start: Good, end: Good) -> float | None:
    """Output tokens a second between two pages; a count that fell counts from zero."""
    difference, seconds = _difference(start, end, restarts=[]), end.at - start.at
    if difference is None or seconds <= 0:
        return None
    tokens = sglang_fields.generation_tokens(difference)
    if tokens is not None and tokens < 0:
        tokens = sglang_fields.generation_tokens(Reading(end.fold))
    return None if tokens is None else tokens / seconds


@dataclass
class View:
    """Which rows are looked at, and in what order."""

    sort: str = "target"
    reverse: bool = False
    words: tuple[str, ...] = ()
    trouble: bool = False
    """Only those that are down, stale or not read yet."""


@dataclass(frozen=True)
class Totals:
    """All rows together; None where no row has the number."""

    states: dict[str, int]
    running: int | None
    waiting: int | None
    tokens_per_second: float | None
    kv_used: float | None
    """Of the tokens that all servers together can hold; the plain mean where one does not say how many."""


class Board:
    """The rows of a fleet.

    Args:
        fleet: whose targets they are.
        interval: seconds between two scrapes of a target.
        window: seconds that rates, hit rates and latencies are of, at least; an interval where it is longer.
    """

    def __init__(self, fleet: Fleet, *, interval: float, window: float) -> None:
        self.interval = interval
        self.window = max(window, interval)
        self.span = max(_SHORTEST_SPAN, interval)
        self._fleet = fleet
        self._rows: dict[str, Row] = {}
        self.sync()

    def sync(self) -> None:
        """Has a row for each target that is there now, and for no other."""
        rows = {}
        for target in self._fleet.targets:
            row = self._rows.get(target.instance_id)
            rows[target.instance_id] = row if row and row.target == target else Row(target, self)
        self._rows = rows

    def take(self, results: Iterable[ScrapeResult]) -> None:
        for result in results:
            row = self._rows.get(result.target.instance_id)
            if row is None:
                self.sync()
                row = self._rows.get(result.target.instance_id)
            if row is not None:
                row.take(result)

    @property
    def rows(self) -> list[Row]:
        return list(self._rows.values())

    def row(self, name: str) -> Row | None:
        return self._rows.get(name)

    def view(self, view: View) -> list[Row]:
        """The rows that a view shows. Those without what it sorts by come last, either way round."""
        rows = [
            row
            for row in self._rows.values()
            if (not view.words or row.matches(view.words))
            and not (view.trouble and row.state in ("up", "idle"))
        ]
        key = SORT_KEYS[view.sort]
        if key is None:
            return rows[::-1] if view.reverse else rows
        known, absent = [], []
        for row in rows:
            value = key(row)
            if value is None or (isinstance(value, float) and math.isnan(value)):
                absent.append(row)
            else:
                known.append((value, row))
        falling = view.sort not in _RISING
        known.sort(key=lambda pair: pair[0], reverse=falling != view.reverse)
        return [row for _, row in known] + absent

    def totals(self) -> Totals:
        states: dict[str, int] = dict.fromkeys(("up", "idle", "stale", "down", "new"), 0)
        for row in self._rows.values():
            states[row.state] += 1
        rows = self._rows.values()
        held = [(row.kv_used, row.kv_capacity) for row in rows if row.kv_used is not None]
        return Totals(
            states,
            _whole(row.running for row in rows),
            _whole(row.waiting for row in rows),
            _sum(row.tokens_per_second for row in rows),
            weighted_mean(*zip(*held, strict=True)) if held else None,
        )


def _sum(values: Iterable[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return math.fsum(there) if there else None


def _whole(values: Iterable[int | None]) -> int | None:
    there = [value for value in values if value is not None]
    return sum(there) if there else None


def _hit_ratio(row: Row) -> float | None:
    quick = row.quick
    return None if quick is None else sglang_fields.hit_ratio(quick)


def _quantile(latency: str, q: float) -> Callable[[Row], float | None]:
    def key(row: Row) -> float | None:
        quick = row.quick
        histogram = None if quick is None else quick.histogram(LATENCIES[latency])
        return None if histogram is None else histogram.quantile(q)

    return key


_STATES = ("down", "stale", "new", "up", "idle")
_RISING = ("target", "state", "name")

SORT_KEYS: dict[str, Callable[[Row], str | float | None] | None] = {
    "target": None,
    "name": lambda row: row.name,
    "state": lambda row: _STATES.index(row.state),
    "age": lambda row: row.age,
    "running": lambda row: row.running,
    "waiting": lambda row: row.waiting,
    "kv": lambda row: row.kv_used,
    "hit": _hit_ratio,
    "tokens": lambda row: row.tokens_per_second,
    "ttft-p50": _quantile("time_to_first_token", 0.5),
    "ttft-p95": _quantile("time_to_first_token", 0.95),
    "itl-p50": _quantile("inter_token", 0.5),
    "itl-p95": _quantile("inter_token", 0.95),
}
"""What rows can be sorted by; None is the order of the targets. Numbers begin with the largest."""
