"""Moves a file or a directory from one storage to another: copies it, and only then removes it.

After any interruption, everything is still at the old place, or complete at the new one. A file appears
at the new place as a whole. A directory appears there at once and fills; a copy that fails is removed again.
What may not enter: paths of the tree, sessions.
"""

from __future__ import annotations

import contextlib
import errno
import os
from stat import S_IFDIR, S_IFLNK, S_IFMT, S_IFREG

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.failures import os_error
from pysftpserver.pysftpexceptions import SSH2_FX_NO_SUCH_FILE, SFTPFailure, SFTPUnsupported, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pysftpserver.storages.mounted.mount import Mount

STEP = 1 << 20  # bytes
CHANGED = "It has changed while it was moved, and was left where it is"


def move(source: Mount, old: bytes, target: Mount, new: bytes, replace: bool) -> None:
    """Move the entry old of one storage to new in another. replace: as in rename()."""
    attrs = source.call("lstat", old)
    if S_IFMT(attrs.permissions or 0) == S_IFDIR:
        old, new = old.rstrip(b"/"), new.rstrip(b"/")
    elif new.endswith(b"/"):
        raise os_error(errno.ENOTDIR)
    is_there = _check_target(target, new, S_IFMT(attrs.permissions or 0), replace)
    copy = _Copy(source, target)
    try:
        copy.all(old, new, attrs, is_there)
        copy.sync()
    except BaseException:
        copy.undo()
        raise
    copy.remove_originals()


def _check_target(target: Mount, new: bytes, kind: int, replace: bool) -> bool:
    """Whether new exists and will be replaced. Raises what rename() would."""
    try:
        there = S_IFMT(target.call("lstat", new).permissions or 0)
    except Exception as error:
        if status_of(error)[0] != SSH2_FX_NO_SUCH_FILE:
            raise
        return False
    number = 0
    if not replace:
        number = errno.EEXIST
    elif kind != S_IFDIR and there == S_IFDIR:
        number = errno.EISDIR
    elif kind == S_IFDIR and there != S_IFDIR:
        number = errno.ENOTDIR
    elif kind == S_IFDIR and _names(target, new):
        number = errno.ENOTEMPTY
    if number:
        raise OSError(number, os.strerror(number))
    return True


def _names(mount: Mount, directory: bytes) -> list[bytes]:
    entries = mount.call("opendir", directory)
    try:
        names = [name for name, _ in entries if name not in (b".", b"..")]
        if any(b"/" in name for name in names):  # it would be written somewhere else
            raise SFTPFailure("The storage lists an invalid name")
        return names
    finally:
        close = getattr(entries, "close", None)
        if close is not None:
            close()


class _Copy:
    def __init__(self, source: Mount, target: Mount) -> None:
        self._source = source
        self._target = target
        self._copied: list[tuple[bytes, SFTPAttributes]] = []  # a directory before its entries
        self._made: list[tuple[str, bytes]] = []  # what to call to undo it
        self._directories: list[tuple[bytes, SFTPAttributes]] = []  # whose attributes are set at the end
        self._to_sync: dict[bytes, None] = {}

    def all(self, old: bytes, new: bytes, attrs: SFTPAttributes, is_there: bool) -> None:
        """Copy the entry old. is_there: whether new exists and is replaced."""
        for path, its in self._found(old, attrs):
            self._one(path, new + path[len(old) :], its, is_there)
            self._copied.append((path, its))
            is_there = False

    def _found(self, path: bytes, attrs: SFTPAttributes) -> list[tuple[bytes, SFTPAttributes]]:
        """Everything to copy. It is listed before anything is made, because the two storages may overlap."""
        found = [(path, attrs)]
        for path, attrs in found:
            kind = S_IFMT(attrs.permissions or 0)
            if kind == S_IFDIR:
                below = [path + b"/" + name for name in _names(self._source, path)]
                found += [(name, self._source.call("lstat", name)) for name in below]
            elif kind not in (0, S_IFREG, S_IFLNK):
                raise SFTPFailure("Only files, directories and links can be moved to another storage")
        return found

    def _one(self, old: bytes, new: bytes, attrs: SFTPAttributes, is_there: bool) -> None:
        kind = S_IFMT(attrs.permissions or 0)
        if is_there and _identity(self._target.call("lstat", new)) == _identity(attrs):
            self._check_apart(old, new)
        if kind == S_IFDIR:
            if not is_there:
                self._target.call("mkdir", new, 0o700)
                self._made.append(("rmdir", new))
            self._directories.append((new, attrs))
        elif kind == S_IFLNK:
            text = self._source.call("readlink", old)
            if is_there:
                self._target.call("rm", new)
            self._target.call("symlink", new, text)
            self._made.append(("rm", new))
        else:
            self._file(old, new, attrs, is_there)
        self._to_sync[_parent(new)] = None

    def _check_apart(self, old: bytes, new: bytes) -> None:
        """Raises SFTPFailure if both may be the same, because the storages overlap."""
        name = b"/" + _temporary()
        self._target.call("mkdir", _parent(new).rstrip(b"/") + name, 0o700)
        try:
            self._source.call("lstat", _parent(old).rstrip(b"/") + name)
        except Exception as error:
            if status_of(error)[0] != SSH2_FX_NO_SUCH_FILE:
                raise
        else:
            raise SFTPFailure("Both names are of the same file")
        finally:
            self._target.call("rmdir", _parent(new).rstrip(b"/") + name)

    def _file(self, old: bytes, new: bytes, attrs: SFTPAttributes, is_there: bool) -> None:
        # A storage that discards what is abandoned shows a file when it is complete, under its own name.
        is_whole = type(self._target.storage()).abandon is not SFTPAbstractServerStorage.abandon
        if is_whole or self._directories:
            self._content(old, new, attrs, os.O_TRUNC if is_there else os.O_EXCL)
        else:
            temporary = _parent(new).rstrip(b"/") + b"/" + _temporary()
            self._content(old, temporary, attrs, os.O_EXCL)
            self._target.call("rename", temporary, new, *([True] if is_there else ()))
            self._made.pop()
            self._made.append(("rm", new))
        if _identity(self._source.call("lstat", old)) != _identity(attrs):
            raise SFTPFailure(CHANGED)

    def _content(self, old: bytes, new: bytes, attrs: SFTPAttributes, how: int) -> None:
        reading, writing = self._source.storage(), self._target.storage()
        original = self._source.call("open", old, os.O_RDONLY, 0)
        try:
            if _identity(reading.fstat(original)) != _identity(attrs):
                raise SFTPFailure(CHANGED)
            mode = 0o666 if attrs.permissions is None else attrs.permissions & 0o777
            handle = self._target.call("open", new, os.O_WRONLY | os.O_CREAT | how, mode | 0o200)
            if how == os.O_EXCL:
                self._made.append(("rm", new))
            try:
                size = 0
                while data := bytes(reading.read(original, size, STEP)):
                    writing.write(handle, size, data)
                    size += len(data)
                    if attrs.size is not None and size > attrs.size:
                        raise SFTPFailure(CHANGED)
                _try(writing.fsetstat, handle, SFTPAttributes(permissions=mode))
                _try(writing.fsetstat, handle, SFTPAttributes(atime=attrs.atime, mtime=attrs.mtime))
                _try(writing.fsync, handle)
            except BaseException:
                writing.spoil(handle)
                writing.abandon(handle)
                raise
            writing.close(handle)
        finally:
            reading.close(original)
        if self._target.call("lstat", new).size not in (None, size):
            raise SFTPFailure("The copy is not complete")

    def sync(self) -> None:
        """Give the new directories their attributes, and make sure that the copy survives a crash."""
        for path, attrs in reversed(self._directories):
            if attrs.permissions is not None:
                mode = SFTPAttributes(permissions=attrs.permissions & 0o777)
                _try(self._target.call, "setstat", path, mode)
            _try(self._target.call, "setstat", path, SFTPAttributes(atime=attrs.atime, mtime=attrs.mtime))
        for path in self._to_sync:
            _try(self._target.call, "sync_directory", path)

    def undo(self) -> None:
        """Remove what was made."""
        for path, _ in self._directories:  # one with the permissions of its original may not be writable
            with contextlib.suppress(Exception):
                self._target.call("setstat", path, SFTPAttributes(permissions=0o700))
        for method, path in reversed(self._made):
            with contextlib.suppress(Exception):
                self._target.call(method, path)

    def remove_originals(self) -> None:
        """Remove the originals. Those that were changed or added since are kept and reported."""
        try:
            for path, attrs in reversed(self._copied):
                if S_IFMT(attrs.permissions or 0) == S_IFDIR:
                    self._source.call("rmdir", path)
                elif _identity(self._source.call("lstat", path)) == _identity(attrs):
                    self._source.call("rm", path)
                else:
                    raise SFTPFailure(CHANGED)
        except Exception as error:
            reason = status_of(error)[1].decode(errors="replace")
            raise SFTPFailure(
                f"Copied, but not everything could be removed at the old place: {reason}"
            ) from error


def _parent(path: bytes) -> bytes:
    return path.rpartition(b"/")[0] or b"/"


def _temporary() -> bytes:
    return b".moving-" + os.urandom(8).hex().encode()


def _identity(attrs: SFTPAttributes) -> tuple[Any, ...]:
    """Values that show whether a file is still the same."""
    return attrs.size, attrs.mtime, attrs.permissions


def _try(call: Any, *arguments: Any) -> None:
    """Call a method that may fail, because the storage or this user cannot do it."""
    with contextlib.suppress(SFTPUnsupported, PermissionError):
        call(*arguments)
