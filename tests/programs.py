"""Other people's programs, for as long as a test needs them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from servers import eventually


def unwatched() -> dict[str, str]:
    """Our environment without the sanitizer that may be loaded into this process."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


class Program:
    """A running program and what it has said so far."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_until(self, condition: Callable[[], bool], *, seconds: float = 120.0) -> None:
        """Waits for what the program brings about; an AssertionError with its words where it does not."""
        eventually(lambda: self.process.poll() is not None or condition(), seconds=seconds)
        assert self.process.poll() is None, f"it ended: {self.said}"
        assert condition(), f"it took too long: {self.said}"


@contextmanager
def running(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """Runs a program in a folder of its own. It ends with the block, and with this process at the latest."""
    bound_to_us = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*bound_to_us, *command],
            cwd=folder,
            env={**unwatched(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Program(process, log)
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()
            process.wait()
