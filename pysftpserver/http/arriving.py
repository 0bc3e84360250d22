"""Requests while they arrive: tells when one is complete enough for a thread to read it without waiting.

That is when the header is complete and, for a login, the whole body: nothing else that a stranger sends is
read. A malformed request also counts as complete; the thread refuses it. What may not enter: sockets,
cheroot, clocks. Facts: RFC 9112.
"""

from __future__ import annotations

import enum
import io
import re
import urllib.parse

from pysftpserver.http import MOST_LOGIN
from pysftpserver.http.streams import CHUNK, MOST_HEADER, MOST_LINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST_HEADERS = 128  # lines
MOST_COOKIES = 8192  # characters
MOST_CHUNKED = 4 * MOST_LOGIN  # bytes of a login in chunks, including their lengths
ENOUGH = MOST_HEADER + 4096  # bytes at which any header is too long
LOGIN_PATHS = (b"/auth", b"/login")  # of remo, and of the browser door
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_END = re.compile(rb"\n\r?\n")
_FIRST_LINE = re.compile(rb"(?:\r\n)?(\S+) +(\S+) [^\n]*\n")
_COOKIE = re.compile(rb"\ncookie:([^\r\n]*)", re.IGNORECASE)
_AUTHORIZATION = re.compile(rb"\nauthorization:([^\r\n]*)", re.IGNORECASE)
_EXPECT = re.compile(rb"\nexpect:[ \t]*100-continue[ \t]*\r(?=\n)", re.IGNORECASE)


class State(enum.Enum):
    """How much of a request has arrived. EXPECTED: the peer waits for "100 Continue"."""

    MORE = enum.auto()
    EXPECTED = enum.auto()
    READY = enum.auto()
    TOO_LONG = enum.auto()


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
            name, value = name.title(), value.strip(b" \t")  # other servers strip no more
            if b"_" in name:  # in an environ, it would have another header's name
                continue
            if name in found:
                if name in (b"Content-Length", b"Transfer-Encoding"):
                    raise ValueError("The length of the body is not clear.")
                if name == b"Host":
                    raise ValueError("More than one Host.")
                value = (b"; " if name == b"Cookie" else b", ").join((found[name], value))
            found[name] = value


def body_length(found: dict[bytes, bytes]) -> int | None:
    """The length of the body after a header; None for a chunked one. Raises ValueError."""
    length, coding = found.get(b"Content-Length"), found.get(b"Transfer-Encoding")
    if coding is not None:
        if length is None and coding.lower() == b"chunked":
            return None
    elif length is None or _DIGITS.fullmatch(length):
        return int(length or b"0")
    raise ValueError("The length of the body is not clear.")


class Arriving:
    """A request, from its first byte on. data: bytes received of it, and perhaps of the next one."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._looked = 0  # the end of the header, or of chunks, was looked for up to here
        self._ends: int | None = None  # where a login's body does; None: it is chunked
        self._header_ends = 0  # 0: not yet received
        self._body = 0

    def feed(self, piece: bytes) -> State:
        """Add received bytes; return how complete the request is."""
        self.data += piece
        if not self._header_ends:
            end = _END.search(self.data, max(0, self._looked - 2))
            self._looked = len(self.data)
            if end is None:
                return State.READY if len(self.data) > ENOUGH else State.MORE
            self._header_ends = end.end()
            state = self._on_header(end.end())
            if state is not State.MORE:
                return state
        if self._ends is not None:
            return State.READY if len(self.data) >= self._ends else State.MORE
        return self._look_at_chunks()

    def cookies(self) -> str:
        """All of the header's cookies, as HeaderReader joins them."""
        found = _COOKIE.findall(self.data, 0, self._header_ends)
        return "; ".join(value.strip().decode("latin-1") for value in found)

    def authorization(self) -> str:
        """The value of the header Authorization; "" if there is none, or more than one."""
        found = _AUTHORIZATION.findall(self.data, 0, self._header_ends)
        return found[0].strip().decode("latin-1") if len(found) == 1 else ""

    def _on_header(self, end: int) -> State:
        first = _FIRST_LINE.match(self.data, 0, end)
        if first is None or not is_login(first[1], first[2]):
            return State.READY
        found: dict[bytes, bytes] = {}
        try:
            HeaderReader()(io.BytesIO(bytes(self.data[first.end() : end])), found)
            length = body_length(found)
        except ValueError:
            return State.READY
        if length is not None and length > MOST_LOGIN:
            return State.TOO_LONG
        self._body = self._looked = end
        self._ends = None if length is None else end + length
        if len(self.data) == end and (expected := _EXPECT.search(self.data, 0, end)) is not None:
            cut = expected.end() - expected.start()
            del self.data[expected.start() : expected.end()]  # it must not be answered again
            self._body -= cut
            self._looked -= cut
            if self._ends is not None:
                self._ends -= cut
            return State.EXPECTED
        return State.MORE

    def _look_at_chunks(self) -> State:
        data = self.data
        while len(data) - self._body <= MOST_CHUNKED:
            end = data.find(b"\n", self._looked) + 1
            if not end:
                return State.MORE
            said = CHUNK.fullmatch(data, self._looked, end)
            if said is None or end - self._looked > MOST_LINE:
                return State.READY
            size = int(said[1], 16)
            if not size:
                is_over = data.startswith(b"\r\n", end) or _END.search(data, end) is not None
                return State.READY if is_over else State.MORE
            after = end + size + len(b"\r\n")
            if size > MOST_LOGIN:
                break
            if len(data) < after:
                return State.MORE
            self._looked = after
        return State.TOO_LONG


def is_login(method: bytes, target: bytes) -> bool:
    """Whether a request may be a login, however its target is spelled."""
    path = urllib.parse.unquote_to_bytes(target.partition(b"?")[0])
    return method.upper() == b"POST" and path.endswith(LOGIN_PATHS)


def cookie_in(cookies: str, name: str) -> str | None:
    """The value of a cookie in a Cookie header; of several with one name, the last.

    It takes linear time, because strangers' headers are read between all other requests: http.cookies takes a
    second for 8 KB of escapes, and finds no cookie next to a malformed one.
    """
    if len(cookies) > MOST_COOKIES:
        return None
    found = None
    for pair in cookies.split(";"):
        key, equals, value = pair.partition("=")
        if equals and key.strip() == name:
            found = value.strip()
    return found
