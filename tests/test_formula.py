"""Formulas, which the core and Python and plain words make the same of, and JSON of what they give."""

from __future__ import annotations

import json
import math
import random
import re
import struct
from collections.abc import Callable, Iterator
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import pytest
from truth import page_format, recorded_pages

from sglang_collect import _core
from sglang_collect._core import Extract, Layout, Plan
from sglang_collect.catalog import Reading, formula, own_slot, sglang, sglang_fields
from sglang_collect.catalog.formula import Formula

OURS = sorted((Path(__file__).parent / "data").glob("*.prom"))
FIELDS = {field.name: field for field in sglang_fields.FIELDS}
MADE_OF_PARTS = {name: field.read for name, field in FIELDS.items() if isinstance(field.read, Formula)}

Number = float | None
GIB = 1024.0**3

# ------------------------------------------------------ what they are, plainly


def ratio(part: Number, whole: Number) -> Number:
    return None if part is None or not whole else part / whole


def total(numbers: Any) -> float:
    return reduce(add, numbers, 0.0)


def or_zero(r: Reading, name: str) -> Number:
    return r.number(name) if r.has(name) else 0.0


def mean(r: Reading, *metrics: str) -> Number:
    for metric in metrics:
        histogram = r.histogram(metric)
        if histogram is not None and histogram.mean is not None:
            return histogram.mean
    return None


def mean_or_gauge(r: Reading, metric: str) -> Number:
    found = mean(r, metric)
    return r.number(metric) if found is None else found


def success(r: Reading) -> Number:
    histogram = r.histogram("e2e_request_latency_seconds")
    finished = r.number("num_requests_total")
    return finished if finished is not None or histogram is None else histogram.count


def failure(r: Reading) -> Number:
    parts = [
        or_zero(r, name)
        for name in (
            "failed responses",
            "num_bootstrap_failed_reqs_total",
            "num_transfer_failed_reqs_total",
        )
    ]
    return total(parts) if r.has("http_responses_total") and None not in parts else None


def cached(r: Reading) -> Number:
    if r.has("prompt_tokens_total") and r.labels("engine_type"):
        return or_zero(r, "cached_tokens_total")
    return r.number("cached_tokens_total")


def hit_rate(r: Reading) -> Number:
    found = None
    if r.fold.reason("prefill_effective_tokens_total by mode") is None:
        modes = r.by("prefill_effective_tokens_total", "mode")
        found = ratio(total(v for k, v in modes.items() if k.endswith("_hit")), total(modes.values()))
    if found is None and r.fold.reason("realtime_tokens_total by mode") is None:
        live = r.by("realtime_tokens_total", "mode")
        hits = live.get("prefill_cache", 0.0)
        found = ratio(hits, hits + live.get("prefill_compute", 0.0))
    if found is None and r.labels("engine_type"):
        found = ratio(or_zero(r, "cached_tokens_total"), r.number("prompt_tokens_total"))
    if found is None and r.labels("model_name") and not r.labels("engine_type"):
        found = r.number("cache_hit_rate")
    return found


def allocated(r: Reading) -> Number:
    gigabytes = r.number("kv_cache_memory_usage_gb")
    return None if gigabytes is None else gigabytes * GIB


def cache_memory(r: Reading) -> Number:
    used, evictable = r.number("kv_used_tokens"), r.number("kv_evictable_tokens")
    held = None if used is None or evictable is None else used + evictable
    part, memory = ratio(held, r.number("max_total_num_tokens")), allocated(r)
    return None if part is None or memory is None else memory * part


def usage(r: Reading) -> Number:
    exact = ratio(r.number("num_used_tokens"), r.number("max_total_num_tokens"))
    return r.number("token_usage") if exact is None else exact


def page_size(r: Reading) -> Number:
    size = r.number("page_size")
    if size is not None:
        return size
    labels = r.by("cache_config_info", "page_size")
    return max(
        (float(key) for key in labels if key.isascii() and key.isdecimal() and len(key) < 10), default=None
    )


def backlog(r: Reading) -> Number:
    waiting = [n for metric in FIELDS["queues.backlog"].metrics if (n := r.number(metric)) is not None]
    return total(waiting) if waiting else None


def lora(r: Reading) -> Number:
    exact = ratio(r.number("lora_pool_slots_used"), r.number("lora_pool_slots_total"))
    return r.number("lora_pool_utilization") if exact is None else exact


def latency(r: Reading) -> Number:
    milliseconds = mean_or_gauge(r, "kv_transfer_latency_ms")
    return None if milliseconds is None else milliseconds / 1000


def speed(r: Reading) -> Number:
    gigabytes = mean_or_gauge(r, "kv_transfer_speed_gb_s")
    return None if gigabytes is None else gigabytes * GIB


PLAINLY: dict[str, Callable[[Reading], Number]] = {
    "request_metrics.success_total": success,
    "request_metrics.failure_total": failure,
    "request_metrics.request_duration_seconds": lambda r: mean(r, "e2e_request_latency_seconds"),
    "request_metrics.time_to_first_token_seconds": lambda r: mean(r, "time_to_first_token_seconds"),
    "request_metrics.time_per_output_token_seconds": lambda r: mean(
        r, "inter_token_latency_seconds", "time_per_output_token_seconds"
    ),
    "cache_metrics.cache_hit_rate": hit_rate,
    "cache_metrics.cache_memory_usage_bytes": cache_memory,
    "cache_metrics.prefix_cache_hit_total": cached,
    "tokens.cached_total": cached,
    "kv_cache.usage_ratio": usage,
    "kv_cache.allocated_bytes": allocated,
    "kv_cache.page_size": page_size,
    "queues.backlog": backlog,
    "lora.utilization": lora,
    "disaggregation.transfer_latency_seconds": latency,
    "disaggregation.transfer_speed_bytes_per_second": speed,
}


# --------------------------------------------------------------------- pages


def bits(number: Any) -> bytes | None:
    return None if number is None else struct.pack("d", number)


def wrong(fold: _core.Fold) -> list[str]:
    """The fields that the core, Python and plain words do not agree on."""
    reading = Reading(fold)
    found = []
    for name, its in MADE_OF_PARTS.items():
        made, plain = its(reading), PLAINLY[name](reading)
        own = FIELDS[name].own
        shown = fold[own_slot(own)] if own else None
        if bits(made) != bits(plain) or bits(fold[name]) != bits(plain if shown is None else shown):
            found.append(name)
    for name, field in FIELDS.items():
        if field.own and field.read is None:
            shown = fold[own_slot(field.own)]
            if bits(fold[name]) != bits(fold[field.metrics[0]] if shown is None else shown):
                found.append(name)
    return found


def test_every_formula_is_said_plainly_too() -> None:
    assert PLAINLY.keys() == MADE_OF_PARTS.keys()


@pytest.mark.parametrize("page", [*OURS, *recorded_pages()], ids=lambda page: page.stem)
def test_a_page_gives_the_same_numbers_bit_for_bit(page: Path) -> None:
    text = page.read_bytes()
    assert not wrong(sglang.plan().fold(text, format=page_format(page) if page not in OURS else "auto"))


def series(rng: random.Random) -> Iterator[str]:
    """A page of what the formulas read: each metric there or not, with any value."""
    engine = rng.choice(('engine_type="unified",', ""))
    names = {name for field in FIELDS.values() for name in field.metrics}
    for metric in (metric for metric in sglang.READ if metric.name in names and rng.random() < 0.6):
        model = rng.choice(('model_name="m",', 'model_name="m",', ""))
        yield f"# TYPE sglang:{metric.name} {metric.type}\n"
        labels = [
            *(
                f'mode="{mode}",'
                for mode in ("prefill_cache", "prefill_compute", "decode", "radix_hit", "miss")
            ),
            *(f'page_size="{size}",' for size in ("16", "1", "x", "", "1234567890")),
            *(f'status_code="{code}",endpoint="/generate",' for code in (200, 500)),
            "",
        ]
        for label in rng.sample(labels, rng.randint(1, 4)):
            suffix = rng.choice(("", "_other"))
            if metric.type == "histogram":
                low, count = rng.choice((0, 1, 3)), rng.choice((0, 3, 3.5, 1e300))
                head = f"sglang:{metric.name}"
                yield f'{head}_bucket{{{model}{label}le="1"}} {min(low, count)}\n'
                yield f'{head}_bucket{{{model}{label}le="+Inf"}} {count}\n'
                yield f"{head}_sum{{{model}{label}}} {value(rng)}\n"
                yield f"{head}_count{{{model}{label}}} {count}\n"
            elif not suffix:
                yield f"sglang:{metric.name}{{{model}{engine}{label}}} {value(rng)}\n"
    for field in FIELDS.values():
        if field.own and rng.random() < 0.1:
            yield f"sglang:{field.own} {value(rng)}\n"


def value(rng: random.Random) -> str:
    return rng.choice(
        ("0", "-0", "1", "NaN", "+Inf", "-Inf", "0.1", "1e308", "5e-324", repr(rng.random() * 1e6))
    )


def test_any_page_gives_the_same_numbers_bit_for_bit() -> None:
    rng = random.Random(5)
    there = dict.fromkeys(MADE_OF_PARTS, 0)
    for _ in range(600):
        fold = sglang.plan().fold("".join(series(rng)))
        assert not wrong(fold)
        for name in there:
            there[name] += fold[name] is not None
    assert all(0 < n < 600 for n in there.values()), there


def test_a_model_of_a_page_has_the_formulas_too() -> None:
    page = b"".join(
        f'sglang:{name}{{model_name="{model}"}} {number}\n'.encode()
        for model, number in (("a", 3.0), ("b", 5.0))
        for name in ("num_used_tokens", "max_total_num_tokens", "num_queue_reqs")
    )
    assert sglang.plan().fold(page)["queues.backlog"] == 8
    fold = sglang.model_plan("b").fold(page)
    assert (fold["queues.backlog"], fold["kv_cache.usage_ratio"]) == (5, 1)


# ---------------------------------------------------------------- of a plan


def plan(*steps: Any, **extracts: Extract) -> Plan:
    return Plan([""], extracts or {"a": Extract(["a"])}, {"f": steps})


def test_a_formula_is_a_value_of_the_fold_that_has_no_series() -> None:
    made = plan(("number", "a"), ("constant", 2), ("times",))
    assert made.names == ("a", "f")
    found = made.fold("a 4\n")
    assert dict(found) == {"a": 4.0, "f": 8.0}
    assert (len(found), "f" in found) == (2, True)
    assert (found.n_series("f"), found.reason("f"), found.bounds_differ("f")) == (0, None, False)
    assert found.flaws == ()
    assert made.fold("b 4\n")["f"] is None


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        ((), ValueError),
        ((("number", "a"), ("number", "a")), ValueError),
        ((("ratio",),), ValueError),
        ((("none", "a"),), ValueError),
        ((("first", -1),), ValueError),
        ((("first", "a"),), TypeError),
        ((("first", 10**30),), OverflowError),
        ((("constant", "a"),), TypeError),
        ((("entry", "a", 5),), TypeError),
        ((("entry", "a", "\ud800"),), ValueError),
        ((("number",),), TypeError),
        ((("nothing", 1),), TypeError),
        (((),), TypeError),
        (("number",), TypeError),
        ((("number", "b"),), KeyError),
        ((("number", "f"),), KeyError),
        ((("number", []),), TypeError),
        (((5,),), TypeError),
    ],
)
def test_what_is_no_formula_is_refused(steps: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        plan(*steps)


def test_formulas_are_tuples_under_names_of_their_own() -> None:
    for formulas, error in (
        ({"f": [("nothing",)]}, TypeError),
        ({"a": (("nothing",),)}, ValueError),
        ({5: (("nothing",),)}, TypeError),
        ([], TypeError),
    ):
        with pytest.raises(error):
            Plan([""], {"a": Extract(["a"])}, formulas)  # type: ignore[arg-type]


def test_python_knows_every_step_of_the_core() -> None:
    with pytest.raises(ValueError, match="no such step") as refusal:
        plan(("no such step",))
    words = set(re.findall("'([a-z ]+)'", str(refusal.value))) - {"no such step"}
    assert words == {*formula._READ, *formula._MAKE}


# ------------------------------------------------------------------ as JSON

PARTS = Plan(
    [""],
    {"a": Extract(["a"]), "h": Extract(["h"], kind="histogram"), "by": Extract(["a"], by="l")},
    {"f": (("number", "a"), ("constant", 2.0), ("ratio",))},
)
FIELDS_OF = (("n", "a", True), ("x", "a", False), ("h", "h", False), ("in", (("made", None, True),)))
HISTOGRAM = '# TYPE h histogram\nh_bucket{le="1"} 1\nh_bucket{le="+Inf"} 4\nh_sum 10\nh_count 4\n'


def written(fields: Any, page: str, *made: Any, quantiles: Any = (("p50", 0.5), ("p75", 0.75))) -> Any:
    return json.loads(Layout(fields, PARTS, quantiles).write(PARTS.fold(page), made))


def test_values_are_written_as_a_model_has_them() -> None:
    assert written(FIELDS_OF, "a 2.5\n" + HISTOGRAM, 1.5) == {
        "n": 2,
        "x": 2.5,
        "h": {
            "count": 4,
            "sum": 10.0,
            "mean": 2.5,
            "p50": 1.0,
            "p75": 1.0,
            "resolution": {"p50": [1.0, None], "p75": [1.0, None]},
        },
        "in": {"made": 2},
    }
    assert written((*FIELDS_OF, ("f", "f", False)), "a 1e300\n", None) == {
        "n": None,
        "x": 1e300,
        "h": None,
        "in": {"made": None},
        "f": 5e299,
    }
    assert written((("x", "a", False), ("y", None, False)), "a +Inf\n", 0.1) == {"x": None, "y": 0.1}
    assert written((("y", None, True), ("x", None, True)), "", 1.0, math.nan) == {"y": 1, "x": None}
    assert written((), "") == {}
    assert written((("o", ()),), "") == {"o": {}}
    parts = (("by", "by", True),)
    assert written(parts, 'a{l="x"} 1.6\na{l="\\"y"} 2\na 3\na{l="z"} +Inf\n') == {"by": {"x": 2, '"y': 2}}
    assert written(parts, "a 3\n") == written(parts, "b 3\n") == {"by": None}
    assert written(parts, 'a{l="z"} +Inf\n') == {"by": {}}
    empty = '# TYPE h histogram\nh_bucket{le="+Inf"} 0\nh_count 0\n'
    assert written((("h", "h", False),), empty, quantiles=(("p50", 0.5),)) == {
        "h": {"count": 0, "sum": None, "mean": None, "p50": None, "resolution": {}}
    }
    huge = '# TYPE h histogram\nh_bucket{le="+Inf"} 1e30\nh_count 1e30\n'
    assert written((("h", "h", False),), huge) == {"h": None}
    assert written((("h", "h", False),), HISTOGRAM, quantiles=()) == {
        "h": {"count": 4, "sum": 10.0, "mean": 2.5, "resolution": {}}
    }


def test_a_map_by_statuses_is_written_by_their_classes() -> None:
    classes = (("by", "by", True, True),)
    page = 'a{l="500"} 1\na{l="200"} 2\na{l="503"} 3.2\na{l="20"} 5\na{l="2x0"} 6\na 7\na{l="٥٠٠"} 1\n'
    assert list(written(classes, page)["by"].items()) == [("5xx", 4), ("2xx", 2), ("other", 19)]
    assert written(classes, 'a{l="404"} 1e300\na{l="x"} 1\n') == {"by": {"other": 1}}
    assert written(classes, 'a{l="404"} 1\n') == {"by": {"4xx": 1}}
    assert written(classes, 'a{l="404"} 1\na{l="200"} NaN\n') == {"by": None}
    assert written(classes, "b 1\n") == {"by": None}
    assert written((("n", "a", True, True),), "a 1\n") == {"n": None}


def test_a_layout_writes_folds_of_other_plans_by_the_names_they_share() -> None:
    layout = Layout((("x", "b", False), ("y", "a", False)), Plan([""], {n: Extract([n]) for n in "ab"}))
    fold = Plan([""], {n: Extract([n]) for n in "cba"}).fold("a 1\nb 2\nc 3\n")
    assert json.loads(layout.write(fold)) == {"x": 2.0, "y": 1.0}
    with pytest.raises(KeyError):
        layout.write(PARTS.fold("a 1\n"))


def test_names_are_written_whatever_they_are() -> None:
    name = '\x00\x1f"\\/\n\t\r\b\f\x7fé\U0001f600' * 50
    quantiles = ((name, 0.5),)
    found = written(((name, "a", False), ("h", "h", True)), "a 1\n" + HISTOGRAM, quantiles=quantiles)
    assert (found[name], found["h"][name]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("fields", "quantiles", "error"),
    [
        ([], (), TypeError),
        (("x",), (), TypeError),
        ((("x",),), (), TypeError),
        ((("x", "a", True, True, True),), (), TypeError),
        (((5, "a", True),), (), TypeError),
        ((("\ud800", "a", True),), (), ValueError),
        ((("x", "none", True),), (), KeyError),
        ((("x", (("y", "none", True),)),), (), KeyError),
        ((("x", []),), (), TypeError),
        ((), ("p50",), TypeError),
        ((), (("p50", "x"),), TypeError),
        ((), ((5, 0.5),), TypeError),
        ((), [], TypeError),
    ],
)
def test_what_cannot_be_laid_out_is_an_error(fields: Any, quantiles: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Layout(fields, PARTS, quantiles)
    with pytest.raises(TypeError):
        Layout((), {}, ())  # type: ignore[arg-type]


def test_fields_may_be_nested_as_deep_as_python_permits() -> None:
    fields: Any = ()
    for _ in range(100_000):
        fields = (("x", fields),)
    with pytest.raises(RecursionError):
        Layout(fields, PARTS)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ((), TypeError),
        (({},), TypeError),
        (("fold", []), TypeError),
        (("fold", (), ()), TypeError),
        (("fold",), ValueError),
        (("fold", (1.0, 2.0)), ValueError),
        (("fold", ("text",)), TypeError),
        (("fold", (1,)), TypeError),
    ],
)
def test_what_cannot_be_written_is_an_error(given: tuple[Any, ...], error: type[Exception]) -> None:
    layout = Layout((("x", None, True),), PARTS)
    with pytest.raises(error):
        layout.write(*(PARTS.fold("a 1\n") if what == "fold" else what for what in given))
