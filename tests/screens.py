"""What tests of the terminal screen share: its text, its rows, and terminals to run it in."""

from __future__ import annotations

import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl

import pyte
import pytest
from textual.pilot import Pilot

from sglang_collect.top.app import TopApp

COLUMNS = ("state", "age", "running", "waiting", "kv", "hit", "tokens", "ttft50", "ttft95", "itl50", "itl95")
_BARS = str.maketrans("", "", "█▉▊▋▌▍▎▏")


def lines_of(app: TopApp) -> list[str]:
    """The screen as it is, line by line."""
    strips = app.screen._compositor.render_strips()
    return ["".join(segment.text for segment in strip).rstrip() for strip in strips]


def cells_of(lines: list[str], name: str) -> dict[str, str]:
    """A server's row by ``COLUMNS``, or its state and error; state is "" where there is no such row."""
    rows = [line for line in lines[3:-3] if line.startswith(f"{name} ")]
    if not rows:
        return {"state": ""}
    (line,) = rows
    words = line[len(name) :].translate(_BARS).split()
    if words[0] == "down":
        return {"state": "down", "error": " ".join(words[1:])}
    return dict(zip(COLUMNS, words, strict=False))


async def until(pilot: Pilot[None], condition: Callable[[], object], *, seconds: float = 60.0) -> None:
    """Lets the app run until something holds, and fails where it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "\n".join(lines_of(pilot.app))  # type: ignore[arg-type]
        await pilot.pause(0.05)


class Terminal:
    """A command in a terminal of its own, whose screen is kept by an emulator."""

    def __init__(self, command: list[str], *, columns: int, rows: int, **environment: str) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self._lock = threading.Lock()
        self.sent = b""
        self._master, slave = pty.openpty()
        ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        environ = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**environ, "TERM": "xterm-256color", **environment},
            start_new_session=True,
        )
        os.close(slave)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # the terminal is gone once its program is
            while data := os.read(self._master, 65536):
                with self._lock:
                    self.sent += data
                    self._stream.feed(re.sub(rb"\x1b\[[<>=?][0-9;]*[umcn]|\x1b\[\?[0-9;]*\$p", b"", data))

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    @property
    def lines(self) -> list[str]:
        with self._lock:
            return [line.rstrip() for line in self.screen.display]

    def colors(self) -> set[str]:
        """The colours of all that is on the screen."""
        with self._lock:
            return {
                color
                for row in self.screen.buffer.values()
                for cell in row.values()
                for color in (cell.fg, cell.bg)
            }

    def shows(self, condition: Callable[[list[str]], object], *, seconds: float = 60.0) -> bool:
        """Waits until the screen is as it should be."""
        deadline = time.monotonic() + seconds
        while not condition(self.lines):
            if time.monotonic() > deadline or (
                self.process.poll() is not None and not self._reader.is_alive()
            ):
                print("\n".join(self.lines))
                return False
            time.sleep(0.05)
        return True

    def ended(self, number: signal.Signals | None = None) -> int:
        """Its exit code, after a signal where one is given, and with all that it wrote read."""
        if number is not None:
            self.process.send_signal(number)
        code = self.process.wait(timeout=60)
        self._reader.join(60)
        return code


@contextmanager
def terminal(*args: str, columns: int = 80, rows: int = 24, **environment: str) -> Iterator[Terminal]:
    """``sglang-collect`` in a terminal; it is killed where a test leaves it running."""
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("nothing of C that the tests of the app do not run, and slow")
    command = [sys.executable, "-m", "sglang_collect", *args]
    started = Terminal(command, columns=columns, rows=rows, **environment)
    try:
        yield started
    finally:
        started.process.kill()
        started.ended()
        os.close(started._master)
