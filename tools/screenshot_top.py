"""Takes the pictures of `sglang-collect top` for the documentation: docs/images/top.svg, top-detail.svg.

    python tools/screenshot_top.py [--seconds 240]

They are of simulated servers, watched for as long as a sparkline is.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import socket
from contextlib import ExitStack
from pathlib import Path

import sglang_collect as sc
from sglang_collect.simulator import LoadModel, Simulator
from sglang_collect.top.app import TopApp
from sglang_collect.top.rows import View

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
LOADS = (0.9, 0.6, 1.0, 0.75, 0.3, 0.0)


def save(app: TopApp, name: str) -> None:
    """The screen as a file that asks for no other: its font is whatever the reader has."""
    picture = re.sub(r"@font-face \{.*?\}\s*", "", app.export_screenshot(), flags=re.DOTALL)
    IMAGES.mkdir(parents=True, exist_ok=True)
    (IMAGES / f"{name}.svg").write_text(picture.rstrip() + "\n", encoding="utf-8")


async def take(targets: list[sc.Target], seconds: float) -> None:
    with sc.Fleet(targets, timeout=2.0) as fleet:
        app = TopApp(fleet, interval=1.0, window=10.0, view=View())
        async with app.run_test(size=(112, 18)) as pilot:
            await pilot.pause(seconds)
            save(app, "top")
            await pilot.resize_terminal(100, 36)
            await pilot.press("enter")
            await pilot.pause(1.0)
            save(app, "top-detail")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=240.0)
    args = parser.parse_args()
    with ExitStack() as stack:
        targets = []
        for number, load in enumerate(LOADS, start=1):
            model = LoadModel(dp=4 if number == 1 else 1, seed=number, load=load)
            model.step(100)
            simulator = stack.enter_context(Simulator(model))
            targets.append(sc.Target(f"sglang-{number:03}", simulator.url))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        targets.append(sc.Target(f"sglang-{len(targets) + 1:03}", f"http://127.0.0.1:{port}/metrics"))
        asyncio.run(take(targets, args.seconds))


if __name__ == "__main__":
    main()
