"""ONE table: every request and every extension, what it is called, how it is served, whether it writes.

Dispatch, read-only mode, allow and deny lists, the announced extensions, hooks and the log all come
from this table: adding a request is adding a row. A handler does three things: parse (the row's decoder
did), act (through the storage), reply. It raises what goes wrong; it returns how many bytes of file
content it moved, if that is what it does. What may not enter: I/O other than the storage's.
Facts: draft-ietf-secsh-filexfer-02, sections 4 to 8; OpenSSH's PROTOCOL, section 4, and sftp-server.c's
behaviour where the draft is silent.
"""

from __future__ import annotations

import os
import time

from pysftpserver import wire
from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.copying import copy_data
from pysftpserver.log import DEBUG1, INFO, VERBOSE, show
from pysftpserver.pysftpexceptions import (
    SFTPBadMessage,
    SFTPEndOfFile,
    SFTPException,
    SFTPFailure,
    SFTPForbidden,
    SFTPNotFound,
)
from pysftpserver.segments import FileSpan
from pysftpserver.wire import MAX_DATA, MAX_PACKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pysftpserver.attributes import SFTPAttributes
    from pysftpserver.server import SFTPServer


class Request:
    """A row of the table.

    name: as allow and deny lists, hooks and `-Q` have it. decode: the body's decoder in wire.py; fields
    names what it returns. handler: serves it. writes: whether read-only mode refuses it. level, line:
    the log's. version: what VERSION announces, for extensions. needs: storage methods without which an
    extension is not announced.
    """

    __slots__ = ("decode", "fields", "handler", "level", "line", "name", "needs", "version", "writes")

    def __init__(
        self,
        name: str,
        fields: str,
        decode: Callable[..., tuple[Any, ...]],
        handler: Callable[..., int | None],
        writes: bool = False,
        log: tuple[int, Callable[..., Iterator[str]] | None] = (DEBUG1, None),
        version: bytes = b"",
        needs: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.fields = fields.split()
        self.decode = decode
        self.handler = handler
        self.writes = writes
        self.level, self.line = log
        self.version = version
        self.needs = needs

    def is_offered(self, storage: SFTPAbstractServerStorage) -> bool:
        """Whether the storage has what this extension needs."""
        return all(_has(type(storage), need) for need in self.needs)


def _has(cls: type, need: str) -> bool:
    """Whether a storage class overrides a method; `rename(replace)` asks for that argument as well."""
    method, _, argument = need.rstrip(")").partition("(")
    own = getattr(cls, method)
    if own is getattr(SFTPAbstractServerStorage, method):
        return False
    code = getattr(own, "__code__", None)
    return (
        not argument
        or code is None
        or argument in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    )


# --- files --------------------------------------------------------------------------------------------

_OPEN_FLAGS = (
    (wire.SSH2_FXF_APPEND, os.O_APPEND),
    (wire.SSH2_FXF_CREAT, os.O_CREAT),
    (wire.SSH2_FXF_TRUNC, os.O_TRUNC),
    (wire.SSH2_FXF_EXCL, os.O_EXCL),
)


def open_flags(pflags: int) -> int:
    """The os.O_* flags for the SSH2_FXF_* ones. Neither READ nor WRITE opens for reading."""
    writes = pflags & wire.SSH2_FXF_WRITE
    if pflags & wire.SSH2_FXF_READ and writes:
        flags = os.O_RDWR
    else:
        flags = os.O_WRONLY if writes else os.O_RDONLY
    for portable, native in _OPEN_FLAGS:
        if pflags & portable:
            flags |= native
    return flags


def serve_open(server: SFTPServer, rid: int, path: bytes, pflags: int, attrs: SFTPAttributes) -> None:
    flags = open_flags(pflags)
    if server.read_only and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
        server.log.write(VERBOSE, "Refusing open request in read-only mode")
        raise SFTPForbidden
    mode = 0o666 if attrs.permissions is None else attrs.permissions & 0o7777
    server.check_room()
    server.add_file(rid, path, flags, server.storage.open(server.path(path), flags, mode))


def serve_close(server: SFTPServer, rid: int, handle: bytes) -> None:
    server.close_handle(handle)
    server.send_status(rid)


def serve_read(server: SFTPServer, rid: int, handle: bytes, offset: int, length: int) -> int:
    file = server.file(handle)
    size = min(length, MAX_DATA)
    if not size:
        server.send_data(rid, b"")  # odd, but no error: OpenSSH does not even look at the file
        return 0
    if file.descriptor is not None:
        span = FileSpan.of(file.descriptor, offset, size)
        if span is not None:
            server.send_span(rid, span)
            file.bytes_read += span.length
            return span.length
    data = server.storage.read(file.object, offset, size)
    if not data:
        raise SFTPEndOfFile
    if len(data) > size:
        data = data[:size]
    server.send_data(rid, data)
    file.bytes_read += len(data)
    return len(data)


def serve_write(server: SFTPServer, rid: int, handle: bytes, offset: int, chunk: memoryview) -> int:
    file = server.file(handle)
    if file.flags & os.O_APPEND:
        offset = 0  # whatever the client sent: the end of the file is meant
    server.storage.write(file.object, offset, chunk if file.takes_views else bytes(chunk))
    file.bytes_written += len(chunk)
    server.send_status(rid)
    return len(chunk)


def serve_fsync(server: SFTPServer, rid: int, handle: bytes) -> None:
    server.storage.fsync(server.file(handle).object)
    server.send_status(rid)


def serve_copy_data(
    server: SFTPServer, rid: int, source: bytes, offset: int, length: int, *target: Any
) -> int:
    copied = copy_data(server, server.file(source), offset, length, server.file(target[0]), target[1])
    server.send_status(rid)
    return copied


# --- attributes ---------------------------------------------------------------------------------------


def serve_stat(server: SFTPServer, rid: int, path: bytes) -> None:
    server.send_attrs(rid, server.storage.stat(server.path(path)))


def serve_lstat(server: SFTPServer, rid: int, path: bytes) -> None:
    server.send_attrs(rid, server.storage.lstat(server.path(path)))


def serve_fstat(server: SFTPServer, rid: int, handle: bytes) -> None:
    server.send_attrs(rid, server.storage.fstat(server.file(handle).object))


def serve_setstat(server: SFTPServer, rid: int, path: bytes, attrs: SFTPAttributes) -> None:
    if not attrs.is_empty():
        server.storage.setstat(server.path(path), attrs)
    server.send_status(rid)


def serve_lsetstat(server: SFTPServer, rid: int, path: bytes, attrs: SFTPAttributes) -> None:
    if attrs.size is not None:
        raise SFTPBadMessage("lsetstat takes no size")
    if not attrs.is_empty():
        server.storage.lsetstat(server.path(path), attrs)
    server.send_status(rid)


def serve_fsetstat(server: SFTPServer, rid: int, handle: bytes, attrs: SFTPAttributes) -> None:
    server.storage.fsetstat(server.file(handle).object, attrs)
    server.send_status(rid)


# --- directories --------------------------------------------------------------------------------------


def serve_opendir(server: SFTPServer, rid: int, path: bytes) -> None:
    server.check_room()
    server.add_directory(rid, path, server.storage.opendir(server.path(path)))


def serve_readdir(server: SFTPServer, rid: int, handle: bytes) -> None:
    directory = server.directory(handle)
    room = MAX_PACKET - 9  # what NAME has before its first entry
    entries = []
    if directory.waiting is not None:
        entries.append(directory.waiting)
        room -= len(directory.waiting)
        directory.waiting = None
    else:
        server.longnames.refresh()
    longname = server.longnames.longname
    for name, attrs in directory.entries:
        entry = wire.encode_name_entry(name, longname(name, attrs), attrs)
        room -= len(entry)
        if room < 0:
            directory.waiting = entry
            break
        entries.append(entry)
    if not entries:
        raise SFTPEndOfFile
    server.output.append(wire.encode_names(rid, entries))


def serve_mkdir(server: SFTPServer, rid: int, path: bytes, attrs: SFTPAttributes) -> None:
    mode = 0o777 if attrs.permissions is None else attrs.permissions & 0o7777
    server.storage.mkdir(server.path(path), mode)
    server.send_status(rid)


def serve_rmdir(server: SFTPServer, rid: int, path: bytes) -> None:
    server.storage.rmdir(server.path(path))
    server.send_status(rid)


# --- the tree -----------------------------------------------------------------------------------------


def serve_remove(server: SFTPServer, rid: int, path: bytes) -> None:
    server.storage.rm(server.path(path))
    server.send_status(rid)


def serve_rename(server: SFTPServer, rid: int, path: bytes, target: bytes) -> None:
    server.storage.rename(server.path(path), server.path(target))
    server.send_status(rid)


def serve_posix_rename(server: SFTPServer, rid: int, path: bytes, target: bytes) -> None:
    server.storage.rename(server.path(path), server.path(target), replace=True)
    server.send_status(rid)


def serve_symlink(server: SFTPServer, rid: int, target: bytes, path: bytes) -> None:
    # OpenSSH's order of arguments, not the draft's, is what every client sends.
    server.storage.symlink(server.path(path), target)
    server.send_status(rid)


def serve_hardlink(server: SFTPServer, rid: int, path: bytes, target: bytes) -> None:
    server.storage.link(server.path(path), server.path(target))
    server.send_status(rid)


def serve_readlink(server: SFTPServer, rid: int, path: bytes) -> None:
    server.send_name(rid, server.storage.readlink(server.path(path)))


# --- names --------------------------------------------------------------------------------------------


def serve_realpath(server: SFTPServer, rid: int, path: bytes) -> None:
    server.send_name(rid, server.storage.realpath(server.path(path or b".")))


def expanded(server: SFTPServer, path: bytes) -> bytes:
    """The path to give to the storage, for one that may begin with `~` or `~user`."""
    if path.startswith(b"~"):
        user, slash, rest = path[1:].partition(b"/")
        path = server.storage.userhome(user) + slash + rest
    return server.path(path or b".")


def serve_expand_path(server: SFTPServer, rid: int, path: bytes) -> None:
    server.send_name(rid, server.storage.realpath(expanded(server, path)))


def serve_home_directory(server: SFTPServer, rid: int, user: bytes) -> None:
    try:
        server.send_name(rid, server.storage.userhome(user))
    except SFTPNotFound as error:
        raise SFTPFailure(str(error)) from None  # OpenSSH's status here; `~user` keeps its own


def serve_users_groups(server: SFTPServer, rid: int, uids: tuple[int, ...], gids: tuple[int, ...]) -> None:
    users = wire.encode_string_list(server.storage.username(uid) or b"" for uid in uids)
    groups = wire.encode_string_list(server.storage.groupname(gid) or b"" for gid in gids)
    server.send(wire.SSH2_FXP_EXTENDED_REPLY, rid, users + groups)


# --- figures ------------------------------------------------------------------------------------------


def serve_statvfs(server: SFTPServer, rid: int, path: bytes) -> None:
    server.send_statvfs(rid, server.storage.statvfs(server.path(path)))


def serve_fstatvfs(server: SFTPServer, rid: int, handle: bytes) -> None:
    server.send_statvfs(rid, server.storage.fstatvfs(server.file(handle).object))


def serve_limits(server: SFTPServer, rid: int) -> None:
    body = wire.encode_limits(MAX_PACKET, MAX_DATA, MAX_DATA, server.max_handles)
    server.send(wire.SSH2_FXP_EXTENDED_REPLY, rid, body)


# --- the log's lines, in the words of sftp-server(8) ---------------------------------------------------


def _says(level: int, template: str) -> tuple[int, Callable[..., Iterator[str]]]:
    """A line made of the arguments that are paths."""

    def line(server: SFTPServer, *arguments: Any) -> Iterator[str]:
        yield template.format(*(show(a) if isinstance(a, bytes) else a for a in arguments))

    return level, line


def _says_path(level: int, template: str) -> tuple[int, Callable[..., Iterator[str]]]:
    """A line made of the path that a handle was opened with; none for a handle that is not open."""

    def line(server: SFTPServer, handle: bytes, *arguments: Any) -> Iterator[str]:
        path = server.path_of(handle)
        if path is not None:
            yield template.format(show(path))

    return level, line


def _open_line(server: SFTPServer, path: bytes, pflags: int, attrs: SFTPAttributes) -> Iterator[str]:
    names = ("READ", "WRITE", "APPEND", "CREATE", "TRUNCATE", "EXCL")  # bit 0 and up
    flags = ",".join(name for bit, name in enumerate(names) if pflags >> bit & 1)
    mode = 0o666 if attrs.permissions is None else attrs.permissions
    yield f'open "{show(path)}" flags {flags} mode 0{mode:o}'


def _mkdir_line(server: SFTPServer, path: bytes, attrs: SFTPAttributes) -> Iterator[str]:
    mode = 0o777 if attrs.permissions is None else attrs.permissions & 0o7777
    yield f'mkdir name "{show(path)}" mode 0{mode:o}'


def _set_lines(server: SFTPServer, path: bytes, attrs: SFTPAttributes) -> Iterator[str]:
    if attrs.size is not None:
        yield f'set "{show(path)}" size {attrs.size}'
    if attrs.permissions is not None:
        yield f'set "{show(path)}" mode {attrs.permissions:04o}'
    if attrs.mtime is not None:
        moment = time.strftime("%Y%m%d-%H:%M:%S", time.localtime(attrs.mtime))
        yield f'set "{show(path)}" modtime {moment}'
    if attrs.uid is not None:
        yield f'set "{show(path)}" owner {attrs.uid} group {attrs.gid}'


def _lset_lines(server: SFTPServer, path: bytes, attrs: SFTPAttributes) -> Iterator[str]:
    return iter(()) if attrs.size is not None else _set_lines(server, path, attrs)


def _expand_line(server: SFTPServer, path: bytes) -> Iterator[str]:
    try:
        yield f'expand "{show(expanded(server, path))}"'
    except SFTPException:
        pass  # the reply will say so


def _home_line(server: SFTPServer, user: bytes) -> Iterator[str]:
    yield f'home-directory "{show(user)}"'


def _ids_line(server: SFTPServer, uids: tuple[int, ...], gids: tuple[int, ...]) -> Iterator[str]:
    yield f"users-groups-by-id: {len(uids)} users, {len(gids)} groups"


def _fset_lines(server: SFTPServer, handle: bytes, attrs: SFTPAttributes) -> Iterator[str]:
    path = server.path_of(handle)
    return iter(()) if path is None else _set_lines(server, path, attrs)


# --- the table, in the order in which `sftp-server -Q requests` prints it --------------------------------

REQUESTS = {
    wire.SSH2_FXP_OPEN: Request(
        "open", "path flags attributes", wire.decode_open, serve_open, log=(INFO, _open_line)
    ),
    wire.SSH2_FXP_CLOSE: Request("close", "handle", wire.decode_string, serve_close),
    wire.SSH2_FXP_READ: Request("read", "handle offset length", wire.decode_read, serve_read),
    wire.SSH2_FXP_WRITE: Request("write", "handle offset data", wire.decode_write, serve_write, writes=True),
    wire.SSH2_FXP_LSTAT: Request(
        "lstat", "path", wire.decode_path, serve_lstat, log=_says(VERBOSE, 'lstat name "{}"')
    ),
    wire.SSH2_FXP_FSTAT: Request("fstat", "handle", wire.decode_string, serve_fstat),
    wire.SSH2_FXP_SETSTAT: Request(
        "setstat", "path attributes", wire.decode_path_attrs, serve_setstat, True, (INFO, _set_lines)
    ),
    wire.SSH2_FXP_FSETSTAT: Request(
        "fsetstat", "handle attributes", wire.decode_handle_attrs, serve_fsetstat, True, (INFO, _fset_lines)
    ),
    wire.SSH2_FXP_OPENDIR: Request(
        "opendir", "path", wire.decode_path, serve_opendir, log=_says(INFO, 'opendir "{}"')
    ),
    wire.SSH2_FXP_READDIR: Request("readdir", "handle", wire.decode_string, serve_readdir),
    wire.SSH2_FXP_REMOVE: Request(
        "remove", "path", wire.decode_path, serve_remove, True, _says(INFO, 'remove name "{}"')
    ),
    wire.SSH2_FXP_MKDIR: Request(
        "mkdir", "path attributes", wire.decode_path_attrs, serve_mkdir, True, (INFO, _mkdir_line)
    ),
    wire.SSH2_FXP_RMDIR: Request(
        "rmdir", "path", wire.decode_path, serve_rmdir, True, _says(INFO, 'rmdir name "{}"')
    ),
    wire.SSH2_FXP_REALPATH: Request(
        "realpath", "path", wire.decode_path, serve_realpath, log=_says(VERBOSE, 'realpath "{}"')
    ),
    wire.SSH2_FXP_STAT: Request(
        "stat", "path", wire.decode_path, serve_stat, log=_says(VERBOSE, 'stat name "{}"')
    ),
    wire.SSH2_FXP_RENAME: Request(
        "rename",
        "path target",
        wire.decode_two_paths,
        serve_rename,
        True,
        _says(INFO, 'rename old "{}" new "{}"'),
    ),
    wire.SSH2_FXP_READLINK: Request(
        "readlink", "path", wire.decode_path, serve_readlink, log=_says(VERBOSE, 'readlink "{}"')
    ),
    wire.SSH2_FXP_SYMLINK: Request(
        "symlink",
        "target path",
        wire.decode_two_paths,
        serve_symlink,
        True,
        _says(INFO, 'symlink old "{}" new "{}"'),
    ),
}

EXTENDED_REQUESTS = {
    b"posix-rename@openssh.com": Request(
        "posix-rename",
        "path target",
        wire.decode_two_paths,
        serve_posix_rename,
        True,
        _says(INFO, 'posix-rename old "{}" new "{}"'),
        b"1",
        ("rename(replace)",),
    ),
    b"statvfs@openssh.com": Request(
        "statvfs",
        "path",
        wire.decode_path,
        serve_statvfs,
        log=_says(INFO, 'statvfs "{}"'),
        version=b"2",
        needs=("statvfs",),
    ),
    b"fstatvfs@openssh.com": Request(
        "fstatvfs", "handle", wire.decode_string, serve_fstatvfs, version=b"2", needs=("fstatvfs",)
    ),
    b"hardlink@openssh.com": Request(
        "hardlink",
        "path target",
        wire.decode_two_paths,
        serve_hardlink,
        True,
        _says(INFO, 'hardlink old "{}" new "{}"'),
        b"1",
        ("link",),
    ),
    b"fsync@openssh.com": Request(
        "fsync",
        "handle",
        wire.decode_string,
        serve_fsync,
        True,
        _says_path(VERBOSE, 'fsync "{}"'),
        b"1",
        ("fsync",),
    ),
    b"lsetstat@openssh.com": Request(
        "lsetstat",
        "path attributes",
        wire.decode_path_attrs,
        serve_lsetstat,
        True,
        (INFO, _lset_lines),
        b"1",
        ("lsetstat",),
    ),
    b"limits@openssh.com": Request("limits", "", wire.decode_nothing, serve_limits, version=b"1"),
    b"expand-path@openssh.com": Request(
        "expand-path",
        "path",
        wire.decode_path,
        serve_expand_path,
        log=(VERBOSE, _expand_line),
        version=b"1",
    ),
    b"copy-data": Request(
        "copy-data",
        "handle offset length target target_offset",
        wire.decode_copy_data,
        serve_copy_data,
        True,
        version=b"1",
        needs=("read", "write"),
    ),
    b"home-directory": Request(
        "home-directory",
        "user",
        wire.decode_path,
        serve_home_directory,
        log=(VERBOSE, _home_line),
        version=b"1",
    ),
    b"users-groups-by-id@openssh.com": Request(
        "users-groups-by-id",
        "uids gids",
        wire.decode_ids,
        serve_users_groups,
        log=(VERBOSE, _ids_line),
        version=b"1",
        needs=("username", "groupname"),
    ),
}
