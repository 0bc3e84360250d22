"""What atomic uploads leave when their server is killed, and its removal."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.uploads import atomic, temporary
from pysftpserver.uploads.atomic import AtomicUploads
from tests.support.uploads import (
    LOOKS_LEFT,
    NEW,
    NEW_CONTENT,
    OLD_CONTENT,
    InAJail,
    InAJailWithTheWalk,
    OnAStorage,
    OnThePlainStorage,
)

TYPE_CHECKING = False
Base = OnAStorage if TYPE_CHECKING else object  # no case by itself: the storage comes with the last classes


class LeftoverRules(Base):
    """What a server that was killed left: a temporary file with no lock on it."""

    def leave(self, directory: Path, number: int = 0) -> Path:
        path = directory / f"{LOOKS_LEFT[:-4]}{number:04x}"
        path.write_bytes(b"half")
        return path

    def test_leftovers_are_removed_wherever_they_are_and_nothing_else_is(self) -> None:
        deep = self.top / "a" / "b"
        deep.mkdir(parents=True)
        kept = [
            deep / "f",
            self.top / LOOKS_LEFT[:-1],
            self.top / (LOOKS_LEFT + "0"),
            self.top / f"x{LOOKS_LEFT}",
        ]
        kept += [self.top / ".pysftpserver-upload-notes", self.top / LOOKS_LEFT.upper()]
        kept.append(self.top / (LOOKS_LEFT[:-1] + "F"))
        for path in kept:
            path.write_bytes(OLD_CONTENT)
        names = [f"{LOOKS_LEFT[:-4]}aaa{letter}" for letter in "abcd"]
        (self.top / names[0]).symlink_to(deep / "f")
        (self.top / names[1]).mkdir()
        os.mkfifo(self.top / names[2])
        (self.top / names[3]).symlink_to("missing")
        below = self.leave(self.top / names[1])
        left = [self.leave(self.top), self.leave(self.top, 1), self.leave(deep), below]
        self.assertEqual(self.storage.remove_leftovers(), (len(left), True))
        self.assertEqual([path for path in left if path.exists()], [])
        self.assertEqual([path.read_bytes() for path in kept], [OLD_CONTENT] * len(kept))
        self.assertLessEqual(set(names), set(os.listdir(self.top)))
        for path in self.top.glob(".pysftpserver-upload-*"):
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        kept[3].unlink()

    def test_leftovers_outside_a_jail_are_not_reached(self) -> None:
        outside = self.place / "outside"
        outside.mkdir()
        left = self.leave(outside)
        (self.top / "link").symlink_to(outside)
        (self.top / "up").symlink_to("..")
        self.assertEqual(self.storage.remove_leftovers(), (0, True))
        self.assertTrue(left.exists())
        left.unlink()

    def test_what_others_own_is_removed_by_root_only(self) -> None:
        left = self.leave(self.top)
        uid = os.getuid()
        with mock.patch("os.geteuid", return_value=uid + 1):
            self.assertEqual(self.storage.remove_leftovers(), (0, True))
        with mock.patch("os.geteuid", return_value=0):
            self.assertEqual(self.storage.remove_leftovers(), (1, True))
        self.assertFalse(left.exists())

    def test_the_files_of_live_sessions_stay(self) -> None:
        handles = [self.storage.open(self.path(f"f{number}"), NEW, 0o666) for number in range(3)]
        other = self.make_storage()
        self.leave(self.top)
        self.assertEqual(other.remove_leftovers(), (1, True))
        for handle in handles:
            self.storage.write(handle, 0, NEW_CONTENT)
            self.storage.close(handle)
        self.assertEqual([(self.top / name).read_bytes() for name in self.names()], [NEW_CONTENT] * 3)

    def test_a_file_that_is_taken_for_a_leftover_before_it_is_locked_is_made_anew(self) -> None:
        flock = fcntl.flock
        other = self.make_storage()
        for removes in (True, False):  # another session that may remove it, and one that may only look
            tries = []

            def disturbed(
                descriptor: int, how: int, tries: list[int] = tries, removes: bool = removes
            ) -> None:
                tries.append(descriptor)
                if len(tries) == 1 and removes:
                    with mock.patch("fcntl.flock", flock):
                        self.assertEqual(other.remove_leftovers()[0], 1)
                elif len(tries) == 1:
                    raise BlockingIOError
                flock(descriptor, how)

            with mock.patch("fcntl.flock", disturbed):
                self.upload("f")
            # The one that was only looked at is a leftover itself by then.
            self.assertEqual((len(tries), self.temporary()), (2 if removes else 3, []))
            self.assertEqual((self.top / "f").read_bytes(), NEW_CONTENT)

    def test_a_session_that_removes_a_leftover_does_not_remove_what_another_has_put_there(self) -> None:
        # Each of two ways to remove one, stopped before and after it has locked the leftover.
        flock = fcntl.flock
        for looks, is_before in ((True, True), (True, False), (False, True), (False, False)):
            left = self.top / os.fsdecode(temporary.locked_name(b"f"))
            left.write_bytes(b"half")
            other, first = self.make_storage(), self.make_storage()
            handles: list[int] = []

            def upload(storage: AtomicUploads, handles: list[int] = handles) -> None:
                with mock.patch("fcntl.flock", flock), contextlib.suppress(SFTPFailure):
                    handles.append(storage.open(self.path("f"), NEW, 0o666))

            steps = [flock, lambda *_, upload=upload, first=first: upload(first)]
            steps = steps[::-1] if is_before else steps

            def stopped(descriptor: int, how: int, steps: list[Any] = steps) -> None:
                for step in [steps.pop() for _ in steps[:]][::-1] or [flock]:
                    step(descriptor, how)

            with (
                self.subTest(looks=looks, is_before=is_before),
                mock.patch("fcntl.flock", stopped),
                contextlib.suppress(SFTPFailure),
            ):
                if looks:
                    other.remove_leftovers()
                else:
                    other._looked_everywhere = True
                    other.abandon(other.open(self.path("f"), NEW, 0o666))
            self.assertEqual((steps, len(handles)), ([], int(is_before)), "a locked leftover is in use")
            for handle in handles:
                first.write(handle, 0, NEW_CONTENT)
                first.close(handle)
                self.assertEqual((self.top / "f").read_bytes(), NEW_CONTENT)
            (self.top / "f").unlink(missing_ok=True)
            left.unlink(missing_ok=True)

    def test_a_file_that_is_put_in_place_while_it_is_looked_at_stays(self) -> None:
        handle = self.storage.open(self.path("f"), NEW, 0o666)
        flock = fcntl.flock

        def closed_meanwhile(descriptor: int, how: int) -> None:
            self.storage.close(handle)
            flock(descriptor, how)

        other = self.make_storage()
        with mock.patch("fcntl.flock", closed_meanwhile):
            self.assertEqual(other.remove_leftovers(), (0, True))
        self.assertEqual(self.names(), ["f"])

    def test_without_time_to_look_everywhere_each_directory_is_looked_at_once_more(self) -> None:
        for name in ("a", "b"):
            (self.top / name).mkdir()
        left = [self.leave(self.top / name, number) for name in ("a", "b") for number in range(2)]
        with mock.patch.object(atomic, "TIME_TO_LOOK", -1.0):
            self.assertEqual(self.storage.remove_leftovers(), (0, False))
        self.upload("a/f")
        self.assertEqual([path.exists() for path in left], [False, False, True, True])
        again = self.leave(self.top / "a")
        with mock.patch.object(self.storage, "_look_through", wraps=self.storage._look_through) as look:
            for number in range(5):
                self.upload(f"a/f{number}")
                self.upload(f"b/f{number}")
            self.assertEqual(look.call_count, 1, "each directory is looked through once")
        for path in (*left[2:], again):
            path.unlink(missing_ok=True)

    def test_the_time_to_look_ends_inside_a_directory_too(self) -> None:
        (self.top / "a").mkdir()
        left = [self.leave(self.top / "a", number) for number in range(50)]
        clock = iter(range(1000))
        with mock.patch("time.monotonic", lambda: next(clock)), mock.patch.object(atomic, "TIME_TO_LOOK", 20):
            removed, finished = self.storage.remove_leftovers()
        self.assertEqual(finished, False)
        self.assertTrue(0 < removed < len(left), removed)
        self.assertEqual(self.storage.remove_leftovers(), (len(left) - removed, True))


class PlainStorage(LeftoverRules, OnThePlainStorage):
    """All of them on the file system as it is."""


class Jail(LeftoverRules, InAJail):
    """All of them in a jail."""


class JailWithTheWalk(LeftoverRules, InAJailWithTheWalk):
    """All of them in a jail on a kernel without openat2."""
