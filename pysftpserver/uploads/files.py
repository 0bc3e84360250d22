"""A file that is received in a temporary file and renamed into place when it is complete.

open_temporary() begins one in any storage, for every door except SFTP, whose clients open and close files
themselves (atomic.py). commit_all() is the only place where temporary files of a storage become files.
Calls to the storage block. What may not enter: sockets, wire formats, concrete storages.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time

from pysftpserver.abstractstorage import moves_by_descriptor
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.host.linux import start_writing, sync_file_system
from pysftpserver.pysftpexceptions import (
    SFTPException,
    SFTPForbidden,
    SFTPNotFound,
    SFTPUnsupported,
)
from pysftpserver.uploads.temporary import temporary_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, TypeVar

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage

    File = TypeVar("File", bound="TemporaryFile")

FOR_OWNER = 0o600  # until a file is complete
NEW = 0o666  # less the umask
MANY = 8  # files; from this number on, their file system is synced as a whole


class TemporaryFile:
    """A temporary file. commit() puts it in place, discard() removes it; one of them must be called.

    The methods in between are the steps of commit(), for commit_all().
    """

    __slots__ = ()

    def commit(self) -> None:
        """Put the file in place, safe from a crash; or discard it and raise the storage's error."""
        for error in commit_all([self]).values():
            raise error

    def prepare(self) -> None:
        """Do what has to happen before the content is synced. Raises if content is missing."""

    def sync(self) -> None:
        """Return when the content is safe from a crash, if that is wanted and the storage can do it."""
        raise NotImplementedError

    def descriptor(self) -> int | None:
        """The host's descriptor of the file, to sync it together with others; None: only sync() can do it."""
        return None

    def close(self) -> None:
        """Close what renaming does not need. Raises errors that a file system reports only on close."""

    def rename(self) -> None:
        """Give the file its name."""
        raise NotImplementedError

    def sync_name(self, synced: dict[bytes, Exception | None]) -> None:
        """The same as sync() for the new name. synced: directories that were synced, with the error if that
        failed; this adds the file's. The kernel reports an error once, for all files in the directory."""
        raise NotImplementedError

    def finish(self) -> None:
        """Do what comes last. Raises if the file was put into a directory that is no longer served."""
        raise NotImplementedError

    def discard(self) -> None:
        """Remove the file, unless it was renamed, and close all descriptors. A second call does nothing."""
        raise NotImplementedError


def commit_all(files: Sequence[File]) -> dict[File, Exception]:
    """Put files in place: those without an error are complete and have their names, even after a crash.

    All files take a step before any takes the next one, so that the file system can write all content
    together. Many files of one file system are synced by one call, and their names by another. A file that
    fails is discarded, and the others go on. Returns the errors, by file.
    """
    failures: dict[File, Exception] = {}
    synced: dict[bytes, Exception | None] = {}

    def take(step: Callable[[TemporaryFile], None], exclude: Iterable[TemporaryFile] = ()) -> None:
        for file in files:
            if file not in failures and file not in exclude:
                try:
                    step(file)
                except Exception as error:
                    failures[file] = error
                    file.discard()

    try:
        take(lambda file: file.prepare())
        with contextlib.closing(_FileSystems([file for file in files if file not in failures])) as together:
            take(lambda file: file.sync(), exclude=together.sync())
            take(lambda file: file.close())
            take(lambda file: file.rename())
            take(lambda file: file.sync_name(synced), exclude=together.sync())
        take(lambda file: file.finish())
    except BaseException:  # an interruption
        for file in files:
            if file not in failures:
                file.discard()
        raise
    return failures


class _FileSystems:
    """The file systems with many of the files. Each is synced through the file that was opened first."""

    def __init__(self, files: Sequence[TemporaryFile]) -> None:
        found: dict[int, list[TemporaryFile]] = {}
        self._files: dict[int, list[TemporaryFile]] = {}  # by a descriptor of their file system
        with contextlib.suppress(OSError):  # without a free descriptor, each file is synced by itself
            for file in files if len(files) >= MANY else ():
                descriptor = file.descriptor()
                if descriptor is not None:
                    found.setdefault(os.fstat(descriptor).st_dev, []).append(file)
            for some in found.values():
                first = some[0].descriptor()
                if len(some) >= MANY and first is not None:
                    self._files[os.dup(first)] = some

    def sync(self) -> set[TemporaryFile]:
        """Sync each; return the files that need no more. Errors are left to sync() of each file."""
        safe: set[TemporaryFile] = set()
        for descriptor, files in self._files.items():
            with contextlib.suppress(OSError):
                if sync_file_system(descriptor):
                    safe.update(files)
        return safe

    def close(self) -> None:
        while self._files:
            os.close(self._files.popitem()[0])


class StoredFile(TemporaryFile):
    """A temporary file in any storage, written from its beginning to its end.

    replaced: the attributes of the file that it replaces, whose owner and permissions it gets; None for a
    new one. size: bytes so far. check: called just before the file is renamed; raising stops that.
    """

    check: Callable[[], None] | None = None

    def __init__(
        self,
        storage: SFTPAbstractServerStorage,
        handle: Any,
        temporary: bytes,
        path: bytes,
        replaced: SFTPAttributes | None,
    ) -> None:
        self.size = 0
        self._storage = storage
        self._handle = handle
        self._temporary = temporary
        self._path = path
        self._replaced = replaced
        self._is_open = True
        self._is_there = True

    def write(self, piece: memoryview) -> None:
        """Append a piece."""
        self._storage.write(self._handle, self.size, piece)
        self.size += len(piece)

    def copy_from(self, source: Any, offset: int, size: int) -> int:
        """Append up to size bytes of another open file of the storage, inside the storage.

        Return how many; 0 at the end of the file, or if the caller has to read and write() them.
        """
        self._storage.check_write(self._handle, self.size, size)
        reads, writes = (moves_by_descriptor(self._storage, word) for word in ("read", "write"))
        descriptor = self._storage.fileno(source) if reads and writes else None
        mine = self.descriptor() if descriptor is not None else None
        count: int | None = None
        if descriptor is not None and mine is not None:
            with contextlib.suppress(OSError):  # another file system, or one without this call
                count = os.copy_file_range(descriptor, mine, size, offset, self.size)
        else:
            count = self._storage.copy_range(source, offset, size, self._handle, self.size)
        self.size += count or 0
        return count or 0

    def set_time(self, mtime: int) -> None:
        """Set the modification time, in seconds since the epoch.

        The access time becomes now: a file that waits to be put in place is in use, whatever the other time.
        """
        self._storage.fsetstat(self._handle, SFTPAttributes(atime=int(time.time()), mtime=mtime))

    def prepare(self) -> None:
        if self._replaced is not None:
            self._keep_attributes(self._replaced)
        descriptor = self.descriptor()
        if descriptor is not None:
            start_writing(descriptor)

    def descriptor(self) -> int | None:
        return self._storage.fileno(self._handle)

    def sync(self) -> None:
        with contextlib.suppress(SFTPUnsupported):
            self._storage.fsync(self._handle)

    def close(self) -> None:
        self._is_open = False
        self._storage.close(self._handle)

    def rename(self) -> None:
        self._storage.check_root()
        if self.check is not None:
            self.check()
        self._storage.rename(self._temporary, self._path, replace=True)
        self._is_there = False

    def sync_name(self, synced: dict[bytes, Exception | None]) -> None:
        directory = parent_of(self._path)
        if directory not in synced:
            try:
                sync_directory(self._storage, directory)
                synced[directory] = None
            except Exception as error:
                synced[directory] = error
        failure = synced[directory]
        if failure is not None:
            raise failure

    def finish(self) -> None:
        self._storage.check_root()

    def _keep_attributes(self, replaced: SFTPAttributes) -> None:
        """Set owner, then permissions, because a change of the owner may clear some of them."""
        kept = []
        if replaced.uid is not None and replaced.gid is not None:
            mine = self._storage.fstat(self._handle)
            if (mine.uid, mine.gid) != (replaced.uid, replaced.gid):
                kept.append(SFTPAttributes(uid=replaced.uid, gid=replaced.gid))
        if replaced.permissions is not None:
            kept.append(SFTPAttributes(permissions=replaced.permissions & 0o777))
        for wanted in kept:
            with contextlib.suppress(OSError, SFTPException):
                # the storage or this user cannot; the file matters more
                self._storage.fsetstat(self._handle, wanted)

    def discard(self) -> None:
        # Errors here are not reported: the reason for discarding the file is.
        if self._is_open:
            self._is_open = False
            with contextlib.suppress(Exception):
                self._storage.abandon(self._handle)
        if self._is_there:
            self._is_there = False
            with contextlib.suppress(Exception):
                self._storage.rm(self._temporary)


def open_temporary(
    storage: SFTPAbstractServerStorage, path: bytes, replaced: SFTPAttributes | None
) -> StoredFile:
    """Open a temporary file for path. replaced: as for StoredFile. Raises the storage's errors."""
    temporary = temporary_path(path)
    mode = NEW if replaced is None or replaced.permissions is None else FOR_OWNER
    try:
        handle = storage.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        return StoredFile(storage, handle, temporary, path, replaced)
    except (KeyboardInterrupt, SystemExit):  # it may exist by now, and the caller has nothing to discard
        with contextlib.suppress(OSError, SFTPException):
            storage.rm(temporary)
        raise


def parent_of(path: bytes) -> bytes:
    """The path of the directory that has the entry, as storages take it."""
    parent, slash, _ = path.rstrip(b"/").rpartition(b"/")
    return parent or slash or b"."


def sync_directory(storage: SFTPAbstractServerStorage, path: bytes) -> None:
    """Return when the names in a directory are safe from a crash, if the storage can do that."""
    with contextlib.suppress(SFTPUnsupported, SFTPForbidden, PermissionError):
        # This user cannot sync a directory that they may search but not read; the content is safe.
        try:
            storage.sync_directory(path)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that cannot do it
                raise


def attributes(look: Callable[[bytes], SFTPAttributes], path: bytes) -> SFTPAttributes | None:
    """The attributes of a file; None if it does not exist. look: stat() or lstat() of a storage.

    Raises any other error of the storage.
    """
    try:
        return look(path)
    except (OSError, SFTPException) as error:
        if not is_missing(error):
            raise
        return None


def is_missing(error: Exception) -> bool:
    """Whether a storage's exception says that a file does not exist."""
    return isinstance(error, SFTPNotFound | FileNotFoundError)
