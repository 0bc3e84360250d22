"""Packets for tests: encodes requests, decodes replies, and has a client that sends one request at a time.

The names are those that plugins' tests have always used. A reply of an unexpected type raises an
AssertionError that says what arrived instead. The encodings are wire.py's. What may not enter: sockets.
"""

from __future__ import annotations

import os

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.engine import wire
from pysftpserver.server import SFTPServer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage

    T = TypeVar("T")

_KINDS = {
    getattr(wire, f"SSH2_FXP_{name}"): name
    for name in "VERSION STATUS HANDLE DATA NAME ATTRS EXTENDED_REPLY".split()
}

MOST_ENTRIES = 200_000  # in one NAME reply; each takes many times its size in memory

# --- requests -----------------------------------------------------------------------------------------


def sftpcmd(cmd: int, *parts: bytes, request_id: int = 0) -> bytes:
    """A whole request packet: cmd is one of SSH2_FXP_*, parts are its encoded arguments.

    INIT has a version instead of a request id, so none is added.
    """
    body = b"".join(parts)
    if cmd == wire.SSH2_FXP_INIT:
        return wire.encode_string(bytes((cmd,)) + body)
    return wire.encode_packet(cmd, request_id, body)


#: A string argument: paths, handles, data.
sftpstring = wire.encode_string
#: A uint32 argument. As the ATTRS of a request, sftpint(0) is "no attributes".
sftpint = wire.encode_u32
#: A uint64 argument: offsets and sizes, in bytes.
sftpint64 = wire.encode_u64
#: An ATTRS argument with the fields that are set.
sftpattrs = wire.encode_attributes


# --- replies ------------------------------------------------------------------------------------------


def get_sftppackets(output: bytes) -> list[bytes]:
    """The packets in an output queue, in order, each with its length field: for several replies at once."""
    packets = []
    pos = 0
    while pos < len(output):
        _, stop = wire.string_at(output, pos, len(output))
        packets.append(output[pos:stop])
        pos = stop
    return packets


def get_sftphandle(output: bytes) -> bytes:
    """The handle in a HANDLE reply."""
    body = _body(output, wire.SSH2_FXP_HANDLE)
    return _all_of(body, *wire.string_at(body, 0, len(body)))


def get_sftpdata(output: bytes) -> bytes:
    """The bytes in a DATA reply."""
    body = _body(output, wire.SSH2_FXP_DATA)
    return _all_of(body, *wire.string_at(body, 0, len(body)))


def get_sftpname(output: bytes) -> bytes:
    """The only name in a NAME reply, as to REALPATH and READLINK."""
    names = get_sftpnames(output)
    if len(names) != 1:
        raise AssertionError(f"the reply holds {len(names)} names: use get_sftpnames")
    return names[0]


def get_sftpnames(output: bytes) -> list[bytes]:
    """All names in a NAME reply."""
    return [name for name, _, _ in get_sftpentries(output)]


def get_sftpentries(output: bytes) -> list[tuple[bytes, bytes, SFTPAttributes]]:
    """All entries of a NAME reply: name, longname, attributes."""
    body = _body(output, wire.SSH2_FXP_NAME)
    entries = []
    pos, end = 4, len(body)
    count = wire.u32_at(body, 0, end)
    if count > MOST_ENTRIES:
        raise AssertionError(f"the reply says to hold {count} names")
    for _ in range(count):
        name, pos = wire.string_at(body, pos, end)
        longname, pos = wire.string_at(body, pos, end)
        attrs, pos = wire.attributes_and_end(body, pos, end)
        entries.append((name, longname, attrs))
    return _all_of(body, entries, pos)


def get_sftpstat(output: bytes) -> SFTPAttributes:
    """The attributes in an ATTRS reply; a field that was not sent is None."""
    body = _body(output, wire.SSH2_FXP_ATTRS)
    return _all_of(body, *wire.attributes_and_end(body, 0, len(body)))


def get_sftpstatus(output: bytes) -> int:
    """The code (SSH2_FX_*) in a STATUS reply."""
    body = _body(output, wire.SSH2_FXP_STATUS)
    return _all_of(body, *_status_at(body))[0]


def get_sftpextended(output: bytes) -> bytes:
    """The content of an EXTENDED_REPLY, encoded."""
    return _body(output, wire.SSH2_FXP_EXTENDED_REPLY)


def get_sftpextensions(output: bytes) -> dict[bytes, bytes]:
    """The extensions that a VERSION reply announces, with their data."""
    body = _body(output, wire.SSH2_FXP_VERSION)
    extensions = {}
    pos, end = 4, len(body)
    while pos < end:
        name, pos = wire.string_at(body, pos, end)
        extensions[name], pos = wire.string_at(body, pos, end)
    return extensions


def get_sftpint(data: bytes) -> int:
    """The uint32 at the beginning of data: the inverse of sftpint()."""
    return wire.u32_at(data, 0, len(data))


def get_sftpint64(data: bytes) -> int:
    """The uint64 at the beginning of data: the inverse of sftpint64()."""
    return wire.u64_at(data, 0, len(data))


def get_sftpstring(data: bytes) -> bytes:
    """The string at the beginning of data: the inverse of sftpstring()."""
    return wire.string_at(data, 0, len(data))[0]


def _body(output: bytes, wanted: int) -> bytes:
    """What follows the type and the request id of the one reply in output."""
    packets = get_sftppackets(output)
    if len(packets) != 1:
        raise AssertionError(f"expected one {_KINDS[wanted]} reply, got {len(packets)} packets")
    kind = output[wire.PACKET_HEADER]
    header = wire.PACKET_HEADER + (1 if kind == wire.SSH2_FXP_VERSION else wire.REQUEST_HEADER)
    body = output[header:]
    if kind != wanted:
        came = _KINDS.get(kind, f"type {kind}")
        if kind == wire.SSH2_FXP_STATUS:
            (code, message), _ = _status_at(body)
            came += f" {code} ({message.decode('utf-8', 'replace')})"
        raise AssertionError(f"expected a {_KINDS[wanted]} reply, got {came}")
    return body


def _status_at(body: bytes) -> tuple[tuple[int, bytes], int]:
    """Code and message of a STATUS, and the offset after its language tag."""
    message, pos = wire.string_at(body, 4, len(body))
    _, pos = wire.string_at(body, pos, len(body))
    return (wire.u32_at(body, 0, len(body)), message), pos


def _all_of(body: bytes, value: T, end: int) -> T:
    """Return value. Raises AssertionError unless end is the end of the body."""
    if end != len(body):
        raise AssertionError(f"the reply has {len(body) - end} bytes too many")
    return value


# --- a client -----------------------------------------------------------------------------------------

# The request that reaches each method of a storage; the name of the extension where it is one.
_REQUESTS: dict[str, int | bytes] = {
    name: getattr(wire, f"SSH2_FXP_{name.upper()}")
    for name in "realpath stat lstat fstat setstat fsetstat opendir readdir mkdir rmdir open read write "
    "close rename symlink readlink".split()
} | {
    "rm": wire.SSH2_FXP_REMOVE,
    "lsetstat": b"lsetstat@openssh.com",
    "fsync": b"fsync@openssh.com",
    "posix_rename": b"posix-rename@openssh.com",
    "link": b"hardlink@openssh.com",
    "statvfs": b"statvfs@openssh.com",
    "fstatvfs": b"fstatvfs@openssh.com",
}

_FLAGS = (
    (os.O_APPEND, wire.SSH2_FXF_APPEND),
    (os.O_CREAT, wire.SSH2_FXF_CREAT),
    (os.O_TRUNC, wire.SSH2_FXF_TRUNC),
    (os.O_EXCL, wire.SSH2_FXF_EXCL),
)
_ACCESS = {
    os.O_RDONLY: wire.SSH2_FXF_READ,
    os.O_WRONLY: wire.SSH2_FXF_WRITE,
    os.O_RDWR: wire.SSH2_FXF_READ | wire.SSH2_FXF_WRITE,
}


class SFTPTestClient:
    """A session of a storage in this process, with one request at a time.

    storage: the storage under test. options: SFTPServer's. server: the SFTPServer. extensions: what it
    announced.
    """

    def __init__(self, storage: SFTPAbstractServerStorage, **options: Any) -> None:
        self.server = SFTPServer(storage, **options)
        reply = self.send(sftpcmd(wire.SSH2_FXP_INIT, sftpint(wire.SFTP_VERSION)))
        self.extensions = get_sftpextensions(reply)

    def send(self, packets: bytes) -> bytes:
        """Pass packets to the server and return all its replies."""
        self.server.input_queue += packets
        try:
            self.server.process()
            return self.server.output_queue
        finally:
            self.server.output_queue = b""

    def ask(self, cmd: int, *parts: bytes) -> bytes:
        """Send one request from its parts, as sftpcmd() takes them, and return the reply."""
        return self.send(sftpcmd(cmd, *parts))

    def call(self, method: str, *arguments: Any) -> bytes:
        """Send the request that reaches a method of the storage, and return the reply.

        The arguments are the method's, with handles as returned by get_sftphandle(): call("open", b"/a",
        os.O_RDONLY, 0), call("rename", b"/a", b"/b", True). "readdir" takes the handle of an opendir.
        """
        if method == "rename" and arguments[2:]:
            method = "posix_rename" if arguments[2] else "rename"
            arguments = arguments[:2]
        request = _REQUESTS[method]
        body = _encoded(method, arguments)
        if isinstance(request, bytes):
            return self.ask(wire.SSH2_FXP_EXTENDED, sftpstring(request), body)
        return self.ask(request, body)

    def close(self) -> None:
        """End the session: the server closes every handle that is still open."""
        self.server.close()


def _encoded(method: str, arguments: tuple[Any, ...]) -> bytes:
    """A storage method's arguments as the body of its request."""
    if method == "open":
        path, flags, mode = arguments
        pflags = _ACCESS[flags & os.O_ACCMODE]
        for native, portable in _FLAGS:
            if flags & native:
                pflags |= portable
        return sftpstring(path) + sftpint(pflags) + sftpattrs(SFTPAttributes(permissions=mode))
    if method == "mkdir":
        path, mode = arguments
        return sftpstring(path) + sftpattrs(SFTPAttributes(permissions=mode))
    if method == "read":
        handle, offset, size = arguments
        return sftpstring(handle) + sftpint64(offset) + sftpint(size)
    if method == "write":
        handle, offset, chunk = arguments
        return sftpstring(handle) + sftpint64(offset) + sftpstring(chunk)
    if method == "symlink":
        arguments = arguments[::-1]  # on the wire the target comes first
    return b"".join(sftpattrs(a) if isinstance(a, SFTPAttributes) else sftpstring(a) for a in arguments)
