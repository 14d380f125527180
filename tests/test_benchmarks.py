"""Benchmarks are no tests, but what they measure has to be what the package does."""

from __future__ import annotations

import importlib.util
import sys

from tools_of import ROOT

from sglang_collect.catalog import sglang


def test_the_reader_is_measured_with_the_extracts_of_the_plan_of_snapshots() -> None:
    spec = importlib.util.spec_from_file_location("benchmarks_reader", ROOT / "benchmarks" / "reader.py")
    assert spec is not None
    assert spec.loader is not None
    reader = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = reader
    spec.loader.exec_module(reader)
    prefixes, extracts = reader.plan_parts()
    assert prefixes == sglang.PREFIXES
    assert list(extracts) == list(sglang.plan().names)[: len(extracts)]
    assert reader.plan_in_c().count(".kind = ") == len(extracts) > 80
