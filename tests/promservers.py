"""A Prometheus of one's own, and what it says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from programs import running

#: What it says when it answers, in either order.
READY = "Server is ready to receive web requests"
LISTENING = re.compile(r'msg="Listening on" address=127\.0\.0\.1:(\d+)\s')


@contextmanager
def prometheus(folder: Path, config: dict[str, Any]) -> Iterator[int]:
    """The port on which a Prometheus answers."""
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    command = (
        "prometheus",
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        "--web.listen-address=127.0.0.1:0",
        "--scrape.discovery-reload-interval=100ms",
    )
    with running(command, folder) as program:
        program.wait_until(lambda: READY in program.said)
        program.wait_until(lambda: LISTENING.search(program.said) is not None)
        yield int(LISTENING.findall(program.said)[0])


def query(port: int, promql: str, moment: float) -> list[dict[str, Any]]:
    """What an expression gives at a moment: series, each with its labels and its value."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request(
            "POST",
            "/api/v1/query",
            urlencode({"query": promql, "time": f"{moment:.3f}"}),
            {"Content-Type": "application/x-www-form-urlencoded"},
        )
        told = json.loads(connection.getresponse().read())
    assert told["status"] == "success", told
    result: list[dict[str, Any]] = told["data"]["result"]
    return result
