"""Pages of a simulated server, served by nginx or by a script's own server, and what processes cost."""

from __future__ import annotations

import asyncio
import ctypes
import os
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from sglang_collect.simulator import LoadModel, render_page

__all__ = [
    "compiled",
    "cpu_seconds",
    "nginx",
    "resident_mib",
    "serve",
    "serving",
    "simulated_pages",
    "unused_port",
    "wait_for",
]

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "bench"

NGINX = """\
daemon off;
master_process off;
pid {folder}/pid;
error_log stderr error;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    default_type "text/plain; version=0.0.4; charset=utf-8";
    types {{ }}
    sendfile on;
    tcp_nopush on;
    open_file_cache max=10;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
    map $connection_requests $page {{
        default 0;
        ~[13579]$ 1;
    }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {folder};
        location = /status {{ stub_status; }}
        location / {{ rewrite ^ /$page break; }}
    }}
}}
"""


def simulated_pages(size: int) -> list[bytes]:
    """A page of a simulated server with as many ranks as make it this large, and the one a second later."""
    for dp in range(1, 200):
        model = LoadModel(dp=dp, load=0.9)
        model.step(60)
        page = render_page(model)
        if len(page) >= size:
            model.step(1)
            return [page, render_page(model)]
    raise AssertionError("no page is that large")


@contextmanager
def nginx(pages: Sequence[bytes]) -> Iterator[int]:
    """Serves the two pages by turns on each connection, whatever the path; gives its port."""
    port = unused_port()
    with tempfile.TemporaryDirectory(prefix="bench-nginx-") as name:
        folder = Path(name)
        for n, page in enumerate(pages):
            (folder / str(n)).write_bytes(page)
        (folder / "conf").write_text(NGINX.format(folder=folder, port=port))
        program = shutil.which("nginx") or "/usr/sbin/nginx"
        with subprocess.Popen([program, "-p", name, "-c", str(folder / "conf"), "-e", "stderr"]) as server:
            try:
                wait_for(port, server)
                yield port
            finally:
                server.terminate()


async def serve(protocol: type[asyncio.Protocol], page_bytes: int) -> None:
    """Serves until it is ended; prints the port and the size of its pages first."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(protocol, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], page_bytes, flush=True)
    await server.serve_forever()


@contextmanager
def serving(script: str, size: int) -> Iterator[tuple[int, int]]:
    """A script's ``--serve`` in a process of its own; its port, and the size of its pages."""
    command = [sys.executable, script, "--serve", "--bytes", str(size)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port, length = map(int, server.stdout.readline().split())
        try:
            yield port, length
        finally:
            server.terminate()


def compiled(source: str) -> ctypes.CDLL:
    """A file of this folder over libcurl; its functions release the GIL."""
    BUILD.mkdir(parents=True, exist_ok=True)
    library = BUILD / Path(source).with_suffix(".so").name
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    config = os.environ.get("CURL_CONFIG", "curl-config")
    flags = [
        flag
        for option in ("--cflags", "--libs")
        for flag in shlex.split(
            subprocess.run([config, option], check=True, capture_output=True, text=True).stdout
        )
    ]
    file = str(ROOT / "benchmarks" / source)
    subprocess.run([*compiler, "-O2", "-fPIC", "-shared", "-o", str(library), file, *flags], check=True)
    return ctypes.CDLL(str(library))


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def wait_for(port: int, server: subprocess.Popen[bytes], seconds: float = 20.0) -> None:
    """Returns when the server takes connections."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.02)
    raise AssertionError(f"{server.args!r} takes no connections")


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has had, all its threads and the kernel's work for it included, to the ns."""
    return time.clock_gettime(~pid << 3 | 2)  # what clock_getcpuclockid() gives


def resident_mib(pid: int) -> float:
    """Memory that a process has in RAM, MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
