"""Pages that were cut or changed on their way: an error that tells where, or samples that are true."""

from __future__ import annotations

import os
import random
from pathlib import Path

import generated
import pytest

import sglang_collect as sc

GOLDEN = sorted((Path(__file__).parent / "data").glob("*.prom"))
EVERY_PREFIX = os.environ.get("SGLANG_COLLECT_EVERY_PREFIX") == "1"
"""Otherwise every one of the first 24 KB, and every seventh from there on."""


def cuts(size: int) -> list[int]:
    every = size if EVERY_PREFIX else min(size, 24_000)
    return [*range(every + 1), *range(every + 1, size, 7)]


def read(data: bytes, *, format: str = "text", strict: bool = False) -> sc.Page | tuple[int, int]:
    """The page, or the line and column of the error."""
    try:
        return sc.parse(data, format=format, strict=strict)
    except sc.ExpositionError as error:
        return error.line, error.column


def check_text_prefixes(data: bytes) -> None:
    """Each prefix of a page is read up to its last whole line, and says of what follows that it is cut."""
    whole = [repr(sample) for sample in sc.parse(data).samples]
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    is_sample = [line[:1] not in {b"#", b""} for line in data.split(b"\n")]
    complete = lines = 0
    for cut in cuts(len(data)):
        while lines < len(ends) and ends[lines] <= cut:
            complete += is_sample[lines]
            lines += 1
        at_line_end = cut == 0 or data[cut - 1 : cut] == b"\n"
        page = read(data[:cut])
        if isinstance(page, tuple):
            assert not at_line_end, cut
            assert page[0] == lines + 1, cut
            continue
        samples = page.samples
        assert len(samples) in ({complete} if at_line_end else {complete, complete + 1}), cut
        for i in {0, complete // 2, complete - 1} if complete else ():
            assert repr(samples[i]) == whole[i], cut
        if len(samples) > complete:  # its number may have lost digits: a scrape refuses such a page
            series, _, _ = repr(samples[complete]).partition(", value=")
            assert whole[complete].startswith(series), cut


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_page_cut_anywhere_gives_no_sample_that_the_whole_page_lacks(path: Path) -> None:
    check_text_prefixes(path.read_bytes())


def test_a_recorded_page_cut_anywhere_gives_no_sample_that_the_whole_page_lacks(data: Path) -> None:
    check_text_prefixes((data / "sglang" / "v0.5.18-idle-fresh.prom").read_bytes())


def test_an_openmetrics_page_cut_anywhere_is_an_error(data: Path) -> None:
    page = (data / "sglang" / "v0.5.18-openmetrics.prom").read_bytes()
    assert sc.parse(page, format="openmetrics").samples
    for cut in cuts(len(page.rstrip(b"\n")) - 1):
        with pytest.raises(sc.ExpositionError):
            sc.parse(page[:cut], format="openmetrics")


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("format", ["text", "openmetrics"])
def test_a_changed_byte_is_read_or_told_of(format: str, strict: bool) -> None:
    def make(seed: int) -> bytes:
        return generated.page(seed, openmetrics=format == "openmetrics")

    page = next(page for page in map(make, range(1000)) if 3500 < len(page) <= 4096)
    n_lines = page.count(b"\n") + 2
    rng = random.Random(format)
    outcomes = set()
    for at in range(len(page)):
        for byte in {rng.randrange(256), rng.choice(b'"\\\n{}#= \x00\xff')}:
            changed = page[:at] + bytes([byte]) + page[at + 1 :]
            got = read(changed, format=format, strict=strict)
            if isinstance(got, tuple):
                assert 1 <= got[0] <= n_lines, (at, byte)
                assert got[1] >= 1, (at, byte)
            outcomes.add(type(got))
    assert outcomes == {sc.Page, tuple}
