"""A process without memory, without a handler for SIGPIPE, and with more targets than sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from certificates import authority, server_context
from faults import fetch, sized, then_close
from servers import Request, answer, serving

import sglang_collect as sc
from sglang_collect._core import Endpoint, Extract, Plan, Scraper

PAGE = "sglang:num_requests_running 4\n"


def run(script: str, *arguments: str, before: Sequence[str] = ()) -> str:
    command = [*before, sys.executable, "-W", "error", "-c", textwrap.dedent(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr)
    return done.stdout


@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="ASan takes all the space there is")
def test_a_limit_on_memory_is_a_memory_error_and_passes() -> None:
    script = """
        import resource, sys
        import sglang_collect as sc
        from sglang_collect._core import Endpoint, Scraper

        big, url = sys.argv[1:3]
        page = b"a 1\\n" * 1_000_000
        limits = sc.Limits(samples=1 << 24, body_bytes=1 << 30)
        sc.scrape(url)
        with open("/proc/self/statm") as statm:
            size = int(statm.read().split()[0]) * resource.getpagesize()
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        failures = 0
        with Scraper() as scraper:
            for spare in (0, 1 << 20, 4 << 20, 16 << 20):
                resource.setrlimit(resource.RLIMIT_AS, (size + spare, hard))
                for _ in range(3):
                    try:
                        sc.parse(page, limits=limits)
                    except MemoryError:
                        failures += 1
                    scraper.submit(Endpoint(big, timeout=900, limits=limits))
                    results = []
                    while not results:
                        results = scraper.wait()
                    error = results[0].error
                    assert error is None or isinstance(error, MemoryError), repr(error)
                    failures += error is not None
                resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
                assert len(sc.parse(page, limits=limits).samples) == 1_000_000
                assert sc.scrape(url).system_metrics.num_requests_running == 4
        print(failures)
    """
    body = answer("a 1\n" * 8_000_000)
    with serving(body) as big, serving(answer(PAGE)) as small:
        assert int(run(script, big.url, small.url)) >= 6


def test_a_server_that_hangs_up_on_us_raises_no_sigpipe(tmp_path: Path) -> None:
    script = """
        import signal, sys
        import sglang_collect as sc

        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        for _ in range(50):
            for url in sys.argv[2:]:
                try:
                    sc.scrape(url, ca_file=sys.argv[1], timeout=5)
                except sc.ScrapeError:
                    pass
        assert signal.getsignal(signal.SIGPIPE) == signal.SIG_DFL
        print("alive")
    """
    ca = authority()
    ca_file = tmp_path / "ca.pem"
    ca.cert_pem.write_to_path(str(ca_file))
    with (
        serving(then_close(b""), tls=server_context(ca)) as tls,
        serving(then_close(sized(PAGE.encode())), tls=server_context(ca)) as tls_once,
        serving(then_close(b"")) as plain,
        serving(answer(PAGE), tls=server_context(authority())) as untrusted,
    ):
        assert run(script, str(ca_file), tls.url, tls_once.url, plain.url, untrusted.url) == "alive\n"


def its_own_ids() -> list[str]:
    """The command that runs another one as number 1 of a PID namespace of its own."""
    for flags in ("-pf", "-Urpf"):
        command = ["unshare", flags]
        with suppress(OSError, subprocess.CalledProcessError):
            subprocess.run([*command, "true"], capture_output=True, check=True)
            return command
    pytest.skip("the system permits no PID namespace")


@pytest.mark.parametrize("way", ["scraper", "collector", "fleet"])
def test_a_child_with_the_id_of_its_parent_has_connections_of_its_own(way: str) -> None:
    script = """
        import asyncio, ctypes, os, sys, warnings
        import sglang_collect as sc
        from sglang_collect._core import Endpoint, Extract, Plan, Scraper
        from sglang_collect.collector import _Driver

        warnings.simplefilter("ignore", DeprecationWarning)  # fork beside threads
        way, url = sys.argv[1:]
        plan = Plan(["sglang:"], {"n": Extract(["num_requests_running"])})
        scraper, driver, fleet = Scraper(), _Driver(), sc.Fleet([], timeout=60).__enter__()

        def with_a_scraper(url):
            scraper.submit(Endpoint(url, timeout=60), plan)
            [result] = scraper.wait()
            return result.fold["n"]

        async def collect(url):
            return await driver.result(driver.endpoint(url, headers=(), timeout=60))

        def with_a_collector(url):
            return asyncio.run(collect(url)).fold["system_metrics.num_requests_running"]

        def with_a_fleet(url):
            fleet.add(sc.Target(url, url))
            [result] = fleet.scrape()
            fleet.remove(url)
            return result.snapshot.system_metrics.num_requests_running

        ask = globals()[f"with_a_{way}"]
        assert ask(f"{url}/1") == 1
        assert ctypes.CDLL(None).unshare(0x20000000) == 0  # CLONE_NEWPID, for children
        child = os.fork()
        assert os.getpid() == 1
        wrong = [n for n in (range(100, 200) if child else range(300, 400)) if ask(f"{url}/{n}") != n]
        assert not wrong, wrong
        if child:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        os._exit(0)
    """

    def numbered(request: Request, connection: socket.socket) -> bytes:
        return answer(f"sglang:num_requests_running {request.path.rpartition('/')[2]}\n")

    with serving(numbered) as server:
        run(script, way, server.url, before=its_own_ids())


def test_ten_thousand_targets_share_a_hundred_connections_and_keep_their_order() -> None:
    plan = Plan(["sglang:"], {"n": Extract(["n"])})

    def counted(request: Request, connection: socket.socket) -> bytes:
        return answer(f"sglang:n {request.path[1:]}\n")

    with serving(counted) as server, Scraper(max_connections=100) as scraper:
        base = f"http://127.0.0.1:{server.port}"
        ids = [scraper.submit(Endpoint(f"{base}/{n}", timeout=900), plan) for n in range(10_000)]
        answers = {}
        while len(answers) < len(ids):
            answers.update((result.id, result.fold and result.fold["n"]) for result in scraper.wait(30))
        assert [answers[number] for number in ids] == list(range(10_000))
        assert server.opened <= 100


def test_a_fleet_of_more_targets_than_connections_answers_in_their_order() -> None:
    with serving(answer(PAGE)) as server:
        targets = [sc.Target(f"i{n}", f"{server.url}?{n}") for n in range(500)]
        with sc.Fleet(targets, max_connections=10, timeout=300) as fleet:
            results = fleet.scrape()
        assert [result.target.instance_id for result in results] == [f"i{n}" for n in range(500)]
        assert [result.error for result in results] == [None] * 500
        assert server.opened <= 10


def test_a_server_that_closes_idle_connections_costs_no_scrape() -> None:
    plan = Plan(["sglang:"], {"n": Extract(["num_requests_running"])})
    with serving(then_close(sized(PAGE.encode()))) as server, Scraper() as scraper:
        endpoint = Endpoint(server.url, timeout=60)
        for _ in range(1000):
            result, _ = fetch(scraper, endpoint, plan)
            assert (result.error, result.fold) == (None, {"n": 4.0})
