"""What can go wrong, as exceptions.

::

    Exception
    └── SGLangCollectError
        ├── ExpositionError      (also ValueError)    the page is malformed
        ├── LimitExceeded                             the page is larger than allowed
        └── ScrapeError                               no page came
            ├── ConnectError                          no connection came about
            ├── ScrapeTimeout    (also TimeoutError)  the deadline passed
            ├── HTTPStatusError                       the server answered, but not 200
            ├── TLSError                              certificate or handshake
            ├── TargetRefused                         our own policy forbids the target
            └── NotExposition                         an answer that is no metrics page

``str(error)`` is one line meant for a person and names the endpoint of a scrape. Programs read the
attributes. Every error can be pickled and copied with all of them.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "ConnectError",
    "ExpositionError",
    "HTTPStatusError",
    "LimitExceeded",
    "NotExposition",
    "SGLangCollectError",
    "ScrapeError",
    "ScrapeTimeout",
    "TLSError",
    "TargetRefused",
]


def _rebuild(
    cls: type[SGLangCollectError], args: tuple[Any, ...], state: dict[str, Any]
) -> SGLangCollectError:
    """Makes an error again without calling its constructor, whose keywords ``args`` does not hold."""
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class SGLangCollectError(Exception):
    """Anything this package raises about a page or a scrape."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))


class ExpositionError(SGLangCollectError, ValueError):
    """The page is malformed; nothing of it was used.

    Attributes:
        line: 1-based line of the first offending byte.
        column: its 1-based column, in bytes.
        reason: what is wrong, one line: ``"expected a value"``.
        excerpt: the line from the offending byte on, printable ASCII, other bytes as ``\\xNN``.
        endpoint: where the page was scraped from; None for a page that was handed over.
    """

    def __init__(
        self,
        message: str,
        *,
        line: int,
        column: int,
        reason: str,
        excerpt: str,
        endpoint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.line = line
        self.column = column
        self.reason = reason
        self.excerpt = excerpt
        self.endpoint = endpoint


class LimitExceeded(SGLangCollectError):
    """The page reaches past one of its ``Limits``; nothing of it was used.

    Attributes:
        limit: the field of ``Limits``: ``"body_bytes"``, ``"samples"``, ...
        allowed: its value.
        endpoint: where the page was scraped from; None for a page that was handed over.
    """

    def __init__(self, message: str, *, limit: str, allowed: int, endpoint: str | None = None) -> None:
        super().__init__(message)
        self.limit = limit
        self.allowed = allowed
        self.endpoint = endpoint


class ScrapeError(SGLangCollectError):
    """No page came from an endpoint.

    Attributes:
        endpoint: the URL as it may be shown, without user info and query values.
        elapsed: seconds from the start of the scrape to the failure.
        reason: one slug of a closed list: ``"connect_failed"``, ``"truncated"``, ``"timeout_body"``, ...
    """

    def __init__(self, message: str, *, endpoint: str, elapsed: float, reason: str) -> None:
        super().__init__(message)
        self.endpoint = endpoint
        self.elapsed = elapsed
        self.reason = reason


class ConnectError(ScrapeError):
    """The name did not resolve, or no connection came about."""


class ScrapeTimeout(ScrapeError, TimeoutError):
    """The deadline passed; ``reason`` tells in which stage."""


class HTTPStatusError(ScrapeError):
    """The server answered with a status other than 200; redirects are not followed.

    Attributes:
        status: the HTTP status.
        retry_after: seconds the server asked to wait; None where it did not.
    """

    def __init__(
        self,
        message: str,
        *,
        endpoint: str,
        elapsed: float,
        reason: str,
        status: int,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, endpoint=endpoint, elapsed=elapsed, reason=reason)
        self.status = status
        self.retry_after = retry_after


class TLSError(ScrapeError):
    """The certificate or the handshake failed, or our own certificate files are unusable."""


class TargetRefused(ScrapeError):
    """Our own policy forbids this target; no packet was sent to it."""


class NotExposition(ScrapeError):
    """The answer is no metrics page: HTML, JSON or something else."""
