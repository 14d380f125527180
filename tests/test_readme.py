"""The README holds: its code runs, and prints what stands below it."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

import sglang_collect as sc
from sglang_collect import errors
from sglang_collect.catalog import sglang

if TYPE_CHECKING:
    from sglang_collect.simulator import Simulator

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text("utf-8")


class Block(NamedTuple):
    language: str
    text: str
    line: int
    output: str | None
    """The ```text block right below, if there is one."""


def blocks(language: str) -> list[Block]:
    found = []
    for match in re.finditer(
        r"^```(\w+)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", README, re.MULTILINE | re.DOTALL
    ):
        line = README.count("\n", 0, match.start(2))
        found.append(Block(match[1], match[2], line, match[3]))
    return [block for block in found if block.language == language]


def pointed_at(simulator: Simulator, text: str) -> str:
    """The README's server is the simulated one, which lives for as long as the README sleeps."""
    port = re.search(r":(\d+)/", simulator.url)
    assert port
    text = re.sub(r"(127\.0\.0\.1(?:/32)?):30000", rf"\g<1>:{port[1]}", text)
    return re.sub(r"time\.sleep\((\d+)\)", r"sglang_simulator.step(\1)", text)


@pytest.fixture
def namespace(sglang_simulator: Simulator) -> dict[str, Any]:
    """What the README's Python blocks define, run from the first to the last."""
    names: dict[str, Any] = {"__name__": "readme", "sglang_simulator": sglang_simulator}
    for block in blocks("python"):
        source = "\n" * block.line + pointed_at(sglang_simulator, block.text)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(source, "README.md", "exec", dont_inherit=True), names)
        if block.output is not None:
            assert printed.getvalue() == block.output, f"README.md:{block.line}"
    return names


def test_the_python_blocks_print_what_stands_below_them(namespace: dict[str, Any]) -> None:
    assert len([block for block in blocks("python") if block.output]) >= 3


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


def test_the_commands_print_what_stands_below_them(sglang_simulator: Simulator) -> None:
    [block] = blocks("console")
    command, _, shown = pointed_at(sglang_simulator, block.text).partition("\n")
    program, *arguments = command.removeprefix("$ ").split()
    assert program == "sglang-collect"
    done = subprocess.run(
        [sys.executable, "-m", "sglang_collect", *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    moment = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"
    expected = re.sub(moment, "MOMENT", shown.removesuffix("...\n"))
    assert expected.count("\n") > 20
    assert re.sub(moment, "MOMENT", done.stdout).startswith(expected)


def test_the_first_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = re.findall(r"^make (\w+)", blocks("sh")[0].text, re.MULTILINE)
    assert targets == ["demo", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)


def test_the_tree_of_errors_is_the_tree_of_errors() -> None:
    [tree] = [block.text for block in blocks("text") if "SGLangCollectError" in block.text]
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
    assert f"to {sglang.NEWEST} |" in README


def test_every_file_it_links_to_is_there() -> None:
    for target in re.findall(r"\]\(([^):]+)\)", README):
        assert (ROOT / target).is_file(), target
