"""Routes whose endpoints read the request and write the answer themselves."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

__all__ = ["PlainRoute"]


class PlainRoute(APIRoute):
    """Calls an endpoint at once that takes a request and nothing else.

    FastAPI's own handler takes a third of the time of such a request. It stays where there is a dependency,
    also one of a router or of an application that includes this route.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        return self.endpoint if _has_nothing_to_solve(handler) else handler


_SOLVED = ("dependencies", "path_params", "query_params", "header_params", "cookie_params", "body_params")


def _has_nothing_to_solve(handler: Callable[..., Any]) -> bool:
    """Is that known? What comes of all that include the route, only its handler knows."""
    known = inspect.getclosurevars(handler).nonlocals if inspect.isfunction(handler) else {}
    return all(getattr(known.get("dependant"), name, None) == [] for name in _SOLVED)
