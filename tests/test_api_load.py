"""The router under load: silent and dripping targets cost nobody an answer, and the application no time."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from faults import sized, then_drip
from servers import answer, eventually, serving, silence, unused_port

SLOW = "libasan" in os.environ.get("LD_PRELOAD", "")
REQUESTS = 400 if SLOW else 2000
QUICK = 0.05  # seconds for a health check
ROUNDS = 3
"""The health check has so many chances to be quick, where others use the machine too."""

TIMEOUTS = ("timeout_connect", "timeout_first_byte", "timeout_body")

APPLICATION = """
    import sys
    import uvicorn
    from sglang_collect.api import RouterSettings, create_app

    settings = RouterSettings(allow=["127.0.0.1/32:1-65535"], timeout=0.5, max_timeout=0.5)
    uvicorn.run(create_app(settings), host="127.0.0.1", port=int(sys.argv[1]), log_level="info")
"""

CALLERS = """
    import asyncio, json, sys

    port, many, urls = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]

    async def ask(n, room):
        url = urls[0] if n % 10 == 0 else urls[1 + n % 2]
        body = json.dumps({"instance_id": f"i{n}", "endpoint": f"{url}?{n}", "timeout": 0.5}).encode()
        head = (
            "POST /api/v1/collect/sglang HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n"
            f"Content-Type: application/json\\r\\nContent-Length: {len(body)}\\r\\n\\r\\n"
        ).encode()
        async with room:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head + body)
            answer = await reader.read()
            writer.close()
        return answer.decode()

    async def main():
        room = asyncio.Semaphore(300)
        return await asyncio.gather(*(ask(n, room) for n in range(many)))

    json.dump(asyncio.run(main()), sys.stdout)
"""


def script(text: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)]


@contextmanager
def application(log: Path) -> Iterator[tuple[int, int]]:
    """The port and the process id of a service."""
    port = unused_port()
    with log.open("wb") as output:
        process = subprocess.Popen(script(APPLICATION, port), stdout=output, stderr=subprocess.STDOUT)

    def listens() -> bool:
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return True
        return False

    try:
        assert eventually(listens), log.read_text()
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(120)


def health(port: int, command: list[str], output: TextIO | None = None) -> tuple[float, float]:
    """Of the 99th of a hundred health checks while a command runs, which writes to `output`: its seconds.

    And those by which a sleep of 5 ms took longer meanwhile: the yardstick.
    """
    times, late = [], []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    with subprocess.Popen(command, stdout=output) as load:
        try:
            while load.poll() is None:
                started = time.perf_counter()
                connection.request("GET", "/health")
                assert connection.getresponse().read() == b'{"status":"ok"}'
                times.append(time.perf_counter() - started)
                asleep = time.perf_counter()
                time.sleep(0.005)
                late.append(time.perf_counter() - asleep - 0.005)
        finally:
            load.kill()
            connection.close()
    assert load.returncode == 0
    return statistics.quantiles(times, n=100)[-1], statistics.quantiles(late, n=100)[-1]


def threads(process: int) -> int:
    with open(f"/proc/{process}/status") as status:
        return int(re.search(r"Threads:\s+(\d+)", status.read())[1])  # type: ignore[index]


def outcome(answer: str) -> str:
    """The status of an answer, and what became of the collection."""
    head, _, body = answer.partition("\r\n\r\n")
    status = head.split(" ")[1]
    if status != "200":
        return status
    response = json.loads(body)
    return "success" if response["success"] else response["error"].partition(":")[0]


def test_two_thousand_requests_are_all_answered_and_the_application_goes_on(tmp_path: Path) -> None:
    log, answers_file = tmp_path / "log", tmp_path / "answers"
    page = sized(b"", length=100_000)
    with (
        serving(answer("sglang:num_requests_running 4\nother:secret 1\n")) as good,
        serving(silence) as silent,
        serving(then_drip(page, b"secret 1\n", seconds=0.1)) as dripping,
        application(log) as (port, process),
    ):
        for _ in range(ROUNDS):
            with answers_file.open("w") as output:
                command = script(CALLERS, port, REQUESTS, good.url, silent.url, dripping.url)
                p99, late = health(port, command, output)
            answers = json.loads(answers_file.read_text())
            outcomes = Counter(outcome(answer) for answer in answers)
            assert outcomes.total() == REQUESTS
            assert set(outcomes) <= {"success", "503", *TIMEOUTS}
            assert outcomes["503"]
            assert sum(outcomes[reason] for reason in TIMEOUTS) > 50
            assert threads(process) < 60
            assert not [answer for answer in answers if "secret" in answer]
            quick = QUICK * (10 if SLOW else 1) + 10 * late
            if p99 < quick:
                break
        assert max(silent.most, dripping.most) <= 32
    assert "secret" not in log.read_text()
    print(f"health p99 {p99:.3f} s beside sleeps {late:.3f} s late; {dict(outcomes)}")
    assert p99 < quick
