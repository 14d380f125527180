"""The recipe for autoscalers reads numbers that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from documents import ROOT, Document

if TYPE_CHECKING:
    from sglang_collect.simulator import Simulator

OBJECT, OTHER = (
    yaml.safe_load(block.text) for block in Document(ROOT / "docs" / "autoscaling.md").of("yaml")
)
TRIGGERS = [trigger["metadata"] for trigger in OBJECT["spec"]["triggers"]]


def at(answer: dict[str, Any], location: str) -> Any:
    """What KEDA finds in an answer: its names are joined by dots."""
    for name in location.split("."):
        answer = answer[name]
    return answer


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: str(trigger["valueLocation"]))
def test_a_trigger_reads_a_number_of_the_fleet(trigger: dict[str, str], sglang_simulator: Simulator) -> None:
    from fastapi.testclient import TestClient

    from sglang_collect.api import RouterSettings, create_app

    assert trigger["url"].endswith(":8000/api/v1/fleet")
    app = create_app(RouterSettings(instances={"a": sglang_simulator.url}))
    with TestClient(app) as client:
        found = at(client.get("/api/v1/fleet").json(), trigger["valueLocation"])
    truth = sglang_simulator.truth()["server_level"]
    assert type(found) in (int, float)
    name = trigger["valueLocation"].rpartition(".")[2]
    assert found == {"backlog": truth["waiting"], "usage_ratio": truth["used_ratio"]}[name]


def test_where_no_server_answers_there_is_no_number() -> None:
    from fastapi.testclient import TestClient

    from sglang_collect.api import RouterSettings, create_app

    with TestClient(create_app(RouterSettings(instances={"a": "http://127.0.0.1:1/metrics"}))) as client:
        answer = client.get("/api/v1/fleet").json()
    assert [at(answer, trigger["valueLocation"]) for trigger in TRIGGERS] == [None, None]


def test_the_trigger_for_prometheus_asks_for_a_recorded_number() -> None:
    rules = yaml.safe_load((ROOT / "prometheus" / "rules.yml").read_text("utf-8"))
    recorded = {rule.get("record") for group in rules["groups"] for rule in group["rules"]}
    [trigger] = OTHER["triggers"]
    assert trigger["metadata"]["query"].partition("{")[0] in recorded
