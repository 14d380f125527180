"""The lint finds what it is there to find: each rule is broken once and has to be reported."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def lint(root: Path) -> tuple[int, list[str]]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/lint_core.py"), str(root)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def plant(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_the_project_itself_is_clean() -> None:
    assert lint(ROOT) == (0, [])


@pytest.mark.parametrize(
    ("name", "text", "report"),
    [
        ("csrc/core/sgc.h", "#include <curl/curl.h>\n", ":1: <curl/curl.h> belongs to"),
        (
            "csrc/core/sgc.h",
            "#include <stdint.h>\n#include <zlib.h>\n",
            ":2: sgc.h includes libc only, not zlib.h",
        ),
        (
            "csrc/core/sgc_scrape.h",
            '\n#include "sgc_int.h"\n',
            ":2: sgc_scrape.h includes libc only, not sgc_int.h",
        ),
        ("csrc/core/page.c", "\n\n# include <curl/multi.h>\n", ":3: <curl/multi.h> belongs to http.c"),
        ("csrc/core/page.c", "#include <Python.h>\n", ":1: the core knows no Python"),
        (
            "csrc/core/page.c",
            'int f(void)\n{\n    return g("sglang:x");\n}\n',
            ":3: the core knows no engine",
        ),
        ("csrc/core/plan.c", "x = strtod (a, 0);\n", ":1: strtod is banned in the core outside num.c"),
        (
            "csrc/core/plan.c",
            "/* malloc() */\nx = malloc(1);\n",
            ":2: malloc is banned in the core outside mem.c",
        ),
        (
            "csrc/binding/page.c",
            '#include "sgc_int.h"\n',
            ":1: the binding sees sgc.h and sgc_scrape.h of the core",
        ),
        ("csrc/binding/page.c", '#include "../core/http.h"\n', ":1: the binding sees sgc.h and sgc_scrape.h"),
        ("csrc/binding/page.c", "#include <curl/curl.h>\n", ":1: the binding knows no libcurl"),
        ("csrc/core/lex.c", "\n" * 701, ":701: 701 lines, over 700"),
        ("sglang_collect/models.py", "\n" * 701, ":701: 701 lines, over 700"),
        ("sglang_collect/catalog/sglang.py", "\n" * 702, ":701: 702 lines, over 700"),
    ],
)
def test_a_broken_rule_is_reported_with_file_and_line(
    tmp_path: Path, name: str, text: str, report: str
) -> None:
    plant(tmp_path, name, text)
    status, lines = lint(tmp_path)
    assert status == 1
    assert [line for line in lines if line.startswith(name + report)], lines
    assert len(lines) == 1


@pytest.mark.parametrize(
    "function",
    [
        "strcpy",
        "strcat",
        "sprintf",
        "atoi",
        "strtod",
        "printf",
        "fprintf",
        "puts",
        "abort",
        "exit",
        "assert",
        "free",
    ],
)
def test_a_banned_function_is_reported_wherever_it_is_called(tmp_path: Path, function: str) -> None:
    plant(tmp_path, "csrc/core/scrape.c", f"static void f(void)\n{{\n    {function}(x);\n}}\n")
    status, lines = lint(tmp_path)
    assert status == 1
    assert len(lines) == 1
    assert lines[0].startswith(f"csrc/core/scrape.c:3: {function} is banned in the core")


def test_what_the_rules_allow_is_not_reported(tmp_path: Path) -> None:
    plant(tmp_path, "csrc/core/sgc.h", "/* sglang: see printf() */\n#include <stdint.h>\n")
    plant(tmp_path, "csrc/core/sgc_scrape.h", '#include "sgc.h"\n')
    plant(tmp_path, "csrc/core/num.c", '#include "sgc_int.h"\nx = strtod(a, b); // atoi(a)\n')
    plant(tmp_path, "csrc/core/mem.c", "p = malloc(n);\n")
    plant(tmp_path, "csrc/core/http.c", "#include <curl/curl.h>\n#include <zlib.h>\n")
    plant(tmp_path, "csrc/core/scrape.c", 'a->free(x); b.exit(1); snprintf(o, n, "abort()"); curl_free(x);\n')
    plant(tmp_path, "csrc/core/lex.c", "\n" * 700)
    plant(tmp_path, "csrc/binding/page.c", '#include <Python.h>\n#include "core.h"\n#include "sgc.h"\n')
    plant(tmp_path, "csrc/binding/core.h", '#include "../core/sgc_scrape.h"\n')
    assert lint(tmp_path) == (0, [])


def test_the_powers_of_five_are_what_their_generator_writes() -> None:
    generator = runpy.run_path(str(ROOT / "tools/make_pow5.py"))
    assert (ROOT / "csrc/core/pow5.inc").read_text() == generator["render"]()
