"""The screen: a table of the fleet, and one server in depth.

Results are taken as they come; what they changed is drawn twice a second, however many there are.
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, ClassVar

from textual import events, on
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Input, Static

from . import SORTS
from .cells import Cell, Layout, heading, row_line, totals_line
from .detail import Since, detail_lines, selected_lines
from .lines import Lines
from .rows import Board, Row, View

if TYPE_CHECKING:
    from ..fleet import Fleet

__all__ = ["TopApp", "run"]

_PAUSE = 0.5  # seconds between two pictures

_NOTHING = [Cell("no server matches; Esc shows all", "dim")]
_GONE = [Cell("this server is no target any more; Esc leads back", "dim")]

_HELP = """\
A row is a server, as its last scrape and the last seconds have it.

STATE    up, idle (nothing runs or waits), stale (no page for three
         intervals), down (the last scrape failed: the reason stands in
         the row), new (not read yet)
AGE      of the newest page
RUN WAIT requests in the running batch, and in the queue
KV USED  used part of the KV cache's tokens
HIT      part of the prompt tokens that came from the cache  \\
TOK/S    output tokens a second                               | in the
TTFT     milliseconds to the first token                      | window
ITL      milliseconds between tokens                         /
         "–" is what a page does not have, or what did not happen

↑ ↓ PgUp PgDn Home End   choose a row     Enter   look into it
< > or a click above     sort by          r       the other way round
/        filter: words that a server's name, address, labels, models or
         state have; Esc shows all again
t        trouble only: down, stale, new   p       pause the picture
in depth: w  latencies of the window or since the start   ← →  next server
q or Ctrl-C ends it.
"""


class FleetTable(Lines, can_focus=True):
    """The rows of a board; the cursor stays on a server wherever sorting puts it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", show=False),
        Binding("down,j", "move(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown,space", "page(1)", show=False),
        Binding("home,g", "move(-1000000)", show=False),
        Binding("end,G", "move(1000000)", show=False),
        Binding("enter", "look", "Details", key_display="Enter"),
    ]

    class Looked(Message):
        """A row is to be looked into."""

    class Moved(Message):
        """The cursor is on another row."""

    class SortedBy(Message):
        """A heading was clicked."""

        def __init__(self, column: str) -> None:
            super().__init__()
            self.column = column

    def __init__(self, view: View) -> None:
        super().__init__(id="fleet")
        self._view = view
        self._rows: list[Row] = []
        self._cursor: str | None = None

    @property
    def rows(self) -> list[Row]:
        """The rows that are shown, in their order."""
        return self._rows

    @property
    def selected(self) -> Row | None:
        place = self._place()
        return None if place is None else self._rows[place]

    def _place(self) -> int | None:
        """Where the cursor is: on its server, else on the first."""
        names = [row.name for row in self._rows]
        return names.index(self._cursor) if self._cursor in names else 0 if names else None

    def draw(self, rows: list[Row], status: str) -> None:
        """Shows these rows as they are now."""
        self._rows = rows
        layout = self._layout()
        now = time.monotonic()
        self.show(
            len(rows) or 1,
            lambda number: row_line(rows[number], layout, now) if rows else _NOTHING,
            head=heading(layout, self._view, status),
            chosen=self._place(),
        )

    def _layout(self) -> Layout:
        longest = max((len(row.name) for row in self._rows), default=0)
        return Layout.of(self.scrollable_content_region.width, longest)

    def neighbour(self, name: str, steps: int) -> str | None:
        """Puts the cursor so many rows below a server, as far as there are any; who is there."""
        names = [row.name for row in self._rows]
        if not names:
            return None
        place = names.index(name) if name in names else 0
        self._cursor = names[min(max(place + steps, 0), len(names) - 1)]
        return self._cursor

    def select(self, steps: int) -> None:
        """Moves the cursor so many rows down, as far as there are any."""
        selected = self.selected
        if selected is None:
            return
        self.neighbour(selected.name, steps)
        place = self._place() or 0
        top = self.scroll_offset.y
        self.scroll_to(y=min(max(top, place - self.page_lines + 1), place), animate=False, force=True)
        self.post_message(self.Moved())

    def action_move(self, steps: int) -> None:
        self.select(steps)

    def action_page(self, pages: int) -> None:
        self.select(pages * self.page_lines)

    def action_look(self) -> None:
        self.post_message(self.Looked())

    def on_click(self, event: events.Click) -> None:
        number = self.number_at(event.y)
        column = self._layout().column_at(event.x)
        if number is not None and number < len(self._rows):
            steps = number - (self._place() or 0)
            self.select(steps)
            if not steps:
                self.action_look()
        elif number is None and column is not None:
            self.post_message(self.SortedBy(column))


class FleetScreen(Screen[None]):
    """The table, the whole fleet above it, and the row under the cursor below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("less_than_sign", "sort(-1)", "Sort", key_display="< >"),
        Binding("greater_than_sign", "sort(1)", show=False),
        Binding("r", "reverse", "Reverse"),
        Binding("t", "trouble", "Trouble"),
        Binding("p", "pause", "Pause"),
        Binding("escape", "all", "Show all", key_display="Esc"),
    ]

    def __init__(self, board: Board, view: View) -> None:
        super().__init__()
        self.board = board
        self.view = view
        self.paused = False
        self._was_narrowed = False
        self.table = FleetTable(view)
        self._totals = Lines(id="totals")
        self._selected = Lines(id="selected")
        self._filter = Input(" ".join(view.words), placeholder="words, or a state", id="filter", compact=True)

    def compose(self) -> ComposeResult:
        yield self._totals
        yield self.table
        yield self._selected
        yield self._filter
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        self._filter.display = False
        self.table.focus()
        self.call_after_refresh(self.draw)

    def on_resize(self) -> None:
        self.call_after_refresh(self.draw)

    def draw(self) -> None:
        """Shows the board as it is now."""
        rows = self.board.view(self.view)
        self.table.draw(rows, self._status(len(rows)))
        totals = totals_line(self.board.totals())
        self._totals.show(1, lambda number: totals)
        row, width = self.table.selected, self.size.width
        lines = [] if row is None else selected_lines(row, width, time.monotonic())
        self._selected.show(len(lines), lambda number: lines[number])
        if self._narrowed != self._was_narrowed:
            self._was_narrowed = self._narrowed
            self.refresh_bindings()

    def _status(self, shown: int) -> str:
        board, words = self.board, list(self.view.words)
        if self.view.trouble:
            words.append("trouble")
        asked = "PAUSED" if self.paused else f"every {board.interval:g} s, window {board.window:g} s"
        return f"{asked}, {shown} shown: {' '.join(words)}" if words else asked

    # ------------------------------------------------------------------- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc has nothing to do where everything is shown."""
        return self._narrowed if action == "all" else True

    @property
    def _narrowed(self) -> bool:
        """Is a filter set, or being written?"""
        return bool(self.view.words or self.view.trouble or self._filter.display)

    def action_filter(self) -> None:
        self._filter.display = True
        self._filter.focus()
        self.draw()

    def action_all(self) -> None:
        self.view.trouble = False
        self._filter.value = ""
        self._end_filter()

    @on(Input.Changed)
    def _filter_by(self, event: Input.Changed) -> None:
        self.view.words = tuple(event.value.lower().split())
        self.draw()

    @on(Input.Submitted)
    def _end_filter(self) -> None:
        self._filter.display = False
        self.table.focus()
        self.draw()

    def action_sort(self, steps: int) -> None:
        self._sort_by(SORTS[(SORTS.index(self.view.sort) + steps) % len(SORTS)])

    @on(FleetTable.SortedBy)
    def _clicked(self, event: FleetTable.SortedBy) -> None:
        if event.column == self.view.sort:
            self.action_reverse()
        else:
            self._sort_by(event.column)

    def _sort_by(self, column: str) -> None:
        self.view.sort, self.view.reverse = column, False
        self.draw()

    def action_reverse(self) -> None:
        self.view.reverse = not self.view.reverse
        self.draw()

    def action_trouble(self) -> None:
        self.view.trouble = not self.view.trouble
        self.draw()

    def action_pause(self) -> None:
        self.paused = not self.paused
        self.draw()

    @on(FleetTable.Moved)
    def _moved(self) -> None:
        self.draw()

    @on(FleetTable.Looked)
    def _look(self) -> None:
        if self.table.selected is not None:
            self.app.push_screen(DetailScreen(self, self.table.selected.name))


class DetailLines(Lines, can_focus=True):
    """Lines that the keys scroll up and down."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "screen.next(-1)", "Next server", key_display="← →"),
        Binding("right", "screen.next(1)", show=False),
        Binding("k", "scroll_up", show=False),
        Binding("j", "scroll_down", show=False),
        Binding("space", "page_down", show=False),
    ]


class DetailScreen(Screen[None]):
    """One server in depth."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,backspace", "back", "Back", key_display="Esc"),
        Binding("w", "since", "Window/start"),
        Binding("p", "pause", "Pause"),
    ]

    def __init__(self, fleet: FleetScreen, name: str) -> None:
        super().__init__()
        self._fleet = fleet
        self._server = name
        self._since: Since = "window"
        self._lines = DetailLines(id="detail")

    def compose(self) -> ComposeResult:
        yield self._lines
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        self._lines.focus()
        self.call_after_refresh(self.draw)

    def on_resize(self) -> None:
        self.call_after_refresh(self.draw)

    def draw(self) -> None:
        """Shows the server as it is now."""
        row = self._fleet.board.row(self._server)
        width = max(40, self._lines.scrollable_content_region.width)
        lines = [_GONE] if row is None else detail_lines(row, width, time.monotonic(), self._since)
        self._lines.show(len(lines), lambda number: lines[number])

    def action_back(self) -> None:
        self.dismiss()
        self._fleet.draw()

    def action_since(self) -> None:
        self._since = "start" if self._since == "window" else "window"
        self.draw()

    def action_next(self, steps: int) -> None:
        self._server = self._fleet.table.neighbour(self._server, steps) or self._server
        self._lines.scroll_to(y=0, animate=False, force=True)
        self.draw()

    def action_pause(self) -> None:
        self._fleet.action_pause()


class HelpScreen(ModalScreen[None]):
    """What the columns and the keys are."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q,question_mark", "dismiss", "Back", key_display="Esc")
    ]

    def compose(self) -> ComposeResult:
        yield Static(_HELP, markup=False)


class TopApp(App[None]):
    """Watches a fleet and shows it; see ``run``."""

    CSS = """
    Screen { background: ansi_default; color: ansi_default; }
    #totals, #selected { height: auto; overflow: hidden; }
    #totals { height: 1; }
    #selected { height: 2; }
    #fleet, #detail { height: 1fr; overflow-x: hidden; scrollbar-size-vertical: 1; }
    #filter { height: 1; border: none; background: ansi_default; }
    HelpScreen { align: center middle; background: ansi_default; }
    HelpScreen Static { width: auto; height: auto; max-height: 100%; padding: 0 1; }
    """
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("q", "quit", "Quit"),
        Binding("ctrl+c", "quit", show=False, priority=True),
        Binding("ctrl+z", "suspend_process", show=False),
    ]

    def __init__(self, fleet: Fleet, *, interval: float, window: float, view: View) -> None:
        super().__init__(ansi_color=True)
        self.theme = "ansi-dark" if "ansi-dark" in self.available_themes else "textual-ansi"  # that of 8.0
        self.animation_level = "none"
        self.title = "sglang-collect top"
        self._fleet = fleet
        self.board = Board(fleet, interval=interval, window=window)
        self.fleet_screen = FleetScreen(self.board, view)

    def get_default_screen(self) -> Screen[None]:
        return self.fleet_screen

    def on_mount(self) -> None:
        self.app_resume_signal.subscribe(self, self._resumed)
        self.run_worker(self._watch(), name="watch")
        self.set_interval(_PAUSE, self._tick)

    async def _watch(self) -> None:
        async for results in self._fleet.watch(self.board.interval):
            self.board.take(results)

    def _resumed(self, app: App[object]) -> None:
        """Back in the foreground, the terminal has forgotten everything."""
        self.screen.refresh(layout=True)

    def _tick(self) -> None:
        self.board.sync()
        screen = self.screen
        if not self.fleet_screen.paused and isinstance(screen, (FleetScreen, DetailScreen)):
            screen.draw()

    def action_help(self) -> None:
        self.push_screen(HelpScreen())


def run(fleet: Fleet, *, interval: float, window: float, view: View) -> int:
    """Shows a fleet, which is entered, until the user or a signal ends it; the exit code.

    Args:
        fleet: the servers.
        interval: seconds between two scrapes of each.
        window: seconds that rates and latencies are of, at least.
        view: what is shown at first.
    """
    app = TopApp(fleet, interval=interval, window=window, view=view)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, app.exit)
        await app.run_async()

    asyncio.run(main())
    return app.return_code or 0
