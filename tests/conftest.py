"""Fixtures that more than one room uses. `sglang_simulator` comes from the package's own pytest plugin."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import namespaces
import pytest

if TYPE_CHECKING:
    from fastapi.testclient import TestClient
    from servers import Held, Server

ROOT = Path(__file__).resolve().parent.parent


def pytest_configure() -> None:
    """Ctrl-C can be sent to every process that a test starts, though a shell ignores it in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_itemcollected(item: pytest.Item) -> None:
    """The first of a module that is marked ``namespace`` waits for all of them."""
    if item.get_closest_marker("namespace") and namespaces.INSIDE not in os.environ:
        item.add_marker(pytest.mark.timeout(1800))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs what is marked ``namespace`` in a network of its own."""
    if pyfuncitem.get_closest_marker("namespace") is None:
        return None
    if namespaces.INSIDE in os.environ:
        namespaces.set_up()
        return None
    outcome, words = _outcomes_inside(pyfuncitem)[pyfuncitem.nodeid]
    if outcome == "skipped":
        pytest.skip(words)
    if outcome != "passed":
        pytest.fail(words, pytrace=False)
    if words:
        print(words)
    return True


_INSIDE = pytest.StashKey[dict[str, tuple[str, str]]]()


def _outcomes_inside(item: pytest.Function) -> dict[str, tuple[str, str]]:
    """Those of all such tests of this run that share a module: a process that has begun runs them all."""
    module = item.getparent(pytest.Module)
    assert module is not None
    if _INSIDE not in module.stash:
        together = [
            other.nodeid
            for other in item.session.items
            if other.getparent(pytest.Module) is module and other.get_closest_marker("namespace")
        ]
        module.stash[_INSIDE] = dict.fromkeys(together, ("error", "the run inside was cut off"))
        with tempfile.TemporaryDirectory() as folder:
            module.stash[_INSIDE] = namespaces.run(together, Path(folder))
    return module.stash[_INSIDE]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of recorded pages: beside the repository, or what SGLANG_COLLECT_DATA names."""
    folder = Path(os.environ.get("SGLANG_COLLECT_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no recorded pages: {folder} is missing")
    return folder


@pytest.fixture
def client() -> Iterator[TestClient]:
    """A client of the whole application, which may scrape any loopback port."""
    from fastapi.testclient import TestClient

    from sglang_collect.api import RouterSettings, create_app

    with TestClient(create_app(RouterSettings(allow=["127.0.0.1/32:1-65535"]))) as client:
        yield client


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of pages whose one number is the last part of the path."""
    from fleets import echo
    from servers import serving

    with serving(echo) as server:
        yield server


@pytest.fixture
def silent() -> Iterator[Server]:
    """A server that takes requests and never answers."""
    from servers import serving, silence

    with serving(silence) as server:
        yield server


@pytest.fixture
def held() -> Iterator[Held]:
    """A server of a page that it sends once it is told to."""
    from fleets import PAGE
    from servers import Held

    server = Held(PAGE)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What the package logs, from INFO on."""
    caplog.set_level(logging.INFO, "sglang_collect")
    return caplog
