"""Everything public says what it is, what it takes and what it raises."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import pytest
from pydantic import BaseModel
from tools_of import ROOT

import sglang_collect as sc

MODULES = ("api", "discovery")
OPTIONS = frozenset(inspect.signature(sc.scrape).parameters)
"""What a docstring need not repeat that points to ``scrape``."""


def public() -> Iterator[tuple[str, Any]]:
    """Every public class and function, by name."""
    for name in sc.__all__:
        yield name, getattr(sc, name)
    for name in MODULES:
        module = importlib.import_module(f"sglang_collect.{name}")
        for each in module.__all__:
            yield f"{name}.{each}", getattr(module, each)


CLASSES = {value: name for name, value in public() if isinstance(value, type)}
FUNCTIONS = {name: value for name, value in public() if callable(value) and not isinstance(value, type)}


def methods() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Public functions, and public methods that our classes have of their own."""
    yield from FUNCTIONS.items()
    for owner, name in CLASSES.items():
        for method, value in vars(owner).items():
            function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            if not method.startswith("_") and isinstance(function, FunctionType):
                yield f"{name}.{method}", function


METHODS = dict(methods())


def told(doc: str, parameter: str) -> bool:
    """In a section of arguments, or in the text."""
    if "``scrape``" in doc and parameter in OPTIONS:
        return True
    return re.search(rf"^ *{parameter}:|``{parameter}(=.*?)?``", doc, re.MULTILINE) is not None


@pytest.mark.parametrize("name", [*CLASSES.values(), *METHODS])
def test_it_has_a_docstring_that_begins_with_a_sentence(name: str) -> None:
    found = METHODS.get(name) or next(owner for owner, of in CLASSES.items() if of == name)
    doc = inspect.getdoc(found) if isinstance(found, FunctionType) else found.__doc__
    assert doc, name
    assert re.match(r"\S.*?[.:;]", doc, re.DOTALL), doc


@pytest.mark.parametrize("name", METHODS)
def test_a_docstring_tells_of_every_parameter(name: str) -> None:
    function = METHODS[name]
    doc = inspect.getdoc(function) or ""
    parameters = [each for each in inspect.signature(function).parameters if each not in ("self", "cls")]
    if len(parameters) == 1 and "Args:" not in doc:
        return  # what a function of one argument does with it is what it does
    assert [each for each in parameters if not told(doc, each)] == []


@pytest.mark.parametrize("owner", CLASSES, ids=CLASSES.get)
def test_the_docstring_of_a_class_tells_of_what_makes_it(owner: type) -> None:
    if issubclass(owner, BaseModel) or "__init__" not in vars(owner) or dataclasses.is_dataclass(owner):
        return
    doc = "\n".join(base.__doc__ or "" for base in owner.__mro__)
    parameters = list(inspect.signature(owner).parameters)
    if issubclass(owner, BaseException):
        parameters.remove("message")
    assert [each for each in parameters if not told(doc, each)] == []


@pytest.mark.parametrize("owner", CLASSES, ids=CLASSES.get)
def test_what_an_object_has_is_told(owner: type) -> None:
    doc = inspect.getdoc(owner) or ""
    for name, value in vars(owner).items():
        if isinstance(value, property) and not name.startswith("_"):
            assert value.__doc__, name
    if dataclasses.is_dataclass(owner):
        fields = [field.name for field in dataclasses.fields(owner) if not field.name.startswith("_")]
        assert [name for name in fields if not told(doc, name)] == []


def raised(function: Callable[..., Any]) -> set[str]:
    """The exceptions that stand behind a ``raise`` in it."""
    if not isinstance(function, FunctionType):
        return set()
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    nodes = [node.exc for node in _own_nodes(tree) if isinstance(node, ast.Raise)]
    calls = [node.func if isinstance(node, ast.Call) else node for node in nodes]
    return {call.id for call in calls if isinstance(call, ast.Name) and call.id[0].isupper()}


def _own_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Those of a function, not of the functions in it."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node
            yield from _own_nodes(node)


@pytest.mark.parametrize("name", METHODS)
def test_a_docstring_tells_of_what_is_raised(name: str) -> None:
    doc = inspect.getdoc(METHODS[name]) or ""
    if re.search(r"^    Exception:", doc, re.MULTILINE):
        return  # which may be any
    assert {error for error in raised(METHODS[name]) if error not in doc} == set()


def test_what_reads_pages_tells_of_every_way_to_fail() -> None:
    for function in (sc.scrape, sc.SGLangCollector.collect):
        doc = inspect.getdoc(function) or ""
        assert {"ScrapeError", "ExpositionError", "LimitExceeded"} <= set(
            re.findall(r"^    (\w+):", doc, re.MULTILINE)
        )


def test_the_reference_has_everything_public() -> None:
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    told = re.findall(r"^::: sglang_collect\.(\S+)$", text, re.MULTILINE)
    assert len(set(told)) == len(told)
    wanted = {*sc.__all__, "aggregate.FleetAggregate", *(name for name, _ in public() if "." in name)}
    assert wanted - set(told) == {"__version__", "api.HOP_HEADER", "discovery.targets_of"}
