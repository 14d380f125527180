"""A page as a whole: values as a buffer, series that pages share, dicts of labels; and the steady state."""

from __future__ import annotations

import array
import copy
import gc
import hashlib
import io
import random
import struct
import sys
import sysconfig
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MappingProxyType, SimpleNamespace
from typing import Any, Literal

import generated
import pytest

from sglang_collect import _core
from sglang_collect._core import Columns, Extract, Fold, Page, Plan, Series, Steady, parse
from sglang_collect.errors import ExpositionError, LimitExceeded

PAGE = b"""\
# TYPE a counter
a{x="1",y="q\\"\\\\"} 3 1500
b 4
a{x="2"} NaN
# TYPE h histogram
h_bucket{le="1",k="u"} 2
h_bucket{le="+Inf",k="u"} 3
h_sum{k="u"} -Inf
h_count{k="u"} 3
"""

Line = tuple[str, dict[str, str]]
Format = Literal["text", "openmetrics"]


@pytest.fixture
def page() -> Page:
    return parse(PAGE)


def bits(values: Any) -> list[bytes]:
    """Values as they are, NaN included."""
    return [struct.pack("d", value) for value in values]


def lines_of(page: Page) -> list[Line]:
    return [(sample.name, sample.labels) for sample in page.samples]


def read_one_by_one(data: bytes, format: Format = "text") -> list[Line]:
    """Each line on a page that nothing else was read from."""
    n = len(parse(data, format=format).samples)
    samples = (parse(data, format=format).samples[i] for i in range(n))
    return [(sample.name, sample.labels) for sample in samples]


# ---------------------------------------------------------------------- values


def test_values_are_those_of_the_samples_bit_for_bit(page: Page) -> None:
    assert bits(page.values) == bits(sample.value for sample in page.samples)
    for seed in range(50):
        some = parse(generated.page(seed))
        assert bits(some.values) == bits(sample.value for sample in some.samples)


def test_values_are_a_read_only_buffer_of_doubles(page: Page) -> None:
    values = page.values
    assert isinstance(values, memoryview)
    assert (values.format, values.itemsize, values.ndim, values.shape) == ("d", 8, 1, (7,))
    assert values.readonly
    assert repr(values.obj) == "<Values: 7>"
    assert len(values.obj) == 7  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="read-only"):
        values[0] = 1.0
    with pytest.raises(TypeError, match="read-write"):
        io.BytesIO(b"12345678").readinto(parse(b"a 1\n").values.obj)


def test_values_can_be_reckoned_with_as_they_are() -> None:
    page = parse(b'a{x="1"} 1\na{x="2"} 2.5\nb 4\n')
    assert sum(page.values) == 7.5
    assert max(page.values[::-2]) == 4.0
    assert array.array("d", page.values).tolist() == [1.0, 2.5, 4.0]


def test_values_are_taken_by_numpy_without_a_copy(page: Page) -> None:
    numpy = pytest.importorskip("numpy")
    values = numpy.asarray(page.values)
    assert (values.dtype, values.shape, values.flags.owndata) == (numpy.float64, (7,), False)
    assert bits(values) == bits(page.values)
    assert numpy.shares_memory(values, numpy.asarray(page.values))
    assert numpy.asarray(parse(b"").values).sum() == 0.0


def test_values_are_not_copied() -> None:
    page = parse(b"a 1\n" * 100_000)
    tracemalloc.start()
    try:
        page.values[::-1]
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()


def test_one_who_wants_contiguous_bytes_is_refused(page: Page) -> None:
    for wants in (hashlib.sha256, parse):
        with pytest.raises(BufferError):
            wants(page.values.obj)
    alone = parse(b"a 2.5\n").values
    assert hashlib.sha256(alone.obj).digest() == hashlib.sha256(alone.tobytes()).digest()


def test_a_page_without_samples_has_no_values() -> None:
    for data in (b"", b"# nothing\n"):
        page = parse(data)
        assert (len(page.values), page.values.tolist(), sum(page.values)) == (0, [], 0)
        assert bytes(page.values) == b""
        assert page.columns().series == ()


def test_a_page_lives_as_long_as_what_was_taken_of_it() -> None:
    takes: list[Callable[[Page], object]] = [
        lambda page: page.values,
        lambda page: page.values[2:5],
        lambda page: page.columns(),
        lambda page: page.columns().values,
    ]
    for take in takes:
        data = bytes(bytearray(PAGE))
        before = sys.getrefcount(data)
        taken: Any = take(parse(data))
        gc.collect()
        assert sys.getrefcount(data) == before + 1
        values = taken if isinstance(taken, memoryview) else taken.values
        assert bits(values) in (bits(parse(PAGE).values), bits(parse(PAGE).values)[2:5])
        del taken, values
        assert sys.getrefcount(data) == before


def test_a_series_does_not_keep_its_page() -> None:
    data = bytes(bytearray(PAGE))
    before = sys.getrefcount(data)
    series = parse(data).columns().series
    assert sys.getrefcount(data) == before
    assert series[0].labels == {"x": "1", "y": 'q"\\'}


# --------------------------------------------------------------------- columns


def test_columns_say_what_the_samples_say(page: Page) -> None:
    columns = page.columns()
    assert isinstance(columns, Columns)
    assert [(series.name, dict(series.labels)) for series in columns.series] == lines_of(page)
    assert bits(columns.values) == bits(page.values)
    assert repr(columns) == "<Columns: 7>"


def test_a_series_cannot_be_changed(page: Page) -> None:
    series = page.columns().series[0]
    assert isinstance(series.labels, MappingProxyType)
    assert series.labels is series.labels
    with pytest.raises(AttributeError):
        series.name = "b"  # type: ignore[misc]
    with pytest.raises(TypeError):
        series.labels["x"] = "2"  # type: ignore[index]
    assert repr(series) == """Series(name='a', labels={'x': '1', 'y': 'q"\\\\'})"""


def test_series_are_equal_where_they_say_the_same() -> None:
    alike = b'a{x="1",y="2"} 1\na{ y = "2", x="1", } 2\n{"a",x="1",y="2"} 3\n'
    other = b'a{x="1",y="3"} 4\nb{x="1",y="2"} 5\na 6\n'
    first, second = (parse(alike + other).columns().series for _ in range(2))
    assert first == second
    assert first[0] is not second[0]
    assert first[0] == first[1] == first[2]
    assert len({hash(series) for series in first[:3]}) == 1
    assert len(set(first) | set(second)) == 4
    assert {series: i for i, series in enumerate(first)}[second[4]] == 4
    assert first[0] != first[3]
    assert first[0] != first[4]
    assert first[0] != (first[0].name, first[0].labels)  # type: ignore[comparison-overlap]
    with pytest.raises(TypeError):
        sorted(first)  # type: ignore[type-var]


def test_names_and_words_that_repeat_are_one_object() -> None:
    page = parse(
        b"".join(b'latency_bucket{engine="unified",rank="rank-%d"} 1\n' % (i % 3) for i in range(30))
    )
    names = {id(name) for name in [sample.name for sample in page.samples]}
    assert len(names) == 1
    dicts = [sample.labels for sample in page.samples]
    assert len({id(labels["rank"]) for labels in dicts}) == 3
    assert len({id(word) for labels in dicts for word in [*labels, labels["engine"]]}) == 3
    assert {id(series.name) for series in page.columns().series} == names
    assert id(parse(b"latency_bucket 1\n").samples[0].name) in names


# ------------------------------------------------------------------------ like


def test_a_page_of_the_same_lines_has_the_same_tuple() -> None:
    first = parse(PAGE).columns()
    later = parse(
        PAGE.replace(b" 4\n", b" 1234.5\n").replace(b"# TYPE a", b"# HELP b of }\n# TYPE a")
    ).columns(first)
    assert later.series is first.series
    assert later.values[1] == 1234.5
    assert parse(PAGE).columns(like=later).series is first.series


def test_only_lines_that_differ_have_new_series() -> None:
    first = parse(b'a{x="1"} 1\na{x="2"} 2\nb 3\n').columns()
    later = parse(b'a{x="1"} 9\na{x="3"} 2\nb 3\n').columns(first)
    assert later.series is not first.series
    assert [a is b for a, b in zip(first.series, later.series, strict=True)] == [True, False, True]
    assert later.series[1].labels == {"x": "3"}
    assert first.series[1].labels == {"x": "2"}


def test_columns_keep_no_earlier_page_alive() -> None:
    data = bytes(bytearray(PAGE))
    before = sys.getrefcount(data)
    columns = parse(data).columns()
    for _ in range(3):
        columns = parse(PAGE).columns(columns)
    assert sys.getrefcount(data) == before


def test_like_must_be_columns(page: Page) -> None:
    for wrong in (page, (), page.columns().series, "a"):
        with pytest.raises(TypeError, match=r"^like must be Columns or None, not "):
            page.columns(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        page.columns(page.columns(), None)  # type: ignore[call-arg]
    assert page.columns(None).series == page.columns(like=None).series


# Text that a careless comparison takes for another.
FORMS = [
    "a",
    "a{}",
    'a{x="1"}',
    'a{x="1" }',
    'a{x="1",y="2"}',
    'a{x="} 1"}',
    'a{x="1",y="a value of more than thirty-two bytes"}',
    'a{x="1",y="a value of more than thirty-two bytez"}',
    'a{x="\\""}',
    'a{x="\\\\"}',
    "ab",
    'ab{x="1"}',
    'b{x="1"}',
    'b{x="é}"}',
    '{"a"}',
    '{"a",x="1"}',
    '{"a{x="}',
    '{"a{x=",y="}"}',
    'a{x=",y="}',
]
ESCAPED = ['{"a\\n"}', '{"a\\n",x="1"}', '{x="1","a"}', 'a{"b\\\\"="1"}']


def changed(rng: random.Random, forms: list[str]) -> list[str]:
    """Some lines changed, taken out, put in or moved."""
    forms = list(forms)
    for _ in range(rng.randrange(5)):
        at = rng.randrange(len(forms) + 1)
        match rng.randrange(4):
            case 0:
                forms[at : at + 1] = [rng.choice(FORMS + ESCAPED)]
            case 1:
                del forms[at : at + 1]
            case 2:
                forms.insert(at, rng.choice(FORMS + ESCAPED))
            case _:
                rng.shuffle(forms)
    return forms


def page_of(rng: random.Random, forms: list[str]) -> bytes:
    lines = [f"{'# }' * (rng.random() < 0.1)}\n{form} {rng.randrange(3000)}" for form in forms]
    return "\n".join([*lines, ""] if rng.random() < 0.5 else lines).encode()


@pytest.mark.parametrize("seed", range(20))
def test_a_series_is_the_same_object_exactly_where_its_text_is_the_same(seed: int) -> None:
    rng = random.Random(seed)
    forms = rng.choices(FORMS, k=rng.randrange(1, 15))
    columns = parse(page_of(rng, forms)).columns()
    for _ in range(30):
        later_forms = changed(rng, forms)
        data = page_of(rng, later_forms)
        later = parse(data).columns(columns)
        assert [(s.name, dict(s.labels)) for s in later.series] == read_one_by_one(data)
        owners: dict[int, set[str]] = {}
        for form, series in zip(forms, columns.series, strict=True):
            owners.setdefault(id(series), set()).add(form.replace("{}", ""))
        for form, series in zip(later_forms, later.series, strict=True):
            text = form.replace("{}", "")  # braces that hold nothing are no part of a series
            known = form not in ESCAPED and any(text in owned for owned in owners.values())
            assert (text in owners.get(id(series), ())) == known, (form, forms)
        same = [form.replace("{}", "") for form in later_forms] == [form.replace("{}", "") for form in forms]
        if not set(later_forms) & set(ESCAPED):
            assert (later.series is columns.series) == same
        forms, columns = later_forms, later


@pytest.mark.parametrize("format", ["text", "openmetrics"])
def test_series_of_generated_pages_are_never_mixed_up(format: Format) -> None:
    columns = parse(b"").columns()
    for seed in range(150):
        data = generated.page(seed // 2 if seed % 3 else seed, openmetrics=format == "openmetrics")
        page = parse(data, format=format)
        columns = page.columns(columns)
        assert [(s.name, dict(s.labels)) for s in columns.series] == lines_of(parse(data, format=format))
        assert bits(columns.values) == bits(page.values)


def test_a_page_of_many_lines_is_compared_in_linear_time() -> None:
    """Reversed, and all of one series: what an order that is not the same may cost."""
    lines = [b'a{i="%d"} 1\n' % i for i in range(50_000)]
    first = parse(b"".join(lines)).columns()
    later = parse(b"".join(reversed(lines))).columns(first)
    assert all(a is b for a, b in zip(first.series, reversed(later.series), strict=True))
    one = parse(b'a{i="0"} 1\n' * 50_000).columns(first)
    assert set(map(id, one.series)) == {id(first.series[0])}
    assert set(map(id, parse(b"".join(lines)).columns(one).series)) & set(map(id, first.series)) == {
        id(first.series[0])
    }


# ---------------------------------------------------------------------- labels


def test_each_dict_is_its_own() -> None:
    data = b'a{x="1",y="2"} 1\na{x="1",y="3"} 2\na{x="1",y="2"} 3\n'
    page = parse(data)
    series = page.columns().series
    first = page.samples[0].labels
    first["x"] = "changed"
    first.update(z="new")
    del first["y"]
    assert lines_of(page) == read_one_by_one(data)
    assert [dict(s.labels) for s in series] == [labels for _, labels in read_one_by_one(data)]
    assert page.samples[0].labels is not page.samples[0].labels


def test_labels_are_the_same_in_whatever_order_they_are_read() -> None:
    rng = random.Random(1)
    for seed in range(40):
        written: Format = "openmetrics" if seed % 2 else "text"
        data = generated.page(seed, openmetrics=written == "openmetrics")
        page, expected = parse(data, format=written), read_one_by_one(data, written)
        for i in rng.choices(range(len(expected)), k=200):
            sample = page.samples[i]
            name, labels = expected[i]
            assert (sample.name, sample.labels) == (name, labels)
            assert list(sample.labels) == list(labels)


def test_labels_of_every_shape_are_read_one_after_the_other() -> None:
    many = ",".join(f'l{i}="{i}"' for i in range(100))
    most = [",".join(f'l{i}="{i + (i == changed)}"' for i in range(64)) for changed in range(64)]
    long = "x" * 5000
    data = "\n".join(
        [
            *(f"{form} {i}" for i, form in enumerate(FORMS + ESCAPED)),
            f"a{{{many}}} 1",
            f"a{{{many.replace('99', 'y')}}} 1",
            *(f"a{{{labels}}} 1" for labels in most),
            f'a{{x="{long}",y="1"}} 1',
            f'a{{x="{long}y",y="1"}} 1',
            'a{x="日本",y="é"} 1',
            'a{x="日本",y="€\\n"} 1',
        ]
    ).encode()
    page, expected = parse(data), read_one_by_one(data)
    rng = random.Random(2)
    for i in rng.choices(range(len(expected)), k=3000):
        assert (page.samples[i].name, page.samples[i].labels) == expected[i]


def test_text_beyond_ascii_is_never_taken_for_other_text() -> None:
    """Whose str holds the bytes that the other is written in, so that a place in a table may be the same."""
    rng = random.Random(5)
    words = [
        "".join(chr(rng.randrange(0x4E00, 0x9FFF)) for _ in range(rng.randrange(1, 5))) for _ in range(10_000)
    ]
    pairs = [(word.encode().decode("latin-1"), word) for word in words]
    page = parse("".join(f'a{{x="{word}"}} 1\n' for pair in pairs for word in pair))
    assert [sample.labels["x"] for sample in page.samples] == [word for pair in pairs for word in pair]


def test_what_is_kept_to_make_dicts_is_bounded() -> None:
    """Of 60,000 words, which would take 4 MB."""
    page = parse("".join(f'name_{i}{{a="value {i}",b{i % 90}="{i}"}} {i}\n' for i in range(30_000)))
    tracemalloc.start()
    try:
        for sample in page.samples:
            assert sample.name
            assert sample.labels
        assert tracemalloc.get_traced_memory()[0] < 300_000
        del page, sample
        again = tracemalloc.get_traced_memory()[0]
        for _ in range(5):
            lines_of(parse(generated.page(1)))
        assert tracemalloc.get_traced_memory()[0] < again + 20_000
    finally:
        tracemalloc.stop()


@contextmanager
def collecting_all_the_time() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(1)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")), reason="there the collector never runs inside a call"
)
def test_a_destructor_that_reads_the_same_page_gets_and_leaves_the_right_labels() -> None:
    data = b"".join(b'a{x="%d",y="%d"} 1\nb{x="%d"} 1\n' % (i, i % 3, i) for i in range(9))
    expected = read_one_by_one(data)
    kept: list[object] = []  # where an old dict can be used again, the collector does not run
    wrong: list[int] = []

    class Reads:
        def __init__(self, page: Page, index: int) -> None:
            self.itself = self
            self.page = page
            self.index = index

        def __del__(self) -> None:
            labels = self.page.samples[self.index].labels
            kept.append(labels)
            if labels != expected[self.index][1]:
                wrong.append(self.index)

    with collecting_all_the_time():
        for i in range(300):
            page = parse(data)
            index, other = i % len(expected), (i * 5 + 2) % len(expected)
            sample = page.samples[index]
            kept.append(page)
            Reads(page, other)
            labels = sample.labels  # the first dict that is made here: the collector runs
            kept.append(labels)
            if labels != expected[index][1]:
                wrong.append(index)
            Reads(page, other)
            columns = page.columns()
            says = [(series.name, dict(series.labels)) for series in columns.series]
            kept += [columns, says]
            assert says == expected
    assert not wrong
    assert len(kept) > 1700


def test_many_threads_read_the_labels_of_one_page() -> None:
    data = b"".join(b'a{x="%d",y="%d",z="z"} 1\nb{x="%d"} 1\n' % (i, i % 3, i) for i in range(200))
    page, expected = parse(data), read_one_by_one(data[:4000].rpartition(b"\n")[0])
    first = parse(data).columns()
    right: list[bool] = []

    def work(step: int) -> None:
        for i in range(0, len(expected) * step, step):
            at = i % len(expected)
            right.append((page.samples[at].name, page.samples[at].labels) == expected[at])
        right.append(page.columns(first).series is first.series)

    threads = [threading.Thread(target=work, args=(step,)) for step in (1, 3, 7, 11)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert len(right) == 4 * len(expected) + 4
    assert all(right)


def test_columns_and_series_stay_in_the_process(page: Page) -> None:
    columns = page.columns()
    for thing in (columns, columns.series[0], columns.values.obj, Steady(Plan([""], {}))):
        with pytest.raises(TypeError, match="cannot pickle or copy"):
            copy.copy(thing)
    for made in (Columns, Series, _core.Values):
        with pytest.raises(TypeError, match="cannot create"):
            made()


# ---------------------------------------------------------------------- steady

PLAN = Plan([""], {"a": Extract(["a"]), "h": Extract(["h"], kind="histogram"), "by": Extract(["a"], by="x")})


def test_a_steady_state_is_hit_by_known_lines_alone() -> None:
    steady = Steady(PLAN)
    assert not steady.hit
    hits = []
    for data in (PAGE, PAGE, PAGE + b"c 1\n", PAGE + b"c 2\n", b"", b""):
        steady.fold(data)
        hits.append(steady.hit)
    assert hits == [False, False, False, False, False, True]  # the timestamp is no part of a known line
    known = PAGE.replace(b" 1500", b"")
    for again in (known, known.replace(b" 3\n", b" 4\n"), known.decode(), bytearray(known)):
        steady.fold(again)
        hits.append(steady.hit)
    assert hits[6:] == [False, True, True, True]
    assert repr(steady) == "<Steady: <Plan: 3 extracts>>"


def outcome(fold: Callable[[bytes], Fold], data: bytes) -> str:
    """All that a fold says, or its error."""
    try:
        found = fold(data)
    except ExpositionError as error:
        return str(error)
    return repr([(name, value, found.reason(name), found.n_series(name)) for name, value in found.items()])


def test_a_steady_state_folds_as_a_plan_does() -> None:
    rng = random.Random(4)
    plan = Plan(["", "sglang:"], {name: Extract([name], by="a") for name in "a x build tokens".split()})
    hits = 0
    for seed in range(60):
        steady = Steady(plan)
        for _ in range(10):
            data = rng.choice((generated.page, generated.page, generated.damaged))(seed)
            assert outcome(steady.fold, data) == outcome(plan.fold, data)
            hits += steady.hit
    assert hits > 20


def test_a_steady_state_reads_as_it_is_told() -> None:
    steady = Steady(PLAN)
    data = b"a 1\n# EOF\n"
    assert steady.fold(data)["a"] == 1.0
    assert steady.fold(data, format="openmetrics")["a"] == 1.0
    assert not steady.hit
    assert steady.fold(data, format="openmetrics")["a"] == 1.0
    assert steady.hit
    with pytest.raises(LimitExceeded):
        steady.fold(data, format="openmetrics", limits=SimpleNamespace(**{**_core.LIMITS, "samples": 0}))
    with pytest.raises(ValueError, match="format must be"):
        steady.fold(data, format="json")


def test_a_steady_state_takes_a_plan_and_bytes_to_read(page: Page) -> None:
    for wrong in (None, "a", 5):
        with pytest.raises(TypeError):
            Steady(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="str or a bytes-like object"):
        Steady(PLAN).fold(page)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Steady(PLAN).fold(PAGE, strict=True)  # type: ignore[call-arg]


def test_a_steady_state_is_for_one_thread_at_a_time() -> None:
    steady = Steady(PLAN)
    data = b'a{x="1"} 1\n' * 200_000
    refused = threading.Event()
    done: list[object] = []
    messages: set[str] = set()

    def work() -> None:
        while not refused.is_set():
            try:
                done.append(steady.fold(data)["a"])
            except RuntimeError as error:
                messages.add(str(error))
                refused.set()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert messages == {"steady is in use by another thread"}
    assert set(done) <= {200_000.0}
    assert steady.fold(data)["a"] == 200_000.0
