"""The page that SGLang's model gateway has of itself, which is none of an engine's.

The gateway answers twice: ``/engine_metrics``, on the port that serves requests, has the pages of all its
engines in one, and is read like any page; ``/metrics``, on a port of its own (29000), has the gateway's own
numbers and tells nothing of the engines. A snapshot of it would be empty, which nobody means.
"""

from __future__ import annotations

from . import _core
from .catalog import sglang
from .errors import NotExposition

__all__ = ["PREFIXES", "refuse_gateway"]

PREFIXES = ("smg_", "sgl_router_")
"""What the names of its metrics begin with: from v0.5.7, and before."""


def refuse_gateway(page: _core.Page | None, *, endpoint: str, elapsed: float) -> None:
    """Looks at a page of which the plan wanted nothing.

    Args:
        page: the page.
        endpoint: where it came from, for the error.
        elapsed: seconds it took, for the error.

    Raises:
        NotExposition: it is the gateway's page of itself.
    """
    names = [sample.name for sample in page.samples] if page is not None else []
    own = [name for name in names if name.startswith(PREFIXES)]
    if own and not any(name.startswith(sglang.PREFIXES) for name in names):
        raise NotExposition(
            f"{endpoint or 'page'}: page is the model gateway's of itself ({own[0]}, ...); expected an "
            "engine's: those of all its engines are at /engine_metrics of the port that serves requests "
            "(parse() reads this one)",
            endpoint=endpoint,
            elapsed=elapsed,
            reason="not_exposition",
        )
