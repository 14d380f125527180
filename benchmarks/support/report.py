"""Where a benchmark ran, and tables that it writes into a README."""

from __future__ import annotations

import platform
from pathlib import Path

__all__ = ["cpu_name", "write_between"]


def cpu_name() -> str:
    """The model of the CPU, as far as Linux tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def write_between(path: Path, name: str, text: str) -> None:
    """Writes between the comments of that name, ``<!-- name -->`` and ``<!-- /name -->``."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    before, found, rest = path.read_text().partition(begin)
    _, also_found, after = rest.partition(end)
    if not found or not also_found:
        raise SystemExit(f"{path} has no lines {begin} and {end} to write between. The text:\n\n{text}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")
