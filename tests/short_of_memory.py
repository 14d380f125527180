"""The package above the extension while allocations of Python's fail: one, or many one after another.

    python tests/short_of_memory.py [--all] [scene...]

Each call either gives what it gives with memory, or says that there was none: nobody waits for ever, and with
memory back the same call gives the right answer. Prints how many points were tried; ``--all`` tries every
one. Threads are started before, since Python's do not survive everywhere; and nothing is asked of pydantic
that its Rust makes, JSON and so the router's answers, since that then ends the process.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import json
import logging
import sys
import tempfile
import warnings
from _testcapi import remove_mem_hooks, set_nomemory  # type: ignore[import-not-found]
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from leaks import descriptors
from servers import serving_elsewhere

import sglang_collect as sc
from sglang_collect import discovery
from sglang_collect.simulator import LoadModel, render_page

PAGE = render_page(LoadModel(load=0.5))
SOME = 25
BURST = 50
"""So many fail one after another. Not all for ever: a handler that needs memory to begin is entered again and
again, and holds the GIL meanwhile. Event loops bear one: after more, Python itself ends the process."""

ONE = (1,)
PATIENCE = 30.0  # seconds after which somebody waits for ever


class Scene(NamedTuple):
    """What is called, and what its answer says: the same each time, or None where there was no memory."""

    call: Callable[[], Any]
    says: Callable[[Any], object]
    counts: tuple[int, ...] = (BURST, 1)


# ---------------------------------------------------------------------- failures


def attempt(call: Callable[[], Any], first: int, count: int) -> Any:
    """What comes of the call, so many of whose allocations fail, from this one on."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    try:
        set_nomemory(first, first + count)
        try:
            return call()
        finally:
            remove_mem_hooks()
    except BaseException as error:
        return error
    finally:
        faulthandler.cancel_dump_traceback_later()


def means_no_memory(error: BaseException) -> bool:
    """Python's own code says it in other ways now and then: SystemError, "can't allocate lock"."""
    return (
        isinstance(error, (MemoryError, SystemError))
        or getattr(error, "reason", None) == "out_of_memory"
        or "allocate" in str(error)
    )


def points(scene: Scene, expected: object) -> int:
    """About how many allocations there are in a call: twice the last power of two that made a difference."""
    firsts = [1 << k for k in range(16)]
    felt = [
        first for first in firsts if judged(scene, attempt(scene.call, first, scene.counts[0])) != expected
    ]
    return 2 * max(felt, default=1)


# ------------------------------------------------------------------------ scenes


def judged(scene: Scene, outcome: Any) -> object:
    """What the answer says, or None where it says that there was no memory."""
    if not isinstance(outcome, BaseException):
        return scene.says(outcome)
    if means_no_memory(outcome):
        return None
    raise outcome


def sweep_says(results: list[sc.ScrapeResult]) -> object:
    """Of each target; None where one of them had no memory."""
    numbers = []
    for result in results:
        if result.error is not None:
            if not means_no_memory(result.error):
                raise result.error
            return None
        assert result.snapshot is not None
        numbers.append((result.target.instance_id, result.snapshot.system_metrics.num_requests_running))
    return numbers


class Loop:
    """Runs coroutines in an event loop, which goes on where it fell over.

    asyncio may have no memory to call what it was told to call. Then the task is lost that waits for it, and
    the loop with it.

    Args:
        drivers: they have told the loop everything where nobody waits for one of them.
    """

    def __init__(self, drivers: list[Any]) -> None:
        self._drivers = drivers
        self.begin()

    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: None)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        task = self.loop.create_task(coroutine)
        while not task.done():
            try:
                asyncio._set_running_loop(None)
                for seconds in (0.02, 0.03):  # one of which may be lost
                    self.loop.call_later(seconds, self.loop.stop)
                self.loop.run_forever()
            except (MemoryError, RuntimeError):  # the latter of a loop that is not ended
                continue
            if not task.done() and self._has_lost_one():
                self.loop.close()
                self.begin()
                raise MemoryError("asyncio has lost a task")
        return task.result()

    def _has_lost_one(self) -> bool:
        """Does a task wait that nobody is going to wake?"""
        engines = [engine for driver in self._drivers for engine in driver._engines.values()]
        return not any(engine._waiting for engine in engines) and not self.loop._ready  # type: ignore[attr-defined]


class World:
    """All that the scenes use, open and warm."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.targets = [sc.Target(f"sglang-{number}", url) for number in range(3)]
        self.fleet = sc.Fleet(self.targets, timeout=PATIENCE)
        self.fleet.__enter__()
        self.fleet.scrape()
        self.results = self.fleet.scrape()
        self.collector = sc.SGLangCollector(timeout=PATIENCE)
        self.loop = Loop([self.collector._driver, *self.fleet._drivers])
        self.loop.run(self.collector.__aenter__())
        self.loop.run(self.collector.collect("warm", url))
        self.earlier = sc.SGLangMetricsSnapshot.from_text(PAGE, instance_id="a")
        self.folder = folder
        (folder / "targets.json").write_text(json.dumps([{"targets": ["host:1", "host:2"]}]))
        self.found = discovery.FileSD(folder / "targets.json")

    def close(self) -> None:
        self.fleet.close()
        self.collector._driver.close()

    def make_fleet(self) -> sc.Fleet:
        fleet = sc.Fleet(self.targets, timeout=5, headers={"a": "b"})
        fleet.remove("sglang-1")
        fleet.add(sc.Target("another", [self.url, self.url], {"zone": "1"}, {"timeout": 2}))
        return fleet

    def watch(self) -> bool:
        """Until a scrape of one went well, which one that began before may not."""
        watch = self.fleet.watch(interval=0.01)
        try:
            return any(result.up for results in watch for result in results)
        finally:
            watch.close()

    def tell(self) -> object:
        result = self.results[0]
        return result.up, result.last_good, result.window, result.samples

    def scenes(self) -> dict[str, Scene]:
        text = partial(sc.SGLangMetricsSnapshot.from_text, PAGE, instance_id="a")
        running = lambda snapshot: snapshot.system_metrics.num_requests_running  # noqa: E731
        return {
            "from_text": Scene(text, running),
            "since": Scene(lambda: text().since(self.earlier), lambda window: window.restarted),
            "scrape": Scene(lambda: sc.scrape(self.url, timeout=PATIENCE), running),
            "make_collector": Scene(
                lambda: sc.SGLangCollector(headers={"a": "b"}), lambda made: made.timeout
            ),
            "collect": Scene(lambda: self.loop.run(self.collector.collect("a", self.url)), running, ONE),
            "make_fleet": Scene(self.make_fleet, lambda made: [t.instance_id for t in made.targets]),
            "fleet.scrape": Scene(self.fleet.scrape, sweep_says),
            "fleet.ascrape": Scene(lambda: self.loop.run(self.fleet.ascrape()), sweep_says, ONE),
            "fleet.watch": Scene(self.watch, bool),
            "fleet.latest": Scene(
                lambda: (self.fleet.latest, self.fleet.failures), lambda told: len(told[1])
            ),
            "result": Scene(self.tell, lambda told: told[0]),
            "FileSD": Scene(self.found.find, lambda found: [target.instance_id for target in found]),
        }


# ------------------------------------------------------------------------- sweep


def sweep(name: str, scene: Scene, every: bool) -> int:
    scene.call()
    expected = scene.says(scene.call())
    assert expected is not None, name
    most = points(scene, expected)
    step = 1 if every else max(1, most // SOME)
    tried = range(0, most + step, step)
    for count in scene.counts:
        for first in tried:
            try:
                assert judged(scene, attempt(scene.call, first, count)) in (None, expected)
                # The first may share a scrape that began while there was none.
                assert expected in (scene.says(scene.call()), scene.says(scene.call()))
            except BaseException:
                print(f"{name}: {count} of {most} fail from {first} on", file=sys.stderr, flush=True)
                raise
    n = len(scene.counts) * len(tried)
    print(f"{name}: {n} failing allocations", flush=True)
    return n


@contextmanager
def world() -> Iterator[World]:
    with serving_elsewhere(PAGE) as [url], tempfile.TemporaryDirectory() as folder:
        made = World(url, Path(folder))
        try:
            yield made
        finally:
            made.close()


def main(*args: str) -> None:
    if sys.version_info[:2] != (3, 11):
        print("not tried: other interpreters read what they have freed where a handler has no memory")
        return
    warnings.simplefilter("ignore")
    logging.disable()
    names = [arg for arg in args if arg != "--all"]
    with world() as made:
        held = descriptors()
        scenes = made.scenes()
        tried = sum(sweep(name, scenes[name], "--all" in args) for name in names or scenes)
        gc.collect()
        assert descriptors() < held + 5, (descriptors(), held)  # an event loop or a connection more or less
    print(f"{len(names or scenes)} scenes, {tried} failing allocations")


if __name__ == "__main__":
    main(*sys.argv[1:])
