"""What the README says is supported: every row has a test, and the versions are those of the build."""

from __future__ import annotations

import re

import pytest
from test_fault_table import TESTS, functions

ROOT = TESTS.parent
SECTION = (ROOT / "README.md").read_text().partition("## What is supported")[2].partition("\n## ")[0]
LINES = [line.strip("|").split("|") for line in SECTION.splitlines() if line.startswith("| ")][2:]
ROWS = {cells[0].strip(): (cells[1].strip(), cells[2].strip()) for cells in LINES}

TESTED_BY = {
    "Python": ["test_support.py::test_the_versions_of_python_are_those_of_the_package"],
    "libcurl": [
        "test_build.py::test_an_old_libcurl_is_refused_in_one_line",
        "test_support.py::test_the_oldest_libcurl_is_that_of_the_build",
    ],
    "system": ["test_support.py::test_the_system_is_that_of_the_package"],
    "SGLang": [
        "test_readme.py::test_it_names_the_newest_release_that_the_catalogue_knows",
        "test_pages.py::test_every_plan_field_is_what_the_rule_gives",
    ],
    "threads": [
        "test_core_objects.py::test_one_page_is_read_by_many_threads",
        "test_core_scraper.py::test_a_second_thread_cannot_wait",
    ],
    "free threading": ["test_stress.py::test_threads_that_use_the_same_objects_at_once_see_the_same"],
    "event loops": [
        "test_collector.py::test_it_works_under_uvloop",
        "test_collector.py::test_loops_in_several_threads_share_a_driver",
    ],
    "fork": [
        "test_core_scraper.py::test_a_forked_child_scrapes_over_connections_of_its_own",
        "test_fleet.py::test_a_forked_child_goes_on_with_connections_of_its_own",
    ],
    "sub-interpreters": [
        "test_core_objects.py::test_interpreters_beside_the_first_may_import_it",
        "test_core_objects.py::test_there_a_collector_says_what_it_cannot_have",
    ],
}


def test_every_row_has_its_tests() -> None:
    assert list(ROWS) == list(TESTED_BY)


@pytest.mark.parametrize("row", TESTED_BY)
def test_the_tests_of_a_row_are_there(row: str) -> None:
    for test in TESTED_BY[row]:
        file, _, name = test.partition("::")
        assert name in functions(TESTS / file), test


def test_the_versions_of_python_are_those_of_the_package() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    versions = re.findall(r"Python :: (3\.\d+)", project)
    assert ROWS["Python"][0] == f"CPython {versions[0]} to {versions[-1]}"
    assert f'requires-python = ">={versions[0]}"' in project


def test_the_gil_stays_off_as_it_says() -> None:
    binding = (ROOT / "csrc" / "binding" / "module.c").read_text()
    assert ("the GIL stays off" in ROWS["free threading"][0]) == ("Py_MOD_GIL_NOT_USED" in binding)


def test_the_oldest_libcurl_is_that_of_the_build() -> None:
    match = re.search(r"OLDEST_LIBCURL = \((\d+), (\d+)\)", (ROOT / "setup.py").read_text())
    assert match is not None
    assert ROWS["libcurl"][0].startswith(f"{match[1]}.{match[2]} and newer")


def test_the_system_is_that_of_the_package() -> None:
    assert ROWS["system"][0].startswith("Linux")
    assert "Operating System :: POSIX :: Linux" in (ROOT / "pyproject.toml").read_text()
