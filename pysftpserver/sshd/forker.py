"""Asks the fork server for session processes, on behalf of a process that serves SSH.

What may not enter: SSH, what a session is told (isolated.py).
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import socket
from collections import deque

from pysftpserver.sshd.orders import (
    BEGIN,
    ENDED,
    FIRST,
    FORGET,
    NOT_BEGUN,
    NUMBER,
    ORDER,
    RESET,
    RESTING,
    SIGNAL,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import FileIO

    from pysftpserver.sshd.isolated import IsolatedSession
    from pysftpserver.sshd.tickets import Ticket


class Forker:
    """Asks the fork server for processes. sock: connected to the fork server. on_end: called if that ends."""

    def __init__(self, sock: socket.socket, on_end: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._on_end = on_end
        self._numbers = itertools.count(1)
        self._sessions: dict[int, IsolatedSession] = {}
        self._unsent: deque[tuple[bytes, Sequence[socket.socket | FileIO], int]] = deque()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._heard)
        self._tell(RESET)  # a process that this one replaces may have left some

    def begin(
        self,
        session: IsolatedSession,
        ticket: Ticket,
        files: Sequence[socket.socket | FileIO],
        before: int = 0,
    ) -> int:
        """Ask for a process; returns the session's number. files: the process's ends of its sockets, and
        other descriptors that it needs; they are closed here. before: the number of the session that goes on
        in it, or 0.
        """
        number = next(self._numbers)
        self._sessions[number] = session
        name = ticket.user.name.encode()
        self._tell(BEGIN + FIRST.pack(number, before, len(name)) + name + ticket.packed(), files, number)
        return number

    def signal(self, number: int, what: int) -> None:
        """Send a signal to a session's process."""
        if number in self._sessions:
            self._tell(SIGNAL + ORDER.pack(number, what))

    def forget(self, number: int) -> None:
        """Tell the fork server that a session which gave its process back needs no other one."""
        self._tell(FORGET + NUMBER.pack(number))

    def close(self) -> None:
        """Stop listening."""
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())

    def _tell(self, message: bytes, files: Sequence[socket.socket | FileIO] = (), number: int = 0) -> None:
        self._unsent.append((message, files, number))
        self._flush()

    def _flush(self) -> None:
        while self._unsent:
            message, files, number = self._unsent[0]
            try:
                socket.send_fds(self._sock, [message], [one.fileno() for one in files])
            except BlockingIOError:
                self._loop.add_writer(self._sock.fileno(), self._flush)
                return
            except OSError:  # the ticket is too long; or the fork server has ended, as _heard() learns
                self._loop.call_soon(self._ended, number, NOT_BEGUN)
            for one in files:
                one.close()
            self._unsent.popleft()
        self._loop.remove_writer(self._sock.fileno())

    def _heard(self) -> None:
        try:
            message = self._sock.recv(ENDED.size)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if message:
            self._ended(*ENDED.unpack(message))
            return
        self.close()
        for session in list(self._sessions.values()):
            session.ended(signal.SIGKILL)
        self._sessions.clear()
        self._on_end()

    def _ended(self, number: int, status: int) -> None:
        session = self._sessions.pop(number, None)
        if session is not None:
            session.ended(status)
        if status == RESTING << 8 and not (session is not None and session.has_left):
            self.forget(number)
