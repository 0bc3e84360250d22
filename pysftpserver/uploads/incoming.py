"""A file that comes in through any door but SFTP's: beside its target, and there whole or not at all.

Blocking calls of the storage's. What may not enter: sockets, wire formats, concrete storages.
"""

from __future__ import annotations

import contextlib
import os
import time

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.pysftpexceptions import SFTPException, SFTPNotFound, SFTPUnsupported
from pysftpserver.uploads import temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage

FOR_OWNER = 0o600  # until a file is whole
NEW = 0o666  # what the umask leaves of it
TIME_TO_LOOK = 0.2  # seconds, for leftovers in one directory


def open_beside(storage: SFTPAbstractServerStorage, path: bytes, replaced: SFTPAttributes | None) -> Incoming:
    """Begin with a file that will be at path. replaced: as for Incoming. Raises what the storage does."""
    parent, slash, _ = path.rpartition(b"/")
    beside = parent + slash + temporary.new_name()
    mode = NEW if replaced is None or replaced.permissions is None else FOR_OWNER
    try:
        handle = storage.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        return Incoming(storage, handle, beside, path, replaced)
    except (KeyboardInterrupt, SystemExit):  # it may be there by now, and nobody would know of it
        with contextlib.suppress(OSError, SFTPException):
            storage.rm(beside)
        raise


class Incoming:
    """A file that is being received, beside its target. replaced: the attributes of what it replaces, whose
    owner and permissions it gets; None for a new one.
    """

    def __init__(
        self,
        storage: SFTPAbstractServerStorage,
        handle: Any,
        beside: bytes,
        path: bytes,
        replaced: SFTPAttributes | None,
    ) -> None:
        self._storage = storage
        self._handle = handle
        self._beside = beside
        self._path = path
        self._replaced = replaced
        self._size = 0
        self._is_open = True

    def write(self, piece: memoryview) -> None:
        """The next piece."""
        self._storage.write(self._handle, self._size, piece)
        self._size += len(piece)

    def sync(self) -> None:
        """Return when what was written is safe from a crash, where the storage knows how."""
        try:
            self._storage.fsync(self._handle)
        except SFTPUnsupported:
            pass

    def set_time(self, mtime: int) -> None:
        """The modification time, in seconds since the epoch."""
        self._storage.fsetstat(self._handle, SFTPAttributes(atime=mtime, mtime=mtime))

    def put_in_place(self) -> int:
        """Close it and have it replace what is there; return how many bytes it has."""
        if self._replaced is not None:
            self._keep_attributes(self._replaced)
        self._is_open = False
        self._storage.close(self._handle)
        self._storage.rename(self._beside, self._path, replace=True)
        return self._size

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
            try:
                self._storage.fsetstat(self._handle, wanted)
            except (OSError, SFTPException):
                pass  # a storage without it, or not ours to give: the file matters more

    def give_up(self) -> None:
        """Remove it."""
        try:
            if self._is_open:
                self._is_open = False
                self._storage.abandon(self._handle)
            self._storage.rm(self._beside)
        except Exception:  # whatever it is: the reason why it is given up is the one to be told
            pass


def remove_leftovers(storage: SFTPAbstractServerStorage, directory: bytes) -> None:
    """Remove what killed processes left in one directory; of a very long one, in its beginning."""
    deadline = time.monotonic() + TIME_TO_LOOK
    try:
        entries = storage.opendir(directory)
        try:
            dead = []
            for name, attrs in entries:
                if name.startswith(temporary.PREFIX) and temporary.is_dead(name, attrs.mtime or 0):
                    dead.append(name)
                if time.monotonic() > deadline:
                    break
        finally:
            close = getattr(entries, "close", None)
            if close is not None:
                close()
        for name in dead:
            storage.rm(directory.rstrip(b"/") + b"/" + name)
    except (OSError, SFTPException):
        pass  # somebody else was faster, or it is not for us


def is_missing(error: Exception) -> bool:
    """Whether an exception of a storage's says that something is not there."""
    return isinstance(error, SFTPNotFound | FileNotFoundError)


def reason(error: Exception) -> str:
    """Why a storage did not do something, in words that name no path of the host."""
    if isinstance(error, OSError):
        return (error.strerror or "failure").lower()
    return str(error) or "failure"
