"""The numbers of a snapshot's groups as plain dicts: models are validated from them, JSON is written of them.

A value of a fold is a float. As a number it is the nearest integer where the model has one, and None where it
is not finite: ``_core.pick`` makes it so, for all values of a group at once.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_json

from . import _core
from .catalog import Field, Reading, by_slot, histogram_slot, sglang, sglang_fields
from .catalog.formula import formula_of
from .catalog.sglang_fields import BY_CLASS
from .groups import NATIVE_GROUPS, PLAN_GROUPS, QUANTILES, Distribution, SGLangRank

__all__ = [
    "group_numbers",
    "native_json",
    "native_numbers",
    "place",
    "plan_groups",
    "plan_json",
    "plan_record",
]

logger = logging.getLogger("sglang_collect")

_METRICS = {metric.name: metric for metric in sglang.READ}
_FIELDS = {field.name: field for field in sglang_fields.FIELDS}


def place(field: Field) -> str | None:
    """Where in a fold the field is; None where Python makes it."""
    if formula_of(field) is not None:
        return field.name
    if field.read is not None:
        return None
    if field.by:
        return by_slot(field.metrics[0], field.by)
    metric = _METRICS[field.metrics[0]]
    histogram = set(metric.types) <= {"histogram", "summary"}
    return histogram_slot(metric.name) if histogram else metric.name


def _is_whole(info: FieldInfo) -> bool:
    return info.annotation in (int, int | None, dict[str, int] | None)


class _Group:
    """How a group is read, in the order of its model."""

    def __init__(self, name: str, model: type[BaseModel]) -> None:
        infos = model.model_fields
        fields = {key: _FIELDS[f"{name}.{key}"] for key in infos}
        computed = {key: field.read for key, field in fields.items() if place(field) is None}
        self.computed = [(key, read) for key, read in computed.items() if read is not None]
        self.stored = tuple((key, place(field), _is_whole(infos[key])) for key, field in fields.items())
        self.written = tuple(self._written(name, *stored) for stored in self.stored)
        self._as_numbers = tuple((key, key, _is_whole(infos[key])) for key in computed)
        self._distributions = [key for key, info in infos.items() if info.annotation == Distribution | None]

    @staticmethod
    def _written(group: str, key: str, slot: str | None, whole: bool) -> tuple[Any, ...]:
        """The field as a layout has it."""
        by_class = BY_CLASS.get(f"{group}.{key}")
        return (key, slot, whole) if by_class is None else (key, by_class, whole, True)

    def numbers(self, reading: Reading) -> dict[str, Any]:
        numbers = _core.pick(self.stored, reading.fold)
        if self.computed:
            numbers.update(_core.pick(self._as_numbers, self.made(reading)))
        for key in self._distributions:
            if (histogram := numbers[key]) is not None:
                numbers[key] = histogram.summary(QUANTILES)
        return numbers

    def made(self, reading: Reading) -> dict[str, Any]:
        """What Python makes of it."""
        return {key: read(reading) for key, read in self.computed}


# -------------------------------------------------------- groups of the plan


@functools.cache
def _say_out_of_range(field: str) -> None:
    logger.warning("%s is infinite or out of range on a page, and taken as absent; this is said once", field)


_PLAN = tuple((group, _Group(group, model).stored) for group, model in PLAN_GROUPS.items())


_DEFAULTS = {group: model().model_dump() for group, model in PLAN_GROUPS.items()}
_MODELS = tuple((group, PLAN_GROUPS[group], _DEFAULTS[group], fields) for group, fields in _PLAN)


def plan_groups(fold: _core.Fold) -> dict[str, Any]:
    """The plan's groups, and ``absent``: the names of the fields that the page has no source for."""
    groups = _core.build_groups(_MODELS, fold)
    for name in groups["absent"]:
        if fold[name] is not None:
            _say_out_of_range(name)
    return groups


def plan_record(fold: _core.Fold) -> dict[str, Any]:
    """The same as plain dicts."""
    groups = plan_groups(fold)
    return {**{group: dict(vars(groups[group])) for group in PLAN_GROUPS}, "absent": groups["absent"]}


@functools.cache
def _plan_layout() -> _core.Layout:
    return _core.Layout(_PLAN, sglang.plan())


def plan_json(fold: _core.Fold) -> bytes:
    """What ``plan_record`` gives, as JSON; quickly where nothing is absent."""
    written = _plan_layout().write(fold)
    return to_json(plan_record(fold)) if b":null" in written else written[:-1] + b',"absent":[]}'


# ------------------------------------------------------------- native groups


_GROUPS = {name: _Group(name, model) for name, model in NATIVE_GROUPS.items()}
_RANK = tuple((key, key, _is_whole(info)) for key, info in SGLangRank.model_fields.items())


def group_numbers(reading: Reading, name: str) -> Any:
    """A native group, or the list of ranks."""
    if name == "ranks":
        return [_core.pick(_RANK, row) for row in sglang_fields.ranks(reading)]
    return _GROUPS[name].numbers(reading)


_WRITTEN = tuple((name, group.written) for name, group in _GROUPS.items())
_MADE = tuple(
    read for name, group in _GROUPS.items() for key, read in group.computed if f"{name}.{key}" not in BY_CLASS
)


@functools.cache
def _native_layout() -> _core.Layout:
    return _core.Layout(_WRITTEN, sglang.plan(), tuple(QUANTILES.items()))


def native_json(fold: _core.Fold) -> bytes:
    """What ``native_numbers`` gives, as JSON."""
    reading = Reading(fold)
    made: Any = tuple([read(reading) for read in _MADE])
    ranks = to_json(group_numbers(reading, "ranks"))
    return b'%b,"ranks":%b}' % (_native_layout().write(fold, made)[:-1], ranks)


def native_numbers(fold: _core.Fold) -> dict[str, Any]:
    """All native groups, and the ranks: what the model of a page has."""
    reading = Reading(fold)
    return {name: group_numbers(reading, name) for name in (*NATIVE_GROUPS, "ranks")}
