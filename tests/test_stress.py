"""The long runs of stress.py, in short: they hold, and what they look for would be found."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from leaks import EXACT, blocks, heap
from stress import flat

HERE = Path(__file__).parent

needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="the server is compiled")


def program(name: str, *args: object) -> str:
    command = [sys.executable, str(HERE / f"{name}.py"), *map(str, args)]
    quiet = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")} | EXACT
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet)
    assert (done.returncode, done.stderr) == (0, "")
    print(done.stdout)
    return done.stdout


@needs_cc
def test_failed_scrapes_leave_nothing_behind_and_each_has_its_reason() -> None:
    assert "13 kinds" in program("stress", "failed", 5_000)


@needs_cc
def test_every_body_is_the_answer_to_its_own_request_across_threads_forks_restarts_and_cancels() -> None:
    assert " 0 of another" in program("stress", "matched", 10_000)


@needs_cc
def test_ctrl_c_at_any_moment_is_seen_at_once_and_leaves_the_scraper_usable() -> None:
    program("stress", "interrupted", 20)


def test_threads_that_use_the_same_objects_at_once_see_the_same() -> None:
    """Where Python has no GIL and ThreadSanitizer looks on, `make test-free-threaded` does the same."""
    assert "3 rounds" in program("together", 3)


@pytest.mark.parametrize("kept", ["an object", "memory", "a file", "a thread"])
def test_what_grows_by_a_little_each_time_is_found(kept: str) -> None:
    if not heap() or not blocks():
        pytest.skip("allocators that count nothing")
    held: list[object] = []
    files: list[int] = []
    end = threading.Event()
    grow: dict[str, Callable[[], object]] = {
        "an object": lambda: held.append(object()),
        "memory": lambda: held.append(bytes(1000)),
        "a file": lambda: files.append(os.dup(0)),
        "a thread": lambda: threading.Thread(target=end.wait).start(),
    }
    gc.freeze()  # what other tests hold is looked at no more
    try:
        with pytest.raises(AssertionError, match="grows"):
            flat(grow[kept], 20 if kept == "a thread" else 500)
    finally:
        gc.unfreeze()
        end.set()
        for file in files:
            os.close(file)
