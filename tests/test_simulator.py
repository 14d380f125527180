"""The simulator looks like SGLang v0.5.18 from outside, and what it says of itself is true."""

from __future__ import annotations

import gzip
import http.client
import importlib.util
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics

import sglang_collect as sc
from sglang_collect.simulator import LoadModel, Simulator, render_page
from sglang_collect.simulator.load import CAPACITY_TOKENS

ROOT = Path(__file__).resolve().parent.parent
REAL_PAGES = ("v0.5.18-tp1-busy.prom", "v0.5.18-dp2-tp2.prom")
OF_OTHER_SERVERS = {
    # What only a server that ran out of memory shows.
    "sglang:num_retracted_requests",
    "sglang:num_retracted_input_tokens",
    "sglang:num_retracted_output_tokens",
}


def lived(steps: int, **options: Any) -> LoadModel:
    model = LoadModel(**options)
    model.step(steps)
    return model


def families(page: str) -> dict[str, Any]:
    return {family.name: family for family in parser.text_string_to_metric_families(page)}


def shape(page: str) -> dict[str, tuple[str, set[frozenset[str]], set[str]]]:
    """Type, sets of label names and bucket bounds by family."""
    return {
        name: (
            family.type,
            {frozenset(sample.labels) - {"le"} for sample in family.samples},
            {sample.labels["le"] for sample in family.samples if sample.name.endswith("_bucket")},
        )
        for name, family in families(page).items()
    }


@pytest.fixture(scope="module")
def served() -> Iterator[Simulator]:
    with Simulator(LoadModel(dp=2, tp=2, seed=3, load=0.8), frozen=True) as simulator:
        simulator.step(60)
        yield simulator


def ask(
    simulator: Simulator, path: str, *, method: str = "GET", **headers: str
) -> tuple[http.client.HTTPResponse, bytes]:
    url = urlsplit(simulator.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer, answer.read()
    finally:
        connection.close()


def answer_of(simulator: Simulator, path: str, *, method: str = "GET") -> Any:
    answer, body = ask(simulator, path, method=method)
    assert answer.status == 200
    return json.loads(body)


# ------------------------------------------------------------------ the page


@pytest.mark.parametrize("options", [{}, {"dp": 2, "tp": 2}])
def test_its_families_types_labels_and_buckets_are_those_of_a_real_server(
    data: Path, options: dict[str, int]
) -> None:
    real: dict[str, Any] = {}
    for name in REAL_PAGES:
        for family, (kind, labels, bounds) in shape((data / "sglang" / name).read_text()).items():
            before = real.get(family, (kind, set(), set()))
            real[family] = (kind, before[1] | labels, before[2] | bounds)
    simulated = shape(render_page(lived(120, load=0.9, **options)).decode())
    for family, (kind, labels, bounds) in simulated.items():
        assert family in real
        assert (kind, bounds) == (real[family][0], real[family][2]), family
        assert labels <= real[family][1], family


def test_it_has_every_family_of_a_real_busy_server(data: Path) -> None:
    real = families((data / "sglang" / REAL_PAGES[0]).read_text())
    model = lived(120, load=0.9)
    model.http_started("/metrics", "GET")
    assert set(real) - OF_OTHER_SERVERS == set(families(render_page(model).decode()))


def test_a_page_of_one_rank_is_as_long_as_a_real_one(data: Path) -> None:
    real = (data / "sglang" / REAL_PAGES[0]).stat().st_size
    assert len(render_page(lived(120, load=0.9))) == pytest.approx(real, rel=0.1)


def test_a_histogram_has_its_sums_first_then_the_buckets_and_the_count_of_each_series() -> None:
    page = render_page(lived(60, load=0.9)).decode()
    names = re.findall(r"^sglang:time_to_first_token_seconds_(\w+)\{", page, re.MULTILINE)
    series = ["bucket"] * 19 + ["count"]
    assert names == ["sum", "sum", *series, *series]


def test_labels_are_sorted_and_no_series_stands_twice() -> None:
    lines = [line.rpartition(" ")[0] for line in render_page(lived(60, dp=2, tp=2)).decode().splitlines()]
    series = [line for line in lines if not line.startswith("#")]
    assert len(series) == len(set(series))
    for one in series:
        labels = re.findall(r'(\w+)="', one)
        assert labels == sorted(labels)


def test_only_the_first_tensor_rank_logs_gauges_and_every_rank_states_its_constants() -> None:
    page = families(render_page(lived(60, dp=2, tp=2)).decode())
    ranks = {
        name: {
            (sample.labels["dp_rank"], sample.labels["tp_rank"]) for sample in page[f"sglang:{name}"].samples
        }
        for name in ("num_running_reqs", "max_total_num_tokens", "queue_time_seconds")
    }
    everyone = {("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")}
    assert ranks["num_running_reqs"] == {("0", "0"), ("1", "0")}
    assert ranks["max_total_num_tokens"] == ranks["queue_time_seconds"] == everyone


def test_a_fresh_server_has_constants_but_no_gauges_and_logs_zeros_after_30_seconds() -> None:
    model = LoadModel(load=0)
    fresh = families(render_page(model).decode())
    assert "sglang:max_total_num_tokens" in fresh
    assert "sglang:prefill_effective_tokens" in fresh
    assert "sglang:num_running_reqs" not in fresh
    model.step(30)
    later = families(render_page(model).decode())
    assert [sample.value for sample in later["sglang:num_running_reqs"].samples] == [0.0]
    assert "sglang:num_requests" not in later


# ----------------------------------------------------------------- the truth


@pytest.mark.parametrize(
    ("steps", "options"),
    [
        (0, {"load": 0}),
        (30, {"load": 0}),
        (1, {"load": 0.2}),
        (3, {"dp": 4, "load": 0.1}),
        (60, {"load": 0.5}),
        (150, {"load": 1, "seed": 7}),
        (60, {"dp": 2, "tp": 2, "load": 0.8}),
        (40, {"dp": 8, "tp": 3, "load": 1, "model_name": 'odd "name"\\ with\nlines'}),
    ],
)
def test_every_plan_field_of_its_page_is_its_truth(steps: int, options: dict[str, Any]) -> None:
    model = lived(steps, **options)
    snapshot = sc.SGLangMetricsSnapshot.from_text(render_page(model), instance_id="simulated")
    truth = model.truth()
    assert set(snapshot.absent) == {name for name, value in truth["plan"].items() if value is None}
    for name, value in truth["plan"].items():
        group, field = name.split(".")
        assert getattr(getattr(snapshot, group), field) == pytest.approx(value or 0, rel=1e-9), name
    if not snapshot.absent:
        level, totals = truth["server_level"], truth["totals"]
        assert snapshot.kv_cache.used_tokens == level["used_tokens"]
        assert snapshot.kv_cache.usage_ratio == pytest.approx(level["used_ratio"])
        assert snapshot.requests.aborted_total == (totals["aborted_requests"] or None)
        queue = snapshot.latency.queue_time
        assert queue is not None
        assert queue.count == totals["queue_seconds"]["count"]
        assert queue.sum == pytest.approx(totals["queue_seconds"]["sum"], rel=1e-9)


def test_each_group_of_the_snapshot_is_a_group_of_the_truth() -> None:
    model = lived(60, dp=3, load=0.9)
    snapshot = sc.SGLangMetricsSnapshot.from_text(render_page(model), instance_id="simulated")
    names = ("dp_rank", "running", "waiting", "used_tokens", "usage_ratio", "gen_throughput")
    assert [tuple(getattr(rank, name) for name in names) for rank in snapshot.ranks] == [
        tuple(rank[name.replace("usage_", "used_")] for name in names) for rank in model.truth()["ranks"]
    ]


def test_a_seed_and_a_number_of_steps_give_one_page_however_they_are_stepped() -> None:
    at_once, one_by_one = lived(40, seed=5, dp=2), LoadModel(seed=5, dp=2)
    for _ in range(40):
        one_by_one.step()
    assert render_page(at_once) == render_page(one_by_one)
    assert at_once.truth() == one_by_one.truth()
    assert render_page(lived(40, seed=6, dp=2)) != render_page(at_once)


def test_tokens_and_requests_are_never_lost() -> None:
    model = LoadModel(load=1, seed=11)
    group = model.groups[0]
    for _ in range(150):
        model.step()
        assert min(group.used, group.evictable, group.available) >= 0
        assert group.used == sum(request.prompt + request.made for request in group.running)
        assert model.first_tokens.count == model.done + len(group.running)
        assert model.gaps.count + model.first_tokens.count == group.decoded
        answered = sum(sum(counted.responses.values()) for counted in model.http.values())
        asked = sum(counted.requests for counted in model.http.values())
        assert asked - answered == len(group.running) + len(group.waiting)
    assert group.evicted > 0
    assert group.evictable <= CAPACITY_TOKENS


def test_more_load_is_more_running_requests() -> None:
    busy = [lived(120, load=load).truth()["totals"]["finished_requests"] for load in (0, 0.3, 0.9)]
    assert busy[0] == 0
    assert busy[0] < busy[1] < busy[2]


@pytest.mark.parametrize(
    "options", [{"dp": 0}, {"tp": 65}, {"load": -0.1}, {"load": 1.1}, {"load": float("nan")}]
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"is 0|are 1 to 64"):
        LoadModel(**options)


# ---------------------------------------------------------------- the server


def test_the_page_comes_chunked_as_text_and_uncompressed(served: Simulator) -> None:
    answer, body = ask(served, "/metrics")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["Transfer-Encoding"] == "chunked"
    assert "Content-Length" not in answer.headers
    assert "Content-Encoding" not in answer.headers
    assert body.endswith(b"\n")


def test_gzip_is_sent_to_those_who_ask(served: Simulator) -> None:
    answer, body = ask(served, "/metrics", **{"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert b"sglang:num_running_reqs{" in gzip.decompress(body)


def test_openmetrics_breaks_the_grouping_rule_as_sglang_does(served: Simulator) -> None:
    answer, body = ask(served, "/metrics", Accept="application/openmetrics-text")
    assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    assert b"# TYPE sglang:num_requests counter\n" in body
    with pytest.raises(ValueError, match=r"grouping|Clashing"):
        list(openmetrics.text_string_to_metric_families(body.decode()))


@pytest.mark.parametrize("path", ["/metrics/", "/metrics/foo", "/metricsXYZ"])
def test_every_path_that_begins_with_metrics_is_the_page(served: Simulator, path: str) -> None:
    answer, body = ask(served, path)
    assert answer.status == 200
    assert b"sglang:num_running_reqs{" in body


def test_one_connection_serves_several_requests(served: Simulator) -> None:
    url = urlsplit(served.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    connection.request("GET", "/metrics")
    connection.getresponse().read()
    before = connection.sock
    connection.request("GET", "/health")
    assert connection.getresponse().read() == b""
    assert connection.sock is before
    connection.close()


def test_a_scrape_counts_itself(served: Simulator) -> None:
    def scrapes() -> tuple[float | None, float | None]:
        page = sc.parse(ask(served, "/metrics")[1])
        where = {"endpoint": "/metrics", "method": "GET"}
        return page.value("sglang:http_requests_total", **where), page.value(
            "sglang:http_requests_active", **where
        )

    first, active = scrapes()
    assert active == 1.0
    assert first is not None
    assert scrapes() == (first + 1, 1.0)


def test_an_unknown_path_is_404_and_counted(served: Simulator) -> None:
    assert ask(served, "/nope")[0].status == 404
    page = sc.parse(ask(served, "/metrics")[1])
    assert page.value("sglang:http_responses_total", endpoint="/nope", status_code="404") == 1.0


def test_health_has_no_body(served: Simulator) -> None:
    answer, body = ask(served, "/health")
    assert (answer.status, body) == (200, b"")


@pytest.mark.parametrize("path", ["/server_info", "/get_server_info"])
def test_server_info_masks_its_secrets(served: Simulator, path: str) -> None:
    info = answer_of(served, path)
    assert info["version"] == "0.5.18"
    assert (info["dp_size"], info["tp_size"], len(info["internal_states"])) == (2, 2, 2)
    assert set(info["api_key"]) == set(info["admin_api_key"]) == {"*"}


@pytest.mark.parametrize("path", ["/model_info", "/get_model_info"])
def test_model_info_names_the_model(served: Simulator, path: str) -> None:
    assert answer_of(served, path)["model_path"] == served.model.model_name


def test_models_lists_the_model(served: Simulator) -> None:
    assert [model["id"] for model in answer_of(served, "/v1/models")["data"]] == [served.model.model_name]


def test_loads_has_an_entry_for_each_group_with_the_true_numbers(served: Simulator) -> None:
    loads = answer_of(served, "/v1/loads")
    assert set(loads) == {"timestamp", "version", "accelerator", "num_accelerators", "loads"}
    names = ("dp_rank", "num_running_reqs", "num_waiting_reqs", "num_used_tokens")
    assert [tuple(load[name] for name in names) for load in loads["loads"]] == [
        tuple(rank[name] for name in ("dp_rank", "running", "waiting", "used_tokens"))
        for rank in served.truth()["ranks"]
    ]


def test_loads_can_be_narrowed_to_a_group_and_to_sections(served: Simulator) -> None:
    (load,) = answer_of(served, "/v1/loads?dp_rank=1&include=core,queues")["loads"]
    assert load["dp_rank"] == 1
    assert "queues" in load
    assert "memory" not in load
    assert answer_of(served, "/v1/loads?dp_rank=5")["loads"] == []
    assert ask(served, "/v1/loads?include=junk")[0].status == 400


def test_time_can_be_stopped_and_moved_by_hand() -> None:
    with Simulator(LoadModel(load=0.5)) as simulator:
        frozen = answer_of(simulator, "/simulator/freeze", method="POST")
        assert frozen["frozen"]
        moved = answer_of(simulator, "/simulator/step?n=5", method="POST")
        assert moved["step"] == frozen["step"] + 5
        assert answer_of(simulator, "/simulator/truth") == moved == simulator.truth()
        for junk in ("0", "-1", "x", "3601", "9" * 5000):
            assert ask(simulator, f"/simulator/step?n={junk}", method="POST")[0].status == 400
        assert ask(simulator, "/simulator/step")[0].status == 405


def test_time_passes_by_itself_unless_it_is_stopped() -> None:
    with Simulator(LoadModel(load=0.5), frozen=True) as simulator:
        assert answer_of(simulator, "/simulator/resume", method="POST")["step"] == 0
        deadline = time.monotonic() + 60
        while simulator.truth()["step"] == 0:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_stopped_simulator_leaves_its_port_and_an_occupied_one_is_an_error() -> None:
    with Simulator(frozen=True) as simulator:
        port = urlsplit(simulator.url).port
        assert port
        with pytest.raises(OSError, match="in use"), Simulator(port=port):
            pass
    with Simulator(port=port, frozen=True) as again:
        assert ask(again, "/health")[0].status == 200


def test_it_listens_on_ipv6_too() -> None:
    with Simulator(host="::1", frozen=True) as simulator:
        assert simulator.url.startswith("http://[::1]:")
        assert ask(simulator, "/health")[0].status == 200


# -------------------------------------------------------------- golden pages


def test_the_golden_pages_are_what_the_simulator_writes() -> None:
    spec = importlib.util.spec_from_file_location("make_golden", ROOT / "tools" / "make_golden.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    for name, content in tool.golden_files():
        assert (ROOT / "tests" / "data" / name).read_bytes() == content, name
