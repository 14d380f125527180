"""What a scrape costs, from the request to numbers that a program can read: us, and what others do.

nginx serves pages of a simulated server on a loopback port, each target a path of it. Contenders run by
turns; times are CPU times a scrape, medians over the rounds, and those of the Prometheus server are of its
process.

    python benchmarks/compare.py [--targets 1 200 1000] [--rounds 7] [--bytes 60000] [--readme [FILE]]

README.md beside this file says what each row means.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from importlib.metadata import version
from io import BytesIO
from operator import attrgetter
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pycurl
from prometheus_client.parser import text_string_to_metric_families
from support import plan_design
from support.loopback import compiled, cpu_seconds, nginx, simulated_pages, unused_port, wait_for
from support.report import cpu_name, write_between

import sglang_collect as sc
from sglang_collect import _core
from sglang_collect.groups import PLAN_GROUPS

FLOOR = "curl_multi in C, bodies thrown away"
SWEEP = "Fleet.scrape()"
OURS = "Fleet.scrape(), 15 fields read"
PROMETHEUS = "Prometheus server"
SHARED = "the plan's design, one shared client"
SHORT = (FLOOR, SWEEP, OURS, "aiohttp and prometheus_client", SHARED, PROMETHEUS)
TIMEOUT = 30.0
FEW = 50  # targets at most that the slow ones scrape a round
SECONDS = 4.0  # that the Prometheus server runs a round

plan_fields = attrgetter(
    *(f"{group}.{name}" for group in PLAN_GROUPS for name in PLAN_GROUPS[group].model_fields)
)

Sweep = Callable[[], int]
"""Scrapes its targets once; how many those are."""


# ---------------------------------------------------------------------------------------------- contenders


@contextmanager
def fetched(library: ctypes.CDLL, kind: str, port: int, n: int) -> Iterator[Sweep]:
    """A floor: fetches in C, whose bodies nobody reads."""
    new, free, sweep = (getattr(library, f"{kind}_{what}") for what in ("new", "free", "sweep"))
    new.restype = ctypes.c_void_p
    free.argtypes = sweep.argtypes = [ctypes.c_void_p]
    handle = new(n, port)
    assert handle

    def run() -> int:
        assert not sweep(handle)
        return n

    yield run
    free(handle)


def url(port: int, k: int) -> str:
    return f"http://127.0.0.1:{port}/{k}"


@contextmanager
def ours(port: int, n: int, *, read: bool) -> Iterator[Sweep]:
    targets = [sc.Target(str(k), url(port, k)) for k in range(n)]
    with sc.Fleet(targets, timeout=TIMEOUT) as fleet:

        def sweep() -> int:
            for result in fleet.scrape():
                assert result.up
                if read:
                    plan_fields(result.snapshot)
            return n

        yield sweep


@contextmanager
def ours_one_by_one(port: int, n: int) -> Iterator[Sweep]:
    """A collector, awaited for one target after another."""
    loop = asyncio.new_event_loop()
    collector = sc.SGLangCollector(timeout=TIMEOUT)
    loop.run_until_complete(collector.__aenter__())

    async def all_targets() -> None:
        for k in range(n):
            snapshot = await collector.collect(instance_id=str(k), endpoint=url(port, k))
            assert snapshot.system_metrics.num_requests_running

    def sweep() -> int:
        loop.run_until_complete(all_targets())
        return n

    yield sweep
    loop.run_until_complete(collector.__aexit__(None, None, None))
    loop.close()


def numbers(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """What a program keeps of a page that prometheus_client reads for it: values by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@contextmanager
def with_pycurl(port: int, n: int) -> Iterator[Sweep]:
    handles = [pycurl.Curl() for _ in range(n)]
    for k, handle in enumerate(handles):
        handle.setopt(pycurl.URL, url(port, k))

    def sweep() -> int:
        for handle in handles:
            body = BytesIO()
            handle.setopt(pycurl.WRITEDATA, body)
            handle.perform()
            assert numbers(body.getvalue().decode())
        return n

    yield sweep
    for handle in handles:
        handle.close()


Fetch = Callable[[str], Coroutine[Any, Any, object]]


@contextmanager
def in_a_loop(
    port: int, n: int, fetch: Fetch, close: Callable[[], Coroutine[Any, Any, None]], loop: Any
) -> Iterator[Sweep]:
    """All targets at once, as coroutines of one loop."""

    async def all_targets() -> None:
        assert all(await asyncio.gather(*(fetch(url(port, k)) for k in range(n))))

    def sweep() -> int:
        loop.run_until_complete(all_targets())
        return n

    yield sweep
    loop.run_until_complete(close())
    loop.close()


def with_aiohttp(port: int, n: int) -> AbstractContextManager[Sweep]:
    loop = asyncio.new_event_loop()

    async def open_session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))

    session = loop.run_until_complete(open_session())

    async def fetch(target: str) -> object:
        async with session.get(target) as response:
            return numbers(await response.text())

    return in_a_loop(port, n, fetch, session.close, loop)


def shared_client() -> httpx.AsyncClient:
    return httpx.AsyncClient(
        timeout=TIMEOUT, limits=httpx.Limits(max_connections=None, max_keepalive_connections=None)
    )


def with_httpx(port: int, n: int) -> AbstractContextManager[Sweep]:
    client = shared_client()

    async def fetch(target: str) -> object:
        return numbers((await client.get(target)).text)

    return in_a_loop(port, n, fetch, client.aclose, asyncio.new_event_loop())


def as_planned(port: int, n: int, *, shared: bool) -> AbstractContextManager[Sweep]:
    client = shared_client()

    async def fetch(target: str) -> object:
        async with plan_design.Collector(TIMEOUT, client if shared else None) as collector:
            return (await collector.collect("x", target)).raw_metrics

    return in_a_loop(port, n, fetch, client.aclose, asyncio.new_event_loop())


# ------------------------------------------------------------------------------------- a Prometheus server

JOB = """\
- job_name: job{k}
  metrics_path: /{k}
  static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


@contextmanager
def prometheus(port: int, n: int) -> Iterator[Sweep]:
    """A server that scrapes the targets while it may run, some 200 a second; stopped between its turns."""
    interval = max(1, n // 200)
    web = unused_port()
    jobs = "".join(JOB.format(k=k, port=port) for k in range(n))
    with tempfile.TemporaryDirectory(prefix="bench-prometheus-") as folder:
        config = Path(folder) / "prometheus.yml"
        config.write_text(
            f"global: {{scrape_interval: {interval}s, scrape_timeout: {interval}s}}\nscrape_configs:\n{jobs}"
        )
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data"]
        command += [f"--web.listen-address=127.0.0.1:{web}", "--log.level=error"]
        with subprocess.Popen(command) as server:
            try:
                wait_for(web, server)
                time.sleep(2 * interval + 1)  # every target has been scraped, its series are known
                server.send_signal(signal.SIGSTOP)

                def turn() -> int:
                    before = served(port)
                    server.send_signal(signal.SIGCONT)
                    time.sleep(max(SECONDS, interval))
                    server.send_signal(signal.SIGSTOP)
                    return served(port) - before - 1

                turn.pid = server.pid  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
                yield turn
            finally:
                with suppress(ProcessLookupError):
                    server.send_signal(signal.SIGCONT)
                server.terminate()


def served(port: int) -> int:
    """Requests that nginx has answered."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/status") as answer:
        found = re.search(r"requests\n +\d+ +\d+ +(\d+)", answer.read().decode())
    assert found is not None
    return int(found[1])


# ------------------------------------------------------------------------------------------------- measure


def contenders(port: int, n: int, floors: dict[str, ctypes.CDLL]) -> dict[str, AbstractContextManager[Sweep]]:
    few = min(n, FEW)
    found = {
        FLOOR: fetched(floors["multi"], "multi", port, n),
        "curl_easy in C, bodies thrown away": fetched(floors["easy"], "easy", port, n),
        SWEEP: ours(port, n, read=False),
        OURS: ours(port, n, read=True),
        "SGLangCollector, one by one": ours_one_by_one(port, n),
        "pycurl and prometheus_client": with_pycurl(port, few),
        "aiohttp and prometheus_client": with_aiohttp(port, few),
        "httpx and prometheus_client": with_httpx(port, few),
        SHARED: as_planned(port, few, shared=True),
        "the plan's design": as_planned(port, min(few, 10), shared=False),
    }
    if shutil.which("prometheus"):
        found[PROMETHEUS] = prometheus(port, n)
    return found


def measure(port: int, n: int, rounds: int, floors: dict[str, ctypes.CDLL]) -> dict[str, list[float]]:
    """Microseconds of CPU a scrape, for each contender and round."""
    found: dict[str, list[float]] = {}
    with ExitStack() as stack:
        sweeps = {
            name: stack.enter_context(contender) for name, contender in contenders(port, n, floors).items()
        }
        for k in range(rounds + 1):
            for name, sweep in sweeps.items():
                pid = getattr(sweep, "pid", os.getpid())
                least = (
                    0.1 if name != PROMETHEUS and k else 0.0
                )  # seconds, so that one target is scraped often
                began, scraped = cpu_seconds(pid), 0
                while not scraped or cpu_seconds(pid) - began < least:
                    scraped += sweep()
                if k:  # the first round opens connections
                    found.setdefault(name, []).append((cpu_seconds(pid) - began) / scraped * 1e6)
    return found


# -------------------------------------------------------------------------------------------------- report


def ratio(found: dict[str, list[float]], name: str, other: str) -> float:
    """How many times as much one costs as the other: the median of the ratios within each round."""
    return statistics.median(a / b for a, b in zip(found[name], found[other], strict=True))


def written(microseconds: float) -> str:
    return f"{microseconds:,.0f} µs" if microseconds < 10_000 else f"{microseconds / 1000:,.1f} ms"


def as_markdown(found: dict[int, dict[str, list[float]]], size: int, *, short: bool = False) -> str:
    counts = list(found)
    head = [f"{n:,} target{'s' if n > 1 else ''}" for n in counts]
    lines = [
        f"| CPU a scrape of {size / 1000:.0f} kB | {' | '.join(head)} | times ours |",
        "| --- |" + " ---: |" * (len(counts) + 1),
    ]
    last = found[counts[-1]]
    for name in last:
        if short and name not in SHORT:
            continue
        cells = [written(statistics.median(found[n][name])) for n in counts]
        lines.append(f"| {name} | {' | '.join(cells)} | {ratio(last, name, OURS):.3g} |")
    return "\n".join(lines)


def provenance(rounds: int) -> str:
    rivals = ", ".join(f"{name} {version(name)}" for name in ("pycurl", "aiohttp", "httpx"))
    return "\n".join(
        (
            f"`python benchmarks/compare.py --readme` on {cpu_name()}, {os.cpu_count()} CPUs,",
            f"with {company()};",
            f"libcurl {_core.CURL_VERSION}, Python {platform.python_version()}, {rivals},",
            f"prometheus_client {version('prometheus_client')}, {prometheus_version()}.",
            f"Medians of {rounds} rounds by turns.",
        )
    )


def company() -> str:
    """Who else runs on the machine: its load beyond our own."""
    load = os.getloadavg()[0]
    return f"other programs there (load {load:.0f})" if load > 3 else "nothing else to do"


def prometheus_version() -> str:
    if not shutil.which("prometheus"):
        return "no Prometheus server"
    told = subprocess.run(["prometheus", "--version"], capture_output=True, text=True, check=True)
    return "Prometheus " + (told.stdout + told.stderr).split()[2]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", type=int, nargs="+", default=[1, 200, 1000], metavar="N")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--bytes", type=int, default=60_000, help="size of a page, at least")
    parser.add_argument("--readme", action="store_true", help="writes the tables of both README.md")
    args = parser.parse_args()
    floors = {name: compiled(f"{name}.c") for name in ("multi", "easy")}
    pages = simulated_pages(args.bytes)
    with nginx(pages) as port:
        found = {n: measure(port, n, args.rounds, floors) for n in args.targets}
    table, source = as_markdown(found, len(pages[0])), provenance(args.rounds)
    print(f"{table}\n\n{source}\n")
    for n, its in found.items():
        print(f"{n} targets:", end="")
        for name, other in ((SWEEP, FLOOR), (OURS, FLOOR), (SHARED, OURS), (PROMETHEUS, SWEEP)):
            if {name, other} <= its.keys():
                print(f" {name} costs {ratio(its, name, other):.3g} times {other};", end="")
        print()
    if args.readme:
        here = Path(__file__).resolve().parent
        write_between(here / "README.md", "benchmarks:compare", f"{table}\n\n{source}")
        short = as_markdown(found, len(pages[0]), short=True)
        write_between(here.parent / "README.md", "benchmarks:compare", f"{short}\n\n{source}")


if __name__ == "__main__":
    main()
