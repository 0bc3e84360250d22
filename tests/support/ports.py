"""Ports of loopback. Use port 0 instead for a server that reports the port it got."""

from __future__ import annotations

import socket

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port on which nothing listens, reserved while this process runs.

    It stays bound, so the kernel does not assign it to another socket. A server that sets SO_REUSEADDR, as
    most do, can still listen there.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind((LOOPBACK, 0))
    port = int(kept.getsockname()[1])
    kept.detach()  # closed by the end of the process
    return port
