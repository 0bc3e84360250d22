"""Removes temporary files that interrupted uploads have left.

Blocking calls of the storage's. What may not enter: how temporary files are made. Facts: flock(2).
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from stat import S_ISREG

from pysftpserver.pysftpexceptions import SFTPException, SFTPUnsupported
from pysftpserver.uploads import temporary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage

TIME_TO_LOOK = 0.2  # seconds, for one directory; a client is waiting


def remove_leftovers(
    storage: SFTPAbstractServerStorage, directory: bytes, names: Iterable[bytes] | None = None
) -> int:
    """Remove the temporary files in a directory that are abandoned; return how many.

    names: paths, relative to the directory, of files that seem to be abandoned; None: looks for them in the
    directory, and in a very long one only in its beginning. What cannot be removed stays.
    """
    top = directory.rstrip(b"/") + b"/"
    removed = 0
    try:
        for name in _found(storage, directory) if names is None else names:
            removed += _remove_if_abandoned(storage, top + name)
    except (OSError, SFTPException):
        pass  # the directory cannot be read; an upload to it will say so
    return removed


def _found(storage: SFTPAbstractServerStorage, directory: bytes) -> list[bytes]:
    """The names in a directory that seem to be of abandoned files."""
    deadline = time.monotonic() + TIME_TO_LOOK
    entries = storage.opendir(directory)
    try:
        found = []
        for name, attrs in entries:
            if temporary.is_temporary(name) and (
                temporary.is_locked_name(name) or temporary.is_abandoned(name, attrs)
            ):
                found.append(name)
            if time.monotonic() > deadline:
                break
        return found
    finally:
        close = getattr(entries, "close", None)
        if close is not None:
            close()


def _remove_if_abandoned(storage: SFTPAbstractServerStorage, path: bytes) -> bool:
    """Whether the file of that path is abandoned after a second look, and was removed."""
    name = path.rpartition(b"/")[2]
    try:
        if temporary.is_locked_name(name):
            return _remove_if_unlocked(storage, path)
        try:
            attrs = storage.lstat(path)
        except SFTPUnsupported:
            pass  # then the first look has to do
        else:
            if not temporary.is_abandoned(name, attrs):
                return False
        storage.rm(path)
        return True
    except (OSError, SFTPException):
        return False  # another session was faster, or this one may not


def _remove_if_unlocked(storage: SFTPAbstractServerStorage, path: bytes) -> bool:
    """Remove a file if it is this user's and no process has locked it. Raises what the storage does."""
    handle = storage.open(path, os.O_RDONLY | os.O_NOFOLLOW, 0)
    try:
        descriptor = storage.fileno(handle)
        if descriptor is None:
            return False
        st = os.fstat(descriptor)
        # Root's uploads may belong to others.
        if not S_ISREG(st.st_mode) or os.geteuid() not in (0, st.st_uid):
            return False
        lock(descriptor)
        # If it was put in place just now, it no longer has this name; the next upload may have it.
        if not _leads_to(storage, path, st):
            return False
        storage.rm(path)
        return True
    finally:
        storage.close(handle)


def _leads_to(storage: SFTPAbstractServerStorage, path: bytes, st: os.stat_result) -> bool:
    """Whether a path is of the file with these attributes. Raises what the storage does."""
    handle = storage.open(path, os.O_RDONLY | os.O_NOFOLLOW, 0)
    try:
        descriptor = storage.fileno(handle)
        return descriptor is not None and os.path.samestat(os.fstat(descriptor), st)
    finally:
        storage.close(handle)


def lock(descriptor: int) -> None:
    """Lock a file that is about to be removed. Raises BlockingIOError if another session has locked it.

    With this lock, a file may be removed by its name after a look at it: no other session does so meanwhile.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # all that NFS gives for a file opened to read
