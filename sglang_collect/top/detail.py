"""One server in depth, as lines: the last minutes, its ranks, its latencies."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from .._table import _printable
from ..groups import Distribution, nearest
from .cells import (
    Cell,
    Line,
    bar,
    cut,
    duration,
    error_text,
    fit,
    milliseconds,
    percent,
    sparkline,
    state_style,
)
from .rows import HISTORY

if TYPE_CHECKING:
    from .._core import Histogram
    from ..models import SGLangMetricsSnapshot
    from .rows import Row

__all__ = ["Since", "detail_lines", "selected_lines"]

Since = Literal["window", "start"]
"""Latencies of the last seconds, or since the server started."""

_SERIES = {
    "tokens_per_second": "tokens/s",
    "running": "running",
    "waiting": "waiting",
    "kv_used": "KV used",
}
_LATENCIES = {
    "time_to_first_token": "time to first token",
    "inter_token": "between tokens",
    "end_to_end": "whole request",
    "queue_time": "in the queue",
}
_QUANTILES = ("p50", "p90", "p95", "p99")
_WIDE = 8  # characters of a number and the space before it
_MOST_BAR = 60
_GROUPS = ("queues", "tokens", "requests", "kv_cache", "speculative", "lora", "disaggregation", "offload")


def selected_lines(row: Row, width: int, now: float) -> list[Line]:
    """Two lines on a row: which server it is, and sparklines of its last minutes."""
    about = " ".join(filter(None, (" ".join(row.target.endpoints), *row.models)))
    state = row.state
    text = str(row.result.error) if row.result is not None and row.result.error else about
    first = [
        Cell(cut(row.name, min(width, len(row.name) + 1)), "strong"),
        Cell(cut(f" {text}", width - min(width, len(row.name) + 1)), "bad" if state == "down" else "dim"),
    ]
    parts = [("tok/s", "tokens_per_second"), ("run", "running"), ("wait", "waiting"), ("KV", "kv_used")]
    each = max(4, (width - sum(len(label) + 2 for label, _ in parts)) // len(parts))
    second = []
    for label, series in parts:
        spark = sparkline(row.history.values(series, each, now), 1.0 if series == "kv_used" else None)
        second += [Cell(f"{label} ", "dim"), Cell(spark, "line"), Cell(" ")]
    return [first, second]


def detail_lines(row: Row, width: int, now: float, since: Since) -> list[Line]:
    """Everything there is to see of a row."""
    return [
        *_about(row, width),
        [],
        *_minutes(row, width, now),
        *_ranks(row, width),
        *_latencies(row, width, since),
        *_rest(row, width),
    ]


def _snapshot(row: Row) -> SGLangMetricsSnapshot | None:
    return None if row.result is None else row.result.snapshot


def _about(row: Row, width: int) -> Iterator[Line]:
    state = row.state
    yield [
        Cell(_printable(row.name), "strong"),
        Cell("  "),
        Cell(state, state_style(state)),
        Cell("  never read" if row.age is None else f"  read {duration(row.age)} ago", "dim"),
    ]
    for endpoint in row.target.endpoints:
        yield [Cell(cut(endpoint, width), "dim")]
    result, snapshot = row.result, _snapshot(row)
    if row.models or row.target.labels:
        labels = (f"{name}={value}" for name, value in row.target.labels.items())
        yield [Cell(cut("  ".join((*row.models, *labels)), width))]
    if result is not None and result.up:
        size = f"{fit(result.body_bytes, 6)} bytes, {fit(result.samples, 6)} samples"
        yield [Cell(f"page of {size} in {fit(result.elapsed * 1000, 6)} ms", "dim")]
    if result is not None and result.error is not None:
        for text in (error_text(row), str(result.error)):
            yield from _wrapped(text, width, "bad")
    for note in (*(snapshot.notes if snapshot else ()), *(row.window.notes if row.window else ())):
        yield from _wrapped(f"note: {note}", width, "warn")


def _wrapped(text: str, width: int, style: str) -> Iterator[Line]:
    for line in textwrap.wrap(_printable(text), width):
        yield [Cell(line, style)]


def _minutes(row: Row, width: int, now: float) -> Iterator[Line]:
    """A sparkline for each number, beside the number."""
    n = max(10, min(HISTORY, width - 40))
    seconds = HISTORY * row.history.span
    yield [Cell(f"{'':19}{cut(f'the last {seconds / 60:g} minutes', n)}", "dim")]
    for series, label in _SERIES.items():
        values = row.history.values(series, n, now)
        there = [value for value in values if value is not None]
        ratio = series == "kv_used"
        extremes = f"  {_short(min(there), ratio)} to {_short(max(there), ratio)}" if there else ""
        current = getattr(row, series)
        yield [
            Cell(f"{label:<10}", "strong"),
            Cell(f"{_short(current, ratio):>8} ", "" if current is not None else "dim"),
            Cell(sparkline(values, 1.0 if ratio else None), "line"),
            Cell(extremes, "dim"),
        ]


def _short(value: float | None, ratio: bool) -> str:
    return percent(value) if ratio else fit(value, 8)


def _ranks(row: Row, width: int) -> Iterator[Line]:
    snapshot = _snapshot(row)
    if snapshot is None or not snapshot.ranks:
        return
    size = max(4, min(_MOST_BAR, width - 53))
    yield []
    yield [
        Cell(
            f"{'RANK':>4} {'RUN':>6} {'WAIT':>6} {'TOK/S':>9} {'USED TOKENS':>12}  {'KV USED':<{size + 5}}",
            "strong",
        )
    ]
    for rank in snapshot.ranks:
        yield [
            Cell(f"{rank.dp_rank:>4} {fit(rank.running, 6):>6} {fit(rank.waiting, 6):>6} "),
            Cell(f"{fit(rank.gen_throughput, 9):>9} {fit(rank.used_tokens, 12):>12}  "),
            Cell(bar(rank.usage_ratio, size), "line"),
            Cell(f" {percent(rank.usage_ratio):>4}"),
        ]


def _latencies(row: Row, width: int, since: Since) -> Iterator[Line]:
    """The latencies as a table of numbers, and then the buckets of each."""
    what, histograms = "since the start", row.histograms
    if since == "window":
        if row.window is None:
            return
        what, histograms = f"last {row.window.seconds:.3g} s", row.window_histograms
    there = {label: of for name, label in _LATENCIES.items() if (of := histograms.get(name)) is not None}
    if not there:
        return
    heads = "".join(f"{name.upper():>{_WIDE}}" for name in ("count", "mean", *_QUANTILES))
    yield []
    yield [Cell(f"{f'ms, {what}':<20}{heads}", "strong")]
    for label, histogram in there.items():
        yield [Cell(f"{label:<20}", "strong"), Cell(_in_numbers(histogram))]
    for label, histogram in there.items():
        if histogram.count > 0:
            yield []
            yield [
                Cell(label, "strong"),
                Cell("  ms" if label != _LATENCIES["inter_token"] else "  ms, counts tokens", "dim"),
            ]
            yield from _buckets(histogram, width)


def _in_numbers(histogram: Histogram) -> str:
    of = Distribution.of(histogram)
    mean = None if of is None or of.mean is None else of.mean * 1000
    quantiles = (milliseconds(of, quantile, _WIDE - 1) for quantile in _QUANTILES)
    cells = (fit(nearest(histogram.count), _WIDE - 1), fit(mean, _WIDE - 1), *quantiles)
    return "".join(f"{cell:>{_WIDE}}" for cell in cells)


def _buckets(histogram: Histogram, width: int) -> Iterator[Line]:
    """A bar for each bucket, from the first that has anything to the last."""
    upper = histogram.bounds
    counts = [b - a for a, b in zip((0.0, *histogram.counts), histogram.counts, strict=False)]
    full = [place for place, count in enumerate(counts) if count > 0]
    if not full:
        return
    size = max(4, min(_MOST_BAR, width - 30))
    most, whole = max(counts), sum(counts)
    for place in range(full[0], full[-1] + 1):
        count = counts[place]
        bound = upper[place]
        last = bound == float("inf")
        text = f"> {upper[place - 1] * 1000:g}" if last and place else f"≤ {bound * 1000:g}"
        yield [
            Cell(f"{text:>10} ", "dim"),
            Cell(bar(count / most, size), "line"),
            Cell(f" {fit(int(count), 8):>8} {percent(count / whole):>5}"),
        ]


def _rest(row: Row, width: int) -> Iterator[Line]:
    """What else the page has, by group."""
    snapshot = _snapshot(row)
    if snapshot is None:
        return
    for name in _GROUPS:
        values = [(key, value) for key, value in getattr(snapshot, name) if value is not None]
        if not values:
            continue
        yield []
        yield [Cell(name, "strong")]
        for key, value in values:
            parts = value.items() if isinstance(value, dict) else [("", value)]
            for part, number in parts:
                yield [Cell(f"  {cut(f'{key} {part}', 40)} "), Cell(f"{fit(number, 14):>14}")]
