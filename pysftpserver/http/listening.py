"""The listening socket of the web server, which keeps working when descriptors run out."""

from __future__ import annotations

import errno
import socket
import time

from pysftpserver.service.accepting import Reserve, Seldom, no_descriptor_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from typing import Any

NOT_ACCEPTED = 0.2  # seconds to wait when no connection can be accepted
NO_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # errors of accept(2)


class Listening(socket.socket):
    """The listening socket. A connection for which there is no descriptor is closed at once.

    cheroot would leave it in the queue, and serve no other connection until it could be accepted.
    """

    def __init__(self, descriptor: int, log: logging.Logger) -> None:
        super().__init__(fileno=descriptor)
        self._reserve = Reserve()
        self._seldom = Seldom(log)

    def accept(self) -> tuple[socket.socket, Any]:
        try:
            return super().accept()
        except OSError as error:
            if error.errno not in NO_RESOURCES:
                raise
            self._seldom.error(no_descriptor_line("listener", error), time.monotonic())
            one = self._reserve.accept(super().accept)
            if one is not None:
                one.close()
            if not self._reserve.refill():
                time.sleep(NOT_ACCEPTED)
        raise TimeoutError  # cheroot then goes on

    def close(self) -> None:
        self._reserve.close()
        super().close()
