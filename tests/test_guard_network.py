"""The guard against hostile URLs and name servers, where every address is a canary's."""

from __future__ import annotations

import itertools
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

import pytest
from faults import check_error
from namespaces import Canary, canary, names
from servers import answer, serving

import sglang_collect as sc
from sglang_collect._core import Endpoint, Extract, Guard, Plan, Result, Scraper

pytestmark = pytest.mark.namespace

PLAN = Plan(["sglang:"], {"running": Extract(["num_requests_running"])})
PORTS = (30000, 30050, 80, 22, 6379)
ALLOW = ["10.1.0.0/16:30000-30099", "sglang-*.svc:30000-30099", "*.rebind.example:30000"]
LISTED = ip_network("10.1.0.0/16")

# None of these is in ALLOW: this machine, private networks, link-local and metadata services, public ones.
HOSTILE = [
    "127.0.0.1", "127.9.8.7", "0.0.0.0", "10.0.0.5", "10.2.0.1", "172.16.5.5", "192.168.1.1", "100.64.1.1",
    "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "8.8.8.8", "203.0.113.9",
]  # fmt: skip
HOSTILE6 = ["::1", "::", "fd00:ec2::254", "fe80::1", "fec0::1", "fc00::5", "2001:db8::1"]


def spellings(address: str) -> dict[str, str]:
    """One IPv4 address as resolvers, IPv6 and careless parsers write it."""
    a, b, c, d = IPv4Address(address).packed
    number = int(IPv4Address(address))
    low, high = f"{a:02x}{b:02x}", f"{c:02x}{d:02x}"
    inverted = number ^ 0xFFFFFFFF
    return {
        "plain": address,
        "final dot": f"{address}.",
        "decimal": str(number),
        "hex": f"0x{number:08x}",
        "HEX": f"0X{number:08X}",
        "octal": f"0{number:o}",
        "hex parts": f"0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}",
        "octal parts": f"0{a:o}.0{b:o}.0{c:o}.0{d:o}",
        "padded": f"{a:04o}.{b:04o}.{c:04o}.{d:04o}",
        "mixed": f"0x{a:x}.{b}.0{c:o}.{d}",
        "three parts": f"{a}.{b}.{c << 8 | d}",
        "two parts": f"{a}.{number & 0xFFFFFF}",
        "mapped": f"[::ffff:{address}]",
        "mapped in hex": f"[::ffff:{low}:{high}]",
        "mapped at length": f"[0:0:0:0:0:FFFF:{low}:{high}]",
        "compatible": f"[::{address}]",
        "NAT64": f"[64:ff9b::{low}:{high}]",
        "local NAT64": f"[64:ff9b:1::{low}:{high}]",
        "6to4": f"[2002:{low}:{high}::]",
        "6to4 with a host": f"[2002:{low}:{high}::1]",
        "Teredo": f"[2001:0:1234::{inverted >> 16:x}:{inverted & 0xFFFF:x}]",
        "percent": "".join(f"%{ord(character):02x}" for character in address),
        "full width": address.translate({48 + n: 0xFF10 + n for n in range(10)}),
        "ideographic dots": address.replace(".", "\u3002"),
        "circled": address.replace("1", "\u2460").replace("2", "\u2461"),
    }


FRAMES = [
    "http://{host}:{port}/metrics",
    "http://{host}:{port}/metrics?x=http://10.1.0.1:30000/",
    "HTTP://{host}:{port}/../metrics",
    "http://{host}:{port}/%2e%2e/metrics#@10.1.0.1:30000",
    "http://10.1.0.1:30000@{host}:{port}/",
    "http://10.1.0.1:30000#@{host}:{port}/",
    "http://{host}:{port}#.sglang-1.svc:30000/",
    "http://{host}:{port}\\@10.1.0.1:30000/",
    "http:/{host}:{port}/",
    "http:///{host}:{port}/",
    "//{host}:{port}/",
    "{host}:{port}/metrics",
    " http://{host}:{port}/",
    "http://{host}:{port}/\r\nHost: 10.1.0.1",
    "https://{host}:{port}/metrics",
    "ftp://{host}:{port}/",
    "gopher://{host}:{port}/_GET",
    "dict://{host}:{port}/info",
    "file://{host}:{port}/etc/passwd",
]

HOSTS = [
    "localhost", "LOCALHOST.", "x.localhost", "ip6-localhost", "metadata.google.internal", "sglang-1.svc",
    "sglang-2.svc", "sglang-1.svc.evil.example", "10.0.0.5.nip.example", "xn--nxasmq6b.example",
]  # fmt: skip


def hostile_urls(n: int) -> list[str]:
    """Every host in its plain frame, and then combinations of all in an order that is always the same."""
    hosts = [text for address in HOSTILE for text in spellings(address).values()]
    hosts += [f"[{address}]" for address in HOSTILE6] + ["[fe80::1%25lo]", *HOSTS]
    plain = [FRAMES[0].format(host=host, port=30000) for host in hosts]
    others = [
        frame.format(host=host, port=port)
        for host, frame, port in itertools.product(hosts, FRAMES, (*PORTS, 0, 65536))
    ]
    random.Random(7).shuffle(others)
    return list(dict.fromkeys(plain + others))[:n]


def zone(name: str, nth: int) -> Sequence[str] | None:
    """What the names of the URLs lead to: nothing that is allowed."""
    if name in ("sglang-1.svc", "metadata.google.internal"):
        return ["169.254.169.254", "fd00:ec2::254"]
    if name == "sglang-2.svc":
        return ["10.0.0.5", "::ffff:169.254.169.254"]
    return ["127.0.0.1", "::1"] if name.endswith("localhost") else ["192.168.1.1"]


def scrape_all(
    scraper: Scraper, urls: Iterable[str], timeout: float = 600
) -> Iterator[tuple[str, Result | sc.TargetRefused]]:
    """Each URL with its result, or with the refusal that it met before it became a scrape."""
    under_way = {}
    for url in urls:
        try:
            endpoint = Endpoint(url, timeout=timeout)
        except sc.TargetRefused as error:
            yield url, error
        else:
            under_way[scraper.submit(endpoint, PLAN)] = url
    while under_way:
        for result in scraper.wait(10):
            yield under_way.pop(result.id), result


def strangers(bird: Canary) -> list[tuple[str, int]]:
    """Connections to what is not listed."""
    return [(host, port) for host, port in bird.hits if ip_address(host) not in LISTED]


def reason_of(outcome: Result | sc.TargetRefused) -> str | None:
    return getattr(outcome if isinstance(outcome, sc.TargetRefused) else outcome.error, "reason", None)


REFUSALS = {"address_not_allowed", "host_not_allowed", "port_not_allowed", "bad_url", "unsupported_scheme"}


@pytest.mark.parametrize("allow", [ALLOW, []], ids=["a list", "nothing"])
def test_no_hostile_url_reaches_what_is_not_listed(allow: list[str]) -> None:
    urls = hostile_urls(10_000)
    assert len(set(urls)) == 10_000
    with canary(*PORTS) as bird, names(zone) as server, Scraper(guard=Guard(allow)) as scraper:
        reasons = Counter(reason_of(outcome) for _, outcome in scrape_all(scraper, urls))
        assert strangers(bird) == []
        assert len(bird.hits) == reasons[None]  # some name a listed address, and mean it
    print(f"{len(urls)} hostile URLs: {dict(reasons)}; 0 connections to what is not listed")
    assert reasons.total() == len(urls)
    assert set(reasons) - {None} <= REFUSALS, reasons
    assert reasons[None] < 0.1 * len(urls)
    assert set(server.asked) == ({"sglang-1.svc", "sglang-2.svc"} if allow else set())


def test_what_is_always_denied_is_not_reached_though_anything_is_listed() -> None:
    denied = ["0.0.0.0", "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16"]
    hosts = [text for address in denied for text in spellings(address).values()]
    hosts += [f"[{address}]" for address in ("::", "fd00:ec2::254", "fe80::1", "fec0::1", "ff02::1")]
    hosts += ["metadata.google.internal", "sglang-1.svc"]
    urls = [FRAMES[0].format(host=host, port=30000) for host in hosts]
    with canary(30000) as bird, names(zone), Scraper(guard=Guard(["*:1-65535"])) as scraper:
        reasons = Counter(reason_of(outcome) for _, outcome in scrape_all(scraper, urls))
        assert bird.hits == []
    assert set(reasons) == {"address_not_allowed", "bad_url"}, reasons


def test_without_a_guard_the_same_spellings_reach_the_canary() -> None:
    hosts = [text for address in HOSTILE for text in spellings(address).values()]
    urls = [FRAMES[0].format(host=host, port=30000) for host in hosts]
    with canary(30000) as bird, names(zone), Scraper() as scraper:
        reasons = Counter(reason_of(outcome) for _, outcome in scrape_all(scraper, urls))
        assert len(bird.hits) >= reasons[None]
    reachable = reasons.total() - reasons["bad_url"]  # which is text that no resolver is asked about
    print(f"without a guard {reasons[None]} of {reachable} spellings reach the canary")
    assert reachable > 250
    assert reasons[None] > 0.9 * reachable, reasons


# ------------------------------------------------------------------ rebinding

DENIED = ["169.254.169.254", "127.0.0.1", "10.0.0.5", "192.168.1.1", "fd00:ec2::254", "::1", "64:ff9b::1"]
GOOD = "10.1.0.1"


def rebinding(name: str, nth: int) -> Sequence[str] | None:
    """Names r0 to r999: allowed at first and denied then, the other way round, or both at once."""
    n = int(name.split(".")[0][1:])
    evil = DENIED[n // 4 % len(DENIED)]
    return [
        [GOOD] if nth == 1 else [evil],
        [evil] if nth == 1 else [GOOD],
        [GOOD, evil],
        [evil, GOOD],
    ][n % 4]


def test_no_name_that_changes_its_address_reaches_what_is_not_listed() -> None:
    urls = [f"http://r{n}.rebind.example:30000/metrics" for n in range(1000)]
    refused = "address_not_allowed"
    with canary(30000) as bird, names(rebinding) as server:
        for before, after in ((None, refused), (refused, None)):
            with Scraper(guard=Guard(ALLOW)) as scraper:  # a new one looks every name up again
                reasons = {url: reason_of(result) for url, result in scrape_all(scraper, urls)}
                again = {reason_of(result) for _, result in scrape_all(scraper, urls[:100])}
            assert {reasons[url] for url in urls[0::4]} == {before}
            assert {reasons[url] for url in urls[1::4]} == {after}
            assert {reasons[url] for url in urls[2::4] + urls[3::4]} == {refused}
            assert again == {None, refused}
        print(f"{len(urls)} names that change: {len(strangers(bird))} connections to what is not listed")
        assert strangers(bird) == []
        assert len(bird.hits) >= 500
        assert len(server.asked) == 1000


def test_without_a_guard_a_name_that_changes_its_address_reaches_the_canary() -> None:
    urls = [f"http://r{n}.rebind.example:30000/metrics" for n in range(0, 400, 4)]
    with canary(30000) as bird, names(rebinding):
        for _ in range(2):
            with Scraper() as scraper:
                list(scrape_all(scraper, urls))
        assert len(strangers(bird)) > 90


def test_a_name_that_was_allowed_stays_with_the_address_it_was_judged_by() -> None:
    url = "http://r0.rebind.example:30000/metrics"
    page = answer("sglang:num_requests_running 4\n")
    with names(rebinding) as server, serving(page, host=GOOD, port=30000) as target:
        with Scraper(guard=Guard(ALLOW)) as scraper:
            reasons = [reason_of(result) for _ in range(5) for _, result in scrape_all(scraper, [url])]
        assert reasons == [None] * 5
        assert target.opened == 1
        assert server.asked == {"r0.rebind.example": 1}


def a_crowd() -> dict[str, list[str]]:
    """Names with up to eight listed addresses of both families, and a denied one at any place among them."""
    good = ["10.1.0.1", "fd01::1", "10.1.0.2", "fd01::2", "10.1.0.3", "10.1.0.4", "fd01::3", "fd01::4"]
    return {
        f"c{kind}{many}{place}.rebind.example": [*good[:place], evil, *good[place:many]]
        for kind, evil in enumerate(("10.2.0.1", "fd02::1", "169.254.169.254"))
        for many in range(1, len(good) + 1)
        for place in range(many + 1)
    }


def test_a_name_with_one_denied_address_is_refused_and_none_of_its_addresses_connected_to() -> None:
    crowd = a_crowd()
    allow = [*ALLOW, "[fd01::/16]:30000"]
    urls = [f"http://{name}:30000/metrics" for name in crowd]
    with (
        canary(30000) as bird,
        names(lambda name, nth: crowd.get(name)) as server,
        Scraper(guard=Guard(allow)) as scraper,
    ):
        for _ in range(2):  # looked up, and remembered
            results = [result for _, result in scrape_all(scraper, urls)]
            assert {reason_of(result) for result in results} == {"address_not_allowed"}
            assert all(isinstance(result, Result) and result.elapsed < 60 for result in results)
        assert bird.hits == []
        assert set(server.asked) == set(crowd)


def test_a_listed_name_at_which_nobody_listens_is_a_failed_connection() -> None:
    url = "http://nobody.rebind.example:30000/metrics"
    with names(lambda name, nth: ["10.1.0.1"]), Scraper(guard=Guard(ALLOW)) as scraper:
        ((_, result),) = scrape_all(scraper, [url])
    check_error(result.error, sc.ConnectError, "connect_failed", "connection refused at 10.1.0.1:30000", url)


def test_a_name_with_listed_addresses_alone_is_looked_up_once_and_connected_to_once() -> None:
    page = answer("sglang:num_requests_running 4\n")
    addresses = [f"10.1.0.{n}" for n in range(1, 25)]
    with (
        names(lambda name, nth: addresses) as server,
        serving(page, host="0.0.0.0", port=30000) as target,
        Scraper(guard=Guard(ALLOW)) as scraper,
    ):
        for _ in range(3):
            url = "http://good.rebind.example:30000/metrics"
            ((_, result),) = scrape_all(scraper, [url])
            assert isinstance(result, Result)
            assert (result.error, result.retried) == (None, False)
            assert result.elapsed < 60
        assert target.opened == 1
        assert server.asked == {"good.rebind.example": 1}


# ------------------------------------------------- redirects and the environment


PLACES = ["http://169.254.169.254:30000/", "//127.0.0.1:30000/", "https://10.1.0.2:30000/"]


@pytest.mark.parametrize("place", PLACES)
def test_a_redirect_leads_nowhere(place: str) -> None:
    redirect = answer("", status="302 Found", headers={"Location": place})
    with canary(30000) as bird, serving(redirect) as server, Scraper() as scraper:
        ((_, outcome),) = scrape_all(scraper, [server.url])
    assert reason_of(outcome) == "redirect"
    assert bird.hits == []


def test_the_environment_changes_neither_where_we_connect_nor_what_we_send(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://10.66.0.1:22")
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login user password secret\ndefault login user password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("CURL_HOME", str(tmp_path))
    (tmp_path / ".curlrc").write_text('proxy = "http://10.66.0.1:22"\nuser = "user:secret"\n')
    for no_proxy in ("", "127.0.0.1", "*"):
        monkeypatch.setenv("NO_PROXY", no_proxy)
        monkeypatch.setenv("no_proxy", no_proxy)
        with canary(22) as bird, serving(answer("sglang:num_requests_running 4\n")) as server:
            snapshot = sc.scrape(server.url, timeout=60)
            assert snapshot.system_metrics.num_requests_running == 4
            (request,) = server.requests
        assert bird.hits == []
        assert set(request.headers) <= {"host", "user-agent", "accept", "accept-encoding"}
        assert request.path == "/metrics"


def test_a_refusal_takes_as_long_whether_or_not_the_host_exists() -> None:
    def some(name: str, nth: int) -> Sequence[str] | None:
        return ["10.0.0.5"] if name.startswith("here") else None

    with names(some) as server, Scraper(guard=Guard(ALLOW)) as scraper:
        times: dict[str, list[float]] = {"here": [], "gone": []}
        words = set()
        for n in range(40):
            for kind, seconds in times.items():
                url = f"http://{kind}{n}.example:30000/metrics"
                started = time.perf_counter()
                ((_, outcome),) = scrape_all(scraper, [url])
                seconds.append(time.perf_counter() - started)
                assert isinstance(outcome, Result)
                words.add(re.sub(r"\(after .*|http://\S+", "", str(outcome.error)))
        assert len(words) == 1
        assert server.asked == {}
    here, gone = (statistics.median(seconds) for seconds in times.values())
    assert abs(here - gone) < max(0.02, gone / 2)
