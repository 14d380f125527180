"""scrape and SGLangCollector: connections, cancellation, loops, threads, processes."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from typing import Any

import pytest
from fleets import fail_once, once_asked, python
from servers import Held, Server, eventually, serving, soon, unused_port
from stopwatch import Stopwatch

import sglang_collect as sc
from sglang_collect import collector as module
from sglang_collect.collector import _Driver, _Loop


async def running(collector: sc.SGLangCollector, url: str) -> int:
    snapshot = await collector.collect(instance_id="x", endpoint=url)
    return snapshot.system_metrics.num_requests_running


async def running_at(driver: _Driver, url: str, timeout: float = 10) -> int:
    result = await driver.result(driver.endpoint(url, headers=(), timeout=timeout))
    if result.error is not None:
        raise result.error
    assert result.fold is not None
    return int(result.fold["system_metrics.num_requests_running"])


OTHERS: set[threading.Thread] = set()
"""Threads of drivers that other tests' applications have not let go of."""


@pytest.fixture(scope="module", autouse=True)
def others() -> None:
    OTHERS.update(threading.enumerate())


def threads() -> int:
    return sum(thread.name == "sglang_collect" and thread not in OTHERS for thread in threading.enumerate())


# ------------------------------------------------------------------ scrape


def test_scrape_names_the_instance_by_host_and_port(server: Server) -> None:
    snapshot = sc.scrape(f"{server.url}/7")
    assert snapshot.instance_id == f"127.0.0.1:{server.port}"
    assert snapshot.endpoint == f"{server.url}/7"
    assert snapshot.system_metrics.num_requests_running == 7
    assert sc.scrape(f"{server.url}/7", instance_id="gpu-1").instance_id == "gpu-1"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://gpu-1/metrics", "gpu-1:80"),
        ("https://gpu-1/metrics", "gpu-1:443"),
        ("http://[::1]:30000/metrics", "[::1]:30000"),
    ],
)
def test_the_name_of_an_instance_has_the_port_of_the_scheme(url: str, name: str) -> None:
    assert module._host_port(url) == name


def test_scrape_sends_what_its_options_say(server: Server) -> None:
    sc.scrape(f"{server.url}/1", headers={"X-Team": "blue"}, bearer_token="t0ken")
    sc.scrape(f"{server.url}/1", basic_auth=("user", "word"))
    first, second = server.requests
    assert first.headers["x-team"] == "blue"
    assert first.headers["authorization"] == "Bearer t0ken"
    assert first.headers["user-agent"] == f"sglang-collect/{sc.__version__}"
    assert second.headers["authorization"] == "Basic dXNlcjp3b3Jk"


def test_scrape_refuses_a_page_over_its_limits(server: Server) -> None:
    with pytest.raises(sc.LimitExceeded) as caught:
        sc.scrape(f"{server.url}/1", limits=sc.Limits(body_bytes=10))
    assert (caught.value.limit, caught.value.allowed) == ("body_bytes", 10)


def test_scrape_asks_its_guard(server: Server) -> None:
    with pytest.raises(sc.TargetRefused):
        sc.scrape(f"{server.url}/1", guard=sc.Guard(allow=["10.0.0.0/8"]))
    assert not server.requests
    sc.scrape(f"{server.url}/1", guard=sc.Guard(allow=["127.0.0.1/32:1-65535"]))


def test_ctrl_c_ends_a_scrape(silent: Server) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys, sglang_collect as sc; sc.scrape(sys.argv[1])", silent.url],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert eventually(lambda: len(silent.requests) == 1)
    with Stopwatch() as took:
        child.send_signal(signal.SIGINT)
        _, stderr = child.communicate(timeout=60)
    assert took.seconds < 1.0
    assert stderr.rstrip().endswith("KeyboardInterrupt")


# ------------------------------------------------------ the collector's life


async def test_a_collector_that_is_not_entered_or_left_again_does_not_collect(server: Server) -> None:
    collector = sc.SGLangCollector()
    words = r"^Collector not initialized\. Use async context manager\.$"
    with pytest.raises(RuntimeError, match=words):
        await running(collector, f"{server.url}/1")
    async with collector:
        assert await running(collector, f"{server.url}/1") == 1
    with pytest.raises(RuntimeError, match=words):
        await running(collector, f"{server.url}/1")
    async with collector:
        assert await running(collector, f"{server.url}/2") == 2


async def test_a_collector_is_entered_once_at_a_time() -> None:
    async with sc.SGLangCollector() as collector:
        with pytest.raises(RuntimeError, match="already in use"):
            await collector.__aenter__()


async def test_leaving_a_collector_closes_its_connections_and_ends_its_thread(server: Server) -> None:
    async with sc.SGLangCollector() as collector:
        await running(collector, f"{server.url}/1")
        assert threads() == 1
    assert eventually(lambda: server.closed == server.opened == 1)
    assert eventually(lambda: threads() == 0)


async def test_a_collector_that_never_collects_starts_no_thread() -> None:
    async with sc.SGLangCollector():
        assert threads() == 0


async def test_leaving_a_collector_ends_what_is_under_way_as_cancelled(silent: Server) -> None:
    async with sc.SGLangCollector() as collector:
        tasks = [asyncio.create_task(running(collector, f"{silent.url}/{n}")) for n in range(5)]
        await asyncio.to_thread(eventually, lambda: len(silent.requests) == 5)
    for task in tasks:
        with pytest.raises(sc.ScrapeError) as caught:
            await task
        assert caught.value.reason == "cancelled"


async def test_a_driver_that_is_dropped_without_closing_ends_its_thread(server: Server) -> None:
    collector = await sc.SGLangCollector().__aenter__()
    await running(collector, f"{server.url}/1")
    assert threads() == 1
    del collector
    gc.collect()
    assert eventually(lambda: threads() == 0)
    assert eventually(lambda: server.closed == 1)


async def test_a_closed_driver_opens_anew(server: Server) -> None:
    async with sc.SGLangCollector() as collector:
        assert await running(collector, f"{server.url}/1") == 1
        await collector._driver.aclose()
        await collector._driver.aclose()
        assert await running(collector, f"{server.url}/2") == 2


# ------------------------------------------------------------------ reuse


async def test_collects_reuse_the_connection(server: Server) -> None:
    async with sc.SGLangCollector() as collector:
        for n in range(10):
            assert await running(collector, f"{server.url}/{n}") == n
    assert server.opened == 1


async def test_scrapes_of_one_driver_reuse_each_others_connections(server: Server) -> None:
    driver = _Driver()
    for n in range(5):
        assert await running_at(driver, f"{server.url}/{n}", timeout=n + 1) == n
    await driver.aclose()
    assert server.opened == 1


async def test_an_endpoint_is_prepared_once(server: Server) -> None:
    async with sc.SGLangCollector() as collector:
        for n in (1, 2, 1, 2, 1):
            await running(collector, f"{server.url}/{n}")
        cached = collector._driver.endpoint.cache_info()
        assert cached.hits == 3
        assert cached.maxsize is not None


async def test_every_collect_gets_the_answer_to_its_own_request(server: Server) -> None:
    async with sc.SGLangCollector() as collector:
        answers = await asyncio.gather(*(running(collector, f"{server.url}/{n}") for n in range(200)))
    assert answers == list(range(200))


# --------------------------------------------------------- time and failure


async def test_a_timeout_counts_from_the_call(silent: Server) -> None:
    async with sc.SGLangCollector(timeout=1.0) as collector:
        with Stopwatch() as took, pytest.raises(sc.ScrapeTimeout) as caught:
            await running(collector, silent.url)
    assert took.elapsed > 0.95
    assert took.seconds < 1.3
    assert caught.value.reason == "timeout_first_byte"
    assert isinstance(caught.value, TimeoutError)


async def test_a_failure_leaves_its_neighbours_alone(server: Server, silent: Server) -> None:
    driver = _Driver()
    outcomes = await asyncio.gather(
        running_at(driver, silent.url, timeout=1.0),
        running_at(driver, f"{server.url}/not-a-number", timeout=60),
        running_at(driver, f"{server.url}/5", timeout=60),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes] == [sc.ScrapeTimeout, sc.ExpositionError, int]
    assert await running_at(driver, f"{server.url}/6", timeout=60) == 6
    await driver.aclose()


async def test_an_error_goes_away_without_the_garbage_collector() -> None:
    url = f"http://127.0.0.1:{unused_port()}/"
    errors = []
    gc.disable()
    try:
        async with sc.SGLangCollector() as collector:
            try:
                await running(collector, url)
            except sc.ConnectError as error:
                errors.append(weakref.ref(error))
        try:
            sc.scrape(url)
        except sc.ConnectError as error:
            errors.append(weakref.ref(error))
        assert [error() for error in errors] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), 1e300, 1e-9])
async def test_a_timeout_out_of_range_is_refused_at_construction(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        sc.SGLangCollector(timeout=timeout)
    with pytest.raises(ValueError, match="timeout"):
        sc.scrape("http://127.0.0.1:9/metrics", timeout=timeout)


def test_a_credential_with_a_line_break_is_refused_at_construction_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="bearer") as caught:
        sc.SGLangCollector(bearer_token="secret\r\nHost: x")
    assert "secret" not in str(caught.value)


def test_a_missing_certificate_file_is_refused_at_construction() -> None:
    with pytest.raises(sc.TLSError) as caught:
        sc.SGLangCollector(ca_file="/nonexistent/ca.pem")
    assert caught.value.reason == "tls_config"


async def test_an_endpoint_that_is_no_url_is_refused(server: Server) -> None:
    async with sc.SGLangCollector() as collector:
        for url in ("ftp://127.0.0.1/metrics", "127.0.0.1:30000", "http://user:pw@127.0.0.1/"):
            with pytest.raises(sc.TargetRefused) as caught:
                await running(collector, url)
            assert caught.value.reason in ("bad_url", "unsupported_scheme")
        assert await running(collector, f"{server.url}/1") == 1


async def test_a_thread_that_fails_ends_everything_and_the_next_collect_works(
    server: Server, silent: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail_once(monkeypatch, ZeroDivisionError)
    async with sc.SGLangCollector() as collector:
        with pytest.raises(ZeroDivisionError):
            await running(collector, silent.url)
        assert await running(collector, f"{server.url}/1") == 1
    assert "thread that scrapes has failed" in caplog.text


async def test_a_thread_that_lacks_memory_ends_everything_and_goes_on(
    server: Server, silent: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacks = [MemoryError()]

    class Lacking:
        """A scraper whose first wait with something under way has no memory."""

        def __init__(self, **options: Any) -> None:
            self._scraper = real(**options)
            made.append(self)

        def attend(self) -> list[Any]:
            if lacks:
                assert eventually(lambda: self._scraper.pending > 0)
                raise lacks.pop()
            return self._scraper.attend()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._scraper, name)

    made: list[Lacking] = []
    real = module._core.Scraper
    monkeypatch.setattr(module._core, "Scraper", Lacking)
    async with sc.SGLangCollector() as collector:
        with pytest.raises(MemoryError):
            await running(collector, silent.url)
        assert await running(collector, f"{server.url}/1") == 1
        assert len(made) == 1


async def test_a_result_that_there_is_no_memory_for_comes_when_there_is(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacks = [MemoryError()] * 3
    real = module._Loop.__call__

    def deliver(self: Any, batch: Any) -> None:
        if lacks:
            raise lacks.pop()
        real(self, batch)

    monkeypatch.setattr(module._Loop, "__call__", deliver)
    async with sc.SGLangCollector() as collector:
        assert await running(collector, f"{server.url}/1") == 1
    assert not lacks


# ------------------------------------------------------------ cancellation


async def hung_up_on(silent: Server) -> None:
    """Waits for the end of its one connection, which has to be soon."""
    with Stopwatch() as took:
        assert await asyncio.to_thread(eventually, lambda: silent.closed == silent.opened == 1)
    assert took.seconds < 0.5


async def test_cancelling_the_task_ends_the_transfer(server: Server, silent: Server) -> None:
    async with sc.SGLangCollector() as collector:
        task = asyncio.create_task(running(collector, silent.url))
        await asyncio.to_thread(eventually, lambda: len(silent.requests) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await hung_up_on(silent)
        assert await running(collector, f"{server.url}/1") == 1


async def test_a_timeout_around_a_collect_is_asyncios_own(silent: Server) -> None:
    async with sc.SGLangCollector(timeout=60) as collector:
        task = asyncio.create_task(running(collector, silent.url))
        assert await asyncio.to_thread(eventually, lambda: silent.requests)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(task, timeout=0.05)
        await hung_up_on(silent)


def test_a_run_that_ends_with_collects_under_way_is_quiet(silent: Server) -> None:
    script = """
        import asyncio, sys
        import sglang_collect as sc

        async def main(silent, gate):
            collector = await sc.SGLangCollector(timeout=60).__aenter__()
            tasks = [asyncio.create_task(collector.collect("x", silent)) for _ in range(8)]
            await collector.collect("y", gate)
            return collector, tasks

        collector, tasks = asyncio.run(main(*sys.argv[1:]))
        print(all(task.cancelled() for task in tasks))
        """
    with serving(once_asked(silent, 8)) as gate:
        done = python(script, silent.url, gate.url)
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)
    assert eventually(lambda: silent.opened == silent.closed == 8)


def test_a_loop_closed_with_a_collect_under_way_does_no_harm(server: Server, held: Held) -> None:
    collector = sc.SGLangCollector(timeout=60)
    driver = collector._driver
    loop = asyncio.new_event_loop()
    loop.run_until_complete(collector.__aenter__())
    ticket = None

    async def start() -> None:
        nonlocal ticket
        ticket = driver.submit(collector._endpoint(held.url), loop.create_future(), _Loop(loop))

    loop.run_until_complete(start())
    assert eventually(lambda: len(held.requests) == 1)
    loop.close()
    held.release()

    async def go_on() -> int:
        number = await running(collector, f"{server.url}/1")
        await driver.aclose()
        return number

    assert asyncio.run(go_on()) == 1


# -------------------------------------------------------- loops and threads


def test_loops_in_several_threads_share_a_driver(server: Server) -> None:
    driver = _Driver()
    numbers: dict[int, list[int]] = {}

    async def work(first: int) -> None:
        numbers[first] = await asyncio.gather(
            *(running_at(driver, f"{server.url}/{n}") for n in range(first, first + 50))
        )

    workers = [threading.Thread(target=asyncio.run, args=(work(first),)) for first in (0, 100, 200, 300)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert numbers == {first: list(range(first, first + 50)) for first in (0, 100, 200, 300)}
    assert threads() == 1
    asyncio.run(driver.aclose())
    assert eventually(lambda: threads() == 0)


async def test_the_loop_goes_on_while_pages_are_read(server: Server, silent: Server) -> None:
    async with sc.SGLangCollector() as collector:
        waiting = asyncio.create_task(running(collector, silent.url))
        for n in range(20):
            assert await running(collector, f"{server.url}/{n}") == n
            await asyncio.sleep(0.01)
        assert not waiting.done()
        waiting.cancel()


def test_it_works_under_uvloop(server: Server, silent: Server) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> list[int]:
        async with sc.SGLangCollector() as collector:
            task = asyncio.create_task(running(collector, silent.url))
            await asyncio.sleep(0.05)
            task.cancel()
            return await asyncio.gather(*(running(collector, f"{server.url}/{n}") for n in range(50)))

    loop = uvloop.new_event_loop()
    try:
        assert loop.run_until_complete(main()) == list(range(50))
    finally:
        loop.close()


# ------------------------------------------------------------------ processes


def test_a_forked_child_scrapes_over_connections_of_its_own(server: Server) -> None:
    done = python(
        """
        import asyncio, os, sys, warnings
        import sglang_collect as sc
        from sglang_collect.collector import _Driver

        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
        url = sys.argv[1]
        driver = _Driver()

        async def ask(numbers):
            for n in numbers:
                result = await driver.result(driver.endpoint(f"{url}/{n}", headers=()))
                assert result.fold["system_metrics.num_requests_running"] == n, n

        asyncio.run(ask(range(3)))
        child = os.fork()
        asyncio.run(ask(range(100, 400) if child else range(500, 800)))
        asyncio.run(driver.aclose())
        if child:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """,
        server.url,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert server.opened == 2


def test_a_child_forked_while_a_collect_is_under_way_neither_waits_nor_disturbs_it(
    server: Server, held: Held
) -> None:
    script = """
        import asyncio, os, sys, warnings
        import sglang_collect as sc

        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads

        async def main(held, gate, forked):
            async with sc.SGLangCollector(timeout=60) as collector:
                task = asyncio.create_task(collector.collect("x", held))
                await collector.collect("y", gate)
                child = os.fork()
                if not child:
                    task.cancel()
                    os._exit(0)
                assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
                await collector.collect("z", forked)
                print((await task).system_metrics.num_requests_running)

        asyncio.run(main(*sys.argv[1:]))
        """
    with serving(once_asked(held, 1)) as gate, soon(held.release, lambda: server.requests):
        done = python(script, held.url, gate.url, f"{server.url}/1")
    assert (done.stdout, done.stderr, done.returncode) == ("4\n", "", 0)


EXITS = {
    "an idle driver": """
        async def main():
            await (await sc.SGLangCollector().__aenter__()).collect("x", page)
        asyncio.run(main())
    """,
    "an idle driver of a module": """
        driver = _Driver()
        async def main():
            await driver.result(driver.endpoint(page, headers=()))
        asyncio.run(main())
    """,
    "a loop in a daemon thread": """
        async def main():
            async with sc.SGLangCollector() as collector:
                await asyncio.gather(*(collector.collect("x", silent) for _ in range(8)))
        threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()
        time.sleep(0.3)
    """,
    "collects submitted and forgotten": """
        driver = _Driver()
        async def main():
            for _ in range(8):
                driver.submit(driver.endpoint(silent, headers=()), None, print)
        asyncio.run(main())
        time.sleep(0.1)
    """,
    "eight threads in scrape": """
        for _ in range(8):
            threading.Thread(target=sc.scrape, args=(silent,), daemon=True).start()
        time.sleep(0.3)
    """,
}


@pytest.mark.parametrize("what", EXITS)
def test_an_interpreter_exits_at_once_and_quietly_beside(what: str, server: Server, silent: Server) -> None:
    prelude = """
        import atexit, time
        atexit.register(time.sleep, 0.2)  # runs last, so that a thread has time to complain
        import asyncio, sys, threading
        import sglang_collect as sc
        from sglang_collect.collector import _Driver
        page, silent = sys.argv[1:]
    """
    script = textwrap.dedent(prelude) + textwrap.dedent(EXITS[what]) + "print(time.time())"
    with Stopwatch() as took:
        done = python(script, f"{server.url}/1", silent.url)
        ended = time.time()
    assert (done.stderr, done.returncode) == ("", 0)
    assert ended - float(done.stdout) - took.late < 1.5


# -------------------------------------------------------------------- logging


async def test_the_log_is_quiet_unless_asked(
    server: Server, silent: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "sglang_collect")
    async with sc.SGLangCollector(timeout=60) as collector:
        await running(collector, f"{server.url}/1?token=secret")
    async with sc.SGLangCollector(timeout=0.1) as collector:
        with pytest.raises(sc.ScrapeTimeout):
            await running(collector, f"{silent.url}?token=secret")
    assert [record.levelname for record in caplog.records] == ["DEBUG", "DEBUG"]
    assert "secret" not in caplog.text
    assert server.url in caplog.messages[0]
    assert silent.url in caplog.messages[1]
