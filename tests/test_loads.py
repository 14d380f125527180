"""``/v1/loads`` as a second source: what of an answer a snapshot takes."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import sglang_collect as sc
from sglang_collect.loads import loads_url, overlay, parse_loads

START = datetime(2026, 1, 1, tzinfo=timezone.utc)

# ------------------------------------------------------------------- answers

OLD: dict[str, Any] = {
    "timestamp": "2026-01-01T00:00:00+00:00",
    "version": "0.5.8",
    "dp_rank_count": 2,
    "loads": [
        {
            "dp_rank": rank,
            "num_running_reqs": 16 - rank,
            "num_waiting_reqs": 6 + rank,
            "num_total_reqs": 22,
            "num_used_tokens": 1000 * (rank + 1),
            "max_total_num_tokens": 4000,
            "token_usage": 0.99,
            "gen_throughput": 2460.5,
            "cache_hit_rate": 0.363,
            "utilization": 0.0,
            "max_running_requests": 2048,
            "memory": {"weight_gb": 15.08, "kv_cache_gb": 56.0, "graph_gb": 1.82, "token_capacity": 4000},
            "disaggregation": {
                "mode": "null",
                "prefill_prealloc_queue_reqs": 0,
                "prefill_inflight_queue_reqs": 0,
                "decode_prealloc_queue_reqs": 0,
                "decode_transfer_queue_reqs": 0,
                "decode_retracted_queue_reqs": 0,
            },
            "queues": {"waiting": 6 + rank, "grammar": 2, "paused": 3, "retracted": 4},
        }
        for rank in (0, 1)
    ],
    "aggregate": {"total_running_reqs": 31, "avg_throughput": 2460.5},
}

NEW: dict[str, Any] = {
    "timestamp": "2026-01-01T00:00:10.500000+00:00",
    "version": "0.5.18",
    "accelerator": None,
    "num_accelerators": 1,
    "loads": [
        {
            "timestamp": START.timestamp() + 8,
            "dp_rank": 0,
            "num_running_reqs": 3,
            "num_waiting_reqs": 9,
            "num_waiting_uncached_tokens": 100,
            "num_used_tokens": 600,
            "num_total_tokens": 700,
            "num_active_tokens": 700,
            "max_total_num_tokens": 1000,
            "token_usage": 0.6,
            "gen_throughput": 55.5,
            "total_prefill_uncached_tokens": 5,
            "decode_moments": None,
            "disaggregation": {
                "mode": "decode",
                "prefill_bootstrap_queue_reqs": 0,
                "prefill_inflight_queue_reqs": 0,
                "decode_prealloc_queue_reqs": 2,
                "decode_transfer_queue_reqs": 1,
                "decode_retracted_queue_reqs": 1,
            },
            "queues": {"waiting": 5, "grammar": 1, "paused": 0, "retracted": 0},
        }
    ],
}

ENGINE = 'model_name="m",engine_type="unified",tp_rank="0"'
PAGE = "".join(
    f'sglang:{name}{{{ENGINE},dp_rank="{rank}"}} {value}\n'
    for rank in (0, 1, 2)
    for name, value in {
        "num_running_reqs": 1,
        "num_queue_reqs": 2,
        "num_prefill_bootstrap_queue_reqs": 0,
        "num_used_tokens": 50,
        "kv_available_tokens": 40,
        "max_total_num_tokens": 100,
        "gen_throughput": 7.5,
    }.items()
)


def encoded(told: dict[str, Any], **changes: Any) -> bytes:
    """An answer; ``changes`` go into its first load."""
    first, *others = told["loads"]
    return json.dumps({**told, "loads": [{**first, **changes}, *others]}).encode()


def over_page(body: bytes, page: str = PAGE) -> sc.SGLangMetricsSnapshot:
    snapshot = sc.SGLangMetricsSnapshot.from_text(page, instance_id="sglang-001", timestamp=START)
    overlay(snapshot, parse_loads(body), asked=START + timedelta(seconds=1))
    return snapshot


def test_the_url_is_that_of_the_same_server() -> None:
    assert loads_url("http://h:30000/metrics") == "http://h:30000/v1/loads"
    assert loads_url("https://[::1]/metrics/?a=b#c") == "https://[::1]/v1/loads"


def test_an_answer_of_v0_5_8_gives_queues_cache_and_ranks() -> None:
    snapshot = over_page(encoded(OLD))
    queues, cache = snapshot.queues, snapshot.kv_cache
    assert (queues.running, queues.waiting, queues.grammar, queues.paused) == (31, 13, 4, 6)
    assert queues.backlog == 13 + 4
    assert (cache.used_tokens, cache.capacity_tokens, cache.usage_ratio) == (3000, 8000, 3000 / 8000)
    assert [tuple(rank.model_dump().values()) for rank in snapshot.ranks] == [
        (0, 16, 6, 1000, 0.25, 2460.5),
        (1, 15, 7, 2000, 0.5, 2460.5),
    ]


def test_an_answer_of_v0_5_18_tells_the_queues_of_disaggregation_apart() -> None:
    queues = over_page(encoded(NEW)).queues
    assert (queues.waiting, queues.decode_prealloc, queues.decode_transfer) == (5, 2, 1)
    assert queues.prefill_bootstrap == 0  # the page's
    assert queues.backlog == 9 + 1  # what was put back waits too


def test_of_a_prefill_node_what_is_being_sent_is_in_the_backlog_too() -> None:
    partners = {"mode": "prefill", "prefill_prealloc_queue_reqs": 4, "prefill_inflight_queue_reqs": 3}
    queues = over_page(encoded(NEW, disaggregation=partners)).queues
    assert (queues.waiting, queues.prefill_bootstrap, queues.prefill_inflight) == (5, 4, 3)
    assert queues.backlog == 9 + 1 + 3


def test_both_ages_are_kept() -> None:
    old, new = over_page(encoded(OLD)), over_page(encoded(NEW))
    assert old.timestamp == new.timestamp == START
    assert old.loads_timestamp == START + timedelta(seconds=1)
    assert new.loads_timestamp == START + timedelta(seconds=1 - 2.5)  # that old by the server's clock
    assert sc.SGLangMetricsSnapshot.model_validate_json(new.model_dump_json()) == new


def test_a_load_from_the_future_is_as_old_as_its_answer() -> None:
    late = encoded(NEW, timestamp=START.timestamp() + 99)
    assert over_page(late).loads_timestamp == START + timedelta(seconds=1)


def test_what_the_answer_is_silent_about_is_the_pages() -> None:
    little = json.dumps({"loads": [{"dp_rank": 0, "num_running_reqs": 8}, {"dp_rank": 1}]}).encode()
    snapshot = over_page(little)
    assert (snapshot.queues.running, snapshot.queues.waiting, snapshot.queues.backlog) == (3, 6, 6)
    assert (snapshot.kv_cache.used_tokens, snapshot.kv_cache.available_tokens) == (150, 120)
    assert [tuple(rank.model_dump().values()) for rank in snapshot.ranks] == [
        (0, 8, 2, 50, 0.5, 7.5),
        (1, 1, 2, 50, 0.5, 7.5),
    ]


def test_without_token_counts_the_use_is_the_mean_of_the_ratios() -> None:
    loads = [{"dp_rank": rank, "token_usage": usage} for rank, usage in ((0, 0.2), (1, 0.6))]
    snapshot = over_page(json.dumps({"loads": loads}).encode(), page="")
    assert snapshot.kv_cache.usage_ratio == pytest.approx(0.4)
    assert [rank.usage_ratio for rank in snapshot.ranks] == [0.2, 0.6]


def test_a_server_that_names_no_rank_has_none() -> None:
    snapshot = over_page(encoded(NEW, dp_rank=None), page="")
    assert (snapshot.queues.running, snapshot.ranks) == (3, [])


def test_the_plans_fields_and_all_else_stay_the_pages() -> None:
    snapshot = over_page(encoded(OLD))
    alone = sc.SGLangMetricsSnapshot.from_text(PAGE, instance_id="sglang-001", timestamp=START)
    of_loads = {"queues", "kv_cache", "ranks", "loads_timestamp"}
    assert snapshot.model_dump(exclude=of_loads) == alone.model_dump(exclude=of_loads)
    assert alone.loads_timestamp is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Expecting value"),
        (b'{"loads": [', "Expecting value"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff", "decode"),
        (b"[]", "answer is a list, expected an object"),
        (b"{}", "answer has no loads"),
        (b'{"loads": {}}', r"answer.loads is an object, expected a list"),
        (b'{"loads": [3]}', r"loads\[0\] is a number, expected an object"),
        (
            encoded(OLD, num_running_reqs="16"),
            r"loads\[0\].num_running_reqs is a string, expected an integer",
        ),
        (encoded(OLD, num_running_reqs=True), "num_running_reqs is a boolean, expected an integer"),
        (encoded(OLD, num_running_reqs=1.5), "num_running_reqs is a number, expected an integer"),
        (encoded(OLD, num_running_reqs=-1), "num_running_reqs is out of range"),
        (encoded(OLD, num_used_tokens=2**63), "num_used_tokens is out of range"),
        (encoded(OLD, token_usage="0.5"), "token_usage is a string, expected a number"),
        (encoded(OLD, queues=[]), r"loads\[0\].queues is a list, expected an object"),
        (encoded(OLD, queues={"grammar": {}}), r"loads\[0\].queues.grammar is an object"),
        (encoded(OLD, dp_rank=1), "several loads of one dp_rank"),
        (encoded({**NEW, "timestamp": "yesterday"}), "answer.timestamp is no time"),
    ],
)
def test_an_answer_of_another_shape_is_an_error_that_says_where(body: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_loads(body)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400])
def test_a_number_that_is_none_is_absent(value: float) -> None:
    assert parse_loads(encoded(NEW, gen_throughput=value)).ranks[0].gen_throughput is None


def test_a_recorded_answer_is_read(data: Path) -> None:
    told = json.loads((data / "sglang" / "v0.5.8-v1-loads-dp2.loads.json").read_text())["v1_loads_json"]
    snapshot = over_page(json.dumps(told).encode(), page="")
    assert snapshot.queues.running == told["aggregate"]["total_running_reqs"]
    assert snapshot.queues.waiting == told["aggregate"]["total_waiting_reqs"]
    assert [rank.used_tokens for rank in snapshot.ranks] == [
        load["num_used_tokens"] for load in told["loads"]
    ]
