"""Ports of loopback. A server that can say which port it got is given port 0 instead."""

from __future__ import annotations

import socket

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port that nothing listens on, and that only who asks for its number gets while this process runs.

    It stays bound, so that the kernel assigns it to no other socket. A server that sets SO_REUSEADDR, as most
    do, can still listen there.
    """
    kept = socket.socket()
    kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept.bind((LOOPBACK, 0))
    port = int(kept.getsockname()[1])
    kept.detach()  # closed by the end of the process
    return port
