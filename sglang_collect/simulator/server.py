"""The simulated server: SGLang's HTTP face over a load model, and the thread that runs it.

What SGLang answers: ``/metrics`` (and anything that begins with it), ``/health``, ``/health_generate``,
``/v1/models``, ``/v1/loads``, ``/model_info`` and ``/server_info`` (both also with ``get_`` before them).

What only the simulator answers: ``GET /simulator/truth``; ``POST /simulator/freeze`` and
``POST /simulator/resume``, which stop and start the clock; ``POST /simulator/step?n=10``, which moves it by
hand. All four answer the truth, so that a page and a truth of the same step can be compared.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

import uvicorn
from prometheus_client import make_asgi_app
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .._listen import listen
from .load import CAPACITY_TOKENS, MAX_RUNNING, SGLANG_VERSION, STEP_SECONDS, Group, LoadModel
from .page import make_registry

__all__ = ["Simulator", "make_app"]

_KEEP_ALIVE_SECONDS = 5
_MOST_STEPS = 3600
_MASK = "********"
_SECTIONS = {
    "memory": "memory",
    "speculative": "spec",
    "lora": "lora",
    "disaggregation": "disagg",
    "queues": "queues",
}


class Simulator:
    """A simulated SGLang server on a thread of its own; a context manager.

    Args:
        model: its load; a ``LoadModel()`` where none is given.
        host: address to listen on.
        port: 0 picks a free one.
        frozen: the model is stepped by hand only, not once a second.

    Attributes:
        url: the URL of its metrics page, once started.
        model: the load model.
    """

    url: str

    def __init__(
        self,
        model: LoadModel | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        frozen: bool = False,
    ) -> None:
        self.model = model or LoadModel()
        self.model.frozen = frozen
        self._address = (host, port)
        self._server = uvicorn.Server(
            uvicorn.Config(
                make_app(self.model),
                loop="asyncio",
                ws="none",
                log_config=None,
                access_log=False,
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=1,
            )
        )

    def step(self, n: int = 1) -> int:
        """Lives ``n`` seconds more at once; the number of steps so far."""
        return self.model.step(n)

    def truth(self) -> dict[str, Any]:
        """What is true of the server now; see ``LoadModel.truth``."""
        return self.model.truth()

    def start(self) -> None:
        """Starts serving; returns once the server answers. Once a simulator.

        Raises:
            OSError: the address cannot be listened on.
        """
        listener, base = listen(*self._address)
        self.url = f"{base}/metrics"
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="sglang-simulator", daemon=True
        )
        self._thread.start()
        while not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("the simulator did not start")
            time.sleep(0.005)

    def stop(self) -> None:
        """Stops serving and closes the port."""
        self._server.should_exit = True
        self._thread.join()

    def __enter__(self) -> Simulator:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def make_app(model: LoadModel) -> ASGIApp:
    """The ASGI application; its lifespan steps the model once a second unless ``model.frozen``."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        clock = asyncio.create_task(_tick(model))
        yield
        clock.cancel()

    answers = _Answers(model)
    routes = [
        Route("/health", answers.health),
        Route("/health_generate", answers.health),
        Route("/v1/models", answers.models),
        Route("/v1/loads", answers.loads),
        Route("/model_info", answers.model_info),
        Route("/get_model_info", answers.model_info),
        Route("/server_info", answers.server_info),
        Route("/get_server_info", answers.server_info),
        Route("/simulator/truth", answers.truth),
        Route("/simulator/freeze", answers.freeze, methods=["POST"]),
        Route("/simulator/resume", answers.resume, methods=["POST"]),
        Route("/simulator/step", answers.step, methods=["POST"]),
    ]
    return _Counted(model, Starlette(routes=routes, lifespan=lifespan))


async def _tick(model: LoadModel) -> None:
    while True:
        await asyncio.sleep(STEP_SECONDS)
        if not model.frozen:
            model.step()


class _Counted:
    """Answers ``/metrics`` and counts every request the way SGLang's middleware does, this one included."""

    def __init__(self, model: LoadModel, app: ASGIApp) -> None:
        self.model = model
        self.app = app
        self.metrics = make_asgi_app(make_registry(model))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith("/simulator/"):
            await self.app(scope, receive, send)
            return
        is_page = scope["path"].startswith("/metrics")
        endpoint = "/metrics" if is_page else scope["path"]
        status = "500"

        async def send_counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = str(message["status"])
            await send(message)

        self.model.http_started(endpoint, scope["method"])
        try:
            await (self.metrics if is_page else self.app)(scope, receive, send_counted)
        finally:
            self.model.http_finished(endpoint, scope["method"], status)


class _Answers:
    """The JSON endpoints, in v0.5.18's shapes."""

    def __init__(self, model: LoadModel) -> None:
        self.model = model

    async def health(self, request: Request) -> Response:
        return Response()

    async def models(self, request: Request) -> Response:
        name = self.model.model_name
        model = {
            "id": name,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "sglang",
            "root": name,
            "parent": None,
            "max_model_len": 131_072,
        }
        return JSONResponse({"object": "list", "data": [model]})

    async def model_info(self, request: Request) -> Response:
        name = self.model.model_name
        return JSONResponse(
            {
                "model_path": name,
                "tokenizer_path": name,
                "is_generation": True,
                "preferred_sampling_params": None,
                "weight_version": "default",
                "has_image_understanding": False,
                "has_audio_understanding": False,
                "model_type": "llama",
                "architectures": ["LlamaForCausalLM"],
                "served_model_name": name,
                "load_format": "auto",
                "reasoning_parser": None,
                "tool_call_parser": None,
            }
        )

    async def server_info(self, request: Request) -> Response:
        model = self.model
        with model.lock:
            states = [_internal_state(model, group) for group in model.groups]
        return JSONResponse(
            {
                "model_path": model.model_name,
                "served_model_name": model.model_name,
                "host": "127.0.0.1",
                "tp_size": model.tp,
                "dp_size": model.dp,
                "pp_size": 1,
                "enable_dp_attention": False,
                "enable_metrics": True,
                "decode_log_interval": 40,
                "api_key": _MASK,
                "admin_api_key": _MASK,
                "status": "ready",
                "max_total_num_tokens": CAPACITY_TOKENS,
                "max_req_input_len": CAPACITY_TOKENS - 6,
                "internal_states": states,
                "version": SGLANG_VERSION,
            }
        )

    async def loads(self, request: Request) -> Response:
        """Query: ``dp_rank``, one rank only; ``include``, sections by comma."""
        include = {part.strip() for part in request.query_params.get("include", "all").split(",")}
        if unknown := include - {"core", "all", *_SECTIONS.values()}:
            return JSONResponse({"detail": f"Unknown sections: {', '.join(sorted(unknown))}"}, 400)
        rank = request.query_params.get("dp_rank")
        now = datetime.now(timezone.utc)
        with self.model.lock:
            loads = [
                _load(self.model, group, include, now.timestamp())
                for group in self.model.groups
                if rank is None or rank == str(group.dp_rank)
            ]
        return JSONResponse(
            {
                "timestamp": now.isoformat(),
                "version": SGLANG_VERSION,
                "accelerator": None,
                "num_accelerators": self.model.tp,
                "loads": loads,
            }
        )

    async def truth(self, request: Request) -> Response:
        return JSONResponse(self.model.truth())

    async def freeze(self, request: Request) -> Response:
        self.model.frozen = True
        return await self.truth(request)

    async def resume(self, request: Request) -> Response:
        self.model.frozen = False
        return await self.truth(request)

    async def step(self, request: Request) -> Response:
        n = request.query_params.get("n", "1")
        if not n.isascii() or not n.isdigit() or not 1 <= int(n[:9]) <= _MOST_STEPS:
            return JSONResponse({"detail": f"n is a number of steps, 1 to {_MOST_STEPS}"}, 400)
        self.model.step(int(n))
        return await self.truth(request)


def _internal_state(model: LoadModel, group: Group) -> dict[str, Any]:
    return {
        "last_gen_throughput": group.gen_throughput,
        "memory_usage": {
            "weight": 15.08,
            "kvcache": model.kv_cache_gb_per_rank,
            "token_capacity": CAPACITY_TOKENS,
            "graph": {"decode": 1.82, "prefill": 0.0},
        },
        "effective_max_running_requests_per_dp": MAX_RUNNING,
    }


def _load(model: LoadModel, group: Group, include: set[str], timestamp: float) -> dict[str, Any]:
    """One data-parallel group's entry of ``/v1/loads``; live numbers, whatever was last reported."""
    waiting_tokens = sum(request.prompt for request in group.waiting)
    load: dict[str, Any] = {
        "timestamp": timestamp,
        "dp_rank": group.dp_rank,
        "num_running_reqs": len(group.running),
        "num_waiting_reqs": len(group.waiting),
        "num_waiting_uncached_tokens": waiting_tokens,
        "num_used_tokens": group.used,
        "num_total_tokens": group.used + waiting_tokens,
        "num_active_tokens": group.used + waiting_tokens,
        "max_total_num_tokens": CAPACITY_TOKENS,
        "max_running_requests": MAX_RUNNING,
        "token_usage": round(group.used / CAPACITY_TOKENS, 4),
        "gen_throughput": round(group.gen_throughput, 2),
        "cache_hit_rate": round(group.cache_hit_rate, 4),
        "utilization": 0.0,
        "total_prefill_uncached_tokens": group.prefill_computed,
        "total_prefill_busy_us": group.prefill_busy,
        "decode_moments": None,
    }
    sections: dict[str, dict[str, Any] | None] = {
        "memory": {
            "weight_gb": 15.08,
            "kv_cache_gb": model.kv_cache_gb_per_rank,
            "graph_gb": 1.82,
            "token_capacity": CAPACITY_TOKENS,
        },
        "speculative": None,
        "lora": None,
        "disaggregation": {
            "mode": "null",
            "prefill_bootstrap_queue_reqs": 0,
            "prefill_inflight_queue_reqs": 0,
            "decode_prealloc_queue_reqs": 0,
            "decode_transfer_queue_reqs": 0,
            "decode_retracted_queue_reqs": 0,
            "kv_transfer_speed_gb_s": 0.0,
            "kv_transfer_latency_ms": 0.0,
        },
        "queues": {"waiting": len(group.waiting), "grammar": 0, "paused": 0, "retracted": 0},
    }
    for name, section in sections.items():
        if section is not None and ("all" in include or _SECTIONS[name] in include):
            load[name] = section
    return load
