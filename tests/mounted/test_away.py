"""A mounted storage that cannot be reached fails alone, and is tried again."""

from __future__ import annotations

import errno
import os
from typing import Any
from unittest import mock

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.failures import BadInput
from pysftpserver.mountedstorage import Mount, SFTPServerMountedStorage
from pysftpserver.pysftpexceptions import SFTPFailure, SFTPUnavailable
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.mounted.test_tree import Trees


class Far(SFTPServerVirtualChroot):
    """A jail that talks as if it were another host's: `gone` is what its methods raise."""

    uses_network = True
    gone: BaseException | None = None
    is_released = False

    def release(self) -> None:
        self.is_released = True

    def _open(self, path: bytes, flags: int, mode: int = 0) -> int:
        if self.gone is not None:
            raise self.gone
        return super()._open(path, flags, mode)


class Away(Trees):
    def setUp(self) -> None:
        self.now = 1000.0
        self.opened = 0
        self.failure: BaseException | None = None
        super().setUp()
        clock = mock.patch("pysftpserver.storages.mounted.mount.time.monotonic", lambda: self.now)
        self.enterContext(clock)
        self.fill("archive/f", "top/f")

    def open_archive(self) -> SFTPAbstractServerStorage:
        self.opened += 1
        if self.failure is not None:
            raise self.failure
        self.far = Far(self.place / "archive")
        return self.far

    def mounted(self, **options: Any) -> SFTPServerMountedStorage:
        return SFTPServerMountedStorage(self.jail("top"), {b"/archive": self.open_archive}, pause=5)

    def assert_away(self) -> None:
        for method, *arguments in (
            ("opendir", b"/archive"),
            ("stat", b"/archive/f"),
            ("open", b"/archive/f", os.O_RDONLY, 0),
            ("statvfs", b"/archive"),
        ):
            with self.subTest(method), self.assertRaises((SFTPUnavailable, ConnectionError)):
                getattr(self.tree, method)(*arguments)

    def test_it_is_a_directory_that_fails_and_everything_else_works(self) -> None:
        for failure in (BadInput("s3: secret"), OSError(errno.ENETUNREACH, "x"), RuntimeError("secret")):
            self.failure = failure
            self.tree = self.mounted()
            self.assert_away()
            self.assertEqual(self.opened, 1)
            self.opened = 0
            self.assertEqual(self.listed(b"/"), [b"archive", b"f"])
            self.assertEqual(self.tree.realpath(b"/archive/.."), b"/")
            self.assertEqual(self.tree.stat(b"/archive"), dict(self.tree.opendir(b"/"))[b"archive"])
            self.assertEqual(self.content(b"/f"), b"top/f")
            with self.assertRaises(SFTPUnavailable) as caught:
                self.tree.opendir(b"/archive")
            self.assertEqual(
                str(caught.exception), "The storage of /archive is not available; try again later"
            )
            self.assertIs(caught.exception.__cause__, failure)  # for the log

    def test_it_is_opened_when_it_is_needed_and_again_after_a_pause(self) -> None:
        self.listed(b"/")
        self.assertEqual(self.opened, 0)
        self.failure = SFTPFailure("down")
        self.assert_away()
        self.failure = None
        self.now += 4
        self.assert_away()
        self.assertEqual(self.opened, 1)
        self.now += 2
        self.assertEqual(self.content(b"/archive/f"), b"archive/f")
        self.assertEqual(self.listed(b"/archive"), [b"f"])
        self.assertEqual(self.opened, 2)

    def test_one_that_goes_away_is_left_alone_for_a_pause_and_then_asked_and_then_opened_again(self) -> None:
        self.listed(b"/archive")
        handle = self.tree.open(b"/archive/f", os.O_RDONLY, 0)
        first = self.far
        first.gone = ConnectionResetError(errno.ECONNRESET, "reset")
        self.assert_away()
        first.gone = None
        with self.assertRaises(SFTPUnavailable):  # not asked
            self.tree.stat(b"/archive/f")
        self.now += 6
        self.tree.stat(b"/archive/f")  # asked, and there again
        self.assertEqual(self.opened, 1)
        for words in (ConnectionResetError(errno.ECONNRESET, "reset"), SFTPUnavailable("gone")):
            first.gone = words
            self.now += 6
            with self.assertRaises((SFTPUnavailable, ConnectionError)):
                self.tree.stat(b"/archive/f")
        self.now += 6
        self.assertEqual(self.content(b"/archive/f"), b"archive/f")
        self.assertEqual(self.opened, 2)
        self.assertIsNot(self.far, first)
        self.assertEqual((first.is_released, self.far.is_released), (True, False))
        first.gone = None
        self.assertEqual(bytes(self.tree.read(handle, 0, 100)), b"archive/f")
        self.tree.close(handle)

    def test_other_failures_do_not_send_it_away(self) -> None:
        self.listed(b"/archive")
        for failure in (OSError(errno.EIO, "x"), SFTPFailure("x"), ValueError("x")):
            self.far.gone = failure
            with self.assertRaises(type(failure)):
                self.tree.stat(b"/archive/f")
            self.far.gone = None
            self.tree.stat(b"/archive/f")

    def test_a_listing_does_not_ask_those_that_may_be_slow(self) -> None:
        with mock.patch.object(Far, "stat", side_effect=AssertionError("asked")):
            self.far = Far(self.place / "archive")
            self.tree = SFTPServerMountedStorage(self.jail("top"), {b"/archive": Mount(self.far)})
            self.assertEqual(self.listed(b"/"), [b"archive", b"f"])
            self.tree.stat(b"/archive")

    def test_a_top_that_is_away_shows_the_mount_points_and_then_fails(self) -> None:
        far = Far(self.place / "top")
        self.tree = SFTPServerMountedStorage(far, {b"/archive": self.jail("archive")})
        far.gone = SFTPUnavailable("gone")
        seen: list[bytes] = []
        with self.assertRaises(SFTPUnavailable):
            for name, _ in self.tree.opendir(b"/"):
                seen.append(name)
        self.assertEqual(sorted(seen), [b".", b"..", b"archive"])
        self.assertEqual(self.content(b"/archive/f"), b"archive/f")


class WhatADoorAsks(Trees):
    def test_territory_is_the_union(self) -> None:
        parts = [self.jail(name) for name in self.names]
        self.tree = SFTPServerMountedStorage(parts[0], {b"/a": parts[1], b"/b": lambda: parts[2]})
        expected = {(st.st_dev, st.st_ino) for st in (os.stat(self.place / name) for name in self.names)}
        territory = self.tree.territory()
        self.assertEqual({(st.st_dev, st.st_ino) for st in map(os.fstat, territory or ())}, expected)
        self.tree = SFTPServerMountedStorage(parts[0], {b"/a": Anywhere(), b"/b": self.fail_to_open})
        self.assertIsNone(self.tree.territory())
        self.tree = SFTPServerMountedStorage(parts[0], {b"/b": self.fail_to_open})
        self.assertEqual(len(self.tree.territory() or ()), 1)
        self.assertIn("/etc/resolv.conf", self.tree.reads())  # for when it comes back
        self.tree = SFTPServerMountedStorage(parts[0], {b"/b": Mount(self.fail_to_open, reads=["/f"])})
        self.assertEqual((len(self.tree.territory() or ()), self.tree.reads()[-1]), (1, "/f"))
        self.tree = SFTPServerMountedStorage(parts[0], {b"/b": Mount(self.fail_to_open, reads=None)})
        self.assertIsNone(self.tree.territory())  # what it may need is not known
        self.tree = SFTPServerMountedStorage(parts[0], {b"/b": Mount(self.fail_to_open, uses_network=False)})
        self.assertEqual(len(self.tree.territory() or ()), 1)

    def fail_to_open(self) -> SFTPAbstractServerStorage:
        raise SFTPUnavailable("gone")

    def test_uses_network_is_whether_one_of_them_does(self) -> None:
        self.assertFalse(self.tree.uses_network)
        for mount, expected in (
            (Far(self.place / "archive"), True),
            (self.fail_to_open, True),
            (Mount(self.fail_to_open, uses_network=False), False),
        ):
            tree = SFTPServerMountedStorage(self.jail("top"), {b"/a": mount})
            self.assertEqual(tree.uses_network, expected)

    def test_check_root_asks_those_that_were_written_to(self) -> None:
        os.rename(self.place / "archive", self.place / "moved")
        self.tree.check_root()
        self.put(b"/f", b"x")
        self.tree.check_root()
        self.put(b"/archive/f", b"x")
        with self.assertRaises(SFTPFailure):
            self.tree.check_root()


class Anywhere(SFTPAbstractServerStorage):
    """A storage without methods."""

    def stat(self, path: bytes) -> SFTPAttributes:
        raise OSError(errno.EIO, "x")
