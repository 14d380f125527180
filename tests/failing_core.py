"""Every public call and every route while allocations of the core's and of libcurl's fail: one, and all from
one on.

    python tests/failing_core.py [planted]

Python and pydantic keep all their memory, so that what we make of a failure is seen where pydantic's Rust
would end the process. It builds the extension once more, with an allocator that can be told to fail
(c/failing.c). Each call gives what it gives with memory, or says that there was none; nothing stays behind.
Prints how many points were tried. ``planted`` keeps what a call gives, which must be found.
"""

from __future__ import annotations

import asyncio
import ctypes
import faulthandler
import gc
import itertools
import json
import logging
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import _lru_cache_wrapper, partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LIB = HERE.parent / "build" / "failing-core"
PATIENCE = 60.0  # seconds after which somebody waits for ever
FOREVER = 1 << 40

# ------------------------------------------------------------------------- build


def build() -> Path:
    """The package with that extension, in a folder of its own."""
    package = LIB / "sglang_collect"
    package.mkdir(parents=True, exist_ok=True)
    for source in (HERE.parent / "sglang_collect").iterdir():
        if source.suffix != ".so" and not (package / source.name).exists():
            (package / source.name).symlink_to(source)
    csrc = HERE.parent / "csrc"
    curl = os.environ.get("CURL_CONFIG", "curl-config")
    flags = subprocess.check_output([curl, "--cflags", "--libs"], text=True)
    command = [
        "cc",
        "-std=c11",
        "-shared",
        "-fPIC",
        "-O0",
        "-fvisibility=hidden",
        "-ffp-contract=off",
        "-pthread",
    ]
    command += [f"-I{csrc / 'core'}", f"-I{sysconfig.get_path('include')}"]
    command += map(str, [*csrc.glob("*/*.c"), HERE / "c" / "failing.c"])
    command += [
        "-o",
        str(package / f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"),
        *shlex.split(flags),
        "-lz",
    ]
    subprocess.run(command, check=True)
    return LIB


def run_with_it() -> int:
    """This program again, with that extension, and without a sanitizer that is none for it."""
    for name in [*os.environ]:
        if name == "LD_PRELOAD" or name.startswith("COVERAGE_"):
            del os.environ[name]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(build()), str(HERE)])
    return subprocess.run([sys.executable, __file__, "--built", *sys.argv[1:]], check=False).returncode


# ------------------------------------------------------------------------- sweep

Says = Callable[[Any], object]
"""What an outcome says, in a form to compare; None where it says that there was no memory."""


class Points:
    """Fails allocations, and counts how many it has failed."""

    def __init__(self) -> None:
        from sglang_collect import _core

        self._library = ctypes.CDLL(_core.__file__)
        self._library.failing_end.restype = self._library.failing_held.restype = ctypes.c_long
        self._library.failing_begin.argtypes = ctypes.c_long, ctypes.c_long
        self.tried = 0

    def held(self) -> int:
        """Bytes of the core's and libcurl's; not what FastAPI keeps of applications that are gone."""
        for kept in gc.get_objects():
            if isinstance(kept, _lru_cache_wrapper) and kept.__module__.startswith("fastapi."):
                kept.cache_clear()
        for _ in range(3):  # what has a finalizer goes only then
            gc.collect()
        return int(self._library.failing_held())

    def attempt(self, call: Callable[[], Any], first: int, count: int) -> tuple[Any, int]:
        """What comes of the call, so many of whose allocations fail; and how many there were."""
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        self._library.failing_begin(first, count)
        try:
            outcome = call()
        except Exception as error:
            # Where many are kept alive by their tracebacks, newer Pythons raise one that is never freed.
            outcome = error.with_traceback(None)
        made = int(self._library.failing_end())
        faulthandler.cancel_dump_traceback_later()
        return outcome, made

    def sweep(self, name: object, make: Callable[[], Any], call: Callable[..., Any], says: Says) -> None:
        """Fails all of them in turn. ``says`` gives None of what says that there was no memory."""
        expected = says(self.attempt(partial(call, *make()), 0, 0)[0])
        assert expected is not None, name
        for count in (1, FOREVER):
            for at in itertools.count():
                outcome, made = self.attempt(partial(call, *make()), at, count)
                said = says(outcome)
                again = says(self.attempt(partial(call, *make()), 0, 0)[0])
                if said not in (None, expected) or again != expected:
                    raise SystemExit(f"{name}: {count} fail from {at} on: {outcome!r}, afterwards {again}")
                if made <= at:
                    assert said == expected, f"{name} fails with all memory there: {outcome!r}"
                    break
                self.tried += 1


# ------------------------------------------------------------------- calls, routes


def kind(outcome: Any) -> object:
    """What a call of the extension gave; None where there was no memory."""
    return None if isinstance(outcome, MemoryError) else type(outcome).__name__


def calls(points: Points) -> int:
    """Every public call of the extension."""
    from no_memory import every_call

    every = list(every_call())
    for call, make, keywords in every:
        points.sweep(f"{call} {keywords}", make, partial(call, **keywords), kind)
    return len(every)


async def ask(app: Any, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
    """Status and content of an answer of the application."""
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    messages = [{"type": "http.request", "body": body}]
    sent: list[Any] = []

    async def receive() -> Any:
        if not messages:
            await asyncio.Event().wait()  # the client stays
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    with suppress(MemoryError):  # which the server hears of too, once it is answered
        await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


NO_MEMORY = "out_of_memory: this service is out of memory"


def of_post(answer: tuple[int, bytes]) -> object:
    """What the answer to a POST says: a number of running requests, or of each of a batch."""
    content = json.loads(answer[1])
    results = content.get("results", [content])
    if any(result["error"] == NO_MEMORY for result in results):
        return None
    return answer[0], [
        result["error"] or result["metrics"]["system_metrics"]["num_requests_running"] for result in results
    ]


def of_get(answer: tuple[int, bytes]) -> object:
    content = json.loads(answer[1])
    if answer == (500, b'{"detail":"Failed to collect SGLang metrics: %b"}' % NO_MEMORY.encode()):
        return None
    return answer[0], content.get("system_metrics", content)["num_requests_running"]


def of_fleet(answer: tuple[int, bytes]) -> object:
    if answer == (500, b"Internal Server Error"):
        return None
    targets = json.loads(answer[1])["targets"]
    if any(target["error"] == NO_MEMORY for target in targets):
        return None
    return answer[0], [target["error"] or target["up"] for target in targets]


def of_page(answer: tuple[int, bytes]) -> object:
    if answer == (500, b"Internal Server Error"):
        return None
    return answer[0], b"# TYPE" in answer[1]


def routes(points: Points, url: str) -> int:
    """The routes of an application, over connections that are kept and over new ones."""
    from sglang_collect.api import RouterSettings, create_app

    settings = RouterSettings(allow=["127.0.0.1/32:1-65535"], instances={"a": url, "b": url})
    one = json.dumps({"instance_id": "x", "endpoint": url}).encode()
    two = json.dumps({"targets": [{"instance_id": "a"}, {"instance_id": "x", "endpoint": url}]}).encode()
    asked: list[tuple[Says, tuple[Any, ...]]] = [
        (of_post, ("POST", "/api/v1/collect/sglang", one)),
        (of_post, ("POST", "/api/v1/collect/sglang/batch", two)),
        (of_get, ("GET", "/api/v1/metrics/sglang/a")),
        (of_fleet, ("GET", "/api/v1/fleet")),
        (of_page, ("GET", "/api/v1/metrics")),
    ]
    loop = asyncio.new_event_loop()
    app = create_app(settings)

    async def warm(*args: Any) -> tuple[int, bytes]:
        return await ask(app, *args)

    async def cold(*args: Any) -> tuple[int, bytes]:
        async with app.router.lifespan_context(app):
            return await ask(app, *args)

    for way in (warm, cold):
        for says, args in asked:
            points.sweep(args, tuple, lambda way=way, args=args: loop.run_until_complete(way(*args)), says)
    loop.run_until_complete(cold(*asked[0][1]))
    loop.close()
    return 2 * len(asked)


def package(points: Points, url: str) -> int:
    """What the package has above the extension, without FastAPI."""
    from short_of_memory import World, judged

    with tempfile.TemporaryDirectory() as folder:
        world = World(url, Path(folder))
        scenes = world.scenes()
        for name, scene in scenes.items():
            points.sweep(name, tuple, scene.call, partial(judged, scene))
        world.close()
    return len(scenes)


# -------------------------------------------------------------------------- main


def main() -> None:
    import no_memory
    from servers import eventually, serving_elsewhere

    from sglang_collect._core import Endpoint
    from sglang_collect.simulator import LoadModel, render_page

    warnings.simplefilter("ignore")  # scrapers that nobody closed
    logging.disable()
    points = Points()
    kept: list[object] = []
    with serving_elsewhere(render_page(LoadModel(load=0.5))) as [url], no_memory.SERVERS:
        for _ in range(10):  # at first more is made that is kept; what is lost is lost each time
            held, points.tried = points.held(), 0
            n = calls(points)
            if "planted" in sys.argv:
                kept.append([Endpoint(url) for _ in range(100)])  # more than a connection, which may go
            else:
                n += package(points, url) + routes(points, url)
            if eventually(lambda held=held: points.held() <= held, seconds=1):
                break
        else:
            raise SystemExit(f"{points.held() - held} bytes stay behind")
        no_memory.KEPT.close()
    print(f"{n} calls and routes, {points.tried} failing allocations")


if __name__ == "__main__":
    if "--built" in sys.argv:
        main()
    else:
        sys.exit(run_with_it())
