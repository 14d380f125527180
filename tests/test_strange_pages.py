"""Pages that real servers do show, however odd, and what a user gets of them.

Most are written by the library that SGLang writes its pages with, in the mode in which SGLang uses it: each
process keeps files in a folder, and whoever is asked for the page merges what lies there.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import exposition as openmetrics
from servers import answer, serving

import sglang_collect as sc
from sglang_collect import _core
from sglang_collect.catalog import sglang
from sglang_collect.simulator import LoadModel, Simulator, render_page

START = datetime(2026, 1, 1, tzinfo=timezone.utc)

_PROCESS = """
import json, sys
import prometheus_client
made = {}
for kind, name, labels, values, options in json.load(sys.stdin):
    make = getattr(prometheus_client, kind)
    if name not in made:
        made[name] = make(f"sglang:{name}", "What it is.", list(labels), **options)
    series = made[name].labels(**labels)
    for value in values:
        getattr(series, {"Counter": "inc", "Gauge": "set", "Histogram": "observe"}[kind])(float(value))
"""

Measured = tuple[str, str, dict[str, str], list[Any], dict[str, Any]]


def counter(name: str, value: float, **labels: str) -> Measured:
    return "Counter", name, labels, [value], {}


def gauge(name: str, value: float | str, mode: str = "mostrecent", **labels: str) -> Measured:
    return "Gauge", name, labels, [value], {"multiprocess_mode": mode}


def histogram(name: str, values: list[float], buckets: list[float], **labels: str) -> Measured:
    return "Histogram", name, labels, values, {"buckets": buckets}


def engine(dp_rank: int | None = None, model: str = "m", **more: str) -> dict[str, str]:
    """The labels of a scheduler."""
    labels = {"model_name": model, "engine_type": "unified", "tp_rank": "0", "pp_rank": "0", **more}
    return labels if dp_rank is None else {**labels, "dp_rank": str(dp_rank)}


def tokenizer(model: str = "m", **more: str) -> dict[str, str]:
    return {"model_name": model, "engine_type": "unified", **more}


def live(folder: Path, *measured: Measured) -> None:
    """A process of a server: it measures into the folder, and is gone."""
    subprocess.run(
        [sys.executable, "-c", _PROCESS],
        input=json.dumps(measured),
        text=True,
        check=True,
        env={"PROMETHEUS_MULTIPROC_DIR": str(folder)},
    )


def registry(folder: Path) -> CollectorRegistry:
    made = CollectorRegistry()
    MultiProcessCollector(made, path=str(folder))
    return made


def page(folder: Path) -> bytes:
    return generate_latest(registry(folder))


def read(text: bytes, seconds: float = 0.0) -> sc.SGLangMetricsSnapshot:
    return sc.SGLangMetricsSnapshot.from_text(
        text, instance_id="sglang-001", timestamp=START + timedelta(seconds=seconds)
    )


# ------------------------------------------------- a folder that outlives its server


@pytest.fixture
def restarted(tmp_path: Path) -> tuple[bytes, bytes]:
    """The pages of a server before and after a restart, which brought one group less into the old folder."""
    for rank in (0, 1):
        live(
            tmp_path,
            gauge("num_running_reqs", 5, **engine(rank)),
            gauge("num_paused_reqs", 3, mode="all", **engine(rank)),
        )
    live(tmp_path, counter("num_requests_total", 100, **tokenizer()))
    before = page(tmp_path)
    live(
        tmp_path,
        gauge("num_running_reqs", 2, **engine(0)),
        gauge("num_paused_reqs", 1, mode="all", **engine(0)),
    )
    live(tmp_path, counter("num_requests_total", 20, **tokenizer()))
    return before, page(tmp_path)


def test_a_group_that_is_gone_is_still_counted_and_the_notes_say_so(restarted: tuple[bytes, bytes]) -> None:
    before, after = (read(text) for text in restarted)
    assert [rank.running for rank in after.ranks] == [2, 5]
    assert after.queues.running == 7
    assert not any("dead processes" in note for note in before.notes)
    assert any("dead processes" in note for note in after.notes)


def test_what_two_processes_say_of_one_rank_is_not_added(restarted: tuple[bytes, bytes]) -> None:
    _, after = restarted
    paused = [m.value for m in read(after).raw_metrics if m.name == "sglang:num_paused_reqs"]
    assert sorted(paused) == [1.0, 3.0, 3.0]
    assert read(after).queues.paused in (1 + 3, 3 + 3)  # nothing on the page tells which of rank 0's lives


def test_counters_go_on_in_an_old_folder_and_hide_the_restart(restarted: tuple[bytes, bytes]) -> None:
    before, after = restarted
    window = read(after, 10.0).since(read(before))
    assert read(after).requests.finished_total == 120
    assert (window.restarted, window.requests_per_second) == (False, 2.0)


def test_two_servers_that_share_a_folder_show_both_models_and_each_is_told_apart(tmp_path: Path) -> None:
    for model, running, finished in (("org/a", 3, 10), ("org/b", 4, 20)):
        live(tmp_path, gauge("num_running_reqs", running, **engine(model=model)))
        live(tmp_path, counter("num_requests_total", finished, **tokenizer(model)))
    snapshot = read(page(tmp_path))
    assert snapshot.model_names == ["org/a", "org/b"]
    assert (snapshot.queues.running, snapshot.requests.finished_total) == (7, 30)
    assert {name: (m.queues.running, m.requests.finished_total) for name, m in snapshot.models.items()} == {
        "org/a": (3, 10),
        "org/b": (4, 20),
    }
    assert any("several models" in note for note in snapshot.notes)


# --------------------------------------------------------------------------- labels


def test_labels_that_requests_bring_are_added_up_with_those_of_requests_that_bring_none(
    tmp_path: Path,
) -> None:
    for tenant, finished, seconds in (("", 5, [0.1]), ("acme", 7, [0.3, 0.5])):
        live(
            tmp_path,
            counter("num_requests_total", finished, **tokenizer(tenant=tenant)),
            counter("prompt_tokens_total", 100 * finished, **tokenizer(tenant=tenant)),
            counter("cached_tokens_total", 10 * finished, **tokenizer(tenant=tenant, cache_source="device")),
            histogram("time_to_first_token_seconds", seconds, [0.2, 0.4, 0.8], **tokenizer(tenant=tenant)),
        )
    snapshot = read(page(tmp_path))
    assert snapshot.requests.finished_total == 12
    assert snapshot.tokens.cached_by_source == {"device": 120}
    assert snapshot.cache_metrics.cache_hit_rate == pytest.approx(0.1)
    first = snapshot.latency.time_to_first_token
    assert first is not None
    assert (first.count, first.mean) == (3, pytest.approx(0.3))


EXTRA = {"site": 'rack "7"\\left\nrow', "city": "Zürich 東京", "gone": ""}


def test_extra_labels_change_no_number_and_are_read_as_they_were_meant(tmp_path: Path) -> None:
    for folder, extra in ((tmp_path / "plain", {}), (tmp_path / "extra", EXTRA)):
        folder.mkdir()
        for rank in (0, 1):
            live(
                folder,
                gauge("num_running_reqs", 2 + rank, **engine(rank, **extra)),
                histogram("queue_time_seconds", [0.1, 0.2, 0.9], [0.5, 1.0], **engine(rank, **extra)),
            )
        live(folder, counter("prompt_tokens_total", 1234, **tokenizer(**extra)))
    plain, extra_page = (read(page(tmp_path / name)) for name in ("plain", "extra"))
    for group in ("request_metrics", "system_metrics", "tokens", "queues", "latency", "ranks", "models"):
        assert getattr(plain, group) == getattr(extra_page, group), group
    for metric in extra_page.raw_metrics:
        assert {name: metric.labels[name] for name in ("site", "city")} == {
            name: EXTRA[name] for name in ("site", "city")
        }


# -------------------------------------------------------------------------- numbers


def test_quantiles_are_read_by_the_buckets_of_the_page(tmp_path: Path) -> None:
    live(
        tmp_path,
        histogram("time_to_first_token_seconds", [0.004] * 5 + [0.03] * 5, [0.005, 0.05], **tokenizer()),
    )
    first = read(page(tmp_path)).latency.time_to_first_token
    assert first is not None
    assert first.p50 == pytest.approx(0.005)
    assert first.p90 == pytest.approx(0.005 + 0.045 * 4 / 5)
    assert (first.resolution["p50"], first.resolution["p90"]) == ((0.0, 0.005), (0.005, 0.05))


def test_other_buckets_are_another_process_and_all_it_has_counted_is_of_the_window(tmp_path: Path) -> None:
    live(tmp_path, histogram("time_to_first_token_seconds", [0.1] * 4, [0.2, 1.0], **tokenizer()))
    earlier = read(page(tmp_path))
    other = tmp_path / "other"
    other.mkdir()
    live(other, histogram("time_to_first_token_seconds", [0.1] * 6 + [0.7] * 4, [0.5, 1.0], **tokenizer()))
    window = read(page(other), 10.0).since(earlier)
    seen = window.latency.time_to_first_token
    assert window.restarted
    assert seen is not None
    assert (seen.count, seen.sum) == (10, pytest.approx(0.6 + 2.8))


def test_an_occupancy_that_is_nan_is_no_number_and_spoils_none(tmp_path: Path) -> None:
    live(
        tmp_path,
        gauge("fwd_occupancy", "nan", **engine(0)),
        gauge("fwd_occupancy", "nan", **engine(1)),
        gauge("num_running_reqs", 2, **engine(0)),
        gauge("num_running_reqs", 3, **engine(1)),
    )
    snapshot = read(page(tmp_path))
    assert snapshot.queues.running == 5
    occupancy = [m.value for m in snapshot.raw_metrics if m.name == "sglang:fwd_occupancy"]
    assert len(occupancy) == 2
    assert all(math.isnan(value) for value in occupancy)
    dumped = json.loads(snapshot.model_dump_json(), parse_constant=pytest.fail)
    assert [m["value"] for m in dumped["raw_metrics"] if m["name"] == "sglang:fwd_occupancy"] == [None] * 2


@pytest.mark.parametrize("tokens", [2**53 + 2, 3 * 10**16, 2**62])
def test_counters_past_2_to_the_53_are_the_number_of_the_page(tmp_path: Path, tokens: int) -> None:
    live(tmp_path, counter("prompt_tokens_total", tokens, **tokenizer()))
    earlier = read(page(tmp_path))
    assert earlier.tokens.prompt_total == earlier.request_metrics.input_tokens == tokens
    assert json.loads(earlier.model_dump_json())["tokens"]["prompt_total"] == tokens
    live(tmp_path, counter("prompt_tokens_total", tokens, **tokenizer()))
    window = read(page(tmp_path), 10.0).since(earlier)
    assert window.prompt_tokens_per_second == tokens / 10


# --------------------------------------------------------------------------- answers


def test_a_fresh_old_server_answers_with_nothing_and_everything_is_absent() -> None:
    with serving(answer(b"")) as server:
        snapshot = sc.scrape(server.url)
    groups = ("request_metrics", "cache_metrics", "system_metrics")
    assert len(snapshot.absent) == sum(len(getattr(snapshot, group).model_dump()) for group in groups) == 15
    assert (snapshot.raw_metrics, snapshot.notes, snapshot.model_names, snapshot.ranks) == ([], [], [], [])
    assert snapshot.queues.running is None


def test_what_came_after_an_empty_page_began_at_zero(tmp_path: Path) -> None:
    live(tmp_path, counter("num_requests_total", 20, **tokenizer()))
    window = read(page(tmp_path), 10.0).since(read(b""))
    assert (window.restarted, window.requests_per_second) == (False, 2.0)


@pytest.fixture
def busy() -> Iterator[Simulator]:
    with Simulator(LoadModel(dp=2, tp=2, seed=5, load=0.8), frozen=True) as simulator:
        simulator.step(60)
        yield simulator


def test_a_page_is_asked_for_and_comes_compressed(busy: Simulator) -> None:
    with _core.Scraper() as scraper:
        scraper.submit(_core.Endpoint(busy.url), sglang.plan())
        (result,) = scraper.wait(10)
    assert result.error is None
    assert result.body is not None
    assert result.wire_bytes < len(result.body) / 5
    assert sc.scrape(busy.url).queues.running == busy.truth()["server_level"]["running"]


def test_the_side_port_of_a_grpc_server_gives_openmetrics_and_the_same_numbers(tmp_path: Path) -> None:
    """It does so whatever it is asked for, and with families in pieces, which the format forbids."""
    for rank in (0, 1):
        live(
            tmp_path,
            gauge("num_running_reqs", 3, **engine(rank)),
            counter("realtime_tokens_total", 500, **engine(rank, mode="decode")),
            histogram("queue_time_seconds", [0.01, 0.3, 7.0], [0.1, 1.0, 10.0], **engine(rank)),
        )
    live(tmp_path, counter("num_requests_total", 2_000_000, **tokenizer(is_streaming="true")))
    text, other = page(tmp_path), openmetrics.generate_latest(registry(tmp_path))
    assert b"# TYPE sglang:num_requests counter" in other
    kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    with serving(answer(other, content_type=kind)) as server:
        scraped = sc.scrape(server.url, instance_id="sglang-001")
    same_time = {"timestamp", "endpoint", "raw_metrics"}
    assert scraped.model_dump(exclude=same_time) == read(text).model_dump(exclude=same_time)
    assert scraped.requests.finished_total == 2_000_000


def test_the_simulators_openmetrics_page_has_the_numbers_of_its_text_page(busy: Simulator) -> None:
    scraped = sc.scrape(busy.url, headers={"Accept": "application/openmetrics-text"})
    told = read(render_page(busy.model))
    assert scraped.system_metrics == told.system_metrics
    assert scraped.latency == told.latency
    assert scraped.tokens == told.tokens


# ---------------------------------------------------------------------- other programs

ROUTER = """# TYPE sgl_router_requests_total counter
sgl_router_requests_total{route="/generate",method="POST"} 12
# TYPE sgl_router_active_workers gauge
sgl_router_active_workers 2
"""
GATEWAY = """# TYPE smg_worker_pool_size gauge
smg_worker_pool_size{worker_type="regular",connection_mode="http",model="m"} 2
"""


@pytest.mark.parametrize("own", [ROUTER, GATEWAY], ids=["sgl_router", "smg"])
def test_a_gateways_page_of_itself_is_refused_with_the_way_to_the_engines(own: str) -> None:
    with pytest.raises(sc.NotExposition, match="/engine_metrics") as caught:
        sc.SGLangMetricsSnapshot.from_text(own, instance_id="g", endpoint="http://g:29000/metrics")
    assert (caught.value.endpoint, caught.value.reason) == ("http://g:29000/metrics", "not_exposition")
    with serving(answer(own)) as server, pytest.raises(sc.NotExposition, match=r"_\w+, \.\.\.\)"):
        sc.scrape(server.url)


def test_whoever_wants_the_gateways_own_numbers_parses_its_page() -> None:
    assert sc.parse(ROUTER).value("sgl_router_active_workers") == 2.0


def test_beside_a_number_of_an_engine_a_gateways_is_one_of_many_others() -> None:
    both = GATEWAY + 'sglang:http_requests_total{endpoint="/generate",method="POST"} 3\n'
    assert [metric.name for metric in read(both.encode()).raw_metrics] == ["sglang:http_requests_total"]


def test_a_page_of_some_other_program_is_a_snapshot_of_nothing() -> None:
    snapshot = read(b"vllm:num_requests_running 3\n")
    assert len(snapshot.absent) == 15
