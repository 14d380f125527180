"""Who is in a fleet, which scrapes are under way, and who waits for them.

A scrape that somebody wants while one of that target is under way is that one: there is never more than one
of a target. What the drivers deliver, in their threads, becomes a ``ScrapeResult`` for all who wait.
"""

from __future__ import annotations

import threading
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

from . import _core
from ._result import Good, Outcome, ScrapeResult, outcome_of
from .collector import _Driver, _reason, _Ticket
from .options import Limits, make_endpoint

if TYPE_CHECKING:
    from .fleet import Target
    from .watch import Inbox

__all__ = ["Member", "Roster"]


class Member:
    """A target of a fleet, and what is known of it; the roster's lock is held to change anything."""

    def __init__(
        self, target: Target, options: Mapping[str, Any], *, driver: _Driver, number: int, found: bool
    ) -> None:
        if unknown := sorted(target.options.keys() - options.keys()):
            raise TypeError(f"target {target.instance_id!r}: no option of a target: {', '.join(unknown)}")
        options = {**options, **target.options}
        self.target = target
        self.endpoints = [make_endpoint(url, **options) for url in target.endpoints]
        self.limits: Limits = options["limits"] or Limits()
        self.driver = driver
        self.number = number  # of all that were ever added
        self.found = found  # by discovery
        self.gone = False
        self.flight: _Flight | None = None
        self.latest: ScrapeResult | None = None
        self.good: Good | None = None
        self.consecutive_failures = 0
        self.failures: Counter[str] = Counter()  # by reason


class _Flight:
    """A scrape of a target that is under way: a transfer for each of its endpoints."""

    __slots__ = ("ends", "inboxes", "member", "result", "tickets")

    def __init__(self, member: Member) -> None:
        self.member = member
        self.inboxes: list[Inbox] = []
        self.ends: list[Any] = [None] * len(member.endpoints)
        self.result: ScrapeResult | None = None  # once all have ended
        self.tickets: Sequence[_Ticket] = ()

    def cancel(self) -> None:
        for ticket in self.tickets:
            ticket.cancel()


class Roster:
    """The members of a fleet. Any thread may call any method."""

    def __init__(self, options: Mapping[str, Any], drivers: Sequence[_Driver]) -> None:
        self.version = 0  # changes whenever the members do
        self.closed = False
        self._options = options
        self._drivers = drivers
        self._members: dict[str, Member] = {}
        self._numbers = count()
        self._woken: weakref.WeakSet[Inbox] = weakref.WeakSet()
        self._made_lock, self._process = threading.Lock(), _core.process()

    @property
    def _lock(self) -> threading.Lock:
        """In a forked child another one: who held it is not there, nor are the scrapes under way."""
        if self._process != _core.process():
            self._made_lock, self._process = threading.Lock(), _core.process()
            for member in self._members.values():
                member.flight = None
        return self._made_lock

    # ----------------------------------------------------------------- members

    def members(self) -> list[Member]:
        """In the order of their coming."""
        with self._lock:
            return list(self._members.values())

    def add(self, target: Target, *, found: bool = False) -> None:
        """Raises ValueError where its name is taken, and what a bad endpoint or option raises."""
        number = next(self._numbers)
        driver = self._drivers[number % len(self._drivers)]
        member = Member(target, self._options, driver=driver, number=number, found=found)
        with self._lock:
            if target.instance_id in self._members:
                raise ValueError(f"two targets are called {target.instance_id!r}")
            self._members[target.instance_id] = member
        self._changed()

    def remove(self, instance_id: str) -> None:
        """Raises KeyError where there is none of that name. Its scrape under way ends as cancelled."""
        with self._lock:
            member = self._members.pop(instance_id)
            member.gone = True
            flight, member.flight = member.flight, None
        if flight is not None:
            flight.cancel()
        self._changed()

    def wakes(self, inbox: Inbox) -> None:
        """Has the inbox woken whenever the members change, for as long as it lives."""
        with self._lock:
            self._woken.add(inbox)

    def close(self) -> None:
        """From now on nothing is begun."""
        with self._lock:
            self.closed = True
        self._changed()

    def _changed(self) -> None:
        with self._lock:
            self.version += 1
            woken = list(self._woken)
        for inbox in woken:
            inbox.put([])

    # ----------------------------------------------------------------- flights

    def begin(self, members: Sequence[Member], inbox: Inbox) -> None:
        """Posts the next result of each to the inbox, of the scrape under way or of one begun now."""
        new: dict[_Driver, list[_Flight]] = {}
        with self._lock:
            if self.closed:
                raise RuntimeError("the fleet is closed")
            for member in members:
                if member.flight is None:
                    new.setdefault(member.driver, []).append(_Flight(member))
            for driver, flights in new.items():
                self._start(driver, flights)
            for member in members:
                if member.flight is not None:
                    member.flight.inboxes.append(inbox)

    def _start(self, driver: _Driver, flights: Sequence[_Flight]) -> None:
        """Starts all of them or none; none arrives while the lock is held."""
        jobs = [
            (endpoint, (flight, part))
            for flight in flights
            for part, endpoint in enumerate(flight.member.endpoints)
        ]
        tickets = iter(driver.submit_all(jobs, self._arrived))
        for flight in flights:
            flight.tickets = [next(tickets) for _ in flight.ends]
            flight.member.flight = flight

    def leave(self, inbox: Inbox) -> None:
        """Posts nothing to it any more, and ends what only it was waiting for."""
        for member in self.members():
            with self._lock:
                flight = member.flight
                if flight is None or inbox not in flight.inboxes:
                    continue
                flight.inboxes.remove(inbox)
                if flight.inboxes:
                    continue
                member.flight = None  # whoever comes now begins another
            flight.cancel()

    def _arrived(self, batch: list[tuple[Any, Any]]) -> None:
        """In a driver's thread: all transfers of a flight are of one driver.

        It may be called again, where it had no memory: then inboxes may get a result twice.
        """
        landing: list[tuple[_Flight, Outcome]] = []
        landed: list[_Flight] = []
        for (flight, part), end in batch:
            flight.ends[part] = end
            if None not in flight.ends:
                landed.append(flight)
                if flight.result is None:
                    member = flight.member
                    landing.append((flight, outcome_of(member.target, member.limits, flight.ends)))
        posts: dict[Inbox, list[_Flight]] = {}
        with self._lock:
            for flight, outcome in landing:
                self._land(flight, outcome)
            for flight in landed:
                for inbox in flight.inboxes:
                    posts.setdefault(inbox, []).append(flight)
        for inbox, flights in posts.items():
            inbox.put([(flight.member, flight.result) for flight in flights if flight.result is not None])
            for flight in flights:
                flight.inboxes.remove(inbox)

    def _land(self, flight: _Flight, outcome: Outcome) -> None:
        """Makes the result of a flight. One that we ended ourselves says nothing about its target."""
        member, error, before = flight.member, outcome.error, flight.member.good
        good = outcome.good or before
        reason = None if error is None else _reason(error) or "internal"
        cancelled = reason == "cancelled"
        failures = 0 if error is None else member.consecutive_failures + (not cancelled)
        result = ScrapeResult(
            member.target,
            error,
            failures,
            outcome.elapsed,
            outcome.started,
            good,
            before.without_page() if before is not None and error is None else None,
        )
        if reason is not None and not cancelled:
            member.failures[reason] += 1  # the last that takes memory
        flight.result = result
        if member.flight is flight:
            member.flight = None
        if not cancelled:
            member.latest = result
            member.good = good
            member.consecutive_failures = failures
