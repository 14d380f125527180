"""A second opinion: what a snapshot of a recorded page has to say, worked out from its truth file.

Nothing here uses the package. A page ``NAME.prom`` has a ``NAME.truth.json``, whose ``families`` list every
sample by labels and value. The rules are written down once more, plainly: sums over lists of samples.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("SGLANG_COLLECT_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
GIB = 2.0**30

Labels = dict[str, str]
Sample = dict[str, Any]


def recorded_pages() -> list[Path]:
    """The pages of released servers that have a truth file; none where the data is missing."""
    return [
        page
        for page in sorted((DATA / "sglang").glob("*.prom"))
        if page.with_suffix(".truth.json").exists()
        and not page.name.startswith("a146d")  # before the first release
        and "encoder" not in page.name  # no scheduler
        and "single-process" not in page.name
    ]


def page_format(page: Path) -> str:
    return "openmetrics" if "openmetrics" in page.name else "text"


def _anything(labels: Labels) -> bool:
    return True


class Truth:
    """The samples of one page, with the labels that are not empty, and what they add up to."""

    def __init__(self, page: Path) -> None:
        told = json.loads(page.with_suffix(".truth.json").read_text())
        self.workload = told.get("workload_truth", {})
        self.types = {name.removeprefix("sglang:"): f["type"] for name, f in told["families"].items()}
        self.samples: dict[str, list[Sample]] = {
            name.removeprefix("sglang:"): [
                {**sample, "labels": {k: v for k, v in sample["labels"].items() if v != ""}}
                for sample in family["samples"]
            ]
            for name, family in told["families"].items()
        }

    # ------------------------------------------------------------- choosing

    def every(self, name: str, keep: Callable[[Labels], bool] = _anything) -> list[Sample]:
        return [sample for sample in self.samples.get(name, []) if keep(sample["labels"])]

    def of_groups(self, name: str, keep: Callable[[Labels], bool] = _anything) -> list[Sample]:
        """One sample of each set of labels without ranks and process: the first rank's, all priorities'."""
        best: dict[frozenset[tuple[str, str]], tuple[tuple[int, int], Sample]] = {}
        for sample in self.every(name, keep):
            labels = dict(sample["labels"])
            if "priority" in labels:
                continue
            rank = int(labels.pop("pp_rank", 0)), int(labels.pop("tp_rank", 0))
            labels.pop("moe_ep_rank", None)
            labels.pop("pid", None)
            key = frozenset(labels.items())
            if key not in best or rank < best[key][0]:
                best[key] = rank, sample
        return [sample for _, sample in best.values()]

    def values_of(self, label: str) -> list[str]:
        found = {s["labels"].get(label, "") for samples in self.samples.values() for s in samples}
        return sorted(found - {""})

    # ------------------------------------------------------------- combining

    def total(self, name: str, keep: Callable[[Labels], bool] = _anything) -> float | None:
        return add(self.every(name, keep))

    def grouped(self, name: str, keep: Callable[[Labels], bool] = _anything) -> float | None:
        return add(self.of_groups(name, keep))

    def average(self, name: str) -> float | None:
        samples = self.of_groups(name)
        summed = add(samples)
        return None if summed is None else summed / len(samples)

    def split(self, samples: list[Sample], label: str) -> dict[str, float]:
        parts: dict[str, list[Sample]] = defaultdict(list)
        for sample in samples:
            parts[sample["labels"].get(label, "")].append(sample)
        return {key: total for key, part in parts.items() if (total := add(part)) is not None}

    def histogram(self, samples: list[Sample]) -> Distribution | None:
        return Distribution(samples) if samples else None


def number(value: float | str) -> float:
    return float(value.replace("+", "")) if isinstance(value, str) else float(value)


def add(samples: list[Sample]) -> float | None:
    summed = math.fsum(number(sample["value"]) for sample in samples)
    return None if not samples or math.isnan(summed) else summed


class Distribution:
    """Histogram series added up over the bounds that all of them have."""

    def __init__(self, series: list[Sample]) -> None:
        self.count = math.fsum(number(s["count"]) for s in series)
        self.sum = math.fsum(number(s["sum"]) for s in series)
        tables = [{number(le): number(n) for le, n in s["buckets"]} for s in series]
        shared = sorted(set.intersection(*(set(table) for table in tables)))
        self.buckets = [(bound, math.fsum(table[bound] for table in tables)) for bound in shared]

    @property
    def mean(self) -> float | None:
        return self.sum / self.count if self.count else None

    def quantile(self, q: float) -> tuple[float, tuple[float, float | None]] | None:
        """As PromQL's histogram_quantile: linear between the bounds of its bucket, and those."""
        if not self.count:
            return None
        wanted = q * self.count
        low, below = 0.0, 0.0
        for bound, up_to in self.buckets:
            if up_to >= wanted:
                if math.isinf(bound):
                    return low, (low, None)
                return low + (bound - low) * (wanted - below) / (up_to - below), (low, bound)
            low, below = bound, up_to
        raise AssertionError("the last bucket holds everything")

    def fields(self) -> dict[str, Any]:
        quantiles = {f"p{round(q * 100)}": self.quantile(q) for q in (0.5, 0.9, 0.95, 0.99)}
        return {
            "count": self.count,
            "sum": self.sum,
            "mean": self.mean,
            **{name: found and found[0] for name, found in quantiles.items()},
            "resolution": {name: found[1] for name, found in quantiles.items() if found},
        }


def divide(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def sum_of_present(*numbers: float | None) -> float | None:
    there = [n for n in numbers if n is not None]
    return math.fsum(there) if there else None


# ---------------------------------------------------------- the plan's fields


def hit_rate(t: Truth) -> float | None:
    all_modes = t.grouped("prefill_effective_tokens_total")
    hits = t.grouped("prefill_effective_tokens_total", lambda x: x.get("mode", "").endswith("_hit"))
    if (rate := divide(hits, all_modes)) is not None:
        return rate
    cached = t.grouped("realtime_tokens_total", lambda x: x.get("mode") == "prefill_cache") or 0.0
    computed = t.grouped("realtime_tokens_total", lambda x: x.get("mode") == "prefill_compute") or 0.0
    if (rate := divide(cached, cached + computed)) is not None:
        return rate
    if t.values_of("engine_type"):
        return divide(t.total("cached_tokens_total") or 0.0, t.total("prompt_tokens_total"))
    return t.average("cache_hit_rate")


def cached_tokens(t: Truth) -> float | None:
    if t.every("cached_tokens_total"):
        return t.total("cached_tokens_total")
    return 0.0 if t.values_of("engine_type") and t.every("prompt_tokens_total") else None


def generates(labels: Labels) -> bool:
    path = labels.get("endpoint", "")
    other = ("/metrics", "/health", "/v1/models", "/v1/loads", "/get_load", "/ping")
    return not path.startswith(other) and not path.endswith("_info")


def failures(t: Truth) -> float | None:
    if not t.every("http_responses_total"):
        return None
    failed = t.total("http_responses_total", lambda x: x["status_code"].startswith("5") and generates(x))
    lost = [t.grouped(f"num_{what}_failed_reqs_total") or 0.0 for what in ("bootstrap", "transfer")]
    return (failed or 0.0) + sum(lost)


def cache_bytes(t: Truth) -> float | None:
    allocated = t.total("kv_cache_memory_usage_gb", lambda x: "priority" not in x)
    used, evictable = t.grouped("kv_used_tokens"), t.grouped("kv_evictable_tokens")
    held = (
        divide(used + evictable, t.grouped("max_total_num_tokens"))
        if used is not None and evictable is not None
        else None
    )
    return None if allocated is None or held is None else allocated * GIB * held


def mean_of(t: Truth, name: str) -> float | None:
    histogram = t.histogram(t.every(name))
    return histogram.mean if histogram else None


def plan_fields(t: Truth) -> dict[str, float | None]:
    """The 15 fields of the plan; None where the page has no source."""
    finished = t.total("num_requests_total")
    if finished is None and t.every("e2e_request_latency_seconds"):
        finished = math.fsum(s["count"] for s in t.every("e2e_request_latency_seconds"))
    per_token = mean_of(t, "inter_token_latency_seconds")
    if per_token is None:
        per_token = mean_of(t, "time_per_output_token_seconds")
    return {
        "request_metrics.success_total": finished,
        "request_metrics.failure_total": failures(t),
        "request_metrics.request_duration_seconds": mean_of(t, "e2e_request_latency_seconds"),
        "request_metrics.time_to_first_token_seconds": mean_of(t, "time_to_first_token_seconds"),
        "request_metrics.time_per_output_token_seconds": per_token,
        "request_metrics.input_tokens": t.total("prompt_tokens_total"),
        "request_metrics.output_tokens": t.total("generation_tokens_total"),
        "cache_metrics.cache_hit_rate": hit_rate(t),
        "cache_metrics.cache_memory_usage_bytes": cache_bytes(t),
        "cache_metrics.radix_cache_size": t.grouped("kv_evictable_tokens"),
        "cache_metrics.prefix_cache_hit_total": cached_tokens(t),
        "system_metrics.num_requests_running": t.grouped("num_running_reqs"),
        "system_metrics.num_requests_waiting": t.grouped("num_queue_reqs"),
        "system_metrics.batch_size_current": t.grouped("num_running_reqs"),
        "system_metrics.throughput_tokens_per_second": t.grouped("gen_throughput"),
    }


# ------------------------------------------------------------- native fields


def renamed(t: Truth, *names: str) -> float | None:
    return next((t.grouped(name) for name in names if t.every(name)), None)


def by_throughput(t: Truth, name: str) -> float | None:
    """Mean over data-parallel groups weighted by what each generates; None where none speculates."""

    def by_rank(metric: str) -> dict[str, float]:
        rows: dict[str, list[float]] = defaultdict(list)
        for s in t.of_groups(metric):
            rows[s["labels"].get("dp_rank", "")].append(number(s["value"]))
        return {rank: math.fsum(values) / len(values) for rank, values in rows.items()}

    lengths, speeds = by_rank("spec_accept_length"), t.split(t.of_groups("gen_throughput"), "dp_rank")
    values = {rank: value for rank, value in by_rank(name).items() if lengths.get(rank, 1.0) > 0}
    weight = math.fsum(speeds.get(rank, 0.0) for rank in values)
    if not values:
        return None
    if not weight:
        return math.fsum(values.values()) / len(values)
    return math.fsum(value * speeds.get(rank, 0.0) for rank, value in values.items()) / weight


def transfer(t: Truth, name: str, factor: float) -> float | None:
    samples = t.of_groups(name)
    if t.types.get(name) == "histogram":
        histogram = t.histogram(samples)
        value = histogram.mean if histogram else None
    else:
        value = t.average(name)
    return None if value is None else value * factor


def page_size(t: Truth) -> float | None:
    sizes = [number(s["value"]) for s in t.every("page_size")]
    return max(sizes or [float(s["labels"]["page_size"]) for s in t.every("cache_config_info")], default=None)


def status_classes(t: Truth) -> dict[str, float] | None:
    classes: dict[str, float] = defaultdict(float)
    for s in t.every("http_responses_total"):
        classes[s["labels"]["status_code"][0] + "xx"] += number(s["value"])
    return dict(classes) or None


def usage(t: Truth) -> float | None:
    exact = divide(t.grouped("num_used_tokens"), t.grouped("max_total_num_tokens"))
    return exact if exact is not None else t.average("token_usage")


def native_fields(t: Truth) -> dict[str, Any]:
    """Every field of the native groups; a distribution as a dict; None where the page has no source."""

    def distribution(samples: list[Sample]) -> dict[str, float | None] | None:
        histogram = t.histogram(samples)
        return histogram.fields() if histogram else None

    waiting = {
        "waiting": t.grouped("num_queue_reqs"),
        "grammar": t.grouped("num_grammar_queue_reqs"),
        "prefill_bootstrap": renamed(
            t, "num_prefill_bootstrap_queue_reqs", "num_prefill_prealloc_queue_reqs"
        ),
        "prefill_inflight": renamed(t, "num_prefill_inflight_queue_reqs", "num_prefill_infight_queue_reqs"),
        "decode_prealloc": t.grouped("num_decode_prealloc_queue_reqs"),
        "decode_transfer": t.grouped("num_decode_transfer_queue_reqs"),
    }
    slots = t.grouped("lora_pool_slots_used"), t.grouped("lora_pool_slots_total")
    allocated = t.total("kv_cache_memory_usage_gb", lambda x: "priority" not in x)
    sources = t.split(t.every("cached_tokens_total"), "cache_source")
    sources.pop("", None)
    return {
        "latency.time_to_first_token": distribution(t.every("time_to_first_token_seconds")),
        "latency.inter_token": distribution(t.every("inter_token_latency_seconds")),
        "latency.end_to_end": distribution(t.every("e2e_request_latency_seconds")),
        "latency.queue_time": distribution(t.of_groups("queue_time_seconds")),
        "tokens.prompt_total": t.total("prompt_tokens_total"),
        "tokens.generation_total": t.total("generation_tokens_total"),
        "tokens.cached_total": cached_tokens(t),
        "tokens.cached_by_source": sources or None,
        "tokens.realtime_total": t.split(t.of_groups("realtime_tokens_total"), "mode") or None,
        "requests.finished_total": t.total("num_requests_total"),
        "requests.aborted_total": t.total("num_aborted_requests_total"),
        "requests.http_responses": status_classes(t),
        "requests.retracted_total": renamed(t, "num_retracted_requests_total", "total_retracted_reqs"),
        "kv_cache.usage_ratio": usage(t),
        "kv_cache.used_tokens": t.grouped("num_used_tokens"),
        "kv_cache.available_tokens": t.grouped("kv_available_tokens"),
        "kv_cache.evictable_tokens": t.grouped("kv_evictable_tokens"),
        "kv_cache.capacity_tokens": t.grouped("max_total_num_tokens"),
        "kv_cache.allocated_bytes": None if allocated is None else allocated * GIB,
        "kv_cache.page_size": page_size(t),
        "queues.running": t.grouped("num_running_reqs"),
        "queues.paused": t.grouped("num_paused_reqs"),
        **{f"queues.{name}": value for name, value in waiting.items()},
        "queues.backlog": sum_of_present(*waiting.values()),
        "speculative.accept_length": by_throughput(t, "spec_accept_length"),
        "speculative.accept_rate": by_throughput(t, "spec_accept_rate"),
        "speculative.verify_calls_total": t.total("spec_verify_calls_total"),
        "lora.slots_used": slots[0],
        "lora.slots_total": slots[1],
        "lora.utilization": divide(*slots)
        if divide(*slots) is not None
        else t.average("lora_pool_utilization"),
        "disaggregation.bootstrap_failed_total": t.grouped("num_bootstrap_failed_reqs_total"),
        "disaggregation.transfer_failed_total": t.grouped("num_transfer_failed_reqs_total"),
        "disaggregation.transfer_latency_seconds": transfer(t, "kv_transfer_latency_ms", 0.001),
        "disaggregation.transfer_speed_bytes_per_second": transfer(t, "kv_transfer_speed_gb_s", GIB),
        "offload.host_used_tokens": t.grouped("hicache_host_used_tokens"),
        "offload.host_total_tokens": t.grouped("hicache_host_total_tokens"),
        "offload.evicted_tokens_total": t.grouped("evicted_tokens_total"),
        "offload.load_back_tokens_total": t.grouped("load_back_tokens_total"),
    }


def rank_rows(t: Truth) -> list[dict[str, float | None]]:
    """The load of each data-parallel group, by number."""

    def of(name: str, rank: str) -> float | None:
        return t.grouped(name, lambda labels: labels.get("dp_rank") == rank)

    names = {s["labels"].get("dp_rank") for s in t.every("num_running_reqs")} - {None}
    rows: list[dict[str, float | None]] = []
    for rank in sorted(names, key=int):
        exact = divide(of("num_used_tokens", rank), of("max_total_num_tokens", rank))
        rows.append(
            {
                "dp_rank": int(rank),
                "running": of("num_running_reqs", rank),
                "waiting": of("num_queue_reqs", rank),
                "used_tokens": of("num_used_tokens", rank),
                "usage_ratio": exact if exact is not None else of("token_usage", rank),
                "gen_throughput": of("gen_throughput", rank),
            }
        )
    return rows
