"""Two snapshots of one server: what happened in between.

A counter says how much has happened since a server started, so the difference of two says what happened
in between, unless another process was counting the second time. That is seen by what cannot change while
a process runs: a counter does not fall, buckets, labels and the model stay. Then the later page alone
counts. On a page of several servers nothing says how much of it that would be, and there is no window.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from . import _core
from ._core import Fold, Histogram
from .catalog import Metric, Reading, by_slot, histogram_slot, sglang, sglang_fields
from .groups import Distribution, Model, Number, SGLangLatency
from .models import reading_of, seconds_between

if TYPE_CHECKING:
    from .models import SGLangMetricsSnapshot

__all__ = ["LATENCIES", "Difference", "SGLangWindow", "between", "window_of"]

LATENCIES = {
    "time_to_first_token": "time_to_first_token_seconds",
    "inter_token": "inter_token_latency_seconds",
    "end_to_end": "e2e_request_latency_seconds",
    "queue_time": "queue_time_seconds",
}
"""The histograms that distributions are of, by their names in ``SGLangLatency``."""


class SGLangWindow(Model):
    """What a server did between two snapshots. None where neither page has a source.

    Rates are 0.0 while the server is idle; then there is no hit rate and no distribution.
    Where it began again in between, everything is counted from zero, over the whole window.
    """

    seconds: float
    """Length of the window"""
    restarted: bool
    """The server began again: a counter fell, or its release, model or buckets changed"""
    notes: list[str] = Field(default_factory=list)
    """Why it counts as a restart; where buckets were merged"""
    requests_per_second: Number = None
    """Finished requests"""
    prompt_tokens_per_second: Number = None
    """Prompt tokens, cached ones included, as they are processed (realtime_tokens_total, v0.5.7); before that
    when their request has finished
    """
    generation_tokens_per_second: Number = None
    """Output tokens, as they come (realtime_tokens_total, v0.5.7; the count of inter_token_latency_seconds,
    v0.4.3.post3); before that when their request has finished
    """
    cache_hit_rate: Number = None
    """Cached part of the prompt tokens, 0 to 1"""
    latency: SGLangLatency = Field(default_factory=SGLangLatency)
    """Of what ended in the window"""


class Difference(Reading):
    """Two readings as one: its counters and histograms are what came in between.

    Where the server began again in between, ``restarts`` says by what that was seen, and they are those of
    the later page alone. Who knows that it did not says so: ``restarts=[]``.

    Raises:
        ValueError: the pages are of several servers, and it cannot be told what came in between.
    """

    __slots__ = ("earlier", "restarts")

    def __init__(self, later: Reading, earlier: Reading, *, restarts: list[str] | None = None) -> None:
        super().__init__(later.fold)
        self.earlier = earlier
        self.restarts = _restarts(later, earlier) if restarts is None else restarts
        _refuse_other_servers(later, earlier, self.restarts)

    @property
    def restarted(self) -> bool:
        return bool(self.restarts)

    def number(self, name: str) -> float | None:
        later, earlier = super().number(name), self.earlier.number(name)
        if later is None:
            return 0.0 if _is_gone(self, self.earlier, name) else None
        if self.restarted or not self.earlier.has(name):
            return later
        return None if earlier is None else later - earlier

    def histogram(self, metric: str) -> Histogram | None:
        later, earlier = super().histogram(metric), self.earlier.histogram(metric)
        if later is None or self.restarted:
            return later
        if earlier is None:
            return later if self.earlier.fold.reason(histogram_slot(metric)) is None else None
        return later.since(earlier)[0]

    def by(self, metric: str, label: str) -> dict[str, float]:
        later = super().by(metric, label)
        if self.restarted:
            return later
        earlier = self.earlier.by(metric, label)
        began = self.earlier.is_whole(metric, label)  # what is not there began at 0
        return {key: value - earlier.get(key, 0.0) for key, value in later.items() if began or key in earlier}

    def is_whole(self, metric: str, label: str) -> bool:
        return super().is_whole(metric, label) and (self.restarted or self.earlier.is_whole(metric, label))


_COUNTED = tuple(metric for metric in sglang.READ if metric.type in ("counter", "histogram"))


def _counted_slots() -> dict[str, Metric]:
    """Where in a fold they are."""
    slots = {}
    for metric in _COUNTED:
        if set(metric.types) & {"histogram", "summary"}:
            slots[histogram_slot(metric.name)] = metric
        if metric.type == "counter":
            slots[metric.name] = metric
        slots.update(dict.fromkeys((by_slot(metric.name, label) for label in metric.by), metric))
    return slots


_SLOTS = _counted_slots()
_SLOT_NAMES = tuple(_SLOTS)


def _suspects(later: Reading, earlier: Reading) -> Sequence[Metric]:
    """The counters and histograms that may have fallen, or have other buckets; mostly there is none."""
    if type(later.fold) is not Fold or type(earlier.fold) is not Fold:  # of several nodes
        return _COUNTED
    fallen = _core.fallen(later.fold, earlier.fold, _SLOT_NAMES)
    return list({_SLOTS[slot].name: _SLOTS[slot] for slot in fallen}.values())


def _is_gone(later: Reading, earlier: Reading, slot: str) -> bool:
    """Was there a series of it, and is there none any more?"""
    fold = later.fold
    return earlier.has(slot) and fold.n_series(slot) == 0 and fold.reason(slot) is None


def _fell(later: Reading, earlier: Reading, metric: Metric) -> bool:
    """Is there less of it than before, or none where there was any?"""
    if metric.type == "histogram":
        before, now = earlier.histogram(metric.name), later.histogram(metric.name)
        if before is None or now is None:
            return _is_gone(later, earlier, histogram_slot(metric.name))
        return now.since(before)[1] or _is_less(now.sum, before.sum)
    count, before_count = later.number(metric.name), earlier.number(metric.name)
    if count is None or before_count is None:
        return _is_gone(later, earlier, metric.name)
    return count < before_count or any(
        later.by(metric.name, label).get(key, 0.0) < value
        for label in metric.by
        for key, value in earlier.by(metric.name, label).items()
    )


def _restarts(later: Reading, earlier: Reading) -> list[str]:
    """Why the later page is of another process than the earlier one; empty where it is of the same."""
    found, suspects = [], _suspects(later, earlier)
    if fallen := [metric.name for metric in suspects if _fell(later, earlier, metric)]:
        found.append(f"restarted: {_some(fallen)} fell")
    for label, what in (("model_name", "model"), ("engine_type", "kind of engine")):
        before, now = earlier.labels(label), later.labels(label)
        if before and now and not set(before) & set(now):
            found.append(f"restarted: another {what}: {_some(before)}, then {_some(now)}")
    marks = sglang_fields.release_marks(earlier), sglang_fields.release_marks(later)
    if None not in marks and marks[0] != marks[1]:
        found.append("restarted: another release of SGLang")
    if changed := [metric.name for metric in suspects if _has_other_buckets(later, earlier, metric.name)]:
        found.append(f"restarted: other buckets in {_some(changed)}")
    return found


def _some(names: Sequence[str]) -> str:
    """The first of them, printable and cut, and how many more: a page's labels may hold anything."""
    first = names[0].encode("unicode_escape").decode()[:80]
    return f"{first} and {len(names) - 1} more" if names[1:] else first


def _has_other_buckets(later: Reading, earlier: Reading, metric: str) -> bool:
    """Where series of one page differ in their buckets, another series may be what changed them."""
    return _bounds_differ(later, earlier, metric) and not any(
        reading.fold.bounds_differ(histogram_slot(metric)) for reading in (later, earlier)
    )


def _bounds_differ(later: Reading, earlier: Reading, metric: str) -> bool:
    if histogram_slot(metric) not in later.fold:
        return False
    before, now = earlier.histogram(metric), later.histogram(metric)
    return before is not None and now is not None and before.bounds != now.bounds


def _is_less(now: float | None, before: float | None) -> bool:
    """Servers add the sums of their processes in any order, so that one may shrink by a rounding."""
    return now is not None and before is not None and now < before * (1 - 1e-9)


def _distribution(histogram: Histogram | None) -> Distribution | None:
    return Distribution.of(histogram) if histogram is not None and histogram.count > 0 else None


def _refuse_other_servers(later: Reading, earlier: Reading, restarts: list[str]) -> None:
    """On a page of several servers, what one of them began again with cannot be told from what it did."""
    before, now = (set(sglang_fields.servers(reading)) for reading in (earlier, later))
    if before != now:
        changes = [
            f"{_some(sorted(servers))} {what}"
            for servers, what in ((before - now, "left"), (now - before, "joined"))
            if servers
        ]
        raise ValueError(f"the page is of other servers than before: {', '.join(changes)}")
    several = max(len(before), len(earlier.labels("model_name")), len(later.labels("model_name"))) > 1
    if several and restarts:
        raise ValueError(f"the page is of several servers, and one of them began again ({restarts[0]})")


def between(earlier: SGLangMetricsSnapshot, later: SGLangMetricsSnapshot) -> SGLangWindow:
    """The window between two snapshots; see ``SGLangMetricsSnapshot.since``."""
    now, before = reading_of(later), reading_of(earlier)
    if later.instance_id != earlier.instance_id:
        raise ValueError(f"snapshots of two instances: {earlier.instance_id!r} and {later.instance_id!r}")
    seconds = seconds_between(earlier, later)
    if seconds <= 0:
        raise ValueError(f"not in order of time: {earlier.timestamp} is not before {later.timestamp}")
    return window_of(Difference(now, before), seconds)


def window_of(difference: Difference, seconds: float) -> SGLangWindow:
    """The window of what came in so many seconds."""
    now, before = Reading(difference.fold), difference.earlier
    notes = difference.restarts
    if not difference.restarted:
        notes = [
            f"buckets differ: {metric.name} was compared on the bounds that both pages have"
            for metric in _suspects(now, before)
            if _bounds_differ(now, before, metric.name)
        ]

    def rate(amount: float | None) -> float | None:
        return None if amount is None else amount / seconds

    return SGLangWindow(
        seconds=seconds,
        restarted=difference.restarted,
        notes=notes,
        requests_per_second=rate(sglang_fields.finished_requests(difference)),
        prompt_tokens_per_second=rate(sglang_fields.prompt_tokens(difference)),
        generation_tokens_per_second=rate(sglang_fields.generation_tokens(difference)),
        cache_hit_rate=sglang_fields.hit_ratio(difference),
        latency=SGLangLatency(
            **{name: _distribution(difference.histogram(metric)) for name, metric in LATENCIES.items()}
        ),
    )
