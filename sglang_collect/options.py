"""The options that ``scrape``, ``SGLangCollector`` and what follows them share."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from . import _core
from ._version import __version__

__all__ = ["DEFAULT_TIMEOUT", "USER_AGENT", "Limits", "Path", "endpoint_url", "make_endpoint"]

DEFAULT_TIMEOUT = 10.0
"""Seconds a whole scrape may take."""

USER_AGENT = f"sglang-collect/{__version__}"

Path = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Ceilings of one page. A page that reaches past one raises ``LimitExceeded``; nothing is ever cut.

    Attributes:
        body_bytes: size of the page, in bytes, after decompression.
        samples: samples on the page.
        labels_per_sample: labels of one sample.
        name_length: bytes of a metric or label name.
        label_value_length: bytes of one label value.
        number_length: bytes of one number.
    """

    body_bytes: int = 16 * 1024 * 1024
    samples: int = 1_000_000
    labels_per_sample: int = 128
    name_length: int = 1024
    label_value_length: int = 65_536
    number_length: int = 1024


def make_endpoint(
    url: str,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    headers: Mapping[str, str] | None = None,
    bearer_token: str | None = None,
    basic_auth: tuple[str, str] | None = None,
    ca_file: Path | None = None,
    client_cert: Path | tuple[Path, Path] | None = None,
    verify: bool = True,
    limits: Limits | None = None,
    json: bool = False,
) -> _core.Endpoint:
    """The keyword options of ``scrape``, checked and joined with the URL.

    Args:
        json: the answer is JSON and no page.

    Raises:
        ValueError: an option is out of range or holds a line break.
        TargetRefused: the URL cannot be scraped.
        TLSError: a certificate file cannot be used.
    """
    if isinstance(client_cert, tuple):
        cert: str | tuple[str, str] | None = (os.fspath(client_cert[0]), os.fspath(client_cert[1]))
    else:
        cert = None if client_cert is None else os.fspath(client_cert)
    return _core.Endpoint(
        url,
        timeout=timeout,
        headers=headers,
        user_agent=USER_AGENT,
        bearer_token=bearer_token,
        basic_auth=basic_auth,
        ca_file=None if ca_file is None else os.fspath(ca_file),
        client_cert=cert,
        verify=verify,
        limits=limits,
        json=json,
    )


def endpoint_url(text: str) -> str:
    """The URL that a person means: a server without a path, ``host:port``, is its ``/metrics``."""
    url = text if "://" in text else f"http://{text}"
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    return f"{scheme}://{host}/metrics" if host and not path and "?" not in host else url
