"""The models: the plan's shapes, what is made late, JSON, copies and pickles."""

from __future__ import annotations

import copy
import json
import logging
import math
import pickle
import subprocess
import sys
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from pydantic import PrivateAttr, ValidationError
from servers import answer, serving

import sglang_collect
from sglang_collect import (
    Distribution,
    ExpositionError,
    Histogram,
    LimitExceeded,
    Limits,
    MetricsCollectionRequest,
    MetricsCollectionResponse,
    PrometheusMetric,
    SGLangCacheMetrics,
    SGLangMetricsSnapshot,
    SGLangRequestMetrics,
    SGLangSystemMetrics,
    _numbers,
    models,
    scrape,
)

PAGES = Path(__file__).parent / "data"

PLAN_SAMPLE = """
sglang:request_success_total 300
sglang:request_failure_total 2
sglang:request_duration_seconds 1.8
sglang:time_to_first_token_seconds 0.020
sglang:time_per_output_token_seconds 0.008
sglang:request_input_tokens 256
sglang:request_output_tokens 512
sglang:cache_hit_rate 0.85
sglang:cache_memory_usage_bytes 4294967296
sglang:radix_cache_size 1024
sglang:prefix_cache_hit_total 255
sglang:num_requests_running 4
sglang:num_requests_waiting 1
sglang:batch_size_current 16
sglang:throughput_tokens_per_second 1250.5
"""

SERVER_PAGE = """\
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{model_name="m",engine_type="unified",tp_rank="0"} 3.0
# TYPE sglang:fwd_occupancy gauge
sglang:fwd_occupancy{model_name="m",engine_type="unified",tp_rank="0"} NaN
# TYPE sglang:inter_token_latency_seconds histogram
sglang:inter_token_latency_seconds_sum{model_name="m"} 0.5
sglang:inter_token_latency_seconds_bucket{model_name="m",le="0.1"} 8.0
sglang:inter_token_latency_seconds_bucket{model_name="m",le="+Inf"} 10.0
sglang:inter_token_latency_seconds_count{model_name="m"} 10.0
other_total 7 1700000000000
sglang:untold 7 1700000000500
"""


def read(page: str | bytes = SERVER_PAGE, **options: Any) -> SGLangMetricsSnapshot:
    return SGLangMetricsSnapshot.from_text(page, instance_id="sglang-001", **options)


def by_hand(**more: Any) -> SGLangMetricsSnapshot:
    return SGLangMetricsSnapshot(
        instance_id="sglang-001",
        endpoint="http://localhost:30000/metrics",
        request_metrics=SGLangRequestMetrics(),
        cache_metrics=SGLangCacheMetrics(),
        system_metrics=SGLangSystemMetrics(),
        **more,
    )


# ------------------------------------------------------------------- the package


def test_importing_the_package_loads_neither_pydantic_nor_fastapi() -> None:
    code = (
        "import sglang_collect, sys; sglang_collect.__version__; dir(sglang_collect);"
        "print([name for name in ('pydantic', 'fastapi', 'sglang_collect._core') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"


def test_every_public_name_is_there_and_listed_once() -> None:
    names = sglang_collect.__all__
    assert len(names) == len(set(names))
    assert set(names) - {"__version__"} == set(sglang_collect._HOME)
    assert set(names) <= set(dir(sglang_collect))
    for module, homes in sglang_collect._HOMES.items():
        if module != "collector":
            for name in homes:
                assert getattr(sglang_collect, name).__name__ == name


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Fleets'"):
        sglang_collect.Fleets  # noqa: B018


# ---------------------------------------------------------------- the plan's shapes


def test_the_plans_sample_gives_the_plans_values() -> None:
    snapshot = read(PLAN_SAMPLE, endpoint="http://localhost:30000/metrics")
    assert snapshot.request_metrics == SGLangRequestMetrics(
        success_total=300,
        failure_total=2,
        request_duration_seconds=1.8,
        time_to_first_token_seconds=0.020,
        time_per_output_token_seconds=0.008,
        input_tokens=256,
        output_tokens=512,
    )
    assert snapshot.cache_metrics == SGLangCacheMetrics(
        cache_hit_rate=0.85,
        cache_memory_usage_bytes=4294967296,
        radix_cache_size=1024,
        prefix_cache_hit_total=255,
    )
    assert snapshot.system_metrics == SGLangSystemMetrics(
        num_requests_running=4,
        num_requests_waiting=1,
        batch_size_current=16,
        throughput_tokens_per_second=1250.5,
    )
    assert snapshot.absent == []
    assert len(snapshot.raw_metrics) == 15
    assert type(snapshot.request_metrics.success_total) is int


def test_a_snapshot_made_by_hand_has_the_plans_defaults() -> None:
    snapshot = by_hand()
    dumped = snapshot.model_dump()
    for group in ("request_metrics", "cache_metrics", "system_metrics"):
        assert set(dumped[group].values()) == {0}
    assert snapshot.raw_metrics == []
    assert snapshot.ranks == []
    assert snapshot.latency.end_to_end is None
    assert abs(datetime.now(timezone.utc) - snapshot.timestamp) < timedelta(minutes=1)


def test_an_empty_page_is_a_snapshot_of_nothing() -> None:
    snapshot = read("")
    assert len(snapshot.absent) == 15
    assert snapshot == by_hand(absent=snapshot.absent, timestamp=snapshot.timestamp).model_copy(
        update={"endpoint": ""}
    )


def test_a_naive_time_is_utc_and_any_zone_becomes_utc() -> None:
    naive = datetime(2026, 1, 1, 12)  # noqa: DTZ001 - what callers of the plan hand over
    east = datetime(2026, 1, 1, 14, tzinfo=timezone(timedelta(hours=2)))
    noon = datetime(2026, 1, 1, 12, tzinfo=timezone.utc)
    for given in (naive, east):
        snapshot = read(timestamp=given)
        assert snapshot.timestamp == noon
        assert snapshot.timestamp.utcoffset() == timedelta(0)
    assert by_hand(timestamp=naive).timestamp == noon


# ------------------------------------------------------------------------ reading


def test_text_and_every_kind_of_bytes_read_alike() -> None:
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    kinds = (
        SERVER_PAGE,
        SERVER_PAGE.encode(),
        bytearray(SERVER_PAGE.encode()),
        memoryview(SERVER_PAGE.encode()),
    )
    first, *others = [read(kind, timestamp=moment) for kind in kinds]
    assert all(other == first for other in others)


def test_a_buffer_may_change_once_it_was_read() -> None:
    buffer = bytearray(SERVER_PAGE.encode())
    snapshot = read(buffer)
    buffer[:] = b"x" * len(buffer)
    assert snapshot.raw_metrics[0].value == 3.0


def test_a_malformed_page_names_line_and_column() -> None:
    with pytest.raises(ExpositionError) as raised:
        read("sglang:num_running_reqs 3\nsglang:num_queue_reqs three\n")
    assert (raised.value.line, raised.value.column) == (2, 23)


def test_a_page_past_the_limits_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        read("x" * (16 * 2**20 + 1))


def test_a_moment_is_a_datetime() -> None:
    wrong: Any = "now"
    with pytest.raises(TypeError, match="timestamp must be a datetime, not str"):
        SGLangMetricsSnapshot.from_text("", instance_id="x", timestamp=wrong)


def test_a_scraped_snapshot_keeps_its_limits_its_format_and_its_time() -> None:
    page = "# TYPE sglang:prompt_tokens counter\n" + "".join(
        f'sglang:prompt_tokens_total{{model_name="m",shard="{n}"}} 1\n' for n in range(40)
    )
    wide = "wide" * 400 + " 1\n"
    reply = answer(
        page + wide + "# EOF\n",
        content_type="application/openmetrics-text; version=1.0.0; charset=utf-8",
    )
    before = datetime.now(timezone.utc)
    with serving(reply) as server:
        snapshot = scrape(server.url, instance_id="sglang-001", limits=Limits(name_length=2000))
    assert before - timedelta(seconds=1) <= snapshot.timestamp <= datetime.now(timezone.utc)
    assert (snapshot.instance_id, snapshot.endpoint) == ("sglang-001", server.url)
    assert snapshot.request_metrics.input_tokens == 40
    assert {metric.type for metric in snapshot.raw_metrics} == {"counter"}
    assert len(snapshot.raw_metrics) == 40


# ------------------------------------------------------------------- whole numbers


def test_integer_fields_take_the_nearest_integer() -> None:
    snapshot = read("sglang:num_requests_running 2.6\nsglang:request_input_tokens 1.4986231e+07\n")
    assert snapshot.system_metrics.num_requests_running == 3
    assert snapshot.request_metrics.input_tokens == 14_986_231


@pytest.mark.parametrize("value", ["+Inf", "-Inf", "1e19", "-1e19", "9.223372036854775808e18"])
def test_what_no_integer_holds_is_absent_and_logged_once(
    value: str, caplog: pytest.LogCaptureFixture
) -> None:
    _numbers._say_out_of_range.cache_clear()
    with caplog.at_level(logging.WARNING, "sglang_collect"):
        for _ in range(3):
            snapshot = read(f"sglang:request_input_tokens {value}\n")
            assert snapshot.request_metrics.input_tokens == 0
            assert "request_metrics.input_tokens" in snapshot.absent
    assert [record.getMessage().split()[0] for record in caplog.records] == ["request_metrics.input_tokens"]


def test_an_infinite_rate_is_absent_too() -> None:
    snapshot = read("sglang:throughput_tokens_per_second +Inf\n")
    assert "system_metrics.throughput_tokens_per_second" in snapshot.absent
    assert snapshot.system_metrics.throughput_tokens_per_second == 0.0


def test_a_group_of_the_plan_is_what_validation_makes_of_its_numbers() -> None:
    snapshot = read("sglang:num_running_reqs 3\nsglang:gen_throughput 2.5\n")
    made = snapshot.system_metrics
    numbers = {"num_requests_running": 3, "batch_size_current": 3, "throughput_tokens_per_second": 2.5}
    wanted = type(made).model_validate(numbers)
    assert made == wanted
    assert made.model_fields_set == wanted.model_fields_set == set(numbers)
    assert repr(made) == repr(wanted)
    assert pickle.loads(pickle.dumps(made)) == made.model_copy(deep=True) == wanted
    made.num_requests_waiting = 7
    assert read("sglang:num_running_reqs 3\n").system_metrics.num_requests_waiting == 0


def test_native_numbers_that_do_not_fit_are_none() -> None:
    labels = '{model_name="m"}'
    snapshot = read(
        f"sglang:num_running_reqs{labels} +Inf\n"
        f"sglang:token_usage{labels} +Inf\n"
        'sglang:realtime_tokens_total{mode="decode"} +Inf\n'
        'sglang:realtime_tokens_total{mode="prefill_cache"} 4\n'
    )
    assert snapshot.queues.running is None
    assert snapshot.kv_cache.usage_ratio is None
    assert snapshot.tokens.realtime_total == {"prefill_cache": 4}


# --------------------------------------------------------------------- raw metrics


def test_raw_metrics_are_the_samples_with_a_prefix_in_page_order() -> None:
    told = [(metric.name, metric.type, metric.labels.get("le")) for metric in read().raw_metrics]
    assert told == [
        ("sglang:num_running_reqs", "gauge", None),
        ("sglang:fwd_occupancy", "gauge", None),
        ("sglang:inter_token_latency_seconds_sum", "histogram", None),
        ("sglang:inter_token_latency_seconds_bucket", "histogram", "0.1"),
        ("sglang:inter_token_latency_seconds_bucket", "histogram", "+Inf"),
        ("sglang:inter_token_latency_seconds_count", "histogram", None),
        ("sglang:untold", "unknown", None),
    ]


def test_a_sample_has_its_own_time_or_the_snapshots() -> None:
    snapshot = read()
    assert snapshot.raw_metrics[0].timestamp == snapshot.timestamp
    assert snapshot.raw_metrics[-1].timestamp == datetime(2023, 11, 14, 22, 13, 20, 500_000, timezone.utc)
    far = read("sglang:x 1 9223372036854775807\n")
    assert far.raw_metrics[0].timestamp == far.timestamp


def test_nan_in_a_raw_metric_is_nan_in_python_and_null_in_json() -> None:
    snapshot = read()
    assert math.isnan(snapshot.raw_metrics[1].value)
    assert math.isnan(snapshot.model_dump()["raw_metrics"][1]["value"])
    assert json.loads(snapshot.model_dump_json())["raw_metrics"][1]["value"] is None
    assert snapshot.model_dump(mode="json")["raw_metrics"][1]["value"] is None
    metric = PrometheusMetric(name="x", type="gauge", value=math.inf)
    assert math.isnan(PrometheusMetric.model_validate_json(metric.model_dump_json()).value)


def test_raw_metrics_are_equal_where_nan_is() -> None:
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    one, two = (
        PrometheusMetric(name="x", type="gauge", value=float("nan"), timestamp=moment) for _ in range(2)
    )
    assert one == two
    assert one != PrometheusMetric(name="x", type="gauge", value=0.0, timestamp=moment)
    assert one != PrometheusMetric(name="y", type="gauge", value=float("nan"), timestamp=moment)
    assert one != "x"


# ---------------------------------------------------------------- what is made late


def test_nothing_beyond_the_plans_fields_is_made_until_it_is_read() -> None:
    snapshot = read()
    assert not set(models._MADE_LATE) & set(vars(snapshot))
    latency = snapshot.latency
    assert snapshot.latency is latency
    assert set(models._MADE_LATE) & set(vars(snapshot)) == {"latency"}


@pytest.mark.parametrize("name", sorted(path.name for path in PAGES.glob("*.prom")))
def test_json_is_the_same_whether_models_are_made_or_not(name: str) -> None:
    page = (PAGES / name).read_bytes()
    moment = datetime(2026, 1, 1, 12, 0, 0, 250_000, tzinfo=timezone.utc)
    untouched, whole, bare = (
        SGLangMetricsSnapshot.from_text(page, instance_id='a"\n', endpoint="http://x/", timestamp=moment)
        for _ in range(3)
    )
    assert whole.to_json() == whole.model_dump_json().encode()
    assert len(whole.raw_metrics) > 10
    bare.raw_metrics = []
    assert untouched.to_json(raw=False) == bare.model_dump_json().encode() == whole.to_json(raw=False)
    assert set(vars(untouched)) == {"timestamp", "instance_id", "endpoint", "loads_timestamp"}


def test_json_of_samples_has_null_for_what_is_no_number_and_their_own_times() -> None:
    page = 'sglang:a{x="\\"y"} NaN\nsglang:b +Inf\nsglang:c 1 1500000000123\n'
    page += "sglang:d 2 9000000000000000\nother 1\n"
    moment = datetime(2026, 1, 1, tzinfo=timezone.utc)
    text, dumped = (read(page, timestamp=moment).to_json(), read(page, timestamp=moment).model_dump_json())
    assert text == dumped.encode()
    raw = json.loads(text)["raw_metrics"]
    assert [sample["value"] for sample in raw] == [None, None, 1.0, 2.0]
    assert raw[0]["labels"] == {"x": '"y'}
    assert [sample["timestamp"][:4] for sample in raw] == ["2026", "2026", "2017", "2026"]


def test_json_has_what_was_put_into_a_snapshot() -> None:
    snapshot = read()
    snapshot.queues = snapshot.queues.model_copy(update={"running": 77})
    assert json.loads(snapshot.to_json(raw=False))["queues"]["running"] == 77


def test_json_tells_several_models_apart() -> None:
    page = "".join(f'sglang:num_running_reqs{{model_name="{name}"}} {n}\n' for n, name in enumerate("abc"))
    snapshot = SGLangMetricsSnapshot.from_text(page, instance_id="x", timestamp=datetime.now(timezone.utc))
    models = json.loads(snapshot.to_json(raw=False))["models"]
    assert {name: model["queues"]["running"] for name, model in models.items()} == {"a": 0, "b": 1, "c": 2}


def test_a_snapshot_shows_the_numbers_of_the_plan() -> None:
    assert "input_tokens=" in repr(read())


def test_a_snapshot_shows_its_fields_in_one_order_whatever_was_read_before() -> None:
    snapshot = read()
    _ = snapshot.ranks, snapshot.notes
    text = repr(snapshot)
    order = ["timestamp=", "instance_id=", "request_metrics=", "absent=", "notes=", "ranks="]
    assert sorted(order, key=text.index) == order


def test_the_page_is_let_go_once_its_samples_are_read() -> None:
    snapshot = read()
    twin = copy.copy(snapshot)
    assert len(snapshot.raw_metrics) == 7
    assert snapshot._source is not None
    assert snapshot._source.page is None
    assert len(twin.raw_metrics) == 7
    assert snapshot.since(read(timestamp=snapshot.timestamp - timedelta(seconds=1))).seconds == 1.0


def test_a_deep_copy_of_what_was_scraped_reads_the_same_page() -> None:
    with serving(answer(SERVER_PAGE)) as server:
        snapshot = scrape(server.url)
    twin = copy.deepcopy(snapshot)
    assert len(snapshot.raw_metrics) == 7
    assert twin == snapshot


def test_a_class_of_its_own_has_the_same_fields_made_late() -> None:
    class Named(SGLangMetricsSnapshot):
        name: str = "n"
        _mine: int = PrivateAttr(default=1)

    snapshot = Named.from_text(SERVER_PAGE, instance_id="x")
    assert (snapshot.name, snapshot._mine, snapshot.queues.running) == ("n", 1, 3)
    assert snapshot.system_metrics.num_requests_running == 3
    assert Named.model_fields.keys() - SGLangMetricsSnapshot.model_fields == {"name"}
    assert Named.model_validate_json(snapshot.model_dump_json()) == snapshot
    with pytest.raises(ValidationError, match="request_metrics"):
        Named.model_validate({"instance_id": "x", "endpoint": ""})


def test_the_class_has_none_of_the_fields_as_attributes() -> None:
    assert not any(hasattr(SGLangMetricsSnapshot, name) for name in SGLangMetricsSnapshot.model_fields)


def test_threads_that_read_at_once_see_the_same() -> None:
    for _ in range(20):
        snapshot, together = read(), threading.Barrier(4)
        seen: list[int] = []

        def look(snapshot: Any = snapshot, together: Any = together, seen: Any = seen) -> None:
            together.wait()
            seen.append(len(snapshot.raw_metrics))

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [7, 7, 7, 7]


def test_a_dump_has_everything_in_one_order_whatever_was_read_before() -> None:
    untouched, touched = read(), read()
    _ = touched.raw_metrics, touched.latency
    assert list(untouched.model_dump()) == list(touched.model_dump())
    assert list(untouched.model_dump()) == list(SGLangMetricsSnapshot.model_fields)
    assert list(json.loads(untouched.model_dump_json())) == list(SGLangMetricsSnapshot.model_fields)
    assert set(dict(read())) == set(SGLangMetricsSnapshot.model_fields)
    assert untouched.model_dump(exclude={"raw_metrics"}).keys() == untouched.model_dump().keys() - {
        "raw_metrics"
    }
    assert len(read().model_dump(exclude_unset=True)["raw_metrics"]) == 7


def test_a_name_that_is_no_text_is_refused() -> None:
    name: Any = 1
    with pytest.raises(TypeError, match=r"^instance_id must be a str, not int$"):
        SGLangMetricsSnapshot.from_text(b"", instance_id=name)


def test_a_field_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        read().nothing  # noqa: B018


def test_a_late_field_can_be_set() -> None:
    snapshot = read()
    snapshot.raw_metrics = []
    assert snapshot.raw_metrics == []


# ----------------------------------------------------------- copies, pickles, JSON


@pytest.mark.parametrize(
    "again",
    [
        copy.copy,
        copy.deepcopy,
        lambda snapshot: pickle.loads(pickle.dumps(snapshot)),
        lambda snapshot: SGLangMetricsSnapshot.model_validate_json(snapshot.model_dump_json()),
        lambda snapshot: SGLangMetricsSnapshot.model_validate(snapshot.model_dump()),
        lambda snapshot: snapshot.model_copy(deep=True),
    ],
    ids=["copy", "deepcopy", "pickle", "json", "dict", "model_copy"],
)
def test_a_snapshot_equals_its_twin(again: Any) -> None:
    snapshot = read()
    twin = again(snapshot)
    assert twin == snapshot
    assert twin.queues.running == 3
    assert twin.latency.inter_token == snapshot.latency.inter_token
    twin.system_metrics = SGLangSystemMetrics(num_requests_running=99)
    assert twin != snapshot
    assert snapshot != "a snapshot"


def test_a_copy_can_still_be_compared_with_an_earlier_snapshot_and_a_pickle_cannot() -> None:
    earlier = read(timestamp=datetime(2026, 1, 1, tzinfo=timezone.utc))
    assert copy.deepcopy(read()).since(earlier).restarted is False
    with pytest.raises(ValueError, match="came out of JSON or a pickle"):
        pickle.loads(pickle.dumps(read())).since(earlier)


def test_json_has_no_number_that_json_cannot_say() -> None:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    json.loads(read().model_dump_json(), parse_constant=refuse)
    json.dumps(read().model_dump(mode="json"), allow_nan=False)


@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_the_schema_shows_every_field_and_asks_for_the_plans(mode: Any) -> None:
    schema = SGLangMetricsSnapshot.model_json_schema(mode=mode)
    assert list(schema["properties"]) == list(SGLangMetricsSnapshot.model_fields)
    assert schema["required"] == [
        "instance_id",
        "endpoint",
        "request_metrics",
        "cache_metrics",
        "system_metrics",
    ]
    metric = schema["$defs"]["SGLangRequestMetrics"]["properties"]["success_total"]
    assert (metric["description"], metric["default"]) == ("Total successful requests", 0)


# ------------------------------------------------------------------- distributions


def test_a_distribution_is_a_histogram_in_a_few_numbers() -> None:
    histogram = Histogram([1.0, 2.0, math.inf], [50.0, 100.0, 100.0], sum=120.0)
    told = Distribution.of(histogram).model_dump(exclude={"resolution"})
    assert told == {"count": 100, "sum": 120.0, "mean": 1.2, "p50": 1.0, "p90": 1.8, "p95": 1.9, "p99": 1.98}


def test_a_quantile_tells_the_bucket_it_is_a_guess_in() -> None:
    told = Distribution.of(Histogram([0.1, 0.2, math.inf], [60.0, 92.0, 100.0], sum=10.0))
    assert told.p50 == pytest.approx(0.0833, abs=1e-4)
    assert told.resolution == {"p50": (0.0, 0.1), "p90": (0.1, 0.2), "p95": (0.2, None), "p99": (0.2, None)}
    assert told.p99 == 0.2
    assert Distribution.model_validate_json(told.model_dump_json()) == told


def test_negative_buckets_have_no_lower_bound() -> None:
    told = Distribution.of(Histogram([-1.0, math.inf], [9.0, 9.0], sum=-18.0))
    assert told.resolution["p50"] == (None, -1.0)


def test_an_empty_distribution_has_no_mean_and_no_quantile() -> None:
    empty = Distribution.of(Histogram([1.0, math.inf], [0.0, 0.0], sum=0.0))
    assert (empty.count, empty.sum, empty.mean, empty.p50, empty.p99) == (0, 0.0, None, None, None)
    assert empty.resolution == {}


def test_a_histogram_without_buckets_has_a_mean_alone() -> None:
    told = Distribution.of(Histogram([math.inf], [4.0], sum=10.0))
    assert (told.count, told.mean, told.p50, told.resolution) == (4, 2.5, None, {})


def test_a_histogram_without_end_is_no_distribution() -> None:
    page = (
        "# TYPE sglang:queue_time_seconds histogram\n"
        'sglang:queue_time_seconds_bucket{le="+Inf"} +Inf\n'
        "sglang:queue_time_seconds_count +Inf\n"
        "sglang:queue_time_seconds_sum 1\n"
    )
    assert read(page).latency.queue_time is None


# ---------------------------------------------------------------------- several models


def two_models() -> str:
    """A page of the model gateway: two engines of one model, one of another, and what names none."""
    engines = (("a", "h1", 3, 100), ("a", "h2", 4, 200), ("b/c", "h3", 5, 400))
    lines = ["# TYPE sglang_time_to_first_token_seconds histogram\n"]
    for model, address, running, tokens in engines:
        labels = f'model_name="{model}",worker_addr="{address}"'
        rank = f'{labels},engine_type="unified",tp_rank="0",dp_rank="0"'
        lines += [
            f"sglang_num_running_reqs{{{rank}}} {running}\n",
            f"sglang_prompt_tokens_total{{{labels}}} {tokens}\n",
            f'sglang_time_to_first_token_seconds_bucket{{{labels},le="+Inf"}} {running}\n',
            f"sglang_time_to_first_token_seconds_count{{{labels}}} {running}\n",
            f"sglang_time_to_first_token_seconds_sum{{{labels}}} {tokens}\n",
            f'sglang_http_responses_total{{status_code="200",worker_addr="{address}"}} 1\n',
        ]
    return "".join(lines)


def test_each_model_of_a_page_has_groups_of_its_own_and_the_snapshot_has_all() -> None:
    snapshot = read(two_models())
    assert list(snapshot.models) == ["a", "b/c"] == snapshot.model_names
    a, b = snapshot.models.values()
    assert (a.queues.running, b.queues.running, snapshot.queues.running) == (7, 5, 12)
    assert (a.tokens.prompt_total, b.tokens.prompt_total, snapshot.tokens.prompt_total) == (300, 400, 700)
    assert a.latency.time_to_first_token is not None
    assert (a.latency.time_to_first_token.count, a.latency.time_to_first_token.sum) == (7, 300.0)
    assert [rank.running for rank in b.ranks] == [5]
    assert a.tokens.cached_total == 0


def test_what_names_no_model_is_in_the_snapshot_alone() -> None:
    snapshot = read(two_models())
    assert snapshot.requests.http_responses == {"2xx": 3}
    assert [model.requests.http_responses for model in snapshot.models.values()] == [None, None]


def test_the_one_model_of_a_server_has_the_snapshots_groups() -> None:
    snapshot = read(SERVER_PAGE + 'sglang:http_responses_total{status_code="200"} 3\n')
    assert list(snapshot.models) == ["m"]
    model = snapshot.models["m"]
    assert model.requests.http_responses == {"2xx": 3}
    for name in sglang_collect.SGLangModelMetrics.model_fields:
        assert getattr(model, name) == getattr(snapshot, name)


def test_a_page_that_names_no_model_has_none() -> None:
    assert read(PLAN_SAMPLE).models == {}


def test_a_page_of_too_many_models_says_so_and_is_read_once() -> None:
    page = "".join(f'sglang:num_running_reqs{{model_name="m{n}",tp_rank="0"}} 1\n' for n in range(101))
    snapshot = read(page)
    assert snapshot.models == {}
    assert snapshot.queues.running == 101
    assert snapshot.notes == ["several models: the numbers are of all 101 together, too many to tell apart"]
    assert len(read(page[: page.index('m100"')].rpartition("sglang")[0]).models) == 100


def test_models_are_told_whatever_was_read_before_them() -> None:
    first, second = read(two_models()), read(two_models())
    assert len(first.raw_metrics) == 18
    assert first.models == second.models
    assert SGLangMetricsSnapshot.model_validate_json(first.model_dump_json()).models == second.models


def test_models_of_a_scraped_page_are_told_too() -> None:
    with serving(answer(two_models())) as server:
        snapshot = scrape(server.url, instance_id="gateway")
    assert [model.queues.running for model in snapshot.models.values()] == [7, 5]


# ------------------------------------------------------------------------ messages


def test_a_request_has_the_plans_shape() -> None:
    request = MetricsCollectionRequest(instance_id="sglang-001", endpoint="http://localhost:30000/metrics")
    assert request.timeout == 10
    assert MetricsCollectionRequest(instance_id="sglang-001").endpoint is None


@pytest.mark.parametrize(
    "wrong", [{"instance_id": ""}, {"timeout": 0}, {"timeout": 3601}, {"timeout": "soon"}, {"endpoint": 7}]
)
def test_a_request_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        MetricsCollectionRequest.model_validate({"instance_id": "sglang-001", **wrong})


def test_a_response_carries_a_snapshot_or_an_error() -> None:
    good = MetricsCollectionResponse(success=True, instance_id="sglang-001", metrics=read())
    told = json.loads(good.model_dump_json())
    assert (told["success"], told["error"], told["metrics"]["queues"]["running"]) == (True, None, 3)
    assert MetricsCollectionResponse.model_validate_json(good.model_dump_json()) == good
    bad = MetricsCollectionResponse(success=False, instance_id="sglang-001", error="Connection failed")
    assert bad.metrics is None
    assert bad.timestamp.utcoffset() == timedelta(0)
