"""A server that behaves like SGLang v0.5.18's ``/metrics``, with made-up load and known true values.

For tests, dashboards and autoscalers without a GPU::

    from sglang_collect.simulator import LoadModel, Simulator

    with Simulator(LoadModel(dp=2, load=0.8), frozen=True) as simulator:
        simulator.step(60)  # a minute of its life
        snapshot = sglang_collect.scrape(simulator.url)
        assert snapshot.system_metrics.num_requests_running == simulator.truth()["server_level"]["running"]

``load`` invents the requests, ``page`` writes what they leave on the metrics page, ``server`` serves it.
Where it departs from a real server: one step is one second and one report, so that gauges are never older
than a second; each request is decoded token by token; non-streaming requests have no late first token.

It needs prometheus-client, starlette and uvicorn (the ``cli`` extra).
"""

from __future__ import annotations

from .load import LoadModel
from .page import render_page
from .server import Simulator

__all__ = ["LoadModel", "Simulator", "render_page"]
