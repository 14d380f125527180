"""A FastAPI router that collects on request: the shapes of the collector plan, made safe to expose.

::

    app.include_router(
        create_router(RouterSettings(allow=["10.1.0.0/16"], dependencies=[Depends(require_token)])),
        prefix="/api/v1",
    )

A caller may be anybody, a target may answer anything. So ``RouterSettings.allow`` says what may be scraped
at all, an answer holds numbers and never bytes of a target, and words of ours in the place of an error's.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response, params

from . import _core, _requests
from ._answers import (
    NOT_ALLOWED,
    NOT_KNOWN,
    NOT_REGISTERED,
    BatchResponse,
    Failure,
    FleetState,
    FleetWriter,
    JsonBytes,
    Outcome,
    batch_json,
    described,
    response_json,
    sentence,
    shown,
)
from ._flights import Flights, Job
from ._live import EventStream, Live
from ._own_page import CONTENT_TYPE, own_page
from ._requests import BatchRequest, CollectionRequest
from ._route import PlainRoute
from ._turns import Turns, in_turns
from ._version import __version__
from .collector import _Driver, _reason
from .collector import _SharingCollector as SGLangCollector
from .dashboard import add_dashboard
from .errors import TargetRefused
from .fleet import Fleet, Target, check_interval
from .models import MetricsCollectionResponse, SGLangMetricsSnapshot
from .options import DEFAULT_TIMEOUT, Limits, Path

__all__ = ["HOP_HEADER", "Instance", "RouterSettings", "create_app", "create_router"]

logger = logging.getLogger("sglang_collect")

HOP_HEADER = "X-SGLang-Collect-Hop"
"""Every scrape of a router carries it, and every router refuses a request that does."""

_HOP_HEADER = HOP_HEADER.lower().encode()  # as a server hands it over

_LOOK_INTERVAL = 2.0  # seconds, while somebody looks on and no other interval is set


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A server that the router knows by its ``instance_id``, with what is needed to ask it.

    Credentials are sent for this endpoint only, and never because a caller names another one.

    Attributes:
        endpoint: the whole URL of its metrics page.
        headers, bearer_token, basic_auth, ca_file, client_cert, verify: as for ``scrape``.
    """

    endpoint: str
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    bearer_token: str | None = field(default=None, repr=False)
    basic_auth: tuple[str, str] | None = field(default=None, repr=False)
    ca_file: Path | None = None
    client_cert: Path | tuple[Path, Path] | None = None
    verify: bool = True


@dataclass(frozen=True, kw_only=True)
class RouterSettings:
    """What a router may do.

    Attributes:
        allow: targets that a caller may name. ``"10.1.0.0/16:30000-30099"``, ``"127.0.0.1/32:1-65535"``,
            ``"sglang-*.svc:30000"``, ``"http://gpu1:30000/metrics"``; ``"*"`` is any address but those that
            are always denied. Ports 30000-30099 where none is given. Empty refuses every target.
        instances: servers by ``instance_id``, for which a caller may leave the endpoint out: a URL, or an
            ``Instance`` where credentials are needed. They need not be in ``allow``.
        timeout: seconds for a scrape whose caller names none.
        max_timeout: the most seconds that a caller gets; a higher wish becomes this.
        max_concurrent: connections open at once to targets that callers name, as many to ``instances``, and
            as many of ``GET /fleet``.
        max_queue: collections that may wait for one, within their own timeout; past that, 503. A batch takes
            as many places as it has targets.
        max_body_bytes: size of a page, in bytes, after decompression.
        watch_interval: seconds in which every instance is scraped once, all the time, so that ``GET /fleet``
            answers at once, ``GET /metrics`` is up to date and ``GET /fleet/events`` knows of the last
            minutes; it needs the application's lifespan. None: ``GET /fleet`` scrapes all of them when it
            is asked, and ``GET /fleet/events`` every 2 seconds while somebody looks on.
        max_viewers: streams of ``GET /fleet/events`` open at once; past that, 503.
        include_raw: fill ``raw_metrics``; with it the whole page of an allowed target leaves.
        dependencies: FastAPI dependencies of every route, such as ``Depends(require_token)``. They run
            before anything of the request's body is read.
    """

    allow: Sequence[str] = ()
    instances: Mapping[str, str | Instance] = field(default_factory=lambda: MappingProxyType({}))
    timeout: float = DEFAULT_TIMEOUT
    max_timeout: float = 30.0
    max_concurrent: int = 32
    max_queue: int = 64
    max_body_bytes: int = Limits.body_bytes
    watch_interval: float | None = None
    max_viewers: int = 64
    include_raw: bool = False
    dependencies: Sequence[params.Depends] = ()

    def __post_init__(self) -> None:
        if isinstance(self.allow, str):
            raise TypeError("allow is a list of entries, not one string")
        if not isinstance(self.instances, Mapping):
            raise TypeError(
                f"instances is a mapping of names to endpoints, not a {type(self.instances).__name__}"
            )
        for name, instance in self.instances.items():
            if not isinstance(instance, str | Instance):
                raise TypeError(f"instance {name!r} is a URL or an Instance, not {type(instance).__name__}")
        for dependency in self.dependencies:
            if not isinstance(dependency, params.Depends):
                raise TypeError(f"a dependency is Depends(...), not {type(dependency).__name__}")
        if self.max_concurrent < 1 or self.max_queue < 0 or self.max_viewers < 0:
            raise ValueError("max_concurrent is at least 1, max_queue and max_viewers at least 0")
        if self.watch_interval is not None:
            check_interval(self.watch_interval)


def create_router(settings: RouterSettings | None = None) -> APIRouter:
    """The routes of the collector plan, ``POST /collect/sglang`` and ``GET /metrics/sglang/{instance_id}``.

    Beside them: ``POST /collect/sglang/batch`` collects from many targets at once, ``GET /fleet`` tells of
    all registered instances, ``GET /fleet/events`` goes on telling of them, and ``GET /metrics`` is a metrics
    page about this service's own scrapes.

    Their connections are shared by all requests of a process, opened at the first one, and closed by the
    application's lifespan where one runs.

    Raises:
        ValueError: a setting cannot be used; it says which.
        ScrapeError: the URL or the certificate files of an instance cannot be used.
    """
    settings = settings or RouterSettings()
    if not settings.dependencies:
        logger.warning("the router has no dependencies: whoever reaches it may use it")
    service = _Service(settings)
    router = APIRouter(
        tags=["metrics"],
        dependencies=settings.dependencies,
        lifespan=service.lifespan,
        route_class=PlainRoute,
    )
    _add_collections(router, service)
    _add_fleet(router, service)
    return router


def _add_collections(router: APIRouter, service: _Service) -> None:
    """What is scraped for the one who asks."""

    @router.post(
        "/collect/sglang",
        response_model=MetricsCollectionResponse,
        responses=described(413, 422, 503, 508),
        openapi_extra=_requests.body_of(CollectionRequest),
    )
    async def collect_sglang_metrics(request: Request) -> Response:
        """Collect metrics from an SGLang instance: 200, whatever came of it."""
        _refuse_own_hop(request)
        asked = await _requests.posted(request, CollectionRequest, _requests.MAX_BYTES)
        outcome = await service.collect(service.wanted(asked, "body"), request)
        return JsonBytes(response_json(asked.instance_id, outcome))

    @router.post(
        "/collect/sglang/batch",
        response_model=BatchResponse,
        responses=described(413, 422, 503, 508),
        openapi_extra=_requests.body_of(BatchRequest),
    )
    async def collect_sglang_metrics_of_many(request: Request) -> Response:
        """Collect metrics from many SGLang instances at once: 200, whatever came of each, in their order."""
        _refuse_own_hop(request)
        most = service.places
        asked = await _requests.posted(request, BatchRequest, most * _requests.MAX_BYTES_OF_MANY)
        if len(asked.targets) > most:
            raise HTTPException(413, f"a batch has at most {most} targets")
        outcomes = await service.collect_known(asked.targets, request)
        names = [target.instance_id for target in asked.targets]
        return JsonBytes(batch_json(zip(names, outcomes, strict=True)))

    @router.get(
        "/metrics/sglang/{instance_id}",
        response_model=SGLangMetricsSnapshot,
        responses=described(403, 422, 500, 503, 508),
    )
    async def get_sglang_metrics(request: Request, instance_id: str, endpoint: str | None = None) -> Response:
        """Get the current metrics of an SGLang instance."""
        _refuse_own_hop(request)
        asked = _requests.asked(instance_id, endpoint)
        outcome = await service.collect(service.wanted(asked, "query"), request)
        if not isinstance(outcome, Failure):
            return JsonBytes(outcome)
        if outcome.refused:
            raise HTTPException(403, outcome.text)
        raise HTTPException(500, f"Failed to collect SGLang metrics: {outcome.text}")


def _add_fleet(router: APIRouter, service: _Service) -> None:
    """What is told of the registered instances, and of the service itself."""

    @router.get("/fleet", response_model=FleetState, responses=described(503, 508))
    async def get_fleet(request: Request) -> Response:
        """Get the state of all registered instances, and their aggregate."""
        _refuse_own_hop(request)
        return JsonBytes(await service.fleet_state(request))

    @router.get("/fleet/events", response_class=Response, responses=_EVENTS)
    async def get_fleet_events(request: Request, instance_id: str | None = None) -> Response:
        """Follow all registered instances, or one of them in depth, as server-sent events.

        The first event has everything, the later ones what has changed; the data of each is a JSON object.
        ``fleet`` events have a row for each instance: what its newest page says of now, and what happened in
        the last minute; and the same of all together, with the points of their charts. ``server`` events, of
        one instance, have the whole of its newest page beside it, and the points of its charts.
        """
        _refuse_own_hop(request)
        return service.events(instance_id)

    @router.get("/metrics", response_class=Response, responses=_OWN_PAGE)
    async def get_own_metrics(request: Request) -> Response:
        """Get what this service measures of its scrapes, as a metrics page."""
        _refuse_own_hop(request)
        return Response(await service.own_page(), headers={"Content-Type": CONTENT_TYPE})


_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {}}, "description": "Server-sent events"},
    **described(404, 503, 508),
}
_OWN_PAGE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {}}, "description": "Prometheus text format"},
    **described(508),
}


def create_app(settings: RouterSettings | None = None) -> FastAPI:
    """An application of its own: the router under ``/api/v1``, ``GET /health``, and a page for people."""
    app = FastAPI(title="sglang-collect", version=__version__)
    app.include_router(create_router(settings), prefix="/api/v1")
    add_dashboard(app)

    @app.get("/health", tags=["health"])
    async def health() -> dict[str, str]:
        """Is this service itself alive? Scrapes nothing."""
        return {"status": "ok"}

    return app


def _refuse_own_hop(request: Request) -> None:
    if _requests.header(request, _HOP_HEADER) is not None:
        raise HTTPException(508, "this request comes from a scrape of a router")


# ----------------------------------------------------------------- service


class _Way(NamedTuple):
    """Over which connections a target is asked, and how."""

    driver: _Driver
    endpoint: Callable[..., _core.Endpoint]


class _Wanted(NamedTuple):
    """One collection, its endpoint and its timeout settled."""

    instance_id: str
    endpoint: str
    timeout: float
    way: _Way


class _Service:
    """What the requests of one router share: settings, connections, and the collections under way.

    Targets that callers name and those that the operator registered have a driver each: an address that
    is allowed for the one is not therefore allowed for the other.
    """

    def __init__(self, settings: RouterSettings) -> None:
        self._settings = settings
        self._instances = {
            name: Instance(endpoint=instance) if isinstance(instance, str) else instance
            for name, instance in settings.instances.items()
        }
        self._limits = Limits(body_bytes=settings.max_body_bytes)
        self._named = _Driver(guard=_core.Guard(settings.allow), max_connections=settings.max_concurrent)
        self._registered = _Driver(max_connections=settings.max_concurrent)
        self._fleet: Fleet | None = None
        self._writer = FleetWriter()
        self._watched = False
        interval = settings.watch_interval or _LOOK_INTERVAL
        self._live = Live(
            self._instances,
            follow=partial(self._follow, interval),
            is_followed=lambda: self._watched,
            interval=interval,
            most=settings.max_viewers,
        )
        self._flights = Flights(self.places)
        self._collections: Counter[str] = Counter()
        self._way_of_named = self._way(self._named, {"headers": {HOP_HEADER: "1"}})
        self._ways = {
            name: self._way(self._registered, _options(instance))
            for name, instance in self._instances.items()
        }
        for timeout in (settings.timeout, settings.max_timeout):  # said now, not at the first request
            self._way_of_named.endpoint("https://localhost/", timeout=timeout)
        self._new_fleet()

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        interval = self._settings.watch_interval
        watching = None if interval is None else asyncio.create_task(self._watch(interval))
        try:
            yield
        finally:
            if watching is not None:
                watching.cancel()
                await asyncio.wait({watching})
            await self._live.aclose()
            if self._fleet is not None:
                await self._fleet.aclose()
                self._fleet = None
            await self._named.aclose()
            await self._registered.aclose()

    @property
    def places(self) -> int:
        """Collections that may be under way at once."""
        return self._settings.max_concurrent + self._settings.max_queue

    # ------------------------------------------------------------- collections

    def wanted(self, asked: CollectionRequest, place: str) -> _Wanted:
        """Settles what a request leaves open, or raises 422 where an endpoint is missing in that place."""
        wanted = self._settled(asked)
        if wanted is None:
            raise HTTPException(422, [{"type": "missing", "loc": [place, "endpoint"], "msg": NOT_KNOWN}])
        return wanted

    def _settled(self, asked: CollectionRequest) -> _Wanted | None:
        instance = self._instances.get(asked.instance_id)
        if instance is not None and asked.endpoint not in (None, instance.endpoint):
            instance = None
        endpoint = instance.endpoint if instance is not None else asked.endpoint
        if endpoint is None:
            return None
        timeout = asked.timeout if "timeout" in asked.model_fields_set else self._settings.timeout
        way = self._way_of_named if instance is None else self._ways[asked.instance_id]
        return _Wanted(asked.instance_id, endpoint, min(timeout, self._settings.max_timeout), way)

    async def collect(self, wanted: _Wanted, request: Request) -> Outcome:
        """The outcome of a collection, which equal requests at the same time share."""
        return await self._flights.one(*self._job(wanted), request)

    async def collect_known(self, asked: Sequence[CollectionRequest], request: Request) -> list[Outcome]:
        """As ``collect`` for many, where an instance that is not known is a failure among the others."""
        wanted = [self._settled(one) for one in asked]
        jobs = [self._job(one) for one in wanted if one is not None]
        outcomes = iter(await self._flights.all(jobs, request))
        return [Failure(NOT_KNOWN) if one is None else next(outcomes) for one in wanted]

    def _job(self, wanted: _Wanted) -> tuple[object, Job]:
        """A collection, and what makes another one equal to it."""
        return (asyncio.get_running_loop(), *wanted[:3]), partial(self._scrape, wanted)

    async def _scrape(self, wanted: _Wanted) -> Outcome:
        try:
            driver, endpoint = wanted.way
            async with SGLangCollector(driver, partial(endpoint, timeout=wanted.timeout)) as collector:
                snapshot = await collector.collect(instance_id=wanted.instance_id, endpoint=wanted.endpoint)
            outcome = snapshot.to_json(raw=self._settings.include_raw)
        except Exception as error:
            refused = isinstance(error, TargetRefused)
            self._collections["refused" if refused else _reason(error) or "internal"] += 1
            return self._failure(wanted.instance_id, error)
        self._collections["success"] += 1
        return outcome

    def _way(self, driver: _Driver, options: Mapping[str, Any]) -> _Way:
        headers = tuple(options["headers"].items())  # a driver keeps endpoints by their options
        given = {**options, "headers": headers, "limits": self._limits}
        return _Way(driver, partial(driver.endpoint, **given))

    def _failure(self, instance_id: str, error: Exception) -> Failure:
        """Logs it, in one record, and finds the words for the caller."""
        name = shown(instance_id)
        if isinstance(error, TargetRefused):
            hint = (
                "" if self._settings.allow else "; RouterSettings.allow is empty, so every target is refused"
            )
            logger.warning("the target of instance %s is refused: %s%s", name, error.reason, hint)
            return Failure(NOT_ALLOWED, refused=True)
        text = sentence(error)
        if text is None:
            text = f"internal error {secrets.token_hex(8)}"
            logger.error("instance %s: %s", name, text, exc_info=error)
        else:
            endpoint = shown(getattr(error, "endpoint", None) or "")
            logger.warning("collection from instance %s at %s failed: %s", name, endpoint, text)
        return Failure(text)

    # -------------------------------------------------------------------- fleet

    async def fleet_state(self, request: Request) -> bytes:
        """The state of all instances as JSON, after a sweep over them where they are not watched."""
        key = asyncio.get_running_loop(), "fleet"
        outcome = await self._flights.one(key, self._fleet_json, request)
        assert isinstance(outcome, bytes)
        return outcome

    async def own_page(self) -> bytes:
        return await in_turns(own_page(self._open_fleet(), self._collections))

    async def _fleet_json(self) -> bytes:
        fleet = self._open_fleet()
        if not self._watched:
            await fleet.ascrape()
        return await in_turns(self._writer.write(fleet))

    def events(self, instance_id: str | None) -> Response:
        """What happens to all instances, or to one, for as long as the client listens."""
        if instance_id is not None and instance_id not in self._instances:
            raise HTTPException(404, NOT_REGISTERED)
        return EventStream(self._live, instance_id)

    async def _watch(self, interval: float) -> None:
        """Keeps the fleet up to date for as long as the application runs."""
        self._watched = True
        try:
            await self._follow(interval)
        finally:
            self._watched = False

    async def _follow(self, interval: float) -> None:
        """Scrapes the fleet again and again, and logs who goes down."""
        try:
            async for results in self._open_fleet().watch(interval):
                turns = Turns()
                for result in results:
                    self._live.note(result)
                    await turns.next()
                    if result.error is not None and result.consecutive_failures == 1:
                        self._failure(result.target.instance_id, result.error)
        except Exception:
            logger.exception("the instances are not watched any more")

    def _open_fleet(self) -> Fleet:
        if self._fleet is None:
            self._fleet = self._new_fleet().__enter__()  # which blocks where there is discovery alone
        return self._fleet

    def _new_fleet(self) -> Fleet:
        settings = self._settings
        return Fleet(
            (
                Target(name, instance.endpoint, options=_options(instance))
                for name, instance in self._instances.items()
            ),
            timeout=min(settings.timeout, settings.max_timeout),
            limits=self._limits,
            max_connections=settings.max_concurrent,
        )


def _options(instance: Instance) -> dict[str, Any]:
    """How an instance is asked, as options of a collector or a target."""
    return {
        "headers": {**instance.headers, HOP_HEADER: "1"},
        "bearer_token": instance.bearer_token,
        "basic_auth": instance.basic_auth,
        "ca_file": instance.ca_file,
        "client_cert": instance.client_cert,
        "verify": instance.verify,
    }
