"""The exceptions: their tree, their attributes, and that they cross processes."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from sglang_collect import errors

SCRAPE: dict[str, Any] = {"endpoint": "http://gpu1:30000/metrics", "elapsed": 0.25, "reason": "http_status"}
EXAMPLES: dict[str, dict[str, Any]] = {
    "ExpositionError": {
        "line": 3,
        "column": 7,
        "reason": "expected a value",
        "excerpt": "x\\xff",
        "endpoint": "http://gpu1:30000/metrics",
    },
    "LimitExceeded": {"limit": "samples", "allowed": 1_000_000, "endpoint": None},
    "ScrapeError": SCRAPE,
    "ConnectError": SCRAPE,
    "ScrapeTimeout": SCRAPE,
    "HTTPStatusError": {**SCRAPE, "status": 503, "retry_after": 2.5},
    "TLSError": SCRAPE,
    "TargetRefused": SCRAPE,
    "NotExposition": SCRAPE,
}


def test_every_exception_has_an_example() -> None:
    assert set(errors.__all__) == {"SGLangCollectError", *EXAMPLES}


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize(
    "again",
    [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy],
    ids=["pickle", "copy", "deepcopy"],
)
def test_an_error_keeps_everything_when_it_is_pickled_or_copied(name: str, again: Any) -> None:
    error = getattr(errors, name)("what happened", **EXAMPLES[name])
    error.extra = "added later"
    twin = again(error)
    assert type(twin) is type(error)
    assert str(twin) == "what happened"
    assert twin.args == ("what happened",)
    assert {key: getattr(twin, key) for key in EXAMPLES[name]} == EXAMPLES[name]
    assert twin.extra == "added later"


@pytest.mark.parametrize("name", EXAMPLES)
def test_one_clause_catches_everything(name: str) -> None:
    with pytest.raises(errors.SGLangCollectError, match=r"^what happened$"):
        raise getattr(errors, name)("what happened", **EXAMPLES[name])


def test_callers_who_know_only_the_built_in_kinds_catch_them_too() -> None:
    assert issubclass(errors.ExpositionError, ValueError)
    assert issubclass(errors.ScrapeTimeout, TimeoutError)
    assert not issubclass(errors.ExpositionError, errors.ScrapeError)
    assert not issubclass(errors.LimitExceeded, errors.ScrapeError)


def test_a_status_error_without_retry_after_says_none() -> None:
    assert errors.HTTPStatusError("gone", status=404, **SCRAPE).retry_after is None
