"""A listening socket and its address as a URL, for the servers of the command line."""

from __future__ import annotations

import socket

__all__ = ["listen"]


def listen(host: str, port: int) -> tuple[socket.socket, str]:
    """A socket that listens on ``host`` and ``port`` (0: a free one), and ``http://host:port``.

    Raises:
        OSError: the address cannot be listened on.
    """
    ipv6 = ":" in host
    listener = socket.create_server((host, port), family=socket.AF_INET6 if ipv6 else socket.AF_INET)
    return listener, f"http://{f'[{host}]' if ipv6 else host}:{listener.getsockname()[1]}"
