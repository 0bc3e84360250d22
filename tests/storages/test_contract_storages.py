"""The package's own storages keep the storage contract, each of them the whole of it."""

from __future__ import annotations

import os
import tempfile
import unittest
from contextlib import AbstractContextManager
from typing import Any

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.storage import SFTPServerStorage
from pysftpserver.testing import StorageContract
from pysftpserver.uploads.atomic import SFTPAtomicStorage, SFTPAtomicVirtualChroot
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support.hard import MANY
from tests.support.starving import starved


class InADirectory(StorageContract):
    many = MANY

    def directory(self) -> str:
        return self.enterContext(tempfile.TemporaryDirectory())

    def failing(self) -> AbstractContextManager[None]:
        return starved()


class PlainStorage(InADirectory, unittest.TestCase):
    def make_storage(self) -> SFTPAbstractServerStorage:
        return SFTPServerStorage(self.directory())


class JailWithOpenat2(InADirectory, unittest.TestCase):
    def make_storage(self) -> SFTPAbstractServerStorage:
        return SFTPServerVirtualChroot(self.directory(), use_openat2=True)


class JailWithTheWalk(InADirectory, unittest.TestCase):
    def make_storage(self) -> SFTPAbstractServerStorage:
        return SFTPServerVirtualChroot(self.directory(), use_openat2=False)


class JailWithAHomeAndAUmask(InADirectory, unittest.TestCase):
    def make_storage(self) -> SFTPAbstractServerStorage:
        directory = self.directory()
        os.mkdir(directory + "/home")
        return SFTPServerVirtualChroot(directory, 0o027, home=b"/home")


class UntilItIsClosed(InADirectory):
    """The contract for uploads that appear whole, whose content has no name before they are closed.

    Rules that look at a file by its path while it is written are put to one that is there already, and is
    written in place. One rule says itself when content appears, and here it says something else.
    """

    def opened(self, path: bytes, flags: int, mode: int = 0o666) -> Any:
        if flags & os.O_CREAT and not self.exists(path):
            self.put(path, b"")
        return super().opened(path, flags, mode)


class AtomicStorage(UntilItIsClosed, unittest.TestCase):
    def make_storage(self) -> SFTPAbstractServerStorage:
        return SFTPAtomicStorage(self.directory())


class AtomicJailWithOpenat2(UntilItIsClosed, unittest.TestCase):
    def make_storage(self) -> SFTPAbstractServerStorage:
        return SFTPAtomicVirtualChroot(self.directory(), use_openat2=True)


class AtomicJailWithTheWalk(UntilItIsClosed, unittest.TestCase):
    def make_storage(self) -> SFTPAbstractServerStorage:
        return SFTPAtomicVirtualChroot(self.directory(), 0o027, use_openat2=False)
