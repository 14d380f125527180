"""One server's snapshot: ``scrape`` waits for it, ``SGLangCollector`` awaits it.

Both are a submit and a wait on one ``_core.Scraper``. For asyncio and for fleets a thread does the waiting
(``_Driver``): it moves bytes and parses outside the GIL, and hands finished results out in batches.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from types import TracebackType
from typing import Any, TypeVar
from urllib.parse import urlsplit

from . import _core
from .catalog import sglang
from .errors import ExpositionError, LimitExceeded, ScrapeError
from .loads import add_loads, loads_url
from .models import SGLangMetricsSnapshot, snapshot_from_result
from .options import DEFAULT_TIMEOUT, Limits, Path, make_endpoint

__all__ = ["SGLangCollector", "scrape"]

logger = logging.getLogger("sglang_collect")

_MAX_ENDPOINTS = 1024  # prepared ones that a driver keeps
_JOIN_SECONDS = 2.0  # an interpreter that exits waits no longer for a driver's thread
_AT_ONCE = 16  # results that an event loop hears of before it does something else
_LACK = 0.01  # seconds until what had no memory is tried again


def scrape(
    url: str,
    *,
    instance_id: str | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    headers: Mapping[str, str] | None = None,
    bearer_token: str | None = None,
    basic_auth: tuple[str, str] | None = None,
    ca_file: Path | None = None,
    client_cert: Path | tuple[Path, Path] | None = None,
    verify: bool = True,
    limits: Limits | None = None,
    guard: _core.Guard | None = None,
) -> SGLangMetricsSnapshot:
    """Reads the metrics page of one SGLang server, once, and waits for it.

    The GIL is released meanwhile, and Ctrl-C ends it. Each call opens a connection of its own: whoever
    scrapes again and again keeps them with ``SGLangCollector`` or ``Fleet``.

    Args:
        url: the whole URL: ``"http://host:30000/metrics"``.
        instance_id: name of the server in the snapshot; None for ``host:port`` of the URL.
        timeout: seconds for the whole scrape, name resolution included; 0.001 to 3600.
        headers: more request headers.
        bearer_token: sent as ``Authorization: Bearer``.
        basic_auth: user name and password, in the place of a token.
        ca_file: PEM file of the authorities to trust in the place of the system's.
        client_cert: PEM file of certificate and key, or one file for each.
        verify: check the server's certificate and host name.
        limits: ceilings of the page.
        guard: which addresses may be connected to; None allows every one.

    Raises:
        ScrapeError: no page came; its subclasses and ``reason`` say why.
        ExpositionError: the page is malformed.
        LimitExceeded: the page is larger than ``limits`` allow.
        ValueError: an option is out of range.
    """
    endpoint = make_endpoint(
        url,
        timeout=timeout,
        headers=headers,
        bearer_token=bearer_token,
        basic_auth=basic_auth,
        ca_file=ca_file,
        client_cert=client_cert,
        verify=verify,
        limits=limits,
    )
    results: list[_core.Result] = []
    with _core.Scraper(guard=guard) as scraper:
        scraper.submit(endpoint, sglang.plan())
        while not results:
            results = scraper.wait()
    return _snapshot(results.pop(), _host_port(url) if instance_id is None else instance_id)


class SGLangCollector:
    """Reads metrics pages of SGLang servers without blocking the event loop.

        async with SGLangCollector(timeout=10) as collector:
            snapshot = await collector.collect(instance_id="sglang-001", endpoint="http://host:30000/metrics")

    Any number of ``collect`` calls may run at once. Connections are kept between them for as long as the
    collector is entered. The options are those of ``scrape``.

    Attributes:
        timeout: seconds that one scrape may take.

    Raises:
        ValueError: an option is out of range.
        TLSError: a certificate file cannot be used.
    """

    def __init__(
        self,
        timeout: float = DEFAULT_TIMEOUT,
        *,
        headers: Mapping[str, str] | None = None,
        bearer_token: str | None = None,
        basic_auth: tuple[str, str] | None = None,
        ca_file: Path | None = None,
        client_cert: Path | tuple[Path, Path] | None = None,
        verify: bool = True,
        limits: Limits | None = None,
        guard: _core.Guard | None = None,
    ) -> None:
        self.timeout = timeout
        self._driver = _Driver(guard=guard)
        self._endpoint: Callable[..., _core.Endpoint] = partial(
            self._driver.endpoint,
            timeout=timeout,
            headers=tuple((headers or {}).items()),
            bearer_token=bearer_token,
            basic_auth=basic_auth,
            ca_file=ca_file,
            client_cert=client_cert,
            verify=verify,
            limits=limits,
        )
        self._endpoint("https://localhost/")  # what cannot be used is an error here, not at the first collect
        self._entered = False

    async def __aenter__(self) -> SGLangCollector:
        if self._entered:
            raise RuntimeError("Collector is already in use.")
        self._entered = True
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._entered = False
        await self._driver.aclose()

    async def collect(self, instance_id: str, endpoint: str, *, loads: bool = False) -> SGLangMetricsSnapshot:
        """Reads one server's metrics page.

        Cancelling the task ends the transfer. Leaving the collector ends the calls still under way with
        ``ScrapeError`` and the reason ``"cancelled"``.

        Args:
            instance_id: name of the server in the snapshot.
            endpoint: the whole URL of its metrics page.
            loads: asks the server's ``/v1/loads`` at the same time, and has ``queues``, ``kv_cache`` and
                ``ranks`` from there (see ``SGLangMetricsSnapshot.loads_timestamp``). Where that fails they
                are the page's, and a note says why.

        Raises:
            RuntimeError: the collector is not entered.
            ScrapeError: no page came; its subclasses and ``reason`` say why.
            ExpositionError: the page is malformed.
            LimitExceeded: the page is larger than the collector's limits allow.
        """
        if not self._entered:
            raise RuntimeError("Collector not initialized. Use async context manager.")
        if not loads:
            return _snapshot(await self._result(endpoint), instance_id)
        report = asyncio.create_task(self._loads(endpoint))
        try:
            snapshot = _snapshot(await self._result(endpoint), instance_id)
            add_loads(snapshot, await report)
            return snapshot
        finally:
            report.cancel()

    async def _loads(self, endpoint: str) -> _core.Result:
        return await self._result(loads_url(endpoint), json=True)

    async def _result(self, endpoint: str, **options: Any) -> _core.Result:
        return await self._driver.result(self._endpoint(endpoint, **options))


class _SharingCollector(SGLangCollector):
    """A collector over a driver that is others' too, whom leaving it does not concern.

    What it has under way belongs to the tasks that wait for it.
    """

    def __init__(self, driver: _Driver, endpoint: Callable[..., _core.Endpoint]) -> None:
        self._driver = driver
        self._endpoint = endpoint
        self._entered = False

    async def __aexit__(self, *exc: object) -> None:
        self._entered = False


def _snapshot(result: _core.Result, instance_id: str) -> SGLangMetricsSnapshot:
    """The snapshot of a scrape that has ended, or its error raised.

    Neither is worth more than a DEBUG line: the caller has the snapshot or the exception.
    """
    error = result.error
    if error is not None:
        logger.debug("scrape failed: %s", error)
        try:
            raise error
        finally:
            del error, result  # its traceback holds this frame
    if logger.isEnabledFor(logging.DEBUG):
        label = result.endpoint.label
        logger.debug("scraped %s: %d bytes in %.3f s", label, result.wire_bytes, result.elapsed)
    return snapshot_from_result(result, instance_id=instance_id)


def _reason(error: Exception) -> str | None:
    """The slug of a failed scrape; None for an error that is none of it."""
    if isinstance(error, ScrapeError):
        return error.reason
    if isinstance(error, ExpositionError):
        return "malformed"
    if isinstance(error, LimitExceeded):
        return "limit_exceeded"
    return "out_of_memory" if isinstance(error, MemoryError) else None


def _host_port(url: str) -> str:
    """``host:port`` of a URL that has been checked, with the scheme's port where it names none."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# ------------------------------------------------------------------ driver

_T = TypeVar("_T")

_Batch = list[tuple[Any, Any]]
"""What was submitted as whose, each with its ``Result``, or with the error that ended the thread."""

_Deliver = Callable[[_Batch], None]
"""Takes a batch in the driver's thread, where it must not wait. Where it raises MemoryError it is called with
the same batch again, of which it may have taken a part."""


class _Driver:
    """A scraper and the thread that drives it, shared by collectors, fleets, event loops and threads.

    The thread starts with the first scrape and ends with ``aclose``, with the driver itself, or when the
    interpreter exits. A forked child gets an engine of its own at its first scrape: the parent's sockets
    are not ours there, and its locks may have been held when it forked.
    """

    def __init__(self, *, guard: _core.Guard | None = None, max_connections: int = 1000) -> None:
        self._guard = guard
        self._max_connections = max_connections
        self._engines: dict[int, _Engine] = {}  # by process
        self._loop: _Loop | None = None  # that was delivered to last
        self.endpoint: Callable[..., _core.Endpoint] = lru_cache(_MAX_ENDPOINTS)(_prepare)

    async def result(self, endpoint: _core.Endpoint) -> _core.Result:
        """What a scrape of the endpoint came to; cancelling the task ends the transfer."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[_core.Result] = loop.create_future()
        ticket = self.submit(endpoint, future, self._to(loop))
        try:
            return await future
        except BaseException:  # the task was cancelled, or is being thrown away
            ticket.cancel()
            raise

    def _to(self, loop: asyncio.AbstractEventLoop) -> _Loop:
        """The same object for the same loop, so that its results are handed over together."""
        known = self._loop
        if known is None or known.loop is not loop:
            known = self._loop = _Loop(loop)
        return known

    def submit(self, endpoint: _core.Endpoint, whose: Any, deliver: _Deliver) -> _Ticket:
        """Starts a scrape whose outcome goes to ``deliver``, in one call with others that ended then."""
        return self._engine().submit(endpoint, whose, deliver)

    def submit_all(self, jobs: Sequence[tuple[_core.Endpoint, Any]], deliver: _Deliver) -> list[_Ticket]:
        """Starts a scrape of each endpoint, or of none where that raises; see ``submit``."""
        return self._engine().submit_all(jobs, deliver)

    async def aclose(self) -> None:
        """Ends what is under way as ``"cancelled"`` and closes all connections; a later submit opens anew."""
        engine = self._engines.pop(_core.process(), None)
        if engine is not None:
            await engine.end()

    def close(self) -> None:
        """As ``aclose``, but blocks meanwhile."""
        engine = self._engines.pop(_core.process(), None)
        if engine is not None:
            engine.end_and_wait()

    def _engine(self) -> _Engine:
        process = _core.process()
        engine = self._engines.get(process)
        if engine is None:
            made = _Engine(self, self._engines, self._guard, self._max_connections)
            engine = self._engines.setdefault(process, made)
            if engine is not made:  # another thread was first
                made.stop()
        return engine


def _prepare(url: str, *, headers: tuple[tuple[str, str], ...], **options: Any) -> _core.Endpoint:
    """An endpoint from arguments that a cache can keep, since making one may read certificate files."""
    return make_endpoint(url, headers=dict(headers), **options)


class _Ticket:
    """One scrape under way."""

    __slots__ = ("_engine", "_id")

    def __init__(self, engine: _Engine, id: int) -> None:
        self._engine = engine
        self._id = id

    def cancel(self) -> None:
        """Ends the transfer; its outcome is then the error ``"cancelled"``, unless it was there before."""
        self._engine.cancel(self._id)


class _Engine:
    """What a driver has in one process: the scraper, its thread, and who waits for which result.

    ``_lock`` is held to submit, to look for waiters and to close, and never while waiting. ``stop`` does
    without it, since the garbage collector may call it in any thread at any moment; and a waiter that has its
    result is taken out without it, by the one thread that does so.
    """

    def __init__(
        self, owner: _Driver, engines: dict[int, _Engine], guard: _core.Guard | None, max_connections: int
    ) -> None:
        self._process = _core.process()
        self._engines = engines  # of the owner, who must not be kept alive
        self._scraper = _core.Scraper(guard=guard, max_connections=max_connections)
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[Any, _Deliver]] = {}
        self._at_end: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []
        self._stopping = self._ended = False
        # A daemon, so that the exit of the interpreter does not wait for an idle one; the finalizer, which
        # runs before anything is taken apart, ends it and waits all the same.
        self._thread = threading.Thread(target=self._run, name="sglang_collect", daemon=True)
        self._thread.start()
        self._finalizer = weakref.finalize(owner, self.stop)

    def submit(self, endpoint: _core.Endpoint, whose: Any, deliver: _Deliver) -> _Ticket:
        with self._lock:
            key = self._scraper.submit(endpoint, sglang.plan())
            try:
                self._waiting[key] = whose, deliver
            except BaseException:
                self.cancel(key)
                raise
        return _Ticket(self, key)

    def submit_all(self, jobs: Sequence[tuple[_core.Endpoint, Any]], deliver: _Deliver) -> list[_Ticket]:
        endpoints = [endpoint for endpoint, _ in jobs]
        with self._lock:
            keys = self._scraper.submit_all(endpoints, sglang.plan())
            try:
                for key, (_, whose) in zip(keys, jobs, strict=True):
                    self._waiting[key] = whose, deliver
            except BaseException:
                for key in keys:
                    self._waiting.pop(key, None)
                    self.cancel(key)
                raise
        return [_Ticket(self, key) for key in keys]

    def cancel(self, id: int) -> None:
        if self._process == _core.process():
            with suppress(RuntimeError):  # closed: nothing is under way
                self._scraper.cancel(id)

    async def end(self) -> None:
        """Stops the thread and waits until it has closed every connection."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._lock:
            if self._ended:
                return
            self._at_end.append((loop, done))
        self._signal()
        await done

    def end_and_wait(self) -> None:
        self._signal()
        self._thread.join()

    def stop(self) -> None:
        """Stops and waits a little, when nobody is left to hear of what was under way.

        In a forked child it does nothing, since the thread is not there.
        """
        if self._process == _core.process():
            self._waiting.clear()
            self._signal()
            if threading.get_ident() != self._thread.ident:
                self._thread.join(_JOIN_SECONDS)

    def _signal(self) -> None:
        self._stopping = True
        with suppress(RuntimeError):  # closed
            self._scraper.wake()

    # What follows runs in the thread.

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._step()
            while not self._closed():
                self._scraper.cancel()
                self._hand_out(self._scraper.wait(1.0))
        except BaseException as error:
            while not self._has_failed(error):
                time.sleep(_LACK)
        while not self._has_ended():
            time.sleep(_LACK)

    def _step(self) -> None:
        try:
            self._hand_out(self._scraper.attend())
        except MemoryError as error:  # some results are lost, and it is not known which
            while not self._has_ended_all(error):
                time.sleep(_LACK)

    def _hand_out(self, results: list[_core.Result]) -> None:
        while not self._has_handed_out(results):
            time.sleep(_LACK)

    # Whoever waits must hear of the end, so that what there is no memory for is done again: these say whether
    # there was, and to call them again does no harm.

    def _has_handed_out(self, results: list[_core.Result]) -> bool:
        """Gives everybody who waits their results, in one call each."""
        batches: dict[_Deliver, _Batch] = {}
        try:
            with self._lock:
                for result in results:
                    waiter = self._waiting.get(result.id)
                    if waiter is not None:
                        batches.setdefault(waiter[1], []).append((waiter[0], result))
            for deliver, batch in batches.items():
                deliver(batch)
            for result in results:
                self._waiting.pop(result.id, None)
        except MemoryError:
            return False
        return True

    def _closed(self) -> bool:
        """Closes the scraper if nothing is under way; from then on a submit raises."""
        with self._lock:
            if not self._scraper.pending:
                self._scraper.close()
                self._ended = True
            return self._ended

    def _has_ended_all(self, error: BaseException) -> bool:
        """Ends everything under way with this error."""
        try:
            with self._lock:
                waiting = list(self._waiting.items())
                if not self._ended:
                    self._scraper.cancel()
            for key, (whose, deliver) in waiting:
                deliver([(whose, error)])
                self._waiting.pop(key, None)
        except MemoryError:
            return False
        return True

    def _has_failed(self, error: BaseException) -> bool:
        """Ends everything with this error, and has the driver make a new engine for the next scrape."""
        try:
            with self._lock:
                if self._engines.get(self._process) is self:
                    del self._engines[self._process]
                self._scraper.close()
                is_news, self._ended = not self._ended, True
            if is_news:
                logger.error("the thread that scrapes has failed", exc_info=error)
        except MemoryError:
            return False
        return self._has_ended_all(error)

    def _has_ended(self) -> bool:
        """Tells those who wait for the end of the thread."""
        try:
            self._finalizer.detach()
            for loop, done in self._at_end:
                _call(loop, _settle, [(done, None)])
        except MemoryError:
            return False
        return True


@dataclass(frozen=True)
class _Loop:
    """Delivers to an event loop, where the outcomes become those of futures."""

    loop: asyncio.AbstractEventLoop

    def __call__(self, batch: _Batch) -> None:
        _call(self.loop, _settle, batch)


def _call(loop: asyncio.AbstractEventLoop, callback: Callable[[_T], None], argument: _T) -> None:
    """Has the loop run it, once there is memory; in a loop that was closed meanwhile nobody waits."""
    while True:
        try:
            loop.call_soon_threadsafe(callback, argument)
        except MemoryError:
            time.sleep(_LACK)
            continue
        except RuntimeError:
            pass
        return


def _settle(batch: _Batch) -> None:
    """Others have their turns after a few: who waits for one goes on at once, and may have much to do."""
    for future, outcome in batch[:_AT_ONCE]:
        while not future.done():
            try:
                if isinstance(outcome, BaseException):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
            except MemoryError:
                time.sleep(_LACK)
    if rest := batch[_AT_ONCE:]:
        _call(rest[0][0].get_loop(), _settle, rest)
