"""How much an event loop is held up by scraping a page of 1.1 MB 20 times a second.

A ticker sleeps for 1 ms over and over; its lag is how much later than that it wakes. Rounds with nothing
else to do alternate with rounds in which the loop scrapes, from a loopback server in a process of its own.

    python benchmarks/loop_lag.py [--seconds 3] [--rounds 5] [--bytes 1100000] [--uvloop]
"""

from __future__ import annotations

import argparse
import asyncio
import http.server
import os
import platform
import statistics
import subprocess
import sys
import time

from support.loopback import simulated_pages

from sglang_collect import SGLangCollector

INTERVAL = 0.05  # seconds between scrapes
TICK = 0.001
PERCENTILES = (0.5, 0.99, 1.0)


def serve(size: int) -> None:
    """Serves the page until the parent hangs up; prints port and page size first."""
    page, _ = simulated_pages(size)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, len(page), flush=True)
    server.serve_forever()


async def tick(seconds: float) -> list[float]:
    """The lags of a ticker, in milliseconds."""
    lags = []
    end = time.perf_counter() + seconds
    while (started := time.perf_counter()) < end:
        await asyncio.sleep(TICK)
        lags.append((time.perf_counter() - started - TICK) * 1000)
    return lags


async def scrape(url: str, seconds: float) -> list[float]:
    """Scrapes at a steady rate; the times that the scrapes took, in milliseconds."""
    times = []
    async with SGLangCollector() as collector:
        first = time.perf_counter()
        for n in range(round(seconds / INTERVAL)):
            await asyncio.sleep(max(0.0, first + n * INTERVAL - time.perf_counter()))
            started = time.perf_counter()
            await collector.collect(instance_id="x", endpoint=url)
            times.append((time.perf_counter() - started) * 1000)
    return times


def percentiles(values: list[float]) -> tuple[float, ...]:
    values = sorted(values)
    return tuple(values[min(len(values) - 1, int(q * len(values)))] for q in PERCENTILES)


async def measure(url: str, seconds: float, rounds: int) -> dict[str, list[tuple[float, ...]]]:
    found: dict[str, list[tuple[float, ...]]] = {"lag, idle": [], "lag, scraping": [], "time of a scrape": []}
    for _ in range(rounds):
        found["lag, idle"].append(percentiles(await tick(seconds)))
        lags, times = await asyncio.gather(tick(seconds), scrape(url, seconds))
        found["lag, scraping"].append(percentiles(lags))
        found["time of a scrape"].append(percentiles(times))
    return found


def benchmark(size: int, seconds: float, rounds: int, loop: asyncio.AbstractEventLoop) -> None:
    command = [sys.executable, __file__, "--serve", "--bytes", str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port, size = map(int, server.stdout.readline().split())
        try:
            found = loop.run_until_complete(measure(f"http://127.0.0.1:{port}/metrics", seconds, rounds))
        finally:
            server.terminate()
    print("python", os.path.relpath(__file__), *sys.argv[1:])
    print(f"Python {platform.python_version()}, {type(loop).__module__}, {os.cpu_count()} CPUs")
    print(f"a page of {size:,} bytes every {INTERVAL * 1000:.0f} ms")
    print(f"medians of {rounds} alternating rounds of {seconds:g} s\n")
    print(f"{'ms':18}{'p50':>9}{'p99':>9}{'max':>9}")
    for name, rows in found.items():
        medians = (statistics.median(column) for column in zip(*rows, strict=True))
        print(f"{name:18}" + "".join(f"{value:9.2f}" for value in medians))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bytes", type=int, default=1_100_000, help="size of the page, at least")
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.bytes)
    elif args.uvloop:
        import uvloop

        benchmark(args.bytes, args.seconds, args.rounds, uvloop.new_event_loop())
    else:
        benchmark(args.bytes, args.seconds, args.rounds, asyncio.new_event_loop())


if __name__ == "__main__":
    main()
