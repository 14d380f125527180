"""The soak, in short: a long one is `make deep`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from leaks import EXACT, heap

SOAK = Path(__file__).parent / "soak.py"


def soak(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SOAK), "--scrapes", "3000", "--warm-up", "1500", *options]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **EXACT})


pytestmark = pytest.mark.skipif(heap() == 0, reason="only glibc's malloc says what it has handed out")


def test_nothing_grows_while_scrapes_go_on() -> None:
    done = soak()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("did not grow") == 4


def test_a_few_bytes_lost_a_scrape_are_noticed() -> None:
    done = soak("--leak", "64")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "bytes of malloc" in next(line for line in done.stdout.splitlines() if "GREW" in line)
