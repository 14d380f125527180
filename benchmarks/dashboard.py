"""What the page of a large fleet costs: the service, those who look on, and the browser.

    .venv/bin/python benchmarks/dashboard.py [TARGETS] [VIEWERS]

A service watches 500 servers with made-up pages once a second. Told are its CPU time and memory without
viewers, with one and with 50, and how smoothly a real browser shows it, where Debian's chromium is there.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from support.loopback import cpu_seconds, resident_mib

from sglang_collect._listen import listen
from sglang_collect.api import RouterSettings, create_app

CHROMIUM = "/usr/bin/chromium"
SECONDS = 10.0
SETTLE = 5.0  # seconds before a measurement
BOUNDS = (0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40)


# --------------------------------------------------------------------- programs


class MadeUp:
    """A server's page: gauges that jump, counters and histograms that grow."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)

    def page(self) -> bytes:
        for _ in range(random.randrange(20)):
            self.counts[min(int(random.expovariate(0.5)), len(BOUNDS))] += 1
        total = sum(self.counts)
        lines = [
            "# TYPE sglang:num_running_reqs gauge",
            f'sglang:num_running_reqs{{model_name="m"}} {random.randrange(100)}',
            "# TYPE sglang:num_queue_reqs gauge",
            f'sglang:num_queue_reqs{{model_name="m"}} {random.randrange(10)}',
            "# TYPE sglang:token_usage gauge",
            f'sglang:token_usage{{model_name="m"}} {random.random():.4f}',
            "# TYPE sglang:num_requests_total counter",
            f'sglang:num_requests_total{{model_name="m"}} {total}',
        ]
        for name in ("time_to_first_token_seconds", "inter_token_latency_seconds"):
            lines.append(f"# TYPE sglang:{name} histogram")
            below = 0
            for bound, count in zip((*BOUNDS, "+Inf"), self.counts, strict=True):
                below += count
                lines.append(f'sglang:{name}_bucket{{le="{bound}",model_name="m"}} {below}')
            lines += [
                f'sglang:{name}_sum{{model_name="m"}} {total}',
                f'sglang:{name}_count{{model_name="m"}} {total}',
            ]
        return "\n".join([*lines, ""]).encode()


async def serve_pages() -> None:
    """Answers every path with the page of a server of its own."""
    servers: dict[bytes, MadeUp] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            body = servers.setdefault(head.split(b" ", 2)[1], MadeUp()).page()
            kind = b"Content-Type: text/plain; version=0.0.4\r\n"
            writer.write(b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (kind, len(body), body))

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def serve_fleet(pages: str, targets: str) -> None:
    instances = {f"server-{n:03}": f"{pages}/{n}" for n in range(int(targets))}
    app = create_app(RouterSettings(instances=instances, watch_interval=1.0, max_viewers=1000))
    listener, url = listen("127.0.0.1", 0)
    print(url, flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])


async def look_on(url: str, viewers: str) -> None:
    """Reads so many streams; a line when all are open."""
    _, _, address = url.partition("//")
    host, _, port = address.partition(":")

    async def look(n: int) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /api/v1/fleet/events HTTP/1.0\r\nHost: x\r\n\r\n")
        await reader.read(1)
        if n == int(viewers) - 1:
            print("open", flush=True)
        while await reader.read(1 << 20):
            pass

    await asyncio.gather(*map(look, range(int(viewers))))


PROGRAMS: dict[str, Any] = {"pages": serve_pages, "fleet": serve_fleet, "viewers": look_on}


@contextmanager
def running(*arguments: str) -> Iterator[tuple[int, str]]:
    """One of these programs; its process and the line that it says first."""
    command = [sys.executable, __file__, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.pid, process.stdout.readline().strip()
        finally:
            process.kill()


# ----------------------------------------------------------------- measurements


def service_costs(pid: int, label: str) -> None:
    time.sleep(SETTLE)
    began, cpu = time.monotonic(), cpu_seconds(pid)
    time.sleep(SECONDS)
    part = (cpu_seconds(pid) - cpu) / (time.monotonic() - began)
    print(f"service, {label:<12} {part:7.1%} of a core  {resident_mib(pid):7.1f} MiB")


WATCH_FRAMES = """(seconds) => new Promise((resolve) => {
    const frames = [], tasks = [];
    new PerformanceObserver((list) => tasks.push(...list.getEntries().map((entry) => entry.duration)))
        .observe({ type: "longtask" });
    const began = performance.now();
    const frame = (now) => {
        frames.push(now);
        if (now - began < 1000 * seconds) requestAnimationFrame(frame);
        else resolve([frames.slice(1).map((at, n) => at - frames[n]), tasks]);
    };
    requestAnimationFrame(frame);
})"""


def browser_costs(url: str, targets: int) -> None:
    if shutil.which(CHROMIUM) is None:
        print("browser: chromium is not installed")
        return
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(url)
        page.locator("table.fleet tbody tr").nth(targets - 1).wait_for()
        for label, button in (("rows in order", None), ("rows sorted", "Now: Running")):
            if button is not None:
                page.get_by_role("button", name=button, exact=True).click()
            page.wait_for_timeout(1000 * SETTLE)
            session = page.context.new_cdp_session(page)
            session.send("Performance.enable")
            before = metrics(session)
            gaps, tasks = page.evaluate(WATCH_FRAMES, SECONDS)
            after = metrics(session)
            gaps.sort()
            spent = {
                name: (after[f"{name}Duration"] - before[f"{name}Duration"])
                / (after["Timestamp"] - before["Timestamp"])
                for name in ("Task", "Script", "Layout", "RecalcStyle")
            }
            print(
                f"browser, {label:<18} {len(gaps) / SECONDS:5.1f} frames/s",
                f"p99 {gaps[int(0.99 * len(gaps))]:.0f} ms",
                f"tasks over 50 ms: {len(tasks)}",
                f"heap {after['JSHeapUsedSize'] / 2**20:.1f} MiB",
                *(f"{name} {part:.1%}" for name, part in spent.items()),
                sep=", ",
            )
        browser.close()


def metrics(session: Any) -> dict[str, float]:
    return {metric["name"]: metric["value"] for metric in session.send("Performance.getMetrics")["metrics"]}


def main(targets: str = "500", viewers: str = "50") -> None:
    with running("pages") as (_, pages), running("fleet", pages, targets) as (pid, url):
        urllib.request.urlopen(f"{url}/health").close()
        service_costs(pid, "0 viewers")
        with running("viewers", url, "1"):
            service_costs(pid, "1 viewer")
        with running("viewers", url, viewers):
            service_costs(pid, f"{viewers} viewers")
        service_costs(pid, "0 viewers")
        browser_costs(url, int(targets))


if __name__ == "__main__":
    if (program := PROGRAMS.get(sys.argv[1] if sys.argv[1:] else "")) is None:
        main(*sys.argv[1:])
    elif asyncio.iscoroutinefunction(program):
        asyncio.run(program(*sys.argv[2:]))
    else:
        program(*sys.argv[2:])
