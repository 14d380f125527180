"""A snapshot as a table for people: plain aligned text, or with rich on a terminal.

A value that the page does not have is "-", never 0. A native group with no value at all is left out.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from pydantic import BaseModel

from .models import Distribution

if TYPE_CHECKING:
    from rich.table import Table

    from .models import SGLangMetricsSnapshot

__all__ = ["write_snapshot"]

_ABSENT = "-"

_PLAN_GROUPS = ("request_metrics", "cache_metrics", "system_metrics")
_NATIVE_GROUPS = (
    *("tokens", "requests", "kv_cache", "queues"),
    *("speculative", "lora", "disaggregation", "offload"),
)
_QUANTILES = ("count", "mean", "p50", "p90", "p95", "p99")


@dataclass
class _Section:
    """A titled table. The first column is a name, ``numbers`` columns after it stand to the right."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    numbers: int


def write_snapshot(snapshot: SGLangMetricsSnapshot, out: TextIO) -> None:
    """Writes the table: with rich on a terminal, where rich is installed; it heeds NO_COLOR."""
    about = [
        _printable(f"{snapshot.instance_id}  {snapshot.endpoint}"),
        snapshot.timestamp.isoformat(timespec="seconds"),
        _printable(" ".join(snapshot.model_names)),
    ]
    notes = [_printable(f"note: {note}") for note in snapshot.notes]
    sections = list(_sections(snapshot))
    if out.isatty():
        try:
            _write_rich(about, sections, notes, out)
            return
        except ImportError:
            pass
    _write_plain(about, sections, notes, out)


def _printable(text: str) -> str:
    """Somebody else's text for a terminal: what is not printable is escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _sections(snapshot: SGLangMetricsSnapshot) -> Iterator[_Section]:
    for name in _PLAN_GROUPS:
        values = {
            field: None if f"{name}.{field}" in snapshot.absent else value
            for field, value in getattr(snapshot, name)
        }
        yield _group(name, getattr(snapshot, name), values)
    latency = [
        (name, *(_text(getattr(value, field, None)) for field in _QUANTILES))
        for name, value in snapshot.latency
    ]
    if any(isinstance(value, Distribution) for _, value in snapshot.latency):
        yield _Section("latency, seconds", ("", *_QUANTILES), latency, len(_QUANTILES))
    for name in _NATIVE_GROUPS:
        group = getattr(snapshot, name)
        if any(value is not None for _, value in group):
            yield _group(name, group, dict(group))
    if len(snapshot.ranks) > 1:
        head = tuple(type(snapshot.ranks[0]).model_fields)
        rows = [tuple(_text(value) for _, value in rank) for rank in snapshot.ranks]
        yield _Section("ranks", head, rows, len(head) - 1)


def _group(title: str, group: BaseModel, values: dict[str, Any]) -> _Section:
    rows: list[tuple[str, ...]] = []
    for name, field in type(group).model_fields.items():
        value, about = values[name], field.description or ""
        parts = value.items() if isinstance(value, dict) else [("", value)]
        rows += [(f"{name} {_printable(key)}".rstrip(), _text(part), about) for key, part in parts]
    return _Section(title, ("", "", ""), rows, 1)


def _text(value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return _ABSENT
    if isinstance(value, int):
        return str(value)
    return f"{value:.2f}" if abs(value) >= 1000 else f"{value:.4g}"


def _write_plain(about: list[str], sections: list[_Section], notes: list[str], out: TextIO) -> None:
    print(*filter(None, about), sep="\n", file=out)
    for section in sections:
        print(f"\n{section.title}", file=out)
        rows = [row for row in (section.head, *section.rows) if any(row)]
        for line in _aligned(rows, range(1, section.numbers + 1)):
            print(f"  {line}", file=out)
    if notes:
        print("", *notes, sep="\n", file=out)


def _aligned(rows: Sequence[Sequence[str]], numbers: Collection[int]) -> Iterator[str]:
    """Each row as a line; columns of these places stand to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if place in numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join(cells).rstrip()


def _write_rich(about: list[str], sections: list[_Section], notes: list[str], out: TextIO) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=out, highlight=False)
    console.print(Text(about[0], style="bold"))
    for line in filter(None, about[1:]):
        console.print(Text(line, style="dim"))
    for section in sections:
        console.print(_rich_table(section))
    for note in notes:
        console.print(Text(note, style="yellow"))


def _rich_table(section: _Section) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=section.title,
        title_justify="left",
        title_style="bold cyan",
        box=box.SIMPLE_HEAD,
        show_header=any(section.head),
    )
    for i, name in enumerate(section.head):
        right = 0 < i <= section.numbers
        table.add_column(
            name, justify="right" if right else "left", style="" if i <= section.numbers else "dim"
        )
    for row in section.rows:
        table.add_row(*(Text(cell, style="dim" if cell == _ABSENT else "") for cell in row))
    return table
