"""Applications under uvicorn on a loopback port, and clients that follow their events."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from servers import eventually

EVENTS = "/api/v1/fleet/events"


@contextmanager
def running(app: FastAPI, *, port: int = 0, grace: int = 20) -> Iterator[int]:
    """The application under uvicorn, in a thread; gives its port.

    It ends once its clients have left, or after ``grace`` seconds.
    """
    listener = socket.create_server(("127.0.0.1", port), backlog=2048)
    service = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=grace))

    async def serve() -> None:
        await service.serve([listener])
        await asyncio.sleep(0)
        for late in list(service.server_state.connections):  # accepted while the others were told to leave
            late.transport.abort()
        await asyncio.sleep(0)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        assert eventually(lambda: service.started)
        yield listener.getsockname()[1]
    finally:
        service.should_exit = True
        thread.join()
        listener.close()


Event = tuple[str, dict[str, Any]]


class Events:
    """A stream of server-sent events, read one by one; comments are left out."""

    def __init__(self, port: int, query: str = "", headers: Mapping[str, str] | None = None) -> None:
        url = f"http://127.0.0.1:{port}{EVENTS}{query}"
        self.answer = urllib.request.urlopen(
            urllib.request.Request(url, headers=dict(headers or {})), timeout=60
        )

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        """The next event; StopIteration where the stream has ended."""
        kind = None
        for line in iter(self.answer.readline, b""):
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "data" and kind is not None:
                return kind, json.loads(value)
        raise StopIteration

    def until(self, condition: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The data of the first event for which it holds."""
        return next(data for _, data in self if condition(data))

    def close(self) -> None:
        self.answer.close()


@contextmanager
def following(port: int, query: str = "", headers: Mapping[str, str] | None = None) -> Iterator[Events]:
    events = Events(port, query, headers)
    try:
        yield events
    finally:
        events.close()
