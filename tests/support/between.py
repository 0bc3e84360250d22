"""A failing network: a proxy on loopback between a client and a server, controlled by a test."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable

from tests.support.ports import LOOPBACK

PIECE = 1 << 16  # bytes
UP, DOWN = "up", "down"  # to the server, to the client
RESET, CLOSE = "reset", "close"  # both ends of a connection are closed: with an error, or cleanly
ABORTED = struct.pack("ii", 1, 0)  # SO_LINGER: discard unsent data and reset the connection

Order = str | float | bytes | None


class Between:
    """Forwards connections to a port of loopback, from construction to close().

    order: called for each piece with (direction, bytes so far in this direction, the piece). It returns None
    to forward the piece; a number to forward it after so many seconds; RESET or CLOSE to end the connection
    before it; bytes to send to the client instead, before the connection is closed.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self.order: Callable[[str, int, bytes], Order] = lambda direction, so_far, piece: None
        self._listener = socket.create_server((LOOPBACK, 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://{LOOPBACK}:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((LOOPBACK, self._target))
            except OSError:
                client.close()
                continue
            resets = threading.Event()
            for way in ((UP, client, server), (DOWN, server, client)):
                threading.Thread(target=self._forward, args=(*way, resets), daemon=True).start()

    def _forward(
        self, direction: str, source: socket.socket, to: socket.socket, resets: threading.Event
    ) -> None:
        client = source if direction == UP else to
        so_far = 0
        with contextlib.suppress(OSError):
            while piece := source.recv(PIECE):
                order = self.order(direction, so_far, piece)
                if order == RESET:
                    resets.set()
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTED)
                if order in (RESET, CLOSE):
                    break
                if isinstance(order, bytes):
                    client.sendall(order)
                    break
                if order is not None:
                    assert isinstance(order, float | int)
                    time.sleep(order)
                to.sendall(piece)
                so_far += len(piece)
        for each in (source, to):
            with contextlib.suppress(OSError):  # wakes the thread of the other direction
                each.shutdown(socket.SHUT_RD if resets.is_set() else socket.SHUT_RDWR)
            each.close()
