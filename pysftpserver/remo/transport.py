"""The client's HTTP: one connection, one request at a time, and no request is ever repeated.

What may not enter: tokens, sessions, files. Facts: RFC 9112. A request whose connection broke may have been
served, so it is not repeated.
"""

from __future__ import annotations

import contextlib
import http.client
import http.cookies
import re
import select
import socket
import time
import urllib.parse

from pysftpserver import __version__
from pysftpserver.failures import reason_of
from pysftpserver.remo.wire import COOKIE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DEFAULT_PORT = 8080
KEEP = 30.0  # seconds after which an idle connection is not used again
#: TCP keepalive: a silent host is probed after a minute and given up after another one.
PROBES = (
    ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 60),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPINTVL), 20),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPCNT), 3),
)
READ = 131072  # bytes at once
UNSENT = 131072  # bytes that the kernel may buffer before it sends them
MOST_TEXT = 65536  # bytes of a reply without tokens
AGENT = f"pysftpremo/{__version__}"
_IDENT = re.compile(r"[!#-+\--:<-\[\]-~]{1,4096}")  # RFC 6265, section 4.1.1


class Unreachable(Exception):
    """The server cannot be reached, or the connection broke. The text says which, in one line."""


class Place:
    """Where a server is. text: a host, or an http:// or https:// URL. Raises ValueError."""

    def __init__(self, text: str, port: int | None = None) -> None:
        parts = urllib.parse.urlsplit(text if "://" in text else f"http://{_bracketed(text)}")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{text!r} is neither a host nor an http:// or https:// URL")
        if parts.username is not None:
            raise ValueError("the URL must not name a user; give it separately")
        self.is_https = parts.scheme == "https"
        self.host = parts.hostname
        default = None if "://" in text else DEFAULT_PORT
        self.port = port or parts.port or default or (443 if self.is_https else 80)
        self.prefix = parts.path.rstrip("/")

    def __str__(self) -> str:
        return f"{_bracketed(self.host)}:{self.port}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if host.count(":") > 1 and not host.startswith("[") else host


class Reply:
    """A reply. is_tokens: whether it is a stream of tokens; text: its text otherwise."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.is_tokens = response.getheader("Content-Length") is None
        self.cookie = _session_id(response.headers.get_all("Set-Cookie") or [])
        self.text = b"" if self.is_tokens else self._read(response.read, MOST_TEXT)

    def read(self, is_eager: bool) -> bytes:
        """The next bytes; b"" at the end. is_eager: return as soon as there are any. Raises Unreachable."""
        return self._read(self._response.read1 if is_eager else self._response.read, READ)

    def _read(self, read: Callable[[int], bytes], most: int) -> bytes:
        try:
            return read(most)
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(_reason(error)) from None


class Transport:
    """A connection to a server, opened when it is needed. timeout: seconds that the server may be silent."""

    def __init__(self, place: Place, timeout: float) -> None:
        self._place = place
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None
        self._used = 0.0

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None,
        cookie: str | None,
        may_be_silent: bool = False,
    ) -> Reply:
        """Make a request; bytes are sent with their length, other bodies in chunks. may_be_silent: wait for a
        silent command as long as the other host is reachable. Raises Unreachable.
        """
        headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
        if cookie is not None:
            headers["Cookie"] = f"{COOKIE}={cookie}"
        is_chunked = body is not None and not isinstance(body, bytes)
        if is_chunked:
            headers["Transfer-Encoding"] = "chunked"
        connection = self._connected()
        target = self._place.prefix + path
        try:
            connection.sock.settimeout(self._timeout)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                # A request that is refused halfway may still get a reply.
                connection.request(method, target, body, headers, encode_chunked=is_chunked)
            if may_be_silent:
                connection.sock.settimeout(None)
            reply = Reply(connection.getresponse())
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise Unreachable(f"{self._place}: {_reason(error)}") from None
        self._used = time.monotonic()
        return reply

    def close(self) -> None:
        """Close the connection; the next request opens another one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> http.client.HTTPConnection:
        if self._connection is not None and not self._is_fresh(self._connection):
            self.close()
        if self._connection is None:
            kind = http.client.HTTPSConnection if self._place.is_https else http.client.HTTPConnection
            connection = kind(self._place.host, self._place.port, timeout=self._timeout)
            try:
                connection.connect()
                # Tokens expire: on a slow line it is better to make them later than to let the kernel buffer
                # megabytes of them.
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)
                for option, value in PROBES:
                    connection.sock.setsockopt(*option, value)
            except OSError as error:
                raise Unreachable(f"{self._place}: {_reason(error)}") from None
            self._connection = connection
        return self._connection

    def _is_fresh(self, connection: http.client.HTTPConnection) -> bool:
        """Whether the connection is still open, as far as this side can tell without sending anything."""
        if connection.sock is None or time.monotonic() - self._used > KEEP:
            return False
        poll = select.poll()
        poll.register(connection.sock, select.POLLIN)
        return not poll.poll(0)


def _session_id(cookies: list[str]) -> str | None:
    for text in cookies:
        with contextlib.suppress(http.cookies.CookieError):
            found = http.cookies.SimpleCookie(text).get(COOKIE)
            if found is not None and _IDENT.fullmatch(found.value):
                return found.value
    return None


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no reply in time"
    if isinstance(error, OSError):
        return reason_of(error)
    if isinstance(error, http.client.IncompleteRead):
        return "the reply breaks off"
    return "the reply is not HTTP"
