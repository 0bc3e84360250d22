from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import tempfile
import unittest
from typing import Any
from unittest import mock

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.pysftpexceptions import SFTPException, SFTPFailure, SFTPForbidden, SFTPUnsupported
from pysftpserver.site import accounts, ledger, small
from pysftpserver.site.accounts import Quota
from pysftpserver.site.ledger import Ledger
from pysftpserver.site.quota import QuotaLayer
from pysftpserver.uploads.atomic import SFTPAtomicVirtualChroot
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support.hard import IS_HARD

NEW, OLD = os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_CREAT
KIB = 1024


class WithoutInodes(SFTPServerVirtualChroot):
    """A storage whose files are known by their paths only, as those of other hosts."""

    uses_network = True

    def stat(self, path: bytes) -> SFTPAttributes:
        return self._plain(super().stat(path))

    def lstat(self, path: bytes) -> SFTPAttributes:
        return self._plain(super().lstat(path))

    def fstat(self, handle: int) -> SFTPAttributes:
        return self._plain(super().fstat(handle))

    def opendir(self, path: bytes) -> Any:
        return ((name, self._plain(attrs)) for name, attrs in super().opendir(path))

    def _plain(self, attrs: SFTPAttributes) -> SFTPAttributes:
        attrs.inode = None
        return attrs


class QuotaCase(unittest.TestCase):
    kind: type[SFTPServerVirtualChroot] = SFTPServerVirtualChroot

    def setUp(self) -> None:
        self.state = self.enterContext(tempfile.TemporaryDirectory())
        self.root = self.enterContext(tempfile.TemporaryDirectory())

    def session(
        self, size: int | None = 100 * KIB, files: int | None = 10, matches: Any = None
    ) -> QuotaLayer:
        self.quota = Quota("user:alice", size, files, matches)
        return QuotaLayer(self.kind(self.root), self.ledger(), [self.quota], "here")

    def ledger(self) -> Any:
        ledger = Ledger(self.state)
        self.addCleanup(ledger.close)
        ledger.open_session({})
        return ledger

    def put(self, storage: SFTPAbstractServerStorage, path: bytes, size: int, flags: int = NEW) -> None:
        handle = storage.open(path, flags, 0o666)
        try:
            for start in range(0, size, 10 * KIB):
                storage.write(handle, start, bytes(min(10 * KIB, size - start)))
        except BaseException:
            try:
                storage.close(handle)
            except SFTPException:
                pass
            raise
        storage.close(handle)

    def close(self, storage: QuotaLayer, handle: Any, is_refused: bool = False) -> None:
        """Close what was written. is_refused: in part, and nothing is left of an atomic upload."""
        if is_refused and self.kind is SFTPAtomicVirtualChroot:
            with self.assertRaisesRegex(SFTPException, "Not put in place"):
                storage.close(handle)
        else:
            storage.close(handle)

    def used(self, storage: QuotaLayer) -> tuple[int, int]:
        return storage._accounts.used(self.quota)

    def assert_over_quota(self, function: Any, *arguments: Any) -> None:
        with self.assertRaises(OSError) as caught:
            function(*arguments)
        self.assertEqual(caught.exception.errno, errno.EDQUOT)
        self.assertIn("quota", str(caught.exception))


class InPlace(QuotaCase):
    def test_a_file_is_counted_and_given_back(self):
        storage = self.session()
        self.put(storage, b"/f", 30 * KIB)
        self.assertEqual(self.used(storage), (30 * KIB, 1))
        storage.rm(b"/f")
        self.assertEqual(self.used(storage), (0, 0))

    def test_what_passes_the_limit_is_refused_while_it_is_written(self):
        storage = self.session()
        self.put(storage, b"/a", 60 * KIB)
        self.assert_over_quota(self.put, storage, b"/b", 41 * KIB)
        self.put(storage, b"/b", 40 * KIB)
        self.assertEqual(self.used(storage), (100 * KIB, 2))

    def test_two_sessions_cannot_pass_it_together(self):
        one, two = self.session(), self.session()
        first, second = one.open(b"/a", NEW, 0o666), two.open(b"/b", NEW, 0o666)
        stored = 0
        for number in range(40):
            one.write(first, number * KIB, bytes(KIB))
            two.write(second, number * KIB, bytes(KIB))
        with self.assertRaises(OSError):
            for number in range(40, 100):
                two.write(second, number * KIB, bytes(KIB))
                stored = 41 + number
        self.assertLessEqual(stored, 100)
        self.assertGreater(stored, 80)
        self.close(one, first)
        self.close(two, second, is_refused=True)
        sizes = [os.stat(f"{self.root}/{name}").st_size for name in os.listdir(self.root)]
        self.assertEqual(self.used(one), (sum(sizes), len(sizes)))

    def test_overwriting_counts_the_difference(self):
        storage = self.session()
        self.put(storage, b"/f", 90 * KIB)
        self.put(storage, b"/f", 100 * KIB)
        self.put(storage, b"/f", 95 * KIB)
        self.assertEqual(self.used(storage), (95 * KIB, 1))
        self.put(storage, b"/f", 10 * KIB, OLD)
        self.assertEqual(self.used(storage), (95 * KIB, 1))

    def test_files_are_counted(self):
        storage = self.session(files=2)
        self.put(storage, b"/a", 1)
        storage.symlink(b"/b", b"a")
        self.assert_over_quota(storage.open, b"/c", NEW, 0o666)
        self.assertFalse(os.path.exists(f"{self.root}/c"))
        self.assert_over_quota(storage.symlink, b"/c", b"a")
        storage.mkdir(b"/directory", 0o777)
        self.put(storage, b"/a", 2)  # is there already
        storage.rm(b"/b")
        self.put(storage, b"/c", 1)

    def test_appending_is_counted(self):
        storage = self.session()
        self.put(storage, b"/f", 95 * KIB)
        handle = storage.open(b"/f", os.O_WRONLY | os.O_APPEND, 0o666)
        storage.write(handle, 0, bytes(5 * KIB))
        self.assert_over_quota(storage.write, handle, 0, b"x")
        storage.close(handle)
        self.assertEqual(self.used(storage), (100 * KIB, 1))

    def test_sizes_that_are_set_are_counted(self):
        storage = self.session()
        self.put(storage, b"/f", 1)
        self.assert_over_quota(storage.setstat, b"/f", SFTPAttributes(size=101 * KIB))
        storage.setstat(b"/f", SFTPAttributes(size=100 * KIB))
        self.assertEqual(self.used(storage), (100 * KIB, 1))
        storage.setstat(b"/f", SFTPAttributes(size=50 * KIB))
        handle = storage.open(b"/f", os.O_WRONLY, 0)
        self.assert_over_quota(storage.fsetstat, handle, SFTPAttributes(size=101 * KIB))
        storage.fsetstat(handle, SFTPAttributes(size=7))
        storage.close(handle)
        self.assertEqual(self.used(storage), (7, 1))

    def test_holes_count_as_what_clients_see(self):
        storage = self.session()
        handle = storage.open(b"/f", NEW, 0o666)
        self.assert_over_quota(storage.write, handle, 1 << 30, b"x")
        self.close(storage, handle, is_refused=True)
        handle = storage.open(b"/f", NEW, 0o666)
        storage.write(handle, 50 * KIB, b"x")
        storage.close(handle)
        self.assertEqual(self.used(storage), (50 * KIB + 1, 1))

    def test_renaming_over_a_file_gives_it_back(self):
        storage = self.session()
        self.put(storage, b"/a", 60 * KIB)
        self.put(storage, b"/b", 30 * KIB)
        storage.rename(b"/b", b"/c")
        self.assertEqual(self.used(storage), (90 * KIB, 2))
        storage.rename(b"/c", b"/a", True)
        self.assertEqual(self.used(storage), (30 * KIB, 1))
        with self.assertRaises(OSError):
            storage.rename(b"/missing", b"/a", True)
        storage.rename(b"/a", b"/a", True)
        self.assertEqual(self.used(storage), (30 * KIB, 1))

    def test_what_a_copy_stores_is_asked_for(self):
        storage = self.session()
        handle = storage.open(b"/f", NEW, 0o666)
        self.assert_over_quota(storage.check_write, handle, 0, 101 * KIB)
        storage.check_write(handle, 0, 100 * KIB)
        self.close(storage, handle, is_refused=True)

    def test_the_figures_of_the_file_system_are_those_of_the_quota(self):
        storage = self.session(size=10 << 20, files=5)
        self.put(storage, b"/f", 4 << 20)
        figures = storage.statvfs(b"/")
        self.assertEqual(figures.f_blocks * figures.f_frsize, 10 << 20)
        self.assertEqual(figures.f_bavail * figures.f_frsize, 6 << 20)
        self.assertEqual((figures.f_files, figures.f_favail), (5, 4))

    def test_what_is_not_there_has_no_figures_where_only_the_quota_has_some(self):
        storage = self.session()
        with mock.patch.object(storage.below, "statvfs", mock.Mock(side_effect=SFTPUnsupported)):
            self.assertEqual(storage.statvfs(b"/").f_favail, storage.statvfs(b"/").f_files)
            with self.assertRaises(FileNotFoundError):
                storage.statvfs(b"/missing")

    def test_what_is_there_already_is_counted_at_first(self):
        os.mkdir(f"{self.root}/d")
        for name in ("d/a", "b"):
            with open(f"{self.root}/{name}", "wb") as file:
                file.write(bytes(KIB))
        os.link(f"{self.root}/b", f"{self.root}/c")
        storage = self.session()
        self.assertEqual(self.used(storage), (2 * KIB, 3))

    def test_directories_that_cannot_be_read_are_left_out(self):
        class Closed(self.kind):  # type: ignore[name-defined, misc]
            def opendir(self, path: bytes) -> Any:
                if path == b"/closed":
                    raise PermissionError(errno.EACCES, "no")
                return super().opendir(path)

        os.mkdir(f"{self.root}/closed")
        with open(f"{self.root}/f", "wb") as file:
            file.write(bytes(KIB))
        self.kind = Closed
        self.assertEqual(self.used(self.session()), (KIB, 1))

    def test_a_recount_while_a_file_is_written_counts_it_once(self):
        storage, other = self.session(), self.session()
        self.put(storage, b"/a", 20 * KIB)
        handle = storage.open(b"/a", OLD, 0o666)
        storage.write(handle, 0, bytes(30 * KIB))
        self.assertIn(other.recount(self.quota), ((30 * KIB, 1), (20 * KIB, 1)))
        storage.write(handle, 0, bytes(40 * KIB))
        storage.close(handle)
        self.assertEqual(self.used(storage), (40 * KIB, 1))

    def test_paths_can_be_left_out(self):
        storage = self.session(matches=lambda path: path.startswith(b"/in/"))
        storage.mkdir(b"/in", 0o777)
        storage.mkdir(b"/out", 0o777)
        self.put(storage, b"/out/f", 200 * KIB)
        self.assertEqual(self.used(storage), (0, 0))
        self.assert_over_quota(storage.rename, b"/out/f", b"/in/f")
        self.assert_over_quota(storage.rename, b"/out", b"/in/out")
        self.put(storage, b"/in/f", 50 * KIB)
        storage.rename(b"/in/f", b"/out/g")
        self.assertEqual(self.used(storage), (0, 0))
        storage.rename(b"/out/g", b"/in/g")
        self.assertEqual(self.used(storage), (50 * KIB, 1))
        storage.rename(b"/in", b"/other")
        self.assertEqual(self.used(storage), (0, 0))


class Links(QuotaCase):
    def test_a_file_with_several_names_is_counted_once(self):
        storage = self.session()
        self.put(storage, b"/a", 60 * KIB)
        storage.link(b"/a", b"/b")
        self.assertEqual(self.used(storage), (60 * KIB, 2))
        storage.rm(b"/a")
        self.assertEqual(self.used(storage), (60 * KIB, 1))
        storage.rm(b"/b")
        self.assertEqual(self.used(storage), (0, 0))

    def test_other_names_of_a_file_do_not_hide_what_is_written(self):
        storage = self.session()
        handle = storage.open(b"/a", NEW, 0o666)
        storage.link(b"/a", b"/b")
        storage.rm(b"/a")
        storage.write(handle, 0, bytes(60 * KIB))
        storage.close(handle)
        self.assertEqual(self.used(storage), (60 * KIB, 1))
        storage.setstat(b"/b", SFTPAttributes(size=1))
        self.assertEqual(self.used(storage), (1, 1))

    def test_a_file_that_is_removed_while_it_is_written_counts_no_more(self):
        one, two = self.session(), self.session()
        self.put(one, b"/other", 1)
        one.symlink(b"/link", b"f")
        for path in (b"/f", b"/link"):
            handle = one.open(path, OLD, 0o666)
            one.write(handle, 0, bytes(30 * KIB))
            two.rm(b"/f")
            one.write(handle, 0, bytes(40 * KIB))
            one.fsetstat(handle, SFTPAttributes(size=0))
            one.close(handle)
            self.assertEqual(self.used(one), (1, 2))

    def test_several_handles_of_a_file_count_once(self):
        one, two = self.session(), self.session()
        first, second = one.open(b"/f", OLD, 0o666), two.open(b"/f", OLD, 0o666)
        one.write(first, 0, bytes(30 * KIB))
        two.write(second, 0, bytes(40 * KIB))
        one.close(first)
        two.write(second, 0, bytes(45 * KIB))
        two.close(second)
        self.assertEqual(self.used(one), (45 * KIB, 1))


class Atomic(InPlace):
    kind = SFTPAtomicVirtualChroot

    def test_a_refusal_leaves_the_old_file(self):
        storage = self.session()
        with open(f"{self.root}/f", "wb") as file:
            file.write(b"old")
        storage.recount(self.quota)
        handle = storage.open(b"/f", NEW, 0o666)
        self.assert_over_quota(storage.write, handle, 0, bytes(101 * KIB))
        storage.write(handle, 0, b"new")
        with self.assertRaisesRegex(SFTPException, "Not put in place"):
            storage.close(handle)
        self.assertEqual(os.listdir(self.root), ["f"])
        with open(f"{self.root}/f", "rb") as file:
            self.assertEqual(file.read(), b"old")
        self.assertEqual(self.used(storage), (3, 1))

    def test_what_a_ledger_that_hangs_refuses_leaves_the_old_file(self):
        storage = self.session()
        self.put(storage, b"/f", 10)
        handle = storage.open(b"/f", NEW, 0o666)
        storage.write(handle, 0, b"new")
        another = storage.open(b"/g", NEW, 0o666)

        def held() -> list[str]:
            links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
            return [link for link in links if os.path.realpath(link).startswith(self.root)]

        self.assertEqual(len(held()), 5)  # two files and their directories, and the top
        with contextlib.closing(Ledger(self.state)) as other, other.changing():
            with mock.patch.multiple(ledger, PATIENCE=0.02, TURN_PATIENCE=0.02):
                with self.assertRaisesRegex(SFTPFailure, "Another session has held"):
                    storage.write(another, 0, bytes(50 * KIB))
        with self.assertRaisesRegex(SFTPFailure, "Not put in place"):
            storage.close(another)
        with contextlib.closing(Ledger(self.state)) as other, other.holding([b"quota user:alice"]):
            with mock.patch.multiple(ledger, PATIENCE=0.02, TURN_PATIENCE=0.02):
                with self.assertRaisesRegex(SFTPFailure, "Another session has held"):
                    storage.close(handle)
        self.assertEqual(len(held()), 1)
        self.assertEqual(os.listdir(self.root), ["f"])
        self.assertEqual(os.stat(f"{self.root}/f").st_size, 10)
        storage.release()
        self.assertEqual(self.used(self.session()), (10, 1))

    def test_no_client_makes_a_file_with_the_name_of_an_upload_that_is_not_complete(self):
        """It would be removed without being given back, and left out when files are counted again."""
        storage, name = self.session(), b"/.pysftpserver-upload-0123456789abcdef"
        self.put(storage, b"/f", 10 * KIB)
        for attempt in (
            lambda: storage.open(name, NEW, 0o666),
            lambda: storage.rename(b"/f", name),
            lambda: storage.link(b"/f", name),
            lambda: storage.symlink(name, b"/f"),
        ):
            with self.assertRaises(SFTPForbidden):
                attempt()
        self.assertEqual(self.used(storage), storage.recount(self.quota))

    def test_an_upload_that_its_session_leaves_is_not_counted(self):
        storage = self.session()
        handle = storage.open(b"/f", NEW, 0o666)
        storage.write(handle, 0, bytes(KIB))
        storage.abandon(handle)
        self.assertEqual(self.used(storage), (0, 0))

    def test_several_handles_of_an_upload_count_once(self):
        storage = self.session()
        first = storage.open(b"/f", NEW, 0o666)
        second = storage.open(b"/f", OLD, 0o666)
        storage.write(first, 0, bytes(30 * KIB))
        storage.write(second, 30 * KIB, bytes(20 * KIB))
        storage.close(first)
        storage.close(second)
        self.assertEqual(self.used(storage), (50 * KIB, 1))

    def test_the_file_of_an_upload_gives_nothing_back(self):
        storage = self.session()
        handle = storage.open(b"/f", NEW, 0o666)
        storage.write(handle, 0, bytes(50 * KIB))
        (name,) = os.listdir(self.root)
        name = os.fsencode(name)
        storage.symlink(b"/link", name)
        for path in (b"/" + name, b"/link"):
            with self.assertRaises(PermissionError):
                storage.setstat(path, SFTPAttributes(size=0))
        for act in (storage.rename, storage.link):
            with self.assertRaises(SFTPForbidden):
                act(b"/" + name, b"/stolen")
        storage.rm(b"/" + name)
        with self.assertRaises(OSError):
            storage.close(handle)
        self.assertEqual(self.used(storage), (0, 1))

    def test_a_directory_that_is_renamed_does_not_hide_an_upload(self):
        storage = self.session()
        storage.mkdir(b"/a", 0o777)
        handle = storage.open(b"/a/f", NEW, 0o666)
        storage.write(handle, 0, bytes(50 * KIB))
        storage.rename(b"/a", b"/b")
        storage.close(handle)
        self.assertEqual(self.used(storage), (50 * KIB, 1))


class SmallFiles(QuotaCase):
    """Where there is plenty of room, they are written down when they are complete."""

    kind = SFTPAtomicVirtualChroot

    def roomy(self) -> QuotaLayer:
        storage = self.session(1 << 20, 1000)
        self.put(storage, b"/first", 1)  # now it knows how much room there is
        return storage

    def assert_counted(self, storage: QuotaLayer) -> None:
        counted = self.used(storage)
        self.assertEqual(counted, self.session(1 << 20, 1000).recount(self.quota))

    def test_have_one_transaction_each_and_are_counted_at_once(self):
        storage = self.roomy()
        count = 2 * accounts.TOGETHER
        changing = mock.Mock(side_effect=storage._ledger.changing)
        with mock.patch.object(storage._ledger, "changing", changing):
            for number in range(count):
                self.put(storage, b"/%d" % number, KIB)
                self.assertEqual(self.used(storage), (1 + (number + 1) * KIB, number + 2))
        self.assertEqual(changing.call_count, count + 2)
        self.assertEqual(storage._ledger.ask("SELECT * FROM change"), [])

    def test_may_be_changed_by_others_before_their_rows_are_settled(self):
        for name, act in (
            ("rm", lambda storage: storage.rm(b"/f")),
            ("replace", lambda storage: self.put(storage, b"/f", 3 * KIB)),
            ("write", lambda storage: self.put(storage, b"/f", 3 * KIB, OLD)),
            ("truncate", lambda storage: storage.setstat(b"/f", SFTPAttributes(size=7))),
            ("rename", lambda storage: storage.rename(b"/f", b"/g")),
            ("rename over it", lambda storage: storage.rename(b"/first", b"/f", True)),
            ("link", lambda storage: storage.link(b"/f", b"/g")),
            ("recount", lambda storage: storage.recount(self.quota)),
        ):
            for is_same in (True, False):
                with self.subTest(name, is_same=is_same):
                    self.setUp()
                    storage = self.roomy()
                    self.put(storage, b"/f", 2 * KIB)
                    self.assertEqual(len(storage._ledger.ask("SELECT * FROM change")), 1)
                    act(storage if is_same else self.session(1 << 20, 1000))
                    self.assert_counted(storage)
                    storage._accounts.count_stored()
                    self.assert_counted(storage)

    def test_do_not_take_the_row_of_another_session_for_theirs(self):
        """A row that others have counted is gone, and its number may be used again."""
        one, two = self.roomy(), self.session(1 << 20, 1000)
        for other in (two, one):
            self.put(one, b"/f", 2 * KIB)
            two.rm(b"/f")
            handle = other.open(b"/g", OLD, 0o666)
            other.write(handle, 0, bytes(300 * KIB))
            before = two._ledger.ask("SELECT * FROM change")
            one._accounts.count_stored()
            self.assertEqual(two._ledger.ask("SELECT * FROM change"), before)
            other.close(handle)
            self.assert_counted(one)
            one.rm(b"/g")

    def test_that_others_have_open_are_counted_once(self):
        one, two = self.roomy(), self.session(1 << 20, 1000)
        for last in (one, two):
            self.put(one, b"/f", 2 * KIB)
            handle = two.open(b"/f", OLD, 0o666)
            two.write(handle, 0, bytes(3 * KIB))
            if last is two:
                one._accounts.count_stored()
            two.close(handle)
            one._accounts.count_stored()
            self.assert_counted(one)
            one.rm(b"/f")

    def test_replace_others_wherever_their_directory_is(self):
        one, two = self.roomy(), self.session(1 << 20, 1000)
        one.mkdir(b"/a", 0o777)
        self.put(one, b"/a/f", 5 * KIB)
        for storage, old, new in ((two, b"/a", b"/b"), (one, b"/b", b"/c")):
            handle = one.open(old + b"/f", NEW, 0o666)
            one.write(handle, 0, bytes(KIB))
            storage.rename(old, new)
            one.close(handle)
            self.assert_counted(one)

    def test_are_refused_at_the_end_if_others_have_taken_the_room_meanwhile(self):
        one, two = self.roomy(), self.session(1 << 20, 1000)
        self.put(one, b"/old", 3)
        handle, other = one.open(b"/old", NEW, 0o666), one.open(b"/other", NEW, 0o666)
        one.write(handle, 0, bytes(100 * KIB))
        one.write(other, 0, b"small")
        self.put(two, b"/big", (1 << 20) - 50 * KIB)
        self.assert_over_quota(one.close, handle)
        self.assertEqual(os.stat(f"{self.root}/old").st_size, 3)
        one.close(other)
        self.assertEqual(sorted(os.listdir(self.root)), ["big", "first", "old", "other"])
        self.assert_counted(one)
        self.assertEqual(one._small, set())

    def test_are_not_many_at_a_time(self):
        storage = self.session(1 << 30, 1000)
        self.put(storage, b"/first", 1)
        handles = [storage.open(b"/%d" % number, NEW, 0o666) for number in range(4)]
        for handle in handles:
            storage.write(handle, 0, bytes(small.SMALL // 3))
        self.assertEqual(len(storage._small), 3)
        self.assertGreater(self.used(storage)[0], small.SMALL // 3)
        for handle in handles:
            storage.close(handle)
        self.assertEqual(self.used(storage), (1 + 4 * (small.SMALL // 3), 5))

    def test_leave_no_debt_and_are_counted_when_their_session_is_killed_at_any_moment(self):
        for when in ("open", "written down", "in place", "several"):
            with self.subTest(when):
                self.setUp()
                process = os.fork()
                if not process:
                    try:
                        self.killed(when)
                    finally:
                        os._exit(1)
                self.assertEqual(os.waitpid(process, 0)[1], signal.SIGKILL)
                self.assert_counted(self.session(1 << 20, 1000))

    def killed(self, when: str) -> None:
        def die(*arguments: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        storage = self.roomy()
        self.put(storage, b"/g", KIB)
        if when == "open":
            storage.write(storage.open(b"/g", NEW, 0o666), 0, b"x")
            storage.write(storage.open(b"/h", NEW, 0o666), 0, b"x")
        elif when == "written down":
            storage.below.close = die  # type: ignore[method-assign]
        elif when == "in place":
            storage._accounts.stored = die  # type: ignore[method-assign]
        self.put(storage, b"/f", KIB)
        die()


class ByPath(InPlace):
    kind = WithoutInodes

    def test_what_is_there_already_is_counted_at_first(self):
        with open(f"{self.root}/b", "wb") as file:
            file.write(bytes(KIB))
        self.assertEqual(self.used(self.session()), (KIB, 1))

    def test_hard_links_are_refused(self):
        storage = self.session()
        self.put(storage, b"/a", 1)
        with self.assertRaises(SFTPUnsupported):
            storage.link(b"/a", b"/b")

    def test_a_file_that_moves_while_it_is_written_is_counted(self):
        storage = self.session()
        handle = storage.open(b"/a", NEW, 0o666)
        storage.rename(b"/a", b"/b")
        storage.write(handle, 0, bytes(50 * KIB))
        storage.close(handle)
        self.assertGreaterEqual(self.used(storage)[0], 50 * KIB)


class AnyOrder(QuotaCase):
    """Sessions that do anything at any time: in the end, what is counted is what is there."""

    NAMES = (b"/a", b"/b", b"/c", b"/d/a", b"/d/b")
    ACTS = "open open write write write close close close abandon fsetstat setstat rm rename move mkdir link"

    def act(self, act: str, chance: random.Random, storage: QuotaLayer, opened: list[Any]) -> None:
        one, two = chance.choice(self.NAMES), chance.choice(self.NAMES)
        size = SFTPAttributes(size=chance.randrange(20 * KIB))
        if act == "open":
            flags = chance.choice((NEW, OLD, OLD | os.O_APPEND, os.O_WRONLY))
            opened.append((storage, storage.open(one, flags, 0o666)))
        elif act in ("write", "fsetstat", "close", "abandon"):
            if opened:
                place = chance.randrange(len(opened))
                storage, handle = opened[place]
                if act == "write":
                    storage.write(handle, chance.randrange(20 * KIB), bytes(chance.randrange(9 * KIB)))
                elif act == "fsetstat":
                    storage.fsetstat(handle, size)
                else:
                    del opened[place]
                    getattr(storage, act)(handle)
        elif act == "setstat":
            storage.setstat(one, size)
        elif act == "rename":
            storage.rename(one, two, chance.random() < 0.8)
        elif act == "move":
            storage.rename(b"/d", b"/e")
        elif act == "mkdir":
            storage.mkdir(b"/d", 0o777)
        elif act == "link":
            storage.link(one, two)
        else:
            storage.rm(one)

    def run_sessions(self, seed: int, steps: int) -> None:
        chance = random.Random(seed)
        limits = (60 * KIB, 8) if seed % 2 else (2 << 20, 100)  # in the second one, files are small
        sessions = [self.session(*limits) for _ in range(3)]
        opened: list[tuple[QuotaLayer, Any]] = []
        history = []
        for _ in range(steps):
            act = chance.choice(self.ACTS.split())
            with contextlib.suppress(OSError, SFTPException):
                self.act(act, chance, chance.choice(sessions), opened)
                history.append(act)
            found = [os.lstat(path) for path in self.entries()]
            total = sum({entry.st_ino: entry.st_size for entry in found}.values())
            self.assertLessEqual(total, self.used(sessions[0])[0], history)
        for storage, handle in opened:
            with contextlib.suppress(OSError, SFTPException):
                storage.close(handle)
        counted = self.used(sessions[0])
        self.assertEqual(counted, sessions[1].recount(self.quota), history)

    def entries(self) -> list[str]:
        return [
            os.path.join(directory, name)
            for directory, _, names in os.walk(self.root)
            for name in names
            if not name.startswith(".pysftpserver-upload-")
        ]

    def test_what_is_counted_is_what_is_there(self):
        for kind in (SFTPServerVirtualChroot, SFTPAtomicVirtualChroot):
            self.kind = kind
            for seed in range(400 if IS_HARD else 2):
                with self.subTest(kind.__name__, seed=seed):
                    self.setUp()
                    self.run_sessions(seed, 120)
