"""copy-data, through the kernel and through storages whose handles have no descriptors."""

from __future__ import annotations

import itertools
import os
from typing import Any

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.storage import SFTPServerStorage
from tests.support import packets as sftp
from tests.support.cases import OnFiles
from tests.support.packets import Client, u64
from tests.support.storages import Whole


class CopyData(OnFiles):
    """Through the kernel, and through a storage whose handles have no descriptors."""

    def setUp(self) -> None:
        super().setUp()
        self.content = os.urandom(1 << 20) + b"end"
        (self.root / "f").write_bytes(self.content)

    def clients(self) -> list[tuple[str, Client]]:
        class NoDescriptors(SFTPServerStorage):
            def fileno(self, handle: int) -> None:
                return None

        other = Client(NoDescriptors(self.root))
        self.addCleanup(other.server.close)
        return [("kernel", self.client), ("storage", other)]

    def copy(self, client: Client, offset: int, length: int, target_offset: int, flags: int = 0) -> object:
        """copy-data from f to a fresh `new` that holds `old`."""
        (self.root / "new").write_bytes(b"old")
        source, target = client.open(b"f"), client.open(b"new", sftp.WRITE | flags)
        status = client.status("copy-data", source, u64(offset), u64(length), target, u64(target_offset))
        client.status("close", source)
        client.status("close", target)
        return status

    def test_fails_when_the_storage_says_that_it_has_stored_a_part(self):
        class Partly(SFTPServerStorage):
            def fileno(self, handle: int) -> None:
                return None

            def write(self, handle: int, off: int, chunk: bytes | memoryview) -> int:  # type: ignore[override]
                return os.pwrite(handle, chunk[:7], off)

        self.assertEqual(self.copy(Client(Partly(self.root)), 0, 100, 0), sftp.FAILURE)

    def test_copies_ranges_to_where_they_are_wanted(self):
        size = len(self.content)
        for way, client in self.clients():
            for offset, length, target in (
                (0, 0, 0),
                (0, size, 0),
                (5, 0, 0),
                (5, 1, 2),
                (5, 700_000, 100),
                (size - 3, 3, 1),
                (size - 3, 0, 1),
            ):
                with self.subTest(way, offset=offset, length=length, target=target):
                    self.assertEqual(self.copy(client, offset, length, target), sftp.OK)
                    wanted = self.content[offset : offset + length] if length else self.content[offset:]
                    expected = b"old"[:target].ljust(target, b"\0") + wanted + b"old"[target + len(wanted) :]
                    self.assertEqual((self.root / "new").read_bytes(), expected)

    def test_from_beyond_the_end_copies_nothing(self):
        for way, client in self.clients():
            with self.subTest(way):
                self.assertEqual(self.copy(client, 2**21, 0, 0), sftp.OK)
                self.assertEqual((self.root / "new").read_bytes(), b"old")

    def test_of_more_than_there_is_copies_what_there_is_and_says_eof(self):
        for way, client in self.clients():
            with self.subTest(way):
                self.assertEqual(self.copy(client, 3, 2**63, 0), sftp.EOF)
                self.assertEqual((self.root / "new").read_bytes(), self.content[3:])

    def test_to_an_append_handle_appends(self):
        for way, client in self.clients():
            with self.subTest(way):
                self.assertEqual(self.copy(client, 5, 600_000, 0, sftp.APPEND), sftp.OK)
                self.assertEqual((self.root / "new").read_bytes(), b"old" + self.content[5:600_005])

    def test_onto_itself_is_a_failure_by_handle_and_by_name(self):
        for way, client in self.clients():
            handle, same = (
                client.open(b"f", sftp.READ | sftp.WRITE),
                client.open(b"f", sftp.READ | sftp.WRITE),
            )
            for target in (handle, same):
                with self.subTest(way):
                    self.assertEqual(
                        client.status("copy-data", handle, u64(0), u64(5), target, u64(100)), sftp.FAILURE
                    )
        self.assertEqual((self.root / "f").read_bytes(), self.content)

    def test_between_two_names_of_a_file_works_in_either_direction(self):
        os.link(self.root / "f", self.root / "same")
        for way, client in self.clients():
            (self.root / "f").write_bytes(self.content)
            source, target = client.open(b"f"), client.open(b"same", sftp.WRITE)
            with self.subTest(way):
                self.assertEqual(
                    client.status("copy-data", source, u64(0), u64(10), target, u64(100)), sftp.OK
                )
                self.assertEqual((self.root / "f").read_bytes()[100:110], self.content[:10])

    def test_with_impossible_offsets_is_a_bad_message(self):
        for way, client in self.clients():
            for offset, target in ((2**63, 0), (2**64 - 1, 0), (0, 2**63)):
                with self.subTest(way, offset=offset, target=target):
                    self.assertEqual(self.copy(client, offset, 10, target), sftp.BAD_MESSAGE)

    def test_without_the_right_to_read_or_write_is_no_such_file_as_ebadf_always_is(self):
        for way, client in self.clients():
            (self.root / "new").write_bytes(b"old")
            deaf, mute = client.open(b"f", sftp.WRITE), client.open(b"new", sftp.READ)
            good = client.open(b"new", sftp.WRITE)
            with self.subTest(way):
                self.assertEqual(
                    client.status("copy-data", deaf, u64(0), u64(0), good, u64(0)), sftp.NO_SUCH_FILE
                )
                self.assertEqual(
                    client.status("copy-data", client.open(b"f"), u64(0), u64(0), mute, u64(0)),
                    sftp.NO_SUCH_FILE,
                )

    def test_counts_for_both_files_when_they_are_closed(self):
        for way, client in self.clients():
            client.log.clear()
            self.copy(client, 0, 1000, 0)
            with self.subTest(way):
                self.assertIn('close "f" bytes read 1000 written 0', client.lines())
                self.assertIn('close "new" bytes read 0 written 1000', client.lines())

    def test_stops_when_the_session_has_to_end(self):
        class Endless(Whole):
            def fstat(self, handle: object) -> SFTPAttributes:
                return SFTPAttributes(size=2**40)

            def read(self, handle: object, off: int, size: int) -> bytes:
                self.act("read")
                if len(self.calls) > 100:
                    client.server.stopping = True
                return bytes(1000)

        client = Client(Endless())
        source, target = client.open(b"a"), client.open(b"b", sftp.WRITE)
        self.assertEqual(client.status("copy-data", source, u64(0), u64(0), target, u64(0)), sftp.FAILURE)

    def test_to_the_end_of_its_own_file_under_another_name_ends(self):
        os.link(self.root / "f", self.root / "same")
        (self.root / "f").write_bytes(b"0123456789")
        for way, client in self.clients():
            source, target = client.open(b"f"), client.open(b"same", sftp.WRITE)
            storage = client.server.storage
            storage.write = self.stopping_after(1000, client, storage.write)
            with self.subTest(way):
                client.ask("copy-data", source, u64(0), u64(0), target, u64(5))
                self.assertFalse(client.server.stopping, "it chases its own tail")

    def stopping_after(self, most: int, client: Client, write: Any) -> Any:
        """A write() that ends the session when it has been called too often."""
        calls = itertools.count()

        def counting(handle: int, off: int, chunk: Any) -> None:
            client.server.stopping = next(calls) > most
            write(handle, off, chunk)

        return counting
