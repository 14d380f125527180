"""What a sweep over many servers costs: against a C program that only fetches, and with some of them broken.

Servers are one process on a loopback port, each target a path of it. Contenders run by turns; times are CPU
times of this process, its threads included, a scrape, medians over the rounds.

    python benchmarks/fleet.py [--targets 1 200 1000] [--rounds 15] [--bytes 60000]
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import platform
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from operator import attrgetter

from support.loopback import compiled, serve, serving, simulated_pages

import sglang_collect as sc
from sglang_collect import _core
from sglang_collect.catalog import sglang
from sglang_collect.groups import PLAN_GROUPS
from sglang_collect.options import make_endpoint

TIMEOUT = 30.0
BROKEN_TIMEOUT = 1.0  # of sweeps with broken targets among the others

Sweep = Callable[[], object]
plan_fields = attrgetter(
    *(f"{group}.{name}" for group in PLAN_GROUPS for name in PLAN_GROUPS[group].model_fields)
)


# -------------------------------------------------------------------------------------------------- server


def of_model(page: bytes, model: bytes) -> bytes:
    """The page as a server with another model has it."""
    return page.replace(b'",tp_rank="0"', b"-" + model + b'",tp_rank="0"')


class Answers(asyncio.Protocol):
    """Answers every request on a connection with the next page, or as the path says that it is broken."""

    pages: list[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.asked = b""
        self.n = 0
        self.own: tuple[bytes, list[bytes]] = (b"", [])

    def data_received(self, data: bytes) -> None:
        self.asked += data
        while b"\r\n\r\n" in self.asked:
            request, _, self.asked = self.asked.partition(b"\r\n\r\n")
            path = request.split(b" ", 2)[1]
            if path.startswith(b"/other"):
                self.n += 1
                self.send(of_model(self.pages[0], b"%04d" % (self.n % 10_000)))
            elif path.startswith(b"/own/"):
                if self.own[0] != path:
                    self.own = path, [of_model(page, path[5:]) for page in self.pages]
                self.n += 1
                self.send(self.own[1][self.n % len(self.pages)])
            elif path.startswith(b"/garbage"):
                self.send(b"no page {" * 100)
            elif path.startswith(b"/slow"):
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\na")
            elif not path.startswith(b"/silent"):
                self.n += 1
                self.send(self.pages[self.n % len(self.pages)])

    def send(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n\r\n"
        self.transport.write(head % len(body) + body)


# ---------------------------------------------------------------------------------------------- contenders


@contextmanager
def fetched_by_c(port: int, n: int) -> Iterator[Sweep]:
    floor = compiled("multi.c")
    floor.multi_new.restype = ctypes.c_void_p
    floor.multi_free.argtypes = floor.multi_sweep.argtypes = [ctypes.c_void_p]
    handle = floor.multi_new(n, port)
    assert handle

    def sweep() -> None:
        failed = floor.multi_sweep(handle)
        assert not failed, f"{failed} fetches failed"

    yield sweep
    floor.multi_free(handle)


@contextmanager
def scraped(port: int, n: int, plan: _core.Plan | None, folder: str = "") -> Iterator[Sweep]:
    """The scraper alone, driven by this thread."""
    endpoints = [make_endpoint(f"http://127.0.0.1:{port}/{folder}{k}", timeout=TIMEOUT) for k in range(n)]
    with _core.Scraper() as scraper:

        def sweep() -> None:
            for endpoint in endpoints:
                scraper.submit(endpoint, plan)
            left = n
            while left:
                results = scraper.wait()
                assert not any(result.error for result in results)
                left -= len(results)

        yield sweep


@contextmanager
def swept(port: int, n: int, *, read: bool) -> Iterator[Sweep]:
    """A fleet, the plan's fields of all its snapshots read or not."""
    targets = [sc.Target(str(k), f"http://127.0.0.1:{port}/{k}") for k in range(n)]
    with sc.Fleet(targets, timeout=TIMEOUT) as fleet:

        def sweep() -> None:
            for result in fleet.scrape():
                assert result.up
                if read and (snapshot := result.snapshot):
                    plan_fields(snapshot)

        yield sweep


def measure(port: int, n: int, rounds: int) -> dict[str, list[float]]:
    """Microseconds of CPU a scrape, for each contender and round."""
    with ExitStack() as stack:
        contenders = {
            "curl_multi in C, bodies thrown away": stack.enter_context(fetched_by_c(port, n)),
            "Scraper, bodies kept": stack.enter_context(scraped(port, n, None)),
            "Scraper, folded by the plan": stack.enter_context(scraped(port, n, sglang.plan())),
            "the same, each its own model": stack.enter_context(scraped(port, n, sglang.plan(), "own/")),
            "Fleet.scrape()": stack.enter_context(swept(port, n, read=False)),
            "Fleet.scrape(), 15 fields read": stack.enter_context(swept(port, n, read=True)),
        }
        repeats = max(1, 200 // n)
        found: dict[str, list[float]] = {name: [] for name in contenders}
        for sweep in contenders.values():  # connections are opened, pages known
            for _ in range(3):
                sweep()
        for _ in range(rounds):
            for name, sweep in contenders.items():
                began = time.process_time()
                for _ in range(repeats):
                    sweep()
                found[name].append((time.process_time() - began) / (n * repeats) * 1e6)
    return found


# -------------------------------------------------------------------------------------------------- broken


def broken_urls(port: int, n: int) -> list[str]:
    """Silent, slow and refusing targets, and such as answer garbage."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()[1]
    kinds = [f"http://127.0.0.1:{port}/{what}" for what in ("silent", "slow", "garbage")]
    kinds.append(f"http://127.0.0.1:{closed}")
    return [f"{kinds[k % len(kinds)]}/{k}" for k in range(n)]


def measure_broken(port: int, n: int, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds until the last healthy target has answered: where all are, and where a tenth is broken."""
    targets = [sc.Target(str(k), f"http://127.0.0.1:{port}/{k}") for k in range(n)]
    healthy = targets[: n - n // 10]
    urls = broken_urls(port, n // 10)
    mixed = [*healthy, *(sc.Target(f"broken {k}", url) for k, url in enumerate(urls))]
    mixed.sort(key=lambda target: hash(target.instance_id))
    times: tuple[list[float], list[float]] = ([], [])
    with sc.Fleet(targets, timeout=TIMEOUT) as whole, sc.Fleet(mixed, timeout=BROKEN_TIMEOUT) as partly:
        for n_before in range(rounds + 1):
            for fleet, into in zip((whole, partly), times, strict=True):
                ended = [
                    result.elapsed
                    for result in fleet.scrape()
                    if not result.target.instance_id.startswith("b")
                ]
                if n_before:  # the first opens the connections
                    into.append(max(ended))
    return times


# -------------------------------------------------------------------------------------------------- report


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", type=int, nargs="+", default=[1, 200, 1000], metavar="N")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--bytes", type=int, default=60_000, help="size of a page, at least")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        Answers.pages = simulated_pages(args.bytes)
        asyncio.run(serve(Answers, len(Answers.pages[0])))
        return
    print("python", os.path.relpath(__file__), *sys.argv[1:])
    print(f"Python {platform.python_version()}, libcurl {_core.CURL_VERSION}, {os.cpu_count()} CPUs")
    with serving(__file__, args.bytes) as (port, size):
        print(f"pages of {size:,} bytes, medians of {args.rounds} rounds by turns")
        for n in args.targets:
            print(f"\n{n} target{'s' if n > 1 else ''}{'µs of CPU a scrape':>45}   times the floor")
            found = measure(port, n, args.rounds)
            least = next(iter(found.values()))
            for name, times in found.items():
                ratio = statistics.median(mine / its for mine, its in zip(times, least, strict=True))
                print(f"  {name:38}{statistics.median(times):15.1f}{ratio:18.2f}")
        n = max(args.targets)
        if n >= 10:
            whole, partly = (statistics.median(times) for times in measure_broken(port, n, args.rounds))
            print(f"\nof {n} targets a tenth broken: the others have answered after {partly:.3f} s,")
            print(f"of {n} healthy ones all after {whole:.3f} s: {partly / whole:.2f} times as long")


if __name__ == "__main__":
    main()
