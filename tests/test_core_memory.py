"""Where memory is missing: MemoryError, nothing left behind, and everything as before once it is back."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def run_without_memory(program: str = "no_memory", *more: str) -> subprocess.CompletedProcess[str]:
    """With the exact malloc, without caches that count as handed out; and not watched by coverage, whose own
    code would fail for want of memory."""
    pytest.importorskip("_testcapi", reason="an interpreter without the hook that fails allocations")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("without a GIL, Python needs memory to take the hook away")
    tunables = "glibc.malloc.tcache_count=0:glibc.malloc.mxfast=0"
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, str(HERE / f"{program}.py"), *more],
        env={**quiet, "GLIBC_TUNABLES": tunables, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


def test_every_call_survives_every_allocation_of_pythons_that_fails() -> None:
    done = run_without_memory()
    assert done.returncode == 0, done.stderr  # where Python may say what it had no memory to raise
    calls, points = (int(word) for word in done.stdout.split() if word.isdigit())
    assert calls > 300
    assert points > 3000
    print(done.stdout)


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11),
    reason="other interpreters read what they have freed where a handler has no memory",
)
def test_nobody_waits_for_ever_where_memory_is_missing_for_a_while() -> None:
    """`make deep` does it to more calls, and at every allocation."""
    done = run_without_memory("short_of_memory", "scrape", "make_collector", "make_fleet", "fleet.scrape")
    assert done.returncode == 0, done.stderr
    scenes, points = (int(word) for word in done.stdout.splitlines()[-1].split() if word.isdigit())
    assert scenes == 4
    assert points > 100
    print(done.stdout)


needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="the extension is built once more")


@needs_cc
def test_every_call_and_route_survives_every_allocation_of_the_core_and_of_libcurl_that_fails() -> None:
    done = run_without_memory("failing_core")
    assert (done.returncode, done.stderr) == (0, "")
    calls, points = (int(word) for word in done.stdout.split() if word.isdigit())
    assert calls > 300
    assert points > 2000
    print(done.stdout)


@needs_cc
def test_memory_of_the_core_that_is_lost_is_found() -> None:
    done = run_without_memory("failing_core", "planted")
    assert done.returncode == 1
    assert "bytes stay behind" in done.stderr


def test_a_lost_reference_is_found() -> None:
    if os.environ.get("PYTHONMALLOC") == "malloc":
        pytest.skip("Python's allocator counts nothing")
    done = run_without_memory("no_memory", "planted")
    assert done.returncode == 1
    assert "leaves something behind" in done.stderr
