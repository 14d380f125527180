"""The native groups and the ranks on recorded pages of real releases, against their truth files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from truth import Truth, native_fields, page_format, rank_rows, recorded_pages

from sglang_collect import SGLangMetricsSnapshot

PAGES = recorded_pages()
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)


def read(page: Path) -> SGLangMetricsSnapshot:
    return SGLangMetricsSnapshot.from_text(
        page.read_bytes(), instance_id="sglang-001", format=page_format(page)
    )


def same(got: Any, wanted: Any) -> bool:
    if wanted is None or got is None:
        return got is wanted
    if isinstance(wanted, tuple):
        return all(same(g, w) for g, w in zip(got, wanted, strict=True))
    if isinstance(wanted, dict):
        return got.keys() == wanted.keys() and all(same(got[key], wanted[key]) for key in wanted)
    if isinstance(got, int):
        return got == round(wanted)
    return math.isclose(got, wanted, rel_tol=1e-9, abs_tol=1e-12)


@every_page
def test_every_native_field_is_what_the_rule_gives(page: Path) -> None:
    dumped = read(page).model_dump()
    wanted = native_fields(Truth(page))
    wrong = {}
    for name, value in wanted.items():
        group, field = name.split(".")
        if not same(dumped[group][field], value):
            wrong[name] = dumped[group][field], value
    assert not wrong


@pytest.mark.skipif(not PAGES, reason="no recorded pages")
def test_the_second_opinion_has_every_native_field() -> None:
    dumped = read(PAGES[0]).model_dump()
    groups = {name.split(".")[0] for name in native_fields(Truth(PAGES[0]))}
    assert {f"{group}.{field}" for group in groups for field in dumped[group]} == set(
        native_fields(Truth(PAGES[0]))
    )


@every_page
def test_ranks_are_the_data_parallel_groups_in_order(page: Path) -> None:
    got = [rank.model_dump() for rank in read(page).ranks]
    wanted = rank_rows(Truth(page))
    assert len(got) == len(wanted)
    assert all(same(g, w) for g, w in zip(got, wanted, strict=True))


@every_page
def test_the_page_says_which_models_and_what_kind_of_engine(page: Path) -> None:
    truth, snapshot = Truth(page), read(page)
    assert snapshot.model_names == truth.values_of("model_name")
    assert snapshot.engine_type == ("+".join(truth.values_of("engine_type")) or None)
