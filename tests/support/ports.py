"""Ports of loopback. A server that can say which port it got is given port 0 instead."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port that nothing listens on now. Another process may take it: be ready to try again."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def kept_port() -> Iterator[int]:
    """A port that nothing listens on, and that no other process is given meanwhile.

    A server that sets SO_REUSEADDR, as most do, can listen there.
    """
    with socket.socket() as keeping:
        keeping.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeping.bind((LOOPBACK, 0))
        yield int(keeping.getsockname()[1])
