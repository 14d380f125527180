"""What the endpoints of a large fleet cost the service, and how long each holds its event loop up.

A service in a process of its own watches the targets once a second; nginx serves their pages. Of each
endpoint are told the CPU time of the process an answer, beside what it spends on the watch meanwhile, and the
size of the answer. A ticker in the service's event loop sleeps for a millisecond over and over: told are the
99th percentile and the most of how much later than that it wakes, which other programs have a part in, and of
the CPU time that the loop's thread took from one time to the next, which is the loop's own.

    python benchmarks/api_fleet.py [--targets 1000] [--seconds 5] [--loop asyncio]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import uvicorn
from support.loopback import cpu_seconds, nginx, simulated_pages, unused_port, wait_for

from sglang_collect.api import RouterSettings, create_app

TICK = 0.001  # seconds
PAUSE = 0.5  # seconds between two requests


# ------------------------------------------------------------------------------------------------- service


def targets(port: int, n: int) -> dict[str, str]:
    return {f"sglang-{k:04}": f"http://127.0.0.1:{port}/{k}/metrics" for k in range(n)}


def serve(pages: int, n: int, port: int, loop: Any) -> None:
    """Runs the service; ``/lags`` gives what the ticker saw since it was last asked, in milliseconds."""
    settings = RouterSettings(
        allow=["127.0.0.1/32:1-65535"],
        instances=targets(pages, n),
        watch_interval=1.0,
        max_concurrent=n,
        max_queue=n,
    )
    lags: list[tuple[float, float]] = []
    app = create_app(settings)
    of_router = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        async with of_router(app) as state:
            ticker = asyncio.create_task(tick(lags))
            yield state
            ticker.cancel()

    app.router.lifespan_context = lifespan

    @app.get("/lags")
    async def told() -> list[tuple[float, float]]:
        found, lags[:] = list(lags), []
        return found

    uvicorn.run(app, port=port, loop=loop, log_level="warning", access_log=False)


async def tick(lags: list[tuple[float, float]]) -> None:
    while True:
        started, busy = time.perf_counter(), time.thread_time()
        await asyncio.sleep(TICK)
        late = time.perf_counter() - started - TICK
        lags.append((late * 1000, (time.thread_time() - busy) * 1000))


@contextmanager
def service(pages: int, args: argparse.Namespace) -> Iterator[tuple[str, int]]:
    """Its URL and its process id."""
    port = unused_port()
    command = [sys.executable, __file__, "--serve", str(pages), "--port", str(port)]
    command += ["--targets", str(args.targets), "--loop", args.loop]
    with subprocess.Popen(command) as server:
        try:
            wait_for(port, server)
            yield f"http://127.0.0.1:{port}", server.pid
        finally:
            server.terminate()


# ------------------------------------------------------------------------------------------------- measure


def get(url: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        content: bytes = answer.read()
    return content


def looked_on(url: str, seconds: float) -> tuple[int, int]:
    """Events of one who looks on for so long, and their bytes."""
    events = size = 0
    with suppress(TimeoutError), urllib.request.urlopen(f"{url}/api/v1/fleet/events", timeout=2) as stream:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            line = stream.readline()
            events += line.startswith(b"event:")
            size += len(line)
    return events, size


def asked(ask: Callable[[], bytes], seconds: float) -> tuple[int, int]:
    """Answers within so many seconds, with a pause between them, and their bytes."""
    answers = size = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        size += len(ask())
        answers += 1
        time.sleep(PAUSE)
    return answers, size


def measure(url: str, pid: int, pages: int, args: argparse.Namespace) -> None:
    every = [
        {"instance_id": name, "endpoint": endpoint} for name, endpoint in targets(pages, args.targets).items()
    ]
    batch = json.dumps({"targets": every}).encode()
    seconds = args.seconds
    rows: dict[str, Callable[[], tuple[int, int]]] = {
        "nothing but the watch": lambda: (time.sleep(seconds), (0, 0))[1],  # type: ignore[func-returns-value]
        "GET /fleet": lambda: asked(lambda: get(f"{url}/api/v1/fleet"), seconds),
        "GET /metrics": lambda: asked(lambda: get(f"{url}/api/v1/metrics"), seconds),
        "POST /collect/sglang/batch": lambda: asked(
            lambda: get(f"{url}/api/v1/collect/sglang/batch", batch), seconds
        ),
        "GET /fleet/events, one looks on": lambda: looked_on(url, seconds),
    }
    idle = 0.0  # CPU seconds a second, of the watch
    print(f"{'':34}{'ms of CPU':>10}{'bytes':>12}{'lag p99, ms':>13}{'max':>8}{'busy p99, ms':>14}{'max':>8}")
    for name, run in rows.items():
        get(f"{url}/lags")
        began, cpu = time.monotonic(), cpu_seconds(pid)
        n, size = run()
        took, cpu = time.monotonic() - began, cpu_seconds(pid) - cpu
        seen = [sorted(column) for column in zip(*json.loads(get(f"{url}/lags")), strict=True)]
        idle = idle or cpu / took
        each = (cpu - idle * took) / n * 1000 if n else cpu / took * 1000
        (late, latest), (busy, busiest) = ((column[int(0.99 * len(column))], column[-1]) for column in seen)
        row = (
            f"{name:34}{each:10.1f}{size // max(n, 1):12,}{late:13.1f}{latest:8.1f}{busy:14.1f}{busiest:8.1f}"
        )
        print(row, "" if n else "  a second", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each endpoint")
    parser.add_argument("--bytes", type=int, default=60_000, help="size of a page, at least")
    parser.add_argument("--loop", default="auto", help="uvicorn's: auto, asyncio or uvloop")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.targets, args.port, args.loop)
        return
    print("python", os.path.relpath(__file__), *sys.argv[1:])
    both = simulated_pages(args.bytes)
    print(f"Python {platform.python_version()}, {args.loop} loop, {os.cpu_count()} CPUs")
    print(f"{args.targets:,} targets with pages of {len(both[0]):,} bytes, all scraped once a second\n")
    with nginx(both) as pages, service(pages, args) as (url, pid):
        time.sleep(5)
        measure(url, pid, pages, args)


if __name__ == "__main__":
    main()
