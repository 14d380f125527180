"""The README holds; that its code runs is a test of all documents."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from documents import ROOT, Document, Run

import sglang_collect as sc
from sglang_collect import errors
from sglang_collect.catalog import sglang

if TYPE_CHECKING:
    from sglang_collect.simulator import Simulator

README = Document(ROOT / "README.md")


@pytest.fixture
def namespace(tmp_path: Path, sglang_simulator: Simulator) -> dict[str, Any]:
    """What the README's Python blocks define, run from the first to the last."""
    return Run(README, tmp_path, sglang_simulator).python()


def test_most_of_its_blocks_say_what_comes_out() -> None:
    assert len([block for block in README.of("python") if block.output]) >= 3
    assert max(command.answer.count("\n") for command in README.commands()) > 20


def test_the_window_has_numbers(namespace: dict[str, Any]) -> None:
    window = namespace["window"]
    assert window.requests_per_second > 0
    assert window.latency.time_to_first_token.count > 0
    assert not window.restarted


def test_the_fixture_example_passes(namespace: dict[str, Any], sglang_simulator: Simulator) -> None:
    namespace["test_my_dashboard"](sglang_simulator)


def test_the_fastapi_example_answers_with_a_token_only(
    namespace: dict[str, Any], sglang_simulator: Simulator
) -> None:
    from fastapi.testclient import TestClient

    request = {"instance_id": "sglang-001", "endpoint": sglang_simulator.url, "timeout": 10}
    running = sglang_simulator.truth()["server_level"]["running"]
    with TestClient(namespace["app"]) as client:
        assert client.post("/api/v1/collect/sglang", json=request).status_code == 401
        client.headers["authorization"] = "Bearer change-me"
        answer = client.post("/api/v1/collect/sglang", json=request).json()
        assert set(answer) == {"success", "instance_id", "timestamp", "metrics", "error"}
        assert answer["metrics"]["system_metrics"]["num_requests_running"] == running
        by_name = client.get("/api/v1/metrics/sglang/sglang-001").json()
        assert by_name["system_metrics"]["num_requests_running"] == running
        elsewhere = {"endpoint": "http://127.0.0.1:1/metrics"}
        assert client.get("/api/v1/metrics/sglang/sglang-002", params=elsewhere).status_code == 403


def test_the_first_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert re.findall(r"^make (\w+)", README.of("sh")[0].text, re.MULTILINE) == ["demo", "test"]
    for target in re.findall(
        r"^make ([\w-]+)", "".join(block.text for block in README.of("sh")), re.MULTILINE
    ):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_tree_of_errors_is_the_tree_of_errors() -> None:
    [tree] = [block.text for block in README.of("text") if "SGLangCollectError" in block.text]
    parents: list[str] = []
    seen = []
    for indent, name, also in re.findall(r"^([│├└─ ]*)(\w+)(?: +\(also (\w+)\))?", tree, re.MULTILINE):
        depth = len(indent) // 4
        bases = [base.__name__ for base in getattr(sc, name).__bases__]
        assert bases == [name for name in (parents[depth - 1] if depth else "Exception", also) if name]
        parents[depth:] = [name]
        seen.append(name)
    assert sorted(seen) == sorted(errors.__all__)


def test_it_names_the_newest_release_that_the_catalogue_knows() -> None:
    assert f"to {sglang.NEWEST} |" in README.text
