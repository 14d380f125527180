"""What is handed out: the snapshot of a server, and the messages of the HTTP interface.

The groups that a snapshot is made of are in ``groups``. Those of the plan (``request_metrics``,
``cache_metrics``, ``system_metrics``) hold plain numbers, 0 where a page has no source; ``absent`` names
those. In the native groups absent is None.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeVar

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
from pydantic_core import to_json

from . import _core
from ._numbers import group_numbers, native_json, native_numbers, plan_groups, plan_json
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
    "snapshot_of",
]

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


def _native_group(reading: Reading, name: str) -> Any:
    """A native group, or the list of ranks."""
    numbers = group_numbers(reading, name)
    if name == "ranks":
        return [SGLangRank.model_validate(row) for row in numbers]
    return NATIVE_GROUPS[name].model_validate(numbers)


class Source(Protocol):
    """What a snapshot was read from, kept for what is made when first read: a good ``Result``, or a ``Read``.

    It never changes, so that copies of a snapshot share it.
    """

    @property
    def fold(self) -> Any:
        """The page, folded by the catalogue's plan."""

    @property
    def page(self) -> _core.Page | None:
        """The page itself; None where it was let go."""

    @property
    def at(self) -> float | None:
        """When its scrape began, by ``time.monotonic()``; None where it is not of a scrape."""


class Read:
    """A page that was folded, whether it came of one scrape or not.

    Args:
        fold: the page, folded by the catalogue's plan.
        page: gives the page; None where it was let go.
        at: when its scrape began, by ``time.monotonic()``; None where it is not of a scrape.
    """

    __slots__ = ("_page", "at", "fold")

    def __init__(
        self, fold: _core.Fold, page: Callable[[], _core.Page] | None = None, at: float | None = None
    ) -> None:
        self.fold = fold
        self._page = page
        self.at = at

    @property
    def page(self) -> _core.Page | None:
        return None if self._page is None else self._page()

    def __deepcopy__(self, memo: dict[int, Any]) -> Read:
        return self


def _made(source: Source, name: str, timestamp: datetime) -> Any:
    """One of the fields that are made late."""
    reading = Reading(source.fold)
    if name == "raw_metrics":
        return [PrometheusMetric.model_validate(sample) for sample in _samples(source, timestamp)]
    if name == "notes":
        return sglang_fields.notes(reading)
    if name == "model_names":
        return list(reading.labels("model_name"))
    if name == "engine_type":
        return _engine_type(reading)
    if name == "models":
        folds = _folds(source, reading.labels("model_name"))
        return {
            model: SGLangModelMetrics.model_validate(native_numbers(fold)) for model, fold in folds.items()
        }
    return _native_group(reading, name)


def _folds(source: Source, names: Sequence[str]) -> dict[str, _core.Fold]:
    """What the page has of each of its models; all of it where it names one alone."""
    if len(names) == 1:
        return {names[0]: source.fold}
    page = source.page if len(names) <= sglang_fields.MAX_MODELS else None
    if page is None:
        return {}
    return {name: sglang.model_plan(name).fold(page) for name in names}


def _samples(source: Source, timestamp: datetime) -> list[dict[str, Any]]:
    """The fields of a ``PrometheusMetric`` for each of SGLang's samples."""
    page = source.page
    return [
        {
            "name": sample.name,
            "type": sample.family.type,
            "value": sample.value,
            "labels": sample.labels,
            "timestamp": _moment(sample.timestamp) or timestamp,
        }
        for sample in (page.samples if page is not None else ())
        if sample.name.startswith(sglang.PREFIXES)
    ]


def _is_of_one_page(source: Source) -> bool:
    """Is it no fold over the pages of several nodes?"""
    return type(source.fold) is _core.Fold


def _json(
    source: Source,
    *,
    timestamp: datetime,
    instance_id: str,
    endpoint: str,
    loads_timestamp: datetime | None = None,
    raw: bool,
) -> bytes:
    """A snapshot of which nothing has been made. The one model is written once."""
    reading = Reading(source.fold)
    names = reading.labels("model_name")
    head = to_json({"timestamp": timestamp, "instance_id": instance_id, "endpoint": endpoint})
    page = to_json(
        {
            "notes": sglang_fields.notes(reading),
            "model_names": names,
            "engine_type": _engine_type(reading),
            "loads_timestamp": loads_timestamp,
        }
    )
    plan = plan_json(source.fold)
    native = native_json(source.fold)
    models = b",".join(
        to_json(name) + b":" + (native if fold is source.fold else native_json(fold))
        for name, fold in _folds(source, names).items()
    )
    samples = to_json(_samples(source, timestamp), inf_nan_mode="null") if raw else b"[]"
    parts = (head[:-1], plan[1:-1], page[1:-1], native[1:-1], models, samples)
    return b'%b,%b,%b,%b,"models":{%b},"raw_metrics":%b}' % parts


def _engine_type(reading: Reading) -> str | None:
    return "+".join(reading.labels("engine_type")) or None


def _moment(seconds: float | None) -> datetime | None:
    """A sample's timestamp; None where it has none, or one that no calendar holds."""
    try:
        return None if seconds is None else _core.moment(seconds)
    except ValueError:
        return None


# ---------------------------------------------------------------- the snapshot

_OF_PLAN = (*PLAN_GROUPS, "absent")
_MADE_LATE = dict.fromkeys(  # in order
    (
        *_OF_PLAN,
        "notes",
        "model_names",
        "engine_type",
        *SGLangModelMetrics.model_fields,
        "models",
        "raw_metrics",
    )
)


_SET = ("timestamp", "instance_id", "endpoint")
_Mould = tuple[type[Any], dict[str, Any], tuple[str, ...], dict[str, Any] | None]


@functools.cache
def _mould(cls: type[SGLangMetricsSnapshot]) -> tuple[_Mould, dict[str, Any]]:
    """What snapshots of a class have in common before anything is made late; and their private attributes."""
    groups: dict[str, Any] = {group: {} for group in PLAN_GROUPS}
    made = cls.model_validate({"instance_id": "", "endpoint": "", **groups})
    fields = {name: value for name, value in vars(made).items() if name not in _MADE_LATE}
    return (cls, fields, _SET, made.__pydantic_extra__), _private(made)


def _private(snapshot: SGLangMetricsSnapshot) -> dict[str, Any]:
    """Its private attributes, which pydantic finds slowly."""
    return snapshot.__pydantic_private__ or {}


class SGLangMetricsSnapshot(Model):
    """Complete snapshot of SGLang metrics.

    A field of the plan's three groups that the page has no source for is 0 and listed in ``absent``. What
    follows ``absent`` says None (or nothing) where the page does. All but the first three fields is made when
    first read, so that a snapshot costs little until someone looks; dumps, comparisons and pickles make all
    of it.

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

    _source: Source | None = PrivateAttr(default=None)

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
            TypeError: ``timestamp`` is no datetime.
        """
        if not isinstance(timestamp, datetime | None):
            raise TypeError(f"timestamp must be a datetime, not {type(timestamp).__name__}")
        kept = data if isinstance(data, (bytes, str)) else bytes(data)
        source = Read(sglang.plan().fold(kept, format=format), partial(_core.parse, kept, format=format))
        if source.fold.found_nothing:
            refuse_gateway(source.page, endpoint=endpoint, elapsed=0.0)
        moment = _now() if timestamp is None else _as_utc(timestamp)
        return snapshot_of(cls, source, moment, instance_id, endpoint)

    def to_json(self, *, raw: bool = True) -> bytes:
        """The snapshot as ``model_dump_json()`` has it, in less time where nobody has read it before.

        Args:
            raw: with the samples of its page; else ``raw_metrics`` is empty.
        """
        source: Source | None = _private(self).get("_source")
        untouched = type(self) is SGLangMetricsSnapshot and self.__dict__.keys().isdisjoint(_MADE_LATE)
        if untouched and source is not None and _is_of_one_page(source):
            return _json(source, **self.__dict__, raw=raw)
        dumped = self if raw else self.model_copy(update={"raw_metrics": []})
        return dumped.model_dump_json().encode()

    def since(self, earlier: SGLangMetricsSnapshot) -> SGLangWindow:
        """What happened between an earlier snapshot of the same server and this one.

        Between two scrapes of one program, a clock that somebody sets changes nothing. A server that began
        again in between, or was replaced by another release or model, is counted from zero, and ``restarted``
        says so.

        Raises:
            ValueError: of another instance; not later; one of the two came out of JSON or a pickle; or the
                page is of several servers (the model gateway's), of which one came, left or began again.
            TypeError: it is no snapshot.
        """
        if not isinstance(earlier, SGLangMetricsSnapshot):
            raise TypeError(f"expected a snapshot, not {type(earlier).__name__}")
        from .window import between

        return between(earlier, self)

    if not TYPE_CHECKING:

        def __repr_args__(self) -> Any:
            _ = self.absent
            shown = dict(super().__repr_args__())
            return [(name, shown[name]) for name in type(self).model_fields if name in shown]

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


class _Late:
    """A field that is made when it is first read, and then stands in the object's ``__dict__`` as any other.

    ``__getattr__`` would do, but is called when all else has failed, which takes half as long as to make the
    plan's groups. The class itself does not have the attribute: pydantic would take it for a default.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, snapshot: SGLangMetricsSnapshot | None, cls: object = None) -> Any:
        private = None if snapshot is None else snapshot.__pydantic_private__
        if snapshot is None or private is None or (source := private["_source"]) is None:
            raise AttributeError(self._name)
        self._make(snapshot, source)
        return snapshot.__dict__[self._name]

    def _make(self, snapshot: SGLangMetricsSnapshot, source: Source) -> None:
        _core.add_fields(snapshot, {self._name: _made(source, self._name, snapshot.timestamp)})


class _OfPlan(_Late):
    """One of the plan's groups, which are made together, or ``absent``."""

    __slots__ = ()

    def _make(self, snapshot: SGLangMetricsSnapshot, source: Source) -> None:
        _core.add_fields(snapshot, plan_groups(source.fold))


class _RawMetrics(_Late):
    """``raw_metrics``, after which the page is not needed any more."""

    __slots__ = ()

    def _make(self, snapshot: SGLangMetricsSnapshot, source: Source) -> None:
        if len(snapshot.model_names) > 1:
            _ = snapshot.models  # which reads the page too
        super()._make(snapshot, source)
        snapshot._source = Read(source.fold, at=source.at)


for _name in _MADE_LATE:
    _kind = _OfPlan if _name in _OF_PLAN else _RawMetrics if _name == "raw_metrics" else _Late
    setattr(SGLangMetricsSnapshot, _name, _kind(_name))

_Snapshot = TypeVar("_Snapshot", bound=SGLangMetricsSnapshot)


def snapshot_of(
    cls: type[_Snapshot], source: Source, moment: datetime, instance_id: str, endpoint: str
) -> _Snapshot:
    """A snapshot taken at a moment, which is in UTC."""
    if not isinstance(instance_id, str):
        raise TypeError(f"instance_id must be a str, not {type(instance_id).__name__}")
    mould, private = _mould(cls)
    made: _Snapshot = _core.build(mould, (moment, instance_id, endpoint), {**private, "_source": source})
    return made


def reading_of(snapshot: SGLangMetricsSnapshot) -> Reading:
    """What a snapshot was read from; ValueError where it did not keep it."""
    return Reading(_source_of(snapshot).fold)


def seconds_between(earlier: SGLangMetricsSnapshot, later: SGLangMetricsSnapshot) -> float:
    """By the clock that nobody sets where both are of scrapes, else by their timestamps."""
    began, ended = _source_of(earlier).at, _source_of(later).at
    if began is None or ended is None:
        return (later.timestamp - earlier.timestamp).total_seconds()
    return ended - began


def _source_of(snapshot: SGLangMetricsSnapshot) -> Source:
    if snapshot._source is None:
        raise ValueError(
            f"this snapshot of {snapshot.instance_id!r} came out of JSON or a pickle, or was made by hand: "
            "a window needs what a snapshot was read from"
        )
    return snapshot._source


def snapshot_from_result(result: _core.Result, *, instance_id: str) -> SGLangMetricsSnapshot:
    """The snapshot of a good scrape that was folded by the catalogue's plan."""
    fold = result.fold
    assert fold is not None
    if fold.found_nothing:
        refuse_gateway(result.page, endpoint=result.endpoint.label, elapsed=result.elapsed)
    moment = _core.moment(result.started)
    return snapshot_of(SGLangMetricsSnapshot, result, moment, instance_id, result.endpoint.url)


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
