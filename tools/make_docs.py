"""Writes docs/metrics.md out of the catalogue, and docs/errors.md out of the exceptions and their reasons.

    python tools/make_docs.py [FOLDER]

A test writes them again and compares, so that a page never says anything else than its source.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from sglang_collect import _core, errors
from sglang_collect._answers import SENTENCES
from sglang_collect.catalog import Field, Form, Metric
from sglang_collect.catalog.sglang import METRICS, NEWEST, PREFIXES
from sglang_collect.catalog.sglang_fields import FIELDS, RANK_COLUMNS
from sglang_collect.catalog.sglang_rules import LABEL_SETS, RULES
from sglang_collect.groups import NATIVE_GROUPS, PLAN_GROUPS, SGLangRank
from sglang_collect.window import SGLangWindow

FOLDER = Path(__file__).resolve().parent.parent / "docs"

_METRICS = {metric.name: metric for metric in METRICS}

HEAD = f"""\
# Fields and metrics

<!-- Written by tools/make_docs.py out of sglang_collect/catalog: change it there. -->

What every field of a snapshot is made of, and every metric that SGLang has had, to {NEWEST}. Names
stand without their prefix. A server writes `{PREFIXES[0]}`, the model gateway's `/engine_metrics` and
`/v1/loads` `{PREFIXES[1]}`, Ray `{PREFIXES[2]}`; all are read. The gateway turns every colon of its
engines' pages into an underscore, those of label values too: a model `a:b` is `a_b` there.

## Fields

A field comes from the first of its metrics that the page has, or from all of them by a formula; series
become one number by a [rule](#rules). Ranges are of SGLang's releases; "on" reaches to {NEWEST}.

Absent is 0 in the plan's groups (`request_metrics`, `cache_metrics`, `system_metrics`), with the
field's name in `snapshot.absent`, and None in all others. A field is absent where its release has none
of the metrics; where they are there and never touched, since SGLang shows no metric before its first
value; where a value is NaN, infinite or out of range; and where the series of a histogram contradict
each other (`notes` says so).
"""

PLAN_NOTE = """\
A page may show a plan's field itself: a plain series, without `model_name`, under the name given last.
It then comes from there.
"""

RANKS_HEAD = """\
### ranks

One row for each data-parallel group that the page names, by `dp_rank`; none where it names none. Rule B
by group, `usage_ratio` is `num_used_tokens` / `max_total_num_tokens` where both are there. Absent as
above.
"""

MODELS = """\
### models

The groups above but the plan's, and `ranks`, by `model_name`. Where a page names one model, they are
the snapshot's own; where it names several, of the series that carry the name. Metrics whose labels name
no model (sets Rx, St and X [below](#labels)) are then absent. Of more than 100 models there is none.
"""

DISTRIBUTIONS = """\
### Distributions

`latency` holds distributions: `count`, `sum`, `mean` (exact), and `p50`, `p90`, `p95`, `p99`, as
PromQL's `histogram_quantile` gives them: a guess by straight line inside a bucket. `resolution` tells
that bucket, so that nobody takes the guess for a measurement: `{"p50": [0.0, 0.1], ...}` says that the
median is above 0 and at most 100 ms, which is all that SGLang's default buckets tell of a time to first
token below 100 ms. In place of an upper bound null: above all buckets; the quantile given is then the
last bound. Series of different buckets are merged on the bounds they share, and `notes` says so.
"""

WINDOW_HEAD = """\
## Windows

`later.since(earlier)`: counters and histograms as differences of two snapshots, by the rules above.
Absent (None) where neither page has a source; rates are 0 where nothing happened, and then there is no
hit rate and no distribution. A counter that appears began at 0.

A process that began again is counted from zero (`restarted`, and `notes` says why): a counter fell; or
what cannot change while it runs has changed: model, kind of engine, buckets, or what tells releases
apart (the labels `engine_type` and `tp_rank`, `prefill_effective_tokens_total`). A page of several
servers (the gateway's, several models) of which one came, left or began again is refused with a
`ValueError`: how much of its counters is of the window cannot be told.
"""

METRICS_HEAD = """\
## All metrics

In this order: requests and tokens, processes, queues, work, data parallelism, pools of the cache,
speculative decoding with LoRA and grammars, prefill and decode nodes, host memory, storage, encoder
servers, diffusion. *Never emitted*: declared, and never given a value by SGLang as it is published.
Releases "main": seen in the development branch, in no release to {newest}. A metric without a field is
in `raw_metrics`, like all others.
"""


def metrics_page() -> str:
    """The page of fields and metrics."""
    parts = [HEAD]
    for title, groups in (("the plan's", PLAN_GROUPS), ("native", NATIVE_GROUPS)):
        for group in groups:
            parts.append(f"### {group} ({title})\n")
            parts.append(_table(FIELD_HEAD, map(_field_row, _fields_of(group))))
        if groups is PLAN_GROUPS:
            parts.append(PLAN_NOTE)
    parts += [RANKS_HEAD, _table(("field", "made of", "meaning"), _rank_rows()), MODELS, DISTRIBUTIONS]
    parts += [WINDOW_HEAD, _table(("field", "meaning"), _window_rows())]
    parts += ["## Rules\n", RULES_HEAD, _table(("rule", "how the series become one number"), _rule_rows())]
    parts += [
        "## Labels\n",
        LABELS_HEAD,
        _table(("set", "of", "labels, with their first release"), _label_rows()),
    ]
    parts += [METRICS_HEAD.format(newest=NEWEST), _table(METRIC_HEAD, map(_metric_row, METRICS))]
    return "\n".join(parts)


RULES_HEAD = """\
Series that differ in `tp_rank`, `pp_rank`, `moe_ep_rank` and `pid` alone are of one group. Of a group
that series stands which has the lowest `pp_rank`, and of those the lowest `tp_rank`, as numbers. Of
series with a `priority` the empty one stands, which is the total; rule A and G add all. An empty label
is an absent one.
"""
LABELS_HEAD = """\
Each may be missing. From v0.5.9 a server adds what `--extra-metric-labels` says to all sets but Di, and
of X to `http_*` alone, until v0.5.22. The gateway adds `worker_addr`, Ray `ReplicaId`.
"""
FIELD_HEAD = ("field", "unit", "made of", "rule", "how", "absent")
METRIC_HEAD = ("metric", "type", "unit", "rule", "labels", "releases", "field", "meaning")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _fields_of(group: str) -> Iterator[Field]:
    return (field for field in FIELDS if field.name.partition(".")[0] == group)


def _field_row(field: Field) -> tuple[str, ...]:
    metrics = [_METRICS[name] for name in field.metrics]
    made_of = [source for metric in metrics for source in _sources(metric)]
    if field.own:
        made_of.append(f"or {_code(field.own)}")
    absent = field.absent
    if field.read is None and not field.by and metrics[0].forms[-1].since != "v0.3.5.post1":
        absent = f"before {metrics[0].forms[-1].since}, or {absent}"
    return (
        _code(field.name.partition(".")[2]),
        field.unit or metrics[0].unit,
        "<br>".join(made_of),
        ", ".join(dict.fromkeys(metric.rule.code for metric in metrics)),
        field.how or "as it stands",
        absent,
    )


def _rank_rows() -> Iterator[tuple[str, ...]]:
    for name, about in SGLangRank.model_fields.items():
        metric = RANK_COLUMNS.get(name)
        made_of = _sources(_METRICS[metric]) if metric else ["the label"]
        yield _code(name), "<br>".join(made_of), _one_line(about.description)


def _window_rows() -> Iterator[tuple[str, ...]]:
    for name, about in SGLangWindow.model_fields.items():
        yield _code(name), _one_line(about.description)


def _rule_rows() -> Iterator[tuple[str, ...]]:
    for rule in RULES:
        yield rule.code, rule.text


def _label_rows() -> Iterator[tuple[str, ...]]:
    for labels in LABEL_SETS:
        names = ", ".join(f"{_code(label)} {since}" for label, since in labels.since.items())
        yield labels.code, labels.text, names or "none of its own"


def _metric_row(metric: Metric) -> tuple[str, ...]:
    fields = [_code(field.name) for field in FIELDS if metric.name in field.metrics]
    types = "<br>".join(dict.fromkeys(form.type for form in metric.forms))
    releases = "<br>".join(
        (f"{_code(form.name)} " if form.name != metric.name else "") + _span(form) for form in metric.forms
    )
    own = "".join(f", {_code(label)}" for label in metric.own)
    return (
        _code(metric.name),
        types,
        metric.unit,
        metric.rule.code,
        metric.labels.code + own,
        releases,
        "<br>".join(fields) or "raw only",
        metric.help if metric.emitted else f"*Never emitted.* {metric.help}",
    )


def _sources(metric: Metric) -> list[str]:
    """The metric, and what it was, each with its releases."""
    types = len(metric.types) > 1
    return [f"{_code(form.name)} ({f'{form.type}, ' if types else ''}{_span(form)})" for form in metric.forms]


def _span(form: Form) -> str:
    if form.since == "main":
        return form.since
    return f"{form.since} to {form.until}" if form.until else f"{form.since} on"


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _code(text: str) -> str:
    return f"`{text}`"


# ---------------------------------------------------------------------- errors

ERRORS_HEAD = """\
# Errors

<!-- Written by tools/make_docs.py out of sglang_collect/errors.py and the core's list of reasons. -->

A read gives all or raises. Whatever this package raises about a page or a scrape is an
`SGLangCollectError`; mistakes of the program are `ValueError`, `TypeError` and `RuntimeError`, and memory
that runs out is a `MemoryError`. `str(error)` is one line for a person, with endpoint, time and what was
expected; programs read the attributes. All of them can be pickled.
"""

REASONS_HEAD = """\
## Reasons

Every failed scrape has one word out of a closed list: `error.reason` of a `ScrapeError`, the `reason` of a
fleet's result and of `scrape_failures_total`, the first word of the router's `error`. What stands behind
that word in the router's answer is the second column: it never repeats what a target sent. Nothing was used
of a page whose scrape failed; the newest good snapshot stays as `ScrapeResult.last_good`.
"""

ADVICE = {
    "connect_failed": "Nobody listens there, or a firewall refuses: is the server up, is it the right port?",
    "resolve_failed": "The name is not known to the resolver of this machine: a typing error, or DNS.",
    "local_resource": "This process has run out of file descriptors: raise `ulimit -n`, or lower "
    "`max_connections`.",
    "timeout_resolve": "DNS is slow. The look-up counts towards `timeout`.",
    "timeout_connect": "Packets are dropped: a firewall, a wrong address, a machine that is down.",
    "timeout_tls": "The port is open and does not speak TLS, or the machine is overloaded.",
    "timeout_first_byte": "The server is alive and does not answer: SGLang's event loop is held up, by a "
    "long prefill of many requests for one. A longer `timeout` helps.",
    "timeout_body": "The page began and did not end: a slow network, or a very large page.",
    "http_status": "`error.status` says what; 401 and 403 ask for credentials, 404 is the wrong path or a "
    "server started without `--enable-metrics`, 503 a server that is still loading.",
    "redirect": "Name the URL that it leads to: redirects are not followed, since they leave what was "
    "allowed.",
    "tls_expired": "Renew the certificate of the server, or set the clock of this machine.",
    "tls_untrusted": "Give the authority by `ca_file`.",
    "tls_hostname": "Ask for the server by the name in its certificate.",
    "tls_handshake": "No protocol or cipher in common, or the server asks for a `client_cert`.",
    "tls_config": "`ca_file` or `client_cert` is missing, unreadable or no PEM file.",
    "unsupported_scheme": "Only `http` and `https` are scraped.",
    "bad_url": "The URL cannot be read, or names a user: credentials go into `basic_auth` or `bearer_token`.",
    "host_not_allowed": "The host is in no entry of `Guard` or `RouterSettings.allow`.",
    "port_not_allowed": "The host is allowed, this port is not: an entry without ports allows 30000 to "
    "30099.",
    "address_not_allowed": "The host leads to an address that is not allowed, if only beside others. `*` "
    "leaves out link-local addresses and cloud metadata among others: those need an entry of their own.",
    "not_exposition": "Something else answered: a proxy's page, an API. Is it the `/metrics` path?",
    "malformed": "`error.line`, `.column` and `.excerpt` show where; see [Formats](formats.md).",
    "limit_exceeded": "`error.limit` and `.allowed` say which of `Limits`; raise it where the page is "
    "honest.",
    "framing": "What answers there speaks no HTTP/1, or says in two ways where its body ends.",
    "truncated": "The page ended in the middle of a line, or before the length it announced: the server "
    "died, or a proxy cut it.",
    "encoding": "The body is not the gzip that its header promises, or it is compressed in a way nobody "
    "asked for.",
    "headers_too_large": "A proxy or an impostor: metrics pages have few headers.",
    "reset": "The server or something on the way closed the connection: a restart, a crash, an idle "
    "time-out.",
    "empty_reply": "The server closed the connection without an answer: it may be shutting down.",
    "cancelled": "The program ended the scrape itself: a task was cancelled, a collector or fleet left.",
    "transfer": "libcurl failed in a way that has no word here; the message has libcurl's own.",
    "out_of_memory": "This process is out of memory. The exception is Python's own `MemoryError`.",
}
"""What to look at, by reason; a test holds its keys to the core's."""

_ATTRIBUTE = re.compile(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", re.MULTILINE | re.DOTALL)


def errors_page() -> str:
    """The page of exceptions and reasons."""
    tree = inspect.cleandoc(errors.__doc__ or "").split("::\n\n")[1].split("\n\n")[0]
    parts = [ERRORS_HEAD, f"```text\n{inspect.cleandoc(tree)}\n```\n", "## Exceptions\n"]
    parts += [
        _exception(getattr(errors, name)) for name in re.findall(r"\w+", tree) if name in errors.__all__
    ]
    parts += [REASONS_HEAD, _table(("reason", "words of the router", "exception", "look at"), _reason_rows())]
    return "\n".join(parts)


def _exception(one: type[BaseException]) -> str:
    text, _, attributes = (inspect.getdoc(one) or "").partition("\nAttributes:\n")
    rows = ((_code(name), _in_one_line(about)) for name, about in _ATTRIBUTE.findall(attributes))
    table = _table(("attribute", "what it holds"), rows) if attributes else ""
    parents = ", ".join(_code(parent.__name__) for parent in one.__bases__)
    return f"### {one.__name__}\n\n{_in_one_line(text)} A kind of {parents}.\n" + (
        f"\n{table}" if table else ""
    )


def _in_one_line(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _reason_rows() -> Iterator[tuple[str, ...]]:
    for reason, name in _core.REASONS.items():
        yield _code(reason), SENTENCES.get(reason, "target not allowed"), _code(name), ADVICE[reason]


# ------------------------------------------------------------------------ main

PAGES = {"metrics.md": metrics_page, "errors.md": errors_page}


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for name, page in PAGES.items():
        (folder / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
