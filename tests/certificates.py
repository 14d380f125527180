"""Certificates made on the spot, and servers that show them."""

from __future__ import annotations

import ssl
from typing import Any

import trustme

authority = trustme.CA


def server_context(issuer: trustme.CA, name: str = "127.0.0.1", **validity: Any) -> ssl.SSLContext:
    """A server that shows a certificate for `name`; `validity` is `not_before` and `not_after`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issuer.issue_cert(name, **validity).configure_cert(context)
    return context
