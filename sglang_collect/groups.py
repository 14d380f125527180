"""What a snapshot is made of: the plan's three groups, and the native ones.

The plan's hold plain numbers, 0 where a page has no source. In the native groups absent is None.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from . import _core

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "NATIVE_GROUPS",
    "PLAN_GROUPS",
    "QUANTILES",
    "Distribution",
    "Model",
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


class Model(BaseModel):
    """What all models have in common: the text below a field describes it, in editors and in schemas."""

    model_config = ConfigDict(use_attribute_docstrings=True)


# ---------------------------------------------------------- groups of the plan


class SGLangRequestMetrics(Model):
    """SGLang request-level metrics, over the lifetime of the server.

    Totals are requests, input and output are tokens of finished requests, times are means in seconds. What
    the page has no source for is 0 and listed in ``SGLangMetricsSnapshot.absent``. Failures
    are answers 5xx and transfers that were lost; aborted requests are among the successful ones.
    """

    success_total: int = 0
    """Total successful requests"""
    failure_total: int = 0
    """Total failed requests"""
    request_duration_seconds: float = 0.0
    """Request duration"""
    time_to_first_token_seconds: float = 0.0
    """TTFT"""
    time_per_output_token_seconds: float = 0.0
    """TPOT"""
    input_tokens: int = 0
    """Input tokens"""
    output_tokens: int = 0
    """Output tokens"""


class SGLangCacheMetrics(Model):
    """SGLang cache metrics.

    The rate is of prompt tokens, 0 to 1, over the lifetime of the server; the usage is in bytes, of tokens
    that requests or the radix cache hold; size and hits are tokens. What the page has no source for is 0 and
    listed in ``SGLangMetricsSnapshot.absent``.
    """

    cache_hit_rate: float = 0.0
    """Cache hit rate"""
    cache_memory_usage_bytes: int = 0
    """Cache memory usage"""
    radix_cache_size: int = 0
    """RadixAttention cache size"""
    prefix_cache_hit_total: int = 0
    """Prefix cache hits"""


class SGLangSystemMetrics(Model):
    """SGLang system metrics, as the schedulers last reported them, up to 30 s ago.

    Running and waiting are requests, the throughput is decoded tokens per second. What the page has no
    source for is 0 and listed in ``SGLangMetricsSnapshot.absent``.
    """

    num_requests_running: int = 0
    """Running requests"""
    num_requests_waiting: int = 0
    """Waiting requests"""
    batch_size_current: int = 0
    """Current batch size"""
    throughput_tokens_per_second: float = 0.0
    """Token throughput"""


# -------------------------------------------------------------- native groups


class Distribution(Model):
    """A histogram in a few numbers. Quantiles are PromQL's ``histogram_quantile``, coarse as the buckets.

    A quantile is a guess inside the bucket it fell into, whose bounds ``resolution`` tells by the
    quantile's name: ``{"p50": (0.0, 0.1), ...}``. Where a server's lowest bucket ends at 100 ms, a p50 of
    0.05 says no more than that the median is at most 0.1. None in place of the upper bound: the quantile is
    above all buckets, and the number given is the last bound.
    """

    count: int
    """Observations"""
    sum: Number = None
    """Sum of the observations"""
    mean: Number = None
    """sum / count; None where empty"""
    p50: Number = None
    """Median; None where empty"""
    p90: Number = None
    """90 % are at most this; None where empty"""
    p95: Number = None
    """95 % are at most this; None where empty"""
    p99: Number = None
    """99 % are at most this; None where empty"""
    resolution: dict[str, tuple[float | None, float | None]] = Field(default_factory=dict)
    """Bounds of the bucket that each quantile fell into: the true one is above the first, and at most the
    second; None where there is none. Empty where there are no quantiles
    """

    @classmethod
    def of(cls, histogram: _core.Histogram) -> Self | None:
        """The numbers of a histogram; None where its count is none."""
        numbers = histogram.summary(QUANTILES)
        return None if numbers is None else cls.model_validate(numbers)


QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
"""Of a ``Distribution``."""


class SGLangLatency(Model):
    """How long requests take, in seconds."""

    time_to_first_token: Distribution | None = None
    """Arrival to first token, s"""
    inter_token: Distribution | None = None
    """Between tokens, s; counts tokens"""
    end_to_end: Distribution | None = None
    """Arrival to last token, s"""
    queue_time: Distribution | None = None
    """In the waiting queue, s"""


class SGLangTokens(Model):
    """Tokens since the server started. All but ``realtime_total`` are of finished requests."""

    prompt_total: Count = None
    """Prompt tokens, cached ones included"""
    generation_total: Count = None
    """Output tokens"""
    cached_total: Count = None
    """Prompt tokens that came from a cache"""
    cached_by_source: Counts = None
    """The same by tier: device, host, ..."""
    realtime_total: Counts = None
    """Tokens as they are processed: prefill_compute, prefill_cache, decode"""


class SGLangRequests(Model):
    """Requests since the server started."""

    finished_total: Count = None
    """Finished, aborted ones included"""
    aborted_total: Count = None
    """Abort calls, which may end many or none"""
    http_responses: Counts = None
    """HTTP answers of every path by class: 2xx, 4xx, ..."""
    retracted_total: Count = None
    """Put back into the queue for want of memory"""


class SGLangKVCache(Model):
    """The KV cache, of all data-parallel groups together."""

    usage_ratio: Number = None
    """Used part of the tokens, 0 to 1"""
    used_tokens: Count = None
    """Tokens held by requests"""
    available_tokens: Count = None
    """Free tokens"""
    evictable_tokens: Count = None
    """Tokens the radix cache would give up"""
    capacity_tokens: Count = None
    """Tokens in all"""
    allocated_bytes: Count = None
    """Memory of the pools of all ranks, bytes"""
    page_size: Count = None
    """Tokens of one page"""


class SGLangQueues(Model):
    """Where requests are now."""

    running: Count = None
    """In the running batch"""
    waiting: Count = None
    """In the scheduler's queue"""
    grammar: Count = None
    """Waiting for a grammar"""
    paused: Count = None
    """Paused by a weight update since the last report"""
    prefill_bootstrap: Count = None
    """Prefill node: waiting for a decode node"""
    prefill_inflight: Count = None
    """Prefill node: cache being sent"""
    decode_prealloc: Count = None
    """Decode node: waiting for memory"""
    decode_transfer: Count = None
    """Decode node: cache on its way"""
    backlog: Count = None
    """All that wait: every queue above but running, paused"""


class SGLangSpeculative(Model):
    """Speculative decoding; None where the server does not speculate."""

    accept_length: Number = None
    """Tokens a verification step gives"""
    accept_rate: Number = None
    """Accepted part of the drafted tokens, 0 to 1"""
    verify_calls_total: Count = None
    """Verification steps since the start"""


class SGLangLoRA(Model):
    """The pool of LoRA adapters."""

    slots_used: Count = None
    """Adapters in the running batch"""
    slots_total: Count = None
    """Adapters a batch can hold"""
    utilization: Number = None
    """slots_used / slots_total, 0 to 1"""


class SGLangDisaggregation(Model):
    """Prefill and decode on separate nodes."""

    bootstrap_failed_total: Count = None
    """Requests that found no partner node"""
    transfer_failed_total: Count = None
    """Requests whose cache did not arrive"""
    transfer_latency_seconds: Number = None
    """Mean time to send a cache, s; of the last one before v0.5.10"""
    transfer_speed_bytes_per_second: Number = None
    """Mean speed of sending a cache, bytes/s; of the last one before v0.5.10"""


class SGLangOffload(Model):
    """The cache in host memory, and what moves between it and the device."""

    host_used_tokens: Count = None
    """Tokens held in host memory"""
    host_total_tokens: Count = None
    """Tokens host memory can hold"""
    evicted_tokens_total: Count = None
    """Tokens evicted from the device"""
    load_back_tokens_total: Count = None
    """Tokens brought back to the device"""


class SGLangRank(Model):
    """The load of one data-parallel group."""

    dp_rank: int
    """Its number"""
    running: Count = None
    """Requests in its running batch"""
    waiting: Count = None
    """Requests in its queue"""
    used_tokens: Count = None
    """KV tokens held by its requests"""
    usage_ratio: Number = None
    """Used part of its KV tokens, 0 to 1"""
    gen_throughput: Number = None
    """Tokens it decodes, per second"""


class SGLangModelMetrics(Model):
    """The native groups of one model; see ``SGLangMetricsSnapshot.models``."""

    latency: SGLangLatency = Field(default_factory=SGLangLatency)
    """How long its requests have taken, in seconds"""
    tokens: SGLangTokens = Field(default_factory=SGLangTokens)
    """Its tokens since the server started"""
    requests: SGLangRequests = Field(default_factory=SGLangRequests)
    """Its requests since the server started"""
    kv_cache: SGLangKVCache = Field(default_factory=SGLangKVCache)
    """Its KV cache"""
    queues: SGLangQueues = Field(default_factory=SGLangQueues)
    """Where its requests are now"""
    speculative: SGLangSpeculative = Field(default_factory=SGLangSpeculative)
    """Speculative decoding"""
    lora: SGLangLoRA = Field(default_factory=SGLangLoRA)
    """LoRA adapters"""
    disaggregation: SGLangDisaggregation = Field(default_factory=SGLangDisaggregation)
    """Between prefill and decode nodes"""
    offload: SGLangOffload = Field(default_factory=SGLangOffload)
    """KV cache in host memory"""
    ranks: list[SGLangRank] = Field(default_factory=list)
    """Its data-parallel groups by number; empty where the page names none"""


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
