"""Removes temporary files that interrupted uploads have left.

Calls to the storage block. What may not enter: how temporary files are made. Facts: flock(2).
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

    names: paths, relative to the directory, of files that seem to be abandoned; None: search the directory,
    or only the beginning of a very long one. Files that cannot be removed stay.
    """
    top = directory.rstrip(b"/") + b"/"
    removed = 0
    try:
        for name in _found(storage, directory) if names is None else names:
            removed += _remove_if_abandoned(storage, top + name)
    except (OSError, SFTPException):
        pass  # the directory cannot be read; an upload to it will report that
    return removed


def _found(storage: SFTPAbstractServerStorage, directory: bytes) -> list[bytes]:
    """The names of files in a directory that seem to be abandoned."""
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
    """Look at the file at path again, and remove it if it is abandoned; return whether it was removed."""
    name = path.rpartition(b"/")[2]
    try:
        if temporary.is_locked_name(name):
            return _remove_if_unlocked(storage, path)
        try:
            attrs = storage.lstat(path)
        except SFTPUnsupported:
            pass  # then the first look is enough
        else:
            if not temporary.is_abandoned(name, attrs):
                return False
        storage.rm(path)
        return True
    except (OSError, SFTPException):
        return False  # another session was faster, or this one has no permission


def _remove_if_unlocked(storage: SFTPAbstractServerStorage, path: bytes) -> bool:
    """Remove a file if it is this user's and no process has locked it. Raises the storage's errors."""
    handle = storage.open(path, os.O_RDONLY | os.O_NOFOLLOW, 0)
    try:
        descriptor = storage.fileno(handle)
        if descriptor is None:
            return False
        st = os.fstat(descriptor)
        # Files that root uploads may belong to other users.
        if not S_ISREG(st.st_mode) or os.geteuid() not in (0, st.st_uid):
            return False
        lock(descriptor)
        # If it was put in place just now, it no longer has this name, and the next upload may have it.
        if not _leads_to(storage, path, st):
            return False
        storage.rm(path)
        return True
    finally:
        storage.close(handle)


def _leads_to(storage: SFTPAbstractServerStorage, path: bytes, st: os.stat_result) -> bool:
    """Whether a path leads to the file with these attributes. Raises the storage's errors."""
    handle = storage.open(path, os.O_RDONLY | os.O_NOFOLLOW, 0)
    try:
        descriptor = storage.fileno(handle)
        return descriptor is not None and os.path.samestat(os.fstat(descriptor), st)
    finally:
        storage.close(handle)


def lock(descriptor: int) -> None:
    """Lock a file that is about to be removed. Raises BlockingIOError if another session has locked it.

    With this lock, a file may be checked and then removed by its name: no other session removes it meanwhile.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # all that NFS gives for a file opened to read
