"""What a catalogue is made of. Each engine has its own in here: tables, and the few formulas they name.

A *metric* is a row of what an engine exposes; its *rule* says how its series become one number, its
*labels* what tells them apart; a *field* is one number of a snapshot. What the fields need of a catalogue
is compiled into a ``Plan``, which reads a page into a fold; a ``Reading`` asks that fold by the names of
the catalogue.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from .._core import Extract, Fold, Histogram, Plan

__all__ = [
    "Form",
    "Field",
    "LabelSet",
    "Metric",
    "Reading",
    "Rule",
    "Value",
    "View",
    "compile_plan",
    "histogram_of",
    "histogram_slot",
    "release_key",
]

Condition = tuple[str, str, tuple[str, ...]]
_RELEASE = re.compile(r"v(\d+)\.(\d+)\.(\d+)(?:rc(\d+))?(?:\.post(\d+))?")
Value = float | Histogram | dict[str, float] | None


def release_key(release: str) -> tuple[int, ...]:
    """What releases are in order by: v0.5.3rc1, v0.5.3, v0.5.3.post1; ValueError for another spelling."""
    found = _RELEASE.fullmatch(release)
    if found is None:
        raise ValueError(f"not a release: {release!r}")
    major, minor, patch, candidate, post = found.groups()
    return int(major), int(minor), int(patch), int(candidate or 1 << 30), int(post or 0)


@dataclass(frozen=True)
class Rule:
    """How the series of a metric become one number, in PromQL's words.

    Attributes:
        code: the letter of the rule.
        text: what the rule says about the metric.
        where: conditions a series has to meet: (label, operator, values); an absent label is "".
        without: labels that only repeat one measurement; of such series one stands.
        lowest: the one with the lowest values of these labels, compared as numbers.
        reduce: how the rest become one. Histograms always add.
    """

    code: str
    text: str
    where: tuple[Condition, ...] = ()
    without: tuple[str, ...] = ()
    lowest: tuple[str, ...] = ()
    reduce: Literal["sum", "max", "mean"] = "sum"

    def extract(
        self, names: Sequence[str], *, kind: Literal["value", "histogram"] = "value", by: str = ""
    ) -> Extract:
        """What the core has to do to read a metric of these names by this rule."""
        return Extract(
            names,
            kind=kind,
            where=self.where,
            without=self.without,
            lowest=self.lowest,
            by=by,
            reduce=self.reduce,
        )


@dataclass(frozen=True)
class LabelSet:
    """The labels that all metrics of one writer share. Every one may be missing.

    Attributes:
        code: the shorthand of the set.
        text: who writes them.
        classes: what that is in SGLang's source.
        since: each label with the first release that has it.
    """

    code: str
    text: str
    classes: tuple[str, ...]
    since: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.since)


@dataclass(frozen=True)
class Form:
    """What a metric is or was from one release to another: a name and a type."""

    name: str
    type: str
    since: str
    until: str


@dataclass(frozen=True)
class Metric:
    """One metric, as it stands on the wire behind the prefix.

    Attributes:
        name: its name in the newest release that has it.
        type: its type there: gauge, counter, histogram or summary.
        unit: what one of it is.
        rule: how its series combine.
        labels: those it shares with the other metrics of its writer.
        since: the first release that has it so; "main" where no release does.
        help: what it measures.
        own: the labels it has besides.
        until: the last release that has it; "" where the newest still does.
        was: what it was before, newest first.
        by: labels that its fields break it down by.
        emitted: False for one that is declared and never given a value.
    """

    name: str
    type: str
    unit: str
    rule: Rule
    labels: LabelSet
    since: str
    help: str
    own: tuple[str, ...] = ()
    until: str = ""
    was: tuple[Form, ...] = ()
    by: tuple[str, ...] = ()
    emitted: bool = True

    @property
    def forms(self) -> tuple[Form, ...]:
        """What it is and was, newest first; the first one's ``until`` is "" where it is still there."""
        return (Form(self.name, self.type, self.since, self.until), *self.was)

    @property
    def names(self) -> tuple[str, ...]:
        """Every name a page may show it under, the newest first."""
        return tuple(dict.fromkeys(form.name for form in self.forms))

    @property
    def types(self) -> tuple[str, ...]:
        """Every type a page may show it with."""
        return tuple(dict.fromkeys(form.type for form in self.forms))

    @property
    def all_labels(self) -> tuple[str, ...]:
        return self.labels.names + self.own


@dataclass(frozen=True)
class View:
    """A metric read once more, by another rule, under a name of its own."""

    name: str
    metric: str
    rule: Rule


@dataclass(frozen=True)
class Field:
    """One number of a snapshot.

    Attributes:
        name: its group and its name there.
        metrics: what it is made of, in order of preference.
        read: how it is made of them; None where it is the one metric as it stands.
        by: the label that it is broken down by, as a dict; None of it is of series without the label.
        own: the name under which a page may show this very number.
        how: ``read`` in words.
        unit: what one of it is, where that is not the unit of its first metric.
        absent: what it means that a page has no source for it, where more is to be said than the release.
    """

    name: str
    metrics: tuple[str, ...]
    read: Callable[[Reading], Value] | None = None
    by: str = ""
    own: str = ""
    how: str = ""
    unit: str = ""
    absent: str = ""

    def value(self, reading: Reading) -> Value:
        """The number, or None where the page has no source for it."""
        if self.own and (shown := reading.number(own_slot(self.own))) is not None:
            return shown
        if self.read is not None:
            return self.read(reading)
        if self.by:
            parts = reading.by(self.metrics[0], self.by)
            return {value: number for value, number in parts.items() if value} or None
        return reading.value(self.metrics[0])


_HISTOGRAM = " histogram"


def histogram_slot(metric: str) -> str:
    return metric + _HISTOGRAM


def histogram_of(slot: str) -> str | None:
    """The metric whose histogram the slot is; None for any other slot."""
    return slot.removesuffix(_HISTOGRAM) if slot.endswith(_HISTOGRAM) else None


def by_slot(metric: str, label: str) -> str:
    return f"{metric} by {label}"


def label_slot(label: str) -> str:
    return f"label {label}"


def own_slot(name: str) -> str:
    return f"own {name}"


class Reading:
    """A fold, asked by the names of its catalogue. Absent, NaN and malformed are None."""

    __slots__ = ("_labels", "fold")

    def __init__(self, fold: Fold) -> None:
        self.fold = fold
        self._labels: dict[str, tuple[str, ...]] = {}

    def number(self, name: str) -> float | None:
        """A gauge, a counter or a view."""
        number: float | None = self.fold[name]
        return number

    def histogram(self, metric: str) -> Histogram | None:
        histogram: Histogram | None = self.fold[metric + _HISTOGRAM]
        return histogram

    def value(self, metric: str) -> float | Histogram | None:
        """A metric as it stands, whichever of the two it is."""
        return self.number(metric) if metric in self.fold else self.histogram(metric)

    def by(self, metric: str, label: str) -> dict[str, float]:
        """The metric by the values of a label, "" for series without it; empty where it is absent."""
        return self.fold[by_slot(metric, label)] or {}

    def is_whole(self, metric: str, label: str) -> bool:
        """Is all there in ``by`` that the page has? Not where a value is NaN."""
        return self.fold.reason(by_slot(metric, label)) is None

    def has(self, name: str) -> bool:
        """Does the page have any series of it, whatever its value?"""
        return self.fold.n_series(name) > 0

    def labels(self, label: str) -> tuple[str, ...]:
        """The values a label has on the page, sorted."""
        known = self._labels.get(label)
        if known is None:
            known = self._labels[label] = self.fold.labels(label_slot(label))
        return known


def compile_plan(
    prefixes: Sequence[str],
    metrics: Iterable[Metric],
    *,
    views: Iterable[View] = (),
    fields: Iterable[Field] = (),
    own: Rule,
    labels: Iterable[str] = (),
    where: tuple[Condition, ...] = (),
    formulas: Mapping[str, tuple[tuple[Any, ...], ...]] | None = None,
) -> Plan:
    """The plan that reads these metrics, and the fields' own names by the rule ``own``.

    ``where`` are conditions that every series has to meet besides those of its rule, ``formulas`` the steps
    of numbers that the plan makes of what it reads, by their names.
    """
    extracts: dict[str, Extract] = {}
    names: dict[str, tuple[str, ...]] = {}
    for metric in metrics:
        names[metric.name] = metric.names
        rule = replace(metric.rule, where=metric.rule.where + where)
        for kind in metric.types:
            if kind in ("histogram", "summary"):
                extracts[histogram_slot(metric.name)] = rule.extract(metric.names, kind="histogram")
            else:
                extracts[metric.name] = rule.extract(metric.names)
        for label in metric.by:
            extracts[by_slot(metric.name, label)] = rule.extract(metric.names, by=label)
    for view in views:
        rule = replace(view.rule, where=view.rule.where + where)
        extracts[view.name] = rule.extract(names[view.metric])
    for field in fields:
        if field.own:
            extracts[own_slot(field.own)] = own.extract((field.own,))
    for label in labels:
        extracts[label_slot(label)] = Extract((), kind="label", by=label)
    return Plan(prefixes, extracts, formulas or {})
