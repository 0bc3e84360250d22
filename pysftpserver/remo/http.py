"""The web server of `pysftpremo serve`: cheroot, with care about slow and odd peers.

Of cheroot's own, replaced are: who gets a thread (only a connection that says something), how sockets are
read and written (with limits on time and on lines), and bodies (which are never kept in memory as a whole,
and whose lengths are taken strictly). What may not enter: what the application does. Facts: RFC 9112.
"""

from __future__ import annotations

import collections
import logging
import re
import select
import socket
import threading
import time

from cheroot import server as cheroot
from cheroot import wsgi

from pysftpserver.remo.application import IS_GONE
from pysftpserver.throttle import network_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pysftpserver.remo.config import Values

log = logging.getLogger("pysftpserver.remo")
MOST_LINE = 65536  # bytes of a line: a path has a command line in it
MOST_HEADER = 2 * MOST_LINE
RECEIVE = 131072  # bytes at once
FREE = 30.0  # seconds of waiting for a peer before his speed counts
KEEP = 60  # seconds that an idle connection is kept
MOST_DRAINED = 65536  # bytes of a body that nobody wants, for the connection's sake
LINGER = 1.0  # seconds for the peer to read the last words
OPEN_PER_REQUEST = 4  # open connections of an address for each request that it may make at once
MOST_OPEN = 900  # connections: select(2)'s descendants cope, and 1024 descriptors are the usual limit
_DIGITS = re.compile(rb"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;.*)?\r\n", re.DOTALL)


class TooSlow(TimeoutError):
    """The peer sends or reads too little."""

    def __init__(self) -> None:
        super().__init__("timed out")  # the words by which cheroot knows it


class Stream:
    """A socket, to be read and written within limits of time. slowest: bytes a second."""

    def __init__(self, sock: socket.socket, slowest: int) -> None:
        self._socket = sock
        self._slowest = slowest
        self._rest = b""
        self.begin()

    def begin(self) -> None:
        """Another request."""
        self._waited = 0.0
        self._moved = 0

    def receive(self, most: int) -> bytes:
        """Some bytes; none at the end. Raises TooSlow, OSError."""
        if self._rest:
            taken, self._rest = self._rest[:most], self._rest[most:]
            return taken
        began = time.monotonic()
        try:
            found = self._socket.recv(most)
        except TimeoutError:
            raise TooSlow from None
        self._count(time.monotonic() - began, len(found))
        return found

    def give_back(self, data: bytes) -> None:
        """These bytes come first."""
        self._rest = data + self._rest

    def has_data(self) -> bool:
        """Whether something was received and not yet read."""
        return bool(self._rest)

    def send(self, data: bytes) -> None:
        """All of it. Raises TooSlow, OSError."""
        rest = memoryview(data)
        while rest:
            began = time.monotonic()
            try:
                count = self._socket.send(rest)
            except TimeoutError:
                raise TooSlow from None
            self._count(time.monotonic() - began, count)
            rest = rest[count:]

    def _count(self, seconds: float, moved: int) -> None:
        self._waited += seconds
        self._moved += moved
        if self._waited > FREE and self._moved < self._slowest * self._waited:
            raise TooSlow


class Reader:
    """What cheroot reads from."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.closed = False
        self.bytes_read = 0

    def read(self, size: int) -> bytes:
        """So many bytes; fewer only before the end. For short reads: bodies have classes of their own."""
        parts = []
        while size > 0 and (part := self.stream.receive(min(size, RECEIVE))):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def readline(self, size: int | None = None) -> bytes:
        """A line, or the first bytes of one. Raises ValueError for one that is too long."""
        most = MOST_LINE if size is None else min(size, MOST_LINE)
        found = b""
        while True:
            part = self.stream.receive(RECEIVE)
            end = part.find(b"\n", 0, most - len(found)) + 1
            if not end and part and len(found) + len(part) < most:
                found += part
                continue
            end = end or min(len(part), most - len(found))
            self.stream.give_back(part[end:])
            found += part[:end]
            if size is None and len(found) >= MOST_LINE and not found.endswith(b"\n"):
                raise ValueError("a line that is too long")
            return found

    def has_data(self) -> bool:
        return self.stream.has_data()

    def close(self) -> None:
        self.closed = True


class Writer:
    """What cheroot writes to."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.bytes_written = 0

    def write(self, data: bytes) -> int:
        self.stream.send(data)
        return len(data)


class KnownBody:
    """A body whose length was told. remaining: what cheroot reads away, where it is little."""

    def __init__(self, stream: Stream, length: int) -> None:
        self._stream = stream
        self._left = length

    @property
    def remaining(self) -> int:
        return self._left

    @property
    def is_finished(self) -> bool:
        return self._left <= MOST_DRAINED

    def read(self, size: int | None = None) -> bytes:
        """Some bytes; none at the end."""
        if not self._left:
            return b""
        found = self._stream.receive(min(self._left, RECEIVE if size is None else size))
        self._left -= len(found)
        return found


class ChunkedBody:
    """A body in chunks. Raises ValueError for what is none."""

    remaining = 0

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
            raise ValueError("the body ended within a chunk")
        self._left -= len(found)
        return found

    def _next(self) -> None:
        if not self._is_first and self._reader.read(2) != b"\r\n":
            raise ValueError("a chunk that is longer than it said")
        self._is_first = False
        said = _CHUNK.fullmatch(self._reader.readline())
        if said is None:
            raise ValueError("a chunk without a length")
        self._left = int(said[1], 16)
        if self._left:
            return
        size = 0
        while (line := self._reader.readline()) != b"\r\n":  # trailers, which mean nothing here
            size += len(line)
            if not line or size > MOST_HEADER:
                raise ValueError("trailers without an end")
        self.is_finished = True


class Request(cheroot.HTTPRequest):  # type: ignore[misc, unused-ignore]
    """A request, whose length leaves no doubt."""

    def read_request_headers(self) -> bool:
        if not super().read_request_headers():  # type: ignore[no-untyped-call, unused-ignore]
            return False
        length = self.inheaders.get(b"Content-Length")
        coding = self.inheaders.get(b"Transfer-Encoding")
        wrong = length is not None and (not _DIGITS.fullmatch(length) or coding is not None)
        if wrong or coding is not None and coding.strip().lower() != b"chunked":
            self.close_connection = True
            self.simple_response("400 Bad Request", "The length of the body is not clear.")
            return False
        return True

    def respond(self) -> None:
        if self.chunked_read:
            self.rfile = ChunkedBody(self.conn.rfile)
        else:
            length = int(self.inheaders.get(b"Content-Length", 0))
            self.rfile = KnownBody(self.conn.stream, length)
        gateway = self.server.gateway(self)
        gateway.env[IS_GONE] = self.conn.is_gone
        gateway.respond()
        if self.ready:
            self.ensure_headers_sent()
        if self.chunked_write:
            self.conn.wfile.write(b"0\r\n\r\n")

    def send_headers(self) -> None:
        if not self.rfile.is_finished:
            self.close_connection = True
            self.conn.is_unread = True
        super().send_headers()


class Connection(cheroot.HTTPConnection):  # type: ignore[misc, unused-ignore]
    """A connection. is_new: it has said nothing yet. is_unread: there may be a body that nobody wants."""

    RequestHandlerClass = Request
    server: Server

    def __init__(self, server: Server, sock: socket.socket, makefile: Any = None) -> None:
        sock.settimeout(server.idle)
        self.stream = Stream(sock, server.slowest)
        super().__init__(server, sock, self._file)
        self.is_new = True
        self.is_unread = False
        self.is_counted = False

    def _file(self, sock: socket.socket, mode: str, size: int) -> Reader | Writer:
        return Reader(self.stream) if "r" in mode else Writer(self.stream)

    def is_gone(self) -> bool:
        """Whether the peer has hung up."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        try:
            return bool(poll.poll(0)) and not self.socket.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def communicate(self) -> bool:
        self.stream.begin()
        try:
            return bool(super().communicate())  # type: ignore[no-untyped-call, unused-ignore]
        finally:
            self.server.leave(self)

    def close(self) -> None:
        if self.is_unread:  # closed with something unread, it would be reset, and our last words lost
            self._linger()
        super().close()
        self.server.closed(self)

    def _linger(self) -> None:
        deadline = time.monotonic() + LINGER
        try:
            self.socket.shutdown(socket.SHUT_WR)
            self.socket.settimeout(LINGER)
            while time.monotonic() < deadline and self.socket.recv(RECEIVE):
                pass
        except OSError:
            pass


class Server(wsgi.Server):  # type: ignore[misc, unused-ignore]
    """The server. Raises OSError when it cannot listen."""

    ConnectionClass = Connection

    def __init__(self, values: Values, application: Any) -> None:
        self.idle = values.idle
        self.slowest = values.slowest
        self._most_per_address = values.most_per_address
        self._busy: collections.Counter[str] = collections.Counter()
        self._open: collections.Counter[str] = collections.Counter()
        self._count_lock = threading.Lock()
        super().__init__(
            (values.host, values.port),
            application,
            numthreads=values.threads,
            max=values.threads,
            server_name="pysftpremo",
            timeout=KEEP,
            request_queue_size=128,
            shutdown_timeout=5,
            accepted_queue_size=MOST_OPEN,
            accepted_queue_timeout=1,
        )
        self.max_request_header_size = MOST_HEADER
        self.keep_alive_conn_limit = MOST_OPEN

    def process_conn(self, conn: Connection) -> None:
        """A connection is new, or has something to say; only then it gets a thread."""
        address = network_of(conn.remote_addr or "")
        if conn.is_new:
            conn.is_new = False
            with self._count_lock:
                self._open[address] += 1
                conn.is_counted = True
                crowded = self._open[address] > OPEN_PER_REQUEST * self._most_per_address
                crowded = crowded or self._open.total() > MOST_OPEN
            if crowded:
                log.warning("%s: too many connections", conn.remote_addr)
                conn.close()
            else:
                self.put_conn(conn)
            return
        with self._count_lock:
            self._busy[address] += 1
            crowded = self._busy[address] > self._most_per_address
        if crowded:
            log.warning("%s: too many requests at once (most-per-address)", conn.remote_addr)
            self.leave(conn)
            conn.is_unread = True
            self._unservicable_conns.put(conn)  # type: ignore[attr-defined, unused-ignore]
            return
        super().process_conn(conn)

    def leave(self, conn: Connection) -> None:
        """A request is over."""
        self._subtract(self._busy, conn)

    def closed(self, conn: Connection) -> None:
        """A connection is over."""
        if conn.is_counted:
            conn.is_counted = False
            self._subtract(self._open, conn)

    def _subtract(self, counter: collections.Counter[str], conn: Connection) -> None:
        address = network_of(conn.remote_addr or "")
        with self._count_lock:
            counter[address] -= 1
            if counter[address] <= 0:
                del counter[address]

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """What cheroot has to say; what broke off is no error."""
        log.log(min(level, logging.INFO) if "ReplyBroken" in msg else level, "%s", msg[:500], exc_info=False)
        if traceback and "ReplyBroken" not in msg:
            log.debug("where that was", exc_info=True)
