"""The router: what it answers, whom it refuses, and what it never says."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest
import starlette.requests
from apps import running
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Response
from fastapi.testclient import TestClient
from servers import Held, Request, Server, answer, eventually, serving, unused_port
from stopwatch import Stopwatch

from sglang_collect import _answers, _core, _requests, api
from sglang_collect.api import HOP_HEADER, Instance, RouterSettings, create_app, create_router
from sglang_collect.errors import ScrapeError

LOOPBACK = ["127.0.0.1/32:1-65535"]
PAGE = 'sglang:num_requests_running 4\nsglang:secret{key="hidden"} NaN\nother:secret 1\n'
COLLECT = "/api/v1/collect/sglang"
METRICS = "/api/v1/metrics/sglang/x"


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(answer(PAGE)) as server:
        yield server


@contextmanager
def client_of(settings: RouterSettings) -> Iterator[TestClient]:
    with TestClient(create_app(settings)) as client:
        yield client


def post(client: TestClient, endpoint: str | None = None, **more: Any) -> Any:
    body = {"instance_id": "x", **({} if endpoint is None else {"endpoint": endpoint}), **more}
    return client.post(COLLECT, json=body)


# ------------------------------------------------------------ the plan's shapes


def test_post_answers_with_the_snapshot(client: TestClient, server: Server) -> None:
    response = post(client, server.url, timeout=30)
    assert response.status_code == 200
    data = response.json()
    assert set(data) == {"success", "instance_id", "timestamp", "metrics", "error"}
    assert (data["success"], data["instance_id"], data["error"]) == (True, "x", None)
    assert data["timestamp"]
    assert data["metrics"]["endpoint"] == server.url
    assert data["metrics"]["system_metrics"]["num_requests_running"] == 4
    assert "system_metrics.num_requests_waiting" in data["metrics"]["absent"]


def test_get_answers_with_the_snapshot(client: TestClient, server: Server) -> None:
    response = client.get(METRICS, params={"endpoint": server.url})
    assert response.status_code == 200
    assert response.json()["instance_id"] == "x"
    assert response.json()["system_metrics"]["num_requests_running"] == 4


def test_health_answers_without_a_scrape(client: TestClient) -> None:
    assert client.get("/health").json() == {"status": "ok"}


def test_the_document_describes_requests_and_answers(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    operation = document["paths"][COLLECT]["post"]
    properties = operation["requestBody"]["content"]["application/json"]["schema"]["properties"]
    assert set(properties) == {"instance_id", "endpoint", "timeout"}
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/MetricsCollectionResponse"}
    assert {"403", "500", "503"} <= set(
        document["paths"]["/api/v1/metrics/sglang/{instance_id}"]["get"]["responses"]
    )


# -------------------------------------------------------------------- failures


def test_a_failed_scrape_is_200_by_post_and_500_by_get(client: TestClient) -> None:
    endpoint = f"http://127.0.0.1:{unused_port()}/metrics"
    words = "connect_failed: no connection to the target came about"
    response = post(client, endpoint)
    assert response.status_code == 200
    assert response.json()["success"] is False
    assert response.json()["metrics"] is None
    assert response.json()["error"] == words
    response = client.get(METRICS, params={"endpoint": endpoint})
    assert response.status_code == 500
    assert response.json() == {"detail": f"Failed to collect SGLang metrics: {words}"}


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (answer("secret", status="404 Not Found"), "http_status: the target answered with HTTP status 404"),
        (answer("a 1\nsecret\n"), "malformed: the target's page is malformed at line 2, column 7"),
        (
            answer("<html>secret", content_type="text/secret"),
            "not_exposition: the target's answer is no metrics page",
        ),
        (
            answer("a 1\n" * 30_000),
            "limit_exceeded: the target's page exceeds the limit of 100000 body_bytes",
        ),
    ],
)
def test_an_error_holds_numbers_and_no_byte_of_the_target(
    reply: bytes, words: str, log: pytest.LogCaptureFixture
) -> None:
    settings = RouterSettings(allow=LOOPBACK, max_body_bytes=100_000)
    with serving(reply) as server, client_of(settings) as client:
        log.clear()
        response = post(client, server.url)
    assert response.json()["error"] == words
    assert "secret" not in response.text + log.text
    assert len(log.records) == 1


def test_every_reason_of_a_failure_has_its_sentence() -> None:
    refused = {reason for reason, error in _core.REASONS.items() if error == "TargetRefused"}
    assert set(_answers.SENTENCES) == set(_core.REASONS) - refused


def test_a_timeout_ends_the_collection(client: TestClient, silent: Server) -> None:
    with Stopwatch() as took:
        response = post(client, silent.url, timeout=1.0)
    assert response.json()["error"] == "timeout_first_byte: the target did not answer in time"
    assert took.seconds < 2


def test_an_exception_of_ours_is_an_internal_error_with_a_number_that_the_log_has(
    client: TestClient, log: pytest.LogCaptureFixture
) -> None:
    with patch("sglang_collect.api.SGLangCollector") as collector:
        entered = collector.return_value.__aenter__.return_value = AsyncMock()
        entered.collect.side_effect = ZeroDivisionError("secret")
        log.clear()
        response = post(client, "http://127.0.0.1:30000/metrics")
        assert response.status_code == 200
        again = client.get(METRICS, params={"endpoint": "http://127.0.0.1:30000/metrics"})
        assert again.status_code == 500
    error = response.json()["error"]
    assert re.fullmatch(r"internal error [0-9a-f]{16}", error)
    assert re.fullmatch(
        r"Failed to collect SGLang metrics: internal error [0-9a-f]{16}", again.json()["detail"]
    )
    assert error in log.records[0].message
    assert log.records[0].exc_info
    assert "secret" not in response.text + again.text
    assert len(log.records) == 2


# ------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://10.0.0.1:30000/metrics",
        "http://localhost:30000/metrics",
        "http://no-such-host.invalid:30000/metrics",
        "http://127.0.0.1:22/metrics",
        "http://169.254.169.254/latest/meta-data/",
        "ftp://127.0.0.1:30000/metrics",
        "http://user:secret@127.0.0.1:30000/metrics",
        "not a url",
        "",
    ],
)
def test_every_refused_target_gets_the_same_words(endpoint: str, log: pytest.LogCaptureFixture) -> None:
    with client_of(RouterSettings(allow=["127.0.0.1/32:30000"])) as client:
        log.clear()
        response = post(client, endpoint)
        assert response.status_code == 200
        assert (response.json()["success"], response.json()["error"]) == (False, "target not allowed")
        response = client.get(METRICS, params={"endpoint": endpoint})
        assert response.status_code == 403
        assert response.json() == {"detail": "target not allowed"}
    assert [record.levelname for record in log.records] == ["WARNING", "WARNING"]
    assert "secret" not in log.text


def test_without_settings_every_target_is_refused_and_the_log_says_what_to_fill(
    server: Server, log: pytest.LogCaptureFixture
) -> None:
    with TestClient(create_app()) as client:
        log.clear()
        assert post(client, server.url).json()["error"] == "target not allowed"
    assert "RouterSettings.allow is empty" in log.messages[0]
    assert not server.requests


def test_a_router_without_dependencies_says_so_once(log: pytest.LogCaptureFixture) -> None:
    create_router(RouterSettings(dependencies=[Depends(lambda: None)]))
    assert not log.records
    create_router()
    assert [record.levelname for record in log.records] == ["WARNING"]


@pytest.mark.parametrize(
    "settings",
    [
        {"allow": ["127.0.0.1/33"]},
        {"allow": "127.0.0.1"},
        {"instances": ["http://127.0.0.1/"]},
        {"instances": {"a": 5}},
        {"dependencies": [len]},
        {"instances": {"a": "http://user:pw@127.0.0.1/"}},
        {"instances": {"a": Instance(endpoint="https://127.0.0.1/", ca_file="/nonexistent.pem")}},
        {"timeout": 0},
        {"max_timeout": float("nan")},
        {"max_concurrent": 0},
        {"max_queue": -1},
        {"max_body_bytes": -1},
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(settings: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError, OverflowError, ScrapeError)):
        create_router(RouterSettings(**settings))


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"instance_id": "x", "endpoint": 5},
        {"instance_id": ["secret"], "endpoint": "http://127.0.0.1/"},
        {"instance_id": "x", "endpoint": "http://127.0.0.1/", "secret": 1},
        {"instance_id": "", "endpoint": "http://127.0.0.1/"},
        {"instance_id": "x" * 300, "endpoint": "http://127.0.0.1/"},
        {"instance_id": "secret\r\n", "endpoint": "http://127.0.0.1/"},
        {"instance_id": "secret\x1b[0m", "endpoint": "http://127.0.0.1/"},
        {"instance_id": "x", "endpoint": "http://127.0.0.1/secret" + "x" * 3000},
        *(
            {"instance_id": "x", "endpoint": "http://127.0.0.1/", "timeout": t}
            for t in (0, -1, 1e9, 1e-9, "secret", True, None)
        ),
        [],
        "secret",
        None,
    ],
)
def test_bad_input_is_422_and_not_repeated(
    client: TestClient, body: Any, log: pytest.LogCaptureFixture
) -> None:
    log.clear()
    response = client.post(COLLECT, json=body)
    assert response.status_code == 422
    assert {"type", "loc", "msg"} == set(response.json()["detail"][0])
    assert "secret" not in response.text
    assert not log.records


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"secret", "application/json"),
        (b'{"instance_id": "x", "endpoint": "http://127.0.0.1/", "timeout": NaN}', "application/json"),
        (b'{"instance_id": "\xff secret"}', "application/json"),
        (b'{"instance_id": "\\ud800 secret", "endpoint": "http://127.0.0.1/"}', "application/json"),
        (b"[" * 10_000, "application/json"),
        (b'{"instance_id": "x"}', "text/plain"),
        (b'{"instance_id": "x"}', "multipart/form-data"),
    ],
)
def test_a_body_that_is_no_json_is_422(client: TestClient, content: bytes, content_type: str) -> None:
    response = client.post(COLLECT, content=content, headers={"Content-Type": content_type})
    assert response.status_code == 422
    assert "secret" not in response.text


def test_a_422_lists_few_of_many_problems(client: TestClient) -> None:
    response = post(client, **{f"secret{n}": n for n in range(500)})
    assert response.status_code == 422
    assert len(response.content) < 1500


@pytest.mark.parametrize("path", ["x" * 300, "%0d%0asecret", "%1b[0m", "%00"])
def test_a_bad_path_is_422(client: TestClient, path: str) -> None:
    response = client.get(f"/api/v1/metrics/sglang/{path}", params={"endpoint": "http://127.0.0.1/"})
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["path", "instance_id"]
    assert "secret" not in response.text


def test_a_large_request_is_413(client: TestClient) -> None:
    assert post(client, instance_id="x" * 100_000).status_code == 413


@pytest.mark.parametrize(
    "name", ['"quoted"', "%s %(name)s {} {0}", "a\u2028b", "\u202egnp", "ünïcödé", "\\r\\n", "x" * 256]
)
def test_a_strange_name_is_one_line_of_the_log(
    client: TestClient, name: str, log: pytest.LogCaptureFixture
) -> None:
    log.clear()
    response = post(client, f"http://127.0.0.1:{unused_port()}/%0a", instance_id=name)
    assert response.json()["instance_id"] == name
    assert response.json()["success"] is False
    assert len(log.records) == 1
    message = log.records[0].getMessage()
    assert message.isascii()
    assert message.isprintable()
    assert len(message) < 600


# ------------------------------------------------------------------ instances


def test_a_registered_instance_needs_no_endpoint_and_gets_its_credentials(server: Server) -> None:
    instance = Instance(endpoint=server.url, bearer_token="t0ken", headers={"X-Team": "blue"})
    with client_of(RouterSettings(instances={"x": instance, "y": server.url})) as client:
        assert client.get(METRICS).json()["endpoint"] == server.url
        assert post(client).json()["success"] is True
        assert post(client, server.url).json()["success"] is True
        assert post(client, instance_id="y").json()["success"] is True
    tokens = [request.headers.get("authorization") for request in server.requests]
    assert tokens == ["Bearer t0ken", "Bearer t0ken", "Bearer t0ken", None]
    assert server.requests[0].headers["x-team"] == "blue"
    assert "t0ken" not in repr(instance)


def test_an_endpoint_that_a_caller_names_is_allowed_or_not_and_gets_no_credentials(server: Server) -> None:
    instances = {"x": Instance(endpoint=server.url, bearer_token="t0ken")}
    with client_of(RouterSettings(instances=instances)) as client:
        assert post(client, f"{server.url}?all").json()["error"] == "target not allowed"
        assert post(client, server.url, instance_id="z").json()["error"] == "target not allowed"
    with client_of(RouterSettings(instances=instances, allow=LOOPBACK)) as client:
        assert post(client, f"{server.url}?all").json()["success"] is True
    (request,) = server.requests
    assert "authorization" not in request.headers


def test_an_unknown_instance_without_an_endpoint_is_422(client: TestClient) -> None:
    for response, place in ((client.get(METRICS), "query"), (post(client), "body")):
        assert response.status_code == 422
        problem = {
            "type": "missing",
            "loc": [place, "endpoint"],
            "msg": "unknown instance: name its endpoint",
        }
        assert response.json() == {"detail": [problem]}


# ------------------------------------------------------------- what leaves


def test_raw_metrics_leave_only_where_the_settings_say_so(client: TestClient, server: Server) -> None:
    response = post(client, server.url)
    assert response.json()["metrics"]["raw_metrics"] == []
    assert "hidden" not in response.text
    with client_of(RouterSettings(allow=LOOPBACK, include_raw=True)) as other:
        response = post(other, server.url)
    raw = response.json()["metrics"]["raw_metrics"]
    assert [(metric["name"], metric["value"]) for metric in raw] == [
        ("sglang:num_requests_running", 4.0),
        ("sglang:secret", None),
    ]


# --------------------------------------------------- dependencies and our own hop


def test_a_dependency_decides_before_the_body_is_read(server: Server) -> None:
    def require_token() -> None:
        raise HTTPException(401, "no")

    settings = RouterSettings(allow=LOOPBACK, dependencies=[Depends(require_token)])
    with client_of(settings) as client:
        assert post(client, server.url).status_code == 401
        assert client.post(COLLECT, content=b"x" * 1_000_000).status_code == 401
        assert client.get(METRICS, params={"endpoint": server.url}).status_code == 401
        assert client.get("/health").status_code == 200
    assert not server.requests


def refuse() -> None:
    raise HTTPException(401, "no")


def including(router: APIRouter, **options: Any) -> FastAPI:
    app = FastAPI()
    app.include_router(router, prefix="/api/v1", **options)
    return app


def nested(router: APIRouter) -> FastAPI:
    between = APIRouter(dependencies=[Depends(refuse)])
    between.include_router(router)
    return including(between)


def of_the_application(router: APIRouter) -> FastAPI:
    app = FastAPI(dependencies=[Depends(refuse)])
    app.include_router(router, prefix="/api/v1")
    return app


@pytest.mark.parametrize(
    "including",
    [partial(including, dependencies=[Depends(refuse)]), nested, of_the_application],
    ids=["where it is included", "of a router between", "of the application"],
)
def test_a_dependency_of_who_includes_the_router_decides_too(
    including: Callable[[APIRouter], FastAPI], server: Server
) -> None:
    router = create_router(RouterSettings(allow=LOOPBACK))
    with TestClient(including(router)) as client:
        answers = [
            post(client, server.url),
            client.post(f"{COLLECT}/batch", json={"targets": [{"instance_id": "x", "endpoint": server.url}]}),
            client.get(METRICS, params={"endpoint": server.url}),
            *(client.get(f"/api/v1/{path}") for path in ("fleet", "fleet/events", "metrics")),
        ]
    assert [answer.status_code for answer in answers] == [401] * 6
    assert not server.requests


def test_a_dependency_may_be_overridden(server: Server) -> None:
    settings = RouterSettings(allow=LOOPBACK, dependencies=[Depends(refuse)])
    app = create_app(settings)
    app.dependency_overrides[refuse] = lambda: None
    with TestClient(app) as client:
        assert post(client, server.url).json()["success"] is True


def test_an_exception_handler_of_the_application_is_asked(server: Server) -> None:
    app = create_app(RouterSettings(allow=LOOPBACK))

    @app.exception_handler(HTTPException)
    async def say(request: Any, error: HTTPException) -> Response:
        return Response("ours", error.status_code)

    with TestClient(app) as client:
        response = client.post(COLLECT, content=b"x" * 100_000, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.text) == (413, "ours")


def test_a_scrape_carries_the_hop_header_and_a_request_with_it_is_508(
    client: TestClient, server: Server
) -> None:
    post(client, server.url)
    assert HOP_HEADER.lower() in server.requests[0].headers
    response = client.get(METRICS, params={"endpoint": server.url}, headers={HOP_HEADER: "1"})
    assert response.status_code == 508
    assert len(server.requests) == 1


# ------------------------------------------------------------------ connections


def test_requests_share_connections_which_the_lifespan_closes(server: Server) -> None:
    others = set(threading.enumerate())  # of applications of other tests that ran no lifespan
    app = create_app(RouterSettings(allow=LOOPBACK))
    for runs in (1, 2):
        with TestClient(app) as client:
            for timeout in range(21, 26):
                assert post(client, server.url, timeout=timeout).json()["success"] is True
        assert eventually(lambda runs=runs: server.closed == server.opened == runs)  # type: ignore[misc]
        assert eventually(
            lambda: not any(t.name == "sglang_collect" for t in {*threading.enumerate()} - others)
        )


def test_a_router_works_in_an_application_that_runs_no_lifespan(server: Server) -> None:
    app = FastAPI()
    app.include_router(create_router(RouterSettings(allow=LOOPBACK)), prefix="/api/v1")
    client = TestClient(app)
    for _ in range(3):
        assert post(client, server.url).json()["success"] is True
    assert server.opened == 1


# ----------------------------------------------- many at once, over real sockets


async def ask(port: int, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, str]:
    """One request over a connection of its own: its status, and head and body as text."""
    content = b"" if body is None else json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        text = (await reader.read()).decode()
        return int(text.split(" ", 2)[1]), text
    finally:
        writer.close()
        await writer.wait_closed()


def asking(port: int, bodies: Sequence[dict[str, Any]]) -> list[asyncio.Task[tuple[int, str]]]:
    return [asyncio.create_task(ask(port, "POST", COLLECT, body)) for body in bodies]


async def seconds_for(port: int, n: int) -> float:
    """What this machine takes for so many requests at once that are answered at once."""
    started = time.monotonic()
    await asyncio.gather(*(ask(port, "GET", "/health") for _ in range(n)))
    return time.monotonic() - started


def is_full(task: asyncio.Task[tuple[int, str]]) -> bool:
    return task.result()[0] == 503


async def test_more_collections_than_there_is_room_for_are_503_at_once(silent: Server) -> None:
    settings = RouterSettings(allow=LOOPBACK, max_concurrent=4, max_queue=6)
    with running(create_app(settings)) as port:
        alone = await seconds_for(port, 50)
        timeout = max(1.0, 10 * alone)
        bodies = [{"instance_id": f"i{n}", "endpoint": silent.url, "timeout": timeout} for n in range(50)]
        began, full_at = time.monotonic(), []
        tasks = asking(port, bodies)
        for task in tasks:
            task.add_done_callback(lambda task: full_at.append(time.monotonic()) if is_full(task) else None)
        health = []
        while not all(task.done() for task in tasks):
            with Stopwatch() as took:
                assert (await ask(port, "GET", "/health"))[0] == 200
            health.append(took.seconds)
            await asyncio.sleep(0.02)
        answers = [task.result() for task in tasks]
    full = [text for status, text in answers if status == 503]
    assert len(full) == len(full_at) == 40
    assert max(full_at) - began < timeout  # while the others still wait
    assert all("retry-after: 1" in text.lower() for text in full)
    assert sum("timeout_" in text for status, text in answers if status == 200) == 10
    assert silent.most == 4
    assert sorted(health)[len(health) // 2] < max(0.05, alone / 5)


def test_a_request_without_end_is_413_while_it_is_sent() -> None:
    with running(create_app()) as port, socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(
            f"POST {COLLECT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            "Transfer-Encoding: chunked\r\n\r\n".encode()
        )
        for _ in range(5):
            connection.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


async def test_equal_requests_at_once_are_one_scrape() -> None:
    pause = 0.3

    def slow(request: Request, connection: socket.socket) -> bytes:
        time.sleep(pause)
        return answer(PAGE)

    with serving(slow) as server, running(create_app(RouterSettings(allow=LOOPBACK))) as port:
        pause = max(0.3, 3 * await seconds_for(port, 100))
        body = {"instance_id": "x", "endpoint": server.url, "timeout": 30}
        answers = await asyncio.gather(*asking(port, [body] * 100))
        assert [status for status, _ in answers] == [200] * 100
        assert all('"success":true' in text for _, text in answers)
        assert len(server.requests) == 1
        await ask(port, "POST", COLLECT, body)
        assert len(server.requests) == 2


@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_client_that_hangs_up_ends_the_scrape(silent: Server, wrapped: bool) -> None:
    app = create_app(RouterSettings(allow=LOOPBACK))
    if wrapped:

        @app.middleware("http")
        async def middleware(request: Any, call_next: Any) -> Any:
            return await call_next(request)

    with running(app) as port:
        for method, path in (("POST", COLLECT), ("GET", f"{METRICS}?endpoint={silent.url}")):
            before = silent.closed
            task = asyncio.create_task(
                ask(port, method, path, {"instance_id": "x", "endpoint": silent.url, "timeout": 30})
            )
            assert await asyncio.to_thread(eventually, lambda before=before: silent.opened == before + 1)
            assert silent.closed == before
            task.cancel()
            with Stopwatch() as took:
                assert await asyncio.to_thread(eventually, lambda before=before: silent.closed == before + 1)
            assert took.seconds < 0.5


async def test_a_client_that_hangs_up_before_its_request_is_whole_is_no_error(
    server: Server, log: pytest.LogCaptureFixture
) -> None:
    with running(create_app(RouterSettings(allow=LOOPBACK))) as port:
        log.clear()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(
                f"POST {COLLECT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                "Content-Length: 100\r\n\r\n{".encode()
            )
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.1)
        assert not log.records
        status, _ = await ask(port, "POST", COLLECT, {"instance_id": "x", "endpoint": server.url})
        assert status == 200


async def test_a_scrape_goes_on_for_the_clients_that_still_wait(held: Held) -> None:
    with running(create_app(RouterSettings(allow=LOOPBACK))) as port:
        pause = max(0.1, 10 * await seconds_for(port, 2))  # so that both are there
        body = {"instance_id": "x", "endpoint": held.url, "timeout": 600}
        first, second = asking(port, [body] * 2)
        assert await asyncio.to_thread(eventually, lambda: held.requests)
        await asyncio.sleep(pause)
        first.cancel()
        await asyncio.sleep(pause)
        held.release()
        status, text = await second
        assert (status, '"success":true' in text) == (200, True)
        assert len(held.requests) == 1


# ------------------------------------- what requests share, looked at from inside


async def never() -> Any:
    await asyncio.Event().wait()


def collecting(service: api._Service, endpoint: str, **more: Any) -> Coroutine[Any, Any, Any]:
    """A collection for a client that stays."""
    asked = _requests.CollectionRequest(**{"instance_id": "x", "endpoint": endpoint, **more})
    request = starlette.requests.Request({"type": "http", "headers": []}, receive=never)
    return service.collect(service.wanted(asked, "body"), request)


@pytest.fixture
async def service() -> AsyncIterator[api._Service]:
    service = api._Service(RouterSettings(allow=LOOPBACK))
    async with service.lifespan(None):
        yield service


async def test_a_collection_that_has_ended_is_not_shared_any_more(
    service: api._Service, server: Server
) -> None:
    tasks = []
    end = time.monotonic() + 60
    while len(server.requests) < 3 and time.monotonic() < end:
        tasks.append(asyncio.create_task(collecting(service, server.url)))  # so that one always waits
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    assert len(server.requests) >= 3


async def test_a_collection_that_was_given_up_is_not_shared_any_more(
    service: api._Service, silent: Server
) -> None:
    first = asyncio.create_task(collecting(service, silent.url, timeout=60))
    assert await asyncio.to_thread(eventually, lambda: len(silent.requests) == 1)
    first.cancel()
    while not first.done():  # noqa: ASYNC110 - not one turn of the loop later
        await asyncio.sleep(0)
    outcome = await collecting(service, silent.url, timeout=1.0)
    assert outcome.text.startswith("timeout_first_byte")
    assert len(silent.requests) == 2


async def test_a_request_that_is_cancelled_takes_no_other_one_with_it(
    service: api._Service, silent: Server
) -> None:
    first, second = (asyncio.create_task(collecting(service, silent.url, timeout=1.0)) for _ in range(2))
    assert await asyncio.to_thread(eventually, lambda: len(silent.requests) == 1)
    first.cancel()
    outcome = await second
    assert outcome.text.startswith("timeout_first_byte")
    assert first.cancelled()
    assert len(service._flights) == 0


async def test_a_batch_that_is_cancelled_while_it_begins_takes_no_other_request_with_it(
    service: api._Service, server: Server
) -> None:
    asked = [_requests.CollectionRequest(instance_id=f"i{n}", endpoint=server.url) for n in range(50)]
    request = starlette.requests.Request({"type": "http", "headers": []}, receive=never)
    batch = asyncio.create_task(service.collect_known(asked, request))
    await asyncio.sleep(0)
    assert len(service._flights) == 50
    last = asyncio.create_task(collecting(service, server.url, instance_id="i49", timeout=10))
    await asyncio.sleep(0)
    batch.cancel()
    assert b'"instance_id":"i49"' in await last
    assert not len(service._flights)


async def test_what_goes_wrong_in_a_shared_collection_is_raised_for_all_who_wait(
    service: api._Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> Any:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    monkeypatch.setattr(service, "_fleet_json", broken)
    request = starlette.requests.Request({"type": "http", "headers": []}, receive=never)
    raised = await asyncio.gather(*(service.fleet_state(request) for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in raised] == [ZeroDivisionError] * 3


async def test_many_names_leave_nothing_behind(service: api._Service, server: Server) -> None:
    for n in range(0, 1000, 50):
        await asyncio.gather(
            *(collecting(service, server.url, instance_id=f"i{k}") for k in range(n, n + 50))
        )
    assert not service._flights
    cancelled = asyncio.create_task(collecting(service, server.url))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait({cancelled})
    assert not service._flights


def test_a_router_scrapes_itself_no_further_than_one_hop() -> None:
    with running(create_app(RouterSettings(allow=LOOPBACK))) as port:
        itself = f"http://127.0.0.1:{port}{METRICS}?endpoint=http://127.0.0.1:{port}/"

        async def main() -> tuple[int, str]:
            return await ask(port, "POST", COLLECT, {"instance_id": "x", "endpoint": itself})

        status, text = asyncio.run(main())
    assert status == 200
    assert "http_status: the target answered with HTTP status 508" in text
