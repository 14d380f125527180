"""The collector as the plan designs it: httpx, regular expressions, a pydantic model for every sample.

The plan leaves its parser to another phase; what is here is what one writes for it in a quarter of an hour.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime, timezone
from types import TracebackType

import httpx
from pydantic import BaseModel, Field

from sglang_collect import SGLangCacheMetrics, SGLangRequestMetrics, SGLangSystemMetrics

__all__ = ["Answer", "Collector", "Metric", "Snapshot", "read"]

_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

_REQUEST = {
    "sglang:request_success_total": "success_total",
    "sglang:request_failure_total": "failure_total",
    "sglang:request_duration_seconds": "request_duration_seconds",
    "sglang:time_to_first_token_seconds": "time_to_first_token_seconds",
    "sglang:time_per_output_token_seconds": "time_per_output_token_seconds",
    "sglang:request_input_tokens": "input_tokens",
    "sglang:request_output_tokens": "output_tokens",
}
_CACHE = {
    f"sglang:{name}": name
    for name in (
        "cache_hit_rate",
        "cache_memory_usage_bytes",
        "radix_cache_size",
        "prefix_cache_hit_total",
    )
}
_SYSTEM = {
    f"sglang:{name}": name
    for name in (
        "num_requests_running",
        "num_requests_waiting",
        "batch_size_current",
        "throughput_tokens_per_second",
    )
}


class Metric(BaseModel):
    name: str
    value: float
    labels: dict[str, str] = Field(default_factory=dict)


class Snapshot(BaseModel):
    timestamp: datetime
    instance_id: str
    endpoint: str
    request_metrics: SGLangRequestMetrics
    cache_metrics: SGLangCacheMetrics
    system_metrics: SGLangSystemMetrics
    raw_metrics: list[Metric] = Field(default_factory=list)


class Answer(BaseModel):
    success: bool
    instance_id: str
    timestamp: datetime = Field(default_factory=lambda: datetime.now(timezone.utc))
    metrics: Snapshot | None = None
    error: str | None = None


def _group(kind: type[BaseModel], names: dict[str, str], metrics: Sequence[Metric]) -> BaseModel:
    group = kind()
    for metric in metrics:
        if metric.name in names:
            name = names[metric.name]
            whole = kind.model_fields[name].annotation is int
            setattr(group, name, int(metric.value) if whole else metric.value)
    return group


def read(text: str, *, instance_id: str, endpoint: str) -> Snapshot:
    """A snapshot with every SGLang sample of the page."""
    metrics = [
        Metric(name=name, value=float(value), labels=dict(_LABEL.findall(labels)))
        for name, labels, value in _SAMPLE.findall(text)
    ]
    ours = [metric for metric in metrics if metric.name.startswith("sglang:")]
    return Snapshot.model_validate(
        {
            "timestamp": datetime.now(timezone.utc),
            "instance_id": instance_id,
            "endpoint": endpoint,
            "request_metrics": _group(SGLangRequestMetrics, _REQUEST, ours),
            "cache_metrics": _group(SGLangCacheMetrics, _CACHE, ours),
            "system_metrics": _group(SGLangSystemMetrics, _SYSTEM, ours),
            "raw_metrics": ours,
        }
    )


class Collector:
    """Opens a client where it is given none, as the plan's does for every request."""

    def __init__(self, timeout: float = 10, client: httpx.AsyncClient | None = None) -> None:
        self._own = client is None
        self._client = client or httpx.AsyncClient(timeout=timeout)

    async def __aenter__(self) -> Collector:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._own:
            await self._client.aclose()

    async def collect(self, instance_id: str, endpoint: str) -> Snapshot:
        response = await self._client.get(endpoint)
        response.raise_for_status()
        return read(response.text, instance_id=instance_id, endpoint=endpoint)
