"""A server's ``/v1/loads`` (v0.5.8): what each data-parallel group holds and has to do, as of now.

The metrics page tells what schedulers last reported, up to 30 s ago; this answer, in JSON, tells what is.
``overlay`` puts it over the queues, the KV cache and the ranks of a snapshot. Throughput and the queues
``grammar`` and ``paused`` are of the last report here too.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from .groups import SGLangRank

if TYPE_CHECKING:
    from . import _core
    from .models import SGLangMetricsSnapshot

__all__ = ["add_loads", "LoadReport", "RankLoad", "loads_url", "overlay", "parse_loads"]


@dataclass(frozen=True)
class RankLoad:
    """The load of one data-parallel group, in the words of the snapshot. None where the answer is silent.

    ``dp_rank`` is None on a server without data parallelism that names no rank.
    """

    dp_rank: int | None = None
    running: int | None = None
    waiting: int | None = None
    backlog: int | None = None
    grammar: int | None = None
    paused: int | None = None
    prefill_bootstrap: int | None = None
    prefill_inflight: int | None = None
    decode_prealloc: int | None = None
    decode_transfer: int | None = None
    used_tokens: int | None = None
    capacity_tokens: int | None = None
    token_usage: float | None = None
    gen_throughput: float | None = None

    @property
    def usage_ratio(self) -> float | None:
        return _ratio(self.used_tokens, self.capacity_tokens, self.token_usage)


@dataclass(frozen=True)
class LoadReport:
    """One answer.

    Attributes:
        age: seconds that its oldest load was old when the server answered, by the server's clock.
        ranks: one for each data-parallel group, by number.
    """

    age: float
    ranks: tuple[RankLoad, ...]


def loads_url(endpoint: str) -> str:
    """Where the server of this metrics page answers it."""
    parts = urlsplit(endpoint)
    return urlunsplit((parts.scheme, parts.netloc, "/v1/loads", "", ""))


# --------------------------------------------------------------------- reading


class _Fields:
    """A JSON object of which fields of one type are asked. A missing field is None, another type an error."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where} is {_kind(value)}, expected an object")
        self.where = where
        self.fields = value

    def _get(self, name: str, kinds: tuple[type, ...], expected: str) -> Any:
        value = self.fields.get(name)
        if value is None or type(value) in kinds:
            return value
        raise ValueError(f"{self.where}.{name} is {_kind(value)}, expected {expected}")

    def count(self, name: str) -> int | None:
        value: int | None = self._get(name, (int,), "an integer")
        if value is not None and not 0 <= value < 2**63:
            raise ValueError(f"{self.where}.{name} is out of range")
        return value

    def number(self, name: str) -> float | None:
        """A number; None too where no float holds it."""
        value = self._get(name, (int, float), "a number")
        return float(value) if value is not None and abs(value) <= sys.float_info.max else None

    def text(self, name: str) -> str | None:
        value: str | None = self._get(name, (str,), "a string")
        return value

    def list(self, name: str) -> list[object]:
        value: list[object] = self._get(name, (list,), "a list") or []
        return value

    def section(self, name: str) -> _Fields:
        """A part that an answer may leave out, which then has no field."""
        value = self.fields.get(name)
        return _Fields({} if value is None else value, f"{self.where}.{name}")


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def parse_loads(body: bytes) -> LoadReport:
    """Reads an answer in the shapes of v0.5.8 to v0.5.18; whatever else it holds is left alone.

    Raises:
        ValueError: it is no such answer; the message says where.
    """
    try:
        answer = _Fields(json.loads(body), "answer")
    except RecursionError:
        raise ValueError("answer is nested too deeply") from None
    loads = [_Fields(load, f"loads[{i}]") for i, load in enumerate(answer.list("loads"))]
    if not loads:
        raise ValueError("answer has no loads")
    ranks = sorted(map(_rank_load, loads), key=lambda rank: -1 if rank.dp_rank is None else rank.dp_rank)
    numbers = [rank.dp_rank for rank in ranks]
    if len(set(numbers)) < len(numbers):
        raise ValueError("answer has several loads of one dp_rank")
    return LoadReport(
        _age(answer.text("timestamp"), [load.number("timestamp") for load in loads]), tuple(ranks)
    )


def _rank_load(load: _Fields) -> RankLoad:
    queues, partners = load.section("queues"), load.section("disaggregation")
    prefills, decodes = (partners.text("mode") == mode for mode in ("prefill", "decode"))
    waiting, grammar = load.count("num_waiting_reqs"), queues.count("grammar")
    bootstrap = partners.count("prefill_bootstrap_queue_reqs")
    if bootstrap is None:
        bootstrap = partners.count("prefill_prealloc_queue_reqs")  # to v0.5.11
    inflight = partners.count("prefill_inflight_queue_reqs")
    return RankLoad(
        dp_rank=load.count("dp_rank"),
        running=load.count("num_running_reqs"),
        # The first number has the queues of disaggregation in it, the requests in flight excepted.
        waiting=queues.count("waiting") if prefills or decodes else waiting,
        backlog=None if waiting is None else waiting + (grammar or 0) + (inflight or 0),
        grammar=grammar,
        paused=queues.count("paused"),
        prefill_bootstrap=bootstrap if prefills else None,
        prefill_inflight=inflight if prefills else None,
        decode_prealloc=partners.count("decode_prealloc_queue_reqs") if decodes else None,
        decode_transfer=partners.count("decode_transfer_queue_reqs") if decodes else None,
        used_tokens=load.count("num_used_tokens"),
        capacity_tokens=load.count("max_total_num_tokens"),
        token_usage=load.number("token_usage"),
        gen_throughput=load.number("gen_throughput"),
    )


def _age(answered: str | None, made: Sequence[float | None]) -> float:
    """Seconds from the oldest load to the answer; 0 where the answer does not tell (before v0.5.13)."""
    oldest = min((moment for moment in made if moment), default=None)
    if answered is None or oldest is None:
        return 0.0
    try:
        when = datetime.fromisoformat(answered.replace("Z", "+00:00"))
    except ValueError:
        raise ValueError("answer.timestamp is no time") from None
    return max(0.0, when.replace(tzinfo=when.tzinfo or timezone.utc).timestamp() - oldest)


# --------------------------------------------------------------------- overlay


def add_loads(snapshot: SGLangMetricsSnapshot, result: _core.Result) -> None:
    """Puts what a server answered over the snapshot of its page, or a note there why it did not."""
    why = "" if result.error is None else str(result.error)
    if result.body is not None:
        try:
            report = parse_loads(bytes(result.body))
            overlay(snapshot, report, asked=datetime.fromtimestamp(result.started, timezone.utc))
        except ValueError as error:
            why = f"{result.endpoint.label}: {error}"
    if why:
        snapshot.notes = [*snapshot.notes, f"loads not read: {why}"]


def overlay(snapshot: SGLangMetricsSnapshot, report: LoadReport, *, asked: datetime) -> None:
    """Puts a report over ``queues``, ``kv_cache`` and ``ranks``; ``loads_timestamp`` is of when it is then.

    What the report does not tell stays as the page has it. ``ranks`` are then the groups of the report: one
    that the page alone has is of a process that has ended.
    """
    ranks = report.ranks
    used, capacity = _total(ranks, "used_tokens"), _total(ranks, "capacity_tokens")
    usages = [rank.token_usage for rank in ranks if rank.token_usage is not None]
    usage = _ratio(used, capacity, sum(usages) / len(usages) if len(usages) == len(ranks) else None)
    snapshot.queues = snapshot.queues.model_copy(
        update=_told((name, _total(ranks, name)) for name in type(snapshot.queues).model_fields)
    )
    snapshot.kv_cache = snapshot.kv_cache.model_copy(
        update=_told([("used_tokens", used), ("capacity_tokens", capacity), ("usage_ratio", usage)])
    )
    if ranks[0].dp_rank is not None:
        before = {rank.dp_rank: rank for rank in snapshot.ranks}
        snapshot.ranks = [
            before.get(rank.dp_rank, SGLangRank(dp_rank=rank.dp_rank)).model_copy(
                update=_told((name, getattr(rank, name)) for name in SGLangRank.model_fields)
            )
            for rank in ranks
            if rank.dp_rank is not None
        ]
    snapshot.loads_timestamp = asked - timedelta(seconds=report.age)


def _told(values: Iterable[tuple[str, Any]]) -> Mapping[str, Any]:
    return {name: value for name, value in values if value is not None}


def _total(ranks: Sequence[RankLoad], name: str) -> int | None:
    """The sum over all groups; None where one of them does not tell."""
    values = [getattr(rank, name) for rank in ranks]
    return None if None in values else sum(values)


def _ratio(used: int | None, capacity: int | None, other: float | None) -> float | None:
    return used / capacity if used is not None and capacity else other
