"""What the extension leaves behind: references, memory, descriptors, threads; imports and interpreters."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import os
import pickle
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace

import pytest
from servers import answer, eventually, serving, unused_port

from sglang_collect import _core, errors
from sglang_collect._core import Endpoint, Extract, Guard, Histogram, Plan, Scraper, Steady, parse

PAGE = b"""\
# HELP a says "a\\nb"
# TYPE a counter
a{x="1",y="q\\"\\\\"} 3 1500
b 4
a{x="2"} NaN
# TYPE h histogram
h_bucket{le="1",k="u"} 2
h_bucket{le="+Inf",k="u"} 3
h_sum{k="u"} 4
h_count{k="u"} 3
"""

OPENMETRICS = b'# TYPE r counter\nr_total{a="1"} 5 7.25 # {trace_id="x"} 0.5 1.5\n# EOF\n'

PLAN = Plan(
    [""],
    {
        "a": Extract(["a"], where=[("x", "is", ["1"])]),
        "h": Extract(["h"], kind="histogram"),
        "by": Extract(["h"], kind="histogram", by="k"),
    },
)


# ------------------------------------------------------------------ references


def read_everything() -> None:
    page = parse(PAGE)
    for view in (page, page.samples, page.families):
        repr(view)
    for sample in page.samples[::-1]:
        repr(sample)
        hash(sample)
        assert sample == sample.family.samples[0] or sample.exemplar is None
    for name, family in page.families.items():
        assert (family.name, family.unit) == (name, "")
        repr((family, hash(family), family.type, family.help, family == page.families["b"]))
    assert page.families == parse(PAGE.decode()).families
    exemplar = parse(OPENMETRICS, format="auto").samples[0].exemplar
    repr((exemplar, exemplar == exemplar, exemplar.timestamp if exemplar else None))


def look_up() -> None:
    page = parse(bytearray(PAGE))
    assert page.value("a", x="1") == 3.0
    assert page.value("none") is None
    assert page.histogram("h", k="u") == page.histogram("h")
    for wrong in (lambda: page.value("a"), lambda: page.families["x"], lambda: page.samples[99]):
        with suppress(LookupError):
            wrong()
    with suppress(TypeError):
        page.value("a", x=1)  # type: ignore[arg-type]
    with suppress(TypeError):
        pickle.dumps(page)


def refuse_pages() -> None:
    few = SimpleNamespace(**{**_core.LIMITS, "samples": 1})
    for data in (b"a x\n", 'a{b="\ud800"} 1', PAGE, memoryview(PAGE)[::2], None):
        with suppress(ValueError, errors.LimitExceeded, BufferError, TypeError):
            parse(data, limits=few)  # type: ignore[arg-type]
        with suppress(ValueError, errors.LimitExceeded, BufferError, TypeError):
            PLAN.fold(data, limits=few)  # type: ignore[arg-type]
    with suppress(ValueError):
        parse(PAGE, format="x")  # type: ignore[arg-type]
    with suppress(AttributeError):
        parse(PAGE, limits=5)


def fold() -> None:
    for data in (PAGE, parse(PAGE), PAGE.decode()):
        found = PLAN.fold(data)
        for name in found:
            repr(
                (
                    found[name],
                    found[name],
                    found.reason(name),
                    found.n_series(name),
                    found.bounds_differ(name),
                )
            )
        assert found == dict(found)
        repr((found, found.n_samples, found.flaws))
        fields = tuple((name, name, True) for name in found)
        repr((_core.pick(fields, found), _core.pick((("x", "by", False), ("y", None, False)), found)))
        for wrong in ((("x", "none", True),), ((["x"], "by", True),), [], ("x",)):
            with suppress(KeyError, TypeError):
                _core.pick(wrong, found)  # type: ignore[arg-type]
        with suppress(KeyError):
            found.reason("none")
    found["by"]["itself"] = found


def take_columns() -> None:
    first = parse(PAGE).columns()
    repr((first, first.series, first.values, first.values.obj, sum(first.values[2:1:-1])))
    for data in (PAGE, PAGE.replace(b"b 4", b"c 4"), b"", b'{"a\\n",b="c"} 1\n' + PAGE):
        later = parse(data).columns(first)
        assert (later.series is first.series) == (data is PAGE)
        assert {series: series.labels for series in later.series}.keys() >= set(later.series)
        repr([(series.labels, series == first.series[0]) for series in later.series])
    for wrong in (lambda: parse(PAGE).columns(5), lambda: hashlib.sha256(first.values.obj)):  # type: ignore[arg-type]
        with suppress(TypeError, BufferError):
            wrong()


def fold_steadily() -> None:
    steady = Steady(PLAN)
    for data in (PAGE, PAGE.replace(b" 1500", b""), PAGE.replace(b" 1500", b""), b"a x\n", None):
        with suppress(ValueError, TypeError):
            repr((dict(steady.fold(data)), steady, steady.hit))  # type: ignore[arg-type]
    with suppress(TypeError):
        Steady(None)  # type: ignore[arg-type]


def make_plans() -> None:
    extract = Extract(["a"], where=[("x", "is", ["1"])], without=["y"], lowest=["y"], by="x", reduce="max")
    plan = Plan(["a:", "b:"], {"x": extract, "y": extract})
    repr((plan, plan.names, extract))
    wrong: list[Callable[[], object]] = [
        lambda: Extract("a"),
        lambda: Extract(["a", 1]),  # type: ignore[list-item]
        lambda: Extract(["a"], where=[("x", "is", ["1"]), ("x", "like", ["1"])]),
        lambda: Extract(["a"], by=1),  # type: ignore[arg-type]
        lambda: Plan("a", {}),
        lambda: Plan(["a"], {"x": extract, "y": None}),  # type: ignore[dict-item]
        lambda: Plan(["a"], {"x": extract, 1: extract}),  # type: ignore[dict-item]
        lambda: Plan(["a"], 5),  # type: ignore[arg-type]
    ]
    for make in wrong:
        with suppress(TypeError, ValueError):
            make()


def reckon() -> None:
    one = Histogram([1.0, float("inf")], [1, 2], sum=3.0)
    repr((one + one, one - one, one.since(one), one.quantile(0.5), one.resolution(0.5), one.mean, one.sum))
    assert pickle.loads(pickle.dumps(one)) == one
    hash(one)
    for args in (([1.0], [1]), ([1.0, float("inf")], [2, 1]), ([1.0], [1, 2]), (["x"], [1]), (5, 5)):
        with suppress(ValueError, TypeError):
            Histogram(*args)
    with suppress(TypeError):
        one + 1  # type: ignore[operator]
    with suppress(ValueError):
        one.quantile(2)
    for quantiles in ({"p50": 0.5, "p99": 1}, {"p50": 2}, {"p50": "x"}, None):
        with suppress(ValueError, TypeError):
            repr(one.summary(quantiles))  # type: ignore[arg-type]


def make_endpoints() -> None:
    endpoint = Endpoint(
        "http://127.0.0.1:1/", headers={"a": "b"}, bearer_token="t", limits=SimpleNamespace(**_core.LIMITS)
    )
    repr((endpoint, endpoint.url, endpoint.label))
    guard = Guard(["10.0.0.0/8"])
    assert pickle.loads(pickle.dumps(guard)) == guard
    repr((guard, hash(guard)))
    wrong: list[Callable[[], object]] = [
        lambda: Endpoint("ftp://host/"),
        lambda: Endpoint("http://host/", timeout=0),
        lambda: Endpoint("http://host/", headers={"a": "b\n"}),
        lambda: Endpoint("http://host/", headers={"a": 5}),  # type: ignore[dict-item]
        lambda: Endpoint("https://host/", ca_file="missing.pem"),
        lambda: Endpoint("https://host/", client_cert=("missing.pem", "a\0b")),
        lambda: Endpoint("http://host/", basic_auth=("a",)),  # type: ignore[arg-type]
        lambda: Guard(["10.0.0.0/99"]),
        lambda: Guard("10.0.0.0/8"),
        lambda: Scraper(max_connections=0),
        lambda: Scraper(guard=guard, max_lookups=-1),
    ]
    for make in wrong:
        with suppress(TypeError, ValueError, errors.ScrapeError):
            make()


SERVERS = """
import sys
from servers import answer, serving
with serving(answer(sys.argv[1])) as good, serving(answer("a x\\n")) as bad:
    print(good.url, bad.url, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def urls() -> Iterator[list[str]]:
    """A good server and one with a malformed page, in a process whose memory is not ours."""
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    command = [sys.executable, "-c", SERVERS, PAGE]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()
        process.communicate()


@pytest.fixture(scope="module")
def scraper() -> Iterator[Scraper]:
    with Scraper(max_connections=8) as scraper:  # a scraper makes handles up to that number, and keeps them
        yield scraper


ACTIONS = [
    read_everything,
    look_up,
    refuse_pages,
    fold,
    take_columns,
    fold_steadily,
    make_plans,
    reckon,
    make_endpoints,
]


@pytest.fixture(
    params=[*ACTIONS, "scrape", "fail", "open and close"],
    ids=lambda action: getattr(action, "__name__", action),
)
def action(request: pytest.FixtureRequest, urls: list[str], scraper: Scraper) -> Callable[[], None]:
    good, bad = (Endpoint(url) for url in urls)
    nobody = Endpoint(f"http://127.0.0.1:{unused_port()}/")

    def scrape() -> None:
        scraper.submit(good, PLAN)
        [result] = scraper.wait()
        repr(
            (
                result,
                result.fold and result.fold["h"],
                result.page,
                result.body,
                result.timings,
                result.framing,
            )
        )
        assert result.body is not None
        assert len(memoryview(result.body)) == len(PAGE)

    def fail() -> None:
        for endpoint in (bad, nobody):
            scraper.submit(endpoint, PLAN)
            scraper.submit(endpoint)
        while scraper.pending:
            for result in scraper.wait():
                with suppress(errors.ExpositionError):
                    assert result.error is result.error or result.page
                if result.error:
                    result.error.result = result  # type: ignore[attr-defined]
        scraper.submit(good)
        scraper.cancel()
        scraper.wait()

    def open_and_close() -> None:
        with Scraper(guard=Guard(["*"])) as other:
            other.submit(nobody)
            other.wake()
        with suppress(RuntimeError):
            other.wait()

    named = {"scrape": scrape, "fail": fail, "open and close": open_and_close}
    return named.get(request.param, request.param)  # type: ignore[no-any-return]


def references() -> dict[str, int]:
    gc.collect()
    types = {**vars(_core), **vars(errors)}
    return {name: sys.getrefcount(value) for name, value in types.items() if isinstance(value, type)}


def test_no_reference_is_left_behind(action: Callable[[], None]) -> None:
    """Each object refers to its type, so a lost one shows there."""
    action()
    before = references()
    for _ in range(10):
        action()
    assert {name: count for name, count in references().items() if count > before[name]} == {}


class Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


def heap() -> int:
    """Bytes that malloc has handed out."""
    gc.collect()
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = Mallinfo
    info = mallinfo()
    return int(info.uordblks) + int(info.hblkhd)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc only")
def test_no_memory_is_left_behind(action: Callable[[], None]) -> None:
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("the sanitizer's malloc counts nothing")
    for _ in range(20):
        action()
    growth = []
    for _ in range(5):
        before = heap()
        for _ in range(100):
            action()
        growth.append(heap() - before)
    assert min(growth) < 1000, growth


# ------------------------------------------------------ descriptors and threads


def test_scrapers_that_nobody_closed_leave_nothing_but_a_warning_each() -> None:
    def counts() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc")
    before = counts()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(1000):
            Scraper()
        gc.collect()
    assert [warning.category for warning in caught] == [ResourceWarning] * 1000
    assert counts() == before


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


def test_reading_works_on_a_small_stack() -> None:
    answers: list[object] = []

    def work() -> None:
        read_everything()
        take_columns()
        fold()
        make_endpoints()
        answers.append("done")

    before = threading.stack_size(256 * 1024)
    try:
        thread = threading.Thread(target=work)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    assert answers == ["done"]


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


def run(script: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(script), *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
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


def test_interpreters_beside_the_first_may_import_it() -> None:
    script = """
        import sys
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        work = '''
        from sglang_collect._core import Endpoint, Extract, Plan, Scraper, parse
        from sglang_collect.errors import ExpositionError
        assert parse(b"a 1\\\\n").value("a") == 1.0
        try:
            parse(b"a x")
        except ExpositionError as error:
            assert error.line == 1
        with Scraper() as scraper:
            scraper.submit(Endpoint(URL), Plan([""], {"b": Extract(["b"])}))
            [result] = scraper.wait(5)
        assert result.error is None and result.fold["b"] == 4.0, result.error
        print("done", flush=True)
        '''
        import textwrap
        work = f"URL = {sys.argv[1]!r}" + textwrap.dedent(work)
        import sglang_collect._core
        for _ in range(10):
            interpreter = interpreters.create()
            failed = interpreters.run_string(interpreter, work)
            assert failed is None, failed
            interpreters.destroy(interpreter)
        assert sglang_collect._core.parse(b"a 1\\n").value("a") == 1.0
    """
    with serving(answer(PAGE)) as server:
        done = run(script, server.url)
    assert done.stdout == "done\n" * 10


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
    assert len(types) == 19
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
