"""commit_all(): the order in which files become durable, and what becomes of those that fail."""

from __future__ import annotations

import errno
import itertools
import os
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.host.linux import start_writing, sync_file_system
from pysftpserver.pysftpexceptions import SFTPFailure, SFTPForbidden
from pysftpserver.uploads.files import MANY, StoredFile, commit_all, open_temporary
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support.uploads import descriptors


class Recording(SFTPServerVirtualChroot):
    """A jail that says what was asked of it, and fails where it is told to."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.calls: list[str] = []
        self.errors: dict[str, BaseException] = {}

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call in self.errors:
            raise self.errors[call]

    def fsync(self, handle: int) -> None:
        self._note("sync")
        super().fsync(handle)

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        self._note(f"rename {new.decode()}")
        super().rename(old, new, replace)

    def sync_directory(self, path: bytes) -> None:
        self._note(f"sync {path.decode()}")
        super().sync_directory(path)


class Commit(unittest.TestCase):
    def setUp(self) -> None:
        self.place = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="pysftpserver-commit-")))
        self.root = self.place / "root"
        (self.root / "d").mkdir(parents=True)
        self.storage = Recording(self.root)
        self.addCleanup(self.__dict__.pop, "storage")

    def receive(self, *paths: bytes) -> list[StoredFile]:
        files = [open_temporary(self.storage, path, None) for path in paths]
        for file in files:
            file.write(memoryview(b"content"))
        return files

    def names(self, root: Path | None = None) -> list[str]:
        root = root or self.root
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    def test_all_content_is_synced_before_the_first_rename_and_each_directory_once_at_the_end(self) -> None:
        self.assertEqual(commit_all(self.receive(b"/a", b"/d/b", b"/c")), {})
        self.assertEqual(
            self.storage.calls,
            ["sync"] * 3 + ["rename /a", "rename /d/b", "rename /c"] + ["sync /", "sync /d"],
        )
        self.assertEqual(self.names(), ["a", "c", "d/b"])

    def test_a_file_that_fails_leaves_nothing_and_the_others_are_put_in_place(self) -> None:
        files = self.receive(b"/a", b"/b", b"/c", b"/d/e")
        self.storage.errors = {"rename /b": OSError(5, "x"), "sync /d": OSError(28, "x")}

        def check() -> None:
            raise SFTPForbidden

        files[2].check = check
        failures = commit_all(files)
        self.assertEqual(
            {type(failures[file]) for file in files if file in failures}, {OSError, SFTPForbidden}
        )
        self.assertEqual([file in failures for file in files], [False, True, True, True])
        self.assertEqual(self.names(), ["a", "d/e"])

    def test_an_interruption_leaves_no_temporary_file(self) -> None:
        files = self.receive(b"/a", b"/b", b"/c")
        self.storage.errors = {"rename /b": KeyboardInterrupt()}
        with self.assertRaises(KeyboardInterrupt):
            commit_all(files)
        self.assertEqual(self.names(), ["a"])

    def test_a_directory_that_may_not_be_read_cannot_be_synced_and_the_file_is_stored(self) -> None:
        self.storage.errors = {"sync /d": PermissionError(13, "x")}
        self.receive(b"/d/f")[0].commit()
        self.assertEqual(self.names(), ["d/f"])

    def test_a_directory_whose_sync_failed_is_not_asked_again_for_the_next_file(self) -> None:
        # The kernel reports it once; the names of all files in there may be lost.
        files = self.receive(b"/d/a", b"/d/b", b"/c")
        errors: list[Exception] = [OSError(5, "x")]

        def sync_directory(path: bytes) -> None:
            if path == b"/d" and errors:
                raise errors.pop()

        with mock.patch.object(self.storage, "sync_directory", sync_directory):
            failures = commit_all(files)
        self.assertEqual([file in failures for file in files], [True, True, False])

    def test_a_file_system_that_cannot_sync_directories_stores_files(self) -> None:
        self.storage.errors = {"sync /d": OSError(errno.EINVAL, "x")}
        self.receive(b"/d/f")[0].commit()
        self.assertEqual(self.names(), ["d/f"])

    def test_a_root_is_found_again_by_a_path_through_a_link_and_up(self) -> None:
        (self.place / "deep" / "er").mkdir(parents=True)
        (self.place / "link").symlink_to("deep/er")
        (self.place / "deep" / "root").mkdir()
        SFTPServerVirtualChroot(self.place / "link" / ".." / "root").check_root()
        before = os.getcwd()
        self.addCleanup(os.chdir, before)
        os.chdir(self.place)
        storage = SFTPServerVirtualChroot("link/../root")
        os.chdir(before)
        storage.check_root()

    def replace_root(self) -> None:
        self.root.rename(self.place / "moved")
        self.root.mkdir()

    def test_no_file_is_stored_in_a_root_that_was_replaced(self) -> None:
        (file,) = self.receive(b"/f")
        self.replace_root()
        with self.assertRaisesRegex(SFTPFailure, "moved, replaced or unmounted"):
            file.commit()
        self.assertEqual((self.names(), self.names(self.place / "moved")), ([], []))

    def test_a_root_that_is_removed_or_replaced_at_the_last_moment_is_noticed(self) -> None:
        def sync_directory(path: bytes) -> None:
            self.replace_root()

        (file,) = self.receive(b"/f")
        with mock.patch.object(self.storage, "sync_directory", sync_directory):
            self.assertRaises(SFTPFailure, file.commit)
        self.root.rmdir()
        self.assertRaises(SFTPFailure, self.storage.check_root)

    def test_a_rename_in_the_root_and_a_storage_without_one_are_no_replacement(self) -> None:
        (self.root / "d").rename(self.root / "e")
        self.storage.check_root()

    def test_small_files_are_given_to_the_disk_before_the_first_is_waited_for(self) -> None:
        order: list[Any] = []
        files = self.receive(b"/a", b"/b")
        with (
            mock.patch("pysftpserver.uploads.files.start_writing", lambda _: order.append("start")),
            mock.patch("os.fsync", lambda _: order.append("sync")),
        ):
            commit_all(files)
        self.assertEqual(order[:4], ["start", "start", "sync", "sync"])

    def commit_many(self, answer: bool | OSError) -> list[str]:
        """What is asked to commit many files, where syncing the file system gives that answer."""
        before = descriptors()
        files = self.receive(*(b"/d/%d" % number for number in range(MANY)))

        def sync_file_system(descriptor: int) -> bool:
            self.assertEqual(os.fstat(descriptor).st_dev, self.root.stat().st_dev)
            self.storage.calls.append("sync all")
            if isinstance(answer, OSError):
                raise answer
            return answer

        with mock.patch("pysftpserver.uploads.files.sync_file_system", sync_file_system):
            self.assertEqual(commit_all(files), {})
        self.assertLessEqual(descriptors().items(), before.items())  # others may close theirs meanwhile
        self.assertEqual(len(self.names()), MANY)
        calls = (call.partition(" /d/")[0] for call in self.storage.calls)
        return [call for call, _ in itertools.groupby(calls)]

    def test_many_files_are_synced_with_their_file_system_and_so_are_their_names(self) -> None:
        self.assertEqual(self.commit_many(True), ["sync all", "rename", "sync all"])

    def test_many_files_are_synced_one_by_one_where_their_file_system_cannot_be_or_failed(self) -> None:
        # An error is of any file there; that of each one says which.
        for answer in (False, OSError(errno.EIO, "x")):
            self.storage.calls.clear()
            steps = ["sync all", "sync", "rename", "sync all", "sync /d"]
            self.assertEqual(self.commit_many(answer), steps, answer)


class Kernel(unittest.TestCase):
    def test_writing_can_be_started_for_anything_that_is_open(self) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(b"x" * 100_000)
            start_writing(file.fileno())
        ours, theirs = os.pipe()
        start_writing(ours)  # which has no disk
        self.assertFalse(sync_file_system(ours))
        os.close(ours)
        os.close(theirs)

    def test_a_file_system_is_synced_as_a_whole_where_that_says_what_failed(self) -> None:
        with tempfile.TemporaryFile(dir="/dev/shm") as file:
            self.assertTrue(sync_file_system(file.fileno()))
            release = os.uname_result(("Linux", "host", "5.4.0-150-generic", "#1", "x86_64"))
            with mock.patch("os.uname", return_value=release):
                self.assertFalse(sync_file_system(file.fileno()))
            with mock.patch("pysftpserver.host.linux._syncfs", return_value=-1):
                self.assertRaises(OSError, sync_file_system, file.fileno())
