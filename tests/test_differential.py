"""Pages made by chance, read here and by prometheus_client: alike, or as a row of docs/formats.md says."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import NamedTuple

import pytest
from format_rows import table
from generated import damaged, page
from readers import Reading, alike, read_with_client, reading_of_page

import sglang_collect as sc

PAGES = int(os.environ.get("SGLANG_COLLECT_PAGES", "400"))
"""Pages of each kind; a hundred thousand take ten minutes."""


def read(data: bytes, *, openmetrics: bool = False, strict: bool = False) -> Reading:
    try:
        parsed = sc.parse(data, format="openmetrics" if openmetrics else "text", strict=strict)
    except sc.ExpositionError:
        return None
    return reading_of_page(parsed)


# -------------------------------------------------------------------- the rules


class Rule(NamedTuple):
    """A row of the table, and the lines on which it makes the two differ."""

    row: str
    applies: Callable[[bytes], bool]


def holds(pattern: str) -> Callable[[bytes], bool]:
    compiled = re.compile(pattern)

    def applies(line: bytes) -> bool:
        return bool(compiled.search(line.decode("utf-8", "surrogateescape")))

    return applies


def outside_quotes(pattern: str) -> Callable[[bytes], bool]:
    """The same with nothing left in quotes."""
    on_rest = holds(pattern)
    return lambda line: on_rest(re.sub(LABEL_VALUE, b'""', line))


OTHER_BLANK = r"[\v\f\r\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
LABEL_VALUE = rb'"(?:[^"\\]|\\.)*"'
NAME = rb"[a-zA-Z_:][a-zA-Z0-9_:]*"


def _bad_name(line: bytes) -> bool:
    name, brace, _ = line.strip(b" \t").partition(b"{")
    return bool(brace) and not re.fullmatch(NAME + rb"[ \t]*", name)


def behind_value(pattern: bytes) -> Callable[[bytes], bool]:
    """Whether what stands behind name, labels and value is this."""
    series = rb"[ \t]*%s(?:[ \t]+|[ \t]*\{(?:[^\"}]|%s)*\}[ \t]*)" % (NAME, LABEL_VALUE)
    compiled = re.compile(series + rb"[-+.\w][^ \t]*[ \t]+" + pattern + rb"[ \t]*\r?")
    return lambda line: bool(compiled.fullmatch(line))


CLIENT_READS_MORE = [
    Rule("bad-name", _bad_name),
    Rule("other-blanks", holds(OTHER_BLANK)),
    Rule("nul-name", holds(r"^[^\"]*\x00")),
    Rule("nul-comment", holds(r"^\s*#.*\x00")),
    Rule("leading-comma", outside_quotes(r"\{[ \t]*,")),
    Rule("blank-comma", outside_quotes(r",[ \t]+,")),
    Rule("no-label-value", outside_quotes(r"[{,][^\"=,]*=[ \t]*[,}]")),
    Rule("colon-label", outside_quotes(r"[{,]\s*\w*:[\w:]*\s*=")),
    Rule("escape-in-label", outside_quotes(r"\w\\n\s*=")),
    Rule("lone-word", holds(r"(?i)^\s*\w?[-+]?(?:nan|inf|infinity)\s*$")),
    Rule("timestamp-fraction", behind_value(rb"[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?")),
    Rule("timestamp-words", behind_value(rb"(?i:[-+]?(?:nan|inf|infinity))")),
    Rule("timestamp-range", behind_value(rb"[-+]?\d{19,}")),
    Rule("more-tokens", behind_value(rb"(?!#)[^ \t]+[ \t].*")),
    Rule("exemplar", behind_value(rb"(?:[^ \t]+ )?#.*")),
    Rule("no-family", holds(r"^\s*#\s*HELP\s*$")),
]
"""Text that prometheus_client takes and we do not."""

CLIENT_READS_LESS = [
    Rule("reserved-label", outside_quotes(r"[{,]\s*__\w*\s*=")),
    Rule("hash-type", holds(r"^\s*#.*(?:TYPE|HELP)\s")),
    Rule("type-alone", holds(r"^\s*#\s*TYPE\s*$")),
]
"""Text that we take and prometheus_client does not."""

CLIENT_ROUNDS = Rule("timestamp-huge", behind_value(rb"[-+]?\d{16,}"))
"""Text whose time prometheus_client rounds once, and we twice."""


def test_every_rule_is_a_row_of_the_table() -> None:
    rows = table()
    for rule in CLIENT_READS_MORE:
        assert (rows[rule.row]["text"], rows[rule.row]["client text"]) == ("error", "read"), rule.row
    for rule in CLIENT_READS_LESS:
        assert (rows[rule.row]["text"], rows[rule.row]["client text"]) == ("read", "error"), rule.row
    assert rows[CLIENT_ROUNDS.row]["client text"] == "other"


def explained(line: bytes, mine: Reading, client: Reading) -> bool:
    """Two readings of a line are the same, or a rule says why not."""
    if mine is None or client is None:
        rules = CLIENT_READS_MORE if mine is None else CLIENT_READS_LESS
        return mine is client or any(rule.applies(line) for rule in rules)
    return alike(mine, client) or (CLIENT_ROUNDS.applies(line) and alike(mine, client, grain=1e-9))


@pytest.mark.parametrize("make", [page, damaged])
def test_text_is_read_as_prometheus_client_reads_it(make: Callable[[int], bytes]) -> None:
    for seed in range(PAGES):
        data = make(seed)
        samples: list[object] | None = []
        for line in data.split(b"\n"):
            mine = read(line)
            assert explained(line, mine, read_with_client(line, openmetrics=False)), (seed, line)
            samples = None if samples is None or mine is None else samples + mine
        whole = read(data)
        assert (whole is None) == (samples is None), seed
        assert whole is None or len(whole) == len(samples or []), seed


# ----------------------------------------------------------------- OpenMetrics


def refused_at(data: bytes, *, strict: bool) -> bytes:
    """The page up to the end of the line that we refuse; b"" where we read it."""
    try:
        sc.parse(data, format="openmetrics", strict=strict)
    except sc.ExpositionError as error:
        lines = data.split(b"\n")
        return b"\n".join(lines[: error.line])
    return b""


def last_line(pattern: str) -> Callable[[bytes], bool]:
    on_line = holds(pattern)
    return lambda data: on_line(data.rpartition(b"\n")[2])


def last_line_outside_quotes(pattern: str) -> Callable[[bytes], bool]:
    on_line = outside_quotes(pattern)
    return lambda data: on_line(data.rpartition(b"\n")[2])


def _series_twice(data: bytes) -> bool:
    series = [
        frozenset(re.split(rb"[{},]", line.rpartition(b" # ")[0] or line)[:-1]) for line in data.split(b"\n")
    ]
    names = [re.match(NAME, line) for line in data.split(b"\n")]
    keys = [(name and name[0], labels) for name, labels in zip(names, series, strict=True)]
    return keys[-1] in keys[:-1]


def _info_times(data: bytes) -> bool:
    return bool(re.search(rb"^# TYPE \S+ info$", data, re.MULTILINE)) and bool(
        re.search(rb"_info\S.*\} 1 \S+$", data, re.MULTILINE)
    )


OPENMETRICS_CLIENT_READS_MORE = [
    Rule("other-blanks", last_line(OTHER_BLANK)),
    Rule("blanks-in-labels", last_line_outside_quotes(r"[{,=]\s|\s[{=,}]")),
    Rule("blanks-before-exemplar", last_line_outside_quotes(r"\s\s#")),
    Rule("blanks-in-metadata", last_line(r"^#\s.*\s\s|^#\s\s")),
    Rule("no-blank", last_line_outside_quotes(r"^[^}]*\}[^ ]")),
    Rule("hash", last_line(r"^#\S+ ")),
    Rule("colon-label", last_line_outside_quotes(r"[{,]\w*:[\w:]*=")),
    Rule("words", last_line_outside_quotes(r"(?i)\s[-+]?(?:nan|inf|infinity)(?:\s|$)")),
    Rule("timestamp-tab", last_line_outside_quotes(r" \d*(?:\s\.|\.\s)\d")),
    Rule("timestamp-quote", last_line_outside_quotes(r'\s[\d.]*"')),
    Rule("same-series", _series_twice),
    Rule("bound-text", last_line(r'(?:le|quantile)="(?:\s|[^"]*(?:\s"|_))')),
]
"""OpenMetrics that prometheus_client takes and strict reading does not."""

OPENMETRICS_CLIENT_READS_LESS = [
    Rule("reserved-label", outside_quotes(r"[{,]__\w*=")),
    Rule("info-times", _info_times),
    Rule("timestamp-kinds", holds(r" (?:\d+[eE]\d+|\.\d+)\n")),
]
"""OpenMetrics that strict reading takes and prometheus_client does not."""


def test_every_rule_of_openmetrics_is_a_row_of_the_table() -> None:
    rows = table()
    for rule in OPENMETRICS_CLIENT_READS_MORE:
        assert rows[rule.row]["strict"] == "error", rule.row
        assert rows[rule.row]["client openmetrics"] in {"read", "other"}, rule.row
    for rule in OPENMETRICS_CLIENT_READS_LESS:
        assert (rows[rule.row]["strict"], rows[rule.row]["client openmetrics"]) == ("read", "error"), rule.row


@pytest.mark.parametrize("make", [page, damaged])
def test_openmetrics_is_read_as_prometheus_client_reads_it(make: Callable[..., bytes]) -> None:
    for seed in range(PAGES):
        data = make(seed, openmetrics=True)
        strict = read(data, openmetrics=True, strict=True)
        lenient = read(data, openmetrics=True)
        client = read_with_client(data, openmetrics=True)
        if strict is not None:
            assert lenient is not None, seed
            assert alike(strict, lenient), seed
        if strict is None and client is not None:
            until = refused_at(data, strict=True)
            assert any(rule.applies(until) for rule in OPENMETRICS_CLIENT_READS_MORE), (seed, until)
        elif strict is not None and client is None:
            assert any(rule.applies(data) for rule in OPENMETRICS_CLIENT_READS_LESS), (seed, data)
        elif strict is not None and client is not None:
            assert alike(strict, client, grain=1e-9), seed  # row `nanoseconds`
        if lenient is None and client is not None:
            until = refused_at(data, strict=False)
            assert any(rule.applies(until) for rule in OPENMETRICS_CLIENT_READS_MORE), (seed, until)
