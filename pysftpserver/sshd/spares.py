"""Processes that wait for sessions: a session begins in one without fork(2) and without copying memory.

A spare process rehearses if it is not used soon, so that the memory it writes to is its own by then. What may
not enter: which sessions there are, what a ticket says.
"""

from __future__ import annotations

# The module signal wraps this one in enumerations, which each new process would have to copy.
import _signal as signal  # type: ignore[import-not-found]
import contextlib
import os
import select
import socket

from pysftpserver.host.linux import end_with_parent, name_process
from pysftpserver.sshd.orders import LONGEST
from pysftpserver.sshd.sessionprocess import rehearse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage

    #: Returns what a process is told at last: a message, and descriptors. An empty message ends it.
    Told = Callable[[], tuple[bytes, list[int]]]

SPARE = "pysftpd-spare"  # the name of processes
SOON = 0.02  # idle seconds after which a missing spare process is forked
LATER = 1.0  # the same, after a fork has failed or a spare process has ended
CALM = 0.1  # seconds after which a spare process rehearses, if it has not been used


class Spares:
    """The spare processes, up to `most` of them. pause: seconds before the next one may be forked.

    fork: forks a process that does what it is told; raises OSError. open_sample: opens a storage to rehearse
    with. descriptors: maximum number of those that come with a message.
    """

    def __init__(
        self,
        most: int,
        fork: Callable[[Told], int],
        open_sample: Callable[[], SFTPAbstractServerStorage],
        descriptors: int,
    ) -> None:
        self.pause = SOON
        self._most = most
        self._fork = fork
        self._open_sample = open_sample
        self._descriptors = descriptors
        self._sockets: dict[int, socket.socket] = {}
        self._parent = os.getpid()

    def are_missing(self) -> bool:
        """Whether there may be one more."""
        return len(self._sockets) < self._most

    def add(self) -> None:
        """Fork one."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

        def told() -> tuple[bytes, list[int]]:
            ours.close()
            end_with_parent(self._parent, signal.SIGKILL)
            name_process(SPARE)
            if not select.select((theirs,), (), (), CALM)[0]:  # in a rush, rehearsing would only take time
                rehearse(self._open_sample, 1)
            with theirs:
                return socket.recv_fds(theirs, LONGEST, self._descriptors)[:2]  # none: to end

        with theirs:
            try:
                self._sockets[self._fork(told)] = ours
                self.pause = SOON
            except OSError:
                ours.close()
                self.pause = LATER

    def use(self, message: bytes, descriptors: list[int]) -> int:
        """Send one a message; return its process number, or 0 if there is none."""
        while self._sockets:
            process, sock = self._sockets.popitem()
            with sock, contextlib.suppress(OSError):  # it has been killed
                socket.send_fds(sock, [message], descriptors)
                return process
        return 0

    def ended(self, process: int) -> None:
        """Note that a process has ended, which may have been a spare one."""
        if process in self._sockets:
            self._sockets.pop(process).close()
            self.pause = LATER

    def let_go(self) -> None:
        """In a new process: close the sockets, through which it could choose what a spare process serves."""
        for sock in self._sockets.values():
            sock.close()

    def end(self) -> None:
        """End all of them, and wait for that."""
        for process in self._sockets:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
