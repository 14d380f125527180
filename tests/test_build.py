"""What setup.py answers where what it needs is not there, and which wheels are built of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from platform import machine

import pytest

ROOT = Path(__file__).resolve().parent.parent


def build_with_curl_config(tmp_path: Path, answer: str | None) -> str:
    pytest.importorskip("setuptools", "77")
    script = tmp_path / "curl-config"
    if answer is not None:
        script.write_text(f"#!/bin/sh\necho '{answer}'\n")
        script.chmod(0o755)
    done = subprocess.run(
        [
            sys.executable,
            "setup.py",
            "-q",
            "build_ext",
            "--build-temp",
            str(tmp_path),
            "--build-lib",
            str(tmp_path),
        ],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    return done.stderr


def test_an_old_libcurl_is_refused_in_one_line(tmp_path: Path) -> None:
    error = build_with_curl_config(tmp_path, "libcurl 7.87.0")
    assert error.startswith("error: libcurl 7.87.0 is too old: sglang-collect needs libcurl 7.88 or newer")
    assert error.count("\n") == 1


def test_a_missing_curl_config_names_the_package_that_has_it(tmp_path: Path) -> None:
    error = build_with_curl_config(tmp_path, None)
    assert error.startswith("error: curl-config was not found")
    assert "libcurl4-openssl-dev" in error
    assert error.count("\n") == 1


def test_a_compiler_that_fails_is_told_with_all_that_is_needed(tmp_path: Path) -> None:
    error = build_with_curl_config(tmp_path, "libcurl 7.88.1")  # nothing else is in its PATH
    assert "sglang-collect needs a C compiler" in error.splitlines()[-1]
    assert "libcurl4-openssl-dev zlib1g-dev" in error


@pytest.mark.parametrize(
    ("platform", "systems"),
    [
        (
            "linux",
            [f"{libc}_{arch}" for libc in ("manylinux", "musllinux") for arch in ("x86_64", "aarch64")],
        ),
        ("macos", ["macosx_arm64" if machine() == "aarch64" else f"macosx_{machine()}"]),
    ],
)
def test_cibuildwheel_knows_what_to_build(platform: str, systems: list[str]) -> None:
    pytest.importorskip("cibuildwheel")
    told = subprocess.run(
        [
            sys.executable,
            "-m",
            "cibuildwheel",
            "--platform",
            platform,
            "--print-build-identifiers",
            str(ROOT),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    versions = [f"cp3{minor}" for minor in range(10, 15)]
    assert sorted(told.split()) == sorted(f"{version}-{system}" for version in versions for system in systems)
