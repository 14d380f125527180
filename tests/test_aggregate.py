"""Several pages as one: of the nodes of a server, and of the servers of a fleet."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fleets import PAGE, counting, dead, finished, reason, targets
from servers import Server, answer, eventually, serving, silence

import sglang_collect as sc
from sglang_collect.aggregate import aggregate
from sglang_collect.catalog import sglang
from sglang_collect.groups import NATIVE_GROUPS, PLAN_GROUPS
from sglang_collect.models import reading_of

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


# ------------------------------------------------------------- several nodes


def node(tp_ranks: range, *, dp_rank: int = 0, running: int = 5, more: str = "") -> str:
    """What a node shows of the ranks that run on it, each of which repeats its group's number."""
    labels = f'model_name="m",engine_type="unified",pp_rank="0",dp_rank="{dp_rank}"'
    lines = [f'sglang:num_running_reqs{{{labels},tp_rank="{tp}"}} {running}\n' for tp in tp_ranks]
    return "# TYPE sglang:num_running_reqs gauge\n" + "".join(lines) + more


@contextmanager
def scraped_nodes(*pages: bytes, **options: Any) -> Iterator[sc.ScrapeResult]:
    with ExitStack() as stack:
        urls = [stack.enter_context(serving(page)).url for page in pages]
        fleet = stack.enter_context(sc.Fleet([sc.Target("big", urls)], **options))
        (result,) = fleet.scrape()
        yield result


def test_groups_on_several_nodes_add_up() -> None:
    pages = [answer(node(range(2), dp_rank=0)), answer(node(range(2), dp_rank=1, running=7))]
    with scraped_nodes(*pages) as result:
        snapshot = result.snapshot
        assert snapshot is not None
        assert snapshot.queues.running == 12
        assert [(rank.dp_rank, rank.running) for rank in snapshot.ranks] == [(0, 5), (1, 7)]
        assert len(snapshot.raw_metrics) == result.samples == 4
        assert result.body_bytes == sum(len(page.partition(b"\r\n\r\n")[2]) for page in pages)
        assert snapshot.endpoint == result.target.endpoints[0]


def test_several_nodes_are_written_as_they_are_dumped() -> None:
    pages = [answer(node(range(4 * n, 4 * n + 4))) for n in range(2)]
    with scraped_nodes(*pages) as result:
        assert result.snapshot is not None
        text = result.snapshot.to_json()
        assert text == result.snapshot.model_dump_json().encode()


def test_a_group_that_is_spread_over_nodes_is_counted_once() -> None:
    with scraped_nodes(answer(node(range(4))), answer(node(range(4, 8)))) as result:
        assert result.snapshot is not None
        assert result.snapshot.queues.running == 5
        assert result.samples == 8


def test_counters_and_histograms_of_nodes_add_up() -> None:
    more = (
        "# TYPE sglang:num_requests_total counter\n"
        'sglang:num_requests_total{model_name="m"} 3\n'
        "# TYPE sglang:e2e_request_latency_seconds histogram\n"
        'sglang:e2e_request_latency_seconds_bucket{model_name="m",le="1"} 2\n'
        'sglang:e2e_request_latency_seconds_bucket{model_name="m",le="+Inf"} 3\n'
        'sglang:e2e_request_latency_seconds_sum{model_name="m"} 4\n'
        'sglang:e2e_request_latency_seconds_count{model_name="m"} 3\n'
    )
    pages = [answer(node(range(1), dp_rank=n, more=more)) for n in range(3)]
    with scraped_nodes(*pages) as result:
        assert result.snapshot is not None
        assert result.snapshot.requests.finished_total == 9
        end_to_end = result.snapshot.latency.end_to_end
        assert end_to_end is not None
        assert (end_to_end.count, end_to_end.sum) == (9, 12)
        assert not [note for note in result.snapshot.notes if "not read" in note]
        fold = reading_of(result.snapshot).fold
        assert len(fold) == len(list(fold)) == len(sglang.plan().names)


def latency(*buckets: tuple[str, int]) -> str:
    name = "sglang:e2e_request_latency_seconds"
    lines = "".join(f'{name}_bucket{{le="{le}"}} {count}\n' for le, count in buckets)
    return f"# TYPE {name} histogram\n{lines}{name}_sum 4\n{name}_count 3\n"


def test_a_histogram_that_is_broken_on_one_node_is_absent() -> None:
    pages = [answer(latency(("+Inf", 3))), answer(latency(("1", 3)))]
    with scraped_nodes(*pages) as result:
        assert result.snapshot is not None
        assert result.snapshot.latency.end_to_end is None
        assert any("not read: e2e_request_latency_seconds" in note for note in result.snapshot.notes)


def test_histograms_of_nodes_with_other_buckets_are_added_on_those_they_share() -> None:
    pages = [
        answer(latency(("1", 1), ("2", 2), ("+Inf", 3))),
        answer(latency(("2", 1), ("5", 2), ("+Inf", 3))),
    ]
    with scraped_nodes(*pages) as result:
        assert result.snapshot is not None
        whole = reading_of(result.snapshot).histogram("e2e_request_latency_seconds")
        assert whole is not None
        assert (whole.bounds, whole.counts, whole.sum) == ((2, math.inf), (3, 6), 8)
        assert any("buckets differ" in note for note in result.snapshot.notes)


def test_histograms_of_ranks_that_are_spread_over_nodes_are_counted_once() -> None:
    def page(tp_rank: int) -> bytes:
        return answer(
            latency(("+Inf", 3))
            .replace("e2e_request_latency", "queue_time")
            .replace("{le", f'{{tp_rank="{tp_rank}",le')
            .replace("_sum ", f'_sum{{tp_rank="{tp_rank}"}} ')
            .replace("_count ", f'_count{{tp_rank="{tp_rank}"}} ')
        )

    with scraped_nodes(page(0), page(1)) as result:
        assert result.snapshot is not None
        assert result.snapshot.latency.queue_time is not None
        assert result.snapshot.latency.queue_time.count == 3


def test_openmetrics_pages_of_nodes_are_one_page() -> None:
    pages = [answer(node(range(2), dp_rank=n) + "# EOF\n", content_type=OPENMETRICS) for n in range(2)]
    with scraped_nodes(*pages) as result:
        assert result.snapshot is not None
        assert result.snapshot.queues.running == 10
        assert len(result.snapshot.raw_metrics) == 4


def test_nodes_that_answer_in_two_formats_are_refused() -> None:
    text = answer(node(range(1)))
    other = answer(node(range(1), dp_rank=1) + "# EOF\n", content_type=OPENMETRICS)
    with scraped_nodes(text, other) as result:
        assert isinstance(result.error, sc.NotExposition)
        assert "page is openmetrics; expected text" in str(result.error)


def test_a_server_with_a_node_down_is_down_and_the_error_names_the_node() -> None:
    with serving(PAGE) as server, sc.Fleet([sc.Target("big", [server.url, dead()])]) as fleet:
        (result,) = fleet.scrape()
        assert reason(result) == "connect_failed"
        assert isinstance(result.error, sc.ScrapeError)
        assert result.error.endpoint == result.target.endpoints[1]
        assert fleet.failures == {"big": {"connect_failed": 1}}


def test_nodes_have_room_for_a_page_of_full_size_each() -> None:
    with scraped_nodes(*[answer(node(range(10)))] * 3, limits=sc.Limits(samples=10)) as result:
        assert result.up
        assert result.samples == 30


def test_windows_of_a_server_of_nodes_are_of_all_of_them() -> None:
    with (
        serving(counting(finished)) as one,
        serving(counting(lambda n: finished(2 * n))) as two,
        sc.Fleet([sc.Target("big", [one.url, two.url])]) as fleet,
    ):
        fleet.scrape()
        (result,) = fleet.scrape()
    assert result.window is not None
    assert result.window.requests_per_second == pytest.approx(3 / result.window.seconds)


# ------------------------------------------------------------------ aggregate


def of(*pages: str) -> Any:
    """The aggregate of servers with these pages."""
    return aggregate([sglang.plan().fold(page.encode()) for page in pages], [])


def test_running_adds_up_and_stale_targets_are_left_out_and_counted(server: Server, silent: Server) -> None:
    with (
        serving(answer("sglang:num_requests_running 100\n")) as big,
        sc.Fleet([*targets(server, 4), sc.Target("big", big.url, options={"timeout": 1})]) as fleet,
    ):
        empty = fleet.aggregate()
        assert (empty.targets, empty.fresh, empty.stale) == (5, 0, ["0", "1", "2", "3", "big"])
        assert empty.system_metrics.num_requests_running == 0
        assert "system_metrics.num_requests_running" in empty.absent
        fleet.scrape()
        whole = fleet.aggregate()
        assert (whole.targets, whole.fresh, whole.stale) == (5, 5, [])
        assert whole.system_metrics.num_requests_running == 106
        assert "system_metrics.num_requests_running" not in whole.absent
        big.reply = silence
        fleet.scrape()
        rest = fleet.aggregate()
        assert (rest.targets, rest.fresh, rest.stale) == (5, 4, ["big"])
        assert rest.system_metrics.num_requests_running == 6
        assert eventually(lambda: fleet.aggregate(max_age=0.1).fresh == 0)
        assert fleet.aggregate(max_age=60).fresh == 4


def hits(cached: int, prompt: int, engine: str = 'engine_type="unified"') -> str:
    labels = f'model_name="m",{engine}'
    return (
        f"# TYPE sglang:prompt_tokens_total counter\nsglang:prompt_tokens_total{{{labels}}} {prompt}\n"
        f"# TYPE sglang:cached_tokens_total counter\nsglang:cached_tokens_total{{{labels}}} {cached}\n"
    )


def test_a_hit_rate_is_weighted_by_prompt_tokens() -> None:
    assert of(hits(90, 100), hits(0, 900)).cache_metrics.cache_hit_rate == pytest.approx(0.09)


def test_servers_of_different_releases_are_each_read_by_their_own_sources() -> None:
    live = (
        "# TYPE sglang:realtime_tokens_total counter\n"
        'sglang:realtime_tokens_total{model_name="m",mode="prefill_cache"} 50\n'
        'sglang:realtime_tokens_total{model_name="m",mode="prefill_compute"} 50\n'
        "# TYPE sglang:num_requests_total counter\n"
        'sglang:num_requests_total{model_name="m"} 7\n'
    )
    old = (
        "# TYPE sglang:e2e_request_latency_seconds histogram\n"
        'sglang:e2e_request_latency_seconds_bucket{model_name="m",le="+Inf"} 5\n'
        'sglang:e2e_request_latency_seconds_sum{model_name="m"} 10\n'
        'sglang:e2e_request_latency_seconds_count{model_name="m"} 5\n'
    )
    whole = of(live, old + hits(0, 300))
    assert whole.cache_metrics.cache_hit_rate == pytest.approx(50 / 400)
    assert whole.request_metrics.success_total == 12
    assert whole.request_metrics.request_duration_seconds == 2.0


def test_a_plain_mean_stands_where_no_weight_is_known() -> None:
    pages = [
        f"sglang:cache_hit_rate {rate}\nsglang:num_requests_running {rate * 10}\n" for rate in (0.2, 0.8)
    ]
    whole = of(*pages)
    assert whole.cache_metrics.cache_hit_rate == pytest.approx(0.5)
    assert whole.system_metrics.num_requests_running == 10


def test_what_one_server_tells_as_infinite_is_that_of_the_others() -> None:
    def page(value: str) -> str:
        names = ("num_running_reqs", "cache_hit_rate", "prompt_tokens_total")
        return "".join(f'sglang:{name}{{model_name="m"}} {value}\n' for name in names)

    whole = of(page("+Inf"), page("0.5"), page("NaN"))
    assert (whole.system_metrics.num_requests_running, whole.request_metrics.input_tokens) == (0, 0)
    assert whole.cache_metrics.cache_hit_rate == 0.5
    assert not {"cache_metrics.cache_hit_rate", "system_metrics.num_requests_running"} & set(whole.absent)


def test_usage_is_weighted_by_capacity_and_a_setting_is_the_largest() -> None:
    def page(used: int, capacity: int, size: int) -> str:
        numbers = {"num_used_tokens": used, "max_total_num_tokens": capacity, "page_size": size}
        return "".join(f'sglang:{name}{{model_name="m"}} {value}\n' for name, value in numbers.items())

    whole = of(page(50, 100, 1), page(0, 900, 16))
    assert whole.kv_cache.usage_ratio == pytest.approx(0.05)
    assert (whole.kv_cache.used_tokens, whole.kv_cache.capacity_tokens) == (50, 1000)
    assert whole.kv_cache.page_size == 16


HERE = Path(__file__).parent
RECORDED = Path(os.environ.get("SGLANG_COLLECT_DATA") or HERE.parent.parent / "shared" / "data")
PAGES = sorted([*(HERE / "data").glob("*.prom"), *(RECORDED / "sglang").glob("*.prom")])


def test_one_server_is_its_own_aggregate() -> None:
    assert PAGES
    for path in PAGES:
        snapshot = sc.SGLangMetricsSnapshot.from_text(path.read_bytes(), instance_id="x", format="auto")
        whole = aggregate([reading_of(snapshot).fold], [])
        for group in (*PLAN_GROUPS, *NATIVE_GROUPS):
            assert getattr(whole, group) == getattr(snapshot, group), (path.name, group)
        assert whole.absent == snapshot.absent


def doubled(name: str, value: Any) -> Any:
    """What two servers have together of which each has this."""
    if isinstance(value, sc.Distribution):
        return value.model_copy(update={"count": 2 * value.count, "sum": 2 * (value.sum or 0.0)})
    if isinstance(value, dict):
        return {key: 2 * number for key, number in value.items()}
    alike = {"page_size", "usage_ratio", "utilization", "cache_hit_rate", "accept_length", "accept_rate"}
    if value is None or name in alike or name.endswith("_seconds") or name.startswith("transfer_speed"):
        return value
    return 2 * value


def plain(value: Any) -> Any:
    """As numbers that ``approx`` compares."""
    return value.model_dump(exclude={"resolution"}) if isinstance(value, sc.Distribution) else value


def test_two_equal_servers_have_twice_the_amounts_and_the_same_ratios_and_latencies() -> None:
    for path in PAGES:
        snapshot = sc.SGLangMetricsSnapshot.from_text(path.read_bytes(), instance_id="x", format="auto")
        whole = aggregate([reading_of(snapshot).fold] * 2, [])
        for group in (*PLAN_GROUPS, *NATIVE_GROUPS):
            for name, one in getattr(snapshot, group):
                both = plain(getattr(getattr(whole, group), name))
                want = plain(doubled(name, one))
                slack = 1 if isinstance(both, int) else None
                assert both == pytest.approx(want, abs=slack), (path.name, group, name)
