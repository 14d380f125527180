"""The collector plan's own tests, against a real server in the place of a patched HTTP client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from servers import Server, answer, serving, unused_port

from sglang_collect import ScrapeError, SGLangCollector, SGLangMetricsSnapshot

SAMPLE = """
sglang:request_success_total 300
sglang:request_failure_total 2
sglang:request_duration_seconds 1.8
sglang:time_to_first_token_seconds 0.020
sglang:time_per_output_token_seconds 0.008
sglang:request_input_tokens 256
sglang:request_output_tokens 512
sglang:cache_hit_rate 0.85
sglang:cache_memory_usage_bytes 4294967296
sglang:radix_cache_size 1024
sglang:prefix_cache_hit_total 255
sglang:num_requests_running 4
sglang:num_requests_waiting 1
sglang:batch_size_current 16
sglang:throughput_tokens_per_second 1250.5
"""


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(answer(SAMPLE)) as server:
        yield server


async def test_collect_sglang_metrics(server: Server) -> None:
    async with SGLangCollector() as collector:
        snapshot = await collector.collect(instance_id="sglang-001", endpoint=server.url)

    assert isinstance(snapshot, SGLangMetricsSnapshot)
    assert snapshot.instance_id == "sglang-001"
    assert snapshot.endpoint == server.url
    assert snapshot.request_metrics.success_total == 300
    assert snapshot.request_metrics.failure_total == 2
    assert snapshot.cache_metrics.cache_hit_rate == 0.85
    assert snapshot.system_metrics.throughput_tokens_per_second == 1250.5
    assert len(snapshot.raw_metrics) == 15


async def test_collect_sglang_metrics_error() -> None:
    async with SGLangCollector() as collector:
        with pytest.raises(ScrapeError):
            await collector.collect(
                instance_id="sglang-001", endpoint=f"http://127.0.0.1:{unused_port()}/metrics"
            )


async def test_collect_without_entering_the_collector() -> None:
    with pytest.raises(RuntimeError, match=r"^Collector not initialized\. Use async context manager\.$"):
        await SGLangCollector().collect(instance_id="sglang-001", endpoint="http://127.0.0.1:30000/metrics")


async def test_extract_request_metrics(server: Server) -> None:
    async with SGLangCollector() as collector:
        snapshot = await collector.collect(instance_id="sglang-001", endpoint=server.url)

    assert snapshot.request_metrics.success_total == 300
    assert snapshot.request_metrics.time_to_first_token_seconds == 0.020
    assert snapshot.request_metrics.input_tokens == 256


async def test_extract_cache_metrics(server: Server) -> None:
    async with SGLangCollector() as collector:
        snapshot = await collector.collect(instance_id="sglang-001", endpoint=server.url)

    assert snapshot.cache_metrics.cache_hit_rate == 0.85
    assert snapshot.cache_metrics.radix_cache_size == 1024
    assert snapshot.cache_metrics.prefix_cache_hit_total == 255


async def test_extract_system_metrics(server: Server) -> None:
    async with SGLangCollector() as collector:
        snapshot = await collector.collect(instance_id="sglang-001", endpoint=server.url)

    assert snapshot.system_metrics.num_requests_running == 4
    assert snapshot.system_metrics.batch_size_current == 16
    assert snapshot.system_metrics.throughput_tokens_per_second == 1250.5
