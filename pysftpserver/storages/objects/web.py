"""HTTP to one host: persistent connections, time limits and retries.

A request is tried again after a failure of the connection or an answer that asks for it, with growing pauses,
until its patience is used up. Redirects are not followed. An answer that arrives too slowly counts as none,
and one that does not end is a failure. When the session of this thread is over, its pending requests fail;
later ones, which clean up, have little time. What may not enter: the dialect of a store.
Facts: RFC 9110, http.client.
"""

from __future__ import annotations

import http.client
import io
import itertools
import random
import select
import ssl
import time
from collections import deque
from urllib.parse import urlsplit

from pysftpserver.host import watch
from pysftpserver.host.watch import here
from pysftpserver.storages.objects.errors import AGAIN, TRANSIENT, Over, unclear, unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator
    from typing import Any

    Buffer = bytes | bytearray | memoryview
    Headers = dict[str, str]
    Sign = Callable[[str, str, Headers, "Body | None"], Headers]

PIECE = 1 << 18  # bytes that are passed to a socket at a time
MOST_WORDS = 1 << 16  # bytes of an answer that reports a failure
MOST_CONTENT = 16 << 20  # bytes of any other that is not a stream: four times the longest page of a listing
SLOWEST = 4096  # bytes a second of content
WORKING = 20  # times the patience: while the store shows that it is still copying or joining
FIRST_PAUSE = 0.1  # seconds before the second attempt, doubled before each further one
LONGEST_PAUSE = 5.0
CLEANING = 5.0  # seconds for a request of a session that is over
KEPT = 8  # idle connections
IDLE = 20.0  # seconds after which an idle connection is closed: some servers do that at 30


def _await(sock: socket.socket, events: int, seconds: float) -> None:
    """Wait until a socket is ready. Raises TimeoutError, and Over."""
    end = time.monotonic() + seconds
    poll = select.poll()
    poll.register(sock, events)
    look = seconds if here.watch is None else watch.LOOKS
    is_over = here.watch is not None and here.watch.is_over()
    while not is_over and not poll.poll(1000 * max(0.0, min(end - time.monotonic(), look)) + 1):
        is_over = watch.is_over()
        if time.monotonic() >= end:
            raise TimeoutError
    if is_over:
        raise Over


class Body:
    """The body of a request, which can be sent again. size: in bytes. read: (offset, size) -> bytes."""

    def __init__(self, size: int, read: Callable[[int, int], Buffer]) -> None:
        self.size = size
        self._read = read

    @classmethod
    def of(cls, content: Buffer) -> Body:
        view = memoryview(content)
        return cls(len(view), lambda off, size: view[off : off + size])

    def pieces(self) -> Iterator[Buffer]:
        for off in range(0, self.size, PIECE):
            yield self._read(off, min(PIECE, self.size - off))


class _Reading(io.RawIOBase):
    """What a socket receives, until a deadline, which moves on as long as content arrives.

    is_change: a store may send white space while it works, as S3 does for minutes with large objects.
    """

    def __init__(self, sock: socket.socket, patience: float, is_change: bool) -> None:
        self._sock, self._patience = sock, patience
        self._raw: Any = None
        self._end = time.monotonic() + WORKING * patience if is_change else 0.0
        self.is_content = False
        self.wait_anew()

    def wait_anew(self) -> None:
        self._until = time.monotonic() + self._patience

    def makefile(self, mode: str) -> io.BufferedReader:
        """The method of a socket that http.client calls."""
        self._raw = self._sock.makefile(mode, buffering=0)  # type: ignore[call-overload]
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        left = min(left, self._patience)
        if here.watch is not None and not getattr(self._sock, "pending", int)():
            _await(self._sock, select.POLLIN, left)
        self._sock.settimeout(left)
        count: int | None = self._raw.readinto(buffer)
        if self.is_content and count:
            self._until += count / SLOWEST
            self._until = max(self._until, min(self._end, time.monotonic() + self._patience))
        return count

    def close(self) -> None:
        if self._raw is not None:
            self._raw.close()
        super().close()


class Answer:
    """An answer: status, headers (names in small letters), content, and how many attempts it took.

    The content of a stream is not read yet. read(size): up to size bytes of it, b"" at the end; raises
    OSError or HTTPException if the connection is lost. close(): discards the rest.
    """

    def __init__(
        self, response: http.client.HTTPResponse, reading: _Reading, give_back: Callable[[bool], None]
    ) -> None:
        self.status = response.status
        self.headers: Headers = {}
        for name, value in response.getheaders():
            name = name.lower()
            if name in self.headers and name.startswith("x-"):  # Google sends each digest in a separate line
                value = f"{self.headers[name]},{value}"
            self.headers[name] = value
        self.content = b""
        self.attempts = 1
        self._response, self._reading = response, reading
        self._give_back: Callable[[bool], None] | None = give_back
        self._left = -1 if response.length is None else response.length
        reading.is_content = True

    def read(self, size: int) -> bytes:
        self._reading.wait_anew()  # the time between two reads does not count
        piece = self._response.read(size)
        if not piece and self._left > 0:
            raise http.client.IncompleteRead(b"", self._left)
        self._left -= len(piece)
        if self._response.isclosed():
            self.close()
        return piece

    def read_all(self) -> None:
        """Read the content, and close. Raises SFTPFailure if it is too long, unless it reports a failure."""
        most = MOST_WORDS if self.status >= 300 else MOST_CONTENT
        try:
            self.content = self._response.read(most)
            if self.status < 300 and not self._response.isclosed() and self._response.read(1):
                raise unclear()
            if 0 <= len(self.content) < min(self._left, most):
                raise http.client.IncompleteRead(self.content, self._left)
        finally:
            self.close()

    def close(self) -> None:
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back(self._response.isclosed() and not self._response.will_close)


class Web:
    """Requests to one host. url: scheme and host. patience: seconds for a request in all.

    ca_file: certificates to trust instead of the system's. Threads may share it.
    """

    def __init__(self, url: str, patience: float, ca_file: str | None = None) -> None:
        parts = urlsplit(url)
        self.is_safe = parts.scheme == "https"
        self.host = parts.hostname or ""
        self.authority = parts.netloc
        self.patience = patience
        self._port = parts.port
        self._ca_file = ca_file
        self._context: ssl.SSLContext | None = None
        self._idle: deque[tuple[float, http.client.HTTPConnection]] = deque()

    def request(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: Body | None = None,
        sign: Sign | None = None,
        is_stream: bool = False,
    ) -> Answer:
        """Send a request; return the answer, whatever its status.

        sign: returns the headers to send; called for each attempt. is_stream: do not read the content yet,
        unless the status is 300 or more. Raises SFTPUnavailable if there is no answer.
        """
        if not watch.is_over():
            return self._request(method, target, headers, body, sign, is_stream, self.patience)
        kept, here.watch = here.watch, None
        try:
            patience = min(self.patience, CLEANING)
            return self._request(method, target, headers, body, sign, is_stream, patience)
        finally:
            here.watch = kept

    def _request(
        self,
        method: str,
        target: str,
        headers: Headers,
        body: Body | None,
        sign: Sign | None,
        is_stream: bool,
        patience: float,
    ) -> Answer:
        began = time.monotonic()
        pause = FIRST_PAUSE
        for attempt in itertools.count(1):
            waited = time.monotonic() - began
            try:
                signed = sign(method, target, dict(headers), body) if sign else headers
                left = max(patience - waited, 0.1)
                answer = self._attempt(method, target, signed, body, left, is_stream)
            except (OSError, http.client.HTTPException) as error:
                waited = time.monotonic() - began
                is_certain = isinstance(error, ssl.SSLCertVerificationError)
                if is_certain or waited + pause >= patience:
                    raise unreachable(error, round(waited, 1)) from error
            else:
                answer.attempts += attempt - 1
                if not _is_transient(answer) or time.monotonic() - began + pause >= patience:
                    return answer
            watch.rest(pause * random.uniform(0.5, 1.0))
            if watch.is_over():
                raise Over
            pause = min(pause * 2, LONGEST_PAUSE)
        raise AssertionError

    def _attempt(
        self, method: str, target: str, headers: Headers, body: Body | None, patience: float, is_stream: bool
    ) -> Answer:
        # Half of the patience, so that a second attempt is possible after silence.
        connection, is_old = self._connection(patience if patience < 1 else patience / 2)
        attempts = 1
        try:
            try:
                response, reading = self._send(connection, method, target, headers, body)
            except (ConnectionError, http.client.HTTPException):
                if not is_old:
                    raise
                connection.close()  # the server has closed it while it was idle
                connection, attempts = self._new(patience / 2), 2
                response, reading = self._send(connection, method, target, headers, body)
        except BaseException:
            connection.close()
            raise

        def give_back(is_good: bool) -> None:
            if is_good and len(self._idle) < KEPT:
                self._idle.append((time.monotonic(), connection))
            else:
                connection.close()

        answer = Answer(response, reading, give_back)
        answer.attempts = attempts
        if response.status >= 300 or not is_stream:
            answer.read_all()
        return answer

    @staticmethod
    def _send(
        connection: http.client.HTTPConnection, method: str, target: str, headers: Headers, body: Body | None
    ) -> tuple[http.client.HTTPResponse, _Reading]:
        connection.putrequest(method, target, skip_host="Host" in headers, skip_accept_encoding=True)
        try:
            for name, value in headers.items():
                connection.putheader(name, value)
        except ValueError:  # such as an etag with a line feed in it
            raise unclear() from None
        if body is not None or method in ("PUT", "POST"):
            connection.putheader("Content-Length", str(body.size if body else 0))
        connection.endheaders()
        if body is not None:
            try:
                for piece in body.pieces():
                    _give(connection, piece)
            except (BrokenPipeError, ConnectionResetError) as error:
                try:  # it may have sent the reason before it closed the connection
                    return _response(connection, method)
                except (OSError, http.client.HTTPException):
                    raise error from None
        return _response(connection, method)

    def _connection(self, patience: float) -> tuple[http.client.HTTPConnection, bool]:
        while True:
            try:
                since, connection = self._idle.pop()
            except IndexError:
                return self._new(patience), False
            if time.monotonic() - since < IDLE and connection.sock is not None:
                connection.sock.settimeout(patience)
                return connection, True
            connection.close()

    def _new(self, patience: float) -> http.client.HTTPConnection:
        self.prepare()
        if self._context is None:
            return http.client.HTTPConnection(self.host, self._port, timeout=patience)
        return http.client.HTTPSConnection(self.host, self._port, timeout=patience, context=self._context)

    def prepare(self) -> None:
        """Load the certificates."""
        if self.is_safe and self._context is None:
            self._context = ssl.create_default_context(cafile=self._ca_file)

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop()[1].close()


def _give(connection: http.client.HTTPConnection, piece: Buffer) -> None:
    """Send the whole piece within the connection's timeout."""
    if here.watch is None:
        connection.send(piece)
        return
    end = time.monotonic() + (connection.timeout or 0)
    left = memoryview(piece)
    while left:
        _await(connection.sock, select.POLLOUT, end - time.monotonic())
        left = left[connection.sock.send(left) :]


def _response(
    connection: http.client.HTTPConnection, method: str
) -> tuple[http.client.HTTPResponse, _Reading]:
    """The head of the answer, within the connection's timeout."""
    readings = []

    def begun(sock: socket.socket, **options: Any) -> http.client.HTTPResponse:
        readings.append(_Reading(sock, connection.timeout or 0, method in ("PUT", "POST")))
        return http.client.HTTPResponse(readings[-1], **options)  # type: ignore[arg-type]

    connection.response_class = begun  # type: ignore[assignment]
    return connection.getresponse(), readings[-1]


def _is_transient(answer: Answer) -> bool:
    if answer.status < 300:
        return False
    return answer.status in AGAIN or any(b"<Code>%b<" % code.encode() in answer.content for code in TRANSIENT)
