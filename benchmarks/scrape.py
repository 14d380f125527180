"""What one scrape costs until the plan's fields can be read: against a C program that only fetches.

The server is a process on a loopback port. Contenders scrape it by turns, one scrape after the other; times
are CPU times of this process, its threads included, a scrape, medians over the rounds. Where connections are
new, the floor is a fetch over a new one.

    python benchmarks/scrape.py [--bytes 60000 1100000] [--rounds 15] [--scrapes 100]
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count

import fleet
from fleet import TIMEOUT, plan_fields
from support.loopback import compiled, serving

import sglang_collect as sc
from sglang_collect import _core
from sglang_collect.catalog import sglang
from sglang_collect.models import snapshot_from_result
from sglang_collect.options import make_endpoint

Run = Callable[[int], object]
"""Scrapes so many times."""

FLOOR = "curl_easy in C, body thrown away"
FLOOR_ANEW = "curl_easy in C, a new connection each time"
NEW = "Scraper, 15 fields read, a new target each time"
NEW_OTHER = "Scraper, 15 fields read, new targets of other lines"
ANEW = "scrape(), a new connection, 15 fields read"
GOALS = {  # times the floor, of pages below and above 500 kB
    "Scraper, 15 fields read, other lines each time": (2.5, 3.0),
    "Scraper, 15 fields read, steady state": (2.0, 2.0),
}


@contextmanager
def fetched_by_c(port: int, *, anew: bool = False) -> Iterator[Run]:
    """Over one kept connection, or over a new one each time."""
    floor = compiled("easy.c")
    floor.easy_new.restype = ctypes.c_void_p
    floor.easy_free.argtypes = floor.easy_sweep.argtypes = floor.easy_anew.argtypes = [ctypes.c_void_p]
    handle = floor.easy_new(1, port)
    assert handle
    if anew:
        floor.easy_anew(handle)

    def run(n: int) -> None:
        for _ in range(n):
            failed = floor.easy_sweep(handle)
            assert not failed, "the fetch failed"

    yield run
    floor.easy_free(handle)


@contextmanager
def scraped(url: str) -> Iterator[Run]:
    """The scraper, driven by this thread."""
    endpoint = make_endpoint(url, timeout=TIMEOUT)
    plan = sglang.plan()
    with _core.Scraper() as scraper:

        def run(n: int) -> None:
            for _ in range(n):
                scraper.submit(endpoint, plan)
                (result,) = scraper.wait()
                if result.error is not None:
                    raise result.error
                plan_fields(snapshot_from_result(result, instance_id="x"))

        yield run


@contextmanager
def scraped_once(urls: Iterator[str]) -> Iterator[Run]:
    """A running scraper and targets that it has not seen: endpoints are prepared, connections opened."""
    plan = sglang.plan()
    with _core.Scraper() as scraper:

        def run(n: int) -> None:
            for _ in range(n):
                url = next(urls)
                scraper.submit(make_endpoint(url, timeout=TIMEOUT), plan)
                (result,) = scraper.wait()
                if result.error is not None:
                    raise result.error
                plan_fields(snapshot_from_result(result, instance_id="x"))

        yield run


@contextmanager
def collected(url: str) -> Iterator[Run]:
    """The collector, awaited in an event loop; a thread of its own drives the scraper."""
    loop = asyncio.new_event_loop()
    collector = sc.SGLangCollector(timeout=TIMEOUT)
    loop.run_until_complete(collector.__aenter__())

    async def collect(n: int) -> None:
        for _ in range(n):
            plan_fields(await collector.collect("x", url))

    yield lambda n: loop.run_until_complete(collect(n))
    loop.run_until_complete(collector.__aexit__(None, None, None))
    loop.close()


def scraped_anew(url: str) -> Run:
    """``scrape()``, with a connection for each call."""

    def run(n: int) -> None:
        for _ in range(n):
            plan_fields(sc.scrape(url, timeout=TIMEOUT))

    return run


def measure(port: int, rounds: int, scrapes: int) -> dict[str, list[float]]:
    """Microseconds of CPU a scrape, for each contender and round."""
    server = f"http://127.0.0.1:{port}"
    url = f"{server}/metrics"
    with ExitStack() as stack:
        contenders: dict[str, Run] = {
            FLOOR: stack.enter_context(fetched_by_c(port)),
            FLOOR_ANEW: stack.enter_context(fetched_by_c(port, anew=True)),
            "Scraper, 15 fields read, other lines each time": stack.enter_context(scraped(f"{server}/other")),
            NEW: stack.enter_context(scraped_once(f"{server}/new/{n}" for n in count())),
            NEW_OTHER: stack.enter_context(scraped_once(f"{server}/own/{n:06d}" for n in count())),
            "Scraper, 15 fields read, steady state": stack.enter_context(scraped(url)),
            "SGLangCollector.collect(), 15 fields read": stack.enter_context(collected(url)),
            ANEW: scraped_anew(url),
        }
        found: dict[str, list[float]] = {name: [] for name in contenders}
        for run in contenders.values():
            run(5)
        for _ in range(rounds):
            for name, run in contenders.items():
                began = time.process_time()
                run(scrapes)
                found[name].append((time.process_time() - began) / scrapes * 1e6)
    return found


def verdict(name: str, size: int, ratio: float) -> str:
    goals = GOALS.get(name)
    if goals is None:
        return ""
    goal = goals[size > 500_000]
    return f"   goal {goal}" if ratio <= goal else f"   goal {goal} MISSED"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--bytes", type=int, nargs="+", default=[60_000, 1_100_000], metavar="N")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--scrapes", type=int, default=100, help="scrapes in a row")
    args = parser.parse_args()
    print("python", os.path.relpath(__file__), *sys.argv[1:])
    print(f"Python {platform.python_version()}, libcurl {_core.CURL_VERSION}, {os.cpu_count()} CPUs")
    for wanted in args.bytes:
        with serving(fleet.__file__, wanted) as (port, size):
            found = measure(port, args.rounds, args.scrapes)
        print(f"\npage of {size:,} bytes{'µs of CPU a scrape':>50}   times its floor")
        for name, times in found.items():
            floor = found[FLOOR_ANEW if name in (FLOOR_ANEW, NEW, NEW_OTHER, ANEW) else FLOOR]
            ratio = statistics.median(mine / its for mine, its in zip(times, floor, strict=True))
            print(f"  {name:52}{statistics.median(times):12.1f}{ratio:18.2f}{verdict(name, size, ratio)}")


if __name__ == "__main__":
    main()
