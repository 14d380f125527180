"""Loopback servers whose every answer is written by the test, byte by byte where it has to be."""

from __future__ import annotations

import os
import random
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import BinaryIO

TEXT = "text/plain; version=0.0.4; charset=utf-8"


@dataclass
class Request:
    """What a server was asked; header names are lower case."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[Request, socket.socket], "bytes | None"]
"""Gives the bytes to send, or None where it has sent what it wants and the connection is to be closed."""


def answer(
    body: bytes | str = b"",
    *,
    status: str = "200 OK",
    content_type: str = TEXT,
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """A whole answer with its length; `headers` come on top or in the place of ours."""
    body = body.encode() if isinstance(body, str) else body
    fields = {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def silence(request: Request, connection: socket.socket) -> None:
    """Never answers, and notices when the client hangs up."""
    while connection.recv(4096):
        pass


def _hung_up(connection: socket.socket) -> bool:
    """Whether the client has closed, even where the thread that answers has not seen it yet."""
    try:
        peeked = socket.socket.recv(connection, 1, socket.MSG_PEEK | socket.MSG_DONTWAIT)  # TLS or not
        return peeked == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


class Server:
    """Answers on 127.0.0.1, or at another address, a thread a connection, and remembers what it was asked.

    Attributes:
        tls: what its end of TLS is; None: it speaks plainly.
        requests: every request, in the order of arrival.
        opened, closed: connections so far.
        most: requests that were being answered at one time, for clients that had not hung up.
    """

    def __init__(
        self,
        reply: bytes | Answer,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.reply = reply
        self.tls = tls
        self.requests: list[Request] = []
        self.opened = self.closed = self.most = 0
        self._answering: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://{host}:{self.port}/metrics"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):
                    socket.socket.shutdown(connection, socket.SHUT_RDWR)  # which of TLS is the end as well

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.opened += 1
                self._connections.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError), self._wrapped(plain) as connection, connection.makefile("rb") as lines:
            with self._lock:
                self._connections = (self._connections - {plain}) | {connection}
            while (request := _read_request(lines)) is not None:
                with self._lock:
                    self.requests.append(request)
                    self._answering.add(connection)
                    self.most = max(self.most, sum(not _hung_up(other) for other in self._answering))
                try:
                    sent = self.reply if isinstance(self.reply, bytes) else self.reply(request, connection)
                finally:
                    with self._lock:
                        self._answering.discard(connection)
                if sent is None:
                    break
                connection.sendall(sent)
        with self._lock:
            self.closed += 1
            self._connections = {other for other in self._connections if other.fileno() >= 0}

    def _wrapped(self, plain: socket.socket) -> socket.socket:
        """The connection to talk over, its TLS handshake done where there is one."""
        if self.tls is None:
            return plain
        connection = self.tls.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
        try:
            connection.do_handshake()
        except OSError:
            with connection, suppress(OSError):
                connection.shutdown(socket.SHUT_WR)  # so that an alert arrives before a reset does
                while socket.socket.recv(connection, 4096):
                    pass
            raise
        return connection


class Held(Server):
    """Takes requests, and answers them once it is told to."""

    def __init__(self, reply: bytes) -> None:
        released = threading.Event()
        self.release = released.set

        def late(request: Request, connection: socket.socket) -> bytes:
            released.wait(600)
            return reply

        super().__init__(late)

    def close(self) -> None:
        self.release()
        super().close()


def _read_request(stream: BinaryIO) -> Request | None:
    """Reads up to the empty line; None where the client hung up."""
    lines = []
    while line := stream.readline().decode().rstrip("\r\n"):
        lines.append(line)
    if not lines:
        return None
    method, path, _ = lines[0].split(" ")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return Request(method, path, {name.lower(): value for name, value in headers.items()})


@contextmanager
def serving(
    reply: bytes | Answer, *, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> Iterator[Server]:
    server = Server(reply, host=host, port=port, tls=tls)
    try:
        yield server
    finally:
        server.close()


_ELSEWHERE = """
import sys
from contextlib import ExitStack
from servers import answer, serving
with ExitStack() as stack:
    print(*(stack.enter_context(serving(answer(body))).url for body in sys.argv[1:]), flush=True)
    sys.stdin.read()
"""


@contextmanager
def serving_elsewhere(*bodies: bytes | str) -> Iterator[list[str]]:
    """A server for each body, in a process whose memory, threads and locks are not ours; gives their URLs."""
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(__file__)}
    with subprocess.Popen(
        [sys.executable, "-c", _ELSEWHERE, *bodies],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().split()
        process.communicate()


def unused_port() -> int:
    """A port on which nobody listens: below those that systems give to who takes any."""
    while True:
        port = random.randrange(10_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def eventually(condition: Callable[[], object], *, seconds: float = 60.0) -> bool:
    """Waits for what another thread or process brings about."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


@contextmanager
def soon(action: Callable[[], object], when: Callable[[], object] | None = None) -> Iterator[None]:
    """Does something in another thread: once something holds, or a little later."""

    def act() -> None:
        if when is None:
            time.sleep(0.15)
        else:
            assert eventually(when)
        action()

    thread = threading.Thread(target=act)
    thread.start()
    try:
        yield
    finally:
        thread.join()
