"""The plan's own tests of its endpoints, which patch the collector by its name in `sglang_collect.api`."""

from __future__ import annotations

from unittest.mock import AsyncMock, patch

import pytest
from fastapi.testclient import TestClient

from sglang_collect import (
    SGLangCacheMetrics,
    SGLangMetricsSnapshot,
    SGLangRequestMetrics,
    SGLangSystemMetrics,
)

REQUEST = {"instance_id": "sglang-001", "endpoint": "http://localhost:30000/metrics", "timeout": 10}


@pytest.mark.unit
def test_collect_sglang_metrics_success(client: TestClient) -> None:
    with patch("sglang_collect.api.SGLangCollector") as mock_collector_class:
        mock_collector = AsyncMock()
        mock_collector.collect.return_value = SGLangMetricsSnapshot(
            instance_id="sglang-001",
            endpoint="http://localhost:30000/metrics",
            request_metrics=SGLangRequestMetrics(),
            cache_metrics=SGLangCacheMetrics(),
            system_metrics=SGLangSystemMetrics(),
        )
        mock_collector_class.return_value.__aenter__.return_value = mock_collector

        response = client.post("/api/v1/collect/sglang", json=REQUEST)

        assert response.status_code == 200
        data = response.json()
        assert data["success"] is True
        assert data["instance_id"] == "sglang-001"


@pytest.mark.unit
def test_collect_sglang_metrics_failure(client: TestClient) -> None:
    with patch("sglang_collect.api.SGLangCollector") as mock_collector_class:
        mock_collector = AsyncMock()
        mock_collector.collect.side_effect = Exception("Connection failed")
        mock_collector_class.return_value.__aenter__.return_value = mock_collector

        response = client.post("/api/v1/collect/sglang", json=REQUEST)

        assert response.status_code == 200
        data = response.json()
        assert data["success"] is False
        assert "error" in data
