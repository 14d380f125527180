"""Simulated servers for a first look: busy, calm, idle, and one that is not there."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from .fleet import Target
from .simulator import LoadModel, Simulator

__all__ = ["simulated"]

_LIVED = 60  # seconds that a server has lived when it is first seen


@contextmanager
def simulated() -> Iterator[list[Target]]:
    """Starts the servers; their targets."""
    models = {
        "demo-busy": LoadModel(dp=2, seed=1, load=1.0),
        "demo-calm": LoadModel(seed=2, load=0.3),
        "demo-idle": LoadModel(seed=3, load=0.0),
    }
    with ExitStack() as stack:
        targets = []
        for name, model in models.items():
            model.step(_LIVED)
            simulator = stack.enter_context(Simulator(model))
            targets.append(Target(name, simulator.url, labels={"source": "simulated"}))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        targets.append(
            Target("demo-down", f"http://127.0.0.1:{port}/metrics", labels={"source": "simulated"})
        )
        yield targets
