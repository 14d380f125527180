"""Scrapes for a long time, and looks at what is left: memory, descriptors, threads.

    python tests/soak.py [--scrapes 300000] [--warm-up 10000]

Fifty targets of a server in another process are swept, their fields read, now and then everything of them;
every tenth sweep is a collector's. From time to time all is closed: then nothing may have grown since the
warm-up, no byte that malloc has in use, no block of Python's, no descriptor, no thread. Exit status 1 where
something has.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from leaks import blocks, descriptors, heap, threads

import sglang_collect as sc
from sglang_collect.simulator import LoadModel, render_page

TARGETS = 50
CHECKPOINTS = 20
MOST_WARM_UPS = 10
NOISE = (16 * 1024, 32, 0.5, 0.5)  # growth from the first look to the last that says nothing


# ------------------------------------------------------------------------ server


class Answers(asyncio.Protocol):
    """The pages by turns on every connection; 404 for every twentieth request."""

    pages: list[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.asked = b""
        self.n = 0

    def data_received(self, data: bytes) -> None:
        self.asked += data
        while b"\r\n\r\n" in self.asked:
            _, _, self.asked = self.asked.partition(b"\r\n\r\n")
            self.n += 1
            body = self.pages[self.n % len(self.pages)]
            status = b"404 Not Found" if self.n % 20 == 0 else b"200 OK"
            head = b"HTTP/1.1 %b\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n\r\n"
            self.transport.write(head % (status, len(body)) + body)


async def serve() -> None:
    """Serves until it is ended; prints its port first."""
    model = LoadModel(load=0.9)
    model.step(2)
    Answers.pages = [render_page(model)]
    model.step(1)
    Answers.pages.append(render_page(model))
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def serving() -> Iterator[int]:
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.terminate()


# ------------------------------------------------------------------------- looks


NAMES = ("bytes of malloc", "blocks of Python", "descriptors", "threads")


def look(looks: array[int]) -> None:
    """Adds what the process holds, a number for each name. An object more for each look would be seen."""
    looks.extend((heap(), blocks(), descriptors(), threads()))


def grown(values: list[int]) -> float:
    """By how much the values rise from the first to the last, on the line that fits them best."""
    n = len(values)
    middle, mean = (n - 1) / 2, sum(values) / n
    slope = sum((k - middle) * (value - mean) for k, value in enumerate(values))
    return slope / sum((k - middle) ** 2 for k in range(n)) * (n - 1)


def report(looks: array[int], scrapes: int) -> bool:
    """Says what each number was and whether it grew; did any?"""
    bad = False
    for k, (name, noise) in enumerate(zip(NAMES, NOISE, strict=True)):
        values = list(looks[k :: len(NAMES)])
        growth = grown(values)
        bad = bad or growth > noise
        verdict = "GREW" if growth > noise else "did not grow"
        print(f"{name}: {values[0]:,}, then {values[-1]:,}: {growth / scrapes:+.5f} a scrape, {verdict}")
    return bad


# ----------------------------------------------------------------------- scrapes


def scrape(port: int, scrapes: int, loop: asyncio.AbstractEventLoop) -> None:
    """So many scrapes: sweeps of a fleet, and now and then a collector's. Then all is closed."""
    urls = [f"http://127.0.0.1:{port}/{k}" for k in range(TARGETS)]
    with sc.Fleet([sc.Target(url, url) for url in urls], timeout=30) as fleet:
        for n in range(scrapes // TARGETS):
            if n % 10 == 9:
                loop.run_until_complete(collect(urls))
            else:
                for result in fleet.scrape():
                    if (snapshot := result.snapshot) is not None:
                        assert snapshot.system_metrics.num_requests_running >= 0
                        assert n % 10 or b"raw_metrics" in snapshot.to_json()


async def collect(urls: list[str]) -> None:
    async with sc.SGLangCollector(timeout=30) as collector:
        for url in urls:
            with suppress(sc.HTTPStatusError):
                await collector.collect(instance_id=url, endpoint=url)


def warm_up(port: int, scrapes: int, loop: asyncio.AbstractEventLoop) -> None:
    """So many scrapes, and again until Python holds no more after them, if it ever does.

    CPython 3.10 gives each function a cache when it has run 1,024 times, which may be after many fleets.
    """
    scrape(port, scrapes // CHECKPOINTS, loop)
    for _ in range(MOST_WARM_UPS):
        held = blocks()
        for _ in range(CHECKPOINTS):
            scrape(port, scrapes // CHECKPOINTS, loop)
        if blocks() - held <= NOISE[1]:
            break


def soak(port: int, scrapes: int, first: int, leak: int) -> array[int]:
    """Looks after the warm-up, and at even distances from then on."""
    malloc = ctypes.CDLL(None).malloc
    malloc.restype = ctypes.c_void_p
    loop = asyncio.new_event_loop()
    each = (scrapes - first) // CHECKPOINTS
    warm_up(port, first, loop)
    looks = array("q")
    look(looks)
    for _ in range(CHECKPOINTS):
        scrape(port, each, loop)
        for _ in range(each if leak else 0):
            malloc(leak)
        look(looks)
    loop.close()
    return looks


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scrapes", type=int, default=300_000)
    parser.add_argument(
        "--warm-up", type=int, default=10_000, help="scrapes before the first look, if they suffice"
    )
    parser.add_argument("--leak", type=int, default=0, help="bytes to lose a scrape: the soak must notice")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve())
        return 0
    with serving() as port:
        looks = soak(port, args.scrapes, args.warm_up, args.leak)
    return report(looks, args.scrapes - args.warm_up)


if __name__ == "__main__":
    sys.exit(main())
