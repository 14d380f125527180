"""Lines of cells as widgets: what has changed is drawn again, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.strip import Strip

from .cells import PICTURES, Line

__all__ = ["STYLES", "Lines"]

STYLES = {
    "": Style(),
    "good": Style(color="green"),
    "warn": Style(color="yellow", bold=True),
    "bad": Style(color="red", bold=True),
    "dim": Style(dim=True),
    "strong": Style(bold=True),
    "line": Style(color="cyan"),
    "hot": Style(color="yellow"),
    "full": Style(color="red"),
}
"""The terminal's own colours, so that they are right on a dark one as on a light one."""

_CHOSEN, _PLAIN = Style(reverse=True), Style()


class Lines(ScrollView, can_focus=False):
    """Lines that are made when they are drawn; taller than its place, it scrolls, the head excepted."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._head: list[Line] = []
        self._count = 0
        self._line: Callable[[int], Line] = _no_line
        self._chosen: int | None = None
        self._drawn: dict[int, tuple[Line, bool]] = {}  # by their place on the screen

    def show(
        self,
        count: int,
        line: Callable[[int], Line],
        *,
        head: Sequence[Line] = (),
        chosen: int | None = None,
    ) -> None:
        """From now on it shows ``count`` lines, which a function gives by number, ``chosen`` reversed."""
        self._head, self._count, self._line, self._chosen = list(head), count, line, chosen
        size = Size(self.size.width, len(self._head) + count)
        if size != self.virtual_size:
            self.virtual_size = size
            self.refresh()
            return
        changed = [region for y in range(self.size.height) if (region := self._changed(y))]
        if changed:
            self.refresh(*changed)

    def _changed(self, y: int) -> Region | None:
        """Where a line is drawn otherwise than it should be: what is sent to a terminal far away."""
        now, chosen = self._at(y)
        before, was_chosen = self._drawn.get(y, ([], not chosen))
        if chosen != was_chosen:
            return Region(0, y, self.size.width, 1)
        start, end = _difference(before, now)
        return Region(start, y, min(end, self.size.width) - start, 1) if start < end else None

    @property
    def page_lines(self) -> int:
        """So many lines are in sight, those of the head not counted."""
        return max(1, self.size.height - len(self._head))

    def number_at(self, y: int) -> int | None:
        """The number of the line that is shown there."""
        number = y - len(self._head) + self.scroll_offset.y
        return number if y >= len(self._head) and 0 <= number < self._count else None

    def _at(self, y: int) -> tuple[Line, bool]:
        """What belongs there, and is it the chosen one?"""
        if y < len(self._head):
            return self._head[y], False
        number = self.number_at(y)
        return ([], False) if number is None else (self._line(number), number == self._chosen)

    def render_line(self, y: int) -> Strip:
        line, chosen = self._drawn[y] = self._at(y)
        segments = [
            Segment(
                cell.text, STYLES[cell.style] + (_CHOSEN if chosen and cell.style not in PICTURES else _PLAIN)
            )
            for cell in line
        ]
        return Strip(segments).adjust_cell_length(self.size.width).apply_style(self.rich_style)


def _difference(before: Line, now: Line) -> tuple[int, int]:
    """The columns from the first that differs to behind the last; to the end where the lengths differ."""
    widths = [cell_len(cell.text) for cell in now]
    whole = sum(widths)
    if len(before) != len(now) or whole != sum(cell_len(cell.text) for cell in before):
        return 0, sys.maxsize
    places = [place for place, pair in enumerate(zip(before, now, strict=True)) if pair[0] != pair[1]]
    return (sum(widths[: places[0]]), sum(widths[: places[-1] + 1])) if places else (0, 0)


def _no_line(number: int) -> Line:
    return []
