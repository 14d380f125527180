"""What came of one scrape of a fleet's target, and how the pages of several nodes become one.

Nothing is made of a page before somebody looks: a result holds the fold, and its snapshot and its window
are computed when they are first read.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial, reduce
from operator import add
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from . import _core
from ._numbers import plan_record
from .catalog import Reading, histogram_slot, sglang
from .collector import _reason
from .errors import NotExposition
from .models import Read, SGLangMetricsSnapshot, Source, snapshot_of

if TYPE_CHECKING:
    from .fleet import Target
    from .options import Limits
    from .window import SGLangWindow

__all__ = ["Good", "Outcome", "ScrapeResult", "outcome_of"]

logger = logging.getLogger("sglang_collect")


class Good:
    """What a good scrape left."""

    __slots__ = ("_snapshot", "_source", "_target", "at", "body_bytes", "fold", "started")

    def __init__(self, target: Target, source: Source, body_bytes: int, started: float) -> None:
        self._target = target
        self._source = source
        self._snapshot: SGLangMetricsSnapshot | None = None
        self.fold: _core.Fold = source.fold
        self.body_bytes = body_bytes
        self.started = started  # seconds since 1970
        self.at: float = source.at or 0.0  # the same moment by the clock that nobody sets

    def snapshot(self) -> SGLangMetricsSnapshot:
        if self._snapshot is None:
            target, moment = self._target, _core.moment(self.started)
            self._snapshot = snapshot_of(
                SGLangMetricsSnapshot, self._source, moment, target.instance_id, target.endpoints[0]
            )
        return self._snapshot

    def without_page(self) -> Good:
        """The same for a window, which needs no page: the text is what takes up memory."""
        return Good(self._target, Read(self.fold, at=self.at), self.body_bytes, self.started)


@dataclass(eq=False, slots=True)
class ScrapeResult:
    """What came of one scrape of one target. To be read only.

    Attributes:
        target: the target.
        error: why there is no snapshot; None after a good scrape.
        consecutive_failures: failed scrapes of the target in a row, up to this one; 0 after a good one.
        elapsed: seconds it took.
    """

    target: Target
    error: Exception | None
    consecutive_failures: int
    elapsed: float
    _started: float = field(repr=False)
    _last: Good | None = field(repr=False)
    _before: Good | None = field(repr=False)

    @property
    def started(self) -> datetime:
        """When the scrape began, UTC."""
        return _core.moment(self._started)

    @property
    def up(self) -> bool:
        """Was it a good scrape?"""
        return self.error is None

    @property
    def snapshot(self) -> SGLangMetricsSnapshot | None:
        """The snapshot; None where the scrape failed."""
        return self.last_good if self.up else None

    @property
    def last_good(self) -> SGLangMetricsSnapshot | None:
        """The newest snapshot that there was by then, which an earlier scrape may have given."""
        return None if self._last is None else self._last.snapshot()

    @property
    def age(self) -> float | None:
        """Seconds from the start of the scrape that gave ``last_good`` to now; None where none did."""
        return None if self._last is None else time.monotonic() - self._last.at

    @property
    def window(self) -> SGLangWindow | None:
        """What the server did since the good scrape before this one.

        None where this one failed or there was none before, and where it cannot be told: then
        ``SGLangMetricsSnapshot.since`` says why. A clock that somebody sets makes it no longer or shorter.
        """
        from .window import Difference, window_of

        last, before = self._last, self._before
        if not self.up or last is None or before is None or last.at <= before.at:
            return None
        try:
            return window_of(Difference(Reading(last.fold), Reading(before.fold)), last.at - before.at)
        except ValueError as error:
            logger.debug("no window of %s: %s", self.target.instance_id, error)
            return None

    @property
    def samples(self) -> int:
        """Samples on the page; 0 where the scrape failed."""
        return self._last.fold.n_samples if self.up and self._last is not None else 0

    @property
    def body_bytes(self) -> int:
        """Size of the page after decompression, in bytes; 0 where the scrape failed."""
        return self._last.body_bytes if self.up and self._last is not None else 0

    def _kept(self) -> Good | None:
        """What is worth keeping of a good scrape for later windows; None where it failed."""
        return self._last.without_page() if self.up and self._last is not None else None

    def _fold_within(self, max_age: float) -> _core.Fold | None:
        """The fold of a good scrape that is no older than this, in seconds."""
        age = self.age
        return self._last.fold if self.up and self._last and age is not None and age <= max_age else None

    def _last_record(self) -> dict[str, Any] | None:
        """When the scrape of the newest good page began, and the plan's groups of it."""
        last = self._last
        return None if last is None else {"timestamp": _core.moment(last.started), **plan_record(last.fold)}

    def summary(self) -> dict[str, Any]:
        """All but the snapshots, as JSON has it."""
        error, window = self.error, self.window
        return {
            "instance_id": self.target.instance_id,
            "labels": dict(self.target.labels),
            "up": self.up,
            "age": self.age,
            "consecutive_failures": self.consecutive_failures,
            "error": None if error is None else {"reason": _reason(error), "message": str(error)},
            "started": self.started.isoformat(),
            "elapsed": self.elapsed,
            "samples": self.samples,
            "body_bytes": self.body_bytes,
            "window": None if window is None else window.model_dump(mode="json"),
        }

    def __reduce__(self) -> Any:
        raise TypeError("a ScrapeResult cannot be pickled: take its snapshot")


# -------------------------------------------------------------- from transfers


class Outcome(NamedTuple):
    """What the transfers of one scrape amount to: an error, or what they left."""

    started: float
    elapsed: float
    error: Exception | None
    good: Good | None


def outcome_of(target: Target, limits: Limits, ends: Sequence[Any]) -> Outcome:
    """The outcome of the scrapes of all endpoints: their results, or what ended the thread."""
    started, elapsed = math.inf, 0.0
    error: Exception | None = None
    for end in ends:
        if isinstance(end, _core.Result):
            started = min(started, end.started)
            elapsed = max(elapsed, end.elapsed)
            error = error or end.error
        else:
            return Outcome(time.time(), 0.0, end, None)
    if error is not None:
        return Outcome(started, elapsed, error, None)
    try:
        source, size = _joined(ends, limits) if len(ends) > 1 else (ends[0], len(ends[0].body or b""))
    except Exception as unreadable:
        return Outcome(started, elapsed, unreadable, None)
    return Outcome(started, elapsed, None, Good(target, source, size, started))


def _joined(results: Sequence[_core.Result], limits: Limits) -> tuple[Read, int]:
    """The series of all pages as those of one, which the rules of the catalogue then read; their bytes.

    Each has been read alone, with its own errors, so that what fails here is their number.
    """
    kind = results[0].format
    for result in results[1:]:
        if result.format != kind:
            endpoint = result.endpoint.label
            raise NotExposition(
                f"{endpoint}: page is {result.format}; expected {kind}, as the first node's",
                endpoint=endpoint,
                elapsed=result.elapsed,
                reason="not_exposition",
            )
    bodies = [bytes(result.body or b"") for result in results]
    size = sum(map(len, bodies))
    if kind == "openmetrics":
        bodies = [body[: body.rindex(b"# EOF")] for body in bodies] + [b"# EOF\n"]
    data = b"".join(bodies)
    n = len(results)
    limits = replace(limits, body_bytes=limits.body_bytes * n, samples=limits.samples * n)
    joined = sglang.plan().fold(data, format=kind, limits=limits)
    fold = _Joined(joined, [result.fold for result in results if result.fold is not None])
    page = partial(_core.parse, data, format=kind, limits=limits)
    return Read(cast("_core.Fold", fold), page, min(result.at for result in results)), size


class _Joined(Mapping[str, Any]):
    """A fold over the pages of several nodes.

    A metric whose rule adds every series may be there twice with the same labels, once of each node. Numbers
    add up all the same; histograms would get into each other, so that those are added here.
    """

    def __init__(self, joined: _core.Fold, alone: Sequence[_core.Fold]) -> None:
        self._joined = joined
        self._alone = alone
        self.n_samples = joined.n_samples
        self.n_series = joined.n_series

    def __getitem__(self, name: str) -> Any:
        if name not in _ADDED:
            return self._joined[name]
        there = self._histograms(name)
        return reduce(add, there) if there and self.reason(name) is None else None

    def __iter__(self) -> Iterator[str]:
        return iter(self._joined)

    def __len__(self) -> int:
        return len(self._joined)

    def reason(self, name: str) -> str | None:
        folds = self._alone if name in _ADDED else [self._joined]
        return next((reason for fold in folds if (reason := fold.reason(name)) is not None), None)

    def labels(self, name: str) -> tuple[str, ...]:
        return self._joined.labels(name)

    @property
    def flaws(self) -> tuple[str, ...]:
        return tuple(name for name in self if self.reason(name) is not None or self.bounds_differ(name))

    def bounds_differ(self, name: str) -> bool:
        if name not in _ADDED:
            return self._joined.bounds_differ(name)
        bounds = {histogram.bounds for histogram in self._histograms(name)}
        return len(bounds) > 1 or any(fold.bounds_differ(name) for fold in self._alone)

    def _histograms(self, name: str) -> list[_core.Histogram]:
        return [cast("_core.Histogram", found) for fold in self._alone if (found := fold[name]) is not None]


_ADDED = frozenset(
    histogram_slot(metric.name)
    for metric in sglang.READ
    if "histogram" in metric.types and not metric.rule.without
)
