"""The pages that are written by a script say what their sources say."""

from __future__ import annotations

import re

import pytest
from documents import Document
from tools_of import ROOT, load_tool

import sglang_collect as sc
from sglang_collect import _core, errors
from sglang_collect.catalog.sglang import METRICS
from sglang_collect.catalog.sglang_fields import FIELDS

FOLDER = ROOT / "docs"
FILE = FOLDER / "metrics.md"


@pytest.mark.parametrize("name", ["metrics.md", "errors.md"])
def test_the_page_is_what_its_source_gives(name: str) -> None:
    written = load_tool("make_docs").PAGES[name]()
    assert written == (FOLDER / name).read_text(encoding="utf-8"), "run make generated"


def test_the_tree_of_errors_is_the_tree_of_errors() -> None:
    [tree] = [
        block.text
        for block in Document(FOLDER / "errors.md").of("text")
        if "SGLangCollectError" in block.text
    ]
    parents: list[str] = []
    seen = []
    tree = tree.removeprefix("Exception\n")
    for indent, name, also in re.findall(r"^([│├└─ ]*)(\w+)(?: +\(also (\w+)\))?", tree, re.MULTILINE):
        depth = len(indent) // 4 - 1
        bases = [base.__name__ for base in getattr(sc, name).__bases__]
        assert bases == [name for name in (parents[depth - 1] if depth else "Exception", also) if name]
        parents[depth:] = [name]
        seen.append(name)
    assert sorted(seen) == sorted(errors.__all__)


def test_every_reason_of_a_failed_scrape_comes_with_advice() -> None:
    assert load_tool("make_docs").ADVICE.keys() == _core.REASONS.keys()


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    """The cells of every line of a table."""
    lines = FILE.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.split(" | ")] for line in lines if line.startswith("| ")]


def test_every_metric_has_a_row_with_its_names_and_a_place(rows: list[list[str]]) -> None:
    told = {row[0].lstrip("| "): row for row in rows if len(row) == 8}
    for metric in METRICS:
        row = told[f"`{metric.name}`"]
        assert all(name in row[0] + row[5] for name in metric.names)
        assert row[6] == "raw only" or row[6].startswith("`")


def test_every_field_has_a_row_with_its_source_rule_unit_and_absence(rows: list[list[str]]) -> None:
    told = [row for row in rows if len(row) == 6 and not row[0].startswith("| ---")]
    named = [row for row in told if row[0] != "| field"]
    assert [row[0].strip("| `") for row in named] == [field.name.split(".")[1] for field in FIELDS]
    assert all(all(cell.strip(" |") for cell in row) for row in named)


# ------------------------------------------------------------ pages by hand


def first_cells(page: str) -> set[str]:
    """What stands in the first column of a page's tables, as code."""
    text = (FOLDER / page).read_text(encoding="utf-8")
    return set(re.findall(r"^\| `([^`]+)`", text, re.MULTILINE))


def test_the_page_of_the_back_end_names_every_route() -> None:
    from sglang_collect.api import create_app

    paths = create_app().openapi()["paths"]
    routes = {
        f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, methods in paths.items()
        for method in methods
    }
    assert {cell for cell in first_cells("fastapi.md") if "/" in cell} == routes - {"GET /health"}


def test_the_page_of_the_command_line_names_every_command() -> None:
    from sglang_collect.cli import _parser

    (commands,) = (action for action in _parser()._actions if action.dest == "command" or action.choices)
    told = {cell.split()[1] for cell in first_cells("commands.md") if cell.startswith("sglang-collect")}
    assert told == set(commands.choices or ())


def test_every_page_of_the_site_is_reached_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\(docs/([\w.-]+\.md)\)", readme))
    of_files = {
        "contributing.md",
        "security.md",
        "performance.md",
    }  # HACKING.md and others, which it links to
    assert {page.name for page in FOLDER.glob("*.md")} == linked | of_files


def test_a_page_of_the_site_may_be_a_file_of_the_repository_or_one_of_its_sections() -> None:
    hook = load_tool("site_hooks").on_page_markdown
    whole = hook("# Contributing\n\nShown on the site. <!-- include HACKING.md -->\n")
    assert whole.startswith("# Contributing\n\n## The loop\n")
    section = hook("<!-- include README.md#Examples -->")
    assert "performance_agent.py" in section
    assert "## " not in section
    assert "](faults.md)" in hook("<!-- include SECURITY.md -->")
    with pytest.raises(ValueError, match="no section 'Nothing'"):
        hook("<!-- include README.md#Nothing -->")
