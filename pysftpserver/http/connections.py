"""A connection: requests are received without a thread, and the peer is told of its end.

What may not enter: which connection gets a thread.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time

from cheroot import server as cheroot

from pysftpserver.http.arriving import Arriving, State
from pysftpserver.http.requests import Request
from pysftpserver.http.streams import RECEIVE, Reader, Stream, TooSlow, Writer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pysftpserver.http.server import Server

UNSENT = 131072  # bytes that the kernel may keep before they are on their way
LINGER = 1.0  # seconds for the peer to read the last reply
DRAINED_AT_ONCE = 8  # times RECEIVE, before other connections get their turn
NO_ROOM = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
)
TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Connection(cheroot.HTTPConnection):  # type: ignore[misc, unused-ignore]
    """A connection. is_new: nothing has arrived yet. is_unread: the rest of a refused body may be unread.
    arriving: the request being received. is_waiting: it has no thread, and no request that could have one.
    user: who sent the request, by its cookie. is_known: whether a session was begun from its address before
    the request. is_proxy: all clients of a proxy use its address. is_busy: it counts as a request of its
    address. has_turn: it has a thread, or is next. ends_at: the time (of time.monotonic()) until which it
    waits only for the peer to read the last reply.
    """

    RequestHandlerClass = Request
    server: Server

    def __init__(self, server: Server, sock: socket.socket, makefile: Any = None) -> None:
        sock.settimeout(server.idle_timeout)
        # Tokens expire: for a slow line, it is better to make one later than to let the kernel hold it.
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        if server.tls is None:
            self.stream = Stream(sock, server.slowest)
        else:
            from pysftpserver.http.tls import SecureStream

            self.stream = SecureStream(sock, server.slowest, server.tls)
        super().__init__(server, sock, self._file)
        self.is_new = True
        self.is_unread = False
        self.is_counted = False
        self.is_busy = False
        self.is_known = self.has_turn = self.is_proxy = False
        self.user: str | None = None
        self.arriving: Arriving | None = None
        self.is_waiting = False
        self.began = time.monotonic()
        self.network = ""
        self.ends_at: float | None = None

    def _file(self, sock: socket.socket, mode: str, size: int) -> Reader | Writer:
        return Reader(self.stream) if "r" in mode else Writer(self.stream)

    def is_gone(self) -> bool:
        """Whether the peer has hung up."""
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)
        return bool(poll.poll(0))

    def claim(self, user: str) -> bool:
        """Count the request for a user; return whether that user may have another one now."""
        return self.server.claim(self, user)

    def communicate(self) -> bool:
        self.stream.begin()
        try:
            goes_on = bool(super().communicate())  # type: ignore[no-untyped-call, unused-ignore]
        finally:
            self.server.leave(self)
        return goes_on or self.is_unread and self.begin_end()

    def begin_end(self) -> bool:
        """Send nothing more; return whether to wait for the peer to read what was sent.

        Closed with unread input, the connection would be reset, and the last reply lost.
        """
        self.ends_at = time.monotonic() + LINGER
        self.stream.drop()
        try:
            self.stream.end()
        except OSError:
            return False
        return True

    def drain(self) -> bool:
        """Discard received bytes; return whether there may be more."""
        assert self.ends_at is not None
        try:
            for _ in range(DRAINED_AT_ONCE):
                if not self.socket.recv(RECEIVE):
                    return False
        except BlockingIOError:
            pass
        except OSError:
            return False
        return time.monotonic() < self.ends_at

    @property
    def is_stranger(self) -> bool:
        """Whether it may be closed to make room for a newcomer."""
        return self.is_waiting and not self.server.knows(self.network)

    def receive(self) -> State | None:
        """Receive more of a request, without waiting; None when the connection is over."""
        if not self.stream.is_ready:
            try:
                if not self.stream.handshake():
                    return State.MORE
            except OSError:
                return None
            finally:
                self.socket = self.stream.socket  # another object, for the same descriptor
        if self.arriving is None:
            self.arriving = Arriving()
            self.stream.begin()
        before = len(self.arriving.data)
        try:
            piece = self.stream.receive_now()
        except BlockingIOError:
            return State.MORE
        except (OSError, TooSlow):  # close() tells a slow peer
            return None
        if not piece:  # a thread finds out what is missing
            return State.READY if before else None
        state = self.arriving.feed(piece)
        self.server.count_arriving(len(self.arriving.data) - before)
        if state is State.EXPECTED:
            with contextlib.suppress(OSError):
                self.stream.send_now(CONTINUE)
        return state

    def arrived(self) -> None:
        """Let a thread read the request."""
        assert self.arriving is not None
        self.stream.put_back(bytes(self.arriving.data))
        self._forget_arriving()

    def _forget_arriving(self) -> None:
        if self.arriving is not None:
            self.server.count_arriving(-len(self.arriving.data))
            self.arriving = None

    def can_answer(self) -> bool:
        """Whether the peer reads its answers, so that another one can be sent without waiting."""
        poll = select.poll()
        poll.register(self.socket, select.POLLOUT)
        return bool(poll.poll(0))

    def turn_away(self, words: bytes = NO_ROOM) -> bool:
        """Send words without waiting; then begin to end it, with the result of begin_end()."""
        self._forget_arriving()
        try:
            self.stream.send_now(words)
        except OSError:
            return False
        return self.begin_end()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it has gone
            if self.arriving is not None and self.arriving.data:
                self.stream.send_now(TIMED_OUT)
        if self.stream.is_secure and self.ends_at is None:
            with contextlib.suppress(OSError):
                self.stream.end()  # so that the peer knows that nothing was cut off
        self._forget_arriving()
        with contextlib.suppress(OSError):
            super().close()
        self.server.leave(self)
        self.server.closed(self)
