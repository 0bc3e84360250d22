"""The PROXY protocol, versions 1 and 2: a load balancer tells which client a connection is relayed for.

A header is read from the socket without any byte after it. `Announced` is a socket that reports the client's
address as its peer's, so that the code that serves it does not need to know the protocol. What may not enter:
which proxies are trusted, what a connection serves.
Facts: HAProxy's proxy-protocol.txt, sections 2.1 and 2.2.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from typing import NamedTuple

from pysftpserver.failures import reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from typing import Any

PREFIX = b"PROXY "
LONGEST_LINE = 107  # bytes of version 1, with the line's end
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FIXED = struct.Struct("!12sBBH")  # of version 2: signature, version and command, family and protocol, length
LONGEST = 4096  # bytes of version 2 that are taken; addresses are at most 36, the rest is for extensions
LOCAL, PROXY = 0x20, 0x21
UNSPECIFIED, TCP4, TCP6 = 0x00, 0x11, 0x21
#: Families and protocols that clients of a TCP server do not have.
OTHERS = {0x12: "UDP", 0x22: "UDP", 0x31: "a Unix-domain socket", 0x32: "a Unix-domain socket"}
ADDRESSES = {TCP4: struct.Struct("!4s4sHH"), TCP6: struct.Struct("!16s16sHH")}
LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?|"
    rb"(TCP[46]) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) ([0-9]{1,5}) ([0-9]{1,5}))\r\n"
)
PATIENCE = 5.0  # seconds for a header; a packet that was lost takes up to 3
MOST_WAITING = 128  # connections whose headers have not arrived

Peer = tuple[str, int]


class BadHeader(Exception):
    """The data is not a header, or not a supported one; the text says which."""


class NoHeader(BadHeader):
    """No data arrived, as from a health check that only connects."""


class Header(NamedTuple):
    """The content of a header. client: address and port; None: not stated. is_own: the proxy connects for
    itself, such as for a health check (LOCAL).
    """

    client: Peer | None
    is_own: bool = False


def begins(data: bytes) -> bool:
    """Whether data begins like a header."""
    return data.startswith((PREFIX, SIGNATURE))


def length(data: bytes) -> int | None:
    """The length in bytes of the header that data begins with; None: more is needed. Raises BadHeader.

    As long as more is needed, all of data belongs to the header.
    """
    if _may_become(data, PREFIX):
        end = data.find(b"\n", 0, LONGEST_LINE)
        if end < 0 and len(data) >= LONGEST_LINE:
            raise BadHeader(f"a line of more than {LONGEST_LINE} bytes")
        return end + 1 if end >= 0 else None
    if not _may_become(data, SIGNATURE):
        raise BadHeader("no PROXY header")
    if len(data) < FIXED.size:
        return None
    _, command, family, rest = FIXED.unpack_from(data)
    if command not in (LOCAL, PROXY):
        raise BadHeader(f"version and command {command:#04x}")
    if command == PROXY and family != UNSPECIFIED:
        if family not in ADDRESSES:
            raise BadHeader(f"a client of {OTHERS.get(family, f'family and protocol {family:#04x}')}")
        if rest < ADDRESSES[family].size:
            raise BadHeader(f"{rest} bytes of addresses")
    if FIXED.size + rest > LONGEST:
        raise BadHeader(f"{FIXED.size + rest} bytes")
    return FIXED.size + rest if len(data) >= FIXED.size + rest else None


def parse(data: bytes) -> Header:
    """Parse a whole header. Raises BadHeader."""
    if not data.startswith(SIGNATURE):
        return _of_line(data)
    _, command, family, _ = FIXED.unpack_from(data)
    if command == LOCAL or family == UNSPECIFIED:
        return Header(None, command == LOCAL)
    source, _, port, _ = ADDRESSES[family].unpack_from(data, FIXED.size)
    return Header((_shown(ipaddress.ip_address(source)), port))


def _of_line(line: bytes) -> Header:
    found = LINE.fullmatch(line)
    if found is None:
        raise BadHeader("a line that is not valid")
    if found[1] is None:
        return Header(None)
    kind = ipaddress.IPv4Address if found[1] == b"TCP4" else ipaddress.IPv6Address
    try:
        source, _ = kind(found[2].decode()), kind(found[3].decode())
    except ValueError:
        raise BadHeader("an address that is not valid") from None
    for port in (found[4], found[5]):
        if int(port) > 65535 or port != b"%d" % int(port):
            raise BadHeader("a port that is not valid")
    return Header((_shown(source), int(found[4])))


def _shown(source: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """An address in the usual form: an IPv4-mapped one as IPv4."""
    return str(getattr(source, "ipv4_mapped", None) or source)


def _may_become(data: bytes, beginning: bytes) -> bool:
    return data.startswith(beginning) or beginning.startswith(data)


class Announced(socket.socket):
    """A connection whose peer is the client that a proxy has announced."""

    _client: Peer

    @classmethod
    def take(cls, one: socket.socket, client: Peer) -> Announced:
        """Take over the descriptor of a socket, which cannot be used any longer."""
        timeout = one.gettimeout()
        found = cls(fileno=one.detach())
        found.settimeout(timeout)
        found._client = client
        return found

    def getpeername(self) -> Any:
        """The client's address, in the same form as from the base class."""
        address, port = self._client
        return (address, port, 0, 0) if ":" in address else (address, port)


class Taking:
    """Reads the header from one non-blocking socket as it arrives."""

    def __init__(self, one: socket.socket) -> None:
        self.socket = one
        self._taken = b""

    def go_on(self) -> Header | None:
        """Read what has arrived; return None if more is needed. Raises BadHeader, OSError."""
        while True:
            try:
                more = self.socket.recv(LONGEST, socket.MSG_PEEK)
            except (BlockingIOError, InterruptedError):
                return None
            except ConnectionError:
                more = b""
            if not more:
                kind = BadHeader if self._taken else NoHeader
                raise kind(f"it ended after {len(self._taken)} bytes")
            whole = length(self._taken + more)
            # Receiving data that has been seen does not block, and returns as much as was asked for.
            self._taken += self.socket.recv(len(more) if whole is None else whole - len(self._taken))
            if whole is not None:
                return parse(self._taken)


class _Pending(NamedTuple):
    taking: Taking
    done: Callable[[Header], None]
    refused: Callable[[str], None]


class Headers:
    """Reads the headers of many connections, on the running event loop.

    At most `most` may wait for theirs: with one more, the oldest is refused. seconds: for each header.
    """

    def __init__(self, seconds: float = PATIENCE, most: int = MOST_WAITING) -> None:
        import asyncio  # here, because it imports threading, which forked processes do without

        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._most = most
        self._waiting: dict[_Pending, asyncio.TimerHandle] = {}  # the oldest first

    def __len__(self) -> int:
        """The number of connections that wait."""
        return len(self._waiting)

    def take(
        self, one: socket.socket, done: Callable[[Header], None], refused: Callable[[str], None]
    ) -> None:
        """Call done() once the header was taken, or refused() with the reason. The socket must not block.

        The reason is empty for a connection that ended without a byte.
        """
        pending = _Pending(Taking(one), done, refused)
        if self._go_on(pending):
            return
        if len(self._waiting) >= self._most:
            self._end(next(iter(self._waiting)), "others are waiting, and its PROXY header has not come")
        late = f"no PROXY header in {self._seconds:g} seconds"
        self._waiting[pending] = self._loop.call_later(self._seconds, self._end, pending, late)
        self._loop.add_reader(one, self._go_on, pending)

    def close(self) -> None:
        """Refuse all waiting connections."""
        for pending in list(self._waiting):
            self._end(pending, "the server is stopping")

    def _go_on(self, pending: _Pending) -> bool:
        """Read what has arrived; return whether the connection no longer waits."""
        try:
            header = pending.taking.go_on()
        except NoHeader:
            self._end(pending, "")
            return True
        except (BadHeader, OSError) as error:
            self._end(pending, f"PROXY header: {reason_of(error) if isinstance(error, OSError) else error}")
            return True
        if header is None:
            return False
        self._forget(pending)
        pending.done(header)
        return True

    def _end(self, pending: _Pending, reason: str) -> None:
        self._forget(pending)
        pending.refused(reason)

    def _forget(self, pending: _Pending) -> None:
        timer = self._waiting.pop(pending, None)
        if timer is not None:
            timer.cancel()
            self._loop.remove_reader(pending.taking.socket)
