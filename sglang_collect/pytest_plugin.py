"""The pytest fixture ``sglang_simulator``: a simulated SGLang server for tests of whatever reads one.

Installed with the package (entry point ``pytest11``). Nothing heavy is imported until a test asks for the
fixture, which needs the ``cli`` extra.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .simulator import Simulator

_DEFAULTS = {"load": 0.5, "seed": 0}
_STEPS = 60


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "sglang_simulator(dp, tp, seed, load, model_name, steps): what the fixture simulates",
    )


@pytest.fixture
def sglang_simulator(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """A frozen simulator on a free port of 127.0.0.1 that has lived for a minute.

    ``.url`` is its metrics page, ``.truth()`` what a snapshot of it must say, ``.step(n)`` lives n seconds
    more, ``.model`` is its load model. ``@pytest.mark.sglang_simulator(dp=2, load=0.9, steps=0)`` sets it up
    differently.
    """
    from .simulator import LoadModel, Simulator

    marker = request.node.get_closest_marker("sglang_simulator")
    options = {**_DEFAULTS, **(marker.kwargs if marker else {})}
    steps = options.pop("steps", _STEPS)
    with Simulator(LoadModel(**options), frozen=True) as simulator:
        simulator.step(steps)
        yield simulator
