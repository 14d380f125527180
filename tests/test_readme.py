"""The README holds; that its code runs is a test of all documents."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from documents import ROOT, Document, Run

from sglang_collect.catalog import sglang

if TYPE_CHECKING:
    from sglang_collect.simulator import Simulator

README = Document(ROOT / "README.md")


@pytest.fixture
def namespace(tmp_path: Path, sglang_simulator: Simulator) -> dict[str, Any]:
    """What the README's Python blocks define, run from the first to the last."""
    return Run(README, tmp_path, sglang_simulator).python()


def test_the_window_has_numbers(namespace: dict[str, Any]) -> None:
    window = namespace["window"]
    assert window.requests_per_second > 0
    assert window.latency.time_to_first_token.count > 0
    assert not window.restarted


def test_two_commands_lead_to_a_live_screen_and_one_more_to_ones_own_server() -> None:
    first, second = README.of("sh")[0].text.splitlines()
    assert first.startswith("make top-demo")
    assert second.startswith(".venv/bin/sglang-collect top HOST:30000")


def test_it_names_the_newest_release_that_the_catalogue_knows() -> None:
    assert f"to {sglang.NEWEST} |" in README.text
