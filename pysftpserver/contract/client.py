"""A session of SFTP version 3 as the rules see it: requests one at a time or many at once, and strict
replies.

A reply that does not decode to its last byte, or whose type does not fit the request, raises Broken; a STATUS
that is not OK raises Refused. The last exchanges are kept for reports. What may not enter: rules, and where
the bytes come from (a Line). Facts: draft-ietf-secsh-filexfer-02; OpenSSH's PROTOCOL, section 4.
"""

from __future__ import annotations

from collections import deque

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract import packets
from pysftpserver.engine import wire
from pysftpserver.pysftpexceptions import MalformedPacket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Protocol, TypeVar

    T = TypeVar("T")

    class Line(Protocol):
        """Bytes to a server and back."""

        def send(self, data: bytes) -> None:
            """Send all of it; what arrives meanwhile is kept. Raises Closed, Silent."""

        def receive(self, seconds: float) -> bytes:
            """Receive at least one byte. Raises Closed at the end, Silent if none arrived within seconds."""

        def close(self) -> None:
            """End the session, and whatever carries it."""


READ, WRITE, APPEND = wire.SSH2_FXF_READ, wire.SSH2_FXF_WRITE, wire.SSH2_FXF_APPEND
CREAT, TRUNC, EXCL = wire.SSH2_FXF_CREAT, wire.SSH2_FXF_TRUNC, wire.SSH2_FXF_EXCL
NEW = WRITE | CREAT | TRUNC

OK, EOF, NOT_FOUND = wire.SSH2_FX_OK, wire.SSH2_FX_EOF, wire.SSH2_FX_NO_SUCH_FILE
DENIED, FAILED, SENSELESS = (
    wire.SSH2_FX_PERMISSION_DENIED,
    wire.SSH2_FX_FAILURE,
    wire.SSH2_FX_BAD_MESSAGE,
)
UNSUPPORTED = wire.SSH2_FX_OP_UNSUPPORTED
STATUS_NAMES = {
    OK: "OK",
    EOF: "EOF",
    NOT_FOUND: "NO_SUCH_FILE",
    DENIED: "PERMISSION_DENIED",
    FAILED: "FAILURE",
    SENSELESS: "BAD_MESSAGE",
    wire.SSH2_FX_NO_CONNECTION: "NO_CONNECTION",
    wire.SSH2_FX_CONNECTION_LOST: "CONNECTION_LOST",
    UNSUPPORTED: "OP_UNSUPPORTED",
}

NOTHING = SFTPAttributes()
KEPT = 40  # exchanges of a session that a report may show
LONGEST = 1 << 24  # bytes; a reply that claims to be longer is taken for garbage
LONGEST_VERSION = 1 << 18  # bytes of a VERSION packet
MOST_CONTENT = 1 << 26  # bytes of a file after which it counts as endless
LARGE = 1 << 20  # bytes of a packet; only a few larger ones are kept
MOST_KEPT = 1 << 26  # bytes of exchanges, and of replies that arrived early
MOST_WORDS = 1_000  # bytes of a message that are shown
MOST_SHORT = 300  # short answers to READ after which a file counts as endless
MOST_NAMES = 200_000  # of a directory after which a listing counts as endless
SILENCE = 10.0  # seconds without a byte after which a server counts as silent
_HEADER = 9  # bytes of a packet before its body: length, type, request id


class Broken(AssertionError):
    """A rule is broken; the text says how."""


class Silent(Broken):
    """The server did not answer within its time."""


class Closed(Broken):
    """The server ended the session."""


class Refused(Exception):
    """The reply is a STATUS other than OK. status: its code. message: its text. request: its name."""

    def __init__(self, status: int, message: bytes, request: str) -> None:
        words = message[:MOST_WORDS].decode("utf-8", "backslashreplace")
        super().__init__(f"{request} was refused: {status_name(status)} ({words})")
        self.status = status
        self.message = message
        self.request = request


class Exchange:
    """A request and its reply, as whole packets; reply: None until it arrives."""

    __slots__ = ("reply", "request")

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.reply: bytes | None = None


def _size(exchanges: Collection[Exchange]) -> int:
    return sum(len(exchange.request) + len(exchange.reply or b"") for exchange in exchanges)


def status_name(status: int) -> str:
    """The draft's name of a status code, with its number."""
    return f"{STATUS_NAMES.get(status, 'unknown')} ({status})"


class Client:
    """One session. line: to the server. seconds: without a byte after which the server is Silent.

    version, extensions: what the server announced, after hello(). exchanges: the last ones, oldest first.
    target_first: whether SYMLINK's arguments are sent in OpenSSH's order instead of the draft's.
    lstat_follows: whether LSTAT is known to follow links.
    """

    target_first = True
    lstat_follows = False

    def __init__(self, line: Line, seconds: float = SILENCE) -> None:
        self.line = line
        self.seconds = seconds
        self.version = 0
        self.extensions: dict[bytes, bytes] = {}
        self.exchanges: deque[Exchange] = deque(maxlen=KEPT)
        self._received = bytearray()
        self._early: dict[int, bytes] = {}
        self._waiting: dict[int, Exchange] = {}
        self._last = 0

    def close(self) -> None:
        """End the session."""
        self.line.close()

    def forget(self) -> None:
        """Forget the exchanges so far. If none is in flight, request ids start from 1 again, so that reports
        of the same rule are the same."""
        self.exchanges.clear()
        if not self._waiting and not self._early:
            self._last = 0

    # --- packets ------------------------------------------------------------------------------------

    def hello(self, version: int = wire.SFTP_VERSION, *more: bytes) -> bytes:
        """Send INIT, with `more` after its version; return the VERSION packet and keep its content."""
        self.send_packet(packets.sftpcmd(wire.SSH2_FXP_INIT, packets.sftpint(version), *more))
        reply = self.packet()
        self._keep(self.exchanges[-1], reply)
        if len(reply) > LONGEST_VERSION:
            raise Broken(f"the server sent a VERSION of {len(reply)} bytes")
        self.extensions = self._decoded(packets.get_sftpextensions, reply)
        self.version = wire.u32_at(reply, 5, len(reply))
        return reply

    def send_packet(self, packet: bytes) -> None:
        """Send bytes unchanged; keep them as a request without a reply."""
        self.exchanges.append(Exchange(packet))
        self.line.send(packet)

    def send(self, kind: int, *fields: bytes) -> int:
        """Send a request; return its id, for reply()."""
        request_id, packet = self._enter(kind, *fields)
        self.line.send(packet)
        return request_id

    def send_together(self, *requests: tuple[int, bytes], step: int = 0) -> list[int]:
        """Send requests (type and fields) without waiting for replies; return their ids, for reply().

        They go in one piece, or in pieces of this many bytes.
        """
        entered = [self._enter(kind, fields) for kind, fields in requests]
        stream = b"".join(packet for _, packet in entered)
        step = step or len(stream)
        for start in range(0, len(stream), step):
            self.line.send(stream[start : start + step])
        return [request_id for request_id, _ in entered]

    def _enter(self, kind: int, *fields: bytes) -> tuple[int, bytes]:
        """Register a request, for whose reply next_reply() waits; return its id and packet."""
        self._last = request_id = (self._last + 1) & 0xFFFFFFFF
        packet = packets.sftpcmd(kind, *fields, request_id=request_id)
        self.exchanges.append(Exchange(packet))
        self._waiting[request_id] = self.exchanges[-1]
        return request_id, packet

    def raw(self, packet: bytes) -> bytes:
        """Send bytes unchanged; return the next packet, whatever it answers."""
        self.send_packet(packet)
        exchange = self.exchanges[-1]
        packet = self.packet()
        self._keep(exchange, packet)
        return packet

    def _keep(self, exchange: Exchange, reply: bytes) -> None:
        """Keep a reply with its request; of large replies, only the last few."""
        exchange.reply = reply
        if len(reply) > LARGE:
            while len(self.exchanges) > 1 and _size(self.exchanges) > MOST_KEPT:
                self.exchanges.popleft()

    def packet(self) -> bytes:
        """The next whole packet. Raises Silent, Closed, and Broken for an impossible length."""
        while len(self._received) < 4 or len(self._received) < 4 + self._length():
            self._received += self.line.receive(self.seconds)
        end = 4 + self._length()
        packet = bytes(self._received[:end])
        del self._received[:end]
        return packet

    def _length(self) -> int:
        length = wire.u32_at(self._received, 0, 4)
        if not 5 <= length <= LONGEST:
            raise Broken(f"the server sent a packet that says to be {length} bytes long")
        return length

    def next_reply(self) -> tuple[int, bytes]:
        """(request id, packet) of the next reply to any request sent with send()."""
        packet = self.packet()
        if len(packet) < _HEADER:
            raise Broken(f"the server sent a packet of {len(packet)} bytes, which has no request id")
        request_id = wire.u32_at(packet, 5, len(packet))
        exchange = self._waiting.pop(request_id, None)
        if exchange is None:
            raise Broken(f"the server answered to request id {request_id}, which nothing waits for")
        self._keep(exchange, packet)
        return request_id, packet

    def reply(self, request_id: int) -> bytes:
        """The reply to a request; replies to others that arrive first are kept for their own reply()."""
        while request_id not in self._early:
            other, packet = self.next_reply()
            self._early[other] = packet
            if len(packet) > LARGE and sum(map(len, self._early.values())) > MOST_KEPT:
                raise Broken("the server sent very long replies to requests that nothing waits for yet")
        return self._early.pop(request_id)

    def ask(self, kind: int, *fields: bytes) -> bytes:
        """Send a request and return its reply, of any type."""
        return self.reply(self.send(kind, *fields))

    def extended(self, name: bytes, *fields: bytes) -> bytes:
        """Send an extended request and return its reply, of any type."""
        return self.ask(wire.SSH2_FXP_EXTENDED, packets.sftpstring(name), *fields)

    # --- what replies say ---------------------------------------------------------------------------

    def _decoded(self, decode: Callable[[bytes], T], reply: bytes) -> T:
        try:
            return decode(reply)
        except MalformedPacket as error:
            raise Broken(f"a reply of type {reply[4]} that {error}") from None
        except Broken:
            raise
        except AssertionError as error:
            raise Broken(str(error)) from None

    def expect(self, request: str, reply: bytes, decode: Callable[[bytes], T]) -> T:
        """Decode a reply with a decoder of packets.py. Raises Refused if it is a STATUS instead."""
        if len(reply) > 4 and reply[4] == wire.SSH2_FXP_STATUS:
            status, message = self.status_in(reply)
            if status != OK or decode is not packets.get_sftpstatus:
                raise Refused(status, message, request)
        return self._decoded(decode, reply)

    def status_in(self, reply: bytes) -> tuple[int, bytes]:
        """Code and message of a STATUS reply, which must have both, a language tag, and nothing else."""
        status = self._decoded(packets.get_sftpstatus, reply)
        return status, wire.string_at(reply, _HEADER + 4, len(reply))[0]

    def status_of(self, kind: int, *fields: bytes) -> int:
        """Send a request whose answer must be a STATUS, and return its code."""
        return self.status_in(self.ask(kind, *fields))[0]

    def _ok(self, name: str, kind: int, *fields: bytes) -> None:
        self.expect(name, self.ask(kind, *fields), packets.get_sftpstatus)

    def _extended_ok(self, name: bytes, *fields: bytes) -> None:
        self.expect(name.decode(), self.extended(name, *fields), packets.get_sftpstatus)

    # --- requests -----------------------------------------------------------------------------------
    # Each raises Refused with the status of a refusal.

    def open(self, path: bytes, pflags: int = READ, attributes: SFTPAttributes = NOTHING) -> bytes:
        """OPEN; return the handle."""
        fields = packets.sftpstring(path), packets.sftpint(pflags), packets.sftpattrs(attributes)
        return self.expect("OPEN", self.ask(wire.SSH2_FXP_OPEN, *fields), packets.get_sftphandle)

    def opendir(self, path: bytes) -> bytes:
        """OPENDIR; return the handle."""
        reply = self.ask(wire.SSH2_FXP_OPENDIR, packets.sftpstring(path))
        return self.expect("OPENDIR", reply, packets.get_sftphandle)

    def close_handle(self, handle: bytes) -> None:
        """CLOSE."""
        self._ok("CLOSE", wire.SSH2_FXP_CLOSE, packets.sftpstring(handle))

    def read(self, handle: bytes, offset: int, length: int) -> bytes:
        """READ; return one reply's data. Raises Refused with EOF at the end of the file."""
        fields = packets.sftpstring(handle), packets.sftpint64(offset), packets.sftpint(length)
        return self.expect("READ", self.ask(wire.SSH2_FXP_READ, *fields), packets.get_sftpdata)

    def write(self, handle: bytes, offset: int, data: bytes) -> None:
        """WRITE."""
        fields = packets.sftpstring(handle), packets.sftpint64(offset), packets.sftpstring(data)
        self._ok("WRITE", wire.SSH2_FXP_WRITE, *fields)

    def readdir(self, handle: bytes) -> list[tuple[bytes, bytes, SFTPAttributes]]:
        """READDIR; return (name, longname, attributes) of one reply. Raises Refused with EOF at the end."""
        reply = self.ask(wire.SSH2_FXP_READDIR, packets.sftpstring(handle))
        return self.expect("READDIR", reply, packets.get_sftpentries)

    def stat(self, path: bytes) -> SFTPAttributes:
        """STAT."""
        return self._attributes("STAT", wire.SSH2_FXP_STAT, path)

    def lstat(self, path: bytes) -> SFTPAttributes:
        """LSTAT."""
        return self._attributes("LSTAT", wire.SSH2_FXP_LSTAT, path)

    def fstat(self, handle: bytes) -> SFTPAttributes:
        """FSTAT."""
        return self._attributes("FSTAT", wire.SSH2_FXP_FSTAT, handle)

    def _attributes(self, name: str, kind: int, of: bytes) -> SFTPAttributes:
        return self.expect(name, self.ask(kind, packets.sftpstring(of)), packets.get_sftpstat)

    def setstat(self, path: bytes, attributes: SFTPAttributes) -> None:
        """SETSTAT."""
        fields = packets.sftpstring(path), packets.sftpattrs(attributes)
        self._ok("SETSTAT", wire.SSH2_FXP_SETSTAT, *fields)

    def fsetstat(self, handle: bytes, attributes: SFTPAttributes) -> None:
        """FSETSTAT."""
        fields = packets.sftpstring(handle), packets.sftpattrs(attributes)
        self._ok("FSETSTAT", wire.SSH2_FXP_FSETSTAT, *fields)

    def lsetstat(self, path: bytes, attributes: SFTPAttributes) -> None:
        """lsetstat@openssh.com."""
        fields = packets.sftpstring(path), packets.sftpattrs(attributes)
        self._extended_ok(b"lsetstat@openssh.com", *fields)

    def remove(self, path: bytes) -> None:
        """REMOVE."""
        self._ok("REMOVE", wire.SSH2_FXP_REMOVE, packets.sftpstring(path))

    def mkdir(self, path: bytes, attributes: SFTPAttributes = NOTHING) -> None:
        """MKDIR."""
        self._ok("MKDIR", wire.SSH2_FXP_MKDIR, packets.sftpstring(path), packets.sftpattrs(attributes))

    def rmdir(self, path: bytes) -> None:
        """RMDIR."""
        self._ok("RMDIR", wire.SSH2_FXP_RMDIR, packets.sftpstring(path))

    def realpath(self, path: bytes) -> bytes:
        """REALPATH."""
        reply = self.ask(wire.SSH2_FXP_REALPATH, packets.sftpstring(path))
        return self.expect("REALPATH", reply, packets.get_sftpname)

    def readlink(self, path: bytes) -> bytes:
        """READLINK."""
        reply = self.ask(wire.SSH2_FXP_READLINK, packets.sftpstring(path))
        return self.expect("READLINK", reply, packets.get_sftpname)

    def symlink(self, target: bytes, name: bytes) -> None:
        """SYMLINK: name leads to target."""
        first, second = (target, name) if self.target_first else (name, target)
        self._ok("SYMLINK", wire.SSH2_FXP_SYMLINK, packets.sftpstring(first), packets.sftpstring(second))

    def rename(self, old: bytes, new: bytes) -> None:
        """RENAME."""
        self._ok("RENAME", wire.SSH2_FXP_RENAME, packets.sftpstring(old), packets.sftpstring(new))

    def posix_rename(self, old: bytes, new: bytes) -> None:
        """posix-rename@openssh.com."""
        self._extended_ok(b"posix-rename@openssh.com", packets.sftpstring(old), packets.sftpstring(new))

    def link(self, old: bytes, new: bytes) -> None:
        """hardlink@openssh.com: new becomes another name of old."""
        self._extended_ok(b"hardlink@openssh.com", packets.sftpstring(old), packets.sftpstring(new))

    def fsync(self, handle: bytes) -> None:
        """fsync@openssh.com."""
        self._extended_ok(b"fsync@openssh.com", packets.sftpstring(handle))

    def statvfs(self, path: bytes) -> tuple[int, ...]:
        """statvfs@openssh.com; its eleven figures."""
        return self._figures(b"statvfs@openssh.com", path, 11)

    def fstatvfs(self, handle: bytes) -> tuple[int, ...]:
        """fstatvfs@openssh.com; its eleven figures."""
        return self._figures(b"fstatvfs@openssh.com", handle, 11)

    def limits(self) -> tuple[int, ...]:
        """limits@openssh.com; longest packet, READ, WRITE, most handles. 0: the server does not tell."""
        return self._figures(b"limits@openssh.com", None, 4)

    def _figures(self, name: bytes, of: bytes | None, count: int) -> tuple[int, ...]:
        fields = () if of is None else (packets.sftpstring(of),)
        body = self.expect(name.decode(), self.extended(name, *fields), packets.get_sftpextended)
        if len(body) != count * 8:
            raise Broken(f"{name.decode()} answered {len(body)} bytes instead of {count} uint64")
        return tuple(packets.get_sftpint64(body[8 * i : 8 * i + 8]) for i in range(count))

    # --- whole things -------------------------------------------------------------------------------

    def content(self, path: bytes, step: int = 1 << 15) -> bytes:
        """The content of a file, read step bytes at a time; short answers are accepted."""
        handle = self.open(path, READ)
        short = 0
        try:
            found = bytearray()
            while short < MOST_SHORT and len(found) < MOST_CONTENT:
                try:
                    part = self.read(handle, len(found), step)
                except Refused as refusal:
                    if refusal.status != EOF:
                        raise
                    return bytes(found)
                if not part:
                    raise Broken("READ answered a DATA without bytes: the end of a file is STATUS EOF")
                found += part
                short += len(part) < step
            raise Broken(f"READ does not come to an end: {len(found)} bytes, {short} answers cut short")
        finally:
            self.close_handle(handle)

    def put(self, path: bytes, content: bytes, step: int = 1 << 15) -> None:
        """Make or replace a file, written step bytes at a time."""
        handle = self.open(path, NEW)
        try:
            for offset in range(0, len(content), step):
                self.write(handle, offset, content[offset : offset + step])
        finally:
            self.close_handle(handle)

    def listing(self, path: bytes) -> list[tuple[bytes, bytes, SFTPAttributes]]:
        """All entries of a directory, in the server's order."""
        handle = self.opendir(path)
        entries: list[tuple[bytes, bytes, SFTPAttributes]] = []
        try:
            while len(entries) < MOST_NAMES:
                try:
                    part = self.readdir(handle)
                except Refused as refusal:
                    if refusal.status != EOF:
                        raise
                    return entries
                if not part:
                    raise Broken("READDIR answered a NAME without names: a listing ends with STATUS EOF")
                entries += part
            raise Broken(f"READDIR does not come to an end: {len(entries)} names")
        finally:
            self.close_handle(handle)


def refusal_of(call: Callable[..., object], *arguments: object) -> Refused | None:
    """How a request is refused; None if it is not."""
    try:
        call(*arguments)
    except Refused as refusal:
        return refusal
    return None


def names_of(statuses: Collection[int]) -> str:
    """Status codes for a sentence: "FAILURE (4) or BAD_MESSAGE (5)"."""
    return " or ".join(map(status_name, statuses))
