"""Writes prometheus/rules.yml and grafana/sglang-dashboard.json.

    python tools/make_prometheus.py [FOLDER]

Both say the same numbers in PromQL, by the rules of the catalogue: ``each`` adds up series that are parts
of a whole, ``ranks`` takes one of the series that repeat each other (of a data-parallel group) and adds up
the groups. PromQL cannot name the series of the lowest rank, so it is the largest, which is the same number
as long as the ranks agree. Names are matched with a colon and with an underscore, which newer releases of
prometheus_client write in its place when they are asked for OpenMetrics, as a Prometheus does.

A test writes both files again and compares, and has a Prometheus evaluate every expression.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent

# --------------------------------------------------------------------- PromQL

_PREFIX = "sglang[:_]"
_RANKS = "tp_rank, pp_rank, moe_ep_rank, pid"
_NOT_GENERATING = "/(metrics|health|v1/models|v1/loads|get_load|ping).*|.*_info"
_QUEUES = "queue|grammar_queue|prefill_(bootstrap|inflight)_queue|decode_(prealloc|transfer)_queue"
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True)
class Promql:
    """Writes expressions: for which servers, over which time, and what is told apart.

    Attributes:
        servers: matchers of every selector; "" where all servers are meant.
        window: the range of rates.
        by: the labels that stay.
    """

    servers: str = ""
    window: str = "5m"
    by: str = "job, instance"

    def _series(self, name: str, *where: str) -> str:
        matchers = ", ".join(filter(None, (f'__name__=~"{_PREFIX}{name}"', self.servers, *where)))
        return f"{{{matchers}}}"

    def _added(self, what: str, *also: str) -> str:
        labels = ", ".join(filter(None, (self.by, *also)))
        return f"sum by ({labels}) ({what})" if labels else f"sum({what})"

    def each(self, name: str, *where: str, also: str = "") -> str:
        """Counters whose series are parts of a whole: how much a second."""
        return self._added(f"rate({self._series(name, *where)}[{self.window}])", also)

    def ranks(self, name: str, *where: str, also: str = "") -> str:
        """Gauges that the ranks of a group repeat."""
        series = self._series(name, 'priority=""', *where)
        return self._added(f"max without ({_RANKS}) ({series})", also)

    def ranks_rate(self, name: str, *where: str, also: str = "") -> str:
        """Counters that the ranks of a group repeat: how much a second."""
        series = self._series(name, 'priority=""', *where)
        return self._added(f"max without ({_RANKS}) (rate({series}[{self.window}]))", also)

    # The numbers of a snapshot and of a window, by their names there.

    @property
    def running(self) -> str:
        return self.ranks("num_running_reqs")

    @property
    def backlog(self) -> str:
        return self._added(self._queues)

    @property
    def by_queue(self) -> str:
        return self._added(self._queues, "queue")

    @property
    def _queues(self) -> str:
        """Every queue, its name as a label, since `max` loses that of the metric."""
        series = self._series(f"num_({_QUEUES})_reqs", 'priority=""')
        name = ".*num_(.+)_queue_reqs|.*num_(queue)_reqs"
        named = f'label_replace({series}, "queue", "$1$2", "__name__", "{name}")'
        return f"max without ({_RANKS}) ({named})"

    @property
    def usage_ratio(self) -> str:
        return f"{self.ranks('num_used_tokens')} / {self.ranks('max_total_num_tokens')}"

    @property
    def requests_per_second(self) -> str:
        return self.each("num_requests_total")

    @property
    def failures_per_second(self) -> str:
        """Answers 5xx of paths that generate, and requests that disaggregation lost; 0 where none failed."""
        answers = self._series("http_responses_total", 'status_code=~"5.."', f'endpoint!~"{_NOT_GENERATING}"')
        rates = [f"rate({answers}[{self.window}])"]
        for what in ("bootstrap", "transfer"):
            series = self._series(f"num_{what}_failed_reqs_total", 'priority=""')
            lost = f"rate({series}[{self.window}])"
            rates.append(f'label_replace(max without ({_RANKS}) ({lost}), "lost", "{what}", "", "")')
        rates.append(f"0 * rate({self._series('num_requests_total')}[{self.window}])")
        return self._added(" or ".join(rates))

    @property
    def aborts_per_second(self) -> str:
        return self.each("num_aborted_requests_total")

    @property
    def retractions_per_second(self) -> str:
        return self.ranks_rate("num_retracted_requests_total")

    @property
    def responses_by_class(self) -> str:
        rates = f"rate({self._series('http_responses_total')}[{self.window}])"
        return self._added(f'label_replace({rates}, "class", "${{1}}xx", "status_code", "(.)..")', "class")

    @property
    def generation_tokens_per_second(self) -> str:
        """As they come; of servers before v0.5.7 by the count of the time between tokens."""
        one = self._of_one_server
        live = one.ranks_rate("realtime_tokens_total", 'mode="decode"')
        return self._added(f"{live} or {one.each('inter_token_latency_seconds_count')}")

    @property
    def prompt_tokens_per_second(self) -> str:
        """As they are processed; of servers before v0.5.7 when their request has finished."""
        one = self._of_one_server
        live = one.ranks_rate("realtime_tokens_total", 'mode=~"prefill_.*"')
        return self._added(f"{live} or {one.each('prompt_tokens_total')}")

    @property
    def cache_hit_rate(self) -> str:
        """By tokens, so that all weigh as much as they have to do; none where there were no tokens.

        Of servers before v0.5.18 by what finished requests had cached.
        """
        one = self._of_one_server
        effective = "prefill_effective_tokens_total"
        found = one.ranks_rate(effective, 'mode=~".*_hit"')
        hits = self._added(f"{found} or {one.each('cached_tokens_total')}")
        tokens = self._added(f"{one.ranks_rate(effective)} or {one.each('prompt_tokens_total')}")
        return f"{hits} / ({tokens} > 0)"

    @property
    def _of_one_server(self) -> Promql:
        """What a server has in the place of another number is chosen before servers are added up."""
        labels = dict.fromkeys(["job", "instance", *filter(None, self.by.split(", "))])
        return replace(self, by=", ".join(labels))

    def buckets(self, histogram: str) -> str:
        """What has come into each bucket: parts of a whole, but for the queue the same of every rank."""
        combine = self.ranks_rate if histogram == "queue_time_seconds" else self.each
        return combine(f"{histogram}_bucket", also="le")

    def quantile(self, histogram: str, q: float) -> str:
        return f"histogram_quantile({q}, {self.buckets(histogram)})"

    def mean(self, histogram: str) -> str:
        combine = self.ranks_rate if histogram == "queue_time_seconds" else self.each
        return f"{combine(f'{histogram}_sum')} / ({combine(f'{histogram}_count')} > 0)"


# ---------------------------------------------------------------------- rules

HISTOGRAMS = {
    "time_to_first_token": "time_to_first_token_seconds",
    "inter_token": "inter_token_latency_seconds",
    "end_to_end": "e2e_request_latency_seconds",
    "queue_time": "queue_time_seconds",
}
RULES_HEAD = """\
# Recording and alert rules for SGLang servers that a Prometheus scrapes.
#
# Written by tools/make_prometheus.py: change it there. Load it by `rule_files`. instance:... is of one
# server, job:... of all servers of a scrape job; rates are of the last five minutes. Thresholds of the
# alerts are where to begin: set them to what your users were promised.
"""


def rules() -> dict[str, Any]:
    """The rules, as Prometheus reads them."""
    groups = []
    for level, by in (("instance", "job, instance"), ("job", "job")):
        recorded = [
            {"record": f"{level}:sglang_{name}", "expr": expression}
            for name, expression in _recorded(Promql(by=by))
        ]
        groups.append({"name": f"sglang-{level}", "rules": recorded})
    return {"groups": [*groups, {"name": "sglang-alerts", "rules": list(_alerts())}]}


def _recorded(q: Promql) -> Iterator[tuple[str, str]]:
    yield "running_requests:sum", q.running
    yield "waiting_requests:sum", q.backlog
    yield "kv_usage:ratio", q.usage_ratio
    yield "finished_requests:rate5m", q.requests_per_second
    yield "failed_requests:rate5m", q.failures_per_second
    yield "generation_tokens:rate5m", q.generation_tokens_per_second
    yield "prompt_tokens:rate5m", q.prompt_tokens_per_second
    yield "cache_hits:ratio_rate5m", q.cache_hit_rate
    for name, histogram in HISTOGRAMS.items():
        for quantile, rank in QUANTILES.items():
            yield f"{name}_seconds:{quantile}_rate5m", q.quantile(histogram, rank)


def _alerts() -> Iterator[dict[str, Any]]:
    def alert(name: str, expression: str, minutes: int, severity: str, summary: str, description: str) -> Any:
        return {
            "alert": name,
            "expr": expression,
            "for": f"{minutes}m",
            "labels": {"severity": severity},
            "annotations": {"summary": summary, "description": description},
        }

    one = "instance:sglang_"
    yield alert(
        "SGLangServerDown",
        f"up == 0 and on (job, instance) last_over_time({one}running_requests:sum[1h])",
        1,
        "critical",
        "SGLang server {{ $labels.instance }} does not answer",
        "It had metrics within the last hour, and its last scrapes failed.",
    )
    yield alert(
        "SGLangServerStuck",
        f"{one}running_requests:sum > 0 and {one}generation_tokens:rate5m == 0 "
        f"and {one}prompt_tokens:rate5m == 0",
        5,
        "critical",
        "SGLang server {{ $labels.instance }} has running requests and processes no token",
        "{{ $value }} requests are in its batches.",
    )
    yield alert(
        "SGLangRequestsFail",
        f"{one}failed_requests:rate5m > 0.05 * ({one}finished_requests:rate5m + {one}failed_requests:rate5m)",
        5,
        "warning",
        "SGLang server {{ $labels.instance }} fails more than 5 % of its requests",
        "{{ $value | humanize }} requests a second fail.",
    )
    yield alert(
        "SGLangRequestsWait",
        f"{one}waiting_requests:sum > {one}running_requests:sum",
        10,
        "warning",
        "More requests wait at SGLang server {{ $labels.instance }} than it works on",
        "{{ $value }} requests wait.",
    )
    yield alert(
        "SGLangCacheTooSmall",
        f"{one}kv_usage:ratio > 0.95 and on (job, instance) ({Promql().retractions_per_second}) > 0",
        10,
        "warning",
        "SGLang server {{ $labels.instance }} puts requests back for want of KV cache",
        "{{ $value | humanizePercentage }} of its KV tokens are held by requests.",
    )
    yield alert(
        "SGLangFirstTokenSlow",
        f"{one}time_to_first_token_seconds:p90_rate5m > 5",
        10,
        "warning",
        "First tokens of SGLang server {{ $labels.instance }} take long",
        "Of 10 % of its requests they took {{ $value | humanizeDuration }} or longer.",
    )


class _Readable(yaml.SafeDumper):
    """Long texts folded at blanks, lists indented below their names."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _folded(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=">" if len(text) > 90 else None)


_Readable.add_representer(str, _folded)


def rules_text() -> str:
    return RULES_HEAD + yaml.dump(rules(), Dumper=_Readable, sort_keys=False, width=100, allow_unicode=True)


# ------------------------------------------------------------------ dashboard

_SERVERS = 'job=~"$job", instance=~"$instance"'
_WINDOW = "$__rate_interval"
_FLEET = Promql(_SERVERS, _WINDOW, by="")
_SERVER = Promql(_SERVERS, _WINDOW, by="instance")
_GROUP = Promql(_SERVERS, _WINDOW, by="instance, dp_rank")
_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH = 24
_OPTIONS: dict[str, dict[str, Any]] = {
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "none", "colorMode": "none"},
    "timeseries": {
        "legend": {"displayMode": "list", "placement": "bottom"},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
}

Queries = dict[str, str]
"""Expressions of a panel, each by its legend."""


@dataclass(frozen=True)
class Panel:
    title: str
    about: str
    queries: Queries
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    height: int = 7
    most: float | None = None


def _latency(title: str, about: str, histogram: str) -> Panel:
    queries = {name: _FLEET.quantile(histogram, rank) for name, rank in QUANTILES.items()}
    return Panel(title, about, {**queries, "mean": _FLEET.mean(histogram)}, "s", width=12)


def _stat(title: str, about: str, query: str, unit: str = "short", most: float | None = None) -> Panel:
    return Panel(title, about, {title: query}, unit, "stat", width=3, height=4, most=most)


ROWS: dict[str, tuple[Panel, ...]] = {
    "Fleet": (
        _stat("Servers", "That answer", f"count(up{{{_SERVERS}}} == 1)"),
        _stat("Running", "Requests in the running batches", _FLEET.running),
        _stat("Waiting", "Requests in any queue", _FLEET.backlog),
        _stat("KV cache", "Tokens held by requests, of all", _FLEET.usage_ratio, "percentunit", 1),
        _stat("Cache hits", "Cached part of the prompt tokens", _FLEET.cache_hit_rate, "percentunit", 1),
        _stat("Tokens/s", "Generated tokens", _FLEET.generation_tokens_per_second),
        _stat("Requests/s", "Finished requests", _FLEET.requests_per_second, "reqps"),
        _stat("Failures/s", "Failed requests", _FLEET.failures_per_second, "reqps"),
    ),
    "Servers": (
        Panel("Running requests", "In the running batch", {"{{instance}}": _SERVER.running}),
        Panel("Waiting requests", "In any queue", {"{{instance}}": _SERVER.backlog}),
        Panel(
            "KV cache used",
            "Tokens held by requests. What the radix cache keeps besides can be evicted",
            {"{{instance}}": _SERVER.usage_ratio},
            "percentunit",
            most=1,
        ),
        Panel(
            "Generated tokens per second",
            "As they come",
            {"{{instance}}": _SERVER.generation_tokens_per_second},
        ),
        Panel(
            "Prompt tokens per second",
            "As they are processed, cached ones included",
            {"{{instance}}": _SERVER.prompt_tokens_per_second},
        ),
        Panel(
            "Cache hit rate",
            "Cached part of the prompt tokens",
            {"{{instance}}": _SERVER.cache_hit_rate},
            "percentunit",
            most=1,
        ),
    ),
    "Latency of all selected servers": (
        _latency("Time to first token", "Arrival to first token", "time_to_first_token_seconds"),
        _latency("Time between tokens", "Weighted by tokens", "inter_token_latency_seconds"),
        _latency("Request duration", "Arrival to last token", "e2e_request_latency_seconds"),
        _latency("Queue time", "In the scheduler's queue", "queue_time_seconds"),
    ),
    "Requests": (
        Panel(
            "Outcome",
            "Finished ones include aborted ones",
            {
                "finished": _FLEET.requests_per_second,
                "failed": _FLEET.failures_per_second,
                "abort calls": _FLEET.aborts_per_second,
                "put back for want of memory": _FLEET.retractions_per_second,
            },
            "reqps",
        ),
        Panel(
            "HTTP answers",
            "Of every path, scrapes and health checks among them",
            {"{{class}}": _FLEET.responses_by_class},
            "reqps",
        ),
        Panel("Queues", "Where requests wait", {"{{queue}}": _FLEET.by_queue}),
    ),
    "Data-parallel groups": (
        Panel(
            "Running by group",
            "One of the ranks of each group",
            {"{{instance}} dp {{dp_rank}}": _GROUP.running},
            width=12,
        ),
        Panel(
            "KV cache used by group",
            "A group that is full while others are not: the load is not balanced",
            {"{{instance}} dp {{dp_rank}}": _GROUP.usage_ratio},
            "percentunit",
            width=12,
            most=1,
        ),
    ),
}


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    return {
        "uid": "sglang-servers",
        "title": "SGLang servers",
        "description": "By the rules of sglang-collect: ranks that repeat each other are counted once, "
        "ratios are weighted, histograms are merged.",
        "tags": ["sglang"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": list(_variables())},
        "panels": list(_panels()),
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus"}
    for name, query in (
        ("job", 'label_values({__name__=~"sglang[:_]num_running_reqs"}, job)'),
        ("instance", 'label_values({__name__=~"sglang[:_]num_running_reqs", job=~"$job"}, instance)'),
    ):
        yield {
            "type": "query",
            "name": name,
            "label": name.capitalize(),
            "datasource": _DATASOURCE,
            "query": {"query": query, "refId": name},
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".+",
            "current": {"text": "All", "value": "$__all"},
        }


def _panels() -> Iterator[dict[str, Any]]:
    """Rows and their panels, from left to right and from top to bottom."""
    ids = count(1)
    y = 0
    for title, panels in ROWS.items():
        yield {
            "id": next(ids),
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": _at(0, y, _WIDTH, 1),
        }
        x, y = 0, y + 1
        for panel in panels:
            if x + panel.width > _WIDTH:
                x, y = 0, y + panel.height
            yield _panel(next(ids), panel, _at(x, y, panel.width, panel.height))
            x += panel.width
        y += panels[-1].height


def _at(x: int, y: int, width: int, height: int) -> dict[str, int]:
    return {"x": x, "y": y, "w": width, "h": height}


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "min": 0}
    if panel.most is not None:
        defaults["max"] = panel.most
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.about,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "targets": list(_targets(panel)),
        "options": _OPTIONS[panel.kind],
        "fieldConfig": {"defaults": defaults, "overrides": []},
    }


def _targets(panel: Panel) -> Iterator[dict[str, Any]]:
    for letter, (legend, expression) in zip("ABCDEFGH", panel.queries.items(), strict=False):
        yield {
            "refId": letter,
            "datasource": _DATASOURCE,
            "expr": expression,
            "legendFormat": legend,
            "instant": panel.kind == "stat",
            "range": panel.kind != "stat",
        }


def dashboard_text() -> str:
    return json.dumps(dashboard(), indent=2) + "\n"


FILES = {"prometheus/rules.yml": rules_text, "grafana/sglang-dashboard.json": dashboard_text}


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT
    for name, text in FILES.items():
        (folder / name).write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
