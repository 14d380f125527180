"""The catalogue: its tables hold together, and each rule does to a page what it says."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from typing import Any

import pytest

from sglang_collect import SGLangMetricsSnapshot, groups
from sglang_collect.catalog import (
    Reading,
    Rule,
    View,
    compile_plan,
    release_key,
    sglang,
    sglang_fields,
    sglang_rules,
)

ALL = 'model_name="m",engine_type="unified"'


def read(page: str, **options: Any) -> SGLangMetricsSnapshot:
    return SGLangMetricsSnapshot.from_text(page, instance_id="sglang-001", **options)


def running(page: str) -> int:
    return read(page).system_metrics.num_requests_running


# ---------------------------------------------------------------------- tables


def test_a_metric_stands_in_the_table_once_under_any_of_its_names() -> None:
    names = [name for metric in sglang.METRICS for name in metric.names]
    assert len(names) == len(set(names))


def test_every_metric_is_explained() -> None:
    for metric in sglang.METRICS:
        assert metric.help[-1] in ".?", metric.name
        assert metric.unit, metric.name
        assert metric.since.startswith("v0.") or metric.since == "main", metric.name
        assert set(metric.types) <= {"gauge", "counter", "histogram", "summary"}, metric.name
        assert metric.rule in sglang_rules.RULES, metric.name
        assert metric.labels in sglang_rules.LABEL_SETS, metric.name
        assert len(set(metric.all_labels)) == len(metric.own) + len(metric.labels.names), metric.name


def test_the_forms_of_a_metric_follow_each_other() -> None:
    for metric in sglang.METRICS:
        bounds = [(metric.since, metric.until), *((form.since, form.until) for form in metric.was)]
        for since, until in bounds:
            assert not until or release_key(since) <= release_key(until), metric.name
        for (since, _), (_, until) in itertools.pairwise(bounds):
            assert release_key(until) < release_key(since), metric.name
        for form in metric.was:
            assert (form.name, form.type) != (metric.name, metric.type)


def test_a_counter_ends_in_total_and_nothing_else_tells_a_type() -> None:
    assert all(name.endswith("_total") for name in names_of("counter"))
    assert {name for name in names_of("gauge") if name.endswith("_total")} == {"lora_pool_slots_total"}


def names_of(kind: str) -> list[str]:
    return [metric.name for metric in sglang.METRICS if metric.type == kind]


def test_every_field_is_made_of_metrics_of_the_table_and_the_plan_reads_no_other() -> None:
    rows = {metric.name for metric in sglang.METRICS}
    read = {metric for field in sglang_fields.FIELDS for metric in field.metrics}
    assert read <= rows
    assert {metric.name for metric in sglang.READ} == read


def test_what_a_field_is_made_of_is_emitted() -> None:
    assert all(metric.emitted for metric in sglang.READ)


def test_a_field_with_a_formula_tells_it_in_words_and_when_it_is_absent() -> None:
    for field in sglang_fields.FIELDS:
        assert bool(field.how) == (field.read is not None or field.by != ""), field.name
        assert field.absent, field.name


def test_the_tables_and_the_models_have_the_same_fields() -> None:
    all_groups = groups.PLAN_GROUPS | groups.NATIVE_GROUPS
    of_models = {f"{name}.{field}" for name, group in all_groups.items() for field in group.model_fields}
    of_table = [field.name for field in sglang_fields.FIELDS]
    assert len(of_table) == len(set(of_table))
    assert set(of_table) == of_models


def test_a_field_without_a_formula_is_one_metric_read_in_one_way() -> None:
    types = {metric.name: metric.types for metric in sglang.METRICS}
    for field in sglang_fields.FIELDS:
        if field.read is None:
            (metric,) = field.metrics
            assert len({kind in ("histogram", "summary") for kind in types[metric]}) == 1, field.name


def test_importing_the_catalogue_compiles_nothing() -> None:
    code = "from sglang_collect.catalog import sglang; print(sglang._compile.cache_info().currsize)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"0\n"


def test_threads_that_ask_at_once_get_one_plan() -> None:
    sglang._compile.cache_clear()
    together = threading.Barrier(8)
    plans = []

    def ask() -> None:
        together.wait()
        plans.append(sglang.plan())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(plans) == 8
    assert len({id(plan) for plan in plans}) == 1


def test_a_rule_reads_a_view_by_its_own_conditions() -> None:
    metric = next(metric for metric in sglang.METRICS if metric.name == "http_responses_total")
    gets = View("gets", metric.name, Rule("", "GET alone.", where=(("method", "is", ("GET",)),)))
    plan = compile_plan(("sglang:",), (metric,), views=(gets,), own=Rule("", "Anything."))
    reading = Reading(
        plan.fold(
            'sglang:http_responses_total{method="GET"} 2\nsglang:http_responses_total{method="POST"} 3\n'
        )
    )
    assert (reading.number("http_responses_total"), reading.number("gets")) == (5, 2)


def test_releases_are_in_order() -> None:
    order = [
        "v0.3.5.post1",
        "v0.4.9",
        "v0.4.10",
        "v0.5.3rc1",
        "v0.5.3",
        "v0.5.3.post1",
        "v0.5.10rc0",
        "v0.5.10",
    ]
    assert sorted(sorted(order), key=release_key) == order
    for wrong in ("0.5.3", "v0.5", "main", "v0.5.3.dev1"):
        with pytest.raises(ValueError, match="not a release"):
            release_key(wrong)


# ---------------------------------------------------------------- the prefixes


@pytest.mark.parametrize("prefix", ["sglang:", "sglang_", "ray_sglang_"])
def test_each_spelling_of_the_prefix_is_read(prefix: str) -> None:
    snapshot = read(f'{prefix}num_running_reqs{{model_name="m"}} 3\n')
    assert snapshot.system_metrics.num_requests_running == 3
    assert [metric.name for metric in snapshot.raw_metrics] == [f"{prefix}num_running_reqs"]


def test_other_families_of_the_page_are_left_alone() -> None:
    snapshot = read("num_running_reqs 3\nvllm_num_running_reqs 4\n")
    assert "system_metrics.num_requests_running" in snapshot.absent
    assert snapshot.raw_metrics == []


def test_the_gateways_page_adds_its_workers() -> None:
    page = "".join(
        f'sglang_num_running_reqs{{model_name="m",tp_rank="0",worker_addr="http_//gpu{i}_30000"}} {i}\n'
        for i in (1, 2)
    )
    assert running(page) == 3


# ------------------------------------------------------------ ranks and groups


def test_ranks_of_one_group_repeat_one_number() -> None:
    page = "".join(
        f'sglang:num_running_reqs{{{ALL},tp_rank="{tp}",pp_rank="0",moe_ep_rank="{tp}"}} 7\n'
        for tp in range(8)
    )
    assert running(page) == 7


def test_the_lowest_rank_stands_and_ranks_are_compared_as_numbers() -> None:
    page = "".join(
        f'sglang:num_running_reqs{{{ALL},tp_rank="{tp}",pp_rank="{pp}"}} {100 * pp + tp}\n'
        for pp, tp in [(1, 0), (0, 10), (0, 9), (1, 1)]
    )
    assert running(page) == 9


def test_data_parallel_groups_add_up_whichever_way_their_ranks_are_numbered() -> None:
    plain = "".join(
        f'sglang:num_running_reqs{{{ALL},dp_rank="{dp}",tp_rank="{tp}"}} {dp + 1}\n'
        for dp in range(2)
        for tp in range(2)
    )
    attention = "".join(
        f'sglang:num_running_reqs{{{ALL},dp_rank="{dp}",tp_rank="{dp}",moe_ep_rank="{dp}"}} {dp + 1}\n'
        for dp in range(4)
    )
    assert running(plain) == 3
    assert running(attention) == 10


def test_of_a_gauge_with_priorities_the_total_counts() -> None:
    page = "".join(
        f'sglang:num_running_reqs{{{ALL},priority="{p}"}} {n}\n' for p, n in [("", 9), ("0", 5), ("None", 4)]
    )
    assert running(page) == 9


def test_of_a_counter_with_priorities_each_is_a_share() -> None:
    page = "".join(
        f'sglang:prompt_tokens_total{{{ALL},priority="{p}"}} {n}\n' for p, n in [("", 9), ("0", 5), ("1", 4)]
    )
    assert read(page).request_metrics.input_tokens == 18


def test_streaming_and_whole_answers_are_added_and_their_means_weighted() -> None:
    page = "# TYPE sglang:e2e_request_latency_seconds histogram\n" + "".join(
        f'sglang:e2e_request_latency_seconds_bucket{{{ALL},is_streaming="{s}",le="1.0"}} {n}\n'
        f'sglang:e2e_request_latency_seconds_bucket{{{ALL},is_streaming="{s}",le="+Inf"}} {n}\n'
        f'sglang:e2e_request_latency_seconds_count{{{ALL},is_streaming="{s}"}} {n}\n'
        f'sglang:e2e_request_latency_seconds_sum{{{ALL},is_streaming="{s}"}} {total}\n'
        for s, n, total in [("true", 3, 1.5), ("false", 1, 0.9)]
    )
    snapshot = read(page)
    assert snapshot.request_metrics.request_duration_seconds == pytest.approx(0.6)
    assert snapshot.request_metrics.success_total == 4
    assert snapshot.latency.end_to_end is not None
    assert snapshot.latency.end_to_end.count == 4


def test_ratios_are_means_over_groups_not_sums() -> None:
    page = "".join(f'sglang:token_usage{{{ALL},dp_rank="{dp}"}} {u}\n' for dp, u in [(0, 0.9), (1, 0.5)])
    assert read(page).kv_cache.usage_ratio == pytest.approx(0.7)


def test_usage_is_used_over_capacity_where_both_are_there() -> None:
    page = "".join(
        f'sglang:num_used_tokens{{{ALL},dp_rank="{dp}"}} {used}\n'
        f'sglang:max_total_num_tokens{{{ALL},dp_rank="{dp}"}} {capacity}\n'
        f'sglang:token_usage{{{ALL},dp_rank="{dp}"}} 0.5\n'
        for dp, used, capacity in [(0, 100, 100), (1, 0, 300)]
    )
    snapshot = read(page)
    assert snapshot.kv_cache.usage_ratio == 0.25
    assert [rank.usage_ratio for rank in snapshot.ranks] == [1.0, 0.0]


def test_memory_is_that_of_every_rank() -> None:
    page = "".join(
        f'sglang:kv_cache_memory_usage_gb{{{ALL},tp_rank="{tp}"}} 2.0\n'
        f'sglang:kv_cache_memory_usage_gb{{{ALL},tp_rank="{tp}",priority="1"}} 2.0\n'
        f'sglang:max_total_num_tokens{{{ALL},tp_rank="{tp}"}} 1000\n'
        for tp in range(4)
    )
    page += f'sglang:kv_used_tokens{{{ALL},tp_rank="0"}} 100\n'
    page += f'sglang:kv_evictable_tokens{{{ALL},tp_rank="0"}} 150\n'
    snapshot = read(page)
    assert snapshot.kv_cache.allocated_bytes == 8 * 2**30
    assert snapshot.cache_metrics.cache_memory_usage_bytes == 2 * 2**30


def test_ranks_are_listed_by_number() -> None:
    page = "".join(f'sglang:num_running_reqs{{{ALL},dp_rank="{dp}"}} {dp}\n' for dp in (10, 2, 0))
    assert [(rank.dp_rank, rank.running, rank.waiting) for rank in read(page).ranks] == [
        (0, 0, None),
        (2, 2, None),
        (10, 10, None),
    ]


def test_labels_that_are_no_number_are_no_ranks() -> None:
    page = "".join(
        f'sglang:num_running_reqs{{{ALL},dp_rank="{dp}"}} 1\n' for dp in ("1", "one", "\u0663", "9" * 5000)
    )
    assert [rank.dp_rank for rank in read(page).ranks] == [1]


# --------------------------------------------------------- sources and their eras


def test_the_plans_own_metric_wins_over_the_real_one() -> None:
    page = f"sglang:num_requests_running 4\nsglang:num_running_reqs{{{ALL}}} 9\n"
    assert running(page) == 4
    assert read(page).queues.running == 9


def test_a_name_of_the_plan_with_a_model_is_not_the_plans() -> None:
    page = f"sglang:num_requests_running{{{ALL}}} 4\n"
    assert "system_metrics.num_requests_running" in read(page).absent


def test_a_histogram_of_that_name_is_not_the_plans_number() -> None:
    page = (
        "# TYPE sglang:time_to_first_token_seconds histogram\n"
        'sglang:time_to_first_token_seconds_bucket{le="+Inf"} 2\n'
        "sglang:time_to_first_token_seconds_count 2\n"
        "sglang:time_to_first_token_seconds_sum 3.0\n"
    )
    assert read(page).request_metrics.time_to_first_token_seconds == 1.5


def test_failures_are_server_errors_of_paths_that_generate_and_lost_transfers() -> None:
    answers = [
        ("/generate", "500", 1),
        ("/v1/chat/completions", "503", 2),
        ("/v1/completions", "400", 100),
        ("/v1/responses", "200", 100),
        ("/metrics", "500", 100),
        ("/metrics/", "500", 100),
        ("/health_generate", "503", 100),
        ("/v1/models", "500", 100),
        ("/v1/loads", "500", 100),
        ("/get_model_info", "500", 100),
    ]
    page = "".join(
        f'sglang:http_responses_total{{endpoint="{e}",method="POST",status_code="{c}"}} {n}\n'
        for e, c, n in answers
    )
    lost = "".join(
        f'sglang:num_{what}_failed_reqs_total{{{ALL},tp_rank="{tp}"}} 4\n'
        for what in ("bootstrap", "transfer")
        for tp in range(2)
    )
    assert read(page).request_metrics.failure_total == 3
    assert read(page + lost).request_metrics.failure_total == 11
    assert "request_metrics.failure_total" in read(lost).absent


def test_no_failure_is_a_measured_zero() -> None:
    page = 'sglang:http_responses_total{endpoint="/generate",method="POST",status_code="200"} 5\n'
    assert "request_metrics.failure_total" not in read(page).absent
    assert read(page).requests.http_responses == {"2xx": 5}


def test_a_failure_count_that_is_nan_is_absent() -> None:
    page = 'sglang:http_responses_total{endpoint="/generate",status_code="500"} NaN\n'
    assert "request_metrics.failure_total" in read(page).absent


def hits(**metrics: float) -> str:
    """Counters by mode; names in the form metric__mode."""
    lines = []
    for key, value in metrics.items():
        name, _, mode = key.partition("__")
        labels = f'{ALL},mode="{mode}"' if mode else ALL
        lines.append(f"sglang:{name}{{{labels}}} {value}\n")
    return "".join(lines)


def test_the_hit_rate_comes_from_the_first_counters_that_have_moved() -> None:
    effective = hits(
        prefill_effective_tokens_total__input=60,
        prefill_effective_tokens_total__device_hit=30,
        prefill_effective_tokens_total__host_hit=10,
    )
    untouched = hits(prefill_effective_tokens_total__input=0, prefill_effective_tokens_total__device_hit=0)
    live = hits(realtime_tokens_total__prefill_compute=70, realtime_tokens_total__prefill_cache=30)
    finished = hits(cached_tokens_total=20, prompt_tokens_total=100)
    gauge = hits(cache_hit_rate=0.99)
    rates = {
        0.4: effective + live + finished + gauge,
        0.3: untouched + live + finished + gauge,
        0.2: untouched + finished + gauge,
    }
    for rate, page in rates.items():
        assert read(page).cache_metrics.cache_hit_rate == pytest.approx(rate)


def test_without_a_hit_there_is_no_counter_and_the_rate_is_zero() -> None:
    snapshot = read(hits(prompt_tokens_total=100, cache_hit_rate=0.99))
    assert snapshot.cache_metrics.cache_hit_rate == 0.0
    assert snapshot.cache_metrics.prefix_cache_hit_total == 0
    assert snapshot.tokens.cached_total == 0
    assert not {name for name in snapshot.absent if name.startswith("cache_metrics.")} & {
        "cache_metrics.cache_hit_rate",
        "cache_metrics.prefix_cache_hit_total",
    }


def test_the_gauge_of_one_batch_is_never_the_hit_rate() -> None:
    assert "cache_metrics.cache_hit_rate" in read(hits(cache_hit_rate=0.99)).absent


def test_the_gauge_of_an_old_server_is_cumulative_and_is() -> None:
    page = 'sglang:cache_hit_rate{model_name="m"} 0.25\nsglang:prompt_tokens_total{model_name="m"} 10\n'
    snapshot = read(page)
    assert snapshot.cache_metrics.cache_hit_rate == 0.25
    assert "cache_metrics.prefix_cache_hit_total" in snapshot.absent


def test_the_load_report_has_no_hit_rate_to_trust() -> None:
    page = "".join(
        f'sglang_cache_hit_rate{{dp_rank="{dp}"}} 0.3\nsglang_num_running_reqs{{dp_rank="{dp}"}} 2\n'
        for dp in range(2)
    )
    snapshot = read(page)
    assert "cache_metrics.cache_hit_rate" in snapshot.absent
    assert snapshot.system_metrics.num_requests_running == 4


def test_queues_of_disaggregation_keep_their_place_under_old_names() -> None:
    old = ("num_prefill_prealloc_queue_reqs", "num_prefill_infight_queue_reqs")
    new = ("num_prefill_bootstrap_queue_reqs", "num_prefill_inflight_queue_reqs")
    for bootstrap, inflight in (old, new):
        lengths = {bootstrap: 2, inflight: 3, "num_queue_reqs": 1}
        page = "".join(f"sglang:{name}{{{ALL}}} {n}\n" for name, n in lengths.items())
        queues = read(page).queues
        assert (queues.prefill_bootstrap, queues.prefill_inflight, queues.backlog) == (2, 3, 6)


def test_retractions_are_a_counter_now_and_were_a_gauge() -> None:
    for name in ("num_retracted_requests_total", "total_retracted_reqs"):
        page = "".join(f'sglang:{name}{{{ALL},tp_rank="{tp}"}} 3\n' for tp in range(2))
        assert read(page).requests.retracted_total == 3


def test_transfer_metrics_are_read_as_gauge_and_as_histogram() -> None:
    gauge = (
        "# TYPE sglang:kv_transfer_latency_ms gauge\n"
        + "".join(
            f'sglang:kv_transfer_latency_ms{{{ALL},dp_rank="{dp}",tp_rank="{tp}"}} {30 + 20 * dp}\n'
            for dp in range(2)
            for tp in range(2)
        )
        + f"# TYPE sglang:kv_transfer_speed_gb_s gauge\nsglang:kv_transfer_speed_gb_s{{{ALL}}} 2\n"
    )
    histogram = "".join(
        f"# TYPE sglang:{name} histogram\n"
        f'sglang:{name}_bucket{{{ALL},le="+Inf"}} 2\n'
        f"sglang:{name}_count{{{ALL}}} 2\nsglang:{name}_sum{{{ALL}}} {total}\n"
        for name, total in [("kv_transfer_latency_ms", 80), ("kv_transfer_speed_gb_s", 4)]
    )
    for page in (gauge, histogram):
        group = read(page).disaggregation
        assert group.transfer_latency_seconds == pytest.approx(0.04)
        assert group.transfer_speed_bytes_per_second == 2 * 2**30


def test_the_accept_length_is_weighted_by_what_each_group_generates() -> None:
    page = "".join(
        f'sglang:spec_accept_length{{{ALL},dp_rank="{dp}"}} {length}\n'
        f'sglang:spec_accept_rate{{{ALL},dp_rank="{dp}"}} 0.5\n'
        f'sglang:gen_throughput{{{ALL},dp_rank="{dp}"}} {speed}\n'
        for dp, length, speed in [(0, 2.0, 300), (1, 4.0, 100), (2, 0.0, 0)]
    )
    group = read(page).speculative
    assert (group.accept_length, group.accept_rate) == (2.5, 0.5)


def test_an_idle_server_still_tells_its_accept_length() -> None:
    page = "".join(
        f'sglang:spec_accept_length{{{ALL},dp_rank="{dp}"}} {length}\n'
        f'sglang:gen_throughput{{{ALL},dp_rank="{dp}"}} 0\n'
        for dp, length in [(0, 2.0), (1, 4.0)]
    )
    assert read(page).speculative.accept_length == 3.0


def test_a_server_that_does_not_speculate_has_no_accept_length() -> None:
    page = f"sglang:spec_accept_length{{{ALL}}} 0.0\nsglang:spec_accept_rate{{{ALL}}} 0.0\n"
    assert read(page).speculative.accept_length is None
    assert read(page).speculative.accept_rate is None


def test_the_page_size_is_a_gauge_or_a_label() -> None:
    gauges = "".join(f'sglang:page_size{{{ALL},dp_rank="{dp}"}} 64\n' for dp in range(2))
    assert read(gauges).kv_cache.page_size == 64
    assert read('sglang:cache_config_info{page_size="16",num_pages="9"} 1\n').kv_cache.page_size == 16


def test_lora_use_is_slots_over_slots_or_the_gauge() -> None:
    slots = f"sglang:lora_pool_slots_used{{{ALL}}} 1\nsglang:lora_pool_slots_total{{{ALL}}} 4\n"
    gauge = f"sglang:lora_pool_utilization{{{ALL}}} 0.5\n"
    assert read(slots + gauge).lora.utilization == 0.25
    assert read(gauge).lora.utilization == 0.5


def test_a_counter_reads_alike_in_text_and_in_openmetrics() -> None:
    text = f"# TYPE sglang:prompt_tokens_total counter\nsglang:prompt_tokens_total{{{ALL}}} 1.4986231e+07\n"
    openmetrics = (
        f"# TYPE sglang:prompt_tokens counter\nsglang:prompt_tokens_total{{{ALL}}} 1.4986231e+07\n# EOF\n"
    )
    assert read(text).request_metrics.input_tokens == 14_986_231
    assert read(openmetrics, format="openmetrics").request_metrics.input_tokens == 14_986_231
    assert read(openmetrics, format="auto").request_metrics.input_tokens == 14_986_231


# ----------------------------------------------------------------------- notes


def test_a_release_that_shows_one_rank_says_so() -> None:
    page = f"sglang:num_running_reqs{{{ALL}}} 3\n"
    labelled = f'sglang:num_running_reqs{{{ALL},tp_rank="0"}} 3\n'
    oldest = 'sglang:num_running_reqs{model_name="m"} 3\n'
    assert [note.split(":")[0] for note in read(page).notes] == ["one rank shown"]
    assert read(labelled).notes == []
    assert read(oldest).notes == []


def test_a_hit_rate_that_is_of_one_batch_is_told() -> None:
    gauge = 'sglang:cache_hit_rate{model_name="m"} 0.25\n'
    gaps = 'sglang:inter_token_latency_seconds_count{model_name="m"} 3\n'
    typed = "# TYPE sglang:inter_token_latency_seconds histogram\n" + gaps + gaps.replace("count", "sum")
    of_a_batch, cumulative = read(gauge + typed), read(gauge)
    assert [note.split(":")[0] for note in of_a_batch.notes] == ["hit rate of one batch"]
    assert of_a_batch.cache_metrics.cache_hit_rate == cumulative.cache_metrics.cache_hit_rate == 0.25
    assert cumulative.notes == []


def test_merged_counters_of_several_ranks_are_told() -> None:
    evicted = 'sglang:evicted_tokens_total{cache_type="RadixCache"} 12\n'
    one = f'sglang:num_running_reqs{{{ALL},tp_rank="0"}} 3\n' + evicted
    two = f'sglang:num_running_reqs{{{ALL},tp_rank="1"}} 3\n' + one
    assert read(one).notes == []
    assert [note.split(":")[0] for note in read(two).notes] == ["ranks merged"]
    assert read(two).offload.evicted_tokens_total == 12


def test_ranks_of_the_radix_cache_repeat_each_other_where_they_are_labelled() -> None:
    page = "".join(
        f'sglang:{name}{{cache_type="RadixCache",tp_rank="{tp}",pp_rank="0",dp_rank="{dp}"}} {5 + dp}\n'
        for name in ("evicted_tokens_total", "load_back_tokens_total")
        for dp in range(2)
        for tp in range(4)
    )
    snapshot = read(page)
    assert (snapshot.offload.evicted_tokens_total, snapshot.offload.load_back_tokens_total) == (11, 11)
    assert snapshot.notes == []


def test_series_of_dead_processes_are_told_and_not_added() -> None:
    page = "".join(f'sglang:num_paused_reqs{{{ALL},tp_rank="0",pid="{pid}"}} 2\n' for pid in (100, 200))
    snapshot = read(page)
    assert [note.split(":")[0] for note in snapshot.notes] == ["dead processes"]
    assert snapshot.queues.paused == 2
    living = "".join(f'sglang:num_paused_reqs{{{ALL},tp_rank="{tp}",pid="{tp}"}} 2\n' for tp in range(2))
    assert read(living).notes == []


def test_several_models_on_a_page_are_told() -> None:
    page = "".join(f'sglang:num_running_reqs{{model_name="{m}",tp_rank="0"}} 2\n' for m in "ba")
    snapshot = read(page)
    assert snapshot.model_names == ["a", "b"]
    assert [note.split(":")[0] for note in snapshot.notes] == ["several models"]
    assert snapshot.system_metrics.num_requests_running == 4


def histogram(name: str, buckets: dict[str, float], labels: str = ALL) -> str:
    count = list(buckets.values())[-1]
    return (
        "".join(f'sglang:{name}_bucket{{{labels},le="{le}"}} {n}\n' for le, n in buckets.items())
        + f"sglang:{name}_count{{{labels}}} {count}\nsglang:{name}_sum{{{labels}}} {count}\n"
    )


def test_histograms_of_different_buckets_merge_on_the_shared_ones_and_say_so() -> None:
    page = (
        "# TYPE sglang:time_to_first_token_seconds histogram\n"
        + histogram("time_to_first_token_seconds", {"1": 2, "2": 2, "+Inf": 2}, ALL + ',x="a"')
        + histogram("time_to_first_token_seconds", {"2": 2, "4": 2, "+Inf": 2}, ALL + ',x="b"')
    )
    snapshot = read(page)
    assert [note.split(":")[0] for note in snapshot.notes] == ["buckets differ"]
    assert snapshot.latency.time_to_first_token is not None
    assert snapshot.latency.time_to_first_token.count == 4
    assert snapshot.latency.time_to_first_token.p50 == 1.0


def test_a_malformed_histogram_is_absent_with_its_reason_and_the_rest_stands() -> None:
    page = (
        "# TYPE sglang:e2e_request_latency_seconds histogram\n"
        + histogram("e2e_request_latency_seconds", {"1": 5, "2": 3, "+Inf": 5})
        + f'sglang:num_running_reqs{{{ALL},tp_rank="0"}} 3\n'
    )
    snapshot = read(page)
    assert "request_metrics.request_duration_seconds" in snapshot.absent
    assert snapshot.latency.end_to_end is None
    assert snapshot.system_metrics.num_requests_running == 3
    assert len(snapshot.notes) == 1
    assert snapshot.notes[0].startswith("not read: e2e_request_latency_seconds: ")


def test_nan_is_absent_not_zero() -> None:
    snapshot = read(f'sglang:gen_throughput{{{ALL},tp_rank="0"}} NaN\nsglang:num_requests_running NaN\n')
    assert {"system_metrics.throughput_tokens_per_second", "system_metrics.num_requests_running"} <= set(
        snapshot.absent
    )
    assert snapshot.system_metrics.throughput_tokens_per_second == 0.0
