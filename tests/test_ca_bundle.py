"""Where no ca_file is given, the system's authorities are trusted, wherever the system keeps them.

Each test runs with mounts of its own, where /etc/ssl is empty but for what the test puts there, as on a
system that a libcurl built elsewhere does not know.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import authority, server_context
from servers import answer, serving

SCRAPE = """
import sys, sglang_collect as sc
try:
    print(sc.scrape(sys.argv[1], timeout=60).system_metrics.num_requests_running)
except sc.TLSError as error:
    print(error.reason)
"""


@pytest.fixture
def way_in() -> list[str]:
    """The command that runs another one with mounts of its own."""
    for flags in ("-m", "-Urm"):
        command = ["unshare", flags]
        trial = subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/etc/ssl"], capture_output=True)
        if trial.returncode == 0:
            return command
    pytest.skip("the system permits no mounts")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of a server whose authority is in ca.pem."""
    ca = authority()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with serving(answer("sglang:num_requests_running 4\n"), tls=server_context(ca)) as server:
        yield f"https://127.0.0.1:{server.port}/metrics"


def scraped(
    way_in: list[str], url: str, set_up: str, ca: Path, *, environment: dict[str, str] | None = None
) -> str:
    """What a scrape says after the shell command ``set_up``, in which $1 is the file of the authority."""
    script = f'mount -t tmpfs none /etc/ssl && {set_up} && shift && exec "$@"'
    command = [*way_in, "sh", "-ec", script, "sh", str(ca), sys.executable, "-c", SCRAPE, url]
    env = {**os.environ, **(environment or {})}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout.strip()


@pytest.mark.parametrize(
    "path", ["/etc/ssl/certs/ca-certificates.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"]
)
def test_the_authorities_of_the_system_are_found(
    path: str, way_in: list[str], server: str, tmp_path: Path
) -> None:
    set_up = f'mkdir -p {Path(path).parent} && cp "$1" {path}'
    assert scraped(way_in, server, set_up, tmp_path / "ca.pem") == "4"


def test_a_system_without_authorities_trusts_nobody(way_in: list[str], server: str, tmp_path: Path) -> None:
    reason = scraped(way_in, server, "true", tmp_path / "ca.pem")
    assert reason in ("tls_untrusted", "tls_config")


def test_the_environment_names_no_authorities(way_in: list[str], server: str, tmp_path: Path) -> None:
    ca = str(tmp_path / "ca.pem")
    named = {
        "SSL_CERT_FILE": ca,
        "CURL_CA_BUNDLE": ca,
        "SSL_CERT_DIR": str(tmp_path),
        "OPENSSL_CONF": "/dev/null",
    }
    reason = scraped(way_in, server, "true", tmp_path / "ca.pem", environment=named)
    assert reason in ("tls_untrusted", "tls_config")
