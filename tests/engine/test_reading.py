"""READ, at once and late: many are read only when they are sent."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

from pysftpserver.engine.bulk import LATE_FROM
from pysftpserver.engine.log import INFO
from pysftpserver.storage import SFTPServerStorage
from tests.support import packets
from tests.support import packets as sftp
from tests.support.cases import InADirectory
from tests.support.packets import Attributes, Client, attrs, replies, request, string, u32, u64
from tests.support.storages import Whole


class Reading(InADirectory):
    """READ, at once and late: many are read only when they are sent."""

    SIZE = 1 << 18  # more than the longest READ, and many late ones

    def setUp(self) -> None:
        super().setUp()
        self.content = random.Random(1).randbytes(self.SIZE)
        self.file = self.root / "f"
        self.file.write_bytes(self.content)

    def test_longer_than_the_limit_is_shortened(self):
        big = random.Random(2).randbytes(sftp.MAX_DATA + 5000)
        self.file.write_bytes(big)
        client = self.client()
        handle = client.open(b"f")
        for length in (sftp.MAX_DATA, sftp.MAX_DATA + 1, 2**32 - 1):
            self.assertEqual(
                client.content("data", "read", handle, u64(0), u32(length)), big[: sftp.MAX_DATA]
            )

    def test_longer_than_the_limit_is_shortened_for_storages_that_read_too_much(self):
        storage = Whole()
        storage.read = lambda handle, off, size: bytes(size + 1000)
        client = Client(storage)
        handle = client.open(b"f")
        self.assertEqual(client.content("data", "read", handle, u64(0), u32(2**32 - 1)), bytes(sftp.MAX_DATA))
        self.assertEqual(client.content("data", "read", handle, u64(0), u32(10)), bytes(10))

    def test_at_and_past_the_end_is_eof_and_up_to_it_is_short(self):
        client = self.client()
        handle = client.open(b"f")
        for offset in (self.SIZE, self.SIZE + 1, 2**33, 2**40):
            for length in (1, sftp.MAX_DATA):
                self.assertEqual(client.status("read", handle, u64(offset), u32(length)), sftp.EOF)
        for tail in (1, LATE_FROM - 1, LATE_FROM, LATE_FROM + 1, sftp.MAX_DATA - 1):
            got = client.content("data", "read", handle, u64(self.SIZE - tail), u32(sftp.MAX_DATA))
            self.assertEqual(got, self.content[-tail:])

    def test_of_no_bytes_is_an_empty_data(self):
        client = self.client()
        handle = client.open(b"f")
        for offset in (0, self.SIZE, self.SIZE + 1):
            self.assertEqual(client.content("data", "read", handle, u64(offset), u32(0)), b"")

    def test_gets_the_bytes_as_they_were_before_the_requests_behind_it(self):
        read = request("read", 1, string(u32(1)), u64(0), u32(sftp.MAX_DATA))
        changes = {
            "WRITE": request("write", 2, string(u32(1)), u64(100), string(b"new" * 1000)),
            "WRITE by another handle": request("write", 2, string(u32(2)), u64(100), string(b"new" * 1000)),
            "FSETSTAT": request("fsetstat", 2, string(u32(1)), attrs(Attributes(size=10))),
            "SETSTAT": request("setstat", 2, string(b"f"), attrs(Attributes(size=10))),
            "OPEN with TRUNC": request("open", 2, string(b"f"), u32(sftp.WRITE | sftp.TRUNC), sftp.NO_ATTRS),
            "CLOSE": request("close", 2, string(u32(1))),
            "copy-data": request("copy-data", 2, string(u32(3)), u64(0), u64(0), string(u32(2)), u64(0)),
        }
        (self.root / "other").write_bytes(b"other" * 1000)
        for what, change in changes.items():
            with self.subTest(what):
                self.file.write_bytes(self.content)
                client = self.client()
                client.open(b"f", sftp.READ | sftp.WRITE)
                client.open(b"f", sftp.READ | sftp.WRITE)
                client.open(b"other", sftp.READ)
                answers = replies(client.feed(read + change))
                self.assertEqual(answers[0], (1, ("data", self.content[: sftp.MAX_DATA], b"")))
                self.assertIn(answers[1][1].kind, ("status", "handle"))
                if answers[1][1].kind == "status":
                    self.assertEqual(answers[1][1].content, sftp.OK)

    def test_a_closed_descriptor_that_is_used_again_at_once_is_not_read_from(self):
        (self.root / "g").write_bytes(bytes(self.SIZE))
        client = self.client()
        handle = client.open(b"f")
        output = client.feed(
            request("read", 1, handle, u64(0), u32(sftp.MAX_DATA))
            + request("close", 2, handle)
            + request("open", 3, string(b"g"), u32(sftp.READ), sftp.NO_ATTRS)
        )
        self.assertEqual(replies(output)[0][1].content, self.content[: sftp.MAX_DATA])

    def test_a_file_that_shrinks_before_the_next_request_is_read_as_that_request_finds_it(self):
        client = self.client()
        handle = client.open(b"f")
        client.server.log.level = INFO  # with more, READs are not late
        client.server.input_queue = request("read", 1, handle, u64(0), u32(sftp.MAX_DATA))
        client.server.process()
        os.truncate(self.file, 100)
        client.server.input_queue = request("stat", 2, string(b"f"))
        client.server.process()
        answers = replies(client.server.output_queue)
        self.assertEqual(answers[0], (1, ("data", self.content[:100], b"")))
        self.assertEqual(answers[1][1].kind, "attrs")

    def test_a_file_that_shrinks_before_its_reply_is_taken_gives_no_filler(self):
        for size, expected in (
            (100, ("data", self.content[:100], b"")),
            (0, ("status", sftp.EOF, b"End of file")),
        ):
            client = self.client()
            handle = client.open(b"f")
            client.server.log.level = INFO
            client.server.input_queue = request("read", 1, handle, u64(0), u32(sftp.MAX_DATA))
            client.server.process()
            os.truncate(self.file, size)
            self.assertEqual(replies(client.server.output_queue)[0], (1, expected))

    def test_files_that_announce_a_wrong_size_are_read_as_they_are(self):
        client = Client(SFTPServerStorage("/"))
        self.addCleanup(client.server.close)
        for path in ("/proc/self/maps", "/proc/cpuinfo", "/sys/kernel/mm/transparent_hugepage/enabled"):
            if not os.path.exists(path):
                path = "/proc/version"
            with self.subTest(path):
                handle = client.open(path.encode())
                content = b""
                while True:
                    reply = client.ask("read", handle, u64(len(content)), u32(sftp.MAX_DATA))
                    if reply.kind == "status":
                        self.assertEqual(reply.content, sftp.EOF)
                        break
                    content += reply.content
                expected = Path(path).read_bytes()
                self.assertTrue(content)
                self.assertEqual(content.split(b"\n")[0], expected.split(b"\n")[0])
                client.status("close", handle)

    def test_a_sysfs_file_is_not_promised_by_its_size(self):
        client = Client(SFTPServerStorage("/"))
        self.addCleanup(client.server.close)
        handle = client.open(b"/sys/kernel/uevent_seqnum")
        self.assertEqual(os.stat("/sys/kernel/uevent_seqnum").st_size, 4096)
        got = client.content("data", "read", handle, u64(0), u32(sftp.MAX_DATA))
        self.assertRegex(got, rb"\A\d+\n\Z")

    def test_a_sparse_file_reads_as_zeros(self):
        os.truncate(self.file, 0)
        os.truncate(self.file, 2**33)
        client = self.client()
        handle = client.open(b"f")
        self.assertEqual(
            client.content("data", "read", handle, u64(2**32 + 5), u32(sftp.MAX_DATA)), bytes(sftp.MAX_DATA)
        )

    def test_a_buffer_that_a_storage_uses_again_keeps_replies_apart(self):
        class Reusing(Whole):
            buffer = bytearray(10)

            def read(self, handle: Any, off: int, size: int) -> bytearray:
                self.buffer[:] = b"%010d" % off
                return self.buffer

        client = Client(Reusing())
        handle = client.open(b"f")
        output = client.feed(
            request("read", 1, handle, u64(1), u32(10)) + request("read", 2, handle, u64(2), u32(10))
        )
        self.assertEqual([reply.content for _, reply in replies(output)], [b"0000000001", b"0000000002"])

    def test_any_bytes_like_object_may_be_read(self):
        for data, expected in (
            (bytearray(b"abc"), b"abc"),
            (memoryview(b"abc"), b"abc"),
            (memoryview(b"abcd").cast("H"), b"abcd"),
            (memoryview(b"abcdef")[::2], b"ace"),
        ):
            with self.subTest(data):
                self.assertEqual(self.read_from_a_storage_that_returns(data), ("data", expected, b""))
        for data in (b"", bytearray(), None):
            with self.subTest(data):
                self.assertEqual(self.read_from_a_storage_that_returns(data).content, sftp.EOF)

    def test_anything_that_is_not_bytes_like_is_a_failure_and_the_session_goes_on(self):
        for data in ("text", 5, [b"a"], (1, 2), object()):
            with self.subTest(data):
                self.assertEqual(self.read_from_a_storage_that_returns(data).content, sftp.FAILURE)

    def read_from_a_storage_that_returns(self, data: Any) -> packets.Reply:
        """The reply to a READ; the session must go on behind it."""
        storage = Whole()
        storage.read = lambda handle, off, size: data
        client = Client(storage)
        reply = client.ask("read", client.open(b"f"), u64(0), u32(100))
        self.assertEqual(client.ask("stat", string(b"/")).kind, "attrs")
        return reply
