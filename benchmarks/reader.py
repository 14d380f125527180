"""How fast pages are read: against other readers, and against what the machine can do.

Everything runs in this process by turns: a round runs each contender once on a page, and what is told are
medians over the rounds. Times are those of the thread's CPU, so that other programs disturb little.

    python benchmarks/reader.py [--quick] [--json] [--readme [FILE]]

README.md beside this file says what each row means.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import re
import runpy
import shlex
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from unittest import mock

from prometheus_client.utils import floatToGoString

import sglang_collect as sc
from sglang_collect import catalog
from sglang_collect.catalog import sglang
from sglang_collect.simulator import LoadModel, render_page

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("SGLANG_COLLECT_DATA") or ROOT.parent / "shared" / "data")
BUILD = ROOT / "build" / "bench"

RIVAL = "0.21.1"  # the last prometheus_client before its parser became slower
BEGIN, END = "<!-- benchmarks:reader -->", "<!-- /benchmarks:reader -->"

Row = tuple[str, dict[str, str], float]


# -------------------------------------------------------------------------------------------------- pages


@dataclass(frozen=True)
class Page:
    """A page, and another of the same lines whose values all differ."""

    name: str
    data: bytes
    later: bytes

    @property
    def n_lines(self) -> int:
        return self.data.count(b"\n")


def as_written(value: float) -> str:
    """The value as a page of SGLang's has it."""
    return cast(str, floatToGoString(value))  # type: ignore[no-untyped-call]


def with_other_values(page: bytes) -> bytes:
    """Every value doubled and one more, which keeps buckets cumulative."""

    def line(text: str) -> str:
        if not text or text.startswith("#"):
            return text
        series, _, value = text.rpartition(" ")
        return f"{series} {as_written(2 * float(value) + 1)}"

    return "\n".join(map(line, page.decode().split("\n"))).encode()


def recorded_page(name: str, at_least: int) -> tuple[str, bytes]:
    """A recorded page; where it is missing, the simulator's of as many ranks as make it that large."""
    path = DATA / "sglang" / name
    if path.exists():
        return name, path.read_bytes()
    dp = 0
    page = b""
    while len(page) < at_least:
        dp += 1
        model = LoadModel(dp=dp, load=0.9)
        model.step(60)
        page = render_page(model)
    return f"simulated, dp={dp}", page


def generated_page(histograms: int = 30, buckets: int = 25, ranks: int = 8) -> bytes:
    """Histograms of the catalogue, laid out as SGLang's multi-process page lays them out."""
    pick = random.Random(1)
    names = [m.name for m in sglang.METRICS if m.type == "histogram" and m.emitted and not m.until]
    bounds = [*(as_written(0.001 * 1.8**i) for i in range(buckets - 1)), "+Inf"]
    lines = []
    for name in names[:histograms]:
        lines += [f"# HELP sglang:{name} Histogram of {name}.", f"# TYPE sglang:{name} histogram"]
        for rank in range(ranks):
            lines.append(f"sglang:{name}_sum{{{rank_labels(rank)}}} {as_written(pick.random() * 5000)}")
        for rank in range(ranks):
            count = 0.0
            for bound in bounds:
                count += pick.choice((0, 0, 1, 20, 500))
                value = as_written(count)
                lines.append(f"sglang:{name}_bucket{{{rank_labels(rank, bound)}}} {value}")
            lines.append(f"sglang:{name}_count{{{rank_labels(rank)}}} {as_written(count)}")
    return "\n".join([*lines, ""]).encode()


def rank_labels(rank: int, le: str = "") -> str:
    bound = f'le="{le}",' if le else ""
    return (
        f'dp_rank="{rank}",engine_type="unified",{bound}model_name="deepseek-ai/DeepSeek-V3",'
        f'moe_ep_rank="{rank}",pp_rank="0",tp_rank="{rank}"'
    )


def make_pages() -> list[Page]:
    found = [
        recorded_page("v0.5.18-tp1-busy.prom", 60_000),
        recorded_page("v0.5.18-pd-decode-dp8.prom", 400_000),
        ("generated: 30 histograms x 25 buckets x 8 ranks", generated_page()),
    ]
    return [Page(name, data, with_other_values(data)) for name, data in found]


# -------------------------------------------------------------------------------------------- the C part


@dataclass(frozen=True)
class Wanted:
    """What the catalogue says of an extract, kept to be written as C."""

    names: tuple[str, ...]
    kind: str = "value"
    where: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    without: tuple[str, ...] = ()
    lowest: tuple[str, ...] = ()
    by: str = ""
    reduce: str = "sum"

    def in_c(self) -> str:
        where = "".join(map(condition_in_c, self.where))
        parts = [
            f".kind = SGC_KIND_{self.kind.upper()}, .reduce = SGC_REDUCE_{self.reduce.upper()}",
            *(strings_in_c(name, getattr(self, name)) for name in ("names", "without", "lowest")),
            f".where = (const sgc_cond[]){{{where}}}, .n_where = {len(self.where)}" if where else "",
            f".by = S({json.dumps(self.by)})",
        ]
        return "    {" + ", ".join(filter(None, parts)) + "},\n"


def strings_in_c(member: str, strings: tuple[str, ...]) -> str:
    if not strings:
        return ""
    items = ", ".join(f"S({json.dumps(string)})" for string in strings)
    return f".{member} = (const sgc_str[]){{{items}}}, .n_{member} = {len(strings)}"


def condition_in_c(condition: tuple[str, str, tuple[str, ...]]) -> str:
    label, operation, values = condition
    word = operation.replace("not ", "").replace(" not", "").upper()
    negate = str("not" in operation).lower()
    return (
        f"{{.label = S({json.dumps(label)}), .op = SGC_OP_{word}, .negate = {negate}, "
        f"{strings_in_c('values', values)}}}, "
    )


Parts = tuple[tuple[str, ...], dict[str, Wanted]]


def plan_parts() -> Parts:
    """Prefixes and extracts of the plan that snapshots are read by; its formulas are no part of a fold."""

    def keep(prefixes: tuple[str, ...], extracts: dict[str, Wanted], _: object) -> Parts:
        return prefixes, extracts

    with mock.patch.multiple(catalog, Extract=Wanted, Plan=keep):
        return cast(Parts, sglang._compile.__wrapped__())


def plan_in_c() -> str:
    prefixes, extracts = plan_parts()
    items = ", ".join(f"S({json.dumps(prefix)})" for prefix in prefixes)
    return (
        f"static const sgc_str prefixes[] = {{{items}}};\n"
        f"static const sgc_extract extracts[] = {{\n{''.join(w.in_c() for w in extracts.values())}}};\n"
    )


def build_flags() -> tuple[list[str], list[str]]:
    """What setup.py compiles and links the core with."""
    with mock.patch("setuptools.setup"):
        setup = runpy.run_path(str(ROOT / "setup.py"))
    cflags, libs = setup["curl_flags"]()
    return [*setup["COMPILE"], *setup["FLAVOURS"]["release"], *cflags], [*libs, "-lz"]


def compiler() -> list[str]:
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def build_library(*, portable: bool) -> Path:
    """The core and reader.c as a shared library."""
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "plan.inc").write_text(plan_in_c())
    library = BUILD / f"reader{'-portable' if portable else ''}.so"
    core = ROOT / "csrc" / "core"
    sources = [*sorted(core.glob("*.c")), ROOT / "benchmarks" / "reader.c"]
    cflags, libs = build_flags()
    options = [
        *cflags,
        *(["-DSGC_PORTABLE"] if portable else []),
        "-fPIC",
        "-shared",
        f"-I{core}",
        f"-I{BUILD}",
    ]
    subprocess.run([*compiler(), *options, "-o", str(library), *map(str, sources), *libs], check=True)
    return library


class Core:
    """reader.c on one page. A task of it takes a number of times, and gives seconds."""

    def __init__(self, library: Path, page: Page) -> None:
        self.page = page  # its bytes are read where they are
        self._lib = ctypes.CDLL(str(library))
        self._lib.bench_new.restype = ctypes.c_void_p
        self._lib.bench_new.argtypes = [ctypes.c_char_p, ctypes.c_size_t] * 2
        self._lib.bench_free.argtypes = [ctypes.c_void_p]
        self._lib.bench_run.restype = ctypes.c_double
        self._lib.bench_run.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t]
        for name, extra in (("bench_slots", []), ("bench_peak", [ctypes.c_char_p])):
            function = getattr(self._lib, name)
            function.restype = ctypes.c_size_t
            function.argtypes = [ctypes.c_void_p, *extra]
        self._bench = self._lib.bench_new(page.data, len(page.data), page.later, len(page.later))
        if not self._bench:
            raise AssertionError(f"{page.name}: the two pages are not read as pages of the same lines")

    def task(self, name: str) -> Callable[[int], float]:
        def run(times: int) -> float:
            seconds: float = self._lib.bench_run(self._bench, name.encode(), times)
            if seconds < 0:
                raise AssertionError(f"{self.page.name}: {name} failed")
            return seconds

        return run

    def peak(self, name: str) -> int:
        """The most bytes that the task held at once."""
        peak: int = self._lib.bench_peak(self._bench, name.encode())
        if not peak:
            raise AssertionError(f"{self.page.name}: {name} failed, or kept memory")
        return peak

    def slots(self) -> int:
        slots: int = self._lib.bench_slots(self._bench)
        return slots

    def __enter__(self) -> Core:
        return self

    def __exit__(self, *exc: object) -> None:
        self._lib.bench_free(self._bench)


# --------------------------------------------------------------------------------------- the Python part


def rows_of_page(data: bytes) -> list[Row]:
    return [(sample.name, sample.labels, sample.value) for sample in sc.parse(data).samples]


_SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def rows_by_regex(text: str) -> list[Row]:
    """What one writes for a page one trusts: no checks, no escapes, no types."""
    return [(m[1], dict(_LABEL.findall(m[2] or "")), float(m[3])) for m in _SAMPLE.finditer(text)]


@dataclass(frozen=True)
class Rival:
    """A prometheus_client in a folder of its own, imported under a name of its own."""

    version: str
    parse: Callable[[str], Iterator[Any]]

    @property
    def name(self) -> str:
        return f"prometheus_client {self.version}"

    def reading(self, text: str) -> Callable[[], object]:
        return lambda: list(self.parse(text))


def load_rival(version: str = "") -> Rival | None:
    """The newest where no version is given; None where it cannot be had."""
    folder = BUILD / f"prometheus_client-{version or 'newest'}"
    if not folder.exists():
        wanted = f"prometheus_client=={version}" if version else "prometheus_client"
        pip = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
        if subprocess.run([*pip, "--target", str(folder), wanted], check=False).returncode:
            return None
    alias = f"prometheus_client_{version.replace('.', '_') or 'newest'}"
    package = folder / "prometheus_client"
    spec = importlib.util.spec_from_file_location(
        alias, package / "__init__.py", submodule_search_locations=[str(package)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[alias] = module
    spec.loader.exec_module(module)
    found = next(iter(importlib.metadata.distributions(path=[str(folder)]))).version
    return Rival(found, importlib.import_module(f"{alias}.parser").text_string_to_metric_families)


# --------------------------------------------------------------------------------------------- measuring


@dataclass(frozen=True)
class Goal:
    """At most ``bound`` times the time of another row; at least as many times as fast where ``faster``."""

    other: str
    bound: float
    faster: bool = False

    def __str__(self) -> str:
        return f"{'>=' if self.faster else '<='} {self.bound:g} x {SHORT[self.other]}"


@dataclass
class Contender:
    name: str
    run: Callable[[int], float]
    goals: tuple[Goal, ...] = ()
    told: bool = True  # in the project's README
    times: int = 1  # a slice
    seconds: list[float] = field(default_factory=list)  # of one run, by round


def in_python(work: Callable[[], object]) -> Callable[[int], float]:
    def run(times: int) -> float:
        start = time.thread_time_ns()
        for _ in range(times):
            work()
        return (time.thread_time_ns() - start) / 1e9

    return run


COPY, WALK = "memcpy", "memchr walk over lines"
READ, FOLD = "cold read into a page", "fold of the SGLang plan"
PORTABLE_READ, PORTABLE_FOLD = "portable: cold read", "portable: fold"
NEWEST = "prometheus_client newest"
OLDER = f"prometheus_client {RIVAL}"
SHORT = {WALK: "walk", READ: "cold read", NEWEST: "newest", OLDER: RIVAL}


def contenders(page: Page, core: Core, portable: Core, rivals: list[Rival]) -> list[Contender]:
    data, text = page.data, page.data.decode()
    plan, known = sglang.plan(), sc.parse(data).columns()
    rows = [
        Contender(COPY, core.task("copy")),
        Contender(WALK, core.task("walk")),
        Contender(READ, core.task("read"), (Goal(WALK, 7), Goal(OLDER, 100, True), Goal(NEWEST, 500, True))),
        Contender(FOLD, core.task("fold"), (Goal(WALK, 6),)),
        Contender("fold, steady state", core.task("steady"), (Goal(WALK, 3),)),
        Contender("fold, first page of a target", core.task("learn"), told=False),
        Contender(PORTABLE_READ, portable.task("read"), told=False),
        Contender(PORTABLE_FOLD, portable.task("fold"), told=False),
        Contender("portable: steady state", portable.task("steady"), told=False),
        Contender("parse(data)", in_python(lambda: sc.parse(data))),
        Contender("Plan.fold(data)", in_python(lambda: plan.fold(data)), told=False),
        Contender("parse(data).values", in_python(lambda: sc.parse(data).values), (Goal(READ, 1.1),)),
        Contender(
            "parse(data).columns(like=known)", in_python(lambda: sc.parse(page.later).columns(like=known))
        ),
        Contender(
            "all samples as (name, dict, float)",
            in_python(lambda: rows_of_page(data)),
            (Goal(OLDER, 14, True),),
        ),
        Contender("the same by regular expressions", in_python(lambda: rows_by_regex(text))),
    ]
    rows += [Contender(rival.name, in_python(rival.reading(text))) for rival in rivals]
    return rows


def check(page: Page, core: Core, rivals: list[Rival]) -> None:
    """All readers read the same; nothing is worth measuring otherwise."""
    rows = rows_of_page(page.data)
    text = page.data.decode()
    assert repr(rows_by_regex(text)) == repr(rows)  # NaN equals NaN there
    for rival in rivals:
        theirs = [tuple(sample)[:3] for family in rival.parse(text) for sample in family.samples]
        assert repr(theirs) == repr(rows), rival.name
    fold = sglang.plan().fold(page.data)
    assert core.slots() == sum(fold[name] is not None for name in plan_parts()[1])
    assert all(a[:2] == b[:2] and a[2] != b[2] for a, b in zip(rows, rows_of_page(page.later), strict=True))


def measure(rows: list[Contender], *, rounds: int, slice_seconds: float) -> None:
    for row in rows:
        row.run(1)
        row.times = max(1, round(slice_seconds / max(row.run(1), 1e-7)))
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for row in rows:
            row.run(1)
            row.seconds.append(row.run(row.times) / row.times)
    gc.unfreeze()


# ---------------------------------------------------------------------------------------------- the answer


@dataclass(frozen=True)
class Judged:
    goal: str
    ratio: float
    met: bool


class Report:
    """The rows of one page. A ratio is the median of the ratios within each round."""

    def __init__(self, page: Page, rows: list[Contender], newest: str, peaks: dict[str, int]) -> None:
        self.page = page
        self.rows = {row.name: row for row in rows}
        self.peaks = peaks
        self.newest = newest
        self.n_samples = len(sc.parse(page.data).samples)

    def median(self, name: str) -> float:
        return statistics.median(self.rows[name].seconds)

    def ratio(self, name: str, other: str) -> float | None:
        """How many times the time of the other row it takes; None where there is no such row."""
        if other not in self.rows:
            return None
        pairs = zip(self.rows[name].seconds, self.rows[other].seconds, strict=True)
        return statistics.median(own / theirs for own, theirs in pairs)

    def walks(self, name: str) -> float:
        return cast(float, self.ratio(name, WALK))

    def times_as_fast(self, name: str) -> float | None:
        """As the prometheus_client that all are compared with."""
        ratio = self.ratio(name, OLDER)
        return 1 / ratio if ratio else None

    def judge(self, name: str) -> list[Judged]:
        found = []
        for goal in self.rows[name].goals:
            ratio = self.ratio(name, self.newest if goal.other == NEWEST else goal.other)
            if ratio is None:
                continue
            ratio = 1 / ratio if goal.faster else ratio
            met = ratio >= goal.bound if goal.faster else ratio <= goal.bound
            found.append(Judged(str(goal), ratio, met))
        return found

    def as_json(self) -> dict[str, Any]:
        return {
            "page": self.page.name,
            "bytes": len(self.page.data),
            "lines": self.page.n_lines,
            "samples": self.n_samples,
            "peak_bytes": self.peaks,
            "rows": [
                {
                    "name": name,
                    "seconds": self.median(name),
                    "quartiles": statistics.quantiles(row.seconds, n=4),
                    "bytes_per_second": len(self.page.data) / self.median(name),
                    "walks": self.walks(name),
                    f"times as fast as {OLDER}": self.times_as_fast(name),
                    "goals": [vars(judged) for judged in self.judge(name)],
                }
                for name, row in self.rows.items()
            ],
        }

    def as_text(self) -> str:
        size = len(self.page.data)
        lines = [
            f"{self.page.name}: {size:,} bytes, {self.page.n_lines:,} lines, {self.n_samples:,} samples",
            f"{'':36}{'time':>9}{'speed':>11}{'walks':>9}{'x ' + RIVAL:>9}  goals",
        ]
        for name in self.rows:
            walks, faster = self.walks(name), self.times_as_fast(name)
            goals = "; ".join(
                f"{judged.goal}: {in_figures(judged.ratio)}{'' if judged.met else ' MISSED'}"
                for judged in self.judge(name)
            )
            lines.append(
                f"  {name:34}{in_time(self.median(name)):>9}{in_speed(size / self.median(name)):>11}"
                f"{in_figures(walks):>9}{in_figures(faster) if faster else '-':>9}  {goals}".rstrip()
            )
        for name, peak in self.peaks.items():
            goal = f"  <= 12{'' if peak <= 12 * size else ' MISSED'}" if name == READ else ""
            lines.append(f"  peak, {name:28}{peak:9,} bytes: {peak / size:.2f} x the page{goal}")
        return "\n".join(lines)


def in_figures(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def in_time(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"


def in_speed(bytes_per_second: float) -> str:
    if bytes_per_second >= 1e9:
        return f"{bytes_per_second / 1e9:.3g} GB/s"
    return f"{bytes_per_second / 1e6:.3g} MB/s"


def machine() -> dict[str, str]:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"^model name\s*: (.*)$", info.read_text(), re.MULTILINE) if info.exists() else []
    version = subprocess.run([*compiler(), "--version"], check=True, capture_output=True, text=True)
    return {
        "CPU": f"{names[0] if names else platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "compiler": version.stdout.splitlines()[0],
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }


def as_markdown(reports: list[Report], about: dict[str, str]) -> str:
    """The table of the project's README: times on all pages, ratios on the largest."""
    last = reports[-1]
    sizes = " | ".join(f"{len(report.page.data) / 1000:,.0f} kB" for report in reports)
    lines = [
        BEGIN,
        f"| | {sizes} | speed | walks | x {RIVAL} |",
        "| --- |" + " ---: |" * (len(reports) + 3),
    ]
    for name, row in last.rows.items():
        if not row.told:
            continue
        times = " | ".join(in_time(report.median(name)) for report in reports)
        speed = in_speed(len(last.page.data) / last.median(name))
        faster = last.times_as_fast(name)
        ratios = f"{in_figures(last.walks(name))} | {in_figures(faster) if faster else ''}"
        lines.append(f"| {name} | {times} | {speed} | {ratios} |")
    read, fold = last.ratio(PORTABLE_READ, READ), last.ratio(PORTABLE_FOLD, FOLD)
    lines.append(f"""
`python benchmarks/reader.py --readme` on {about["CPU"]}; {about["compiler"]}; {about["Python"]}.
The last three columns are those of the largest page: speed, time in `memchr` walks, and how many times
as fast as prometheus_client {RIVAL}. Built without SIMD, a cold read takes {read:.2f} times as long and a
fold {fold:.2f} times. A page takes {last.peaks[READ] / len(last.page.data):.2f} times its size in memory.
{END}""")
    return "\n".join(lines)


def write_readme(path: Path, table: str) -> None:
    text = path.read_text()
    begin, end = text.find(BEGIN), text.find(END)
    if begin < 0 or end < begin:
        raise SystemExit(f"{path} has no lines {BEGIN} and {END} to write between. The table:\n\n{table}")
    path.write_text(text[:begin] + table + text[end + len(END) :])


def benchmark(*, rounds: int, slice_seconds: float) -> tuple[list[Report], list[str]]:
    library, portable_library = build_library(portable=False), build_library(portable=True)
    newest, older = load_rival(), load_rival(RIVAL)
    rivals = [rival for rival in (newest, older) if rival]
    notes = [] if len(rivals) == 2 else ["prometheus_client could not be installed: rows are missing"]
    if not hasattr(sc.Page, "values"):
        notes.append("this build of sglang_collect has no Page.values: that row is missing")
    reports = []
    for page in make_pages():
        with Core(library, page) as core, Core(portable_library, page) as portable:
            check(page, core, rivals)
            rows = contenders(page, core, portable, rivals)
            measure(rows, rounds=rounds, slice_seconds=slice_seconds)
            tasks = {READ: "read", FOLD: "fold", "what a target has taught": "learn"}
            peaks = {name: core.peak(task) for name, task in tasks.items()}
        reports.append(Report(page, rows, newest.name if newest else "", peaks))
    return reports, notes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a glance, not a measurement")
    parser.add_argument("--json", action="store_true", help="everything measured, as JSON")
    parser.add_argument(
        "--readme",
        nargs="?",
        const=str(ROOT / "README.md"),
        metavar="FILE",
        help="write the table between its markers in FILE (README.md)",
    )
    args = parser.parse_args()
    about = machine()
    rounds, slice_seconds = (5, 0.001) if args.quick else (31, 0.002)
    reports, notes = benchmark(rounds=rounds, slice_seconds=slice_seconds)
    if args.readme:
        write_readme(Path(args.readme), as_markdown(reports, about))
    if args.json:
        pages = [report.as_json() for report in reports]
        print(json.dumps({"machine": about, "rounds": rounds, "notes": notes, "pages": pages}, indent=2))
        return
    print(f"python {os.path.relpath(__file__)} {' '.join(sys.argv[1:])}".rstrip())
    for name, value in about.items():
        print(f"{name}: {value}")
    print(f"medians of {rounds} alternating rounds; seconds of one thread's CPU\n")
    for report in reports:
        print(report.as_text(), end="\n\n")
    for note in notes:
        print(f"note: {note}")


if __name__ == "__main__":
    main()
