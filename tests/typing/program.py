"""A program that uses the package, as type checkers have to see it. It is never run.

`make types` checks it with mypy --strict and pyright: each `assert_type` is what an editor shows, and each
line with an `ignore` is a mistake that has to be reported, since an ignore too many is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

from fastapi import FastAPI
from typing_extensions import assert_type

import sglang_collect as sc
from sglang_collect.api import RouterSettings, create_app, create_router
from sglang_collect.discovery import FileSD

URL = "http://127.0.0.1:30000/metrics"


def read_a_page(data: bytes) -> None:
    page = assert_type(sc.parse(data, format="openmetrics", strict=True), sc.Page)
    assert_type(page.value("sglang:num_running_reqs", dp_rank="0"), float | None)
    for sample in page.samples:
        assert_type(sample, sc.Sample)
        assert_type(sample.labels, dict[str, str])
        assert_type(sample.exemplar, sc.Exemplar | None)
    family = assert_type(page.families["a"], sc.Family)
    assert_type(page.families.get("a"), sc.Family | None)
    assert_type(page.families.get("a", family), sc.Family)
    assert_type(page.families.get("a", 0), sc.Family | int)
    assert_type(page.values, "memoryview[float]")
    histogram = page.histogram("sglang:time_to_first_token_seconds")
    if histogram is not None:
        assert_type(histogram, sc.Histogram)
        assert_type(histogram + histogram - histogram, sc.Histogram)
        assert_type(histogram.quantile(0.99), float | None)
        assert_type(histogram.bounds, tuple[float, ...])
    series = page.columns().series[0]
    assert_type(series.labels, MappingProxyType[str, str])

    sc.parse(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    sc.parse(data, format="json")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    page.value("a", dp_rank=0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    page.format = "text"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def read_a_server() -> None:
    snapshot = sc.scrape(URL, timeout=2, limits=sc.Limits(body_bytes=1 << 20), guard=sc.Guard(["127.0.0.1"]))
    assert_type(snapshot, sc.SGLangMetricsSnapshot)
    assert_type(snapshot.timestamp, datetime)
    assert_type(snapshot.system_metrics.num_requests_running, int)
    assert_type(snapshot.kv_cache.usage_ratio, float | None)
    assert_type(snapshot.tokens.cached_by_source, dict[str, int] | None)
    assert_type(snapshot.ranks, list[sc.SGLangRank])
    assert_type(snapshot.models, dict[str, sc.SGLangModelMetrics])
    assert_type(snapshot.raw_metrics, list[sc.PrometheusMetric])
    assert_type(snapshot.latency.inter_token, sc.Distribution | None)

    window = assert_type(snapshot.since(snapshot), sc.SGLangWindow)
    assert_type(window.requests_per_second, float | None)

    sc.scrape(URL, 2)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    sc.scrape(URL, timeout="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    snapshot.queue  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]  # noqa: B018
    waiting = snapshot.queues.running + 1  # type: ignore[operator]  # pyright: ignore[reportOptionalOperand]
    print(waiting)


def read_many_servers() -> None:
    targets = [sc.Target("a", URL), sc.Target("b", [URL, URL], labels={"zone": "1"}, options={"timeout": 1})]
    with sc.Fleet(targets, timeout=2, discovery=[FileSD("targets.json")]) as fleet:
        for result in fleet.scrape():
            assert_type(result, sc.ScrapeResult)
            assert_type(result.snapshot, sc.SGLangMetricsSnapshot | None)
            assert_type(result.window, sc.SGLangWindow | None)
            assert_type(result.error, Exception | None)
        for results in fleet.watch(interval=1.0):
            assert_type(results, list[sc.ScrapeResult])
        assert_type(fleet.latest, dict[str, sc.ScrapeResult])
        assert_type(fleet.aggregate().queues, sc.SGLangQueues)


async def read_in_a_loop() -> None:
    async with sc.SGLangCollector(timeout=5, headers={"x": "y"}) as collector:
        assert_type(await collector.collect(instance_id="a", endpoint=URL), sc.SGLangMetricsSnapshot)
    async with sc.Fleet([sc.Target("a", URL)]) as fleet:
        assert_type(await fleet.ascrape(), list[sc.ScrapeResult])
        async for results in fleet.watch():
            assert_type(results, list[sc.ScrapeResult])


def tell_why() -> str:
    try:
        sc.scrape(URL)
    except sc.HTTPStatusError as error:
        assert_type(error.status, int)
        assert_type(error.retry_after, float | None)
        return error.reason
    except sc.ScrapeError as error:
        assert_type(error.elapsed, float)
        return error.endpoint
    except sc.ExpositionError as error:
        assert_type((error.line, error.column), tuple[int, int])
    except sc.LimitExceeded as error:
        assert_type(error.allowed, int)
    return ""


def serve(instances: Mapping[str, str], allow: Sequence[str]) -> FastAPI:
    app = assert_type(create_app(RouterSettings(instances=dict(instances), allow=list(allow))), FastAPI)
    app.include_router(create_router(RouterSettings()), prefix="/api/v1")
    return app
