"""A file that is received in a temporary file and renamed into place when it is complete.

open_temporary() begins one in any storage, for every door but SFTP, whose clients open and close files
themselves (atomic.py). commit_all() is the one place where temporary files of a storage become files.
Blocking calls of the storage's. What may not enter: sockets, wire formats, concrete storages.
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
NEW = 0o666  # what the umask leaves of it
MANY = 8  # files, for which their file system is synced as a whole


class TemporaryFile:
    """A temporary file. commit() puts it in place, discard() removes it; one of them must be called.

    The methods in between are the steps of commit(), for commit_all().
    """

    __slots__ = ()

    def commit(self) -> None:
        """Put the file in place, safe from a crash, or discard it and raise what the storage does."""
        for error in commit_all([self]).values():
            raise error

    def prepare(self) -> None:
        """Do what comes before the content is synced. Raises when it is not all there."""

    def sync(self) -> None:
        """Return when the content is safe from a crash, if that is asked for and the storage can do it."""
        raise NotImplementedError

    def descriptor(self) -> int | None:
        """The host's descriptor of the file, to sync it together with others; None: sync() has to do it."""
        return None

    def close(self) -> None:
        """Close what renaming does not need. Raises what a file system reports only then."""

    def rename(self) -> None:
        """Give the file its name."""
        raise NotImplementedError

    def sync_name(self, synced: dict[bytes, Exception | None]) -> None:
        """The same as sync() for the new name. synced: directories that were synced, with the error if that
        failed; adds the file's. The kernel reports an error once, and it is about all files in there."""
        raise NotImplementedError

    def finish(self) -> None:
        """Do what comes last. Raises when the file went into a directory that is no longer the served one."""
        raise NotImplementedError

    def discard(self) -> None:
        """Remove the file, unless it was renamed, and close what belongs to it; the second time, nothing."""
        raise NotImplementedError


def commit_all(files: Sequence[File]) -> dict[File, Exception]:
    """Put files in place: what returns without an error is there after a crash, whole, under its name.

    Every file takes a step before any takes the next one, because a file system that has been told of all
    content writes it together. Many files of one file system are synced by one call, and their names by
    another. A file that fails is discarded, and the others go on. Returns the failures, by file.
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
    """The file systems that have many of the files. Each is held by the file that was opened first."""

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
        """Sync each; the files for which that was enough. Errors are for sync() of each file to find."""
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
    new one. size: bytes so far. check: called just before the file is renamed; what it raises stops that.
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
        """Append up to size bytes of another open file of the storage, where they are; 0: read and write().

        At the end of the file that is 0, too.
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

        The other time is now: a file that waits to be put in place is in use, however old its original.
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
        """Owner before permissions, which the owner's change may take away."""
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
        # Whatever fails here, the reason for discarding the file is the one to report.
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
    """Open a temporary file for path. replaced: as for StoredFile. Raises what the storage does."""
    temporary = temporary_path(path)
    mode = NEW if replaced is None or replaced.permissions is None else FOR_OWNER
    try:
        handle = storage.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        return StoredFile(storage, handle, temporary, path, replaced)
    except (KeyboardInterrupt, SystemExit):  # it may be there by now, and the caller has nothing to discard
        with contextlib.suppress(OSError, SFTPException):
            storage.rm(temporary)
        raise


def parent_of(path: bytes) -> bytes:
    """The path of the directory that an entry is in, as the storage would take it."""
    parent, slash, _ = path.rstrip(b"/").rpartition(b"/")
    return parent or slash or b"."


def sync_directory(storage: SFTPAbstractServerStorage, path: bytes) -> None:
    """Return when the names in a directory are safe from a crash, if the storage can do that."""
    with contextlib.suppress(SFTPUnsupported, SFTPForbidden, PermissionError):
        # One that may be searched and not read cannot be synced by this user; the content is safe.
        try:
            storage.sync_directory(path)
        except OSError as error:
            if error.errno != errno.EINVAL:  # a file system that does not know how
                raise


def attributes(look: Callable[[bytes], SFTPAttributes], path: bytes) -> SFTPAttributes | None:
    """The attributes of a file; None where there is none. look: stat() or lstat() of a storage.

    Raises what the storage does for any other reason.
    """
    try:
        return look(path)
    except (OSError, SFTPException) as error:
        if not is_missing(error):
            raise
        return None


def is_missing(error: Exception) -> bool:
    """Whether an exception of a storage's says that something is not there."""
    return isinstance(error, SFTPNotFound | FileNotFoundError)
