"""The fixture ``sglang_simulator``, as a project that has this package installed gets it."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

FIXTURE = """
import pytest, sglang_collect

def test_a_snapshot_is_the_truth(sglang_simulator):
    snapshot = sglang_collect.scrape(sglang_simulator.url)
    finished = sglang_simulator.truth()["totals"]["finished_requests"]
    assert snapshot.request_metrics.success_total == finished > 0
    assert sglang_simulator.model.load == 0.5

def test_time_passes_only_by_hand(sglang_simulator):
    before = sglang_simulator.truth()
    assert before["step"] == 60
    assert sglang_simulator.truth() == before
    sglang_simulator.step(10)
    assert sglang_simulator.truth()["step"] == 70

@pytest.mark.sglang_simulator(dp=2, load=0, steps=0)
def test_a_marker_sets_it_up(sglang_simulator):
    assert sglang_simulator.truth()["server_level"]["dp_groups"] == 2
    assert sglang_simulator.truth()["step"] == 0
"""


def test_a_test_gets_a_server_of_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(FIXTURE)
    pytester.runpytest_subprocess("--strict-markers").assert_outcomes(passed=3)


def test_the_server_is_gone_after_the_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest, sglang_collect
        seen = []

        def test_running(sglang_simulator):
            seen.append(sglang_simulator.url)

        def test_gone():
            with pytest.raises(sglang_collect.ConnectError):
                sglang_collect.scrape(seen[0])
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=2)


def test_nothing_heavy_is_imported_until_the_fixture_is_used(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_light():
            assert "sglang_collect.pytest_plugin" in sys.modules
            heavy = {"uvicorn", "starlette", "prometheus_client", "pydantic", "sglang_collect._core"}
            assert not heavy & set(sys.modules)
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)
