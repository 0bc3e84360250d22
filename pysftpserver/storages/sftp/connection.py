"""A client of SFTP version 3 on two descriptors, with any number of requests in flight.

Requests leave in the order in which they are made, and replies are matched to them by their ids. Nothing here
waits for ever: when the other server has not completed a reply for `timeout` seconds, or breaks the protocol,
or goes away, or the session of this thread is over, the connection is lost, and everything that waits for it
fails with a message. Memory is bounded by one buffer and the replies that were asked for.
What may not enter: what requests mean, storages, ssh.
Facts: draft-ietf-secsh-filexfer-02, section 3.
"""

from __future__ import annotations

import errno
import os
import select
import time
from struct import Struct

from pysftpserver.engine import wire
from pysftpserver.failures import reason_of
from pysftpserver.host.watch import here
from pysftpserver.pysftpexceptions import SFTPUnavailable
from pysftpserver.storages.sftp.replies import BODY, BadReply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeVar

    from pysftpserver.host.watch import Watch

    T = TypeVar("T")
    Buffer = bytes | bytearray | memoryview

BUFFER = 1 << 19  # bytes; holds the longest packet; a larger buffer saves reads
PIECES = 64  # buffers in one call
_HEADER = Struct(">IBI")
CLOSED = "it has closed the connection"
OVER = "the session is over"
GONE = "the connection to the server behind is lost"


class ConnectionLost(SFTPUnavailable):
    """The server behind is gone. The text is for clients, its cause for the log."""


class Answer:
    """A request in flight. packet: its reply without the length field, once it has arrived.

    failure: what waiting for it raises, if the connection was lost.
    """

    __slots__ = ("failure", "packet")

    def __init__(self) -> None:
        self.packet: bytearray | None = None
        self.failure: ConnectionLost | None = None

    @property
    def is_here(self) -> bool:
        return self.packet is not None or self.failure is not None


class Connection:
    """An SFTP client. reading, writing: descriptors that do not block; the connection does not close them.

    timeout: seconds. errors: a descriptor to watch as well; listen: reads from it. why: returns a reason when
    the connection breaks. lost: why it was lost; None while it is open.
    """

    def __init__(
        self,
        reading: int,
        writing: int,
        timeout: float,
        errors: int = -1,
        listen: Callable[[], None] = lambda: None,
        why: Callable[[], str] = lambda: "",
    ) -> None:
        self.timeout = timeout
        self.lost: ConnectionLost | None = None
        self._reading = reading
        self._writing = writing
        self._listen = listen
        self._why = why
        self._waiting: dict[int, Answer] = {}
        self._version: Answer | None = None
        self._last = 0
        self._buffer = memoryview(bytearray(BUFFER))
        self._start = self._end = 0
        self._since = time.monotonic()
        self._watch: Watch | None = None
        self._poll = select.poll()
        self._poll.register(reading, select.POLLIN)
        if errors >= 0:
            self._poll.register(errors, select.POLLIN)
        # A door waits for it: replies, and what has to be read so that replies keep coming.
        self.readiness = select.epoll()
        self.readiness.register(reading, select.EPOLLIN)
        if errors >= 0:
            self.readiness.register(errors, select.EPOLLIN)

    # --- requests -----------------------------------------------------------------------------------

    def hello(self) -> bytearray:
        """Send INIT; return the VERSION packet. Raises ConnectionLost."""
        self._version = answer = Answer()
        self._write([b"\0\0\0\5", bytes((wire.SSH2_FXP_INIT,)), wire.encode_u32(wire.SFTP_VERSION)])
        return self.wait(answer)

    def send(self, kind: int, *fields: Buffer) -> Answer:
        """Send a request; its answer comes later. fields: its body, to which no reference is kept.

        Waits while the other server accepts no data. Raises ConnectionLost.
        """
        if self.lost is not None:
            raise self._loss()
        answer = Answer()
        if not self._waiting or self.seconds_left() <= 0 and self._receive():
            self._since = time.monotonic()  # time without a pending reply does not count
        self._last = request_id = (self._last + 1) & 0xFFFFFFFF
        self._waiting[request_id] = answer
        length = BODY + sum(map(len, fields))
        self._write([_HEADER.pack(length, kind, request_id), *fields])
        return answer

    def ask(self, kind: int, *fields: Buffer) -> bytearray:
        """Send a request and wait for its reply. Raises ConnectionLost."""
        return self.wait(self.send(kind, *fields))

    def wait(self, answer: Answer) -> bytearray:
        """Wait until an answer is here, and return it. Raises ConnectionLost."""
        while answer.packet is None:
            if answer.failure is not None:
                raise answer.failure
            self._rest(0)
        return answer.packet

    def decoded(self, answer: Answer, decode: Callable[[bytearray], T]) -> T:
        """Wait for an answer, and return it decoded by a function of replies.py.

        Raises the error in the other server's STATUS, and ConnectionLost, also for a BadReply.
        """
        packet = self.wait(answer)
        try:
            return decode(packet)
        except BadReply as error:
            self.lose(f"it broke the protocol: {error}")
            raise self._loss() from self._loss().__cause__

    def look(self) -> None:
        """Take what has arrived, without waiting; close the connection if a reply is overdue."""
        if self.lost is None and not self._receive() and self.seconds_left() <= 0:
            self._time_out()

    def seconds_left(self) -> float:
        """How long the other server may still take for its next reply."""
        return self._since + self.timeout - time.monotonic()

    # --- bytes --------------------------------------------------------------------------------------

    def _write(self, pieces: Sequence[Buffer]) -> None:
        """Write all pieces; replies are read meanwhile, or both sides might wait for ever."""
        views = [memoryview(piece) for piece in pieces]
        while views and self.lost is None:
            try:
                count = os.writev(self._writing, views[:PIECES])
            except BlockingIOError:
                self._rest(select.POLLOUT)
                continue
            except OSError as error:
                while self.lost is None and self._receive():
                    pass  # what it answered before it went
                self.lose(reason_of(error))
                break
            while views and count >= len(views[0]):
                count -= len(views.pop(0))
            if count:
                views[0] = views[0][count:]
        if self.lost is not None:
            raise self._loss()

    def _rest(self, wanted: int) -> None:
        """Wait for replies, and for room to write if that is wanted; take the replies that arrived."""
        left = self.seconds_left()
        if left <= 0 or self.lost is not None:
            self._time_out()
            return
        watch = here.watch
        if watch is not self._watch:
            self._heed(watch)
        if watch is not None and watch.is_over():
            self.lose(OVER)
            return
        if wanted:
            self._poll.register(self._writing, wanted)
        try:
            ready = self._poll.poll(left * 1000 + 1)
        finally:
            if wanted:
                self._poll.unregister(self._writing)
        if watch is not None and any(descriptor in watch.descriptors for descriptor, _ in ready):
            watch.look()
        if any(descriptor == self._writing for descriptor, _ in ready):
            self._since = time.monotonic()  # the other side accepts data: it is not silent
        if ready:
            self._receive()

    def _heed(self, watch: Watch | None) -> None:
        """Wait for the end of this thread's session as well."""
        for descriptor in self._watch.descriptors if self._watch is not None else ():
            self._poll.unregister(descriptor)
        for descriptor, events in watch.descriptors.items() if watch is not None else ():
            self._poll.register(descriptor, events)
        self._watch = watch

    def _receive(self) -> bool:
        """Read available bytes once; return whether a reply was completed."""
        if self._end == BUFFER:
            rest = self._end - self._start
            self._buffer[:rest] = self._buffer[self._start : self._end]
            self._start, self._end = 0, rest
        try:
            count = os.readv(self._reading, [self._buffer[self._end :]])
        except BlockingIOError:
            self._listen()  # what woke us
            return False
        except OSError as error:
            self.lose(reason_of(error))
            return True
        if not count:
            self.lose(CLOSED)
            return True
        self._end += count
        try:
            return self._take()
        except BadReply as error:
            self.lose(f"it broke the protocol: {error}")
            return True

    def _take(self) -> bool:
        """Give the complete packets in the buffer to their requests."""
        buffer, start, end = self._buffer, self._start, self._end
        found = False
        while end - start >= wire.PACKET_HEADER:
            length = wire.u32_at(buffer, start, end)
            if not BODY <= length <= wire.MAX_PACKET:
                raise BadReply(f"a packet of {length} bytes")
            begin = start + wire.PACKET_HEADER
            if end - begin < length:
                break
            start = begin + length
            packet = bytearray(buffer[begin:start])
            answer: Answer | None
            if packet[0] == wire.SSH2_FXP_VERSION and self._version is not None:
                answer, self._version = self._version, None  # it has no id
            else:
                answer = self._waiting.pop(wire.u32_at(packet, 1, length), None)
            if answer is None:
                raise BadReply(f"a reply of type {packet[0]} to no request")
            answer.packet = packet
            found = True
        if start == end:
            start = end = 0
        self._start, self._end = start, end
        if found:
            self._since = time.monotonic()
        return found

    # --- the end ------------------------------------------------------------------------------------

    def _time_out(self) -> None:
        self.lose(f"no answer for {self.timeout:g} seconds")

    def lose(self, reason: str) -> None:
        """Give up: everything that waits fails. reason: for the log, after the last output of ssh."""
        if self.lost is not None:
            return
        words = self._why()
        self.lost = ConnectionLost(GONE)
        if words:
            reason = words if reason == CLOSED else f"{reason}: {words}"
        self.lost.__cause__ = OSError(errno.ENOTCONN, reason)
        for answer in self._waiting.values():
            answer.failure = self._loss()
        if self._version is not None:
            self._version.failure = self.lost
        self._waiting.clear()

    def _loss(self) -> ConnectionLost:
        """A new exception each time: one that is raised again and again would grow."""
        assert self.lost is not None
        loss = ConnectionLost(*self.lost.args)
        loss.__cause__ = self.lost.__cause__
        return loss

    @property
    def reason(self) -> str:
        """Why it was lost, for the operator."""
        return str(getattr(self.lost and self.lost.__cause__, "strerror", "")) if self.lost else ""

    def close(self) -> None:
        """Close it, which is not a failure."""
        self.lose("it was closed")
        self.readiness.close()
