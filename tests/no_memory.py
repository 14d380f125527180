"""Every call of the extension with every allocation of Python's failing: once, and from then on.

A program for an interpreter of its own: ``python tests/no_memory.py [planted]``. Python's own code does not
survive this everywhere: a handler that needs memory to begin is entered again and again. So each call is made
straight from ``attempt``, whose handlers need none.

``planted`` tries a call instead that leaves an object behind, which must be found.
"""

from __future__ import annotations

import sys
import warnings
from _testcapi import remove_mem_hooks, set_nomemory  # type: ignore[import-not-found]
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from operator import add, attrgetter, eq, getitem, methodcaller, sub
from types import FunctionType, SimpleNamespace
from typing import Any

from core_actions import OPENMETRICS, PAGE, PLAN, Kept
from leaks import blocks, heap, references
from servers import serving_elsewhere, unused_port

from sglang_collect import _core
from sglang_collect._core import (
    Endpoint,
    Extract,
    Guard,
    Histogram,
    Layout,
    Plan,
    Result,
    Scraper,
    Steady,
    parse,
)

SERVERS = ExitStack()
GOOD, BAD = (Endpoint(url) for url in SERVERS.enter_context(serving_elsewhere(PAGE, "a x\n")))
NOBODY = Endpoint(f"http://127.0.0.1:{unused_port()}/")
KEPT = Scraper()
FEW = SimpleNamespace(**{**_core.LIMITS, "samples": 1})
FIELDS = (*((name, name, True) for name in PLAN.names), ("none", None, False))
WRITTEN = (
    *(("a", "a", True), ("h", "h", False), ("f", "f", False), ("m", None, True), ("o", ())),
    *((f"a{n}", "a", True) for n in range(20)),
)
BOUNDS, COUNTS = [1.0, float("inf")], [1.0, 2.0]

Call = tuple[Callable[..., Any], Callable[[], tuple[Any, ...]]]
"""What is called, and what makes its arguments anew each time, with all memory there."""


def scraped(endpoint: Endpoint, plan: Plan | None = PLAN) -> Result:
    KEPT.submit(endpoint, plan)
    [result] = KEPT.wait()
    return result


def submitted(endpoint: Endpoint) -> Scraper:
    scraper = Scraper()
    scraper.submit(endpoint, PLAN)
    return scraper


def woken() -> Scraper:
    scraper = Scraper()
    scraper.wake()
    return scraper


MAKERS: dict[type, list[Callable[[], Any]]] = {
    _core.Page: [lambda: parse(PAGE), lambda: parse(OPENMETRICS, format="openmetrics")],
    _core.Samples: [lambda: parse(PAGE).samples],
    _core.Sample: [lambda: parse(PAGE).samples[0], lambda: parse(OPENMETRICS, format="auto").samples[0]],
    _core.Exemplar: [lambda: parse(OPENMETRICS, format="auto").samples[0].exemplar],
    _core.Family: [lambda: parse(PAGE).families["h"]],
    _core.Families: [lambda: parse(PAGE).families],
    _core.Values: [lambda: parse(PAGE).values.obj],
    _core.Columns: [lambda: parse(PAGE).columns()],
    _core.Series: [lambda: parse(PAGE).columns().series[0]],
    _core.Histogram: [lambda: Histogram(BOUNDS, COUNTS, sum=3.0)],
    _core.Extract: [lambda: Extract(["a"])],
    _core.Plan: [
        lambda: Plan(["s:"], {"x": Extract(["a"]), "y": Extract(["a"], kind="histogram")}),
        lambda: Plan([""], {"x": Extract([], kind="label", by="a")}, {"f": (("total", "x", "b"),)}),
    ],
    _core.Fold: [lambda: PLAN.fold(PAGE)],
    _core.Steady: [lambda: Steady(PLAN)],
    _core.Guard: [lambda: Guard(["10.0.0.0/8", "host"])],
    _core.Endpoint: [lambda: Endpoint("http://host:1/?a=b", headers={"a": "b"})],
    _core.Body: [lambda: scraped(GOOD).body],
    _core.Result: [
        lambda: scraped(GOOD),
        lambda: scraped(BAD),
        lambda: scraped(NOBODY),
        lambda: scraped(BAD, None),
    ],
    _core.Scraper: [Scraper, lambda: submitted(GOOD)],
}
"""An object of every type, in each of its states."""

METHODS: dict[str, list[tuple[Any, ...]]] = {
    "Page.value": [("b",), ("a",), ("none",)],
    "Page.histogram": [("h",), ("a",), ("none",)],
    "Page.columns": [(), (parse(PAGE).columns(),), (5,)],
    "Fold.n_series": [("a",), ("none",)],
    "Fold.reason": [("a",), ("none",)],
    "Fold.bounds_differ": [("h",), ("none",)],
    "Histogram.quantile": [(0.5,), (2,), ("x",)],
    "Histogram.resolution": [(0.5,), (2,)],
    "Histogram.since": [(Histogram(BOUNDS, COUNTS),), (5,)],
    "Histogram.summary": [({"p50": 0.5, "p99": 1},), ({"p50": 2},), (None,)],
    "Plan.fold": [(PAGE,), (PAGE.decode(),), (bytearray(PAGE),), (parse(PAGE),), (b"s:a x\n",), (5,)],
    "Steady.fold": [(PAGE,), (bytearray(PAGE),), (b"a x\n",), (5,)],
    "Scraper.submit": [(GOOD, PLAN), (GOOD,), (5,)],
    "Scraper.submit_all": [([GOOD, BAD], PLAN), ((GOOD,),), ([5],), (5,)],
    "Scraper.attend": [(5,)],
    "Scraper.wait": [(), (0,), (-1,), ("x",)],
    "Scraper.cancel": [(), (1,), ([],)],
}
"""The arguments of methods that take some."""


def all_or_none(scraper: Scraper) -> list[int]:
    """Submits some; where there was no memory for all, nobody hears of any."""
    try:
        return scraper.submit_all([NOBODY] * 10)
    except MemoryError:
        remove_mem_hooks()
        assert scraper.wait() == []
        raise


PLAIN: list[Callable[..., Any]] = [repr, hash, len, list, methodcaller("__reduce_ex__", 4), memoryview]
MORE: list[Call] = [
    (parse, lambda: (PAGE,)),
    (parse, lambda: (PAGE.decode(),)),
    (parse, lambda: (memoryview(PAGE),)),
    (parse, lambda: (b"a x\n",)),
    (parse, lambda: ('a{b="\ud800"} 1',)),
    (parse, lambda: (5,)),
    (eq, lambda: (parse(PAGE).samples[0], parse(PAGE).samples[0])),
    (eq, lambda: (Guard(["a"]), Guard(["a"]))),
    (getitem, lambda: (parse(PAGE).samples, 1)),
    (getitem, lambda: (parse(PAGE).samples, slice(None, None, -1))),
    (getitem, lambda: (parse(PAGE).samples, 99)),
    (getitem, lambda: (parse(PAGE).families, "h")),
    (getitem, lambda: (parse(PAGE).families, "none")),
    *((getitem, lambda name=name: (PLAN.fold(PAGE), name)) for name in [*PLAN.names, "none"]),
    (_core.process, tuple),
    (_core.pick, lambda: (FIELDS, PLAN.fold(PAGE))),
    (_core.fallen, lambda: (PLAN.fold(b""), PLAN.fold(PAGE), PLAN.names)),
    (_core.pick, lambda: ((("x", "none", True),), PLAN.fold(PAGE))),
    (_core.pick, lambda: ([], PLAN.fold(PAGE))),
    (_core.build, lambda: ((Kept, {"a": 1}, ("b",), None), (2,), {"_c": 3})),
    (_core.build, lambda: ((Kept, {"a": 1}, ("b",), None), ())),
    (_core.add_fields, lambda: (_core.build((Kept, {"a": 1}, (), None), (), None), {"a": 2, "b": 3})),
    (_core.moment, lambda: (1.7e9,)),
    (_core.moment, lambda: (1e300,)),
    (_core.build_groups, lambda: ((("g", Kept, {"a": 1, "b": 2}, FIELDS),), PLAN.fold(PAGE))),
    (_core.build_groups, lambda: ((("g", Kept, {}, (("a", "none", True),)),), PLAN.fold(PAGE))),
    (Layout, lambda: (WRITTEN, PLAN, (("p50", 0.5), ("p99", 0.99)))),
    (Layout, lambda: ((("x", "none", True),), PLAN)),
    (methodcaller("write", PLAN.fold(PAGE), (1.5,)), lambda: (Layout(WRITTEN, PLAN, (("p50", 0.5),)),)),
    (methodcaller("write", PLAN.fold(PAGE), ()), lambda: (Layout(WRITTEN, PLAN),)),
    (methodcaller("labels", PLAN.names[0]), lambda: (PLAN.fold(PAGE),)),
    (methodcaller("labels", "by"), lambda: (PLAN.fold(PAGE),)),
    (methodcaller("attend"), lambda: (woken(),)),
    (add, lambda: (Histogram(BOUNDS, COUNTS), Histogram(BOUNDS, COUNTS))),
    (sub, lambda: (Histogram(BOUNDS, COUNTS), Histogram(BOUNDS, COUNTS))),
    (add, lambda: (Histogram(BOUNDS, COUNTS), 5)),
    (Histogram, lambda: (BOUNDS, COUNTS)),
    (Histogram, lambda: (BOUNDS, [2.0, 1.0])),
    (Histogram, lambda: (["x"], 5)),
    (Plan, lambda: ([""], {"x": Extract(["a"])}, {"f": (("number", "y"),)})),
    (Plan, lambda: ([""], {"x": Extract(["a"])}, {"x": (("nothing",),)})),
    (Extract, lambda: (["a", "b"],)),
    (Extract, lambda: ("a",)),
    (Plan, lambda: (["s:"], {"x": Extract(["a"]), "y": Extract(["a"])})),
    (Plan, lambda: (["s:"], {"x": None})),
    (Steady, lambda: (PLAN,)),
    (Guard, lambda: (["10.0.0.0/8:1-9", "host"],)),
    (Guard, lambda: (["10.0.0.0/99"],)),
    (Endpoint, lambda: ("http://host/",)),
    (Endpoint, lambda: ("ftp://host/",)),
    (Scraper, tuple),
    (all_or_none, lambda: (Scraper(),)),
]
KEYWORDS: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = [
    (parse, (PAGE,), {"format": "auto", "strict": True, "limits": FEW}),
    (parse, (OPENMETRICS,), {"format": "openmetrics", "strict": True}),
    (parse, (PAGE,), {"format": "x"}),
    (
        Extract,
        (["a"],),
        {
            "where": [("x", "is", ["1"]), ("y", "starts", ["2", "3"])],
            "without": ["y"],
            "lowest": ["y"],
            "by": "x",
            "reduce": "max",
        },
    ),
    (Extract, (["a"],), {"where": [("x", "like", ["1"])]}),
    (Histogram, (BOUNDS, COUNTS), {"sum": 3.0}),
    (
        Endpoint,
        ("http://host/",),
        {"headers": {"a": "b"}, "bearer_token": "t", "user_agent": "u", "limits": FEW},
    ),
    (Endpoint, ("http://host/",), {"basic_auth": ("user", "password"), "timeout": 5}),
    (Endpoint, ("http://host/",), {"headers": {"a": "b\n"}}),
    (Endpoint, ("https://host/",), {"ca_file": b"missing.pem", "client_cert": ("a\0b", "key.pem")}),
    (Scraper, (), {"guard": Guard(["*"]), "max_connections": 5, "max_lookups": 6}),
    (Scraper, (), {"max_connections": 0}),
]


def of_types() -> Iterator[Call]:
    """Every attribute and method of every type, and what can be done with any object."""
    for type_, makers in MAKERS.items():
        for make in makers:
            for operation in PLAIN:
                yield operation, lambda make=make: (make(),)  # type: ignore[misc]
            for name, member in vars(type_).items():
                private = name.startswith("_") and name not in ("__enter__", "__exit__", "__buffer__")
                if private or isinstance(member, FunctionType):  # the latter is Python's own mixin
                    continue
                for args in METHODS.get(f"{type_.__name__}.{name}", [()]):
                    call = methodcaller(name, *args) if callable(member) else attrgetter(name)
                    yield call, lambda make=make: (make(),)  # type: ignore[misc]


def every_call() -> Iterator[tuple[Callable[..., Any], Callable[[], tuple[Any, ...]], dict[str, Any]]]:
    for call, make in (*of_types(), *MORE):
        yield call, make, {}
    for call, args, keywords in KEYWORDS:
        yield call, lambda args=args: args, keywords  # type: ignore[misc]


def attempt(
    call: Callable[..., Any], args: tuple[Any, ...], keywords: dict[str, Any], at: int, last: int
) -> Any:
    """What the call gives, or the exception that it raises."""
    try:
        set_nomemory(at, last)
        try:
            return call(*args, **keywords)
        finally:
            remove_mem_hooks()
    except Exception as error:
        return error


def kind(outcome: Any) -> str:
    return type(outcome).__name__


NEVER = 1 << 30


def sweep(
    call: Callable[..., Any], make: Callable[[], tuple[Any, ...]], keywords: dict[str, Any], *also: str
) -> int:
    """Fails the call's allocations one after another, and returns how many failures that made.

    It must end as it does with memory, or with MemoryError, and afterwards be as it was.
    """
    expected = kind(attempt(call, make(), keywords, NEVER, 0))
    points = most = 0
    for forever in (True, False):
        at, outcome = 0, ""
        while outcome != expected or at < most:
            error = attempt(call, make(), keywords, at, 0 if forever else at + 1)
            outcome = kind(error)
            if outcome not in (expected, "MemoryError"):
                raise SystemExit(f"{call} {make()} {keywords}: {error!r} when allocation {at} fails")
            at += 1
        most = max(most, at)
        points += at
    if kind(attempt(call, make(), keywords, NEVER, 0)) != expected:
        raise SystemExit(f"{call} {make()} {keywords}: no {expected} afterwards")
    return points


def leaves_nothing(*swept: Any) -> bool:
    """Sweeps until nothing stays behind.

    At first Python's caches grow, to some thousand names; what is lost at a point is lost in each sweep.
    """
    for _ in range(50):
        held = heap(), blocks()
        for _ in range(5):
            sweep(*swept)
        more = heap() - held[0], blocks() - held[1]
        if more[0] < 5 * 16 and more[1] < 5:
            return True
    return False


def main() -> None:
    warnings.simplefilter("ignore")  # scrapers that nobody closed
    calls = list(every_call())
    if "planted" in sys.argv:
        kept: list[object] = []
        calls = [(kept.append, lambda: (object(),), {})]
    points = sum(sweep(*call) for call in calls)
    before = references()
    for call in calls:
        if not leaves_nothing(*call):
            raise SystemExit(f"{call[0]} {call[1]()} {call[2]} leaves something behind")
    lost = {name: n for name, n in references().items() if n > before[name]}
    if lost:
        raise SystemExit(f"references are lost: {lost}")
    KEPT.close()
    print(f"{len(calls)} calls, {points} failing allocations")


if __name__ == "__main__":
    with SERVERS:
        main()
