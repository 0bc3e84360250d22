"""Durable storages: changes that were reported as done survive a crash of the machine.

DurableStorage goes in front of a storage of real files, and syncs before its methods return: content when a
file is closed, names when they are made, changed or removed, and what SETSTAT changes if this user may open
the file. What may not enter: sessions, wire formats, how a path is resolved.
Facts: fsync(2), rename(2), ext4(5).
"""

from __future__ import annotations

import contextlib
import errno
import os
from stat import S_ISDIR, S_ISREG

from pysftpserver.storage import SFTPServerStorage
from pysftpserver.uploads.files import parent_of, sync_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pysftpserver.attributes import SFTPAttributes

WRITABLE = os.O_WRONLY | os.O_RDWR


class DurableStorage(SFTPServerStorage):
    """A mixin that goes in front of a storage of real files, and of AtomicUploads."""

    # Descriptors; each storage makes its own set for the first one.
    _written: set[int] | frozenset[int] = frozenset()
    _uploads: dict[int, Any] = {}  # as in AtomicUploads, which syncs them itself
    _syncs_new = True

    def open(self, path: bytes, flags: int, mode: int) -> int:
        is_new = flags & os.O_CREAT and not self._is_there(path)
        handle = super().open(path, flags, mode)
        try:
            # An atomic upload does not have its name yet, and syncs its directory itself.
            if is_new and self._is_there(path):
                sync_directory(self, parent_of(self._final(path)))
                self.check_root()
        except BaseException:
            super().abandon(handle)
            raise
        if flags & WRITABLE and handle not in self._uploads:
            self._written |= {handle}
        return handle

    def _is_there(self, path: bytes) -> bool:
        try:
            self.stat(path)
        except OSError:
            return False
        return True

    def close(self, handle: int) -> None:
        if handle in self._written:
            self._written -= {handle}
            try:
                self._sync_content(handle)
            except BaseException:
                with contextlib.suppress(Exception):  # the first error is the one to report
                    super().close(handle)
                raise
        super().close(handle)

    def _sync_content(self, handle: int) -> None:
        try:
            self.fsync(handle)
        except OSError as error:
            if error.errno != errno.EINVAL or S_ISREG(os.fstat(handle).st_mode):
                raise  # but FIFOs and most devices have nothing to sync

    def abandon(self, handle: int) -> None:
        self._written -= {handle}
        super().abandon(handle)

    def setstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        with self._syncing_attributes(path, 0):
            super().setstat(path, attrs)

    def lsetstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        with self._syncing_attributes(path, os.O_NOFOLLOW):
            super().lsetstat(path, attrs)

    def fsetstat(self, handle: int, attrs: SFTPAttributes) -> None:
        super().fsetstat(handle, attrs)
        if handle not in self._written and handle not in self._uploads:
            self._sync_content(handle)

    @contextlib.contextmanager
    def _syncing_attributes(self, path: bytes, flags: int) -> Iterator[None]:
        """A context in which the attributes of a file or a directory are changed; leaving it syncs them.

        The file is opened before the change, which may take away the permission to open it.
        """
        descriptor = -1
        with contextlib.suppress(OSError):  # the change itself will report errors of the path
            mode = (self.lstat if flags else self.stat)(path).permissions or 0
            if S_ISREG(mode) or S_ISDIR(mode):
                descriptor = self._open_to_sync(path, flags | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            yield
            if descriptor >= 0:
                os.fsync(descriptor)
                self.check_root()
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _open_to_sync(self, path: bytes, flags: int) -> int:
        try:
            return self._open(path, flags | os.O_RDONLY)
        except PermissionError:
            return self._open(path, flags | os.O_WRONLY)

    def mkdir(self, path: bytes, mode: int) -> None:
        with self._syncing(path):
            super().mkdir(path, mode)

    def rmdir(self, path: bytes) -> None:
        with self._syncing(path):
            super().rmdir(path)

    def rm(self, path: bytes) -> None:
        with self._syncing(path):
            super().rm(path)

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        with self._syncing(new), self._syncing(old):
            super().rename(old, new, replace)

    def symlink(self, linkpath: bytes, target: bytes) -> None:
        with self._syncing(linkpath):
            super().symlink(linkpath, target)

    def link(self, old: bytes, new: bytes) -> None:
        with self._syncing(new):
            super().link(old, new)

    @contextlib.contextmanager
    def _syncing(self, path: bytes) -> Iterator[None]:
        """A context in which the entry at path is changed; leaving it syncs the directory.

        The directory is opened before the change, which may be of a component of its path.
        """
        try:
            directory = self._open(parent_of(path), os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            yield  # the change itself will report errors of the path
            sync_directory(self, parent_of(path))
            self.check_root()
            return
        try:
            yield
            try:
                os.fsync(directory)
            except OSError as error:
                if error.errno != errno.EINVAL:  # as in sync_directory()
                    raise
            self.check_root()
        finally:
            os.close(directory)
