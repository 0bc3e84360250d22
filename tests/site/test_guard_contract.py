"""Rules that are about something else change nothing: the contract over storages that have such rules."""

from __future__ import annotations

import os
import tempfile
import unittest

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.mountedstorage import SFTPServerMountedStorage
from pysftpserver.site import file, opening
from pysftpserver.site.guard import RulesLayer
from pysftpserver.site.who import Who
from pysftpserver.storage import SFTPServerStorage
from pysftpserver.testing import StorageContract
from pysftpserver.uploads.atomic import SFTPAtomicVirtualChroot
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.storages.test_contract_storages import UntilItIsClosed
from tests.support.hard import IS_HARD, MANY
from tests.support.memory import SFTPServerMemoryStorage

ELSEWHERE = """
hidden = "/not/here/**"
[[rule]]
path = "/elsewhere/**"
deny = "all"
[[rule]]
users = "somebody else"
deny = "all"
"""


def under(storage: SFTPAbstractServerStorage, text: str, who: Who | None = None) -> SFTPAbstractServerStorage:
    """A storage behind the layers of a site."""
    return opening.layered(storage, file.parse(text, "s.toml"), who or Who("al"))


class Guarded(StorageContract):
    many = MANY if IS_HARD else 30

    def directory(self) -> str:
        return self.enterContext(tempfile.TemporaryDirectory())

    def make_storage(self) -> SFTPAbstractServerStorage:
        storage = under(self.unguarded(), ELSEWHERE)
        self.assertIsInstance(storage, RulesLayer)
        return storage

    def unguarded(self) -> SFTPAbstractServerStorage:
        raise NotImplementedError


class GuardedJail(Guarded, unittest.TestCase):
    def unguarded(self) -> SFTPAbstractServerStorage:
        return SFTPServerVirtualChroot(self.directory(), use_openat2=True)


class GuardedMemory(Guarded, unittest.TestCase):
    """It cannot refuse links, and is asked for real paths first."""

    def unguarded(self) -> SFTPAbstractServerStorage:
        return SFTPServerMemoryStorage()


if IS_HARD:

    class GuardedPlain(Guarded, unittest.TestCase):
        def unguarded(self) -> SFTPAbstractServerStorage:
            return SFTPServerStorage(self.directory())

    class GuardedJailWithTheWalk(Guarded, unittest.TestCase):
        def unguarded(self) -> SFTPAbstractServerStorage:
            directory = self.directory()
            os.mkdir(directory + "/home")
            return SFTPServerVirtualChroot(directory, 0o027, home=b"/home", use_openat2=False)

    class GuardedAtomicJail(Guarded, UntilItIsClosed, unittest.TestCase):
        def unguarded(self) -> SFTPAbstractServerStorage:
            return SFTPAtomicVirtualChroot(self.directory())

    class GuardedMounts(Guarded, unittest.TestCase):
        def test_link_text(self) -> None:
            """Not one that would lead out of its mount: tests/mounted/test_contract.py."""

        def unguarded(self) -> SFTPAbstractServerStorage:
            mounts = {
                b"/m": lambda: SFTPServerVirtualChroot(self.directory()),
                b"/n": SFTPServerMemoryStorage(),
            }
            return SFTPServerMountedStorage(SFTPServerVirtualChroot(self.directory()), mounts, home=b"/m")

    class GuardedMountInMemory(Guarded, unittest.TestCase):
        def test_link_text(self) -> None:
            """Not one that would lead out of its mount: tests/mounted/test_contract.py."""

        def unguarded(self) -> SFTPAbstractServerStorage:
            jail = SFTPServerVirtualChroot(self.directory())
            return SFTPServerMountedStorage(jail, {b"/m/n": SFTPServerMemoryStorage()}, home=b"/m/n")
