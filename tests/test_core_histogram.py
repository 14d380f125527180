"""Histogram: what it is made of, quantiles, sums and differences."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest

from sglang_collect._core import Histogram

INF = math.inf
NAN = math.nan


@pytest.fixture
def hist() -> Histogram:
    return Histogram([1.0, 2.0, 4.0, INF], [2, 6, 8, 10], sum=21.0)


def test_it_says_what_it_was_made_of(hist: Histogram) -> None:
    assert hist.bounds == (1.0, 2.0, 4.0, INF)
    assert hist.counts == (2.0, 6.0, 8.0, 10.0)
    assert (hist.count, hist.sum, hist.mean) == (10.0, 21.0, 2.1)
    assert repr(hist) == "<Histogram: count 10.0, sum 21.0, 4 buckets>"


def test_a_summary_has_what_the_methods_tell(hist: Histogram) -> None:
    told = hist.summary({"p50": 0.5, "p99": 0.99})
    assert told == {
        "count": 10,
        "sum": 21.0,
        "mean": 2.1,
        "p50": hist.quantile(0.5),
        "p99": 4.0,
        "resolution": {"p50": hist.resolution(0.5), "p99": (4.0, None)},
    }
    assert list(told) == ["count", "sum", "mean", "p50", "p99", "resolution"]
    assert type(told["count"]) is int


def test_a_summary_has_none_for_what_is_no_number() -> None:
    empty = Histogram([1.0, INF], [0, 0], sum=INF).summary({"p50": 0.5})
    assert empty == {"count": 0, "sum": None, "mean": None, "p50": None, "resolution": {}}
    below = Histogram([-1.0, INF], [4, 4]).summary({"p50": 0.5})
    assert below is not None
    assert below["resolution"] == {"p50": (None, -1.0)}
    assert Histogram([INF], [1e19]).summary({}) is None


def test_quantiles_of_a_summary_are_a_dict_of_ratios(hist: Histogram) -> None:
    with pytest.raises(TypeError):
        hist.summary([("p50", 0.5)])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="0 to 1"):
        hist.summary({"p50": 1.5})


def test_a_quantile_that_changes_the_dict_does_no_harm(hist: Histogram) -> None:
    quantiles: dict[str, Any] = {}

    class Half:
        def __float__(self) -> float:
            quantiles.clear()
            return 0.5

    quantiles["".join(("p", "50"))] = Half()
    quantiles["p99"] = 0.99
    told = hist.summary(quantiles)
    assert told is not None
    assert told["p50"] == hist.quantile(0.5)
    assert "p99" not in told


def test_it_is_made_of_any_iterables_of_numbers() -> None:
    made = Histogram(bounds=iter([1, INF]), counts=(n for n in (1, True)))
    assert (made.bounds, made.counts, made.sum, made.mean) == ((1.0, INF), (1.0, 1.0), None, None)


def test_a_sum_of_nan_is_no_sum() -> None:
    assert Histogram([INF], [1], sum=NAN).sum is None


@pytest.mark.parametrize(
    ("bounds", "counts"),
    [
        ([], []),
        ([1.0, INF], [1]),
        ([1.0, 2.0], [1, 2]),
        ([2.0, 1.0, INF], [1, 2, 3]),
        ([1.0, 1.0, INF], [1, 2, 3]),
        ([NAN, INF], [1, 2]),
        ([1.0, INF], [2, 1]),
        ([1.0, INF], [-1, 1]),
        ([1.0, INF], [1, NAN]),
    ],
)
def test_what_makes_no_histogram_is_a_value_error(bounds: list[float], counts: list[float]) -> None:
    with pytest.raises(ValueError, match=r"bound|count|bucket"):
        Histogram(bounds, counts)


def test_what_is_no_number_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        Histogram(["1", INF], [1, 1])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        Histogram(5, [1])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Histogram([INF], [1], sum="1")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Histogram([INF], [1], 5.0)  # type: ignore[call-arg]


# ------------------------------------------------------------------- quantiles


@pytest.mark.parametrize(
    ("q", "value", "bucket"),
    [
        (0.0, 0.0, (0.0, 1.0)),
        (0.1, 0.5, (0.0, 1.0)),
        (0.2, 1.0, (0.0, 1.0)),
        (0.4, 1.5, (1.0, 2.0)),
        (0.8, 4.0, (2.0, 4.0)),
        (0.9, 4.0, (4.0, INF)),
        (1, 4.0, (4.0, INF)),
    ],
)
def test_a_quantile_is_linear_inside_its_bucket(
    hist: Histogram, q: float, value: float, bucket: tuple[float, float]
) -> None:
    assert hist.quantile(q) == pytest.approx(value)
    assert hist.resolution(q) == bucket


def test_the_first_bucket_has_no_lower_end_where_its_bound_is_negative() -> None:
    hist = Histogram([-1.0, 1.0, INF], [1, 2, 2])
    assert hist.quantile(0.1) == -1.0
    assert hist.resolution(0.1) == (-INF, -1.0)
    assert hist.resolution(1.0) == (-1.0, 1.0)


def test_an_empty_histogram_has_neither_mean_nor_quantiles() -> None:
    empty = Histogram([1.0, INF], [0, 0], sum=0.0)
    assert (empty.mean, empty.quantile(0.5), empty.resolution(0.5), empty.count) == (None, None, None, 0.0)


def test_a_summary_has_a_mean_and_no_quantiles() -> None:
    summary = Histogram([INF], [4], sum=8.0)
    assert (summary.mean, summary.quantile(0.5), summary.resolution(0.5)) == (2.0, None, None)


@pytest.mark.parametrize("q", [-0.01, 1.01, NAN, INF, -INF])
def test_a_quantile_is_from_0_to_1(hist: Histogram, q: float) -> None:
    for method in (hist.quantile, hist.resolution):
        with pytest.raises(ValueError, match="a quantile is from 0 to 1, not"):
            method(q)
    with pytest.raises(TypeError):
        hist.quantile("0.5")  # type: ignore[arg-type]


# ------------------------------------------------------------------ arithmetic


def test_adding_takes_the_bounds_that_both_have(hist: Histogram) -> None:
    other = Histogram([2.0, 3.0, INF], [1, 2, 3], sum=9.0)
    both = hist + other
    assert (both.bounds, both.counts, both.sum) == ((2.0, INF), (7.0, 13.0), 30.0)
    assert other + hist == both
    assert sum([hist, hist], start=other).count == 23.0


def test_a_difference_is_what_came_between(hist: Histogram) -> None:
    earlier = Histogram([1.0, 2.0, 4.0, INF], [1, 2, 3, 4], sum=10.0)
    assert (hist - earlier).counts == (1.0, 4.0, 5.0, 6.0)
    assert (hist - earlier).sum == 11.0
    assert hist.since(earlier) == (hist - earlier, False)
    assert (hist - hist).quantile(0.5) is None


def test_where_a_count_fell_the_difference_is_the_later_one(hist: Histogram) -> None:
    earlier = Histogram([1.0, 2.0, 4.0, INF], [3, 3, 3, 3], sum=3.0)
    assert hist - earlier == hist
    window, restarted = hist.since(earlier)
    assert window == hist
    assert restarted is True


def test_only_histograms_add_up(hist: Histogram) -> None:
    for other in (1, None, "x", (1.0,)):
        with pytest.raises(TypeError):
            hist + other  # type: ignore[operator]
        with pytest.raises(TypeError):
            other - hist  # type: ignore[operator]
        with pytest.raises(TypeError, match="earlier must be a Histogram"):
            hist.since(other)  # type: ignore[arg-type]


# -------------------------------------------------------------------- as values


def test_histograms_compare_by_value(hist: Histogram) -> None:
    def make(bounds: list[float], counts: list[float], sum: float | None) -> Histogram:
        return Histogram(bounds, counts, sum=sum)

    same = make([1, 2, 4, INF], [2, 6, 8, 10], 21)
    assert same == hist
    assert hash(same) == hash(hist)
    assert make([1, INF], [1, 2], None) == make([1, INF], [1, 2], NAN)
    for other in (
        make([1, 2, 3, INF], [2, 6, 8, 10], 21),
        make([1, 2, 4, INF], [2, 6, 7, 10], 21),
        make([1, 2, 4, INF], [2, 6, 8, 10], None),
        make([1, 2, INF], [2, 6, 10], 21),
        "x",
    ):
        assert other != hist
    with pytest.raises(TypeError):
        hist < same  # type: ignore[operator]  # noqa: B015


@pytest.mark.parametrize("sum", [21.0, None])
def test_a_histogram_survives_pickle_and_copy(sum: float | None) -> None:
    hist = Histogram([1.0, INF], [2, 10], sum=sum)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(hist, protocol)) == hist
    assert copy.copy(hist) == copy.deepcopy(hist) == hist
