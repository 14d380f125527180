"""`sglang-collect top`: what stands on the screen is what is true of the servers."""

from __future__ import annotations

import math
import re
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from fleets import dead, echo
from screens import cells_of, lines_of, until
from servers import Request, answer, serving, silence, unused_port
from textual.app import App, ComposeResult
from textual.geometry import Region
from textual.pilot import Pilot
from tools_of import ROOT, load_tool

import sglang_collect as sc
from sglang_collect.simulator import LoadModel, Simulator
from sglang_collect.top import SORTS, cells, rows
from sglang_collect.top.app import DetailScreen, TopApp
from sglang_collect.top.detail import detail_lines
from sglang_collect.top.lines import Lines
from sglang_collect.top.rows import SORT_KEYS, Board, View


@dataclass
class Shown:
    """An app that runs, and the fleet it shows."""

    app: TopApp
    pilot: Pilot[None]
    fleet: sc.Fleet

    @property
    def lines(self) -> list[str]:
        return lines_of(self.app)

    @property
    def names(self) -> list[str]:
        return [row.name for row in self.app.fleet_screen.table.rows]

    def cells(self, name: str) -> dict[str, str]:
        return cells_of(self.lines, name)

    async def until(self, condition: Any, *, seconds: float = 60.0) -> None:
        await until(self.pilot, condition, seconds=seconds)

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()


@asynccontextmanager
async def showing(
    *targets: sc.Target,
    size: tuple[int, int] = (80, 24),
    interval: float = 0.1,
    window: float = 10.0,
    view: View | None = None,
    timeout: float = 30.0,
) -> AsyncIterator[Shown]:
    async with sc.Fleet(targets, timeout=timeout) as fleet:
        app = TopApp(fleet, interval=interval, window=window, view=view or View())
        async with app.run_test(size=size) as pilot:
            yield Shown(app, pilot, fleet)


def target(name: str, url: str, **labels: str) -> sc.Target:
    return sc.Target(name, url, labels=labels)


def quantile(q: float, bounds: Sequence[float], counts: Sequence[int]) -> float:
    """PromQL's quantile of a histogram with these counts a bucket."""
    rank, below, lower = q * sum(counts), 0, 0.0
    for bound, count in zip(bounds, counts, strict=False):
        if below + count >= rank:
            return lower + (bound - lower) * (rank - below) / count
        below, lower = below + count, bound
    return bounds[-1]


def histogram_of(model: LoadModel, name: str) -> tuple[Sequence[float], list[int]]:
    """A latency of a simulated server, all its series together."""
    all_of = [getattr(series, name) for series in model.by_streaming.values()]
    return all_of[0].bounds, [sum(counts) for counts in zip(*(one.counts for one in all_of), strict=True)]


def observed(model: LoadModel) -> dict[str, tuple[Sequence[float], list[int]]]:
    return {
        "ttft": histogram_of(model, "time_to_first_token"),
        "itl": (model.inter_token.bounds, list(model.inter_token.counts)),
    }


# ------------------------------------------------------------------ the numbers


async def test_the_row_of_a_server_is_its_truth() -> None:
    with Simulator(LoadModel(dp=2, tp=2, seed=4, load=0.9), frozen=True) as simulator:
        simulator.step(60)
        before = observed(simulator.model)
        decoded = sum(group.decoded for group in simulator.model.groups)
        hits = [(g.prefill_cached, g.prefill_computed) for g in simulator.model.groups]
        async with showing(target("one", simulator.url), interval=1.0, window=600) as shown:
            row = shown.app.board.rows[0]
            await shown.until(lambda: row.result)
            simulator.step(10)
            level = simulator.truth()["server_level"]
            model = simulator.model
            made = sum(group.decoded for group in model.groups) - decoded

            def drawn() -> bool:
                """Is the newest page on the screen, and the window that ends with it?"""
                there = shown.cells("one")
                return (
                    row.window is not None
                    and there["running"] == str(level["running"])
                    and float(there["tokens"]) == pytest.approx(made / row.window.seconds, rel=0.01)
                )

            await shown.until(drawn)
            cells_there = shown.cells("one")
        assert cells_there["state"] == "up"
        assert cells_there["waiting"] == str(level["waiting"])
        assert cells_there["kv"] == f"{level['used_ratio'] * 100:.0f}%"
        cached = sum(g.prefill_cached for g in model.groups) - sum(cached for cached, _ in hits)
        computed = sum(g.prefill_computed for g in model.groups) - sum(computed for _, computed in hits)
        assert cells_there["hit"] == f"{cached / (cached + computed) * 100:.0f}%"
        for name, (bounds, counts) in observed(model).items():
            new = [now - then for now, then in zip(counts, before[name][1], strict=True)]
            for q in (50, 95):
                expected = quantile(q / 100, bounds, new) * 1000
                assert float(cells_there[f"{name}{q}"]) == pytest.approx(expected, rel=0.01, abs=0.5)


async def test_the_fleet_is_added_up_above_the_table() -> None:
    with (
        Simulator(LoadModel(seed=1, load=0.8), frozen=True) as a,
        Simulator(LoadModel(dp=3, seed=2, load=0.9), frozen=True) as b,
        Simulator(LoadModel(load=0.0), frozen=True) as idle,
    ):
        for simulator in (a, b, idle):
            simulator.step(60)
        targets = [target("a", a.url), target("b", b.url), target("idle", idle.url), target("gone", dead())]
        async with showing(*targets) as shown:
            await shown.until(lambda: "4 servers 2 up 1 idle 1 down" in shown.lines[0])
            levels = [simulator.truth()["server_level"] for simulator in (a, b, idle)]
            running, waiting, used, capacity = (
                sum(level[name] for level in levels)
                for name in ("running", "waiting", "used_tokens", "kv_capacity_tokens")
            )
            assert f"{running} running, {waiting} waiting" in shown.lines[0]
            assert f"KV {used / capacity * 100:.0f}%" in shown.lines[0]


async def test_what_a_page_does_not_have_is_a_dash_and_never_0() -> None:
    with serving(answer("sglang:num_requests_running 4\nother 1\n")) as server:
        async with showing(target("one", server.url)) as shown:
            await shown.until(lambda: shown.cells("one")["state"] == "up")
            row = shown.cells("one")
            assert all(row[name] == "–" for name in row if name not in ("state", "age"))
            await shown.press("enter")
            await shown.until(lambda: "one  up" in shown.lines[0])
            assert re.search(r"running +–", "\n".join(shown.lines))
            assert not re.search(r"[^0-9]0[^0-9.]", "\n".join(shown.lines[5:-1]))


async def test_a_server_that_does_nothing_is_idle() -> None:
    with Simulator(LoadModel(load=0.0), frozen=True) as simulator:
        simulator.step(60)
        async with showing(target("one", simulator.url)) as shown:
            await shown.until(lambda: shown.cells("one")["state"] == "idle")
            row = shown.cells("one")
            assert (row["running"], row["waiting"], row["ttft50"]) == ("0", "0", "–")


def test_a_server_whose_requests_wait_elsewhere_is_not_idle() -> None:
    page = 'sglang:num_running_reqs{x="1"} 0\nsglang:num_queue_reqs{x="1"} 0\n'
    with (
        serving(answer(f'{page}sglang:num_decode_transfer_queue_reqs{{x="1"}} 3\n')) as decode,
        serving(answer(page)) as idle,
    ):
        fleet, board = board_of(target("decode", decode.url), target("idle", idle.url))
        with fleet:
            board.take(fleet.scrape())
            assert [row.state for row in board.rows] == ["up", "idle"]


async def test_a_server_goes_down_and_returns() -> None:
    port = unused_port()
    model = LoadModel(seed=1, load=0.8)
    with Simulator(model, port=port, frozen=True) as simulator:
        simulator.step(30)
        async with showing(target("one", simulator.url)) as shown:
            await shown.until(lambda: shown.cells("one")["state"] == "up")
            simulator.stop()
            await shown.until(lambda: shown.cells("one")["state"] == "down")
            assert re.match(r"connect failed, last up \d+s ago, \d failures?", shown.cells("one")["error"])
            await shown.until(lambda: "1 down │ – running" in shown.lines[0])
            await shown.until(lambda: "connection refused" in shown.lines[-3])
            with Simulator(LoadModel(seed=2, load=0.9), port=port, frozen=True) as other:
                other.step(30)
                running = str(other.truth()["server_level"]["running"])
                await shown.until(lambda: shown.cells("one").get("running") == running)
                await shown.press("enter")
                await shown.until(lambda: "note: restarted" in "\n".join(shown.lines))


async def test_a_server_that_falls_silent_is_stale_and_keeps_its_numbers() -> None:
    asked = 0

    def once(request: Request, connection: socket.socket) -> bytes | None:
        nonlocal asked
        asked += 1
        return silence(request, connection) if asked > 1 else answer('sglang:num_running_reqs{x="1"} 4\n')

    with serving(once) as server:
        async with showing(target("one", server.url), timeout=30) as shown:
            await shown.until(lambda: shown.cells("one")["state"] == "stale")
            assert shown.cells("one")["running"] == "4"
            await shown.until(lambda: "1 stale" in shown.lines[0])


async def test_a_target_that_has_not_answered_yet_is_new() -> None:
    with serving(silence) as server:
        async with showing(target("one", server.url)) as shown:
            await shown.until(lambda: shown.cells("one")["state"] == "new")
            assert shown.cells("one")["running"] == "–"


# --------------------------------------------------------------------- the keys


async def test_keys_sort_and_the_cursor_stays_on_its_server() -> None:
    with serving(echo) as server:
        targets = [target(name, f"{server.url}/{n}") for name, n in (("b", 5), ("a", 7), ("c", 6))]
        async with showing(*targets, interval=30.0) as shown:
            await shown.until(lambda: shown.app.board.totals().states["up"] == 3)
            assert shown.names == ["b", "a", "c"]
            await shown.press("down")
            assert shown.app.fleet_screen.table.selected.name == "a"
            await shown.press("greater_than_sign")
            assert shown.names == ["a", "b", "c"]
            assert "SERVER▲" in shown.lines[2]
            await shown.press("r")
            assert shown.names == ["c", "b", "a"]
            assert "SERVER▼" in shown.lines[2]
            assert shown.app.fleet_screen.table.selected.name == "a"
            assert shown.lines[-3].startswith("a ")
            await shown.press("less_than_sign")
            assert shown.names == ["b", "a", "c"]


async def test_a_click_on_a_heading_sorts_and_another_turns_it_round() -> None:
    page = 'sglang:num_running_reqs{{x="1"}} {}\nsglang:num_queue_reqs{{x="1"}} 0\n'
    with serving(lambda request, _: answer(page.format(request.path.rpartition("/")[2]))) as server:
        targets = [target(name, f"{server.url}/{n}") for name, n in (("b", 5), ("a", 7), ("c", 6))]
        async with showing(*targets, target("gone", dead())) as shown:
            await shown.until(lambda: shown.app.board.totals().states["up"] == 3 and "RUN" in shown.lines[2])
            place = shown.lines[2].index("RUN")
            await shown.pilot.click("#fleet", offset=(place, 1))
            await shown.until(lambda: shown.names == ["a", "c", "b", "gone"])
            await shown.pilot.click("#fleet", offset=(place, 1))
            await shown.until(lambda: shown.names == ["b", "c", "a", "gone"])


async def test_a_filter_keeps_what_has_all_its_words() -> None:
    with serving(echo) as server:
        targets = [
            target("one", f"{server.url}/1", zone="east"),
            target("two", f"{server.url}/2", zone="west"),
            target("gone", dead(), zone="west"),
        ]
        async with showing(*targets, interval=30.0) as shown:
            await shown.until(lambda: shown.app.board.totals().states["down"] == 1)
            await shown.press("slash", *"zone=west")
            assert shown.names == ["two", "gone"]
            await shown.press("space", *"down", "enter")
            assert shown.names == ["gone"]
            await shown.until(lambda: "1 shown: zone=west down" in shown.lines[1])
            await shown.press("slash", *"x", "enter")
            await shown.until(lambda: "no server matches" in shown.lines[3])
            assert "Esc Show all" in shown.lines[-1]
            await shown.press("escape")
            assert shown.names == ["one", "two", "gone"]
            assert "Esc" not in shown.lines[-1]


async def test_trouble_is_what_is_not_well() -> None:
    with serving(echo) as server:
        async with showing(target("one", f"{server.url}/1"), target("gone", dead()), interval=30.0) as shown:
            await shown.until(lambda: shown.app.board.totals().states["down"] == 1)
            await shown.press("t")
            assert shown.names == ["gone"]
            await shown.press("t")
            assert shown.names == ["one", "gone"]


async def test_a_paused_picture_stands_still_and_scrapes_go_on() -> None:
    with Simulator(LoadModel(seed=1, load=0.9), frozen=True) as simulator:
        simulator.step(20)
        async with showing(target("one", simulator.url)) as shown:
            await shown.until(lambda: shown.cells("one")["state"] == "up")
            await shown.press("p")
            picture = shown.lines
            assert "PAUSED" in picture[1]
            simulator.step(30)
            running = simulator.truth()["server_level"]["running"]
            await shown.until(lambda: shown.app.board.rows[0].running == running)
            await shown.pilot.pause(1.2)
            assert shown.lines == picture
            await shown.press("p")
            await shown.until(lambda: shown.cells("one")["running"] == str(running))


async def test_the_keys_are_in_the_footer_and_explained() -> None:
    with serving(echo) as server:
        async with showing(target("one", f"{server.url}/1"), interval=30.0) as shown:
            await shown.until(lambda: "Quit" in shown.lines[-1])
            for key in (
                "Enter Details",
                "/ Filter",
                "< > Sort",
                "r Reverse",
                "t Trouble",
                "p Pause",
                "? Help",
                "q Quit",
            ):
                assert key in shown.lines[-1]
            await shown.press("question_mark")
            await shown.until(lambda: any("milliseconds to the first token" in line for line in shown.lines))
            await shown.press("escape")
            await shown.until(lambda: "SERVER" in shown.lines[2])
            await shown.press("q")
            await shown.until(lambda: not shown.app.is_running)


async def test_rows_beyond_the_screen_are_scrolled_to() -> None:
    with serving(echo) as server:
        targets = [target(f"server-{n:03}", f"{server.url}/{n}") for n in range(100)]
        async with showing(*targets, interval=30.0) as shown:
            await shown.until(lambda: shown.app.board.totals().states["up"] == 100)
            assert shown.lines[3].startswith("server-000")
            await shown.press("end")
            await shown.until(lambda: shown.lines[-4].startswith("server-099"))
            await shown.press("pageup")
            await shown.until(lambda: shown.lines[-3].startswith("server-081"))
            await shown.press("home", "down", "down")
            await shown.until(lambda: shown.lines[3].startswith("server-000"))
            assert shown.lines[-3].startswith("server-002")


async def test_targets_come_and_go() -> None:
    with serving(echo) as server:
        async with showing(target("one", f"{server.url}/1")) as shown:
            await shown.until(lambda: shown.cells("one")["state"] == "up")
            shown.fleet.add(target("two", f"{server.url}/2"))
            await shown.until(lambda: shown.names == ["one", "two"])
            await shown.until(lambda: shown.cells("two")["state"] == "up")
            shown.fleet.remove("one")
            await shown.until(lambda: shown.names == ["two"])


async def test_of_a_line_that_changes_no_more_is_sent_than_to_its_last_change() -> None:
    class OneLine(App[None]):
        def compose(self) -> ComposeResult:
            yield Lines(id="lines")

    sent: list[Region] = []
    async with OneLine().run_test(size=(20, 3)) as pilot:
        lines = pilot.app.query_one(Lines)

        async def show(*texts: str, chosen: int | None = None) -> list[tuple[int, int, int]]:
            """Shows a line of these cells; where it is drawn again: column, line, width."""
            await pilot.pause()
            sent.clear()
            lines.show(1, lambda number: [cells.Cell(text) for text in texts], chosen=chosen)
            return [(region.x, region.y, region.width) for region in sent]

        await show("name ", "1s ", "512")
        refresh = lines.refresh

        def recorded(*regions: Region, **options: Any) -> Any:
            sent.extend(regions)
            return refresh(*regions, **options)

        with patch.object(lines, "refresh", recorded):
            assert await show("name ", "1s ", "512") == []
            assert await show("name ", "2s ", "512") == [(5, 0, 3)]
            assert await show("name ", "3s ", "513") == [(5, 0, 6)]
            assert await show("名e", " ", "4s ", "513") == [(0, 0, 20)]
            assert await show("名e", " ", "5s ", "513") == [(4, 0, 3)]
            assert await show("名e", " ", "5s ", "513", chosen=0) == [(0, 0, 20)]


async def test_what_has_not_changed_is_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    render = Lines.render_line

    def counted(self: Lines, y: int) -> Any:
        drawn.append(y)
        return render(self, y)

    with serving(echo) as server:
        targets = [target(f"server-{n:03}", f"{server.url}/{n}") for n in range(100)]
        async with showing(*targets, interval=30.0) as shown:
            await shown.until(lambda: shown.app.board.totals().states["up"] == 100)
            await shown.pilot.pause(0.6)
            row = shown.app.board.rows[1]
            monkeypatch.setattr(rows.Row, "age", property(lambda self: 0.0))
            shown.app.fleet_screen.draw()
            await shown.pilot.pause()
            monkeypatch.setattr(Lines, "render_line", counted)
            for _ in range(3):
                shown.app.fleet_screen.draw()
                await shown.pilot.pause()
            assert drawn == []
            row.running = 77
            shown.app.fleet_screen.draw()
            await shown.pilot.pause()
            assert set(drawn) <= {0, 3}  # the totals, which are the first line of theirs, and the second row
            assert 3 in drawn
            assert shown.cells("server-001")["running"] == "77"


# --------------------------------------------------------------------- in depth


async def test_a_server_in_depth_has_its_ranks() -> None:
    with Simulator(LoadModel(dp=4, seed=3, load=0.9), frozen=True) as simulator:
        simulator.step(45)
        async with showing(
            target("other", dead()), target("one", simulator.url), size=(100, 40), interval=30.0
        ) as shown:
            await shown.until(lambda: shown.cells("one")["state"] == "up")
            await shown.press("down", "enter")
            await shown.until(lambda: any("RANK" in line for line in shown.lines))
            lines = shown.lines
            place = next(n for n, line in enumerate(lines) if "RANK" in line)
            for rank, line in zip(simulator.truth()["ranks"], lines[place + 1 : place + 5], strict=True):
                words = line.split()
                assert [int(word) for word in words[:3]] == [
                    rank["dp_rank"],
                    rank["running"],
                    rank["waiting"],
                ]
                assert float(words[3]) == pytest.approx(rank["gen_throughput"], rel=0.01)
                assert int(words[4]) == rank["used_tokens"]
                assert words[-1] == f"{rank['used_ratio'] * 100:.0f}%"
            await shown.press("left")
            await shown.until(lambda: shown.lines[0].startswith("other  down"))
            await shown.press("escape")
            await shown.until(lambda: "SERVER" in shown.lines[2])
            assert shown.app.fleet_screen.table.selected.name == "other"


async def test_latency_histograms_are_those_of_the_server() -> None:
    with Simulator(LoadModel(seed=3, load=0.9), frozen=True) as simulator:
        simulator.step(45)
        async with showing(target("one", simulator.url), size=(100, 100), window=600) as shown:
            await shown.until(lambda: shown.cells("one")["state"] == "up")
            before = observed(simulator.model)["ttft"][1]
            simulator.step(20)
            bounds, counts = observed(simulator.model)["ttft"]
            new = [now - then for now, then in zip(counts, before, strict=True)]
            await shown.press("enter")
            for expected, key in ((new, "w"), (counts, "w")):
                text = [
                    (f"{bound * 1000:g}", str(n)) for bound, n in zip(bounds, expected, strict=False) if n
                ]
                await shown.until(lambda text=text: _buckets(shown.lines, "time to first token") == text)
                await shown.press(key)


def _buckets(lines: list[str], label: str) -> list[tuple[str, str]]:
    """The buckets below a label that hold anything: bound and count."""
    places = [n for n, line in enumerate(lines) if line.startswith(f"{label}  ms")]
    found = []
    for line in lines[places[0] + 1 :] if places else []:
        match = re.match(r" +≤ (\S+) \S* +(\d+) +\S+$", line)
        if match is None:
            break
        if match[2] != "0":
            found.append((match[1], match[2]))
    return found


async def test_a_server_that_is_no_target_any_more_is_gone_in_depth_too() -> None:
    with serving(echo) as server:
        async with showing(target("one", f"{server.url}/1")) as shown:
            await shown.until(lambda: shown.cells("one")["state"] == "up")
            await shown.press("enter")
            await shown.until(lambda: shown.lines[0].startswith("one  up"))
            shown.fleet.remove("one")
            await shown.until(lambda: "no target any more" in shown.lines[0])
            await shown.press("escape")
            await shown.until(lambda: "no server matches" in shown.lines[3])
            await shown.press("enter")
            assert not isinstance(shown.app.screen, DetailScreen)


# ----------------------------------------------------------------------- rows


def board_of(*targets: sc.Target, interval: float = 1.0, window: float = 10.0) -> tuple[sc.Fleet, Board]:
    fleet = sc.Fleet(targets, timeout=30)
    return fleet, Board(fleet, interval=interval, window=window)


def test_every_column_can_be_sorted_by() -> None:
    assert tuple(SORT_KEYS) == SORTS
    assert {column.sort for column in cells.COLUMNS} < set(SORTS)


def test_those_without_a_number_come_last_either_way_round() -> None:
    with serving(answer('sglang:num_running_reqs{x="1"} 4\n')) as server:
        fleet, board = board_of(target("none", dead()), target("one", server.url))
        with fleet:
            board.take(fleet.scrape())
            for reverse in (False, True):
                assert [row.name for row in board.view(View("running", reverse))] == ["one", "none"]
            for sort in SORTS:
                assert len(board.view(View(sort))) == 2


def test_a_window_is_as_long_as_it_was_asked_to_be() -> None:
    with Simulator(LoadModel(load=0.8), frozen=True) as simulator:
        simulator.step(20)
        fleet, board = board_of(target("one", simulator.url), interval=0.1, window=0.5)
        with fleet:
            starts: list[float] = []
            pauses = [math.inf]
            while len(starts) < 20 or max(pauses) > 0.25:  # others use the machine too
                board.take(fleet.scrape())
                starts.append(fleet.latest["one"].started.timestamp())
                pauses = [b - a for a, b in pairwise(starts[-20:])]
                time.sleep(0.06)
            window = board.rows[0].window
            assert window is not None
            assert 0.5 <= window.seconds < 0.5 * 7 / 6 + max(pauses) + 0.01


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (answer("nope", status="404 Not Found"), "http status 404"),
        (answer("<html>", content_type="text/html"), "not exposition"),
        (answer("broken{ 1\n"), "malformed"),
    ],
)
def test_a_row_says_why_its_target_is_down(reply: bytes, told: str) -> None:
    with serving(reply) as server:
        fleet, board = board_of(target("one", server.url))
        with fleet:
            board.take(fleet.scrape())
            assert cells.error_text(board.rows[0]) == f"{told}, never up, 1 failure"


def test_a_window_is_never_shorter_than_an_interval() -> None:
    with Simulator(LoadModel(load=0.8), frozen=True) as simulator:
        simulator.step(20)
        fleet, board = board_of(target("one", simulator.url), interval=0.4, window=0.02)
        with fleet:
            for _ in range(3):
                board.take(fleet.scrape())
                time.sleep(0.2)
            assert board.window == 0.4
            assert board.rows[0].window is not None


def test_a_restart_counts_from_zero() -> None:
    pages = iter([500, 900, 30])

    def page(request: Request, connection: socket.socket) -> bytes:
        return answer(f'sglang:realtime_tokens_total{{mode="decode"}} {next(pages)}\n')

    with serving(page) as server:
        fleet, board = board_of(target("one", server.url))
        with fleet:
            for tokens in (None, 400, 30):
                board.take(fleet.scrape())
                row = board.rows[0]
                if tokens is None:
                    assert row.tokens_per_second is None
                else:
                    assert row.tokens_per_second is not None
                    assert row.window is not None
                    assert row.window.generation_tokens_per_second == pytest.approx(
                        row.tokens_per_second, rel=0.01
                    )
                time.sleep(0.2)
            assert row.window.restarted


def test_history_is_means_of_spans_with_gaps_where_nothing_was_measured() -> None:
    history = rows.History(1.0)
    assert history.values("running", 4, 100.0) == [None] * 4
    history.add(100.2, (None, 2, 0, 0.5))
    history.add(100.8, (None, 4, 0, 0.5))
    history.add(102.5, (10.0, 6, None, 0.5))
    whole = rows.HISTORY
    assert history.values("running", whole, 102.9)[-3:] == [3.0, None, 6.0]
    assert history.values("running", whole, 103.1)[-3:] == [3.0, None, 6.0]
    assert history.values("running", whole, 104.1)[-4:] == [3.0, None, 6.0, None]
    assert history.values("waiting", whole, 102.9)[-3:] == [0.0, None, None]
    assert history.values("tokens_per_second", whole, 102.9)[-3:] == [None, None, 10.0]
    for n in range(5000):
        history.add(200.0 + n, (1.0, n, 0, 0.5))
    now = 200.0 + 4999
    assert history.values("running", whole, now) == list(range(5000 - whole, 5000))
    halves = history.values("running", whole // 2, now)
    assert len(halves) == whole // 2
    assert all(b == a + 2 for a, b in pairwise(halves))


# ------------------------------------------------------------------- characters


@pytest.mark.parametrize(
    ("value", "width", "text"),
    [
        (None, 4, "–"),
        (float("nan"), 4, "–"),
        (0, 4, "0"),
        (0.0, 4, "0"),
        (7, 4, "7"),
        (0.031, 4, "0.03"),
        (9.414, 4, "9.41"),
        (12.34, 4, "12.3"),
        (308.4, 4, "308"),
        (1234, 4, "1234"),
        (12345, 4, "12k"),
        (12345, 5, "12345"),
        (123456, 5, "123k"),
        (3_400_000, 4, "3.4M"),
        (99_999_999_999, 4, "100G"),
        (1e30, 4, "++++"),
    ],
)
def test_a_number_fits(value: float | None, width: int, text: str) -> None:
    assert cells.fit(value, width) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(None, "–"), (0.0, "0%"), (0.001, "<1%"), (0.244, "24%"), (0.999, "99%"), (1.0, "100%")],
)
def test_a_percentage_is_0_or_100_only_where_it_is(ratio: float | None, text: str) -> None:
    assert cells.percent(ratio) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.9, "0s"), (59.9, "59s"), (61, "1m"), (3599, "59m"), (3601, "1h"), (200_000, "2d")],
)
def test_a_duration_has_three_characters(seconds: float | None, text: str) -> None:
    assert cells.duration(seconds) == text


def test_pictures_tell_nothing_from_little() -> None:
    assert cells.bar(None, 4) == cells.bar(0.0, 4) == "    "
    assert cells.bar(0.0001, 4) == "▏   "
    assert cells.bar(0.5, 4) == "██  "
    assert cells.bar(2.0, 4) == "████"
    assert cells.sparkline([None, 0, 0.001, 5, 10]) == " ▁▂▅█"
    assert cells.sparkline([0, 0.5, 1], 1.0) == "▁▅█"
    assert cells.sparkline([0, 0]) == "▁▁"


def test_a_quantile_above_all_buckets_is_marked() -> None:
    of = sc.Distribution.of(sc.Histogram([0.1, 0.4, float("inf")], [0, 1, 10]))
    assert cells.milliseconds(of, "p95", 5) == ">400"
    of = sc.Distribution.of(sc.Histogram([0.1, 0.4, float("inf")], [10, 10, 10]))
    assert cells.milliseconds(of, "p50", 5) == "50.0"


def test_names_are_cut_at_their_beginning_and_cannot_command_the_terminal() -> None:
    assert cells.cut("10.120.12.118:30000", 15, keep_end=True) == "…0.12.118:30000"
    assert cells.cut("ab", 4) == "ab  "
    assert cells.cut("服务器-一", 6) == "服务… "
    assert cells.cut("a\x1b[2J", 20).rstrip() == "a\\x1b[2J"


@pytest.mark.parametrize("width", [60, 79, 80, 100, 131, 250])
def test_every_line_has_the_same_columns_at_any_width(width: int) -> None:
    with Simulator(LoadModel(load=0.9), frozen=True) as simulator:
        simulator.step(20)
        fleet, board = board_of(
            target("one", simulator.url), target("a-rather-long-name-of-a-server", dead())
        )
        with fleet:
            board.take(fleet.scrape())
            layout = cells.Layout.of(width, 30)
            lines = [
                *cells.heading(layout, View("kv"), "status"),
                *(cells.row_line(row, layout, 0.0) for row in board.rows),
            ]
            sizes = {len("".join(cell.text for cell in line)) for line in lines[1:]}
            assert len(sizes) == 1
            assert sizes.pop() <= max(width, 79)
            for row in board.rows:
                for since in ("window", "start"):
                    for line in detail_lines(row, width, 0.0, since):  # type: ignore[arg-type]
                        assert len("".join(cell.text for cell in line)) <= max(width, 79)


# ------------------------------------------------------------------------ pictures


def test_the_script_takes_pictures_that_ask_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = load_tool("screenshot_top")
    monkeypatch.setattr(tool, "IMAGES", tmp_path)
    monkeypatch.setattr(tool, "LOADS", (0.9,))
    monkeypatch.setattr("sys.argv", ["screenshot_top.py", "--seconds", "2"])
    tool.main()
    for folder in (tmp_path, ROOT / "docs" / "images"):
        for name, shown in (("top.svg", "TTFT"), ("top-detail.svg", "P95")):
            picture = (folder / name).read_text("utf-8")
            assert re.search(shown, picture)
            assert "sglang-001" in picture
            assert not re.search(r"url\(|href=|@import|<script", re.sub(r"url\(#[\w-]+\)", "", picture))
