"""A load-aware router: tells a gateway which rank of which server has the least to do.

    python examples/load_router.py http://10.1.0.7:30000 http://10.1.0.8:30000
    curl -s http://127.0.0.1:8000/route     # {"server": "http://10.1.0.7:30000", "dp_rank": 1, "load": 3}

A page is some moments old when it is used, and a burst of requests would all go to the rank that was idle
then. So what was sent to a rank counts until the next page of its server shows it.
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


class Route(BaseModel):
    """Where to send the next request."""

    server: str
    dp_rank: int | None
    """The data-parallel group; None where the server has one"""
    load: int
    """Requests that run and wait there"""


class Balancer:
    """The load of every rank, as last read and with what was sent since."""

    def __init__(self) -> None:
        self._routes: dict[str, list[Route]] = {}

    def update(self, results: list[sc.ScrapeResult]) -> None:
        """Takes the newest loads. A server that is down gets nothing more."""
        for result in results:
            server = result.target.instance_id
            self._routes[server] = [] if result.snapshot is None else self._ranks(server, result.snapshot)

    @staticmethod
    def _ranks(server: str, snapshot: sc.SGLangMetricsSnapshot) -> list[Route]:
        loads = {rank.dp_rank: (rank.running or 0) + (rank.waiting or 0) for rank in snapshot.ranks}
        queues = snapshot.queues
        whole = {None: (queues.running or 0) + (queues.backlog or 0)}
        return [Route(server=server, dp_rank=rank, load=load) for rank, load in (loads or whole).items()]

    def take(self) -> Route | None:
        """The least loaded rank, which has one request more from now on; None where no server is up."""
        routes = [route for routes in self._routes.values() for route in routes]
        if not routes:
            return None
        least = min(routes, key=lambda route: route.load)
        least.load += 1
        return least


def make_app(servers: Sequence[str], *, interval: float = 0.25) -> FastAPI:
    """The router's service; ``servers`` are base URLs, read every ``interval`` seconds."""
    fleet = sc.Fleet([sc.Target(server, f"{server}/metrics") for server in servers], timeout=2.0)
    balancer = Balancer()

    async def keep_reading() -> None:
        async for results in fleet.watch(interval):
            balancer.update(results)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with fleet:
            balancer.update(await fleet.ascrape())
            reading = asyncio.create_task(keep_reading())
            yield
            reading.cancel()

    app = FastAPI(title="load router", lifespan=lifespan)

    @app.get("/route")
    async def route() -> Route:
        taken = balancer.take()
        if taken is None:
            raise HTTPException(503, "no server is up")
        return taken

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Picks the least loaded rank of SGLang servers.")
    parser.add_argument("servers", nargs="+", metavar="URL", help="base URL of a server")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    uvicorn.run(make_app(args.servers), port=args.port)
