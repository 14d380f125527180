"""Scripts that complete the command line in a shell, made from its parser.

They know what does not change: commands, options, and what an option takes. Nothing is run to complete.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterable, Iterator
from typing import NamedTuple

__all__ = ["SHELLS", "script"]

SHELLS = ("bash", "zsh", "fish")

_FILE = "F"  # the metavar of options that take a file


class _Option(NamedTuple):
    """An option of a command; ``takes`` is "nothing", "anything", "file" or "choice"."""

    flag: str
    takes: str
    choices: tuple[str, ...]
    help: str


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for a shell of ``SHELLS``."""
    commands = _commands(parser)
    if shell == "fish":
        return "\n".join(_fish(parser.prog, commands, dict(_helps(parser)))) + "\n"
    before = "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n" if shell == "zsh" else ""
    return before + _bash(parser.prog, commands)


def _subparsers(parser: argparse.ArgumentParser) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    return next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))


def _helps(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
    for action in _subparsers(parser)._choices_actions:
        yield action.dest, action.help or ""


def _commands(parser: argparse.ArgumentParser) -> dict[str, list[_Option]]:
    """The options of each command."""
    return {name: list(_options(command)) for name, command in _subparsers(parser).choices.items()}


def _options(command: argparse.ArgumentParser) -> Iterator[_Option]:
    for action in command._actions:
        if action.option_strings:
            choices = tuple(map(str, action.choices or ()))
            takes = "file" if action.metavar == _FILE else "choice" if choices else "anything"
            about = (action.help or "") % {**vars(action), "prog": command.prog}
            yield _Option(
                action.option_strings[-1], "nothing" if action.nargs == 0 else takes, choices, about
            )
        elif action.choices:
            yield _Option("", "choice", tuple(map(str, action.choices)), "")


def _bash(program: str, commands: dict[str, list[_Option]]) -> str:
    """One function: the word after an option that takes something, else any option of the command."""
    after: dict[str, list[str]] = {}
    for name, options in commands.items():
        for option in options:
            if option.flag and option.takes != "nothing":
                words = {"file": _FILES, "anything": "words="}.get(option.takes) or _words(option.choices)
                after.setdefault(words, []).append(shlex.quote(f"{name} {option.flag}"))
    cases = [f"{' | '.join(patterns)}) {words} ;;" for words, patterns in after.items()]
    for name, options in commands.items():
        own = [word for option in options for word in ([option.flag] if option.flag else option.choices)]
        cases.append(f"{shlex.quote(name)}\\ *) {_words(own)} ;;")
    return _BASH.format(program=program, commands=_words(commands), cases="\n        ".join(cases))


def _words(words: Iterable[str]) -> str:
    return f"""words=$(compgen -W "{" ".join(words)}" -- "$word")"""


_FILES = 'compopt -o filenames 2>/dev/null; words=$(compgen -f -- "$word")'

_BASH = """\
_sglang_collect() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} words=
    if [ "$COMP_CWORD" -eq 1 ]; then
        {commands}
    else
        case "${{COMP_WORDS[1]}} $before" in
        {cases}
        esac
    fi
    local IFS=$'\\n'
    COMPREPLY=($words)
}}
complete -F _sglang_collect {program}
"""


def _fish(program: str, commands: dict[str, list[_Option]], helps: dict[str, str]) -> Iterator[str]:
    complete = f"complete -c {program}"
    yield f"{complete} -f"
    for name, options in commands.items():
        yield f"{complete} -n __fish_use_subcommand -a {name} -d {_fish_quoted(helps.get(name, ''))}"
        there = f"{complete} -n '__fish_seen_subcommand_from {name}'"
        for option in options:
            if not option.flag:
                yield f"{there} -a {_fish_quoted(' '.join(option.choices))}"
                continue
            takes = {"nothing": "", "anything": " -x", "file": " -r -F"}.get(option.takes)
            if takes is None:
                takes = f" -x -a {_fish_quoted(' '.join(option.choices))}"
            yield f"{there} -l {option.flag.lstrip('-')}{takes} -d {_fish_quoted(option.help)}"


def _fish_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
