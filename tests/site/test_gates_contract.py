"""Gates that let all in change nothing but what they have to: the contract over storages behind them."""

from __future__ import annotations

import unittest

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.mountedstorage import SFTPServerMountedStorage
from pysftpserver.site.layer import Layer
from pysftpserver.site.staging import GatesLayer
from pysftpserver.storage import SFTPServerStorage
from pysftpserver.uploads.atomic import SFTPAtomicVirtualChroot
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.site.test_guard_contract import Guarded, under
from tests.support.hard import IS_HARD
from tests.support.memory import SFTPServerMemoryStorage

ACCEPTS = '[[gate]]\nlimit = { size = "1 TiB" }\nquarantine = "/not/here"\n'
NOT_HERE = '[[gate]]\npath = "/not/here/**"\nlimit = { size = 0 }\n'


class Gated(Guarded):
    """Nothing that is visible is ever written to, so what a rule looks at by its path is closed before."""

    text = ACCEPTS

    # Rules that look at a file by its path, or by another handle, while it is written; and links.
    test_chunks_of_several_mebibytes_are_stored_whole = None
    test_fsetstat_size = None
    test_handle_of_a_removed_file = None
    test_handle_of_a_renamed_file = None
    test_handles_see_writes = None
    test_stat_grows = None
    test_a_hard_link_is_another_name_of_the_same_file = None
    test_a_hard_link_of_a_symbolic_link_is_one = None
    test_what_cannot_be_linked_is_refused_with_the_status_of_its_errno = None
    test_hardlink_same_file = None
    test_hardlink_outlives_first_name = None
    test_hardlink_over_existing = None
    test_hardlink_of_missing = None
    test_hardlink_of_directory = None

    def make_storage(self) -> SFTPAbstractServerStorage:
        storage = under(self.unguarded(), self.text)
        assert isinstance(storage, Layer)
        self.assertIsInstance(storage.below, GatesLayer)
        return storage


class GatedJail(Gated, unittest.TestCase):
    def unguarded(self) -> SFTPAbstractServerStorage:
        return SFTPServerVirtualChroot(self.directory(), use_openat2=True)


if IS_HARD:

    class JailWithGatesElsewhere(Guarded, unittest.TestCase):
        def make_storage(self) -> SFTPAbstractServerStorage:
            return under(SFTPServerVirtualChroot(self.directory()), NOT_HERE)

    class GatedMemory(Gated, unittest.TestCase):
        def unguarded(self) -> SFTPAbstractServerStorage:
            return SFTPServerMemoryStorage()

    class GatedPlain(Gated, unittest.TestCase):
        def unguarded(self) -> SFTPAbstractServerStorage:
            return SFTPServerStorage(self.directory())

    class GatedAtomicJail(Gated, unittest.TestCase):
        def unguarded(self) -> SFTPAbstractServerStorage:
            return SFTPAtomicVirtualChroot(self.directory())

    class GatedMounts(Gated, unittest.TestCase):
        def test_link_text(self) -> None:
            """Not one that would lead out of its mount: tests/mounted/test_contract.py."""

        def unguarded(self) -> SFTPAbstractServerStorage:
            mounts = {
                b"/m": lambda: SFTPServerVirtualChroot(self.directory()),
                b"/n": SFTPServerMemoryStorage(),
            }
            return SFTPServerMountedStorage(SFTPServerVirtualChroot(self.directory()), mounts, home=b"/m")
