"""What can go wrong with TLS: servers with certificates of every kind, on the loopback."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import trustme
from certificates import authority, self_signed_context, server_context
from cryptography.hazmat.primitives import serialization
from faults import SLACK, check_error, chunked, fetch, nothing_left_open, sized, then_close, then_reset
from servers import Answer, Request, Server, answer, serving
from stopwatch import Stopwatch

import sglang_collect as sc
from sglang_collect._core import Endpoint, Extract, Plan, Scraper

PAGE = b"a 1\nb 2\n"
PLAN = Plan([""], {"a": Extract(["a"])})
DAY = timedelta(days=1)


@pytest.fixture
def scraper() -> Iterator[Scraper]:
    with Scraper() as scraper:
        yield scraper


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return authority()


@pytest.fixture(scope="module")
def ca_file(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return path


def refuses(
    scraper: Scraper,
    server: Server,
    reason: str,
    words: str,
    *,
    kind: type[Exception] = sc.TLSError,
    timeout: float = 60,
    **options: Any,
) -> float:
    """The scrape fails so, in time, and leaves nothing open; gives the seconds it took."""
    url = f"https://127.0.0.1:{server.port}/metrics"
    fetch(scraper, Endpoint("http://127.0.0.1:1/"))  # it opens what it keeps at its first scrape
    with nothing_left_open():
        result, took = fetch(scraper, Endpoint(url, timeout=timeout, **options), PLAN)
        check_error(result.error, kind, reason, words, url)
        assert result.fold is None
        assert took.seconds < timeout + SLACK
        server.close()
    return took.elapsed


def test_a_trusted_server_is_scraped_and_its_connection_kept(
    ca: trustme.CA, ca_file: Path, scraper: Scraper
) -> None:
    with serving(answer(PAGE), tls=server_context(ca)) as server:
        endpoint = Endpoint(server.url, ca_file=ca_file)
        for reused in (False, True):
            result, _ = fetch(scraper, endpoint, PLAN)
            assert (result.error, result.fold, result.reused) == (None, {"a": 1.0}, reused)
        assert server.opened == 1
    assert result.timings["tls"] is not None


@pytest.mark.parametrize(
    ("validity", "words"),
    [({"not_after": -DAY}, "certificate has expired"), ({"not_before": DAY}, "certificate is not valid yet")],
)
def test_a_certificate_has_its_time(
    validity: dict[str, timedelta], words: str, ca: trustme.CA, ca_file: Path, scraper: Scraper
) -> None:
    now = datetime.now(timezone.utc)
    times = {"not_before": now - 9 * DAY, "not_after": now + 9 * DAY}
    times |= {name: now + shift for name, shift in validity.items()}
    with serving(answer(PAGE), tls=server_context(ca, **times)) as server:
        refuses(scraper, server, "tls_expired", words, ca_file=ca_file)
        assert not server.requests


def test_an_unknown_issuer_is_not_trusted(scraper: Scraper, ca_file: Path) -> None:
    for options in ({}, {"ca_file": ca_file}):
        with serving(answer(PAGE), tls=server_context(authority())) as server:
            refuses(scraper, server, "tls_untrusted", "ca_file=", **options)
            assert not server.requests


def test_a_certificate_that_vouches_for_itself_is_not_trusted(scraper: Scraper, tmp_path: Path) -> None:
    with serving(answer(PAGE), tls=self_signed_context(tmp_path)) as server:
        refuses(scraper, server, "tls_untrusted", "ca_file=")


def test_who_asks_for_no_verification_gets_none(scraper: Scraper, tmp_path: Path) -> None:
    for context in (self_signed_context(tmp_path), server_context(authority(), "example.org")):
        with serving(answer(PAGE), tls=context) as server:
            result, _ = fetch(scraper, Endpoint(server.url, verify=False), PLAN)
            assert (result.error, result.fold) == (None, {"a": 1.0})


@pytest.mark.parametrize("name", ["example.org", "127.0.0.2", "localhost"])
def test_a_certificate_for_another_name_is_refused(
    name: str, ca: trustme.CA, ca_file: Path, scraper: Scraper
) -> None:
    with serving(answer(PAGE), tls=server_context(ca, name)) as server:
        refuses(scraper, server, "tls_hostname", "expected 127.0.0.1", ca_file=ca_file)
        assert not server.requests


def test_a_handshake_that_stalls_ends_with_the_timeout(scraper: Scraper) -> None:
    with plain(None) as server:
        seconds = refuses(
            scraper, server, "timeout_tls", "handshake", kind=sc.ScrapeTimeout, timeout=1.0, verify=False
        )
    assert seconds > 0.95


class Plain(Server):
    """Knows no TLS: reads the begin of a handshake, sends some bytes and closes; None: is silent."""

    def __init__(self, data: bytes | None) -> None:
        super().__init__(b"")
        self.data = data

    def _serve(self, plain: socket.socket) -> None:
        with plain, suppress(OSError):
            plain.recv(4096)
            if self.data is not None:
                plain.sendall(self.data)
                plain.shutdown(socket.SHUT_WR)
            while plain.recv(4096):
                pass


@contextmanager
def plain(data: bytes | None) -> Iterator[Server]:
    server = Plain(data)
    try:
        yield server
    finally:
        server.close()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x16\x03\x03\x00\x7a\x02\x00",  # the begin of an answer
        b"\x15\x03\x03\x00\x02\x02\x28",  # an alert: handshake failure
        b"\x15\x03\x03\x00\x02\x02\x46",  # protocol version
        b"SSH-2.0-secret\r\n",
        b"HTTP/1.1 400 secret\r\n\r\n",
    ],
    ids=["nothing", "half", "failure", "version", "ssh", "http"],
)
def test_a_handshake_that_fails_is_told(data: bytes, scraper: Scraper) -> None:
    with plain(data) as server:
        refuses(scraper, server, "tls_handshake", "handshake", verify=False)


def test_a_server_of_old_protocols_alone_is_refused(ca: trustme.CA, ca_file: Path, scraper: Scraper) -> None:
    context = server_context(ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with serving(answer(PAGE), tls=context) as server:
        refuses(scraper, server, "tls_handshake", "TLS 1.2", ca_file=ca_file)
        assert not server.requests


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_client_certificate_that_is_asked_for_is_given_or_missed(
    version: ssl.TLSVersion, ca: trustme.CA, ca_file: Path, scraper: Scraper, tmp_path: Path
) -> None:
    context = server_context(ca)
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(context)
    right, wrong = tmp_path / "right.pem", tmp_path / "wrong.pem"
    ca.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(str(right))
    authority().issue_cert("client").private_key_and_cert_chain_pem.write_to_path(str(wrong))
    for options in ({}, {"client_cert": wrong}):
        with serving(answer(PAGE), tls=context) as server:
            refuses(scraper, server, "tls_handshake", "handshake", ca_file=ca_file, **options)
            assert not server.requests
    with serving(answer(PAGE), tls=context) as server:
        endpoint = Endpoint(server.url, ca_file=ca_file, client_cert=right)
        result, _ = fetch(scraper, endpoint, PLAN)
        assert (result.error, result.fold) == (None, {"a": 1.0})


@pytest.mark.parametrize(
    "content", ["", "secret", "-----BEGIN CERTIFICATE-----\nsecret\n-----END CERTIFICATE-----\n"]
)
def test_a_file_that_holds_no_certificate_is_refused_at_construction(content: str, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text(content)
    for options in ({"ca_file": path}, {"client_cert": path}):
        with pytest.raises(sc.TLSError) as caught:
            Endpoint("https://127.0.0.1:1/", **options)
        check_error(caught.value, sc.TLSError, "tls_config", "expected", "https://127.0.0.1:1/")


@contextmanager
def asyncio_server(context: ssl.SSLContext) -> Iterator[int]:
    """The port of a server such as SGLang's, whose event loop hangs up on a client that it does not trust."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.run_until_complete(asyncio.sleep(0.05))
        loop.close()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("given", [False, True], ids=["none", "a wrong one"])
def test_a_server_that_hangs_up_for_want_of_a_client_certificate_failed_the_handshake(
    given: bool,
    version: ssl.TLSVersion,
    ca: trustme.CA,
    ca_file: Path,
    scraper: Scraper,
    tmp_path: Path,
) -> None:
    context = server_context(ca)
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(context)
    options: dict[str, Any] = {"ca_file": ca_file}
    if given:
        options["client_cert"] = tmp_path / "wrong.pem"
        authority().issue_cert("client").private_key_and_cert_chain_pem.write_to_path(
            str(options["client_cert"])
        )
    with asyncio_server(context) as port:
        url = f"https://127.0.0.1:{port}/metrics"
        for _ in range(20):
            result, _ = fetch(scraper, Endpoint(url, timeout=60, **options), PLAN)
            check_error(result.error, sc.TLSError, "tls_handshake", "handshake", url)


@pytest.mark.parametrize("end", [then_close(b""), then_reset(b"")], ids=["end", "reset"])
def test_a_server_that_asked_for_no_certificate_and_hangs_up_did_not_fail_the_handshake(
    end: Answer, ca: trustme.CA, ca_file: Path, scraper: Scraper
) -> None:
    with serving(end, tls=server_context(ca)) as server:
        result, _ = fetch(scraper, Endpoint(server.url, ca_file=ca_file, timeout=60), PLAN)
    assert isinstance(result.error, sc.ScrapeError)
    assert result.error.reason in {"reset", "empty_reply"}, result.error


def test_a_kept_connection_is_dropped_and_asked_again_though_a_certificate_was_asked_for(
    ca: trustme.CA, ca_file: Path, scraper: Scraper, tmp_path: Path
) -> None:
    context = server_context(ca)
    context.verify_mode = ssl.CERT_OPTIONAL
    ca.configure_trust(context)
    with serving(then_close(sized(PAGE)), tls=context) as server:
        endpoint = Endpoint(server.url, ca_file=ca_file, timeout=60)
        for _ in range(5):
            result, _ = fetch(scraper, endpoint, PLAN)
            assert (result.error, result.fold) == (None, {"a": 1.0})


def test_a_key_of_another_certificate_is_refused_at_construction(ca: trustme.CA, tmp_path: Path) -> None:
    one, other = ca.issue_cert("one"), ca.issue_cert("other")
    one.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    other.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    with pytest.raises(sc.TLSError) as caught:
        Endpoint("https://127.0.0.1:1/", client_cert=(tmp_path / "cert.pem", tmp_path / "key.pem"))
    assert caught.value.reason == "tls_config"


def test_a_key_with_a_pass_phrase_is_refused_and_nobody_asked_for_it(ca: trustme.CA, tmp_path: Path) -> None:
    leaf = ca.issue_cert("client")
    leaf.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    program = """
        import sys
        import sglang_collect as sc

        try:
            sc.scrape("https://127.0.0.1:1/", client_cert=(sys.argv[1], sys.argv[2]))
        except sc.TLSError as error:
            print(error.reason)
    """
    done = subprocess.run(  # without a terminal OpenSSL would read from the standard input
        [sys.executable, "-c", textwrap.dedent(program), tmp_path / "cert.pem", tmp_path / "key.pem"],
        stdin=(reading := os.pipe())[0],
        capture_output=True,
        text=True,
        start_new_session=True,
    )
    for end in reading:
        os.close(end)
    assert (done.stdout, done.stderr, done.returncode) == ("tls_config\n", "", 0)


def test_a_plain_port_asked_for_tls_is_a_failed_handshake(scraper: Scraper) -> None:
    for reply in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"secret"):
        with plain(reply) as server:
            refuses(scraper, server, "tls_handshake", "handshake", verify=False)


def test_a_tls_port_asked_in_plain_is_no_http(ca: trustme.CA, scraper: Scraper) -> None:
    with serving(answer(PAGE), tls=server_context(ca)) as server:
        url = f"http://127.0.0.1:{server.port}/metrics"
        result, took = fetch(scraper, Endpoint(url, timeout=5), PLAN)
    assert isinstance(result.error, sc.ScrapeError)
    assert result.error.reason in {"reset", "empty_reply", "framing"}
    assert took.seconds < 1


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (then_close(sized(PAGE, length=1000)), {"truncated", "reset"}),
        (then_close(b"HTTP/1.1 200 OK\r\n\r\na 1\nb"), {"truncated", "reset"}),
        (then_close(b""), {"reset", "empty_reply"}),
    ],
    ids=["length", "to the end", "nothing"],
)
def test_an_answer_that_is_cut_is_no_page(
    reply: Answer, reason: set[str], ca: trustme.CA, ca_file: Path, scraper: Scraper
) -> None:
    with serving(reply, tls=server_context(ca)) as server:
        result, _ = fetch(scraper, Endpoint(server.url, ca_file=ca_file), PLAN)
    assert isinstance(result.error, sc.ScrapeError)
    assert result.error.reason in reason, result.error
    assert result.fold is None


def test_a_kept_connection_that_the_server_closed_is_no_failure(
    ca: trustme.CA, ca_file: Path, scraper: Scraper
) -> None:
    with serving(then_close(sized(PAGE)), tls=server_context(ca)) as server:
        endpoint = Endpoint(server.url, ca_file=ca_file)
        for _ in range(20):
            result, _ = fetch(scraper, endpoint, PLAN)
            assert (result.error, result.fold) == (None, {"a": 1.0})
            time.sleep(0.002)


def test_a_server_that_prefers_http_2_is_asked_in_http_1(
    ca: trustme.CA, ca_file: Path, scraper: Scraper
) -> None:
    spoken = []

    def reply(request: Request, connection: socket.socket) -> bytes:
        assert isinstance(connection, ssl.SSLSocket)
        spoken.append(connection.selected_alpn_protocol())
        return sized(PAGE, fields='Strict-Transport-Security: max-age=9999\r\nAlt-Svc: h2=":1"\r\n')

    context = server_context(ca)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with serving(reply, tls=context) as server:
        for _ in range(2):
            result, _ = fetch(scraper, Endpoint(server.url, ca_file=ca_file, timeout=60), PLAN)
            assert (result.error, result.fold) == (None, {"a": 1.0})
    assert spoken == ["http/1.1"] * 2


POISON = sized(b"a 666\n")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n"


@pytest.mark.parametrize("other", [False, True], ids=["the same endpoint", "another one"])
@pytest.mark.parametrize(
    "records",
    [
        [sized(PAGE) + POISON],
        [sized(PAGE), POISON],
        [HEAD, PAGE + POISON],
        [HEAD, PAGE, POISON[:5], POISON[5:]],
        [chunked(b"8\r\n", PAGE, b"\r\n0\r\n\r\n"), POISON],
    ],
    ids=["one record", "two records", "the body's record", "many records", "chunks"],
)
def test_what_is_sent_unasked_is_not_the_next_page(
    records: list[bytes], other: bool, ca: trustme.CA, ca_file: Path, scraper: Scraper
) -> None:
    sent = threading.Event()

    def reply(request: Request, connection: socket.socket) -> bytes:
        if len(server.requests) > 1:
            return sized(PAGE)
        for record in records:
            connection.sendall(record)
        sent.set()
        return b""

    with serving(reply, tls=server_context(ca)) as server:
        urls = [server.url, f"{server.url}/2" if other else server.url] * 2
        endpoints = {url: Endpoint(url, ca_file=ca_file, timeout=60) for url in urls}
        for url in urls:
            result, _ = fetch(scraper, endpoints[url], PLAN)
            assert (result.error, result.fold) == (None, {"a": 1.0})
            assert sent.wait(60)
        assert server.opened <= 2


def test_every_tls_fault_leaves_the_other_targets_alone(ca: trustme.CA, ca_file: Path) -> None:
    with (
        serving(answer("sglang:num_requests_running 4\n"), tls=server_context(ca)) as good,
        serving(answer(PAGE), tls=server_context(authority())) as untrusted,
        plain(None) as stalled,
    ):
        stalled_url = f"https://127.0.0.1:{stalled.port}/metrics"
        urls = [good.url, untrusted.url, stalled_url] * 5
        targets = [sc.Target(str(n), url) for n, url in enumerate(urls)]
        with sc.Fleet(targets[::3], timeout=60, ca_file=ca_file) as fleet, Stopwatch() as alone:
            fleet.scrape()
        timeout = max(1.0, 20 * alone.elapsed)
        with sc.Fleet(targets, timeout=timeout, ca_file=ca_file) as fleet:
            results = fleet.scrape()
    reasons = [getattr(result.error, "reason", None) for result in results]
    assert reasons == [None, "tls_untrusted", "timeout_tls"] * 5
    assert all(result.elapsed < 0.9 * timeout for result in results[::3])
