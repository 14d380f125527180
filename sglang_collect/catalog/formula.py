"""Formulas: how a field is made of metrics, written down once.

A formula is a list of steps, each of which leaves one number for those after it, which take the last ones;
any of them may be absent. The core runs the steps over a fold, for every snapshot. Python runs the same steps
over whatever answers as a ``Reading`` does, such as the difference of two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from . import Field, Reading, by_slot, histogram_slot, label_slot, own_slot

__all__ = [
    "NOTHING",
    "Formula",
    "choose",
    "constant",
    "count",
    "entry",
    "first",
    "formula_of",
    "largest_key",
    "mean",
    "named",
    "number",
    "or_zero",
    "plus",
    "ratio",
    "seen",
    "sum_of",
    "times",
    "total",
]

Step = tuple[Any, ...]
_Number = float | None


@dataclass(frozen=True)
class Formula:
    """A number made of metrics: called with a reading, it gives the number, None where it is absent."""

    steps: tuple[Step, ...]

    def __call__(self, reading: Reading) -> float | None:
        left: list[_Number] = []
        for word, *given in self.steps:
            if word in _READ:
                left.append(_READ[word](reading, *given))
            else:
                n = _OPERANDS.get(word) or given[0]
                operands = left[-n:]
                del left[-n:]
                left.append(_MAKE[word](operands))
        return left.pop()

    def compiled(self) -> tuple[Step, ...]:
        """The steps by the names of a plan's slots."""
        return tuple(_SLOTS[step[0]](*step) if step[0] in _SLOTS else step for step in self.steps)


# ------------------------------------------------------------ what is read


def number(name: str) -> Formula:
    """A gauge, a counter or a view."""
    return Formula((("number", name),))


def count(metric: str) -> Formula:
    """The observations of a histogram."""
    return Formula((("count", metric),))


def mean(metric: str) -> Formula:
    """The mean of a histogram; absent where it is empty."""
    return Formula((("mean", metric),))


def seen(name: str) -> Formula:
    """1 where the page has a series of it, whatever its value, else 0."""
    return Formula((("seen", name),))


def named(label: str) -> Formula:
    """1 where the page names any value of the label, else 0."""
    return Formula((("named", label),))


def total(metric: str, label: str, end: str = "") -> Formula:
    """All of a metric whose label ends so; 0 where there is none, absent where a value is NaN."""
    return Formula((("total", metric, label, end),))


def entry(metric: str, label: str, value: str) -> Formula:
    """What of a metric has that label; 0 where there is none, absent where a value is NaN."""
    return Formula((("entry", metric, label, value),))


def largest_key(metric: str, label: str) -> Formula:
    """The largest value of the label that is a number."""
    return Formula((("largest key", metric, label),))


def constant(value: float) -> Formula:
    return Formula((("constant", value),))


NOTHING = Formula((("nothing",),))
"""What is absent."""


# -------------------------------------------------------- what is made of it


def _made(parts: tuple[Formula, ...], *step: Any) -> Formula:
    return Formula((*(given for part in parts for given in part.steps), step))


def first(*of: Formula) -> Formula:
    """The first that is there."""
    return _made(of, "first", len(of))


def plus(*of: Formula) -> Formula:
    """The sum of all; absent where one is."""
    return _made(of, "plus", len(of))


def sum_of(*of: Formula) -> Formula:
    """The sum of those that are there."""
    return _made(of, "sum", len(of))


def ratio(part: Formula, whole: Formula) -> Formula:
    """part / whole; absent where the whole is 0."""
    return _made((part, whole), "ratio")


def times(a: Formula, b: Formula) -> Formula:
    return _made((a, b), "times")


def choose(condition: Formula, then: Formula, otherwise: Formula = NOTHING) -> Formula:
    """The one where the condition is there and not 0, else the other."""
    return _made((condition, then, otherwise), "choose")


def or_zero(name: str) -> Formula:
    """A counter that is missing until it first counts: 0 where the page has no series of it."""
    return choose(seen(name), number(name), constant(0.0))


def formula_of(field: Field, *, own: bool = True) -> tuple[Step, ...] | None:
    """The steps of a field for a plan, its own name first with ``own``; None where it is read otherwise."""
    formula = field.read
    if own and field.own and (formula is None or isinstance(formula, Formula)):
        formula = first(number(own_slot(field.own)), formula or number(field.metrics[0]))
    return formula.compiled() if isinstance(formula, Formula) else None


# ------------------------------------------------------------- run in Python


def _added(numbers: list[_Number]) -> _Number:
    there = [number for number in numbers if number is not None]
    return reduce(add, there, 0.0) if there else None


def _mean(reading: Reading, metric: str) -> _Number:
    histogram = reading.histogram(metric)
    return None if histogram is None else histogram.mean


def _count(reading: Reading, metric: str) -> _Number:
    histogram = reading.histogram(metric)
    return None if histogram is None else histogram.count


def _total(reading: Reading, metric: str, label: str, end: str) -> _Number:
    if not reading.is_whole(metric, label):
        return None
    return reduce(add, (value for key, value in reading.by(metric, label).items() if key.endswith(end)), 0.0)


def _entry(reading: Reading, metric: str, label: str, value: str) -> _Number:
    return reading.by(metric, label).get(value, 0.0) if reading.is_whole(metric, label) else None


def _largest(reading: Reading, metric: str, label: str) -> _Number:
    keys = (key for key in reading.by(metric, label) if key.isascii() and key.isdecimal() and len(key) < 10)
    return max(map(float, keys), default=None)


_READ: Mapping[str, Callable[..., _Number]] = {
    "number": lambda reading, name: reading.number(name),
    "count": _count,
    "mean": _mean,
    "seen": lambda reading, name: float(reading.has(name)),
    "named": lambda reading, label: float(bool(reading.labels(label))),
    "total": _total,
    "entry": _entry,
    "largest key": _largest,
    "constant": lambda _reading, value: value,
    "nothing": lambda _reading: None,
}
_OPERANDS = {"ratio": 2, "times": 2, "choose": 3}
_MAKE: Mapping[str, Callable[[list[_Number]], _Number]] = {
    "first": lambda of: next((number for number in of if number is not None), None),
    "plus": lambda of: None if None in of else _added(of),
    "sum": _added,
    "ratio": lambda of: None if of[0] is None or not of[1] else of[0] / of[1],
    "times": lambda of: None if of[0] is None or of[1] is None else of[0] * of[1],
    "choose": lambda of: of[1] if of[0] else of[2],
}

_SLOTS: Mapping[str, Callable[..., Step]] = {
    "count": lambda word, metric: (word, histogram_slot(metric)),
    "mean": lambda word, metric: (word, histogram_slot(metric)),
    "named": lambda word, label: (word, label_slot(label)),
    "total": lambda word, metric, label, end: (word, by_slot(metric, label), end),
    "entry": lambda word, metric, label, value: (word, by_slot(metric, label), value),
    "largest key": lambda word, metric, label: (word, by_slot(metric, label)),
}
