"""Threads that use the same objects at the same moment, where Python has a GIL and where it has none.

A program: ``python tests/together.py [rounds]``. Every round makes its objects anew, so that what they make
when first asked for is made while all threads ask. Needs nothing but the package; without pydantic there is
no fleet.
"""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from core_actions import ACTIONS, OPENMETRICS, PAGE, PLAN, SCRAPING, Scrapes
from servers import serving_elsewhere, unused_port

from sglang_collect import _core
from sglang_collect._core import Endpoint, Guard, Histogram, Result, Scraper, Steady, parse

THREADS = 8
BIG = b"".join(b'a{x="%d",y="%d"} %d\nh{z="%d"} 1\n' % (i % 7, i, i, i) for i in range(60)) + PAGE
COUNTS = Histogram([1.0, float("inf")], [1.0, 2.0], sum=3.0)

_T = TypeVar("_T")


def together(*actions: Callable[[], _T]) -> list[_T]:
    """What the actions give, a thread for each, begun at the same moment. Raises what one of them raised."""
    gate = threading.Barrier(len(actions))
    given: list[Any] = [None] * len(actions)
    raised: list[BaseException] = []

    def run(number: int) -> None:
        try:
            gate.wait()
            given[number] = actions[number]()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if raised:
        raise raised[0]
    return given


def at_once(action: Callable[[], _T]) -> list[_T]:
    return together(*[action] * THREADS)


def same(given: Sequence[object]) -> None:
    """All are one object."""
    assert len({id(one) for one in given}) == 1


def equal(given: Sequence[object]) -> None:
    assert len([one for one in given if one != given[0]]) == 0


# ---------------------------------------------------------------------- objects


def everything_of(page: _core.Page) -> object:
    samples = [(s.name, s.labels, s.timestamp, repr(s.value), hash(s)) for s in page.samples]
    families = [
        (name, f.type, f.help, len(f.samples), repr(f.samples[-1:])) for name, f in page.families.items()
    ]
    return samples, families, page.value("b"), page.histogram("h"), repr(page.samples[0].exemplar)


def one_page() -> None:
    for data in (BIG, OPENMETRICS):
        page = parse(data, format="auto")
        equal([*at_once(lambda page=page: everything_of(page)), everything_of(parse(data, format="auto"))])  # type: ignore[misc]


def series_of_one_page() -> None:
    first, second = parse(BIG).columns(), parse(BIG.replace(b"b 4", b"c 4"))
    page = parse(BIG)
    for given in zip(*at_once(lambda: [(s.labels, hash(s)) for s in first.series]), strict=True):
        same([labels for labels, _ in given])
        equal([number for _, number in given])
    equal([list(columns.values) for columns in at_once(lambda: parse(b"a 1\n").columns(first))])
    for columns in at_once(lambda: page.columns(first)):
        assert columns.series is first.series
    for columns in at_once(lambda: second.columns(first)):
        assert len(columns.series) == len(first.series)


def one_fold() -> None:
    fold = PLAN.fold(PAGE)
    for given in zip(*at_once(lambda: [fold[name] for name in PLAN.names]), strict=True):
        same(given)
    equal(at_once(lambda: (fold.flaws, [fold.reason(name) for name in fold], [*fold.items()])))


def a_dict_that_changes() -> None:
    """Of a fold's dict and of the names of quantiles, while others add to them."""
    fold = PLAN.fold(PAGE)
    values: dict[Any, Any] = fold["by"]
    quantiles: dict[str, float] = {"p50": 0.5}

    def add() -> None:
        for number in range(200):
            values[f"{number}"] = 1.5
            quantiles[f"p{number}"] = 0.25
            if number % 20 == 19:
                values.clear()
                quantiles.clear()

    def read() -> None:
        for _ in range(50):
            _core.pick((("x", "by", True), ("y", "a", False)), fold)
            COUNTS.summary(quantiles)

    together(*[add, read] * (THREADS // 2))


def one_steady() -> None:
    steady = Steady(PLAN)

    def folds() -> int:
        came = 0
        for _ in range(20):
            with suppress(RuntimeError):  # another thread folds
                assert steady.fold(BIG)["a"] is not None
                came += 1
            repr((steady, steady.hit))
        return came

    assert sum(at_once(folds)) > 0


def every_action() -> None:
    def some() -> None:
        for action in random.sample(ACTIONS, 3):
            action()

    at_once(some)


# --------------------------------------------------------------------- scraping


class Scraping:
    def __init__(self, good: str, bad: str, nobody: str) -> None:
        self.urls = good, bad, nobody
        self.good, self.bad, self.nobody = Endpoint(good), Endpoint(bad), Endpoint(nobody)

    def one_result(self) -> None:
        with Scraper() as scraper:
            for endpoint, plan in ((self.good, PLAN), (self.bad, None), (self.nobody, None)):
                scraper.submit(endpoint, plan)
                [result] = scraper.wait()
                at_once(lambda result=result: repr((result, result.timings, result.body)))  # type: ignore[misc]
                same(at_once(lambda result=result: result.error))  # type: ignore[misc]
                if endpoint is self.good:
                    same(at_once(lambda result=result: result.page))  # type: ignore[misc]
                    same(at_once(lambda result=result: result.fold["h"]))  # type: ignore[misc]

    def one_scraper(self) -> None:
        """Every scrape that one of them submits comes back once, cancelled or not."""
        submitted: list[int] = []
        came: list[Result] = []
        done = [0]

        def submit() -> None:
            mine = []
            for number in range(20):
                mine.append(scraper.submit((self.good, self.bad, self.nobody)[number % 3], PLAN))
                if number % 4 == 0:
                    scraper.cancel(random.choice(mine))
                if number % 5 == 0:
                    scraper.wake()
                repr((scraper, scraper.pending))
            submitted.extend(mine)
            done[0] += 1

        def wait() -> None:
            while scraper.pending or len(submitted) < 20 * (THREADS - 1):
                came.extend(scraper.wait(0.01))

        with Scraper(max_connections=8, guard=Guard(["127.0.0.1/32:1-65535"])) as scraper:
            together(wait, *[submit] * (THREADS - 1))
        assert sorted(result.id for result in came) == sorted(submitted)
        for result in came:
            assert result.error is not None or (result.endpoint is self.good and result.fold is not None)

    def one_scraper_that_is_closed(self) -> None:
        """Whatever the others are doing, and whoever closes it."""
        scraper = Scraper()

        def use() -> None:
            with suppress(RuntimeError):  # closed, or another waits
                for _ in range(5):
                    scraper.submit(self.good, PLAN)
                    scraper.cancel()
                    scraper.wait(0.05)
            repr((scraper, scraper.pending))

        together(*[use] * (THREADS - 2), scraper.close, scraper.close)
        assert repr(scraper) == "<Scraper: closed>"

    def one_endpoint(self) -> None:
        """A scraper for each thread, and the same endpoint and plan."""

        def scrape() -> None:
            with Scraper() as scraper:
                for _ in range(5):
                    scraper.submit(self.good, PLAN)
                    [result] = scraper.wait()
                    assert result.fold is not None
                    assert result.fold["h"] is not None

        at_once(scrape)

    def every_scrape(self) -> None:
        def some() -> None:
            with Scraper() as scraper:
                scrapes = Scrapes(scraper, *self.urls)
                for name in SCRAPING:
                    getattr(scrapes, name)()

        at_once(some)


class Fleets:
    """A fleet that some read while others add and remove targets."""

    def __init__(self, url: str) -> None:
        self.url = url

    def one_fleet(self) -> None:
        import sglang_collect as sc

        fixed = [sc.Target(f"fixed-{number}", self.url) for number in range(4)]

        def change(name: str) -> None:
            for number in range(20):
                fleet.add(sc.Target(f"{name}-{number}", self.url))
                if number % 2:
                    fleet.remove(f"{name}-{number}")

        def sweep() -> None:
            for _ in range(4):
                results = {result.target.instance_id: result for result in fleet.scrape()}
                assert all(results[target.instance_id].up for target in fixed)
                repr((fleet.latest, fleet.failures, fleet.targets, fleet.aggregate()))

        def watch() -> None:
            watching = fleet.watch(interval=0.05)
            seen: set[str] = set()
            while not seen >= {target.instance_id for target in fixed}:
                seen.update(result.target.instance_id for result in next(watching))
                for result in fleet.latest.values():
                    if result.snapshot is not None:
                        repr((result.snapshot.raw_metrics[:1], result.snapshot.queues))
            watching.close()

        with sc.Fleet(fixed, timeout=60, scrapers=2) as fleet:
            changes = [lambda name=name: change(name) for name in ("one", "two", "three")]  # type: ignore[misc]
            together(*changes, sweep, sweep, sweep, watch, watch)
            assert len(fleet.targets) == 4 + 3 * 10
            assert len(fleet.scrape()) == 4 + 3 * 10


# ------------------------------------------------------------------------- main


def has_models() -> bool:
    try:
        import pydantic  # noqa: F401
    except ImportError:
        return False
    return True


@contextmanager
def all_of_them() -> Iterator[list[Callable[[], None]]]:
    pages = serving_elsewhere(PAGE, "a x\n", "sglang:num_running_reqs 4\n")
    with pages as (good, bad, sglang):
        scraping = Scraping(good, bad, f"http://127.0.0.1:{unused_port()}/")
        yield [
            one_page,
            series_of_one_page,
            one_fold,
            a_dict_that_changes,
            one_steady,
            every_action,
            scraping.one_result,
            scraping.one_scraper,
            scraping.one_scraper_that_is_closed,
            scraping.one_endpoint,
            scraping.every_scrape,
            *([Fleets(sglang).one_fleet] if has_models() else []),
        ]


def main(rounds: int = 20) -> None:
    gil = getattr(sys, "_is_gil_enabled", lambda: True)
    with all_of_them() as scenes:
        for _ in range(rounds):
            for scene in scenes:
                scene()
    print(f"{rounds} rounds of {len(scenes)} scenes, {THREADS} threads, {'a' if gil() else 'no'} GIL")


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:]))
