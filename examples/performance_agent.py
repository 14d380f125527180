"""A performance agent: the package's service, and beside its numbers what to do about them.

    SGLANG_SERVERS="gpu1=http://10.1.0.7:30000/metrics gpu2=http://10.1.0.8:30000/metrics" \
        python examples/performance_agent.py
    curl -s http://127.0.0.1:8000/api/v1/metrics/sglang/gpu1     # the snapshot
    curl -s http://127.0.0.1:8000/advice/gpu1                    # what it means
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

import sglang_collect as sc
from sglang_collect.api import RouterSettings, create_router


class Advice(BaseModel):
    """What the agent thinks of one server; nothing to do where ``advice`` is empty."""

    instance_id: str
    age: float
    """Seconds since the numbers were read"""
    advice: list[str]


def advise(now: sc.SGLangMetricsSnapshot, window: sc.SGLangWindow | None) -> Iterator[str]:
    """What an operator would say. A number that the page does not have, None, gives no advice."""
    usage, backlog = now.kv_cache.usage_ratio, now.queues.backlog or 0
    if usage is not None and usage > 0.9 and backlog:
        yield f"KV cache {usage:.0%} full and {backlog} requests wait: add a server, or shorten contexts"
    elif usage is not None and backlog > 2 * (now.queues.running or 0):
        yield f"{backlog} requests wait and memory is left: raise --max-running-requests"
    if window is None:
        return
    if window.cache_hit_rate is not None and window.cache_hit_rate < 0.1:
        yield f"cache hit rate {window.cache_hit_rate:.0%}: send prompts of one prefix to one server"
    first_token = window.latency.time_to_first_token
    if first_token is not None and first_token.p95 is not None and first_token.p95 > 2:
        yield f"one request in 20 waits {first_token.p95:.1f} s for its first token"
    if window.restarted:
        yield f"it began again in the last {window.seconds:.0f} s"


def make_app(servers: Mapping[str, str], *, interval: float = 5.0) -> FastAPI:
    """An agent for these servers, metrics URLs by name, read every ``interval`` seconds."""
    fleet = sc.Fleet([sc.Target(name, url) for name, url in servers.items()], timeout=min(interval, 10))

    async def keep_reading() -> None:
        async for _ in fleet.watch(interval):
            pass  # fleet.latest has what came

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with fleet:
            await fleet.ascrape()
            reading = asyncio.create_task(keep_reading())
            yield
            reading.cancel()

    app = FastAPI(title="performance agent", lifespan=lifespan)
    app.include_router(create_router(RouterSettings(instances=servers)), prefix="/api/v1")

    @app.get("/advice/{instance_id}")
    async def advice(instance_id: str) -> Advice:
        result = fleet.latest.get(instance_id)
        if result is None:
            raise HTTPException(404, "not a server of this agent")
        if result.snapshot is None:
            raise HTTPException(503, f"the server is down: {result.error}")
        found = list(advise(result.snapshot, result.window))
        return Advice(instance_id=instance_id, age=result.age or 0.0, advice=found)

    return app


if __name__ == "__main__":
    named = (entry.split("=", 1) for entry in os.environ["SGLANG_SERVERS"].split())
    uvicorn.run(make_app(dict(named)))
