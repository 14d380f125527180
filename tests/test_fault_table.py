"""The table of faults in docs/faults.md: it is whole, and every test that it names is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from test_faults_http import ACCEPTED, FAULTS

TESTS = Path(__file__).resolve().parent
TABLE = (TESTS.parent / "docs" / "faults.md").read_text()
CASES = {"A": 24, "B": 32, "C": 19, "D": 8, "E": 13, "F": 20, "G": 12}


def rows() -> dict[str, list[str]]:
    """The tests that the table names, by case."""
    found: dict[str, list[str]] = {}
    for line in TABLE.splitlines():
        if match := re.match(r"\| ([A-G]\d+) \|", line):
            assert match[1] not in found, match[1]
            found[match[1]] = re.findall(r"`([^`]+)`", line.rsplit(" | ", 1)[1])
    return found


def functions(path: Path) -> set[str]:
    """The tests of a file that are run."""
    text = path.read_text()
    if path.suffix == ".py":
        return {
            node.name
            for node in ast.parse(text).body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
    main = text[text.rindex("int main(") :]
    return {
        name for name in re.findall(r"^static void (\w+)\(void\)$", text, re.M) if f"    {name}();" in main
    }


def test_every_case_has_a_row() -> None:
    assert list(rows()) == [f"{group}{n}" for group, most in CASES.items() for n in range(1, most + 1)]


@pytest.mark.parametrize("case", rows())
def test_every_test_that_a_row_names_is_there(case: str) -> None:
    tests = rows()[case]
    assert tests
    for test in tests:
        if match := re.fullmatch(r"(http|accepted)\[(.+)\]", test):
            assert match[2] in {"http": FAULTS, "accepted": ACCEPTED}[match[1]], test
            continue
        file, _, name = test.partition("::")
        path = TESTS / "c" / file if file.startswith("test_") and file.endswith(".c") else TESTS / file
        assert path.is_file(), test
        assert not name or name in functions(path), test


def test_every_fault_of_http_is_in_the_table() -> None:
    named = {test for tests in rows().values() for test in tests}
    assert {f"http[{name}]" for name in FAULTS} <= named
