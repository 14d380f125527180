"""How SGLang's series combine, and which labels tell them apart: the letters of the table in ``sglang``.

Why the rules are what they are:

- Schedulers write a series for each rank. Ranks of one data-parallel group run the same batch, so their
  gauges repeat one number; different groups (``dp_rank``) hold different requests, so theirs add up.
- With priority scheduling a scheduler's gauge has ``priority=""`` for all requests and a series for each
  priority beside it; a tokenizer's counter has each request in one of them. The first is taken from the
  total, the second is added.
- Some metrics are written by every rank, some only by the ranks that log (one of each group, or all with
  ``--enable-metrics-for-all-schedulers``). One rule holds for both: one of each group.
"""

from __future__ import annotations

from typing import Literal

from . import LabelSet, Rule

__all__ = [
    "ANY_RANK",
    "EVERY_SERIES",
    "FAILED",
    "LABEL_SETS",
    "PLAIN",
    "RULES",
    "UNRANKED",
    "A",
    "B",
    "C",
    "D",
    "D_LOGGED",
    "D_MEAN",
    "Di",
    "E",
    "E_EACH",
    "E_MAX",
    "En",
    "F",
    "G",
    "K",
    "N",
    "R",
    "Rx",
    "S",
    "St",
    "X",
]

# ----------------------------------------------------------------------- rules


def _one_of_a_group(code: str, text: str, reduce: Literal["sum", "max", "mean"] = "sum") -> Rule:
    """Of the series of a data-parallel group, which repeat one number, that of the first rank."""
    return Rule(
        code,
        text,
        where=(("priority", "is", ("",)),),
        without=("tp_rank", "pp_rank", "moe_ep_rank", "pid"),
        lowest=("pp_rank", "tp_rank"),
        reduce=reduce,
    )


A = Rule("A", "Each series is a part of the whole: all added up.")
B = _one_of_a_group("B", "The ranks of a group repeat one number: one of each group, added up.")
C = _one_of_a_group("C", "A ratio or a mean does not add up: one of each group, then the mean.", "mean")
D = _one_of_a_group("D", "Every rank records it: one of each group, added up.")
D_MEAN = _one_of_a_group("D", "Likewise; but of gauges the mean.", "mean")
D_LOGGED = _one_of_a_group("D*", "The ranks that log record it: one of each group, added up.")
E = _one_of_a_group("E", "A capacity that every rank states: one of each group, added up.")
E_MAX = _one_of_a_group("E", "A setting that all ranks share: the largest.", "max")
E_EACH = Rule("E", "A constant of each rank's own: all added up.", where=(("priority", "is", ("",)),))
F = _one_of_a_group(
    "F",
    "Where ranks are labelled (the radix cache's, from v0.5.21) one of each group, added up. Else as it "
    "stands: the server has added all ranks, up to tp times pp too many.",
)
G = Rule("G", "Counted by a process, not by a rank: all added up.")
N = Rule("N", "An encoder server, each rank with requests of its own: all added up.")
S = Rule(
    "S",
    "Storage: the ranks of a group move the same tokens: one of each group, added up.",
    without=("tp_rank", "pp_rank", "attn_cp_rank"),
    lowest=("pp_rank", "tp_rank", "attn_cp_rank"),
)

RULES = (A, B, C, D, D_MEAN, D_LOGGED, E, E_MAX, E_EACH, F, G, N, S)

FAILED = Rule(
    "G",
    "Answers 5xx of every path that generates.",
    where=(
        ("status_code", "starts", ("5",)),
        ("endpoint", "not starts", ("/metrics", "/health", "/v1/models", "/v1/loads", "/get_load", "/ping")),
        ("endpoint", "not ends", ("_info",)),
    ),
)
EVERY_SERIES = Rule("", "Every series there is.")
ANY_RANK = Rule("", "Every series, but one where they differ in the process alone.", without=("pid",))
UNRANKED = Rule("", "Every series without a rank.", where=(("tp_rank", "is", ("",)),))
PLAIN = Rule(
    "",
    "A plain series: a real server always writes model_name, and its /v1/loads writes dp_rank.",
    where=(("model_name", "is", ("",)), ("dp_rank", "is", ("",))),
)

# ---------------------------------------------------------------------- labels


def _labels(code: str, text: str, *classes: str, **since: str) -> LabelSet:
    return LabelSet(code, text, classes, since)


R = _labels(
    "R",
    "A scheduler, for its rank. dp_rank only with data parallelism, priority only with priority scheduling. "
    "engine_type is unified, prefill or decode, or dynamic where a server may switch between them (v0.5.21).",
    "SchedulerMetricsCollector",
    model_name="v0.3.5.post1",
    engine_type="v0.4.3.post4",
    tp_rank="v0.4.9.post3",
    pp_rank="v0.4.9.post3",
    dp_rank="v0.4.9.post3",
    moe_ep_rank="v0.5.7",
    priority="v0.5.10rc0",
)
K = _labels(
    "K",
    "The tokenizer, for the whole server. Besides, from v0.5.3, the labels that requests bring in a header: "
    "empty where one brings none.",
    "TokenizerMetricsCollector",
    model_name="v0.3.5.post1",
    priority="v0.5.10rc0",
    engine_type="v0.5.11",
)
Rx = _labels(
    "Rx",
    "The radix cache of a rank. It names no model, and no rank before v0.5.21. cache_type is its class.",
    "RadixCacheMetricsCollector",
    cache_type="v0.5.5.post1",
    tp_rank="v0.5.21",
    pp_rank="v0.5.21",
    dp_rank="v0.5.21",
)
St = _labels(
    "St",
    "The storage behind the cache of a rank.",
    "StorageMetricsCollector",
    storage_backend="v0.5.2",
    tp_rank="v0.5.2",
    dp_rank="v0.5.2",
    pp_rank="v0.5.8",
    pp_size="v0.5.8",
    attn_cp_rank="v0.5.11",
    attn_cp_size="v0.5.11",
)
En = _labels(
    "En",
    "A server that only encodes images, video and audio.",
    "EncoderMetricsCollector",
    "DPDispatcher",
    model_name="v0.5.15",
    dp_rank="v0.5.15",
)
Di = _labels(
    "Di",
    "A server of diffusion models, for a replica.",
    "DiffusionMetrics",
    role="v0.5.21",
    replica="v0.5.21",
)
X = _labels("X", "A process of the server.")

LABEL_SETS = (R, K, Rx, St, En, Di, X)
"""From v0.5.9 a server writes what ``--extra-metric-labels`` says on each of its own but ``Di`` and, of
``X``, on all but ``http_*`` until v0.5.22. The gateway's page adds ``worker_addr``, Ray ``ReplicaId``."""
