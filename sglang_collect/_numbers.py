"""The numbers of a snapshot's groups as plain dicts: models are validated from them, JSON is written of them.

A value of a fold is a float. As a number it is the nearest integer where the model has one, and None where it
is not finite: ``_core.pick`` makes it so, for all values of a group at once.
"""

from __future__ import annotations

import functools
import logging
from operator import itemgetter
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from . import _core
from .catalog import Field, Reading, histogram_slot, own_slot, sglang, sglang_fields
from .groups import NATIVE_GROUPS, PLAN_GROUPS, QUANTILES, Distribution, SGLangRank, finite, nearest

__all__ = ["group_numbers", "native_numbers", "plan_numbers", "plan_record"]

logger = logging.getLogger("sglang_collect")

_METRICS = {metric.name: metric for metric in sglang.READ}


def _slot(field: Field) -> str:
    """The slot of a field's first metric."""
    metric = _METRICS[field.metrics[0]]
    histogram = set(metric.types) <= {"histogram", "summary"}
    return histogram_slot(metric.name) if histogram else metric.name


def _is_whole(info: FieldInfo) -> bool:
    return info.annotation in (int, int | None, dict[str, int] | None)


# -------------------------------------------------------- groups of the plan


@functools.cache
def _say_out_of_range(field: str) -> None:
    logger.warning("%s is infinite or out of range on a page, and taken as absent; this is said once", field)


def _plan_field(field: Field) -> tuple[Field, str, str, bool]:
    """A field, its group, its name there, and is it whole?"""
    group, name = field.name.split(".")
    return field, group, name, _is_whole(PLAN_GROUPS[group].model_fields[name])


_PLAN = [_plan_field(field) for field in sglang_fields.FIELDS if field.own]
_own_values = itemgetter(*(own_slot(field.own) for field, *_ in _PLAN))
_first_values = itemgetter(*(_slot(field) for field, *_ in _PLAN))


def plan_numbers(fold: _core.Fold) -> tuple[dict[str, dict[str, float | int]], list[str]]:
    """The values of the plan's groups, and the names of the fields that the page has no source for."""
    reading = Reading(fold)
    values: dict[str, dict[str, float | int]] = {group: {} for group in PLAN_GROUPS}
    absent = []
    for (field, group, name, whole), value, first in zip(
        _PLAN, _own_values(fold), _first_values(fold), strict=True
    ):
        if value is None:
            value = first if field.read is None else field.read(reading)
        number = None
        if isinstance(value, float):
            number = nearest(value) if whole else finite(value)
            if number is None:
                _say_out_of_range(field.name)
        if number is None:
            absent.append(field.name)
        else:
            values[group][name] = number
    return values, absent


_DEFAULTS = {group: model().model_dump() for group, model in PLAN_GROUPS.items()}


def plan_record(fold: _core.Fold) -> dict[str, Any]:
    """The plan's groups whole, 0 where the page has no source, and ``absent``: as a snapshot has them."""
    values, absent = plan_numbers(fold)
    return {
        **{group: {**defaults, **values[group]} for group, defaults in _DEFAULTS.items()},
        "absent": absent,
    }


# ------------------------------------------------------------- native groups


class _Group:
    """How one native group is read, in the order of its model."""

    def __init__(self, name: str, model: type[BaseModel]) -> None:
        known = {field.name: field for field in sglang_fields.FIELDS}
        infos = model.model_fields
        fields = {key: known[f"{name}.{key}"] for key in infos}
        self._computed = [(key, field.read) for key, field in fields.items() if field.read is not None]
        self._stored = tuple(
            (key, None if field.read else _slot(field), _is_whole(infos[key]))
            for key, field in fields.items()
        )
        self._as_numbers = tuple((key, key, _is_whole(infos[key])) for key, _ in self._computed)
        self._distributions = [key for key, info in infos.items() if info.annotation == Distribution | None]

    def numbers(self, reading: Reading) -> dict[str, Any]:
        numbers = _core.pick(self._stored, reading.fold)
        if self._computed:
            computed = {key: read(reading) for key, read in self._computed}
            numbers.update(_core.pick(self._as_numbers, computed))
        for key in self._distributions:
            if (histogram := numbers[key]) is not None:
                numbers[key] = histogram.summary(QUANTILES)
        return numbers


_GROUPS = {name: _Group(name, model) for name, model in NATIVE_GROUPS.items()}
_RANK = tuple((key, key, _is_whole(info)) for key, info in SGLangRank.model_fields.items())


def group_numbers(reading: Reading, name: str) -> Any:
    """A native group, or the list of ranks."""
    if name == "ranks":
        return [_core.pick(_RANK, row) for row in sglang_fields.ranks(reading)]
    return _GROUPS[name].numbers(reading)


def native_numbers(fold: _core.Fold) -> dict[str, Any]:
    """All native groups, and the ranks: what the model of a page has."""
    reading = Reading(fold)
    return {name: group_numbers(reading, name) for name in (*NATIVE_GROUPS, "ranks")}
