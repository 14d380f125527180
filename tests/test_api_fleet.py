"""The router's batch, the state of its fleet, and the page about itself."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest
from fastapi import Depends, FastAPI, HTTPException
from fastapi.testclient import TestClient
from fleets import counting, dead, echo, finished
from servers import Request, Server, answer, eventually, serving, unused_port
from stopwatch import Stopwatch

import sglang_collect as sc
from sglang_collect._answers import FleetState, FleetWriter, LastMetrics, TargetState
from sglang_collect.api import HOP_HEADER, Instance, RouterSettings, create_app, create_router

LOOPBACK = ["127.0.0.1/32:1-65535"]
BATCH = "/api/v1/collect/sglang/batch"
FLEET = "/api/v1/fleet"
METRICS = "/api/v1/metrics"


@contextmanager
def client_of(**settings: Any) -> Iterator[TestClient]:
    with TestClient(create_app(RouterSettings(**settings))) as client:
        yield client


def batch(client: TestClient, *targets: dict[str, Any]) -> Any:
    return client.post(BATCH, json={"targets": list(targets)})


def target(name: str, endpoint: str | None = None, **more: Any) -> dict[str, Any]:
    return {"instance_id": name, **({} if endpoint is None else {"endpoint": endpoint}), **more}


# ---------------------------------------------------------------------- batch


def test_a_batch_answers_for_every_target_in_their_order(client: TestClient, server: Server) -> None:
    response = batch(client, *(target(f"i{n}", f"{server.url}/{n}") for n in range(40)))
    assert response.status_code == 200
    results = response.json()["results"]
    assert [result["instance_id"] for result in results] == [f"i{n}" for n in range(40)]
    running = [result["metrics"]["system_metrics"]["num_requests_running"] for result in results]
    assert running == list(range(40))
    for result in results:
        assert set(result) == {"success", "instance_id", "timestamp", "metrics", "error"}
        snapshot = sc.SGLangMetricsSnapshot.model_validate(result["metrics"])
        assert snapshot.raw_metrics == []


def test_a_target_of_a_batch_fails_alone(server: Server, silent: Server) -> None:
    instances = {"known": Instance(endpoint=f"{server.url}/7", bearer_token="t0ken")}
    with client_of(allow=LOOPBACK, instances=instances) as client:
        with Stopwatch() as took:
            response = batch(
                client,
                target("good", f"{server.url}/1"),
                target("dead", dead()),
                target("refused", "http://169.254.169.254:30000/"),
                target("silent", silent.url, timeout=1.0),
                target("known"),
                target("unknown"),
            )
        assert took.seconds < 2
    assert response.status_code == 200
    results = response.json()["results"]
    assert [result["success"] for result in results] == [True, False, False, False, True, False]
    assert [result["error"] for result in results] == [
        None,
        "connect_failed: no connection to the target came about",
        "target not allowed",
        "timeout_first_byte: the target did not answer in time",
        None,
        "unknown instance: name its endpoint",
    ]
    assert all((result["metrics"] is None) == (not result["success"]) for result in results)
    tokens = {request.path[-1]: request.headers.get("authorization") for request in server.requests}
    assert tokens == {"1": None, "7": "Bearer t0ken"}


def test_equal_targets_of_a_batch_are_one_scrape(client: TestClient) -> None:
    def slow(request: Request, connection: Any) -> bytes:
        time.sleep(0.2)
        return echo(request, connection)

    with serving(slow) as server:
        response = batch(client, *[target("x", f"{server.url}/1")] * 3, target("y", f"{server.url}/1"))
        assert [result["success"] for result in response.json()["results"]] == [True] * 4
        assert len(server.requests) == 2


def test_a_large_batch_answers_for_every_target(server: Server) -> None:
    settings = RouterSettings(allow=LOOPBACK, max_concurrent=20, max_queue=180)
    targets = [{"instance_id": str(n), "endpoint": f"{server.url}/{n}"} for n in range(200)]
    with TestClient(create_app(settings)) as client:
        answers = client.post(BATCH, json={"targets": targets}).json()["results"]
    running = [answer["metrics"]["system_metrics"]["num_requests_running"] for answer in answers]
    assert running == list(range(200))


def test_a_batch_takes_as_many_places_as_it_has_targets(silent: Server) -> None:
    with client_of(allow=LOOPBACK, max_concurrent=2, max_queue=1) as client:
        most = [target(f"i{n}", silent.url, timeout=0.2) for n in range(4)]
        response = batch(client, *most)
        assert response.status_code == 413
        assert response.json() == {"detail": "a batch has at most 3 targets"}
        assert batch(client, *most[:3]).status_code == 200
        assert silent.most <= 2


def test_a_batch_that_finds_no_room_is_503_as_a_whole(silent: Server) -> None:
    with client_of(allow=LOOPBACK, max_concurrent=2, max_queue=1) as client, ThreadPoolExecutor() as pool:
        first = pool.submit(batch, client, *(target(f"i{n}", silent.url, timeout=3) for n in range(2)))
        assert eventually(lambda: len(silent.requests) == 2)
        full = batch(client, target("i2", silent.url), target("i3", silent.url))
        assert full.status_code == 503
        assert full.headers["retry-after"] == "1"
        assert first.result().status_code == 200
        assert len(silent.requests) == 2


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({}, ["body", "targets"]),
        ({"targets": []}, ["body", "targets"]),
        ({"targets": "secret"}, ["body", "targets"]),
        ({"targets": ["secret"]}, ["body", "targets", 0]),
        ({"targets": [target("a"), target("")]}, ["body", "targets", 1, "instance_id"]),
        ({"targets": [target("a", timeout="secret")]}, ["body", "targets", 0, "timeout"]),
        ({"targets": [target("a", secret=1)]}, ["body", "targets", 0]),
        ({"targets": [target("a")], "secret": 1}, ["body"]),
    ],
)
def test_a_bad_batch_is_422_and_not_repeated(client: TestClient, body: Any, loc: list[Any]) -> None:
    response = client.post(BATCH, json=body)
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == loc
    assert "secret" not in response.text


def test_a_large_batch_is_413(client: TestClient) -> None:
    assert batch(client, target("x" * 1_000_000)).status_code == 413
    assert client.post(BATCH, content=b"{}", headers={"Content-Type": "text/plain"}).status_code == 422


def test_a_batch_looks_up_the_collector_by_its_name(client: TestClient) -> None:
    with patch("sglang_collect.api.SGLangCollector") as collector:
        entered = collector.return_value.__aenter__.return_value = AsyncMock()
        entered.collect.side_effect = ZeroDivisionError("secret")
        response = batch(client, target("x", "http://127.0.0.1:30000/metrics"))
    assert response.json()["results"][0]["error"].startswith("internal error ")
    assert "secret" not in response.text


# ---------------------------------------------------------------------- fleet


def test_the_fleet_is_scraped_when_asked_for(server: Server, log: pytest.LogCaptureFixture) -> None:
    with serving(counting(finished)) as busy:
        instances = {"a": Instance(endpoint=f"{server.url}/3", bearer_token="t0ken"), "busy": busy.url}
        with client_of(instances={**instances, "dead": dead()}) as client:
            assert client.get(FLEET).status_code == 200
            response = client.get(FLEET)
    state = response.json()
    assert [each["instance_id"] for each in state["targets"]] == ["a", "busy", "dead"]
    good, busy_state, bad = state["targets"]
    assert (good["up"], good["error"], good["consecutive_failures"]) == (True, None, 0)
    assert good["last"]["system_metrics"]["num_requests_running"] == 3
    assert "system_metrics.num_requests_waiting" in good["last"]["absent"]
    assert 0 <= good["age"] < 60
    assert 0 < good["elapsed"] < 60
    assert busy_state["window"]["requests_per_second"] > 0
    assert (bad["up"], bad["consecutive_failures"], bad["age"], bad["last"]) == (False, 2, None, None)
    assert bad["error"] == "connect_failed: no connection to the target came about"
    whole = state["aggregate"]
    assert (whole["targets"], whole["fresh"], whole["stale"]) == (3, 2, ["dead"])
    assert whole["system_metrics"]["num_requests_running"] == 3
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer t0ken"] * 2
    assert all(HOP_HEADER.lower() in request.headers for request in server.requests)
    assert "127.0.0.1" not in response.text


def written(writer: FleetWriter, fleet: sc.Fleet) -> bytes:
    return b"".join(filter(None, writer.write(fleet)))


def test_the_state_of_a_fleet_is_what_its_document_says(server: Server) -> None:
    with serving(counting(finished)) as busy:
        targets = [
            sc.Target('a"\n', f"{server.url}/3"),
            sc.Target("busy", busy.url),
            sc.Target("dead", dead()),
        ]
        writer = FleetWriter()
        with sc.Fleet(targets) as fleet:
            before = FleetState.model_validate_json(written(writer, fleet), strict=True)
            assert [state.age for state in before.targets] == [None, None, None]
            for _ in range(2):
                fleet.scrape()
                latest = fleet.latest
                text = written(writer, fleet)
                state = FleetState.model_validate_json(text)
                assert list(json.loads(text)["targets"][0]) == list(TargetState.model_fields)
            for told, result in zip(state.targets, latest.values(), strict=True):
                assert (told.instance_id, told.up) == (result.target.instance_id, result.up)
                assert (told.started, told.elapsed) == (result.started, result.elapsed)
                assert told.window == result.window
                if result.snapshot is None:
                    assert told.last is None
                else:
                    assert told.last == LastMetrics(
                        **{name: getattr(result.snapshot, name) for name in LastMetrics.model_fields}
                    )
            assert state.targets[1].window is not None


def test_only_ages_change_in_the_state_of_a_fleet_without_new_results(server: Server) -> None:
    writer = FleetWriter()
    with sc.Fleet([sc.Target("a", f"{server.url}/3"), sc.Target("b", f"{server.url}/4")]) as fleet:
        fleet.scrape()
        first, second = (json.loads(written(writer, fleet)) for _ in range(2))
        assert second["targets"][0].pop("age") > first["targets"][0].pop("age") > 0
        assert second["targets"][0] == first["targets"][0]
        fleet.remove("a")
        fleet.scrape()
        (left,) = json.loads(written(writer, fleet))["targets"]
        assert (left["instance_id"], left["started"]) != ("b", first["targets"][1]["started"])
        assert left["window"] is not None


def test_a_fleet_of_nothing_is_empty(client: TestClient) -> None:
    state = client.get(FLEET).json()
    assert state["targets"] == []
    assert state["aggregate"]["targets"] == 0
    assert client.get(METRICS).text == ""


def test_a_watched_fleet_answers_at_once_with_what_is_known(
    server: Server, silent: Server, log: pytest.LogCaptureFixture
) -> None:
    instances = {"a": f"{server.url}/3", "silent": silent.url}
    timeout = 3.0
    with client_of(instances=instances, watch_interval=0.05, timeout=timeout) as client:
        assert eventually(lambda: len(server.requests) >= 3)
        assert eventually(lambda: client.get(FLEET).json()["targets"][0]["window"] is not None)
        with Stopwatch() as took:
            first, second = client.get(FLEET).json()["targets"]
        assert took.seconds < timeout - 0.1
        assert first["up"]
        assert first["window"] is not None
        assert not second["up"]
        assert eventually(lambda: len(client.get(METRICS).text.splitlines()) > 10)
        assert eventually(lambda: client.get(FLEET).json()["targets"][1]["consecutive_failures"] >= 2)
        assert sum("'silent'" in message for message in log.messages) == 1  # when it went down
    assert eventually(lambda: server.closed == server.opened and silent.closed == silent.opened)


def test_a_watch_that_fails_is_logged_and_the_fleet_is_scraped_when_asked_for(
    server: Server, log: pytest.LogCaptureFixture
) -> None:
    with (
        patch("sglang_collect.fleet.Fleet.watch", side_effect=ZeroDivisionError),
        client_of(instances={"a": f"{server.url}/3"}, watch_interval=0.05) as client,
    ):
        assert client.get(FLEET).json()["targets"][0]["up"]
    assert "not watched any more" in log.text


def test_applications_that_run_again_or_run_no_lifespan_have_a_fleet(server: Server) -> None:
    app = create_app(RouterSettings(instances={"a": f"{server.url}/3"}))
    for _ in range(2):
        with TestClient(app) as client:
            assert client.get(FLEET).json()["targets"][0]["up"]
    plain = FastAPI()
    plain.include_router(create_router(RouterSettings(instances={"a": f"{server.url}/3"}, watch_interval=1)))
    assert TestClient(plain).get("/fleet").json()["targets"][0]["up"]


def test_requests_for_the_fleet_at_the_same_time_share_a_sweep() -> None:
    pause = 0.3

    def slow(request: Request, connection: Any) -> bytes:
        time.sleep(pause)
        return answer("sglang:num_requests_running 1\n")

    with (
        serving(slow) as server,
        client_of(instances={"a": server.url}) as client,
        ThreadPoolExecutor() as pool,
    ):
        with Stopwatch() as took:
            list(pool.map(lambda _: client.get("/health"), range(5)))
        pause = max(pause, 10 * took.elapsed)
        states = list(pool.map(lambda _: client.get(FLEET).json(), range(5)))
        assert all(state["targets"][0]["up"] for state in states)
        assert len(server.requests) <= 2


def test_dependencies_and_hops_guard_the_new_routes_too(server: Server) -> None:
    def require_token() -> None:
        raise HTTPException(401, "no")

    instances = {"a": f"{server.url}/1"}
    with client_of(instances=instances, dependencies=[Depends(require_token)]) as client:
        assert [client.get(path).status_code for path in (FLEET, METRICS)] == [401, 401]
        assert client.post(BATCH, content=b"x" * 1_000_000).status_code == 401
    with client_of(instances=instances) as client:
        headers = {HOP_HEADER: "1"}
        assert [client.get(path, headers=headers).status_code for path in (FLEET, METRICS)] == [508, 508]
    assert not server.requests


@pytest.mark.parametrize("settings", [{"watch_interval": 0}, {"instances": {"": "http://127.0.0.1/"}}])
def test_settings_that_cannot_work_are_refused_at_once(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="interval|name"):  # noqa: RUF043
        create_router(RouterSettings(**settings))


# ------------------------------------------------------------ the page about us


STRANGE = 'a"b\\c\nd ünïcödé {x="y"}'


@pytest.fixture
def page(server: Server) -> str:
    """Our own page after two sweeps over three instances, and a few collections."""
    with serving(answer("a 1\nb\n")) as bad:
        instances = {"good": f"{server.url}/3", STRANGE: bad.url, "dead": dead()}
        with client_of(allow=LOOPBACK, instances=instances) as client:
            for _ in range(2):
                client.get(FLEET)
            batch(
                client, target("x", f"{server.url}/1"), target("y", dead()), target("z", "http://10.0.0.1/")
            )
            response = client.get(METRICS)
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return response.text


def test_our_own_page_tells_of_every_target(page: str) -> None:
    parsed = sc.parse(page, strict=True)
    up = {sample.labels["instance_id"]: sample.value for sample in parsed.families["up"].samples}
    assert up == {"good": 1, STRANGE: 0, "dead": 0}
    assert parsed.value("scrape_samples_scraped", instance_id="good") == 1
    assert parsed.value("scrape_samples_scraped", instance_id="dead") == 0
    assert parsed.value("scrape_body_size_bytes", instance_id="good") == 30
    duration = parsed.value("scrape_duration_seconds", instance_id="good")
    assert duration is not None
    assert 0 < duration < 60
    assert parsed.value("scrape_failures_total", instance_id="dead", reason="connect_failed") == 2
    assert parsed.value("scrape_failures_total", instance_id=STRANGE, reason="malformed") == 2
    assert parsed.value("scrape_failures_total", instance_id="good") is None
    age = parsed.value("sglang_collect_snapshot_age_seconds", instance_id="good")
    assert age is not None
    assert 0 < age < 60
    outcomes = parsed.families["sglang_collect_collections_total"].samples
    assert {sample.labels["outcome"]: sample.value for sample in outcomes} == {
        "success": 1,
        "connect_failed": 1,
        "refused": 1,
    }


def test_callers_make_no_series(client: TestClient) -> None:
    endpoint = f"http://127.0.0.1:{unused_port()}/"
    for n in range(20):
        batch(client, target(f"i{n}", f"{endpoint}{n}"))
    page = sc.parse(client.get(METRICS).text)
    assert [dict(sample.labels) for sample in page.samples] == [{"outcome": "connect_failed"}]


def test_promtool_finds_nothing_wrong_with_our_own_page(page: str) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    checked = subprocess.run(
        [promtool, "check", "metrics"], input=page, capture_output=True, text=True, timeout=120
    )
    assert (checked.stdout, checked.stderr, checked.returncode) == ("", "", 0)


def test_the_document_describes_the_new_routes(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    body = document["paths"][BATCH]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]["targets"]["items"]["properties"]) == {"instance_id", "endpoint", "timeout"}
    assert "$ref" not in json.dumps(body)
    for path, method, name in ((BATCH, "post", "BatchResponse"), (FLEET, "get", "FleetState")):
        schema = document["paths"][path][method]["responses"]["200"]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{name}"}
    assert "text/plain" in document["paths"][METRICS]["get"]["responses"]["200"]["content"]
