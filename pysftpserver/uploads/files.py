"""A file that is received in a temporary file and renamed into place when it is complete.

open_temporary() begins one in any storage, for every door but SFTP, whose clients open and close files
themselves (atomic.py). commit() is the one place where a temporary file of a storage becomes the file.
Blocking calls of the storage's. What may not enter: sockets, wire formats, concrete storages.
"""

from __future__ import annotations

import contextlib
import os

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.pysftpexceptions import SFTPException, SFTPNotFound, SFTPUnsupported
from pysftpserver.uploads.temporary import temporary_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage

FOR_OWNER = 0o600  # until a file is complete
NEW = 0o666  # what the umask leaves of it


class TemporaryFile:
    """A temporary file. commit() renames it into place, discard() removes it; one of them must be called."""

    __slots__ = ()

    def commit(self) -> None:
        """Rename the file into place, or discard it and raise what the storage does."""
        try:
            self._complete()
            self._rename()
        except BaseException:
            self.discard()
            raise
        self._sync_directory()

    def discard(self) -> None:
        """Remove the file."""
        raise NotImplementedError

    def _complete(self) -> None:
        """Do what comes before the new name. Raises when the content is not all there."""

    def _rename(self) -> None:
        raise NotImplementedError

    def _sync_directory(self) -> None:
        """Make the new name safe from a crash, if that is asked for and can be done."""


class StoredFile(TemporaryFile):
    """A temporary file in any storage, written from its beginning to its end.

    replaced: the attributes of the file that it replaces, whose owner and permissions it gets; None for a
    new one. size: bytes so far.
    """

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

    def sync(self) -> None:
        """Return when what was written is safe from a crash, if the storage can do that."""
        with contextlib.suppress(SFTPUnsupported):
            self._storage.fsync(self._handle)

    def set_time(self, mtime: int) -> None:
        """Set the modification time, in seconds since the epoch."""
        self._storage.fsetstat(self._handle, SFTPAttributes(atime=mtime, mtime=mtime))

    def _complete(self) -> None:
        if self._replaced is not None:
            self._keep_attributes(self._replaced)
        self._is_open = False
        self._storage.close(self._handle)

    def _rename(self) -> None:
        self._storage.rename(self._temporary, self._path, replace=True)
        self._is_there = False

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
        """Remove the file. After commit() or another discard(), this does nothing."""
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
