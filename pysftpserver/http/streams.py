"""Sockets as the web server reads and writes them: within time limits, and bodies piece by piece.

Bodies are never kept in memory as a whole, and their lengths are parsed strictly. What may not enter:
cheroot, what a request asks for. Facts: RFC 9112.
"""

from __future__ import annotations

import os
import re
import select
import socket
import time

from pysftpserver.http import ProtocolError
from pysftpserver.service.patience import OutOfPatience, Patience

MOST_LINE = 65536  # bytes of a line: a path may contain a command line
MOST_HEADER = 2 * MOST_LINE
RECEIVE = 131072  # bytes at once
FREE = 30.0  # seconds of waiting for a peer before its speed matters
MOST_DRAINED = 65536  # bytes of a refused body that are read to keep the connection
CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")


class TooSlow(TimeoutError):
    """The peer sends or reads too slowly."""

    def __init__(self) -> None:
        super().__init__("timed out")  # the words that cheroot looks for


class Stream:
    """A socket that is read and written within time limits. The socket's timeout is that of a single wait.

    slowest: minimum bytes per second from the peer after FREE seconds of waiting for it. is_secure: whether
    it is encrypted. is_ready: whether requests may be read; False: handshake() has to be called first.
    """

    is_secure = False
    is_ready = True

    def __init__(self, sock: socket.socket, slowest: int) -> None:
        self.socket = sock
        self._slowest = slowest
        self._found = b""
        self._start = 0  # of the untaken bytes; slicing would cost a copy for each short line
        self.begin()

    def begin(self) -> None:
        """Begin another request: earlier waiting does not count."""
        self._patience = Patience(FREE, self._slowest)
        self._since = time.monotonic()

    def receive(self, most: int) -> bytes:
        """Up to `most` bytes; none at the end. Raises TooSlow, OSError."""
        if self._start < len(self._found):
            start = self._start
            self._start = min(start + most, len(self._found))
            return self._found[start : self._start]
        began = time.monotonic()
        try:
            found = self._receive(most)
        except TimeoutError:
            raise TooSlow from None
        self._count(time.monotonic() - began, len(found))
        return found

    def receive_into(self, view: memoryview) -> int:
        """Receive into a view; return how many bytes, 0 at the end. Raises TooSlow, OSError."""
        if self._start < len(self._found):
            found = self.receive(len(view))
            view[: len(found)] = found
            return len(found)
        began = time.monotonic()
        try:
            count = self._receive_into(view)
        except TimeoutError:
            raise TooSlow from None
        self._count(time.monotonic() - began, count)
        return count

    def receive_line(self, most: int) -> bytes:
        """A line with its end; without it only at the end of the stream, or if the line is longer than most.

        Raises TooSlow, OSError.
        """
        line = b""
        while len(line) < most and not line.endswith(b"\n"):
            if self._start >= len(self._found):
                self._found, self._start = self.receive(RECEIVE), 0
                if not self._found:
                    break
            stop = self._start + most - len(line)
            end = self._found.find(b"\n", self._start, stop) + 1
            line += self.receive((end or stop) - self._start)
        return line

    def receive_now(self) -> bytes:
        """Bytes that were received and not taken, or else that have arrived; none at the end.

        Raises BlockingIOError if nothing has arrived, TooSlow, OSError.
        """
        if self._start < len(self._found):
            found = self._found[self._start :]
            self.drop()
            return found
        found = self._receive_now()
        now = time.monotonic()
        self._count(now - self._since, len(found))
        self._since = now
        return found

    def put_back(self, data: bytes) -> None:
        """Put bytes back, to be received again."""
        self._found, self._start = data, 0

    def seconds_left(self) -> float:
        """Seconds that the peer has for its next bytes."""
        try:
            return self._patience.left()
        except OutOfPatience:
            return 0.0

    def drop(self) -> None:
        """Discard received bytes."""
        self._found, self._start = b"", 0

    def has_data(self) -> bool:
        """Whether something was received and not yet taken."""
        return self._start < len(self._found)

    def has_more(self) -> bool:
        """The same, or whether something has arrived and was not yet received."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return self.has_data() or bool(poll.poll(0))

    def send(self, data: bytes) -> None:
        """Send all of the data. Raises TooSlow, OSError."""
        rest = memoryview(data)
        while rest:
            began = time.monotonic()
            try:
                count = self._send(rest)
            except TimeoutError:
                raise TooSlow from None
            self._count(time.monotonic() - began, count)
            rest = rest[count:]

    def send_file(self, descriptor: int, offset: int, size: int) -> int:
        """Send part of a file without copying it; return how many bytes, fewer only at its end.

        Raises TooSlow, OSError. Facts: sendfile(2).
        """
        sent = 0
        poll = select.poll()
        poll.register(self.socket, select.POLLOUT)
        while sent < size:
            try:
                count = os.sendfile(self.socket.fileno(), descriptor, offset + sent, size - sent)
            except BlockingIOError:
                began = time.monotonic()
                wait = self.socket.gettimeout()
                if not poll.poll(None if wait is None else wait * 1000):
                    raise TooSlow from None
                self._count(time.monotonic() - began, 0)
                continue
            if not count:
                break
            sent += count
            self._count(0.0, count)
        return sent

    def handshake(self) -> bool:
        """Go on with the handshake before the first request, without waiting; return whether it is complete.

        Raises OSError.
        """
        return True

    def send_now(self, data: bytes) -> None:
        """Send a short message, as far as possible without waiting. Raises OSError."""
        self.socket.send(data, socket.MSG_DONTWAIT)

    def end(self) -> None:
        """Send nothing more, and wait for nothing from now on. Raises OSError."""
        self.socket.setblocking(False)
        self.socket.shutdown(socket.SHUT_WR)

    def _receive(self, most: int) -> bytes:
        return self.socket.recv(most)

    def _receive_into(self, view: memoryview) -> int:
        return self.socket.recv_into(view)

    def _receive_now(self) -> bytes:
        return os.read(self.socket.fileno(), RECEIVE)  # a socket with a timeout does not block otherwise

    def _send(self, data: memoryview) -> int:
        return self.socket.send(data)

    def _count(self, seconds: float, moved: int) -> None:
        self._patience.waited(seconds, moved)
        try:
            self._patience.left()
        except OutOfPatience:
            raise TooSlow from None


class Reader:
    """The object from which cheroot reads."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.closed = False
        self.bytes_read = 0

    def read(self, size: int) -> bytes:
        """That many bytes; fewer only at the end. For short reads: bodies have their own classes."""
        parts = []
        while size > 0 and (part := self.stream.receive(min(size, RECEIVE))):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def readline(self, size: int | None = None) -> bytes:
        """A line, or the first bytes of one that is too long."""
        return self.stream.receive_line(MOST_LINE if size is None else size)

    def has_data(self) -> bool:
        return self.stream.has_data()

    def close(self) -> None:
        self.closed = True


class Writer:
    """The object to which cheroot writes."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.bytes_written = 0

    def write(self, data: bytes) -> int:
        self.stream.send(data)
        return len(data)


class KnownBody:
    """A body with a Content-Length."""

    def __init__(self, stream: Stream, length: int) -> None:
        self._stream = stream
        self._left = length

    @property
    def is_finished(self) -> bool:
        """Whether all of it was read."""
        return not self._left

    def finish(self) -> None:
        """Read the rest, if it is short and has already arrived."""
        read = 0
        while self._left and read < MOST_DRAINED and self._stream.has_more():
            piece = self.read()
            if not piece:
                break
            read += len(piece)

    def read(self, size: int | None = None) -> bytes:
        """Some bytes; none at the end."""
        if not self._left:
            return b""
        found = self._stream.receive(min(self._left, RECEIVE if size is None else size))
        self._left -= len(found)
        return found

    def readinto(self, view: memoryview) -> int:
        """Some bytes into a view; return how many, 0 at the end."""
        count = self._stream.receive_into(view[: self._left]) if self._left else 0
        self._left -= count
        return count


class ChunkedBody:
    """A chunked body. Raises ProtocolError for a malformed one."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._left = 0
        self._is_first = True
        self.is_finished = False

    def read(self, size: int | None = None) -> bytes:
        """Some bytes; none at the end."""
        if not self._left and not self.is_finished:
            self._next()
        if self.is_finished:
            return b""
        found = self._reader.stream.receive(min(self._left, RECEIVE if size is None else size))
        if not found:
            raise ProtocolError("the body ended within a chunk")
        self._left -= len(found)
        return found

    def readinto(self, view: memoryview) -> int:
        """Some bytes into a view; return how many, 0 at the end."""
        found = self.read(len(view))
        view[: len(found)] = found
        return len(found)

    def finish(self) -> None:
        """Leave the rest unread: it may be long."""

    def _next(self) -> None:
        if not self._is_first and self._reader.read(2) != b"\r\n":
            raise ProtocolError("a chunk that is longer than it said")
        self._is_first = False
        said = CHUNK.fullmatch(self._reader.readline())
        if said is None:
            raise ProtocolError("a chunk without a length")
        self._left = int(said[1], 16)
        if self._left:
            return
        size = 0
        while (line := self._reader.readline()) != b"\r\n":  # trailers, which are ignored
            size += len(line)
            if not line.endswith(b"\r\n") or size > MOST_HEADER:
                raise ProtocolError("trailers without an end")
        self.is_finished = True
