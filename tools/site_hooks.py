"""Hooks of mkdocs: pages of the site that are files of the repository.

A line that ends in ``<!-- include FILE -->`` becomes that file without its title, or, with ``FILE#Section``,
one of its sections without its heading; links lead to pages of the site where there is one.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

_LINE = re.compile(r"^.*<!-- include (\S+?)(?:#(.+?))? -->$", re.MULTILINE)
_TITLE = re.compile(r"\A# .*\n+")
_LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
_PAGES = {
    "HACKING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "performance.md",
    "README.md": "index.md",
}


def on_page_markdown(markdown: str, **_: object) -> str:
    """The text of a page with the files that it includes."""
    return _LINE.sub(lambda line: _included(line[1], line[2]), markdown)


def _included(name: str, section: str | None) -> str:
    text = (ROOT / name).read_text("utf-8")
    text = _TITLE.sub("", text) if section is None else _section(text, section)
    return _LINK.sub(lambda link: f"]({_of_the_site(link[1])}", text)


def _section(text: str, title: str) -> str:
    _, heading, rest = text.partition(f"\n## {title}\n")
    if not heading:
        raise ValueError(f"no section {title!r}")
    return rest.partition("\n## ")[0].strip()


def _of_the_site(target: str) -> str:
    return _PAGES.get(target, target.removeprefix("docs/"))
