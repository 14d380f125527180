"""Fleet.watch: when each target is due, and how a watch ends."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections import Counter
from itertools import islice, pairwise
from typing import Any

import pytest
from fleets import PAGE, echo, names, running, targets, waiting
from servers import Held, Request, Server, answer, eventually, serving, soon

import sglang_collect as sc
from sglang_collect import watch as module

# ---------------------------------------------------------------------- watch


def test_a_plain_for_reads_every_target_again_and_again(server: Server) -> None:
    seen: Counter[str] = Counter()
    with sc.Fleet(targets(server, 10)) as fleet:
        for results in fleet.watch(0.05):
            assert results
            assert all(running(result) == int(result.target.instance_id) for result in results)
            seen.update(names(results))
            if min(seen.get(str(n), 0) for n in range(10)) >= 3:
                break
        assert all(result.window for result in fleet.latest.values())


async def test_an_async_for_does_the_same(server: Server) -> None:
    seen: Counter[str] = Counter()
    with sc.Fleet(targets(server, 10)) as fleet:
        async for results in fleet.watch(0.05):
            seen.update(names(results))
            if min(seen.get(str(n), 0) for n in range(10)) >= 3:
                break


def test_it_works_under_uvloop(server: Server, silent: Server) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def main() -> int:
        seen: set[str] = set()
        async with sc.Fleet([*targets(server, 5), sc.Target("s", silent.url)], timeout=0.3) as fleet:
            async for results in fleet.watch(0.05):
                seen.update(names(results))
                if len(seen) == 6:
                    break
            return len(await fleet.ascrape())

    loop = uvloop.new_event_loop()
    try:
        assert loop.run_until_complete(main()) == 6
    finally:
        loop.close()


@pytest.mark.parametrize("interval", [0, 0.001, -1, float("nan"), float("inf"), 100_000])
def test_an_interval_out_of_range_is_refused(interval: float) -> None:
    with sc.Fleet() as fleet, pytest.raises(ValueError, match="interval"):
        fleet.watch(interval)


def test_a_target_is_never_scraped_twice_at_once_and_a_slow_one_holds_up_no_other() -> None:
    lock = threading.Lock()
    asked: Counter[str] = Counter()
    under_way: Counter[str] = Counter()
    most: Counter[str] = Counter()

    def some_slow(request: Request, connection: socket.socket) -> bytes:
        """Target 0 answers once the others were asked five times more."""
        name = request.path.rpartition("/")[2]
        with lock:
            asked[name] += 1
            under_way[name] += 1
            most[name] = max(most[name], under_way[name])
            enough = 5 + max(asked["1"], asked["2"])
        if name == "0":
            assert eventually(lambda: min(asked["1"], asked["2"]) >= enough)
        with lock:
            under_way[name] -= 1
        return echo(request, connection)

    seen: Counter[str] = Counter()
    with serving(some_slow) as server, sc.Fleet(targets(server, 3), timeout=120) as fleet:
        for results in fleet.watch(0.05):
            assert all(result.up for result in results)
            seen.update(names(results))
            if seen["0"] == 2:
                break
    assert most == {"0": 1, "1": 1, "2": 1}


def test_scrapes_are_spread_over_the_interval(server: Server) -> None:
    starts: dict[str, list[float]] = {name: [] for name in map(str, range(20))}

    def spread() -> bool:
        """Have the last scrapes their places, an interval after the ones before?"""
        if min(map(len, starts.values())) < 3:
            return False
        last = sorted(times[-1] % 0.5 for times in starts.values())
        pauses = sorted(times[-1] - times[-2] for times in starts.values())
        return (
            max(b - a for a, b in pairwise([*last, last[0] + 0.5])) < 0.25
            and abs(pauses[len(pauses) // 2] - 0.5) < 0.1
        )

    with sc.Fleet(targets(server, 20)) as fleet:
        for results in islice(fleet.watch(0.5), 1000):  # others use the machine too: once is enough
            for result in results:
                starts[result.target.instance_id].append(result.started.timestamp())
            if spread():
                break
    assert spread()


class _Numbered:
    """As much of a member as its place asks for."""

    def __init__(self, number: int) -> None:
        self.number = number


@pytest.mark.parametrize("n", [2, 10, 1000])
def test_places_in_the_interval_are_even_whatever_the_number_of_targets(n: int) -> None:
    places = sorted(module._phase(_Numbered(number)) for number in range(n))  # type: ignore[arg-type]
    gaps = [b - a for a, b in pairwise([*places, places[0] + 1])]
    assert max(gaps) < 2 / n


def ended(up: bool, failures: int = 0, elapsed: float = 0.0) -> Any:
    """A result as a watch looks at it."""
    error = None if up else MemoryError()
    return sc.ScrapeResult(sc.Target("x", "http://x/"), error, failures, elapsed, 0.0, None, None)


def test_a_target_that_answers_keeps_its_place_however_long_it_takes() -> None:
    with sc.Fleet() as fleet:
        watch = fleet.watch(10.0)
        member: Any = _Numbered(3)
        place = watch._began + module._phase(member) * 10
        assert watch._next(member, ended(True), place + 0.1) == pytest.approx(place + 10)
        assert watch._next(member, ended(True, elapsed=9.0), place + 9) == pytest.approx(place + 10)
        assert watch._next(member, ended(True, elapsed=14.0), place + 14) == pytest.approx(place + 20)
        early = watch._next(member, ended(True), place + 4)  # as after its first scrape
        assert early == pytest.approx(place + 10)
        assert watch._next(member, ended(True), place + 6) == pytest.approx(place + 20)


@pytest.mark.parametrize(("interval", "longest"), [(0.05, 10.0), (1.0, 10.0), (30.0, 60.0)])
def test_back_off_grows_to_a_bound_and_is_not_the_same_twice(interval: float, longest: float) -> None:
    with sc.Fleet() as fleet:
        watch = fleet.watch(interval)
        pauses = [
            [watch._next(_Numbered(1), ended(False, n), 0.0) for _ in range(50)]  # type: ignore[arg-type]
            for n in (1, 2, 3, 10, 100_000)
        ]
    assert all(interval <= pause <= longest for each in pauses for pause in each)
    assert max(pauses[0]) <= 2 * interval
    assert min(pauses[-1]) >= longest / 2
    assert all(len(set(each)) > 25 for each in pauses)


def test_a_target_that_fails_is_asked_less_often_until_it_answers(server: Server) -> None:
    asked: Counter[str] = Counter()
    with (
        serving(answer("", status="500 Oops")) as bad,
        sc.Fleet([sc.Target("bad", bad.url), *targets(server, 1)]) as fleet,
    ):
        for results in fleet.watch(0.02):
            asked.update(names(results))
            if asked["0"] >= 40:
                break
        assert asked["bad"] < 15
        bad.reply = PAGE
        for results in fleet.watch(0.02):
            if any(result.target.instance_id == "bad" and result.up for result in results):
                break
        assert fleet.latest["bad"].consecutive_failures == 0


def test_targets_come_and_go_while_a_watch_goes_on(server: Server) -> None:
    extra = sc.Target("new", f"{server.url}/9")
    with sc.Fleet(targets(server, 2)) as fleet:
        watch = fleet.watch(0.05)
        assert set(names(next(watch))) <= {"0", "1"}
        fleet.add(extra)
        with pytest.raises(ValueError, match="two targets"):
            fleet.add(extra)
        assert fleet.targets == (*targets(server, 2), extra)
        for results in watch:
            if "new" in names(results):
                break
        fleet.remove("0")
        rest: list[str] = []
        while rest.count("1") < 3:
            rest += names(next(watch))
        assert "0" not in rest
        assert set(fleet.latest) == {"1", "new"}


def test_a_target_that_is_removed_under_way_is_not_heard_of(silent: Server, server: Server) -> None:
    with sc.Fleet([sc.Target("s", silent.url)], timeout=30) as fleet:
        watch = fleet.watch(0.05)

        def swap() -> None:
            fleet.remove("s")
            fleet.add(sc.Target("7", f"{server.url}/7"))

        with soon(swap, lambda: silent.requests):
            assert [running(result) for result in next(watch)] == [7]
        assert eventually(lambda: silent.closed == 1)


def test_a_watch_of_nothing_waits_for_a_target(server: Server) -> None:
    with sc.Fleet() as fleet, soon(lambda: fleet.add(targets(server, 1)[0])):
        assert names(next(fleet.watch(0.05))) == ["0"]


async def test_an_async_watch_of_nothing_waits_for_a_target(server: Server) -> None:
    async with sc.Fleet() as fleet:
        waiting = asyncio.ensure_future(anext(fleet.watch(0.05)))
        await asyncio.sleep(0.05)
        fleet.add(targets(server, 1)[0])
        assert names(await waiting) == ["0"]


def test_nothing_is_started_while_the_program_is_busy_with_a_batch(server: Server) -> None:
    with sc.Fleet(targets(server, 1)) as fleet:
        watch = fleet.watch(0.02)
        next(watch)
        before = len(server.requests)
        time.sleep(0.2)
        assert len(server.requests) == before
        next(watch)


def test_two_watches_and_a_sweep_share_what_is_under_way(held: Held) -> None:
    found: list[sc.ScrapeResult] = []
    with sc.Fleet([sc.Target("s", held.url)], timeout=60) as fleet:
        watches = [lambda: found.append(next(fleet.watch(0.05))[0]) for _ in range(2)]
        waiters = [
            threading.Thread(target=wait) for wait in (*watches, lambda: found.append(fleet.scrape()[0]))
        ]
        for waiter in waiters:
            waiter.start()
        assert eventually(lambda: waiting(fleet) == [3])
        held.release()
        for waiter in waiters:
            waiter.join()
    assert len(found) == 3
    assert found[0].up
    assert len({id(result) for result in found}) == 1
    assert len(held.requests) == 1


def test_closing_the_fleet_ends_a_watch_in_another_thread(server: Server, silent: Server) -> None:
    fleet = sc.Fleet([sc.Target("s", silent.url)], timeout=30)
    with fleet, soon(fleet.close, lambda: silent.requests):
        assert list(fleet.watch(0.05)) == []
    assert eventually(lambda: silent.closed == silent.opened)


def test_closing_a_watch_ends_it_and_what_only_it_waits_for(silent: Server) -> None:
    with sc.Fleet([sc.Target("s", silent.url)], timeout=30) as fleet:
        watch = fleet.watch(0.05)
        with soon(watch.close, lambda: silent.requests):
            assert list(watch) == []
        assert eventually(lambda: silent.closed == 1)
        watch.close()
        assert list(watch) == []
        assert fleet.failures == {"s": {}}


async def test_closing_an_async_watch_ends_it(silent: Server) -> None:
    async with sc.Fleet([sc.Target("s", silent.url)], timeout=30) as fleet:
        watch = fleet.watch(0.05)
        waiting = asyncio.ensure_future(anext(watch, None))
        assert await asyncio.to_thread(eventually, lambda: len(silent.requests) == 1)
        await watch.aclose()
        assert await waiting is None
        assert await asyncio.to_thread(eventually, lambda: silent.closed == 1)


async def test_a_task_that_is_cancelled_ends_the_transfers_of_its_watch(silent: Server) -> None:
    async def main() -> None:
        async for _ in fleet.watch(0.05):
            pass

    async with sc.Fleet([sc.Target("s", silent.url)], timeout=30) as fleet:
        task = asyncio.create_task(main())
        assert await asyncio.to_thread(eventually, lambda: len(silent.requests) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(eventually, lambda: silent.closed == 1)


async def test_leaving_an_async_fleet_ends_its_watches(silent: Server) -> None:
    async def main() -> int:
        return sum([len(results) async for results in fleet.watch(0.05)])

    async with sc.Fleet([sc.Target("s", silent.url)], timeout=30) as fleet:
        task = asyncio.create_task(main())
        assert await asyncio.to_thread(eventually, lambda: len(silent.requests) == 1)
    assert await task == 0


async def test_the_loop_goes_on_while_a_fleet_is_watched(server: Server, silent: Server) -> None:
    seen: set[str] = set()

    async def main() -> None:
        async for results in fleet.watch(0.05):
            seen.update(names(results))

    async with sc.Fleet([*targets(server, 20), sc.Target("s", silent.url)], timeout=30) as fleet:
        task = asyncio.create_task(main())
        while len(seen) < 20:
            await asyncio.sleep(0.01)
            assert not task.done()
    await task
    assert "s" not in seen
