"""Scrapes that fail, fork, are cancelled and interrupted, and what must hold meanwhile.

``make deep`` runs all of it at length, test_stress.py a little of each.

python tests/stress.py              all of them, at length
python tests/stress.py failed 5000  one, with this count
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple, TextIO

from leaks import blocks, descriptors, heap, threads
from programs import unwatched
from servers import eventually, unused_port

from sglang_collect._core import Endpoint, Extract, Guard, Plan, Result, Scraper
from sglang_collect.collector import _reason

HERE = Path(__file__).parent
PLAN = Plan([""], {"a": Extract(["a"])})

# ---------------------------------------------------------------------- server


@cache
def _program() -> Path:
    """The server of the C tests, which is quick enough, compiled."""
    program = HERE.parent / "build" / "stress" / f"server-{os.getpid()}"
    program.parent.mkdir(parents=True, exist_ok=True)
    source = HERE / "c" / "server.c"
    subprocess.run(["cc", "-O1", "-pthread", "-o", program, source, "-lz"], check=True, env=unwatched())
    return program


class Server:
    """The server of the C tests in a process of its own, which may be killed and started again."""

    def __init__(self) -> None:
        self.port = 0
        self.start()
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._process = subprocess.Popen(
            [_program(), str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=unwatched(),
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.kill()


# ------------------------------------------------------------------------ flat


class Held(NamedTuple):
    """What the process holds at one moment: bytes of malloc, blocks of Python, descriptors, threads."""

    heap: int
    blocks: int
    descriptors: int
    threads: int


ROUNDS = 10
SPARE = Held(heap=16384, blocks=64, descriptors=0, threads=0)
"""By how much a number may end higher than it began, whatever the count: caches of Python and of libc."""


def flat(step: Callable[[], object], count: int) -> str:
    """Steps so many times and holds at the end what it held after the first tenth."""
    held = []
    for _ in range(ROUNDS):
        for _ in range(count // ROUNDS):
            step()
        held.append(Held(heap(), blocks(), descriptors(), threads()))
    # A cache may come and go; what only grows is higher in each of the last rounds than in all of the first.
    early, late = held[:3], held[-3:]
    for name, spare in SPARE._asdict().items():
        most, least = max(getattr(h, name) for h in early), min(getattr(h, name) for h in late)
        assert least <= most + spare, f"{name} grows: {[getattr(h, name) for h in held]}"
    return f"{held[0]} at first, {held[-1]} at the end"


# ------------------------------------------------------------------- scenarios


FAULTS = {
    "/503": "http_status",
    "/404": "http_status",
    "/redirect": "redirect",
    "/html": "not_exposition",
    "/malformed": "malformed",
    "/cut": "truncated",
    "/cut-line": "truncated",
    "/cut-chunk": "truncated",
    "/cut-gzip": "truncated",
    "/bad-chunk": "framing",
    "/two-lengths": "framing",
    "/http9": "framing",
    "/empty": "empty_reply",
    "/br": "encoding",
    "/over-limit": "limit_exceeded",
    "/headers": "headers_too_large",
}


def failed(count: int) -> str:
    """Scrapes that fail in every way that is quick, each with its reason."""
    reasons: Counter[str | None] = Counter()
    with serving() as server, Scraper(guard=Guard(["127.0.0.1/32:1-65535"]), max_connections=8) as scraper:
        wanted = {Endpoint(server.url + path): reason for path, reason in FAULTS.items()}
        wanted[Endpoint(f"http://127.0.0.1:{unused_port()}/")] = "connect_failed"
        wanted[Endpoint("http://127.0.0.2:30000/")] = "address_not_allowed"
        wanted[silent := Endpoint(server.url + "/silent")] = "cancelled"

        def each() -> None:
            for endpoint in wanted:
                number = scraper.submit(endpoint, PLAN)
                if endpoint is silent:
                    scraper.cancel(number)
            while scraper.pending:
                for result in scraper.wait():
                    reason = _reason(result.error) if result.error else None
                    reasons[reason] += 1
                    assert reason == wanted[result.endpoint], (result, result.error)

        held = flat(each, count // len(wanted))
    return f"{sum(reasons.values())} failures of {len(reasons)} kinds; {held}"


ASKERS = 8
CHILDREN = 4


class Matching:
    """Threads that submit and cancel what one thread waits for, each body checked against its own request."""

    def __init__(self, url: str, scraper: Scraper, seed: str) -> None:
        self.url, self.scraper, self.seed = url, scraper, seed
        self.matched = self.wrong = self.other = 0

    def ask(self, number: int, count: int) -> None:
        """One thread's part: never more than 20 under way, and one in ten is cancelled."""
        dice = random.Random(f"{self.seed}{number}")
        for k in range(count):
            endpoint = Endpoint(f"{self.url}/id/{self.seed}-{number}-{k}", timeout=60)
            while self.scraper.pending > 20 * ASKERS:
                time.sleep(0.001)
            key = self.scraper.submit(endpoint, PLAN)
            if dice.random() < 0.1:
                time.sleep(dice.random() / 1000)
                self.scraper.cancel(key)

    def check(self, result: Result) -> None:
        expected = result.endpoint.url.rpartition("/")[2]
        if result.body is None:
            self.other += 1
        elif bytes(result.body) == f'a{{id="{expected}"}} 1\n'.encode():
            self.matched += 1
        else:
            self.wrong += 1

    def run(self, count: int) -> None:
        askers = [
            threading.Thread(target=self.ask, args=(number, count // ASKERS)) for number in range(ASKERS)
        ]
        for asker in askers:
            asker.start()
        while self.scraper.pending or any(asker.is_alive() for asker in askers):
            for result in self.scraper.wait(0.1):
                self.check(result)


def matched(count: int) -> str:
    """Threads in a parent and in children forked beside warm connections; the server is killed meanwhile."""
    with serving() as server, Scraper(max_connections=50) as scraper:
        Matching(server.url, scraper, "warm").run(200)
        children = [_fork(server.url, scraper, str(k), count // (CHILDREN + 1)) for k in range(CHILDREN)]
        stop = threading.Event()
        killer = threading.Thread(target=_restart, args=(server, stop, 3.0))
        killer.start()
        parent = Matching(server.url, scraper, "parent")
        parent.run(count // (CHILDREN + 1))
        told = []
        for child in children:
            with child:
                told.append(child.readline().split())
        stop.set()
        killer.join()
    totals = [sum(int(numbers[k]) for numbers in told) for k in range(3)]
    right, wrong, other = (
        n + m for n, m in zip(totals, (parent.matched, parent.wrong, parent.other), strict=True)
    )
    assert wrong == 0, f"{wrong} bodies of other requests"
    assert right > count / 2, f"{right} of {count} came"
    return (
        f"{right} bodies of the right request, {wrong} of another, {other} cancelled or lost with the server"
    )


def _fork(url: str, scraper: Scraper, seed: str, count: int) -> TextIO:
    """Matches in a child; gives the file where it tells how many."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        status = 1
        try:
            own = Matching(url, scraper, f"child{seed}")
            own.run(count)
            os.write(writing, f"{own.matched} {own.wrong} {own.other}\n".encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    return os.fdopen(reading)


def _restart(server: Server, stop: threading.Event, seconds: float) -> None:
    while not stop.wait(seconds):
        server.kill()
        server.start()


def interrupted(count: int) -> str:
    """Ctrl-C at random moments: at once KeyboardInterrupt, and afterwards everything as before."""
    dice = random.Random(1)
    took: list[float] = []
    slow: list[float] = []
    with serving() as server, Scraper() as scraper:
        page, silent = Endpoint(f"{server.url}/page"), Endpoint(f"{server.url}/silent", timeout=20)
        for k in range(count):
            waits = [page, silent, page, silent][k % 4]
            sent: list[float] = []
            thread = threading.Thread(target=_interrupt, args=(dice.random() * 0.02, sent, slow))
            try:
                thread.start()
                while True:
                    scraper.submit(waits, PLAN)
                    scraper.wait()
            except KeyboardInterrupt:
                took.append(time.monotonic() - sent[0])
            thread.join()
            scraper.cancel()
            assert eventually(lambda: not (scraper.wait(0.1) or scraper.pending))
            number = scraper.submit(page, PLAN)
            [result] = scraper.wait(60)
            assert (result.id, result.error) == (number, None)
            assert result.fold == {"a": 1.0}
    took.sort()
    slow.sort()
    # On a busy machine a thread has to wait for its turn now and then: as after a sleep, so here.
    late, usual = took[int(count * 0.9)], slow[int(count * 0.9)]
    assert late < 0.2 + 10 * usual, (took[-10:], slow[-10:])
    return f"{count} interrupts, nine in ten seen within {late:.3f} s, all within {took[-1]:.3f} s"


def _interrupt(seconds: float, sent: list[float], slow: list[float]) -> None:
    due = time.monotonic() + seconds
    time.sleep(seconds)
    sent.append(time.monotonic())
    slow.append(sent[0] - due)
    os.kill(os.getpid(), signal.SIGINT)


# ------------------------------------------------------------------------ main

AT_LENGTH = {failed: 1_000_000, matched: 1_000_000, interrupted: 500}


def main(*args: str) -> None:
    chosen = {run: n for run, n in AT_LENGTH.items() if not args or run.__name__ == args[0]}
    for run, count in chosen.items():
        started = time.monotonic()
        told = run(int(args[1]) if len(args) > 1 else count)
        print(f"{run.__name__}: {told}; {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
