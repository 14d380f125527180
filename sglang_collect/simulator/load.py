"""The load model: requests arrive, wait, prefill, decode and finish, and what is true of them is known.

Time is counted in whole microseconds and every random number comes from ``random.Random.random()``, so that
a seed and a number of steps give the same numbers on every machine and Python.

A data-parallel group runs one batch at a time, as SGLang's scheduler does: the waiting requests that fit
are prefilled together, else every running request gets one token. Its KV pool holds tokens in use, tokens
left by finished requests (evictable) and free ones. Aggregates are kept twice on purpose: by series, the way
SGLang's processes record them (the page is written from these), and as plain totals (``truth``).
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

SGLANG_VERSION = "0.5.18"
STEP_SECONDS = 1
CAPACITY_TOKENS = 131_072
MAX_RUNNING = 32
KV_CACHE_GB = 16.0
"""Of one data-parallel group, shared by its tensor-parallel ranks; 1 GB is 2^30 bytes here as in SGLang."""

_SECOND = 1_000_000
_PREFILL_TOKENS = 8192
_ARRIVALS_PER_SECOND = 4.5
_FIRST_IDLE_REPORT = 30
_GENERATION = (("/v1/chat/completions", 0.7), ("/generate", 0.9), ("/v1/completions", 1.0))

TTFT_BOUNDS = (0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8, 10, 20, 40, 60, 80, 100, 200, 400)
E2E_BOUNDS = (*TTFT_BOUNDS, 600, 1200, 1800, 2400)
INTER_TOKEN_BOUNDS = (
    *(0.002, 0.004, 0.006, 0.008, 0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.06, 0.08),
    *(0.1, 0.2, 0.4, 0.6, 0.8, 1, 2, 4, 6, 8),
)
QUEUE_BOUNDS = (
    *(0, 0.001, 0.005, 0.01, 0.05, 0.1, 0.2, 0.5, 1, 2, 3, 4, 5, 10, 15, 20, 30, 40, 50, 60, 70, 80, 90),
    *(100, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1200, 1400, 1600, 1800, 2000, 2500, 3000),
)
STAGE_BOUNDS = tuple(0.001 * 1.62**i for i in range(30))
EVICTION_BOUNDS = (
    *(0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008, 0.009, 0.01, 0.02, 0.03, 0.04, 0.05),
    *(0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60),
)
TOKENS_BOUNDS = (
    *(100, 300, 500, 700, 1000, 1500, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000, 10_000, 12_500),
    *(15_000, 17_500, 20_000, 22_500, 25_000, 27_500, 30_000, 35_000, 40_000, 60_000, 80_000, 100_000),
    *(200_000, 300_000, 400_000, 600_000, 800_000, 1_000_000, 1_100_000),
)


class Histogram:
    """Observations counted by bucket; ``counts`` has one entry more than ``bounds``, for what is above."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def merge(self, other: Histogram) -> None:
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.sum += other.sum


@dataclass
class Total:
    """A count and an exact sum in microseconds."""

    count: int = 0
    microseconds: int = 0

    def add(self, microseconds: int) -> None:
        self.count += 1
        self.microseconds += microseconds

    def to_dict(self) -> dict[str, float]:
        return {"count": self.count, "sum": self.microseconds / _SECOND}

    @property
    def mean(self) -> float | None:
        return self.microseconds / _SECOND / self.count if self.count else None


@dataclass
class Request:
    """One generation request; times are microseconds of the server's life."""

    endpoint: str
    streaming: bool
    structured: bool
    aborted: bool
    prompt: int
    output: int
    shared_prefix: int
    arrived: int
    cached: int = 0
    made: int = 0
    last_token: int = 0


@dataclass
class Endpoint:
    """What SGLang's HTTP middleware counts of one path and method."""

    requests: int = 0
    active: int = 0
    responses: dict[str, int] = field(default_factory=dict)


@dataclass
class ByStreaming:
    """What the tokenizer process records apart for streaming and non-streaming requests."""

    prompt_tokens: int = 0
    generation_tokens: int = 0
    requests: int = 0
    time_to_first_token: Histogram = field(default_factory=lambda: Histogram(TTFT_BOUNDS))
    e2e_latency: Histogram = field(default_factory=lambda: Histogram(E2E_BOUNDS))


class Group:
    """One data-parallel group: a scheduler with its queue, batch and KV pool."""

    def __init__(self, server: LoadModel, dp_rank: int) -> None:
        self.server = server
        self.dp_rank = dp_rank
        self.random = Random(f"{server.seed}/{dp_rank}")
        self.clock = 0
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.used = self.evictable = 0
        self.reserved = 0
        self.prefill_computed = self.prefill_cached = self.decoded = 0
        self.prefill_passes = self.decode_passes = 0
        self.prefill_busy = 0
        self.evicted = 0
        self.queue_time = Histogram(QUEUE_BOUNDS)
        self.stages = {name: Histogram(STAGE_BOUNDS) for name in ("request_process", "prefill_forward")}
        self.eviction_time = Histogram(EVICTION_BOUNDS)
        self.cache_hit_rate = 0.0
        self.gen_throughput = 0.0
        self.reported = False
        self.next_arrival = self._arrival_after(0)

    @property
    def available(self) -> int:
        """Free KV slots, in tokens."""
        return CAPACITY_TOKENS - self.used - self.evictable

    def run(self, until: int) -> None:
        """Runs batches until the clock has reached ``until``; the last one may end after it."""
        started, decoded = self.clock, self.decoded
        while self.clock < until:
            self._arrive()
            if batch := self._admit():
                self._prefill(batch)
            elif self.running:
                self._decode()
            else:
                self.clock = until if self.next_arrival is None else min(until, self.next_arrival)
        passed = self.clock - started
        self.gen_throughput = (self.decoded - decoded) * _SECOND / passed if passed else 0.0
        if self.prefill_passes or until >= _FIRST_IDLE_REPORT * _SECOND:
            self.reported = True

    def _chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def _arrival_after(self, time: int) -> int | None:
        """The next time of a Poisson process; None on an idle server."""
        rate = _ARRIVALS_PER_SECOND * self.server.load
        if not rate:
            return None
        return time + round(-math.log(1.0 - self.random.random()) / rate * _SECOND)

    def _length(self, median: int, low: int, high: int) -> int:
        """A skewed length: half are below the median, a few are far above it."""
        spread = sum(self.random.random() for _ in range(6)) - 3.0
        return min(high, max(low, round(median * math.exp(1.3 * spread))))

    def _arrive(self) -> None:
        while self.next_arrival is not None and self.next_arrival <= self.clock:
            arrived = self.next_arrival
            self.next_arrival = self._arrival_after(arrived)
            endpoint = self._endpoint()
            self.server.http_started(endpoint, "POST")
            if self._chance(0.01):
                self.server.http_finished(endpoint, "POST", "400")
            elif self._chance(0.01):
                self.server.failed += 1
                self.server.http_finished(endpoint, "POST", "503")
            else:
                self.waiting.append(self._request(endpoint, arrived))

    def _endpoint(self) -> str:
        draw = self.random.random()
        return next(endpoint for endpoint, upto in _GENERATION if draw < upto)

    def _request(self, endpoint: str, arrived: int) -> Request:
        prompt = self._length(median=800, low=8, high=12_000)
        output = self._length(median=150, low=1, high=2_000)
        aborted = self._chance(0.01)
        return Request(
            endpoint=endpoint,
            streaming=self._chance(0.7),
            structured=self._chance(0.08),
            aborted=aborted,
            prompt=prompt,
            output=max(1, output // 3) if aborted else output,
            shared_prefix=int(self.random.random() * prompt) if self._chance(0.6) else 0,
            arrived=arrived,
        )

    def _admit(self) -> list[Request]:
        """Takes from the queue, in order, what fits into one prefill batch and into the KV pool."""
        batch: list[Request] = []
        budget = _PREFILL_TOKENS
        while self.waiting and len(self.running) + len(batch) < MAX_RUNNING:
            request = self.waiting[0]
            cached = min(request.shared_prefix, self.evictable)
            needed = request.prompt + request.output
            too_long = bool(batch) and request.prompt - cached > budget
            if too_long or self.reserved + needed > CAPACITY_TOKENS:
                break
            self.waiting.popleft()
            self.reserved += needed
            request.cached = cached
            budget -= request.prompt - cached
            self.evictable -= cached
            self.used += cached
            self._allocate(request.prompt - cached)
            batch.append(request)
        return batch

    def _allocate(self, tokens: int) -> None:
        """Takes free slots, evicting what finished requests left where there are too few."""
        if tokens > self.available:
            evicted = min(self.evictable, max(tokens - self.available, CAPACITY_TOKENS // 32))
            self.evictable -= evicted
            self.evicted += evicted
            self.eviction_time.observe((300 + evicted // 4) / _SECOND)
        self.used += tokens

    def _passes(self, microseconds: int) -> None:
        """Moves the clock by a batch's time, give or take a tenth."""
        self.clock += microseconds * (90 + int(self.random.random() * 21)) // 100

    def _prefill(self, batch: list[Request]) -> None:
        started = self.clock
        cached = sum(request.cached for request in batch)
        computed = sum(request.prompt for request in batch) - cached
        self._passes(9_000 + 45 * computed)
        self.prefill_busy += self.clock - started
        self.prefill_passes += 1
        self.prefill_computed += computed
        self.prefill_cached += cached
        self.cache_hit_rate = cached / (cached + computed)
        for request in batch:
            self.server.waited.add(started - request.arrived)
            self.queue_time.observe((started - request.arrived) / _SECOND)
            self.stages["request_process"].observe(0.002)
            self.stages["prefill_forward"].observe((self.clock - started) / _SECOND)
            self._token(request)
            self.server.first_token(request, self.clock)
        self.running += batch
        self._finish()

    def _decode(self) -> None:
        self._passes(16_000 + 200 * len(self.running))
        self.decode_passes += 1
        self.cache_hit_rate = 0.0
        for request in self.running:
            self.server.next_token(self.clock - request.last_token)
            self._token(request)
        self._finish()

    def _token(self, request: Request) -> None:
        self._allocate(1)
        self.decoded += 1
        request.made += 1
        request.last_token = self.clock

    def _finish(self) -> None:
        """Lets finished requests go; their tokens stay in the radix cache until they are evicted."""
        still_running = []
        for request in self.running:
            if request.made < request.output:
                still_running.append(request)
                continue
            held = request.prompt + request.output
            self.used -= held
            self.reserved -= held
            self.evictable += held
            self.server.finished(request, self.clock)
        self.running = still_running


class LoadModel:
    """A made-up SGLang server under load; safe to use from several threads.

    Args:
        dp: data-parallel groups, 1 to 64. Each serves its own requests.
        tp: tensor-parallel ranks of a group, 1 to 64. They repeat what their group does.
        seed: the same seed and number of steps give the same page and the same truth.
        load: 0 is idle, 1 about as busy as it can be without a queue that grows for ever.
        model_name: the ``model_name`` label.

    Attributes:
        steps: steps run so far; one step is one second of the server's life.
        frozen: a server of this model does not step it by the clock.
    """

    def __init__(
        self,
        *,
        dp: int = 1,
        tp: int = 1,
        seed: int = 0,
        load: float = 0.5,
        model_name: str = "meta-llama/Llama-3.1-8B-Instruct",
    ) -> None:
        if not (1 <= dp <= 64 and 1 <= tp <= 64):
            raise ValueError(f"dp and tp are 1 to 64, not {dp} and {tp}")
        if not 0 <= load <= 1:
            raise ValueError(f"load is 0 (idle) to 1 (busy), not {load}")
        self.dp, self.tp, self.seed, self.load, self.model_name = dp, tp, seed, load, model_name
        self.lock = threading.RLock()
        self.steps = 0
        self.frozen = False
        self.failed = 0
        self.aborted = 0
        self.structured = 0
        self.cached_tokens = 0
        self.http: dict[tuple[str, str], Endpoint] = {}
        self.by_streaming: dict[bool, ByStreaming] = {}
        self.inter_token = Histogram(INTER_TOKEN_BOUNDS)
        self.prompt_lengths = Histogram(TOKENS_BOUNDS)
        self.uncached_lengths = Histogram(TOKENS_BOUNDS)
        self.output_lengths = Histogram(TOKENS_BOUNDS)
        self.done = 0
        self.prompt_tokens = self.generation_tokens = 0
        self.first_tokens, self.gaps, self.waited, self.served = Total(), Total(), Total(), Total()
        self.groups = [Group(self, rank) for rank in range(dp)]

    def step(self, n: int = 1) -> int:
        """Lives ``n`` seconds more; the number of steps so far."""
        with self.lock:
            for _ in range(n):
                self.steps += 1
                for group in self.groups:
                    group.run(self.steps * STEP_SECONDS * _SECOND)
            return self.steps

    def http_started(self, endpoint: str, method: str) -> None:
        """Counts an HTTP request that came in."""
        with self.lock:
            counted = self.http.setdefault((endpoint, method), Endpoint())
            counted.requests += 1
            counted.active += 1

    def http_finished(self, endpoint: str, method: str, status: str) -> None:
        """Counts its answer."""
        with self.lock:
            counted = self.http[endpoint, method]
            counted.active -= 1
            counted.responses[status] = counted.responses.get(status, 0) + 1

    def first_token(self, request: Request, now: int) -> None:
        """Records a request's first token."""
        self.first_tokens.add(now - request.arrived)
        series = self.by_streaming.setdefault(request.streaming, ByStreaming())
        series.time_to_first_token.observe((now - request.arrived) / _SECOND)

    def next_token(self, gap: int) -> None:
        """Records any later token, ``gap`` microseconds after the one before."""
        self.gaps.add(gap)
        self.inter_token.observe(gap / _SECOND)

    def finished(self, request: Request, now: int) -> None:
        """Records a request that has all its tokens, or was aborted."""
        self.done += 1
        self.aborted += request.aborted
        self.structured += request.structured
        self.prompt_tokens += request.prompt
        self.generation_tokens += request.made
        self.cached_tokens += request.cached
        self.served.add(now - request.arrived)
        series = self.by_streaming[request.streaming]
        series.requests += 1
        series.prompt_tokens += request.prompt
        series.generation_tokens += request.made
        series.e2e_latency.observe((now - request.arrived) / _SECOND)
        self.prompt_lengths.observe(request.prompt)
        self.uncached_lengths.observe(request.prompt - request.cached)
        self.output_lengths.observe(request.made)
        self.http_finished(request.endpoint, "POST", "200")

    @property
    def kv_cache_gb_per_rank(self) -> float:
        return round(KV_CACHE_GB / self.tp, 2)

    def truth(self) -> dict[str, Any]:
        """What is true of this server now, however its page spreads it over ranks and series.

        Token counts are tokens, latencies seconds, ratios 0 to 1. ``plan`` holds what each of the 15 plan
        fields of a snapshot of the page must be, by dotted name, None where the page has no source for it.
        """
        with self.lock:
            ranks = [_rank_truth(group) for group in self.groups]
            used, capacity = sum(rank["used_tokens"] for rank in ranks), self.dp * CAPACITY_TOKENS
            return {
                "sglang_version": SGLANG_VERSION,
                "dp": self.dp,
                "tp": self.tp,
                "seed": self.seed,
                "load": self.load,
                "step": self.steps,
                "frozen": self.frozen,
                "server_level": {
                    "running": sum(rank["running"] for rank in ranks),
                    "waiting": sum(rank["waiting"] for rank in ranks),
                    "gen_throughput": math.fsum(rank["gen_throughput"] for rank in ranks),
                    "used_tokens": used,
                    "evictable_tokens": sum(rank["evictable_tokens"] for rank in ranks),
                    "kv_capacity_tokens": capacity,
                    "used_ratio": used / capacity,
                    "dp_groups": self.dp,
                },
                "totals": {
                    "finished_requests": self.done,
                    "aborted_requests": self.aborted,
                    "failed_requests": self.failed,
                    "prompt_tokens": self.prompt_tokens,
                    "generation_tokens": self.generation_tokens,
                    "cached_tokens": self.cached_tokens,
                    "ttft_seconds": self.first_tokens.to_dict(),
                    "inter_token_seconds": self.gaps.to_dict(),
                    "e2e_seconds": self.served.to_dict(),
                    "queue_seconds": self.waited.to_dict(),
                },
                "ranks": ranks,
                "plan": self._plan(),
            }

    def _plan(self) -> dict[str, float | None]:
        """The plan fields that a snapshot of the page must have; None is absent."""
        groups = [group for group in self.groups if group.reported]
        prefilled = sum(group.prefill_computed + group.prefill_cached for group in self.groups)
        hits = sum(group.prefill_cached for group in self.groups)
        evictable = sum(group.evictable for group in groups)
        held = evictable + sum(group.used for group in groups)
        pool = self.dp * self.tp * self.kv_cache_gb_per_rank * 2**30
        running = sum(len(group.running) for group in groups)
        answered = any(counted.responses for counted in self.http.values())

        def where(present: object, value: float) -> float | None:
            return value if present else None

        return {
            "request_metrics.success_total": where(self.done, self.done),
            "request_metrics.failure_total": where(answered, self.failed),
            "request_metrics.request_duration_seconds": self.served.mean,
            "request_metrics.time_to_first_token_seconds": self.first_tokens.mean,
            "request_metrics.time_per_output_token_seconds": self.gaps.mean,
            "request_metrics.input_tokens": where(self.done, self.prompt_tokens),
            "request_metrics.output_tokens": where(self.done, self.generation_tokens),
            "cache_metrics.cache_hit_rate": hits / prefilled if prefilled else None,
            "cache_metrics.cache_memory_usage_bytes": where(
                groups, round(pool * held / (self.dp * CAPACITY_TOKENS))
            ),
            "cache_metrics.radix_cache_size": where(groups, evictable),
            "cache_metrics.prefix_cache_hit_total": where(self.done, self.cached_tokens),
            "system_metrics.num_requests_running": where(groups, running),
            "system_metrics.num_requests_waiting": where(groups, sum(len(group.waiting) for group in groups)),
            "system_metrics.batch_size_current": where(groups, running),
            "system_metrics.throughput_tokens_per_second": where(
                groups, math.fsum(group.gen_throughput for group in groups)
            ),
        }


def _rank_truth(group: Group) -> dict[str, Any]:
    return {
        "dp_rank": group.dp_rank,
        "running": len(group.running),
        "waiting": len(group.waiting),
        "used_tokens": group.used,
        "evictable_tokens": group.evictable,
        "used_ratio": group.used / CAPACITY_TOKENS,
        "gen_throughput": group.gen_throughput,
    }
