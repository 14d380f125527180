"""Windows: rates, hit rate and latency of what happened between two snapshots."""

from __future__ import annotations

import math
import random
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from truth import DATA, Distribution, Truth, add, recorded_pages

from sglang_collect import SGLangMetricsSnapshot, SGLangWindow
from sglang_collect.catalog import Reading, sglang
from sglang_collect.window import _COUNTED, _bounds_differ, _restarts, _suspects

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
ENGINE = 'model_name="m",engine_type="unified",tp_rank="0"'


def read(page: str, seconds: float = 0.0, instance_id: str = "sglang-001") -> SGLangMetricsSnapshot:
    return SGLangMetricsSnapshot.from_text(
        page, instance_id=instance_id, timestamp=START + timedelta(seconds=seconds)
    )


def window(earlier: str, later: str, seconds: float = 10.0) -> SGLangWindow:
    return read(later, seconds).since(read(earlier))


def counters(**values: float) -> str:
    """A line for each; realtime__decode is the counter realtime_tokens_total by mode."""
    lines = []
    for key, value in values.items():
        name, _, mode = key.partition("__")
        if mode:
            lines.append(f'sglang:{name}_tokens_total{{{ENGINE},mode="{mode}"}} {value}\n')
        else:
            lines.append(f"sglang:{name}{{{ENGINE}}} {value}\n")
    return "".join(lines)


def histogram(name: str, counts: dict[str, float], total: float) -> str:
    buckets = "".join(f'sglang:{name}_bucket{{{ENGINE},le="{le}"}} {n}\n' for le, n in counts.items())
    count = list(counts.values())[-1]
    return (
        f"# TYPE sglang:{name} histogram\nsglang:{name}_sum{{{ENGINE}}} {total}\n{buckets}"
        f"sglang:{name}_count{{{ENGINE}}} {count}\n"
    )


# ------------------------------------------------------------------------ rates


def test_rates_are_differences_over_the_time_between() -> None:
    seen = window(
        counters(num_requests_total=100, prompt_tokens_total=1000, generation_tokens_total=500),
        counters(num_requests_total=130, prompt_tokens_total=1600, generation_tokens_total=900),
        seconds=5.0,
    )
    assert seen.seconds == 5.0
    assert not seen.restarted
    assert seen.requests_per_second == 6.0
    assert seen.prompt_tokens_per_second == 120.0
    assert seen.generation_tokens_per_second == 80.0


def test_tokens_are_counted_as_they_come_where_the_page_tells() -> None:
    finished = counters(prompt_tokens_total=1000, generation_tokens_total=500)
    seen = window(
        finished + counters(realtime__decode=500, realtime__prefill_compute=600, realtime__prefill_cache=400),
        finished + counters(realtime__decode=900, realtime__prefill_compute=700, realtime__prefill_cache=500),
    )
    assert seen.generation_tokens_per_second == 40.0
    assert seen.prompt_tokens_per_second == 20.0


def test_before_that_the_gaps_between_tokens_are_counted() -> None:
    finished = counters(generation_tokens_total=500)
    seen = window(
        finished + histogram("inter_token_latency_seconds", {"0.1": 90, "+Inf": 100}, 5.0),
        finished + histogram("inter_token_latency_seconds", {"0.1": 190, "+Inf": 300}, 25.0),
    )
    assert seen.generation_tokens_per_second == 20.0


def test_an_idle_server_has_rates_of_zero_and_no_distribution() -> None:
    page = counters(
        num_requests_total=100, prompt_tokens_total=1000, generation_tokens_total=500, cached_tokens_total=10
    ) + histogram("time_to_first_token_seconds", {"1": 90, "+Inf": 100}, 50.0)
    seen = window(page, page)
    assert (seen.requests_per_second, seen.prompt_tokens_per_second, seen.generation_tokens_per_second) == (
        0.0,
        0.0,
        0.0,
    )
    assert seen.cache_hit_rate is None
    assert seen.latency.time_to_first_token is None


def test_without_a_source_there_is_no_rate() -> None:
    seen = window(counters(num_running_reqs=3), counters(num_running_reqs=1))
    assert seen.requests_per_second is None
    assert seen.prompt_tokens_per_second is None
    assert seen.generation_tokens_per_second is None
    assert seen.cache_hit_rate is None
    assert not seen.restarted


def test_a_counter_that_appears_began_at_zero() -> None:
    seen = window("", counters(num_requests_total=20))
    assert seen.requests_per_second == 2.0
    assert not seen.restarted


def test_requests_of_the_oldest_servers_are_counted_by_their_latency() -> None:
    seen = window(
        histogram("e2e_request_latency_seconds", {"1": 5, "+Inf": 10}, 20.0),
        histogram("e2e_request_latency_seconds", {"1": 5, "+Inf": 30}, 90.0),
    )
    assert seen.requests_per_second == 2.0


# ---------------------------------------------------------------------- hit rate


def test_the_hit_rate_is_that_of_the_window() -> None:
    seen = window(
        counters(prompt_tokens_total=1000, cached_tokens_total=900),
        counters(prompt_tokens_total=1100, cached_tokens_total=910),
    )
    assert seen.cache_hit_rate == pytest.approx(0.1)


def test_the_hit_rate_prefers_counters_that_moved() -> None:
    def page(hit: float, read: float, cached: float, computed: float) -> str:
        return counters(
            prefill_effective__device_hit=hit,
            prefill_effective__input=read,
            realtime__prefill_cache=cached,
            realtime__prefill_compute=computed,
        )

    assert window(page(0, 0, 0, 0), page(20, 80, 50, 50)).cache_hit_rate == 0.2
    assert window(page(9, 9, 0, 0), page(9, 9, 50, 50)).cache_hit_rate == 0.5


def test_the_gauge_of_an_old_server_says_nothing_of_a_window() -> None:
    page = 'sglang:cache_hit_rate{model_name="m"} 0.25\n'
    assert window(page, page).cache_hit_rate is None


# ----------------------------------------------------------------------- latency


def test_latency_is_that_of_the_requests_in_between() -> None:
    seen = window(
        histogram("time_to_first_token_seconds", {"0.1": 100, "1": 100, "+Inf": 100}, 5.0),
        histogram("time_to_first_token_seconds", {"0.1": 100, "1": 150, "+Inf": 150}, 35.0),
    ).latency.time_to_first_token
    assert seen is not None
    assert (seen.count, seen.sum, seen.mean) == (50, 30.0, 0.6)
    assert seen.p50 == pytest.approx(0.55)


def test_a_quantile_of_a_window_tells_its_bucket() -> None:
    seen = window(
        histogram("time_to_first_token_seconds", {"0.1": 5, "1": 5, "+Inf": 5}, 5.0),
        histogram("time_to_first_token_seconds", {"0.1": 9, "1": 15, "+Inf": 15}, 8.0),
    ).latency.time_to_first_token
    assert seen is not None
    assert seen.resolution["p50"] == (0.1, 1.0)


def test_buckets_that_differ_inside_a_page_are_compared_on_the_shared_ones() -> None:
    first = histogram("queue_time_seconds", {"1": 0, "2": 0, "+Inf": 10}, 100.0)
    other = (
        'sglang:queue_time_seconds_sum{model_name="n"} 20.0\n'
        + "".join(
            f'sglang:queue_time_seconds_bucket{{model_name="n",le="{le}"}} 10\n' for le in ("2", "4", "+Inf")
        )
        + 'sglang:queue_time_seconds_count{model_name="n"} 10\n'
    )
    seen = window(first, first + other)
    assert not seen.restarted
    assert seen.notes == [
        "buckets differ: queue_time_seconds was compared on the bounds that both pages have"
    ]
    queue = seen.latency.queue_time
    assert queue is not None
    assert (queue.count, queue.sum, queue.p99) == (10, 20.0, pytest.approx(1.98))


def test_pages_that_share_no_bucket_leave_a_mean_and_no_quantile() -> None:
    def page(*bounds: str) -> str:
        labels = f'model_name="{len(bounds)}"'
        return (
            "".join(
                f'sglang:queue_time_seconds_bucket{{{labels},le="{le}"}} 10\n' for le in (*bounds, "+Inf")
            )
            + f"sglang:queue_time_seconds_count{{{labels}}} 10\n"
            + f"sglang:queue_time_seconds_sum{{{labels}}} 20\n"
        )

    kind = "# TYPE sglang:queue_time_seconds histogram\n"
    queue = window(kind + page("1"), kind + page("1") + page("2", "3")).latency.queue_time
    assert queue is not None
    assert (queue.count, queue.mean, queue.p50, queue.resolution) == (10, 2.0, None, {})


def test_a_histogram_that_could_not_be_read_gives_no_window() -> None:
    broken = histogram("queue_time_seconds", {"1": 5, "2": 3, "+Inf": 10}, 100.0)
    whole = histogram("queue_time_seconds", {"1": 5, "2": 5, "+Inf": 20}, 120.0)
    for earlier, later in ((broken, whole), (whole, broken)):
        seen = window(earlier, later)
        assert seen.latency.queue_time is None
        assert not seen.restarted


@pytest.mark.parametrize("mode", ["prefill_compute", "prefill_cache", "decode"])
def test_where_a_part_is_or_was_nan_the_others_do_not_pass_for_the_whole(mode: str) -> None:
    whole = {f"realtime__{part}": 10.0 for part in ("prefill_compute", "prefill_cache", "decode")}
    broken = counters(**{**whole, f"realtime__{mode}": math.nan})
    assert "cache_metrics.cache_hit_rate" in read(broken).absent
    for pages in ((broken, counters(**whole)), (counters(**whole), broken), (broken, broken)):
        seen = window(*pages)
        assert seen.cache_hit_rate is None
        assert seen.prompt_tokens_per_second is None
        assert seen.generation_tokens_per_second == (None if mode == "decode" else 0.0)
        assert not seen.restarted


def test_a_counter_that_was_nan_gives_no_rate() -> None:
    seen = window(counters(num_requests_total=math.nan), counters(num_requests_total=5))
    assert seen.requests_per_second is None


# ---------------------------------------------------------------------- restarts


def test_after_a_restart_everything_counts_from_zero() -> None:
    seen = window(
        counters(num_requests_total=240, prompt_tokens_total=10)
        + histogram("time_to_first_token_seconds", {"1": 5, "+Inf": 5}, 2.0),
        counters(num_requests_total=20, prompt_tokens_total=50)
        + histogram("time_to_first_token_seconds", {"1": 20, "+Inf": 20}, 8.0),
    )
    assert seen.restarted
    assert seen.requests_per_second == 2.0
    assert seen.prompt_tokens_per_second == 5.0
    assert seen.latency.time_to_first_token is not None
    assert seen.latency.time_to_first_token.count == 20


def test_a_mode_that_has_overtaken_its_old_count_counts_from_zero_too() -> None:
    seen = window(
        counters(realtime__decode=50, realtime__prefill_compute=500),
        counters(realtime__decode=60, realtime__prefill_compute=100),
    )
    assert (seen.restarted, seen.generation_tokens_per_second) == (True, 6.0)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (counters(num_aborted_requests_total=3), counters(num_aborted_requests_total=2)),
        (
            counters(realtime__decode=5, realtime__prefill_cache=1),
            counters(realtime__decode=1, realtime__prefill_cache=9),
        ),
        (
            histogram("queue_time_seconds", {"1": 5, "+Inf": 9}, 9.0),
            histogram("queue_time_seconds", {"1": 4, "+Inf": 9}, 9.0),
        ),
        (
            histogram("queue_time_seconds", {"1": 5, "+Inf": 9}, 9.0),
            histogram("queue_time_seconds", {"1": 5, "+Inf": 10}, 8.9),
        ),
        (counters(num_requests_total=5), ""),
        (histogram("queue_time_seconds", {"1": 5, "+Inf": 9}, 9.0), ""),
    ],
    ids=["counter", "one mode", "one bucket", "a sum", "counter gone", "histogram gone"],
)
def test_any_counter_that_fell_is_a_restart(earlier: str, later: str) -> None:
    assert window(earlier, later).restarted


def test_asking_those_alone_that_may_have_fallen_finds_all_that_did(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(7)
    page = (Path(__file__).parent / "data" / "simulated-dp2-tp2.prom").read_text()
    seen: set[str] = set()
    for _ in range(150):
        readings = [Reading(sglang.plan().fold(disturbed(page, rng))) for _ in range(2)]
        found = _restarts(*readings)
        notes = [metric.name for metric in _COUNTED if _bounds_differ(*readings, metric.name)]
        assert {metric.name for metric in _suspects(*readings)} >= set(notes)
        with monkeypatch.context() as patch:
            patch.setattr("sglang_collect.window._suspects", lambda later, earlier: _COUNTED)
            assert _restarts(*readings) == found
        seen.update(found)
    assert len(seen) > 5
    alone = Reading(sglang.plan().fold(page))
    assert (_restarts(alone, alone), _suspects(alone, alone)) == ([], [])


def disturbed(page: str, rng: random.Random) -> str:
    """The page with a few of its numbers changed, and without a few of its lines."""
    lines = page.splitlines()
    for at in rng.sample(range(len(lines)), rng.choice([0, 3, 10])):
        if not lines[at].startswith("#"):
            series, value = lines[at].rsplit(" ", 1)
            lines[at] = rng.choice(["", f"{series} {float(value) * 1.5}", f"{series} NaN", f"{series} 1"])
    return "\n".join(lines) + "\n"


def test_a_restarted_server_without_a_request_has_rates_of_zero() -> None:
    seen = window(counters(num_requests_total=5), counters(num_running_reqs=0))
    assert (seen.restarted, seen.requests_per_second) == (True, 0.0)


def test_a_sum_that_was_added_in_another_order_is_no_restart() -> None:
    pages = [
        histogram("queue_time_seconds", {"1": 5, "+Inf": 9}, total) for total in (0.6000000000000001, 0.6)
    ]
    assert not window(*pages).restarted


def test_a_restart_is_explained() -> None:
    earlier = counters(num_requests_total=5, prompt_tokens_total=5)
    assert window(earlier, counters(num_requests_total=4, prompt_tokens_total=6)).notes == [
        "restarted: num_requests_total fell"
    ]
    assert window(earlier, "").notes == ["restarted: num_requests_total and 1 more fell"]
    assert window(earlier, earlier).notes == []


# ---------------------------------------------- other labels, buckets, releases


def test_other_buckets_are_those_of_another_process() -> None:
    seen = window(
        histogram("queue_time_seconds", {"1": 0, "2": 0, "+Inf": 10}, 100.0),
        histogram("queue_time_seconds", {"2": 10, "4": 10, "+Inf": 20}, 120.0),
    )
    assert seen.notes == ["restarted: other buckets in queue_time_seconds"]
    assert seen.restarted
    queue = seen.latency.queue_time
    assert queue is not None
    assert (queue.count, queue.sum) == (20, 120.0)


@pytest.mark.parametrize(
    ("old", "new"),
    [('model_name="m",', ""), (',tp_rank="0"', ""), (ENGINE, 'model_name="m"')],
    ids=["no matter", "ranks unnamed", "engine unnamed"],
)
def test_labels_that_appear_are_those_of_another_release(old: str, new: str) -> None:
    later = counters(num_running_reqs=1, num_requests_total=30, prompt_tokens_total=100)
    earlier = counters(num_running_reqs=1, num_requests_total=10, prompt_tokens_total=20)
    other = earlier.replace(old, new)
    told = [] if "model_name" in old and not new else ["restarted: another release of SGLang"]
    for seen in (window(other, later), window(earlier, later.replace(old, new))):
        assert seen.notes == told
        assert seen.requests_per_second == (3.0 if told else 2.0)


def test_a_counter_that_is_there_from_the_start_tells_a_release() -> None:
    page = counters(num_running_reqs=1, num_requests_total=10)
    newer = counters(num_running_reqs=1, num_requests_total=30, prefill_effective__input=5)
    assert window(page, newer).notes == ["restarted: another release of SGLang"]
    assert window(page, newer).requests_per_second == 3.0


def test_a_label_with_more_values_than_before_is_the_same_server() -> None:
    def page(**shares: int) -> str:
        return "".join(
            f'sglang:num_requests_total{{model_name="m",is_streaming="{s}"}} {n}\n' for s, n in shares.items()
        )

    seen = window(page(true=10), page(true=20, false=10))
    assert not seen.restarted
    assert seen.requests_per_second == 2.0


def test_a_server_with_another_model_has_begun_again() -> None:
    earlier = counters(num_requests_total=10, prompt_tokens_total=100)
    later = counters(num_requests_total=30, prompt_tokens_total=300).replace(
        'model_name="m"', 'model_name="n"'
    )
    seen = window(earlier, later)
    assert (seen.restarted, seen.requests_per_second) == (True, 3.0)
    assert seen.notes == ["restarted: another model: m, then n"]


def test_what_a_page_names_is_told_printable_and_cut() -> None:
    earlier = counters(num_requests_total=10)
    seen = window(earlier, earlier.replace('model_name="m"', 'model_name="' + "\x1b[2J" + "n" * 5000 + '"'))
    assert seen.notes == ["restarted: another model: m, then \\x1b[2J" + "n" * 73]


def test_a_server_of_another_kind_has_begun_again() -> None:
    earlier = counters(num_requests_total=10)
    seen = window(earlier, counters(num_requests_total=30).replace("unified", "decode"))
    assert seen.notes == ["restarted: another kind of engine: unified, then decode"]


def gateway(**workers: int) -> str:
    """A page of the model gateway; each engine has finished so many requests."""
    return "".join(
        f'sglang_num_running_reqs{{model_name="m",tp_rank="0",worker_addr="{address}"}} 1\n'
        f'sglang_num_requests_total{{model_name="m",worker_addr="{address}"}} {finished}\n'
        for address, finished in workers.items()
    )


def test_engines_behind_the_gateway_are_counted_together() -> None:
    seen = window(gateway(a=100, b=10), gateway(a=150, b=20))
    assert (seen.restarted, seen.requests_per_second) == (False, 6.0)


@pytest.mark.parametrize(
    ("later", "told"),
    [
        (gateway(a=150, b=20, c=5000), "other servers than before: c joined"),
        (gateway(a=150), "other servers than before: b left"),
        (gateway(a=150, c=20), "other servers than before: b left, c joined"),
        (gateway(a=150, b=5), r"one of them began again \(restarted: num_requests_total fell\)"),
    ],
    ids=["joined", "left", "replaced", "restarted"],
)
def test_where_engines_behind_the_gateway_change_there_is_no_window(later: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        window(gateway(a=100, b=10), later)


def test_one_engine_behind_the_gateway_may_begin_again() -> None:
    assert window(gateway(a=100), gateway(a=20)).requests_per_second == 2.0


def test_models_that_share_a_page_and_began_again_have_no_window() -> None:
    both = counters(num_requests_total=9) + counters(num_requests_total=9).replace('"m"', '"n"')
    with pytest.raises(ValueError, match="of several servers"):
        window(both, counters(num_requests_total=9))


def test_a_gauge_that_fell_is_no_restart() -> None:
    page = "sglang:lora_pool_slots_total{%s} %d\n"
    assert not window(page % (ENGINE, 9), page % (ENGINE, 1)).restarted


# ------------------------------------------------------------------------ refusals


def test_snapshots_of_two_servers_have_no_window() -> None:
    with pytest.raises(ValueError, match="two instances: 'a' and 'b'"):
        read("", 1.0, instance_id="b").since(read("", instance_id="a"))


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_the_earlier_snapshot_has_to_be_earlier(seconds: float) -> None:
    with pytest.raises(ValueError, match="not in order of time"):
        read("", seconds).since(read(""))


def test_a_window_is_between_snapshots() -> None:
    earlier: Any = None
    with pytest.raises(TypeError, match="expected a snapshot, not NoneType"):
        read("").since(earlier)


def test_a_snapshot_out_of_json_has_no_window() -> None:
    earlier, later = read(""), read("", 1.0)
    again = SGLangMetricsSnapshot.model_validate_json(later.model_dump_json())
    for one, other in ((again, earlier), (later, SGLangMetricsSnapshot.model_validate(earlier.model_dump()))):
        with pytest.raises(ValueError, match=r"sglang-001.* came out of JSON"):
            one.since(other)


def test_a_window_is_a_model_that_survives_json() -> None:
    seen = window(counters(num_requests_total=1), counters(num_requests_total=2))
    assert SGLangWindow.model_validate_json(seen.model_dump_json()) == seen


# ------------------------------------------------------------------ recorded pages

SEQUENCE = [DATA / "sglang" / f"v0.5.18-seq-{n}.prom" for n in ("0", "1", "2", "3-after-restart")]
recorded = pytest.mark.skipif(not SEQUENCE[0].exists(), reason="no recorded pages")


def sequence() -> list[tuple[SGLangMetricsSnapshot, Truth]]:
    return [(read(page.read_text(), 10.0 * i), Truth(page)) for i, page in enumerate(SEQUENCE)]


@recorded
@pytest.mark.parametrize("last", [1, 2])
def test_windows_over_a_recorded_sequence_are_the_differences_of_the_truths(last: int) -> None:
    (earlier, before), (later, after) = sequence()[last - 1 : last + 1]
    seen = later.since(earlier)

    def moved(name: str, mode: str = "") -> float:
        def of(truth: Truth) -> Any:
            return add([s for s in truth.every(name) if s["labels"].get("mode", "") == mode])

        return float(of(after) - of(before))

    assert not seen.restarted
    assert seen.requests_per_second == moved("num_requests_total") / 10
    assert seen.generation_tokens_per_second == moved("realtime_tokens_total", "decode") / 10
    computed, cached = (moved("realtime_tokens_total", f"prefill_{kind}") for kind in ("compute", "cache"))
    assert seen.prompt_tokens_per_second == (computed + cached) / 10
    assert seen.cache_hit_rate == pytest.approx(cached / (computed + cached))
    for field, name in (
        ("time_to_first_token", "time_to_first_token_seconds"),
        ("inter_token", "inter_token_latency_seconds"),
        ("end_to_end", "e2e_request_latency_seconds"),
        ("queue_time", "queue_time_seconds"),
    ):
        first, second = Distribution(before.every(name)), Distribution(after.every(name))
        second.count -= first.count
        second.sum -= first.sum
        second.buckets = [(b, n - m) for (b, n), (_, m) in zip(second.buckets, first.buckets, strict=True)]
        got, wanted = getattr(seen.latency, field).model_dump(), second.fields()
        assert got.pop("resolution") == wanted.pop("resolution")
        assert got == pytest.approx(wanted, rel=1e-6)


@recorded
def test_any_two_pages_have_a_window_of_sane_numbers() -> None:
    pages = recorded_pages()
    snapshots = [read(page.read_text(), 0.0) for page in pages if "openmetrics" not in page.name]
    later = [
        snapshot.model_copy(update={"timestamp": START + timedelta(seconds=10)}) for snapshot in snapshots
    ]
    for earlier in snapshots:
        for other in later:
            seen = other.since(earlier)
            rates = (
                seen.requests_per_second,
                seen.prompt_tokens_per_second,
                seen.generation_tokens_per_second,
            )
            assert all(rate is None or 0 <= rate < math.inf for rate in rates)
            assert seen.cache_hit_rate is None or 0 <= seen.cache_hit_rate <= 1
            for _, part in seen.latency:
                assert part is None or (part.count > 0 and part.mean >= 0)


@recorded
def test_an_upgrade_is_a_restart() -> None:
    pages = {page.stem: page for page in recorded_pages()}
    for old, new in (("v0.4.4-tp1-busy", "v0.4.10-tp1-busy"), ("v0.4.10-tp1-busy", "v0.5.18-tp1-busy")):
        earlier, later = (read(pages[name].read_text(), 5.0 * (name == new)) for name in (old, new))
        seen = later.since(earlier)
        assert seen.restarted
        assert "restarted: another release of SGLang" in seen.notes or "v0.4.10" in new
        assert seen.requests_per_second == later.requests.finished_total / 5


@recorded
def test_the_recorded_restart_is_seen() -> None:
    (earlier, _), (later, truth) = sequence()[2:]
    seen = later.since(earlier)
    assert seen.restarted
    assert seen.notes[0].startswith("restarted: num_requests_total and ")
    assert seen.requests_per_second == truth.total("num_requests_total") / 10
