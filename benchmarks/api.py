"""What POST /collect/sglang costs: against an endpoint that scrapes nothing, and against the plan's design.

Servers run under uvicorn, each in a process of its own, and are asked by turns; nginx serves the page that
they scrape. CPU is that of the server's process, medians over the rounds.

    python benchmarks/api.py [--rounds 9] [--requests 1000] [--bytes 60000] [--http h11] [--loop asyncio]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, Response
from support import plan_design
from support.loopback import cpu_seconds, nginx, simulated_pages, unused_port, wait_for

import sglang_collect as sc
from sglang_collect.api import RouterSettings, create_router

PATH = "/api/v1/collect/sglang"
OURS = "create_router()"
BARE = "bare endpoint, same bytes"
PLAN = "the plan's design"
PLAN_SHARED = "the plan's, one shared client"
SLOWER = 10  # times fewer requests of the plan's design a round


# ------------------------------------------------------------------------------------------------- servers


def bare(answer: bytes) -> FastAPI:
    """The least that an endpoint with this request does: its answer is there already."""
    app = FastAPI()

    @app.post(PATH, response_model=sc.MetricsCollectionResponse)
    async def collect(request: sc.MetricsCollectionRequest) -> Response:
        return Response(answer, media_type="application/json")

    return app


def ours() -> FastAPI:
    app = FastAPI()
    router = create_router(RouterSettings(allow=["127.0.0.1/32:1-65535"]))
    app.include_router(router, prefix="/api/v1")
    return app


def plans(*, shared: bool) -> FastAPI:
    """As the plan has it: its collector entered by every request."""
    app = FastAPI()
    client: list[httpx.AsyncClient] = []

    @app.post(PATH, response_model=plan_design.Answer)
    async def collect(request: sc.MetricsCollectionRequest) -> plan_design.Answer:
        if shared and not client:
            client.append(httpx.AsyncClient(timeout=10))
        async with plan_design.Collector(request.timeout, client[0] if shared else None) as collector:
            metrics = await collector.collect(request.instance_id, request.endpoint or "")
        return plan_design.Answer(success=True, instance_id=request.instance_id, metrics=metrics)

    return app


def serve(what: str, port: int, http: Any, loop: Any) -> None:
    """Runs one of the servers until it is ended; the bare one's answer is on stdin."""
    if what == BARE:
        app = bare(sys.stdin.buffer.read())
    else:
        app = ours() if what == OURS else plans(shared=what == PLAN_SHARED)
    uvicorn.run(app, port=port, http=http, loop=loop, log_level="warning", access_log=False)


@contextmanager
def running(what: str, args: argparse.Namespace, answer: bytes = b"") -> Iterator[tuple[int, int]]:
    """One of the servers in a process of its own: its port and its process id."""
    port = unused_port()
    command = [sys.executable, __file__, "--serve", what, "--port", str(port)]
    command += ["--http", args.http, "--loop", args.loop]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as server:
        assert server.stdin is not None
        server.stdin.write(answer)
        server.stdin.close()
        try:
            wait_for(port, server)
            yield port, server.pid
        finally:
            server.terminate()


# -------------------------------------------------------------------------------------------------- client


class Asker(asyncio.Protocol):
    """Sends one request over and over, one at a time."""

    def __init__(self, request: bytes, times: int, done: asyncio.Future[bytes]) -> None:
        self.request = request
        self.left = times
        self.done = done
        self.received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head = self.received.find(b"\r\n\r\n")
        if head < 0:
            return
        length = self.received.lower().index(b"content-length:")
        end = head + 4 + int(self.received[length + 15 : self.received.index(b"\r", length)])
        if len(self.received) < end:
            return
        body = bytes(self.received[head + 4 : end])
        if not self.received.startswith(b"HTTP/1.1 200") or b'"success":true' not in body:
            self.done.set_exception(AssertionError(bytes(self.received[:500])))
            self.transport.close()
            return
        self.received.clear()
        self.left -= 1
        if self.left:
            self.transport.write(self.request)
        else:
            self.transport.close()
            self.done.set_result(body)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server hung up"))


async def ask(port: int, target: int, connections: int, each: int) -> bytes:
    """So many requests over each connection; every connection asks for an instance of its own."""
    loop = asyncio.get_running_loop()
    ends = []
    for n in range(connections):
        body = json.dumps(
            {
                "instance_id": f"sglang-{n:03}",
                "endpoint": f"http://127.0.0.1:{target}/{n}/metrics",
                "timeout": 10,
            }
        ).encode()
        head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: "
        request = head.encode() + str(len(body)).encode() + b"\r\n\r\n" + body
        ends.append(loop.create_future())
        await loop.create_connection(lambda n=n, r=request: Asker(r, each, ends[n]), "127.0.0.1", port)  # type: ignore[misc]
    answers: list[bytes] = await asyncio.gather(*ends)
    return answers[0]


# ------------------------------------------------------------------------------------------------- measure


@dataclass
class Found:
    """Of each round: microseconds of CPU a request, and requests a second."""

    cpu: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)


def measure(args: argparse.Namespace, target: int) -> dict[str, Found]:
    found: dict[str, Found] = {}
    with ExitStack() as stack:
        at = {OURS: stack.enter_context(running(OURS, args))}
        answer = asyncio.run(ask(at[OURS][0], target, 1, 2))
        print(f"an answer of {len(answer):,} bytes\n")
        at[BARE] = stack.enter_context(running(BARE, args, answer))
        for name in () if args.ours else (PLAN, PLAN_SHARED):
            at[name] = stack.enter_context(running(name, args))
        for n in range(args.rounds + 1):
            for name, (port, pid) in at.items():
                each = max(
                    1, args.requests // args.connections // (SLOWER if name in (PLAN, PLAN_SHARED) else 1)
                )
                began, wall = cpu_seconds(pid), time.perf_counter()
                asyncio.run(ask(port, target, args.connections, each))
                took, wall = cpu_seconds(pid) - began, time.perf_counter() - wall
                if n:  # the first round warms up
                    here = found.setdefault(name, Found())
                    here.cpu.append(took / (each * args.connections) * 1e6)
                    here.rate.append(each * args.connections / wall)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--requests", type=int, default=1000, help="a round, of each server")
    parser.add_argument("--connections", type=int, default=8, help="of the client, each with one request out")
    parser.add_argument("--bytes", type=int, default=60_000, help="size of the page, at least")
    parser.add_argument("--http", default="auto", help="uvicorn's: auto, h11 or httptools")
    parser.add_argument("--loop", default="auto", help="uvicorn's: auto, asyncio or uvloop")
    parser.add_argument("--ours", action="store_true", help="without the plan's design")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.port, args.http, args.loop)
        return
    print("python", os.path.relpath(__file__), *sys.argv[1:])
    packages = ", ".join(f"{name} {version(name)}" for name in ("fastapi", "pydantic", "uvicorn"))
    print(f"Python {platform.python_version()}, {packages}, {os.cpu_count()} CPUs")
    pages = simulated_pages(args.bytes)
    with nginx(pages) as target:
        print(f"a page of {len(pages[0]):,} bytes, {args.connections} requests at a time, ", end="")
        print(f"medians of {args.rounds} rounds by turns; ", end="")
        found = measure(args, target)
    print(f"{'':32}{'µs of CPU':>12}{'x bare':>9}{'requests/s':>12}{'x plan':>9}")
    slowest = found.get(PLAN)
    for name, its in found.items():
        to_bare = statistics.median(a / b for a, b in zip(its.cpu, found[BARE].cpu, strict=True))
        row = f"{name:32}{statistics.median(its.cpu):12.0f}{to_bare:9.2f}{statistics.median(its.rate):12.0f}"
        if slowest is not None:
            row += f"{statistics.median(a / b for a, b in zip(its.rate, slowest.rate, strict=True)):9.1f}"
        print(row)


if __name__ == "__main__":
    main()
