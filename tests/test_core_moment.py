"""The datetime of a time, as datetime.fromtimestamp has it."""

from __future__ import annotations

import math
import random
from datetime import datetime, timezone

import pytest

from sglang_collect import _core

FIRST, LAST = -62135596800.0, 253402300799.0
EDGES = [
    0.0,
    -0.0,
    -1.0,
    FIRST,
    LAST,
    0.5e-6,
    1.5e-6,
    2.5e-6,
    -0.5e-6,
    1 - 0.5e-6,
    59.9999995,
    -1e-7,
    951782400.0,
]


def test_a_moment_is_what_fromtimestamp_gives() -> None:
    dice = random.Random(5)
    spans = (FIRST, LAST), (0.0, 2e9), (-3.0, 3.0)
    for seconds in EDGES + [dice.uniform(*spans[n % 3]) for n in range(3000)]:
        assert _core.moment(seconds) == datetime.fromtimestamp(seconds, timezone.utc), seconds
        assert _core.moment(seconds).tzinfo is timezone.utc


@pytest.mark.parametrize("seconds", [FIRST - 0.5, LAST + 1, 1e300, -1e300, math.inf, -math.inf, math.nan])
def test_what_is_in_no_calendar_is_a_value_error(seconds: float) -> None:
    with pytest.raises(ValueError, match="is in no calendar"):
        _core.moment(seconds)


def test_what_is_no_number_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        _core.moment("now")  # type: ignore[arg-type]
