"""Receiver: complete files that wait for each other."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

from pysftpserver.host.linux import sync_file_system
from pysftpserver.sksync.listing import Listing
from pysftpserver.sksync.receiving import MOST_WAITING, Receiver
from pysftpserver.sksync.wire import SyncType
from pysftpserver.uploads import files
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support.cases import InAPlace
from tests.support.processes import open_descriptors

MTIME = 1_000_000_000


class Batches(InAPlace):
    def setUp(self) -> None:
        super().setUp()
        self.top = self.place / "top"
        self.top.mkdir()
        self.stored: list[str] = []
        self.failed: list[str] = []
        self.receiver = Receiver(
            SFTPServerVirtualChroot(self.top),
            b"/",
            Listing(),
            SyncType.FROM_SERVER_USE_TIME,
            False,
            lambda name, _: self.stored.append(name),
            lambda name, _: self.failed.append(name),
            lambda name, _: self.failed.append(name),
        )
        self.addCleanup(self.__dict__.pop, "receiver")

    def receive(self, name: str, content: bytes = b"content") -> None:
        self.receiver.begin(name, MTIME, len(content))
        self.receiver.write(memoryview(content))
        self.receiver.end()

    def there(self) -> dict[str, bytes]:
        found = (path for path in self.top.rglob("*") if path.is_file())
        return {str(path.relative_to(self.top)): path.read_bytes() for path in found}

    def test_with_few_descriptors_left_fewer_files_wait(self) -> None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
        before = open_descriptors()
        resource.setrlimit(resource.RLIMIT_NOFILE, (before + 20, limit[1]))
        names = [f"d{number % 7}/f{number}" for number in range(MOST_WAITING + 10)]
        for name in names:
            self.receive(name)
        self.receiver.close()
        self.assertEqual((self.stored, self.failed, sorted(self.there())), (names, [], sorted(names)))
        self.assertEqual(open_descriptors(), before)

    def test_the_disk_is_waited_for_once_a_batch_and_not_once_a_file(self) -> None:
        waits: list[str] = []
        fsync = os.fsync

        def count(word: str, call: Callable[[int], Any], descriptor: int) -> Any:
            waits.append(word)
            return call(descriptor)

        with (
            mock.patch("os.fsync", partial(count, "file", fsync)),
            mock.patch.object(files, "sync_file_system", partial(count, "all", sync_file_system)),
        ):
            for number in range(2 * MOST_WAITING + files.MANY):
                self.receive(f"d{number % 30}/f{number}")
            self.receiver.close()
        with (self.top / "d0" / "f0").open("rb") as file:
            is_synced = sync_file_system(file.fileno())
        if not is_synced:
            self.skipTest(f"the file system of {self.top} cannot be synced as a whole")
        # For the last: the directory with 30 new directories in it.
        self.assertEqual((waits.count("all"), waits.count("file")), (2 * 3, 1))

    def test_each_file_is_reported_once_whatever_waits_under_its_name(self) -> None:
        for name, content in (
            ("a", b"1"),
            ("a", b"2"),
            ("b/c", b"3"),
            ("b", b"4"),
            ("a/x", b"5"),
            ("e", b"6"),
        ):
            self.receive(name, content)
        self.receiver.close()
        self.assertEqual((self.stored, self.failed), (["a", "a", "b/c", "e"], ["b", "a/x"]))
        self.assertEqual(self.there(), {"a": b"2", "b/c": b"3", "e": b"6"})

    def test_complete_files_do_not_wait_for_the_end_of_a_large_one(self) -> None:
        self.receive("small")
        self.receiver.begin("large", MTIME, 3 << 20)
        with mock.patch("pysftpserver.sksync.receiving.MOST_BYTES", 2 << 20):
            for _ in range(2):
                self.receiver.write(memoryview(bytes(1 << 20)))
        self.assertEqual((self.stored, self.there()["small"]), (["small"], b"content"))
        self.receiver.close()
        self.assertEqual(sorted(self.there()), ["small"])

    def test_complete_files_do_not_wait_for_a_peer_that_sends_a_byte_now_and_then(self) -> None:
        self.receive("small")
        self.receiver.begin("large", MTIME, 3)
        self.receiver.write(memoryview(b"1"))
        self.assertEqual(self.stored, [])
        with mock.patch("pysftpserver.sksync.receiving.MOST_SECONDS", 0):
            self.receiver.write(memoryview(b"2"))
        self.assertEqual((self.stored, self.there()["small"]), (["small"], b"content"))
        self.receiver.close()

    def test_files_that_a_storage_may_keep_in_memory_do_not_wait(self) -> None:
        with mock.patch.object(self.receiver.storage, "fileno", lambda handle: None):
            for number in range(3):
                self.receive(f"f{number}")
                self.assertEqual(len(self.stored), number + 1)

    def test_files_in_a_new_directory_whose_name_is_not_safe_are_not_reported_as_stored(self) -> None:
        self.receive("new/f")

        def sync_directory(path: bytes) -> None:
            if path == b"/":
                raise OSError(5, "x")

        with (
            mock.patch.object(self.receiver.storage, "sync_directory", sync_directory),
            self.assertRaises(OSError),
        ):
            self.receiver.close()
        self.receiver.close()
        self.assertEqual((self.stored, self.failed), ([], ["new/f"]))
        self.assertEqual(self.there(), {"new/f": b"content"})
