"""Watches one server for a while, and draws what it did as a PNG.

    python examples/plot_window.py http://10.1.0.7:30000/metrics --seconds 60 --out window.png

Above, requests and tokens over time. Below, the latencies of the whole window: a quantile is only known to
be inside its bucket, which the bars of its mark span.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

import sglang_collect as sc

QUANTILES = ("p50", "p90", "p95", "p99")


def record(url: str, *, seconds: float, interval: float = 1.0) -> list[sc.ScrapeResult]:
    """The good scrapes of ``seconds`` seconds, one an interval.

    Raises:
        ScrapeError: the server cannot be read at all.
    """
    results: list[sc.ScrapeResult] = []
    with sc.Fleet([sc.Target(url, url)], timeout=interval) as fleet:
        for [result] in fleet.watch(interval):
            if result.up:
                results.append(result)
            elif not results and result.error is not None:
                raise result.error
            if results and (result.started - results[0].started).total_seconds() >= seconds:
                return results
    return results


def draw(results: list[sc.ScrapeResult]) -> Figure:
    """A picture of the window from the first result to the last."""
    snapshots = [result.snapshot for result in results if result.snapshot is not None]
    window = snapshots[-1].since(snapshots[0])
    figure = Figure(figsize=(10, 6), layout="constrained")
    above, below = figure.subplots(2)
    draw_load(above, snapshots)
    draw_latency(below, window.latency)
    rate = window.generation_tokens_per_second
    figure.suptitle(
        f"{snapshots[-1].instance_id}, {window.seconds:.0f} s"
        + ("" if rate is None else f", {rate:.0f} tokens/s")
        + (", restarted" if window.restarted else "")
    )
    return figure


def draw_load(axes: Axes, snapshots: list[sc.SGLangMetricsSnapshot]) -> None:
    """Requests now, and tokens generated since the snapshot before."""
    seconds = [(one.timestamp - snapshots[0].timestamp).total_seconds() for one in snapshots]
    for label, numbers in (
        ("running", [one.queues.running for one in snapshots]),
        ("waiting", [one.queues.backlog for one in snapshots]),
    ):
        axes.plot(seconds, [float("nan") if n is None else n for n in numbers], label=label)
    rates = [later.since(before).generation_tokens_per_second for before, later in pairwise(snapshots)]
    tokens = axes.twinx()
    tokens.plot(seconds[1:], [float("nan") if n is None else n for n in rates], color="grey", linestyle=":")
    tokens.set_ylabel("tokens/s (dotted)")
    axes.set_xlabel("seconds")
    axes.set_ylabel("requests")
    axes.set_ylim(bottom=0)
    axes.legend(loc="center left", bbox_to_anchor=(1.1, 0.5))


def draw_latency(axes: Axes, latency: sc.SGLangLatency) -> None:
    """Quantiles in seconds, each with the bounds of its bucket."""
    for label, distribution in (
        ("first token", latency.time_to_first_token),
        ("between tokens", latency.inter_token),
        ("whole request", latency.end_to_end),
    ):
        if distribution is None:
            continue
        for at, name in enumerate(QUANTILES):
            value = getattr(distribution, name)
            low, high = distribution.resolution[name]
            errors = [[value - (low or 0)], [(value if high is None else high) - value]]
            mark = axes.errorbar(at, value, yerr=errors, fmt="o", capsize=4, color=COLOURS[label])
            if at == 0:
                mark.set_label(f"{label} ({distribution.count})")
    axes.set_xticks(range(len(QUANTILES)), QUANTILES)
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("seconds")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))


COLOURS = {"first token": "tab:blue", "between tokens": "tab:orange", "whole request": "tab:green"}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draws what an SGLang server does in a while.")
    parser.add_argument("url", metavar="URL", help="metrics page of the server")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--interval", type=float, default=1.0)
    parser.add_argument("--out", type=Path, default=Path("window.png"))
    args = parser.parse_args()
    draw(record(args.url, seconds=args.seconds, interval=args.interval)).savefig(args.out)
    print(args.out)
