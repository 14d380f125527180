"""What the rows of the table in docs/formats.md are about: pages as examples, by the name of the row.

All pages of a row and a format have the same fate with each reader.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

COLUMNS = (
    "text",
    "openmetrics",
    "strict",
    "client text",
    "client openmetrics",
    "prometheus text",
    "prometheus openmetrics",
)
COUNTER = b"# TYPE a counter\n"
HISTOGRAM = b"# TYPE a histogram\n"
INFINITE = b'a_bucket{le="+Inf"} 1\n'

_TEXT: dict[str, tuple[bytes, ...]] = {
    "no-final-newline": (b"a 1",),
    "empty-page": (b"",),
    "crlf": (b"a 1\r\n",),
    "blanks-before": (b"  a 1\n",),
    "blanks-behind": (b"a 1\t\n",),
    "blanks-in-labels": (b'a { x = "1" , y="2" } 1\n',),
    "blanks-before-value": (b"a  1\n", b"a\t1\n"),
    "blanks-in-metadata": (b"#  TYPE  a  gauge\na 1\n",),
    "no-blank": (b'a{x="1"}12\n',),
    "other-blanks": (b"\xc2\xa0a 1\n", b"a 1\x0c\n"),
    "blank-line": (b"a 1\n\n \nb 2\n",),
    "comment": (b"# some text\na 1\n", b"#HELP a b\na 1\n", b"#\na 1\n"),
    "hash": (b"#x TYPE a gauge\na 1\n",),
    "hash-type": (b"#x TYPE a other\na 1\n", b"#x HELP 1 b\na 1\n", b"# HELP\r1 b\na 1\n"),
    "type-alone": (b"# TYPE\na 1\n",),
    "bad-name": (b'a-b{x="1"} 1\n', b'1a{x="1"} 1\n'),
    "no-name": (b'{x="1"} 1\n', b"{} 1\n"),
    "quoted-name": (b'{"a.b", x="1"} 1\n', b'a{"x.y"="1"} 1\n'),
    "unknown-escape": (b'a{x="\\t"} 1\n',),
    "trailing-comma": (b'a{x="1",} 1\n',),
    "leading-comma": (b'a{,x="1"} 1\n', b"a{,} 1\n"),
    "double-comma": (b'a{x="1",,y="2"} 1\n',),
    "blank-comma": (b'a{x="1", ,y="2"} 1\n',),
    "no-comma": (b'a{x="1"y="2"} 1\n',),
    "no-label-value": (b"a{x=} 1\n",),
    "duplicate-label": (b'a{x="1",x="1"} 1\n', b'a{x="1",x="2"} 1\n'),
    "name-label": (b'a{__name__="b"} 1\n',),
    "reserved-label": (b'a{__x="b"} 1\n',),
    "colon-label": (b'a{x:y="1"} 1\n',),
    "escape-in-label": (b'a{x\\n="1"} 1\n',),
    "newline": (b'a{x="1\n2"} 1\n',),
    "utf8": (b'a{x="\xff"} 1\n', b"# HELP a \xc0\x80\na 1\n"),
    "utf8-comment": (b"# \xff\na 1\n",),
    "nul-value": (b'a{x="\x00"} 1\n', b"# HELP a \x00\na 1\n"),
    "nul-name": (b'a\x00{x="1"} 1\n',),
    "nul-comment": (b"# \x00\na 1\n",),
    "byte-order-mark": (b"\xef\xbb\xbfa 1\n",),
    "words": (b"a nan\n", b"a Inf\n", b"a INFINITY\n"),
    "three-words": (b"a NaN\nb +Inf\nc -Inf\n",),
    "signed-nan": (b"a +NaN\n",),
    "hexadecimal": (b"a 0x10\n", b"a 0x1p4\n", b"a 1_0\n"),
    "other-digits": ("a １２\n".encode(),),
    "overflow": (b"a 1e400\n",),
    "no-digit": (b"a .\n", b"a +\n", b"a 1e\n", b"a --1\n"),
    "no-value": (b"a\n", b"a \n", b'a{x="1"}\n'),
    "lone-word": (b"nan\n",),
    "timestamp": (b"a 1 1395066363000\n",),
    "timestamp-sign": (b"a 1 -5\n", b"a 1 +5\n"),
    "timestamp-fraction": (b"a 1 5.5\n", b"a 1 1e3\n"),
    "timestamp-words": (b"a 1 NaN\n",),
    "timestamp-huge": (b"a 1 123456789012345678\n",),
    "timestamp-range": (b"a 1 9223372036854775808\n",),
    "more-tokens": (b"a 1 2 3\n",),
    "exemplar": (b'a_total 1 # {x="1"} 1\n',),
    "type-untyped": (b"# TYPE a untyped\na 1\n",),
    "type-openmetrics": (b"# TYPE a stateset\na 1\n",),
    "type-other": (b"# TYPE a other\na 1\n", b"# TYPE a\na 1\n", b"# TYPE a gauge b\na 1\n"),
    "help-empty": (b"# HELP a\na 1\n", b"# HELP a \na 1\n"),
    "no-family": (b"# HELP \na 1\n",),
    "type-late": (b"a 1\n# TYPE a gauge\n",),
    "type-twice": (b"# TYPE a gauge\n# TYPE a gauge\na 1\n",),
    "grouping": (b'a 1\nb 1\na{x="1"} 2\n',),
    "same-series": (b"a 1\na 1\n",),
    "suffix": (COUNTER + b"a 1\n",),
    "clash": (b'# TYPE a_total gauge\na_total 1\n# TYPE a counter\na_total{x="1"} 1\n',),
    "buckets": (HISTOGRAM + b'a_bucket{le="2"} 1\na_bucket{le="1"} 1\n', HISTOGRAM + b'a_bucket{le="1"} 1\n'),
    "le": (HISTOGRAM + b'a_bucket{le="x"} 1\n',),
    "bound-text": (HISTOGRAM + b'a_bucket{le=" 1"} 1\n', HISTOGRAM + b'a_bucket{le="1_0"} 1\n'),
    "values": (COUNTER + b"a_total -1\n",),
}

# Without the `# EOF` that ends them, unless the row is about that.
_OPENMETRICS: dict[str, tuple[bytes, ...]] = {
    "no-final-newline": (b"a 1\n# EOF",),
    "no-eof": (b"a 1\n", b"a 1\n# EOF\nb 2\n", b"# EOF\n# EOF\n"),
    "empty-page": (b"",),
    "crlf": (b"a 1\r\n",),
    "blanks-before": (b" a 1\n",),
    "blanks-behind": (b"a 1 \n",),
    "blanks-in-labels": (b'a{x = "1"} 1\n', b'a{x="1", y="2"} 1\n'),
    "blanks-before-value": (b"a  1\n", b"a\t1\n"),
    "blanks-before-exemplar": (COUNTER + b'a_total 1  # {x="1"} 1\n',),
    "blanks-in-metadata": (b"#  TYPE a gauge\na 1\n", b"# TYPE a  gauge\na 1\n"),
    "no-blank": (b'a{x="1"}12\n', b'a{x="1"}\t1\n'),
    "other-blanks": (b'a{x="1"\x0b} 1\n',),
    "blank-line": (b"a 1\n\n",),
    "comment": (b"# some text\na 1\n", b"#HELP a b\na 1\n"),
    "hash": (b"#x TYPE a gauge\na 1\n",),
    "hash-type": (b"#x TYPE a other\na 1\n",),
    "type-alone": (b"# TYPE\na 1\n",),
    "bad-name": (b'a-b{x="1"} 1\n', b"1a 1\n"),
    "no-name": (b'{x="1"} 1\n',),
    "quoted-name": (b'# TYPE "a.b" gauge\n{"a.b",x="1"} 1\n',),
    "unknown-escape": (b'a{x="\\t"} 1\n',),
    "trailing-comma": (b'a{x="1",} 1\n',),
    "leading-comma": (b'a{,x="1"} 1\n',),
    "double-comma": (b'a{x="1",,y="2"} 1\n',),
    "blank-comma": (b'a{x="1", ,y="2"} 1\n',),
    "no-comma": (b'a{x="1"y="2"} 1\n',),
    "no-label-value": (b"a{x=} 1\n",),
    "duplicate-label": (b'a{x="1",x="2"} 1\n',),
    "name-label": (b'a{__name__="b"} 1\n',),
    "reserved-label": (b'a{__x="b"} 1\n',),
    "colon-label": (b'a{x:y="1"} 1\n',),
    "escape-in-label": (b'a{x\\n="1"} 1\n',),
    "newline": (b'a{x="1\n2"} 1\n',),
    "utf8": (b'a{x="\xff"} 1\n', b"# HELP a \xed\xa0\x80\na 1\n"),
    "nul-value": (b'a{x="\x00"} 1\n',),
    "nul-name": (b"a\x00 1\n",),
    "byte-order-mark": (b"\xef\xbb\xbfa 1\n",),
    "words": (b"a nan\n", b"a Inf\n", b"a INFINITY\n"),
    "three-words": (b"a NaN\nb +Inf\nc -Inf\n",),
    "signed-nan": (b"a +NaN\n",),
    "hexadecimal": (b"a 0x10\n", b"a 0x1p4\n", b"a 1_0\n"),
    "other-digits": ("a １２\n".encode(),),
    "overflow": (b"a 1e400\n",),
    "no-digit": (b"a 1e\n",),
    "no-value": (b"a\n",),
    "lone-word": (b"nan\n",),
    "timestamp": (b"a 1 1395066363\n",),
    "timestamp-sign": (b"a 1 -5\n",),
    "timestamp-fraction": (b"a 1 5.5\n", b"a 1 1e3\n"),
    "timestamp-words": (b"a 1 NaN\n", b"a 1 +Inf\n"),
    "timestamp-range": (b"a 1 1e20\n",),
    "timestamp-kinds": (b"a 1 1e0\na 2 2\n", b"a 1 .5\na 2 2\n"),
    "timestamp-tab": (b"a 1 0.\t5\n", b"a 1 0\t.5\n"),
    "timestamp-quote": (b'a 1 16"00\n',),
    "more-tokens": (b"a 1 2 3\n",),
    "exemplar": (COUNTER + b'a_total 1 # {x="1"} 1\n', COUNTER + b'a_total 1 5 # {x="1"} 2 3\n'),
    "type-untyped": (b"# TYPE a untyped\na 1\n",),
    "type-openmetrics": (b'# TYPE a stateset\na{a="x"} 1\n',),
    "type-other": (b"# TYPE a other\n", b"# TYPE a gauge b\n"),
    "help-empty": (b"# HELP a \na 1\n",),
    "metadata-cut": (b"# HELP a\na 1\n", b"# UNIT a\na 1\n"),
    "no-family": (b"# HELP \na 1\n",),
    "type-late": (b"a 1\n# TYPE a gauge\n",),
    "type-twice": (b"# TYPE a gauge\n# TYPE a gauge\na 1\n",),
    "grouping": (b'a 1\nb 1\na{x="1"} 2\n',),
    "same-series": (b"a 1\na 1\n", b"a 1 1\na 2 1\n"),
    "nanoseconds": (b"a 1 1\na 2 1.0000000001\n", b"a 1 0\na 2 0.0000000001\n"),
    "suffix": (COUNTER + b"a 1\n",),
    "clash": (b'# TYPE a_total gauge\na_total 1\n# TYPE a counter\na_total{x="1"} 1\n',),
    "unit": (b"# TYPE a gauge\n# UNIT a s\na 1\n",),
    "buckets": (
        HISTOGRAM + b'a_bucket{le="2"} 1\na_bucket{le="1"} 1\n' + INFINITE,
        HISTOGRAM + b'a_bucket{le="1"} 2\n' + INFINITE,
        HISTOGRAM + b'a_bucket{le="1"} 1\n',
    ),
    "le": (HISTOGRAM + b'a_bucket{le="x"} 1\n' + INFINITE,),
    "bound-text": (
        HISTOGRAM + b'a_bucket{le=" 1"} 1\n' + INFINITE,
        HISTOGRAM + b'a_bucket{le="1_0"} 1\n' + INFINITE,
    ),
    "values": (COUNTER + b"a_total -1\n", COUNTER + b"a_total NaN\n", b"# TYPE a info\na_info 2\n"),
    "exemplar-place": (b'# TYPE a gauge\na 1 # {x="1"} 1\n',),
    "exemplar-length": (COUNTER + b'a_total 1 # {x="' + b"y" * 128 + b'"} 1\n',),
    "times": (b"a 1 2\na 1 1\n", b"a 1\na 1 1\n"),
    "info-times": (b'# TYPE a info\na_info{x="1"} 1 1\na_info{x="2"} 1\n',),
}

_ABOUT_THE_END = {"no-final-newline", "no-eof", "empty-page"}


class Examples(NamedTuple):
    text: tuple[bytes, ...]
    openmetrics: tuple[bytes, ...]


def _examples(row: str) -> Examples:
    end = b"" if row in _ABOUT_THE_END else b"# EOF\n"
    return Examples(_TEXT.get(row, ()), tuple(page + end for page in _OPENMETRICS.get(row, ())))


EXAMPLES = {row: _examples(row) for row in dict.fromkeys((*_TEXT, *_OPENMETRICS))}


def table() -> dict[str, dict[str, str]]:
    """What docs/formats.md says: row -> column -> read, other, error, or - where there is no such case."""
    rows = {}
    document = Path(__file__).resolve().parent.parent / "docs" / "formats.md"
    for line in document.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == len(COLUMNS) + 2 and cells[0].startswith("`"):
            rows[cells[0].strip("`")] = dict(zip(COLUMNS, cells[2:], strict=True))
    return rows
