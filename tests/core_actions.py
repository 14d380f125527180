"""Every public call of the extension, good and failing: what a test repeats to see what it leaves behind.

Needs nothing but the package, so that any interpreter can run it.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from contextlib import suppress
from types import SimpleNamespace

from sglang_collect import _core, errors
from sglang_collect._core import Endpoint, Extract, Guard, Histogram, Layout, Plan, Scraper, Steady, parse

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
    {"f": (("number", "a"), ("count", "h"), ("sum", 2))},
)


class Kept:
    """What ``build`` needs a model to have, without pydantic, which not every interpreter can import."""

    __slots__ = ("__dict__", "__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__")


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
    with suppress(TypeError):
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
        repr((found, found.n_samples, found.found_nothing, found.flaws))
        fields = tuple((name, name, True) for name in found)
        repr((_core.pick(fields, found), _core.pick((("x", "by", False), ("y", None, False)), found)))
        for wrong in ((("x", "none", True),), ((["x"], "by", True),), [], ("x",)):
            with suppress(KeyError, TypeError):
                _core.pick(wrong, found)  # type: ignore[arg-type]
        group = "group", Kept, dict.fromkeys(found), fields
        kept = _core.build((Kept, {"a": 1}, ("b",), None), (2,), {})
        repr((_core.add_fields(kept, {"c": 3}), kept, _core.build_groups((group,), found)))
        for nothing in (int, object, 5, _core.Fold):
            with suppress(AttributeError, TypeError):
                _core.build((nothing, {}, (), None), (), None)  # type: ignore[arg-type]
            with suppress(AttributeError, TypeError):
                _core.add_fields(nothing, {"a": 1})
            with suppress(AttributeError, TypeError):
                _core.build_groups((("group", nothing, {}, fields),), found)  # type: ignore[arg-type]
        fields = (("a", "a", True), ("h", "h", False), ("f", "f", False), ("m", None, True), ("o", ()))
        layout = Layout((*fields, ("c", "by", True, True)), PLAN, (("p50", 0.5),))
        repr((layout, layout.write(found, (1.5,)), found.labels("by")))
        repr((_core.fallen(found, found, PLAN.names), _core.fallen(PLAN.fold(b""), found, PLAN.names)))
        for made in ((), (5,), [1.5]):
            with suppress(ValueError, TypeError):
                layout.write(found, made)  # type: ignore[arg-type]
        for wrong in ((("x", "none", True),), (("o", fields), 5), []):
            with suppress(KeyError, TypeError):
                Layout(wrong, PLAN, (("p50", 0.5),))  # type: ignore[arg-type]
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
    assert _core.process() == _core.process() > 0
    for seconds in (1.7e9, 1e300):
        with suppress(ImportError, AttributeError, ValueError):  # not every interpreter has a datetime in C
            repr(_core.moment(seconds))


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


ACTIONS: list[Callable[[], None]] = [
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

SCRAPING = ("scrape", "fail", "open_and_close")


class Scrapes:
    """The actions of SCRAPING, over one scraper.

    Args:
        good: URL of a server that answers with PAGE.
        bad: of one whose page is malformed.
        nobody: of a port where no server listens.
    """

    def __init__(self, scraper: Scraper, good: str, bad: str, nobody: str) -> None:
        self.scraper = scraper
        self.good, self.bad, self.nobody = Endpoint(good), Endpoint(bad), Endpoint(nobody)

    def scrape(self) -> None:
        self.scraper.submit(self.good, PLAN)
        [result] = self.scraper.wait()
        repr((result, result.fold and result.fold["h"], result.page, result.body))
        repr((result.timings, result.framing, result.endpoint, result.id, result.status, result.started))
        assert result.body is not None
        assert len(memoryview(result.body)) == len(PAGE)

    def fail(self) -> None:
        for endpoint in (self.bad, self.nobody):
            self.scraper.submit(endpoint, PLAN)
            self.scraper.submit(endpoint)
        while self.scraper.pending:
            for result in self.scraper.wait():
                with suppress(errors.ExpositionError):
                    assert result.error is result.error or result.page
                if result.error:
                    result.error.result = result  # type: ignore[attr-defined]
        self.scraper.submit(self.good)
        self.scraper.cancel()
        self.scraper.wait()

    def open_and_close(self) -> None:
        with Scraper(guard=Guard(["*"])) as other:
            other.submit_all([self.nobody, self.nobody])
            other.wake()
            other.attend()
            for wrong in (
                lambda: other.submit_all([5]),
                lambda: other.submit_all(5),
                lambda: other.attend(5),
            ):  # type: ignore
                with suppress(TypeError):
                    wrong()
        with suppress(RuntimeError):
            other.wait()
