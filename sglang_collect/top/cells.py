"""Rows as characters: columns, bars, sparklines. An absent value is a dash.

A line is a list of cells, a cell is a text and the name of a style: "" is plain; the screen decides what
"good", "warn", "bad", "dim" and "strong" look like, and nothing is told by a style alone. Pictures have the
styles of ``PICTURES``, since one drawn in reverse says the opposite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from .._table import _printable
from ..collector import _reason
from ..errors import HTTPStatusError
from ..groups import Distribution
from .rows import Row, Totals, View

__all__ = [
    "ABSENT",
    "COLUMNS",
    "PICTURES",
    "Cell",
    "Layout",
    "Line",
    "bar",
    "cut",
    "duration",
    "error_text",
    "fit",
    "heading",
    "milliseconds",
    "percent",
    "row_line",
    "sparkline",
    "state_style",
    "totals_line",
]

ABSENT = "–"

PICTURES = ("line", "hot", "full")

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LEVELS = "▁▂▃▄▅▆▇█"
_STATES = {"up": "good", "idle": "dim", "stale": "warn", "down": "bad", "new": "dim"}


class Cell(NamedTuple):
    text: str
    style: str = ""


Line = list[Cell]

# --------------------------------------------------------------------- numbers


def fit(value: float | None, width: int) -> str:
    """A number in so many characters at most, as exact as they allow: 812, 12.5, 0.03, 12k, 3.4M."""
    if value is None or not math.isfinite(value):
        return ABSENT
    whole = isinstance(value, int) or value == 0 or abs(value) >= 100
    places = 0 if whole else 1 if abs(value) >= 10 else 2
    for unit in ("", "k", "M", "G", "T"):
        for digits in range(places, -1, -1):
            text = f"{value:.{digits}f}{unit}"
            if len(text) <= width:
                return text
        value, places = value / 1000, 1
    return "+" * width


def percent(ratio: float | None) -> str:
    """A ratio, 0 to 1: 24%. What is not 0 is never "0%", and what is not all is never "100%"."""
    if ratio is None or not math.isfinite(ratio):
        return ABSENT
    if 0 < ratio < 0.01:
        return "<1%"
    if 0.99 < ratio < 1:
        return "99%"
    return f"{ratio * 100:.0f}%"


def milliseconds(of: Distribution | None, quantile: str, width: int) -> str:
    """A quantile in milliseconds; ">" before one that is above all buckets, where no more is known."""
    seconds = None if of is None else getattr(of, quantile)
    if of is None or seconds is None:
        return ABSENT
    bounds = of.resolution.get(quantile)
    if bounds is not None and bounds[1] is None:
        return ">" + fit(seconds * 1000, width - 1)
    return fit(seconds * 1000, width)


def duration(seconds: float | None) -> str:
    """In three characters: 0s, 59s, 9m, 23h, 99d."""
    if seconds is None:
        return ABSENT
    for unit, size, most in (("s", 1, 60), ("m", 60, 60), ("h", 3600, 48)):
        if seconds < size * most:
            return f"{int(seconds // size)}{unit}"
    return f"{min(99, int(seconds // 86400))}d"


# -------------------------------------------------------------------- pictures


def bar(ratio: float | None, width: int) -> str:
    """A ratio as a bar of so many characters, by eighths of one; blank where it is absent."""
    if ratio is None or not math.isfinite(ratio):
        return " " * width
    eighths = round(min(1.0, max(0.0, ratio)) * width * 8)
    if ratio > 0:
        eighths = max(1, eighths)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def sparkline(values: Sequence[float | None], top: float | None = None) -> str:
    """A character for each value, from 0 to ``top`` (the largest); blank where there is none."""
    largest = max((value for value in values if value is not None), default=0.0) if top is None else top
    return "".join(" " if value is None else _level(value, largest) for value in values)


def _level(value: float, largest: float) -> str:
    if largest <= 0 or value <= 0:
        return _LEVELS[0]
    return _LEVELS[min(7, 1 + int(value / largest * 6.999))]


def cut(text: str, width: int, *, keep_end: bool = False) -> str:
    """Text of exactly so many columns of a terminal: padded, or cut with "…"."""
    text = _printable(text)
    size = _width(text)
    if size <= width:
        return text + " " * (width - size)
    if width < 1:
        return ""
    kept = ""
    for c in reversed(text) if keep_end else text:
        if _width(kept) + _width(c) > width - 1:
            break
        kept = c + kept if keep_end else kept + c
    kept = "…" + kept if keep_end else kept + "…"
    return kept + " " * (width - _width(kept))


@lru_cache(4096)
def _width(text: str) -> int:
    """Columns on a terminal."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


# --------------------------------------------------------------------- columns


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        sort: the key of ``rows.SORT_KEYS`` it is sorted by.
        title: what it is, in words.
        head: two lines above it.
        width: characters.
        text: of a row that is not down.
    """

    sort: str
    title: str
    head: tuple[str, str]
    width: int
    text: Callable[[Row, int], str]


def _first_token(quantile: str) -> Callable[[Row, int], str]:
    return lambda row, width: milliseconds(row.first_token, quantile, width)


def _inter_token(quantile: str) -> Callable[[Row, int], str]:
    return lambda row, width: milliseconds(row.inter_token, quantile, width)


COLUMNS = (
    Column("state", "state", ("", "STATE"), 5, lambda row, width: row.state),
    Column("age", "age", ("", "AGE"), 3, lambda row, width: duration(row.age)),
    Column("running", "running", ("", "RUN"), 4, lambda row, width: fit(row.running, width)),
    Column("waiting", "waiting", ("", "WAIT"), 4, lambda row, width: fit(row.waiting, width)),
    Column("kv", "KV used", ("", "KV USED"), 9, lambda row, width: percent(row.kv_used)),
    Column("hit", "cache hit", ("", "HIT"), 4, lambda row, width: percent(row.cache_hit_rate)),
    Column("tokens", "tokens/s", ("", "TOK/S"), 6, lambda row, width: fit(row.tokens_per_second, width)),
    Column("ttft-p50", "TTFT p50, ms", ("TTFT", "p50"), 5, _first_token("p50")),
    Column("ttft-p95", "TTFT p95, ms", ("ms", "p95"), 5, _first_token("p95")),
    Column("itl-p50", "ITL p50, ms", ("ITL", "p50"), 4, _inter_token("p50")),
    Column("itl-p95", "ITL p95, ms", ("ms", "p95"), 4, _inter_token("p95")),
)
"""What stands behind the name of a server, in this order; a space goes before each."""

_LEFT = ("state",)
_LEAST_NAME, _MOST_NAME = 15, 40
_LEAST_SPARK, _MOST_SPARK = 8, 30
_MOST_BAR = 14


@dataclass(frozen=True)
class Layout:
    """How wide everything is; the sparkline of tokens/s is 0 wide where there is no room for it."""

    name: int
    columns: tuple[int, ...]
    spark: int

    @classmethod
    def of(cls, width: int, longest_name: int) -> Layout:
        """For a screen of this width. What is left over goes to names, then a sparkline, then bars."""
        widths = [column.width for column in COLUMNS]
        left = width - sum(widths) - len(widths) - _LEAST_NAME
        name = _LEAST_NAME + max(0, min(left, min(longest_name, _MOST_NAME) - _LEAST_NAME))
        left -= name - _LEAST_NAME
        spark = 0
        if left > _LEAST_SPARK:
            spark = min(_MOST_SPARK, left - 1)
            left -= spark + 1
        place = [column.sort for column in COLUMNS].index("kv")
        widths[place] += max(0, min(left, _MOST_BAR - widths[place]))
        return cls(name, tuple(widths), spark)

    @property
    def numbers(self) -> int:
        """Characters behind the state, spaces included."""
        return sum(self.columns[1:]) + len(self.columns) - 1 + (self.spark + 1 if self.spark else 0)

    def column_at(self, x: int) -> str | None:
        """What a click at this place of the heading sorts by."""
        if x < self.name:
            return "name"
        x -= self.name
        for column, width in zip(COLUMNS, self.columns, strict=True):
            if x <= width:
                return column.sort
            x -= width + 1
        return None


def heading(layout: Layout, view: View, status: str) -> list[Line]:
    """Two lines; an arrow stands at what is sorted by, and a status to the left of the first line."""
    mark = "▲" if (view.sort in ("name", "state")) != view.reverse else "▼"
    server = f"SERVER{mark}" if view.sort == "name" else "SERVER"
    first: Line = []
    second = [Cell(cut(server, layout.name), "strong")]
    room = layout.name
    for column, width in zip(COLUMNS, layout.columns, strict=True):
        above, below = column.head
        if column.sort == view.sort:
            below = f"{below}{mark}" if len(below) < width else f"{below[: width - 1]}{mark}"
        below = below.ljust(width) if column.sort in _LEFT else below.rjust(width)
        second += [Cell(" "), Cell(below, "strong")]
        if above:
            first += [Cell(" "), Cell(above.rjust(width), "strong")]
        else:
            room += 1 + width
    if layout.spark:
        second += [Cell(" "), Cell(cut("TOK/S", layout.spark), "strong")]
    return [[Cell(cut(status, room), "dim"), *first], second]


def row_line(row: Row, layout: Layout, now: float) -> Line:
    """A row; of a target that is down, why it is."""
    state = row.state
    line = [
        Cell(cut(row.name, layout.name, keep_end=True), "strong" if state != "idle" else ""),
        Cell(" "),
        Cell(state.ljust(layout.columns[0]), _STATES[state]),
    ]
    if state == "down":
        line += [Cell(" "), Cell(cut(error_text(row), layout.numbers - 1), "bad")]
        return line
    faded = state in ("stale", "new")
    for column, width in list(zip(COLUMNS, layout.columns, strict=True))[1:]:
        text = column.text(row, width)
        style = "dim" if faded or text == ABSENT else _style(column, row)
        line.append(Cell(" "))
        if column.sort == "kv":
            line.append(Cell(bar(row.kv_used, width - 5), "dim" if faded else _PICTURE.get(style, "line")))
            width = 5
        line.append(Cell(text.rjust(width), style))
    if layout.spark:
        values = row.history.values("tokens_per_second", layout.spark, now)
        line += [Cell(" "), Cell(sparkline(values), "dim" if faded else "line")]
    return line


def _style(column: Column, row: Row) -> str:
    """What asks for attention: a cache that is nearly full, a queue."""
    if column.sort == "kv" and row.kv_used is not None:
        return "bad" if row.kv_used >= 0.95 else "warn" if row.kv_used >= 0.8 else ""
    return "warn" if column.sort == "waiting" and row.waiting else ""


_PICTURE = {"warn": "hot", "bad": "full"}


def state_style(state: str) -> str:
    return _STATES[state]


def error_text(row: Row) -> str:
    """Why a target is down, since when, and how often it was asked: in a few words."""
    result = row.result
    if result is None or result.error is None:
        return ""
    error = result.error
    reason = (_reason(error) or type(error).__name__).replace("_", " ")
    if isinstance(error, HTTPStatusError):
        reason = f"{reason} {error.status}"
    last = "never up" if row.age is None else f"last up {duration(row.age)} ago"
    times = result.consecutive_failures
    return f"{reason}, {last}, {times} {'failure' if times == 1 else 'failures'}"


def totals_line(totals: Totals) -> Line:
    """The fleet in one line."""
    n = sum(totals.states.values())
    line = [Cell(f"{n} server{'s' if n != 1 else ''}", "strong")]
    for state, number in totals.states.items():
        if number:
            line += [Cell(" "), Cell(f"{number} {state}", _STATES[state])]
    line += [
        Cell(" │ ", "dim"),
        Cell(f"{fit(totals.running, 6)} running, {fit(totals.waiting, 6)} waiting, "),
        Cell(f"{fit(totals.tokens_per_second, 6)} tok/s, KV {percent(totals.kv_used)}"),
    ]
    return line
