"""A tree of storages keeps the storage contract: at its top, and below a mount point."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import unittest
from collections.abc import Iterator
from contextlib import AbstractContextManager
from unittest import mock

from pysftpserver.mountedstorage import Mount, SFTPServerMountedStorage
from pysftpserver.testing import StorageContract
from pysftpserver.uploads.atomic import SFTPAtomicVirtualChroot
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.storages.test_contract_storages import UntilItIsClosed
from tests.support.hard import IS_HARD, MANY
from tests.support.starving import starved


class OfJails(StorageContract):
    many = MANY
    use_openat2 = True

    def jail(self) -> SFTPServerVirtualChroot:
        directory = self.enterContext(tempfile.TemporaryDirectory())
        return SFTPServerVirtualChroot(directory, use_openat2=self.use_openat2)

    def failing(self) -> AbstractContextManager[None]:
        return starved()


class AtTheTop(OfJails, unittest.TestCase):
    """Mount points below make the tree resolve the links of the top."""

    def make_storage(self) -> SFTPServerMountedStorage:
        return SFTPServerMountedStorage(self.jail(), {b"/mnt": self.jail(), b"/way/to/mnt": self.jail()})


class BelowAMountPoint(OfJails, unittest.TestCase):
    def make_storage(self) -> SFTPServerMountedStorage:
        jail = self.jail()
        mounts = {b"/mnt": Mount(lambda: jail)}
        return SFTPServerMountedStorage(self.jail(), mounts, home=b"/mnt", pause=0)

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        gone = ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        with mock.patch("pysftpserver.virtualchroot.openat2", side_effect=gone):
            yield

    def test_link_text(self) -> None:
        # An absolute one begins with the mount point: nothing else can be where it leads.
        for number, text in enumerate((b"f", b"/mnt/path", b"/mnt", b"../..//up/./", b"missing \xff\n'\"")):
            path = self.path(b"link-%d" % number)
            self.storage.symlink(path, text)
            self.assertEqual(self.storage.readlink(path), text.removesuffix(b"/mnt") or b"/mnt/")


if IS_HARD:

    class AtTheTopWithTheWalk(AtTheTop):
        use_openat2 = False

    class BetweenMountPoints(BelowAMountPoint):
        def make_storage(self) -> SFTPServerMountedStorage:
            mounts = {b"/mnt": self.jail(), b"/mnt/way/mnt": self.jail()}
            return SFTPServerMountedStorage(self.jail(), mounts, home=b"/mnt", pause=0)

    class AtomicBelowAMountPoint(UntilItIsClosed, BelowAMountPoint):
        def jail(self) -> SFTPServerVirtualChroot:
            directory = self.enterContext(tempfile.TemporaryDirectory())
            return SFTPAtomicVirtualChroot(directory)

    class AtomicBetweenMountPoints(AtomicBelowAMountPoint, BetweenMountPoints):
        pass
