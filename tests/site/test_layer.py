"""A layer that says nothing changes nothing: the contract, what is announced, and the fast path."""

from __future__ import annotations

import errno
import os
import tempfile
import unittest
from typing import Any

from pysftpserver.abstractstorage import (
    SFTPAbstractServerStorage,
    moves_by_descriptor,
    moves_by_promise,
)
from pysftpserver.mountedstorage import SFTPServerMountedStorage
from pysftpserver.server import SFTPServer
from pysftpserver.site.layer import Layer
from pysftpserver.storage import SFTPServerStorage
from pysftpserver.testing import StorageContract
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support.cases import InADirectory
from tests.support.hard import IS_HARD, MANY
from tests.support.memory import SFTPServerMemoryStorage


class LayeredMemory(StorageContract, unittest.TestCase):
    many = MANY if IS_HARD else 30

    def make_storage(self) -> SFTPAbstractServerStorage:
        return Layer(SFTPServerMemoryStorage())


if IS_HARD:

    class LayeredJail(StorageContract, unittest.TestCase):
        many = MANY if IS_HARD else 30

        def make_storage(self) -> SFTPAbstractServerStorage:
            directory = self.enterContext(tempfile.TemporaryDirectory())
            return Layer(Layer(SFTPServerVirtualChroot(directory)))


class Small(SFTPAbstractServerStorage):
    """Three methods, and a rename that replaces nothing."""

    home = b"/"
    lacks = frozenset({"fsync"})

    def read(self, handle: Any, off: int, size: int) -> bytes:
        return b""

    def rename(self, old: bytes, new: bytes) -> None:  # type: ignore[override]
        pass

    def fsync(self, handle: Any) -> None:
        pass


class Scrambling(SFTPServerStorage):
    def read(self, handle: int, off: int, size: int) -> bytes:
        return super().read(handle, off, size)[::-1]


class Hearing(Layer):
    """What a layer that has to see what is written looks like."""

    fileno = Layer.fileno

    def write(self, handle: Any, off: int, chunk: bytes | memoryview) -> None:
        self.below.write(handle, off, chunk)


class Passing(InADirectory):
    def test_it_hands_on_everything_that_a_storage_may_have(self) -> None:
        names = {name for name in vars(SFTPAbstractServerStorage) if not name.startswith("_")}
        self.assertEqual(names - vars(Layer).keys(), set())

    def test_it_announces_what_the_storage_below_has(self) -> None:
        for storage in (
            Small(),
            self.storage(),
            SFTPServerMemoryStorage(),
            SFTPServerMountedStorage(Small(), {}),
        ):
            plain = SFTPServer(storage)
            layered = SFTPServer(Layer(Layer(storage)))
            self.assertEqual(list(plain._announced()), list(layered._announced()), storage)

    def test_descriptors_pass_where_they_mean_the_same(self) -> None:
        (self.root / "f").write_bytes(b"abc")
        for storage, passes in ((self.storage(), True), (Scrambling(self.root), False)):
            layer = Hearing(Layer(storage))
            handle = layer.open(os.fsencode(self.root / "f"), os.O_RDWR, 0)
            self.assertEqual(layer.fileno(handle), handle if passes else None)
            for method in ("read", "write"):
                self.assertTrue(moves_by_descriptor(layer, method))
                self.assertEqual(moves_by_promise(layer, method), method == "read")
            self.assertEqual(layer.read(handle, 0, 9), b"abc" if passes else b"cba")
            layer.close(handle)

    def test_what_only_some_storages_have_is_there_where_they_have_it(self) -> None:
        for name in ("gc", "ends_session"):
            self.assertFalse(hasattr(Layer(self.storage()), name))
        self.assertTrue(hasattr(Layer(SFTPServerMountedStorage(Small(), {})), "label"))

    def test_its_home_is_that_of_the_storage(self) -> None:
        storage = SFTPServerVirtualChroot(self.root)
        layer = Layer(storage)
        layer.home = b"/x"
        self.assertEqual((storage.home, layer.home), (b"/x", b"/x"))


class RefusingLinks(InADirectory):
    def test_a_site_told_to_refuse_links_follows_none_of_its_storage(self) -> None:
        from tests.site.test_guard_contract import under

        (self.root / "in").mkdir()
        (self.root / "f").write_bytes(b"x")
        (self.root / "in" / "up").symlink_to("..")
        (self.root / "in" / "f").symlink_to("../f")
        memory = SFTPServerMemoryStorage()
        memory.mkdir(b"/in", 0o777)
        memory.symlink(b"/in/up", b"..")
        memory.symlink(b"/in/f", b"../f")
        memory.close(memory.open(b"/f", os.O_WRONLY | os.O_CREAT, 0o666))
        rules = '[[rule]]\npath = "/elsewhere"\ndeny = ["list"]\n'
        for below in (SFTPServerVirtualChroot(self.root), memory):
            site = under(below, rules)
            calls = (site.stat, site.opendir, lambda path, site=site: site.open(path, os.O_RDONLY, 0))
            site.stat(b"/in/f")
            site.stat(b"/in/up/f")
            for refusing in (site, under(site, rules)):
                refusing.refuse_links()  # type: ignore[attr-defined]
                for call in calls:
                    for path in (b"/in/f", b"/in/up", b"/in/up/f", b"/in/up/in"):
                        with self.subTest(path=path, call=call), self.assertRaises(OSError) as caught:
                            call(path)
                        self.assertEqual(caught.exception.errno, errno.ELOOP)
                site.stat(b"/f")
                self.assertTrue(list(site.opendir(b"/in")))
