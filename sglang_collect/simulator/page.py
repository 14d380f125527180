"""The metrics page of a load model, laid out as SGLang v0.5.18 lays its page out.

SGLang's processes (a scheduler a rank, tokenizer, detokenizer, controller) each keep one file a kind of
metric, and whoever serves the page merges all files in whatever order the folder lists them. So families
stand in no order, ranks are mixed, equal series of two processes are added up (counters and histograms
without a rank label), and a histogram has its sums first. ``_files`` is the folder, ``_merge`` merges it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from random import Random

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .load import CAPACITY_TOKENS, Group, Histogram, LoadModel

__all__ = ["make_registry", "render_page"]

Labels = dict[str, str]
Series = tuple[str, Labels, float | Histogram]
File = list[Series]

_GAUGE, _COUNTER, _HISTOGRAM = "gauge", "counter", "histogram"
_CONSTANTS = {
    "max_total_num_tokens": CAPACITY_TOKENS,
    "weight_memory_usage_gb": 15.08,
    "page_size": 1,
    "num_pages": CAPACITY_TOKENS,
    "context_len": 131_072,
    "startup_available_gpu_memory_gb": 21.375,
}
_STARTUP_SECONDS = {
    "load_weight": 31.5,
    "kv_cache_allocation": 2.25,
    "scheduler_e2e": 77.0,
    "tokenizer_e2e": 88.25,
}
_GRAPH_SECONDS = {"decode": 11.5, "prefill": 0.0}
_GRAPH_GB = {"decode": 1.82, "prefill": 0.0}
_ROUTING_KEY_EDGES = ("0", "1", "2", "3", "5", "7", "10", "20", "50", "100", "200", "+Inf")

_FAMILIES: dict[str, tuple[str, str]] = {
    "max_total_num_tokens": (_GAUGE, "Capacity of the KV cache pool, in tokens."),
    "weight_memory_usage_gb": (_GAUGE, "GB that the model weights take on this rank."),
    "kv_cache_memory_usage_gb": (_GAUGE, "GB that the KV cache pools take on this rank."),
    "graph_memory_usage_gb": (_GAUGE, "GB that captured device graphs take, by phase."),
    "page_size": (_GAUGE, "Tokens of one KV cache page."),
    "num_pages": (_GAUGE, "KV cache pages."),
    "context_len": (_GAUGE, "Longest context, in tokens."),
    "startup_available_gpu_memory_gb": (_GAUGE, "GB of device memory that were free at startup."),
    "num_running_reqs": (_GAUGE, "Requests in the running batch."),
    "num_queue_reqs": (_GAUGE, "Requests in the waiting queue."),
    "num_grammar_queue_reqs": (_GAUGE, "Requests that wait for their grammar."),
    "gen_throughput": (_GAUGE, "Tokens generated per second since the last report."),
    "cache_hit_rate": (_GAUGE, "Prefix cache hit ratio of the last prefill batch."),
    "decode_sum_seq_lens": (_GAUGE, "Sequence lengths of the decode batch, added up."),
    "token_usage": (_GAUGE, "Share of the KV cache pool in use."),
    "full_token_usage": (_GAUGE, "Share in use of the pool of full attention layers."),
    "swa_token_usage": (_GAUGE, "Share in use of the pool of sliding window layers."),
    "mamba_usage": (_GAUGE, "Share in use of the pool of Mamba layers."),
    "num_used_tokens": (_GAUGE, "KV slots in use."),
    "kv_available_tokens": (_GAUGE, "KV slots that are free."),
    "kv_evictable_tokens": (_GAUGE, "KV slots that hold evictable radix cache data."),
    "kv_used_tokens": (_GAUGE, "KV slots locked by requests."),
    "swa_available_tokens": (_GAUGE, "Free slots of the sliding window pool."),
    "swa_evictable_tokens": (_GAUGE, "Evictable slots of the sliding window pool."),
    "swa_used_tokens": (_GAUGE, "Used slots of the sliding window pool."),
    "mamba_available_tokens": (_GAUGE, "Free slots of the Mamba pool."),
    "mamba_evictable_tokens": (_GAUGE, "Evictable slots of the Mamba pool."),
    "mamba_used_tokens": (_GAUGE, "Used slots of the Mamba pool."),
    "spec_accept_length": (_GAUGE, "Mean tokens accepted per verify step; 0 without speculation."),
    "spec_accept_rate": (_GAUGE, "Accepted drafts over proposed drafts; 0 without speculation."),
    "spec_cap_length": (_GAUGE, "Mean verify window; 0 where none is scheduled."),
    "spec_block_accept_length": (_GAUGE, "Mean accept length of whole blocks."),
    "spec_num_steps": (_GAUGE, "Speculative steps now in use."),
    "spec_num_draft_tokens": (_GAUGE, "Draft tokens now in use."),
    "num_prefill_bootstrap_queue_reqs": (_GAUGE, "Requests in the prefill bootstrap queue."),
    "num_prefill_inflight_queue_reqs": (_GAUGE, "Requests whose KV cache is being sent."),
    "num_decode_prealloc_queue_reqs": (_GAUGE, "Requests in the decode preallocation queue."),
    "num_decode_transfer_queue_reqs": (_GAUGE, "Requests whose KV cache is being received."),
    "pending_prealloc_token_usage": (_GAUGE, "Tokens not preallocated yet over capacity."),
    "utilization": (_GAUGE, "Utilization; 0 where no cap is set."),
    "fwd_occupancy": (_GAUGE, "Share of time in forward passes, percent; NaN without a device timer."),
    "new_token_ratio": (_GAUGE, "Admission parameter of the scheduler."),
    "is_cuda_graph": (_GAUGE, "1 where the last batch ran in a device graph."),
    "num_unique_running_routing_keys": (_GAUGE, "Distinct routing keys in the running batch."),
    "routing_key_running_req_count": (_GAUGE, "Routing keys by running requests: gt < requests <= le."),
    "routing_key_all_req_count": (
        _GAUGE,
        "Routing keys by running and waiting requests: gt < requests <= le.",
    ),
    "num_retracted_reqs": (_GAUGE, "Requests retracted since the last report."),
    "num_paused_reqs": (_GAUGE, "Requests paused since the last report."),
    "prefill_effective_tokens_total": (
        _COUNTER,
        "Prompt tokens by where they came from: computed or a cache.",
    ),
    "realtime_tokens_total": (_COUNTER, "Tokens processed, running requests included."),
    "cuda_graph_passes_total": (_COUNTER, "Forward passes by use of a device graph."),
    "evicted_tokens_total": (_COUNTER, "KV slots freed by eviction."),
    "queue_time_seconds": (_HISTOGRAM, "Seconds in the waiting queue."),
    "per_stage_req_latency_seconds": (_HISTOGRAM, "Seconds in each stage of a request."),
    "eviction_duration_seconds": (_HISTOGRAM, "Seconds of an eviction pass."),
    "process_cpu_seconds_total": (_COUNTER, "CPU seconds of a process, by component."),
    "prompt_tokens_total": (_COUNTER, "Prompt tokens of finished requests."),
    "generation_tokens_total": (_COUNTER, "Output tokens of finished requests."),
    "num_requests_total": (_COUNTER, "Finished requests."),
    "cached_tokens_total": (_COUNTER, "Prompt tokens of finished requests that a cache held."),
    "num_so_requests_total": (_COUNTER, "Finished requests with structured output."),
    "num_aborted_requests_total": (_COUNTER, "Aborted requests."),
    "http_requests_total": (_COUNTER, "HTTP requests by endpoint and method."),
    "http_responses_total": (_COUNTER, "HTTP responses by endpoint, method and status."),
    "time_to_first_token_seconds": (_HISTOGRAM, "Seconds to the first token."),
    "inter_token_latency_seconds": (_HISTOGRAM, "Seconds between two tokens."),
    "e2e_request_latency_seconds": (_HISTOGRAM, "Seconds from arrival to the last token."),
    "prompt_tokens_histogram": (_HISTOGRAM, "Prompt tokens of a request."),
    "uncached_prompt_tokens_histogram": (_HISTOGRAM, "Prompt tokens of a request that had to be computed."),
    "generation_tokens_histogram": (_HISTOGRAM, "Output tokens of a request."),
    "startup_time_seconds": (_GAUGE, "Seconds of startup, by phase."),
    "startup_cuda_graph_time_seconds": (_GAUGE, "Seconds of graph capture, by phase."),
    "routing_keys_active": (_GAUGE, "Distinct routing keys in flight."),
    "http_requests_active": (_GAUGE, "HTTP requests in flight."),
}


def render_page(model: LoadModel) -> bytes:
    """The page in the Prometheus text format 0.0.4, which the server sends unless asked for another."""
    return generate_latest(make_registry(model))


def make_registry(model: LoadModel) -> CollectorRegistry:
    """A registry whose collection is the model's page at that moment."""
    registry = CollectorRegistry()
    registry.register(_PageCollector(model))
    return registry


class _PageCollector(Collector):
    def __init__(self, model: LoadModel) -> None:
        self.model = model

    def collect(self) -> Iterable[Metric]:
        with self.model.lock:
            return list(_merge(_files(self.model)))


def _merge(files: Iterable[File]) -> Iterator[Metric]:
    """Families by first appearance; equal series are added up (no two processes share a gauge series)."""
    families: dict[str, dict[tuple[tuple[str, str], ...], float | Histogram]] = {}
    for file in files:
        for name, labels, value in file:
            series = families.setdefault(name, {})
            key = tuple(sorted(labels.items()))
            before = series.get(key)
            if isinstance(value, Histogram):
                merged = Histogram(value.bounds)
                merged.merge(value)
                if isinstance(before, Histogram):
                    merged.merge(before)
                series[key] = merged
            else:
                series[key] = value + before if isinstance(before, float) else float(value)
    for name, series in families.items():
        kind, text = _FAMILIES[name]
        metric = Metric(f"sglang:{name.removesuffix('_total') if kind == _COUNTER else name}", text, kind)
        for key, value in series.items():
            if isinstance(value, Histogram):
                metric.add_sample(f"{metric.name}_sum", dict(key), value.sum)
            else:
                metric.add_sample(f"sglang:{name}", dict(key), value)
        for key, value in series.items():
            if isinstance(value, Histogram):
                _add_buckets(metric, dict(key), value)
        yield metric


def _add_buckets(metric: Metric, labels: Labels, histogram: Histogram) -> None:
    below = 0
    for bound, count in zip((*histogram.bounds, math.inf), histogram.counts, strict=True):
        below += count
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": _edge(bound)}, float(below))
    metric.add_sample(f"{metric.name}_count", labels, float(below))


def _edge(bound: float) -> str:
    """The ``le`` of a bucket as prometheus_client writes it, which is Go's way."""
    if math.isinf(bound):
        return "+Inf"
    return f"{bound:g}" if bound >= 1e6 else repr(float(bound))


def _files(model: LoadModel) -> list[File]:
    """Every process's files, in an order that stays the same for a seed."""
    engine = {"engine_type": "unified", "model_name": model.model_name}
    files: list[File] = [
        _http_counters(model) + _tokenizer_counters(model, engine),
        _http_gauges(model),
        _tokenizer_histograms(model, engine),
        _startup_gauges(engine),
    ]
    for component, seconds in _cpu_seconds(model):
        files.append([("process_cpu_seconds_total", {"component": component}, seconds)])
    for group in model.groups:
        for tp_rank in range(model.tp):
            labels = {**engine, "tp_rank": str(tp_rank), "pp_rank": "0", "moe_ep_rank": "0"}
            if model.dp > 1:
                labels["dp_rank"] = str(group.dp_rank)
            files += _scheduler_files(model, group, tp_rank, labels)
    Random(f"{model.seed}/files").shuffle(files)
    return files


def _cpu_seconds(model: LoadModel) -> Iterator[tuple[str, float]]:
    yield "tokenizer", 12.5 + model.steps / 64
    yield "detokenizer", 3.75 + model.steps / 128
    if model.dp > 1:
        yield "data_parallel_controller", 1.5 + model.steps / 256


def _scheduler_files(model: LoadModel, group: Group, tp_rank: int, labels: Labels) -> list[File]:
    """What one rank writes. All of a group run the same batches; only tensor rank 0 reports them."""
    reports = tp_rank == 0
    gauges: File = [(name, labels, value) for name, value in _CONSTANTS.items()]
    gauges.append(("kv_cache_memory_usage_gb", labels, model.kv_cache_gb_per_rank))
    gauges += [("graph_memory_usage_gb", {**labels, "phase": phase}, gb) for phase, gb in _GRAPH_GB.items()]
    pids: File = []
    if reports and group.reported:
        gauges += [(name, labels, value) for name, value in _report(group).items()]
        for name in ("routing_key_running_req_count", "routing_key_all_req_count"):
            for low, high in pairwise(_ROUTING_KEY_EDGES):
                gauges.append((name, {**labels, "gt": low, "le": high}, 0))
        with_pid = {**labels, "pid": str(4000 + group.dp_rank)}
        pids = [("num_retracted_reqs", with_pid, 0), ("num_paused_reqs", with_pid, 0)]
    return [gauges, pids, _scheduler_counters(group, reports, labels), _scheduler_histograms(group, labels)]


def _report(group: Group) -> dict[str, float]:
    """The gauges of one report, in the order in which SGLang sets them."""
    usage = group.used / CAPACITY_TOKENS
    return {
        "num_running_reqs": len(group.running),
        "num_queue_reqs": len(group.waiting),
        "num_grammar_queue_reqs": 0,
        "gen_throughput": group.gen_throughput,
        "cache_hit_rate": group.cache_hit_rate,
        "decode_sum_seq_lens": sum(request.prompt + request.made for request in group.running),
        "token_usage": round(usage, 2),
        "full_token_usage": usage,
        "swa_token_usage": 0,
        "mamba_usage": 0,
        "num_used_tokens": group.used,
        "kv_available_tokens": group.available,
        "kv_evictable_tokens": group.evictable,
        "kv_used_tokens": group.used,
        "swa_available_tokens": 0,
        "swa_evictable_tokens": 0,
        "swa_used_tokens": 0,
        "mamba_available_tokens": 0,
        "mamba_evictable_tokens": 0,
        "mamba_used_tokens": 0,
        "spec_accept_length": 0,
        "spec_accept_rate": 0,
        "spec_cap_length": 0,
        "spec_block_accept_length": 0,
        "spec_num_steps": 0,
        "spec_num_draft_tokens": 0,
        "num_prefill_bootstrap_queue_reqs": 0,
        "num_prefill_inflight_queue_reqs": 0,
        "num_decode_prealloc_queue_reqs": 0,
        "num_decode_transfer_queue_reqs": 0,
        "pending_prealloc_token_usage": 0,
        "utilization": 0,
        "fwd_occupancy": math.nan,
        "new_token_ratio": 0.7 - 0.5 * usage,
        "is_cuda_graph": 1 if group.decode_passes and not group.cache_hit_rate else 0,
        "num_unique_running_routing_keys": 0,
    }


def _scheduler_counters(group: Group, reports: bool, labels: Labels) -> File:
    """Every rank starts the first family at 0; only the reporting rank counts on."""
    computed, cached = (group.prefill_computed, group.prefill_cached) if reports else (0, 0)
    by_mode = {"input": computed, "device_hit": cached, "host_hit": 0, "storage_hit": 0}
    file: File = [
        ("prefill_effective_tokens_total", {**labels, "mode": mode}, tokens)
        for mode, tokens in by_mode.items()
    ]
    if group.evicted:
        file.append(("evicted_tokens_total", {"cache_type": "RadixCache"}, group.evicted))
    if reports and group.prefill_passes:
        realtime = {"prefill_compute": computed, "prefill_cache": cached, "decode": group.decoded}
        file += [("realtime_tokens_total", {**labels, "mode": mode}, n) for mode, n in realtime.items()]
        passes = {"decode_cuda_graph": group.decode_passes, "prefill_none": group.prefill_passes}
        file += [("cuda_graph_passes_total", {**labels, "mode": mode}, n) for mode, n in passes.items()]
    return file


def _scheduler_histograms(group: Group, labels: Labels) -> File:
    file: File = []
    if group.prefill_passes:
        file.append(("queue_time_seconds", labels, group.queue_time))
        for stage, histogram in group.stages.items():
            file.append(("per_stage_req_latency_seconds", {**labels, "stage": stage}, histogram))
    if group.evicted:
        file.append(("eviction_duration_seconds", {"cache_type": "RadixCache"}, group.eviction_time))
    return file


def _tokenizer_counters(model: LoadModel, engine: Labels) -> File:
    file: File = []
    for streaming, series in model.by_streaming.items():
        if series.requests:
            labels = {**engine, "is_streaming": str(streaming).lower()}
            file.append(("prompt_tokens_total", labels, series.prompt_tokens))
            file.append(("generation_tokens_total", labels, series.generation_tokens))
            file.append(("num_requests_total", labels, series.requests))
    if model.cached_tokens:
        file.append(("cached_tokens_total", {**engine, "cache_source": "device"}, model.cached_tokens))
    if model.structured:
        file.append(("num_so_requests_total", engine, model.structured))
    if model.aborted:
        file.append(("num_aborted_requests_total", engine, model.aborted))
    return file


def _tokenizer_histograms(model: LoadModel, engine: Labels) -> File:
    file: File = []
    for streaming, series in model.by_streaming.items():
        labels = {**engine, "is_streaming": str(streaming).lower()}
        file.append(("time_to_first_token_seconds", labels, series.time_to_first_token))
        if series.requests:
            file.append(("e2e_request_latency_seconds", labels, series.e2e_latency))
    if model.gaps.count:
        file.append(("inter_token_latency_seconds", engine, model.inter_token))
    if model.done:
        file.append(("prompt_tokens_histogram", engine, model.prompt_lengths))
        file.append(("uncached_prompt_tokens_histogram", engine, model.uncached_lengths))
        file.append(("generation_tokens_histogram", engine, model.output_lengths))
    return file


def _http_counters(model: LoadModel) -> File:
    file: File = []
    for (endpoint, method), counted in model.http.items():
        labels = {"endpoint": endpoint, "method": method}
        file.append(("http_requests_total", labels, counted.requests))
        for status, responses in counted.responses.items():
            file.append(("http_responses_total", {**labels, "status_code": status}, responses))
    return file


def _http_gauges(model: LoadModel) -> File:
    file: File = [("routing_keys_active", {}, 0)]
    for (endpoint, method), counted in model.http.items():
        file.append(("http_requests_active", {"endpoint": endpoint, "method": method}, counted.active))
    return file


def _startup_gauges(engine: Labels) -> File:
    file: File = [
        ("startup_time_seconds", {**engine, "phase": phase}, s) for phase, s in _STARTUP_SECONDS.items()
    ]
    return file + [
        ("startup_cuda_graph_time_seconds", {**engine, "phase": phase}, s)
        for phase, s in _GRAPH_SECONDS.items()
    ]
