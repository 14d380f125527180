"""parse() and what a page gives: input of every kind, samples, families, look-up."""

from __future__ import annotations

import array
import copy
import math
import mmap
import sys
import sysconfig
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest
from servers import eventually

from sglang_collect import _core
from sglang_collect.errors import ExpositionError, LimitExceeded

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
h_bucket{le="1",k="v"} 0
h_bucket{le="+Inf",k="v"} 1
h_sum{k="v"} 9
h_count{k="v"} 1
"""

OPENMETRICS = b"""\
# TYPE r_seconds counter
# UNIT r_seconds seconds
# HELP r_seconds a \\"quoted\\" word
r_seconds_total{a="1"} 5 7.25 # {trace_id="x",z="y"} 0.5 1.5
# EOF
"""


def limits(**changed: object) -> SimpleNamespace:
    """The default limits, but for these."""
    return SimpleNamespace(**{**_core.LIMITS, **changed})


@pytest.fixture
def page() -> _core.Page:
    return _core.parse(PAGE)


# ----------------------------------------------------------------------- input


def test_every_kind_of_contiguous_bytes_gives_the_same_page(page: _core.Page, tmp_path: Path) -> None:
    path = tmp_path / "page"
    path.write_bytes(PAGE)

    class Bytes(bytes):
        pass

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        for data in (
            bytearray(PAGE),
            memoryview(PAGE),
            memoryview(b"##" + PAGE)[2:],
            array.array("B", PAGE),
            Bytes(PAGE),
            PAGE.decode(),
            mapped,
        ):
            assert _core.parse(data).samples == page.samples


def test_bytes_that_change_after_parsing_do_not_change_the_page() -> None:
    data = bytearray(b'a{b="first"} 1\n')
    page = _core.parse(data)
    data[:] = b'a{b="other"} 2\n'
    assert page.samples[0].labels == {"b": "first"}


@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")) and sys.version_info < (3, 14),
    reason="the first bytearray without a GIL has no lock of its own",
)
def test_bytes_that_change_during_parsing_give_a_page_of_one_moment() -> None:
    states = [b'a{b="%s"} 1\n' % (letter * 20_000) for letter in (b"x", b"y")]
    data = bytearray(states[0])
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            data[:] = states[1]
            data[:] = states[0]

    thread = threading.Thread(target=flip)
    thread.start()
    try:
        seen = {bytes(_core.parse(data).samples[0].labels["b"], "ascii") for _ in range(300)}
    finally:
        stop.set()
        thread.join()
    assert seen <= {b"x" * 20_000, b"y" * 20_000}


def test_bytes_are_held_and_not_copied() -> None:
    import tracemalloc

    data = b"a 1\n" + b"# comment\n" * 200_000
    tracemalloc.start()
    try:
        page = _core.parse(data)
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()
    assert len(page.samples) == 1


def test_an_input_with_holes_is_a_buffer_error() -> None:
    with pytest.raises(BufferError):
        _core.parse(memoryview(PAGE)[::2])


@pytest.mark.parametrize("data", [None, 5, ["a 1"], object()])
def test_what_is_no_text_and_no_buffer_is_a_type_error(data: object) -> None:
    with pytest.raises(TypeError, match="str or a bytes-like object"):
        _core.parse(data)  # type: ignore[arg-type]


def test_a_lone_surrogate_is_an_exposition_error_at_its_place() -> None:
    with pytest.raises(ExpositionError, match=r"^line 2, column 6: invalid UTF-8$") as caught:
        _core.parse('ok 1\na{b="\ud800"} 1\n')
    error = caught.value
    assert (error.line, error.column, error.reason, error.endpoint) == (2, 6, "invalid UTF-8", None)
    assert error.excerpt == '\\xed\\xa0\\x80"} 1'


def test_a_malformed_line_refuses_the_whole_page() -> None:
    with pytest.raises(ExpositionError) as caught:
        _core.parse(b"a 1\nb 2\nc x\n")
    assert isinstance(caught.value, ValueError)
    assert (caught.value.line, caught.value.column) == (3, 3)
    assert str(caught.value) == f"line 3, column 3: {caught.value.reason}"


def test_an_empty_page_has_nothing_on_it() -> None:
    for data in (b"", "", bytearray()):
        page = _core.parse(data)
        assert (len(page.samples), len(page.families), page.value("a")) == (0, 0, None)


def test_python_runs_while_a_thread_parses() -> None:
    data = b'a{b="c"} 1\n' * 600_000

    def ticks() -> int:
        thread = threading.Thread(target=_core.parse, args=(data,))
        thread.start()
        n = 0
        while thread.is_alive():
            n += 1
        return n

    # On a busy machine the thread may have ended before this one has its turn.
    assert eventually(lambda: ticks() > 100, seconds=30)


# --------------------------------------------------------- format, strict, limits


def test_format_chooses_the_grammar() -> None:
    assert _core.parse(PAGE).format == "text"
    assert _core.parse(OPENMETRICS, format="openmetrics").format == "openmetrics"
    assert _core.parse(OPENMETRICS, format="auto").format == "openmetrics"
    assert _core.parse(PAGE, format="auto").format == "text"
    with pytest.raises(ExpositionError):
        _core.parse(b"a 1\n", format="openmetrics")


def test_an_unknown_format_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"^format must be 'text', 'openmetrics' or 'auto', not 'json'$"):
        _core.parse(PAGE, format="json")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="format must be a str"):
        _core.parse(PAGE, format=None)  # type: ignore[arg-type]


def test_strict_asks_for_more_of_openmetrics() -> None:
    data = b'a{b="c",} 1\n# EOF\n'
    assert len(_core.parse(data, format="openmetrics").samples) == 1
    with pytest.raises(ExpositionError):
        _core.parse(data, format="openmetrics", strict=True)


@pytest.mark.parametrize(
    ("limit", "allowed", "data"),
    [
        ("body_bytes", 3, b"a 1\n"),
        ("body_bytes", 3, bytearray(b"a 1\n")),
        ("samples", 1, b"a 1\nb 1\n"),
        ("labels_per_sample", 1, b'a{b="1",c="2"} 1\n'),
        ("name_length", 2, b"abc 1\n"),
        ("label_value_length", 2, b'a{b="abc"} 1\n'),
        ("number_length", 2, b"a 123\n"),
    ],
)
def test_a_page_past_a_limit_is_refused_by_name(limit: str, allowed: int, data: bytes) -> None:
    with pytest.raises(LimitExceeded, match=f"{limit} = {allowed} ") as caught:
        _core.parse(data, limits=limits(**{limit: allowed}))
    assert (caught.value.limit, caught.value.allowed, caught.value.endpoint) == (limit, allowed, None)
    _core.parse(data, limits=limits(**{limit: allowed + 1}))


def test_a_buffer_past_the_limit_is_not_copied_before_it_is_refused() -> None:
    with mmap.mmap(-1, 3 << 30) as huge, pytest.raises(LimitExceeded, match="body_bytes"):
        _core.parse(huge)


@pytest.mark.parametrize(
    ("value", "error"),
    [(-1, ValueError), (1 << 64, ValueError), (True, TypeError), (1.0, TypeError), (None, TypeError)],
)
def test_a_limit_is_a_plain_count(value: object, error: type[Exception]) -> None:
    with pytest.raises(error, match=r"limits\.samples must be"):
        _core.parse(b"", limits=limits(samples=value))


def test_an_object_without_the_attributes_is_no_limits() -> None:
    with pytest.raises(TypeError, match="limits must be a Limits or None, not object"):
        _core.parse(b"", limits=object())


def test_the_defaults_are_those_of_the_package() -> None:
    from sglang_collect.options import Limits

    assert vars(Limits()) == _core.LIMITS


# --------------------------------------------------------------------- samples


def test_a_sample_says_what_its_line_says(page: _core.Page) -> None:
    sample = page.samples[0]
    assert (sample.name, sample.value, sample.timestamp) == ("a", 3.0, 1.5)
    assert sample.labels == {"x": "1", "y": 'q"\\'}
    assert list(sample.labels) == ["x", "y"]
    assert sample.exemplar is None
    assert page.samples[1].timestamp is None
    assert sample.family == page.families["a"]


def test_labels_are_a_new_dict_for_each_who_asks(page: _core.Page) -> None:
    page.samples[0].labels["x"] = "changed"
    assert page.samples[0].labels["x"] == "1"


def test_a_sample_may_have_more_labels_than_fit_a_small_array() -> None:
    labels = {f"l{i}": f"v\\n{i}" for i in range(100)}
    text = ",".join(f'{name}="{value}"' for name, value in labels.items())
    sample = _core.parse(f"a{{{text}}} 1\n").samples[0]
    assert sample.labels == {name: value.replace("\\n", "\n") for name, value in labels.items()}


def test_a_nul_in_a_label_value_is_kept() -> None:
    assert _core.parse(b'a{b="x\0y"} 1\n').samples[0].labels == {"b": "x\0y"}


def test_an_exemplar_has_labels_value_and_time() -> None:
    exemplar = _core.parse(OPENMETRICS, format="openmetrics").samples[0].exemplar
    assert exemplar is not None
    assert (exemplar.labels, exemplar.value, exemplar.timestamp) == ({"trace_id": "x", "z": "y"}, 0.5, 1.5)
    assert repr(exemplar) == "Exemplar(labels={'trace_id': 'x', 'z': 'y'}, value=0.5, timestamp=1.5)"
    without = b"# TYPE r counter\nr_total 5 # {} 1\n# EOF\n"
    bare = _core.parse(without, format="openmetrics").samples[0].exemplar
    assert bare is not None
    assert (bare.labels, bare.timestamp) == ({}, None)
    assert bare != exemplar
    assert bare == _core.parse(without, format="openmetrics").samples[0].exemplar
    assert len({bare, exemplar}) == 2


def test_samples_are_equal_where_they_say_the_same() -> None:
    one = _core.parse(b'a{x="1",y="2"} NaN 5\na 1\na 2\na{x="1"} 1\n').samples
    other = _core.parse(b'a{y="2",x="1"} NaN 5\na{x="1"} 1\n').samples
    assert one[0] == other[0]
    assert hash(one[0]) == hash(other[0])
    assert one[3] == other[1]
    assert len({*one, *other}) == 4
    assert one[1] != one[2]
    assert one[0] != "a"


def test_a_sample_shows_itself(page: _core.Page) -> None:
    assert repr(page.samples[1]) == "Sample(name='b', labels={}, value=4.0)"
    assert repr(page.samples[2]) == "Sample(name='a', labels={'x': '2'}, value=nan)"
    assert repr(page.samples[0]).endswith("value=3.0, timestamp=1.5)")


def test_samples_are_a_sequence(page: _core.Page) -> None:
    samples = page.samples
    assert isinstance(samples, Sequence)
    assert len(samples) == 11
    assert samples[-1] == samples[10]
    assert [sample.name for sample in samples][:3] == ["a", "b", "a"]
    assert [sample.name for sample in reversed(samples)][:2] == ["h_count", "h_sum"]
    assert samples[4] in samples
    assert samples.index(samples[4]) == 4
    assert samples.count(samples[0]) == 1
    assert isinstance(iter(samples), Iterator)
    assert samples
    assert not samples[:0]
    with pytest.raises(ValueError):  # noqa: PT011
        samples.index(_core.parse(b"z 1\n").samples[0])
    with pytest.raises(TypeError):
        hash(samples)


@pytest.mark.parametrize("index", [11, -12, 1 << 80])
def test_an_index_out_of_range_is_an_index_error(page: _core.Page, index: int) -> None:
    with pytest.raises(IndexError):
        page.samples[index]


def test_an_index_that_is_no_number_is_a_type_error(page: _core.Page) -> None:
    with pytest.raises(TypeError, match="int or a slice"):
        page.samples["a"]  # type: ignore[call-overload]


def test_a_slice_is_what_a_slice_of_a_list_is(page: _core.Page) -> None:
    whole = list(page.samples)
    big = 1 << 70
    edges = [None, 0, 1, 3, 10, 11, 12, -1, -4, -11, -12, big, -big]
    steps = [None, 1, 2, 3, 11, big, -1, -2, -big]
    for start in edges:
        for stop in edges:
            for step in steps:
                part = slice(start, stop, step)
                assert list(page.samples[part]) == whole[part], part
                assert list(page.samples[::-1][part]) == whole[::-1][part], part
    with pytest.raises(ValueError, match="zero"):
        page.samples[::0]


def test_a_sample_outlives_everything_it_came_from() -> None:
    sample = _core.parse(bytearray(b'a{b="c"} 1\n')).samples[0:1][0]
    assert (sample.name, sample.labels, sample.family.samples[0].value) == ("a", {"b": "c"}, 1.0)


# -------------------------------------------------------------------- families


def test_a_family_says_what_its_comments_say(page: _core.Page) -> None:
    family = page.families["a"]
    assert (family.name, family.type, family.help, family.unit) == ("a", "counter", 'says "a\nb"', "")
    assert page.families["b"].type == "unknown"
    assert page.families["b"].help == ""
    assert repr(family) == "<Family 'a': counter, 2 samples>"


def test_help_has_escaped_quotes_in_openmetrics_only() -> None:
    family = _core.parse(OPENMETRICS, format="openmetrics").families["r_seconds"]
    assert (family.help, family.unit) == ('a "quoted" word', "seconds")
    assert _core.parse(b'# HELP a \\"x\\"\na 1\n').families["a"].help == '\\"x\\"'


def test_families_are_a_mapping_in_page_order(page: _core.Page) -> None:
    families = page.families
    assert isinstance(families, Mapping)
    assert list(families) == list(families.keys()) == ["a", "b", "h"]
    assert [family.name for family in families.values()] == ["a", "b", "h"]
    assert families == dict(families.items())
    assert families == _core.parse(PAGE.replace(b"NaN", b"nan")).families
    assert families != _core.parse(PAGE.replace(b"NaN", b"1")).families
    assert len(families) == 3
    assert "h" in families
    assert families.get("h") == families["h"]
    assert families.get("none") is None
    assert families.get("none", 1) == 1
    with pytest.raises(TypeError):
        hash(families)


@pytest.mark.parametrize("key", ["none", "h_bucket", "", "\ud800", 5, None])
def test_what_is_no_family_is_not_in_families(page: _core.Page, key: object) -> None:
    assert key not in page.families
    with pytest.raises(KeyError) as caught:
        page.families[key]  # type: ignore[index]
    assert caught.value.args == (key,)


def test_the_samples_of_a_family_need_not_stand_together(page: _core.Page) -> None:
    assert [sample.labels["x"] for sample in page.families["a"].samples] == ["1", "2"]
    assert [sample.labels["x"] for sample in page.families["a"].samples[::-1]] == ["2", "1"]
    assert len(page.families["h"].samples) == 8
    many = _core.parse("".join(f'f{i % 7}{{i="{i}"}} {i}\n' for i in range(700)))
    for number in range(7):
        values = [sample.value for sample in many.families[f"f{number}"].samples]
        assert values == [float(i) for i in range(number, 700, 7)]


def test_a_family_without_samples_has_none() -> None:
    family = _core.parse(b"a 1\n# TYPE empty gauge\nb 2\n").families["empty"]
    assert (family.type, list(family.samples)) == ("gauge", [])


def test_families_are_equal_where_they_say_the_same(page: _core.Page) -> None:
    assert page.families["a"] == _core.parse(PAGE).families["a"]
    assert hash(page.families["a"]) == hash(_core.parse(PAGE).families["a"])
    assert page.families["a"] != page.families["b"]
    assert page.families["a"] != _core.parse(PAGE.replace(b"counter", b"gauge")).families["a"]


# --------------------------------------------------------------------- look-up


def test_value_is_the_one_sample_that_matches(page: _core.Page) -> None:
    assert page.value("b") == 4.0
    assert page.value("a", x="1") == 3.0
    assert math.isnan(page.value("a", x="2") or 0.0)
    assert page.value("h_sum", k="u") == 4.0
    assert page.value("a", x="3") is None
    assert page.value("none") is None
    assert page.value("b", x="") == 4.0


def test_several_matches_are_a_lookup_error_with_their_number(page: _core.Page) -> None:
    with pytest.raises(LookupError, match=r"^2 samples match 'a'") as caught:
        page.value("a")
    assert type(caught.value) is LookupError


def test_a_label_may_have_any_name_in_a_look_up() -> None:
    page = _core.parse(b'a{name="x",self="y"} 1\n')
    assert page.value("a", name="x", self="y") == 1.0


def test_a_look_up_takes_text_only(page: _core.Page) -> None:
    with pytest.raises(TypeError, match="name must be a str, not int"):
        page.value(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a label value must be a str, not int"):
        page.value("a", x=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"value\(\) takes the name"):
        page.value()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"histogram\(\) takes the name"):
        page.histogram("h", "k")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="lone surrogate"):
        page.value("\ud800")


def test_histogram_adds_the_series_that_match(page: _core.Page) -> None:
    one = page.histogram("h", k="u")
    assert one is not None
    assert (one.bounds, one.counts, one.sum) == ((1.0, math.inf), (2.0, 3.0), 4.0)
    both = page.histogram("h")
    assert both is not None
    assert (both.counts, both.sum, both.count) == ((2.0, 4.0), 13.0, 4.0)


def test_what_is_no_histogram_is_none(page: _core.Page) -> None:
    assert page.histogram("none") is None
    assert page.histogram("h", k="w") is None
    assert page.histogram("b") is None
    assert _core.parse(b'# TYPE h histogram\nh_bucket{le="1"} 2\nh_count 2\n').histogram("h") is None


# ------------------------------------------------------------------------ whole


def test_a_page_shows_its_size(page: _core.Page) -> None:
    assert repr(page) == "<Page: 11 samples in 3 families>"
    assert repr(page.samples) == "<Samples: 11>"
    assert repr(page.families) == "<Families: 3>"


def test_a_page_and_its_views_stay_in_the_process(page: _core.Page) -> None:
    for view in (page, page.samples, page.samples[0], page.families, page.families["a"]):
        with pytest.raises(TypeError, match="cannot pickle or copy"):
            copy.copy(view)
        with pytest.raises(TypeError, match="cannot create"):
            type(view)()


def test_the_recorded_pages_of_real_servers_can_be_read(data: Path) -> None:
    pages = sorted((data / "sglang").rglob("*.prom"))[:20]
    assert pages
    for path in pages:
        page = _core.parse(path.read_bytes())
        assert sum(len(family.samples) for family in page.families.values()) == len(page.samples)
