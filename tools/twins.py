#!/usr/bin/env python3
"""Do the C tests notice? Breaks one safety of the core at a time, in a copy, and expects its test to go red.

    python tools/twins.py            all of them
    python tools/twins.py leak race  some

A test that finds nothing wrong with a broken twin proves nothing about the core either. Each twin is the
core with one piece of text in the place of another, so the core itself holds no trap doors.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / "twins"


class Twin(NamedTuple):
    """What is broken in which file of the core, and the test program that must see it."""

    breaks: str
    file: str
    sound: str
    broken: str
    test: str
    flavour: str = "plain"


TWINS = {
    "leak": Twin(
        "the body of an answer that failed is never freed",
        "answer.c",
        "    answer->inflater = NULL;\n    sgc__buf_free(&answer->body);\n",
        "    answer->inflater = NULL;\n",
        "scrape",
    ),
    "guard": Twin(
        "no address is judged when a socket opens or a request is sent",
        "http.c",
        "if (http->guard && !sgc_guard_allows_address(",
        "if (!http && !sgc_guard_allows_address(",
        "scrape",
    ),
    "first-round": Twin(
        "a good address of a name is connected to before its other ones are judged",
        "http.c",
        "http->showing = http->guard && !http->endpoint->numeric && !http->shown;",
        "http->showing = http->guard && http->shown && !http->shown;",
        "scrape",
    ),
    "known": Twin(
        "a line that is known from another page means the same in every family",
        "steady.c",
        "        if (!context_is(&student->old->contexts[old_context], family))\n",
        "        if (!context_is(&student->old->contexts[old_context], family) && !student)\n",
        "steady",
    ),
    "metadata": Twin(
        "link-local addresses are like any other",
        "guard.c",
        "    {{169, 254}, 16, false},\n",
        "",
        "guard",
    ),
    "embedded": Twin(
        "an IPv4 address inside one of NAT64 is not looked at",
        "guard.c",
        "{{{0x00, 0x64, 0xff, 0x9b}, 96, true}, 12, false},",
        "",
        "guard",
    ),
    "retold": Twin(
        "a sample that repeats one belongs to its family, whatever TYPE lines came between",
        "repeat.c",
        "s->renamed = !last || ps->retold || ps->apart",
        "s->renamed = !last || ps->apart",
        "repeat",
    ),
    "other-labels": Twin(
        "what the labels of a line mean is taken from another of the same label names",
        "rules.c",
        "    else if (s->text == r->text)\n",
        "    else\n",
        "plan",
    ),
    "other-prefix": Twin(
        "labels are counted as those before, although those were of a name that is not counted",
        "fold.c",
        "uint64_t changed = next ? s->changed : SGC__CHANGED_ALL;",
        "uint64_t changed = next || !next ? s->changed : SGC__CHANGED_ALL;",
        "plan",
    ),
    "followers": Twin(
        "a family follows series that have given way to those of a better name",
        "fold.c",
        "    if (g->series.n)\n        lead_drop(f, &g->series);\n",
        "    if (!g->series.size)\n        lead_drop(f, &g->series);\n",
        "plan",
    ),
    "own-way": Twin(
        "a family that has left the order of another follows it still",
        "rows.c",
        "    t->lead = NULL;\n    if (t->n == t->room",
        "    if (t->n == t->room",
        "plan",
    ),
    "proxy": Twin(
        "the proxies of the environment are used",
        "http.c",
        "i < sizeof fixed_texts / sizeof *fixed_texts;",
        "i < 2;",
        "scrape",
    ),
    "headers": Twin(
        "headers have no ceiling",
        "answer.c",
        "if (answer->header_bytes > SGC__HEADER_BYTES || answer->header_lines > SGC__HEADER_LINES)",
        "if (answer->header_lines > 1000 * SGC__HEADER_LINES)",
        "http",
    ),
    "bomb": Twin(
        "inflating has no ceiling but four times the limit",
        "answer.c",
        "sgc__buf_init(&answer->body, (size_t)answer->limit);",
        "sgc__buf_init(&answer->body, 4 * (size_t)answer->limit);",
        "http",
    ),
    "cut-line": Twin(
        "a body may end inside a line",
        "answer.c",
        "if (text.len == 0 || text.ptr[text.len - 1] == '\\n' || is_utf16(text))",
        "if (text.len != SIZE_MAX || is_utf16(text))",
        "http",
    ),
    "cut-gzip": Twin(
        "gzip may end early",
        "answer.c",
        "if (answer->gzip && !(answer->inflater && sgc__inflater_done(answer->inflater)))",
        "if (answer->gzip && !answer->inflater)",
        "http",
    ),
    "two-lengths": Twin(
        "of two lengths the last one counts",
        "answer.c",
        "else if (answer->sized && length != answer->length)",
        "else if (answer->sized && length == UINT64_MAX)",
        "http",
    ),
    "no-retry": Twin(
        "a kept connection that died is a failure",
        "outcome.c",
        "return http->again || (is_broken(code)",
        "return (is_broken(code)",
        "scrape",
    ),
    "left-over": Twin(
        "what a server sent unasked over a kept connection begins the next answer",
        "http.c",
        "(http->asked || http->fd < 0 || is_stale(http))",
        "(http->asked || http->fd < 0 || (is_stale(http) && http->opened))",
        "scrape",
    ),
    "mixed-up": Twin(
        "after a fork both processes read from the same connections",
        "scrape.c",
        "    if (known->process == sgc_process())\n        return known;\n",
        "    if (known->process)\n        return known;\n",
        "scrape",
    ),
    "over-read": Twin(
        "the reader looks a byte past the end of a page",
        "lex.c",
        "while (p < end && !is(*p, TOKEN_END))",
        "while (p <= end && !is(*p, TOKEN_END))",
        "parse",
    ),
    "no-memory": Twin(
        "a buffer that could not grow is used all the same",
        "buf.c",
        "    if (!ptr) {\n        sgc__buf_free(buf);\n        return SGC_NOMEM;\n    }\n",
        "",
        "memory",
    ),
    "thrice": Twin(
        "a kept connection that died is asked for again and again",
        "http.c",
        "if (!http->opened && (http->asked || http->fd < 0",
        "if (!http->opened && (http->fd < 0",
        "scrape",
    ),
    "told": Twin(
        "a failure tells what stands on the page",
        "result.c",
        "(unsigned long long)err.column, err.reason);",
        "(unsigned long long)err.column, err.excerpt);",
        "scrape",
    ),
    "deaf": Twin(
        "a signal does not end a wait",
        "scrape.c",
        " || hub->shards.poller.interrupted;",
        ";",
        "scrape",
    ),
    "late": Twin(
        "a scrape that waits for a connection has no deadline",
        "scrape.c",
        "while (hub->deadlines.n && hub->deadlines.items[0]->deadline <= now) {",
        "while (hub->deadlines.n && hub->deadlines.items[0]->deadline <= now &&\n"
        "               hub->deadlines.items[0]->handle) {",
        "scrape",
    ),
    "descriptor": Twin(
        "a scraper that is closed leaves a descriptor open",
        "poller.c",
        "    close_if_open(poller->epoll);\n",
        "    (void)poller;\n",
        "soak",
    ),
    "grows": Twin(
        "what a scrape was is never freed",
        "scrape.c",
        "        transfer->result = NULL;\n        sgc__transfer_free(transfer);\n    }\n"
        "    atomic_fetch_sub",
        "        transfer->result = NULL;\n    }\n    atomic_fetch_sub",
        "soak",
    ),
    "race": Twin(
        "scrapes are cancelled without the lock",
        "scrape.c",
        "    pthread_mutex_lock(&hub->lock);\n    if (id == 0) {\n",
        "    if (id == 0) {\n",
        "scrape",
        "tsan",
    ),
}


def copy_core(copy: Path) -> None:
    """The core and its tests, as they are, where they may be changed."""
    for folder in ("csrc/core", "tests/c"):
        target = copy / folder
        target.mkdir(parents=True, exist_ok=True)
        for source in (ROOT / folder).iterdir():
            if source.suffix in {".c", ".h", ".inc"}:
                write(target / source.name, source.read_text())
    (copy / "tools").mkdir(exist_ok=True)
    shutil.copy2(ROOT / "tools" / "ctest.mk", copy / "tools" / "ctest.mk")


def write(path: Path, text: str) -> None:
    """Leaves a file alone that says the same, so that make does."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def test(program: str, flavour: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-s", "-f", "tools/ctest.mk", "-j2", f"FLAVOUR={flavour}", f"TESTS={program}"]
    return subprocess.run(command, cwd=COPY, capture_output=True, text=True, errors="replace")


def noticed(name: str, twin: Twin) -> bool:
    """Breaks the twin, runs its test, and mends it again."""
    path = COPY / "csrc" / "core" / twin.file
    sound = path.read_text()
    if sound.count(twin.sound) != 1:
        print(f"{name}: {twin.file} does not hold its text once: bring tools/twins.py up to date")
        return False
    started = time.monotonic()
    path.write_text(sound.replace(twin.sound, twin.broken))
    try:
        done = test(twin.test, twin.flavour)
    finally:
        path.write_text(sound)
    seconds = time.monotonic() - started
    red = done.returncode != 0 and ": error:" not in done.stderr  # which a compiler says
    print(f"{name}: {'red' if red else 'NOT NOTICED'} after {seconds:.0f} s: {twin.breaks}", flush=True)
    if not red:
        print(done.stdout + done.stderr)
    return red


def main(names: list[str]) -> int:
    copy_core(COPY)
    for program, flavour in {(twin.test, twin.flavour) for twin in TWINS.values()}:
        done = test(program, flavour)
        if done.returncode != 0:
            print(f"the sound core fails {program}, {flavour}:\n{done.stderr}")
            return 1
    results = [noticed(name, TWINS[name]) for name in names or TWINS]
    print(f"twins: {sum(results)} passed, {results.count(False)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
