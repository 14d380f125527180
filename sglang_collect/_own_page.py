"""What the router measures of itself, as a page in Prometheus' text format.

``up`` and the ``scrape_`` metrics bear the names under which Prometheus keeps the same of its own scrapes.
Of targets only registered instances have series, so that no caller can make any.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .fleet import Fleet

__all__ = ["CONTENT_TYPE", "own_page"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_Samples = Iterable[tuple[Mapping[str, str], float]]


def own_page(fleet: Fleet, collections: Mapping[str, int]) -> str:
    """The page: the newest scrape of every target, and the collections that were asked for, by outcome."""
    latest = [({"instance_id": name}, result) for name, result in fleet.latest.items()]
    failures = [
        ({"instance_id": name, "reason": reason}, count)
        for name, reasons in fleet.failures.items()
        for reason, count in reasons.items()
    ]
    return "".join(
        (
            _family("up", "gauge", "1 if the last scrape of the target was good, else 0.",
                    [(labels, result.up) for labels, result in latest]),
            _family("scrape_duration_seconds", "gauge", "Time of the last scrape of the target.",
                    [(labels, result.elapsed) for labels, result in latest]),
            _family("scrape_samples_scraped", "gauge", "Samples of the last scrape; 0 where it failed.",
                    [(labels, result.samples) for labels, result in latest]),
            _family("scrape_body_size_bytes", "gauge", "Size of its page, decompressed; 0 where it failed.",
                    [(labels, result.body_bytes) for labels, result in latest]),
            _family("scrape_failures_total", "counter", "Failed scrapes of the target, by reason.", failures),
            _family("sglang_collect_snapshot_age_seconds", "gauge",
                    "Time since the last good scrape of the target began.",
                    [(labels, age) for labels, result in latest if (age := result.age) is not None]),
            _family("sglang_collect_collections_total", "counter",
                    "Collections that callers asked for, by outcome: success, refused, or why they failed.",
                    [({"outcome": outcome}, count) for outcome, count in collections.items()]),
        )
    )  # fmt: skip


def _family(name: str, kind: str, help: str, samples: _Samples) -> str:
    """A family, its samples sorted by their labels; empty where it has none."""
    lines = sorted(f"{name}{{{_labels(labels)}}} {float(value)!r}\n" for labels, value in samples)
    return f"# HELP {name} {help}\n# TYPE {name} {kind}\n{''.join(lines)}" if lines else ""


def _labels(labels: Mapping[str, str]) -> str:
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in labels.items())


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
