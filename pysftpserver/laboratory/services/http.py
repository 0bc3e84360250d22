"""HTTP: fetches a URL that is on the list, for a client, and hands on what came.

What may not enter: URLs that are not on the list, by whatever way: a redirect, dots in a path, a name and a
password before the host. Facts: RFC 3986, RFC 9110.
"""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import re
import socket
import ssl
from functools import partial
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from pysftpserver.laboratory.service import Client, Service

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed import WriteableBuffer

AT_ONCE = 8  # fetches
MOST_REDIRECTS = 5
MOST_URL = 4096  # characters
MOST_HEADERS = 64 << 10  # bytes of all of them
EACH = 8  # bytes on the way for one of a body, in the smallest chunks
PORTS = {"http": 80, "https": 443}
CHARSETS = {"utf-8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252"}  # that become text
TEXT = re.compile(r"text/|application/(?:json|xml|javascript|[\w.-]+\+(?:json|xml))")
_UNSAFE = re.compile(r"[^!-~]|[\\\"<>^`{|}]")

HELP = "GET URL fetches it, where the list allows that"


class NotFetched(Exception):
    """Why something was not fetched, in words for the client."""


class Place(NamedTuple):
    """A beginning of URLs."""

    scheme: str
    host: str
    port: int
    path: str


class Answer(NamedTuple):
    """What came."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    url: str


class HTTP(Service):
    """Fetches a URL: GET URL. Answers with status, headers and body."""

    def __init__(self, allow: Iterable[str], timeout: float = 10.0, max_bytes: int = 262_144) -> None:
        """allow: beginnings of URLs, `https://example.org/here`. timeout: seconds for all of a fetch.

        max_bytes: of a body. Raises ValueError for what is no beginning of a URL.
        """
        self._allowed = tuple(beginning_of(url) for url in allow)
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def on_message(self, client: Client, text: str) -> None:
        """Fetch what the client names."""
        word, _, rest = text.strip().partition(" ")
        url = rest.strip() if word.upper() == "GET" else word if not rest else ""
        if not url:
            client.send(f"error: {HELP}")
            return
        try:
            async with self._turns:
                client.send(said(await self._fetch(url)))
        except NotFetched as error:
            client.send(f"error: {error}")

    async def _fetch(self, url: str) -> Answer:
        loop = asyncio.get_running_loop()
        fetch = _Fetch(self._max_bytes, self._timeout)
        ends = loop.call_later(self._timeout, fetch.stop)
        try:
            for _ in range(MOST_REDIRECTS + 1):
                parts = self._allowed_parts(url)
                answer = await self._one(fetch, parts)
                location = dict(answer.headers).get("location")
                if answer.status not in (301, 302, 303, 307, 308) or location is None:
                    return answer
                url = urljoin(parts.geturl(), location)
            raise NotFetched(f"more than {MOST_REDIRECTS} redirects")
        finally:
            ends.cancel()
            fetch.stop()

    async def _one(self, fetch: _Fetch, parts: SplitResult) -> Answer:
        """One request, given up at once when nobody waits for it any more."""
        work = asyncio.ensure_future(self.in_thread(fetch.get, parts))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            fetch.stop()
            await asyncio.wait([work])
            work.exception()  # nobody wants to know
            raise

    def _allowed_parts(self, url: str) -> SplitResult:
        """The parts of a URL on the list. Raises NotFetched."""
        try:
            parts = checked(url)
            here = place_of(url)
        except ValueError as error:
            raise NotFetched(str(error)) from None
        for place in self._allowed:
            if here[:3] == place[:3] and is_below(here.path, place.path):
                return parts
        raise NotFetched("that URL is not on this server's list")


def checked(url: str) -> SplitResult:
    """The parts of a URL. Raises ValueError for one that is not plain."""
    if len(url) > MOST_URL or _UNSAFE.search(url):
        raise ValueError("no URL: it has to be in ASCII, percent-encoded, and not too long")
    parts = urlsplit(url)
    if parts.scheme not in PORTS or not parts.hostname:
        raise ValueError("no URL: it begins with http:// or https:// and a host")
    if "@" in parts.netloc:
        raise ValueError("a URL with a user in it")
    path = parts.path
    for _ in range(3):  # what is encoded twice, some server decodes twice
        path = unquote(path)
    # What is behind a semicolon is a parameter of that part of the path, which some servers take away.
    if {"..", "."} & {part.partition(";")[0] for part in re.split(r"[/\\]", path)}:
        raise ValueError("a URL with dots for directories in it")
    return parts


def place_of(url: str) -> Place:
    """Where a URL leads. Raises ValueError."""
    parts = checked(url)
    assert parts.hostname is not None
    port = parts.port if parts.port is not None else PORTS[parts.scheme]
    return Place(parts.scheme, parts.hostname, port, parts.path or "/")


def beginning_of(url: str) -> Place:
    """An entry of the list. Raises ValueError, which names it."""
    try:
        place, parts = place_of(url), urlsplit(url)
    except ValueError as error:
        raise ValueError(f"{url!r}: {error}") from None
    if parts.query or parts.fragment:
        raise ValueError(f"{url!r}: a list has no queries: only scheme, host, port and path are looked at")
    return place


def is_below(path: str, top: str) -> bool:
    """Whether a path is another one, or in that directory."""
    return path == top or path.startswith(top if top.endswith("/") else top + "/")


def said(answer: Answer) -> str:
    """What a client is told: a line with the status, lines with headers, an empty one, and the body."""
    kind, body = body_of(answer)
    lines = [
        f"HTTP {answer.status} {answer.reason}",
        f"laboratory-url: {answer.url}",
        f"laboratory-body: {kind}",
    ]
    lines += [f"{name}: {value}" for name, value in answer.headers]
    # Of a header that is folded, the parts are one line.
    return "\n".join(" ".join(line.replace("\0", "").split()) for line in lines) + "\n\n" + body


def body_of(answer: Answer) -> tuple[str, str]:
    """("text" or "base64", the body in that form)."""
    headers = dict(answer.headers)
    kind = headers.get("content-type", "")
    is_coded = headers.get("content-encoding", "identity").strip().lower() not in ("", "identity")
    charset = re.search(r"charset=\"?([\w-]+)", kind, re.IGNORECASE)
    encoding = charset[1].lower() if charset else "utf-8"
    if TEXT.match(kind.lower()) and encoding in CHARSETS and not is_coded:
        try:
            text = answer.body.decode(encoding)
        except UnicodeDecodeError:
            text = "\0"
        if "\0" not in text:
            return "text", text
    return "base64", base64.b64encode(answer.body).decode()


class _Counted(io.RawIOBase):
    """What comes from a server, up to so many bytes: not every size that it tells is checked on the way."""

    def __init__(self, sock: socket.socket, most: int) -> None:
        self._raw = sock.makefile("rb", buffering=0)  # which keeps the socket open
        self._left = most

    def makefile(self, mode: str) -> io.BufferedReader:
        """As a socket's."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, room: WriteableBuffer) -> int:
        count = self._raw.readinto(room) or 0
        self._left -= count
        if self._left < 0:
            raise NotFetched("more than a body and headers may have")
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _response(most: int, sock: socket.socket, method: str | None = None) -> http.client.HTTPResponse:
    return http.client.HTTPResponse(_Counted(sock, most), method=method)  # type: ignore[arg-type]


class _Fetch:
    """One fetch, in a thread that stop() can end from another."""

    def __init__(self, max_bytes: int, timeout: float) -> None:
        self._max_bytes = max_bytes
        self._timeout = timeout
        self._socket: socket.socket | None = None
        self._is_stopped = False

    def stop(self) -> None:
        """Take no longer."""
        self._is_stopped = True
        if self._socket is not None:
            try:
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # not TLS's, which another thread uses
            except OSError:
                pass

    def get(self, parts: SplitResult) -> Answer:
        """One request. Raises NotFetched."""
        place = place_of(parts.geturl())
        plain, secure = http.client.HTTPConnection, http.client.HTTPSConnection
        connection = (secure if place.scheme == "https" else plain)(place.host, place.port)
        most = EACH * self._max_bytes + 2 * MOST_HEADERS
        connection.response_class = partial(_response, most)  # type: ignore[assignment]
        try:
            connection.sock = self._connected(place)
            return self._talk(connection, parts)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._is_stopped |= isinstance(error, TimeoutError)
            self._check()
            reason = (
                getattr(error, "strerror", None) or getattr(error, "reason", None) or type(error).__name__
            )
            raise NotFetched(f"{place.host}: {reason}") from None
        finally:
            self._socket = None
            connection.close()

    def _connected(self, place: Place) -> socket.socket:
        """A socket, which stop() knows before anybody at its other end is waited for."""
        self._check()
        self._socket = socket.create_connection((place.host, place.port), self._timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if place.scheme == "https":
            context = ssl.create_default_context()
            secure = context.wrap_socket(
                self._socket, server_hostname=place.host, do_handshake_on_connect=False
            )
            self._socket = secure
            self._check()
            secure.do_handshake()
        self._check()
        return self._socket

    def _talk(self, connection: http.client.HTTPConnection, parts: SplitResult) -> Answer:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Accept-Encoding": "identity", "Connection": "close", "User-Agent": "pysftplab"}
        connection.request("GET", target, headers=headers)
        response = connection.getresponse()
        body = response.read(self._max_bytes + 1)
        self._check()
        if len(body) > self._max_bytes:
            raise NotFetched(f"a body of more than {self._max_bytes} bytes")
        if response.length:
            raise NotFetched(f"a body that broke off, {response.length} bytes before its end")
        known = [(name.lower(), value) for name, value in response.getheaders()]
        if sum(len(name) + len(value) for name, value in known) > MOST_HEADERS:
            raise NotFetched(f"headers of more than {MOST_HEADERS} bytes")
        return Answer(response.status, response.reason, known, body, parts.geturl())

    def _check(self) -> None:
        if self._is_stopped:
            raise NotFetched(f"it took more than {self._timeout:g} seconds")
