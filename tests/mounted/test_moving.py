"""Rename from one storage to another with across="copy": whatever interrupts it, nothing is lost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.mountedstorage import SFTPServerMountedStorage
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.uploads.atomic import SFTPAtomicVirtualChroot
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.mounted.test_tree import Trees

LONG_AGO = 1_000_000_000


class Interrupted(Exception):
    """What a storage raises when its turn has come."""


class Interruptible(SFTPServerVirtualChroot):
    """A jail that fails at the n-th call that a move makes. `calls` counts them."""

    calls = 0
    fails_at = 0


def _counted(name: str) -> Any:
    def method(self: Interruptible, *arguments: Any) -> Any:
        self.calls += 1
        if self.calls == self.fails_at:
            raise Interrupted(name)
        return getattr(SFTPServerVirtualChroot, name)(self, *arguments)

    return method


for (
    _name
) in "lstat open read write close mkdir rmdir rm rename symlink readlink fsetstat setstat fsync".split():
    setattr(Interruptible, _name, _counted(_name))


def contents(directory: Path) -> dict[str, Any]:
    """All that is below a directory."""
    found: dict[str, Any] = {}
    for top, directories, files in os.walk(directory):
        for name in (*directories, *files):
            path = Path(top, name)
            what = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
            found[os.fspath(path.relative_to(directory))] = what
    return found


class Moving(Trees):
    def mounted(self, **options: Any) -> SFTPServerMountedStorage:
        return super().mounted(across="copy")

    def test_a_file_takes_along_its_content_times_and_mode(self) -> None:
        self.fill("top/f", "archive/g")
        os.chmod(self.place / "top/f", 0o640)
        os.utime(self.place / "top/f", (LONG_AGO, LONG_AGO + 1))
        self.tree.rename(b"/f", b"/archive/f")
        self.assertEqual(os.listdir(self.place / "top"), [])
        st = os.stat(self.place / "archive/f")
        self.assertEqual((self.place / "archive/f").read_text(), "top/f")
        self.assertEqual((st.st_mode & 0o7777, st.st_atime, st.st_mtime), (0o640, LONG_AGO, LONG_AGO + 1))
        with self.assertRaises(FileExistsError):
            self.tree.rename(b"/archive/f", b"/archive/g")
        self.fill("top/new")
        with self.assertRaises(FileExistsError):
            self.tree.rename(b"/new", b"/archive/g")
        self.tree.rename(b"/new", b"/archive/g", True)
        self.assertEqual(contents(self.place / "archive"), {"f": b"top/f", "g": b"top/new"})

    def test_a_directory_takes_along_all_that_is_in_it(self) -> None:
        self.fill(
            "top/d/sub/f", "top/d/empty/", "top/d/g", "archive/taken/x", "archive/free/", "archive/file"
        )
        os.symlink("sub/f", self.place / "top/d/link")
        os.chmod(self.place / "top/d/sub", 0o500)
        os.utime(self.place / "top/d/sub", (LONG_AGO, LONG_AGO))
        for new in (b"/archive/taken", b"/archive/file"):
            with self.assertRaises(OSError):
                self.tree.rename(b"/d", new, True)
        before = contents(self.place / "top/d")
        os.chmod(self.place / "top/d/sub", 0o700)
        self.tree.rename(b"/d", b"/archive/free", True)
        self.assertEqual(contents(self.place / "archive/free"), before)
        self.assertEqual(os.listdir(self.place / "top"), [])
        self.assertEqual(os.stat(self.place / "archive/free/sub").st_mtime, LONG_AGO)

    def test_a_move_into_what_has_its_own_uploads_that_appear_whole(self) -> None:
        self.fill("top/f", "archive/f")
        mounts = {b"/archive": SFTPAtomicVirtualChroot(self.place / "archive")}
        self.tree = SFTPServerMountedStorage(self.jail("top"), mounts, across="copy")
        self.tree.rename(b"/f", b"/archive/f", True)
        self.assertEqual(contents(self.place / "archive"), {"f": b"top/f"})

    def test_what_is_neither_file_directory_nor_link_stays(self) -> None:
        self.fill("top/d/f")
        os.mkfifo(self.place / "top/d/fifo")
        with self.assertRaises(SFTPFailure):
            self.tree.rename(b"/d", b"/archive/d")
        self.assertEqual(sorted(os.listdir(self.place / "top/d")), ["f", "fifo"])
        self.assertEqual(os.listdir(self.place / "archive"), [])

    def test_a_storage_that_lies_fills_no_disk_and_writes_nowhere_else(self) -> None:
        class Lying(SFTPServerVirtualChroot):
            lies = b"../../up"

            def opendir(self, path: bytes) -> Any:
                yield from super().opendir(path)
                yield self.lies, SFTPAttributes()

            def lstat(self, path: bytes) -> SFTPAttributes:
                return super().lstat(b"/f" if path.endswith(b"up") else path)

            def open(self, path: bytes, flags: int, mode: int) -> Any:
                return super().open(b"/f" if path.endswith(b"up") else path, flags, mode)

            def read(self, handle: Any, off: int, size: int) -> bytes:
                return bytes(size) if off < 1 << 30 else b""

        self.fill("top/f", "top/d/f", "archive/up")
        lying = Lying(self.place / "top")
        self.tree = SFTPServerMountedStorage(lying, {b"/archive": self.jail("archive")}, across="copy")
        for lies, name in ((b"../../up", b"d"), (b"..", b"f")):
            lying.lies = lies
            with self.assertRaises(SFTPFailure):
                self.tree.rename(b"/" + name, b"/archive/" + name)
            self.assertEqual(contents(self.place / "archive"), {"up": b"archive/up"})

    def test_a_file_that_changes_meanwhile_is_not_removed(self) -> None:
        self.fill("top/d/f", "top/d/g")
        source = self.jail("top")

        class Archive(SFTPServerVirtualChroot):
            def sync_directory(self, path: bytes) -> None:
                source.setstat(b"/d/f", SFTPAttributes(size=1))
                super().sync_directory(path)

        mounts = {b"/archive": Archive(self.place / "archive")}
        self.tree = SFTPServerMountedStorage(self.jail("top"), mounts, across="copy")
        self.assert_refused("not everything could be removed", "rename", b"/d", b"/archive/d")
        self.assertEqual((self.place / "top/d/f").read_text(), "t")
        self.assertEqual((self.place / "archive/d/f").read_text(), "top/d/f")

    def test_nothing_is_lost_where_the_two_storages_are_the_same_directory(self) -> None:
        self.fill("top/f", "top/d/sub/g", "top/empty/")
        (self.place / "top/link").symlink_to("f")
        before = contents(self.place / "top")
        for whole in (SFTPServerVirtualChroot, SFTPAtomicVirtualChroot):
            mounts = {b"/again": whole(self.place / "top")}
            self.tree = SFTPServerMountedStorage(self.jail("top"), mounts, across="copy")
            for name in (b"/f", b"/link", b"/empty"):
                with self.assertRaisesRegex(SFTPFailure, "the same file"):
                    self.tree.rename(name, b"/again" + name, True)
                self.assertEqual(contents(self.place / "top"), before)
            with self.assertRaisesRegex(SFTPFailure, "not everything could be removed"):
                self.tree.rename(b"/d", b"/again/d/sub/d")
            self.assertEqual((self.place / "top/d/sub/d/sub/g").read_text(), "top/d/sub/g")
            shutil.rmtree(self.place / "top/d")
            self.fill("top/d/sub/g")

    def test_a_failure_at_any_call_leaves_all_of_it_at_the_old_place_or_the_new(self) -> None:
        for what, side in ((w, s) for w in ("d", "f") for s in ("top", "archive")):
            number = 0
            while True:
                number += 1
                self.fill("top/f", "top/d/sub/f", "top/d/g")
                os.symlink("g", self.place / "top/d/link")
                whole = contents(self.place / "top" / what) or (self.place / "top/f").read_bytes()
                storages = {name: Interruptible(self.place / name) for name in ("top", "archive")}
                storages[side].fails_at = number
                mounts = {b"/archive": storages["archive"]}
                tree = SFTPServerMountedStorage(storages["top"], mounts, across="copy")
                try:
                    tree.rename(b"/" + what.encode(), b"/archive/" + what.encode())
                    failed = False
                except (Interrupted, SFTPFailure):
                    failed = True
                places = [
                    contents(place) or (place.read_bytes() if place.is_file() else None)
                    for place in (self.place / "top" / what, self.place / "archive" / what)
                ]
                with self.subTest(what=what, side=side, number=number):
                    self.assertIn(whole, places)
                    if failed and places[0] == whole:
                        self.assertIn(places[1], (None, {}, whole))
                over = storages[side].calls < number
                self.empty("top")
                self.empty("archive")
                if over:
                    self.assertFalse(failed)
                    break

    def empty(self, name: str) -> None:
        shutil.rmtree(self.place / name)
        (self.place / name).mkdir()
