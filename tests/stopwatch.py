"""How long what is tested took, on whatever machine."""

from __future__ import annotations

import threading
import time
from types import TracebackType

_TICK = 0.005  # seconds


class Stopwatch:
    """Measures a block: its ``elapsed`` seconds, and ``seconds``, without those the machine was ``late``.

    A thread sleeps again and again meanwhile, a few milliseconds each time. What its sleeps took longer was
    time for which this process did not get a processor: next to nothing beside idle cores. To be asked for
    once the block has ended.
    """

    def __init__(self) -> None:
        self.elapsed = self.late = 0.0
        self._over = threading.Event()

    def __enter__(self) -> Stopwatch:
        self._ticker = threading.Thread(target=self._tick)
        self._ticker.start()
        self._began = time.monotonic()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.elapsed = time.monotonic() - self._began
        self._over.set()
        self._ticker.join()

    @property
    def seconds(self) -> float:
        return self.elapsed - self.late

    def _tick(self) -> None:
        over = False
        while not over:
            asleep = time.monotonic()
            over = self._over.wait(_TICK)
            self.late += max(0.0, time.monotonic() - asleep - _TICK)
