"""The web server of `pysftpremo serve`: cheroot, hardened against slow and malformed peers.

Replaced are cheroot's choice of the connections that get a thread (only those with a request), its header
parser, and what streams.py has. What may not enter: what the application does. Facts: RFC 9112.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import re
import resource
import select
import socket
import threading
import time

from cheroot import server as cheroot
from cheroot import wsgi

from pysftpserver.remo.application import IS_GONE
from pysftpserver.remo.streams import MOST_HEADER, RECEIVE, ChunkedBody, KnownBody, Reader, Stream, Writer
from pysftpserver.service.serving import raise_descriptor_limit
from pysftpserver.service.throttle import network_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pysftpserver.remo.config import ServerSettings

log = logging.getLogger("pysftpserver.remo")
MOST_HEADERS = 128  # lines
KEEP = 60  # seconds that an idle connection is kept
UNSENT = 131072  # bytes that the kernel may keep before they are on their way
LINGER = 1.0  # seconds for the peer to read the last reply
DRAINED_AT_ONCE = 8  # times RECEIVE, before other connections get their turn
NO_ROOM = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
)
KEPT = 4  # one thread of so many is reserved for addresses that have a session
OPEN_PER_REQUEST = 4  # open connections of an address for each request that it may make at once
FEWEST_OPEN = 16
PER_REQUEST = 4  # descriptors that a request may need besides its connection
OWN = 64  # descriptors of the process and of interactive commands
NOT_ACCEPTED = 0.2  # seconds to wait when no connection can be accepted
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DIGITS = re.compile(rb"[0-9]{1,18}")


class HeaderReader:
    """Reads the lines of a header. Raises ValueError for an ambiguous one."""

    def __call__(self, rfile: Any, found: dict[bytes, bytes]) -> None:
        count = 0
        while (line := rfile.readline()) != b"\r\n":
            name, colon, value = line[:-2].partition(b":")
            is_whole = line.endswith(b"\r\n") and colon and _NAME.fullmatch(name)
            if not is_whole or b"\r" in value or b"\0" in value:
                raise ValueError("Illegal header line.")
            count += 1
            if count > MOST_HEADERS:
                raise ValueError("Too many header lines.")
            name, value = name.title(), value.strip()
            if b"_" in name:  # in an environ, it would have the name of another one
                continue
            if name in found:
                if name in (b"Content-Length", b"Transfer-Encoding"):
                    raise ValueError("The length of the body is not clear.")
                value = (b"; " if name == b"Cookie" else b", ").join((found[name], value))
            found[name] = value


class Request(cheroot.HTTPRequest):  # type: ignore[misc, unused-ignore]
    """A request whose length is unambiguous."""

    header_reader = HeaderReader()

    def read_request_line(self) -> bool:
        try:
            return bool(super().read_request_line())  # type: ignore[no-untyped-call, unused-ignore]
        except ValueError:  # from taking the URI apart
            self.simple_response("400 Bad Request", "Malformed Request-URI")
            return False

    def read_request_headers(self) -> bool:
        if not super().read_request_headers():  # type: ignore[no-untyped-call, unused-ignore]
            return False
        length = self.inheaders.get(b"Content-Length")
        coding = self.inheaders.get(b"Transfer-Encoding")
        wrong = length is not None and (not _DIGITS.fullmatch(length) or coding is not None)
        # HTTP/1.0 has no codings: others on the way may take the length for another one (RFC 9112, 6.1).
        if wrong or coding is not None and (coding.lower() != b"chunked" or not self.chunked_read):
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
        self.rfile.finish()
        if not self.rfile.is_finished:
            self.close_connection = True
            self.conn.is_unread = True
        super().send_headers()

    def write(self, chunk: bytes) -> None:
        if self.method != b"HEAD":  # whose answers have no bodies, whatever their headers say
            super().write(chunk)

    def simple_response(self, status: str, msg: str = "") -> None:
        """Answer a request that is refused; the connection ends."""
        self.close_connection = True
        self.conn.is_unread = True
        said = (
            f"{self.server.protocol} {status}\r\nContent-Length: {len(msg)}\r\n"
            f"Content-Type: text/plain\r\nConnection: close\r\n\r\n{msg}"
        )
        with contextlib.suppress(OSError):  # the peer has gone
            self.conn.wfile.write(said.encode("latin-1"))


class Connection(cheroot.HTTPConnection):  # type: ignore[misc, unused-ignore]
    """A connection. is_new: nothing has come yet. is_unread: there may be the rest of a refused body.
    is_stranger: it has one of the threads that are not reserved.
    ends_at: the time (of time.monotonic()) until which it only waits for the peer to read the last reply.
    """

    RequestHandlerClass = Request
    server: Server

    def __init__(self, server: Server, sock: socket.socket, makefile: Any = None) -> None:
        sock.settimeout(server.idle_timeout)
        # Tokens have a time: one for a slow line is better made later than kept by the kernel.
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
        self.stream = Stream(sock, server.slowest)
        super().__init__(server, sock, self._file)
        self.is_new = True
        self.is_unread = False
        self.is_counted = False
        self.is_busy = False
        self.is_stranger = False
        self.ends_at: float | None = None

    def _file(self, sock: socket.socket, mode: str, size: int) -> Reader | Writer:
        return Reader(self.stream) if "r" in mode else Writer(self.stream)

    def is_gone(self) -> bool:
        """Whether the peer has hung up."""
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)
        return bool(poll.poll(0))

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
            self.socket.setblocking(False)
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    def drain(self) -> bool:
        """Discard what has come; return whether there may be more."""
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

    def turn_away(self) -> bool:
        """Send 503 without waiting; the rest is as for begin_end()."""
        try:
            self.socket.setblocking(False)
            self.socket.send(NO_ROOM)
        except OSError:
            return False
        return self.begin_end()

    def close(self) -> None:
        with contextlib.suppress(OSError):  # it has gone
            super().close()
        self.server.leave(self)
        self.server.closed(self)


class Server(wsgi.Server):  # type: ignore[misc, unused-ignore]
    """The server. Raises OSError when it cannot listen."""

    ConnectionClass = Connection

    def __init__(self, values: ServerSettings, application: Any) -> None:
        self.idle_timeout = values.idle_timeout
        self.slowest = values.slowest
        # Behind a proxy, all of them come from one address.
        self._max_per_address = values.threads if values.proxied else values.max_per_address
        # Strangers with many addresses must not lock out users who are logged in.
        self._most_strangers = values.threads if values.proxied else values.threads - values.threads // KEPT
        self._is_known = application.sessions.has_from
        self._strangers = 0  # requests of other addresses that have a thread, or are next
        self._waiting: collections.deque[Connection] = collections.deque()  # of such addresses, for those
        raise_descriptor_limit(values.max_connections + values.max_sessions + PER_REQUEST * values.threads, 1)
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OWN - PER_REQUEST * values.threads
        self._most_open = max(FEWEST_OPEN, min(values.max_connections, descriptors))
        self._busy: collections.Counter[str] = collections.Counter()
        self._open: collections.Counter[str] = collections.Counter()
        self._count_lock = threading.Lock()
        super().__init__(
            (values.listen_address, values.port),
            application,
            numthreads=values.threads,
            max=values.threads,
            server_name="pysftpremo",
            timeout=KEEP,
            request_queue_size=128,
            shutdown_timeout=5,
            accepted_queue_size=values.max_connections,
            accepted_queue_timeout=1,
        )
        self.max_request_header_size = MOST_HEADER
        self.keep_alive_conn_limit = values.max_connections

    def process_conn(self, conn: Connection) -> None:
        """Give a thread to a connection that has a request; a new one only waits for its first."""
        if conn.ends_at is not None:
            self._wait_for_end(conn, conn.drain())
            return
        address = network_of(conn.remote_addr or "")
        if conn.is_new:
            conn.is_new = False
            with self._count_lock:
                self._open[address] += 1
                conn.is_counted = True
                crowded = self._open[address] > OPEN_PER_REQUEST * self._max_per_address
                crowded = crowded or self._open.total() > self._most_open
            if crowded:
                log.info("%s: too many connections (max_connections, max_per_address)", conn.remote_addr)
                conn.turn_away()
                conn.close()
            else:
                self.put_conn(conn)
            return
        with self._count_lock:
            crowded = self._busy[address] >= self._max_per_address
            if not crowded:
                self._busy[address] += 1
                conn.is_busy = True
                if not self._is_known(address):
                    if self._strangers >= self._most_strangers:
                        self._waiting.append(conn)
                        return
                    self._strangers += 1
                    conn.is_stranger = True
        if crowded:
            log.info("%s: too many requests at once (max_per_address)", conn.remote_addr)
            self._wait_for_end(conn, conn.turn_away())
            return
        super().process_conn(conn)

    def put_conn(self, conn: Connection) -> None:
        """Let a connection wait for its peer, without a thread."""
        super().put_conn(conn)
        if conn.ends_at is not None:
            conn.last_used = time.time() - KEEP + LINGER  # by which cheroot knows when to close it

    def _wait_for_end(self, conn: Connection, is_open: bool) -> None:
        if is_open:
            self.put_conn(conn)
        else:
            conn.close()

    def leave(self, conn: Connection) -> None:
        """A request is over."""
        if conn.is_busy:
            conn.is_busy = False
            self._subtract(self._busy, conn)
        if conn.is_stranger:
            conn.is_stranger = False
            with self._count_lock:
                following = self._waiting.popleft() if self._waiting else None
                if following is None:
                    self._strangers -= 1
                else:
                    following.is_stranger = True
            if following is not None:
                super().process_conn(following)

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
        """Log what cheroot reports; a reply that breaks off is not an error."""
        if msg == "Error in HTTPServer.serve":  # nothing could be accepted, and it would try again at once
            time.sleep(NOT_ACCEPTED)
        log.log(min(level, logging.INFO) if "ReplyBroken" in msg else level, "%s", msg[:500], exc_info=False)
        if traceback and "ReplyBroken" not in msg:
            log.debug("where that was", exc_info=True)
