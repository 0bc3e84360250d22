"""The package's own storages keep the storage contract, each of them the whole of it."""

from __future__ import annotations

import os
import tempfile
import unittest

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.storage import SFTPServerStorage
from pysftpserver.testing import StorageContract
from pysftpserver.virtualchroot import SFTPServerVirtualChroot


class InADirectory(StorageContract):
    def directory(self) -> str:
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        return holder.name


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
