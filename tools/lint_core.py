"""Checks the rules that keep the rooms of this project apart; see HACKING.md.

Usage: ``python tools/lint_core.py [ROOT]``. Prints ``file:line: what is wrong`` and ends with 1 where
anything is.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MAX_LINES = 700

LIBC_HEADERS = frozenset(
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign "
    "stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar "
    "wchar wctype".split()
)

# The files of the core that may include <curl/...>.
CURL_FILES = frozenset({"http.c", "http.h", "scrape.c"})

# What csrc/binding sees of the core.
PUBLIC_HEADERS = frozenset({"sgc.h", "sgc_scrape.h"})

# Function -> the only files of the core that may call it.
BANNED: dict[str, frozenset[str]] = {
    **dict.fromkeys("strcpy strncpy strcat strncat sprintf vsprintf gets".split(), frozenset()),
    **dict.fromkeys("atoi atol atoll atof sscanf strtol strtoul strtoll strtoull".split(), frozenset()),
    **dict.fromkeys("printf fprintf vprintf vfprintf puts fputs putchar perror".split(), frozenset()),
    **dict.fromkeys("abort exit _exit quick_exit assert setlocale".split(), frozenset()),
    **dict.fromkeys("strtod strtof strtold".split(), frozenset({"num.c"})),
    **dict.fromkeys("malloc calloc realloc free strdup strndup".split(), frozenset({"mem.c"})),
}

_COMMENT_OR_STRING = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.MULTILINE)
_CALL = re.compile(r"(?<![\w.>])(" + "|".join(BANNED) + r")\s*\(")


class Finding(NamedTuple):
    path: Path
    line: int
    text: str


def _blank(match: re.Match[str]) -> str:
    """The same number of lines, and nothing to read."""
    return re.sub(r"[^\n]", " ", match[0])


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def _includes(text: str) -> Iterator[tuple[int, bool, str]]:
    """Line, whether in angle brackets, and name of every include outside comments."""
    code = re.sub(r"/\*.*?\*/", _blank, text, flags=re.DOTALL)
    for match in _INCLUDE.finditer(code):
        yield _line(code, match.start(2)), match[1] == "<", match[2]


def _bad_core_include(name: str, system: bool, header: str) -> str | None:
    if header == "Python.h":
        return "the core knows no Python"
    if header.startswith("curl/") and name not in CURL_FILES:
        return f"<{header}> belongs to {', '.join(sorted(CURL_FILES))}"
    if name in PUBLIC_HEADERS:
        libc = system and header.removesuffix(".h") in LIBC_HEADERS
        if not libc and (name, header) != ("sgc_scrape.h", "sgc.h"):
            return f"{name} includes libc only, not {header}"
    return None


def _bad_binding_include(system: bool, header: str, own: set[str]) -> str | None:
    if header.startswith("curl/"):
        return "the binding knows no libcurl"
    name = Path(header).name
    if not system and name not in PUBLIC_HEADERS and name not in own:
        return f"the binding sees {' and '.join(sorted(PUBLIC_HEADERS))} of the core, not {header}"
    return None


def _check_core(path: Path, text: str) -> Iterator[Finding]:
    for line, system, header in _includes(text):
        problem = _bad_core_include(path.name, system, header)
        if problem:
            yield Finding(path, line, problem)
    code = _COMMENT_OR_STRING.sub(_blank, text)
    for match in _CALL.finditer(code):
        if path.name not in BANNED[match[1]]:
            allowed = "".join(f" outside {name}" for name in BANNED[match[1]])
            yield Finding(path, _line(code, match.start()), f"{match[1]} is banned in the core{allowed}")
    for match in _COMMENT_OR_STRING.finditer(text):
        if match[0].startswith('"') and "sglang" in match[0].lower():
            yield Finding(path, _line(text, match.start()), "the core knows no engine by name")


def _check_binding(path: Path, text: str, own: set[str]) -> Iterator[Finding]:
    for line, system, header in _includes(text):
        problem = _bad_binding_include(system, header, own)
        if problem:
            yield Finding(path, line, problem)


def check(root: Path) -> Iterator[Finding]:
    """Everything under ``root`` that breaks a rule."""
    binding = sorted((root / "csrc/binding").glob("*.[ch]"))
    core = sorted((root / "csrc/core").glob("*.[ch]"))
    package = sorted((root / "sglang_collect").rglob("*.py"))
    for path in core:
        yield from _check_core(path, path.read_text("utf-8"))
    own = {path.name for path in binding}
    for path in binding:
        yield from _check_binding(path, path.read_text("utf-8"), own)
    for path in [*core, *binding, *package]:
        n_lines = len(path.read_text("utf-8").splitlines())
        if n_lines > MAX_LINES:
            yield Finding(path, MAX_LINES + 1, f"{n_lines} lines, over {MAX_LINES}: is it still one thing?")


def main() -> int:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent
    findings = list(check(root))
    for finding in findings:
        print(f"{finding.path.relative_to(root)}:{finding.line}: {finding.text}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
