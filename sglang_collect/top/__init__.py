"""``sglang-collect top``: a fleet on a terminal screen, live.

``rows`` knows what each target's last scrapes said, ``cells`` lays it out in characters, ``detail`` does so
for one server in depth, ``plain`` prints it once. None of them knows of a screen: ``app`` and ``lines`` are
that, and need Textual (the ``top`` extra). ``demo`` has servers to look at.

An absent value is a dash, never 0.
"""

from __future__ import annotations

__all__ = ["SORTS"]

SORTS = (
    *("target", "name", "state", "age", "running", "waiting", "kv", "hit", "tokens"),
    *("ttft-p50", "ttft-p95", "itl-p50", "itl-p95"),
)
"""What servers can be sorted by; ``target`` is the order they were given in."""
