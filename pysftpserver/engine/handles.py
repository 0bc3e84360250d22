"""The open files and directories of one session, and the handles by which a client names them.

What may not enter: packets; the use of an open file.
"""

from __future__ import annotations

import os

from pysftpserver.abstractstorage import moves_by_descriptor, moves_by_promise
from pysftpserver.engine.log import INFO
from pysftpserver.failures import show
from pysftpserver.pysftpexceptions import SFTPFailure, SFTPLimitReached, SFTPUnsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.attributes import SFTPAttributes
    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.engine.receipts import Digest

    class Share(Protocol):
        """A user's open handles in all sessions. check() raises SFTPLimitReached if no more are allowed."""

        def check(self) -> None: ...
        def add(self, change: int) -> None: ...


class FileHandle:
    """An open file: the storage's own object, and the bytes that were moved through it.

    fetched, stored: their digests, if a hook wants them: for a file that is only read, and for any other.
    """

    __slots__ = tuple(
        "bytes_read bytes_written descriptor fetched flags object path stored takes_views".split()
    )

    def __init__(self, path: bytes, flags: int, opened: Any) -> None:
        self.path = path
        self.flags = flags
        self.object = opened
        self.descriptor: int | None = None  # set only if reading it means the same as storage.read()
        self.takes_views = False
        self.bytes_read = 0
        self.bytes_written = 0
        self.fetched: Digest | None = None
        self.stored: Digest | None = None


class DirectoryHandle:
    """An open directory: the storage's listing, and an encoded entry that did not fit the last reply."""

    __slots__ = ("entries", "is_broken", "listing", "path", "waiting")

    def __init__(self, path: bytes, listing: Iterable[tuple[bytes, SFTPAttributes]]) -> None:
        self.path = path
        self.listing = listing
        self.entries = iter(listing)
        self.waiting: bytes | None = None
        self.is_broken = False  # whether the storage has failed in the middle of the listing


class HandleTable:
    """The open handles of a session. limit: maximum number of open handles. share: counts them as well.

    moved: files that the client has closed, by whether they were open for writing, and bytes of all content.
    """

    def __init__(self, storage: SFTPAbstractServerStorage, log: SFTPLog, limit: int) -> None:
        self.limit = limit
        self.share: Share | None = None
        self.new_digest: Callable[[], Digest] | None = None
        self._storage = storage
        self._log = log
        self._reads_descriptors = moves_by_descriptor(storage, "read")
        self._writes_views = moves_by_descriptor(storage, "write")
        #: Whether promise_read() and promise_write() may be used in place of read() and write().
        self.promises_reads = moves_by_promise(storage, "read")
        self.promises_writes = moves_by_promise(storage, "write")
        self.opened: dict[bytes, FileHandle | DirectoryHandle] = {}
        self.moved = {"stored": 0, "fetched": 0, "written": 0, "read": 0}
        self._last = 0

    def check_room(self) -> None:
        """Raises SFTPLimitReached if no more handles may be opened."""
        if len(self.opened) >= self.limit:
            raise SFTPLimitReached(f"{self.limit} open handles; close some of them first")
        if self.share is not None:
            self.share.check()

    def add_file(self, path: bytes, flags: int, opened: Any) -> bytes:
        """Add a file that the storage opened; return its handle. flags: the os.O_* it was opened with."""
        return self._add(self.opened_file(path, flags, opened))

    def opened_file(self, path: bytes, flags: int, opened: Any) -> FileHandle:
        """A file that the storage opened, without a handle for the client: close_file() has to be called."""
        handle = FileHandle(path, flags, opened)
        if self.new_digest is not None:
            if flags & (os.O_WRONLY | os.O_RDWR):
                handle.stored = self.new_digest()
            else:
                handle.fetched = self.new_digest()
        try:
            descriptor = self._storage.fileno(opened)
        except BaseException:
            self._storage.abandon(opened)
            raise
        if descriptor is not None:
            handle.takes_views = self._writes_views
            if self._reads_descriptors and not flags & os.O_WRONLY:
                handle.descriptor = descriptor
        return handle

    def add_directory(self, path: bytes, listing: Iterable[tuple[bytes, SFTPAttributes]]) -> bytes:
        """Add a listing that the storage opened; return its handle."""
        try:
            handle = DirectoryHandle(path, listing)
        except BaseException:
            _close_listing(listing)
            raise
        return self._add(handle)

    def number_from_anywhere(self) -> None:
        """Start at a random handle, to avoid those of an earlier process of this session."""
        self._last = int.from_bytes(os.urandom(4), "big")

    def _add(self, handle: FileHandle | DirectoryHandle) -> bytes:
        # Numbers are not reused, so that a client that mixes up its handles gets an error.
        self._last = (self._last + 1) & 0xFFFFFFFF
        name = self._last.to_bytes(4, "big")
        self.opened[name] = handle
        if self.share is not None:
            self.share.add(1)
        return name

    def file(self, name: bytes) -> FileHandle:
        """The open file with that handle. Raises SFTPFailure if there is none."""
        handle = self.opened.get(name)
        if type(handle) is not FileHandle:
            raise SFTPFailure("Not the handle of an open file")
        return handle

    def directory(self, name: bytes) -> DirectoryHandle:
        """The open directory with that handle. Raises SFTPFailure if there is none."""
        handle = self.opened.get(name)
        if type(handle) is not DirectoryHandle:
            raise SFTPFailure("Not the handle of an open directory")
        return handle

    def path_of(self, name: bytes) -> bytes | None:
        """The path that a handle was opened with, as the client sent it; None when it is not open."""
        handle = self.opened.get(name)
        return handle.path if handle is not None else None

    def bytes_read(self, name: bytes) -> int:
        """Bytes read through a handle or copied from it; 0 if it is not the handle of an open file."""
        handle = self.opened.get(name)
        return handle.bytes_read if type(handle) is FileHandle else 0

    def close(self, name: bytes) -> None:
        """Close and forget a handle. Raises SFTPFailure when it is not open, or what closing raised."""
        handle = self.opened.pop(name, None)
        if handle is None:
            raise SFTPFailure("Not an open handle")
        try:
            self._close(handle, "", self._storage.close)
            if type(handle) is FileHandle:
                self.moved["stored" if handle.flags & (os.O_WRONLY | os.O_RDWR) else "fetched"] += 1
        finally:
            if self.share is not None:
                self.share.add(-1)

    def close_file(self, file: FileHandle) -> None:
        """Close a file that opened_file() has returned."""
        try:
            self._storage.close(file.object)
        except SFTPUnsupported:
            pass  # a storage without close() has nothing to close

    def spoil(self, name: bytes) -> None:
        """Tell the storage that content meant for an open file was refused or lost. Raises nothing."""
        handle = self.opened.get(name)
        if type(handle) is FileHandle:
            if handle.stored is not None:
                handle.stored.spoil()
            try:
                self._storage.spoil(handle.object)
            except BaseException as error:
                self._log.fault(error)

    def spoil_digests(self) -> None:
        """Spoil the digests of stored content: a file's size was changed, perhaps that of an open one."""
        if self.new_digest is not None:
            for handle in self.opened.values():
                if type(handle) is FileHandle and handle.stored is not None:
                    handle.stored.spoil()

    def _close(
        self, handle: FileHandle | DirectoryHandle, manner: str, close_file: Callable[[Any], None]
    ) -> None:
        if isinstance(handle, DirectoryHandle):
            self._log.info(f'{manner}closedir "{show(handle.path)}"')
            _close_listing(handle.listing)
        else:
            if self._log.level >= INFO:
                counts = f"bytes read {handle.bytes_read} written {handle.bytes_written}"
                self._log.info(f'{manner}close "{show(handle.path)}" {counts}')
            self.moved["read"] += handle.bytes_read
            self.moved["written"] += handle.bytes_written
            close_file(handle.object)

    def close_all(self) -> None:
        """Close every handle that the client left open; an error is logged and does not stop the rest."""
        for name in list(self.opened):
            handle = self.opened.pop(name)
            try:
                self._close(handle, "forced ", self._storage.abandon)
            except SFTPUnsupported:
                pass  # a storage without close() has nothing to close
            except BaseException as error:
                self._log.fault(error)
            finally:
                if self.share is not None:
                    self.share.add(-1)


def _close_listing(listing: Any) -> None:
    close = getattr(listing, "close", None)
    if close is not None:
        close()
