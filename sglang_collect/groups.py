"""What a snapshot is made of: the plan's three groups, and the native ones.

The plan's hold plain numbers, 0 where a page has no source. In the native groups absent is None.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, BeforeValidator, Field

from . import _core

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "NATIVE_GROUPS",
    "PLAN_GROUPS",
    "Distribution",
    "Number",
    "SGLangCacheMetrics",
    "SGLangDisaggregation",
    "SGLangKVCache",
    "SGLangLatency",
    "SGLangLoRA",
    "SGLangModelMetrics",
    "SGLangOffload",
    "SGLangQueues",
    "SGLangRank",
    "SGLangRequestMetrics",
    "SGLangRequests",
    "SGLangSpeculative",
    "SGLangSystemMetrics",
    "SGLangTokens",
    "finite",
    "nearest",
]

# ----------------------------------------------------------------------- types


def nearest(value: float) -> int | None:
    """The nearest integer; None for what no 64-bit integer holds."""
    return round(value) if -(2.0**63) <= value < 2.0**63 else None


def finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _count(value: object) -> object:
    return nearest(value) if isinstance(value, float) else value


def _number(value: object) -> object:
    return finite(value) if isinstance(value, float) else value


def _counts(value: object) -> object:
    if not isinstance(value, dict):
        return value
    counts = {key: _count(number) for key, number in value.items()}
    return {key: number for key, number in counts.items() if number is not None}


Count = Annotated[int | None, BeforeValidator(_count)]
Number = Annotated[float | None, BeforeValidator(_number)]
Counts = Annotated[dict[str, int] | None, BeforeValidator(_counts)]


# ---------------------------------------------------------- groups of the plan


class SGLangRequestMetrics(BaseModel):
    """SGLang request-level metrics, over the lifetime of the server."""

    success_total: int = Field(default=0, description="Total successful requests")
    failure_total: int = Field(default=0, description="Total failed requests")
    request_duration_seconds: float = Field(default=0.0, description="Request duration")
    time_to_first_token_seconds: float = Field(default=0.0, description="TTFT")
    time_per_output_token_seconds: float = Field(default=0.0, description="TPOT")
    input_tokens: int = Field(default=0, description="Input tokens")
    output_tokens: int = Field(default=0, description="Output tokens")


class SGLangCacheMetrics(BaseModel):
    """SGLang cache metrics."""

    cache_hit_rate: float = Field(default=0.0, description="Cache hit rate")
    cache_memory_usage_bytes: int = Field(default=0, description="Cache memory usage")
    radix_cache_size: int = Field(default=0, description="RadixAttention cache size")
    prefix_cache_hit_total: int = Field(default=0, description="Prefix cache hits")


class SGLangSystemMetrics(BaseModel):
    """SGLang system metrics."""

    num_requests_running: int = Field(default=0, description="Running requests")
    num_requests_waiting: int = Field(default=0, description="Waiting requests")
    batch_size_current: int = Field(default=0, description="Current batch size")
    throughput_tokens_per_second: float = Field(default=0.0, description="Token throughput")


# -------------------------------------------------------------- native groups


class Distribution(BaseModel):
    """A histogram in a few numbers. Quantiles are PromQL's ``histogram_quantile``, coarse as the buckets.

    A quantile is a guess inside the bucket it fell into, whose bounds ``resolution`` tells by the
    quantile's name: ``{"p50": (0.0, 0.1), ...}``. Where a server's lowest bucket ends at 100 ms, a p50 of
    0.05 says no more than that the median is at most 0.1. None in place of the upper bound: the quantile is
    above all buckets, and the number given is the last bound.
    """

    count: int = Field(description="Observations")
    sum: Number = Field(default=None, description="Sum of the observations")
    mean: Number = Field(default=None, description="sum / count; None where empty")
    p50: Number = Field(default=None, description="Median; None where empty")
    p90: Number = Field(default=None, description="90 % are at most this; None where empty")
    p95: Number = Field(default=None, description="95 % are at most this; None where empty")
    p99: Number = Field(default=None, description="99 % are at most this; None where empty")
    resolution: dict[str, tuple[float | None, float | None]] = Field(
        default_factory=dict,
        description="Bounds of the bucket that each quantile fell into: the true one is above the first, "
        "and at most the second; None where there is none. Empty where there are no quantiles",
    )

    @classmethod
    def of(cls, histogram: _core.Histogram) -> Self | None:
        """The numbers of a histogram; None where its count is none."""
        count = nearest(histogram.count)
        if count is None:
            return None
        quantiles = {name: histogram.quantile(q) for name, q in _QUANTILES.items()}
        buckets = {name: histogram.resolution(q) for name, q in _QUANTILES.items()}
        return cls(
            count=count,
            sum=histogram.sum,
            mean=histogram.mean,
            resolution={
                name: (finite(bounds[0]), finite(bounds[1])) for name, bounds in buckets.items() if bounds
            },
            **quantiles,
        )


_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}


class SGLangLatency(BaseModel):
    """How long requests take, in seconds."""

    time_to_first_token: Distribution | None = Field(default=None, description="Arrival to first token, s")
    inter_token: Distribution | None = Field(default=None, description="Between tokens, s; counts tokens")
    end_to_end: Distribution | None = Field(default=None, description="Arrival to last token, s")
    queue_time: Distribution | None = Field(default=None, description="In the waiting queue, s")


class SGLangTokens(BaseModel):
    """Tokens since the server started. All but ``realtime_total`` are of finished requests."""

    prompt_total: Count = Field(default=None, description="Prompt tokens, cached ones included")
    generation_total: Count = Field(default=None, description="Output tokens")
    cached_total: Count = Field(default=None, description="Prompt tokens that came from a cache")
    cached_by_source: Counts = Field(default=None, description="The same by tier: device, host, ...")
    realtime_total: Counts = Field(
        default=None, description="Tokens as they are processed: prefill_compute, prefill_cache, decode"
    )


class SGLangRequests(BaseModel):
    """Requests since the server started."""

    finished_total: Count = Field(default=None, description="Finished, aborted ones included")
    aborted_total: Count = Field(default=None, description="Abort calls, which may end many or none")
    http_responses: Counts = Field(
        default=None, description="HTTP answers of every path by class: 2xx, 4xx, ..."
    )
    retracted_total: Count = Field(default=None, description="Put back into the queue for want of memory")


class SGLangKVCache(BaseModel):
    """The KV cache, of all data-parallel groups together."""

    usage_ratio: Number = Field(default=None, description="Used part of the tokens, 0 to 1")
    used_tokens: Count = Field(default=None, description="Tokens held by requests")
    available_tokens: Count = Field(default=None, description="Free tokens")
    evictable_tokens: Count = Field(default=None, description="Tokens the radix cache would give up")
    capacity_tokens: Count = Field(default=None, description="Tokens in all")
    allocated_bytes: Count = Field(default=None, description="Memory of the pools of all ranks, bytes")
    page_size: Count = Field(default=None, description="Tokens of one page")


class SGLangQueues(BaseModel):
    """Where requests are now."""

    running: Count = Field(default=None, description="In the running batch")
    waiting: Count = Field(default=None, description="In the scheduler's queue")
    grammar: Count = Field(default=None, description="Waiting for a grammar")
    paused: Count = Field(default=None, description="Paused by a weight update since the last report")
    prefill_bootstrap: Count = Field(default=None, description="Prefill node: waiting for a decode node")
    prefill_inflight: Count = Field(default=None, description="Prefill node: cache being sent")
    decode_prealloc: Count = Field(default=None, description="Decode node: waiting for memory")
    decode_transfer: Count = Field(default=None, description="Decode node: cache on its way")
    backlog: Count = Field(default=None, description="All that wait: every queue above but running, paused")


class SGLangSpeculative(BaseModel):
    """Speculative decoding; None where the server does not speculate."""

    accept_length: Number = Field(default=None, description="Tokens a verification step gives")
    accept_rate: Number = Field(default=None, description="Accepted part of the drafted tokens, 0 to 1")
    verify_calls_total: Count = Field(default=None, description="Verification steps since the start")


class SGLangLoRA(BaseModel):
    """The pool of LoRA adapters."""

    slots_used: Count = Field(default=None, description="Adapters in the running batch")
    slots_total: Count = Field(default=None, description="Adapters a batch can hold")
    utilization: Number = Field(default=None, description="slots_used / slots_total, 0 to 1")


class SGLangDisaggregation(BaseModel):
    """Prefill and decode on separate nodes."""

    bootstrap_failed_total: Count = Field(default=None, description="Requests that found no partner node")
    transfer_failed_total: Count = Field(default=None, description="Requests whose cache did not arrive")
    transfer_latency_seconds: Number = Field(
        default=None, description="Mean time to send a cache, s; of the last one before v0.5.10"
    )
    transfer_speed_bytes_per_second: Number = Field(
        default=None, description="Mean speed of sending a cache, bytes/s; of the last one before v0.5.10"
    )


class SGLangOffload(BaseModel):
    """The cache in host memory, and what moves between it and the device."""

    host_used_tokens: Count = Field(default=None, description="Tokens held in host memory")
    host_total_tokens: Count = Field(default=None, description="Tokens host memory can hold")
    evicted_tokens_total: Count = Field(default=None, description="Tokens evicted from the device")
    load_back_tokens_total: Count = Field(default=None, description="Tokens brought back to the device")


class SGLangRank(BaseModel):
    """The load of one data-parallel group."""

    dp_rank: int = Field(description="Its number")
    running: Count = Field(default=None, description="Requests in its running batch")
    waiting: Count = Field(default=None, description="Requests in its queue")
    used_tokens: Count = Field(default=None, description="KV tokens held by its requests")
    usage_ratio: Number = Field(default=None, description="Used part of its KV tokens, 0 to 1")
    gen_throughput: Number = Field(default=None, description="Tokens it decodes, per second")


class SGLangModelMetrics(BaseModel):
    """The native groups of one model; see ``SGLangMetricsSnapshot.models``."""

    latency: SGLangLatency = Field(default_factory=SGLangLatency)
    tokens: SGLangTokens = Field(default_factory=SGLangTokens)
    requests: SGLangRequests = Field(default_factory=SGLangRequests)
    kv_cache: SGLangKVCache = Field(default_factory=SGLangKVCache)
    queues: SGLangQueues = Field(default_factory=SGLangQueues)
    speculative: SGLangSpeculative = Field(default_factory=SGLangSpeculative)
    lora: SGLangLoRA = Field(default_factory=SGLangLoRA)
    disaggregation: SGLangDisaggregation = Field(default_factory=SGLangDisaggregation)
    offload: SGLangOffload = Field(default_factory=SGLangOffload)
    ranks: list[SGLangRank] = Field(
        default_factory=list,
        description="Its data-parallel groups by number; empty where the page names none",
    )


PLAN_GROUPS: dict[str, type[BaseModel]] = {
    "request_metrics": SGLangRequestMetrics,
    "cache_metrics": SGLangCacheMetrics,
    "system_metrics": SGLangSystemMetrics,
}
NATIVE_GROUPS: dict[str, type[BaseModel]] = {
    name: field.annotation
    for name, field in SGLangModelMetrics.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
}
