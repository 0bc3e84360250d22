"""Ways to what a mount hides: links that are swapped meanwhile, directories that are renamed, long paths."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.mountedstorage import SFTPServerMountedStorage
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.uploads.atomic import SFTPAtomicVirtualChroot
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.mounted.test_tree import Trees
from tests.support.hard import IS_HARD
from tests.support.waiting import PATIENCE

ROUNDS = 20_000 if IS_HARD else 60
TOPS: tuple[Callable[[str], SFTPServerVirtualChroot], ...] = (
    lambda path: SFTPServerVirtualChroot(path, use_openat2=True),
    lambda path: SFTPServerVirtualChroot(path, use_openat2=False),
    lambda path: SFTPAtomicVirtualChroot(path),
)


class Races(Trees):
    """Another session swaps /x between a directory and a link to where the hidden directory is."""

    @contextlib.contextmanager
    def swapping(self) -> Iterator[None]:
        over = threading.Event()
        top = os.open(self.place / "top", os.O_RDONLY)

        def swap() -> None:
            while not over.is_set():
                for name in ("directory", "link"):
                    os.rename(name, "x", src_dir_fd=top, dst_dir_fd=top)
                    os.rename("x", name, src_dir_fd=top, dst_dir_fd=top)

        thread = threading.Thread(target=swap)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            os.close(top)

    def test_no_swap_of_a_link_leads_to_what_a_mount_hides(self) -> None:
        for number, make in enumerate(TOPS):
            for target in (".", "archive"):
                self.fill("top/archive/secret", "top/directory/archive/", "archive/f")
                (self.place / "top/link").symlink_to(target)
                self.tree = SFTPServerMountedStorage(
                    make(os.fspath(self.place / "top")), {b"/archive": self.jail("archive")}
                )
                with self.subTest(number, target=target), self.swapping():
                    for _ in range(ROUNDS):
                        self.attack(b"/x/archive" if target == "." else b"/x")
                self.assertEqual(os.listdir(self.place / "top/archive"), ["secret"])
                self.assertEqual((self.place / "top/archive/secret").read_text(), "top/archive/secret")
                self.assertEqual(os.stat(self.place / "top/archive/secret").st_mode & 0o777, self.mode)
                for name in ("taken/secret", "secret", "x/secret"):
                    self.assertFalse(os.path.lexists(self.place / "top" / name), name)
                shutil.rmtree(self.place / "top")
                (self.place / "top").mkdir()

    def attack(self, way: bytes) -> None:
        self.mode = os.stat(self.place / "top/archive/secret").st_mode & 0o777
        calls: list[tuple[Any, ...]] = [
            ("stat", way + b"/secret"),
            ("lstat", way + b"/secret"),
            ("open", way + b"/secret", os.O_RDONLY, 0),
            ("open", way + b"/secret", os.O_WRONLY | os.O_TRUNC, 0),
            ("open", way + b"/new", os.O_WRONLY | os.O_CREAT, 0o666),
            ("setstat", way + b"/secret", SFTPAttributes(permissions=0)),
            ("rename", way + b"/secret", b"/taken"),
            ("rename", way, b"/taken"),
            ("link", way + b"/secret", b"/taken"),
            ("rm", way + b"/secret"),
            ("symlink", way + b"/new", b"x"),
            ("mkdir", way + b"/new", 0o777),
        ]
        if way == b"/x":
            calls = [call for call in calls if call[:2] != ("rename", way)]  # the link itself is no secret
        for method, *arguments in calls:
            try:
                found = getattr(self.tree, method)(*arguments)
            except (SFTPException, OSError):
                continue
            if method == "open" and arguments[0].endswith(b"/secret"):
                self.fail(f"{method}{arguments} has opened {found}")
            if method == "open":
                self.tree.abandon(found)
            self.undo(method, arguments)

    def undo(self, method: str, arguments: list[Any]) -> None:
        """What was made in the directory that is no secret is removed there."""
        self.assertNotIn(b"secret", b" ".join(a for a in arguments if isinstance(a, bytes)), method)
        for path in ("x", "directory"):
            for below in ("", "archive/"):
                with contextlib.suppress(OSError):
                    os.unlink(self.place / "top" / path / f"{below}new")
                with contextlib.suppress(OSError):
                    os.rmdir(self.place / "top" / path / f"{below}new")
        with contextlib.suppress(OSError):
            os.rename(self.place / "top/taken", self.place / "top/directory/archive")


class Efforts(Trees):
    def test_a_path_that_goes_down_and_up_a_thousand_times_takes_no_longer_than_others(self) -> None:
        self.fill("top/d/", "archive/d/")
        for number in range(35):  # each leads through the one before, twice
            before = f"l{number - 1}/l{number - 1}" if number else "d/.."
            os.symlink(before, self.place / f"archive/l{number}")
            os.symlink(before, self.place / f"top/l{number}")
        for top in (b"/", b"/archive/"):
            for name in (b"d", b"l34", b"l20", b"l4"):
                path = top + (name + b"/../") * ((4000 - len(top)) // (len(name) + 4))
                began = time.thread_time()
                with contextlib.suppress(OSError):
                    self.tree.stat(path)
                self.assertLess(time.thread_time() - began, 1.0, path[:20])

    def test_a_storage_that_hangs_holds_up_its_own_callers_only(self) -> None:
        goes_on, called = threading.Event(), threading.Event()
        self.addCleanup(goes_on.set)

        def open_it() -> SFTPAbstractServerStorage:
            called.set()
            goes_on.wait(PATIENCE)
            return self.jail("deep")

        self.fill("archive/f", "deep/f")
        mounts = {b"/archive": self.jail("archive"), b"/slow": open_it}
        self.tree = SFTPServerMountedStorage(self.jail("top"), mounts)
        waiting = threading.Thread(target=self.tree.stat, args=(b"/slow/f",))
        waiting.start()
        self.assertTrue(called.wait(PATIENCE))
        self.assertEqual(self.listed(b"/"), [b"archive", b"slow"])
        self.assertEqual(self.listed(b"/archive"), [b"f"])
        self.tree.stat(b"/slow")
        self.assertTrue(waiting.is_alive())
        goes_on.set()
        waiting.join(PATIENCE)
        self.assertFalse(waiting.is_alive())
