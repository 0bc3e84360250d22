"""The SFTP version 3 wire format: constants, and packets to values and back.

What may not enter: storages, sessions, I/O. Decoders take a buffer and two offsets and return values,
encoders return bytes. A receive buffer is sliced only to copy out the few bytes that are returned; the chunk
of a WRITE is a view.
Facts: draft-ietf-secsh-filexfer-02; OpenSSH's PROTOCOL, section 4, for the extensions.
"""

from __future__ import annotations

from struct import Struct

from pysftpserver.attributes import SFTPAttributes

# isort: off
from pysftpserver.pysftpexceptions import (  # part of the wire format, and of what storages raise
    SSH2_FX_BAD_MESSAGE as SSH2_FX_BAD_MESSAGE,
    SSH2_FX_CONNECTION_LOST as SSH2_FX_CONNECTION_LOST,
    SSH2_FX_EOF as SSH2_FX_EOF,
    SSH2_FX_FAILURE as SSH2_FX_FAILURE,
    SSH2_FX_NO_CONNECTION as SSH2_FX_NO_CONNECTION,
    SSH2_FX_NO_SUCH_FILE as SSH2_FX_NO_SUCH_FILE,
    SSH2_FX_OK as SSH2_FX_OK,
    SSH2_FX_OP_UNSUPPORTED as SSH2_FX_OP_UNSUPPORTED,
    SSH2_FX_PERMISSION_DENIED as SSH2_FX_PERMISSION_DENIED,
    STATUS_MESSAGES as STATUS_MESSAGES,
    MalformedPacket as MalformedPacket,
)
# isort: on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Buffer = bytes | bytearray | memoryview

SFTP_VERSION = 3

# Requests and replies (section 3)
SSH2_FXP_INIT = 1
SSH2_FXP_VERSION = 2
SSH2_FXP_OPEN = 3
SSH2_FXP_CLOSE = 4
SSH2_FXP_READ = 5
SSH2_FXP_WRITE = 6
SSH2_FXP_LSTAT = 7
SSH2_FXP_FSTAT = 8
SSH2_FXP_SETSTAT = 9
SSH2_FXP_FSETSTAT = 10
SSH2_FXP_OPENDIR = 11
SSH2_FXP_READDIR = 12
SSH2_FXP_REMOVE = 13
SSH2_FXP_MKDIR = 14
SSH2_FXP_RMDIR = 15
SSH2_FXP_REALPATH = 16
SSH2_FXP_STAT = 17
SSH2_FXP_RENAME = 18
SSH2_FXP_READLINK = 19
SSH2_FXP_SYMLINK = 20
SSH2_FXP_STATUS = 101
SSH2_FXP_HANDLE = 102
SSH2_FXP_DATA = 103
SSH2_FXP_NAME = 104
SSH2_FXP_ATTRS = 105
SSH2_FXP_EXTENDED = 200
SSH2_FXP_EXTENDED_REPLY = 201

# Open flags (section 6.3)
SSH2_FXF_READ = 0x01
SSH2_FXF_WRITE = 0x02
SSH2_FXF_APPEND = 0x04
SSH2_FXF_CREAT = 0x08
SSH2_FXF_TRUNC = 0x10
SSH2_FXF_EXCL = 0x20

# Attribute flags (section 5)
SSH2_FILEXFER_ATTR_SIZE = 0x00000001
SSH2_FILEXFER_ATTR_UIDGID = 0x00000002
SSH2_FILEXFER_ATTR_PERMISSIONS = 0x00000004
SSH2_FILEXFER_ATTR_ACMODTIME = 0x00000008
SSH2_FILEXFER_ATTR_EXTENDED = 0x80000000

# Flags in a statvfs reply
SSH2_FXE_STATVFS_ST_RDONLY = 0x00000001
SSH2_FXE_STATVFS_ST_NOSUID = 0x00000002

# Sizes in bytes, as OpenSSH's client and server use them.
MAX_PACKET = 262144  # the largest value of a packet's length field
MAX_DATA = 261120  # the largest READ or WRITE chunk: MAX_PACKET less 1 KiB for the other fields
PACKET_HEADER = 4  # the length field itself
REQUEST_HEADER = 5  # type and request id

# READ and WRITE with a handle of this many bytes (as this server's have) share a layout: header, type, id,
# handle, offset, and a length: in READ, the bytes asked for; in WRITE, those of the data that follows.
HANDLE_SIZE = 4
TRANSFER_LENGTH = 25  # the length field of such a READ, and of such a WRITE without its data
TRANSFER_HEADER = PACKET_HEADER + TRANSFER_LENGTH
DATA_HEADER = 13  # a DATA packet up to its data

_U32 = Struct(">I")
_U64 = Struct(">Q")
_U64_U32 = Struct(">QI")
_U64_U64 = Struct(">QQ")
_TYPE_AND_ID = Struct(">BI")
_HEADER = Struct(">IBI")
_HEADER_U32 = Struct(">IBII")
_TRANSFER = Struct(">IBII4sQI")
_ALL_ATTRS = Struct(">IQIIIII")
_TWO_U32 = Struct(">II")
_LIMITS = Struct(">4Q")
_STATVFS = Struct(">11Q")
_RANGE_AND_BLOCK = Struct(">QQI")

_NO_ATTRS = _U32.pack(0)
_ALL_FLAGS = (
    SSH2_FILEXFER_ATTR_SIZE
    | SSH2_FILEXFER_ATTR_UIDGID
    | SSH2_FILEXFER_ATTR_PERMISSIONS
    | SSH2_FILEXFER_ATTR_ACMODTIME
)
_USUAL_STATUS = {
    status: _TWO_U32.pack(status, len(message)) + message + b"\0\0\0\0"
    for status, message in STATUS_MESSAGES.items()
}
_MASK32 = 0xFFFFFFFF
_MASK64 = 0xFFFFFFFFFFFFFFFF


# --- decoding: (buffer, first offset, offset after the last byte) -> values ---------------------------


def u32_at(buf: Buffer, pos: int, end: int) -> int:
    """The uint32 at pos. Raises MalformedPacket when it does not fit before end."""
    if pos + 4 > end:
        raise MalformedPacket("ends inside a number")
    value: int = _U32.unpack_from(buf, pos)[0]
    return value


def u64_at(buf: Buffer, pos: int, end: int) -> int:
    """The uint64 at pos. Raises MalformedPacket when it does not fit before end."""
    if pos + 8 > end:
        raise MalformedPacket("ends inside a number")
    value: int = _U64.unpack_from(buf, pos)[0]
    return value


def string_at(buf: Buffer, pos: int, end: int) -> tuple[bytes, int]:
    """The string at pos, and the offset after it."""
    start = pos + 4
    if start > end:
        raise MalformedPacket("ends inside a number")
    stop: int = start + _U32.unpack_from(buf, pos)[0]
    if stop > end:
        raise MalformedPacket("ends inside a string")
    return bytes(buf[start:stop]), stop


def path_at(buf: Buffer, pos: int, end: int) -> tuple[bytes, int]:
    """A string that names a file, and the offset after it. Raises MalformedPacket for a NUL byte in it."""
    path, pos = string_at(buf, pos, end)
    if b"\0" in path:
        raise MalformedPacket("a path holds a NUL byte")
    return path, pos


def attributes_at(buf: Buffer, pos: int, end: int) -> SFTPAttributes:
    """The ATTRS structure at pos. Extended pairs are counted and ignored."""
    return attributes_and_end(buf, pos, end)[0]


def attributes_and_end(buf: Buffer, pos: int, end: int) -> tuple[SFTPAttributes, int]:
    """The same, and the offset after it."""
    flags = u32_at(buf, pos, end)
    pos += 4
    attrs = SFTPAttributes()
    if not flags:  # what clients send with an OPEN that reads
        return attrs, pos
    if flags & SSH2_FILEXFER_ATTR_SIZE:
        attrs.size = u64_at(buf, pos, end)
        pos += 8
    if flags & SSH2_FILEXFER_ATTR_UIDGID:
        attrs.uid = u32_at(buf, pos, end)
        attrs.gid = u32_at(buf, pos + 4, end)
        pos += 8
    if flags & SSH2_FILEXFER_ATTR_PERMISSIONS:
        attrs.permissions = u32_at(buf, pos, end)
        pos += 4
    if flags & SSH2_FILEXFER_ATTR_ACMODTIME:
        attrs.atime = u32_at(buf, pos, end)
        attrs.mtime = u32_at(buf, pos + 4, end)
        pos += 8
    if flags & SSH2_FILEXFER_ATTR_EXTENDED:
        attrs.extended = count = u32_at(buf, pos, end)
        pos += 4
        for _ in range(2 * count):  # bounded by the packet: every string takes four bytes of it
            _, pos = string_at(buf, pos, end)
    return attrs, pos


# One decoder for each shape of a request's body; requests.py names the one of every request.


def decode_nothing(buf: Buffer, pos: int, end: int) -> tuple[()]:
    """No arguments; any bytes that follow are ignored, as in OpenSSH."""
    return ()


def decode_string(buf: Buffer, pos: int, end: int) -> tuple[bytes]:
    """string (a handle)"""
    return (string_at(buf, pos, end)[0],)


def decode_path(buf: Buffer, pos: int, end: int) -> tuple[bytes]:
    """string path"""
    path = string_at(buf, pos, end)[0]  # not path_at(), to spare a call
    if b"\0" in path:
        raise MalformedPacket("a path holds a NUL byte")
    return (path,)


def decode_two_paths(buf: Buffer, pos: int, end: int) -> tuple[bytes, bytes]:
    """string path, string path"""
    first, pos = path_at(buf, pos, end)
    return first, path_at(buf, pos, end)[0]


def decode_path_attrs(buf: Buffer, pos: int, end: int) -> tuple[bytes, SFTPAttributes]:
    """string path, ATTRS"""
    path, pos = path_at(buf, pos, end)
    return path, attributes_at(buf, pos, end)


def decode_handle_attrs(buf: Buffer, pos: int, end: int) -> tuple[bytes, SFTPAttributes]:
    """string handle, ATTRS"""
    handle, pos = string_at(buf, pos, end)
    return handle, attributes_at(buf, pos, end)


def decode_open(buf: Buffer, pos: int, end: int) -> tuple[bytes, int, SFTPAttributes]:
    """string path, uint32 pflags, ATTRS"""
    path, pos = path_at(buf, pos, end)
    return path, u32_at(buf, pos, end), attributes_at(buf, pos + 4, end)


def decode_read(buf: Buffer, pos: int, end: int) -> tuple[bytes, int, int]:
    """string handle, uint64 offset, uint32 length"""
    handle, pos = string_at(buf, pos, end)
    if pos + 12 > end:
        raise MalformedPacket("ends inside a number")
    offset, length = _U64_U32.unpack_from(buf, pos)
    return handle, offset, length


def decode_write(buf: Buffer, pos: int, end: int) -> tuple[bytes, int, memoryview]:
    """string handle, uint64 offset, string data: the data is a view of the buffer"""
    handle, pos = string_at(buf, pos, end)
    offset = u64_at(buf, pos, end)
    start = pos + 12
    stop = start + u32_at(buf, pos + 8, end)
    if stop > end:
        raise MalformedPacket("ends inside a string")
    return handle, offset, memoryview(buf)[start:stop]


def decode_copy_data(buf: Buffer, pos: int, end: int) -> tuple[bytes, int, int, bytes, int]:
    """string read-handle, uint64 offset, uint64 length, string write-handle, uint64 offset"""
    source, pos = string_at(buf, pos, end)
    if pos + 16 > end:
        raise MalformedPacket("ends inside a number")
    offset, length = _U64_U64.unpack_from(buf, pos)
    target, pos = string_at(buf, pos + 16, end)
    return source, offset, length, target, u64_at(buf, pos, end)


def decode_check_name(buf: Buffer, pos: int, end: int) -> tuple[bytes, bytes, int, int, int]:
    """string path, string algorithms, uint64 offset, uint64 length, uint32 block size"""
    path, pos = path_at(buf, pos, end)
    return path, *_check_at(buf, pos, end)


def decode_check_handle(buf: Buffer, pos: int, end: int) -> tuple[bytes, bytes, int, int, int]:
    """string handle, string algorithms, uint64 offset, uint64 length, uint32 block size"""
    handle, pos = string_at(buf, pos, end)
    return handle, *_check_at(buf, pos, end)


def _check_at(buf: Buffer, pos: int, end: int) -> tuple[bytes, int, int, int]:
    algorithms, pos = string_at(buf, pos, end)
    if pos + _RANGE_AND_BLOCK.size > end:
        raise MalformedPacket("ends inside a number")
    offset, length, block = _RANGE_AND_BLOCK.unpack_from(buf, pos)
    return algorithms, offset, length, block


def decode_ids(buf: Buffer, pos: int, end: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """string uids, string gids: both packed uint32"""
    uids, pos = string_at(buf, pos, end)
    gids, pos = string_at(buf, pos, end)
    if len(uids) % 4 or len(gids) % 4:
        raise MalformedPacket("ids are not whole numbers")
    users = Struct(f">{len(uids) // 4}I").unpack(uids)
    return users, Struct(f">{len(gids) // 4}I").unpack(gids)


length_at = _U32.unpack_from
"""The length that a packet begins with, alone in a tuple. Needs PACKET_HEADER bytes, and checks nothing."""

head_at = _TYPE_AND_ID.unpack_from
"""Type and id of a request. Needs REQUEST_HEADER bytes, and checks none of it."""

transfer_at = _TRANSFER.unpack_from
"""READ or WRITE at an offset of a buffer, as far as they are alike: length, type, id, length of the handle,
the handle, offset, length of the data. Needs TRANSFER_HEADER bytes, and checks none of it."""


# --- encoding -----------------------------------------------------------------------------------------


def encode_string(value: Buffer) -> bytes:
    """string: its length and its bytes"""
    return _U32.pack(len(value)) + value


def encode_u32(value: int) -> bytes:
    """uint32"""
    return _U32.pack(value)


def encode_u64(value: int) -> bytes:
    """uint64"""
    return _U64.pack(value)


def encode_attributes(attrs: SFTPAttributes) -> bytes:
    """ATTRS with the fields that are set. Numbers too wide for the wire keep their low bits."""
    try:
        return _ALL_ATTRS.pack(
            _ALL_FLAGS,
            attrs.size & _MASK64,  # type: ignore[operator]
            attrs.uid & _MASK32,  # type: ignore[operator]
            attrs.gid & _MASK32,  # type: ignore[operator]
            attrs.permissions & _MASK32,  # type: ignore[operator]
            attrs.atime & _MASK32,  # type: ignore[operator]
            attrs.mtime & _MASK32,  # type: ignore[operator]
        )
    except TypeError:  # a field that is not set
        return _encode_some(attrs)


def _encode_some(attrs: SFTPAttributes) -> bytes:
    size, uid, gid = attrs.size, attrs.uid, attrs.gid
    mode, atime, mtime = attrs.permissions, attrs.atime, attrs.mtime
    flags = 0
    fields = []
    if size is not None:
        flags |= SSH2_FILEXFER_ATTR_SIZE
        fields.append(_U64.pack(size & _MASK64))
    if uid is not None and gid is not None:
        flags |= SSH2_FILEXFER_ATTR_UIDGID
        fields.append(_TWO_U32.pack(uid & _MASK32, gid & _MASK32))
    if mode is not None:
        flags |= SSH2_FILEXFER_ATTR_PERMISSIONS
        fields.append(_U32.pack(mode & _MASK32))
    if atime is not None and mtime is not None:
        flags |= SSH2_FILEXFER_ATTR_ACMODTIME
        fields.append(_TWO_U32.pack(atime & _MASK32, mtime & _MASK32))
    return _U32.pack(flags) + b"".join(fields)


def encode_packet(kind: int, request_id: int, body: bytes) -> bytes:
    """A whole packet with a request id."""
    return _HEADER.pack(len(body) + REQUEST_HEADER, kind, request_id) + body


def encode_status(request_id: int, status: int, message: bytes) -> bytes:
    """STATUS with its message (UTF-8) and an empty language tag: version 3 has no short form."""
    body = encode_string(message) + b"\0\0\0\0"
    return _HEADER_U32.pack(len(body) + 9, SSH2_FXP_STATUS, request_id, status) + body


def encode_usual_status(request_id: int, status: int) -> bytes:
    """STATUS with the usual message of a status that has one."""
    tail = _USUAL_STATUS[status]
    return _HEADER.pack(len(tail) + REQUEST_HEADER, SSH2_FXP_STATUS, request_id) + tail


def put_data_header(room: memoryview, request_id: int, size: int) -> None:
    """Write what encode_data_header() returns to the beginning of a buffer."""
    _HEADER_U32.pack_into(room, 0, size + 9, SSH2_FXP_DATA, request_id, size)


def encode_data_header(request_id: int, size: int) -> bytes:
    """The beginning of a DATA packet, before its `size` bytes of data."""
    return _HEADER_U32.pack(size + 9, SSH2_FXP_DATA, request_id, size)


def encode_name_entry(name: bytes, longname: bytes, attrs: SFTPAttributes) -> bytes:
    """One entry of a NAME reply."""
    return b"%b%b%b%b%b" % (
        _U32.pack(len(name)),
        name,
        _U32.pack(len(longname)),
        longname,
        encode_attributes(attrs),
    )


def encode_bare_name(name: bytes) -> bytes:
    """One entry without attributes, as in replies to REALPATH and READLINK: the longname is the name."""
    text = encode_string(name)
    return text + text + _NO_ATTRS


def encode_names(entries: list[bytes]) -> bytes:
    """The body of NAME, with entries that are encoded already."""
    return _U32.pack(len(entries)) + b"".join(entries)


def encode_version(extensions: Iterable[tuple[bytes, bytes]], version: int = SFTP_VERSION) -> bytes:
    """VERSION with (name, data) pairs of extensions."""
    body = _U32.pack(version)
    body += b"".join(encode_string(text) for pair in extensions for text in pair)
    return _U32.pack(len(body) + 1) + bytes((SSH2_FXP_VERSION,)) + body


def encode_limits(packet: int, read: int, write: int, handles: int) -> bytes:
    """The reply of limits@openssh.com: three sizes in bytes and a count."""
    return _LIMITS.pack(packet, read, write, handles)


def encode_statvfs(numbers: tuple[int, ...]) -> bytes:
    """The reply of statvfs@openssh.com: bsize frsize blocks bfree bavail files ffree favail fsid
    flag namemax."""
    return _STATVFS.pack(*(number & _MASK64 for number in numbers))


def encode_string_list(strings: Iterable[bytes]) -> bytes:
    """Strings packed one after the other, inside a string."""
    return encode_string(b"".join(map(encode_string, strings)))
