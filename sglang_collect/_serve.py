"""What ``sglang-collect serve`` runs: the application of ``api`` under uvicorn."""

from __future__ import annotations

import logging
import math
import secrets
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import uvicorn
from fastapi import Depends, HTTPException, Request

from ._listen import listen
from .api import RouterSettings, create_app

__all__ = ["require_token", "serve"]


def require_token(token: str) -> Callable[[Request], Awaitable[None]]:
    """A dependency that lets only those callers in who send the bearer token.

    It is a function because FastAPI 0.113 resolves the annotations of nothing else.
    """
    expected = f"Bearer {token}".encode()

    async def check(request: Request) -> None:
        sent = request.headers.get("authorization", "").encode("latin-1")
        if not secrets.compare_digest(sent, expected):
            raise HTTPException(401, "a bearer token is required", {"WWW-Authenticate": "Bearer"})

    return check


def serve(settings: Mapping[str, Any], *, token: str | None, host: str, port: int) -> None:
    """Serves until the process is interrupted; prints the URL first.

    Args:
        settings: keywords of ``RouterSettings``.
        token: what callers must send as ``Authorization: Bearer``; None lets everybody in.
        host, port: where to listen.

    Raises:
        ValueError: a setting cannot be used.
        OSError: the address cannot be listened on.
    """
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    dependencies = [] if token is None else [Depends(require_token(token))]
    router_settings = RouterSettings(dependencies=dependencies, **settings)
    app = create_app(router_settings)
    listener, url = listen(host, port)
    print(url, flush=True)
    # A client that has stopped reading its stream must not keep the process alive.
    grace = math.ceil(router_settings.max_timeout) + 1
    config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=grace)
    uvicorn.Server(config).run(sockets=[listener])
