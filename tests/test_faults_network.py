"""Dead name servers, dead hosts and dead networks: in a network that the test can break."""

from __future__ import annotations

import multiprocessing
import resource
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import namespaces
import pytest
from faults import (
    PROMISED,
    SLACK,
    best,
    check_error,
    fetch,
    open_files,
    sized,
    then_drip,
    then_flood,
    then_reset,
    then_silence,
)
from namespaces import SILENT, names
from servers import Answer, Request, Server, answer, eventually, serving
from stopwatch import Stopwatch

import sglang_collect as sc
from sglang_collect._core import Endpoint, Extract, Guard, Plan, Result, Scraper

pytestmark = pytest.mark.namespace

PAGE = "sglang:num_requests_running 4\n"
PLAN = Plan(["sglang:"], {"running": Extract(["num_requests_running"])})
RUNNING = {"running": 4.0}


def nowhere(name: str, nth: int) -> Sequence[str] | None:
    return SILENT


def seconds_of_a_sweep(targets: Sequence[sc.Target]) -> float:
    """What this machine takes for these targets, which answer at once."""
    with sc.Fleet(targets, timeout=60) as fleet, Stopwatch() as took:
        assert all(result.up for result in fleet.scrape())
    return took.elapsed


@contextmanager
def dropping(*hosts: str, port: int = 30000) -> Iterator[None]:
    """Addresses at which no connection is answered: listeners whose queue is full."""
    held = []
    for host in hosts:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        held.append(listener)
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(4):
            filler = socket.socket(family)
            filler.setblocking(False)
            filler.connect_ex((host, port))
            held.append(filler)
    time.sleep(0.05)
    try:
        yield
    finally:
        for one in held:
            one.close()


# ---------------------------------------------------------------------- names


def test_a_dead_name_server_costs_the_timeout_and_not_more() -> None:
    url = "http://sglang-1.example:30000/metrics"
    sc.SGLangMetricsSnapshot  # noqa: B018 - what is imported late

    def take(timeout: float) -> float:
        with Stopwatch() as took, pytest.raises(sc.ScrapeTimeout) as caught:
            sc.scrape(url, timeout=timeout)
        check_error(caught.value, sc.ScrapeTimeout, "timeout_resolve", "not resolved", url)
        assert timeout - 0.01 < took.elapsed
        assert took.seconds < timeout + SLACK
        return took.seconds

    with names(nowhere) as server:
        print(f"a timeout of 0.3 s was over after {best(lambda: take(0.3), 0.35):.3f} s")
        least = best(lambda: take(1.0), 1.05)
        print(f"a timeout of 1 s was over after {least:.3f} s")
        assert least < 1.05
        assert server.asked


def test_lookups_that_were_given_up_are_few_and_go_away() -> None:
    def threads() -> int:
        with open("/proc/self/status") as status:
            return int(next(line.split()[1] for line in status if line.startswith("Threads")))

    with names(nowhere), Scraper(max_lookups=8) as scraper:
        before, descriptors = threads(), open_files()
        for n in range(40):
            scraper.submit(Endpoint(f"http://s{n}.example:30000/", timeout=0.3))
        reasons = Counter(result.error.reason for result in wait_all(scraper, 40))  # type: ignore[union-attr]
        assert reasons == {"timeout_resolve": 40}
        assert threads() <= before + 2 * 8  # libcurl 8.20 has a thread for either family
        assert eventually(lambda: threads() <= before and open_files() <= descriptors)


def test_dead_names_hold_up_nobody_else() -> None:
    def some(name: str, nth: int) -> Sequence[str] | None:
        return SILENT if name.startswith("dead") else ["127.0.0.1"]

    with names(some), serving(answer(PAGE)) as server:
        good = [f"http://127.0.0.1:{server.port}/{n}" for n in range(100)]
        dead = [f"http://dead{n}.example:30000/" for n in range(100)]
        targets = [sc.Target(url, url) for pair in zip(dead, good, strict=True) for url in pair]
        timeout = max(1.0, 10 * seconds_of_a_sweep(targets[1::2]))
        with sc.Fleet(targets, timeout=timeout) as fleet, Stopwatch() as took:
            results = fleet.scrape()
        assert [result.error.reason for result in results[::2]] == ["timeout_resolve"] * 100  # type: ignore[union-attr]
        assert [result.error for result in results[1::2]] == [None] * 100
        assert max(result.elapsed for result in results[1::2]) < 0.9 * timeout
        assert took.seconds < timeout + SLACK


def test_a_name_that_does_not_exist_is_told_from_one_that_nobody_answers_for() -> None:
    def some(name: str, nth: int) -> Sequence[str] | None:
        return {"empty.example": []}.get(name)

    with names(some), Scraper() as scraper:
        for host in ("gone.example", "empty.example", "256.256.256.256"):
            url = f"http://{host}:30000/metrics"
            result, took = fetch(scraper, Endpoint(url, timeout=5), PLAN)
            check_error(result.error, sc.ConnectError, "resolve_failed", "no address", url)
            assert took.seconds < 1


@pytest.mark.parametrize("listening", ["127.0.0.1", "::1"], ids=["IPv4", "IPv6"])
def test_a_name_with_two_addresses_is_asked_at_the_one_that_listens(listening: str) -> None:
    with (
        names(lambda name, nth: ["127.0.0.1", "::1"]),
        serving(answer(PAGE), host=listening) as server,
        Scraper() as scraper,
    ):
        result, took = fetch(scraper, Endpoint(f"http://both.example:{server.port}/", timeout=5), PLAN)
    assert result.fold == RUNNING
    assert took.seconds < 1


@pytest.mark.parametrize("guard", [None, Guard(["10.9.0.0/16", "two.example"])], ids=["open", "guarded"])
@pytest.mark.parametrize("dead", [["10.9.0.1"], ["10.9.0.1", "10.9.0.3"]], ids=["one", "two"])
def test_an_address_that_drops_everything_leaves_time_for_the_next(
    dead: list[str], guard: Guard | None
) -> None:
    with (
        names(lambda name, nth: [*dead, "10.9.0.2"]),
        dropping(*dead),
        serving(answer(PAGE), host="10.9.0.2", port=30000),
        Scraper(guard=guard) as scraper,
    ):
        result, took = fetch(scraper, Endpoint("http://two.example:30000/", timeout=2), PLAN)
    assert result.error is None
    assert result.fold == RUNNING
    assert took.elapsed > 0.2
    assert took.seconds < 2


@pytest.mark.parametrize("guard", [None, Guard(["10.9.0.0/16", "some.example"])], ids=["open", "guarded"])
def test_addresses_at_which_nobody_listens_cost_next_to_nothing(guard: Guard | None) -> None:
    refusing = [f"10.9.0.{n}" for n in range(10, 18)]
    with (
        names(lambda name, nth: [*refusing, "10.9.0.2"]),
        serving(answer(PAGE), host="10.9.0.2", port=30000),
        Scraper(guard=guard) as scraper,
    ):
        result, took = fetch(scraper, Endpoint("http://some.example:30000/", timeout=60), PLAN)
    assert result.fold == RUNNING
    assert took.seconds < 10


def test_a_dead_address_of_the_other_family_costs_little() -> None:
    with (
        names(lambda name, nth: ["fd00::9", "10.9.0.2"]),
        dropping("::"),
        serving(answer(PAGE), host="10.9.0.2", port=30000),
        Scraper() as scraper,
    ):
        result, took = fetch(scraper, Endpoint("http://two.example:30000/", timeout=2), PLAN)
    assert result.fold == RUNNING
    assert took.seconds < 1


# ------------------------------------------------------------ hosts and networks


def test_a_host_that_drops_everything_is_a_timeout_of_the_connection() -> None:
    url = "http://10.9.0.1:30000/metrics"

    def take() -> float:
        result, took = fetch(scraper, Endpoint(url, timeout=0.5), PLAN)
        check_error(result.error, sc.ScrapeTimeout, "timeout_connect", "10.9.0.1:30000", url)
        assert took.elapsed > 0.49
        assert took.seconds < 0.5 + SLACK
        return took.seconds

    with dropping("10.9.0.1"), Scraper() as scraper:
        assert best(take, 0.5 + PROMISED) < 0.5 + PROMISED


def test_a_network_that_dies_inside_a_body_is_a_timeout_and_its_connection_is_not_used_again() -> None:
    sent, over = threading.Event(), threading.Event()

    def half(request: Request, connection: socket.socket) -> bytes | None:
        if len(server.requests) > 1:
            return answer(PAGE)
        connection.sendall(sized(PAGE[:10].encode(), length=len(PAGE)))
        sent.set()
        over.wait(60)
        return PAGE[10:].encode()

    with serving(half) as server, Scraper() as scraper:
        endpoint = Endpoint(server.url, timeout=2.0)
        scraper.submit(endpoint, PLAN)
        while not sent.is_set():
            assert scraper.wait(0.05) == []
        namespaces.lift(False)
        with Stopwatch() as took:
            (result,) = scraper.wait(60)
        namespaces.lift(True)
        over.set()
        check_error(result.error, sc.ScrapeTimeout, "timeout_body", f"10 of {len(PAGE)} bytes", server.url)
        assert took.seconds < 2.0 + SLACK
        result, _ = fetch(scraper, endpoint, PLAN)
        assert result.fold == RUNNING
        assert not result.reused


def test_a_network_that_is_down_is_named_and_works_when_it_is_back() -> None:
    with serving(answer(PAGE)) as server, Scraper() as scraper:
        url = f"http://10.9.0.9:{server.port}/metrics"
        namespaces.lift(False)
        result, took = fetch(scraper, Endpoint(url, timeout=2), PLAN)
        namespaces.lift(True)
        check_error(result.error, sc.ConnectError, "connect_failed", "network is unreachable", url)
        assert took.seconds < 1
        result, _ = fetch(scraper, Endpoint(server.url), PLAN)
        assert result.fold == RUNNING


# --------------------------------------------------------------- all together

TIMEOUT = 1.0
EACH = 100
LIMITS = sc.Limits(body_bytes=100_000)
HEADS = b"HTTP/1.1 200 OK\r\n"

AT_PORTS: dict[int, Answer | bytes] = {
    30010: answer(PAGE),
    30011: then_silence(b""),
    30012: then_drip(HEADS + b"X: ", b"y", seconds=0.3),
    30013: then_drip(sized(b"", length=1000), b"a", seconds=0.3),
    30014: then_reset(b""),
    30015: then_flood(HEADS + b"\r\n", b"sglang:x 1\n"),
    30016: answer("secret", status="503 Busy"),
}

KINDS: dict[str, tuple[Callable[[int], str], str | None]] = {
    "healthy": (lambda n: f"http://10.30.0.{n}:30010/", None),
    "refused": (lambda n: f"http://10.30.0.{n}:30099/", "connect_failed"),
    "dropped": (lambda n: f"http://10.9.0.1:30000/{n}", "timeout_connect"),
    "unresolved": (lambda n: f"http://dead{n}.example:30000/", "timeout_resolve"),
    "silent": (lambda n: f"http://10.30.0.{n}:30011/", "timeout_first_byte"),
    "dripping headers": (lambda n: f"http://10.30.0.{n}:30012/", "timeout_first_byte"),
    "dripping body": (lambda n: f"http://10.30.0.{n}:30013/", "timeout_body"),
    "reset": (lambda n: f"http://10.30.0.{n}:30014/", "reset"),
    "endless": (lambda n: f"http://10.30.0.{n}:30015/", "limit_exceeded"),
    "busy": (lambda n: f"http://10.30.0.{n}:30016/", "http_status"),
}


def serve(port: int) -> None:
    server = Server(AT_PORTS[port], host="0.0.0.0", port=port)
    while server.port:
        time.sleep(1)


@contextmanager
def all_servers() -> Iterator[None]:
    """The servers of AT_PORTS, each in a process of its own."""
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=serve, args=(port,), daemon=True) for port in AT_PORTS]
    for process in processes:
        process.start()

    def answers() -> bool:
        with suppress(OSError):
            for port in AT_PORTS:
                socket.create_connection(("127.0.0.1", port)).close()
            return True
        return False

    try:
        assert eventually(answers)
        yield
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.join()


def test_a_thousand_targets_with_a_tenth_in_each_of_nine_faults_end_in_time() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(8192, hard)), hard))
    targets = [
        sc.Target(f"{kind} {n}", url(n)) for n in range(1, EACH + 1) for kind, (url, _) in KINDS.items()
    ]
    assert len(targets) == 1000
    with (
        all_servers(),
        names(nowhere),
        dropping("10.9.0.1"),
    ):
        alone = seconds_of_a_sweep(targets[:: len(KINDS)])
        timeout = max(TIMEOUT, 10 * alone) / 2
        for _ in range(6):  # others use the machine too: one good sweep is enough, in more time
            timeout *= 2
            with sc.Fleet(targets, timeout=timeout, limits=LIMITS) as fleet, Stopwatch() as took:
                results = fleet.scrape()
            wrong = wrong_reasons(results)
            if took.seconds < timeout + 0.2 and not wrong:
                break
    healthy = [result.elapsed for result in results if result.error is None]
    print(f"{took.seconds:.3f} s; healthy p99 {p99(healthy):.3f} s; all of them alone {alone:.3f} s")
    assert len(results) == 1000
    assert took.seconds < timeout + 0.2
    assert wrong == {}


def wrong_reasons(results: list[sc.ScrapeResult]) -> dict[str, Counter[str | None]]:
    """By kind of target, the reasons of those that ended otherwise than they should, where they are many.

    A few may be late: their servers have few cores, too.
    """
    wrong = {}
    for kind, (_, expected) in KINDS.items():
        mine = [result for result in results if result.target.instance_id.startswith(kind + " ")]
        reasons = Counter(sc_reason(result.error) for result in mine)
        late = sum(n for reason, n in reasons.items() if reason != expected and "timeout_" in str(reason))
        if reasons[expected] + late < EACH or late > EACH / 5:
            wrong[kind] = reasons
    return wrong


def sc_reason(error: Exception | None) -> str | None:
    if isinstance(error, sc.LimitExceeded):
        return "limit_exceeded"
    return getattr(error, "reason", None)


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[-1]


def wait_all(scraper: Scraper, n: int) -> list[Result]:
    results: list[Result] = []
    while len(results) < n:
        results += scraper.wait(30)
    return results
