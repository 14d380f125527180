"""Clocks that step during a scrape, and connections that grow old, where the clocks obey the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from certificates import authority, server_context
from servers import answer, serving, silence

TESTS = Path(__file__).resolve().parent


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    library = tmp_path_factory.mktemp("clock") / "clock.so"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(TESTS / "clock.c"), "-ldl"]
    subprocess.run(command, check=True)
    return library


BEGIN = """
import ctypes, sys, threading, time
import sglang_collect as sc

ours = ctypes.CDLL(sys.argv[1])
REAL, MONOTONIC = 0, 1

def shift(clock, seconds):
    ours.shift_clock(clock, ctypes.c_long(seconds))
"""


def run(clock: Path, script: str, *arguments: str) -> None:
    """Runs a script under the clock. Sanitizers bring clocks of their own: the checkout has none."""
    sanitized = "LD_PRELOAD" in os.environ
    subprocess.run(
        [sys.executable, "-c", BEGIN + script, str(clock), *arguments],
        env={"LD_PRELOAD": str(clock), **({"PYTHONPATH": str(TESTS.parent)} if sanitized else {})},
        cwd=TESTS.parent if sanitized else None,
        check=True,
    )


@pytest.mark.parametrize("hours", [1, -1])
def test_a_wall_clock_that_is_set_changes_no_deadline(clock: Path, hours: int) -> None:
    script = """
hours = int(sys.argv[3])
server = sys.argv[2]
sc.SGLangMetricsSnapshot  # what is imported late
before = time.time()
threading.Timer(0.2, shift, [REAL, hours * 3600]).start()
started = time.monotonic()
try:
    sc.scrape(server, timeout=0.6)
except sc.ScrapeError as error:
    assert error.reason == "timeout_first_byte", error
    assert 0.55 < error.elapsed < 5, error
assert 0.55 < time.monotonic() - started < 5
assert abs(time.time() - before - hours * 3600) < 5
later = sc.SGLangMetricsSnapshot.from_text(b"", instance_id="x")
assert abs(later.timestamp.timestamp() - time.time()) < 1
"""

    with serving(silence) as server:
        run(clock, script, server.url, str(hours))


def test_a_certificate_that_was_replaced_is_looked_at_within_five_minutes(
    clock: Path, tmp_path: Path
) -> None:
    script = """
with sc.Fleet([sc.Target("x", sys.argv[2])], ca_file=sys.argv[3], timeout=60) as fleet:
    def scrape():
        (result,) = fleet.scrape()
        return result.error

    assert scrape() is None
    open(sys.argv[4], "w").close()  # the server now has a certificate of somebody else
    for _ in range(2):
        shift(MONOTONIC, 100)
        assert scrape() is None, "the kept connection is good for a while"
    shift(MONOTONIC, 101)
    error = scrape()
    assert isinstance(error, sc.TLSError), error
    assert error.reason == "tls_untrusted", error
"""
    trusted, other = authority(), authority()
    context = server_context(trusted)
    replaced = tmp_path / "replaced"

    def choose(connection: object, name: str | None, of: object) -> None:
        if replaced.exists():
            connection.context = server_context(other)  # type: ignore[attr-defined]

    context.sni_callback = choose
    ca_file = tmp_path / "ca.pem"
    trusted.cert_pem.write_to_path(str(ca_file))
    with serving(answer("sglang:num_requests_running 4\n"), tls=context) as server:
        run(clock, script, server.url, str(ca_file), str(replaced))
        assert server.opened == 2


@pytest.mark.parametrize("hours", [1, -1])
def test_a_wall_clock_that_is_set_changes_no_window(clock: Path, hours: int) -> None:
    script = """
with sc.Fleet([sc.Target("x", sys.argv[2])]) as fleet:
    began = time.monotonic()
    fleet.scrape()
    shift(REAL, int(sys.argv[3]) * 3600)
    time.sleep(0.1)
    [result] = fleet.scrape()
    most = time.monotonic() - began
assert 0.1 <= result.window.seconds <= most, (result.window.seconds, most)
assert result.age < most

began = time.monotonic()
earlier = sc.scrape(sys.argv[2])
shift(REAL, int(sys.argv[3]) * 3600)
time.sleep(0.1)
seconds, most = sc.scrape(sys.argv[2]).since(earlier).seconds, time.monotonic() - began
assert 0.1 <= seconds <= most, (seconds, most)
"""
    with serving(answer("sglang:num_running_reqs 1\n")) as server:
        run(clock, script, server.url, str(hours))
