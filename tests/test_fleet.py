"""Fleet: its life, its sweeps, and what is known of each target."""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import os
import pickle
import signal
import socket
import threading
import time
from typing import Any
from unittest.mock import patch

import pytest
from fleets import (
    counting,
    dead,
    echo,
    fail_once,
    finished,
    names,
    python,
    reason,
    running,
    targets,
    waiting,
)
from servers import Held, Request, Server, answer, eventually, serving, soon
from stopwatch import Stopwatch

import sglang_collect as sc
from sglang_collect import _core
from sglang_collect.watch import Inbox

_others: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def threads_of_others() -> None:
    _others.clear()
    _others.update(threading.enumerate())


def threads() -> int:
    """Those that drive scrapers, but for what earlier tests have left."""
    return sum(thread.name == "sglang_collect" for thread in {*threading.enumerate()} - _others)


# ------------------------------------------------------------------- a target


@pytest.mark.parametrize(
    ("name", "endpoint"), [("", "http://x/"), ("x", ""), ("x", []), ("x", ["http://x/", ""])]
)
def test_a_target_has_a_name_and_an_endpoint(name: str, endpoint: Any) -> None:
    with pytest.raises(ValueError, match="a name and at least one endpoint"):
        sc.Target(name, endpoint)


def test_a_target_is_a_value_that_shows_no_credentials() -> None:
    target = sc.Target("x", ["http://a/", "http://b/"], {"zone": "1"}, {"bearer_token": "secret"})
    assert target.endpoints == ("http://a/", "http://b/")
    assert sc.Target("x", "http://a/").endpoints == ("http://a/",)
    assert pickle.loads(pickle.dumps(target)) == copy.deepcopy(target) == target
    assert len({target, copy.copy(target)}) == 1
    assert "secret" not in repr(target)


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"timeout": 0}, ValueError),
        ({"scrapers": 0}, ValueError),
        ({"scrapers": 3, "max_connections": 2}, ValueError),
        ({"ca_file": "/nonexistent.pem"}, sc.TLSError),
        ({"targets": [sc.Target("x", "http://a/"), sc.Target("x", "http://b/")]}, ValueError),
        ({"targets": [sc.Target("x", "ftp://a/")]}, sc.TargetRefused),
        ({"targets": [sc.Target("x", "http://a/", options={"timeout": 0})]}, ValueError),
    ],
)
def test_what_cannot_be_used_is_an_error_at_construction(more: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        sc.Fleet(**more)
    assert threads() == 0


@pytest.mark.parametrize("option", ["nonsense", "guard", "json"])
def test_an_option_that_no_target_has_is_named(option: str) -> None:
    target = sc.Target("x", "http://a/", options={"timeout": 1.0, option: None})
    with pytest.raises(TypeError, match=f"^target 'x': no option of a target: {option}$"):
        sc.Fleet([target])


def test_a_target_is_made_of_texts_and_a_fleet_of_targets() -> None:
    made: Any = sc.Target
    for name, endpoint in ((1, "http://a/"), ("x", None), ("x", b"http://a/"), ("x", ["http://a/", 2])):
        with pytest.raises(TypeError, match=r"^a target's name and endpoints are texts, not "):
            made(name, endpoint)
    for more in ({"labels": ["zone"]}, {"options": ["timeout"]}):
        with pytest.raises(TypeError, match=r"^a target's labels and options are mappings, not a list$"):
            made("x", "http://a/", **more)
    urls: Any = ["http://a/metrics"]
    with pytest.raises(TypeError, match=r"^expected a Target, not str$"):
        sc.Fleet(urls)


# ------------------------------------------------------------- life of a fleet


def test_a_fleet_works_while_it_is_entered_and_only_once(server: Server) -> None:
    fleet = sc.Fleet(targets(server, 1))
    for use in (fleet.scrape, fleet.watch):
        with pytest.raises(RuntimeError, match="not entered"):
            use()
    with fleet:
        watch = fleet.watch(0.05)
        assert running(next(watch)[0]) == 0
    for use in (fleet.scrape, fleet.watch, fleet.__enter__):
        with pytest.raises(RuntimeError, match=r"closed|entered once"):
            use()
    assert list(watch) == []
    fleet.close()


def test_leaving_a_fleet_closes_its_connections_and_ends_its_threads(server: Server) -> None:
    with sc.Fleet(targets(server, 20), scrapers=3) as fleet:
        assert threads() == 0
        fleet.scrape()
        assert threads() == 3
    assert threads() == 0
    assert eventually(lambda: server.closed == server.opened)


async def test_an_async_fleet_does_the_same(server: Server) -> None:
    async with sc.Fleet(targets(server, 5)) as fleet:
        assert [running(result) for result in await fleet.ascrape()] == [0, 1, 2, 3, 4]
    assert await asyncio.to_thread(eventually, lambda: threads() == 0)
    await fleet.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await fleet.ascrape()


def test_a_fleet_that_is_dropped_ends_its_thread(server: Server) -> None:
    fleet = sc.Fleet(targets(server, 2)).__enter__()
    watch = fleet.watch(0.05)
    next(watch)
    del fleet, watch
    gc.collect()
    assert eventually(lambda: threads() == 0)


# --------------------------------------------------------------------- sweeps


def test_a_sweep_gives_a_result_for_each_target_in_their_order() -> None:
    def slower_first(request: Request, connection: socket.socket) -> bytes:
        time.sleep(0.1 if request.path.endswith(("/0", "/2")) else 0)
        return echo(request, connection)

    with serving(slower_first) as server, sc.Fleet(targets(server, 5)) as fleet:
        results = fleet.scrape()
    assert names(results) == ["0", "1", "2", "3", "4"]
    assert [running(result) for result in results] == [0, 1, 2, 3, 4]


def test_a_fleet_without_targets_sweeps_nothing() -> None:
    with sc.Fleet() as fleet:
        assert fleet.scrape() == []
        assert fleet.targets == ()
        assert threads() == 0


def test_every_way_to_fail_is_a_result_and_leaves_the_others_alone(server: Server, silent: Server) -> None:
    with (
        serving(answer("<html>", content_type="text/html")) as page,
        serving(answer("a 1\nb\n")) as malformed,
        serving(answer("", status="503 Service Unavailable")) as busy,
        serving(answer("a 1\n", headers={"Content-Length": "100"})) as long,
    ):
        bad = [dead(), silent.url, page.url, malformed.url, busy.url, long.url]
        waits = {silent.url: {"timeout": 1.0}, long.url: {"timeout": 1.0}}
        fleet = sc.Fleet(
            [
                *targets(server, 3),
                *(sc.Target(f"bad {n}", url, options=waits.get(url, {})) for n, url in enumerate(bad)),
            ],
            timeout=60,
            limits=sc.Limits(samples=1),
        )
        with fleet:
            results = fleet.scrape()
            again = fleet.scrape()
    assert [running(result) for result in results[:3]] == [0, 1, 2]
    assert [reason(result) for result in results[3:6]] == [
        "connect_failed",
        "timeout_first_byte",
        "not_exposition",
    ]
    assert isinstance(results[6].error, sc.ExpositionError | sc.LimitExceeded)
    assert isinstance(results[7].error, sc.HTTPStatusError)
    assert reason(results[8]) in ("truncated", "timeout_body")
    for first, second in zip(results[3:], again[3:], strict=True):
        assert not first.up
        assert first.snapshot is first.last_good is first.age is first.window is None
        assert (first.samples, first.body_bytes) == (0, 0)
        assert (first.consecutive_failures, second.consecutive_failures) == (1, 2)
    assert fleet.failures["bad 0"] == {"connect_failed": 2}
    assert fleet.failures["0"] == {}


def test_many_healthy_targets_are_not_held_up_by_silent_ones(server: Server, silent: Server) -> None:
    healthy = targets(server, 90)
    with sc.Fleet(healthy, timeout=60) as fleet, Stopwatch() as alone:
        fleet.scrape()
    timeout = max(1.0, 10 * alone.elapsed)
    with (
        sc.Fleet([*healthy, *(sc.Target(f"s{n}", silent.url) for n in range(10))], timeout=timeout) as fleet,
        Stopwatch() as took,
    ):
        results = fleet.scrape()
    assert took.seconds < timeout + 1
    assert all(result.up and result.elapsed < 0.9 * timeout for result in results[:90])
    assert {reason(result) for result in results[90:]} == {"timeout_first_byte"}


def test_more_targets_than_connections_wait_their_turn(server: Server) -> None:
    with sc.Fleet(targets(server, 2000), max_connections=20, scrapers=3, timeout=300) as fleet:
        results = fleet.scrape()
    assert [running(result) for result in results] == list(range(2000))
    assert server.opened <= 20


def test_options_are_the_fleets_or_the_targets_own(server: Server) -> None:
    own = sc.Target("own", f"{server.url}/1", options={"bearer_token": "mine", "headers": {"X-Team": "red"}})
    fleet = sc.Fleet(
        [sc.Target("plain", f"{server.url}/0"), own], headers={"X-Team": "blue"}, bearer_token="ours"
    )
    with fleet:
        fleet.scrape()
    asked = sorted((r.path[-1], r.headers["authorization"], r.headers["x-team"]) for r in server.requests)
    assert asked == [("0", "Bearer ours", "blue"), ("1", "Bearer mine", "red")]


def test_a_guard_refuses_targets_as_results(server: Server) -> None:
    with sc.Fleet(targets(server, 1), guard=sc.Guard(["10.0.0.0/8"])) as fleet:
        (result,) = fleet.scrape()
    assert isinstance(result.error, sc.TargetRefused)
    assert not server.requests


def test_sweeps_at_the_same_time_share_their_scrapes(held: Held) -> None:
    found = []
    with sc.Fleet(targets(held, 2), timeout=60) as fleet:
        sweeps = [threading.Thread(target=lambda: found.append(fleet.scrape())) for _ in range(4)]
        for sweep in sweeps:
            sweep.start()
        assert eventually(lambda: waiting(fleet) == [4, 4])
        held.release()
        for sweep in sweeps:
            sweep.join()
        assert len(held.requests) == 2
    assert [names(results) for results in found] == [["0", "1"]] * 4
    assert all(result.up for results in found for result in results)


def test_closing_a_fleet_ends_a_sweep_in_another_thread_as_cancelled(silent: Server) -> None:
    fleet = sc.Fleet([sc.Target("s", silent.url)], timeout=30)
    with fleet, soon(fleet.close, lambda: silent.requests):
        (result,) = fleet.scrape()
    assert reason(result) == "cancelled"
    assert fleet.latest == {}
    assert eventually(lambda: silent.closed == silent.opened)


def test_a_target_that_is_removed_during_a_sweep_is_cancelled(server: Server, silent: Server) -> None:
    with sc.Fleet([sc.Target("s", silent.url), *targets(server, 1)], timeout=30) as fleet:
        with soon(lambda: fleet.remove("s"), lambda: silent.requests and fleet.latest):
            results = fleet.scrape()
        assert [reason(result) for result in results] == ["cancelled", None]
        assert names(fleet.scrape()) == ["0"]
        with pytest.raises(KeyError):
            fleet.remove("s")


def test_a_signal_handler_that_raises_ends_a_sweep_and_its_transfers(server: Server, silent: Server) -> None:
    def interrupt(*_: object) -> None:
        raise InterruptedError("by the test")

    with sc.Fleet([sc.Target("s", silent.url)], timeout=30) as fleet:
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            with (
                soon(lambda: os.kill(os.getpid(), signal.SIGALRM), lambda: silent.requests),
                pytest.raises(InterruptedError),
            ):
                fleet.scrape()
        finally:
            signal.signal(signal.SIGALRM, before)
        assert eventually(lambda: silent.closed == silent.opened == 1)
        fleet.remove("s")
        fleet.add(sc.Target("1", f"{server.url}/1"))
        assert [running(result) for result in fleet.scrape()] == [1]


async def test_a_task_that_is_cancelled_ends_the_transfers_of_its_sweep(silent: Server) -> None:
    async with sc.Fleet([sc.Target("s", silent.url)], timeout=30) as fleet:
        task = asyncio.create_task(fleet.ascrape())
        assert await asyncio.to_thread(eventually, lambda: len(silent.requests) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(eventually, lambda: silent.closed == 1)
        assert fleet.failures == {"s": {}}


async def test_a_sweep_that_is_given_up_goes_on_for_the_other(held: Held) -> None:
    async with sc.Fleet([sc.Target("s", held.url)], timeout=60) as fleet:
        first, second = asyncio.create_task(fleet.ascrape()), asyncio.create_task(fleet.ascrape())
        assert await asyncio.to_thread(eventually, lambda: held.requests)
        first.cancel()
        await asyncio.wait([first])
        held.release()
        assert [result.up for result in await second] == [True]
        assert len(held.requests) == 1


def test_a_thread_that_fails_is_an_error_of_its_targets(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_once(monkeypatch, OverflowError)
    with sc.Fleet(targets(server, 1)) as fleet:
        (result,) = fleet.scrape()
        assert isinstance(result.error, OverflowError)
        assert result.summary()["error"] == {"reason": None, "message": ""}
        assert fleet.failures == {"0": {"internal": 1}}
        assert [running(result) for result in fleet.scrape()] == [0]


def test_a_server_whose_scrapes_cannot_start_is_not_left_half_begun(server: Server) -> None:
    class Lacking:
        """A scraper that has no memory for another scrape."""

        def __init__(self, scraper: _core.Scraper) -> None:
            self.scraper = scraper

        def submit_all(self, *args: Any) -> list[int]:
            raise MemoryError

        def __getattr__(self, name: str) -> Any:
            return getattr(self.scraper, name)

    with sc.Fleet([sc.Target("big", [f"{server.url}/0", f"{server.url}/1"])], timeout=30) as fleet:
        engine = fleet._roster.members()[0].driver._engine()
        with patch.object(engine, "_scraper", Lacking(engine._scraper)), pytest.raises(MemoryError):
            fleet.scrape()
        assert fleet.scrape()[0].up


# ------------------------------------------------------------ what is known


def test_a_result_says_what_came_when_and_how_long_it_took(server: Server) -> None:
    began = time.time()
    with sc.Fleet(targets(server, 1)) as fleet:
        assert fleet.latest == {}
        (result,) = fleet.scrape()
        assert fleet.latest == {"0": result}
    assert result.up
    assert result.error is None
    assert result.snapshot is result.last_good
    assert result.snapshot is not None
    assert result.snapshot.instance_id == "0"
    assert result.snapshot.endpoint == f"{server.url}/0"
    assert result.snapshot.timestamp == result.started
    assert [metric.name for metric in result.snapshot.raw_metrics] == ["sglang:num_requests_running"]
    assert began - 0.01 <= result.started.timestamp() <= time.time()
    assert 0 < result.elapsed < 60
    assert (result.samples, result.body_bytes) == (1, len("sglang:num_requests_running 0\n"))
    assert result.window is None
    age = result.age
    assert age is not None
    assert result.elapsed <= age < 60
    assert eventually(lambda: result.age > age)  # type: ignore[operator]


def test_a_window_is_since_the_good_scrape_before_whatever_failed_between() -> None:
    pages = [finished(10), finished(30), answer("", status="500 Oops"), answer("b\n"), finished(90)]
    with serving(counting(lambda n: pages[n])) as server, sc.Fleet([sc.Target("x", server.url)]) as fleet:
        results = [fleet.scrape()[0] for _ in pages]
    assert [result.up for result in results] == [True, True, False, False, True]
    assert [result.consecutive_failures for result in results] == [0, 0, 1, 2, 0]
    first, second, third, fourth, last = results
    assert first.window is None
    assert second.window is not None
    assert second.window.requests_per_second == pytest.approx(20 / second.window.seconds)
    for failed in (third, fourth):
        assert failed.snapshot is failed.window is None
        assert failed.last_good == second.snapshot
        ages = [second.age, failed.age, second.age]
        assert None not in ages
        assert ages == sorted(ages)  # of one snapshot, as time goes on
    assert last.window is not None
    assert last.window.requests_per_second == pytest.approx(60 / last.window.seconds)
    assert fleet.failures == {"x": {"http_status": 1, "malformed": 1}}


def test_where_no_window_can_be_told_there_is_none() -> None:
    def gateway(n: int) -> bytes:
        """The page of a gateway that another server joins each time."""
        names = ("sglang_num_requests_total", "sglang_num_running_reqs")
        labels = [f'worker_addr="w{k}",model_name="m"' for k in range(n + 1)]
        return answer("".join(f"{name}{{{each}}} {n}\n" for name in names for each in labels))

    with serving(counting(gateway)) as server, sc.Fleet([sc.Target("x", server.url)]) as fleet:
        results = [fleet.scrape()[0] for _ in range(2)]
    assert [result.up for result in results] == [True, True]
    assert [result.window for result in results] == [None, None]


def test_a_summary_is_json_without_the_snapshot() -> None:
    with (
        serving(counting(finished)) as server,
        sc.Fleet([sc.Target("x", server.url, {"zone": "1"}), sc.Target("y", dead())]) as fleet,
    ):
        fleet.scrape()
        good, bad = [json.loads(json.dumps(result.summary())) for result in fleet.scrape()]
    assert (good["instance_id"], good["labels"], good["up"], good["error"]) == (
        "x",
        {"zone": "1"},
        True,
        None,
    )
    assert good["window"]["requests_per_second"] > 0
    assert (bad["up"], bad["window"], bad["age"], bad["consecutive_failures"]) == (False, None, None, 2)
    assert bad["error"]["reason"] == "connect_failed"
    assert bad["error"]["message"].startswith("http://127.0.0.1:")


def test_a_result_is_no_pickle(server: Server) -> None:
    with sc.Fleet(targets(server, 1)) as fleet:
        (result,) = fleet.scrape()
    with pytest.raises(TypeError, match="take its snapshot"):
        pickle.dumps(result)
    assert "secret" not in repr(result)


# ------------------------------------------------------------------ processes


def test_a_result_that_comes_twice_counts_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it may where memory is short for a while."""
    put = Inbox.put

    def put_twice(inbox: Inbox, posts: list[Any]) -> None:
        put(inbox, posts)
        put(inbox, posts)

    monkeypatch.setattr(Inbox, "put", put_twice)
    members = [sc.Target(f"i{n}", f"{server.url}/{n}") for n in range(3)]
    with sc.Fleet(members, timeout=60) as fleet:
        for _ in range(10):
            assert [result.target for result in fleet.scrape()] == members
        watched: list[sc.ScrapeResult] = []
        for batch in fleet.watch(interval=0.05):
            watched += batch
            if len(watched) > 15:
                break
        assert len({id(result) for result in watched}) == len(watched)


@pytest.mark.parametrize("way", ["sweep", "watch"])
async def test_the_garbage_collector_may_throw_away_who_waits_at_any_moment(silent: Server, way: str) -> None:
    with sc.Fleet(targets(silent, 1), timeout=60) as fleet:
        waits = fleet.ascrape() if way == "sweep" else fleet.watch().__anext__()
        waits.send(None)
        await asyncio.sleep(0.01)
        with fleet._roster._lock:  # as it may in the middle of an add()
            waits.close()


def test_a_forked_child_goes_on_with_connections_of_its_own(server: Server, silent: Server) -> None:
    done = python(
        """
        import os, sys, threading, time, warnings
        import sglang_collect as sc

        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
        url, silent = sys.argv[1:]
        with sc.Fleet([sc.Target(str(n), f"{url}/{n}") for n in range(5)]) as fleet:
            def numbers():
                return [result.snapshot.system_metrics.num_requests_running for result in fleet.scrape()]
            assert numbers() == [0, 1, 2, 3, 4]
            fleet.add(sc.Target("s", silent, options={"timeout": 1.0}))
            other = threading.Thread(target=fleet.scrape)
            other.start()
            time.sleep(0.2)
            child = os.fork()
            if child:
                other.join()
            fleet.remove("s")
            for _ in range(50):
                assert numbers() == [0, 1, 2, 3, 4]
        if child:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        """,
        server.url,
        silent.url,
    )
    assert (done.stderr, done.returncode) == ("", 0)
    assert server.opened <= 10


@pytest.mark.parametrize("use", ["fleet.scrape()", "[0 for _ in fleet.watch(0.05)]"])
def test_an_interpreter_exits_at_once_beside_a_fleet(use: str, silent: Server) -> None:
    done = python(
        f"""
        import sys, threading, time
        import sglang_collect as sc
        fleet = sc.Fleet([sc.Target("s", sys.argv[1])], timeout=30).__enter__()
        threading.Thread(target=lambda: {use}, daemon=True).start()
        time.sleep(0.3)
        print(time.time())
        """,
        silent.url,
    )
    ended = time.time()
    assert (done.stderr, done.returncode) == ("", 0)
    assert ended - float(done.stdout) < 15  # half of the timeout
