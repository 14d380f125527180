"""Writes the docstrings of the extension into its stub, which is where editors look for them.

    python tools/make_stub.py [FILE]

The stub's signatures are written by hand; a docstring is changed in csrc/binding. A test writes the stub
again and compares.
"""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sglang_collect import _core

ROOT = Path(__file__).resolve().parent.parent
FILE = ROOT / "sglang_collect" / "_core.pyi"

_Documented = ast.ClassDef | ast.FunctionDef


def stub(text: str) -> str:
    """The stub with the docstrings that the extension has now."""
    lines = text.splitlines()
    for owner, node in reversed(list(_documented(ast.parse(text)))):
        name = node.name if owner is None else f"{owner}.{node.name}"
        doc = _doc(name)
        if doc is not None:
            _replace(lines, node, doc)
    return _formatted("\n".join(lines) + "\n")


def _documented(module: ast.Module) -> Iterator[tuple[str | None, _Documented]]:
    """Classes, functions and what classes have, in order, each with its class; special methods excepted."""
    for node in module.body:
        if isinstance(node, _Documented):
            yield None, node
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and not member.name.startswith("__"):
                    yield node.name, member


def _doc(name: str) -> str | None:
    """None for a method of a collection's abstract class, which is described there."""
    value: Any = _core
    for part in name.split("."):
        value = inspect.getattr_static(value, part)
    if inspect.isfunction(value):
        return None
    doc = inspect.getdoc(value)
    if not doc:
        raise ValueError(f"_core.{name} has no docstring")
    return doc


def _replace(lines: list[str], node: _Documented, doc: str) -> None:
    """Puts the docstring in the place of the one that is there, or of the dots."""
    indent = " " * (node.col_offset + 4)
    text = (
        indent + '"""' + doc.replace("\n", f"\n{indent}") + ('"""' if "\n" not in doc else f'\n{indent}"""')
    )
    written = [line.rstrip() for line in text.splitlines()]
    first = node.body[0]
    assert first.end_lineno is not None
    if not isinstance(first, ast.Expr):
        start = min([first.lineno, *(decorator.lineno for decorator in getattr(first, "decorator_list", []))])
        lines[start - 1 : start - 1] = written
        return
    before = lines[first.lineno - 1][: first.col_offset].rstrip()
    lines[first.lineno - 1 : first.end_lineno] = [before, *written] if before else written


def _formatted(text: str) -> str:
    command = [sys.executable, "-m", "ruff", "format", "--quiet", "--stdin-filename", str(FILE), "-"]
    return subprocess.run(command, input=text, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    file.write_text(stub(FILE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
