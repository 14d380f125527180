"""Fixtures that more than one room uses. `sglang_simulator` comes from the package's own pytest plugin."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of recorded pages: beside the repository, or what SGLANG_COLLECT_DATA names."""
    folder = Path(os.environ.get("SGLANG_COLLECT_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no recorded pages: {folder} is missing")
    return folder


@pytest.fixture
def client() -> Iterator[TestClient]:
    """A client of the whole application, which may scrape any loopback port."""
    from fastapi.testclient import TestClient

    from sglang_collect.api import RouterSettings, create_app

    with TestClient(create_app(RouterSettings(allow=["127.0.0.1/32:1-65535"]))) as client:
        yield client
