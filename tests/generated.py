"""Pages made by chance from a seed: what exporters write, what they may write, and what was damaged.

``page`` gives a page that the rules of its format allow, ``damaged`` one that was changed somewhere. The same
seed gives the same bytes.
"""

from __future__ import annotations

import random

TYPES = ("counter", "gauge", "histogram", "summary", "unknown", "info", "stateset", "gaugehistogram")

_NAMES = (
    "requests latency_seconds queue:depth build tokens cache_hit_rate sglang:num_running_reqs x "
    "temperature_celsius"
).split()
_LABELS = "model_name engine_type tp_rank dp_rank a b_c _meta zone".split()
_VALUES = (
    "",
    "0",
    "1",
    "unified",
    "meta-llama/Llama-3.1-8B-Instruct",
    "a value of more than thirty-two bytes",
    'quote " inside',
    "back\\slash",
    "two\nlines",
    "tab\tinside",
    "brace } , = {",
    "# no comment",
    "é",
    "€uro 日本語 😀",
    "nul\x00byte",
)
_NUMBERS = (
    "0",
    "0.0",
    "1",
    "7.0",
    "13.0",
    "1234567.0",
    "123456789012345678",
    "-3.5",
    "+4",
    ".5",
    "5.",
    "0.1",
    "0.30000000000000004",
    "1e3",
    "1E-7",
    "1.4986231e+07",
    "9007199254740993",
    "4.9e-324",
    "2.2250738585072011e-308",
    "1.7976931348623157e308",
    "1e400",
    "00012",
)
_TEXTS = (
    "",
    "Requests so far.",
    "Two\nlines and a back\\slash.",
    'With "quotes".',
    "Ünïcode € 日本",
    "  blanks  ",
)


def _escaped(value: str, *, quotes: bool) -> str:
    value = value.replace("\\", "\\\\").replace("\n", "\\n")
    return value.replace('"', '\\"') if quotes else value


def _number(rng: random.Random) -> str:
    if rng.random() < 0.1:
        return rng.choice(("NaN", "+Inf", "-Inf"))
    if rng.random() < 0.4:
        return rng.choice(_NUMBERS)
    return repr(
        rng.choice((float(rng.randrange(10**6)), rng.random(), rng.uniform(-1e9, 1e9), rng.expovariate(1e-3)))
    )


def _labels(rng: random.Random, pairs: list[tuple[str, str]], *, openmetrics: bool) -> str:
    if not pairs:
        return rng.choice(("", "", "{}"))
    comma = "," if openmetrics else rng.choice((",", ",", ", ", " ,"))
    text = comma.join(f'{name}="{_escaped(value, quotes=True)}"' for name, value in pairs)
    if openmetrics:
        return f"{{{text}}}"
    return rng.choice(("{%s}", "{%s}", "{%s,}", "{ %s }", " {%s}")) % text


class _Writer:
    def __init__(self, rng: random.Random, *, openmetrics: bool) -> None:
        self.rng = rng
        self.openmetrics = openmetrics
        self.lines: list[str] = []

    def sample(
        self, name: str, pairs: list[tuple[str, str]], value: str, stamp: str = "", exemplar: bool = False
    ) -> None:
        line = f"{name}{_labels(self.rng, pairs, openmetrics=self.openmetrics)} {value}{stamp}"
        if exemplar and self.openmetrics and self.rng.random() < 0.3:
            number = self.rng.choice(("0.5", "1", "2.5 1600000000.5"))
            line += f' # {{trace_id="{self.rng.randrange(10**6):x}"}} {number}'
        elif not self.openmetrics and self.rng.random() < 0.05:
            line = self.rng.choice((" ", "\t", "")) + line + self.rng.choice((" ", "\t", "  "))
        self.lines.append(line)

    def stamp(self) -> str:
        if self.openmetrics:
            return self.rng.choice((" 1600000000", " 1600000000.123", " 0.5"))
        return self.rng.choice((" 1600000000123", " -5", " 0", "\t7"))

    def family(self, name: str, kind: str) -> None:
        rng = self.rng
        unit = name.rpartition("_")[2] if "_" in name and rng.random() < 0.5 else ""
        word = "untyped" if kind == "unknown" and not self.openmetrics and rng.random() < 0.5 else kind
        metadata = [f"# TYPE {name} {word}"]
        if rng.random() < 0.7:
            text = _escaped(rng.choice(_TEXTS), quotes=self.openmetrics)
            metadata.append(f"# HELP {name}{' ' + text if text or self.openmetrics else ''}")
        if self.openmetrics and unit and kind not in ("info", "stateset"):
            metadata.append(f"# UNIT {name} {unit}")
        rng.shuffle(metadata)
        self.lines += metadata
        extra = rng.sample(_LABELS, rng.randrange(4))
        seen = set()
        stamp = self.stamp() if rng.random() < 0.2 else ""
        for _ in range(rng.randrange(1, 5)):
            pairs = [(label, rng.choice(_VALUES)) for label in extra]
            if str(pairs) not in seen:
                seen.add(str(pairs))
                self.metric(name, kind, pairs, stamp)
            if kind != "info":
                stamp = self.stamp() if rng.random() < 0.2 else ""

    def metric(self, name: str, kind: str, pairs: list[tuple[str, str]], stamp: str) -> None:
        rng = self.rng
        if kind == "counter":
            self.sample(f"{name}_total", pairs, repr(float(rng.randrange(10**7))), stamp, exemplar=True)
            if rng.random() < 0.3:
                self.sample(f"{name}_created", pairs, "1600000000.25", stamp)
        elif kind == "info":
            self.sample(f"{name}_info", [*pairs, ("version", "1.2")], "1", stamp)
        elif kind == "stateset":
            for state in ("on", "off"):
                self.sample(name, [*pairs, (name, state)], rng.choice(("0", "1")), stamp)
        elif kind in ("histogram", "gaugehistogram"):
            self.buckets(name, kind, pairs, stamp)
        elif kind == "summary":
            for quantile in rng.sample(("0", "0.5", "0.99", "1.0"), rng.randrange(3)):
                self.sample(name, [*pairs, ("quantile", quantile)], rng.choice(("0.5", "3", "NaN")), stamp)
            self.sample(f"{name}_sum", pairs, "12.5", stamp)
            self.sample(f"{name}_count", pairs, "3", stamp)
        else:
            self.sample(name, pairs, _number(rng), stamp)

    def buckets(self, name: str, kind: str, pairs: list[tuple[str, str]], stamp: str) -> None:
        rng = self.rng
        count = 0
        for bound in (*sorted(rng.sample((0.001, 0.1, 0.5, 1.0, 2.5, 10.0), rng.randrange(4))), "+Inf"):
            count += rng.randrange(30)
            labelled = [*pairs, ("le", str(bound))]
            if rng.random() < 0.3:
                labelled.sort()
            self.sample(f"{name}_bucket", labelled, rng.choice(("%d", "%d.0")) % count, stamp, exemplar=True)
        if rng.random() < 0.9:
            letter = "g" if kind == "gaugehistogram" else ""
            self.sample(f"{name}_{letter}sum", pairs, repr(rng.uniform(0, 100)), stamp)
            self.sample(f"{name}_{letter}count", pairs, str(count), stamp)


def page(seed: int, *, openmetrics: bool = False) -> bytes:
    """A page that every rule of its format allows."""
    rng = random.Random(seed)
    writer = _Writer(rng, openmetrics=openmetrics)
    for number, name in enumerate(rng.sample(_NAMES, rng.randrange(1, 6))):
        if rng.random() < 0.15 and not openmetrics:
            writer.lines.append(rng.choice(("", "  ", "# a comment", "#", "#no blank", "# EOF")))
        kind = rng.choice(TYPES if ":" not in name else TYPES[:2])
        writer.family(name if rng.random() < 0.8 else f"n{number}_{name}", kind)
    end = "\r\n" if not openmetrics and rng.random() < 0.05 else "\n"
    if openmetrics:
        writer.lines.append("# EOF")
    return (end.join(writer.lines) + (end if rng.random() < 0.95 else "")).encode()


_DAMAGE = (
    *(bytes([byte]) for byte in b' \t,"\\{}=#\r\x00\xff\xc3\n_:1e+-.\x0b'),
    *(b"\xe2\x82", b"0x1", b"nan", b"inf", b"1_0", b" 5", b" 5.5", b"\\t", b"__name__", b"\xc2\xa0"),
)


def damaged(seed: int, *, openmetrics: bool = False) -> bytes:
    """A page with one to three changes: bytes put in, taken out or exchanged; lines moved, doubled or cut."""
    rng = random.Random(seed ^ 0x5EED)
    data = page(seed, openmetrics=openmetrics)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(data) + 1)
        lines = data.splitlines(keepends=True) or [b""]
        line = rng.randrange(len(lines))
        match rng.randrange(7):
            case 0 | 1:
                data = data[:at] + rng.choice(_DAMAGE) + data[at:]
            case 2:
                data = data[:at] + data[at + rng.randrange(1, 4) :]
            case 3:
                data = data[:at] + rng.choice(_DAMAGE) + data[at + 1 :]
            case 4:
                lines.insert(rng.randrange(len(lines)), lines[line])
                data = b"".join(lines)
            case 5:
                lines.insert(rng.randrange(len(lines)), lines.pop(line))
                data = b"".join(lines)
            case _:
                del lines[line]
                data = b"".join(lines)
    return data
