"""A built site asks no other host for anything: its pages are whole where there is no network.

python tools/check_site.py build/site
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

_ASKED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href"}
_ONLY_TOLD = {"canonical", "prev", "next"}  # links that a browser does not follow by itself


class _Requests(HTMLParser):
    """Collects what a browser asks for as it shows a page."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        url = values.get(_ASKED.get(tag, ""))
        if url is not None and values.get("rel") not in _ONLY_TOLD:
            self.urls.append(url)


def foreign(site: Path) -> Iterator[str]:
    """What the pages and style sheets of a site ask other hosts for, with the file that does."""
    for page in sorted(site.rglob("*.html")):
        requests = _Requests()
        requests.feed(page.read_text("utf-8"))
        for url in requests.urls:
            if "//" in url and not url.startswith("data:"):
                yield f"{page.relative_to(site)}: {url}"
    for sheet in sorted(site.rglob("*.css")):
        if "url(http" in sheet.read_text("utf-8").replace('"', "").replace("'", ""):
            yield f"{sheet.relative_to(site)}: a style sheet that asks another host"


def main() -> int:
    site = Path(sys.argv[1])
    if not (site / "index.html").is_file():
        print(f"{site}: no site")
        return 1
    found = list(foreign(site))
    for line in found:
        print(line)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
