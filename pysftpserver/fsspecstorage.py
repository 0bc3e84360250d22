"""SFTPServerFsspecStorage: any file system of the library fsspec, with all operations that it supports.

Names are joined to the path in the address. A new or truncated file is received under a temporary name (or
in parts that are committed, if the file system has that) and appears when it is closed. Other files are
written in place if the file system can. Empty directories that it cannot store exist for the session. No
listing is cached. The parts are in storages/foreign/: opening
(addresses), files (what is open), attributes, errors. What may not enter: sessions, protocols.
Facts: fsspec.spec.AbstractFileSystem.
"""

from __future__ import annotations

import errno
import os
import time
from stat import S_IFREG

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.failures import os_error
from pysftpserver.pysftpexceptions import (
    SFTPBadMessage,
    SFTPFailure,
    SFTPForbidden,
    SFTPNotFound,
    SFTPUnsupported,
)
from pysftpserver.storages.foreign.attributes import attributes_of
from pysftpserver.storages.foreign.errors import FsspecError, answer_to, spoken
from pysftpserver.storages.foreign.files import OpenFile, Upload, appends, can_commit
from pysftpserver.storages.foreign.opening import Opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Info = dict[str, Any]
    Entry = tuple[bytes, SFTPAttributes]

MAGIC = frozenset("*?[")  # what some methods of fsspec take for patterns


class SFTPServerFsspecStorage(SFTPAbstractServerStorage):
    """The files at an fsspec address, such as memory://, file:///srv/files or zip:///srv/a.zip.

    url: the address; it can be chained (zip://::https://example.com/a.zip). options: those of the file
    system. setstat: "ignore" accepts times, permissions and owners and changes nothing, "refuse" refuses
    them. Sizes of files can be changed if the file system can do it. Raises ValueError for an address or
    options that cannot be used, OSError if it cannot be opened, BadInput if fsspec is not installed.
    """

    home = b"/"

    def __init__(self, url: str, *, setstat: str = "ignore", **options: Any) -> None:
        if setstat not in ("ignore", "refuse"):
            raise ValueError('setstat: write "ignore" or "refuse"')
        self._refuses = setstat == "refuse"
        self._opened = opened = Opened(url, options)
        self._fs = opened.fs
        self.label = opened.label
        self.uses_network = opened.uses_network
        self.read_only = opened.read_only
        self._made: set[str] = set()  # directories that the file system may not hold while they are empty
        self._born = int(time.time())
        self._commits: bool | None = None  # whether its files can be committed
        if opened.read_only and type(self) is SFTPServerFsspecStorage:
            self.__class__ = ReadOnlyFsspecStorage

    def connect(self) -> None:
        """Check that the file system answers and the path exists. Raises SFTPException or OSError, with a
        message for the operator, if not.
        """
        try:
            self._fs.info(self._opened.root)
        except Exception as error:  # of any library
            answer = answer_to(error, self._opened)
            if type(answer) is SFTPFailure:
                answer = SFTPFailure(str(answer.__cause__))
            raise answer from None

    # --- paths --------------------------------------------------------------------------------------

    def _path(self, path: bytes) -> str:
        """The file system's path for a client's."""
        if not path:
            raise SFTPNotFound
        if b"\0" in path:
            raise SFTPBadMessage("A name cannot contain a NUL byte")
        real = self.realpath(path)
        return self._below(self._opened.root, os.fsdecode(real[1:]))

    def _below(self, full: str, name: str) -> str:
        """The path of a name in a directory; at the top of some file systems it has no leading slash."""
        if not name:
            return full
        return f"{full}/{name}" if full or self._fs.root_marker else name

    def _info(self, path: str) -> Info:
        """What the file system says about a path. Raises FileNotFoundError."""
        try:
            info: Info = self._fs.info(path or self._opened.root)
        except FileNotFoundError:
            if path not in self._made and path != self._opened.root:
                raise
            return {"type": "directory", "name": path}
        url = str(info.get("url", ""))  # of HTTP, after redirects, which say what is a directory
        if url.endswith("/") or url.count("/") == 2:  # the latter has a host and no path
            return {**info, "type": "directory", "size": 0}
        return info

    def _get(self, path: bytes) -> tuple[str, Info]:
        """The file system's path and its info. Raises OSError if it is a file and path ends with a slash."""
        full = self._path(path)
        info = self._info(full)
        if path.endswith((b"/", b"/.")) and info["type"] != "directory":
            raise os_error(errno.ENOTDIR)
        return full, info

    def _check_free(self, path: bytes) -> str:
        """The file system's path. Raises OSError if something is there, or the directory does not exist."""
        full = self._path(path)
        if full == self._opened.root or self._is_there(full):
            raise os_error(errno.EEXIST)
        self._check_parent(full)
        return full

    def _check_parent(self, full: str) -> None:
        parent = full.rpartition("/")[0]
        if parent != self._opened.root and self._info(parent)["type"] != "directory":
            raise os_error(errno.ENOTDIR)

    def _is_there(self, full: str) -> bool:
        try:
            self._info(full)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _check_writable(self) -> None:
        if self.read_only:
            raise SFTPUnsupported("This storage is read-only")

    # --- attributes -----------------------------------------------------------------------------------

    def _attributes(self, info: Info) -> SFTPAttributes:
        return attributes_of(info, self.read_only, self._born)

    @spoken
    def stat(self, path: bytes) -> SFTPAttributes:
        return self._attributes(self._get(path)[1])

    def lstat(self, path: bytes) -> SFTPAttributes:
        return self.stat(path)

    @spoken
    def fstat(self, handle: OpenFile) -> SFTPAttributes:
        size = handle.size()
        try:
            attrs = self._attributes(self._info(handle.path))
        except FileNotFoundError:
            attrs = SFTPAttributes(0, permissions=S_IFREG | 0o644)
        if size is not None:
            attrs.size = size
        return attrs

    @spoken
    def setstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        self._check_writable()
        full, info = self._get(path)
        if attrs.size is not None:
            if info["type"] == "directory":
                raise os_error(errno.EISDIR)
            if attrs.size != info.get("size"):
                file = OpenFile(self._fs.open(full, "r+b" if attrs.size else "wb"), full, os.O_RDWR)
                try:
                    file.truncate(attrs.size)
                finally:
                    file.close()
        self._check_unset(attrs)

    def lsetstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        self.setstat(path, attrs)

    @spoken
    def fsetstat(self, handle: OpenFile, attrs: SFTPAttributes) -> None:
        self._check_writable()
        if attrs.size is not None:
            handle.truncate(attrs.size)
        self._check_unset(attrs)

    def _check_unset(self, attrs: SFTPAttributes) -> None:
        if self._refuses and attrs != SFTPAttributes(size=attrs.size):
            raise SFTPUnsupported("This storage keeps no times, permissions or owners of yours")

    # --- directories ----------------------------------------------------------------------------------

    @spoken
    def opendir(self, path: bytes) -> Iterator[Entry]:
        full, info = self._get(path)
        if info["type"] != "directory":
            raise os_error(errno.ENOTDIR)
        try:
            entries = self._fs.ls(full, detail=True)
        except FileNotFoundError:
            entries = []
        parent = info if full == self._opened.root else self._info(full.rpartition("/")[0])
        return self._entries(full, info, parent, entries)

    def _entries(self, full: str, info: Info, parent: Info, entries: list[Info]) -> Iterator[Entry]:
        yield b".", self._attributes(info)
        yield b"..", self._attributes(parent)
        seen = set()
        own = full.strip("/")
        for entry in entries:
            path = str(entry["name"]).rstrip("/")
            name = path.rpartition("/")[2]
            if name in ("", ".", "..") or name in seen or path.strip("/") == own:
                continue
            if "://" in path and "?" in name:
                continue  # a link that sorts the page
            seen.add(name)
            kind = entry["type"]
            if entry.get("islink") or kind != "directory" and (kind != "file" or entry.get("size") is None):
                try:
                    entry = self._info(self._below(full, name))
                except Exception:
                    continue  # a dangling link
            yield os.fsencode(name), self._attributes(entry)
        for directory in sorted(self._made):
            top, _, name = directory.rpartition("/")
            if top == full and name not in seen:
                yield os.fsencode(name), self._attributes({"type": "directory"})

    @spoken
    def mkdir(self, path: bytes, mode: int) -> None:
        self._check_writable()
        full = self._check_free(path)
        self._fs.mkdir(full, create_parents=False)
        self._made.add(full)

    @spoken
    def rmdir(self, path: bytes) -> None:
        self._check_writable()
        full, info = self._get(path)
        if info["type"] != "directory":
            raise os_error(errno.ENOTDIR)
        self._remove_directory(full)

    def _remove_directory(self, full: str) -> None:
        if full == self._opened.root:
            raise os_error(errno.EBUSY)
        if self._names(full):
            raise os_error(errno.ENOTEMPTY)
        try:
            self._fs.rmdir(full)
        except FileNotFoundError:
            if full not in self._made:
                raise
        self._made.discard(full)
        self._keep_parent(full)

    def _names(self, full: str) -> list[bytes]:
        return [name for name, _ in self.opendir(self._client_path(full)) if name not in (b".", b"..")]

    def _client_path(self, full: str) -> bytes:
        return b"/" + os.fsencode(full[len(self._opened.root) :]).lstrip(b"/")

    def _keep_parent(self, full: str) -> None:
        """Keep a directory for this session if the file system drops it when its last entry is removed."""
        parent = full.rpartition("/")[0]
        if parent != self._opened.root:
            self._made.add(parent)

    # --- files ----------------------------------------------------------------------------------------

    @spoken
    def open(self, path: bytes, flags: int, mode: int) -> OpenFile:
        full = self._path(path)
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            _, info = self._get(path)
        except FileNotFoundError:
            if not flags & os.O_CREAT:
                raise
            info = None
        if writes and self.read_only:
            raise SFTPForbidden("This storage is read-only")
        if info is None:
            if path.endswith(b"/"):
                raise os_error(errno.EISDIR) from None
            self._check_parent(full)
        elif flags & os.O_EXCL and flags & os.O_CREAT:
            raise os_error(errno.EEXIST)
        elif info["type"] == "directory":
            raise os_error(errno.EISDIR)
        elif info["type"] != "file":
            raise SFTPForbidden("Not a file")
        return self._opened_file(full, flags, info is None)

    def _opened_file(self, full: str, flags: int, is_new: bool) -> OpenFile:
        access = flags & os.O_ACCMODE
        if access == os.O_RDONLY:
            if is_new or flags & os.O_TRUNC:
                self._fs.open(full, "wb").close()
            return OpenFile(self._fs.open(full, "rb"), full, flags, lambda: self._fs.open(full, "rb"))
        if is_new or flags & os.O_TRUNC:
            return self._upload(full, flags)
        for mode in ("r+b", "ab") if flags & os.O_APPEND and access == os.O_WRONLY else ("r+b",):
            try:
                file = self._fs.open(full, mode)
            except (NotImplementedError, ValueError):
                continue
            if mode != "ab" or appends(file):
                return OpenFile(file, full, flags)
        raise SFTPUnsupported("This storage cannot change files, only replace them")

    def _upload(self, full: str, flags: int) -> Upload:
        if self._commits is None:
            from fsspec.implementations.local import LocalFileSystem

            # Its temporary files may be on another disk, or have no directory.
            is_other = isinstance(self._fs, LocalFileSystem) or self._opened.is_ftp
            self._commits = not is_other and can_commit(self._fs, self._temporary(full))
        is_exclusive = bool(flags & os.O_EXCL)
        if self._commits:
            file = self._fs.open(full, "wb", autocommit=False)
            self._fs.transaction.files.remove(file)

            def commit() -> None:
                self._check_exclusive(full, is_exclusive)
                file.commit()

            return Upload(file, full, flags, commit, lambda: None, True)
        temporary = self._temporary(full)
        try:
            file = self._fs.open(temporary, "w+b" if flags & os.O_RDWR else "wb")
        except (NotImplementedError, ValueError):
            file = self._fs.open(temporary, "wb")

        def put() -> None:
            self._check_exclusive(full, is_exclusive)
            self._move_file(temporary, full)

        return Upload(file, full, flags, put, lambda: self._fs.rm_file(temporary), False)

    def _check_exclusive(self, full: str, is_exclusive: bool) -> None:
        if is_exclusive and self._is_there(full):
            raise os_error(errno.EEXIST)

    def _temporary(self, full: str) -> str:
        return self._below(full.rpartition("/")[0], f".part-{os.urandom(8).hex()}")

    @spoken
    def read(self, handle: OpenFile, off: int, size: int) -> bytes:
        return handle.read(off, size)

    @spoken
    def write(self, handle: OpenFile, off: int, chunk: bytes | memoryview) -> None:
        self._check_writable()
        handle.write(off, chunk)

    @spoken
    def close(self, handle: OpenFile) -> None:
        handle.close()

    @spoken
    def abandon(self, handle: OpenFile) -> None:
        handle.discard()

    def spoil(self, handle: OpenFile) -> None:
        handle.is_broken = True

    # --- the tree -------------------------------------------------------------------------------------

    @spoken
    def rm(self, path: bytes) -> None:
        self._check_writable()
        full, info = self._get(path)
        if info["type"] == "directory":
            raise os_error(errno.EISDIR)
        self._fs.rm_file(full)
        self._keep_parent(full)

    @spoken
    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        self._check_writable()
        source, info = self._get(old)
        target = self._path(new)
        is_directory = info["type"] == "directory"
        if source == self._opened.root or is_directory and f"{target}/".startswith(f"{source}/"):
            if source == target and replace:
                return
            if source == target:
                raise os_error(errno.EEXIST)
            raise os_error(errno.EINVAL)
        try:
            there = self._info(target)
        except FileNotFoundError:
            self._check_parent(target)
            if new.endswith(b"/") and not is_directory:
                raise os_error(errno.ENOTDIR) from None
        else:
            if not replace:
                raise os_error(errno.EEXIST)
            if source == target:
                return
            if there["type"] == "directory" and not is_directory:
                raise os_error(errno.EISDIR)
            if there["type"] != "directory" and is_directory:
                raise os_error(errno.ENOTDIR)
            if is_directory:
                self._remove_directory(target)
        if is_directory:
            self._move_directory(source, target)
        else:
            self._move_file(source, target)
        self._keep_parent(source)

    def _move_file(self, source: str, target: str) -> None:
        """Rename a file; copy and remove it if the file system cannot rename."""
        if self._renames() and not MAGIC.intersection(source + target):
            self._fs.mv(source, target)
        else:
            self._fs.cp_file(source, target)
            self._fs.rm_file(source)

    def _renames(self) -> bool:
        """Whether the file system has its own rename: fsspec's copies, and takes names for patterns."""
        from fsspec.spec import AbstractFileSystem

        return type(self._fs).mv is not AbstractFileSystem.mv

    def _move_directory(self, source: str, target: str) -> None:
        if self._renames() and not MAGIC.intersection(source + target):
            self._fs.mv(source, target, recursive=True)
            moved = [path for path in self._made if f"{path}/".startswith(f"{source}/")]
            self._made.difference_update(moved)
            self._made.update(target + path[len(source) :] for path in moved)
            return
        todo, directories, count = [(source, target)], [], 0
        try:
            while todo:
                old, new = todo.pop()
                if self._info(old)["type"] == "directory":
                    self._fs.mkdir(new, create_parents=False)
                    self._made.add(new)
                    directories.append(old)
                    todo += [
                        (f"{old}/{name}", f"{new}/{name}") for name in map(os.fsdecode, self._names(old))
                    ]
                else:
                    self._move_file(old, new)
                    count += 1
            for directory in reversed(directories):
                self._made.add(directory)
                self._remove_directory(directory)
                self._made.discard(directory)
        except Exception as error:
            raise SFTPFailure(f"{count} files are at the new place, the rest is at the old one") from (
                FsspecError(self._opened.safe(f"{type(error).__name__}: {error}"))
            )


class ReadOnlyFsspecStorage(SFTPServerFsspecStorage):
    """A storage on a read-only file system: extensions that write are not announced."""

    write = SFTPAbstractServerStorage.write
    lsetstat = SFTPAbstractServerStorage.lsetstat

    def rename(self, old: bytes, new: bytes) -> None:  # type: ignore[override]
        self._check_writable()
