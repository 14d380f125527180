"""An autoscaler's signal: the load of a fleet as the JSON that KEDA's metrics-api scaler reads.

    python examples/autoscaler_signal.py http://10.1.0.7:30000/metrics http://10.1.0.8:30000/metrics
    curl -s http://127.0.0.1:8000/signal

In a ScaledObject, with 48 requests a server as the goal::

    triggers:
      - type: metrics-api
        metricType: AverageValue
        metadata:
          url: http://autoscaler-signal:8000/signal
          valueLocation: requests
          targetValue: "48"
    fallback:
      failureThreshold: 3
      replicas: 4

While no server can be read the answer is 503, and KEDA takes the fallback: a fleet that nobody sees is not
an idle one. Servers that could not be read count like the mean of the others, for the same reason.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

import sglang_collect as sc


class Signal(BaseModel):
    """The load of a fleet."""

    requests: float
    """Requests that run and wait, of all servers"""
    kv_usage: float | None
    """Used part of the KV cache, 0 to 1, of the servers that were read; None where none tells"""
    servers: int
    """Servers the fleet has"""
    unread: list[str]
    """Those that were not read"""


def signal_of(fleet: sc.Fleet, *, max_age: float) -> Signal | None:
    """What the servers read in the last ``max_age`` seconds say; None where there is none."""
    whole = fleet.aggregate(max_age=max_age)
    if not whole.fresh:
        return None
    requests = (whole.queues.running or 0) + (whole.queues.backlog or 0)
    return Signal(
        requests=requests * whole.targets / whole.fresh,
        kv_usage=whole.kv_cache.usage_ratio,
        servers=whole.targets,
        unread=whole.stale,
    )


def make_app(urls: Sequence[str], *, interval: float = 1.0) -> FastAPI:
    """The signal's service; ``urls`` are metrics pages, read every ``interval`` seconds."""
    fleet = sc.Fleet([sc.Target(url, url) for url in urls], timeout=2.0)

    async def keep_reading() -> None:
        async for _ in fleet.watch(interval):
            pass  # the fleet keeps what came

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with fleet:
            await fleet.ascrape()
            reading = asyncio.create_task(keep_reading())
            yield
            reading.cancel()

    app = FastAPI(title="autoscaler signal", lifespan=lifespan)

    @app.get("/signal")
    async def signal() -> Signal:
        found = signal_of(fleet, max_age=max(5.0, 3 * interval))
        if found is None:
            raise HTTPException(503, "no server could be read")
        return found

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Tells an autoscaler how loaded SGLang servers are.")
    parser.add_argument("urls", nargs="+", metavar="URL", help="metrics page of a server")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    uvicorn.run(make_app(args.urls), host="0.0.0.0", port=args.port)
