"""Reads, stores and lists whole files and directories of a storage, for get, put and lst.

Storage calls block. What may not enter: tokens, HTTP, concrete storages.
"""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import sys
from stat import S_ISDIR, S_ISREG

from pysftpserver.abstractstorage import SFTPAbstractServerStorage, moves_by_descriptor
from pysftpserver.attributes import LongnameFormatter
from pysftpserver.failures import reason_of
from pysftpserver.pysftpexceptions import (
    SFTPEndOfFile,
    SFTPException,
    SFTPForbidden,
    SFTPNotFound,
    SFTPUnsupported,
)
from pysftpserver.service.audit import result_of
from pysftpserver.uploads.files import attributes, open_temporary
from pysftpserver.uploads.leftovers import remove_leftovers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pysftpserver.attributes import SFTPAttributes
    from pysftpserver.uploads.files import StoredFile

#: Texts for errors of a storage that have none.
_MEANINGS = (
    (SFTPUnsupported, "the storage does not do that"),
    (SFTPNotFound, "no such file or directory"),
    (SFTPForbidden, "permission denied"),
)


class FileProblem(Exception):
    """A file that cannot be read or stored; the text says why, without revealing anything about the host.

    result: the word for it in the audit log. errno: the system's, or 0. path: the file in question, if a
    request is about several.
    """

    def __init__(self, text: str, result: str = "FAILURE", errno: int = 0, path: bytes = b"") -> None:
        super().__init__(text)
        self.result, self.errno, self.path = result, errno, path


def problem(error: Exception) -> FileProblem:
    """A storage's exception, in words that reveal nothing about the host."""
    text = reason_of(error)
    if not isinstance(error, OSError) and not str(error):
        text = next((words for kind, words in _MEANINGS if isinstance(error, kind)), text)
    return FileProblem(text, result_of(error), (error.errno or 0) if isinstance(error, OSError) else 0)


@contextlib.contextmanager
def as_problems() -> Iterator[None]:
    """Turn a storage's exceptions in the block into FileProblem."""
    try:
        yield
    except (OSError, SFTPException) as error:
        raise problem(error) from None


def path_of(storage: SFTPAbstractServerStorage, name: bytes) -> bytes:
    """The path in the storage that a client's name means. Raises FileProblem."""
    if not name or b"\0" in name:
        raise FileProblem("the name is empty or has a NUL byte in it", "BAD_MESSAGE")
    if storage.home is None or name.startswith(b"/"):
        return name
    return posixpath.join(storage.home, name)


class Source:
    """A file to be read. size: None if the storage does not say. descriptor: of the host's file, from which
    it may be read as well, or None. Raises FileProblem.
    """

    def __init__(self, storage: SFTPAbstractServerStorage, name: bytes) -> None:
        self._storage = storage
        path = path_of(storage, name)
        with as_problems():
            _check_is_file(_attributes(storage, path))
            self._handle: Any = storage.open(path, os.O_RDONLY, 0)
        self.size = self._size()
        self.moved = 0
        self._is_open = True
        by_descriptor = moves_by_descriptor(storage, "read")
        self.descriptor: int | None = storage.fileno(self._handle) if by_descriptor else None

    def attributes(self) -> SFTPAttributes:
        """Its attributes. Raises FileProblem."""
        with as_problems():
            return self._storage.fstat(self._handle)

    def _size(self) -> int | None:
        try:
            return self._storage.fstat(self._handle).size
        except (OSError, SFTPException):
            return None

    def pieces(self, size: int, start: int = 0, stop: int = sys.maxsize) -> Iterator[bytes]:
        """The bytes from one offset up to another, by default all. size: bytes in a piece.

        Raises FileProblem.
        """
        with as_problems(), contextlib.suppress(SFTPEndOfFile):
            while start < stop and (
                piece := self._storage.read(self._handle, start, min(size, stop - start))
            ):
                start += len(piece)
                self.moved += len(piece)
                yield bytes(piece)

    def read_at(self, offset: int, size: int) -> bytes:
        """Up to size bytes from an offset on; none at the end. Raises FileProblem."""
        with as_problems():
            try:
                return bytes(self._storage.read(self._handle, offset, size))
            except SFTPEndOfFile:
                return b""

    def close(self) -> None:
        """Close the file, once: by a second call, its descriptor may belong to another file."""
        if not self._is_open:
            return
        self._is_open = False
        with contextlib.suppress(OSError, SFTPException):  # all that was asked for has been read
            self._storage.close(self._handle)


class Target:
    """A file to be stored, under a temporary name until it is complete. Raises FileProblem.

    sweeps: whether to look for temporary files of interrupted uploads, which reads the directory. leftovers:
    number of them that were removed.
    """

    def __init__(self, storage: SFTPAbstractServerStorage, name: bytes, sweeps: bool = True) -> None:
        path = path_of(storage, name)
        self.moved = 0
        if type(storage).rename is SFTPAbstractServerStorage.rename:
            # A temporary file could not be renamed into place, nor perhaps be removed.
            raise problem(SFTPUnsupported())
        with as_problems():
            # The target of a link is replaced, not the link.
            path = storage.realpath(path)
            replaced = _attributes(storage, path)
            _check_is_file(replaced)
            self.leftovers = remove_leftovers(storage, posixpath.dirname(path) or b"/") if sweeps else 0
            self._incoming: StoredFile = open_temporary(storage, path, replaced)
        #: Whether write() takes views that are valid during the call only.
        self.takes_views = self._incoming.descriptor() is not None

    def set_time(self, mtime: int) -> None:
        """Set the modification time, in seconds since the epoch, if the storage supports it."""
        with contextlib.suppress(OSError, SFTPException):
            self._incoming.set_time(mtime)

    def copy(self, source: Source, step: int) -> None:
        """Append all of another file of the same storage, inside the storage if it can do that.

        step: bytes at once. Raises FileProblem.
        """
        with as_problems():
            while count := self._incoming.copy_from(source._handle, self.moved, step):
                self.moved += count
        while piece := source.read_at(self.moved, step):
            self.write(piece)

    def write(self, piece: bytes | memoryview) -> None:
        """Append a piece. Raises FileProblem."""
        with as_problems():
            self._incoming.write(memoryview(piece))
        self.moved += len(piece)

    def finish(self, check: Callable[[], None] | None = None) -> None:
        """Put the complete file in its place. check: called just before; an exception from it prevents that.

        Raises FileProblem.
        """
        self._incoming.check = check
        with as_problems():
            self._incoming.commit()

    def give_up(self) -> None:
        """Remove the file, which stays incomplete."""
        self._incoming.discard()


class Listing:
    """The names in a directory. count: number of names sent. Raises FileProblem."""

    def __init__(self, storage: SFTPAbstractServerStorage, name: bytes) -> None:
        self.count = 0
        self._is_stopped = False
        self._formatter = LongnameFormatter(storage.username, storage.groupname)
        with as_problems():
            self._entries = storage.opendir(path_of(storage, name))

    def pieces(self, size: int) -> Iterator[bytes]:
        """Lines of JSON, about size bytes at a time: [name, mode, size, mtime, line of `ls -l`].

        Raises FileProblem.
        """
        lines: list[str] = []
        length = 0
        with as_problems():
            for name, attrs in self._entries:
                if name in (b".", b".."):
                    continue
                if self._is_stopped:
                    raise FileProblem("the session has ended")
                line = self._line(name, attrs)
                lines.append(line)
                length += len(line)
                self.count += 1
                if length >= size:
                    yield "".join(lines).encode()
                    lines.clear()
                    length = 0
        yield "".join(lines).encode()

    def _line(self, name: bytes, attrs: SFTPAttributes) -> str:
        shown = self._formatter.longname(name, attrs).decode("utf-8", "surrogateescape")
        text = name.decode("utf-8", "surrogateescape")
        return json.dumps([text, attrs.permissions, attrs.size, attrs.mtime, shown]) + "\n"

    def stop(self) -> None:
        """End the listing early."""
        self._is_stopped = True

    def close(self) -> None:
        """Close the directory."""
        close = getattr(self._entries, "close", None)
        if close is not None:
            close()


def _attributes(storage: SFTPAbstractServerStorage, path: bytes) -> SFTPAttributes | None:
    """The attributes; None for a missing file, or from a storage that has no attributes."""
    try:
        return attributes(storage.stat, path)
    except SFTPUnsupported:
        return None


def _check_is_file(attrs: SFTPAttributes | None) -> None:
    if attrs is not None and attrs.permissions is not None and not S_ISREG(attrs.permissions):
        raise FileProblem("is a directory" if S_ISDIR(attrs.permissions) else "not a regular file")
