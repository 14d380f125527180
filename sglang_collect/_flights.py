"""Collections under way: equal requests at the same time share one, and nobody's is ended for another's sake.

A request that finds none under way flies its own, in its own task; those that come meanwhile ride along. One
that asks for many gives each a task. A flight is ended early when the last client that waits for it hangs up.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from fastapi import HTTPException, Request

from ._answers import Outcome
from ._requests import gone

__all__ = ["Flights", "Job"]

_RETRY_AFTER = "1"  # seconds
_PATIENCE = 0.01  # seconds that a request waits at least before somebody looks whether its client hung up
_AT_ONCE = 16  # flights that begin before the event loop does something else
_CLIENT_GONE = 499  # what proxies call it; nobody reads this answer

Job = Callable[[], Coroutine[Any, Any, Outcome]]
"""Does one collection."""


class _Flight:
    """A collection under way, the task that does it, and the requests that wait for it.

    A seat's result is the outcome; None where the task was cancelled by somebody else than us.
    """

    __slots__ = ("key", "pilot", "seats", "waiting")

    def __init__(self, key: object) -> None:
        self.key = key
        self.pilot: asyncio.Task[Any] | None = None
        self.seats: list[asyncio.Future[Outcome | None]] = []
        self.waiting = 0

    def seat(self) -> asyncio.Future[Outcome | None]:
        self.waiting += 1
        self.seats.append(asyncio.get_running_loop().create_future())
        return self.seats[-1]

    def land(self, outcome: Outcome | Exception | None) -> None:
        for seat in self.seats:
            if seat.done():  # its request was cancelled
                continue
            if isinstance(outcome, Exception):
                seat.set_exception(outcome)
            else:
                seat.set_result(outcome)


class _Onlooker:
    """Calls ``left`` when the client of a request hangs up, from ``look`` on."""

    __slots__ = ("_left", "_looking", "_request", "saw_it_go")

    def __init__(self, request: Request, left: Callable[[], object]) -> None:
        self._request = request
        self._left = left
        self._looking: asyncio.Task[None] | None = None
        self.saw_it_go = False

    def look(self) -> None:
        self._looking = asyncio.ensure_future(self._watch())

    async def _watch(self) -> None:
        await gone(self._request)
        self.saw_it_go = True
        self._left()

    def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()


class _Lookout:
    """Has the onlookers of one event loop look after ``_PATIENCE``, or twice that: one timer for all.

    Most requests have their answers before.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._new: set[_Onlooker] = set()
        self._older: set[_Onlooker] = set()
        self._runs = False

    def add(self, onlooker: _Onlooker) -> None:
        self._new.add(onlooker)
        if not self._runs:
            self._runs = True
            self.loop.call_later(_PATIENCE, self._tick)

    def discard(self, onlooker: _Onlooker) -> None:
        self._new.discard(onlooker)
        self._older.discard(onlooker)
        onlooker.close()

    def _tick(self) -> None:
        for onlooker in self._older:
            onlooker.look()
        self._older, self._new = self._new, set()
        self._runs = bool(self._older)
        if self._runs:
            self.loop.call_later(_PATIENCE, self._tick)


class Flights:
    """Those of one router, of which there may be ``places`` at once; past that, 503."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._under_way: dict[object, _Flight] = {}
        self._lookout: _Lookout | None = None  # of the loop that asked last

    def __len__(self) -> int:
        return len(self._under_way)

    async def one(self, key: object, job: Job, request: Request) -> Outcome:
        """The outcome of the job, or of one under way that has the same key."""
        if key in self._under_way:
            (outcome,) = await self.all([(key, job)], request)
            return outcome
        (flight,) = self._begin([key])
        flight.waiting = 1
        flight.pilot = asyncio.current_task()
        onlooker = _Onlooker(request, lambda: self._leave(flight))
        lookout = self._look_out_for(onlooker)
        try:
            return await self._fly(flight, job)
        except asyncio.CancelledError:
            if onlooker.saw_it_go and not flight.waiting:
                _forgive(flight.pilot)
                raise HTTPException(_CLIENT_GONE) from None
            raise
        finally:
            lookout.discard(onlooker)

    async def all(self, jobs: Sequence[tuple[object, Job]], request: Request) -> list[Outcome]:
        """As ``one`` of each key, in their order and at the same time."""
        new = {key: job for key, job in jobs if key not in self._under_way}
        begun = self._begin(list(new))
        flights = [self._under_way[key] for key, _ in jobs]
        seats = [flight.seat() for flight in flights]
        onlooker = _Onlooker(request, lambda: [seat.cancel() for seat in seats])
        lookout = self._look_out_for(onlooker)
        try:
            for number, flight in enumerate(begun):
                flight.pilot = asyncio.create_task(self._fly(flight, new[flight.key]))
                if number % _AT_ONCE == _AT_ONCE - 1:
                    await asyncio.sleep(0)
            outcomes = [await seat for seat in seats]
        except asyncio.CancelledError:
            if onlooker.saw_it_go:
                raise HTTPException(_CLIENT_GONE) from None
            raise
        finally:
            lookout.discard(onlooker)
            for flight in begun:
                if flight.pilot is None:  # which nobody will begin any more
                    self._forget(flight)
                    flight.land(None)
            for flight in flights:
                self._leave(flight)
        return [
            await self.one(key, job, request) if outcome is None else outcome
            for outcome, (key, job) in zip(outcomes, jobs, strict=True)
        ]

    def _look_out_for(self, onlooker: _Onlooker) -> _Lookout:
        loop = asyncio.get_running_loop()
        lookout = self._lookout
        if lookout is None or lookout.loop is not loop:
            lookout = self._lookout = _Lookout(loop)
        lookout.add(onlooker)
        return lookout

    def _begin(self, keys: Sequence[object]) -> list[_Flight]:
        """A flight of each key, or of none where there is no room for all."""
        if len(self) + len(keys) > self.places:
            raise HTTPException(503, "too many collections are under way", {"Retry-After": _RETRY_AFTER})
        flights = [_Flight(key) for key in keys]
        self._under_way |= zip(keys, flights, strict=True)
        return flights

    async def _fly(self, flight: _Flight, job: Job) -> Outcome:
        outcome: Outcome | Exception | None = None
        try:
            outcome = await job()
            return outcome
        except Exception as error:
            outcome = error
            raise
        finally:
            self._forget(flight)
            flight.land(outcome)

    def _leave(self, flight: _Flight) -> None:
        """One request less waits for it; nobody joins one that is being ended."""
        flight.waiting -= 1
        if not flight.waiting and self._forget(flight) and flight.pilot is not None:
            flight.pilot.cancel()

    def _forget(self, flight: _Flight) -> bool:
        known = self._under_way.get(flight.key) is flight
        if known:
            del self._under_way[flight.key]
        return known


def _forgive(task: asyncio.Task[Any] | None) -> None:
    """A cancellation that was ours and has done its work is not one of the task's."""
    if sys.version_info >= (3, 11) and task is not None:
        task.uncancel()
