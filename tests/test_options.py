"""The options that every way to scrape shares."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sglang_collect import LimitExceeded, Limits, TLSError, __version__, _core
from sglang_collect.options import USER_AGENT, endpoint_url, make_endpoint

URL = "http://127.0.0.1:30000/metrics"


def test_limits_default_to_what_the_core_has() -> None:
    assert dataclasses.asdict(Limits()) == _core.LIMITS


def test_limits_cannot_be_changed_once_made() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Limits().samples = 1


def test_a_page_past_a_limit_is_refused() -> None:
    with pytest.raises(LimitExceeded) as raised:
        _core.parse("a 1\nb 2\n", limits=Limits(samples=1))
    assert (raised.value.limit, raised.value.allowed) == ("samples", 1)


def test_the_user_agent_names_us_and_the_version() -> None:
    assert f"sglang-collect/{__version__}" == USER_AGENT


def test_an_endpoint_takes_the_options_or_their_defaults() -> None:
    endpoint = make_endpoint(
        URL, timeout=2.5, headers={"X-Team": "serving"}, bearer_token="secret", limits=Limits(samples=9)
    )
    assert (endpoint.url, endpoint.timeout) == (URL, 2.5)
    assert make_endpoint(URL, basic_auth=("user", "secret")).timeout == 10.0


@pytest.mark.parametrize("option", ["ca_file", "client_cert"])
def test_a_certificate_file_that_is_not_there_is_a_tls_error(option: str, tmp_path: Path) -> None:
    with pytest.raises(TLSError) as raised:
        make_endpoint("https://127.0.0.1:30000/metrics", **{option: tmp_path / "missing.pem"})
    assert raised.value.reason == "tls_config"


def test_certificate_and_key_may_be_two_files(tmp_path: Path) -> None:
    with pytest.raises(TLSError):
        make_endpoint(
            "https://127.0.0.1:30000/metrics", client_cert=(tmp_path / "cert.pem", tmp_path / "key.pem")
        )


@pytest.mark.parametrize("timeout", [0, -1.0, 3601, float("nan"), float("inf")])
def test_a_timeout_out_of_range_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        make_endpoint(URL, timeout=timeout)


def test_a_header_with_a_line_break_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - what it must not say matters
        make_endpoint(URL, headers={"X-Team": "a\r\nX-Evil: 1"})
    assert "X-Evil" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("gpu1:30000", "http://gpu1:30000/metrics"),
        ("[::1]:30000", "http://[::1]:30000/metrics"),
        ("gpu1:30000/engine_metrics", "http://gpu1:30000/engine_metrics"),
        ("https://gpu1/metrics", "https://gpu1/metrics"),
        ("http://gpu1:30000", "http://gpu1:30000/metrics"),
        ("http://gpu1:30000/", "http://gpu1:30000/metrics"),
        ("gpu1:30000/", "http://gpu1:30000/metrics"),
        ("http://gpu1?x=1", "http://gpu1?x=1"),
        ("http://", "http://"),
    ],
)
def test_a_server_without_a_path_means_its_metrics_page(text: str, url: str) -> None:
    assert endpoint_url(text) == url
