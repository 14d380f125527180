"""The table printed once, for pipes as for terminals."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

from .._table import _aligned, _printable
from .cells import ABSENT, COLUMNS, duration, error_text, fit, milliseconds, percent, totals_line

if TYPE_CHECKING:
    from ..fleet import Fleet
    from .rows import Board, Row, View

__all__ = ["read_twice", "write_board"]

_HEAD = ("server", *(column.title for column in COLUMNS), "error")
_WIDE = 9  # characters of a number, at most


def read_twice(fleet: Fleet, board: Board) -> None:
    """Reads every target, and where one answered all again an interval later: rates take two pages."""
    began = time.monotonic()
    board.take(fleet.scrape())
    if any(row.up for row in board.rows):
        time.sleep(max(0.0, board.interval - (time.monotonic() - began)))
        began = time.monotonic()
        board.take(fleet.scrape())
        board.interval = max(board.interval, time.monotonic() - began)  # none is stale that had to wait


def write_board(board: Board, view: View, out: TextIO) -> None:
    """Writes a line for each row of the view, and one of all rows."""
    table = [_HEAD, *(_cells(row) for row in board.view(view))]
    for line in _aligned(table, range(2, len(_HEAD) - 1)):
        print(_encodable(line, out), file=out)
    totals = "".join(cell.text for cell in totals_line(board.totals()))
    print(_encodable(f"\n{totals}", out), file=out)


def _cells(row: Row) -> tuple[str, ...]:
    numbers = (
        fit(row.running, _WIDE),
        fit(row.waiting, _WIDE),
        percent(row.kv_used),
        percent(row.cache_hit_rate),
        fit(row.tokens_per_second, _WIDE),
        *(
            milliseconds(of, quantile, _WIDE)
            for of in (row.first_token, row.inter_token)
            for quantile in ("p50", "p95")
        ),
    )
    return (_printable(row.name), row.state, duration(row.age), *numbers, error_text(row))


def _encodable(line: str, out: TextIO) -> str:
    """The line for an output that may not have all its characters."""
    try:
        line.encode(out.encoding or "utf-8")
    except UnicodeEncodeError:
        return line.replace(ABSENT, "-").replace("│", "|")
    return line
