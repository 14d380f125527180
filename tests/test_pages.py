"""The plan's fields on recorded pages of real releases, against their truth files."""

from __future__ import annotations

import math
from operator import attrgetter
from pathlib import Path

import pytest
from truth import Truth, page_format, plan_fields, recorded_pages

from sglang_collect import SGLangMetricsSnapshot

PAGES = recorded_pages()
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def read(page: Path) -> SGLangMetricsSnapshot:
    return SGLangMetricsSnapshot.from_text(
        page.read_bytes(), instance_id="sglang-001", format=page_format(page)
    )


@pytest.mark.skipif(not PAGES, reason="no recorded pages")
def test_there_are_pages_of_many_releases() -> None:
    assert len({page.stem.split("-")[0] for page in PAGES}) >= 8


@every_page
def test_every_plan_field_is_what_the_rule_gives(page: Path) -> None:
    snapshot = read(page)
    for name, wanted in plan_fields(Truth(page)).items():
        got = attrgetter(name)(snapshot)
        if wanted is None:
            assert (got, name in snapshot.absent) == (0, True), name
            continue
        assert name not in snapshot.absent, name
        if isinstance(got, int):
            assert got == round(wanted), name
        else:
            assert math.isclose(got, wanted, rel_tol=1e-9), name


@every_page
def test_running_waiting_and_throughput_are_those_of_the_whole_server(page: Path) -> None:
    server = Truth(page).workload.get("server_level")
    snapshot = read(page)
    if not server or "system_metrics.num_requests_running" in snapshot.absent:
        pytest.skip("the truth file does not say")
    if any("one rank shown" in note for note in snapshot.notes):
        pytest.skip("the page shows one rank of a release that cannot show more")
    assert snapshot.system_metrics.num_requests_running == server["running"]
    assert snapshot.system_metrics.num_requests_waiting == server["waiting"]
    assert math.isclose(
        snapshot.system_metrics.throughput_tokens_per_second, server["gen_throughput"], rel_tol=1e-9
    )


@every_page
def test_raw_metrics_are_every_sample_of_the_page(page: Path) -> None:
    lines = [line for line in page.read_text().splitlines() if line and not line.startswith("#")]
    snapshot = read(page)
    assert len(snapshot.raw_metrics) == len(lines)
    assert [metric.name for metric in snapshot.raw_metrics] == [
        line.split("{")[0].split(" ")[0] for line in lines
    ]


@every_page
def test_a_snapshot_survives_json(page: Path) -> None:
    snapshot = read(page)
    text = snapshot.model_dump_json()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert SGLangMetricsSnapshot.model_validate_json(text) == snapshot
