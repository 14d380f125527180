"""What README and docs show holds: every block of code runs, and gives what stands below it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from documents import PAGES, ROOT, Block, Document, Run, commands_of

if TYPE_CHECKING:
    from sglang_collect.simulator import Simulator

KNOWN = {"python", "console", "sh", "json", "yaml", "text"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs_and_gives_what_stands_below_it(
    page: Path, tmp_path: Path, sglang_simulator: Simulator
) -> None:
    Run(Document(page), tmp_path, sglang_simulator).all()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_says_what_it_is(page: Path) -> None:
    document = Document(page)
    fences = re.findall(r"^ *```(.*)$", document.text, re.MULTILINE)
    assert len(fences) % 2 == 0
    assert set(fences[::2]) <= KNOWN
    below = sum(block.output is not None for block in document.blocks)
    assert len(document.blocks) + below == len(fences) // 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_a_page_links_to_is_there(page: Path) -> None:
    document = Document(page)
    for target in re.findall(r"\]\(([^):#]+)(?:#[^)]*)?\)", document.text):
        assert (page.parent / target).is_file(), target


@pytest.mark.sglang_simulator(dp=2, load=0.9, steps=0)
def test_the_tests_on_the_page_of_the_simulator_pass(tmp_path: Path, sglang_simulator: Simulator) -> None:
    names = Run(Document(ROOT / "docs" / "simulator.md"), tmp_path, sglang_simulator).python()
    for test in ("test_my_balancer", "test_my_dashboard"):
        names[test](sglang_simulator)


def test_the_fastapi_example_answers_with_a_token_only(tmp_path: Path, sglang_simulator: Simulator) -> None:
    from fastapi.testclient import TestClient

    names = Run(Document(ROOT / "docs" / "fastapi.md"), tmp_path, sglang_simulator).python()

    request = {"instance_id": "mine", "endpoint": sglang_simulator.url, "timeout": 10}
    running = sglang_simulator.truth()["server_level"]["running"]
    with TestClient(names["app"]) as client:
        assert client.post("/api/v1/collect/sglang", json=request).status_code == 401
        client.headers["authorization"] = "Bearer change-me"
        answer = client.post("/api/v1/collect/sglang", json=request).json()
        assert set(answer) == {"success", "instance_id", "timestamp", "metrics", "error"}
        assert answer["metrics"]["system_metrics"]["num_requests_running"] == running
        by_name = client.get("/api/v1/metrics/sglang/sglang-001").json()
        assert by_name["system_metrics"]["num_requests_running"] == running
        elsewhere = {"endpoint": "http://127.0.0.1:1/metrics"}
        assert client.get("/api/v1/metrics/sglang/other", params=elsewhere).status_code == 403


# -------------------------------------------------------- the mechanism itself


def document_of(tmp_path: Path, text: str) -> Document:
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    return Document(page)


@pytest.mark.parametrize(
    "text",
    [
        "```python\nprint(1)\n```\n\n```text\n2\n```\n",
        "```python\nraise ValueError\n```\n",
        "```console\n$ echo 1\n2\n```\n",
        "```console\n$ echo 1\n```\n",
        "```console\n$ echo a 1 b\na ... c\n```\n",
        "```console\n$ sglang-collect no-such-command\n```\n",
        "```sh\nmake no-such-target\n```\n",
        "```sh\npip install '.[no-such-extra]'\n```\n",
        "```sh\npython benchmarks/reader.py --no-such-option\n```\n",
        "```sh\nrm -rf /tmp/something\n```\n",
        "```json\n{\n```\n",
    ],
)
def test_a_page_that_does_not_hold_is_found_out(
    text: str, tmp_path: Path, sglang_simulator: Simulator
) -> None:
    with pytest.raises((AssertionError, ValueError)):
        Run(document_of(tmp_path, text), tmp_path, sglang_simulator).all()


@pytest.mark.parametrize(
    "text",
    [
        "```python\nprint(1)\n```\n\n```text\n1\n```\n",
        "```console\n$ echo 1; echo 2; echo 3\n1\n...\n3\n```\n",
        "```console\n$ echo a 1 b\na ... b\n$ x=3\n$ echo $x\n3\n```\n",
        "```console\n$ (sleep 0.2; echo late; sleep 60) &\nlate\n$ echo next\nnext\n```\n",
        "```yaml\n# named.yml\na: 1\n```\n\n```console\n$ cat \\\n    named.yml\n# named.yml\na: 1\n```\n",
        "```console\n$ sglang-collect scrape 127.0.0.1:30000 | head -1\n... http://127.0.0.1:30000/...\n```\n",
        "```sh\nX=1 make test PYTEST='-k a'\npip install '.[all]'\npython benchmarks/reader.py\n```\n",
    ],
)
def test_a_page_that_holds_passes(text: str, tmp_path: Path, sglang_simulator: Simulator) -> None:
    Run(document_of(tmp_path, text), tmp_path, sglang_simulator).all()


def test_an_answer_belongs_to_the_command_above_it() -> None:
    block = Block("console", "$ a \\\n  b\n1\n2\n$ c\n", 10, None)
    assert commands_of(block) == [("a \\\n  b", "1\n2\n", 10), ("c", "", 14)]
