"""The ways to read a fleet: a sweep, and a watch, which knows when each target is due.

Whoever iterates drives a watch: the call starts what is due, and waits for what comes and for what is due
next. So a program that does not ask for the next batch starts no scrapes, and nothing piles up.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from .collector import _call

if TYPE_CHECKING:
    from ._result import ScrapeResult
    from ._roster import Member, Roster

__all__ = ["Inbox", "Sweep", "Watch"]

_TICK = 0.01  # seconds between two batches, at least: one waking for many results
_BEGUN_AT_ONCE = 64  # of a sweep: what has come has to wait meanwhile
_FIRST = 1.0  # seconds in which every target is scraped for the first time, however long the interval
_LONGEST_BACK_OFF = 10.0  # seconds, or two intervals where those are longer
_GOLDEN = (math.sqrt(5) - 1) / 2

_Post = tuple["Member", "ScrapeResult"]


class Inbox:
    """Results on their way from the drivers' threads to one thread or task that waits for them.

    Where memory is short one may come twice: who waits must bear that.
    """

    def __init__(self) -> None:
        self._posts: SimpleQueue[list[_Post]] = SimpleQueue()
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None

    def put(self, posts: list[_Post]) -> None:
        """From any thread. An empty list only wakes who waits."""
        self._posts.put(posts)
        waiter = self._waiter
        if waiter is not None:
            _call(waiter[0], _release, waiter[1])

    def wait(self, timeout: float | None = None) -> list[_Post]:
        """What is there, once there is anything, it is woken, or the time is over: seconds, None for ever."""
        try:
            return self._posts.get(timeout=timeout) + self._take()
        except Empty:
            return []

    async def wait_in_loop(self, timeout: float | None = None) -> list[_Post]:
        """As ``wait``, in the running event loop."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        timer = None if timeout is None else loop.call_later(timeout, _release, future)
        self._waiter = loop, future
        try:
            if self._posts.empty():
                await future
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()
        return self._take()

    def _take(self) -> list[_Post]:
        posts: list[_Post] = []
        with suppress(Empty):
            while True:
                posts += self._posts.get_nowait()
        return posts


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Sweep:
    """One scrape of every member, and what has come of it so far."""

    def __init__(self, roster: Roster, inbox: Inbox) -> None:
        self._results: dict[Member, ScrapeResult | None] = dict.fromkeys(roster.members())
        self.missing = len(self._results)
        members = list(self._results)
        for first in range(0, len(members), _BEGUN_AT_ONCE):
            roster.begin(members[first : first + _BEGUN_AT_ONCE], inbox)

    def take(self, posts: list[_Post]) -> None:
        for member, result in posts:
            self.missing -= self._results[member] is None
            self._results[member] = result

    def results(self) -> list[ScrapeResult]:
        """All of them, in the order of members."""
        return [result for result in self._results.values() if result is not None]


class Watch(AsyncIterator["list[ScrapeResult]"], Iterator["list[ScrapeResult]"]):
    """What ``Fleet.watch`` gives: batches of results, for ``for`` as for ``async for``.

    It ends when the fleet is closed, and when it is closed itself: by ``close``, or by an exception or a
    cancellation that comes while it waits. Scrapes under way that nobody else waits for are then ended;
    those of a watch that is only dropped run out.
    """

    def __init__(self, roster: Roster, interval: float) -> None:
        self._roster = roster
        self._interval = interval
        self._began = time.monotonic()
        self._inbox = Inbox()
        self._version = -1  # of the fleet's members that it knows
        self._known: dict[Member, ScrapeResult | None] = {}  # with the last result of each
        self._due: list[tuple[float, int, Member]] = []  # a heap; a member under way is not in it
        self._rests_until = 0.0
        self._closed = False
        roster.wakes(self._inbox)

    def __iter__(self) -> Watch:
        return self

    def __aiter__(self) -> Watch:
        return self

    def __next__(self) -> list[ScrapeResult]:
        try:
            time.sleep(max(0.0, self._rests_until - time.monotonic()))
            while self._start_due():
                if batch := self._batch(self._inbox.wait(self._until_next())):
                    return batch
        except BaseException:
            self.close()
            raise
        raise StopIteration

    async def __anext__(self) -> list[ScrapeResult]:
        try:
            await asyncio.sleep(max(0.0, self._rests_until - time.monotonic()))
            while self._start_due():
                if batch := self._batch(await self._inbox.wait_in_loop(self._until_next())):
                    return batch
        except GeneratorExit:  # thrown away, maybe in a thread that has the roster's lock
            self._closed = True
            raise
        except BaseException:
            self.close()
            raise
        raise StopAsyncIteration

    def close(self) -> None:
        """Ends it, in whatever thread; nothing where it has ended."""
        if not self._closed:
            self._closed = True
            self._roster.leave(self._inbox)
            self._inbox.put([])

    async def aclose(self) -> None:
        """As ``close``, which does not block."""
        self.close()

    def _start_due(self) -> bool:
        """Starts what is due; False where the watch has ended."""
        if self._closed or self._roster.closed:
            return False
        if self._version != self._roster.version:
            self._meet()
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            member = heapq.heappop(self._due)[2]
            if not member.gone:
                self._roster.begin([member], self._inbox)
        return True

    def _meet(self) -> None:
        """Makes every member due that it has not met."""
        self._version = self._roster.version
        members = self._roster.members()
        now = time.monotonic()
        for member in members:
            if member not in self._known:
                self._push(member, now + _phase(member) * min(self._interval, _FIRST))
        self._known = {member: self._known.get(member) for member in members}

    def _push(self, member: Member, due: float) -> None:
        heapq.heappush(self._due, (due, member.number, member))

    def _until_next(self) -> float | None:
        """Seconds until the next is due, but no less than a tick: what is due by then starts together."""
        return max(_TICK, self._due[0][0] - time.monotonic()) if self._due else None

    def _batch(self, posts: list[_Post]) -> list[ScrapeResult]:
        """The results, each of whose targets has become due again; none that closing the fleet has ended."""
        now = time.monotonic()
        batch = []
        for member, result in posts:
            is_news = self._known.get(member) is not result
            if is_news and not member.gone and not self._roster.closed:
                self._push(member, self._next(member, result, now))
                self._known[member] = result
                batch.append(result)
        if batch:
            self._rests_until = now + _TICK
        return batch

    def _next(self, member: Member, result: ScrapeResult, now: float) -> float:
        """When a target is due again.

        One that answers keeps its place in the interval; those of a fleet are spread over it evenly,
        whatever their number. One that fails waits longer each time, and never as long as another.
        """
        if not result.up:
            most = max(_LONGEST_BACK_OFF, 2 * self._interval)
            pause = min(self._interval * 2.0 ** min(result.consecutive_failures, 60), most)
            return now + random.uniform(pause / 2, pause)
        place = self._began + _phase(member) * self._interval
        earliest = max(now, now - result.elapsed + self._interval / 2)
        return place + math.ceil((earliest - place) / self._interval) * self._interval


def _phase(member: Member) -> float:
    """Its place in every interval, 0 to 1: multiples of the golden ratio never crowd anywhere."""
    return member.number * _GOLDEN % 1.0
