"""What a shell offers for a word of the command line."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from sglang_collect._completion import script
from sglang_collect.cli import _parser, main
from sglang_collect.top import SORTS

COMMANDS = {"scrape", "fleet", "top", "simulate", "serve", "demo", "completion"}


def run(shell: str, commands: str, folder: Path) -> set[str]:
    """The lines that a shell prints which has read the script."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    file = folder / f"script.{shell}"
    file.write_text(script(_parser(), shell))
    no_files = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    done = subprocess.run(
        [shell, *no_files, "-c", f"source {shlex.quote(str(file))}\n{commands}"],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "TERM": "xterm"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return {line.split("\t")[0] for line in done.stdout.splitlines() if line}


def offered(shell: str, line: str, folder: Path) -> set[str]:
    """What a shell offers at the end of the line."""
    if shell == "fish":
        return run("fish", f"complete -C {shlex.quote(line)}", folder)
    words = [*shlex.split(line), *([""] if line.endswith(" ") else [])]
    array = " ".join(map(shlex.quote, words))
    as_bash = "" if shell == "bash" else "emulate sh\n"  # what bashcompinit does before it calls
    found = run(
        shell,
        f"{as_bash}COMP_WORDS=({array})\nCOMP_CWORD={len(words) - 1}\n_sglang_collect\n"
        'printf "%s\\n" "${COMPREPLY[@]}"',
        folder,
    )
    return found if shell == "bash" else {word for word in found if word.startswith(words[-1])}  # as zsh does


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("sglang-collect ", COMMANDS),
        ("sglang-collect s", {"scrape", "simulate", "serve"}),
        ("sglang-collect top --so", {"--sort"}),
        ("sglang-collect top --sort ttft", {"ttft-p50", "ttft-p95"}),
        ("sglang-collect top --reverse --sort ", set(SORTS)),
        ("sglang-collect fleet --fi", {"--file-sd"}),
        ("sglang-collect fleet --file-sd tar", {"targets.json", "targets with blanks.json"}),
        ("sglang-collect completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_a_shell_offers_what_there_is(shell: str, line: str, words: set[str], tmp_path: Path) -> None:
    (tmp_path / "targets.json").touch()
    (tmp_path / "targets with blanks.json").touch()
    assert offered(shell, line, tmp_path) - {"--help", "-h"} == words


def test_after_an_option_that_takes_anything_nothing_is_offered(tmp_path: Path) -> None:
    assert offered("bash", "sglang-collect top --interval ", tmp_path) == set()


def test_every_option_of_every_command_is_offered(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for command in COMMANDS:
        with pytest.raises(SystemExit):
            main((command, "--help"))
        told = set(re.findall(r"^ +(?:-h, )?(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
        assert offered("bash", f"sglang-collect {command} --", tmp_path) == told


def test_the_command_prints_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(("completion", "bash")) == 0
    assert capsys.readouterr().out == script(_parser(), "bash")
