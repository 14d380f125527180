"""Many servers: one sweep over all of them, or a watch that reads each again and again.

A ``Fleet`` is what its programs see. Behind it, ``_roster`` knows the targets and the scrapes under way,
which the drivers of ``collector`` carry out, ``_result`` what came of one, and ``watch`` when each is due.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from . import _core
from ._result import ScrapeResult
from ._roster import Roster
from .collector import _Driver
from .options import DEFAULT_TIMEOUT, Limits, Path, make_endpoint
from .watch import Inbox, Sweep, Watch

if TYPE_CHECKING:
    from .aggregate import FleetAggregate
    from .discovery import Discovery, Refresher

__all__ = ["Fleet", "ScrapeResult", "Target"]


@dataclass(frozen=True)
class Target:
    """A server of a fleet.

    A server of several nodes has an endpoint for each: since v0.4.9.post5 every node shows the ranks that
    run on it. Such a server is read whole or not at all. Its pages become one snapshot as if one page held
    the series of all, by the rules of the catalogue: requests and tokens of the nodes add up, and ranks of
    one data-parallel group that are spread over nodes are still counted once.

    Attributes:
        instance_id: its name, which no other target of the fleet has.
        endpoint: the whole URL of its metrics page, or one for each of its nodes, the first node's first.
        labels: what else is known of it; a fleet only carries them along.
        options: keyword options of ``scrape`` that differ from the fleet's, ``guard`` excepted:
            ``{"bearer_token": "..."}``.

    Raises:
        ValueError: it has no name, or no endpoint.
        TypeError: one of them is no text, or its labels or options are no mapping.
    """

    instance_id: str
    endpoint: str | Sequence[str]
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    options: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.endpoint, str) and isinstance(self.endpoint, Iterable):
            object.__setattr__(self, "endpoint", tuple(self.endpoint))
        given = self.endpoint if isinstance(self.endpoint, tuple) else (self.endpoint,)
        for text in (self.instance_id, *given):
            if not isinstance(text, str):
                raise TypeError(f"a target's name and endpoints are texts, not {type(text).__name__}")
        for mapping in (self.labels, self.options):
            if not isinstance(mapping, Mapping):
                raise TypeError(f"a target's labels and options are mappings, not a {type(mapping).__name__}")
        if not self.instance_id or not self.endpoints or not all(self.endpoints):
            raise ValueError("a target has a name and at least one endpoint")

    @property
    def endpoints(self) -> tuple[str, ...]:
        """``endpoint`` as a tuple, whichever way it was given."""
        return (self.endpoint,) if isinstance(self.endpoint, str) else tuple(self.endpoint)


def check_interval(interval: float) -> None:
    """Raises ValueError where no watch can keep it."""
    if not 0.01 <= interval <= 86_400:
        raise ValueError("an interval is 0.01 to 86400 seconds")


class Fleet:
    """Reads the metrics pages of many SGLang servers, with one thread or a few for all of them.

        with sc.Fleet([sc.Target("sglang-001", "http://host:30000/metrics"), ...], timeout=2.0) as fleet:
            results = fleet.scrape()
            for results in fleet.watch(interval=1.0): ...  # or async for

    It is entered once, with ``with`` or ``async with``. Then any thread may call its methods, and any number
    of sweeps and watches go on at once: where two want a target at the same time, they share the scrape. A
    forked child goes on with connections of its own, and new watches.

    The options that are not explained here are those of ``scrape``; a target may have options of its own.

    Args:
        targets: the servers, each with a name of its own.
        max_connections: open at once; what is over that waits, within its timeout.
        scrapers: threads that move bytes and read pages. One serves thousands of targets; several are for
            machines with cores to spare.
        discovery: where more targets come from, read on entering and then from a thread of its own; see
            ``sglang_collect.discovery``.

    Raises:
        ValueError: an option is out of range, or two targets have one name.
        TargetRefused: the URL of a target cannot be scraped.
        TLSError: a certificate file cannot be used.
    """

    def __init__(
        self,
        targets: Iterable[Target] = (),
        *,
        timeout: float = DEFAULT_TIMEOUT,
        headers: Mapping[str, str] | None = None,
        bearer_token: str | None = None,
        basic_auth: tuple[str, str] | None = None,
        ca_file: Path | None = None,
        client_cert: Path | tuple[Path, Path] | None = None,
        verify: bool = True,
        limits: Limits | None = None,
        guard: _core.Guard | None = None,
        max_connections: int = 1000,
        scrapers: int = 1,
        discovery: Iterable[Discovery] = (),
    ) -> None:
        if not 1 <= scrapers <= max_connections:
            raise ValueError("a fleet has at least one scraper, and at least one connection for each")
        options: dict[str, Any] = {
            "timeout": timeout,
            "headers": headers,
            "bearer_token": bearer_token,
            "basic_auth": basic_auth,
            "ca_file": ca_file,
            "client_cert": client_cert,
            "verify": verify,
            "limits": limits,
        }
        make_endpoint("https://localhost/", **options)  # what cannot be used is an error here
        self._drivers = [
            _Driver(guard=guard, max_connections=(max_connections + n) // scrapers) for n in range(scrapers)
        ]
        self._roster = Roster(options, self._drivers)
        self._sources = list(discovery)
        self._refresher: Refresher | None = None
        self._state: Literal["new", "open", "closed"] = "new"
        for target in targets:
            self.add(target)

    # --------------------------------------------------------------------- life

    def __enter__(self) -> Fleet:
        self._open()
        if self._refresher is not None:
            self._refresher.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Fleet:
        self._open()
        if self._refresher is not None:
            await asyncio.to_thread(self._refresher.start)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def close(self) -> None:
        """Ends what is under way as ``"cancelled"`` and closes all connections. Again: nothing."""
        self._shut()
        for driver in self._drivers:
            driver.close()

    async def aclose(self) -> None:
        """As ``close``, without blocking the event loop."""
        self._shut()
        for driver in self._drivers:
            await driver.aclose()

    def _open(self) -> None:
        if self._state != "new":
            raise RuntimeError("a fleet is entered once")
        self._state = "open"
        if self._sources:
            from .discovery import Refresher

            self._refresher = Refresher(self._sources, self._roster)

    def _shut(self) -> None:
        self._state = "closed"
        if self._refresher is not None:
            self._refresher.stop()
        self._roster.close()

    def _check_open(self) -> None:
        if self._state != "open":
            raise RuntimeError(
                "the fleet is closed" if self._state == "closed" else "the fleet is not entered"
            )

    # ------------------------------------------------------------------ targets

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets, those of discovery among them, in the order of results."""
        return tuple(member.target for member in self._roster.members())

    def add(self, target: Target) -> None:
        """Adds a target, also while a watch goes on.

        Raises:
            ValueError: an option is out of range, or its name is taken.
            TargetRefused: its URL cannot be scraped.
            TLSError: a certificate file cannot be used.
            TypeError: it is no ``Target``, or one of its options is none.
        """
        if not isinstance(target, Target):
            raise TypeError(f"expected a Target, not {type(target).__name__}")
        self._roster.add(target)

    def remove(self, instance_id: str) -> None:
        """Removes a target, also while a watch goes on; a scrape of it that is under way is ended.

        Raises:
            KeyError: there is none of that name.
        """
        self._roster.remove(instance_id)

    # ------------------------------------------------------------------ scrapes

    def scrape(self) -> list[ScrapeResult]:
        """Reads every target once, all at the same time, and waits for them.

        Returns:
            A result for each target, in their order, whatever came of it.

        Raises:
            RuntimeError: the fleet is not entered, or closed.
        """
        self._check_open()
        inbox = Inbox()
        try:
            sweep = Sweep(self._roster, inbox)
            while sweep.missing:
                sweep.take(inbox.wait())
        except BaseException:
            self._roster.leave(inbox)
            raise
        return sweep.results()

    async def ascrape(self) -> list[ScrapeResult]:
        """As ``scrape``, without blocking the event loop."""
        self._check_open()
        inbox = Inbox()
        try:
            sweep = Sweep(self._roster, inbox)
            while sweep.missing:
                sweep.take(await inbox.wait_in_loop())
        except GeneratorExit:  # thrown away, maybe in a thread that has the roster's lock
            raise
        except BaseException:
            self._roster.leave(inbox)
            raise
        return sweep.results()

    def watch(self, interval: float = 1.0) -> Watch:
        """Reads every target once an interval, for as long as somebody iterates: ``for`` or ``async for``.

        It gives lists of results as they come, never an empty one and at most one in 10 ms. The scrapes of
        different targets are spread over the interval, and a slow target holds up no other: it is left out
        until its scrape has ended. One that fails is asked more and more seldom, down to every 10 s (or two
        intervals, where that is longer), until it answers again. Targets may come and go meanwhile.

        Nothing is started while the iterating program is busy with a batch.

        Args:
            interval: seconds, 0.01 to 86400.

        Raises:
            RuntimeError: the fleet is not entered, or closed.
            ValueError: the interval is out of range.
        """
        self._check_open()
        check_interval(interval)
        return Watch(self._roster, interval)

    # -------------------------------------------------------------- what is known

    @property
    def latest(self) -> dict[str, ScrapeResult]:
        """The newest result of every target that has one, by name, in the order of ``targets``."""
        return {
            member.target.instance_id: member.latest
            for member in self._roster.members()
            if member.latest is not None
        }

    @property
    def failures(self) -> dict[str, dict[str, int]]:
        """Failed scrapes of every target since it was added, by reason."""
        return {member.target.instance_id: dict(member.failures) for member in self._roster.members()}

    def aggregate(self, *, max_age: float = math.inf) -> FleetAggregate:
        """All servers as one, of their newest snapshots.

        A target is left out, and counted as stale, where its newest scrape failed, where its snapshot is
        older than ``max_age`` seconds, and where there is none yet.
        """
        from .aggregate import aggregate

        return aggregate(*self._folds(max_age))

    def _folds(self, max_age: float = math.inf) -> tuple[list[_core.Fold], list[str]]:
        """The pages that an aggregate is of, and the names of the targets that it leaves out."""
        folds: list[_core.Fold] = []
        stale: list[str] = []
        for member in self._roster.members():
            result = member.latest
            fold = None if result is None else result._fold_within(max_age)
            if fold is None:
                stale.append(member.target.instance_id)
            else:
                folds.append(fold)
        return folds, stale
