"""An SFTP packet as one line of words: OPEN id 3 "/d/f" WRITE|CREAT attrs(permissions 0644).

It never fails: what cannot be decoded is marked as such and shown as bytes. Strings are untrusted, so they
are shown only through failures.show(), shortened. What may not enter: whether a packet is right (contract/
has the rules), and where it comes from. Facts: draft-ietf-secsh-filexfer-02; OpenSSH's PROTOCOL, section 4;
draft-ietf-secsh-filexfer-extensions-00, section 3, for check-file.
"""

from __future__ import annotations

from pysftpserver.contract.client import STATUS_NAMES
from pysftpserver.engine import wire
from pysftpserver.failures import show
from pysftpserver.probe.results import Step
from pysftpserver.pysftpexceptions import MalformedPacket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Field = Callable[["_Reader"], str]

KEPT = 256  # bytes of a packet that a report keeps
LONGEST = 1_000  # characters of a line
_STRING = 128  # bytes of a string that are shown: a rule's directory takes 40 of a path
_HANDLE = 16  # bytes of a handle that are shown
_BYTES = 24  # bytes of anything else that are shown
_ITEMS = 4  # entries of a list that are shown
_MOST_READ = 10_000  # entries of a list that are read
_PACKETS = 4  # packets sent at once that are shown

_OPEN_FLAGS = {
    wire.SSH2_FXF_READ: "READ",
    wire.SSH2_FXF_WRITE: "WRITE",
    wire.SSH2_FXF_APPEND: "APPEND",
    wire.SSH2_FXF_CREAT: "CREAT",
    wire.SSH2_FXF_TRUNC: "TRUNC",
    wire.SSH2_FXF_EXCL: "EXCL",
}
_STATVFS = "bsize frsize blocks bfree bavail files ffree favail fsid flag namemax".split()
_LIMITS = ("packet", "read", "write", "handles")


def words_of(packet: bytes, asked: bool, request: bytes = b"") -> str:
    """A packet, which begins with its length field, as one printable line of at most LONGEST characters.

    asked: whether the client sent it; several packets sent at once are shown one after the other. request:
    the request that a reply answers, if known: it determines what an EXTENDED_REPLY contains. Never raises.
    """
    found: list[str] = []
    pos = 0
    while pos < len(packet) and len(found) < _PACKETS:
        end = _end_of(packet, pos) if asked else len(packet)
        found.append(_words(packet, pos, end, asked, request))
        pos = end
    if pos < len(packet):
        found.append(f"and {len(packet) - pos} bytes more")
    line = "; ".join(found) or "no bytes"
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def step_of(packet: bytes, asked: bool, request: bytes = b"") -> Step:
    """A packet for reports: the words of words_of(), and the first KEPT bytes."""
    return Step(asked, words_of(packet, asked, request), packet[:KEPT].hex(), len(packet))


def _end_of(packet: bytes, pos: int) -> int:
    """Where the packet at pos ends, if only whole packets follow it; else where the bytes end."""
    first = last = len(packet)
    while pos + 4 < last:
        pos += 4 + int.from_bytes(packet[pos : pos + 4], "big")
        first = min(first, pos)
    return first if pos == last else last


def _words(packet: bytes, start: int, end: int, asked: bool, request: bytes) -> str:
    if end - start < 5:
        return f"{_count(end - start, 'byte')} without a type: {packet[start:end].hex()}"
    said = int.from_bytes(packet[start : start + 4], "big")
    there = end - start - 4
    kind = packet[start + 4]
    if said < there:
        end = start + 4 + max(said, 1)
    reader = _Reader(packet, start + 5, end)
    name, fields = _KINDS.get(kind, (f"type {kind}", ()))
    parts = [name]
    try:
        if kind not in (wire.SSH2_FXP_INIT, wire.SSH2_FXP_VERSION):
            parts.append(f"id {reader.u32()}")
        if kind == wire.SSH2_FXP_EXTENDED_REPLY:
            fields = _fields_of_reply(reader, request)
        for field in fields:
            parts.append(field(reader))
        if kind == wire.SSH2_FXP_EXTENDED:
            parts += _extended(reader)
    except MalformedPacket as error:
        parts[-1] += f", which {error}"
        parts.append(reader.rest("left"))
    else:
        parts.append(reader.rest("after it"))
    if said != there:
        parts.append(f"(its length field says {said}; {there} came)")
    if kind in _KINDS and asked != (kind < 100 and kind != wire.SSH2_FXP_VERSION or kind == 200):
        parts.append("(which only servers send)" if asked else "(which only clients send)")
    return " ".join(filter(None, parts))


class _Reader:
    """Reads the body of a packet field by field; pos is where the last whole field ended."""

    def __init__(self, packet: bytes, pos: int, end: int) -> None:
        self._packet = packet
        self.pos = pos
        self.end = end

    def u32(self) -> int:
        value = wire.u32_at(self._packet, self.pos, self.end)
        self.pos += 4
        return value

    def u64(self) -> int:
        value = wire.u64_at(self._packet, self.pos, self.end)
        self.pos += 8
        return value

    def string(self) -> bytes:
        value, self.pos = wire.string_at(self._packet, self.pos, self.end)
        return value

    def remaining(self) -> bytes:
        value = self._packet[self.pos : self.end]
        self.pos = self.end
        return value

    def rest(self, where: str) -> str:
        """Text about the bytes not read yet, or "". where: their position, in words."""
        left = self.end - self.pos
        return f"({_count(left, 'byte')} {where}: {_shown(self._packet, self.pos, self.end)})" if left else ""


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _shown(octets: bytes, start: int, end: int, most: int = _BYTES) -> str:
    """A part of a packet in hexadecimal, shortened."""
    return octets[start : min(end, start + most)].hex() + ("..." if end - start > most else "")


def _hex(octets: bytes, most: int) -> str:
    shown = _shown(octets, 0, len(octets), most)
    return shown if len(octets) <= most else f"{shown} ({len(octets)} bytes)"


def _quoted(text: bytes, most: int = _STRING) -> str:
    shown = show(text[:most]).replace('"', '\\"')
    return f'"{shown}"' if len(text) <= most else f'"{shown}"... ({len(text)} bytes)'


# --- fields: what each kind of packet has -------------------------------------------------------------


def _text(reader: _Reader) -> str:
    return _quoted(reader.string())


def _handle(reader: _Reader) -> str:
    handle = reader.string()
    return f"handle {_hex(handle, _HANDLE)}" if handle else "handle of no bytes"


def _data(reader: _Reader) -> str:
    data = reader.string()
    shown = _quoted(data[:_BYTES]) + ("..." if len(data) > _BYTES else "")
    return f"{_count(len(data), 'byte')} {shown}" if data else "0 bytes"


def _number(name: str, wide: bool = False) -> Field:
    def field(reader: _Reader) -> str:
        return f"{name} {reader.u64() if wide else reader.u32()}"

    return field


def _pflags(reader: _Reader) -> str:
    return _flags(reader.u32(), _OPEN_FLAGS)


def _flags(flags: int, names: dict[int, str]) -> str:
    found = [name for flag, name in names.items() if flags & flag]
    unknown = flags & ~sum(names)
    return "|".join([*found, *([f"{unknown:#x}"] if unknown else [])]) or "no flags"


def _attributes(reader: _Reader) -> str:
    flags = reader.u32()
    found: list[str] = []
    try:
        if flags & wire.SSH2_FILEXFER_ATTR_SIZE:
            found.append(f"size {reader.u64()}")
        if flags & wire.SSH2_FILEXFER_ATTR_UIDGID:
            found.append(f"uid {reader.u32()}")
            found.append(f"gid {reader.u32()}")
        if flags & wire.SSH2_FILEXFER_ATTR_PERMISSIONS:
            found.append(f"permissions {_octal(reader.u32())}")
        if flags & wire.SSH2_FILEXFER_ATTR_ACMODTIME:
            found.append(f"atime {reader.u32()}")
            found.append(f"mtime {reader.u32()}")
        if flags & wire.SSH2_FILEXFER_ATTR_EXTENDED:
            found.append(_list(reader, reader.u32(), "extended attribute", _pair))
    except MalformedPacket as error:
        raise MalformedPacket(f"{error} of attrs({', '.join([*found, '...'])})") from None
    unknown = flags & ~0x8000000F
    if unknown:
        found.append(f"unknown flags {unknown:#x}")
    return f"attrs({', '.join(found)})"


def _octal(mode: int) -> str:
    return f"0{mode:03o}"


def _pair(reader: _Reader) -> str:
    name = _text(reader)
    return f"{name}={_text(reader)}"


def _entry(reader: _Reader) -> str:
    name = _text(reader)
    longname = _text(reader)
    attributes = _attributes(reader)
    return f"{name} {attributes}" if longname == name else f"{name} longname {longname} {attributes}"


def _names(reader: _Reader) -> str:
    return _list(reader, reader.u32(), "name", _entry)


def _list(reader: _Reader, count: int, what: str, item: Field) -> str:
    """A number of items, the first of which are shown. Every item takes bytes, so any count ends."""
    found: list[str] = []
    for number in range(count):
        try:
            words = item(reader)
        except MalformedPacket as error:
            before = f", after {'; '.join(found)}" if found else ""
            raise MalformedPacket(f"{error} of {what} {number + 1} of {count}{before}") from None
        if number < _ITEMS:
            found.append(words)
        elif number == _MOST_READ:
            reader.pos = reader.end  # skip the rest, which is not shown
            break
    if count > _ITEMS:
        found.append(f"and {count - _ITEMS} more")
    return ": ".join(filter(None, (_count(count, what), "; ".join(found))))


def _extensions(reader: _Reader) -> str:
    found: list[str] = []
    while reader.pos < reader.end:
        start = reader.pos
        if len(found) == _MOST_READ:
            break
        try:
            found.append(_pair(reader))
        except MalformedPacket:
            reader.pos = start
            break
    return f"extensions {', '.join(found)}" if found else ""


def _status(reader: _Reader) -> str:
    status = reader.u32()
    return f"{STATUS_NAMES.get(status, 'unknown status')} ({status})"


def _language(reader: _Reader) -> str:
    tag = reader.string()
    return f"language {_quoted(tag)}" if tag else ""


def _ids(what: str) -> Field:
    def field(reader: _Reader) -> str:
        octets = reader.string()
        ids = [str(int.from_bytes(octets[i : i + 4], "big")) for i in range(0, len(octets) - 3, 4)]
        shown = ",".join(ids[:_ITEMS]) + (f",... ({len(ids)})" if len(ids) > _ITEMS else "") or "none"
        return f"{what} {shown}" + (" and no whole number" if len(octets) % 4 else "")

    return field


def _strings_in_string(what: str) -> Field:
    def field(reader: _Reader) -> str:
        octets = reader.string()
        inner = _Reader(octets, 0, len(octets))
        found: list[str] = []
        while inner.pos < inner.end and len(found) < _ITEMS:
            found.append(_text(inner))
        return f"{what} {','.join(found) or 'none'}" + (",..." if inner.pos < inner.end else "")

    return field


def _numbers(names: tuple[str, ...] | list[str]) -> tuple[Field, ...]:
    return tuple(_number(name, wide=True) for name in names)


def _digests(reader: _Reader) -> str:
    return f"digests {_hex(reader.remaining(), 64)}"


_U64_OFFSET, _U64_LENGTH, _U32_LENGTH = _number("offset", True), _number("length", True), _number("length")
_OF_CHECK = (_text, _U64_OFFSET, _U64_LENGTH, _number("block"))

#: Name and fields by type, after the request id, which all but the first two have.
_KINDS: dict[int, tuple[str, tuple[Field, ...]]] = {
    wire.SSH2_FXP_INIT: ("INIT", (_number("version"), _extensions)),
    wire.SSH2_FXP_VERSION: ("VERSION", (_number("version"), _extensions)),
    wire.SSH2_FXP_OPEN: ("OPEN", (_text, _pflags, _attributes)),
    wire.SSH2_FXP_CLOSE: ("CLOSE", (_handle,)),
    wire.SSH2_FXP_READ: ("READ", (_handle, _U64_OFFSET, _U32_LENGTH)),
    wire.SSH2_FXP_WRITE: ("WRITE", (_handle, _U64_OFFSET, _data)),
    wire.SSH2_FXP_LSTAT: ("LSTAT", (_text,)),
    wire.SSH2_FXP_FSTAT: ("FSTAT", (_handle,)),
    wire.SSH2_FXP_SETSTAT: ("SETSTAT", (_text, _attributes)),
    wire.SSH2_FXP_FSETSTAT: ("FSETSTAT", (_handle, _attributes)),
    wire.SSH2_FXP_OPENDIR: ("OPENDIR", (_text,)),
    wire.SSH2_FXP_READDIR: ("READDIR", (_handle,)),
    wire.SSH2_FXP_REMOVE: ("REMOVE", (_text,)),
    wire.SSH2_FXP_MKDIR: ("MKDIR", (_text, _attributes)),
    wire.SSH2_FXP_RMDIR: ("RMDIR", (_text,)),
    wire.SSH2_FXP_REALPATH: ("REALPATH", (_text,)),
    wire.SSH2_FXP_STAT: ("STAT", (_text,)),
    wire.SSH2_FXP_RENAME: ("RENAME", (_text, _text)),
    wire.SSH2_FXP_READLINK: ("READLINK", (_text,)),
    wire.SSH2_FXP_SYMLINK: ("SYMLINK", (_text, _text)),
    wire.SSH2_FXP_STATUS: ("STATUS", (_status, _text, _language)),
    wire.SSH2_FXP_HANDLE: ("HANDLE", (_handle,)),
    wire.SSH2_FXP_DATA: ("DATA", (_data,)),
    wire.SSH2_FXP_NAME: ("NAME", (_names,)),
    wire.SSH2_FXP_ATTRS: ("ATTRS", (_attributes,)),
    wire.SSH2_FXP_EXTENDED: ("EXTENDED", ()),
    wire.SSH2_FXP_EXTENDED_REPLY: ("EXTENDED_REPLY", ()),
}
#: Fields of extended requests, and of their replies where these are EXTENDED_REPLY.
_EXTENDED: dict[bytes, tuple[tuple[Field, ...], tuple[Field, ...]]] = {
    b"posix-rename@openssh.com": ((_text, _text), ()),
    b"statvfs@openssh.com": ((_text,), _numbers(_STATVFS)),
    b"fstatvfs@openssh.com": ((_handle,), _numbers(_STATVFS)),
    b"hardlink@openssh.com": ((_text, _text), ()),
    b"fsync@openssh.com": ((_handle,), ()),
    b"lsetstat@openssh.com": ((_text, _attributes), ()),
    b"limits@openssh.com": ((), _numbers(_LIMITS)),
    b"expand-path@openssh.com": ((_text,), ()),
    b"copy-data": ((_handle, _U64_OFFSET, _U64_LENGTH, _handle, _U64_OFFSET), ()),
    b"home-directory": ((_text,), ()),
    b"users-groups-by-id@openssh.com": (
        (_ids("users"), _ids("groups")),
        (_strings_in_string("users"), _strings_in_string("groups")),
    ),
    b"check-file-name": ((_text, *_OF_CHECK), (_text, _digests)),
    b"check-file-handle": ((_handle, *_OF_CHECK), (_text, _digests)),
    b"check-file": ((_handle, *_OF_CHECK), (_text, _text, _digests)),
    b"vendor-id": ((_text, _text, _text, _number("build", True)), ()),
}


def _extended(reader: _Reader) -> list[str]:
    name = reader.string()
    parts = [_quoted(name)]
    try:
        for field in _EXTENDED.get(name, ((), ()))[0]:
            parts.append(field(reader))
    except MalformedPacket as error:
        raise MalformedPacket(f"{error} after {' '.join(parts)}") from None
    return parts


def _fields_of_reply(reader: _Reader, request: bytes) -> tuple[Field, ...]:
    """What an EXTENDED_REPLY contains: according to the request, or by its shape if that is unknown."""
    if len(request) > 9 and request[4] == wire.SSH2_FXP_EXTENDED:
        try:
            name, _ = wire.string_at(request, 9, len(request))
        except MalformedPacket:
            return ()
        return _EXTENDED.get(name, ((), ()))[1]
    length = reader.end - reader.pos
    return {8 * len(_STATVFS): _numbers(_STATVFS), 8 * len(_LIMITS): _numbers(_LIMITS)}.get(length, ())
