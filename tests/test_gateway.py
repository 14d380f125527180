"""The model gateway in front of two servers: its page of all engines, read with our reader.

The gateway is the real one; the servers are simulated ones, so that what is true of them is known.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from programs import running
from servers import unused_port

import sglang_collect as sc
from sglang_collect.simulator import LoadModel, Simulator

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("sglang_router") is None, reason="sglang-router is not installed"
)


class Gateway:
    """A running gateway: ``url`` is the page of its engines, ``own_url`` that of itself."""

    def __init__(self, port: int, own_port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/engine_metrics"
        self.own_url = f"http://127.0.0.1:{own_port}/metrics"

    def snapshot(self) -> sc.SGLangMetricsSnapshot:
        return sc.scrape(self.url, instance_id="gateway")

    def workers(self) -> int:
        """How many workers it knows; it asks each who it is before it takes it in."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            try:
                connection.request("GET", "/workers")
                return len(json.loads(connection.getresponse().read())["workers"])
            except ConnectionError:  # it does not listen yet
                return 0


@contextmanager
def gateway(folder: Path, *workers: Simulator) -> Iterator[Gateway]:
    made = Gateway(unused_port(), unused_port())
    command = [
        *(sys.executable, "-m", "sglang_router.launch_router"),
        *("--host", "127.0.0.1", "--port", str(made.port)),
        *("--prometheus-host", "127.0.0.1", "--prometheus-port", str(urlsplit(made.own_url).port)),
        *("--worker-urls", *(worker.url.removesuffix("/metrics") for worker in workers)),
        *("--worker-startup-check-interval", "1"),
    ]
    nowhere = f"http://127.0.0.1:{unused_port()}"  # it would look for tokenizers on a hub
    with running(command, folder, {"HF_ENDPOINT": nowhere, "HF_HOME": str(folder)}) as program:
        program.wait_until(lambda: made.workers() == len(workers))
        yield made


def model(folder: Path, name: str) -> str:
    """A model name that is a folder, so that nobody looks for the model anywhere else."""
    (folder / name).mkdir(exist_ok=True)
    return str(folder / name)


@contextmanager
def simulators(*models: LoadModel) -> Iterator[Sequence[Simulator]]:
    with ExitStack() as stack:
        yield [stack.enter_context(Simulator(model, frozen=True)) for model in models]


def added(workers: Sequence[Simulator], group: str, name: str) -> float:
    return sum(worker.truth()[group][name] for worker in workers)


def mean(workers: Sequence[Simulator], name: str) -> float:
    totals = [worker.truth()["totals"][name] for worker in workers]
    return float(sum(one["sum"] for one in totals) / sum(one["count"] for one in totals))


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gateway, Sequence[Simulator]]]:
    """A gateway and its two workers, of one model, which have data-parallel groups and tensor ranks."""
    folder = tmp_path_factory.mktemp("gateway")
    name = model(folder, "org:model-v1")
    loads = (LoadModel(seed=seed, dp=2, tp=2, load=0.8, model_name=name) for seed in (1, 2))
    with simulators(*loads) as workers:
        for steps, worker in zip((60, 45), workers, strict=True):
            worker.step(steps)
        with gateway(folder, *workers) as made:
            yield made, workers


def test_its_page_is_what_is_true_of_its_engines_together(
    fleet: tuple[Gateway, Sequence[Simulator]],
) -> None:
    made, workers = fleet
    snapshot = made.snapshot()
    wanted = {
        "system_metrics.num_requests_running": added(workers, "server_level", "running"),
        "system_metrics.num_requests_waiting": added(workers, "server_level", "waiting"),
        "system_metrics.throughput_tokens_per_second": added(workers, "server_level", "gen_throughput"),
        "request_metrics.success_total": added(workers, "totals", "finished_requests"),
        "request_metrics.failure_total": added(workers, "totals", "failed_requests"),
        "request_metrics.input_tokens": added(workers, "totals", "prompt_tokens"),
        "request_metrics.output_tokens": added(workers, "totals", "generation_tokens"),
        "request_metrics.time_to_first_token_seconds": mean(workers, "ttft_seconds"),
        "request_metrics.time_per_output_token_seconds": mean(workers, "inter_token_seconds"),
        "request_metrics.request_duration_seconds": mean(workers, "e2e_seconds"),
        "cache_metrics.prefix_cache_hit_total": added(workers, "totals", "cached_tokens"),
        "cache_metrics.radix_cache_size": added(workers, "server_level", "evictable_tokens"),
        "cache_metrics.cache_memory_usage_bytes": added(
            workers, "plan", "cache_metrics.cache_memory_usage_bytes"
        ),
        "kv_cache.used_tokens": added(workers, "server_level", "used_tokens"),
        "kv_cache.capacity_tokens": added(workers, "server_level", "kv_capacity_tokens"),
        "kv_cache.usage_ratio": added(workers, "server_level", "used_tokens")
        / added(workers, "server_level", "kv_capacity_tokens"),
    }
    got = {name: getattr(getattr(snapshot, name.split(".")[0]), name.split(".")[1]) for name in wanted}
    assert got == pytest.approx(wanted, rel=1e-9)
    assert snapshot.absent == []
    queue = snapshot.latency.queue_time
    assert queue is not None
    assert queue.mean == pytest.approx(mean(workers, "queue_seconds"), rel=1e-9)


def test_a_rank_is_the_groups_of_that_number_of_all_engines(
    fleet: tuple[Gateway, Sequence[Simulator]],
) -> None:
    made, workers = fleet
    truths = [worker.truth()["ranks"] for worker in workers]
    wanted = [
        (first["dp_rank"], first["running"] + second["running"], first["used_tokens"] + second["used_tokens"])
        for first, second in zip(*truths, strict=True)
    ]
    assert [(rank.dp_rank, rank.running, rank.used_tokens) for rank in made.snapshot().ranks] == wanted


def test_the_colons_of_a_model_name_are_gone(fleet: tuple[Gateway, Sequence[Simulator]]) -> None:
    made, workers = fleet
    name = workers[0].model.model_name
    assert ":" in name
    assert made.snapshot().model_names == [name.replace(":", "_")]


def test_a_window_of_it_is_what_its_engines_did(fleet: tuple[Gateway, Sequence[Simulator]]) -> None:
    made, workers = fleet

    def finished() -> float:
        return added(workers, "totals", "finished_requests")

    earlier, before = made.snapshot(), finished()
    for worker in workers:
        worker.step(20)
    later = made.snapshot()
    window = later.since(earlier)
    assert not window.restarted
    assert window.requests_per_second == pytest.approx((finished() - before) / window.seconds)


def test_each_model_behind_it_has_its_own_numbers(tmp_path: Path) -> None:
    names = [model(tmp_path, name) for name in ("small", "large")]
    with simulators(*(LoadModel(seed=7, load=0.5, model_name=name) for name in names)) as workers:
        for steps, worker in zip((40, 50), workers, strict=True):
            worker.step(steps)
        with gateway(tmp_path, *workers) as made:
            snapshot = made.snapshot()
    assert snapshot.model_names == sorted(names)
    for name, worker in zip(names, workers, strict=True):
        truth: dict[str, Any] = worker.truth()
        assert snapshot.models[name].requests.finished_total == truth["totals"]["finished_requests"]
        assert snapshot.models[name].queues.running == truth["server_level"]["running"]
        assert snapshot.models[name].kv_cache.used_tokens == truth["server_level"]["used_tokens"]
    assert snapshot.queues.running == added(workers, "server_level", "running")


def test_engines_whose_labels_differ_are_its_error_and_not_half_a_page(tmp_path: Path) -> None:
    name = model(tmp_path, "model")
    with simulators(*(LoadModel(seed=1, dp=dp, model_name=name) for dp in (1, 2))) as workers:
        for worker in workers:
            worker.step(40)
        with gateway(tmp_path, *workers) as made, pytest.raises(sc.HTTPStatusError) as caught:
            made.snapshot()
    assert caught.value.status == 500


def test_its_page_of_itself_is_refused_and_the_error_says_where_the_engines_are(
    fleet: tuple[Gateway, Sequence[Simulator]],
) -> None:
    made, _ = fleet
    with pytest.raises(
        sc.NotExposition, match=r"gateway's of itself \(smg_\w+, ...\).*/engine_metrics"
    ) as caught:
        sc.scrape(made.own_url)
    assert (caught.value.endpoint, caught.value.reason) == (made.own_url, "not_exposition")
