"""Long work in an event loop that others use too."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

__all__ = ["Turns", "in_turns"]

_TURN = 0.001  # seconds for which nothing else is done in the event loop


class Turns:
    """Work of many small pieces: after each comes ``await turns.next()``, and others have their turns."""

    def __init__(self) -> None:
        self._until = time.perf_counter() + _TURN

    async def next(self) -> None:
        if time.perf_counter() > self._until:
            await asyncio.sleep(0)
            self._until = time.perf_counter() + _TURN


async def in_turns(parts: Iterable[bytes | None]) -> bytes:
    """All of the parts, each made in one piece; None is none."""
    made, turns = [], Turns()
    for part in parts:
        if part is not None:
            made.append(part)
        await turns.next()
    return b"".join(made)
