"""Pages cut on their way to a scrape: an error, or whole lines. Never a number that lost digits."""

from __future__ import annotations

import gzip
import os
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import Request, serving

from sglang_collect._core import Endpoint, Plan, Result, Scraper, parse
from sglang_collect.errors import ExpositionError, ScrapeError

EVERY_PREFIX = os.environ.get("SGLANG_COLLECT_EVERY_PREFIX") == "1"
SAMPLE = 150
"""Prefixes of each page and way, where not every one is tried; some of them around a line's end."""

PLAN = Plan([""], {})
OWN = {path.stem: path for path in sorted((Path(__file__).parent / "data").glob("*.prom"))}
RECORDED = [
    "v0.3.5.post1-tp1-busy",
    "v0.4.1-dp2",
    "v0.4.4-tp1-busy",
    "v0.4.10-tp1-busy",
    "v0.5.18-idle-fresh",
    "v0.5.18-openmetrics",
]


@pytest.fixture(params=[*OWN, *RECORDED])
def page(request: pytest.FixtureRequest) -> bytes:
    if request.param in OWN:
        return OWN[request.param].read_bytes()
    folder: Path = request.getfixturevalue("data")
    return (folder / "sglang" / f"{request.param}.prom").read_bytes()


# ------------------------------------------------------------- how a page is cut


def with_a_length(page: bytes, cut: int) -> bytes:
    """The server itself has no more, and says so."""
    return b"Content-Length: %d\r\n\r\n" % cut + page[:cut]


def to_the_end(page: bytes, cut: int) -> bytes:
    return b"Connection: close\r\n\r\n" + page[:cut]


def with_the_whole_length(page: bytes, cut: int) -> bytes:
    return b"Content-Length: %d\r\n\r\n" % len(page) + page[:cut]


def in_chunks(page: bytes, cut: int) -> bytes:
    return b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % (cut + 1) + page[:cut]


def compressed(page: bytes, cut: int) -> bytes:
    data = gzip.compress(page, 1, mtime=0)
    data = data[: cut * len(data) // len(page)]
    return b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(data) + data


Way = Callable[[bytes, int], bytes]

SHOWING: list[Way] = [with_the_whole_length, in_chunks, compressed]
"""Ways in which every cut shows, at the end of a line too."""

QUIET: list[Way] = [with_a_length, to_the_end]
"""Ways in which nothing but the page itself says that it is cut."""


def cuts(page: bytes, every: bool) -> list[int]:
    if every:
        return list(range(len(page)))
    chosen = random.Random(len(page)).sample(range(len(page)), SAMPLE - 30)
    ends = [i for i, byte in enumerate(page) if byte == ord("\n")]
    for end in random.Random(7).sample(ends, 10):
        chosen += [end, end + 1, end + 2]
    return [cut for cut in chosen if cut < len(page)]


def scraped(page: bytes, way: Way, cuts: list[int]) -> Iterator[tuple[int, Result]]:
    """The result of a scrape for each cut, some of them under way at a time."""
    is_openmetrics = page.rstrip().endswith(b"# EOF")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: "
    head += b"application/openmetrics-text\r\n" if is_openmetrics else b"text/plain\r\n"

    def reply(request: Request, connection: socket.socket) -> bytes | None:
        data = head + way(page, int(request.path[1:]))
        if way in (with_a_length, compressed):
            return data
        connection.sendall(data)
        return None

    todo = iter(cuts)
    under_way: dict[int, int] = {}
    with serving(reply) as server, Scraper(max_connections=8) as scraper:
        while True:
            while len(under_way) < 8 and (cut := next(todo, None)) is not None:
                endpoint = Endpoint(f"http://127.0.0.1:{server.port}/{cut}", timeout=120)
                under_way[scraper.submit(endpoint, PLAN)] = cut
            if not under_way:
                return
            for result in scraper.wait(30):
                yield under_way.pop(result.id), result


# ------------------------------------------------------------------------ tests


@pytest.mark.timeout(3600 if EVERY_PREFIX else 900)
@pytest.mark.parametrize("way", QUIET)
def test_a_page_that_ends_early_is_an_error_or_whole_lines(page: bytes, way: Way) -> None:
    whole = [repr(sample) for sample in parse(page, format="auto").samples]
    counts: Counter[str] = Counter()
    for cut, result in scraped(page, way, cuts(page, EVERY_PREFIX)):
        prefix = page[:cut]
        if result.error is not None:
            reason = getattr(result.error, "reason", "")
            assert isinstance(result.error, ExpositionError) or reason == "truncated", (cut, result.error)
            assert result.body is None
            counts["refused"] += 1
            continue
        assert prefix in (b"", bytes(result.body or b"")), cut
        assert prefix[-1:] in (b"", b"\n") or prefix.endswith(b"\n# EOF"), cut
        samples = [repr(sample) for sample in result.page.samples] if result.page else []
        assert samples == whole[: len(samples)], cut
        assert len(samples) == sum(line[:1] not in (b"", b"#") for line in prefix.split(b"\n"))
        counts["whole lines"] += 1
    assert counts["refused"] > counts["whole lines"]


@pytest.mark.timeout(3600 if EVERY_PREFIX else 900)
@pytest.mark.parametrize("way", SHOWING)
def test_a_page_whose_cut_shows_is_an_error(page: bytes, way: Way) -> None:
    for cut, result in scraped(page, way, cuts(page, False)):
        assert isinstance(result.error, ScrapeError), cut
        assert result.error.reason == "truncated", (cut, result.error)
        assert (result.fold, result.body, result.page) == (None, None, None)
