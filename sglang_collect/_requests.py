"""What the router is asked: read no further than allowed, and refused without repeating a word of it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeVar

from fastapi import HTTPException, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .models import MetricsCollectionRequest

__all__ = ["BatchRequest", "CollectionRequest", "asked", "body_of", "gone", "header", "posted"]

MAX_BYTES = 16 * 1024
"""Of a request for one collection."""

MAX_BYTES_OF_MANY = 4 * 1024
"""Of a request for many, for each that there may be."""

_MAX_PROBLEMS = 10  # of one request that a 422 lists


class CollectionRequest(MetricsCollectionRequest):
    """The plan's request, as strict as a request from anybody has to be."""

    model_config = ConfigDict(extra="forbid", strict=True, title="MetricsCollectionRequest")

    instance_id: str = Field(..., min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")
    endpoint: str | None = Field(default=None, max_length=2048)


class BatchRequest(BaseModel):
    """Many collections at once."""

    model_config = ConfigDict(extra="forbid", strict=True)

    targets: list[CollectionRequest] = Field(..., min_length=1, description="What to collect, in this order")


_Asked = TypeVar("_Asked", CollectionRequest, BatchRequest)

_NAMES = frozenset({*CollectionRequest.model_fields, *BatchRequest.model_fields})


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """The body of a request, for the document that FastAPI makes."""
    schema = model.model_json_schema()
    for definition in schema.pop("$defs", {}).values():
        schema["properties"]["targets"]["items"] = definition
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def header(request: Request, name: bytes) -> bytes | None:
    """The first one of that name, which is in lower case; None where there is none."""
    for known, value in request.scope["headers"]:
        if known == name:
            return bytes(value)
    return None


async def posted(request: Request, model: type[_Asked], most: int) -> _Asked:
    """The body, read here and not by FastAPI: after the dependencies, and no further than it may be long."""
    kind = header(request, b"content-type")
    if kind is None or kind.partition(b";")[0].strip().lower() != b"application/json":
        problem = {
            "type": "content_type",
            "loc": ["header", "content-type"],
            "msg": "expected application/json",
        }
        raise HTTPException(422, [problem])
    body, more = bytearray(), True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise HTTPException(400, "the request was cut off")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > most:
            raise HTTPException(413, f"a request has at most {most} bytes")
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise _invalid(error, body=_NAMES) from None


def asked(instance_id: str, endpoint: str | None) -> CollectionRequest:
    """What path and query ask for."""
    try:
        return CollectionRequest(instance_id=instance_id, endpoint=endpoint)
    except ValidationError as error:
        raise _invalid(error, path={"instance_id"}, query={"endpoint"}) from None


def _invalid(error: ValidationError, **places: Collection[str]) -> HTTPException:
    """422 as FastAPI says it, without a word of what came in: no values, and no names of unknown fields."""
    detail = []
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    for problem in problems[:_MAX_PROBLEMS]:
        known = [part for part in problem["loc"] if isinstance(part, int) or part in _NAMES]
        place = next((place for place, names in places.items() if known and known[0] in names), "body")
        detail.append({"type": problem["type"], "loc": [place, *known], "msg": problem["msg"]})
    return HTTPException(422, detail)


async def gone(request: Request) -> None:
    """Returns when the client has hung up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
