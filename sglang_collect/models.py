"""What is handed out: the snapshot of a server, and the messages of the HTTP interface.

The groups that a snapshot is made of are in ``groups``. Those of the plan (``request_metrics``,
``cache_metrics``, ``system_metrics``) hold plain numbers, 0 where a page has no source; ``absent`` names
those. In the native groups absent is None.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from . import _core
from .catalog import Field as CatalogField
from .catalog import Reading, sglang, sglang_fields
from .gateway import refuse_gateway
from .groups import (
    NATIVE_GROUPS,
    PLAN_GROUPS,
    Distribution,
    Model,
    SGLangCacheMetrics,
    SGLangDisaggregation,
    SGLangKVCache,
    SGLangLatency,
    SGLangLoRA,
    SGLangModelMetrics,
    SGLangOffload,
    SGLangQueues,
    SGLangRank,
    SGLangRequestMetrics,
    SGLangRequests,
    SGLangSpeculative,
    SGLangSystemMetrics,
    SGLangTokens,
    finite,
    nearest,
)

if TYPE_CHECKING:
    from typing_extensions import Self

    from .window import SGLangWindow

__all__ = [
    "Distribution",
    "MetricsCollectionRequest",
    "MetricsCollectionResponse",
    "PrometheusMetric",
    "SGLangCacheMetrics",
    "SGLangDisaggregation",
    "SGLangKVCache",
    "SGLangLatency",
    "SGLangLoRA",
    "SGLangMetricsSnapshot",
    "SGLangModelMetrics",
    "SGLangOffload",
    "SGLangQueues",
    "SGLangRank",
    "SGLangRequestMetrics",
    "SGLangRequests",
    "SGLangSpeculative",
    "SGLangSystemMetrics",
    "SGLangTokens",
    "reading_of",
    "snapshot_from_result",
]

logger = logging.getLogger("sglang_collect")

# ----------------------------------------------------------------------- types


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _as_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=timezone.utc) if moment.tzinfo is None else moment.astimezone(timezone.utc)


def _nan_for_none(value: object) -> object:
    return math.nan if value is None else value


Utc = Annotated[datetime, AfterValidator(_as_utc)]
AnyNumber = Annotated[
    float,
    BeforeValidator(_nan_for_none),
    PlainSerializer(finite, return_type=float | None, when_used="json"),
]


# -------------------------------------------------------------------- a sample


class PrometheusMetric(Model):
    """One sample of a page."""

    name: str
    """Of the sample, suffix included (``..._bucket``, ``..._sum``)"""
    type: Literal["unknown", "gauge", "counter", "stateset", "info", "histogram", "gaugehistogram", "summary"]
    """Of its family, by the words of OpenMetrics; unknown where no TYPE line gave one"""
    value: AnyNumber
    """May be NaN or infinite, which JSON cannot say: there it is null, and null is read as NaN"""
    labels: dict[str, str] = Field(default_factory=dict)
    """Label values by name"""
    timestamp: Utc = Field(default_factory=_now)
    """Its own where the page gives one, else the snapshot's; UTC"""

    def __eq__(self, other: object) -> bool:
        """Equal in every field, where NaN equals NaN."""
        if not isinstance(other, PrometheusMetric):
            return NotImplemented
        same_value = self.value == other.value or (math.isnan(self.value) and math.isnan(other.value))
        return same_value and (
            (self.name, self.type, self.labels, self.timestamp)
            == (other.name, other.type, other.labels, other.timestamp)
        )


# -------------------------------------------------- from a fold to the groups


@functools.cache
def _say_out_of_range(field: str) -> None:
    logger.warning("%s is infinite or out of range on a page, and taken as absent; this is said once", field)


def _group_fields(groups: dict[str, type[BaseModel]]) -> tuple[tuple[CatalogField, str, str, bool], ...]:
    """The catalogue's fields of these groups: each with its group, its name there, and is it an int?"""
    found = []
    for field in sglang_fields.FIELDS:
        group, name = field.name.split(".")
        if group in groups:
            found.append((field, group, name, groups[group].model_fields[name].annotation is int))
    return tuple(found)


_PLAN_FIELDS = _group_fields(PLAN_GROUPS)
_NATIVE_FIELDS = _group_fields(NATIVE_GROUPS)


def _plan_groups(fold: _core.Fold) -> tuple[dict[str, dict[str, float | int]], list[str]]:
    """The values of the plan's groups, and the names of the fields that the page has no source for."""
    reading = Reading(fold)
    values: dict[str, dict[str, float | int]] = {group: {} for group in PLAN_GROUPS}
    absent = []
    for field, group, name, whole in _PLAN_FIELDS:
        value = field.value(reading)
        number = None
        if isinstance(value, float):
            number = nearest(value) if whole else finite(value)
            if number is None:
                _say_out_of_range(field.name)
        if number is None:
            absent.append(field.name)
        else:
            values[group][name] = number
    return values, absent


def _native_group(reading: Reading, name: str) -> Any:
    """A native group, or the list of ranks."""
    if name == "ranks":
        return [SGLangRank.model_validate(row) for row in sglang_fields.ranks(reading)]
    values = {key: field.value(reading) for field, group, key, _ in _NATIVE_FIELDS if group == name}
    return NATIVE_GROUPS[name].model_validate(
        {
            key: Distribution.of(value) if isinstance(value, _core.Histogram) else value
            for key, value in values.items()
        }
    )


def _model_metrics(fold: _core.Fold) -> SGLangModelMetrics:
    reading = Reading(fold)
    return SGLangModelMetrics.model_validate(
        {name: _native_group(reading, name) for name in SGLangModelMetrics.model_fields}
    )


class _Source:
    """What a snapshot was read from, kept for what is made when first read. Never changes."""

    __slots__ = ("fold", "page")

    def __init__(self, fold: _core.Fold, page: Callable[[], _core.Page | None] | None) -> None:
        self.fold = fold
        self.page = page

    def __deepcopy__(self, memo: dict[int, Any]) -> _Source:
        return self

    def make(self, name: str, timestamp: datetime) -> Any:
        """The value of one of the fields that are made late."""
        reading = Reading(self.fold)
        if name == "raw_metrics":
            return self._raw_metrics(timestamp)
        if name == "notes":
            return sglang_fields.notes(reading)
        if name == "model_names":
            return reading.labels("model_name")
        if name == "engine_type":
            return "+".join(reading.labels("engine_type")) or None
        if name == "models":
            return self._models(reading.labels("model_name"))
        return _native_group(reading, name)

    def _models(self, names: list[str]) -> dict[str, SGLangModelMetrics]:
        """The groups of each model; those of the whole page where it names one alone."""
        if len(names) == 1:
            return {names[0]: _model_metrics(self.fold)}
        page = self.page() if self.page is not None and len(names) <= sglang_fields.MAX_MODELS else None
        if page is None:
            return {}
        return {name: _model_metrics(sglang.model_plan(name).fold(page)) for name in names}

    def _raw_metrics(self, timestamp: datetime) -> list[PrometheusMetric]:
        page = self.page() if self.page is not None else None
        return [
            PrometheusMetric.model_validate(
                {
                    "name": sample.name,
                    "type": sample.family.type,
                    "value": sample.value,
                    "labels": sample.labels,
                    "timestamp": _moment(sample.timestamp) or timestamp,
                }
            )
            for sample in (page.samples if page is not None else ())
            if sample.name.startswith(sglang.PREFIXES)
        ]


def _moment(seconds: float | None) -> datetime | None:
    """A sample's timestamp; None where it has none, or one that no calendar holds."""
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc)
    except (OverflowError, ValueError, OSError):
        return None


# ---------------------------------------------------------------- the snapshot

_MADE_LATE = (
    "notes",
    "model_names",
    "engine_type",
    *SGLangModelMetrics.model_fields,
    "models",
    "raw_metrics",
)


class SGLangMetricsSnapshot(Model):
    """Complete snapshot of SGLang metrics.

    A field of the plan's three groups that the page has no source for is 0 and listed in ``absent``. What
    follows ``absent`` says None (or nothing) where the page does, and is made when first read, so that a
    snapshot costs little until someone looks; dumps, comparisons and pickles make all of it.

    ``models`` has the native groups and the ranks of each model that the page names, by its name, whether
    it names one (a server) or several (the model gateway, servers that share a directory). Of one they are
    the snapshot's own. Of several, the snapshot's are all of them together, and a model has what carries
    its name: HTTP answers and evictions carry none, so they are in the snapshot alone, None in ``models``.
    Of more than 100 models there is none.

    A snapshot keeps what ``since`` needs, and the text of its page until ``raw_metrics`` is read. One that
    came out of JSON or a pickle has neither.
    """

    model_config = ConfigDict(protected_namespaces=())

    timestamp: Utc = Field(default_factory=_now)
    """When the scrape began, UTC"""
    instance_id: str
    """SGLang instance identifier"""
    endpoint: str
    """Metrics endpoint URL"""
    request_metrics: SGLangRequestMetrics
    """Requests, tokens and mean latencies since the server started; 0 where absent"""
    cache_metrics: SGLangCacheMetrics
    """The prefix cache; 0 where absent"""
    system_metrics: SGLangSystemMetrics
    """What the server does now; 0 where absent"""
    absent: list[str] = Field(default_factory=list)
    """Fields of the three groups above that the page has no source for"""
    notes: list[str] = Field(default_factory=list)
    """What a reader should know of this page"""
    model_names: list[str] = Field(default_factory=list)
    """Models the page names, sorted"""
    engine_type: str | None = None
    """unified, prefill, decode or dynamic; several joined by +"""
    loads_timestamp: Utc | None = None
    """Of when queues, kv_cache and ranks are where /v1/loads told them, UTC; else None"""
    latency: SGLangLatency = Field(default_factory=SGLangLatency)
    """How long requests have taken since the server started, in seconds"""
    tokens: SGLangTokens = Field(default_factory=SGLangTokens)
    """Tokens since the server started"""
    requests: SGLangRequests = Field(default_factory=SGLangRequests)
    """Requests since the server started"""
    kv_cache: SGLangKVCache = Field(default_factory=SGLangKVCache)
    """The KV cache, of all data-parallel groups together"""
    queues: SGLangQueues = Field(default_factory=SGLangQueues)
    """Where requests are now"""
    speculative: SGLangSpeculative = Field(default_factory=SGLangSpeculative)
    """Speculative decoding"""
    lora: SGLangLoRA = Field(default_factory=SGLangLoRA)
    """LoRA adapters"""
    disaggregation: SGLangDisaggregation = Field(default_factory=SGLangDisaggregation)
    """Between prefill and decode nodes"""
    offload: SGLangOffload = Field(default_factory=SGLangOffload)
    """KV cache in host memory"""
    ranks: list[SGLangRank] = Field(default_factory=list)
    """Data-parallel groups by number; empty where the page names none"""
    models: dict[str, SGLangModelMetrics] = Field(default_factory=dict)
    """The groups above by model name; see the class"""
    raw_metrics: list[PrometheusMetric] = Field(default_factory=list, repr=False)
    """Raw Prometheus metrics"""

    _source: _Source | None = PrivateAttr(default=None)

    @classmethod
    def from_text(
        cls,
        data: bytes | bytearray | memoryview | str,
        *,
        instance_id: str,
        endpoint: str = "",
        format: Literal["text", "openmetrics", "auto"] = "text",
        timestamp: datetime | None = None,
    ) -> Self:
        """A snapshot of a page that is already there.

        Args:
            data: the exposition.
            instance_id: which server it is of.
            endpoint: where it came from.
            format: how to read it; ``"auto"`` takes OpenMetrics where the last line is ``# EOF``.
            timestamp: when it was taken; now where None, UTC where it names no zone.

        Raises:
            ExpositionError: the page is malformed.
            LimitExceeded: the page is larger than the default ``Limits``.
            NotExposition: the page is the model gateway's of itself.
        """
        kept = data if isinstance(data, (bytes, str)) else bytes(data)
        fold, page = sglang.plan().fold(kept, format=format), lambda: _core.parse(kept, format=format)
        refuse_gateway(fold, page, endpoint=endpoint, elapsed=0.0)
        return cls._from_fold(
            fold,
            page,
            instance_id=instance_id,
            endpoint=endpoint,
            timestamp=_now() if timestamp is None else timestamp,
        )

    @classmethod
    def _from_fold(
        cls,
        fold: _core.Fold,
        page: Callable[[], _core.Page | None],
        *,
        instance_id: str,
        endpoint: str,
        timestamp: datetime,
    ) -> Self:
        values, absent = _plan_groups(fold)
        snapshot = cls(
            timestamp=timestamp,
            instance_id=instance_id,
            endpoint=endpoint,
            request_metrics=SGLangRequestMetrics.model_validate(values["request_metrics"]),
            cache_metrics=SGLangCacheMetrics.model_validate(values["cache_metrics"]),
            system_metrics=SGLangSystemMetrics.model_validate(values["system_metrics"]),
            absent=absent,
        )
        snapshot._source = _Source(fold, page)
        for name in _MADE_LATE:
            del vars(snapshot)[name]
        return snapshot

    def since(self, earlier: SGLangMetricsSnapshot) -> SGLangWindow:
        """What happened between an earlier snapshot of the same server and this one.

        A server that began again in between, or was replaced by another release or model, is counted from
        zero, and ``restarted`` says so.

        Raises:
            ValueError: of another instance; not later; one of the two came out of JSON or a pickle; or the
                page is of several servers (the model gateway's), of which one came, left or began again.
        """
        from .window import between

        return between(earlier, self)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in _MADE_LATE and (source := self._source) is not None:
                if name == "raw_metrics" and len(self.model_names) > 1:
                    _ = self.models  # which reads the page too
                value = self.__dict__.setdefault(name, source.make(name, self.timestamp))
                self.__pydantic_fields_set__.add(name)
                if name == "raw_metrics":
                    self._source = _Source(source.fold, None)  # the page is not needed any more
                return value
            return super().__getattr__(name)

    def _complete(self) -> Self:
        """Makes everything that is made late."""
        for name in _MADE_LATE:
            getattr(self, name)
        return self

    def __iter__(self) -> Any:
        return BaseModel.__iter__(self._complete())

    def __eq__(self, other: object) -> bool:
        """Equal in every field, whatever either came from."""
        if not isinstance(other, SGLangMetricsSnapshot):
            return NotImplemented
        return self._complete().__dict__ == other._complete().__dict__

    def __getstate__(self) -> dict[Any, Any]:
        return {**BaseModel.__getstate__(self._complete()), "__pydantic_private__": {"_source": None}}

    # Without a return annotation, which would replace the fields in the JSON schema.
    @model_serializer(mode="wrap")
    def _dump_complete(self, handler: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]
        dumped = handler(self._complete())
        return {name: dumped[name] for name in (*type(self).model_fields, *dumped) if name in dumped}


def reading_of(snapshot: SGLangMetricsSnapshot) -> Reading:
    """What a snapshot was read from; ValueError where it did not keep it."""
    if snapshot._source is None:
        raise ValueError(
            f"this snapshot of {snapshot.instance_id!r} came out of JSON or a pickle, or was made by hand: "
            "a window needs what a snapshot was read from"
        )
    return Reading(snapshot._source.fold)


def snapshot_from_result(result: _core.Result, *, instance_id: str, endpoint: str) -> SGLangMetricsSnapshot:
    """The snapshot of a good scrape that was folded by the catalogue's plan."""
    assert result.fold is not None
    refuse_gateway(result.fold, lambda: result.page, endpoint=result.endpoint.label, elapsed=result.elapsed)
    return SGLangMetricsSnapshot._from_fold(
        result.fold,
        lambda: result.page,
        instance_id=instance_id,
        endpoint=endpoint,
        timestamp=datetime.fromtimestamp(result.started, timezone.utc),
    )


# ------------------------------------------------------------------- messages


class MetricsCollectionRequest(Model):
    """A request to scrape one server."""

    instance_id: str = Field(min_length=1)
    """SGLang instance identifier"""
    endpoint: str | None = None
    """Metrics endpoint URL; may be left out for a registered instance"""
    timeout: float = Field(default=10, ge=0.001, le=3600)
    """Seconds the scrape may take"""


class MetricsCollectionResponse(Model):
    """Response from metrics collection."""

    success: bool
    """Collection success status"""
    instance_id: str
    """SGLang instance identifier"""
    timestamp: Utc = Field(default_factory=_now)
    """When the answer was made, UTC"""
    metrics: SGLangMetricsSnapshot | None = None
    """The snapshot; None where the collection failed"""
    error: str | None = None
    """Why the collection failed; None where it did not"""
