"""Documents that hold: their code runs, in the order in which it stands, and gives what stands below it.

What a block is, its language tells:

- ``python`` runs in one namespace a document; a ``text`` block right below is what it prints.
- ``console`` holds commands after ``$`` and what they answer, for one shell a document. A command that ends
  in ``&`` is to answer what stands below it, and goes on.
- ``sh`` is for commands that no test can run, such as an installation: each has to name what is there.
- ``json`` and ``yaml`` can be read.

A block that begins with a comment of a file's name alone (``# service.py``) is that file for the commands
that follow. In an answer ``...`` stands for anything, and moments are not compared.

Commands find the repository as ``$PROJECT``. Ports of 127.0.0.1 are exchanged for free ones, but that 30000
is the simulated server that the test brings, where the document starts none there itself. ``time.sleep`` lets
the simulated server live on instead.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml
from servers import unused_port

from sglang_collect.cli import _parser

if TYPE_CHECKING:
    from sglang_collect.simulator import Simulator

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "HACKING.md", ROOT / "benchmarks" / "README.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))

_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```\n(?:\n\1```text\n(.*?)^\1```\n)?", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"(?:#|//) ([\w-]+\.\w+)\n")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00)")
_PORT = re.compile(r"(127\.0\.0\.1(?:/32)?:|--port )(\d+)")
_DEFAULT_PORTS = {"simulate": 30000, "serve": 8000}
_SECONDS = 120.0  # that a command may take


class Block(NamedTuple):
    language: str
    text: str
    line: int
    output: str | None
    """The ``text`` block right below, if there is one."""


class Command(NamedTuple):
    text: str
    answer: str
    line: int


class Document:
    """A page and its blocks of code."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text("utf-8")
        self.blocks = [
            Block(match[2], _without_indent(match[3], match[1]), self._line(match.start(3)), match[4])
            for match in _BLOCK.finditer(self.text)
        ]

    def _line(self, offset: int) -> int:
        return self.text.count("\n", 0, offset)

    def of(self, language: str) -> list[Block]:
        return [block for block in self.blocks if block.language == language]

    def commands(self) -> list[Command]:
        return [command for block in self.of("console") for command in commands_of(block)]


def _without_indent(text: str, indent: str) -> str:
    return "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True))


def commands_of(block: Block) -> list[Command]:
    """The commands of a console block; a line goes on after a backslash, and with ``>`` as a shell asks."""
    found: list[Command] = []
    lines = iter(enumerate(block.text.splitlines(keepends=True), block.line))
    for number, line in lines:
        if line.startswith("$ "):
            text = line[2:]
            while text.endswith("\\\n"):
                text += next(lines)[1]
            found.append(Command(text.rstrip("\n"), "", number))
        elif line.startswith("> ") and found and not found[-1].answer:
            found[-1] = found[-1]._replace(text=f"{found[-1].text}\n{line[2:].rstrip()}")
        else:
            assert found, f"line {number + 1}: an answer to no command"
            found[-1] = found[-1]._replace(answer=found[-1].answer + line)
    return found


# ---------------------------------------------------------------------- running


class Run:
    """A document that is run; ``names`` is what its Python blocks have defined."""

    def __init__(self, document: Document, folder: Path, simulator: Simulator) -> None:
        self.document = document
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "document", "sglang_simulator": simulator}
        self._ports = _ports(document, simulator)

    def all(self) -> None:
        """Every block; skips where a program that is needed is not installed."""
        commands = self.document.commands()
        for command in commands:
            program = shlex.split(command.text, comments=True)[0]
            if program in ("prometheus", "promtool") and shutil.which(program) is None:
                pytest.skip(f"{program} is not installed")
        with contextlib.ExitStack() as stack:
            shell = stack.enter_context(Shell(self.folder)) if commands else None
            for block in self.document.blocks:
                self._save(block)
                if block.language == "console":
                    assert shell is not None
                    self._command_lines(block, shell)
                elif block.language != "text":
                    getattr(self, f"_{block.language}")(block)

    def python(self) -> dict[str, Any]:
        """The Python blocks alone; what they have defined."""
        for block in self.document.of("python"):
            self._python(block)
        return self.names

    def mapped(self, text: str) -> str:
        """The text with the ports of this run."""
        return _PORT.sub(lambda match: f"{match[1]}{self._ports[int(match[2])]}", text)

    def _save(self, block: Block) -> None:
        name = _FILE.match(block.text)
        if name is not None:
            (self.folder / name[1]).write_text(self.mapped(block.text), "utf-8")

    def _python(self, block: Block) -> None:
        code = re.sub(r"time\.sleep\((\d+)\)", r"sglang_simulator.step(\1)", self.mapped(block.text))
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            source = compile("\n" * block.line + code, str(self.document.path), "exec", dont_inherit=True)
            exec(source, self.names)
        if block.output is not None:
            self._compare(printed.getvalue(), self.mapped(block.output), block.line)

    def _command_lines(self, block: Block, shell: Shell) -> None:
        for command in commands_of(block):
            wanted = self.mapped(command.answer)
            text = self.mapped(_with_port(command.text))
            self._compare(shell.run(text, lines=wanted.count("\n")), wanted, command.line)

    def _compare(self, got: str, wanted: str, line: int) -> None:
        """``...`` stands for anything: alone in a line for any lines, else for a part of one."""
        got, wanted = (_MOMENT.sub("MOMENT", text) for text in (got, wanted))
        lines = (".*" if line == "...\n" else _pattern(line) for line in wanted.splitlines(keepends=True))
        if re.fullmatch("".join(lines), got, re.DOTALL) is None:
            raise AssertionError(f"{self.document.path.name}:{line + 1} got:\n{got}\nwanted:\n{wanted}")

    def _json(self, block: Block) -> None:
        json.loads(block.text)

    def _yaml(self, block: Block) -> None:
        assert list(yaml.safe_load_all(block.text))

    def _sh(self, block: Block) -> None:
        for line in block.text.splitlines():
            words = shlex.split(line, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                del words[0]
            if words:
                problem = _problem_of(words)
                assert not problem, f"{self.document.path.name}:{block.line + 1}: {line}: {problem}"


def _pattern(line: str) -> str:
    return "[^\n]*".join(map(re.escape, line.split("...")))


def _ports(document: Document, simulator: Simulator) -> dict[int, int]:
    """The ports of the document, each with the one it has in this run."""
    text = "".join(block.text + (block.output or "") for block in document.blocks)
    commands = [_with_port(command.text) for command in document.commands()]
    started = {int(port) for command in commands for port in re.findall(r" --port (\d+)", command)}
    named = {int(match[2]) for match in _PORT.finditer(text)} | started
    ports = {port: unused_port() for port in named}
    if 30000 not in started:
        found = re.search(r":(\d+)/", simulator.url)
        assert found
        ports[30000] = int(found[1])
    ports |= {port: port for port in named if port < 1024}  # on which nobody listens
    return ports


def _with_port(command: str) -> str:
    """The command with its port, where it leaves the default one out."""
    for name, port in _DEFAULT_PORTS.items():
        if re.match(rf"sglang-collect {name}\b", command) and "--port" not in command:
            return command.replace(name, f"{name} --port {port}", 1)
    return command


def _problem_of(words: list[str]) -> str:
    """What is wrong with a command that cannot be run; "" where nothing is."""
    program, *arguments = words
    if program == "make":
        makefile = (ROOT / "Makefile").read_text("utf-8")
        targets = [word for word in arguments if not word.startswith("-") and "=" not in word]
        if "-f" in arguments:
            return "" if (ROOT / arguments[arguments.index("-f") + 1]).is_file() else "no such makefile"
        return ", ".join(word for word in targets if not re.search(rf"^{word}:", makefile, re.MULTILINE))
    if words[:2] == ["pip", "install"]:
        project = (ROOT / "pyproject.toml").read_text("utf-8")
        extras = ",".join(re.findall(r"\[([\w,-]+)\]", " ".join(arguments))).split(",")
        return ", ".join(
            word for word in filter(None, extras) if not re.search(rf"^{word} = \[", project, re.MULTILINE)
        )
    if program.endswith("python") and arguments:
        script = ROOT / arguments[0]
        if not script.is_file():
            return "no such script"
        text = script.read_text("utf-8")
        return ", ".join(
            word for word in arguments[1:] if word.startswith("--") and word not in text + "--inplace --force"
        )
    if program.endswith("sglang-collect"):
        try:
            _parser().parse_args(arguments)
        except SystemExit:
            return "bad usage"
        return ""
    if program.startswith("tools/"):
        return "" if (ROOT / program).is_file() else "no such script"
    return "a command that no test knows: make it a console block"


# ------------------------------------------------------------------------ shell


class Shell:
    """A bash whose commands are those of the interpreter that runs the tests; what it starts ends with it."""

    _END = "--end of the answer--"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rest = b""

    def __enter__(self) -> Shell:
        # A sanitizer is for Python alone: curl hangs with one.
        sanitizer = os.environ.get("LD_PRELOAD")
        preload = f"LD_PRELOAD={shlex.quote(sanitizer)} " if sanitizer else ""
        programs = self._folder / "bin"
        programs.mkdir()
        for name, arguments in {
            "python": "",
            "sglang-collect": "-m sglang_collect",
            "uvicorn": "-m uvicorn",
        }.items():
            script = programs / name
            script.write_text(f'#!/bin/sh\n{preload}exec {shlex.quote(sys.executable)} {arguments} "$@"\n')
            script.chmod(0o755)
        names = ("http_proxy", "https_proxy", "all_proxy", "ld_preload")
        environment = {key: value for key, value in os.environ.items() if key.lower() not in names}
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=self._folder,
            env={
                **environment,
                "PATH": f"{programs}:{os.environ['PATH']}",
                "PYTHONUNBUFFERED": "1",
                "PROJECT": str(ROOT),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    def __exit__(self, *exc: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.communicate()

    def run(self, command: str, *, lines: int) -> str:
        """What a command answers, its last line ended; one that goes on has answered with so many lines."""
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{command}\necho '{self._END}'\n".encode())
        self._bash.stdin.flush()
        goes_on = command.endswith("&")
        answer = ""
        ended = False
        for line in self._lines(command):
            rest = line.removesuffix(f"{self._END}\n")
            ended = ended or rest != line
            if rest:
                answer += rest if rest == line else f"{rest}\n"
            if ended and (not goes_on or answer.count("\n") >= lines):
                return answer
        raise AssertionError(f"the shell has ended: {command}")

    def _lines(self, command: str) -> Iterator[str]:
        """Lines as they come; what has come behind the last one that is taken stays."""
        assert self._bash.stdout is not None
        deadline = time.monotonic() + _SECONDS
        while True:
            while b"\n" in self._rest:
                line, _, self._rest = self._rest.partition(b"\n")
                yield line.decode() + "\n"
            left = deadline - time.monotonic()
            if not select.select([self._bash.stdout], [], [], max(0.0, left))[0]:
                raise AssertionError(f"no answer in {_SECONDS:.0f} s: {command}")
            if not (data := os.read(self._bash.stdout.fileno(), 65536)):
                return
            self._rest += data
