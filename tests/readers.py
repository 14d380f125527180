"""Other readers of expositions, whose answers tests compare with ours."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import prometheus_client.openmetrics.parser
import prometheus_client.parser
from programs import unwatched
from promservers import prometheus
from servers import Request, eventually, serving

import sglang_collect as sc

Row = tuple[str, dict[str, str], float, float | None, Any]
"""Name, labels, value, timestamp in seconds, exemplar."""

Reading = list[Row] | None
"""What a reader made of a page; None where it refused it."""


def reading_of_page(page: sc.Page) -> list[Row]:
    rows: list[Row] = []
    for sample in page.samples:
        ex = sample.exemplar
        exemplar = (ex.labels, ex.value, ex.timestamp) if ex else None
        rows.append((sample.name, sample.labels, sample.value, sample.timestamp, exemplar))
    return rows


def _seconds(timestamp: Any) -> float | None:
    return None if timestamp is None else float(timestamp)


def read_with_client(page: bytes, *, openmetrics: bool) -> Reading:
    """The samples as prometheus_client reads them, which takes text alone."""
    module = prometheus_client.openmetrics.parser if openmetrics else prometheus_client.parser
    rows: list[Row] = []
    try:
        for family in module.text_string_to_metric_families(page.decode()):
            for sample in family.samples:
                ex = sample.exemplar
                exemplar = (ex.labels, float(ex.value), _seconds(ex.timestamp)) if ex else None
                stamp = _seconds(sample.timestamp)
                rows.append((sample.name, sample.labels, float(sample.value), stamp, exemplar))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return None  # it means to raise ValueError, and forgets some ways to get there
    return rows


def _same_number(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))


def _same_time(a: float | None, b: float | None, grain: float) -> bool:
    if a is None or b is None:
        return a is b
    return _same_number(a, b) or abs(a - b) <= grain + (grain and math.ulp(a))


def _same_exemplar(a: Any, b: Any, grain: float) -> bool:
    if a is None or b is None:
        return a is b
    return a[0] == b[0] and _same_number(a[1], b[1]) and _same_time(a[2], b[2], grain)


def alike(a: Sequence[Row], b: Sequence[Row], *, grain: float = 0.0) -> bool:
    """Equal to the last bit, but for which NaN and which zero, and times that differ by ``grain`` seconds."""
    return len(a) == len(b) and all(
        x[:2] == y[:2]
        and _same_number(x[2], y[2])
        and _same_time(x[3], y[3], grain)
        and _same_exemplar(x[4], y[4], grain)
        for x, y in zip(a, b, strict=True)
    )


def verdict(reading: Reading, expected: Reading = None) -> str:
    """The word of the table in docs/formats.md."""
    if reading is None:
        return "error"
    return "read" if expected is None or alike(reading, expected) else "other"


# ------------------------------------------------------------------- Prometheus

PROMETHEUS_VERSION = "2.42."


def has_prometheus() -> bool:
    """Whether the version that the table speaks of is installed."""
    command = shutil.which("prometheus")
    if not command:
        return False
    told = subprocess.run([command, "--version"], capture_output=True, text=True, env=unwatched())
    return f"version {PROMETHEUS_VERSION}" in told.stdout + told.stderr


def _answer(page: bytes, openmetrics: bool) -> bytes:
    kind = (
        b"application/openmetrics-text; version=1.0.0; charset=utf-8"
        if openmetrics
        else b"text/plain; version=0.0.4"
    )
    return b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s" % (kind, len(page), page)


def _scraped(port: int, count: int) -> list[bool]:
    """Whether the nth target is up, once all have been scraped."""
    up: dict[int, bool] = {}

    def all_are_scraped() -> bool:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/targets", timeout=60) as answer:
            targets = json.load(answer)["data"]["activeTargets"]
        told = [target for target in targets if target["health"] != "unknown"]
        up.update((int(target["labels"]["page"]), target["health"] == "up") for target in told)
        return len(told) == count

    assert eventually(all_are_scraped, seconds=120), "Prometheus did not scrape every page"
    return [up[i] for i in range(count)]


def read_with_prometheus(folder: Path, pages: Sequence[tuple[bytes, bool]]) -> list[bool]:
    """Whether a Prometheus on this machine accepts each page, text or OpenMetrics, when it scrapes it."""

    def reply(request: Request, _: Any) -> bytes:
        return _answer(*pages[int(request.path.strip("/"))])

    with serving(reply) as server:
        targets = [
            {"targets": [f"127.0.0.1:{server.port}"], "labels": {"__metrics_path__": f"/{i}", "page": str(i)}}
            for i in range(len(pages))
        ]
        job = {"job_name": "pages", "static_configs": targets}
        times = {"scrape_interval": "4s", "scrape_timeout": "4s"}
        with prometheus(folder, {"global": times, "scrape_configs": [job]}) as port:
            return _scraped(port, len(pages))
