"""The examples do what they say, with simulated servers."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from fastapi.testclient import TestClient

import sglang_collect as sc
from sglang_collect.simulator import LoadModel, Simulator

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NOBODY = "http://127.0.0.1:1"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"examples_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic looks annotations up there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def simulators() -> Iterator[list[Simulator]]:
    """Two servers, the first of them with two data-parallel groups."""
    with (
        Simulator(LoadModel(dp=2, load=0.5), frozen=True) as first,
        Simulator(LoadModel(load=0.3), frozen=True) as second,
    ):
        for simulator in (first, second):
            simulator.step(60)
        yield [first, second]


def base(simulator: Simulator) -> str:
    return simulator.url.removesuffix("/metrics")


def requests_at(simulator: Simulator) -> int:
    level = simulator.truth()["server_level"]
    return int(level["running"] + level["waiting"])


# ----------------------------------------------------------- performance_agent


def test_the_performance_agent_serves_the_snapshot_and_its_advice(simulators: list[Simulator]) -> None:
    app = example("performance_agent").make_app({"gpu1": simulators[0].url, "gone": NOBODY})
    with TestClient(app) as client:
        assert client.get("/advice/gpu1").json()["advice"] == []
        gone = client.get("/advice/gone")
        assert gone.status_code == 503
        assert "is down" in gone.json()["detail"]
        assert client.get("/advice/other").status_code == 404
        snapshot = client.get("/api/v1/metrics/sglang/gpu1").json()
        running = simulators[0].truth()["server_level"]["running"]
        assert snapshot["system_metrics"]["num_requests_running"] == running


def test_the_performance_agent_says_what_is_wrong_with_a_full_server(simulators: list[Simulator]) -> None:
    module = example("performance_agent")
    snapshot = sc.scrape(simulators[1].url)
    assert list(module.advise(snapshot, None)) == []
    snapshot.queues.backlog = 1000
    assert re.match("1000 requests wait and memory is left", next(module.advise(snapshot, None)))
    snapshot.kv_cache.usage_ratio = 0.95
    assert re.match("KV cache 95% full and 1000 requests wait", next(module.advise(snapshot, None)))
    window = sc.SGLangWindow(seconds=5, restarted=True, cache_hit_rate=0.05)
    said = list(module.advise(sc.scrape(simulators[1].url), window))
    assert [text.split(":")[0] for text in said] == ["cache hit rate 5%", "it began again in the last 5 s"]


# ----------------------------------------------------------------- load_router


def test_the_router_takes_the_least_loaded_rank(simulators: list[Simulator]) -> None:
    loads = {
        (base(simulator), rank["dp_rank"]): rank["running"] + rank["waiting"]
        for simulator in simulators
        for rank in simulator.truth()["ranks"]
    }
    app = example("load_router").make_app([base(simulator) for simulator in simulators])
    with TestClient(app) as client:
        route = client.get("/route").json()
    least = min(loads, key=lambda key: loads[key])
    assert (route["server"], route["dp_rank"] or 0) == least
    assert route["load"] == loads[least] + 1


def test_a_burst_is_spread_before_the_next_page_tells_of_it(simulators: list[Simulator]) -> None:
    balancer = example("load_router").Balancer()
    with sc.Fleet([sc.Target(base(one), one.url) for one in simulators], timeout=60) as fleet:
        balancer.update(fleet.scrape())
    sent = [balancer.take() for _ in range(300)]
    assert len({(route.server, route.dp_rank) for route in sent}) == 3
    assert len({route.load for route in sent[-3:]}) <= 2


def test_the_router_sends_nothing_to_a_server_that_is_down(simulators: list[Simulator]) -> None:
    with TestClient(example("load_router").make_app([NOBODY, base(simulators[1])])) as client:
        assert client.get("/route").json()["server"] == base(simulators[1])
    with TestClient(example("load_router").make_app([NOBODY])) as client:
        assert client.get("/route").status_code == 503


# ----------------------------------------------------------- autoscaler_signal


def test_the_signal_is_the_load_of_all_servers(simulators: list[Simulator]) -> None:
    app = example("autoscaler_signal").make_app([simulator.url for simulator in simulators], interval=0.1)
    with TestClient(app) as client:
        signal = client.get("/signal").json()
    assert signal["requests"] == sum(map(requests_at, simulators)) > 0
    assert 0 < signal["kv_usage"] < 1
    assert signal["servers"] == 2


def test_a_server_that_is_not_read_counts_like_the_others_and_none_is_no_signal(
    simulators: list[Simulator],
) -> None:
    make_app = example("autoscaler_signal").make_app
    with TestClient(make_app([simulators[0].url, f"{NOBODY}/metrics"], interval=0.1)) as client:
        signal = client.get("/signal").json()
        assert signal["requests"] == 2 * requests_at(simulators[0])
        assert signal["unread"] == [f"{NOBODY}/metrics"]
    with TestClient(make_app([f"{NOBODY}/metrics"], interval=0.1)) as client:
        assert client.get("/signal").status_code == 503


# ----------------------------------------------------------------- plot_window


def test_the_window_is_drawn(tmp_path: Path) -> None:
    out = tmp_path / "window.png"
    with Simulator(LoadModel(load=0.6)) as simulator:
        simulator.step(60)
        command = [sys.executable, EXAMPLES / "plot_window.py", simulator.url, "--seconds", "1.2"]
        subprocess.run([*command, "--interval", "0.4", "--out", out], check=True)
    assert out.read_bytes().startswith(b"\x89PNG")


def test_the_marks_of_a_window_are_the_quantiles_and_their_buckets() -> None:
    from matplotlib.figure import Figure

    distribution = sc.Distribution.of(sc.Histogram([0.1, 0.5, float("inf")], [10, 90, 100], sum=30))
    axes = Figure().subplots()
    example("plot_window").draw_latency(axes, sc.SGLangLatency(time_to_first_token=distribution))
    marks = [container for container in axes.containers if container.has_yerr]
    points = [mark.lines[0].get_ydata()[0] for mark in marks]
    spans = [mark.lines[2][0].get_segments()[0][:, 1] for mark in marks]
    assert distribution is not None
    assert points == [distribution.p50, distribution.p90, distribution.p95, distribution.p99]
    assert spans[0].tolist() == pytest.approx([0.1, 0.5])
    assert spans[3].tolist() == pytest.approx([0.5, 0.5])  # above all buckets: no more is known


# ------------------------------------------------------------------------- all


@pytest.mark.parametrize("name", ["load_router", "autoscaler_signal"])
def test_an_example_says_how_to_run_it(name: str) -> None:
    command = [sys.executable, EXAMPLES / f"{name}.py", "--help"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert told.startswith(f"usage: {name}.py")


def test_the_readme_lists_every_example() -> None:
    readme = (EXAMPLES.parent / "README.md").read_text("utf-8")
    listed = re.findall(r"\(examples/(\w+\.py)\)", readme)
    assert sorted(listed) == sorted(path.name for path in EXAMPLES.glob("*.py"))
