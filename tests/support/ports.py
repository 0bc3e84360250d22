"""Ports of loopback. A server that can say which port it got is given port 0 instead."""

from __future__ import annotations

import socket

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port that nothing listens on now. Another process may take it: be ready to try again."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])
