"""Endpoint, Guard, Scraper, Result and Body against servers on the loopback."""

from __future__ import annotations

import copy
import gc
import math
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from servers import Answer, Request, Server, answer, eventually, serving, silence, soon, unused_port
from stopwatch import Stopwatch

from sglang_collect._core import Endpoint, Extract, Guard, Plan, Result, Scraper
from sglang_collect.errors import (
    ConnectError,
    ExpositionError,
    HTTPStatusError,
    LimitExceeded,
    NotExposition,
    ScrapeError,
    ScrapeTimeout,
    TargetRefused,
    TLSError,
)

PAGE = 'sglang:running{rank="0"} 3\nsglang:running{rank="1"} 4\n'
PLAN = Plan(["sglang:"], {"running": Extract(["running"]), "none": Extract(["none"])})


class Few:
    """Limits that PAGE keeps, and little else does."""

    body_bytes = 1000
    samples = labels_per_sample = name_length = label_value_length = number_length = 100


@pytest.fixture
def scraper() -> Iterator[Scraper]:
    with Scraper() as scraper:
        yield scraper


def wait_all(scraper: Scraper, n: int) -> list[Result]:
    results: list[Result] = []
    deadline = time.monotonic() + 120
    while len(results) < n and time.monotonic() < deadline:
        results += scraper.wait(60)
    assert len(results) == n
    return results


def fetch(scraper: Scraper, reply: bytes | Answer, plan: Plan | None = PLAN, **options: Any) -> Result:
    with serving(reply) as server:
        scraper.submit(Endpoint(server.url, **options), plan)
        return wait_all(scraper, 1)[0]


# --------------------------------------------------------------------- results


def test_a_scrape_is_submitted_and_waited_for(scraper: Scraper) -> None:
    before = time.time()
    with serving(answer(PAGE)) as server:
        endpoint = Endpoint(server.url, timeout=60)
        number = scraper.submit(endpoint, PLAN)
        assert scraper.pending == 1
        [result] = scraper.wait()
    assert scraper.pending == 0
    assert result.id == number
    assert result.endpoint is endpoint
    assert result.error is None
    assert result.fold == {"running": 7.0, "none": None}
    assert result.fold is result.fold
    assert (result.format, result.status, result.framing) == ("text", 200, "length")
    assert (result.reused, result.retried, result.wire_bytes) == (False, False, len(PAGE))
    assert before - 1 < result.started < time.time() + 1
    assert 0 <= time.monotonic() - result.at < 60
    assert repr(result) == f"<Result {server.url}: ok>"
    timings = result.timings
    assert list(timings) == ["resolved", "connected", "tls", "first_byte", "received", "done"]
    assert timings["tls"] == 0.0
    assert 0 < timings["connected"] <= timings["first_byte"] <= timings["received"] <= timings["done"] < 60
    assert result.elapsed == timings["done"]


def test_connections_are_kept(scraper: Scraper) -> None:
    with serving(answer(PAGE)) as server:
        endpoint = Endpoint(server.url)
        reused = []
        for _ in range(3):
            scraper.submit(endpoint, PLAN)
            reused += [result.reused for result in scraper.wait(60)]
        assert reused == [False, True, True]
        assert server.opened == 1


def test_many_scrapes_are_under_way_at_once(scraper: Scraper) -> None:
    def slow(request: Request, connection: socket.socket) -> bytes:
        time.sleep(0.2)
        return answer(PAGE)

    with serving(slow) as server:
        with Stopwatch() as took:
            ids = [scraper.submit(Endpoint(server.url), PLAN) for _ in range(20)]
            results = wait_all(scraper, 20)
        assert took.seconds < 2
    assert sorted(result.id for result in results) == ids == sorted(set(ids))


def test_a_body_without_a_plan_is_fetched_and_read_when_somebody_asks(scraper: Scraper) -> None:
    result = fetch(scraper, answer(PAGE), None)
    assert result.fold is None
    assert result.page is not None
    assert result.page is result.page
    assert result.page.value("sglang:running", rank="1") == 4.0


def test_the_content_type_chooses_the_format(scraper: Scraper) -> None:
    openmetrics = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    page = "# TYPE sglang:running gauge\nsglang:running 3 1.5\n# EOF\n"
    result = fetch(scraper, answer(page, content_type=openmetrics))
    assert (result.format, result.fold and result.fold["running"]) == ("openmetrics", 3.0)
    assert result.page is not None
    assert result.page.samples[0].timestamp == 1.5


def test_a_page_that_no_plan_has_read_may_be_malformed(scraper: Scraper) -> None:
    result = fetch(scraper, answer("a x\n"), None)
    assert result.error is None
    with pytest.raises(ExpositionError, match=r": line 1, column 3: .* \(after 0\.\d{3} s\)$") as caught:
        _ = result.page
    assert caught.value.endpoint == result.endpoint.label


def test_a_body_is_bytes_that_nobody_copied(scraper: Scraper) -> None:
    result = fetch(scraper, answer(PAGE))
    body = result.body
    assert body is not None
    assert body is result.body
    assert (len(body), bytes(body), repr(body)) == (len(PAGE), PAGE.encode(), f"<Body: {len(PAGE)} bytes>")
    view = memoryview(body)
    assert view.readonly
    assert PLAN.fold(body) == {"running": 7.0, "none": None}
    page = result.page
    del result, body
    gc.collect()
    assert bytes(view) == PAGE.encode()
    assert page is not None
    assert page.samples[1].labels == {"rank": "1"}


def test_an_empty_body_is_an_empty_page(scraper: Scraper) -> None:
    result = fetch(scraper, answer(""))
    assert result.error is None
    assert result.body is not None
    assert bytes(result.body) == b""
    assert result.page is not None
    assert len(result.page.samples) == 0
    assert result.fold == {"running": None, "none": None}


def test_a_result_keeps_its_endpoint_and_its_plan(scraper: Scraper) -> None:
    with serving(answer(PAGE)) as server:
        scraper.submit(Endpoint(server.url), Plan(["sglang:"], {"n": Extract(["running"])}))
        gc.collect()
        [result] = scraper.wait(60)
        del server
    gc.collect()
    assert result.fold is not None
    assert dict(result.fold) == {"n": 7.0}
    assert result.endpoint.timeout == 10.0


# -------------------------------------------------------------------- failures


def failure(scraper: Scraper, reply: bytes | Answer, **options: Any) -> Exception:
    result = fetch(scraper, reply, **options)
    error = result.error
    assert error is not None
    assert error is result.error
    assert (result.fold, result.body, result.page) == (None, None, None)
    assert "\n" not in str(error)
    assert len(str(error)) <= 300
    copied = pickle.loads(pickle.dumps(error))
    assert (type(copied), str(copied), vars(copied)) == (type(error), str(error), vars(error))
    return error


def test_a_status_is_an_http_status_error(scraper: Scraper) -> None:
    reply = answer("secret", status="503 Service Unavailable", headers={"Retry-After": "5"})
    error = failure(scraper, reply)
    assert type(error) is HTTPStatusError
    assert (error.status, error.retry_after, error.reason) == (503, 5.0, "http_status")
    assert "503" in str(error)
    assert "secret" not in str(error)
    error = failure(scraper, answer(status="404 Not Found"))
    assert isinstance(error, HTTPStatusError)
    assert (error.status, error.retry_after) == (404, None)


def test_a_refused_connection_is_a_connect_error(scraper: Scraper) -> None:
    url = f"http://127.0.0.1:{unused_port()}/metrics?token=secret"
    scraper.submit(Endpoint(url))
    [result] = scraper.wait(60)
    error = result.error
    assert type(error) is ConnectError
    assert error.reason == "connect_failed"
    assert error.endpoint == result.endpoint.label
    assert error.elapsed == result.elapsed
    assert str(error).startswith(f"{error.endpoint}: ")
    assert str(error).endswith(f" (after {error.elapsed:.3f} s)")
    assert "secret" not in str(error) + repr(result)
    assert (result.status, result.framing) == (0, "")


def test_a_silent_server_is_a_timeout(scraper: Scraper) -> None:
    with Stopwatch() as took:
        error = failure(scraper, silence, timeout=0.3)
    assert took.seconds < 0.8
    assert type(error) is ScrapeTimeout
    assert isinstance(error, TimeoutError)
    assert error.reason == "timeout_first_byte"
    assert 0.29 < error.elapsed < took.elapsed


def test_html_is_no_exposition(scraper: Scraper) -> None:
    error = failure(scraper, answer("<html>", content_type="text/html"))
    assert type(error) is NotExposition
    assert error.reason == "not_exposition"


def test_a_malformed_page_names_endpoint_line_and_column(scraper: Scraper) -> None:
    error = failure(scraper, answer("a 1\nb x\n"))
    assert type(error) is ExpositionError
    assert (error.line, error.column, error.excerpt) == (2, 3, "x")
    assert str(error).startswith(f"{error.endpoint}: line 2, column 3: {error.reason} (after ")


def test_a_page_past_a_limit_names_endpoint_and_limit(scraper: Scraper) -> None:
    error = failure(scraper, answer("a 1\n" * 1000), limits=Few())
    assert type(error) is LimitExceeded
    assert (error.limit, error.allowed) == ("body_bytes", 1000)
    assert str(error).startswith(f"{error.endpoint}: ")
    error = failure(scraper, answer("a 1\n" * 101), limits=Few())
    assert isinstance(error, LimitExceeded)
    assert (error.limit, error.allowed) == ("samples", 100)


def test_a_cut_body_is_a_scrape_error(scraper: Scraper) -> None:
    def cut(request: Request, connection: socket.socket) -> None:
        connection.sendall(answer(PAGE, headers={"Content-Length": "1000"}))

    error = failure(scraper, cut)
    assert type(error) is ScrapeError
    assert error.reason == "truncated"


def test_a_long_url_leaves_room_for_what_went_wrong(scraper: Scraper) -> None:
    scraper.submit(Endpoint(f"http://127.0.0.1:{unused_port()}/{'x' * 1500}"))
    error = scraper.wait(60)[0].error
    assert len(str(error)) <= 300
    assert str(error).endswith(" s)")


def test_a_good_scrape_follows_a_bad_one(scraper: Scraper) -> None:
    answers = iter([answer("x"), answer(status="500 No"), answer(PAGE)])
    with serving(lambda request, connection: next(answers)) as server:
        outcomes = []
        for _ in range(3):
            scraper.submit(Endpoint(server.url), PLAN)
            outcomes += [result.error is None for result in scraper.wait(60)]
    assert outcomes == [False, False, True]


# ------------------------------------------------------------------------ wait


def test_wait_returns_at_once_when_nothing_is_pending(scraper: Scraper) -> None:
    with Stopwatch() as took:
        assert scraper.wait() == []
        assert scraper.wait(5) == []
    assert took.seconds < 1


def test_wait_returns_nothing_when_the_time_is_over(scraper: Scraper) -> None:
    with serving(silence) as server:
        scraper.submit(Endpoint(server.url))
        for timeout in (0, 0.05, 0.35):
            with Stopwatch() as took:
                assert scraper.wait(timeout) == []
            assert timeout <= took.elapsed
            assert took.seconds < timeout + 0.3
        assert scraper.pending == 1


def test_wait_without_time_still_moves_things_on(scraper: Scraper) -> None:
    with serving(answer(PAGE)) as server:
        scraper.submit(Endpoint(server.url), PLAN)
        results: list[Result] = []
        assert eventually(lambda: bool(results.extend(scraper.wait(0)) or results))


def test_wait_returns_no_more_than_it_was_asked_for(scraper: Scraper) -> None:
    with serving(answer(PAGE)) as server:
        for _ in range(5):
            scraper.submit(Endpoint(server.url))
        assert eventually(lambda: len(server.requests) == 5 or bool(scraper.wait(0, max_results=1)))
        while scraper.pending:
            assert len(scraper.wait(60, max_results=2)) <= 2


@pytest.mark.parametrize("timeout", [-1, math.nan, -0.001])
def test_wait_has_no_negative_time(scraper: Scraper, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout must be None or at least 0 seconds"):
        scraper.wait(timeout)


def test_wait_takes_numbers(scraper: Scraper) -> None:
    assert scraper.wait(1e300) == []
    assert scraper.wait(math.inf, max_results=sys.maxsize) == []
    with pytest.raises(ValueError, match="max_results must be at least 1"):
        scraper.wait(max_results=0)
    with pytest.raises(TypeError):
        scraper.wait("1")  # type: ignore[arg-type]


def test_scrapes_are_submitted_together(scraper: Scraper) -> None:
    with serving(answer(PAGE)) as server:
        endpoint = Endpoint(server.url)
        assert scraper.submit_all([]) == []
        ids = scraper.submit_all(iter([endpoint] * 5), PLAN)
        assert ids == list(range(ids[0], ids[0] + 5))
        results: list[Result] = []
        while scraper.pending:
            results += scraper.wait(60)
        assert sorted(result.id for result in results) == ids
        assert all(result.fold for result in results)
        for wrong in ([endpoint, 5], 5):
            with pytest.raises(TypeError):
                scraper.submit_all(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="takes Endpoints, and a Plan or None"):
            scraper.submit_all([endpoint], 5)  # type: ignore[arg-type]
        assert scraper.pending == 0
    scraper.close()
    with pytest.raises(RuntimeError, match="closed"):
        scraper.submit_all([])


def test_a_thread_attends_to_what_others_submit_until_it_is_woken() -> None:
    scraper = Scraper()
    came: list[list[Result]] = []

    def attend() -> None:
        while not came or came[-1]:
            came.append(scraper.attend(max_results=1))

    with serving(answer(PAGE)) as server:
        thread = threading.Thread(target=attend)
        thread.start()
        for n in range(1, 4):
            scraper.submit(Endpoint(server.url), PLAN)
            assert eventually(lambda n=n: len(came) == n)  # type: ignore[misc]
        scraper.wake()
        thread.join()
    scraper.close()
    with pytest.raises(RuntimeError, match="closed"):
        scraper.attend()
    assert [len(results) for results in came] == [1, 1, 1, 0]


def test_wake_ends_a_wait(scraper: Scraper) -> None:
    with serving(silence) as server:
        scraper.submit(Endpoint(server.url))
        with soon(scraper.wake), Stopwatch() as took:
            assert scraper.wait() == []
        assert took.seconds < 0.15 + 0.2
        assert scraper.pending == 1


def test_a_wake_before_a_wait_ends_it_once(scraper: Scraper) -> None:
    with serving(silence) as server:
        scraper.submit(Endpoint(server.url))
        scraper.wake()
        scraper.wake()
        with Stopwatch() as took:
            assert scraper.wait(5) == []
        assert took.seconds < 1
        with Stopwatch() as took:
            assert scraper.wait(0.2) == []
        assert took.elapsed >= 0.2


def test_a_scrape_submitted_by_another_thread_ends_the_wait_of_the_first(scraper: Scraper) -> None:
    with serving(silence) as silent, serving(answer(PAGE)) as server:
        first = scraper.submit(Endpoint(silent.url))
        with soon(lambda: scraper.submit(Endpoint(server.url), PLAN)):
            [result] = scraper.wait(60)
    assert result.id != first
    assert result.fold == {"running": 7.0, "none": None}


def test_python_runs_while_a_thread_waits(scraper: Scraper) -> None:
    with serving(silence) as server:
        scraper.submit(Endpoint(server.url))
        ticks = 0
        done = threading.Event()

        def wait() -> None:
            scraper.wait(0.3)
            done.set()

        thread = threading.Thread(target=wait)
        thread.start()
        while not done.is_set():
            ticks += 1
        thread.join()
    assert ticks > 100


def test_a_second_thread_cannot_wait(scraper: Scraper) -> None:
    with serving(silence) as server:
        scraper.submit(Endpoint(server.url))
        results: list[Result] = []
        thread = threading.Thread(target=lambda: results.extend(scraper.wait()))
        thread.start()
        assert eventually(lambda: bool(server.requests))
        with pytest.raises(RuntimeError, match="in use by another thread"):
            scraper.wait()
        scraper.cancel()
        thread.join()
    assert len(results) == 1


# --------------------------------------------------------------------- signals


@contextmanager
def signalled(handler: Callable[[int, object], object], asked: Server) -> Iterator[None]:
    """A signal arrives, which the handler handles, once the server was asked: by a wait."""
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with soon(lambda: os.kill(os.getpid(), signal.SIGUSR1), lambda: asked.requests):
            yield
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_exception_of_a_signal_handler_ends_a_wait(scraper: Scraper, error: type[BaseException]) -> None:
    def handler(number: int, frame: object) -> None:
        raise error

    with serving(silence) as silent, serving(answer(PAGE)) as server:
        scraper.submit(Endpoint(silent.url))
        with signalled(handler, silent), Stopwatch() as took, pytest.raises(error):
            scraper.wait()
        assert took.seconds < 0.5
        assert scraper.pending == 1
        scraper.submit(Endpoint(server.url), PLAN)
        assert scraper.wait(60)[0].fold == {"running": 7.0, "none": None}


def test_a_signal_handler_that_returns_does_not_end_a_wait(scraper: Scraper) -> None:
    seen: list[int] = []
    with serving(silence) as server:
        scraper.submit(Endpoint(server.url))
        with signalled(lambda number, frame: seen.append(number), server):
            started = time.monotonic()
            while not seen:
                assert scraper.wait(0.5) == []
                assert time.monotonic() - started >= 0.5
    assert seen == [signal.SIGUSR1]


def test_a_signal_handler_may_close_the_scraper_that_waits(scraper: Scraper) -> None:
    with serving(silence) as server:
        scraper.submit(Endpoint(server.url))
        with signalled(lambda number, frame: scraper.close(), server):
            scraper.wait()
    assert repr(scraper) == "<Scraper: closed>"


# ------------------------------------------------------------ cancel and close


def test_a_cancelled_scrape_is_a_result(scraper: Scraper) -> None:
    with serving(silence) as server:
        first, second = (scraper.submit(Endpoint(server.url, timeout=60), PLAN) for _ in range(2))
        scraper.wait(0.05)
        with soon(lambda: scraper.cancel(first)), Stopwatch() as took:
            [result] = scraper.wait()
        assert took.seconds < 0.35
        assert result.id == first
        assert type(result.error) is ScrapeError
        assert result.error.reason == "cancelled"
        scraper.cancel()
        assert [result.id for result in scraper.wait()] == [second]
        assert scraper.wait() == []


def test_an_unknown_id_cancels_nothing(scraper: Scraper) -> None:
    with serving(silence) as server:
        scraper.submit(Endpoint(server.url))
        for unknown in (0, -1, 10**30, 99):
            scraper.cancel(unknown)
        assert scraper.wait(0.05) == []
        with pytest.raises(TypeError):
            scraper.cancel([])  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            scraper.cancel(1, 2)  # type: ignore[call-arg]


def test_an_argument_that_closes_the_scraper_does_no_harm() -> None:
    class Closing:
        """Closes the scraper when it is asked for its hash or its number."""

        def close(self) -> int:
            scraper.close()
            return 1

        __hash__ = __float__ = __index__ = close  # type: ignore[assignment]

    uses: list[Callable[[], object]] = [
        lambda: scraper.cancel(Closing()),  # type: ignore[arg-type]
        lambda: scraper.wait(Closing()),  # type: ignore[arg-type]
        lambda: scraper.wait(max_results=Closing()),  # type: ignore[arg-type]
    ]
    for use in uses:
        with serving(silence) as server, Scraper() as scraper:
            scraper.submit(Endpoint(server.url))
            with pytest.raises((RuntimeError, TypeError)):
                use()
            assert repr(scraper) == "<Scraper: closed>"


def test_close_ends_what_another_thread_waits_for() -> None:
    scraper = Scraper()
    results: list[Result] = []
    with serving(silence) as server:
        for _ in range(3):
            scraper.submit(Endpoint(server.url))
        thread = threading.Thread(target=lambda: results.extend(scraper.wait()))
        thread.start()
        assert eventually(lambda: len(server.requests) == 3)
        with Stopwatch() as took:
            scraper.close()
            scraper.close()
            thread.join()
        assert took.seconds < 0.2
        assert eventually(lambda: server.closed == server.opened)
    assert [getattr(result.error, "reason", None) for result in results] == ["cancelled"] * len(results)


def test_a_closed_scraper_raises() -> None:
    with Scraper() as scraper:
        pass
    scraper.close()
    endpoint = Endpoint("http://127.0.0.1:1/")
    for use in (
        scraper.wait,
        scraper.wake,
        scraper.cancel,
        scraper.__enter__,
        lambda: scraper.submit(endpoint),
        lambda: scraper.cancel(1),
    ):
        with pytest.raises(RuntimeError, match=r"^scraper is closed$"):
            use()
    assert scraper.pending == 0


def test_close_drops_what_is_pending() -> None:
    with serving(silence) as server, Scraper() as scraper:
        scraper.submit(Endpoint(server.url))
        while not server.requests:
            scraper.wait(0.01)
        scraper.close()
        assert eventually(lambda: server.closed == server.opened == 1)


def test_a_scraper_that_is_dropped_unclosed_warns_and_closes() -> None:
    with serving(silence) as server:
        scraper = Scraper()
        scraper.submit(Endpoint(server.url))
        while not server.requests:
            scraper.wait(0.01)
        with pytest.warns(ResourceWarning, match=r"^unclosed <Scraper: 1 pending>$"):
            del scraper
        assert eventually(lambda: server.closed == 1)


def test_a_scraper_that_could_not_be_made_does_not_warn() -> None:
    for options in ({"max_connections": 0}, {"max_lookups": -1}, {"guard": "*"}, {"other": 1}):
        with pytest.raises((ValueError, TypeError)):
            Scraper(**options)
    gc.collect()


def test_submit_takes_an_endpoint_and_a_plan(scraper: Scraper) -> None:
    endpoint = Endpoint("http://127.0.0.1:1/")
    for args in ((), ("http://127.0.0.1:1/",), (endpoint, "plan"), (endpoint, None, None), (PLAN, endpoint)):
        with pytest.raises(TypeError, match="takes an Endpoint, and a Plan or None"):
            scraper.submit(*args)
    assert scraper.pending == 0


def test_a_forked_child_scrapes_over_connections_of_its_own() -> None:
    script = """
        import os, sys, warnings
        from sglang_collect._core import Endpoint, Extract, Plan, Scraper
        warnings.simplefilter("ignore")
        plan = Plan(["x_"], {"n": Extract(["n"])})
        endpoint = Endpoint(sys.argv[1])
        scraper = Scraper()

        def scrape():
            scraper.submit(endpoint, plan)
            [result] = scraper.wait(60)
            return result.fold["n"], result.reused

        assert scrape() == (1.0, False), "first"
        child = os.fork()
        if child == 0:
            ok = scrape() == (1.0, False) and scrape() == (1.0, True)
            scraper.close()
            os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0, "child"
        assert scrape() == (1.0, True), "parent"
        scraper.close()
    """
    with serving(answer("x_n 1\n")) as server:
        subprocess.run([sys.executable, "-c", textwrap.dedent(script), server.url], check=True)
        assert server.opened == 2


def test_a_fork_while_a_thread_waits_leaves_the_child_free_to_wait() -> None:
    script = """
        import os, sys, threading, time, warnings
        from sglang_collect._core import Endpoint, Scraper
        warnings.simplefilter("ignore")
        scraper = Scraper()
        scraper.submit(Endpoint(sys.argv[1], timeout=1))
        thread = threading.Thread(target=scraper.wait)
        thread.start()
        time.sleep(0.1)
        child = os.fork()
        if child == 0:
            scraper.submit(Endpoint(sys.argv[1], timeout=0.1))
            results = scraper.wait(60)
            scraper.close()
            os._exit(0 if results else 1)
        assert os.waitpid(child, 0)[1] == 0, "child"
        thread.join()
        scraper.close()
    """
    with serving(silence) as server:
        subprocess.run([sys.executable, "-c", textwrap.dedent(script), server.url], check=True)


# -------------------------------------------------------------------- Endpoint


def test_an_endpoint_says_whom_it_asks() -> None:
    endpoint = Endpoint("http://host:30000/metrics?token=secret", timeout=2)
    assert endpoint.url == "http://host:30000/metrics?token=secret"
    assert endpoint.timeout == 2.0
    assert endpoint.label.startswith("http://host:30000/metrics")
    assert "secret" not in endpoint.label
    assert repr(endpoint) == f"<Endpoint {endpoint.label}>"


def test_headers_and_credentials_reach_the_server_and_nobody_else(scraper: Scraper) -> None:
    options = {
        "headers": {"X-One": "secret1", "X-Two": "b"},
        "user_agent": "agent/1",
        "bearer_token": "secret2",
    }
    with serving(answer(PAGE)) as server:
        endpoint = Endpoint(server.url, **options)
        scraper.submit(endpoint)
        [result] = scraper.wait(60)
        scraper.submit(Endpoint(server.url, basic_auth=("user", "secret3")))
        scraper.wait(60)
        first, second = server.requests
    assert (first.headers["x-one"], first.headers["x-two"]) == ("secret1", "b")
    assert (first.headers["user-agent"], first.headers["authorization"]) == ("agent/1", "Bearer secret2")
    assert second.headers["authorization"].startswith("Basic ")
    assert "secret" not in repr(endpoint) + endpoint.label + repr(result) + repr(scraper)


@pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf, 1e300, 1e-9, 10**400, 3600.1])
def test_a_timeout_out_of_range_is_a_value_error(timeout: float) -> None:
    with pytest.raises(ValueError, match=r"0\.001 to 3600"):
        Endpoint("http://host/", timeout=timeout)


@pytest.mark.parametrize("timeout", [True, "5", None, [1]])
def test_a_timeout_that_is_no_number_is_a_type_error(timeout: Any) -> None:
    with pytest.raises(TypeError, match="timeout must be a number of seconds"):
        Endpoint("http://host/", timeout=timeout)


@pytest.mark.parametrize("break_", ["\r", "\n", "\0"])
@pytest.mark.parametrize(
    "options",
    [
        lambda text: {"headers": {"X-One": text}},
        lambda text: {"headers": {f"X{text}": "one"}},
        lambda text: {"bearer_token": text},
        lambda text: {"basic_auth": (text, "password")},
        lambda text: {"basic_auth": ("user", text)},
        lambda text: {"user_agent": text},
    ],
)
def test_a_line_break_in_a_header_is_a_value_error(
    options: Callable[[str], dict[str, Any]], break_: str
) -> None:
    with pytest.raises(ValueError, match=r"header|character") as caught:
        Endpoint("http://host/", **options(f"a{break_}b"))
    assert break_ not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bearer_token": ""}, "^the bearer token is empty$"),
        ({"bearer_token": "secret", "basic_auth": ("user", "secret")}, "expected one of them$"),
    ],
)
def test_credentials_that_could_not_be_meant_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Endpoint("http://host/", **options)


def test_no_error_repeats_a_secret() -> None:
    secrets: list[dict[str, Any]] = [
        {"headers": {"X-One": "secret\n"}},
        {"headers": {"X-One": "secret\ud800"}},
        {"headers": {"X-One": b"secret"}},
        {"headers": {"X-One": ["secret"]}},
        {"bearer_token": "secret\0"},
        {"bearer_token": b"secret"},
        {"bearer_token": "\ud800secret"},
        {"basic_auth": ("user", "secret\r")},
        {"basic_auth": ("user", "secret\ud800")},
        {"basic_auth": "user:secret"},
        {"basic_auth": ("secret",)},
        {"basic_auth": ("user", b"secret")},
    ]
    for options in secrets:
        with pytest.raises((ValueError, TypeError)) as caught:
            Endpoint("http://host/", **options)
        assert "secret" not in str(caught.value)
        assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"url": 5}, "url must be a str"),
        ({"url": b"http://host/"}, "url must be a str"),
        ({"headers": 5}, "headers must be a mapping, not int"),
        ({"headers": {1: "x"}}, "a header name must be a str"),
        ({"bearer_token": 5}, "bearer_token must be a str"),
        ({"basic_auth": ["user", "password"]}, "basic_auth must be a tuple of two"),
        ({"user_agent": 5}, "user_agent must be a str"),
        ({"ca_file": 5}, "str, bytes or os.PathLike"),
        ({"client_cert": ("a", "b", "c")}, "client_cert must be a path, or a tuple of two"),
        ({"client_cert": ["a", "b"]}, "str, bytes or os.PathLike"),
        ({"verify": "ca.pem"}, "verify must be a bool, not str"),
        ({"verify": 0}, "verify must be a bool, not int"),
        ({"limits": {"samples": 5}}, "limits must be a Limits or None, not dict"),
    ],
)
def test_an_argument_of_the_wrong_type_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Endpoint(**{"url": "http://host/", **options})


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://host/", "unsupported_scheme"),
        ("file:///etc/passwd", "unsupported_scheme"),
        ("host:30000/metrics", "bad_url"),
        ("http://user:secret@host/", "bad_url"),
        ("http://ho st/", "bad_url"),
        ("", "bad_url"),
        ("http://host\n/", "bad_url"),
        ("http://host\0/", "bad_url"),
        ("http://hôst/", "bad_url"),
        ("http://host:99999/", "port_not_allowed"),
    ],
)
def test_what_is_no_url_to_scrape_is_refused_before_any_packet(url: str, reason: str) -> None:
    with pytest.raises(TargetRefused) as caught:
        Endpoint(url)
    assert (caught.value.reason, caught.value.elapsed) == (reason, 0.0)
    assert str(caught.value).startswith(f"{caught.value.endpoint}: ")
    assert "secret" not in str(caught.value) + caught.value.endpoint


@pytest.mark.parametrize("of", [str, os.fsencode, Path])
def test_a_file_that_cannot_be_used_is_a_tls_error(of: Callable[[Path], Any], tmp_path: Path) -> None:
    missing = tmp_path / "missing.pem"
    for options in (
        {"ca_file": of(missing)},
        {"client_cert": of(missing)},
        {"client_cert": (of(missing),) * 2},
    ):
        with pytest.raises(TLSError) as caught:
            Endpoint("https://host/", **options)
        assert (caught.value.reason, caught.value.elapsed) == ("tls_config", 0.0)


def test_a_nul_in_a_path_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="null"):
        Endpoint("https://host/", ca_file="a\0b")


# ----------------------------------------------------------------------- Guard


def test_a_guard_refuses_what_it_does_not_list() -> None:
    with serving(answer(PAGE)) as server:
        for allow, allowed in (([], False), ([f"127.0.0.1:{server.port}"], True), (["10.0.0.0/8"], False)):
            with Scraper(guard=Guard(allow)) as scraper:
                scraper.submit(Endpoint(server.url), PLAN)
                [result] = scraper.wait(60)
                assert isinstance(result.error, TargetRefused) is not allowed
        assert server.opened == 1


def test_a_guard_is_its_entries() -> None:
    guard = Guard(allow=iter(["10.1.0.0/16:30000-30099", "gpu1"]))
    assert guard.allow == ("10.1.0.0/16:30000-30099", "gpu1")
    assert repr(guard) == "Guard(allow=('10.1.0.0/16:30000-30099', 'gpu1'))"
    assert guard == Guard(guard.allow) != Guard()
    assert hash(guard) == hash(Guard(guard.allow))
    assert guard != guard.allow
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(guard, protocol)) == guard
    assert copy.copy(guard) == copy.deepcopy(guard) == guard


def test_an_entry_that_cannot_be_read_is_named() -> None:
    with pytest.raises(ValueError, match=r"10\.1\.0\.0/99"):
        Guard(["10.1.0.0/99"])
    with pytest.raises(TypeError, match="allow must be several str, not one"):
        Guard("10.1.0.0/16")
    with pytest.raises(TypeError, match="allow must be a str, not int"):
        Guard([1])  # type: ignore[list-item]
