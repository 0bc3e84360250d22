"""Files that arrive through pages: under a hidden name first, then under a free name or one to be replaced.

What may not enter: HTTP, concrete storages, who sends the file.
"""

from __future__ import annotations

import os
import posixpath

from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.uploads import temporary
from pysftpserver.uploads.files import FOR_OWNER, NEW, StoredFile, attributes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.attributes import SFTPAttributes

LONGEST_NAME = 255  # bytes
MOST_TRIED = 1000  # names, until one is free


class Incoming(StoredFile):
    """A file that is received. If its name is taken, it replaces that file or gets another name, as asked.

    path: its path, once it has one, or the one that it will get.
    """

    def __init__(
        self,
        storage: SFTPAbstractServerStorage,
        handle: Any,
        temporary_path: bytes,
        path: bytes,
        replaced: SFTPAttributes | None,
        replaces: bool,
    ) -> None:
        super().__init__(storage, handle, temporary_path, path, replaced if replaces else None)
        self._replaces = replaces

    @property
    def path(self) -> bytes:
        return self._path

    def rename(self) -> None:
        if self._replaces:
            super().rename()
            return
        self._storage.check_root()
        for path in free_names(self._path):
            try:
                self._storage.rename(self._temporary, path)
            except (OSError, SFTPException):
                if attributes(self._storage.lstat, path) is None:  # something else is wrong
                    raise
                continue
            self._path = path
            self._is_there = False
            return
        raise FileExistsError

    def pause(self) -> bytes:
        """Close it, to be opened again; return its hidden path."""
        self._is_open = False
        self._storage.close(self._handle)
        return self._temporary


def free_names(path: bytes) -> Iterator[bytes]:
    """A path, and others like it: "name (2).txt" and so on."""
    yield path
    directory, name = posixpath.split(path)
    stem, dot, ending = name.rpartition(b".")
    if not stem or len(ending) > 20:
        stem, dot, ending = name, b"", b""
    for number in range(2, MOST_TRIED):
        after = b" (%d)" % number + dot + ending
        yield posixpath.join(directory, stem[: LONGEST_NAME - len(after)] + after)


def receive(storage: SFTPAbstractServerStorage, path: bytes, replaces: bool, hidden: bytes = b"") -> Incoming:
    """Begin to receive a file. hidden: its hidden name; b"": a new one. Raises the storage's exceptions."""
    replaced = attributes(storage.stat, path) if replaces else None
    hidden = posixpath.join(posixpath.dirname(path), hidden or temporary.new_name())
    handle = storage.open(
        hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FOR_OWNER if replaced is not None else NEW
    )
    return Incoming(storage, handle, hidden, path, replaced, replaces)


def receive_more(storage: SFTPAbstractServerStorage, path: bytes, replaces: bool, hidden: bytes) -> Incoming:
    """Go on with a file that was begun. hidden: its hidden name. Raises the storage's exceptions."""
    replaced = attributes(storage.stat, path) if replaces else None
    hidden = posixpath.join(posixpath.dirname(path), hidden)
    handle = storage.open(hidden, os.O_WRONLY, 0)
    try:
        size = storage.fstat(handle).size or 0
    except BaseException:
        storage.abandon(handle)
        raise
    incoming = Incoming(storage, handle, hidden, path, replaced, replaces)
    incoming.size = size
    return incoming
