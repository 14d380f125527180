"""Extract, Plan and Fold: what a plan takes, and what it finds on a page."""

from __future__ import annotations

import copy
import gc
import math
import pickle
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel, PrivateAttr

from sglang_collect import _core
from sglang_collect._core import LIMITS, Extract, Fold, Histogram, Page, Plan, parse
from sglang_collect.errors import ExpositionError, LimitExceeded

PAGE = b"""\
# TYPE x:run gauge
x:run{rank="0",pid="10"} 3
x:run{rank="1",pid="9"} 4
x:run{rank="1",pid="7"} 4
# TYPE x:t histogram
x:t_bucket{le="1",m="a"} 1
x:t_bucket{le="+Inf",m="a"} 2
x:t_sum{m="a"} 3
x:t_count{m="a"} 2
x:t_bucket{le="1",m="b"} 0
x:t_bucket{le="2",m="b"} 5
x:t_bucket{le="+Inf",m="b"} 6
x:t_sum{m="b"} 7
x:t_count{m="b"} 6
# TYPE x:bad histogram
x:bad_bucket{le="1"} 5
x:bad_bucket{le="+Inf"} 2
x:nan NaN
y_old 8
"""

PREFIXES = ("x:", "y_")


def fold(**extracts: Extract) -> Fold:
    return Plan(PREFIXES, extracts).fold(PAGE)


# ----------------------------------------------------------------------- slots


def test_a_slot_is_a_float_a_histogram_a_dict_or_none() -> None:
    found = fold(
        run=Extract(["run"]),
        t=Extract(["t"], kind="histogram"),
        by_rank=Extract(["run"], without=["pid"], lowest=["pid"], by="rank"),
        t_by=Extract(["t"], kind="histogram", by="m"),
        ranks=Extract([], kind="label", by="rank"),
        none=Extract(["none"]),
    )
    assert found["run"] == 11.0
    assert found["t"] == Histogram([1, math.inf], [1, 8], sum=10)
    assert found["by_rank"] == {"0": 3.0, "1": 4.0}
    assert found["t_by"] == {
        "a": Histogram([1, math.inf], [1, 2], sum=3),
        "b": Histogram([1, 2, math.inf], [0, 5, 6], sum=7),
    }
    assert found["ranks"] == {"0": 1.0, "1": 2.0}
    assert found["none"] is None


@pytest.mark.parametrize(
    ("options", "value"),
    [
        ({"reduce": "max"}, 4.0),
        ({"reduce": "mean"}, 11 / 3),
        ({"without": ["pid"], "lowest": ["pid"]}, 7.0),
        ({"where": [("rank", "is", ["1"])]}, 8.0),
        ({"where": [("rank", "is not", ["1"])]}, 3.0),
        ({"where": [("rank", "is", ["1"]), ("pid", "is", ["7", "8"])]}, 4.0),
        ({"where": [("pid", "starts", ["1", "9"])]}, 7.0),
        ({"where": [("pid", "not starts", ["1", "9"])]}, 4.0),
        ({"where": [("pid", "ends", ["0"])]}, 3.0),
        ({"where": [("pid", "not ends", ["0"])]}, 8.0),
        ({"where": [("other", "is", [""])]}, 11.0),
        ({"where": [("rank", "is", ["5"])]}, None),
        ({"where": [("rank", "is", [])]}, None),
    ],
)
def test_the_options_of_an_extract_reach_the_core(options: dict[str, Any], value: float | None) -> None:
    assert fold(run=Extract(["run"], **options))["run"] == (value and pytest.approx(value))


def test_names_are_tried_in_order_under_each_prefix() -> None:
    assert fold(a=Extract(["none", "old", "run"]))["a"] == 8.0
    assert Plan([""], {"a": Extract(["y_old"])}).fold(PAGE)["a"] == 8.0


def test_a_fold_tells_how_a_slot_came_about() -> None:
    found = fold(
        run=Extract(["run"], without=["pid"], lowest=["pid"]),
        t=Extract(["t"], kind="histogram"),
        bad=Extract(["bad"], kind="histogram"),
        nan=Extract(["nan"]),
        none=Extract(["none"]),
    )
    assert found.n_samples == 16
    assert [found.n_series(name) for name in ("run", "none")] == [2, 0]
    assert found.bounds_differ("t") is True
    assert found.bounds_differ("run") is False
    assert found["bad"] is None
    assert "fall" in (found.reason("bad") or "")
    assert found["nan"] is None
    assert found.reason("nan")
    assert found.reason("none") is None
    assert found.reason("run") is None
    assert found.flaws == ("t", "bad", "nan")
    assert found.labels("run") == found.labels("none") == ()
    assert fold(run=Extract(["run"])).flaws == ()


H = "# TYPE h histogram\n"


@pytest.mark.parametrize(
    ("earlier", "later", "fell"),
    [
        ("a 1\n", "a 1\n", ()),
        ("a 1\n", "a 2\n", ()),
        ("a 2\n", "a 1\n", ("a", "by")),
        ("", "a 1\n", ()),
        ("a 1\n", "", ("a", "by")),
        ("a 1\n", "a NaN\n", ("a", "by")),
        ("a NaN\n", "a 1\n", ()),
        ("a NaN\n", "", ("a", "by")),
        ('a{l="x"} 1\na{l="y"} 2\n', 'a{l="y"} 2\na{l="x"} 1\n', ()),
        ('a{l="x"} 1\na{l="y"} 2\n', 'a{l="y"} 3\na{l="z"} 9\n', ("by",)),
        ('a{l="x"} 1\na{l="y"} 2\n', 'a{l="x"} 2\na{l="y"} 1\n', ("by",)),
        ('a{l="x"} 1\na{l="y"} 0\n', 'a{l="x"} 1\n', ()),
        (H + 'h_bucket{le="1"} 1\nh_bucket{le="+Inf"} 2\nh_sum 3\n', "", ("h", "hby")),
        *(
            (
                H + 'h_bucket{le="1"} 1\nh_bucket{le="+Inf"} 2\nh_sum 3\n',
                H + f'h_bucket{{le="{bound}"}} {count}\nh_bucket{{le="+Inf"}} {total}\nh_sum {total_sum}\n',
                fell,
            )
            for bound, count, total, total_sum, fell in [
                (1, 1, 2, 3, ()),
                (1, 2, 4, 5, ()),
                (2, 1, 2, 3, ("h", "hby")),
                (1, 0, 2, 3, ("h", "hby")),
                (1, 1, 1, 3, ("h", "hby")),
                (1, 1, 2, 2, ("h", "hby")),
            ]
        ),
        (
            H + 'h_bucket{le="+Inf"} 2\nh_sum 3\n',
            H + 'h_bucket{le="1"} 1\nh_bucket{le="+Inf"} 2\nh_sum 3\n',
            ("h", "hby"),
        ),
    ],
)
def test_what_fell_is_found(earlier: str, later: str, fell: tuple[str, ...]) -> None:
    plan = Plan(
        [""],
        {
            "a": Extract(["a"]),
            "by": Extract(["a"], by="l"),
            "h": Extract(["h"], kind="histogram"),
            "hby": Extract(["h"], kind="histogram", by="l"),
        },
    )
    assert _core.fallen(plan.fold(later), plan.fold(earlier), plan.names) == fell
    with pytest.raises(KeyError):
        _core.fallen(plan.fold(later), plan.fold(earlier), ("none",))


@pytest.mark.parametrize("given", [(), ({}, {}, ()), ("fold", "fold", []), ("fold", {}, ())])
def test_only_folds_are_compared(given: tuple[Any, ...]) -> None:
    fold = Plan([""], {}).fold("")
    with pytest.raises(TypeError):
        _core.fallen(*(fold if what == "fold" else what for what in given))


def test_the_keys_of_a_map_are_told_sorted() -> None:
    plan = Plan([""], {"by": Extract(["a"], by="l"), "label": Extract((), kind="label", by="l")})
    found = plan.fold('a{l="b"} 1\na 2\na{l="é"} 3\na{l="a"} 4\nc{l="d"} 5\n')
    assert found.labels("by") == ("a", "b", "é")
    assert found.labels("label") == ("a", "b", "d", "é")
    with pytest.raises(KeyError):
        found.labels("none")


def test_values_are_picked_as_the_numbers_that_a_model_has() -> None:
    found = {
        "half": 2.5, "odd": 3.5, "low": -(2.0**63), "high": 2.0**63, "inf": math.inf, "nan": math.nan,
        "map": {"a": 1.6, "b": math.inf, "c": None, "d": "text"}, "text": "text", "none": None,
    }  # fmt: skip
    whole = _core.pick(tuple((name, name, True) for name in found), found)
    assert whole == {
        "half": 2, "odd": 4, "low": -(2**63), "high": None, "inf": None, "nan": None,
        "map": {"a": 2, "d": "text"}, "text": "text", "none": None,
    }  # fmt: skip
    assert [type(whole[name]) for name in ("half", "low")] == [int, int]
    as_they_are = _core.pick((("x", "half", False), ("y", "map", False), ("z", None, False)), found)
    assert as_they_are == {"x": 2.5, "y": {"a": 1.6, "d": "text"}, "z": None}
    assert _core.pick((("x", "x", True), ("y", "y", True)), {"x": {"": 1.0}, "y": {"": 1.0, "a": 2.0}}) == {
        "x": None,
        "y": {"a": 2},
    }
    assert _core.pick((("run", "run", True),), fold(run=Extract(["run"]))) == {"run": 11}


@pytest.mark.parametrize("fields", [[], ("x",), (("x", "x"),), (["x", "x", True],), ((["x"], "x", True),)])
def test_what_are_no_fields_is_a_type_error(fields: Any) -> None:
    with pytest.raises(TypeError):
        _core.pick(fields, {"x": 1.0})
    with pytest.raises(TypeError):
        _core.pick(fields)  # type: ignore[call-arg]
    with pytest.raises(KeyError):
        _core.pick((("x", "y", True),), {"x": 1.0})


class Numbers(BaseModel):
    whole: int = 0
    plain: float = 0.5


FIELDS = (("whole", "run", True), ("plain", "none", False))


def test_groups_are_built_of_a_fold_as_validation_would_build_them() -> None:
    found = fold(run=Extract(["run"]), none=Extract(["none"]))
    defaults = Numbers().model_dump()
    made = _core.build_groups((("group", Numbers, defaults, FIELDS),), found)
    assert made == {"group": Numbers(whole=11), "absent": ["none"]}
    assert made["group"].model_fields_set == {"whole"}
    assert made["group"].model_copy(update={"plain": 1.0}).model_dump() == {"whole": 11, "plain": 1.0}
    assert defaults == Numbers().model_dump()
    assert _core.build_groups((), found) == {"absent": []}


class Kept(Numbers):
    _mine: int = PrivateAttr(default=1)


def test_a_model_is_built_of_what_its_fields_want() -> None:
    fields = Numbers().model_dump()
    made = _core.build((Kept, fields, ("whole",), None), (3,), {"_mine": 2})
    assert (made.model_dump(), made._mine, made.model_fields_set) == (
        {"whole": 3, "plain": 0.5},
        2,
        {"whole"},
    )
    made.whole = 4
    assert fields == {"whole": 0, "plain": 0.5}


@pytest.mark.parametrize(
    "model", [5, int, object, _core.Fold, type("Slots", (), {"__slots__": ()})], ids=lambda model: str(model)
)
def test_what_is_no_model_is_not_built(model: Any) -> None:
    with pytest.raises((TypeError, AttributeError)):
        _core.build((model, {}, (), None), (), None)
    with pytest.raises((TypeError, AttributeError)):
        _core.build_groups((("group", model, {}, ()),), fold(run=Extract(["run"])))
    with pytest.raises((TypeError, AttributeError)):
        _core.add_fields(model, {})


MOULD = (Numbers, {}, ("whole",), None)


@pytest.mark.parametrize(
    "args",
    [
        (),
        (MOULD, (1,)),
        (MOULD, (1,), None, None),
        (MOULD, [1], None),
        (MOULD, (), None),
        (MOULD, (1, 2), None),
        (list(MOULD), (1,), None),
        (MOULD[:3], (1,), None),
        ((Numbers, [], ("whole",), None), (1,), None),
        ((Numbers, {}, ["whole"], None), (1,), None),
        ((Numbers, {}, (["whole"],), None), (1,), None),
    ],
)
def test_arguments_that_make_no_model_are_a_type_error(args: Any) -> None:
    with pytest.raises(TypeError):
        _core.build(*args)


def test_fields_are_added_where_there_are_none_yet() -> None:
    made = Numbers(whole=1)
    del made.plain
    _core.add_fields(made, {"whole": 2, "plain": 3.0})
    assert (made.whole, made.plain, made.model_fields_set) == (1, 3.0, {"whole", "plain"})


@pytest.mark.parametrize("args", [(), (Numbers(),), (Numbers(), []), (Numbers(), {}, {})])
def test_what_adds_no_fields_is_a_type_error(args: Any) -> None:
    with pytest.raises(TypeError):
        _core.add_fields(*args)


@pytest.mark.parametrize(
    "groups", [[], ("x",), (("x", Numbers, {}),), (("x", Numbers, None, ()),), (("x", Numbers, {}, (5,)),)]
)
def test_what_are_no_groups_is_a_type_error(groups: Any) -> None:
    with pytest.raises(TypeError):
        _core.build_groups(groups, {})


def test_a_fold_is_a_mapping_in_the_order_of_its_plan() -> None:
    found = fold(b=Extract(["run"]), a=Extract(["none"]))
    assert isinstance(found, Mapping)
    assert list(found) == list(found.keys()) == ["b", "a"]
    assert found == {"b": 11.0, "a": None}
    assert found == fold(a=Extract(["none"]), b=Extract(["run"]))
    assert found != {"b": 11.0}
    assert dict(found.items()) == {"b": 11.0, "a": None}
    assert list(found.values()) == [11.0, None]
    assert (len(found), "a" in found, "c" in found) == (2, True, False)
    assert (found.get("b"), found.get("c"), found.get("c", 1)) == (11.0, None, 1)
    assert repr(found) == "<Fold: 2 slots from 16 samples>"


@pytest.mark.parametrize("name", ["c", "", "\ud800", None, ("b",)])
def test_an_unknown_name_is_a_key_error(name: Any) -> None:
    found = fold(b=Extract(["run"]))
    for ask in (found.__getitem__, found.n_series, found.reason, found.bounds_differ):
        with pytest.raises(KeyError) as caught:
            ask(name)
        assert caught.value.args == (name,)


def test_a_value_is_made_once() -> None:
    found = fold(t=Extract(["t"], kind="histogram"), by=Extract(["run"], by="rank"))
    assert found["t"] is found["t"]
    assert found["by"] is found["by"]


def test_a_fold_outlives_its_plan_and_its_page() -> None:
    found = Plan(["x:"], {"by": Extract(["t"], kind="histogram", by="m")}).fold(bytearray(PAGE))
    gc.collect()
    assert set(found["by"]) == {"a", "b"}


def test_a_fold_in_a_cycle_is_collected() -> None:
    class Probe:
        pass

    found = fold(by=Extract(["run"], by="rank"))
    probe = Probe()
    probe.fold = found  # type: ignore[attr-defined]
    found["by"]["probe"] = probe
    import weakref

    gone = weakref.ref(probe)
    del found, probe
    gc.collect()
    assert gone() is None


# ----------------------------------------------------------------------- input


def test_a_page_is_folded_as_it_was_read() -> None:
    plan = Plan([""], {"a": Extract(["a_total", "a"])})
    data = b"# TYPE a counter\na_total 5 1.5\n# EOF\n"
    page: Page = parse(data, format="auto", strict=True)
    assert plan.fold(page)["a"] == 5.0
    assert plan.fold(data, format="openmetrics")["a"] == 5.0
    with pytest.raises(ExpositionError):
        plan.fold(data, format="text")


@pytest.mark.parametrize("data", [PAGE, bytearray(PAGE), memoryview(PAGE), PAGE.decode(), parse(PAGE)])
def test_every_input_gives_the_same_fold(data: Any) -> None:
    assert Plan(PREFIXES, {"run": Extract(["run"])}).fold(data) == {"run": 11.0}


def test_a_fold_makes_every_check_that_parsing_makes() -> None:
    plan = Plan([""], {})
    with pytest.raises(ExpositionError, match=r"^line 2, column 3: "):
        plan.fold(b"a 1\nb x\n")
    with pytest.raises(ExpositionError, match="invalid UTF-8"):
        plan.fold('a{b="\ud800"} 1\n')
    with pytest.raises(TypeError, match="bytes-like"):
        plan.fold(None)  # type: ignore[arg-type]
    with pytest.raises(BufferError):
        plan.fold(memoryview(PAGE)[::2])
    with pytest.raises(ValueError, match="format must be"):
        plan.fold(PAGE, format="x")  # type: ignore[arg-type]
    with pytest.raises(LimitExceeded, match="samples"):
        plan.fold(PAGE, limits=SimpleNamespace(**{**LIMITS, "samples": 1}))


# ---------------------------------------------------------------- construction


def test_a_plan_knows_its_names() -> None:
    class Name(str):
        __slots__ = ()

    plan = Plan(iter(PREFIXES), {Name("b"): Extract(("x",)), "a": Extract(["y"])})  # type: ignore[arg-type]
    assert plan.names == ("b", "a")
    assert type(plan.names[0]) is str
    assert repr(plan) == "<Plan: 2 extracts>"
    assert Plan([""], {}).fold(PAGE) == {}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"names": "run"}, "names must be several str, not one"),
        ({"names": [1]}, "names must be a str, not int"),
        ({"names": None}, "not iterable"),
        ({"names": ["a"], "where": ["rank"]}, "a condition of where is"),
        ({"names": ["a"], "where": ["abc"]}, "a condition of where is"),
        ({"names": ["a"], "where": [("rank", "is")]}, "a condition of where is"),
        ({"names": ["a"], "where": [("rank", "is", "0")]}, "the values of a condition must be several str"),
        ({"names": ["a"], "where": [(1, "is", ["0"])]}, "the label of a condition must be a str"),
        ({"names": ["a"], "where": [("rank", None, ["0"])]}, "the operation of a condition must be a str"),
        ({"names": ["a"], "without": "pid"}, "without must be several str"),
        ({"names": ["a"], "lowest": [None]}, "lowest must be a str"),
        ({"names": ["a"], "by": None}, "by must be a str"),
        ({"names": ["a"], "kind": None}, "kind must be a str"),
    ],
)
def test_an_extract_of_the_wrong_types_is_a_type_error(args: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Extract(**args)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"kind": "gauge"}, "^kind must be 'value', 'histogram' or 'label', not 'gauge'$"),
        ({"reduce": "min"}, "^reduce must be 'sum', 'max' or 'mean', not 'min'$"),
        (
            {"where": [("rank", "like", ["0"])]},
            "must be 'is', 'is not', 'starts', 'not starts', 'ends' or 'not ends'",
        ),
        ({"where": [("rank", "is", ["\ud800"])]}, "the values of a condition holds a lone surrogate"),
    ],
)
def test_an_extract_with_an_unknown_word_names_the_known_ones(args: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Extract(["a"], **args)


def test_a_plan_of_the_wrong_types_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="prefixes must be several str"):
        Plan("x:", {})
    with pytest.raises(TypeError, match="mapping of str to Extract, not to str"):
        Plan(["x:"], {"a": "run"})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="the name of an extract must be a str"):
        Plan(["x:"], {1: Extract(["a"])})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="extracts must be a mapping, not list"):
        Plan(["x:"], [Extract(["a"])])  # type: ignore[arg-type]


def test_what_the_core_refuses_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="label"):
        Plan(["x:"], {"a": Extract([], kind="label")})


def test_a_fold_tells_whether_the_page_had_anything_for_it() -> None:
    assert not fold(run=Extract(["run"]), none=Extract(["none"])).found_nothing
    assert fold(none=Extract(["none"])).found_nothing
    assert not Plan([""], {"none": Extract(["none"])}).fold("").found_nothing


def test_plans_and_what_they_find_stay_in_the_process() -> None:
    extract = Extract(["run"])
    for thing in (extract, Plan(PREFIXES, {"a": extract}), fold(a=extract)):
        with pytest.raises(TypeError, match="cannot pickle or copy"):
            pickle.dumps(thing)
        with pytest.raises(TypeError, match="cannot pickle or copy"):
            copy.deepcopy(thing)
    with pytest.raises(TypeError, match="cannot create"):
        Fold()


def test_an_extract_shows_itself() -> None:
    assert repr(Extract(["a"], where=[("r", "is", [""])])) == (
        "Extract(('a',), kind='value', where=(('r', 'is', ('',)),), "
        "without=(), lowest=(), by='', reduce='sum')"
    )
