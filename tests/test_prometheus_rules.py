"""The rules for Prometheus and the dashboard for Grafana say what snapshots and windows say.

Simulated servers give a page every 15 s. Their samples go into a Prometheus under the moments they are of,
so that its rates are over the same seconds as a window.
"""

from __future__ import annotations

import importlib
import json
import math
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache, reduce
from operator import add
from pathlib import Path
from typing import Any

import pytest
import yaml
from programs import unwatched
from promservers import prometheus, query
from servers import eventually
from tools_of import ROOT, load_tool

import sglang_collect as sc
from sglang_collect.aggregate import aggregate
from sglang_collect.catalog import Reading
from sglang_collect.models import reading_of
from sglang_collect.simulator import LoadModel, Simulator, render_page

pytestmark = pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus is not installed")

SERVERS: dict[str, dict[str, Any]] = {
    "alone": {"seed": 1, "load": 0.6},
    "groups": {"seed": 2, "load": 0.9, "dp": 2, "tp": 2},
    "ranks": {"seed": 3, "load": 1.0, "tp": 2},
}
AGE = 600  # seconds that a server has lived before its first page: by then it has done everything once
INTERVAL = 15
PAGES = 21  # five minutes

TOOL = load_tool("make_prometheus")
RULES = ROOT / "prometheus" / "rules.yml"
DASHBOARD = json.loads((ROOT / "grafana" / "sglang-dashboard.json").read_text("utf-8"))

Number = float | None
Said = Mapping[tuple[str, ...], float]
"""What an expression gives, by the values of labels."""


def promtool(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs it, without the sanitizer that Python may run with."""
    command = ["promtool", *arguments]
    return subprocess.run(command, cwd=folder, env=unwatched(), capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", TOOL.FILES)
def test_the_file_is_what_its_script_gives(name: str) -> None:
    assert (ROOT / name).read_text("utf-8") == TOOL.FILES[name](), "run make generated"


def test_promtool_accepts_the_rules() -> None:
    done = promtool(ROOT, "check", "rules", str(RULES))
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------------- history


@dataclass
class History:
    """The pages of every server, and the snapshots of them."""

    pages: dict[str, list[bytes]]
    snapshots: dict[str, list[sc.SGLangMetricsSnapshot]]

    def since(self, samples: int) -> dict[str, sc.SGLangWindow]:
        """The window over the last so many samples, of every server."""
        return {name: of[-1].since(of[-samples]) for name, of in self.snapshots.items()}

    def readings(self, samples: int) -> dict[str, tuple[Reading, Reading]]:
        """What the first and the last page of that window say."""
        return {name: (reading_of(of[-samples]), reading_of(of[-1])) for name, of in self.snapshots.items()}


def pages_of(options: dict[str, Any], interval: int, number: int) -> list[bytes]:
    """So many pages of a simulated server, so many seconds apart.

    A server makes millions of steps, which take minutes where the coverage of each is measured.
    """
    trace = sys.gettrace()
    sys.settrace(None)
    try:
        model = LoadModel(**options)
        model.step(AGE)
        pages = []
        for _ in range(number):
            pages.append(render_page(model))
            model.step(interval)
        return pages
    finally:
        sys.settrace(trace)


@pytest.fixture(scope="module")
def history() -> History:
    pages, snapshots = {}, {}
    for name, options in SERVERS.items():
        pages[name] = pages_of(options, INTERVAL, PAGES)
        start = datetime(2026, 1, 1, tzinfo=timezone.utc)
        snapshots[name] = [
            sc.SGLangMetricsSnapshot.from_text(
                page, instance_id=name, timestamp=start + timedelta(seconds=number * INTERVAL)
            )
            for number, page in enumerate(pages[name])
        ]
    return History(pages, snapshots)


def series_of(page: bytes, instance: str) -> Iterator[tuple[str, float]]:
    """The samples of a page as a Prometheus keeps them: with job and instance, and `up`.

    One of the servers writes names as prometheus_client does in OpenMetrics.
    """
    colon = "_" if instance == "ranks" else ":"
    for sample in sc.parse(page).samples:
        labels = {**sample.labels, "job": "sglang", "instance": instance}
        text = ",".join(f'{label}="{value}"' for label, value in labels.items())
        yield f"{sample.name.replace(':', colon)}{{{text}}}", sample.value
    yield f'up{{job="sglang",instance="{instance}"}}', 1.0


# ------------------------------------------------------------------- dashboard


@dataclass
class Kept:
    """A Prometheus that has kept the history, the last page of which is of ``moment``."""

    port: int
    moment: float

    def says(self, expression: str, labels: tuple[str, ...]) -> Said:
        """Of an expression, by these labels; it must have no other. NaN is nothing."""
        found: dict[tuple[str, ...], float] = {}
        for one in query(self.port, expression, self.moment):
            assert set(one["metric"]) - {"__name__"} <= set(labels), one["metric"]
            value = float(one["value"][1])
            if not math.isnan(value):
                found[tuple(one["metric"].get(label, "") for label in labels)] = value
        return found

    def samples_in(self, window: str) -> int:
        """A range holds the sample at its beginning until Prometheus 3."""
        (number,) = self.says(f'max(count_over_time(up{{job="sglang"}}[{window}]))', ()).values()
        return int(number)


@pytest.fixture(scope="module")
def kept(history: History, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("kept")
    first = int(time.time()) - 7200
    samples: dict[str, list[str]] = {}
    for instance, pages in history.pages.items():
        for number, page in enumerate(pages):
            for series, value in series_of(page, instance):
                name = series.partition("{")[0]
                samples.setdefault(name, []).append(f"{series} {value!r} {first + number * INTERVAL}\n")
    lines = "".join("".join(of_family) for of_family in samples.values())
    (folder / "samples").write_text(f"{lines}# EOF\n")
    done = promtool(folder, "tsdb", "create-blocks-from", "openmetrics", "samples", "data")
    assert done.returncode == 0, done.stderr
    with prometheus(folder, {}) as port:
        yield Kept(port, first + (PAGES - 1) * INTERVAL)


def prepared(expression: str) -> str:
    """As Grafana sends it, with all servers chosen and a window of a minute."""
    return expression.replace("$__rate_interval", "1m").replace("$job", ".+").replace("$instance", ".+")


def shown() -> Iterator[tuple[str, str, str]]:
    """Every query of the dashboard: its panel, its legend, its expression."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["legendFormat"], target["expr"]


class Expected:
    """What every panel shows, made of snapshots and windows."""

    def __init__(self, history: History, samples: int) -> None:
        self.last = {name: of[-1] for name, of in history.snapshots.items()}
        self.first = {name: of[-samples] for name, of in history.snapshots.items()}
        self.windows = history.since(samples)
        self.readings = history.readings(samples)
        self.seconds = (samples - 1) * INTERVAL
        self.whole = aggregate([reading.fold for _, reading in self.readings.values()], [])

    def of(self, title: str, legend: str) -> Said:
        for table in (self.fleet, self.of_each, self.of_groups, self.outcome):
            found = table(title, legend)
            if found is not None:
                return found
        raise AssertionError(f"nothing is known of {title!r}, {legend!r}")

    def fleet(self, title: str, legend: str) -> Said | None:
        numbers: dict[str, Callable[[], Number]] = {
            "Servers": lambda: len(SERVERS),
            "Running": lambda: self.whole.queues.running,
            "Waiting": lambda: self.whole.queues.backlog,
            "KV cache": lambda: self.whole.kv_cache.usage_ratio,
            "Cache hits": self._hit_rate,
            "Tokens/s": lambda: self._total("generation_tokens_per_second"),
            "Requests/s": lambda: self._total("requests_per_second"),
            "Failures/s": lambda: self._failed(),
        }
        histograms = {
            "Time to first token": "time_to_first_token_seconds",
            "Time between tokens": "inter_token_latency_seconds",
            "Request duration": "e2e_request_latency_seconds",
            "Queue time": "queue_time_seconds",
        }
        if title in histograms:
            merged = self._merged(histograms[title])
            value = merged.mean if legend == "mean" else merged.quantile(TOOL.QUANTILES[legend])
        elif title in numbers:
            value = numbers[title]()
        else:
            return None
        return {} if value is None else {(): value}

    def of_each(self, title: str, legend: str) -> Said | None:
        numbers: dict[str, Callable[[str], Number]] = {
            "Running requests": lambda name: self.last[name].queues.running,
            "Waiting requests": lambda name: self.last[name].queues.backlog,
            "KV cache used": lambda name: self.last[name].kv_cache.usage_ratio,
            "Generated tokens per second": lambda name: self.windows[name].generation_tokens_per_second,
            "Prompt tokens per second": lambda name: self.windows[name].prompt_tokens_per_second,
            "Cache hit rate": lambda name: self.windows[name].cache_hit_rate,
        }
        if title not in numbers:
            return None
        return {(name,): number for name in SERVERS if (number := numbers[title](name)) is not None}

    def of_groups(self, title: str, legend: str) -> Said | None:
        field = {"Running by group": "running", "KV cache used by group": "usage_ratio"}.get(title)
        if field is None:
            return None
        said = {}
        for name, snapshot in self.last.items():
            alone = {"running": snapshot.queues.running, "usage_ratio": snapshot.kv_cache.usage_ratio}
            groups = {str(rank.dp_rank): getattr(rank, field) for rank in snapshot.ranks} or {
                "": alone[field]
            }
            said.update({(name, group): number for group, number in groups.items()})
        return said

    def outcome(self, title: str, legend: str) -> Said | None:
        if title == "Outcome":
            value = {
                "finished": self._total("requests_per_second"),
                "failed": self._failed(),
                "abort calls": self._grown("requests", "aborted_total"),
                "put back for want of memory": None,  # the simulator never does
            }[legend]
            return {} if value is None else {(): value}
        if title == "HTTP answers":
            answers: Counter[str] = Counter()
            for name in SERVERS:
                answers.update(self.last[name].requests.http_responses)
                answers.subtract(self.first[name].requests.http_responses)
            return {(kind,): number / self.seconds for kind, number in answers.items()}
        if title == "Queues":
            names = ("grammar", "prefill_bootstrap", "prefill_inflight", "decode_prealloc", "decode_transfer")
            queues = self.whole.queues
            return {("queue",): queues.waiting or 0, **{(name,): getattr(queues, name) for name in names}}
        return None

    def _total(self, field: str) -> float:
        return sum(getattr(window, field) for window in self.windows.values())

    def _grown(self, group: str, field: str) -> float:
        def now(snapshot: sc.SGLangMetricsSnapshot) -> float:
            number: float = getattr(getattr(snapshot, group), field)
            return number

        return sum(now(self.last[name]) - now(self.first[name]) for name in SERVERS) / self.seconds

    def _failed(self) -> float:
        return self._grown("request_metrics", "failure_total")

    def _hit_rate(self) -> float:
        """By the tokens of all servers, not a mean of their rates."""
        tokens: Counter[str] = Counter()
        for earlier, later in self.readings.values():
            tokens.update(later.by("prefill_effective_tokens_total", "mode"))
            tokens.subtract(earlier.by("prefill_effective_tokens_total", "mode"))
        return sum(n for mode, n in tokens.items() if mode.endswith("_hit")) / sum(tokens.values())

    def _merged(self, histogram: str) -> sc.Histogram:
        parts = []
        for earlier, later in self.readings.values():
            before, now = earlier.histogram(histogram), later.histogram(histogram)
            assert before is not None
            assert now is not None
            parts.append(now.since(before)[0])
        return reduce(add, parts)


LABELS_OF = {
    "{{instance}}": ("instance",),
    "{{instance}} dp {{dp_rank}}": ("instance", "dp_rank"),
    "{{class}}": ("class",),
    "{{queue}}": ("queue",),
}


@pytest.mark.parametrize(
    ("title", "legend", "expression"),
    list(shown()),
    ids=[f"{title}, {legend}" for title, legend, _ in shown()],
)
def test_a_panel_shows_the_numbers_of_snapshots_and_windows(
    history: History, kept: Kept, title: str, legend: str, expression: str
) -> None:
    expected = Expected(history, kept.samples_in("1m")).of(title, legend)
    assert kept.says(prepared(expression), LABELS_OF.get(legend, ())) == pytest.approx(expected, rel=1e-9)


def test_the_simulated_servers_do_what_the_panels_are_about(history: History, kept: Kept) -> None:
    expected = Expected(history, kept.samples_in("1m"))
    silent = {legend for title, legend, _ in shown() if not expected.of(title, legend)}
    assert silent == {"put back for want of memory"}
    ratios = expected.of("KV cache used by group", "{{instance}} dp {{dp_rank}}")
    assert len(set(ratios.values())) == 4


def test_grafana_reads_every_field_of_the_dashboard() -> None:
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard")
    plugins = importlib.import_module("grafana_foundation_sdk.cog.plugins")
    encoder = importlib.import_module("grafana_foundation_sdk.cog.encoder")
    plugins.register_default_plugins()

    def read(dashboard: dict[str, Any]) -> Any:
        return json.loads(encoder.JSONEncoder().encode(models.Dashboard.from_json(dashboard)))

    assert read({**DASHBOARD, "panel": []}) == read(DASHBOARD)  # what it does not know it leaves out
    assert without_defaults(read(DASHBOARD), DASHBOARD) == DASHBOARD


def without_defaults(read: Any, wanted: Any) -> Any:
    """Of what was read, the fields that were there to read, at any depth."""
    if isinstance(read, dict) and isinstance(wanted, dict):
        return {name: without_defaults(value, wanted[name]) for name, value in read.items() if name in wanted}
    if isinstance(read, list) and isinstance(wanted, list) and len(read) == len(wanted):
        return [without_defaults(*pair) for pair in zip(read, wanted, strict=True)]
    return read


def test_a_dashboard_has_panels_of_their_own_place_and_number() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_gauges_of_a_server_that_is_scraped_are_those_of_its_snapshot(
    tmp_path: Path, sglang_simulator: Simulator
) -> None:
    port = sglang_simulator.url.split(":")[2].split("/")[0]
    job = {"job_name": "sglang", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
    config = {"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}
    truth = sglang_simulator.truth()["server_level"]
    wanted = {"Servers": 1, "Running": truth["running"], "KV cache": truth["used_ratio"]}
    expressions = {title: prepared(expression) for title, _, expression in shown() if title in wanted}
    with prometheus(tmp_path, config) as prometheus_port:
        assert eventually(lambda: query(prometheus_port, expressions["Running"], time.time()), seconds=120)
        for title, expression in expressions.items():
            (one,) = query(prometheus_port, expression, time.time())
            assert float(one["value"][1]) == pytest.approx(wanted[title]), title


# ------------------------------------------------------------------------ rules


def numbers_of_rules(history: History, samples: int) -> Iterator[tuple[str, Number]]:
    """What a recorded series of one server, or of the job, says: a selector and its number."""
    expected = Expected(history, samples)
    for name in SERVERS:
        at, window = f'{{job="sglang",instance="{name}"}}', expected.windows[name]
        snapshot = expected.last[name]
        yield f"instance:sglang_running_requests:sum{at}", snapshot.queues.running
        yield f"instance:sglang_waiting_requests:sum{at}", snapshot.queues.backlog
        yield f"instance:sglang_kv_usage:ratio{at}", snapshot.kv_cache.usage_ratio
        yield f"instance:sglang_finished_requests:rate5m{at}", window.requests_per_second
        yield f"instance:sglang_generation_tokens:rate5m{at}", window.generation_tokens_per_second
        yield f"instance:sglang_prompt_tokens:rate5m{at}", window.prompt_tokens_per_second
        yield f"instance:sglang_cache_hits:ratio_rate5m{at}", window.cache_hit_rate
        before, now = expected.first[name].request_metrics, snapshot.request_metrics
        failed = (now.failure_total - before.failure_total) / expected.seconds
        yield f"instance:sglang_failed_requests:rate5m{at}", failed
        for field in TOOL.HISTOGRAMS:
            for quantile in TOOL.QUANTILES:
                value = getattr(getattr(window.latency, field), quantile)
                yield f"instance:sglang_{field}_seconds:{quantile}_rate5m{at}", value
    for metric, title in {
        "running_requests:sum": "Running",
        "waiting_requests:sum": "Waiting",
        "kv_usage:ratio": "KV cache",
        "finished_requests:rate5m": "Requests/s",
        "failed_requests:rate5m": "Failures/s",
        "generation_tokens:rate5m": "Tokens/s",
        "cache_hits:ratio_rate5m": "Cache hits",
    }.items():
        yield f'job:sglang_{metric}{{job="sglang"}}', expected.of(title, title)[()]
    total = sum(window.prompt_tokens_per_second or 0 for window in expected.windows.values())
    yield 'job:sglang_prompt_tokens:rate5m{job="sglang"}', total
    for field, histogram in TOOL.HISTOGRAMS.items():
        for quantile, rank in TOOL.QUANTILES.items():
            value = expected._merged(histogram).quantile(rank)
            yield f'job:sglang_{field}_seconds:{quantile}_rate5m{{job="sglang"}}', value


def input_series(histories: Mapping[str, list[dict[str, float]]]) -> list[dict[str, str]]:
    """What promtool is to take for scraped: of every series its values, ``_`` where there is none.

    Series that no rule reads are left out, since they take time.
    """
    read = re.compile("|".join([*re.findall(r'__name__=~"([^"]+)"', RULES.read_text("utf-8")), "up"]))
    found = []
    for pages in histories.values():
        for series in dict.fromkeys(name for page in pages for name in page):
            if not read.fullmatch(series.partition("{")[0]):
                continue
            values = " ".join("_" if (value := page.get(series)) is None else repr(value) for page in pages)
            found.append({"series": series, "values": values})
    return found


def promtool_passes(folder: Path, tests: list[dict[str, Any]]) -> None:
    file = folder / "tests.yml"
    told = {"rule_files": [str(RULES)], "evaluation_interval": tests[0]["interval"], "tests": tests}
    file.write_text(json.dumps(told))  # JSON is YAML
    done = promtool(folder, "test", "rules", str(file))
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


def test_recorded_numbers_are_those_of_snapshots_and_windows(
    history: History, kept: Kept, tmp_path: Path
) -> None:
    numbers = dict(numbers_of_rules(history, kept.samples_in("5m")))
    recorded = {
        rule["record"] for group in TOOL.rules()["groups"] for rule in group["rules"] if "record" in rule
    }
    assert {selector.partition("{")[0] for selector in numbers} == recorded
    checks = []
    for selector, number in numbers.items():
        assert number is not None, selector
        same = f"abs({selector} - {number!r}) <= bool {1e-9 * abs(number)!r}"
        labels = selector[selector.index("{") :]
        checks.append({"expr": same, "eval_time": "5m", "exp_samples": [{"labels": labels, "value": 1}]})
    pages = {name: [dict(series_of(page, name)) for page in of] for name, of in history.pages.items()}
    promtool_passes(
        tmp_path,
        [
            {
                "interval": f"{INTERVAL}s",
                "input_series": input_series(pages),
                "promql_expr_test": [
                    *checks,
                    {"expr": "ALERTS", "eval_time": "5m", "exp_samples": []},
                ],
            }
        ],
    )


# ----------------------------------------------------------------------- alerts

Page = dict[str, float]


def as_it_is(page: Page, minute: int) -> Page:
    return page


def down(page: Page, minute: int) -> Page:
    """After ten minutes nothing is scraped any more."""
    return page if minute < 10 else {series: 0.0 for series in page if series.startswith("up{")}


def stuck(page: Page, minute: int) -> Page:
    """Like the first page for ever: requests run, and counters stand."""
    return life_of_a_server()[0]


def failing(page: Page, minute: int) -> Page:
    """Twenty times as many answers 503."""
    return {series: value * (20 if 'status_code="503"' in series else 1) for series, value in page.items()}


def waiting(page: Page, minute: int) -> Page:
    return {
        series: 99.0 if series.startswith("sglang:num_queue_reqs{") else value
        for series, value in page.items()
    }


def too_small(page: Page, minute: int) -> Page:
    """Nearly all of the cache is held, and requests are put back."""
    held = "sglang:num_used_tokens{"
    whole = next(value for series, value in page.items() if series.startswith("sglang:max_total_num_tokens{"))
    changed = {series: 0.99 * whole if series.startswith(held) else value for series, value in page.items()}
    (used,) = (series for series in page if series.startswith(held))
    return {**changed, used.replace("num_used_tokens", "num_retracted_requests_total"): float(minute)}


def slow(page: Page, minute: int) -> Page:
    """No first token within 6 s."""
    return {
        series: 0.0 if "time_to_first_token_seconds_bucket" in series and _bound(series) <= 6 else value
        for series, value in page.items()
    }


def _bound(series: str) -> float:
    return float(series.partition('le="')[2].partition('"')[0])


MINUTES = 22


def life(change: Callable[[Page, int], Page]) -> list[Page]:
    return [change(page, minute) for minute, page in enumerate(life_of_a_server())]


@cache
def life_of_a_server() -> list[Page]:
    """A page a minute."""
    return [dict(series_of(page, "alone")) for page in pages_of({"seed": 4, "load": 0.5}, 60, MINUTES)]


def test_each_alert_fires_for_what_it_is_about_and_for_nothing_else(tmp_path: Path) -> None:
    scenarios = {
        as_it_is: [],
        down: ["SGLangServerDown"],
        stuck: ["SGLangServerStuck"],
        failing: ["SGLangRequestsFail"],
        waiting: ["SGLangRequestsWait"],
        too_small: ["SGLangCacheTooSmall"],
        slow: ["SGLangFirstTokenSlow"],
    }
    alerts = {rule["alert"] for group in TOOL.rules()["groups"] for rule in group["rules"] if "alert" in rule}
    assert {name for names in scenarios.values() for name in names} == alerts
    tests = []
    for change, names in scenarios.items():
        fired = [{"labels": f'{{alertname="{name}", instance="alone"}}', "value": 1} for name in names]
        tests.append(
            {
                "interval": "1m",
                "input_series": input_series({"alone": life(change)}),
                "promql_expr_test": [
                    {
                        "expr": 'count by (alertname, instance) (ALERTS{alertstate="firing"})',
                        "eval_time": f"{MINUTES - 1}m",
                        "exp_samples": fired,
                    }
                ],
            }
        )
    promtool_passes(tmp_path, tests)


def test_an_alert_says_in_words_what_it_is_about(tmp_path: Path) -> None:
    promtool_passes(
        tmp_path,
        [
            {
                "interval": "1m",
                "input_series": input_series({"alone": life(waiting)}),
                "alert_rule_test": [
                    {
                        "eval_time": "15m",
                        "alertname": "SGLangRequestsWait",
                        "exp_alerts": [
                            {
                                "exp_labels": {"job": "sglang", "instance": "alone", "severity": "warning"},
                                "exp_annotations": {
                                    "summary": "More requests wait at SGLang server alone than it works on",
                                    "description": "99 requests wait.",
                                },
                            }
                        ],
                    }
                ],
            }
        ],
    )


def test_the_rules_file_is_plain_yaml() -> None:
    assert yaml.safe_load(RULES.read_text("utf-8")) == TOOL.rules()
