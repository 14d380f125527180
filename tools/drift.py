"""Compares the metrics that an SGLang release declares with the catalogue.

    python tools/drift.py [--wheels FOLDER] [VERSION ...]

Without a version the newest release is taken. Wheels come from the package registry, through pip and without
their dependencies, and stay in FOLDER (build/wheels). Nothing of them is imported or run: declarations are
read out of the syntax trees, names also out of compiled modules. Prints what the catalogue does not know and
ends with 1 where there is any, with 2 where a wheel cannot be had.

A metric, a type, a label or a metric that is gone: each is one line to add or to change in
``sglang_collect/catalog/sglang.py``. What cannot be read (a name that is put together, labels from elsewhere)
is reported too, so that the check never passes for want of sight.
"""

from __future__ import annotations

import argparse
import ast
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parent.parent))

from sglang_collect.catalog import Form, LabelSet, Metric, release_key
from sglang_collect.catalog.sglang import METRICS, NEWEST
from sglang_collect.catalog.sglang_rules import LABEL_SETS

FOLDER = Path(__file__).resolve().parent.parent / "build" / "wheels"
PREFIX = "sglang:"
# Wheels of newer releases are for one platform; what is read of them is the same on each.
PYTHON = "3.12"
PLATFORMS = tuple(f"manylinux_2_{minor}_x86_64" for minor in range(17, 50))

_WHEEL = re.compile(r"sglang-(\d+\.\d+\.\d+(?:\.post\d+)?)-[\w.-]+\.whl")
_NAME = re.compile(re.escape(PREFIX) + r"(\w+)")
_COMPILED_NAME = re.compile(re.escape(PREFIX.encode()) + rb"([A-Za-z]\w+)")
_SAMPLE_SUFFIXES = ("_bucket", "_sum", "_count")

# In this order: a GaugeHistogram of SGLang is a gauge with the labels gt and le.
_KINDS = ("gauge", "histogram", "counter", "summary")


class NoWheelError(Exception):
    """A wheel cannot be had."""


class Finding(NamedTuple):
    place: str
    text: str


class Declaration(NamedTuple):
    """One metric as the source declares it.

    ``labels`` are those it names, ``writer`` is the class whose common labels it takes besides: None where
    it takes none, "" where it takes those of a function.
    """

    name: str
    type: str
    labels: frozenset[str]
    writer: str | None
    place: str


# ---------------------------------------------------------------------- wheels


def fetch(version: str | None, folder: Path) -> Path:
    """The wheel of a release, from the folder where it is there; the newest release where None."""
    if version and (kept := sorted(folder.glob(f"sglang-{version}-*.whl"))):
        return kept[0]
    with tempfile.TemporaryDirectory() as fresh:
        command = [sys.executable, "-m", "pip", "download", "-vv", "--no-deps", "--only-binary=:all:"]
        command += ["--disable-pip-version-check", "--python-version", PYTHON, "--dest", fresh]
        command += [f"--platform={platform}" for platform in PLATFORMS]
        command += [f"sglang=={version}" if version else "sglang"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(fresh).glob("*.whl"))
        if done.returncode or len(wheels) != 1:
            what = f"sglang {version}" if version else "the newest sglang"
            reason = [line for line in done.stderr.splitlines() if line.startswith("ERROR")][-1:]
            said = (reason or ["it failed"])[0][:200]
            raise NoWheelError(f"pip cannot get the wheel of {what} (is there a network?): {said}")
        if not version:
            _refuse_older(release_of(wheels[0]), done.stdout)
        folder.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(wheels[0], folder / wheels[0].name))


def release_of(wheel: Path) -> str:
    found = _WHEEL.fullmatch(wheel.name)
    if found is None:
        raise NoWheelError(f"not a wheel of an SGLang release: {wheel.name}")
    return f"v{found[1]}"


def _refuse_older(release: str, log: str) -> None:
    """pip passes over releases without a wheel for us; what it says of the others tells that it did."""
    seen = {f"v{version}" for version in _WHEEL.findall(log)} | {NEWEST}
    newest = max(seen, key=release_key)
    if release_key(newest) > release_key(release):
        raise NoWheelError(f"sglang {newest[1:]} has no wheel for {PYTHON} on x86_64 Linux: got {release}")


# ---------------------------------------------------------------- declarations


class Source(NamedTuple):
    """What one wheel says."""

    declarations: list[Declaration]
    label_sets: list[tuple[frozenset[str], str]]
    mentions: list[tuple[str, str]]
    findings: list[Finding]


def read_wheel(wheel: Path) -> Source:
    """Everything of a wheel that names a metric, tests left out."""
    source = Source([], [], [], [])
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if "/test/" in name or name.rpartition("/")[2].startswith("test_"):
                continue
            if name.endswith(".py"):
                text = archive.read(name)
                if PREFIX.encode() in text or b"MetricsCollector" in text:
                    _Reader(name, source).visit(ast.parse(text))
            elif name.endswith((".so", ".pyd")):
                found = {match[1].decode() for match in _COMPILED_NAME.finditer(archive.read(name))}
                source.mentions.extend((_known_part(text), name) for text in sorted(found))
    return source


def _known_part(text: str) -> str:
    """In a compiled module names and other texts stand without a space between: the longest name we know."""
    known = [name for name in _NAMES if text.startswith(name) and not text[len(name) :].startswith("_")]
    return max(known, key=len, default=text)


class _Reader(ast.NodeVisitor):
    """Collects what one module declares."""

    def __init__(self, module: str, source: Source) -> None:
        self.module = module
        self.source = source
        self.classes: list[str] = []
        self.functions: list[ast.FunctionDef | ast.AsyncFunctionDef] = []
        self.names: set[int] = set()

    def place(self, node: ast.AST) -> str:
        return f"{self.module}:{getattr(node, 'lineno', 0)}"

    def report(self, node: ast.AST, text: str) -> None:
        self.source.findings.append(Finding(self.place(node), text))

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.classes.append(node.name)
        self.generic_visit(node)
        self.classes.pop()

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.functions.append(node)
        self.generic_visit(node)
        self.functions.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Call(self, node: ast.Call) -> None:
        arguments = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        name = arguments.get("name") or (node.args[0] if node.args else None)
        kind = _kind_of(node.func)
        if kind is not None and name is not None and _mentions_prefix(name):
            self.declare(node, name, kind, arguments)
        self.generic_visit(node)

    def declare(self, node: ast.Call, name: ast.expr, kind: str, arguments: dict[str, ast.expr]) -> None:
        if isinstance(name, ast.Call):
            return  # a wrapper around the declaration itself
        found = _NAME.fullmatch(str(name.value)) if isinstance(name, ast.Constant) else None
        if found is None:
            self.report(node, f"a name that is put together: {ast.unparse(name)}")
            return
        self.names.add(id(name))
        given = arguments.get("labelnames") or (node.args[2] if len(node.args) > 2 else None)
        labels, common = self.labels_of(given) if given is not None else (set[str](), False)
        mode = arguments.get("multiprocess_mode")
        if _last_name(node.func) == "GaugeHistogram":
            labels |= {"gt", "le"}
        elif kind == "gauge" and (mode is None or ast.unparse(mode) in ("'all'", "'liveall'")):
            labels.add("pid")
        writer = (self.classes[-1] if self.classes else "") if common else None
        # The client adds the suffix to a counter that is declared without.
        wire = found[1] if kind != "counter" or found[1].endswith("_total") else f"{found[1]}_total"
        self.source.declarations.append(Declaration(wire, kind, frozenset(labels), writer, self.place(node)))

    def labels_of(self, node: ast.expr) -> tuple[set[str], bool]:
        """The labels an expression names, and does it take the common ones of its writer?"""
        if isinstance(node, ast.Constant):
            return ({node.value} if isinstance(node.value, str) else set()), False
        if isinstance(node, ast.Starred):
            return self.labels_of(node.value)
        parts = self.parts_of(node)
        if parts is None:
            if "label" not in _last_name(node) and not isinstance(node, ast.DictComp):
                self.report(node, f"labels that cannot be read: {ast.unparse(node)}")
            return set(), True
        read = [self.labels_of(part) for part in parts]
        return set().union(*(labels for labels, _ in read)), any(common for _, common in read)

    def parts_of(self, node: ast.expr) -> list[ast.expr] | None:
        """What a list of labels is put together from; None for what is not known here."""
        if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
            return node.elts
        if isinstance(node, ast.Dict):
            return [key for key in node.keys if key is not None]
        if isinstance(node, ast.BinOp):
            return [node.left, node.right]
        if isinstance(node, ast.BoolOp):
            return node.values
        if isinstance(node, ast.Call) and _last_name(node.func) in ("list", "tuple", "sorted", "keys"):
            inner = node.args[0] if node.args else getattr(node.func, "value", None)
            return [inner] if inner is not None else []
        if isinstance(node, ast.Name):
            return list(self.assigned(node.id)) or None
        return None

    def assigned(self, name: str) -> Iterator[ast.expr]:
        """What the function around gives to a variable, but for what it makes of the variable itself."""
        for statement in ast.walk(self.functions[-1]) if self.functions else ():
            if isinstance(statement, ast.Assign):
                own = any(
                    isinstance(part, ast.Name) and part.id == name for part in ast.walk(statement.value)
                )
                targets = [target.id for target in statement.targets if isinstance(target, ast.Name)]
                if name in targets and not own:
                    yield statement.value

    def visit_Assign(self, node: ast.Assign) -> None:
        if any("labels" in _last_name(target) for target in node.targets):
            self.common_labels(node.value)
        self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and self.functions and "label" in self.functions[-1].name:
            self.common_labels(node.value)
        self.generic_visit(node)

    def common_labels(self, node: ast.expr) -> None:
        if isinstance(node, ast.Dict):
            keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
            names = frozenset(key for key in keys if isinstance(key, str))
            if names:
                self.source.label_sets.append((names, self.place(node)))

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and id(node) not in self.names:
            found = _NAME.fullmatch(node.value)
            if found is not None:
                self.source.mentions.append((found[1], self.place(node)))


def _last_name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _kind_of(function: ast.expr) -> str | None:
    name = _last_name(function).lower()
    return next((kind for kind in _KINDS if kind in name), None)


def _mentions_prefix(node: ast.expr) -> bool:
    return any(
        isinstance(part, ast.Constant) and isinstance(part.value, str) and PREFIX in part.value
        for part in ast.walk(node)
    )


# ------------------------------------------------------------------ comparison

_NAMES = {name: metric for metric in METRICS for name in metric.names}
_WRITERS = {name: labels for labels in LABEL_SETS for name in labels.classes}


def compare(release: str, source: Source) -> list[Finding]:
    """What the catalogue does not know of a release, or has of it that is not there."""
    found = list(source.findings)
    for declaration in source.declarations:
        found.extend(Finding(declaration.place, text) for text in _unknown(release, declaration))
    for labels, place in source.label_sets:
        if not any(labels <= known for known in _known_label_sets(release)):
            found.append(Finding(place, f"common labels that no set has: {', '.join(sorted(labels))}"))
    for name, place in source.mentions:
        if name not in _NAMES and not _is_sample(name):
            found.append(Finding(place, f"{PREFIX}{name} is named, and not in the catalogue"))
    declared = {(declaration.name, declaration.type) for declaration in source.declarations}
    for form in _forms_in(release):
        if (form.name, form.type) not in declared:
            found.append(Finding("catalogue", f"{form.name} ({form.type}) is not in {release} any more"))
    return found


def _is_sample(name: str) -> bool:
    return any(name.removesuffix(suffix) in _NAMES for suffix in _SAMPLE_SUFFIXES)


def _unknown(release: str, declaration: Declaration) -> Iterator[str]:
    name, metric = declaration.name, _NAMES.get(declaration.name)
    if metric is None:
        yield f"{PREFIX}{name} ({declaration.type}) is not in the catalogue"
        return
    if declaration.type not in metric.types:
        yield f"{name} is a {declaration.type}: the catalogue has {' or '.join(metric.types)}"
    elif (name, declaration.type) not in {(form.name, form.type) for form in _forms_in(release, metric)}:
        yield f"{name} ({declaration.type}) is in {release}: the catalogue has it {_releases(metric)}"
    if unknown := declaration.labels - set(metric.all_labels):
        yield f"{name} has labels that the catalogue does not: {', '.join(sorted(unknown))}"
    if declaration.writer and declaration.writer not in _WRITERS:
        yield f"{name} takes the labels of {declaration.writer}, which no set of the catalogue has"
    elif declaration.writer and _WRITERS[declaration.writer] is not metric.labels:
        theirs, ours = _WRITERS[declaration.writer].code, metric.labels.code
        yield f"{name} has the labels {theirs}: the catalogue has {ours}"


def _forms_in(release: str, *metrics: Metric) -> Iterator[Form]:
    """Names and types that a release has by the catalogue."""
    key = release_key(release)
    for metric in metrics or METRICS:
        for form in metric.forms if metric.since != "main" else ():
            if release_key(form.since) <= key and not (form.until and release_key(form.until) < key):
                yield form


def _releases(metric: Metric) -> str:
    return ", ".join(f"{form.name} {form.since} to {form.until or NEWEST}" for form in metric.forms)


def _known_label_sets(release: str) -> Iterator[frozenset[str]]:
    key = release_key(release)
    yield frozenset(label for metric in METRICS for label in metric.own)

    def names(labels: LabelSet) -> frozenset[str]:
        return frozenset(label for label, since in labels.since.items() if release_key(since) <= key)

    yield from map(names, LABEL_SETS)


# ------------------------------------------------------------------------ main


def check(wheel: Path) -> bool:
    """Prints what is to be said of a wheel; True where the catalogue knows it all."""
    release = release_of(wheel)
    source = read_wheel(wheel)
    found = compare(release, source)
    for finding in found:
        print(f"{release} {finding.place}: {finding.text}")
    print(
        f"{release}: {len(source.declarations)} declarations, {len(found) or 'none'} unknown to the catalogue"
    )
    if release_key(release) > release_key(NEWEST):
        print(f"{release} is newer than {NEWEST}, which the catalogue was read to (NEWEST in its table)")
    return not found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("versions", nargs="*", metavar="VERSION", help="such as 0.5.23; the newest without")
    parser.add_argument("--wheels", type=Path, default=FOLDER, help="where wheels are kept")
    options = parser.parse_args()
    try:
        wheels = [fetch(version, options.wheels) for version in options.versions or [None]]
    except NoWheelError as error:
        print(error, file=sys.stderr)
        return 2
    results = [check(wheel) for wheel in wheels]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
