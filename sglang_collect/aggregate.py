"""The snapshots of many servers as the numbers of one fleet.

Every field is read from each server's page by its own formula, as the release of that server asks for, and
the numbers of the servers are then combined by what they are: counts and amounts add up, histograms are
merged, a ratio or a mean is weighted by what it is a ratio or a mean of, and a setting is the largest.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from functools import reduce
from operator import add, itemgetter
from typing import Any, NamedTuple, cast

from . import _core
from ._numbers import place
from .catalog import Field as CatalogField
from .catalog import Reading, Value, sglang, sglang_fields
from .groups import (
    NATIVE_GROUPS,
    PLAN_GROUPS,
    Distribution,
    Model,
    SGLangCacheMetrics,
    SGLangDisaggregation,
    SGLangKVCache,
    SGLangLatency,
    SGLangLoRA,
    SGLangOffload,
    SGLangQueues,
    SGLangRequestMetrics,
    SGLangRequests,
    SGLangSpeculative,
    SGLangSystemMetrics,
    SGLangTokens,
    finite,
    nearest,
)

__all__ = ["FleetAggregate", "Part", "aggregate", "aggregating", "combined", "part_of", "weighted_mean"]


_STEP = 100  # pages of which one field is read in a step


class FleetAggregate(Model):
    """A fleet as one server, of the newest snapshots of its targets.

    The groups are those of ``SGLangMetricsSnapshot``. A field that some of the servers have no source for is
    that of the others; where none has one it is None, or 0 and listed in ``absent``.
    """

    timestamp: datetime
    """When it was made, UTC"""
    targets: int
    """Targets of the fleet"""
    fresh: int
    """Those the numbers are of"""
    stale: list[str]
    """Those left out: down, too old or not scraped yet"""
    request_metrics: SGLangRequestMetrics
    """Requests, tokens and mean latencies since the servers started; 0 where absent"""
    cache_metrics: SGLangCacheMetrics
    """The prefix caches; 0 where absent"""
    system_metrics: SGLangSystemMetrics
    """What the servers do now; 0 where absent"""
    absent: list[str]
    """Fields of the three groups above that no page has a source for"""
    latency: SGLangLatency
    """How long requests have taken since the servers started, in seconds"""
    tokens: SGLangTokens
    """Tokens since the servers started"""
    requests: SGLangRequests
    """Requests since the servers started"""
    kv_cache: SGLangKVCache
    """The KV caches of all servers together"""
    queues: SGLangQueues
    """Where requests are now"""
    speculative: SGLangSpeculative
    """Speculative decoding"""
    lora: SGLangLoRA
    """LoRA adapters"""
    disaggregation: SGLangDisaggregation
    """Between prefill and decode nodes"""
    offload: SGLangOffload
    """KV cache in host memory"""


def aggregate(folds: Sequence[_core.Fold], stale: Sequence[str]) -> FleetAggregate:
    """The aggregate of the servers whose newest pages these are, beside the names of those left out."""
    steps = aggregating(folds, stale)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast(FleetAggregate, end.value)


def aggregating(folds: Sequence[_core.Fold], stale: Sequence[str]) -> Generator[None, None, FleetAggregate]:
    """The same in steps, each of which takes little time."""
    readings = [Reading(fold) for fold in folds]
    values: dict[str, dict[str, Any]] = {group: {} for group in (*PLAN_GROUPS, *NATIVE_GROUPS)}
    absent = []
    for field in sglang_fields.FIELDS:
        parts: list[Part | None] = []
        for first in range(0, len(readings), _STEP):
            parts += _parts(field, readings[first : first + _STEP])
            yield
        group, name = field.name.split(".")
        value: Any = combined(field, parts)
        if isinstance(value, _core.Histogram):
            value = Distribution.of(value)
        if group in PLAN_GROUPS:
            whole = PLAN_GROUPS[group].model_fields[name].annotation is int
            value = None if value is None else (nearest if whole else finite)(value)
            if value is None:
                absent.append(field.name)
                continue
        values[group][name] = value
    return FleetAggregate.model_validate(
        {
            "timestamp": datetime.now(timezone.utc),
            "targets": len(folds) + len(stale),
            "fresh": len(folds),
            "stale": list(stale),
            "absent": absent,
            **values,
        }
    )


# ------------------------------------------------------------------- combining


class Part(NamedTuple):
    """A field of one server, and what it weighs in a mean of several; None where that is not known."""

    value: Value
    weight: float | None = None


def part_of(field: CatalogField, reading: Reading) -> Part | None:
    """None where the server has no source for the field."""
    value = field.value(reading)
    if value is None:
        return None
    return Part(value, _weight(field, reading) if _KINDS[field.name] == "mean" else None)


def _parts(field: CatalogField, readings: Sequence[Reading]) -> list[Part | None]:
    """Of many pages, quickly where the core has made the field."""
    there = place(field)
    if there is None or field.by:
        return [part_of(field, reading) for reading in readings]
    values = map(itemgetter(there), [reading.fold for reading in readings])
    if _KINDS[field.name] != "mean":
        return [None if value is None else Part(value) for value in values]
    return [
        None if value is None else Part(value, _weight(field, reading))
        for value, reading in zip(values, readings, strict=True)
    ]


def combined(field: CatalogField, parts: Iterable[Part | None]) -> Value:
    """A field of all servers, or of differences of theirs; None where none has it.

    What is infinite is none, as in a server's snapshot.
    """
    there = [part for part in parts if part is not None]
    value = _combined(field, there)
    if isinstance(value, float) and not math.isfinite(value):
        return _combined(field, [part for part in there if math.isfinite(cast(float, part.value))])
    return value


def _combined(field: CatalogField, there: Sequence[Part]) -> Value:
    values = [part.value for part in there]
    if len(there) <= 1:
        return values[0] if values else None
    if isinstance(values[0], _core.Histogram):
        return reduce(add, cast("list[_core.Histogram]", values))
    if isinstance(values[0], dict):
        return _added(cast("list[dict[str, float]]", values))
    numbers = cast("list[float]", values)
    kind = _KINDS[field.name]
    if kind == "mean":
        return weighted_mean(numbers, [part.weight for part in there])
    return max(numbers) if kind == "max" else sum(numbers)


def _added(maps: Sequence[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for each in maps:
        for key, number in each.items():
            total[key] = total.get(key, 0.0) + number
    return total


def weighted_mean(numbers: Sequence[float], weights: Sequence[float | None]) -> float:
    """The weighted mean; the plain one where a weight is not known, or all are 0."""
    known = [weight for weight in weights if weight is not None]
    whole = sum(known)
    if len(known) < len(numbers) or whole <= 0:
        return sum(numbers) / len(numbers)
    return sum(number * weight for number, weight in zip(numbers, known, strict=True)) / whole


def _kind(field: CatalogField) -> str:
    """How the numbers of several servers become one: sum, mean or max."""
    metric = _METRICS[field.metrics[0]]
    unit = field.unit or metric.unit
    if metric.rule.reduce != "sum":
        return metric.rule.reduce
    return "mean" if unit in ("ratio", "seconds") else "sum"


_METRICS = {metric.name: metric for metric in sglang.METRICS}
_KINDS = {field.name: _kind(field) for field in sglang_fields.FIELDS}


def _weight(field: CatalogField, reading: Reading) -> float | None:
    """What a field is a ratio or a mean of: of observations, where that is not said below."""
    if field.name in _WEIGHTS:
        return _WEIGHTS[field.name](reading)
    for metric in field.metrics:
        histogram = reading.histogram(metric)
        if histogram is not None and histogram.count > 0:
            return histogram.count
    return None


def _prompt_tokens(reading: Reading) -> float | None:
    """Those that the hit rate is a part of."""
    effective = sum(reading.by("prefill_effective_tokens_total", "mode").values())
    return effective or sglang_fields.prompt_tokens(reading)


_WEIGHTS: Mapping[str, Callable[[Reading], float | None]] = {
    "cache_metrics.cache_hit_rate": _prompt_tokens,
    "kv_cache.usage_ratio": lambda reading: reading.number("max_total_num_tokens"),
    "speculative.accept_length": lambda reading: reading.number("gen_throughput"),
    "speculative.accept_rate": lambda reading: reading.number("gen_throughput"),
    "lora.utilization": lambda reading: reading.number("lora_pool_slots_total"),
}
