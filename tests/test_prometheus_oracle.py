"""A real Prometheus has scraped the very pages, and its PromQL says what the numbers are."""

from __future__ import annotations

import math
import re
import shutil
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from operator import attrgetter
from pathlib import Path
from socket import socket
from typing import Any

import pytest
from promservers import prometheus, query
from servers import Request, answer, serving
from truth import DATA, page_format, recorded_pages

from sglang_collect import SGLangMetricsSnapshot
from sglang_collect.catalog import Metric, Rule, compile_plan, histogram_slot, sglang
from sglang_collect.catalog.sglang_rules import PLAIN
from sglang_collect.simulator import LoadModel, render_page

pytestmark = pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed")

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
STEPS = 4
SECONDS = 10.0  # between two steps of a page, as far as windows know
SEQUENCE = [DATA / "sglang" / f"v0.5.18-seq-{n}.prom" for n in ("0", "1", "2", "3-after-restart")]
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}

Pages = dict[str, list[bytes]]


def simulated(**options: Any) -> list[bytes]:
    model = LoadModel(load=0.8, **options)
    pages = []
    for _ in range(STEPS):
        model.step(25)
        pages.append(render_page(model))
    return pages


def all_pages() -> Pages:
    """The pages of each job, in the order in which its server shows them; the last one stays."""
    pages: Pages = {page.stem: [page.read_bytes()] for page in recorded_pages() if page not in SEQUENCE}
    if SEQUENCE[0].exists():
        pages["sequence"] = [page.read_bytes() for page in SEQUENCE]
    pages["simulated"] = simulated(seed=1)
    pages["simulated-dp2-tp2"] = simulated(seed=2, dp=2, tp=2)
    pages["simulated-dp3"] = simulated(seed=3, dp=3)
    return pages


def is_openmetrics(job: str) -> bool:
    return page_format(Path(f"{job}.prom")) == "openmetrics"


# ---------------------------------------------------------------- a Prometheus


class Oracle:
    """A Prometheus that has scraped every page; ``moments`` are when it had those of each step."""

    def __init__(self, port: int, pages: Pages) -> None:
        self.port = port
        self.pages = pages
        self.moments: list[float] = []

    def query(self, promql: str, moment: float) -> list[dict[str, Any]]:
        return query(self.port, promql, moment)

    def by_job(self, promql: str, step: int = STEPS - 1) -> dict[str, float]:
        """The number of every page that has one. NaN is none."""
        length = round(1000 * (self.moments[step] - self.moments[step - 1]))
        result = self.query(promql.replace("EARLIER", f"offset {length}ms"), self.moments[step])
        numbers = {one["metric"]["job"]: float(one["value"][1]) for one in result}
        assert len(numbers) == len(result)
        return {job: number for job, number in numbers.items() if not math.isnan(number)}

    def snapshot(self, job: str, step: int = STEPS - 1) -> SGLangMetricsSnapshot:
        pages = self.pages[job]
        return SGLangMetricsSnapshot.from_text(
            pages[min(step, len(pages) - 1)],
            instance_id=job,
            format="openmetrics" if is_openmetrics(job) else "text",
            timestamp=START + timedelta(seconds=step * SECONDS),
        )

    def wait_for_step(self, shown: float) -> None:
        """Waits until every page was scraped after that moment, and notes when."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            time.sleep(0.1)
            good = self.query("timestamp(up) and up == 1", time.time())
            scraped = [float(one["value"][1]) for one in good]
            if len(scraped) == len(self.pages) and min(scraped) > shown:
                self.moments.append(max(scraped))
                return
        raise AssertionError("Prometheus did not get all pages in two minutes")


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    pages = all_pages()
    step = 0

    def show(request: Request, connection: socket) -> bytes:
        job = request.path.removeprefix("/")
        shown = pages[job][min(step, len(pages[job]) - 1)]
        return answer(shown, content_type=OPENMETRICS) if is_openmetrics(job) else answer(shown)

    with serving(show) as server:
        targets = [{"targets": [f"127.0.0.1:{server.port}"]}]
        jobs = [{"job_name": job, "metrics_path": f"/{job}", "static_configs": targets} for job in pages]
        config = {"global": {"scrape_interval": "1s"}, "scrape_configs": jobs}
        with prometheus(tmp_path_factory.mktemp("prometheus"), config) as port:
            oracle = Oracle(port, pages)
            for step in range(STEPS):  # noqa: B007  which `show` reads
                oracle.wait_for_step(time.time() + 0.01)
            yield oracle


# ------------------------------------------------------------ the rules in PromQL

_RANKS = "tp_rank, pp_rank, moe_ep_rank, pid"
_TOTALS = 'priority=""'


def ranks_of(oracle: Oracle) -> list[tuple[str, str]]:
    """Every (pp_rank, tp_rank) there is, the lowest first."""
    found = oracle.query('group by (pp_rank, tp_rank) ({__name__=~"sglang:.+"})', oracle.moments[-1])
    pairs = {(one["metric"].get("pp_rank", ""), one["metric"].get("tp_rank", "")) for one in found}
    return sorted(pairs, key=lambda pair: [int(rank or 0) for rank in pair])


class Promql:
    """Writes the rules of combination as PromQL, for all jobs at once.

    Of the series that only repeat one measurement PromQL can name the lowest rank by asking for every
    rank in turn: ``x{tp_rank="0"} or ignoring (tp_rank) x{tp_rank="1"} or ...``.
    """

    def __init__(self, ranks: list[tuple[str, str]]) -> None:
        self.ranks = ranks

    def every(self, name: str, *where: str, earlier: bool = False) -> str:
        matchers = ", ".join((f'__name__=~"sglang:({name})"', *filter(None, where)))
        return f"{{{matchers}}} {'EARLIER' if earlier else ''}"

    def one_of_a_group(self, name: str, *where: str, earlier: bool = False, ignoring: str = _RANKS) -> str:
        return f" or ignoring ({ignoring}) ".join(
            self.every(name, *where, f'pp_rank="{pp}"', f'tp_rank="{tp}"', earlier=earlier)
            for pp, tp in self.ranks
        )

    def a(self, name: str, where: str = "", by: str = "job", earlier: bool = False) -> str:
        """Every series, added up."""
        return f"sum by ({by}) ({self.every(name, where, earlier=earlier)})"

    def g(self, name: str, where: str = "", by: str = "job", earlier: bool = False) -> str:
        """One of each data-parallel group, added up."""
        return f"sum by ({by}) ({self.one_of_a_group(name, _TOTALS, where, earlier=earlier)})"

    def mean(self, name: str) -> str:
        """Of a histogram all of whose series are parts of the whole."""
        return f"{self.a(name + '_sum')} / ({self.a(name + '_count')} > 0)"


@pytest.fixture(scope="module")
def promql(oracle: Oracle) -> Promql:
    return Promql(ranks_of(oracle))


def differences(got: dict[str, float | None], wanted: dict[str, float]) -> dict[str, Any]:
    """What is not the same, by job."""
    return {
        job: (number, wanted.get(job))
        for job, number in got.items()
        if not (
            job not in wanted
            if number is None
            else job in wanted and math.isclose(number, wanted[job], rel_tol=1e-9)
        )
    }


# --------------------------------------------------------- the whole catalogue

_MATCHERS = {"is": '{}=~"{}"', "starts": '{}=~"({}).*"', "ends": '{}=~".*({})"'}


def matcher(label: str, operator: str, values: tuple[str, ...]) -> str:
    written = _MATCHERS[operator.removeprefix("not ")].format(label, "|".join(map(re.escape, values)))
    return written.replace("=~", "!~", 1) if operator.startswith("not ") else written


def standing(promql: Promql, rule: Rule, name: str) -> str:
    where = [matcher(*condition) for condition in rule.where]
    if not rule.without:
        return promql.every(name, *where)
    return promql.one_of_a_group(name, *where, ignoring=", ".join(rule.without))


def test_every_metric_of_the_catalogue_is_what_promql_makes_of_its_rule(
    oracle: Oracle, promql: Promql
) -> None:
    plan = compile_plan(sglang.PREFIXES, sglang.METRICS, own=PLAIN)
    folds = {
        job: plan.fold(pages[-1], format="openmetrics" if is_openmetrics(job) else "text")
        for job, pages in oracle.pages.items()
    }
    wrong: dict[str, Any] = {}
    seen = set()

    def compare(what: str, got: dict[str, float | None], expression: str) -> None:
        wanted = oracle.by_job(expression)
        if different := differences(got, wanted):
            wrong[what] = different
        if wanted:
            seen.add(what)

    for metric in sglang.METRICS:
        names = "|".join(metric.names)
        if set(metric.types) - {"histogram", "summary"}:
            how = {"sum": "sum", "max": "max", "mean": "avg"}[metric.rule.reduce]
            compare(
                metric.name,
                {job: fold[metric.name] for job, fold in folds.items()},
                f"{how} by (job) ({standing(promql, metric.rule, names)})",
            )
        if set(metric.types) & {"histogram", "summary"}:
            histograms = {job: fold[histogram_slot(metric.name)] for job, fold in folds.items()}
            for part, expression in of_histogram(promql, metric, names).items():
                compare(
                    f"{metric.name} {part}",
                    {job: None if h is None else number_of(h, part) for job, h in histograms.items()},
                    expression,
                )
    assert not wrong
    assert len(seen) > (200 if SEQUENCE[0].exists() else 100)  # the simulator has fewer than recorded pages


def of_histogram(promql: Promql, metric: Metric, names: str) -> dict[str, str]:
    def part(suffix: str, by: str = "job") -> str:
        return f"sum by ({by}) ({standing(promql, metric.rule, f'({names})_{suffix}')})"

    parts = {"count": part("count"), "sum": part("sum")}
    if "histogram" in metric.types:
        for name, q in QUANTILES.items():
            parts[name] = f"histogram_quantile({q}, {part('bucket', 'job, le')})"
    return parts


def number_of(histogram: Any, part: str) -> float | None:
    if part in QUANTILES:
        quantile: float | None = histogram.quantile(QUANTILES[part])
        return quantile
    number: float | None = getattr(histogram, part)
    return number


# ------------------------------------------------------------------- snapshots


def snapshot_fields(q: Promql) -> dict[str, str]:
    """Fields of a snapshot as PromQL. Of an absent one PromQL says nothing at all."""
    prompt, live = q.a("prompt_tokens_total"), "realtime_tokens_total"
    recent = 'group by (job) ({engine_type!=""})'
    cached = f"({q.a('cached_tokens_total')} or 0 * {prompt} and {recent})"
    effective = "prefill_effective_tokens_total"
    hit_rate = (
        f"""{q.g(effective, 'mode=~".*_hit"')} / ({q.g(effective)} > 0)"""
        f""" or {q.g(live, 'mode="prefill_cache"')} / ({q.g(live, 'mode=~"prefill_.*"')} > 0)"""
        f""" or {cached} / ({prompt} > 0) and {recent}"""
        f""" or avg by (job) ({q.one_of_a_group("cache_hit_rate", _TOTALS)}) unless {recent}"""
    )
    answers = q.a("http_responses_total")
    failed = q.a(
        "http_responses_total",
        'status_code=~"5..", endpoint!~"/(metrics|health|v1/models|v1/loads|get_load|ping).*|.*_info"',
    )
    lost = [
        f"({q.g(f'num_{what}_failed_reqs_total')} or 0 * {answers})" for what in ("bootstrap", "transfer")
    ]
    allocated = f"{q.a('kv_cache_memory_usage_gb', _TOTALS)} * 2^30"
    held = f"({q.g('kv_used_tokens')} + {q.g('kv_evictable_tokens')}) / {q.g('max_total_num_tokens')}"
    waiting = [
        q.g(name)
        for name in (
            "num_queue_reqs",
            "num_grammar_queue_reqs",
            "num_prefill_(bootstrap|prealloc)_queue_reqs",
            "num_prefill_infl?i?ght_queue_reqs",
            "num_decode_prealloc_queue_reqs",
            "num_decode_transfer_queue_reqs",
        )
    ]
    running, throughput = q.g("num_running_reqs"), q.g("gen_throughput")
    usage = f"""{q.g("num_used_tokens")} / ({q.g("max_total_num_tokens")} > 0)
        or avg by (job) ({q.one_of_a_group("token_usage", _TOTALS)})"""
    fields = {
        "request_metrics.success_total": f"{q.a('num_requests_total')}"
        f" or {q.a('e2e_request_latency_seconds_count')}",
        "request_metrics.failure_total": f"({failed} or 0 * {answers}) + {' + '.join(lost)}",
        "request_metrics.request_duration_seconds": q.mean("e2e_request_latency_seconds"),
        "request_metrics.time_to_first_token_seconds": q.mean("time_to_first_token_seconds"),
        "request_metrics.time_per_output_token_seconds": q.mean("inter_token_latency_seconds")
        + f" or {q.mean('time_per_output_token_seconds')}",
        "request_metrics.input_tokens": prompt,
        "request_metrics.output_tokens": q.a("generation_tokens_total"),
        "cache_metrics.cache_hit_rate": hit_rate,
        "cache_metrics.cache_memory_usage_bytes": f"{allocated} * {held}",
        "cache_metrics.radix_cache_size": q.g("kv_evictable_tokens"),
        "cache_metrics.prefix_cache_hit_total": cached,
        "system_metrics.num_requests_running": running,
        "system_metrics.num_requests_waiting": q.g("num_queue_reqs"),
        "system_metrics.batch_size_current": running,
        "system_metrics.throughput_tokens_per_second": throughput,
        "requests.retracted_total": q.g("num_retracted_requests_total|total_retracted_reqs"),
        "kv_cache.usage_ratio": usage,
        "kv_cache.allocated_bytes": allocated,
        "queues.running": running,
        "queues.backlog": " + ".join(f"({one} or 0 * {waiting[0]})" for one in waiting),
    }
    for name in ("time_to_first_token", "inter_token_latency", "e2e_request_latency", "queue_time"):
        field = {"inter_token_latency": "inter_token", "e2e_request_latency": "end_to_end"}.get(name, name)
        combine = q.g if name == "queue_time" else q.a
        fields[f"latency.{field}.count"] = combine(f"{name}_seconds_count")
        for quantile, rank in QUANTILES.items():
            buckets = combine(f"{name}_seconds_bucket", by="job, le")
            fields[f"latency.{field}.{quantile}"] = f"histogram_quantile({rank}, {buckets})"
    return fields


def field_of(model: Any, name: str) -> float | None:
    """The number of a dotted name; None on the way is None."""
    head, _, rest = name.partition(".")
    found = getattr(model, head)
    return field_of(found, rest) if rest and found is not None else found


def test_the_fields_of_every_snapshot_are_what_promql_says(oracle: Oracle, promql: Promql) -> None:
    snapshots = {job: oracle.snapshot(job) for job in oracle.pages}
    wrong = {}
    for name, expression in snapshot_fields(promql).items():
        got = {
            job: None if name in snapshot.absent else field_of(snapshot, name)
            for job, snapshot in snapshots.items()
        }
        if different := differences(got, oracle.by_job(expression)):
            wrong[name] = different
    assert not wrong


def test_each_rank_is_a_data_parallel_group_of_promql(oracle: Oracle, promql: Promql) -> None:
    for field, name in {
        "running": "num_running_reqs",
        "waiting": "num_queue_reqs",
        "used_tokens": "num_used_tokens",
        "gen_throughput": "gen_throughput",
    }.items():
        expression = promql.g(name, 'dp_rank!=""', by="job, dp_rank")
        wanted: dict[str, dict[int, float]] = {job: {} for job in oracle.pages}
        for one in oracle.query(expression, oracle.moments[-1]):
            wanted[one["metric"]["job"]][int(one["metric"]["dp_rank"])] = float(one["value"][1])
        for job in oracle.pages:
            got = {rank.dp_rank: getattr(rank, field) for rank in oracle.snapshot(job).ranks}
            assert got == pytest.approx(wanted[job], rel=1e-9), (job, field)


# --------------------------------------------------------------------- windows


def window_fields(q: Promql, counts_from_zero: bool = False) -> dict[str, str]:
    """Fields of a window as PromQL: each number minus what it was one step earlier."""

    def moved(combine: Any, name: str, where: str = "", by: str = "job") -> str:
        later, before = combine(name, where, by), combine(name, where, by, earlier=True)
        return f"({later})" if counts_from_zero else f"({later} - ({before} or 0 * {later}))"

    live = "realtime_tokens_total"
    computed, cached = (moved(q.g, live, f'mode="prefill_{kind}"') for kind in ("compute", "cache"))
    effective = "prefill_effective_tokens_total"
    hits, looked_up = moved(q.g, effective, 'mode=~".*_hit"'), moved(q.g, effective)
    fields = {
        "requests_per_second": f"{moved(q.a, 'num_requests_total')} / {SECONDS}",
        "prompt_tokens_per_second": f"({computed} + {cached}) / {SECONDS}",
        "generation_tokens_per_second": f"""{moved(q.g, live, 'mode="decode"')} / {SECONDS}""",
        "cache_hit_rate": f"{hits} / ({looked_up} > 0) or {cached} / (({computed} + {cached}) > 0)",
    }
    for field, name, combine in (
        ("time_to_first_token", "time_to_first_token_seconds", q.a),
        ("inter_token", "inter_token_latency_seconds", q.a),
        ("end_to_end", "e2e_request_latency_seconds", q.a),
        ("queue_time", "queue_time_seconds", q.g),
    ):
        count, total = moved(combine, f"{name}_count"), moved(combine, f"{name}_sum")
        fields[f"latency.{field}.count"] = f"{count} > 0"
        fields[f"latency.{field}.mean"] = f"{total} / ({count} > 0)"
        for quantile, rank in QUANTILES.items():
            buckets = moved(combine, f"{name}_bucket", by="job, le")
            fields[f"latency.{field}.{quantile}"] = f"histogram_quantile({rank}, {buckets})"
    return fields


def moving_jobs(oracle: Oracle) -> list[str]:
    return [job for job, pages in oracle.pages.items() if len(pages) == STEPS]


def wrong_windows(oracle: Oracle, jobs: list[str], step: int, fields: dict[str, str]) -> dict[str, Any]:
    windows = {job: oracle.snapshot(job, step).since(oracle.snapshot(job, step - 1)) for job in jobs}
    wrong = {}
    for name, expression in fields.items():
        got = {job: field_of(window, name) for job, window in windows.items()}
        if different := differences(got, oracle.by_job(expression, step)):
            wrong[name] = different
    return wrong


@pytest.mark.parametrize("step", range(1, STEPS))
def test_windows_are_the_differences_that_promql_takes(oracle: Oracle, promql: Promql, step: int) -> None:
    jobs = [job for job in moving_jobs(oracle) if job != "sequence" or step < STEPS - 1]
    assert not wrong_windows(oracle, jobs, step, window_fields(promql))


@pytest.mark.skipif(not SEQUENCE[0].exists(), reason="no recorded pages")
def test_after_a_restart_a_window_is_all_that_promql_has(oracle: Oracle, promql: Promql) -> None:
    last = STEPS - 1
    assert oracle.snapshot("sequence", last).since(oracle.snapshot("sequence", last - 1)).restarted
    assert not wrong_windows(oracle, ["sequence"], last, window_fields(promql, counts_from_zero=True))


def test_a_page_that_stands_still_has_rates_of_zero_in_both(oracle: Oracle, promql: Promql) -> None:
    for job in set(oracle.pages) - set(moving_jobs(oracle)):
        window = oracle.snapshot(job).since(oracle.snapshot(job, STEPS - 2))
        rates = attrgetter("requests_per_second", "generation_tokens_per_second")(window)
        assert set(rates) <= {0.0, None}
        assert window.latency.time_to_first_token is None
