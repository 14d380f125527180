"""What an editor shows: signatures and docstrings of everything public, with units."""

from __future__ import annotations

import contextlib
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from programs import unwatched
from pydantic import BaseModel
from tools_of import ROOT, load_tool

import sglang_collect as sc
from sglang_collect import _core
from sglang_collect.aggregate import FleetAggregate

STUB = ROOT / "sglang_collect" / "_core.pyi"
TYPES = [value for value in vars(_core).values() if isinstance(value, type)]
MODELS = [
    value
    for value in (*(getattr(sc, name) for name in sc.__all__), FleetAggregate)
    if isinstance(value, type) and issubclass(value, BaseModel)
]

# ------------------------------------------------------------------- extension


def test_the_stub_has_the_docstrings_of_the_extension() -> None:
    pytest.importorskip("ruff")  # which lays it out
    text = STUB.read_text(encoding="utf-8")
    assert load_tool("make_stub").stub(text) == text, "run tools/make_stub.py"


def test_a_docstring_in_the_stub_is_replaced_and_a_missing_one_made() -> None:
    pytest.importorskip("ruff")
    text = STUB.read_text(encoding="utf-8")
    bare = re.sub(r'"""int: HTTP status[^"]*"""', '"""Something else."""', text)
    bare = bare.replace('"""float: seconds from submission to the end."""', "...")
    assert bare.count("Something else.") == 1
    assert bare != text
    assert load_tool("make_stub").stub(bare) == text


@pytest.mark.parametrize("kind", TYPES, ids=lambda kind: kind.__name__)
def test_all_that_a_type_of_the_extension_has_says_what_it_is(kind: type) -> None:
    assert inspect.getdoc(kind)
    for name, value in vars(kind).items():
        if name.startswith("_"):
            continue
        assert inspect.getdoc(value), name
        if callable(value):
            assert inspect.signature(value), name
        elif not inspect.isfunction(value):
            # A property begins with its type, since nothing else tells of it at run time.
            assert re.match(r"[\w.|\[\], ]+( of float64)?: ", inspect.getdoc(value) or ""), name


# ---------------------------------------------------------------------- models


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_of_a_model_is_described(model: type[BaseModel]) -> None:
    assert model.__doc__
    for name, field in model.model_fields.items():
        assert field.description, name


UNITLESS = {
    (sc.PrometheusMetric, "value"),
    *((sc.Distribution, name) for name in sc.Distribution.model_fields),  # that of what holds it
}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_the_unit_of_a_number_stands_in_its_name_or_its_description(model: type[BaseModel]) -> None:
    for name, field in model.model_fields.items():
        if "float" in str(field.annotation) and (model, name) not in UNITLESS:
            told = f"{name} {field.description}"
            assert re.search(r"[Ss]econd|bytes|0 to 1|\bs\b|_rate|Tokens|requests", told), told


# ---------------------------------------------------------------------- editor

PROGRAM = """\
import sglang_collect as sc

snapshot = sc.scrape("http://127.0.0.1:30000/metrics")
snapshot.kv_cache.usage_ratio
snapshot.latency.time_to_first_token
sc.parse(b"").value
snapshot.since(snapshot).requests_per_second
"""

SHOWN = {
    "scrape": "seconds for the whole scrape",
    "usage_ratio": "Used part of the tokens, 0 to 1",
    "time_to_first_token": "Arrival to first token, s",
    "value": "Raises LookupError where there",
    "since": "What happened between an earlier snapshot",
    "requests_per_second": "Finished requests",
}


class LanguageServer:
    """A pyright that an editor would talk to."""

    def __init__(self, root: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pyright.langserver", "--stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=unwatched(),
        )
        self._id = 0
        folders = [{"uri": root.as_uri(), "name": "program"}]
        self.ask("initialize", processId=None, workspaceFolders=folders, capabilities={})
        self.tell("initialized")

    def tell(self, method: str, **params: Any) -> None:
        self._send({"method": method, "params": params})

    def ask(self, method: str, **params: Any) -> Any:
        self._id += 1
        self._send({"id": self._id, "method": method, "params": params})
        while True:
            message = self._receive()
            if message.get("id") == self._id and "method" not in message:
                return message["result"]
            if "id" in message:  # a question of the server's
                self._send({"id": message["id"], "result": [None] if "config" in message["method"] else None})

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self._process.stdin is not None
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        self._process.stdin.flush()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        length = 0
        while line := self._process.stdout.readline().strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        message: dict[str, Any] = json.loads(self._process.stdout.read(length))
        return message


@contextlib.contextmanager
def language_server(root: Path) -> Iterator[LanguageServer]:
    server = LanguageServer(root)
    try:
        yield server
    finally:
        server.close()


def test_an_editor_shows_what_a_name_means(tmp_path: Path) -> None:
    pytest.importorskip("pyright")
    file = tmp_path / "program.py"
    file.write_text(PROGRAM)
    environment = Path(sys.prefix)
    config = {
        "extraPaths": [str(Path(sc.__file__).parent.parent)],
        "venvPath": str(environment.parent),
        "venv": environment.name,
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(config))
    with language_server(tmp_path) as server:
        document = {"uri": file.as_uri(), "languageId": "python", "version": 1, "text": PROGRAM}
        server.tell("textDocument/didOpen", textDocument=document)
        for line, text in enumerate(PROGRAM.splitlines()):
            for word in re.finditer(r"\w+", text):
                if word[0] not in SHOWN:
                    continue
                position = {"line": line, "character": word.start()}
                hover = server.ask(
                    "textDocument/hover", textDocument={"uri": file.as_uri()}, position=position
                )
                assert SHOWN[word[0]] in hover["contents"]["value"].replace("&nbsp;", " "), word[0]
