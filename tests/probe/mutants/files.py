"""Mutants for the rules of OPEN, files, READ and WRITE, handles and attributes."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from stat import S_IFMT, S_IFREG
from typing import Any

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.engine import wire
from pysftpserver.engine.handles import FileHandle, HandleTable
from pysftpserver.engine.session import Session
from pysftpserver.pysftpexceptions import SFTPEndOfFile, SFTPFailure, SFTPSessionEnd
from tests.probe.mutation import Mutant, handler, instead, replies
from tests.support.memory import SFTPServerMemoryStorage

U32 = 0xFFFFFFFF
OPEN, CLOSE, READ, WRITE = (
    wire.SSH2_FXP_OPEN,
    wire.SSH2_FXP_CLOSE,
    wire.SSH2_FXP_READ,
    wire.SSH2_FXP_WRITE,
)


def failing(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def flags(change: Any) -> Any:
    """OPEN with other flags than the client's. change: called with the client's."""

    def serve(original: Any, session: Session, rid: int, path: bytes, pflags: int, attrs: Any) -> None:
        original(session, rid, path, change(pflags), attrs)

    return handler(OPEN, serve)


def read_at(change: Any) -> Any:
    """READ of something else than was asked for. change: offset and length to those that are read."""

    def serve(original: Any, session: Session, rid: int, handle: bytes, offset: int, length: int) -> Any:
        return original(session, rid, handle, *change(offset, length))

    return handler(READ, serve)


def write_at(change: Any) -> Any:
    """WRITE of something else than was asked for. change: offset and bytes to those that are written."""

    def serve(original: Any, session: Session, rid: int, handle: bytes, offset: int, chunk: Any) -> Any:
        return original(session, rid, handle, *change(offset, bytes(chunk)))

    return handler(WRITE, serve)


def setting(change: Any, kind: int = wire.SSH2_FXP_SETSTAT) -> Any:
    """SETSTAT, or FSETSTAT, of other attributes. change: called with the client's; returns others."""

    def serve(original: Any, session: Session, rid: int, of: bytes, attrs: SFTPAttributes) -> None:
        original(session, rid, of, change(attrs))

    return handler(kind, serve)


def without(attrs: SFTPAttributes, *fields: str) -> SFTPAttributes:
    for field in fields:
        setattr(attrs, field, None)
    return attrs


# --- faults of the engine -----------------------------------------------------------------------------


def status_at_end(serve: Any, session: Session, rid: int, handle: bytes, offset: int, length: int) -> Any:
    try:
        return serve(session, rid, handle, offset, length)
    except SFTPEndOfFile:
        raise SFTPFailure from None


def data_at_end(serve: Any, session: Session, rid: int, handle: bytes, offset: int, length: int) -> Any:
    try:
        return serve(session, rid, handle, offset, length)
    except SFTPEndOfFile:
        session.send_data(rid, b"")


def refuses_long(serve: Any, session: Session, rid: int, handle: bytes, offset: int, length: int) -> Any:
    if length > session.limits.data:
        raise SFTPFailure("too long")
    return serve(session, rid, handle, offset, length)


def over_end_fails(serve: Any, session: Session, rid: int, handle: bytes, offset: int, length: int) -> Any:
    file = session.handles.file(handle)
    size = session.storage.fstat(file.object).size or 0
    if offset < size < offset + length < 1 << 17:
        raise SFTPEndOfFile
    return serve(session, rid, handle, offset, length)


def closed_stay_open(close: Any, table: HandleTable, name: bytes) -> None:
    if name not in table.opened:
        raise SFTPFailure


def closes_all_of_the_file(close: Any, table: HandleTable, name: bytes) -> None:
    path = table.path_of(name)
    close(table, name)
    for other in [other for other, handle in table.opened.items() if handle.path == path]:
        table.opened.pop(other)


def closes_anything(close: Any, table: HandleTable, name: bytes) -> None:
    if name in table.opened:
        close(table, name)


def any_file(file: Any, table: HandleTable, name: bytes) -> FileHandle:
    files = [handle for handle in table.opened.values() if type(handle) is FileHandle]
    return files[0] if name not in table.opened and files else file(table, name)


def begins_like(file: Any, table: HandleTable, name: bytes) -> FileHandle:
    return file(table, name[:4])  # type: ignore[no-any-return]


def ends_session(file: Any, table: HandleTable, name: bytes) -> FileHandle:
    if not name:
        raise SFTPSessionEnd("an empty handle")
    return file(table, name)  # type: ignore[no-any-return]


def eof_for_others(file: Any, table: HandleTable, name: bytes) -> FileHandle:
    if name not in table.opened:
        raise SFTPEndOfFile
    return file(table, name)  # type: ignore[no-any-return]


def directory_reads_empty(file: Any, table: HandleTable, name: bytes) -> FileHandle:
    if name in table.opened and type(table.opened[name]) is not FileHandle:
        raise SFTPEndOfFile
    return file(table, name)  # type: ignore[no-any-return]


def file_lists_empty(directory: Any, table: HandleTable, name: bytes) -> Any:
    if type(table.opened.get(name)) is FileHandle:
        raise SFTPEndOfFile
    return directory(table, name)


def ends_for_long_handles(file: Any, table: HandleTable, name: bytes) -> FileHandle:
    if len(name) > 256:
        raise SFTPSessionEnd("a long handle")
    return file(table, name)  # type: ignore[no-any-return]


def counts_all(check: Any, table: HandleTable) -> None:
    """Handles that are closed are counted as well."""
    table.limit -= 1
    if table.limit < 1024 - 200:
        raise SFTPFailure("too many")


def few_handles(check: Any, table: HandleTable) -> None:
    if len(table.opened) >= 16:
        raise SFTPFailure("too many")


def long_names(add: Any, table: HandleTable, handle: Any) -> bytes:
    name: bytes = add(table, handle)
    table.opened[bytes(300) + name] = table.opened.pop(name)
    return bytes(300) + name


def one_name(add: Any, table: HandleTable, handle: Any) -> bytes:
    table.opened[b"file"] = handle
    return b"file"


def extended_ends(serve: Any, session: Session, rid: int, of: bytes, attrs: SFTPAttributes) -> None:
    if attrs.extended:
        raise SFTPFailure("extended attributes")
    serve(session, rid, of, attrs)


def extended_open_fails(serve: Any, session: Session, rid: int, path: bytes, pflags: int, attrs: Any) -> None:
    if attrs.extended:
        raise SFTPFailure("extended attributes")
    serve(session, rid, path, pflags, attrs)


def size_fails_open(serve: Any, session: Session, rid: int, path: bytes, pflags: int, attrs: Any) -> None:
    if attrs.size is not None:
        raise SFTPFailure("a size")
    serve(session, rid, path, pflags, attrs)


def unknown_flags_fail(serve: Any, session: Session, rid: int, path: bytes, pflags: int, attrs: Any) -> None:
    if pflags & ~0x3F:
        session.end("unknown flags")
    else:
        serve(session, rid, path, pflags, attrs)


def no_flags_end(serve: Any, session: Session, rid: int, path: bytes, pflags: int, attrs: Any) -> None:
    if not pflags & 3:
        session.end("no access")
    else:
        serve(session, rid, path, pflags, attrs)


def refuses_nothing(serve: Any, session: Session, rid: int, of: bytes, attrs: SFTPAttributes) -> None:
    if attrs.is_empty():
        raise SFTPFailure("nothing to set")
    serve(session, rid, of, attrs)


def sets_size_last(serve: Any, session: Session, rid: int, of: bytes, attrs: SFTPAttributes) -> None:
    rest = SFTPAttributes(None, attrs.uid, attrs.gid, attrs.permissions, attrs.atime, attrs.mtime)
    session.storage.setstat(session.path(of), rest)
    serve(session, rid, of, SFTPAttributes(size=attrs.size))


def cuts_anyway(serve: Any, session: Session, rid: int, handle: bytes, attrs: SFTPAttributes) -> None:
    session.storage.fsetstat(session.handles.file(handle).object, attrs)
    session.send_status(rid)


def flags_of_version_4(body: bytes) -> bytes:
    return (int.from_bytes(body[:4], "big") | 0x40).to_bytes(4, "big") + body[4:]


class Position:
    """READ leaves a position, and WRITE begins there."""

    def __init__(self) -> None:
        self.at: dict[bytes, int] = {}

    def read(self, serve: Any, session: Session, rid: int, handle: bytes, offset: int, length: int) -> Any:
        self.at[handle] = offset + length
        return serve(session, rid, handle, offset, length)

    def write(self, serve: Any, session: Session, rid: int, handle: bytes, offset: int, chunk: Any) -> Any:
        return serve(session, rid, handle, self.at.pop(handle, offset), chunk)


@contextlib.contextmanager
def with_position() -> Iterator[None]:
    position = Position()
    with handler(READ, position.read)(), handler(WRITE, position.write)():
        yield


# --- faults of storages -------------------------------------------------------------------------------


class Memory(SFTPServerMemoryStorage):
    """What the storages with a fault have in common: the fault is in _change(), attributes or open()."""


class Changing(Memory):
    """Faults of _change()."""

    def change(self, node: Any, attrs: SFTPAttributes) -> None:
        super()._change(node, attrs)


class WithoutExcl(Memory):
    def open(self, path: bytes, flags: int, mode: int) -> Any:
        return super().open(path, flags & ~os.O_EXCL, mode)


class EmptyingExcl(Memory):
    """It empties the file before it refuses."""

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        if flags & os.O_EXCL:
            place = self._find(path)
            if place.node is not None and flags & os.O_TRUNC:
                self._resize(place.node, 0)
        return super().open(path, flags, mode)


class DeniedExcl(Memory):
    def open(self, path: bytes, flags: int, mode: int) -> Any:
        try:
            return super().open(path, flags, mode)
        except FileExistsError:
            raise failing(errno.ENOENT) from None


class Late(Memory):
    """A new file gets its name when it is closed."""

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        is_new = flags & os.O_CREAT and self._find(path).node is None
        handle = super().open(path, flags, mode)
        handle.place = self._find(path) if is_new else None
        if handle.place is not None:
            self._leave(handle.place)
        return handle

    def close(self, handle: Any) -> None:
        if handle.place is not None:
            self._enter(handle.place, handle.node)
        super().close(handle)


class Modeless(Memory):
    def open(self, path: bytes, flags: int, mode: int) -> Any:
        return super().open(path, flags, 0o777)


class Chmodding(Memory):
    def open(self, path: bytes, flags: int, mode: int) -> Any:
        handle = super().open(path, flags, mode)
        if flags & os.O_CREAT:
            handle.node.mode = S_IFMT(handle.node.mode) | mode
        return handle


class ReadingDirectories(Memory):
    """A directory opens as an empty file."""

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        try:
            return super().open(path, flags, mode)
        except IsADirectoryError:
            if flags & (os.O_WRONLY | os.O_RDWR):
                raise
            return super().open(b"/..empty", os.O_RDONLY | os.O_CREAT, 0o600)


class OpeningDirectories(Memory):
    def open(self, path: bytes, flags: int, mode: int) -> Any:
        try:
            return super().open(path, flags, mode)
        except IsADirectoryError:
            return super().open(b"/..other", os.O_RDWR | os.O_CREAT, 0o600)


class DenyingDirectories(Memory):
    def open(self, path: bytes, flags: int, mode: int) -> Any:
        try:
            return super().open(path, flags, mode)
        except IsADirectoryError:
            raise failing(errno.EACCES) from None


class MakingDirectories(Memory):
    """It makes directories on the way to a new file."""

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        above = path.rpartition(b"/")[0]
        if flags & os.O_CREAT and above:
            try:
                self.stat(above)
            except FileNotFoundError:
                self.mkdir(above, 0o777)
        return super().open(path, flags, mode)


class Readable(Memory):
    """Whatever a handle was opened for, it can be read through."""

    def read(self, handle: Any, off: int, size: int) -> bytes:
        return bytes(handle.node.content[off : off + size])


class Writable(Memory):
    """Whatever a handle was opened for, it can be written through."""

    def write(self, handle: Any, off: int, chunk: bytes) -> None:
        content = handle.node.content
        if handle.flags & os.O_APPEND:
            off = len(content)
        if chunk and off + len(chunk) > len(content):
            self._resize(handle.node, off + len(chunk))
        content[off : off + len(chunk)] = chunk


class Dirty(Memory):
    """Holes are full of what was there."""

    def write(self, handle: Any, off: int, chunk: bytes) -> None:
        before = len(handle.node.content)
        super().write(handle, off, chunk)
        if off > before and not handle.flags & os.O_APPEND:
            handle.node.content[before:off] = b"?" * (off - before)


class Extending(Memory):
    """A WRITE of no bytes extends the file."""

    def write(self, handle: Any, off: int, chunk: bytes) -> None:
        if not chunk and off > len(handle.node.content):
            self._resize(handle.node, off)
        super().write(handle, off, chunk)


class AppendingOnce(Memory):
    """Where the end is, is decided when the file is opened."""

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        handle = super().open(path, flags & ~os.O_APPEND, mode)
        handle.at = len(handle.node.content) if flags & os.O_APPEND else None
        return handle

    def write(self, handle: Any, off: int, chunk: bytes) -> None:
        if handle.at is None:
            super().write(handle, off, chunk)
        else:
            super().write(handle, handle.at, chunk)
            handle.at += len(chunk)


class ReadingAtEnd(Memory):
    """READ of a handle with APPEND is at the end, too."""

    def read(self, handle: Any, off: int, size: int) -> bytes:
        return super().read(handle, len(handle.node.content) if handle.flags & os.O_APPEND else off, size)


class Snapshots(Memory):
    """A handle for reading has what was there when it was opened."""

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        handle = super().open(path, flags, mode)
        handle.copy = bytes(handle.node.content)
        return handle

    def read(self, handle: Any, off: int, size: int) -> bytes:
        if handle.flags & os.O_ACCMODE == os.O_RDONLY:
            return bytes(handle.copy[off : off + size])
        return super().read(handle, off, size)


class FirstWins(Memory):
    """Bytes that were written once stay."""

    def write(self, handle: Any, off: int, chunk: bytes) -> None:
        old = bytes(handle.node.content[off : off + len(chunk)])
        kept = bytes(b or a for a, b in zip(bytes(chunk), old.ljust(len(chunk), b"\0"), strict=True))
        super().write(handle, off, kept)


class Signed(Changing):
    """Times have 31 bits."""

    def _change(self, node: Any, attrs: SFTPAttributes) -> None:
        for field in ("atime", "mtime"):
            value = getattr(attrs, field)
            if value is not None:
                setattr(attrs, field, min(value, (1 << 31) - 1))
        self.change(node, attrs)


class Refusing(Changing):
    """SETSTAT of what a file cannot have makes it empty."""

    def _change(self, node: Any, attrs: SFTPAttributes) -> None:
        if attrs.size is not None and attrs.size >= 1 << 63:
            self._resize(node, 0)
        self.change(node, attrs)


class Texts(Memory):
    """Lines are given the ends of its own system."""

    def write(self, handle: Any, off: int, chunk: bytes) -> None:
        super().write(handle, off, bytes(chunk).replace(b"\r\n", b"\n"))


class Cutting(Memory):
    """A file that is removed is cut off."""

    def rm(self, path: bytes) -> None:
        node = self._find(path, follow=False).node
        super().rm(path)
        if isinstance(getattr(node, "content", None), bytearray) and node.nlink == 0:
            self._resize(node, 0)


class ByName(Memory):
    """A handle holds a path, and not a file."""

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        handle = super().open(path, flags, mode)
        handle.path = path
        return handle

    def write(self, handle: Any, off: int, chunk: bytes) -> None:
        self._get(handle.path)
        super().write(handle, off, chunk)


class Typeless(Memory):
    def _typeless(self, attrs: SFTPAttributes) -> SFTPAttributes:
        if attrs.permissions is not None and S_IFMT(attrs.permissions) == S_IFREG:
            attrs.permissions &= 0o7777
        return attrs

    def stat(self, path: bytes) -> SFTPAttributes:
        return self._typeless(super().stat(path))

    def lstat(self, path: bytes) -> SFTPAttributes:
        return self._typeless(super().lstat(path))

    def fstat(self, handle: Any) -> SFTPAttributes:
        return self._typeless(super().fstat(handle))


class SizeOfOpening(Memory):
    """FSTAT tells what was true when the file was opened."""

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        handle = super().open(path, flags, mode)
        handle.attributes = handle.node.attributes()
        return handle

    def fstat(self, handle: Any) -> SFTPAttributes:
        attributes: SFTPAttributes = handle.attributes
        return attributes


class BriefFstat(Memory):
    def fstat(self, handle: Any) -> SFTPAttributes:
        return SFTPAttributes(size=handle.node.attributes().size, permissions=handle.node.mode)


class Timeless(Memory):
    def write(self, handle: Any, off: int, chunk: bytes) -> None:
        before = handle.node.mtime
        super().write(handle, off, chunk)
        handle.node.mtime = before


class DirtyGrowing(Changing):
    def _change(self, node: Any, attrs: SFTPAttributes) -> None:
        before = len(node.content)
        self.change(node, attrs)
        if attrs.size is not None and attrs.size > before:
            node.content[before:] = b"?" * (attrs.size - before)


class ChangingType(Changing):
    def _change(self, node: Any, attrs: SFTPAttributes) -> None:
        self.change(node, attrs)
        if attrs.permissions is not None and S_IFMT(attrs.permissions) == S_IFREG:
            node.mode = S_IFREG | node.mode & 0o7777


class ForgettingTimes(Changing):
    def _change(self, node: Any, attrs: SFTPAttributes) -> None:
        if attrs.permissions is not None and attrs.mtime is None:
            node.mtime = 0
        self.change(node, attrs)


class ClosingTouches(Memory):
    def close(self, handle: Any) -> None:
        super().close(handle)
        if handle.flags & os.O_ACCMODE != os.O_RDONLY:
            handle.node.mtime = 2_000_000_000


class NoSizeOfDirectories(Changing):
    def _change(self, node: Any, attrs: SFTPAttributes) -> None:
        self.change(node, without(attrs, "size") if isinstance(node.content, dict) else attrs)


class SilentOwner(Changing):
    def _change(self, node: Any, attrs: SFTPAttributes) -> None:
        self.change(node, without(attrs, "uid", "gid"))


class Cutter(Memory):
    def fsetstat(self, handle: Any, attrs: SFTPAttributes) -> None:
        self._change(handle.node, attrs)


class PerFile(Memory):
    """A file is opened once."""

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        node = self._find(path).node
        if node is not None and getattr(node, "opened", 0):
            raise failing(errno.EBUSY)
        return super().open(path, flags, mode)


MUTANTS = (
    # --- OPEN -----------------------------------------------------------------------------------------
    Mutant(
        "a missing file is made by any OPEN for writing",
        "open-write-missing",
        flags(lambda f: f | 8 if f & 2 else f),
        also="open-flags open-truncate-missing",
    ),
    Mutant(
        "a missing file opens for reading as an empty one",
        "open-read-missing",
        flags(lambda f: f | 8 if f == 1 else f),
        also="dangling-link handle-of-a-removed-file open-flags open-refusal-status open-refused-often",
    ),
    Mutant("CREAT is ignored", "open-create", flags(lambda f: f & ~8), also=None),
    Mutant(
        "CREAT empties the file",
        "open-create-keeps",
        flags(lambda f: f | 16 if f & 8 else f),
        also="open-flags upload-resumed",
    ),
    Mutant(
        "WRITE empties the file", "open-write-keeps", flags(lambda f: f | 16 if f & 10 == 2 else f), also=None
    ),
    Mutant(
        "TRUNC is ignored",
        "open-truncate",
        flags(lambda f: f & ~16),
        also="content-replaced open-append-truncate open-flags open-truncate-without-create",
    ),
    Mutant(
        "TRUNC is ignored without CREAT",
        "open-truncate-without-create",
        flags(lambda f: f if f & 8 else f & ~16),
    ),
    Mutant("TRUNC makes a file", "open-truncate-missing", flags(lambda f: f | 8 if f & 16 else f)),
    Mutant(
        "EXCL is ignored",
        "open-exclusive-existing",
        storage=WithoutExcl,
        also="exclusive-once open-excl-of-link open-exclusive-status open-flags open-refusal-status",
    ),
    Mutant(
        "EXCL empties the file and refuses then",
        "open-exclusive-existing",
        storage=EmptyingExcl,
        also="open-flags",
    ),
    Mutant("EXCL is refused with NO_SUCH_FILE", "open-exclusive-status", storage=DeniedExcl),
    Mutant(
        "EXCL refuses a new file",
        "open-exclusive",
        flags(lambda f: f & ~8 if f & 32 else f),
        also=(
            "exclusive-once open-exclusive-existing open-exclusive-status open-flags "
            "open-makes-at-once open-refusal-status"
        ),
    ),
    Mutant(
        "APPEND is ignored",
        "append-ignores-offset",
        flags(lambda f: f & ~4),
        also=(
            "append-reads-anywhere append-together appends-in-flight "
            "copy-into-a-file-opened-to-append open-append-truncate open-flags"
        ),
    ),
    Mutant(
        "APPEND leaves out TRUNC",
        "open-append-truncate",
        flags(lambda f: f & ~16 if f & 4 else f),
        also="open-flags open-truncate",
    ),
    Mutant(
        "the file is made when it is closed",
        "open-makes-at-once",
        storage=Late,
        also="exclusive-once fsync-of-a-file",
    ),
    Mutant("unknown flags end the session", "open-unknown-flags", handler(OPEN, unknown_flags_fail)),
    Mutant(
        "flags without READ and WRITE end the session", "open-without-access", handler(OPEN, no_flags_end)
    ),
    Mutant(
        "handles for reading can be written through",
        "open-read-only",
        storage=Writable,
        also="write-moves-mtime",
    ),
    Mutant("handles for writing can be read through", "open-write-only", storage=Readable),
    Mutant(
        "a directory opens for writing",
        "open-directory-write",
        storage=OpeningDirectories,
        also="checksum-of-no-file open-directory-read open-directory-status open-refusal-status",
    ),
    Mutant(
        "a directory is refused with PERMISSION_DENIED", "open-directory-status", storage=DenyingDirectories
    ),
    Mutant(
        "a directory reads as an empty file",
        "open-directory-read",
        storage=ReadingDirectories,
        also="checksum-of-no-file",
    ),
    Mutant(
        "OPEN makes directories",
        "open-missing-directory",
        storage=MakingDirectories,
        also="open-refusal-status",
    ),
    Mutant("all files get the same permissions", "open-permissions", storage=Modeless),
    Mutant("OPEN sets the permissions of old files", "open-keeps-permissions", storage=Chmodding),
    Mutant("OPEN refuses a size", "open-all-attributes", handler(OPEN, size_fails_open)),
    Mutant(
        "OPEN refuses extended attributes", "open-extended-attributes", handler(OPEN, extended_open_fails)
    ),
    Mutant(
        "16 files are all that can be open",
        "open-many",
        instead(HandleTable, "check_room", few_handles),
        also="as-many-handles-as-announced",
    ),
    Mutant("a file can be opened once", "open-twice", storage=PerFile, also=None),
    # --- content --------------------------------------------------------------------------------------
    Mutant("content is taken for text", "content-is-kept", storage=Texts, also=None),
    # --- READ -----------------------------------------------------------------------------------------
    Mutant("READ begins a byte too late", "read-any-offset", read_at(lambda o, n: (o + 1, n)), also=None),
    Mutant(
        "READ answers 16 KiB at most",
        "read-full",
        read_at(lambda o, n: (o, min(n, 1 << 14))),
        also=(
            "read-64k read-any-offset read-of-the-announced-length read-too-long replies-wait-for-the-client"
        ),
    ),
    Mutant(
        "READ answers 32 KiB at most",
        "read-64k",
        read_at(lambda o, n: (o, min(n, 1 << 15))),
        also="read-of-the-announced-length",
    ),
    Mutant(
        "READ answers whole blocks", "read-no-more", read_at(lambda o, n: (o, -(-n // 512) * 512)), also=None
    ),
    Mutant(
        "READ refuses long requests",
        "read-too-long",
        handler(READ, refuses_long),
        also="read-over-the-announced-length",
    ),
    Mutant("READ over the end answers EOF", "read-short-at-end", handler(READ, over_end_fails), also=None),
    Mutant("READ at the end is a FAILURE", "read-at-end", handler(READ, status_at_end), also=None),
    Mutant("READ at the end answers no bytes", "read-at-end", handler(READ, data_at_end), also=None),
    Mutant(
        "READ takes 32 bits of the offset",
        "read-behind-end",
        read_at(lambda o, n: (o & U32, n)),
        also="read-impossible",
    ),
    Mutant(
        "READ takes the offset's sign for the end",
        "read-impossible",
        read_at(lambda o, n: (o & ~(3 << 62), n)),
    ),
    Mutant(
        "READ remembers the end",
        "read-grown",
        storage=Snapshots,
        also="checksum-after-writes handles-see-writes two-handles-in-flight",
    ),
    # --- WRITE ----------------------------------------------------------------------------------------
    Mutant(
        "WRITE begins a byte too early",
        "write-in-place",
        write_at(lambda o, c: (max(0, o - 1), c)),
        also=None,
    ),
    Mutant(
        "WRITE takes 16 KiB of each piece", "write-full", write_at(lambda o, c: (o, c[: 1 << 14])), also=None
    ),
    Mutant(
        "WRITE takes 32 KiB of each piece",
        "write-64k",
        write_at(lambda o, c: (o, c[: 1 << 15])),
        also="packets-of-34000-bytes write-of-the-announced-length",
    ),
    Mutant(
        "holes are not zeros",
        "write-hole",
        storage=Dirty,
        also="copy-behind-the-end truncation-in-flight write-any-offset write-nothing",
    ),
    Mutant("WRITE of no bytes extends the file", "write-nothing", storage=Extending),
    Mutant(
        "WRITE takes the offset without its high bits",
        "write-impossible",
        write_at(lambda o, c: (o & U32 & 0xFF, c)),
        also=None,
    ),
    Mutant("APPEND finds the end once", "append-together", storage=AppendingOnce),
    Mutant("READ of APPEND handles is at the end", "append-reads-anywhere", storage=ReadingAtEnd),
    Mutant(
        "handles read what was there when they were opened",
        "handles-see-writes",
        storage=Snapshots,
        also="checksum-after-writes read-grown two-handles-in-flight",
    ),
    # --- handles --------------------------------------------------------------------------------------
    Mutant("handles are longer than 256 bytes", "handle-length", instead(HandleTable, "_add", long_names)),
    Mutant(
        "all handles are called the same", "handles-differ", instead(HandleTable, "_add", one_name), also=None
    ),
    Mutant(
        "CLOSE closes nothing",
        "handle-closed",
        instead(HandleTable, "close", closed_stay_open),
        also=(
            "checksum-by-other-handles copy-with-closed-handles fsync-of-no-handle "
            "handle-closed-directory handle-closed-twice read-behind-close-in-flight"
        ),
    ),
    Mutant(
        "CLOSE of what is closed succeeds",
        "handle-closed-twice",
        instead(HandleTable, "close", closes_anything),
        also=(
            "handle-changed handle-closed-directory handle-empty handle-made-up handle-too-long "
            "handles-of-ended-sessions handles-of-other-sessions"
        ),
    ),
    Mutant(
        "CLOSE closes all handles of a file",
        "handles-independent",
        instead(HandleTable, "close", closes_all_of_the_file),
        also=None,
    ),
    Mutant(
        "an unknown handle stands for the first file",
        "handle-made-up",
        instead(HandleTable, "file", any_file),
        also="copy-with-closed-handles handle-changed handle-empty handle-too-long",
    ),
    Mutant(
        "an empty handle ends the session",
        "handle-empty",
        instead(HandleTable, "file", ends_session),
        also="checksum-by-other-handles copy-with-closed-handles fsync-of-no-handle",
    ),
    Mutant(
        "a handle is known by its first four bytes",
        "handle-changed",
        instead(HandleTable, "file", begins_like),
        also="handle-too-long",
    ),
    Mutant(
        "requests with unknown handles get EOF",
        "handle-closed",
        instead(HandleTable, "file", eof_for_others),
        also="handle-changed handle-empty handle-made-up handle-too-long",
    ),
    Mutant(
        "READ of a directory's handle gets EOF",
        "directory-handle-read",
        instead(HandleTable, "file", directory_reads_empty),
        also="directory-handle-fstat directory-handle-write",
    ),
    Mutant(
        "READDIR of a file's handle gets EOF",
        "file-handle-readdir",
        instead(HandleTable, "directory", file_lists_empty),
    ),
    Mutant(
        "removed files lose their content",
        "handle-of-a-removed-file",
        storage=Cutting,
        also="fstat-without-a-name",
    ),
    Mutant("handles stay with a name", "handle-of-a-renamed-file", storage=ByName),
    # --- attributes -----------------------------------------------------------------------------------
    Mutant(
        "files have no type",
        "type-of-a-file",
        storage=Typeless,
        also="listing-attributes listing-of-links setstat-type-bits",
    ),
    Mutant("ATTRS has flags of version 4", "stat-flags", replies(wire.SSH2_FXP_ATTRS, flags_of_version_4)),
    Mutant("FSTAT has fewer fields than STAT", "stat-agrees", storage=BriefFstat),
    Mutant(
        "FSTAT does not see WRITEs",
        "fstat-grows",
        storage=SizeOfOpening,
        also="fstat-after-write-in-flight write-any-offset",
    ),
    Mutant("WRITE leaves the times", "write-moves-mtime", storage=Timeless),
    Mutant(
        "SETSTAT ignores sizes",
        "setstat-size",
        setting(lambda a: without(a, "size")),
        also=(
            "setstat-all-at-once setstat-extended setstat-impossible-size setstat-missing "
            "setstat-size-of-a-directory"
        ),
    ),
    Mutant(
        "SETSTAT fills up with something else than zeros",
        "setstat-size",
        storage=DirtyGrowing,
        also="fsetstat-size",
    ),
    Mutant(
        "FSETSTAT ignores sizes",
        "fsetstat-size",
        setting(lambda a: without(a, "size"), wire.SSH2_FXP_FSETSTAT),
        also="fsetstat-size-read-only setstat-all-at-once setstat-extended truncation-in-flight",
    ),
    Mutant(
        "a handle for reading cuts files off",
        "fsetstat-size-read-only",
        handler(wire.SSH2_FXP_FSETSTAT, cuts_anyway),
        storage=Cutter,
    ),
    Mutant(
        "SETSTAT ignores the size of directories", "setstat-size-of-a-directory", storage=NoSizeOfDirectories
    ),
    Mutant(
        "SETSTAT ignores permissions",
        "setstat-permissions",
        setting(lambda a: without(a, "permissions")),
        also=("setstat-all-at-once setstat-leaves-the-rest setstat-missing setstat-type-bits "),
    ),
    Mutant("SETSTAT changes the type", "setstat-type-bits", storage=ChangingType),
    Mutant(
        "SETSTAT ignores times",
        "setstat-times",
        setting(lambda a: without(a, "atime", "mtime")),
        also=(
            "longname-of-old-file setstat-all-at-once setstat-follows-links setstat-missing "
            "setstat-times-after-close setstat-times-range"
        ),
    ),
    Mutant("SETSTAT ignores the owner and says OK", "setstat-owner", storage=SilentOwner),
    Mutant("SETSTAT of permissions sets the times to 0", "setstat-leaves-the-rest", storage=ForgettingTimes),
    Mutant("SETSTAT of nothing fails", "setstat-nothing", handler(wire.SSH2_FXP_SETSTAT, refuses_nothing)),
    Mutant(
        "SETSTAT sets the size last", "setstat-all-at-once", handler(wire.SSH2_FXP_SETSTAT, sets_size_last)
    ),
    Mutant(
        "FSETSTAT ignores all but the size",
        "fsetstat-fields",
        setting(lambda a: SFTPAttributes(size=a.size), wire.SSH2_FXP_FSETSTAT),
        also="fsetstat-times-before-close setstat-all-at-once",
    ),
    Mutant(
        "CLOSE sets the times",
        "fsetstat-times-before-close",
        storage=ClosingTouches,
        also="fsetstat-fields longname-of-new-file setstat-all-at-once",
    ),
    Mutant(
        "SETSTAT refuses extended attributes",
        "setstat-extended",
        handler(wire.SSH2_FXP_SETSTAT, extended_ends),
    ),
    # --- sequences --------------------------------------------------------------------------------
    Mutant("READ moves where the next WRITE begins", "read-has-no-position", with_position, also=None),
    Mutant("of two WRITEs the first wins", "write-overlapping", storage=FirstWins, also=None),
    Mutant(
        "long handles end the session",
        "handle-too-long",
        instead(HandleTable, "file", ends_for_long_handles),
    ),
    Mutant(
        "refused OPENs take handles",
        "open-refused-often",
        instead(HandleTable, "check_room", counts_all),
        also=None,
    ),
    Mutant("times end in 2038", "setstat-times-range", storage=Signed),
    Mutant("an impossible size empties the file", "setstat-impossible-size", storage=Refusing),
)
