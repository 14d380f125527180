"""What the extension leaves behind: references, memory, descriptors, threads; imports and interpreters."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from core_actions import (
    ACTIONS,
    PAGE,
    SCRAPING,
    Scrapes,
    fold,
    make_endpoints,
    read_everything,
    reckon,
    take_columns,
)
from leaks import descriptors, heap, references, threads
from servers import answer, eventually, serving, serving_elsewhere, unused_port

import sglang_collect as sc
from sglang_collect import _core, errors
from sglang_collect._core import Scraper, parse

# ------------------------------------------------------------------ references


@pytest.fixture(scope="module")
def urls() -> Iterator[list[str]]:
    """A good server and one with a malformed page."""
    with serving_elsewhere(PAGE, "a x\n") as urls:
        yield urls


@pytest.fixture(scope="module")
def scraper() -> Iterator[Scraper]:
    with Scraper(max_connections=8) as scraper:  # a scraper makes handles up to that number, and keeps them
        yield scraper


@pytest.fixture(params=[*ACTIONS, *SCRAPING], ids=lambda action: getattr(action, "__name__", action))
def action(request: pytest.FixtureRequest, urls: list[str], scraper: Scraper) -> Callable[[], None]:
    if callable(request.param):
        return request.param  # type: ignore[no-any-return]
    scrapes = Scrapes(scraper, *urls, f"http://127.0.0.1:{unused_port()}/")
    return getattr(scrapes, request.param)  # type: ignore[no-any-return]


def test_no_reference_is_left_behind(action: Callable[[], None]) -> None:
    """Each object refers to its type, so a lost one shows there."""
    action()
    before = references()
    for _ in range(10):
        action()
    assert {name: count for name, count in references().items() if count > before[name]} == {}


def test_no_memory_is_left_behind(action: Callable[[], None]) -> None:
    if not heap():
        pytest.skip("a malloc that counts nothing")
    for _ in range(20):
        action()
    growth = [1000]
    while growth[-1] >= 1000 and len(growth) < 13:  # libraries fill caches of their own at first
        before = heap()
        for _ in range(100):
            action()
        growth.append(heap() - before)
    assert growth[-1] < 1000, growth


# ------------------------------------------------------ descriptors and threads


def test_scrapers_that_nobody_closed_leave_nothing_but_a_warning_each() -> None:
    before = descriptors(), threads()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(1000):
            Scraper()
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning] * 1000
    assert (descriptors(), threads()) == before


def test_a_warning_that_is_an_error_does_not_keep_a_scraper_open() -> None:
    done = run("""
        import warnings
        from sglang_collect._core import Scraper
        warnings.simplefilter("error")
        Scraper()
        print("done")
    """)
    assert done.stdout == "done\n"
    assert "ResourceWarning: unclosed <Scraper: 0 pending>" in done.stderr


@contextmanager
def small_stacks() -> Iterator[None]:
    """For the threads that start meanwhile."""
    before = threading.stack_size(256 * 1024)
    try:
        yield
    finally:
        threading.stack_size(before)


def test_reading_works_on_a_small_stack() -> None:
    answers: list[object] = []

    def work() -> None:
        read_everything()
        take_columns()
        fold()
        make_endpoints()
        answers.append("done")

    with small_stacks():
        thread = threading.Thread(target=work)
        thread.start()
    thread.join()
    assert answers == ["done"]


def test_scraping_works_on_a_small_stack() -> None:
    """In the thread of a fleet, and in one that scrapes for itself."""
    snapshots: list[sc.SGLangMetricsSnapshot | None] = []
    with serving(answer("sglang:num_running_reqs 4\n")) as server, small_stacks():
        with sc.Fleet([sc.Target("x", server.url)]) as fleet:
            snapshots += [result.snapshot for result in fleet.scrape()]
        thread = threading.Thread(target=lambda: snapshots.append(sc.scrape(server.url)))
        thread.start()
        thread.join()
    assert [shot and shot.system_metrics.num_requests_running for shot in snapshots] == [4, 4]


def test_one_page_is_read_by_many_threads() -> None:
    page = parse("".join(f'f{i % 5}{{i="{i}"}} {i}\n' for i in range(500)))
    expected = [repr(sample) for sample in page.samples]
    seen: list[bool] = []

    def work() -> None:
        for _ in range(5):
            by_family = [repr(s) for family in page.families.values() for s in family.samples]
            seen.append(sorted(by_family) == sorted(expected))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 40


def test_a_destructor_that_comes_back_into_the_core_does_no_harm() -> None:
    """The collector runs at any allocation, so also inside one of ours."""

    class Returns:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            read_everything()
            take_columns()

    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(20):
            Returns()
            fold()
            take_columns()
            reckon()
    finally:
        gc.set_threshold(*before)


# ------------------------------------------------------ imports and interpreters


def run(script: str, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(script), *args]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def test_the_extension_can_be_imported_again() -> None:
    done = run("""
        import gc, sys, weakref
        import sglang_collect._core as first
        page = first.parse(b"a 1\\n")
        gone = weakref.ref(first.Page)
        for _ in range(20):
            del sys.modules["sglang_collect._core"]
            import sglang_collect
            del sglang_collect._core
            import sglang_collect._core as again
            assert again is not first
            assert again.parse(b"a 1\\n").value("a") == page.value("a") == 1.0
            assert not isinstance(page, again.Page)
        assert again.Plan([""], {}).fold(b"") == {}
        try:
            again.Plan([""], {"a": first.Extract(["a"])})
        except TypeError:
            pass
        else:
            raise SystemExit("took an Extract of another module")
        del first, page
        gc.collect()
        assert gone() is None, "the first module is still there"
        print("done")
    """)
    assert done.stdout == "done\n"


def test_an_import_loads_no_more_than_the_exceptions() -> None:
    done = run("""
        import sys
        import sglang_collect._core
        print(sorted(name for name in sys.modules if name.startswith("sglang_collect")))
        print([name for name in ("pydantic", "fastapi", "asyncio") if name in sys.modules])
    """)
    loaded, heavy = done.stdout.splitlines()
    assert set(eval(loaded)) <= {
        "sglang_collect",
        "sglang_collect._core",
        "sglang_collect._version",
        "sglang_collect.errors",
    }
    assert heavy == "[]"


def run_in_interpreters(work: str, *args: str, times: int = 10) -> str:
    """What a script prints that runs in one interpreter after another, beside the first."""
    script = """
        import sys
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        import sglang_collect._core
        work = f"ARGS = {sys.argv[2:]}\\n{sys.stdin.read()}"
        for _ in range(int(sys.argv[1])):
            interpreter = interpreters.create()
            failed = interpreters.run_string(interpreter, work)
            assert failed is None, failed
            interpreters.destroy(interpreter)
        assert sglang_collect._core.parse(b"a 1\\n").value("a") == 1.0
    """
    return run(script, str(times), *args, stdin=textwrap.dedent(work)).stdout


def test_interpreters_beside_the_first_may_import_it() -> None:
    work = """
        from sglang_collect._core import Endpoint, Extract, Plan, Scraper, parse
        from sglang_collect.errors import ExpositionError
        assert parse(b"a 1\\n").value("a") == 1.0
        try:
            parse(b"a x")
        except ExpositionError as error:
            assert error.line == 1
        with Scraper() as scraper:
            scraper.submit(Endpoint(ARGS[0]), Plan([""], {"b": Extract(["b"])}))
            [result] = scraper.wait(60)
        assert result.error is None and result.fold["b"] == 4.0, result.error
        print("done", flush=True)
    """
    with serving(answer(PAGE)) as server:
        assert run_in_interpreters(work, server.url) == "done\n" * 10


@pytest.mark.skipif(sys.version_info[:2] == (3, 12), reason="asyncio alone makes a sub-interpreter crash")
def test_there_a_collector_says_what_it_cannot_have() -> None:
    """Its models, where pydantic refuses to be imported, or its thread, where the interpreter allows none."""
    work = """
        import asyncio
        import sglang_collect as sc
        async def collect():
            async with sc.SGLangCollector() as collector:
                return await collector.collect("x", ARGS[0])
        try:
            asyncio.run(collect())
        except (ImportError, RuntimeError) as error:
            assert any(word in str(error).lower() for word in ("pydantic", "pyo3", "thread")), error
            print("refused", flush=True)
        assert sc.parse(b"a 1\\n").value("a") == 1.0
    """
    with serving(answer("sglang:num_running_reqs 4\n")) as server:
        assert run_in_interpreters(work, server.url, times=2) == "refused\n" * 2


def test_an_interpreter_exits_while_threads_scrape() -> None:
    script = """
        import sys, threading, time
        from sglang_collect._core import Endpoint, Scraper
        def work():
            scraper = Scraper()
            endpoint = Endpoint(sys.argv[1])
            while True:
                scraper.submit(endpoint)
                scraper.wait(1)
        for _ in range(8):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.3)
        print("done")
    """
    with serving(answer(PAGE)) as server:
        done = run(script, server.url)
        assert (done.stdout, done.stderr) == ("done\n", "")
        assert eventually(lambda: server.closed == server.opened)


def test_an_interpreter_exits_with_everything_alive() -> None:
    done = run(
        """
        import sys
        from sglang_collect._core import Endpoint, Extract, Guard, Histogram, Plan, Scraper, parse
        page = parse(b"a 1\\n")
        samples, families = page.samples, page.families
        sample, family = samples[0], families["a"]
        columns = page.columns()
        values, labels = columns.values, columns.series[0].labels
        plan = Plan([""], {"a": Extract(["a"], by="x")})
        fold = plan.fold(page)
        fold["a"]["fold"] = fold
        guard = Guard(["*"])
        scraper = Scraper()
        for _ in range(3):
            scraper.submit(Endpoint(sys.argv[1]), plan)
        [result, *_] = scraper.wait()
        error = result.error
        print("done")
        """,
        f"http://127.0.0.1:{unused_port()}/",
    )
    assert done.stdout == "done\n"


# ------------------------------------------------------------------- constants


def test_reasons_name_the_exception_they_come_with() -> None:
    for reason, name in _core.REASONS.items():
        assert reason
        assert issubclass(getattr(errors, name, MemoryError), Exception)
        assert hasattr(errors, name) or (reason, name) == ("out_of_memory", "MemoryError")
    assert _core.REASONS["connect_failed"] == "ConnectError"
    assert _core.REASONS["malformed"] == "ExpositionError"
    assert "" not in _core.REASONS


def test_every_public_thing_says_what_it_is() -> None:
    types = [value for value in vars(_core).values() if isinstance(value, type)]
    assert len(types) == 20
    for owner in [*types, _core.parse]:
        assert owner.__doc__
    for type_ in types:
        for name, member in vars(type_).items():
            if not name.startswith("_"):
                assert member.__doc__ or name in ("index", "count", "get", "keys", "items", "values"), (
                    type_,
                    name,
                )
        assert type_.__module__ == "sglang_collect._core"
