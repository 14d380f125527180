#!/usr/bin/env python3
"""Which changes to a file of the core does its C test not notice?

    python tools/mutate.py guard guard        each mutant of csrc/core/guard.c against tests/c/test_guard.c
    python tools/mutate.py outcome scrape 7   every seventh

Changes one operator, number or answer at a time, in a copy, and runs the test program. A mutant that
survives is a rule that no test holds, or a change that makes no difference: it is shown with its line.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from twins import ROOT, copy_core

COPY = ROOT / "build" / "mutants"
SWAPS = {
    " == ": " != ",
    " != ": " == ",
    " <= ": " < ",
    " >= ": " > ",
    " < ": " <= ",
    " > ": " >= ",
    " && ": " || ",
    " || ": " && ",
    " + ": " - ",
    " - ": " + ",
    "return true;": "return false;",
    "return false;": "return true;",
    "continue;": "break;",
    "(!": "(",
}
TIMEOUT = 60  # seconds; a mutant that hangs is noticed


def code_lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a C file with their numbers, those of comments and of the preprocessor left out."""
    inside = False
    for number, line in enumerate(text.splitlines()):
        start = line.lstrip()
        if not inside and not start.startswith(("#", "/*", "//")):
            yield number, line
        inside = (inside or start.startswith("/*")) and "*/" not in line


def mutants(text: str) -> Iterator[tuple[int, str]]:
    """Every changed line, with its number."""
    for number, line in code_lines(text):
        code = line.partition("/*")[0]
        for old, new in SWAPS.items():
            for match in re.finditer(re.escape(old), code):
                yield number, line[: match.start()] + new + line[match.end() :]
        for match in re.finditer(r"\b(0x[0-9a-f]+|0|[1-9]\d*)\b", code):
            changed = str(int(match[0], 0) + 1)
            yield number, line[: match.start()] + changed + line[match.end() :]


def survives(program: str) -> bool | None:
    """Does the test find nothing wrong? None: the mutant cannot be compiled."""
    make = ["make", "-s", "-f", "tools/ctest.mk"]
    built = subprocess.run([*make, f"build/c-plain/test_{program}"], cwd=COPY, capture_output=True)
    if built.returncode != 0:
        return None
    try:
        ran = subprocess.run(
            [f"build/c-plain/test_{program}"], cwd=COPY, capture_output=True, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return False
    return ran.returncode == 0


def main(file: str, program: str, every: str = "1") -> int:
    copy_core(COPY)
    path = COPY / "csrc" / "core" / f"{file}.c"
    sound = path.read_text()
    lines = sound.splitlines()
    counts: dict[bool | None, int] = {True: 0, False: 0, None: 0}
    try:
        for number, line in list(mutants(sound))[:: int(every)]:
            path.write_text("\n".join([*lines[:number], line, *lines[number + 1 :]]) + "\n")
            alive = survives(program)
            counts[alive] += 1
            if alive:
                print(
                    f"{file}.c:{number + 1}: survives:\n    {lines[number].strip()}\n    {line.strip()}",
                    flush=True,
                )
    finally:
        path.write_text(sound)
    killed, survived = counts[False], counts[True]
    print(
        f"{file}.c: {killed} of {killed + survived} mutants noticed by test_{program}; {counts[None]} not C"
    )
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
