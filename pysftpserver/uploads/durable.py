"""Durable storages: what a client was told is done survives a crash of the machine.

DurableStorage goes in front of a storage of real files, and syncs before its methods return: content when a
file is closed, names when they are made, changed or removed. What may not enter: sessions, wire formats, how
a path is resolved. Facts: fsync(2), rename(2), ext4(5).
"""

from __future__ import annotations

import os

from pysftpserver.storage import SFTPServerStorage
from pysftpserver.uploads.files import sync_directory

WRITABLE = os.O_WRONLY | os.O_RDWR


class DurableStorage(SFTPServerStorage):
    """A mixin that goes in front of a storage of real files, and of AtomicUploads."""

    _written: set[int] | frozenset[int] = (
        frozenset()
    )  # descriptors; every storage has its own from the first on

    def open(self, path: bytes, flags: int, mode: int) -> int:
        is_new = flags & os.O_CREAT and not self._is_there(path)
        handle = super().open(path, flags, mode)
        if flags & WRITABLE:
            self._written |= {handle}
        if is_new and self._is_there(
            path
        ):  # an atomic upload is not there yet, and syncs its directory itself
            self._sync_parent(self.realpath(path))
        return handle

    def _is_there(self, path: bytes) -> bool:
        try:
            self.stat(path)
        except OSError:
            return False
        return True

    def close(self, handle: int) -> None:
        try:
            if handle in self._written:
                self._written -= {handle}
                self.fsync(handle)
        finally:
            super().close(handle)

    def abandon(self, handle: int) -> None:
        self._written -= {handle}
        super().abandon(handle)

    def mkdir(self, path: bytes, mode: int) -> None:
        super().mkdir(path, mode)
        self._sync_parent(path)

    def rmdir(self, path: bytes) -> None:
        super().rmdir(path)
        self._sync_parent(path)

    def rm(self, path: bytes) -> None:
        super().rm(path)
        self._sync_parent(path)

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        super().rename(old, new, replace)
        self._sync_parent(new)
        self._sync_parent(old)

    def symlink(self, linkpath: bytes, target: bytes) -> None:
        super().symlink(linkpath, target)
        self._sync_parent(linkpath)

    def link(self, old: bytes, new: bytes) -> None:
        super().link(old, new)
        self._sync_parent(new)

    def _sync_parent(self, path: bytes) -> None:
        parent = path.rstrip(b"/").rpartition(b"/")[0]
        sync_directory(self, parent or b"/")
        self.check_root()
