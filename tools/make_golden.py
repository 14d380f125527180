"""Writes the golden pages tests/data/*.prom and what is true of them, tests/data/*.truth.json.

    python tools/make_golden.py [FOLDER]

A test writes them again and compares, so a change of the simulator shows as a change of its pages.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sglang_collect.simulator import LoadModel, render_page

FOLDER = Path(__file__).parent.parent / "tests" / "data"
SERVERS: dict[str, tuple[dict[str, Any], int]] = {
    "simulated-idle-fresh": ({"load": 0, "seed": 1}, 0),
    "simulated-idle-30s": ({"load": 0, "seed": 1}, 30),
    "simulated-tp1-busy": ({"load": 0.9, "seed": 1}, 120),
    "simulated-dp2-tp2": ({"dp": 2, "tp": 2, "load": 0.8, "seed": 2}, 60),
}
"""Options and steps by name."""


def golden_files() -> Iterator[tuple[str, bytes]]:
    """Name and content of every golden file. A page is the answer to its server's second scrape."""
    for name, (options, steps) in SERVERS.items():
        model = LoadModel(**options)
        model.step(steps)
        model.http_started("/metrics", "GET")
        model.http_finished("/metrics", "GET", "200")
        model.http_started("/metrics", "GET")
        yield f"{name}.prom", render_page(model)
        yield f"{name}.truth.json", json.dumps(model.truth(), indent=1).encode() + b"\n"


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for name, content in golden_files():
        (folder / name).write_bytes(content)


if __name__ == "__main__":
    main()
