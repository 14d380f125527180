"""Answers that go wrong, and what must hold after each of them."""

from __future__ import annotations

import gzip
import os
import pickle
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from servers import Answer, Request, eventually
from stopwatch import Stopwatch

from sglang_collect._core import Endpoint, Result, Scraper

PROMISED = 0.1
"""Seconds past its timeout in which a scrape is over."""

SLACK = 0.3
"""The same, with what a server in Python adds."""


def sized(body: bytes, *, length: int | str | None = None, fields: str = "") -> bytes:
    """An answer of status 200 whose Content-Length is right, or what `length` says."""
    length = len(body) if length is None else length
    return f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{fields}\r\n".encode() + body


def chunked(*pieces: bytes, fields: str = "") -> bytes:
    """The begin of a chunked answer, each piece as it stands."""
    return f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{fields}\r\n".encode() + b"".join(pieces)


def then_close(data: bytes) -> Answer:
    def reply(request: Request, connection: socket.socket) -> None:
        connection.sendall(data)

    return reply


def then_silence(data: bytes) -> Answer:
    def reply(request: Request, connection: socket.socket) -> None:
        connection.sendall(data)
        while connection.recv(4096):
            pass

    return reply


def then_reset(data: bytes) -> Answer:
    def reply(request: Request, connection: socket.socket) -> None:
        connection.sendall(data)
        time.sleep(0.02)  # what was sent has arrived
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    return reply


def then_drip(data: bytes, piece: bytes, *, seconds: float = 0.05) -> Answer:
    """Sends `piece` again and again, with a pause in between, for as long as somebody reads."""

    def reply(request: Request, connection: socket.socket) -> None:
        connection.sendall(data)
        with suppress(OSError):
            while True:
                connection.sendall(piece)
                time.sleep(seconds)

    return reply


def then_flood(data: bytes, piece: bytes) -> Answer:
    def reply(request: Request, connection: socket.socket) -> None:
        block = piece * (4096 // len(piece) + 1)
        with suppress(OSError):
            connection.sendall(data)
            while True:
                connection.sendall(block)

    return reply


def gzipped(body: bytes, *, cut: int = 0, fields: str = "") -> bytes:
    """A compressed answer; of its data the last `cut` bytes are missing, and of its length too."""
    data = gzip.compress(body, mtime=0)
    return sized(data[: len(data) - cut], fields=f"Content-Encoding: gzip\r\n{fields}")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def nothing_left_open() -> Iterator[None]:
    """No more descriptors are open after the block than were before it."""
    before = open_files()
    yield
    assert eventually(lambda: open_files() <= before), (before, open_files())


def fetch(scraper: Scraper, endpoint: Endpoint, plan: Any = None) -> tuple[Result, Stopwatch]:
    """One result, and how long it took."""
    with Stopwatch() as took:
        scraper.submit(endpoint, plan)
        results: list[Result] = []
        while not results:
            results = scraper.wait(30)
    return results[0], took


def best(measure: Callable[[], float], wanted: float, tries: int = 5) -> float:
    """The least of a few measurements, since others use the machine too; one below `wanted` is enough."""
    least = measure()
    while least >= wanted and (tries := tries - 1):
        least = min(least, measure())
    return least


def check_error(error: Any, kind: type[Exception], reason: str, words: str, endpoint: str) -> None:
    """The exception, its slug, its one printable line, and its way through pickle."""
    assert type(error) is kind, repr(error)
    assert getattr(error, "reason", reason) == reason, repr(error)
    text = str(error)
    assert text.startswith(f"{endpoint}: ")
    assert words in text, text
    assert text.isprintable()
    assert len(text) <= 300
    assert "secret" not in text
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (type(error), text, vars(error))
