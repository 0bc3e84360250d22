"""--durable: which requests wait for the disk, and for what."""

from __future__ import annotations

import os
import stat
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from unittest import mock

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.cli.session import kind_of
from pysftpserver.storage import SFTPServerStorage
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support.processes import open_descriptors
from tests.support.uploads import NEW


class Durable(unittest.TestCase):
    """In place."""

    atomic = False

    def setUp(self) -> None:
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="pysftpserver-durable-")))
        options = {"read_only": False, "durable": True, "atomic_uploads": self.atomic}
        self.storage = kind_of(SFTPServerVirtualChroot, options)(self.root)
        self.addCleanup(self.__dict__.pop, "storage")
        (self.root / "d").mkdir()
        (self.root / "old").write_bytes(b"old")

    def synced(self, call: Callable[[], object]) -> list[str]:
        """The files and directories below the root that a call waits for, in order."""
        found: list[str] = []
        fsync = os.fsync

        def note(descriptor: int) -> None:
            kind = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            path = os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), self.root)
            found.append(path if kind else "content")
            fsync(descriptor)

        with mock.patch("os.fsync", note):
            call()
        return found

    def upload(self, path: bytes) -> None:
        handle = self.storage.open(path, NEW, 0o666)
        self.storage.write(handle, 0, b"x")
        self.storage.close(handle)

    def test_a_new_file_is_synced_with_its_directory(self) -> None:
        found = self.synced(lambda: self.upload(b"/d/new"))
        self.assertEqual(sorted(found), ["content", "d"])

    def test_a_file_that_is_there_is_synced_when_it_is_closed(self) -> None:
        self.assertIn("content", self.synced(lambda: self.upload(b"/old")))
        handle = self.storage.open(b"/old", os.O_RDWR, 0)
        self.assertEqual(self.synced(lambda: self.storage.close(handle)), ["content"])
        handle = self.storage.open(b"/old", os.O_RDONLY, 0)
        self.assertEqual(self.synced(lambda: self.storage.close(handle)), [], "only read")

    def test_the_directories_of_changed_names_are_synced(self) -> None:
        storage = self.storage
        cases: list[tuple[Callable[[], object], set[str]]] = [
            (lambda: storage.mkdir(b"/d/e", 0o777), {"d"}),
            (lambda: storage.rmdir(b"/d/e"), {"d"}),
            (lambda: storage.symlink(b"/link", b"old"), {"."}),
            (lambda: storage.link(b"/old", b"/d/hard"), {"d"}),
            (lambda: storage.rename(b"/link", b"/d/link"), {".", "d"}),
            (lambda: storage.rm(b"/d/link"), {"d"}),
        ]
        for number, (call, expected) in enumerate(cases):
            self.assertEqual(set(self.synced(call)), expected, number)

    def test_attributes_that_are_changed_are_synced_with_their_file(self) -> None:
        storage = self.storage
        (self.root / "link").symlink_to("old")
        reader = storage.open(b"/old", os.O_RDONLY, 0)
        cases: list[tuple[Callable[[], object], list[str]]] = [
            (lambda: storage.setstat(b"/old", SFTPAttributes(size=1)), ["content"]),
            (lambda: storage.setstat(b"/link", SFTPAttributes(permissions=0o200)), ["content"]),
            (lambda: storage.setstat(b"/old", SFTPAttributes(size=0)), ["content"]),
            (lambda: storage.lsetstat(b"/link", SFTPAttributes(mtime=1, atime=1)), []),
            (lambda: storage.setstat(b"/d", SFTPAttributes(permissions=0o700)), ["d"]),
            (lambda: storage.fsetstat(reader, SFTPAttributes(permissions=0o600)), ["content"]),
            (lambda: storage.close(reader), []),
        ]
        for number, (call, expected) in enumerate(cases):
            self.assertEqual(self.synced(call), expected, number)
        with self.assertRaises(FileNotFoundError):
            storage.setstat(b"/missing", SFTPAttributes(size=1))

    def test_a_change_whose_path_leads_through_what_it_changes_is_answered(self) -> None:
        storage = self.storage
        for call in (
            lambda: storage.rename(b"/d/../d", b"/d2"),
            lambda: storage.rename(b"/d2", b"/d"),
            lambda: storage.rmdir(b"/d/../d"),
        ):
            self.assertEqual(set(self.synced(call)), {"."})

    def test_the_directory_of_a_relative_path_is_the_one_that_the_storage_takes_it_from(self) -> None:
        options = {"read_only": False, "durable": True, "atomic_uploads": self.atomic}
        plain = kind_of(SFTPServerStorage, options)(self.root)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.root)
        for storage in (plain, self.storage):
            self.assertEqual(self.synced(lambda storage=storage: storage.mkdir(b"new", 0o777)), ["."])  # type: ignore[misc]
            self.assertEqual(self.synced(lambda storage=storage: storage.rmdir(b"new")), ["."])  # type: ignore[misc]

    def test_what_cannot_be_synced_is_closed_as_ever(self) -> None:
        os.mkfifo(self.root / "fifo")
        reader = os.open(self.root / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        self.addCleanup(os.close, reader)
        handle = self.storage.open(b"/fifo", os.O_WRONLY, 0)
        os.write(handle, b"x")
        self.storage.close(handle)

    def test_a_new_name_that_cannot_be_synced_leaves_no_descriptor_open(self) -> None:
        before = open_descriptors()
        with mock.patch("os.fsync", side_effect=OSError(5, "x")), self.assertRaises(OSError):
            self.upload(b"/new")
        self.assertLessEqual(open_descriptors(), before)  # what earlier tests had may go meanwhile

    def test_a_failed_sync_is_no_success_and_leaves_no_descriptor_open(self) -> None:
        before = open_descriptors()
        handle = self.storage.open(b"/old", os.O_RDWR, 0)
        with mock.patch("os.fsync", side_effect=OSError(5, "x")), self.assertRaises(OSError):
            self.storage.close(handle)
        self.assertLessEqual(open_descriptors(), before)  # what earlier tests had may go meanwhile


class DurableAndAtomic(Durable):
    """With --atomic-uploads."""

    atomic = True
