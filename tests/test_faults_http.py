"""What an HTTP server can do wrong: each is one named error in time, and harms nothing else."""

from __future__ import annotations

import gzip
import os
import resource
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import pytest
from faults import (
    PROMISED,
    SLACK,
    best,
    check_error,
    chunked,
    fetch,
    gzipped,
    nothing_left_open,
    sized,
    then_close,
    then_drip,
    then_flood,
    then_reset,
    then_silence,
)
from servers import Answer, Request, Server, answer, eventually, serving

import sglang_collect as sc
from sglang_collect._core import Endpoint, Extract, Plan, Scraper

PAGE = b"a 1\nb 2\n"
PLAN = Plan([""], {"a": Extract(["a"])})
LIMITS = sc.Limits(body_bytes=100_000)
TIMEOUT = 1.0
TEXT = "Content-Type: text/plain\r\n"
SECRET = b"secret 1\n"


@pytest.fixture
def scraper() -> Iterator[Scraper]:
    with Scraper() as scraper:
        yield scraper


@pytest.fixture(scope="module")
def healthy() -> Iterator[Server]:
    with serving(answer(PAGE)) as server:
        yield server


@dataclass
class Fault:
    """An answer and the error it must become.

    `connection` is what becomes of it: "kept", "closed", or "" where it does not matter.
    """

    reply: Answer | bytes
    error: type[Exception]
    reason: str
    words: str = ""
    connection: str = ""
    waits: bool = False  # for the timeout
    asked: int = 1  # requests at most
    attributes: dict[str, Any] = field(default_factory=dict)


def status(line: str, body: bytes = b"secret", fields: str = "") -> bytes:
    return f"HTTP/1.1 {line}\r\nContent-Length: {len(body)}\r\n{fields}\r\n".encode() + body


def no_ok(reply: Answer | bytes, number: int, connection: str = "") -> Fault:
    attributes = {"status": number}
    return Fault(reply, sc.HTTPStatusError, "http_status", str(number), connection, attributes=attributes)


def slow(reply: Answer, reason: str, words: str) -> Fault:
    return Fault(reply, sc.ScrapeTimeout, reason, words, "closed", waits=True)


def moved(line: str, place: str) -> Fault:
    reply = status(line, b"", f"Location: {place}\r\n")
    return Fault(reply, sc.HTTPStatusError, "redirect", line[:3], "kept")


def no_page(content_type: str, body: bytes, words: str) -> Fault:
    reply = sized(body, fields=f"Content-Type: {content_type}\r\n")
    return Fault(reply, sc.NotExposition, "not_exposition", words)


def framing(reply: Answer | bytes, words: str = "") -> Fault:
    return Fault(reply, sc.ScrapeError, "framing", words, "closed")


def truncated(reply: Answer | bytes, words: str = "", connection: str = "closed") -> Fault:
    return Fault(reply, sc.ScrapeError, "truncated", words, connection)


def encoding(reply: bytes, words: str = "") -> Fault:
    return Fault(reply, sc.ScrapeError, "encoding", words)


def too_many_headers(reply: Answer) -> Fault:
    return Fault(reply, sc.ScrapeError, "headers_too_large", connection="closed")


def too_long_a_line(reply: Answer) -> Fault:
    """What libcurl may call a lack of memory, so that a second try has to tell."""
    return Fault(reply, sc.ScrapeError, "headers_too_large", connection="closed", asked=2)


def too_large(reply: Answer | bytes) -> Fault:
    return Fault(
        reply,
        sc.LimitExceeded,
        "limit_exceeded",
        "body_bytes",
        "closed",
        attributes={"limit": "body_bytes", "allowed": LIMITS.body_bytes},
    )


COMPRESSED = gzip.compress(PAGE, mtime=0)
BOMB = gzip.compress(b"a 1\n" * 9_000_000)
GZIP = "Content-Encoding: gzip\r\n"
CODED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
TRAILERS = chunked(b"8\r\n", PAGE, b"\r\n0\r\n")
CUT_CHUNK = chunked(b"100\r\n", PAGE)
LONG = f"Content-Encoding: {'x' * 90}\r\n"

FAULTS = {
    # a status other than 200
    "401": no_ok(status("401 No"), 401, "kept"),
    "403": no_ok(status("403 No"), 403, "kept"),
    "404": no_ok(status("404 No"), 404, "kept"),
    "500": no_ok(status("500 No"), 500, "kept"),
    "a 500 of 100 kB": no_ok(status("500 No", bytes(100_000)), 500, "closed"),
    "a 404 without end": no_ok(then_flood(b"HTTP/1.1 404 No\r\n\r\n", SECRET), 404, "closed"),
    "301": moved("301 Gone", "/again"),
    "302 to a file": moved("302 Found", "file:///etc/secret"),
    "307 to the metadata service": moved("307 Found", "http://169.254.169.254/secret"),
    "308 to itself": moved("308 Found", "/metrics"),
    "204": no_ok(b"HTTP/1.1 204 No Content\r\n\r\n", 204),
    "206": no_ok(status("206 Partial", PAGE), 206),
    "304": no_ok(b"HTTP/1.1 304 Not Modified\r\n\r\n", 304),
    "101": no_ok(then_silence(b"HTTP/1.1 101 Switching\r\nUpgrade: secret\r\n\r\n"), 101, "closed"),
    # no HTTP/1.x
    "status 9999": framing(then_close(b"HTTP/1.1 9999 x\r\n\r\n" + SECRET), "HTTP/1.x"),
    "status 000": framing(then_close(b"HTTP/1.1 000 x\r\n\r\n" + SECRET), "HTTP/1.x"),
    "version 9.9": framing(then_close(b"HTTP/9.9 200 OK\r\n\r\n" + SECRET), "HTTP/1.x"),
    "version 2": framing(then_close(b"HTTP/2 200 OK\r\n\r\n" + SECRET), "HTTP/1.x"),
    "a line before the status": framing(then_close(b"\r\n" + sized(PAGE)), "HTTP/1.x"),
    "HTTP/0.9": framing(then_close(SECRET), "HTTP/1.x"),
    "an answer of SSH": framing(then_close(b"SSH-2.0-secret\r\n"), "HTTP/1.x"),
    "no colon in a header": framing(then_close(b"HTTP/1.1 200 OK\r\nsecret\r\n\r\n" + PAGE)),
    "a NUL in a header": framing(then_close(b"HTTP/1.1 200 OK\r\nX: sec\0ret\r\n\r\n" + PAGE)),
    "a blank before a colon": framing(then_close(b"HTTP/1.1 200 OK\r\nContent-Length : 4\r\n\r\n" + PAGE)),
    "a carriage return in a header": framing(then_close(sized(PAGE, fields="X: y\rContent-Length: 4\r\n"))),
    "a trailer without colon": framing(then_close(TRAILERS + b"secret\r\n\r\n")),
    "headers that end early": framing(then_close(b"HTTP/1.1 200 OK\r\nContent-Len"), "header"),
    # where the body ends
    "a cut body": truncated(then_close(sized(PAGE, length=1000)), f"{len(PAGE)} of 1000 bytes"),
    "a cut chunk": truncated(then_close(CUT_CHUNK), f"{len(PAGE)} bytes"),
    "no last chunk": truncated(then_close(chunked(b"8\r\n", PAGE, b"\r\n")), "last chunk"),
    "a body cut inside a line": truncated(then_close(b"HTTP/1.1 200 OK\r\n\r\na 1\nb 1"), "inside line 2"),
    "a last line without its end": truncated(sized(b"a 1\nb 1"), "inside line 2", "kept"),
    "two lengths in one": framing(sized(PAGE, length="8, 8"), "Content-Length"),
    "a length with a sign": framing(sized(PAGE, length="+8"), "Content-Length"),
    "chunked and another coding": framing(sized(PAGE, fields="Transfer-Encoding: chunked, identity\r\n")),
    "chunked twice": framing(sized(PAGE, fields="Transfer-Encoding: chunked\r\n" * 2), "Transfer-Encoding"),
    "two lengths": framing(sized(PAGE, fields="Content-Length: 4\r\n"), "Content-Length"),
    "a negative length": framing(then_silence(sized(PAGE, length=-5))),
    "a length past 64 bits": framing(then_silence(sized(PAGE, length="9" * 23)), "Content-Length"),
    "a length in hex": framing(then_silence(sized(PAGE, length="0x8"))),
    "an unasked coding": framing(then_silence(CODED + b"8\r\n" + PAGE + b"\r\n0\r\n\r\n")),
    "a chunk of size ZZ": framing(then_silence(chunked(b"ZZ\r\n", PAGE)), "chunk"),
    "a chunk of size -4": framing(then_silence(chunked(b"-4\r\n", PAGE)), "chunk"),
    "a chunk of size 0x8": framing(then_close(chunked(b"0x8\r\n", PAGE, b"\r\n0\r\n\r\n"))),
    "a chunk longer than its size": framing(then_silence(chunked(b"4\r\n", PAGE)), "chunk"),
    "a chunk of 18 digits": framing(then_silence(chunked(b"1" * 18 + b"\r\n", PAGE)), "chunk"),
    "an endless chunk extension": slow(then_drip(chunked(b"8;"), b"x" * 100), "timeout_body", "0 bytes"),
    # broken connections
    "a reset before an answer": Fault(then_reset(b""), sc.ScrapeError, "reset", "before an answer"),
    "an end before an answer": Fault(then_close(b""), sc.ScrapeError, "empty_reply", "without an answer"),
    "a reset inside the body": Fault(
        then_reset(sized(PAGE, length=1000)), sc.ScrapeError, "reset", f"{len(PAGE)} of 1000 bytes"
    ),
    "a reset inside a chunk": Fault(then_reset(CUT_CHUNK), sc.ScrapeError, "reset", f"{len(PAGE)} bytes"),
    # ceilings
    "a declared length of 2^63-1": too_large(then_silence(sized(PAGE, length=2**63 - 1))),
    "a body without end": too_large(then_flood(b"HTTP/1.1 200 OK\r\n\r\n", SECRET)),
    "chunks without end": too_large(then_flood(chunked(), b"9\r\n" + SECRET + b"\r\n")),
    "a gzip bomb": too_large(gzipped(b"a 1\n" * 50_000_000)),
    "a gzip bomb in chunks": too_large(chunked(b"%x\r\n" % len(BOMB), BOMB, b"\r\n0\r\n\r\n", fields=GZIP)),
    "100,000 headers": too_many_headers(then_flood(b"HTTP/1.1 200 OK\r\n", b"X: secret\r\n")),
    "a header line of 1 MiB": too_long_a_line(then_close(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 2**20)),
    "a header line without end": too_long_a_line(then_flood(b"HTTP/1.1 200 OK\r\nX: ", b"y")),
    "a status line without end": too_long_a_line(then_flood(b"HTTP/1.1 200 ", b"y")),
    "interim answers without end": too_many_headers(then_flood(b"", b"HTTP/1.1 103 x\r\n\r\n")),
    "100 Continue without end": too_many_headers(then_flood(b"", b"HTTP/1.1 100 x\r\n\r\n")),
    "trailers without end": too_many_headers(then_flood(TRAILERS, b"X: secret\r\n")),
    "one trailer line without end": too_long_a_line(then_flood(TRAILERS + b"X: ", b"y")),
    # encodings
    "cut gzip": truncated(gzipped(PAGE, cut=3), "gzip", ""),
    "gzip of nothing": truncated(sized(b"", fields=GZIP), "gzip", ""),
    "a wrong checksum": encoding(sized(COMPRESSED[:-8] + b"xxxx" + COMPRESSED[-4:], fields=GZIP), "gzip"),
    "damaged gzip": encoding(sized(b"\x1f\x8b\x08\0\0\0\0\0\0\3" + b"\xff" * 40, fields=GZIP), "gzip"),
    "garbage behind gzip": encoding(sized(COMPRESSED + SECRET, fields=GZIP), "gzip"),
    "brotli": encoding(sized(PAGE, fields="Content-Encoding: br\r\n"), "br"),
    "an unknown coding": encoding(sized(PAGE, fields="Content-Encoding: foo\r\n"), "foo"),
    "a coding with a long name": encoding(sized(PAGE, fields=LONG), "x" * 40 + ";"),
    "gzip in gzip": encoding(sized(gzip.compress(COMPRESSED), fields="Content-Encoding: gzip, gzip\r\n")),
    "gzip in gzip, said twice": encoding(sized(gzip.compress(COMPRESSED), fields=GZIP * 2), "several"),
    # something else than a page
    "HTML": no_page("text/html", b"<html>secret", "text/html"),
    "JSON": no_page("application/json", b'{"secret": 1}', "application/json"),
    "protobuf": no_page("application/vnd.google.protobuf", SECRET, "application/vnd.google.protobuf"),
    "a picture": no_page("image/png", b"\x89PNG\r\n", "image/png"),
    "a type with a long name": no_page("text/" + "x" * 200, SECRET, "text/" + "x" * 55),
    "a type that commands a terminal": no_page("text/\x1b[0m", SECRET, "text/\\x1b[0m"),
    "HTML that says it is text": no_page("text/plain", b"\n <!DOCTYPE html>secret", "HTML"),
    "UTF-16 that says it is text": Fault(
        sized("a 1\n".encode("utf-16")),
        sc.ExpositionError,
        "the page begins with a UTF-16 byte order mark",
        "line 1, column 1",
    ),
    "JSON that says it is text": no_page("text/plain", b'{"secret": 1}', "JSON"),
    # slow
    "silence": slow(then_silence(b""), "timeout_first_byte", "1 s"),
    "headers that drip": slow(then_drip(b"HTTP/1.1 200 OK\r\nX: ", b"y"), "timeout_first_byte", ""),
    "a body that stops": slow(then_silence(sized(b"1", length=1000)), "timeout_body", "1 of 1000 bytes"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_its_error_in_time_and_harms_nothing_else(
    name: str, scraper: Scraper, healthy: Server
) -> None:
    fault = FAULTS[name]
    timeout = TIMEOUT if fault.waits else 60
    neighbour = Endpoint(healthy.url, timeout=60)
    fetch(scraper, neighbour, PLAN)
    with serving(fault.reply) as server, nothing_left_open():
        result, took = fetch(scraper, Endpoint(server.url, timeout=timeout, limits=LIMITS), PLAN)
        assert result.fold is None
        assert result.body is None
        check_error(result.error, fault.error, fault.reason, fault.words, server.url)
        assert {key: getattr(result.error, key) for key in fault.attributes} == fault.attributes
        assert took.seconds < (timeout + SLACK if fault.waits else 5)
        assert result.wire_bytes <= LIMITS.body_bytes * 9 / 8 + 2 * 65536
        assert len(server.requests) <= fault.asked
        if fault.connection == "closed":
            assert eventually(lambda: server.closed == server.opened <= fault.asked)
        good, _ = fetch(scraper, neighbour, PLAN)
        assert good.fold == {"a": 1.0}
        assert good.reused
        if fault.connection == "kept":
            fetch(scraper, Endpoint(server.url, timeout=timeout), PLAN)
            assert (server.opened, len(server.requests)) == (1, 2)
        server.close()


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.waits])
def test_a_scrape_that_waits_in_vain_ends_with_its_timeout(name: str, scraper: Scraper) -> None:
    with serving(FAULTS[name].reply) as server:
        endpoint = Endpoint(server.url, timeout=TIMEOUT)

        def take() -> float:
            _, took = fetch(scraper, endpoint, PLAN)
            assert took.elapsed > TIMEOUT - 0.01
            return took.seconds

        assert best(take, TIMEOUT + PROMISED) < TIMEOUT + PROMISED


@pytest.mark.parametrize("name", ["a body without end", "chunks without end"])
def test_of_a_body_without_end_no_more_is_taken_than_a_read_past_the_limit(
    name: str, scraper: Scraper
) -> None:
    with serving(FAULTS[name].reply) as server:
        result, _ = fetch(scraper, Endpoint(server.url, timeout=60, limits=LIMITS), PLAN)
    assert LIMITS.body_bytes < result.wire_bytes <= LIMITS.body_bytes + 16 * 1024


def test_nothing_that_an_answer_asks_for_is_remembered(scraper: Scraper) -> None:
    wishes = (
        "Set-Cookie: secret=1; Path=/\r\nStrict-Transport-Security: max-age=9999\r\n"
        'Alt-Svc: h2="127.0.0.1:1", h3=":1"\r\nLocation: /other\r\nRefresh: 0; url=/other\r\n'
        "Link: </other>; rel=preload\r\nWWW-Authenticate: Negotiate\r\nUpgrade: h2c\r\n"
    )
    with serving(sized(PAGE, fields=wishes)) as server:
        for _ in range(3):
            result, _ = fetch(scraper, Endpoint(server.url, timeout=60), PLAN)
            assert (result.error, result.fold) == (None, {"a": 1.0})
        assert server.requests == [server.requests[0]] * 3
        assert server.opened == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5.0),
        ("0", 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_a_wait_that_the_server_asks_for_is_told(scraper: Scraper, value: str, seconds: float | None) -> None:
    with serving(status("503 Busy", fields=f"Retry-After: {value}\r\n")) as server:
        result, _ = fetch(scraper, Endpoint(server.url))
    assert isinstance(result.error, sc.HTTPStatusError)
    assert (result.error.status, result.error.retry_after) == (503, seconds)


def test_a_wait_may_be_a_date(scraper: Scraper) -> None:
    with serving(
        status("503 Busy", fields=f"Retry-After: {formatdate(time.time() + 60, usegmt=True)}\r\n")
    ) as server:
        result, _ = fetch(scraper, Endpoint(server.url))
    assert isinstance(result.error, sc.HTTPStatusError)
    assert result.error.retry_after is not None
    assert 0 < result.error.retry_after <= 61


CHUNKS = b"4\r\na 1\n\r\n4\r\nb 2\n\r\n0\r\n\r\n"

ACCEPTED = {
    "length": (sized(PAGE), "length", True),
    "chunks": (chunked(CHUNKS), "chunked", True),
    "chunks with an extension and a trailer": (
        chunked(b"8;x=y\r\n", PAGE, b"\r\n0\r\nX: y\r\n\r\n"),
        "chunked",
        True,
    ),
    "length and chunks": (chunked(CHUNKS, fields="Content-Length: 999\r\n"), "chunked", False),
    "to the end": (then_close(b"HTTP/1.1 200 OK\r\n\r\n" + PAGE), "close", False),
    "HTTP/1.0": (then_close(b"HTTP/1.0 200 OK\r\n\r\n" + PAGE), "close", False),
    "gzip": (gzipped(PAGE), "length", True),
    "gzip, said the old way": (sized(COMPRESSED, fields="Content-Encoding: x-gzip\r\n"), "length", True),
    "gzip in two members": (
        sized(gzip.compress(b"a 1\n") + gzip.compress(b"b 2\n"), fields=GZIP),
        "length",
        True,
    ),
    "identity": (sized(PAGE, fields="Content-Encoding: identity\r\n"), "length", True),
    "bytes behind the body": (sized(PAGE) + SECRET, "length", False),
    "a folded header": (sized(PAGE, fields="X: a\r\n b\r\n"), "length", True),
    "bare line feeds": (b"HTTP/1.1 200 OK\nContent-Length: 8\n\n" + PAGE, "length", True),
    "an interim answer": (b"HTTP/1.1 103 x\r\nX: y\r\n\r\n" + sized(PAGE), "length", True),
    "an interim answer with fields of its own": (
        b"HTTP/1.1 103 x\r\nContent-Type: application/openmetrics-text\r\nContent-Length: 3\r\n"
        b"Content-Encoding: br\r\nTransfer-Encoding: gzip\r\n\r\n" + sized(PAGE),
        "length",
        True,
    ),
    "the same length twice": (sized(PAGE, fields="Content-Length: 8\r\n"), "length", True),
    "no type": (sized(PAGE), "length", True),
    "a type of some version and charset": (
        sized(PAGE, fields="Content-Type: TEXT/plain; version=9.9; charset=latin1\r\n"),
        "length",
        True,
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_merely_unusual_is_accepted(name: str, scraper: Scraper) -> None:
    reply, framing, kept = ACCEPTED[name]
    with serving(reply) as server:
        endpoint = Endpoint(server.url)
        for _ in range(2):
            result, _ = fetch(scraper, endpoint, PLAN)
            assert (result.error, result.fold, result.framing) == (None, {"a": 1.0}, framing)
            assert bytes(result.body or b"") == PAGE
        assert server.opened == (1 if kept else 2)


def test_a_page_that_arrives_late_but_in_time_is_a_page(scraper: Scraper) -> None:
    def slowly(request: Request, connection: socket.socket) -> None:
        connection.sendall(sized(b"", length=len(PAGE)))
        for byte in PAGE:
            time.sleep(1.4 / len(PAGE))
            connection.sendall(bytes([byte]))

    with serving(slowly) as server:
        result, took = fetch(scraper, Endpoint(server.url, timeout=30), PLAN)
    assert result.fold == {"a": 1.0}
    assert took.elapsed > 1.4


def test_a_restarted_server_is_scraped_again_and_the_window_says_so() -> None:
    page = "sglang:num_requests_total {}\nsglang:prompt_tokens_total {}\n"
    with sc.Fleet(timeout=60) as fleet:
        with serving(answer(page.format(90, 900))) as server:
            port = server.port
            fleet.add(sc.Target("x", server.url))
            assert fleet.scrape()[0].error is None
        with serving(answer(page.format(1, 10)), port=port):
            (result,) = fleet.scrape()
        assert result.error is None
        assert result.window is not None
        assert result.window.restarted


def test_descriptors_past_1024_serve_as_well_as_any(healthy: Server, scraper: Scraper) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    many = 2048
    if hard != resource.RLIM_INFINITY and hard < many:
        pytest.skip(f"no more than {hard} descriptors are allowed here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, many), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        assert max(held) > 1024
        result, _ = fetch(scraper, Endpoint(healthy.url), PLAN)
        assert result.fold == {"a": 1.0}
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
