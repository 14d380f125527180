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
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, params
from fastapi.responses import JSONResponse
from pydantic import ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect

from . import _core
from ._version import __version__
from .collector import SGLangCollector, _Driver
from .errors import ExpositionError, LimitExceeded, ScrapeError, TargetRefused
from .models import MetricsCollectionRequest, MetricsCollectionResponse, SGLangMetricsSnapshot
from .options import DEFAULT_TIMEOUT, Limits, Path, make_endpoint

__all__ = ["HOP_HEADER", "Instance", "RouterSettings", "create_app", "create_router"]

logger = logging.getLogger("sglang_collect")

HOP_HEADER = "X-SGLang-Collect-Hop"
"""Every scrape of a router carries it, and every router refuses a request that does."""

_MAX_REQUEST_BYTES = 16 * 1024
_MAX_PROBLEMS = 10  # of one request that a 422 lists
_MAX_SHOWN = 200  # characters of somebody else's text in a log line
_RETRY_AFTER = "1"  # seconds
_CLIENT_GONE = 499  # what proxies call it; nobody reads this answer

_SENTENCES = {
    "connect_failed": "no connection to the target came about",
    "resolve_failed": "the name of the target did not resolve",
    "local_resource": "this service has no resources left to connect",
    "timeout_resolve": "the name of the target did not resolve in time",
    "timeout_connect": "no connection to the target came about in time",
    "timeout_tls": "the TLS handshake with the target did not end in time",
    "timeout_first_byte": "the target did not answer in time",
    "timeout_body": "the target did not send its whole page in time",
    "http_status": "the target answered with HTTP status {status}",
    "redirect": "the target answered with a redirect, which is not followed",
    "tls_expired": "the certificate of the target has expired",
    "tls_untrusted": "the certificate of the target is not trusted",
    "tls_hostname": "the certificate of the target is for another name",
    "tls_handshake": "the TLS handshake with the target failed",
    "tls_config": "the certificate files set for the target cannot be used",
    "not_exposition": "the target's answer is no metrics page",
    "malformed": "the target's page is malformed at line {line}, column {column}",
    "limit_exceeded": "the target's page exceeds the limit of {allowed} {limit}",
    "framing": "the target's answer is no valid HTTP",
    "truncated": "the target's page was cut off",
    "encoding": "the target's answer has an encoding that cannot be read",
    "headers_too_large": "the target's answer has too many headers",
    "reset": "the target reset the connection",
    "empty_reply": "the target closed the connection without an answer",
    "cancelled": "the collection was cancelled",
    "transfer": "the transfer failed",
    "out_of_memory": "this service is out of memory",
}
"""What a caller is told, by the reason of a scrape's failure."""


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
        max_concurrent: connections open at once to targets that callers name, and as many to ``instances``.
        max_queue: collections that may wait for one, within their own timeout; past that, 503.
        max_body_bytes: size of a page, in bytes, after decompression.
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
    include_raw: bool = False
    dependencies: Sequence[params.Depends] = ()

    def __post_init__(self) -> None:
        if isinstance(self.allow, str):
            raise TypeError("allow is a list of entries, not one string")
        if self.max_concurrent < 1 or self.max_queue < 0:
            raise ValueError("max_concurrent is at least 1 and max_queue at least 0")


def create_router(settings: RouterSettings | None = None) -> APIRouter:
    """The routes of the collector plan: ``POST /collect/sglang`` and ``GET /metrics/sglang/{instance_id}``.

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
        dependencies=[Depends(_refuse_own_hop), *settings.dependencies],
        lifespan=service.lifespan,
    )

    @router.post(
        "/collect/sglang",
        response_model=MetricsCollectionResponse,
        responses=_answers(404, 413, 422, 503, 508),
        openapi_extra={"requestBody": _REQUEST_BODY},
    )
    async def collect_sglang_metrics(request: Request) -> JSONResponse:
        """Collect metrics from an SGLang instance: 200, whatever came of it."""
        wanted = service.wanted(await _posted(request))
        outcome = await service.collect(wanted, request)
        failure = outcome if isinstance(outcome, _Failure) else None
        answer = MetricsCollectionResponse(
            success=failure is None,
            instance_id=wanted.instance_id,
            error=None if failure is None else failure.text,
        ).model_dump(mode="json")
        return JSONResponse(answer if failure else {**answer, "metrics": outcome})

    @router.get(
        "/metrics/sglang/{instance_id}",
        response_model=SGLangMetricsSnapshot,
        responses=_answers(403, 404, 500, 503, 508),
    )
    async def get_sglang_metrics(
        request: Request, instance_id: str, endpoint: str | None = None
    ) -> JSONResponse:
        """Get the current metrics of an SGLang instance."""
        outcome = await service.collect(service.wanted(_asked(instance_id, endpoint)), request)
        if not isinstance(outcome, _Failure):
            return JSONResponse(outcome)
        if outcome.refused:
            raise HTTPException(403, outcome.text)
        raise HTTPException(500, f"Failed to collect SGLang metrics: {outcome.text}")

    return router


def create_app(settings: RouterSettings | None = None) -> FastAPI:
    """An application of its own: the router under ``/api/v1``, and ``GET /health``."""
    app = FastAPI(title="sglang-collect", version=__version__)
    app.include_router(create_router(settings), prefix="/api/v1")

    @app.get("/health", tags=["health"])
    async def health() -> dict[str, str]:
        """Is this service itself alive? Scrapes nothing."""
        return {"status": "ok"}

    return app


# ---------------------------------------------------------------- requests


class _CollectionRequest(MetricsCollectionRequest):
    """The plan's request, as strict as a request from anybody has to be."""

    model_config = ConfigDict(extra="forbid", strict=True, title="MetricsCollectionRequest")

    instance_id: str = Field(..., min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")
    endpoint: str | None = Field(default=None, max_length=2048)


_REQUEST_BODY: dict[str, Any] = {
    "required": True,
    "content": {"application/json": {"schema": _CollectionRequest.model_json_schema()}},
}

_ANSWERS = {
    403: "The target is not allowed",
    404: "An instance that is not registered, and no endpoint",
    413: "The request is too large",
    422: "The request is malformed",
    500: "The collection failed",
    503: "Too many collections are under way",
    508: "The request comes from a scrape of a router",
}


def _answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": _ANSWERS[status]} for status in statuses}


async def _refuse_own_hop(request: Request) -> None:
    if HOP_HEADER in request.headers:
        raise HTTPException(508, "this request comes from a scrape of a router")


async def _posted(request: Request) -> _CollectionRequest:
    """The body, read here and not by FastAPI: after the dependencies, and no further than it may be long."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        problem = {
            "type": "content_type",
            "loc": ["header", "content-type"],
            "msg": "expected application/json",
        }
        raise HTTPException(422, [problem])
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_REQUEST_BYTES:
                raise HTTPException(413, f"a request has at most {_MAX_REQUEST_BYTES} bytes")
    except ClientDisconnect:
        raise HTTPException(400, "the request was cut off") from None
    try:
        return _CollectionRequest.model_validate_json(bytes(body))
    except ValidationError as error:
        raise _invalid(error, dict.fromkeys(_CollectionRequest.model_fields, "body")) from None


def _asked(instance_id: str, endpoint: str | None) -> _CollectionRequest:
    try:
        return _CollectionRequest(instance_id=instance_id, endpoint=endpoint)
    except ValidationError as error:
        raise _invalid(error, {"instance_id": "path", "endpoint": "query"}) from None


def _invalid(error: ValidationError, places: Mapping[str, str]) -> HTTPException:
    """422 as FastAPI says it, without a word of what came in: no values, and no names of unknown fields."""
    detail = []
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    for problem in problems[:_MAX_PROBLEMS]:
        name = str(problem["loc"][0]) if problem["loc"] else ""
        loc = [places[name], name] if name in places else ["body"]
        detail.append({"type": problem["type"], "loc": loc, "msg": problem["msg"]})
    return HTTPException(422, detail)


async def _gone(request: Request) -> None:
    """Returns when the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


# ----------------------------------------------------------------- answers


@dataclass(frozen=True)
class _Failure:
    """Why a collection gave nothing, in words for the caller."""

    text: str
    refused: bool = False


_Outcome = dict[str, Any] | _Failure
"""A snapshot as JSON has it, or why there is none."""


def _sentence(error: Exception) -> str | None:
    """What a caller may know of a failed scrape: words of ours, and numbers. None: it is no such thing."""
    if isinstance(error, ScrapeError):
        reason = error.reason
    elif isinstance(error, ExpositionError):
        reason = "malformed"
    elif isinstance(error, LimitExceeded):
        reason = "limit_exceeded"
    elif isinstance(error, MemoryError):
        reason = "out_of_memory"
    else:
        return None
    return f"{reason}: {_SENTENCES[reason].format_map(vars(error))}"


def _shown(text: str) -> str:
    """Somebody else's text for a log line: quoted, escaped and not too long."""
    return ascii(text[:_MAX_SHOWN])[:_MAX_SHOWN]


# ----------------------------------------------------------------- service


@dataclass(frozen=True)
class _Wanted:
    """One collection, its endpoint and its timeout settled."""

    instance_id: str
    endpoint: str
    timeout: float
    instance: Instance | None


class _Flight:
    """A collection under way and the number of requests that wait for it."""

    def __init__(self, task: asyncio.Task[_Outcome]) -> None:
        self.task = task
        self.waiting = 0


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
        self._flights: dict[object, _Flight] = {}
        self._collector(settings.timeout, None)  # what cannot work is said now, not at the first request
        self._collector(settings.max_timeout, None)
        for instance in self._instances.values():
            self._collector(settings.timeout, instance)
            make_endpoint(instance.endpoint)

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await self._named.aclose()
            await self._registered.aclose()

    def wanted(self, asked: _CollectionRequest) -> _Wanted:
        """Settles what a request leaves open, or raises 404."""
        instance = self._instances.get(asked.instance_id)
        if instance is not None and asked.endpoint not in (None, instance.endpoint):
            instance = None
        endpoint = instance.endpoint if instance is not None else asked.endpoint
        if endpoint is None:
            raise HTTPException(404, "unknown instance: name its endpoint")
        timeout = asked.timeout if "timeout" in asked.model_fields_set else self._settings.timeout
        return _Wanted(asked.instance_id, endpoint, min(timeout, self._settings.max_timeout), instance)

    async def collect(self, wanted: _Wanted, request: Request) -> _Outcome:
        """The outcome of one collection, which equal requests at the same time share.

        It ends early when the last client that waits for it hangs up. Raises 503 where too many are
        under way.
        """
        key = asyncio.get_running_loop(), wanted.instance_id, wanted.endpoint, wanted.timeout
        flight = self._flights.get(key)
        if flight is None:
            flight = self._start(key, wanted)
        gone = asyncio.ensure_future(_gone(request))
        flight.waiting += 1
        try:
            await asyncio.wait({flight.task, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            flight.waiting -= 1
            if not flight.waiting:
                self._forget(key, flight)
                flight.task.cancel()
        if flight.task.done():
            return flight.task.result()
        raise HTTPException(_CLIENT_GONE)

    def _start(self, key: object, wanted: _Wanted) -> _Flight:
        if len(self._flights) >= self._settings.max_concurrent + self._settings.max_queue:
            raise HTTPException(503, "too many collections are under way", {"Retry-After": _RETRY_AFTER})
        flight = _Flight(asyncio.create_task(self._scrape(wanted)))
        self._flights[key] = flight
        flight.task.add_done_callback(lambda _: self._forget(key, flight))
        return flight

    def _forget(self, key: object, flight: _Flight) -> None:
        """A collection that has ended, or is being ended, is not joined any more."""
        if self._flights.get(key) is flight:
            del self._flights[key]

    async def _scrape(self, wanted: _Wanted) -> _Outcome:
        try:
            async with self._collector(wanted.timeout, wanted.instance) as collector:
                snapshot = await collector.collect(instance_id=wanted.instance_id, endpoint=wanted.endpoint)
            if not self._settings.include_raw:
                snapshot.raw_metrics = []
            return snapshot.model_dump(mode="json")
        except Exception as error:
            return self._failure(wanted, error)

    def _collector(self, timeout: float, instance: Instance | None) -> SGLangCollector:
        if instance is None:
            return SGLangCollector(
                timeout=timeout, headers={HOP_HEADER: "1"}, limits=self._limits, driver=self._named
            )
        return SGLangCollector(
            timeout=timeout,
            headers={**instance.headers, HOP_HEADER: "1"},
            bearer_token=instance.bearer_token,
            basic_auth=instance.basic_auth,
            ca_file=instance.ca_file,
            client_cert=instance.client_cert,
            verify=instance.verify,
            limits=self._limits,
            driver=self._registered,
        )

    def _failure(self, wanted: _Wanted, error: Exception) -> _Failure:
        """Logs it, in one record, and finds the words for the caller."""
        name = _shown(wanted.instance_id)
        if isinstance(error, TargetRefused):
            hint = (
                "" if self._settings.allow else "; RouterSettings.allow is empty, so every target is refused"
            )
            logger.warning("the target of instance %s is refused: %s%s", name, error.reason, hint)
            return _Failure("target not allowed", refused=True)
        text = _sentence(error)
        if text is None:
            text = f"internal error {secrets.token_hex(8)}"
            logger.error("instance %s: %s", name, text, exc_info=error)
        else:
            endpoint = _shown(getattr(error, "endpoint", None) or "")
            logger.warning("collection from instance %s at %s failed: %s", name, endpoint, text)
        return _Failure(text)
