"""The storage on fsspec keeps the storage contract on file systems of three kinds."""

from __future__ import annotations

import contextlib
import os
import tempfile
import unittest
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

from fsspec.implementations.memory import MemoryFileSystem

from pysftpserver.fsspecstorage import SFTPServerFsspecStorage
from pysftpserver.testing import StorageContract
from tests.storages.test_contract_storages import UntilItIsClosed
from tests.support.hard import MANY
from tests.support.starving import starved

LACKS = "symlink readlink link statvfs fstatvfs fsync owner permissions times"


class Gone:
    """A file system that has lost its connection."""

    def __getattr__(self, name: str) -> Any:
        raise ConnectionResetError("gone")


class InMemory(UntilItIsClosed, unittest.TestCase):
    many = MANY
    unsupported = frozenset(LACKS.split())

    def make_storage(self) -> SFTPServerFsspecStorage:
        self.addCleanup(MemoryFileSystem.store.clear)
        self.addCleanup(MemoryFileSystem.pseudo_dirs.__setitem__, slice(None), [""])
        return SFTPServerFsspecStorage("memory://users/alice", setstat="refuse")

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        with mock.patch.object(self.storage, "_fs", Gone()):
            yield

    def test_handle_of_a_renamed_file(self) -> None:
        # fsspec has no rename here: a copy is made, and the handle keeps what it has.
        self.put(self.path(b"old"), b"content")
        handle = self.opened(self.path(b"old"), os.O_RDWR)
        self.storage.rename(self.path(b"old"), self.path(b"new"))
        self.storage.write(handle, 0, b"C")
        self.assertEqual(self.content(self.path(b"new")), b"content")


class InADirectory(UntilItIsClosed, unittest.TestCase):
    many = MANY
    unsupported = frozenset(LACKS.split())

    def make_storage(self) -> SFTPServerFsspecStorage:
        directory = self.enterContext(tempfile.TemporaryDirectory())
        return SFTPServerFsspecStorage(f"file://{directory}", setstat="refuse")

    def failing(self) -> AbstractContextManager[None]:
        return starved()


class InAZip(StorageContract, unittest.TestCase):
    unsupported = frozenset(f"{LACKS} setstat lsetstat fsetstat mkdir rmdir write rm rename".split())
    unencodable = frozenset({b"\xff\xfe\x80"})

    def make_storage(self) -> SFTPServerFsspecStorage:
        self.archive = Path(self.enterContext(tempfile.TemporaryDirectory())) / "a.zip"
        self.files: dict[str, bytes] = {}
        return self.opened_archive()

    def opened_archive(self) -> SFTPServerFsspecStorage:
        with zipfile.ZipFile(self.archive, "w") as archive:
            for name, content in self.files.items():
                archive.writestr(name, content)
        return SFTPServerFsspecStorage(f"zip://{self.archive}")

    def put(self, path: bytes, content: bytes) -> None:
        storage = self.storage
        self.files[path.decode().lstrip("/")] = content
        storage._fs = self.opened_archive()._fs
