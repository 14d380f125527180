"""What a page can do wrong: each is an error that tells where, and nothing of the page is used."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

import sglang_collect as sc

LOTS = sc.Limits(body_bytes=1 << 28, samples=1 << 24, labels_per_sample=1 << 20, number_length=1 << 22)


def refused(page: bytes | str, line: int, column: int, words: str, *, format: str = "text") -> None:
    with pytest.raises(sc.ExpositionError) as caught:
        sc.parse(page, format=format)
    error = caught.value
    assert (error.line, error.column) == (line, column), error
    assert words in error.reason, error
    assert error.excerpt.isascii()
    assert error.excerpt.isprintable()
    assert len(error.excerpt) <= 80


BAD_UTF8 = {
    "FF": b"\xff",
    "overlong": b"\xc0\x80",
    "surrogate": b"\xed\xa0\x80",
    "past the end": b"\xf4\x90\x80\x80",
}


@pytest.mark.parametrize("bad", BAD_UTF8.values(), ids=BAD_UTF8)
def test_what_is_no_utf_8_is_found_wherever_it_stands(bad: bytes) -> None:
    refused(b'a 1\nb{c="x' + bad + b'"} 1\n', 2, 7, "UTF-8")
    refused(b"# HELP a x" + bad + b"\na 1\n", 1, 11, "UTF-8")
    refused(b"a 1\n# x" + bad + b"\n", 2, 4, "UTF-8")
    with pytest.raises(sc.ExpositionError):
        sc.parse(b"a" + bad + b" 1\n")


def test_a_nul_is_text_in_values_and_help_and_an_error_elsewhere() -> None:
    page = sc.parse(b'# HELP a x\0y\na{b="c\0d"} 1\n')
    assert page.samples[0].labels == {"b": "c\0d"}
    assert page.families["a"].help == "x\0y"
    for text in (b"\0a 1\n", b"a\0 1\n", b"a 1\0\n", b'a{b\0="c"} 1\n'):
        with pytest.raises(sc.ExpositionError):
            sc.parse(text)


def test_a_byte_order_mark_is_named() -> None:
    for page in (b"\xef\xbb\xbfa 1\n", "a 1\n".encode("utf-16"), "a 1\n".encode("utf-16-be")):
        with pytest.raises(sc.ExpositionError) as caught:
            sc.parse(page)
        assert caught.value.line == 1
    refused(b"\xef\xbb\xbfa 1\n", 1, 1, "byte order mark")
    refused("a 1\n".encode("utf-16"), 1, 1, "byte order mark")


def seconds(action: Callable[[], object]) -> float:
    best = math.inf
    for _ in range(3):
        started = time.perf_counter()
        action()
        best = min(best, time.perf_counter() - started)
    return best


LONG = {
    "a line without end": lambda n: b"a" * n,
    "a comment": lambda n: b"#" * n + b"\n",
    "a help text": lambda n: b"# HELP a " + b"x" * n + b"\na 1\n",
    "a label value": lambda n: b'a{b="' + b"x" * n + b'"} 1\n',
    "digits": lambda n: b"a " + b"1" * n + b"\n",
    "zeros before a digit": lambda n: b"a 0." + b"0" * n + b"1\n",
    "labels": lambda n: b"a{" + b",".join(b'l%d="x"' % i for i in range(n // 12)) + b"} 1\n",
    "equal labels": lambda n: b"a{" + b'l="x",' * (n // 6) + b"} 1\n",
    "samples": lambda n: b"a 1\n" * (n // 4),
    "families": lambda n: b"".join(b"# TYPE f%d gauge\n" % i for i in range(n // 20)),
}


@pytest.mark.parametrize("make", LONG.values(), ids=LONG)
def test_what_is_long_is_read_or_refused_in_no_time(make: Callable[[int], bytes]) -> None:
    page = make(1 << 20)

    def read() -> None:
        with suppress(sc.LimitExceeded, sc.ExpositionError):
            sc.parse(page, limits=LOTS)

    assert seconds(read) < 60  # were it quadratic, it would be an hour


@pytest.mark.parametrize(
    ("page", "limit", "allowed"),
    [
        (b"a{" + b",".join(b'l%d="x"' % i for i in range(1_000_000)) + b"} 1\n", "labels_per_sample", 128),
        (b"a{" + b'l="x",' * 1_000_000 + b"} 1\n", "labels_per_sample", 128),
        (b"a " + b"1" * 1_000_000 + b"\n", "number_length", None),
        (b"a" * 1_000_000 + b" 1\n", "name_length", None),
    ],
    ids=["labels", "equal labels", "digits", "name"],
)
def test_a_limit_stops_the_reading_at_once(page: bytes, limit: str, allowed: int | None) -> None:
    with pytest.raises((sc.LimitExceeded, sc.ExpositionError)) as caught:
        sc.parse(page)
    if isinstance(caught.value, sc.LimitExceeded):
        assert caught.value.limit == limit
        assert caught.value.allowed == (allowed or getattr(sc.Limits(), limit))
    else:
        assert "duplicate" in caught.value.reason

    def read() -> None:
        with pytest.raises(type(caught.value)):
            sc.parse(page)

    assert seconds(read) < max(0.05, seconds(lambda: sc.parse(b"a 1\n" * 250_000, limits=LOTS)))


def test_four_million_samples_take_a_bounded_multiple_of_the_page() -> None:
    script = """
        import resource
        import sglang_collect as sc
        page = b"a 1\\n" * 4_000_000
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            print(len(sc.parse(page, limits=sc.Limits(samples=1 << 23)).samples))
        except sc.LimitExceeded as error:
            print(error.limit)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        assert grown <= 12 * len(page), grown / len(page)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() in {"4000000", "samples"}


def test_numbers_are_rounded_right_or_refused() -> None:
    exact = {
        "1e99999999999": math.inf,
        "-1e99999999999": -math.inf,
        "1e-400": 0.0,
        "4.9e-324": 5e-324,
        "2.4e-324": 0.0,
        "1.7976931348623157e308": sys.float_info.max,
        "9007199254740993": 9007199254740992.0,
        "0." + "0" * 100 + "1": 1e-101,
        "1" + "0" * 100: 1e100,
    }
    for text, value in exact.items():
        assert sc.parse(f"a {text}\n").samples[0].value == value, text


@pytest.mark.parametrize(
    "text", ["0x10", "1_0", "１２", "1e", ".", "+", "--1", "1e+", "1.2.3", "infinite", "nan1", "1,5"]
)
def test_what_is_no_number_is_an_error_at_its_place(text: str) -> None:
    refused(f"ok 1\na {text}\n", 2, 3, "")


@pytest.mark.parametrize("text", [str(2**63), str(-(2**63) - 1), "1e20", "NaN", "1.5", "0x1"])
def test_a_timestamp_of_text_is_an_integer_that_does_not_wrap(text: str) -> None:
    refused(f"a 1 {text}\n", 1, 5, "")
    for edge in (2**63 - 1, -(2**63)):
        assert sc.parse(f"a 1 {edge}\n").samples[0].timestamp == edge / 1000


@pytest.mark.parametrize(
    ("page", "words"),
    [("a 1\n", "EOF"), ("", "EOF"), ("a 1\n# EOF\nb 1\n", "EOF"), ("a 1\n# EOF\n# EOF\n", "EOF")],
)
def test_an_openmetrics_page_ends_with_eof_once(page: str, words: str) -> None:
    with pytest.raises(sc.ExpositionError) as caught:
        sc.parse(page, format="openmetrics")
    assert "EOF" in caught.value.reason


def test_the_locale_of_the_program_changes_no_number() -> None:
    script = """
        import locale
        for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8"):
            try:
                locale.setlocale(locale.LC_ALL, name)
                break
            except locale.Error:
                pass
        import sglang_collect as sc
        assert sc.parse("a 1.5\\n").samples[0].value == 1.5
        print(locale.localeconv()["decimal_point"])
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True)


def test_a_series_twice_is_told_and_never_picked_from() -> None:
    page = sc.parse('a{b="c"} 1\na{b="c"} 2\n')
    assert [sample.value for sample in page.samples] == [1.0, 2.0]
    with pytest.raises(LookupError, match="2"):
        page.value("a", b="c")


HISTOGRAM = 'sglang:e2e_request_latency_seconds_{}{{model_name="m"{}}} {}\n'


@pytest.mark.parametrize(
    "buckets",
    [
        [("1", 5), ("2", 3), ("+Inf", 6)],
        [("1", 1), ("2", 2)],
        [("1", math.nan), ("+Inf", 2)],
        [("abc", 1), ("+Inf", 2)],
    ],
    ids=["falling", "no +Inf", "NaN", "no number"],
)
def test_a_broken_histogram_is_absent_and_the_rest_is_there(buckets: list[tuple[str, float]]) -> None:
    text = "# TYPE sglang:e2e_request_latency_seconds histogram\n"
    for le, count in buckets:
        text += HISTOGRAM.format("bucket", f',le="{le}"', count)
    text += HISTOGRAM.format("count", "", 9) + HISTOGRAM.format("sum", "", 4)
    text += 'sglang:num_running_reqs{model_name="m"} 3\n'
    snapshot = sc.SGLangMetricsSnapshot.from_text(text, instance_id="x")
    assert snapshot.system_metrics.num_requests_running == 3
    latency = snapshot.latency.end_to_end
    assert latency is None or latency.p50 is None


@pytest.mark.skipif(
    os.environ.get("SGLANG_COLLECT_EVERY_PREFIX") != "1", reason="2.2 GiB: in the long tests only"
)
def test_a_page_past_two_gibibytes_is_read_to_its_end() -> None:
    page = b"#" * (2**31 + 10) + b"\na 1\nb one\n"
    with pytest.raises(sc.ExpositionError) as caught:
        sc.parse(page, limits=sc.Limits(body_bytes=1 << 32))
    assert (caught.value.line, caught.value.column) == (3, 3)
