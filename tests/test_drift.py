"""The drift guard finds what it is there to find: each thing is planted in a wheel once and reported."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
from tools_of import ROOT, load_tool

from sglang_collect.catalog.sglang import METRICS, NEWEST

PINNED = ("0.5.6", "0.5.10", "0.5.23")


@pytest.fixture(scope="module")
def drift() -> ModuleType:
    return load_tool("drift")


def wheel(folder: Path, version: str = "0.5.23", **modules: str) -> Path:
    """A wheel of these modules; a name with two underscores is a path."""
    path = folder / f"sglang-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in modules.items():
            archive.writestr("sglang/" + name.replace("__", "/") + ".py", text)
    return path


def found(drift: ModuleType, folder: Path, text: str, *, version: str = "0.5.23") -> list[str]:
    """What is said of a wheel with this module, but for what it does not declare at all."""
    source = drift.read_wheel(wheel(folder, version, srt__metrics=text))
    findings = drift.compare(f"v{version}", source)
    return [finding.text for finding in findings if finding.place != "catalogue"]


def scheduler(declaration: str) -> str:
    return f"class SchedulerMetricsCollector:\n    def __init__(self, labels):\n        x = {declaration}\n"


KNOWN = [
    'Gauge(name="sglang:num_running_reqs", labelnames=labels.keys(), multiprocess_mode="mostrecent")',
    'Counter("sglang:realtime_tokens_total", "Tokens.", list(labels.keys()) + ["mode"])',
    'Counter(name="sglang:realtime_tokens", labelnames=[*self.labels.keys(), "mode"])',
    'Gauge(name="sglang:num_retracted_reqs", labelnames=labels.keys())',
    'GaugeHistogram(name="sglang:routing_key_all_req_count", labelnames=list(labels.keys()))',
    'Summary(name="sglang:eplb_balancedness", labelnames=list(labels) + ["forward_mode"])',
    'self._histogram_cls(name="sglang:queue_time_seconds", labelnames=tuple(labels))',
]


@pytest.mark.parametrize("declaration", KNOWN)
def test_what_the_catalogue_has_is_not_reported(drift: ModuleType, tmp_path: Path, declaration: str) -> None:
    assert found(drift, tmp_path, scheduler(declaration)) == []


@pytest.mark.parametrize(
    ("declaration", "report"),
    [
        ('Gauge("sglang:new_thing", "", labels.keys())', "sglang:new_thing (gauge) is not in the catalogue"),
        (
            'Histogram("sglang:num_running_reqs", "", labels.keys())',
            "num_running_reqs is a histogram: the catalogue has gauge",
        ),
        (
            'Gauge("sglang:kv_transfer_latency_ms", "", labels.keys(), multiprocess_mode="max")',
            (
                "kv_transfer_latency_ms (gauge) is in v0.5.23: the catalogue has it "
                "kv_transfer_latency_ms v0.5.10rc0 to v0.5.23, kv_transfer_latency_ms v0.5.2 to v0.5.9"
            ),
        ),
        (
            'Counter("sglang:realtime_tokens_total", "", list(labels) + ["mode", "tenant"])',
            "realtime_tokens_total has labels that the catalogue does not: tenant",
        ),
        (
            'Gauge("sglang:num_running_reqs", "", labels.keys())',
            "num_running_reqs has labels that the catalogue does not: pid",
        ),
        (
            'Counter("sglang:prompt_tokens_total", "", labels.keys())',
            "prompt_tokens_total has the labels R: the catalogue has K",
        ),
        (
            'Counter(f"sglang:{name}_total", "", labels.keys())',
            "a name that is put together: f'sglang:{name}_total'",
        ),
        ('Counter("sglang:" + name, "", labels.keys())', "a name that is put together: 'sglang:' + name"),
        (
            'Counter("sglang:realtime_tokens_total", "", everything)',
            "labels that cannot be read: everything",
        ),
        ('self.made("sglang:new_thing")', "sglang:new_thing is named, and not in the catalogue"),
    ],
)
def test_what_the_catalogue_does_not_know_is_reported(
    drift: ModuleType, tmp_path: Path, declaration: str, report: str
) -> None:
    assert found(drift, tmp_path, scheduler(declaration)) == [report]


def test_labels_are_followed_to_where_they_are_made(drift: ModuleType, tmp_path: Path) -> None:
    text = (
        "class DiffusionMetrics:\n"
        "    def __init__(self):\n"
        "        labels = ('role', 'replica')\n"
        "        Counter('sglang:diffusion_requests_total', '', labels + ('status', 'tenant'))\n"
        "def track(extra_labels=None):\n"
        "    extra_labels = extra_labels or {}\n"
        "    names = list(extra_labels.keys())\n"
        "    Counter('sglang:http_requests_total', '', names + ['endpoint', 'method'])\n"
    )
    assert found(drift, tmp_path, text) == [
        "diffusion_requests_total has labels that the catalogue does not: tenant"
    ]


def test_a_writer_that_no_set_of_labels_has_is_reported(drift: ModuleType, tmp_path: Path) -> None:
    text = scheduler('Counter("sglang:realtime_tokens_total", "", labels.keys())').replace("Scheduler", "New")
    assert found(drift, tmp_path, text) == [
        "realtime_tokens_total takes the labels of NewMetricsCollector, which no set of the catalogue has"
    ]


def test_a_common_label_that_no_set_has_is_reported(drift: ModuleType, tmp_path: Path) -> None:
    text = (
        "def run(cls: MetricsCollector):\n"
        "    labels = {'model_name': 1, 'tp_rank': 2}\n"
        "    labels = {'model_name': 1, 'tenant': 2}\n"
        "def metric_labels():\n"
        "    return {'cache_type': 1, 'shard': 2}\n"
    )
    assert found(drift, tmp_path, text) == [
        "common labels that no set has: model_name, tenant",
        "common labels that no set has: cache_type, shard",
    ]


def test_a_common_label_belongs_to_its_releases(drift: ModuleType, tmp_path: Path) -> None:
    text = "# RadixCacheMetricsCollector\nlabels = {'cache_type': 1, 'tp_rank': 2}\n"
    assert found(drift, tmp_path, text, version="0.5.23") == []
    assert found(drift, tmp_path, text, version="0.5.18") == [
        "common labels that no set has: cache_type, tp_rank"
    ]


def test_a_metric_that_is_gone_is_reported(drift: ModuleType, tmp_path: Path) -> None:
    source = drift.read_wheel(wheel(tmp_path, srt__metrics=scheduler(KNOWN[0])))
    gone = [finding.text for finding in drift.compare("v0.5.23", source) if finding.place == "catalogue"]
    assert "num_queue_reqs (gauge) is not in v0.5.23 any more" in gone
    assert not [
        text for text in gone if text.startswith(("num_running_reqs", "mm_frontend", "num_retractions"))
    ]


def test_names_in_compiled_modules_are_read_though_texts_stand_close(
    drift: ModuleType, tmp_path: Path
) -> None:
    path = wheel(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        text = b"\0sglang:num_requests_totalnumber of\0sglang:num_requests_total_by_tenant\0sglang::Kernel\0"
        archive.writestr("sglang/srt/_server.so", text)
    findings = drift.compare("v0.5.23", drift.read_wheel(path))
    assert [finding for finding in findings if finding.place != "catalogue"] == [
        ("sglang/srt/_server.so", "sglang:num_requests_total_by_tenant is named, and not in the catalogue")
    ]


def test_tests_of_sglang_are_not_read(drift: ModuleType, tmp_path: Path) -> None:
    path = wheel(tmp_path, srt__test__fixtures='x = "sglang:nothing"', srt__test_it='x = "sglang:nothing"')
    assert drift.read_wheel(path).mentions == []


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, ROOT / "tools" / "drift.py", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_the_command_says_where_and_ends_with_one(tmp_path: Path) -> None:
    wheel(tmp_path, srt__metrics="\n" + scheduler('Gauge("sglang:new_thing", "", labels.keys())'))
    done = run("--wheels", tmp_path, "0.5.23")
    lines = done.stdout.splitlines()
    assert done.returncode == 1
    assert lines[0] == ("v0.5.23 sglang/srt/metrics.py:4: sglang:new_thing (gauge) is not in the catalogue")
    assert lines[-1].startswith("v0.5.23: 1 declarations, ")


def test_a_wheel_that_cannot_be_had_is_a_message_and_no_traceback(tmp_path: Path) -> None:
    done = run("--wheels", tmp_path, "0.5.23", PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("pip cannot get the wheel of sglang 0.5.23 (is there a network?): ")
    assert done.stderr.count("\n") == 1


def test_an_older_release_is_not_taken_for_the_newest(drift: ModuleType) -> None:
    log = "Skipping link: none of the wheel's tags: sglang-0.6.0-cp315-cp315-manylinux_2_99_x86_64.whl"
    with pytest.raises(drift.NoWheelError, match=r"sglang 0\.6\.0 has no wheel .* got v0\.5\.23"):
        drift._refuse_older("v0.5.23", log)
    with pytest.raises(drift.NoWheelError, match=rf"sglang {NEWEST[1:]} has no wheel .* got v0\.5\.22"):
        drift._refuse_older("v0.5.22", "")
    drift._refuse_older("v0.6.0", log)


@pytest.mark.parametrize("version", PINNED)
def test_the_catalogue_knows_every_metric_of_a_release(drift: ModuleType, version: str) -> None:
    kept = sorted((ROOT / "build" / "wheels").glob(f"sglang-{version}-*.whl"))
    if not kept:
        pytest.skip(f"no wheel of sglang {version}: tools/drift.py {version} fetches it")
    source = drift.read_wheel(kept[0])
    assert len(source.declarations) > 60
    assert drift.compare(f"v{version}", source) == []


def test_the_newest_pinned_release_is_the_one_the_catalogue_was_read_to() -> None:
    assert f"v{PINNED[-1]}" == NEWEST
    assert len(METRICS) > 190
