"""The fleet as it changes, for pages that look on: server-sent events of a router's instances.

What came in within half a second is one event, made once for all who look. One that reads too slowly
misses events, and then gets the whole state: nothing piles up for it.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from . import _requests
from ._recent import Points, Recent, compact, point_of_all, totals
from ._result import ScrapeResult
from ._turns import Turns

__all__ = ["EventStream", "Live"]

_PAUSE = 0.5  # seconds between two events
_SILENCE = 15.0  # seconds without one, after which a comment tells that the stream is alive
_LINGER = 10.0  # seconds after the last has left, in which somebody may come back


class _Viewer:
    """One who looks on, and the one event that waits for it."""

    def __init__(self, instance_id: str | None) -> None:
        self.instance_id = instance_id
        self._waiting: bytes | None = None
        self._missed = True  # what came before it
        self._ended = False
        self._woken = asyncio.Event()

    def offer(self, event: bytes) -> None:
        """Takes the event; if the one before is still here, both are as good as missed."""
        if self._waiting is None and not self._missed:
            self._waiting = event
        else:
            self._waiting, self._missed = None, True
        self._woken.set()

    def end(self) -> None:
        self._ended = True
        self._woken.set()

    async def next(self, live: Live) -> bytes | None:
        """What to send it now, once there is anything; None where that is nothing any more."""
        while not self._ended:
            if self._missed:
                await live.make_rows()
                self._missed, self._waiting = False, None
                return live.whole(self.instance_id)
            if self._waiting is not None:
                event, self._waiting = self._waiting, None
                return event
            self._woken.clear()
            try:
                await asyncio.wait_for(self._woken.wait(), _SILENCE)
            except asyncio.TimeoutError:
                return b":\n\n"
        return None


class Live:
    """What is known of the last minutes of a fleet, and everybody who looks on. For one event loop.

    Args:
        names: the targets, in the order in which they are shown.
        follow: reads them again and again and hands results to ``note``, until it is cancelled. It runs
            while somebody looks on and ``is_followed`` says that nobody else does it.
        interval: seconds in which it reads each of them once.
        most: who may look on at once.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        follow: Callable[[], Coroutine[Any, Any, None]],
        is_followed: Callable[[], bool],
        interval: float,
        most: int,
    ) -> None:
        self._interval = interval
        self._begin(names)
        self._follow = follow
        self._is_followed = is_followed
        self._most = most
        self._changed: set[str] = set()
        self._viewers: set[_Viewer] = set()
        self._task: asyncio.Task[None] | None = None

    def _begin(self, names: Iterable[str]) -> None:
        """Nothing is known of the last minutes."""
        self._recents = {name: Recent(name) for name in names}
        self._points = Points(self._interval)  # of all targets together

    def note(self, result: ScrapeResult) -> None:
        """Takes in what came of the newest scrape of a target."""
        recent = self._recents[result.target.instance_id]
        recent.note(result)
        self._changed.add(recent.instance_id)
        if self._viewers:
            recent.row()
        self._add_point(time.time())

    def _add_point(self, moment: float) -> None:
        """One of all targets together, once all have been read: they do not begin one by one."""
        recents = self._recents.values()
        if self._points.is_due(moment) and all(recent.is_read for recent in recents):
            self._points.add(moment, point_of_all(recents))

    # ------------------------------------------------------------------ viewers

    @property
    def is_full(self) -> bool:
        return len(self._viewers) >= self._most

    def join(self, instance_id: str | None) -> _Viewer:
        """Somebody begins to look on, at one target or, None, at all of them."""
        viewer = _Viewer(instance_id)
        self._viewers.add(viewer)
        if self._task is None:
            self._changed.clear()
            self._task = asyncio.create_task(self._publish())
        return viewer

    def leave(self, viewer: _Viewer) -> None:
        viewer.end()
        self._viewers.discard(viewer)

    async def _publish(self) -> None:
        """Tells those who look on what has changed, until all have left for good or nothing is to come."""
        following = None
        seen = time.monotonic()
        try:
            while not _server_stops():
                if self._viewers:
                    seen = time.monotonic()
                elif time.monotonic() - seen > _LINGER:
                    break
                if following is None and not self._is_followed():
                    self._begin(self._recents)
                    following = asyncio.create_task(self._follow())
                if following is not None and following.done():
                    break
                await asyncio.sleep(_PAUSE)
                self._offer()
        finally:
            self._task = None  # whoever comes now begins another
            self.end()
            if following is not None:
                following.cancel()
                await asyncio.wait({following})

    def _offer(self) -> None:
        changed, self._changed = self._changed, set()
        events: dict[str | None, bytes] = {}
        for viewer in self._viewers if changed else ():
            shown = viewer.instance_id
            if shown is not None and shown not in changed:
                continue
            if shown not in events:
                events[shown] = self._change(shown, changed)
            viewer.offer(events[shown])

    def end(self) -> None:
        """Ends every stream."""
        for viewer in self._viewers:
            viewer.end()

    async def aclose(self) -> None:
        """Ends every stream, and reads the targets no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    # ------------------------------------------------------------------- events

    async def make_rows(self) -> None:
        """Makes the rows that nobody has looked at yet, which for many targets takes a while."""
        turns = Turns()
        for recent in self._recents.values():
            recent.row()
            await turns.next()

    def whole(self, instance_id: str | None) -> bytes:
        """The first event of a stream: all there is."""
        if instance_id is None:
            history = self._points.columns()
            return self._rows_event(self._recents, targets=list(self._recents), history=history)
        return self._depth_event(instance_id, history=self._recents[instance_id].history())

    def _change(self, instance_id: str | None, changed: set[str]) -> bytes:
        if instance_id is None:
            return self._rows_event(changed, point=self._points.newest())
        return self._depth_event(instance_id, point=self._recents[instance_id].newest_point())

    def _rows_event(self, names: Iterable[str], **more: Any) -> bytes:
        rows = b",".join(self._recents[name].row() for name in names)
        whole = totals(self._recents.values())
        return self._event("fleet", {**more, "totals": whole}, b'"rows":[' + rows + b"]")

    def _depth_event(self, name: str, **more: Any) -> bytes:
        recent = self._recents[name]
        return self._event("server", {**more, "server": recent.depth()}, b'"row":' + recent.row())

    def _event(self, kind: str, values: dict[str, Any], made: bytes) -> bytes:
        """``made`` is the JSON of one more member; ``now`` is by the clock of a row's ``at``."""
        head = compact({"now": time.monotonic(), "interval": self._interval, **values})
        return b"event: %b\ndata: %b,%b}\n\n" % (kind.encode(), head[:-1], made)


def _server_stops() -> bool:
    """Has uvicorn been told to end? It waits for every answer to end first, and says nothing to them."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True


class EventStream(Response):
    """The answer that goes on for as long as somebody looks; 503 where too many do."""

    def __init__(self, live: Live, instance_id: str | None) -> None:
        super().__init__(
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )
        del self.headers["Content-Length"]
        self._live = live
        self._instance_id = instance_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._live.is_full:
            detail = {"detail": "too many are looking on"}
            await JSONResponse(detail, 503, {"Retry-After": "5"})(scope, receive, send)
            return
        viewer = self._live.join(self._instance_id)
        gone = asyncio.ensure_future(_requests.gone(Request(scope, receive)))
        sending = asyncio.ensure_future(self._send(viewer, send))
        try:
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._live.leave(viewer)
            gone.cancel()
            sending.cancel()
            await asyncio.wait({gone, sending})

    async def _send(self, viewer: _Viewer, send: Send) -> None:
        with suppress(OSError):  # the other end is gone
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            while (event := await viewer.next(self._live)) is not None:
                await send({"type": "http.response.body", "body": event, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
