"""Reads files into blocks to send: many small files in one block, a large file in many.

Calls of the storage block. What may not enter: sockets, the plan.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from stat import S_ISREG

from pysftpserver.failures import reason_of
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.sksync import wire
from pysftpserver.uploads.files import is_missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.sksync.wire import Dialect

BLOCK = 256 << 10  # bytes that are sent at once


class CannotSend(Exception):
    """A file cannot be read, or is shorter than announced.

    has_begun: whether part of it was sent. is_missing: whether it no longer exists.
    """

    def __init__(self, name: str, why: str, has_begun: bool, is_missing: bool = False) -> None:
        super().__init__(f"{name!r}: {why}")
        self.name = name
        self.why = why
        self.has_begun = has_begun
        self.is_missing = is_missing


@dataclass(eq=False)
class Sender:
    """Reads the contents of files in a directory of a storage.

    top: the directory, with a slash at its end. on_file: called with name and bytes for each file that was
    read to its end.
    """

    storage: SFTPAbstractServerStorage
    top: bytes
    dialect: Dialect
    on_file: Callable[[str, int], None]
    count: int = 0
    size: int = 0

    def uploads(self, names: Iterable[str]) -> Generator[bytes | bytearray, None, None]:
        """What a client sends for the requested names. Raises CannotSend."""
        return self._blocks((name, b"") for name in names)

    def downloads(
        self, files: Iterable[tuple[str, int]], on_skipped: Callable[[str, str, bool], None]
    ) -> Generator[bytes | bytearray, None, None]:
        """What a server sends for files, (name, modification time in seconds).

        on_skipped: called for a file that cannot be read, with its name, the reason, and whether it is
        missing. Raises CannotSend if part of it was sent.
        """
        heads = ((name, self._head(name, mtime)) for name, mtime in files)
        return self._blocks(heads, on_skipped)

    def _head(self, name: str, mtime: int) -> bytes:
        line = self.dialect.encode(name)
        assert line is not None  # only names that can be encoded are listed
        return line + wire.number(mtime * 1000)

    def _blocks(
        self, files: Iterable[tuple[str, bytes]], on_skipped: Callable[[str, str, bool], None] | None = None
    ) -> Generator[bytes | bytearray, None, None]:
        ready = bytearray()
        for name, head in files:
            try:
                for piece in self._file(name, head):
                    is_large = len(piece) >= BLOCK // 2
                    if not is_large:
                        ready += piece
                    if ready and (is_large or len(ready) >= BLOCK):
                        yield ready
                        ready = bytearray()
                    if is_large:  # sent without another copy
                        yield piece
            except CannotSend as error:
                if ready:
                    yield ready
                    ready = bytearray()
                if on_skipped is None or error.has_begun:
                    raise
                on_skipped(name, error.why, error.is_missing)
        if ready:
            yield ready

    def _file(self, name: str, head: bytes) -> Generator[bytes, None, None]:
        """All that is sent for one file."""
        has_begun = False
        try:
            handle = self.storage.open(self.top + name.encode(), os.O_RDONLY | os.O_NOFOLLOW, 0)
            try:
                attrs = self.storage.fstat(handle)
                if attrs.permissions is not None and not S_ISREG(attrs.permissions):
                    raise CannotSend(name, "it is no longer a regular file", has_begun)
                size = attrs.size or 0
                first = self._read(handle, 0, min(size, BLOCK))
                if len(first) < min(size, BLOCK):
                    size = len(first)  # the file has shrunk; its length has not been sent yet
                has_begun = True
                yield head + wire.number(size) + (first if len(first) < BLOCK else b"")
                if len(first) == BLOCK:
                    yield first
                digest = hashlib.md5(first, usedforsecurity=False) if self.dialect.has_digests else None
                done = len(first)
                while done < size:
                    piece = self._read(handle, done, min(size - done, BLOCK))
                    if not piece:
                        raise CannotSend(name, "it became shorter while it was sent", has_begun)
                    if digest is not None:
                        digest.update(piece)
                    done += len(piece)
                    yield piece
                if digest is not None:
                    yield wire.digest(digest.hexdigest())
            finally:
                self.storage.close(handle)
        except (OSError, SFTPException) as error:
            raise CannotSend(name, reason_of(error), has_begun, is_missing(error)) from error
        self.count += 1
        self.size += size
        self.on_file(name, size)

    def _read(self, handle: Any, offset: int, size: int) -> bytes:
        """Read this many bytes, or fewer at the end of the file."""
        found = bytes(self.storage.read(handle, offset, size))
        while 0 < len(found) < size:
            more = self.storage.read(handle, offset + len(found), size - len(found))
            if not more:
                break
            found += bytes(more)
        return found
