"""Helpers for unit tests: requests as bytes, strictly read replies, and a client of an engine.

Encodings are from tests/differential/packets.py, which does not use the package under test.
"""

from __future__ import annotations

from typing import Any

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.engine.log import DEBUG3, SFTPLog
from pysftpserver.server import SFTPServer
from tests.differential.packets import (
    EXTENDED,
    INIT,
    REQUEST_TYPES,
    VERSION,
    Attributes,
    BadReply,
    Reader,
    Reply,
    attrs,
    packet,
    parse,
    string,
    u32,
    u64,
)

OK, EOF, NO_SUCH_FILE, PERMISSION_DENIED, FAILURE, BAD_MESSAGE, OP_UNSUPPORTED = 0, 1, 2, 3, 4, 5, 8
READ, WRITE, APPEND, CREAT, TRUNC, EXCL = 1, 2, 4, 8, 16, 32
MAX_PACKET = 262144  # bytes
MAX_DATA = 261120  # bytes
NO_ATTRS = attrs(Attributes())
HELLO = packet(INIT, u32(3))
EXTENSIONS = {
    b"posix-rename@openssh.com": b"1",
    b"statvfs@openssh.com": b"2",
    b"fstatvfs@openssh.com": b"2",
    b"hardlink@openssh.com": b"1",
    b"fsync@openssh.com": b"1",
    b"lsetstat@openssh.com": b"1",
    b"limits@openssh.com": b"1",
    b"expand-path@openssh.com": b"1",
    b"copy-data": b"1",
    b"home-directory": b"1",
    b"users-groups-by-id@openssh.com": b"1",
    b"check-file": b"md5,sha1,sha224,sha256,sha384,sha512,crc32",
}
# The announcement of check-file stands for these two as well.
SILENT = (b"check-file-name", b"check-file-handle")
EXTENDED_NAMES = {name.decode().partition("@")[0]: name for name in (*EXTENSIONS, *SILENT)}
# A body for every row of the table except limits, which has none; 00000001 is the handle of a file,
# 00000002 of a directory.
_FILE, _DIRECTORY = string(u32(1)), string(u32(2))
_CHECK = string(b"md5") + u64(0) + u64(0) + u32(0)
BODIES = {
    "open": string(b"f") + u32(READ | WRITE) + NO_ATTRS,
    "close": _FILE,
    "read": _FILE + u64(0) + u32(5),
    "write": _FILE + u64(0) + string(b"x"),
    "lstat": string(b"f"),
    "fstat": _FILE,
    "setstat": string(b"f") + attrs(Attributes(permissions=0o600)),
    "fsetstat": _FILE + attrs(Attributes(permissions=0o600)),
    "opendir": string(b"d"),
    "readdir": _DIRECTORY,
    "remove": string(b"f"),
    "mkdir": string(b"new") + NO_ATTRS,
    "rmdir": string(b"d"),
    "realpath": string(b"f"),
    "stat": string(b"f"),
    "rename": string(b"f") + string(b"g"),
    "readlink": string(b"l"),
    "symlink": string(b"f") + string(b"l"),
    "posix-rename": string(b"f") + string(b"g"),
    "statvfs": string(b"f"),
    "fstatvfs": _FILE,
    "hardlink": string(b"f") + string(b"g"),
    "fsync": _FILE,
    "lsetstat": string(b"f") + attrs(Attributes(permissions=0o600)),
    "expand-path": string(b"f"),
    "copy-data": _FILE + u64(0) + u64(0) + string(u32(3)) + u64(0),
    "home-directory": string(b"x"),
    "users-groups-by-id": string(u32(1)) + string(u32(1)),
    "check-file-name": string(b"f") + _CHECK,
    "check-file-handle": _FILE + _CHECK,
    "check-file": _FILE + _CHECK,
}

# How each method of a storage is reached. {h}: a file's handle.
WAYS: dict[str, tuple[str, tuple[bytes | str, ...]]] = {
    "realpath": ("realpath", (string(b"x"),)),
    "userhome": ("home-directory", (string(b"x"),)),
    "username": ("users-groups-by-id", (string(u32(1)), string(b""))),
    "groupname": ("users-groups-by-id", (string(b""), string(u32(1)))),
    "stat": ("stat", (string(b"x"),)),
    "lstat": ("lstat", (string(b"x"),)),
    "fstat": ("fstat", ("{h}",)),
    "setstat": ("setstat", (string(b"x"), attrs(Attributes(size=1)))),
    "lsetstat": ("lsetstat", (string(b"x"), attrs(Attributes(permissions=1)))),
    "fsetstat": ("fsetstat", ("{h}", attrs(Attributes(size=1)))),
    "opendir": ("opendir", (string(b"x"),)),
    "mkdir": ("mkdir", (string(b"x"), NO_ATTRS)),
    "rmdir": ("rmdir", (string(b"x"),)),
    "open": ("open", (string(b"x"), u32(READ), NO_ATTRS)),
    "fileno": ("open", (string(b"x"), u32(READ), NO_ATTRS)),
    "read": ("read", ("{h}", u64(0), u32(5))),
    "write": ("write", ("{h}", u64(0), string(b"x"))),
    "close": ("close", ("{h}",)),
    "fsync": ("fsync", ("{h}",)),
    "rm": ("remove", (string(b"x"),)),
    "rename": ("rename", (string(b"x"), string(b"y"))),
    "symlink": ("symlink", (string(b"x"), string(b"y"))),
    "readlink": ("readlink", (string(b"x"),)),
    "link": ("hardlink", (string(b"x"), string(b"y"))),
    "statvfs": ("statvfs", (string(b"x"),)),
    "fstatvfs": ("fstatvfs", ("{h}",)),
    "checksum": ("check-file-name", (string(b"x"), _CHECK)),
}


def request(name: str, number: int, *parts: bytes) -> bytes:
    """A whole request. name: as listed by `sftp-server -Q requests`."""
    if name in REQUEST_TYPES:
        return packet(REQUEST_TYPES[name], u32(number) + b"".join(parts))
    return packet(EXTENDED, u32(number) + string(EXTENDED_NAMES[name]) + b"".join(parts))


def split(stream: bytes) -> list[bytes]:
    """The packets in a stream, without their length fields. Raises BadReply if it ends inside one."""
    packets = []
    reader = Reader(stream)
    rest = len(stream)
    while rest:
        body = reader.take(reader.u32())
        packets.append(body)
        rest -= 4 + len(body)
    return packets


def replies(stream: bytes) -> list[tuple[int, Reply]]:
    """The replies in a stream with the ids of their requests; a VERSION is skipped."""
    parsed = []
    for body in split(stream):
        if body[0] == VERSION:
            continue
        reader = Reader(body[1:])
        number = reader.u32()
        parsed.append((number, parse(body[0], reader)))
    return parsed


def extensions(version: bytes) -> dict[bytes, bytes]:
    """The extensions in a VERSION packet (without its length), which must say version 3."""
    reader = Reader(version[1:])
    if version[0] != VERSION or reader.u32() != 3:
        raise BadReply(f"not a VERSION 3: {version!r}")
    pairs = {}
    rest = version[5:]
    reader = Reader(rest)
    while rest:
        name, data = reader.string(), reader.string()
        pairs[name] = data
        rest = rest[8 + len(name) + len(data) :]
    return pairs


class Client:
    """A client of an engine without I/O. log: the lines that were logged, as (level, text)."""

    def __init__(self, storage: SFTPAbstractServerStorage, level: int = DEBUG3, **options: Any) -> None:
        self.log: list[tuple[int, str]] = []
        self.server = SFTPServer(storage, log=SFTPLog(lambda *line: self.log.append(line), level), **options)
        self.number = 0
        self.version = split(self.feed(HELLO))[0]

    def feed(self, data: bytes) -> bytes:
        """Pass bytes to the engine; return all of its output."""
        self.server.input_queue += data
        self.server.process()
        output = self.server.output_queue
        self.server.output_queue = b""
        return output

    def ask(self, name: str, *parts: bytes) -> Reply:
        """Send a request; return its reply, which must be the only one and have the request's id."""
        self.number += 1
        answered = replies(self.feed(request(name, self.number, *parts)))
        if [number for number, _ in answered] != [self.number]:
            raise BadReply(f"{name} {self.number} was answered with {answered}")
        return answered[0][1]

    def status(self, name: str, *parts: bytes) -> object:
        """Send a request; return the code of the STATUS that answers it, which must have a message."""
        reply = self.ask(name, *parts)
        if reply.kind != "status" or not reply.message:
            raise BadReply(f"{name} was answered with {reply}")
        return reply.content

    def content(self, kind: str, name: str, *parts: bytes) -> Any:
        """Send a request; return the content of its reply, which must be of that kind."""
        reply = self.ask(name, *parts)
        if reply.kind != kind:
            raise BadReply(f"{name} was answered with {reply}")
        return reply.content

    def open(self, path: bytes, flags: int = READ, attributes: bytes = NO_ATTRS) -> bytes:
        """OPEN; return the handle, as sent in requests."""
        return string(self.content("handle", "open", string(path), u32(flags), attributes))

    def opendir(self, path: bytes) -> bytes:
        """OPENDIR; return the handle, as sent in requests."""
        return string(self.content("handle", "opendir", string(path)))

    def lines(self, level: int = DEBUG3) -> list[str]:
        """What was logged up to a level."""
        return [text for severity, text in self.log if severity <= level]
