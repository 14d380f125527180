"""What `sglang-collect top` costs: CPU time of its process while it shows many servers on a terminal.

Servers are one process on a loopback port, each target a path of it, with the pages of a simulated server,
one second of its life a scrape. The screen runs in a pseudo-terminal that is read and thrown away.

    python benchmarks/top.py [--targets 10 500] [--interval 1] [--seconds 20] [--bytes 60000] [--size 80x24]
"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import json
import os
import platform
import pty
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import urllib.request
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import ClassVar, NamedTuple

from support.loopback import cpu_seconds, resident_mib, serve, serving

from sglang_collect.simulator import LoadModel, render_page

_LIVES = 60  # pages, then a server begins again
_WARM_UP = 5.0  # seconds that are not counted: start, imports, first scrapes


# -------------------------------------------------------------------------------------------------- server


def make_pages(size: int) -> list[bytes]:
    """Pages, a second apart, of a simulated server with as many ranks as make them this large."""
    for dp in range(1, 200):
        model = LoadModel(dp=dp, load=0.9)
        model.step(60)
        pages = [render_page(model)]
        if len(pages[0]) >= size:
            while len(pages) < _LIVES:
                model.step(1)
                pages.append(render_page(model))
            return pages
    raise AssertionError("no page is that large")


class Pages(asyncio.Protocol):
    """Answers each path with its next page, and /served with the number of pages so far."""

    pages: list[bytes]
    asked: ClassVar[Counter[bytes]] = Counter()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while b"\r\n\r\n" in self.received:
            request, _, self.received = self.received.partition(b"\r\n\r\n")
            path = request.split(b" ", 2)[1]
            if path == b"/served":
                body = b"%d" % self.asked.total()
            else:
                body = self.pages[self.asked[path] % _LIVES]
                self.asked[path] += 1
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: %d\r\n\r\n"
            self.transport.write(head % len(body) + body)


# -------------------------------------------------------------------------------------------------- screen


def served(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/served", timeout=10) as answer:
        return int(answer.read())


class Cost(NamedTuple):
    """Parts of a core, scrapes a second, kB a second written to the terminal, and MiB of memory."""

    core: float
    scrapes: float
    written: float
    memory: float


def measure(targets: str, port: int, args: argparse.Namespace, *, sort: str) -> Cost:
    columns, rows = map(int, args.size.split("x"))
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    command = [
        *(sys.executable, "-m", "sglang_collect", "top", "--file-sd", targets),
        *("--interval", str(args.interval), "--sort", sort),
    ]
    environment = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    written = 0

    def read() -> None:
        nonlocal written
        with suppress(OSError):
            while data := os.read(master, 65536):
                written += len(data)

    threading.Thread(target=read, daemon=True).start()
    try:
        time.sleep(_WARM_UP)
        began, spent, sent, pages = time.monotonic(), cpu_seconds(process.pid), written, served(port)
        time.sleep(args.seconds)
        seconds = time.monotonic() - began
        used, told, pages = cpu_seconds(process.pid) - spent, written - sent, served(port) - pages
        return Cost(used / seconds, pages / seconds, told / seconds / 1000, resident_mib(process.pid))
    finally:
        process.terminate()
        process.wait()
        os.close(master)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--targets", type=int, nargs="+", default=[10, 500], metavar="N")
    parser.add_argument("--interval", type=float, default=1.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--bytes", type=int, default=60_000, help="size of a page, at least")
    parser.add_argument("--size", default="80x24", help="of the terminal")
    parser.add_argument("--sort", nargs="+", default=["target", "running", "ttft-p95"])
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        Pages.pages = make_pages(args.bytes)
        asyncio.run(serve(Pages, len(Pages.pages[0])))
        return
    print("python", os.path.relpath(__file__), *sys.argv[1:])
    print(f"Python {platform.python_version()}, {os.cpu_count()} CPUs, a terminal of {args.size}")
    with serving(__file__, args.bytes) as (port, size), tempfile.TemporaryDirectory() as folder:
        print(f"pages of {size:,} bytes, every {args.interval:g} s; {args.seconds:g} s each")
        for n in args.targets:
            file = Path(folder) / f"{n}.json"
            file.write_text(
                json.dumps(
                    [
                        {
                            "targets": [f"127.0.0.1:{port}"],
                            "labels": {"__metrics_path__": f"/{k}", "instance": f"sglang-{k:03}"},
                        }
                        for k in range(n)
                    ]
                )
            )
            for sort in args.sort:
                cost = measure(str(file), port, args, sort=sort)
                print(
                    f"{n:5} targets, sorted by {sort:10}{cost.core:7.1%} of a core, "
                    f"{cost.scrapes:4.0f} scrapes/s, {cost.written:5.1f} kB/s to the terminal, "
                    f"{cost.memory:4.0f} MiB"
                )


if __name__ == "__main__":
    main()
