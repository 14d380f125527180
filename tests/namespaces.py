"""Tests in a network of their own, where every address is this machine's and no packet can leave.

A test marked ``namespace`` is run again by itself, inside a new network namespace, where ``set_up`` gives
every IPv4 and IPv6 address to the loopback. Where the system permits none, such a test is skipped; it never
falls back to the real network.
"""

from __future__ import annotations

import functools
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from xml.etree import ElementTree

INSIDE = "SGLANG_COLLECT_NAMESPACE"
ROOT = Path(__file__).resolve().parent.parent


@functools.cache
def way_in() -> list[str] | None:
    """The command that runs another one in a network of its own; None where the system permits none."""
    for flags in ("-nm", "-Urnm"):
        command = ["unshare", flags]
        with suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([*command, "ip", "link", "set", "lo", "up"], capture_output=True, check=True)
            return command
    return None


def run(tests: Sequence[str], folder: Path) -> dict[str, tuple[str, str]]:
    """Runs tests, given by their node ids, inside: the outcome of each, and what it or pytest said."""
    command = way_in()
    if command is None:
        return dict.fromkeys(tests, ("skipped", "the system permits no network namespace"))
    report = folder / "report.xml"
    done = subprocess.run(
        [
            *command,
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-c",
            ROOT / "pyproject.toml",
            f"--junitxml={report}",
            "-ojunit_logging=system-out",
        ]
        + [f"{ROOT}/{test}" for test in tests],
        env={**os.environ, INSIDE: "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    outcomes = dict.fromkeys(tests, ("error", done.stdout))
    cases = ElementTree.parse(report).iter("testcase") if report.exists() else ()
    by_name = {test.partition("::")[2]: test for test in tests}
    for case in cases:
        bad = [child for child in case if child.tag in ("skipped", "failure", "error")]
        said = case.findtext("system-out", "").partition("-\n")[2].strip()  # behind a line of pytest's
        words = f"{bad[0].get('message')}\n{bad[0].text}" if bad else said
        outcomes[by_name[case.attrib["name"]]] = (bad[0].tag if bad else "passed", words)
    return outcomes


def lift(loopback: bool) -> None:
    """Takes the one network device up, with every address there is, or down."""
    commands = ["ip link set lo down", "ip route flush table local"]
    if loopback:
        commands = [
            "ip link set lo up",
            "ip route replace local 0.0.0.0/0 dev lo",
            "ip -6 route replace local ::/0 dev lo",
        ]
    for command in commands:
        subprocess.run(command.split(), check=True)


@functools.cache
def set_up() -> None:
    """Gives every address to the loopback, and every question about a name to a server of the test."""
    assert os.environ[INSIDE]
    lift(True)
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
        file.write("nameserver 127.0.0.1\noptions timeout:5 attempts:2\n")
        file.flush()
        subprocess.run(["mount", "--bind", file.name, "/etc/resolv.conf"], check=True)
    with suppress(OSError):
        Path("/proc/sys/net/core/somaxconn").write_text("4096")


class Canary:
    """Listens on some ports of every address there is, and remembers which were connected to.

    Attributes:
        hits: the address and port of each connection, as its client saw it.
    """

    PAGE = b"sglang:num_requests_running 4\n"

    def __init__(self, ports: Sequence[int]) -> None:
        self.hits: list[tuple[str, int]] = []
        self._listeners = []
        for port in ports:
            for family in (socket.AF_INET, socket.AF_INET6):
                listener = socket.socket(family)
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                self._listeners.append(listener)
                listener.bind(("" if family == socket.AF_INET else "::", port))
                listener.listen(4096)
                threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        for listener in self._listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            self.hits.append(connection.getsockname()[:2])
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(self.PAGE)}\r\nConnection: close\r\n\r\n".encode()
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(head + self.PAGE)


@contextmanager
def canary(*ports: int) -> Iterator[Canary]:
    bird = Canary(ports)
    try:
        yield bird
    finally:
        bird.close()


SILENT: Sequence[str] = ("",)
"""What a zone gives for a name that gets no answer."""

Zone = Callable[[str, int], "Sequence[str] | None"]
"""The addresses of a name, as it is asked for the nth time (from 1); None where there is no such name."""


class Names:
    """A name server on 127.0.0.1.

    Attributes:
        asked: how often each name was asked for.
    """

    def __init__(self, zone: Zone) -> None:
        self.asked: dict[str, int] = {}
        self._counts: dict[tuple[str, int], int] = {}
        self._zone = zone
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.bind(("127.0.0.1", 53))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # ends the thread's wait
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                query, client = self._socket.recvfrom(1500)
                answer = self._answer(query) if query else None
                if answer is not None:
                    self._socket.sendto(answer, client)
            except OSError:
                return

    def _answer(self, query: bytes) -> bytes | None:
        name, end = _name_of(query)
        (kind,) = struct.unpack_from("!H", query, end)
        nth = self._counts[name, kind] = self._counts.get((name, kind), 0) + 1
        self.asked[name] = max(self.asked.get(name, 0), nth)
        addresses = self._zone(name, nth)
        if addresses is SILENT:
            return None
        records = [record for address in addresses or () if (record := _record(address, kind))]
        flags = 0x8183 if addresses is None else 0x8180
        head = query[:2] + struct.pack("!5H", flags, 1, len(records), 0, 0)
        return head + query[12 : end + 4] + b"".join(records)


def _name_of(query: bytes) -> tuple[str, int]:
    labels, at = [], 12
    while length := query[at]:
        labels.append(query[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels).lower(), at + 1


def _record(address: str, kind: int) -> bytes:
    """The record of an address for a question of type A or AAAA; nothing where it is of the other."""
    packed = ip_address(address)
    if kind != {4: 1, 6: 28}[packed.version]:
        return b""
    to_the_name = b"\xc0\x0c"
    return to_the_name + struct.pack("!HHIH", kind, 1, 0, len(packed.packed)) + packed.packed


@contextmanager
def names(zone: Zone) -> Iterator[Names]:
    server = Names(zone)
    try:
        yield server
    finally:
        server.close()
