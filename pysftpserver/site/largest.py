"""The layer that keeps files from growing beyond a size.

What may not enter: limits on all files together (quota.py).
"""

from __future__ import annotations

import os

from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.site.layer import Layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pysftpserver.abstractstorage import Promise, SFTPAbstractServerStorage
    from pysftpserver.attributes import SFTPAttributes


class LargestLayer(Layer):
    """A storage whose files may not be larger than `largest` bytes."""

    fileno = Layer.fileno  # writes still go through write() or check_write()

    def __init__(self, below: SFTPAbstractServerStorage, largest: int) -> None:
        super().__init__(below)
        self._largest = largest
        self._appending: dict[int, Any] = {}  # handles that ignore offsets, by their ids

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        handle = self.below.open(path, flags, mode)
        if flags & os.O_APPEND:
            self._appending[id(handle)] = handle
        return handle

    def write(self, handle: Any, off: int, chunk: bytes | memoryview) -> None:
        if off + len(chunk) > self._largest or self._appending:
            self.check_write(handle, off, len(chunk))
        return self.below.write(handle, off, chunk)  # with the number of bytes, if there is one

    def check_write(self, handle: Any, off: int, size: int) -> None:
        if self._appending.get(id(handle)) is handle:
            off = self.below.fstat(handle).size or 0
        if size and off + size > self._largest:
            self.below.spoil(handle)
            raise self._too_large()
        self.below.check_write(handle, off, size)

    def promise_write(self, handle: Any, off: int, chunk: bytes | memoryview) -> Promise | None:
        self.check_write(handle, off, len(chunk))
        return super().promise_write(handle, off, chunk)

    def setstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        self._check_size(attrs)
        self.below.setstat(path, attrs)

    def fsetstat(self, handle: Any, attrs: SFTPAttributes) -> None:
        self._check_size(attrs)
        self.below.fsetstat(handle, attrs)

    def close(self, handle: Any) -> None:
        self._appending.pop(id(handle), None)
        self.below.close(handle)

    def abandon(self, handle: Any) -> None:
        self._appending.pop(id(handle), None)
        self.below.abandon(handle)

    def _check_size(self, attrs: SFTPAttributes) -> None:
        if (attrs.size or 0) > self._largest:
            raise self._too_large()

    def _too_large(self) -> SFTPFailure:
        return SFTPFailure(f"Files may not be larger than {self._largest} bytes here")
