"""Every call of the extension again and again, counting every reference: for a debug build of Python.

A program: ``python3-dbg tests/refcounts.py [planted]``. Without such a build it makes the calls and counts
nothing, for what watches from outside. ``planted`` leaves an object behind, which must be found.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable

from core_actions import ACTIONS, PAGE, SCRAPING, Scrapes
from servers import serving_elsewhere, unused_port

from sglang_collect._core import Scraper

TIMES = 10


def total() -> int:
    """References to all objects there are; 0 where the interpreter does not count them."""
    gc.collect()
    return int(getattr(sys, "gettotalrefcount", int)())


def growth(action: Callable[[], None]) -> int:
    """References that so many times more leave behind, once caches are full: the least of several tries."""
    tries = []
    for _ in range(6):
        before = total()
        for _ in range(TIMES):
            action()
        tries.append(total() - before)
    return min(tries[2:])


def main() -> None:
    warnings.simplefilter("ignore")
    with serving_elsewhere(PAGE, "a x\n") as urls, Scraper(max_connections=8) as scraper:
        scrapes = Scrapes(scraper, *urls, f"http://127.0.0.1:{unused_port()}/")
        actions = [*ACTIONS, *(getattr(scrapes, name) for name in SCRAPING)]
        if "planted" in sys.argv:
            kept: list[object] = []
            actions = [lambda: kept.append(object())]
        grown = {action.__name__: more for action in actions if (more := growth(action)) >= TIMES}
    if grown:
        raise SystemExit(f"references left behind in {TIMES} times: {grown}")
    print(f"{len(actions)} actions, {total()} references")


main()
