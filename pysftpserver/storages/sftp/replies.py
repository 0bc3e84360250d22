"""Decodes the other server's replies to the requests of the proxy.

Replies are not trusted: one that does not decode, or is not of a type that the request can have, raises
BadReply, and the connection is closed. What may not enter: I/O.
Facts: draft-ietf-secsh-filexfer-02; OpenSSH's PROTOCOL, section 4, and sftp-client.c for what servers do.
"""

from __future__ import annotations

from struct import Struct

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.engine import wire
from pysftpserver.engine.wire import MalformedPacket, attributes_and_end, string_at, u32_at
from pysftpserver.pysftpexceptions import (
    SFTPBadMessage,
    SFTPEndOfFile,
    SFTPException,
    SFTPFailure,
    SFTPForbidden,
    SFTPNotFound,
    SFTPUnsupported,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    T = TypeVar("T")
    Packet = bytearray | bytes

LONGEST_HANDLE = 256  # bytes; the draft's section 6.3
LONGEST_PATH = 1 << 15  # bytes
BODY = 5  # bytes of a packet before its body: type and request id
_STATVFS = Struct(">11Q")
_LIMITS = Struct(">4Q")
_PROBLEMS: dict[int, type[SFTPException]] = {
    kind.status: kind
    for kind in (SFTPNotFound, SFTPForbidden, SFTPBadMessage, SFTPUnsupported, SFTPEndOfFile)
}
NAMES = {number: name for name, number in vars(wire).items() if name.startswith("SSH2_FXP_")}


class BadReply(Exception):
    """The other server broke the protocol; the text says how."""


def kind_of(packet: Packet) -> int:
    """The type of a packet (without its length field)."""
    return packet[0]


def failure_of(packet: Packet) -> SFTPException | None:
    """The exception for a STATUS reply, with the other server's own text; None for OK."""
    try:
        status = u32_at(packet, BODY, len(packet))
        message = b""
        if len(packet) > BODY + 4:  # old servers send no text
            message = string_at(packet, BODY + 4, len(packet))[0]
    except MalformedPacket as error:
        raise BadReply(f"a STATUS that {error}") from None
    if status == wire.SSH2_FX_OK:
        return None
    text = message.decode("utf-8", "replace")
    return _PROBLEMS.get(status, SFTPFailure)(text)


def expect(packet: Packet, kind: int) -> int:
    """The offset of the body of a packet of this type. Raises the error of a STATUS in its place."""
    if packet[0] == wire.SSH2_FXP_STATUS:
        failure = failure_of(packet)
        if failure is not None:
            raise failure
    if packet[0] != kind:
        raise BadReply(f"a reply of type {packet[0]} in place of {NAMES[kind][9:]}")
    return BODY


def expect_ok(packet: Packet) -> None:
    """Raises the error of a STATUS, unless it is OK."""
    if packet[0] != wire.SSH2_FXP_STATUS:
        raise BadReply(f"a reply of type {packet[0]} in place of STATUS")
    failure = failure_of(packet)
    if failure is not None:
        raise failure


def handle_in(packet: Packet) -> bytes:
    """The handle of a HANDLE reply, encoded for further requests."""
    body = expect(packet, wire.SSH2_FXP_HANDLE)
    handle = _decoded(string_at, packet, body)[0]
    if not handle or len(handle) > LONGEST_HANDLE:
        raise BadReply(f"a handle of {len(handle)} bytes")
    return wire.encode_string(handle)


def data_in(most: int, packet: Packet) -> memoryview:
    """The content of a DATA reply, at most this many bytes; none at the end of the file."""
    if packet[0] == wire.SSH2_FXP_STATUS:
        failure = failure_of(packet)
        if type(failure) is SFTPEndOfFile:
            return memoryview(b"")
        if failure is not None:
            raise failure
    body = expect(packet, wire.SSH2_FXP_DATA)
    size = _decoded(u32_at, packet, body)
    if size != len(packet) - body - 4 or size > most:
        raise BadReply(f"a DATA of {size} bytes where {most} were asked for")
    return memoryview(packet)[body + 4 :]


def attributes_in(packet: Packet) -> SFTPAttributes:
    """The attributes of an ATTRS reply."""
    return _decoded(attributes_and_end, packet, expect(packet, wire.SSH2_FXP_ATTRS))[0]


def path_in(packet: Packet) -> bytes:
    """The one path of a NAME reply to REALPATH or READLINK."""
    body = expect(packet, wire.SSH2_FXP_NAME)
    count = _decoded(u32_at, packet, body)
    path, _ = _decoded(string_at, packet, body + 4)
    if count != 1 or b"\0" in path or len(path) > LONGEST_PATH:
        raise BadReply("a NAME that is not a path")
    return bytes(path)


def entries_in(packet: Packet) -> list[tuple[bytes, bytes, SFTPAttributes]]:
    """(name, longname, attributes) of a NAME reply to READDIR.

    Names that no file can have are left out: clients that do not check them might write outside their target.
    Raises SFTPEndOfFile at the end, and for a reply without entries.
    """
    body = expect(packet, wire.SSH2_FXP_NAME)
    count = _decoded(u32_at, packet, body)
    if not count:
        raise SFTPEndOfFile
    pos = body + 4
    found = []
    for _ in range(count):  # bounded by the packet: every entry takes some of it
        name, pos = _decoded(string_at, packet, pos)
        longname, pos = _decoded(string_at, packet, pos)
        attrs, pos = _decoded(attributes_and_end, packet, pos)
        if name and b"/" not in name and b"\0" not in name:
            found.append((name, longname, attrs))
    return found


class Figures:
    """The statistics of a file system from statvfs@openssh.com, with the names of os.statvfs()."""

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self.f_bsize, self.f_frsize, self.f_blocks, self.f_bfree, self.f_bavail = numbers[:5]
        self.f_files, self.f_ffree, self.f_favail, self.f_fsid, self.f_flag, self.f_namemax = numbers[5:]


def figures_in(packet: Packet) -> Figures:
    """The figures of a reply to statvfs@openssh.com. Its two flags have this system's numbers."""
    return Figures(_unpacked(_STATVFS, packet))


def limits_in(packet: Packet) -> tuple[int, int, int, int]:
    """The reply of limits@openssh.com: longest packet, READ and WRITE, most handles; 0: not stated."""
    packet_length, read_length, write_length, handles = _unpacked(_LIMITS, packet)
    return packet_length, read_length, write_length, handles


def digest_in(algorithm: bytes, packet: Packet) -> bytes:
    """The one digest in a reply to check-file-name; algorithm: the only one that was asked for."""
    named, pos = _decoded(string_at, packet, expect(packet, wire.SSH2_FXP_EXTENDED_REPLY))
    if named != algorithm:
        raise BadReply("a checksum by another algorithm than was asked for")
    return bytes(packet[pos:])


def strings_in(packet: Packet) -> tuple[list[bytes], list[bytes]]:
    """The two lists of names in a reply to users-groups-by-id@openssh.com."""
    body = expect(packet, wire.SSH2_FXP_EXTENDED_REPLY)
    users, pos = _decoded(string_at, packet, body)
    groups, _ = _decoded(string_at, packet, pos)
    return list(_strings(users)), list(_strings(groups))


def extensions_in(packet: Packet) -> tuple[int, dict[bytes, bytes]]:
    """The version and the extensions in a VERSION packet."""
    if packet[0] != wire.SSH2_FXP_VERSION:
        raise BadReply(f"a packet of type {packet[0]} in place of VERSION")
    version = _decoded(u32_at, packet, 1)
    found = {}
    pos = 5
    while pos < len(packet):
        name, pos = _decoded(string_at, packet, pos)
        value, pos = _decoded(string_at, packet, pos)
        found[name] = value
    return version, found


def _strings(packed: bytes) -> Iterator[bytes]:
    pos = 0
    while pos < len(packed):
        text, pos = _decoded(string_at, packed, pos)
        yield text


def _unpacked(layout: Struct, packet: Packet) -> tuple[int, ...]:
    body = expect(packet, wire.SSH2_FXP_EXTENDED_REPLY)
    if len(packet) - body < layout.size:
        raise BadReply("an EXTENDED_REPLY that is too short")
    return layout.unpack_from(packet, body)


def _decoded(decode: Callable[[Packet, int, int], T], packet: Packet, pos: int) -> T:
    """A packet from pos on, decoded by a function of wire.py. Raises BadReply."""
    try:
        return decode(packet, pos, len(packet))
    except MalformedPacket as error:
        raise BadReply(f"a reply of type {packet[0]} that {error}") from None
