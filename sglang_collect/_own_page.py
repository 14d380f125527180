"""What the router measures of itself, as a page in Prometheus' text format.

``up`` and the ``scrape_`` metrics bear the names under which Prometheus keeps the same of its own scrapes.
Of targets only registered instances have series, so that no caller can make any.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .fleet import Fleet

__all__ = ["CONTENT_TYPE", "own_page"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_Samples = Iterable[tuple[str, float]]
"""Their labels as a page has them, and their values."""


def own_page(fleet: Fleet, collections: Mapping[str, int]) -> Iterator[bytes]:
    """The page, a family at a time: the newest scrape of every target, and what callers asked for."""
    latest = sorted((_label("instance_id", name), result) for name, result in fleet.latest.items())
    failures = [
        (f"{_label('instance_id', name)},{_label('reason', reason)}", count)
        for name, reasons in fleet.failures.items()
        for reason, count in reasons.items()
    ]
    outcomes = [(_label("outcome", outcome), count) for outcome, count in collections.items()]
    families: Sequence[tuple[str, str, str, _Samples]] = (
        ("up", "gauge", "1 if the last scrape of the target was good, else 0.",
         ((labels, result.up) for labels, result in latest)),
        ("scrape_duration_seconds", "gauge", "Time of the last scrape of the target.",
         ((labels, result.elapsed) for labels, result in latest)),
        ("scrape_samples_scraped", "gauge", "Samples of the last scrape; 0 where it failed.",
         ((labels, result.samples) for labels, result in latest)),
        ("scrape_body_size_bytes", "gauge", "Size of its page, decompressed; 0 where it failed.",
         ((labels, result.body_bytes) for labels, result in latest)),
        ("scrape_failures_total", "counter", "Failed scrapes of the target, by reason.", sorted(failures)),
        ("sglang_collect_snapshot_age_seconds", "gauge",
         "Time since the last good scrape of the target began.",
         ((labels, age) for labels, result in latest if (age := result.age) is not None)),
        ("sglang_collect_collections_total", "counter",
         "Collections that callers asked for, by outcome: success, refused, or why they failed.",
         sorted(outcomes)),
    )  # fmt: skip
    for family in families:
        yield _family(*family).encode()


def _family(name: str, kind: str, help: str, samples: _Samples) -> str:
    """A family of samples in the order of their labels; empty where it has none."""
    lines = "".join([f"{name}{{{labels}}} {float(value)!r}\n" for labels, value in samples])
    return f"# HELP {name} {help}\n# TYPE {name} {kind}\n{lines}" if lines else ""


def _label(name: str, value: str) -> str:
    return f'{name}="{value.translate(_ESCAPES)}"'


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
