"""The two grammars against the test suites of other parsers, and against the table in docs/formats.md."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest
from format_rows import EXAMPLES, table
from readers import (
    PROMETHEUS_VERSION,
    Reading,
    has_prometheus,
    read_with_client,
    read_with_prometheus,
    reading_of_page,
    verdict,
)

import sglang_collect as sc


def read(data: bytes, *, openmetrics: bool) -> list[sc.Sample] | str:
    """The samples, or "error"."""
    try:
        page = sc.parse(data, format="openmetrics" if openmetrics else "text", strict=openmetrics)
    except sc.ExpositionError:
        return "error"
    return list(page.samples)


def bits(value: float) -> str:
    """The IEEE 754 representation in hexadecimal; every NaN is one, and so is every zero."""
    if math.isnan(value):
        return "7ff8000000000001"
    return struct.pack(">d", value + 0.0).hex()


def described(sample: sc.Sample) -> dict[str, Any]:
    return {
        "name": sample.name,
        "labels": dict(sample.labels),
        "bits": bits(sample.value),
        "timestamp": sample.timestamp,
    }


def expected(case: dict[str, Any], *, openmetrics: bool) -> list[dict[str, Any]]:
    rows = []
    for row in case["expected"]:
        timestamp = row.get("timestamp")
        if timestamp is not None:
            timestamp = pytest.approx(float(timestamp) / (1 if openmetrics else 1000), abs=1e-6)
        value = struct.unpack(">d", bytes.fromhex(row["value_bits"]))[0]
        rows.append(
            {"name": row["name"], "labels": row["labels"], "bits": bits(value), "timestamp": timestamp}
        )
    return rows


def test_every_uncontested_case_is_read_alike(data: Path) -> None:
    folder = data / "conformance"
    wrong = []
    cases = [
        case
        for case in json.loads((folder / "index.json").read_text())["cases"]
        if not case["contested"] and not case.get("extension")
    ]
    for case in cases:
        openmetrics = case["format"].startswith("openmetrics")
        got = read((folder / case["file"]).read_bytes(), openmetrics=openmetrics)
        if isinstance(got, str) or case["expected"] == "error":
            alike = got == case["expected"]
        else:
            alike = [described(sample) for sample in got] == expected(case, openmetrics=openmetrics)
        if not alike:
            wrong.append(case["file"])
    assert len(cases) > 200
    assert wrong == []


# ------------------------------------------------------- the table of docs/formats.md

TABLE = table()
CASES = [
    (row, page, openmetrics)
    for row, examples in EXAMPLES.items()
    for openmetrics in (False, True)
    for page in (examples.openmetrics if openmetrics else examples.text)
]


def ours(page: bytes, *, openmetrics: bool, strict: bool = False) -> Reading:
    try:
        parsed = sc.parse(page, format="openmetrics" if openmetrics else "text", strict=strict)
    except sc.ExpositionError:
        return None
    return reading_of_page(parsed)


def test_every_row_of_the_table_has_examples() -> None:
    assert sorted(TABLE) == sorted(EXAMPLES)
    for row, cells in TABLE.items():
        text, openmetrics = (bool(pages) for pages in EXAMPLES[row])
        there = [text, openmetrics, openmetrics, text, openmetrics, text, openmetrics]
        assert [cell != "-" for cell in cells.values()] == there, row
        assert set(cells.values()) <= {"read", "other", "error", "-"}, row


@pytest.mark.parametrize(("row", "page", "openmetrics"), CASES)
def test_where_parsers_differ_the_table_decides(row: str, page: bytes, openmetrics: bool) -> None:
    if openmetrics:
        assert verdict(ours(page, openmetrics=True)) == TABLE[row]["openmetrics"]
        assert verdict(ours(page, openmetrics=True, strict=True)) == TABLE[row]["strict"]
    else:
        assert verdict(ours(page, openmetrics=False)) == TABLE[row]["text"]


@pytest.mark.parametrize(("row", "page", "openmetrics"), CASES)
def test_the_table_says_what_prometheus_client_does(row: str, page: bytes, openmetrics: bool) -> None:
    got = read_with_client(page, openmetrics=openmetrics)
    mine = ours(page, openmetrics=openmetrics)
    column = "client openmetrics" if openmetrics else "client text"
    assert verdict(got, mine) == TABLE[row][column]


@pytest.mark.skipif(not has_prometheus(), reason=f"no prometheus {PROMETHEUS_VERSION}*")
def test_the_table_says_what_prometheus_does(tmp_path: Path) -> None:
    accepted = read_with_prometheus(tmp_path, [(page, openmetrics) for _, page, openmetrics in CASES])
    wrong = []
    for (row, page, openmetrics), up in zip(CASES, accepted, strict=True):
        column = "prometheus openmetrics" if openmetrics else "prometheus text"
        if ("read" if up else "error") != TABLE[row][column]:
            wrong.append((row, page, up))
    assert wrong == []


def test_unknown_escapes_keep_both_bytes() -> None:
    sample = sc.parse(rb'a{x="\t\\\n\""} 1').samples[0]
    assert sample.labels == {"x": '\\t\\\n"'}


def test_strict_reading_compares_label_values_not_their_spelling() -> None:
    with pytest.raises(sc.ExpositionError, match="twice"):
        sc.parse(b'a{x="b\\\\s"} 1\na{x="b\\s"} 2\n# EOF\n', format="openmetrics", strict=True)


def test_a_careless_fast_path_would_misread_what_sglang_writes() -> None:
    assert sc.parse("a 1.4986231e+07").value("a") == 14986231.0
    assert sc.parse("a 1e400").value("a") == math.inf
