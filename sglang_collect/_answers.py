"""What the router answers: words of ours in the place of an error's, and JSON that is written once."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from fastapi import Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from ._result import ScrapeResult
from .aggregate import FleetAggregate, aggregating
from .collector import _reason
from .fleet import Fleet
from .groups import SGLangCacheMetrics, SGLangRequestMetrics, SGLangSystemMetrics
from .models import MetricsCollectionResponse
from .window import SGLangWindow

__all__ = [
    "NOT_ALLOWED",
    "NOT_KNOWN",
    "NOT_REGISTERED",
    "SENTENCES",
    "BatchResponse",
    "Failure",
    "FleetState",
    "FleetWriter",
    "JsonBytes",
    "Outcome",
    "batch_json",
    "described",
    "response_json",
    "sentence",
    "shown",
]

_MAX_SHOWN = 200  # characters of somebody else's text in a log line

NOT_ALLOWED = "target not allowed"
NOT_KNOWN = "unknown instance: name its endpoint"
NOT_REGISTERED = "unknown instance"

SENTENCES = {
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

_DESCRIPTIONS = {
    403: "The target is not allowed",
    404: "An instance that is not registered",
    413: "The request is too large",
    422: "The request is malformed, or names neither an endpoint nor a registered instance",
    500: "The collection failed",
    503: "Too many collections are under way",
    508: "The request comes from a scrape of a router",
}


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Statuses of a route, for the document that FastAPI makes."""
    return {status: {"description": _DESCRIPTIONS[status]} for status in statuses}


# ----------------------------------------------------------------- collections


@dataclass(frozen=True)
class Failure:
    """Why a collection gave nothing, in words for the caller."""

    text: str
    refused: bool = False


Outcome = bytes | Failure
"""What is asked for as JSON, or why it is not there."""


def sentence(error: Exception) -> str | None:
    """What a caller may know of a failed scrape: words of ours, and numbers. None: it is no such thing."""
    reason = _reason(error)
    words = SENTENCES.get(reason) if reason is not None else None
    return None if words is None else f"{reason}: {words.format_map(vars(error))}"


def shown(text: str) -> str:
    """Somebody else's text for a log line: quoted, escaped and not too long."""
    return ascii(text[:_MAX_SHOWN])[:_MAX_SHOWN]


class BatchResponse(BaseModel):
    """The answers to a batch, in the order of its targets."""

    results: list[MetricsCollectionResponse]


class JsonBytes(Response):
    """An answer that is JSON already, and has no headers but those; Starlette's own looks at each."""

    media_type = "application/json"

    def init_headers(self, headers: Mapping[str, str] | None = None) -> None:
        length = str(len(self.body)).encode()
        self.raw_headers = [(b"content-length", length), (b"content-type", b"application/json")]


def response_json(instance_id: str, outcome: Outcome) -> bytes:
    """A ``MetricsCollectionResponse``; the snapshot in it is JSON already."""
    error = outcome.text if isinstance(outcome, Failure) else None
    metrics = b"null" if isinstance(outcome, Failure) else outcome
    answer = {
        "success": error is None,
        "instance_id": instance_id,
        "timestamp": datetime.now(timezone.utc),
        "error": error,
    }
    return b'%b,"metrics":%b}' % (to_json(answer)[:-1], metrics)


def batch_json(outcomes: Iterable[tuple[str, Outcome]]) -> bytes:
    """A ``BatchResponse`` of names and outcomes."""
    return b'{"results":[' + b",".join(response_json(name, outcome) for name, outcome in outcomes) + b"]}"


# ----------------------------------------------------------------------- fleet


class LastMetrics(BaseModel):
    """The plan's groups of a target's newest snapshot."""

    timestamp: datetime = Field(description="When its scrape began, UTC")
    request_metrics: SGLangRequestMetrics
    cache_metrics: SGLangCacheMetrics
    system_metrics: SGLangSystemMetrics
    absent: list[str] = Field(description="Fields that the page has no source for")


class TargetState(BaseModel):
    """A target of the fleet. All but the name is None, or nothing, before its first scrape."""

    instance_id: str
    up: bool = Field(default=False, description="Was its newest scrape good?")
    error: str | None = Field(default=None, description="Why not")
    consecutive_failures: int = Field(default=0, description="Failed scrapes up to now")
    started: datetime | None = Field(default=None, description="When the newest scrape began, UTC")
    elapsed: float | None = Field(default=None, description="Seconds it took")
    age: float | None = Field(default=None, description="Seconds since the scrape of `last` began")
    last: LastMetrics | None = Field(default=None, description="The newest good scrape")
    window: SGLangWindow | None = Field(default=None, description="From the good scrape before to this one")


class FleetState(BaseModel):
    """Every registered instance, and all of them as one."""

    timestamp: datetime = Field(description="When it was made, UTC")
    targets: list[TargetState]
    aggregate: FleetAggregate


class FleetWriter:
    """Writes the ``FleetState`` of a fleet, and keeps what it wrote of each result.

    Only ages change without a new result.
    """

    def __init__(self) -> None:
        self._kept: dict[str, tuple[ScrapeResult | None, bytes, bytes]] = {}

    def write(self, fleet: Fleet) -> Generator[bytes | None, None, None]:
        """The JSON in parts, and None in between where one would take long."""
        latest, before, kept = fleet.latest, self._kept, {}
        yield b'{"timestamp":%b,"targets":[' % to_json(datetime.now(timezone.utc))
        for number, target in enumerate(fleet.targets):
            name = target.instance_id
            result = latest.get(name)
            known = before.get(name)
            if known is None or known[0] is not result:
                known = (result, *_state_json(name, result))
            kept[name] = known
            age = to_json(None if result is None else result.age)
            yield b"%b%b%b%b" % (b"," if number else b"", known[1], age, known[2])
        self._kept = kept
        aggregate = yield from aggregating(*fleet._folds())
        yield b'],"aggregate":%b}' % aggregate.model_dump_json().encode()


def _state_json(instance_id: str, result: ScrapeResult | None) -> tuple[bytes, bytes]:
    """A ``TargetState``: what comes before the number that is its age, and what comes after."""
    head: dict[str, Any] = {"instance_id": instance_id, "up": False, "error": None}
    head |= {"consecutive_failures": 0, "started": None, "elapsed": None}
    tail: dict[str, Any] = {"last": None, "window": None}
    if result is not None:
        error = result.error
        head["up"] = result.up
        head["error"] = None if error is None else sentence(error) or "internal error"
        head["consecutive_failures"] = result.consecutive_failures
        head["started"], head["elapsed"] = result.started, result.elapsed
        tail = {"last": result._last_record(), "window": result.window}
    return to_json(head)[:-1] + b',"age":', b"," + to_json(tail)[1:]
