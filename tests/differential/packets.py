"""SFTP version 3 packets, as bytes: what a client sends and what it understands of the replies.

Written from draft-ietf-secsh-filexfer-02 and OpenSSH's PROTOCOL, on purpose without a line of the
package under test: an encoding error shared by client and server would agree with itself.
A reply is parsed strictly: missing or left-over bytes raise `BadReply`.
"""

import struct
from typing import NamedTuple

INIT, VERSION = 1, 2
STATUS, HANDLE, DATA, NAME, ATTRS, EXTENDED_REPLY = 101, 102, 103, 104, 105, 201
EXTENDED = 200

REQUEST_TYPES = {
    "open": 3,
    "close": 4,
    "read": 5,
    "write": 6,
    "lstat": 7,
    "fstat": 8,
    "setstat": 9,
    "fsetstat": 10,
    "opendir": 11,
    "readdir": 12,
    "remove": 13,
    "mkdir": 14,
    "rmdir": 15,
    "realpath": 16,
    "stat": 17,
    "rename": 18,
    "readlink": 19,
    "symlink": 20,
    "extended": EXTENDED,
}

OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, OP_UNSUPPORTED = 0, 1, 2, 3, 4, 5, 8
STATUS_NAMES = {
    OK: "OK",
    EOF: "EOF",
    NO_SUCH_FILE: "NO_SUCH_FILE",
    PERMISSION_DENIED: "PERMISSION_DENIED",
    FAILURE: "FAILURE",
    BAD_MESSAGE: "BAD_MESSAGE",
    OP_UNSUPPORTED: "OP_UNSUPPORTED",
}

READ, WRITE, APPEND, CREAT, TRUNC, EXCL = 1, 2, 4, 8, 16, 32

_SIZE, _OWNER, _PERMISSIONS, _TIMES, _EXTENDED = 1, 2, 4, 8, 0x80000000


class BadReply(Exception):
    """The server sent something that no SFTP client could parse."""


class Attributes(NamedTuple):
    """An ATTRS block; `None` where the flag is not set. Times are whole seconds since the epoch."""

    size: int | None = None
    owner: tuple[int, int] | None = None
    permissions: int | None = None
    times: tuple[int, int] | None = None
    extended: tuple[tuple[bytes, bytes], ...] | None = None

    def __repr__(self) -> str:
        shown = []
        for field, value in zip(self._fields, self, strict=True):
            if value is not None:
                shown.append(f"{field}={oct(value) if field == 'permissions' else value!r}")
        return f"Attributes({', '.join(shown)})"


class Entry(NamedTuple):
    """One name of a NAME reply."""

    name: bytes
    longname: bytes
    attributes: Attributes


class Reply(NamedTuple):
    """One reply: its kind ("status", "handle", "data", "name", "attrs", "extended") and its content.

    The content of a status is its code, of a name a tuple of `Entry`, of attrs `Attributes`, of the
    others bytes. `message` is a status message: for people, never compared.
    """

    kind: str
    content: object
    message: bytes = b""

    def __repr__(self) -> str:
        if self.kind == "status":
            return f"{STATUS_NAMES.get(self.content, self.content)} ({self.message.decode(errors='replace')})"
        text = repr(self.content)
        return f"{self.kind} {text if len(text) < 300 else text[:300] + '...'}"


def u32(value: int) -> bytes:
    return struct.pack(">I", value)


def u64(value: int) -> bytes:
    return struct.pack(">Q", value)


def string(value: bytes) -> bytes:
    return u32(len(value)) + value


def attrs(value: Attributes) -> bytes:
    flags, body = 0, b""
    if value.size is not None:
        flags |= _SIZE
        body += u64(value.size)
    if value.owner is not None:
        flags |= _OWNER
        body += u32(value.owner[0]) + u32(value.owner[1])
    if value.permissions is not None:
        flags |= _PERMISSIONS
        body += u32(value.permissions)
    if value.times is not None:
        flags |= _TIMES
        body += u32(value.times[0]) + u32(value.times[1])
    if value.extended is not None:
        flags |= _EXTENDED
        body += u32(len(value.extended))
        body += b"".join(string(name) + string(data) for name, data in value.extended)
    return u32(flags) + body


def packet(kind: int, body: bytes) -> bytes:
    return u32(1 + len(body)) + bytes([kind]) + body


class Reader:
    """Takes values off the front of a packet's body."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take(self, size: int) -> bytes:
        if self._at + size > len(self._body):
            raise BadReply(f"reply is cut short: {self._body!r}")
        self._at += size
        return self._body[self._at - size : self._at]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def string(self) -> bytes:
        return self.take(self.u32())

    def attrs(self) -> Attributes:
        flags = self.u32()
        unknown = flags & ~(_SIZE | _OWNER | _PERMISSIONS | _TIMES | _EXTENDED)
        if unknown:
            raise BadReply(f"unknown attribute flags {unknown:#x}")
        return Attributes(
            self.u64() if flags & _SIZE else None,
            (self.u32(), self.u32()) if flags & _OWNER else None,
            self.u32() if flags & _PERMISSIONS else None,
            (self.u32(), self.u32()) if flags & _TIMES else None,
            tuple((self.string(), self.string()) for _ in range(self.u32())) if flags & _EXTENDED else None,
        )

    def entry(self) -> Entry:
        return Entry(self.string(), self.string(), self.attrs())

    def rest(self) -> bytes:
        return self.take(len(self._body) - self._at)

    def finish(self) -> None:
        if self._at != len(self._body):
            raise BadReply(f"{len(self._body) - self._at} bytes left over in {self._body!r}")


def parse(kind: int, reader: Reader) -> Reply:
    """The reply in a packet whose type and id were already read."""
    if kind == STATUS:
        reply = Reply("status", reader.u32(), reader.string())
        reader.string()  # the language tag: v3 has no short form
    elif kind == HANDLE:
        reply = Reply("handle", reader.string())
    elif kind == DATA:
        reply = Reply("data", reader.string())
    elif kind == NAME:
        reply = Reply("name", tuple(reader.entry() for _ in range(reader.u32())))
    elif kind == ATTRS:
        reply = Reply("attrs", reader.attrs())
    elif kind == EXTENDED_REPLY:
        reply = Reply("extended", reader.rest())
    else:
        raise BadReply(f"unknown reply type {kind}")
    reader.finish()
    return reply
