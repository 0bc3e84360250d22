"""The table of requests: for each request and extension its name, decoder and handler, and whether it writes.

Dispatch, read-only mode, allow and deny lists, the announced extensions, hooks and the log all use this
table: to add a request, add a row (and its function in handlers.py). The order, the names, what counts as
writing and the words of the log are those of sftp-server(8); the numbers and names are from section 4 of the
draft and section 4 of OpenSSH's PROTOCOL.
What may not enter: I/O, sessions, how a request is served.
"""

from __future__ import annotations

import time

from pysftpserver.abstractstorage import overrides
from pysftpserver.engine import handlers, wire
from pysftpserver.engine.log import DEBUG1, INFO, VERBOSE
from pysftpserver.failures import show
from pysftpserver.pysftpexceptions import SFTPException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.attributes import SFTPAttributes
    from pysftpserver.engine.session import Session

CHECKED = "path algorithms offset length block"
ALGORITHMS = b"md5,sha1,sha224,sha256,sha384,sha512,crc32"  # what VERSION says of check-file


class Request:
    """A row of the table.

    name: as in allow and deny lists, hooks and `-Q`. decode: the body's decoder in wire.py; fields names the
    values that it returns. handler: serves it. writes: whether read-only mode refuses it (open decides by
    its flags). log: level and line. version: what VERSION announces for an extension; not announced if empty.
    needs: storage methods without which the extension is not offered. fills: the field with the handle of the
    file that it puts content into.
    """

    __slots__ = tuple("decode fields fills handler level line name needs version writes".split())

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
        fills: str = "",
    ) -> None:
        self.name = name
        self.fields = fields.split()
        self.decode = decode
        self.handler = handler
        self.writes = writes
        self.level, self.line = log
        self.version = version
        self.needs = needs
        self.fills = fills


# --- the log's lines, in the words of sftp-server(8) ---------------------------------------------------


def _says(level: int, template: str) -> tuple[int, Callable[..., Iterator[str]]]:
    """A log level, and a function that makes the line from the arguments."""

    def line(session: Session, *arguments: Any) -> Iterator[str]:
        yield template.format(*(show(a) if isinstance(a, bytes) else a for a in arguments))

    return level, line


def _fsync_line(session: Session, handle: bytes) -> Iterator[str]:
    path = session.handles.path_of(handle)
    if path is not None:
        yield f'fsync "{show(path)}"'


def _open_line(session: Session, path: bytes, pflags: int, attrs: SFTPAttributes) -> Iterator[str]:
    names = ("READ", "WRITE", "APPEND", "CREATE", "TRUNCATE", "EXCL")  # bit 0 and up
    flags = ",".join(name for bit, name in enumerate(names) if pflags >> bit & 1)
    mode = 0o666 if attrs.permissions is None else attrs.permissions
    yield f'open "{show(path)}" flags {flags} mode 0{mode:o}'


def _mkdir_line(session: Session, path: bytes, attrs: SFTPAttributes) -> Iterator[str]:
    mode = 0o777 if attrs.permissions is None else attrs.permissions & 0o7777
    yield f'mkdir name "{show(path)}" mode 0{mode:o}'


def _set_lines(session: Session, path: bytes, attrs: SFTPAttributes) -> Iterator[str]:
    if attrs.size is not None:
        yield f'set "{show(path)}" size {attrs.size}'
    if attrs.permissions is not None:
        yield f'set "{show(path)}" mode {attrs.permissions:04o}'
    if attrs.mtime is not None:
        moment = time.strftime("%Y%m%d-%H:%M:%S", time.localtime(attrs.mtime))
        yield f'set "{show(path)}" modtime {moment}'
    if attrs.uid is not None:
        yield f'set "{show(path)}" owner {attrs.uid} group {attrs.gid}'


def _lset_lines(session: Session, path: bytes, attrs: SFTPAttributes) -> Iterator[str]:
    return iter(()) if attrs.size is not None else _set_lines(session, path, attrs)


def _expand_line(session: Session, path: bytes) -> Iterator[str]:
    try:
        yield f'expand "{show(handlers.expand_tilde(session, path))}"'
    except SFTPException:
        pass  # the reply will say so


def _home_line(session: Session, user: bytes) -> Iterator[str]:
    try:
        if user:
            yield f'home-directory "{show(session.storage.userhome(user))}"'
    except SFTPException:
        pass  # the reply will say so


def _realpath_line(session: Session, path: bytes) -> Iterator[str]:
    yield f'realpath "{show(path or b".")}"'


def _ids_line(session: Session, uids: tuple[int, ...], gids: tuple[int, ...]) -> Iterator[str]:
    yield f"users-groups-by-id: {len(uids)} users, {len(gids)} groups"


def _fset_lines(session: Session, handle: bytes, attrs: SFTPAttributes) -> Iterator[str]:
    path = session.handles.path_of(handle)
    return iter(()) if path is None else _set_lines(session, path, attrs)


# --- the table, in the order in which `sftp-server -Q requests` prints it --------------------------------

# fmt: off
REQUESTS = {
    wire.SSH2_FXP_OPEN: Request(
        "open", "path flags attributes", wire.decode_open, handlers.serve_open, log=(INFO, _open_line),
    ),
    wire.SSH2_FXP_CLOSE: Request("close", "handle", wire.decode_string, handlers.serve_close),
    wire.SSH2_FXP_READ: Request("read", "handle offset length", wire.decode_read, handlers.serve_read),
    wire.SSH2_FXP_WRITE: Request(
        "write", "handle offset data", wire.decode_write, handlers.serve_write, writes=True, fills="handle",
    ),
    wire.SSH2_FXP_LSTAT: Request(
        "lstat", "path", wire.decode_path, handlers.serve_lstat, log=_says(VERBOSE, 'lstat name "{}"'),
    ),
    wire.SSH2_FXP_FSTAT: Request("fstat", "handle", wire.decode_string, handlers.serve_fstat),
    wire.SSH2_FXP_SETSTAT: Request(
        "setstat", "path attributes", wire.decode_path_attrs, handlers.serve_setstat, True,
        (INFO, _set_lines),
    ),
    wire.SSH2_FXP_FSETSTAT: Request(
        "fsetstat", "handle attributes", wire.decode_handle_attrs, handlers.serve_fsetstat, True,
        (INFO, _fset_lines),
    ),
    wire.SSH2_FXP_OPENDIR: Request(
        "opendir", "path", wire.decode_path, handlers.serve_opendir, log=_says(INFO, 'opendir "{}"'),
    ),
    wire.SSH2_FXP_READDIR: Request("readdir", "handle", wire.decode_string, handlers.serve_readdir),
    wire.SSH2_FXP_REMOVE: Request(
        "remove", "path", wire.decode_path, handlers.serve_remove, True, _says(INFO, 'remove name "{}"'),
    ),
    wire.SSH2_FXP_MKDIR: Request(
        "mkdir", "path attributes", wire.decode_path_attrs, handlers.serve_mkdir, True, (INFO, _mkdir_line),
    ),
    wire.SSH2_FXP_RMDIR: Request(
        "rmdir", "path", wire.decode_path, handlers.serve_rmdir, True, _says(INFO, 'rmdir name "{}"'),
    ),
    wire.SSH2_FXP_REALPATH: Request(
        "realpath", "path", wire.decode_path, handlers.serve_realpath, log=(VERBOSE, _realpath_line),
    ),
    wire.SSH2_FXP_STAT: Request(
        "stat", "path", wire.decode_path, handlers.serve_stat, log=_says(VERBOSE, 'stat name "{}"'),
    ),
    wire.SSH2_FXP_RENAME: Request(
        "rename", "path target", wire.decode_two_paths, handlers.serve_rename, True,
        _says(INFO, 'rename old "{}" new "{}"'),
    ),
    wire.SSH2_FXP_READLINK: Request(
        "readlink", "path", wire.decode_path, handlers.serve_readlink, log=_says(VERBOSE, 'readlink "{}"'),
    ),
    wire.SSH2_FXP_SYMLINK: Request(
        "symlink", "target path", wire.decode_two_paths, handlers.serve_symlink, True,
        _says(INFO, 'symlink old "{}" new "{}"'),
    ),
}

EXTENDED_REQUESTS = {
    b"posix-rename@openssh.com": Request(
        "posix-rename", "path target", wire.decode_two_paths, handlers.serve_posix_rename, True,
        _says(INFO, 'posix-rename old "{}" new "{}"'), b"1", ("rename(replace)",),
    ),
    b"statvfs@openssh.com": Request(
        "statvfs", "path", wire.decode_path, handlers.serve_statvfs, False,
        _says(INFO, 'statvfs "{}"'), b"2", ("statvfs",),
    ),
    b"fstatvfs@openssh.com": Request(
        "fstatvfs", "handle", wire.decode_string, handlers.serve_fstatvfs, version=b"2", needs=("fstatvfs",),
    ),
    b"hardlink@openssh.com": Request(
        "hardlink", "path target", wire.decode_two_paths, handlers.serve_hardlink, True,
        _says(INFO, 'hardlink old "{}" new "{}"'), b"1", ("link",),
    ),
    b"fsync@openssh.com": Request(
        "fsync", "handle", wire.decode_string, handlers.serve_fsync, True,
        (VERBOSE, _fsync_line), b"1", ("fsync",),
    ),
    b"lsetstat@openssh.com": Request(
        "lsetstat", "path attributes", wire.decode_path_attrs, handlers.serve_lsetstat, True,
        (INFO, _lset_lines), b"1", ("lsetstat",),
    ),
    b"limits@openssh.com": Request("limits", "", wire.decode_nothing, handlers.serve_limits, version=b"1"),
    b"expand-path@openssh.com": Request(
        "expand-path", "path", wire.decode_path, handlers.serve_expand_path, False,
        (VERBOSE, _expand_line), b"1",
    ),
    b"copy-data": Request(
        "copy-data", "handle offset length target target_offset", wire.decode_copy_data,
        handlers.serve_copy_data, True, version=b"1", needs=("read", "write"), fills="target",
    ),
    b"home-directory": Request(
        "home-directory", "user", wire.decode_path, handlers.serve_home_directory, False,
        (VERBOSE, _home_line), b"1",
    ),
    b"users-groups-by-id@openssh.com": Request(
        "users-groups-by-id", "uids gids", wire.decode_ids, handlers.serve_users_groups, False,
        (VERBOSE, _ids_line), b"1", ("username", "groupname"),
    ),
    b"check-file-name": Request(
        "check-file-name", CHECKED, wire.decode_check_name, handlers.serve_check_file_name, False,
        _says(INFO, 'check-file-name "{}"'), needs=("open", "read"),
    ),
    b"check-file-handle": Request(
        "check-file-handle", CHECKED.replace("path", "handle"), wire.decode_check_handle,
        handlers.serve_check_file_handle, needs=("open", "read"),
    ),
    b"check-file": Request(
        "check-file", CHECKED.replace("path", "handle"), wire.decode_check_handle,
        handlers.serve_check_file, version=ALGORITHMS, needs=("open", "read"),
    ),
}
# fmt: on
#: The extensions for which a session needs checksums.py.
CHECKS = frozenset((b"check-file-name", b"check-file-handle", b"check-file"))

_offered: dict[type, dict[bytes, Request]] = {}


def offered(cls: type[SFTPAbstractServerStorage]) -> dict[bytes, Request]:
    """The extended requests for which a storage class has the necessary methods."""
    if cls not in _offered:  # each session asks, and classes are few
        rows = EXTENDED_REQUESTS.items()
        _offered[cls] = {name: row for name, row in rows if all(overrides(cls, need) for need in row.needs)}
    return _offered[cls]
