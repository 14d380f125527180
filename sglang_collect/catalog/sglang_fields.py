"""The fields of a snapshot: which metrics each is made of, and how.

``FIELDS`` is the list; a field without a formula is its one metric, by that metric's rule. Tables of the
metrics and the rules are in ``sglang`` and ``sglang_rules``.
"""

from __future__ import annotations

from . import Field, Reading, View, by_slot, histogram_of, histogram_slot
from .formula import (
    NOTHING,
    choose,
    constant,
    count,
    entry,
    first,
    largest_key,
    mean,
    named,
    number,
    or_zero,
    plus,
    ratio,
    seen,
    sum_of,
    times,
    total,
)
from .sglang_rules import ANY_RANK, EVERY_SERIES, FAILED, UNRANKED

__all__ = [
    "BY_CLASS",
    "FIELDS",
    "FLAGS",
    "LABELS",
    "MAX_MODELS",
    "RANK_COLUMNS",
    "VIEWS",
    "finished_requests",
    "generation_tokens",
    "hit_ratio",
    "notes",
    "prompt_tokens",
    "ranks",
    "release_marks",
    "servers",
]

GIB = 1024.0**3
"""SGLang counts 2^30 bytes as a GB, in its memory pools and in its transfer speeds."""

VIEWS = (
    View("failed responses", "http_responses_total", FAILED),
    View("paused, every series", "num_paused_reqs", EVERY_SERIES),
    View("paused, any rank", "num_paused_reqs", ANY_RANK),
    View("evicted, no rank", "evicted_tokens_total", UNRANKED),
    View("loaded back, no rank", "load_back_tokens_total", UNRANKED),
)

_MERGED = {
    "evicted, no rank": "evicted_tokens_total",
    "loaded back, no rank": "load_back_tokens_total",
}

LABELS = ("model_name", "engine_type", "tp_rank", "pp_rank", "dp_rank")
"""The labels whose values on the whole page are asked for."""

MAX_MODELS = 100
"""Of so many models at most a page is told apart, since each takes a reading of the page."""

# -------------------------------------------------------------------- formulas

_WAITING = (
    "num_queue_reqs",
    "num_grammar_queue_reqs",
    "num_prefill_bootstrap_queue_reqs",
    "num_prefill_inflight_queue_reqs",
    "num_decode_prealloc_queue_reqs",
    "num_decode_transfer_queue_reqs",
)


def _ratio(part: float | None, whole: float | None) -> float | None:
    return None if part is None or not whole else part / whole


def _add(*numbers: float | None) -> float | None:
    """The sum of those that are there; None where none is."""
    there = [number for number in numbers if number is not None]
    return sum(there) if there else None


def _is_number(label: str) -> bool:
    return label.isascii() and label.isdecimal() and len(label) < 10


finished_requests = first(number("num_requests_total"), count("e2e_request_latency_seconds"))
"""Finished requests; before v0.4.1.post6 those whose latency was measured."""

_failed_requests = choose(
    seen("http_responses_total"),
    plus(
        or_zero("failed responses"),
        or_zero("num_bootstrap_failed_reqs_total"),
        or_zero("num_transfer_failed_reqs_total"),
    ),
)
"""Requests that generation paths answered with 5xx, and those that disaggregation lost."""

_time_per_output_token = first(mean("inter_token_latency_seconds"), mean("time_per_output_token_seconds"))

_cached_tokens = choose(
    choose(seen("prompt_tokens_total"), named("engine_type")),
    or_zero("cached_tokens_total"),
    number("cached_tokens_total"),
)
"""Cached tokens; 0 where the counter is missing beside prompt tokens in a release that has it."""

_live_cached = entry("realtime_tokens_total", "mode", "prefill_cache")
_live_computed = entry("realtime_tokens_total", "mode", "prefill_compute")

hit_ratio = first(
    ratio(
        total("prefill_effective_tokens_total", "mode", "_hit"),
        total("prefill_effective_tokens_total", "mode"),
    ),
    ratio(_live_cached, plus(_live_cached, _live_computed)),
    choose(named("engine_type"), ratio(or_zero("cached_tokens_total"), number("prompt_tokens_total"))),
)
"""Prefix cache hits over prompt tokens, from the first counters that have moved."""

_hit_rate_gauge = choose(named("engine_type"), NOTHING, choose(named("model_name"), number("cache_hit_rate")))
"""The gauge of a server without engine_type; with one, it is of a batch."""

_cache_hit_rate = first(hit_ratio, _hit_rate_gauge)
"""The ratio by counters, else by the gauge."""

_allocated_bytes = times(number("kv_cache_memory_usage_gb"), constant(GIB))

_cache_memory = times(
    _allocated_bytes,
    ratio(plus(number("kv_used_tokens"), number("kv_evictable_tokens")), number("max_total_num_tokens")),
)
"""Bytes of the KV pools of all ranks, times the part of their slots that hold something."""

_usage = first(ratio(number("num_used_tokens"), number("max_total_num_tokens")), number("token_usage"))

_page_size = first(number("page_size"), largest_key("cache_config_info", "page_size"))


def _responses_by_class(reading: Reading) -> dict[str, float] | None:
    """HTTP answers by 2xx, 4xx, ...; of every path, so that scrapes and health checks are among the 2xx."""
    classes: dict[str, float] = {}
    if not reading.is_whole("http_responses_total", "status_code"):
        return None
    for status, responses in reading.by("http_responses_total", "status_code").items():
        is_status = len(status) == 3 and status.isascii() and status.isdecimal()
        key = f"{status[0]}xx" if is_status else "other"
        classes[key] = classes.get(key, 0.0) + responses
    return classes or None


_backlog = sum_of(*map(number, _WAITING))
"""All that wait: for the scheduler, a grammar, a partner node, memory or a transfer."""


def _by_throughput(reading: Reading, metric: str) -> float | None:
    """The mean over data-parallel groups, by the tokens each generates; None where none speculates."""
    if not reading.has(metric):
        return None
    values = reading.by(metric, "dp_rank")
    if values:
        lengths = reading.by("spec_accept_length", "dp_rank")
        values = {rank: value for rank, value in values.items() if lengths.get(rank, 1.0) > 0}
    if not values:
        return None
    speeds = reading.by("gen_throughput", "dp_rank")
    weights = {rank: speeds.get(rank, 0.0) for rank in values}
    total = sum(weights.values())
    if total <= 0:
        return sum(values.values()) / len(values)
    return sum(value * weights[rank] for rank, value in values.items()) / total


def _accept_length(reading: Reading) -> float | None:
    return _by_throughput(reading, "spec_accept_length")


def _accept_rate(reading: Reading) -> float | None:
    return _by_throughput(reading, "spec_accept_rate")


_lora_utilization = first(
    ratio(number("lora_pool_slots_used"), number("lora_pool_slots_total")), number("lora_pool_utilization")
)

_transfer_latency = ratio(
    first(mean("kv_transfer_latency_ms"), number("kv_transfer_latency_ms")), constant(1000.0)
)

_transfer_speed = times(
    first(mean("kv_transfer_speed_gb_s"), number("kv_transfer_speed_gb_s")), constant(GIB)
)


def prompt_tokens(reading: Reading) -> float | None:
    """Prompt tokens as they are processed; where a page does not tell, those of finished requests."""
    is_whole = reading.is_whole("realtime_tokens_total", "mode")
    live = reading.by("realtime_tokens_total", "mode") if is_whole else {}
    processed = _add(live.get("prefill_compute"), live.get("prefill_cache"))
    return processed if processed is not None else reading.number("prompt_tokens_total")


def generation_tokens(reading: Reading) -> float | None:
    """Output tokens as they come; where a page does not tell, those of finished requests."""
    decoded = reading.by("realtime_tokens_total", "mode").get("decode")
    if decoded is not None:
        return decoded
    gaps = reading.histogram("inter_token_latency_seconds")
    return gaps.count if gaps is not None else reading.number("generation_tokens_total")


_CACHED = "cached_tokens_total; 0 where it is missing beside prompt_tokens_total, from v0.4.3.post4"


# ---------------------------------------------------------------------- fields

# fmt: off
FIELDS = (
    # The plan's; a page may also show each under a name of its own.
    Field("request_metrics.success_total", ("num_requests_total", "e2e_request_latency_seconds"),
          finished_requests, own="request_success_total",
          how="finished requests; before v0.4.1.post6 the count of e2e_request_latency_seconds",
          absent="no request has finished yet"),
    Field("request_metrics.failure_total",
          ("http_responses_total", "num_bootstrap_failed_reqs_total", "num_transfer_failed_reqs_total"),
          _failed_requests, own="request_failure_total", unit="requests",
          how="answers 5xx of paths that generate, plus what disaggregation lost",
          absent="before v0.5.6.post2, or no HTTP answer yet"),
    Field("request_metrics.request_duration_seconds", ("e2e_request_latency_seconds",),
          mean("e2e_request_latency_seconds"), own="request_duration_seconds",
          how="sum / count", absent="no request has finished yet"),
    Field("request_metrics.time_to_first_token_seconds", ("time_to_first_token_seconds",),
          mean("time_to_first_token_seconds"), own="time_to_first_token_seconds",
          how="sum / count", absent="a prefill node, or no token yet"),
    Field("request_metrics.time_per_output_token_seconds",
          ("inter_token_latency_seconds", "time_per_output_token_seconds"),
          _time_per_output_token, own="time_per_output_token_seconds",
          how="sum / count of the first that holds anything; of the second before v0.4.3.post3",
          absent="no second token yet"),
    Field("request_metrics.input_tokens", ("prompt_tokens_total",), own="request_input_tokens",
          absent="no request has finished yet"),
    Field("request_metrics.output_tokens", ("generation_tokens_total",), own="request_output_tokens",
          absent="no request has finished yet"),
    Field("cache_metrics.cache_hit_rate",
          ("prefill_effective_tokens_total", "realtime_tokens_total", "cached_tokens_total",
           "prompt_tokens_total", "cache_hit_rate"),
          _cache_hit_rate, own="cache_hit_rate", unit="ratio",
          how="over the server's life, of the first counters that have moved: modes *_hit over all modes "
              "(v0.5.18); prefill_cache over prefill_cache + prefill_compute (v0.5.7); cached_tokens_total / "
              "prompt_tokens_total (v0.4.3.post4); before that the gauge, of all requests, or in "
              "v0.4.3.post3 of the last batch, which notes says",
          absent="no prompt yet"),
    Field("cache_metrics.cache_memory_usage_bytes",
          ("kv_cache_memory_usage_gb", "kv_used_tokens", "kv_evictable_tokens", "max_total_num_tokens"),
          _cache_memory, own="cache_memory_usage_bytes", unit="bytes",
          how="memory of all ranks * 2^30 * (kv_used_tokens + kv_evictable_tokens) / max_total_num_tokens",
          absent="before v0.5.17, or nothing reported yet"),
    Field("cache_metrics.radix_cache_size", ("kv_evictable_tokens",), own="radix_cache_size",
          absent="nothing reported yet"),
    Field("cache_metrics.prefix_cache_hit_total", ("cached_tokens_total", "prompt_tokens_total"),
          _cached_tokens, own="prefix_cache_hit_total", how=_CACHED,
          absent="before v0.4.3.post4, or no request has finished yet"),
    Field("system_metrics.num_requests_running", ("num_running_reqs",), own="num_requests_running",
          absent="nothing reported yet"),
    Field("system_metrics.num_requests_waiting", ("num_queue_reqs",), own="num_requests_waiting",
          absent="nothing reported yet"),
    Field("system_metrics.batch_size_current", ("num_running_reqs",), own="batch_size_current",
          absent="nothing reported yet"),
    Field("system_metrics.throughput_tokens_per_second", ("gen_throughput",),
          own="throughput_tokens_per_second", absent="nothing reported yet"),

    # The native groups.
    Field("latency.time_to_first_token", ("time_to_first_token_seconds",),
          absent="a prefill node, or no token yet"),
    Field("latency.inter_token", ("inter_token_latency_seconds",), absent="no second token yet"),
    Field("latency.end_to_end", ("e2e_request_latency_seconds",), absent="no request has finished yet"),
    Field("latency.queue_time", ("queue_time_seconds",), absent="no request has left the queue yet"),
    Field("tokens.prompt_total", ("prompt_tokens_total",), absent="no request has finished yet"),
    Field("tokens.generation_total", ("generation_tokens_total",), absent="no request has finished yet"),
    Field("tokens.cached_total", ("cached_tokens_total", "prompt_tokens_total"), _cached_tokens, how=_CACHED,
          absent="before v0.4.3.post4, or no request has finished yet"),
    Field("tokens.cached_by_source", ("cached_tokens_total",), by="cache_source", how="by cache_source",
          absent="before v0.5.9, or no hit yet"),
    Field("tokens.realtime_total", ("realtime_tokens_total",), by="mode", how="by mode",
          absent="before v0.5.7, or nothing processed yet"),
    Field("requests.finished_total", ("num_requests_total",), absent="no request has finished yet"),
    Field("requests.aborted_total", ("num_aborted_requests_total",), absent="no abort yet"),
    Field("requests.http_responses", ("http_responses_total",), _responses_by_class,
          how="by the first digit of the status: 2xx, 4xx, 5xx; of every path",
          absent="before v0.5.6.post2, or no answer yet"),
    Field("requests.retracted_total", ("num_retracted_requests_total",),
          absent="v0.5.3rc2 to v0.5.6.post2, or none put back yet"),
    Field("kv_cache.usage_ratio", ("num_used_tokens", "max_total_num_tokens", "token_usage"), _usage,
          unit="ratio", how="num_used_tokens / max_total_num_tokens; before v0.5.6 token_usage",
          absent="nothing reported yet"),
    Field("kv_cache.used_tokens", ("num_used_tokens",), absent="nothing reported yet"),
    Field("kv_cache.available_tokens", ("kv_available_tokens",), absent="nothing reported yet"),
    Field("kv_cache.evictable_tokens", ("kv_evictable_tokens",), absent="nothing reported yet"),
    Field("kv_cache.capacity_tokens", ("max_total_num_tokens",), absent="nothing reported yet (to v0.5.10)"),
    Field("kv_cache.allocated_bytes", ("kv_cache_memory_usage_gb",), _allocated_bytes, unit="bytes",
          how="memory of all ranks * 2^30", absent="before v0.5.17"),
    Field("kv_cache.page_size", ("page_size", "cache_config_info"), _page_size,
          how="page_size; before v0.5.11 the label of cache_config_info", absent="before v0.5.9"),
    Field("queues.running", ("num_running_reqs",), absent="nothing reported yet"),
    Field("queues.waiting", ("num_queue_reqs",), absent="nothing reported yet"),
    Field("queues.grammar", ("num_grammar_queue_reqs",), absent="nothing reported yet"),
    Field("queues.paused", ("num_paused_reqs",), absent="nothing reported yet"),
    Field("queues.prefill_bootstrap", ("num_prefill_bootstrap_queue_reqs",), absent="nothing reported yet"),
    Field("queues.prefill_inflight", ("num_prefill_inflight_queue_reqs",), absent="nothing reported yet"),
    Field("queues.decode_prealloc", ("num_decode_prealloc_queue_reqs",), absent="nothing reported yet"),
    Field("queues.decode_transfer", ("num_decode_transfer_queue_reqs",), absent="nothing reported yet"),
    Field("queues.backlog", _WAITING, _backlog, how="the sum of those that are there",
          absent="nothing reported yet"),
    Field("speculative.accept_length", ("spec_accept_length", "gen_throughput"), _accept_length,
          how="mean of the groups that speculate, weighted by gen_throughput",
          absent="before v0.4.1.post7, or the server does not speculate"),
    Field("speculative.accept_rate", ("spec_accept_rate", "spec_accept_length", "gen_throughput"),
          _accept_rate, how="likewise", absent="before v0.5.3.post2, or the server does not speculate"),
    Field("speculative.verify_calls_total", ("spec_verify_calls_total",), absent="no step yet"),
    Field("lora.slots_used", ("lora_pool_slots_used",), absent="no adapters"),
    Field("lora.slots_total", ("lora_pool_slots_total",), absent="no adapters"),
    Field("lora.utilization", ("lora_pool_slots_used", "lora_pool_slots_total", "lora_pool_utilization"),
          _lora_utilization, unit="ratio", how="lora_pool_slots_used / lora_pool_slots_total, else the gauge",
          absent="before v0.5.7, or no adapters"),
    Field("disaggregation.bootstrap_failed_total", ("num_bootstrap_failed_reqs_total",),
          absent="no failure yet"),
    Field("disaggregation.transfer_failed_total", ("num_transfer_failed_reqs_total",),
          absent="no failure yet"),
    Field("disaggregation.transfer_latency_seconds", ("kv_transfer_latency_ms",), _transfer_latency,
          unit="seconds", how="sum / count / 1000; a gauge (to v0.5.9): the mean of the groups / 1000",
          absent="before v0.5.2, no prefill node, or no transfer yet"),
    Field("disaggregation.transfer_speed_bytes_per_second", ("kv_transfer_speed_gb_s",), _transfer_speed,
          unit="bytes/s", how="sum / count * 2^30; a gauge (to v0.5.9): the mean of the groups * 2^30",
          absent="before v0.5.2, no prefill node, or no transfer yet"),
    Field("offload.host_used_tokens", ("hicache_host_used_tokens",), absent="no cache in host memory"),
    Field("offload.host_total_tokens", ("hicache_host_total_tokens",), absent="no cache in host memory"),
    Field("offload.evicted_tokens_total", ("evicted_tokens_total",), absent="nothing evicted yet"),
    Field("offload.load_back_tokens_total", ("load_back_tokens_total",), absent="nothing brought back yet"),
)
# fmt: on


BY_CLASS = {"requests.http_responses": by_slot("http_responses_total", "status_code")}
"""Fields that are a map by HTTP statuses, told by their classes: what a ``Layout`` writes without Python."""

RANK_COLUMNS = {
    "running": "num_running_reqs",
    "waiting": "num_queue_reqs",
    "used_tokens": "num_used_tokens",
    "usage_ratio": "token_usage",  # where capacity is not told
    "gen_throughput": "gen_throughput",
}
"""What each group is listed with, by dp_rank."""


def ranks(reading: Reading) -> list[dict[str, float | None]]:
    """The load of each data-parallel group that logs any, by dp_rank; empty without data parallelism."""
    if not reading.labels("dp_rank"):
        return []
    columns = {name: reading.by(metric, "dp_rank") for name, metric in RANK_COLUMNS.items()}
    capacity = reading.by("max_total_num_tokens", "dp_rank")
    labels = {label for column in columns.values() for label in column if _is_number(label)}
    rows: list[dict[str, float | None]] = []
    for label in sorted(labels, key=int):
        row = {name: column.get(label) for name, column in columns.items()}
        exact = _ratio(row["used_tokens"], capacity.get(label))
        if exact is not None:
            row["usage_ratio"] = exact
        rows.append({"dp_rank": int(label), **row})
    return rows


def servers(reading: Reading) -> list[str]:
    """The servers behind the model gateway's page, sorted; empty on a server's own."""
    return sorted(filter(None, reading.by("num_running_reqs", "worker_addr")))


def release_marks(reading: Reading) -> tuple[bool, ...] | None:
    """What releases differ in and a running server does not change; None where no scheduler has reported.

    ``prefill_effective_tokens_total`` (v0.5.18) is there from the start, as are the labels ``engine_type``
    (v0.4.3.post4) and ``tp_rank`` (v0.4.9.post3).
    """
    if not reading.has("num_running_reqs"):
        return None
    return (
        reading.has("prefill_effective_tokens_total"),
        bool(reading.labels("engine_type")),
        bool(reading.labels("tp_rank")),
    )


def _is_recent(reading: Reading) -> bool:
    """Is the page of v0.4.3.post3 or later?"""
    return bool(reading.labels("engine_type")) or reading.has(histogram_slot("inter_token_latency_seconds"))


_RANKS_UNNAMED = "ranks unnamed"
FLAGS = {
    _RANKS_UNNAMED: choose(
        named("tp_rank"), NOTHING, choose(named("dp_rank"), NOTHING, seen("num_running_reqs"))
    ),
}
"""What ``notes`` asks of every page, as further formulas of the plan."""


def _has_gauge_of_a_batch(reading: Reading) -> bool:
    """Is the hit rate told by a gauge alone, in the one release where that is of a batch?"""
    return (
        not reading.labels("engine_type")
        and _is_recent(reading)
        and _hit_rate_gauge(reading) is not None
        and hit_ratio(reading) is None
    )


def notes(reading: Reading) -> list[str]:
    """What a reader should know before trusting the numbers of this page, a sentence each."""
    found = []
    if reading.number(_RANKS_UNNAMED) and _is_recent(reading):
        found.append(
            "one rank shown: this release does not label its ranks, so with data parallelism running, "
            "waiting, throughput and cache use are those of one group, whichever reported last"
        )
    if _has_gauge_of_a_batch(reading):
        found.append(
            "hit rate of one batch: this release does not count cached tokens, so cache_hit_rate is that of "
            "the last prefill batch"
        )
    merged = [metric for view, metric in _MERGED.items() if reading.has(view)]
    if merged and any(len(reading.labels(label)) > 1 for label in ("dp_rank", "pp_rank", "tp_rank")):
        found.append(
            f"ranks merged: {' and '.join(merged)} sum over all ranks, most of which repeat each other"
        )
    if reading.fold.n_series("paused, every series") > reading.fold.n_series("paused, any rank"):
        found.append("dead processes: the page still has series of processes that have ended")
    models = reading.labels("model_name")
    if len(models) > 1:
        apart = "models has each apart" if len(models) <= MAX_MODELS else "too many to tell apart"
        found.append(f"several models: the numbers are of all {len(models)} together, {apart}")
    return found + _notes_on_histograms(reading)


def _notes_on_histograms(reading: Reading) -> list[str]:
    found = []
    for slot in reading.fold.flaws:
        metric = histogram_of(slot)
        if metric is None:
            continue
        if (reason := reading.fold.reason(slot)) is not None:
            found.append(f"not read: {metric}: {reason}")
        if reading.fold.bounds_differ(slot):
            found.append(f"buckets differ: series of {metric} were merged on the bounds they share")
    return found
