"""The page of a fleet, which ``create_app`` serves at ``/``: files, and what they may do in a browser.

The files hold no data. What they show comes from ``GET /api/v1/fleet/events``, which asks for what its
router's dependencies ask for. ``vendor`` is uPlot, as ``tools/vendor_uplot.sh`` fetched it.
"""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from typing import NamedTuple

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

__all__ = ["FILES", "add_dashboard"]

_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
    "LICENSE": "text/plain; charset=utf-8",
}

FILES = (
    *("index.html", "style.css", "icon.svg"),
    *("app.js", "charts.js", "dom.js", "fleet.js", "format.js", "histograms.js", "server.js", "stream.js"),
    *("vendor/uPlot.esm.js", "vendor/uPlot.min.css", "vendor/uPlot.LICENSE"),
)
"""All there is, below ``/dashboard/``."""

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",  # text never becomes HTML
        "trusted-types 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class _File(NamedTuple):
    content: bytes
    media_type: str
    etag: str


@functools.cache
def _file(name: str) -> _File:
    content = resources.files(__name__).joinpath(name).read_bytes()
    return _File(content, _TYPES[name.rpartition(".")[2]], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def add_dashboard(app: Starlette) -> None:
    """Has an application serve the page at ``/``, and its files below ``/dashboard/``."""
    app.add_route("/", _answer, include_in_schema=False)
    app.add_route("/dashboard/{name:path}", _answer, include_in_schema=False)


async def _answer(request: Request) -> Response:
    name = request.path_params.get("name", "index.html")
    if name not in FILES:
        return Response("Not Found", 404, media_type="text/plain")
    file = _file(name)
    headers = {**_HEADERS, "ETag": file.etag}
    if request.headers.get("if-none-match") == file.etag:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)
