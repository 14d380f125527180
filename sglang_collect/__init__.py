"""Typed snapshots of SGLang servers' Prometheus metrics, read by a C core.

Start with ``scrape`` for one server, ``SGLangCollector`` in async programs, ``Fleet`` for many servers,
``parse`` for any exposition.
Everything in ``__all__`` is loaded when it is first asked for.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from ._core import Exemplar, Family, Guard, Histogram, Page, Sample, parse
    from .collector import SGLangCollector, scrape
    from .errors import (
        ConnectError,
        ExpositionError,
        HTTPStatusError,
        LimitExceeded,
        NotExposition,
        ScrapeError,
        ScrapeTimeout,
        SGLangCollectError,
        TargetRefused,
        TLSError,
    )
    from .fleet import Fleet, ScrapeResult, Target
    from .models import (
        Distribution,
        MetricsCollectionRequest,
        MetricsCollectionResponse,
        PrometheusMetric,
        SGLangCacheMetrics,
        SGLangDisaggregation,
        SGLangKVCache,
        SGLangLatency,
        SGLangLoRA,
        SGLangMetricsSnapshot,
        SGLangModelMetrics,
        SGLangOffload,
        SGLangQueues,
        SGLangRank,
        SGLangRequestMetrics,
        SGLangRequests,
        SGLangSpeculative,
        SGLangSystemMetrics,
        SGLangTokens,
    )
    from .options import Limits
    from .window import SGLangWindow

__all__ = [
    "__version__",
    # reading
    "parse",
    "scrape",
    "SGLangCollector",
    "Fleet",
    "Target",
    "ScrapeResult",
    "Guard",
    "Limits",
    # a page
    "Page",
    "Family",
    "Sample",
    "Exemplar",
    "Histogram",
    # a snapshot
    "SGLangMetricsSnapshot",
    "SGLangRequestMetrics",
    "SGLangCacheMetrics",
    "SGLangSystemMetrics",
    "SGLangLatency",
    "SGLangTokens",
    "SGLangRequests",
    "SGLangKVCache",
    "SGLangQueues",
    "SGLangSpeculative",
    "SGLangLoRA",
    "SGLangDisaggregation",
    "SGLangOffload",
    "SGLangRank",
    "SGLangModelMetrics",
    "Distribution",
    "PrometheusMetric",
    "SGLangWindow",
    "MetricsCollectionRequest",
    "MetricsCollectionResponse",
    # errors
    "SGLangCollectError",
    "ExpositionError",
    "LimitExceeded",
    "ScrapeError",
    "ConnectError",
    "ScrapeTimeout",
    "HTTPStatusError",
    "TLSError",
    "TargetRefused",
    "NotExposition",
]

_HOMES = {
    "_core": ("Exemplar", "Family", "Guard", "Histogram", "Page", "Sample", "parse"),
    "collector": ("SGLangCollector", "scrape"),
    "errors": (
        "ConnectError",
        "ExpositionError",
        "HTTPStatusError",
        "LimitExceeded",
        "NotExposition",
        "SGLangCollectError",
        "ScrapeError",
        "ScrapeTimeout",
        "TLSError",
        "TargetRefused",
    ),
    "fleet": ("Fleet", "ScrapeResult", "Target"),
    "models": (
        "Distribution",
        "MetricsCollectionRequest",
        "MetricsCollectionResponse",
        "PrometheusMetric",
        "SGLangCacheMetrics",
        "SGLangDisaggregation",
        "SGLangKVCache",
        "SGLangLatency",
        "SGLangLoRA",
        "SGLangMetricsSnapshot",
        "SGLangModelMetrics",
        "SGLangOffload",
        "SGLangQueues",
        "SGLangRank",
        "SGLangRequestMetrics",
        "SGLangRequests",
        "SGLangSpeculative",
        "SGLangSystemMetrics",
        "SGLangTokens",
    ),
    "options": ("Limits",),
    "window": ("SGLangWindow",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

logging.getLogger(__name__).addHandler(logging.NullHandler())


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        module = _HOME.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f".{module}", __name__), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
