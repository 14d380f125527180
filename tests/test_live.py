"""The fleet as it changes: what the streams of the router tell, and whom."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice, takewhile
from typing import Any
from unittest.mock import patch

import pytest
from apps import EVENTS, Events, following, running
from fastapi import Depends, HTTPException, Request
from fleets import counting, dead, finished
from servers import Held, Server, answer, eventually, serving, unused_port
from stopwatch import Stopwatch

import sglang_collect as sc
from sglang_collect import _live, api
from sglang_collect._live import Live, _Viewer
from sglang_collect._recent import Recent, point_of_all, totals
from sglang_collect._result import Good, ScrapeResult
from sglang_collect.api import HOP_HEADER, RouterSettings, create_app
from sglang_collect.catalog import sglang
from sglang_collect.models import Read
from sglang_collect.simulator import LoadModel, Simulator

ABSENT_ROW = {
    "up": None,
    "error": None,
    "at": None,
    "restarted": None,
    "running": None,
    "waiting": None,
    "kv_usage_ratio": None,
    "seconds": None,
    "requests_per_second": None,
    "prompt_tokens_per_second": None,
    "generation_tokens_per_second": None,
    "cache_hit_rate": None,
    "time_to_first_token": [None, None],
    "inter_token": [None, None],
}


@contextmanager
def service(**settings: Any) -> Iterator[int]:
    """The application; its port."""
    with running(create_app(RouterSettings(**{"watch_interval": 0.05, **settings}))) as port:
        yield port


def row(data: dict[str, Any], name: str) -> dict[str, Any]:
    """The row of a target in an event; empty where it has none."""
    return next((row for row in data["rows"] if row["instance_id"] == name), {})


def of(name: str) -> str:
    return "?" + urllib.parse.urlencode({"instance_id": name})


def refusal(port: int, query: str = "", **more: Any) -> tuple[int, str | None, Any] | None:
    """Status, Retry-After and body where a stream is refused."""
    try:
        Events(port, query, **more).close()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["retry-after"], json.loads(error.read())
    return None


# -------------------------------------------------------------------- the fleet


def test_the_first_event_has_every_target_and_later_ones_what_changed(server: Server) -> None:
    instances = {"b": f"{server.url}/7", "a": f"{server.url}/3"}
    with service(instances=instances) as port, following(port) as events:
        assert events.answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert events.answer.headers["cache-control"] == "no-store"
        kind, first = next(events)
        assert kind == "fleet"
        assert first["targets"] == ["b", "a"] == [row["instance_id"] for row in first["rows"]]
        assert first["interval"] == 0.05
        assert set(first["history"]) >= {"time", "running", "time_to_first_token_p95"}
        later = events.until(lambda data: row(data, "a").get("up") and data["totals"]["up"] == 2)
        assert "targets" not in later
        assert later["now"] > first["now"]
        assert {row["instance_id"] for row in later["rows"]} <= {"a", "b"}
        assert row(later, "a")["running"] == 3
        assert 0 <= later["now"] - row(later, "a")["at"] < 60
        assert later["totals"]["running"] == 10


def test_a_target_that_nobody_has_read_yet_says_nothing() -> None:
    assert json.loads(Recent("a").row()) == {"instance_id": "a", **ABSENT_ROW}


@pytest.mark.sglang_simulator(dp=2, tp=2, load=0.9)
def test_rows_have_the_true_numbers(sglang_simulator: Simulator) -> None:
    instances = {"a": sglang_simulator.url}
    before = sglang_simulator.truth()["totals"]
    with service(instances=instances) as port, following(port) as events:
        events.until(lambda data: row(data, "a").get("seconds"))
        sglang_simulator.step(7)
        truth = sglang_simulator.truth()
        told = events.until(lambda data: row(data, "a").get("running") == truth["server_level"]["running"])
    got = row(told, "a")
    level, totals = truth["server_level"], truth["totals"]
    assert (got["up"], got["error"], got["restarted"]) == (True, None, None)
    assert got["waiting"] == level["waiting"]
    assert got["kv_usage_ratio"] == pytest.approx(level["used_ratio"])
    finished = totals["finished_requests"] - before["finished_requests"]
    assert got["requests_per_second"] * got["seconds"] == pytest.approx(finished)
    assert 0 < got["time_to_first_token"][0] <= got["time_to_first_token"][1]
    for name in ("running", "waiting", "kv_usage_ratio", "requests_per_second", "cache_hit_rate"):
        assert told["totals"][name] == pytest.approx(got[name]), name


def test_a_server_goes_down_and_comes_back() -> None:
    model, port_of_it = LoadModel(load=0.9), unused_port()
    model.step(60)
    instances = {"a": f"http://127.0.0.1:{port_of_it}/metrics"}
    with service(instances=instances) as port, following(port) as events:
        with Simulator(model, port=port_of_it, frozen=True):
            up = row(events.until(lambda data: row(data, "a").get("up")), "a")
            assert up["running"] > 0
        down = row(events.until(lambda data: row(data, "a").get("up") is False), "a")
        assert down["error"] == "connect_failed: no connection to the target came about"
        assert down["at"] >= up["at"]
        known = {"instance_id", "up", "error", "at", "restarted"}
        assert {name: value for name, value in down.items() if name not in known} == {
            name: value for name, value in ABSENT_ROW.items() if name not in known
        }
        young = LoadModel(load=0.9)
        young.step(5)
        with Simulator(young, port=port_of_it, frozen=True):
            again = row(events.until(lambda data: row(data, "a").get("up")), "a")
        assert again["restarted"] is not None
        assert again["requests_per_second"] in (None, 0)


def test_what_a_target_says_or_is_called_does_not_leave_its_place() -> None:
    name = 'a\n\nevent: fleet\ndata: {"x": 1}\n\n'
    page = answer('sglang:num_running_reqs{model_name="\\n\\nevent: x\\ndata: 1\\n\\n"} 4\n')
    with serving(page) as server, service(instances={name: server.url}) as port:
        with following(port) as events:
            assert row(events.until(lambda data: row(data, name).get("up")), name)["running"] == 4
        with following(port, of(name)) as events:
            told = events.until(lambda data: data["row"]["up"])
            assert told["server"]["model_names"] == ["\n\nevent: x\ndata: 1\n\n"]


def test_an_error_is_told_in_our_words_only() -> None:
    with (
        serving(answer("secret", status="500 secret")) as server,
        service(instances={"a": server.url}) as port,
        following(port) as events,
    ):
        down = events.until(lambda data: row(data, "a").get("up") is False)
    assert row(down, "a")["error"] == "http_status: the target answered with HTTP status 500"
    assert "127.0.0.1" not in json.dumps(down)
    assert "secret" not in json.dumps(down)


# ----------------------------------------------------------- one server in depth


@pytest.mark.sglang_simulator(dp=2, load=0.9)
def test_one_server_in_depth(sglang_simulator: Simulator) -> None:
    truth = sglang_simulator.truth()
    with service(instances={"a": sglang_simulator.url}, watch_interval=0.5) as port:
        with following(port, of("a")) as events:
            kind, first = next(events)
            assert kind == "server"
            assert "history" in first
            told = events.until(lambda data: data["row"]["up"] and "point" in data)
            later = events.until(lambda data: data["point"]["time"] > told["point"]["time"])
            assert told["point"]["running"] == truth["server_level"]["running"]
        with following(port, of("a")) as events:
            history = next(events)[1]["history"]
    assert {told["point"]["time"], later["point"]["time"]} <= set(history["time"])
    assert set(map(len, history.values())) == {len(history["time"])}
    depth = told["server"]
    assert [rank["running"] for rank in depth["ranks"]] == [rank["running"] for rank in truth["ranks"]]
    assert depth["tokens"]["generation_total"] == truth["totals"]["generation_tokens"]
    assert depth["kv_cache"]["capacity_tokens"] == truth["server_level"]["kv_capacity_tokens"]
    assert depth["speculative"]["accept_rate"] is None
    lifetime = depth["histograms"]["end_to_end"]["lifetime"]
    assert lifetime["count"] == sum(lifetime["counts"]) == truth["totals"]["e2e_seconds"]["count"]
    assert lifetime["bounds"][-1] is None
    assert min(lifetime["counts"]) >= 0
    assert "raw_metrics" not in depth


def test_a_server_that_is_down_has_a_gap_and_no_depth() -> None:
    with service(instances={"a": dead()}) as port, following(port, of("a")) as events:
        told = events.until(lambda data: data["row"]["up"] is False)
    assert told["server"] == {}
    point = told.get("point") or {name: column[-1] for name, column in told["history"].items()}
    assert {name for name, value in point.items() if value is not None} == {"time"}


def test_any_name_can_be_asked_for_and_no_other(server: Server) -> None:
    name = "http://a/b?c=d&e#f%20é"
    with service(instances={name: f"{server.url}/3"}) as port:
        with following(port, of(name)) as events:
            assert next(events)[1]["row"]["instance_id"] == name
        assert refusal(port, of("secret")) == (404, None, {"detail": "unknown instance"})


# ------------------------------------------------------------------- who may look


def test_dependencies_and_hops_guard_the_streams(server: Server) -> None:
    def require_token(request: Request) -> None:
        if request.headers.get("authorization") != "Bearer t0ken":
            raise HTTPException(401)

    settings = {"instances": {"a": f"{server.url}/3"}, "dependencies": [Depends(require_token)]}
    with service(**settings) as port:
        token = {"Authorization": "Bearer t0ken"}
        for headers, status in (({}, 401), ({**token, HOP_HEADER: "1"}, 508)):
            assert refusal(port, headers=headers)[0] == status
        with following(port, headers=token) as events:
            assert next(events)[0] == "fleet"


def test_no_more_than_so_many_look_on(server: Server) -> None:
    with service(instances={"a": f"{server.url}/3"}, max_viewers=2) as port, ExitStack() as stack:
        first = stack.enter_context(following(port))
        stack.enter_context(following(port, of("a")))
        assert refusal(port) == (503, "5", {"detail": "too many are looking on"})
        first.close()
        assert eventually(lambda: refusal(port) is None)


def test_the_number_of_viewers_is_checked_at_once() -> None:
    with pytest.raises(ValueError, match="max_viewers"):
        RouterSettings(max_viewers=-1)


def test_without_a_watch_a_fleet_is_scraped_while_somebody_looks(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_LOOK_INTERVAL", 0.05)
    monkeypatch.setattr(_live, "_LINGER", 0.1)
    made: list[Live] = []
    monkeypatch.setattr(api, "Live", lambda *args, **more: made.append(Live(*args, **more)) or made[0])
    with service(instances={"a": f"{server.url}/3"}, watch_interval=None) as port:
        assert not server.requests
        for _ in range(2):
            with following(port) as events, following(port) as others:
                assert next(events)[1]["rows"] == [{"instance_id": "a", **ABSENT_ROW}]
                for each in (events, others):
                    assert row(each.until(lambda data: row(data, "a").get("up")), "a")["running"] == 3
            assert eventually(lambda: made[0]._task is None)


def test_who_looks_elsewhere_meanwhile_finds_what_was_known(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_LOOK_INTERVAL", 0.05)
    with service(instances={"a": f"{server.url}/3"}, watch_interval=None) as port:
        with following(port) as events:
            events.until(lambda data: row(data, "a").get("up"))
        with following(port, of("a")) as events:
            first = next(events)[1]
            assert first["row"]["running"] == 3
            assert first["history"]["running"][:1] == [3]
        with following(port) as events:
            assert row(next(events)[1], "a")["running"] == 3


# ---------------------------------------------------------------- slow and sudden


def test_one_who_is_slow_gets_the_whole_state_and_nothing_piles_up() -> None:
    async def look() -> list[bytes | None]:
        class Everything:
            async def make_rows(self) -> None:
                pass

            def whole(self, instance_id: str | None) -> bytes:
                return b"whole"

        live: Any = Everything()
        viewer = _Viewer(None)
        got = [await viewer.next(live)]
        viewer.offer(b"1")
        got.append(await viewer.next(live))
        for event in (b"2", b"3", b"4"):
            viewer.offer(event)
        got.append(await viewer.next(live))
        viewer.offer(b"5")
        got.append(await viewer.next(live))
        viewer.end()
        got.append(await viewer.next(live))
        return got

    assert asyncio.run(look()) == [b"whole", b"1", b"whole", b"5", None]


def test_who_has_left_is_told_nothing_more() -> None:
    """Cancelling alone does not do: before Python 3.12 ``wait_for`` may swallow it."""

    async def look() -> bytes | None:
        async def nobody() -> None:
            await asyncio.sleep(60)

        live = Live(["a"], follow=nobody, is_followed=lambda: True, interval=1, most=1)
        viewer = live.join(None)
        await viewer.next(live)
        live.leave(viewer)
        return await asyncio.wait_for(viewer.next(live), 1)

    assert asyncio.run(look()) is None


def test_a_client_that_does_not_read_is_told_what_is_now_once_it_does() -> None:
    instances = {
        f"{n:08000}": "" for n in range(150)
    }  # events larger than what the system holds for a client
    with serving(counting(finished)) as server:
        instances = dict.fromkeys(instances, server.url)
        with (
            service(instances=instances, watch_interval=0.4) as port,
            socket.create_connection(("127.0.0.1", port), timeout=60) as slow,
            slow.makefile("rb") as lines,
        ):
            slow.sendall(f"GET {EVENTS} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
            with following(port) as events:
                seen = [data["now"] for _, data in islice(events, 7)]
            data = (json.loads(line[6:]) for line in lines if line.startswith(b"data: "))
            told = list(takewhile(lambda each: each["now"] < seen[-1], data))
    assert sum("targets" in each for each in told) <= 2
    assert len(told) < len(seen) - 1


def test_a_stream_without_news_says_that_it_is_alive(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_live, "_SILENCE", 0.1)
    with (
        service(instances={"a": f"{server.url}/3"}, watch_interval=3600) as port,
        following(port) as events,
    ):
        assert b":\n" in iter(events.answer.readline, b"")


def test_streams_end_where_nothing_is_to_come(server: Server) -> None:
    with (
        patch("sglang_collect.fleet.Fleet.watch", side_effect=ZeroDivisionError),
        service(instances={"a": f"{server.url}/3"}, watch_interval=None) as port,
        following(port) as events,
    ):
        assert [data["rows"][0]["up"] for _, data in events] == [None]


def test_streams_end_when_the_service_is_told_to(server: Server) -> None:
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "sglang_collect", "serve", "--port", "0"),
            *("--instance", f"a={server.url}/3", "--watch-interval", "0.1"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline().rpartition(":")[2])
        with following(port) as events, following(port, of("a")) as others:
            next(events)
            next(others)
            with Stopwatch() as took:
                process.send_signal(signal.SIGTERM)
                for each in (events, others):
                    deque(each, maxlen=0)  # to its end
                assert process.wait(60) == 0
            assert took.seconds < 3
    finally:
        process.kill()
        _, said = process.communicate()
    assert "Traceback" not in said


# ------------------------------------------------------------- the last minutes


class Life:
    """Results of a made-up server, by a clock of the test's own."""

    def __init__(self) -> None:
        self.recent = Recent("a")
        self.now = 1000.0
        self._before: Good | None = None
        self._target = sc.Target("a", "http://a/")

    def page(self, *, finished: int, seconds: float = 1.0, server: str = "") -> dict[str, Any]:
        """A page a while later; the row then."""
        self.now += seconds
        text = (
            "# TYPE sglang:num_requests_total counter\n"
            f'sglang:num_requests_total{{model_name="m",worker_addr="{server}"}} {finished}\n'
            "# TYPE sglang:num_running_reqs gauge\n"
            f'sglang:num_running_reqs{{model_name="m",worker_addr="{server}"}} 1\n'
        )
        fold = sglang.plan().fold(text.encode())
        good = Good(self._target, Read(fold, at=self.now), len(text), 1e9 + self.now)
        self.recent.note(ScrapeResult(self._target, None, 0, 0.01, good.started, good, self._before))
        self._before = good
        return self.row()

    def failure(self, *, seconds: float = 1.0) -> dict[str, Any]:
        self.now += seconds
        self.recent.note(ScrapeResult(self._target, ValueError(), 1, 0.01, 1e9 + self.now, None, None))
        return self.row()

    def row(self) -> dict[str, Any]:
        row: dict[str, Any] = json.loads(self.recent.row())
        return row


def test_the_last_minute_is_a_minute_long() -> None:
    life = Life()
    assert life.page(finished=0)["seconds"] is None
    for n in range(1, 200):
        row = life.page(finished=2 * n)
        assert row["requests_per_second"] == pytest.approx(2)
        assert row["seconds"] == n if n <= 60 else 45 <= row["seconds"] <= 60
    rows = [life.page(finished=400 + 5 * n) for n in range(61)]
    assert rows[-1]["requests_per_second"] == pytest.approx(5)


def test_pages_that_are_far_apart_make_minutes_that_are_longer() -> None:
    life = Life()
    for n in range(4):
        row = life.page(finished=600 * n, seconds=300)
    assert (row["seconds"], row["requests_per_second"]) == (300, 2)


def test_a_server_that_begins_again_is_counted_anew() -> None:
    life = Life()
    for n in range(10):
        life.page(finished=100 * n)
    restarted = life.page(finished=3)
    assert (restarted["restarted"], restarted["requests_per_second"]) == (life.now, None)
    assert life.page(finished=5)["requests_per_second"] == 2
    rates = life.recent.history()["requests_per_second"]
    assert rates[0] is None
    assert rates[1:10] == [100.0] * 9
    assert rates[10:] == [None, 2.0]


def test_a_page_of_other_servers_than_before_is_counted_anew() -> None:
    life = Life()
    for n in range(3):
        life.page(finished=n, server="one")
    assert life.row()["requests_per_second"] == 1
    assert life.page(finished=50, server="two")["requests_per_second"] is None
    assert life.page(finished=53, server="two")["requests_per_second"] == 3
    assert life.row()["restarted"] is None


def test_a_failure_is_a_gap_and_the_minute_goes_on_after_it() -> None:
    life = Life()
    life.page(finished=0)
    life.page(finished=10)
    failed = life.failure()
    assert (failed["up"], failed["error"], failed["requests_per_second"]) == (False, "internal error", None)
    assert life.page(finished=30)["requests_per_second"] == 10
    history = life.recent.history()
    assert history["time"] == [1e9 + 1000 + n for n in (1, 2, 3, 4)]
    assert history["requests_per_second"] == [None, 10, None, None]


def test_charts_have_so_many_points_and_rates_of_ten_seconds() -> None:
    life = Life()
    for n in range(500):
        life.page(finished=10 * (n // 10), seconds=0.5)  # counts in steps of five seconds
    history = life.recent.history()
    assert {len(column) for column in history.values()} == {250}
    assert set(history["requests_per_second"][30:]) == {2.0}
    for n in range(200):
        life.page(finished=500 + n)
    assert len(life.recent.history()["time"]) == 300
    assert life.recent.newest_point() == {name: column[-1] for name, column in life.recent.history().items()}


def test_of_several_servers_rates_add_up() -> None:
    fast, slow, down = Life(), Life(), Life()
    for n in range(2):
        fast.page(finished=10 * n)
        slow.page(finished=n, seconds=2)
        down.failure()
    recents = [fast.recent, slow.recent, down.recent, Recent("new")]
    whole = totals(recents)
    assert (whole["up"], whole["requests_per_second"], whole["seconds"]) == (2, 10.5, 2)
    assert totals([])["running"] is None
    point = point_of_all(recents)
    assert (point["running"], point["requests_per_second"]) == (2, 10.5)
    assert point.get("generation_tokens_per_second") is None
    assert set(point_of_all([]).values()) == {None}
    fast.failure(seconds=0.1)  # too early for a point of its own
    assert point_of_all(recents)["requests_per_second"] == 0.5


@pytest.mark.sglang_simulator(dp=2, load=0.9)
def test_the_charts_of_all_begin_once_all_are_read_and_have_their_true_numbers(
    sglang_simulator: Simulator, held: Held
) -> None:
    quiet = LoadModel(load=0.2)
    quiet.step(60)
    with Simulator(quiet, frozen=True) as other:
        instances = {"a": sglang_simulator.url, "b": other.url, "late": held.url}
        with service(instances=instances, timeout=60) as port:
            with following(port) as events:
                told = events.until(lambda data: data["totals"]["up"] == 2)
                assert not told.get("history", {}).get("time")
                assert not told.get("point")
                held.release()
                point = events.until(lambda data: data.get("point"))["point"]
            with following(port) as events:
                history = next(events)[1]["history"]
    levels = [each.truth()["server_level"] for each in (sglang_simulator, other)]
    assert point["running"] == 4 + sum(level["running"] for level in levels)
    assert point["waiting"] == sum(level["waiting"] for level in levels)
    capacity = sum(level["kv_capacity_tokens"] for level in levels)
    used = sum(level["used_ratio"] * level["kv_capacity_tokens"] for level in levels)
    assert point["kv_usage_ratio"] == pytest.approx(used / capacity)
    assert history["running"][0] == point["running"]
