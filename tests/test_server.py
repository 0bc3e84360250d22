"""pysftpserver.server: framing, the order of replies, errors, handles, back-pressure. No I/O but files."""

from __future__ import annotations

import os
import random
import re
import shutil
import tempfile
import unittest
from pathlib import Path
from typing import Any

import pysftpserver
from pysftpserver import server as server_module
from pysftpserver import wire
from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.log import ERROR
from pysftpserver.pysftpexceptions import (
    SFTPException,
    SFTPForbidden,
    SFTPNotFound,
    SFTPSessionEnd,
)
from pysftpserver.segments import SPAN_FROM
from pysftpserver.server import SFTPServer
from pysftpserver.storage import SFTPServerStorage
from tests import packets
from tests.packets import (
    BAD_MESSAGE,
    CREAT,
    EOF,
    FAILURE,
    HELLO,
    MAX_DATA,
    MAX_PACKET,
    NO_ATTRS,
    NO_SUCH_FILE,
    OK,
    OP_UNSUPPORTED,
    PERMISSION_DENIED,
    READ,
    TRUNC,
    WRITE,
    Attributes,
    Client,
    attrs,
    packet,
    replies,
    request,
    split,
    string,
    u32,
    u64,
)
from tests.storages import METHODS, Failing, Listed, Whole

PACKAGE = str(Path(pysftpserver.__file__).parent)


class InADirectory(unittest.TestCase):
    """A plain storage on an empty directory, self.root."""

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(tempfile.mkdtemp(prefix="pysftpserver-server-"))
        self.addCleanup(shutil.rmtree, self.root)

    def storage(self) -> SFTPServerStorage:
        return SFTPServerStorage(self.root)

    def client(self, **options: Any) -> Client:
        client = Client(self.storage(), **options)
        self.addCleanup(client.server.close)
        return client


class Framing(InADirectory):
    def session(self) -> bytes:
        """A session's input with requests of many shapes, good and bad."""
        handle, listing = string(u32(1)), string(u32(2))
        return b"".join(
            (
                HELLO,
                request("open", 1, string(b"f"), u32(READ | WRITE | CREAT), NO_ATTRS),
                request("opendir", 2, string(b"/nonexistent")),
                request("write", 3, handle, u64(0), string(bytes(range(256)))),
                request("read", 4, handle, u64(10), u32(100)),
                request("write", 5, handle, u64(3), u32(1000)),  # malformed
                request("opendir", 6, string(b".")),
                packet(77, u32(7)),
                request("limits", 8),
                request("read", 9, listing, u64(0), u32(1)),
                request("setstat", 10, string(b"f"), attrs(Attributes(size=5))),
                request("read", 11, handle, u64(0), u32(100)),
                HELLO,
                request("close", 12, listing),
                request("close", 13, handle),
            )
        )

    def test_a_session_gives_the_same_output_in_pieces_of_every_size(self):
        session = self.session()
        whole = replies(self.serve([session]))
        self.assertEqual([number for number, _ in whole], list(range(1, 14)))
        for size in range(1, len(session)):
            pieces = [session[at : at + size] for at in range(0, len(session), size)]
            self.assertEqual(replies(self.serve(pieces)), whole, f"in pieces of {size} bytes")

    def test_a_session_gives_the_same_output_cut_in_two_anywhere(self):
        session = self.session()
        whole = replies(self.serve([session]))
        for at in range(len(session)):
            self.assertEqual(replies(self.serve([session[:at], session[at:]])), whole, f"cut at {at}")

    def serve(self, pieces: list[bytes]) -> bytes:
        server = SFTPServer(self.storage())
        output = b""
        for piece in pieces:
            server.input_queue += piece
            server.process()
            output += server.output_queue
            server.output_queue = b""
        self.assertEqual(server.input_queue, b"")
        server.close()
        (self.root / "f").unlink()
        return output

    def test_an_incomplete_packet_stays_in_the_input_queue_until_the_rest_is_there(self):
        client = self.client()
        whole = request("stat", 1, string(b"."))
        self.assertEqual(len(replies(client.feed(whole + whole[:9]))), 1)
        self.assertEqual(client.server.input_queue, whole[:9])
        self.assertEqual(len(replies(client.feed(whole[9:]))), 1)
        self.assertEqual(client.server.input_queue, b"")

    def test_the_longest_packet_is_served_and_one_byte_more_ends_the_session(self):
        body = u32(1) + string(b".")
        longest = packet(17, body + bytes(MAX_PACKET - 1 - len(body)))
        client = self.client()
        self.assertEqual(replies(client.feed(longest))[0][1].kind, "attrs")
        self.assert_ends(client, packet(17, body + bytes(MAX_PACKET - len(body))))

    def assert_ends(self, client: Client, data: bytes) -> None:
        """The session ends, with an error in the log, and whatever comes later is not served."""
        self.assertEqual(client.feed(data), b"")
        self.assertTrue(client.server.ended)
        self.assertEqual(len(client.lines(ERROR)), 1)
        self.assertEqual(client.feed(request("stat", 1, string(b"."))), b"")
        self.assertEqual(client.feed(HELLO), b"")
        self.assertEqual(client.server.input_queue, b"")

    def test_an_impossible_length_ends_the_session_before_its_packet_is_there(self):
        for length in (MAX_PACKET + 1, 2**31, 2**32 - 1):
            with self.subTest(length):
                self.assert_ends(self.client(), u32(length) + b"\5")

    def test_an_empty_packet_and_one_without_an_id_end_the_session(self):
        for data in (u32(0) + b"\0", u32(1) + b"\5", u32(4) + b"\5\0\0\0", packet(200, b"")):
            with self.subTest(data):
                self.assert_ends(self.client(), data)

    def test_what_was_asked_before_a_broken_length_is_still_answered(self):
        client = self.client()
        output = client.feed(request("stat", 5, string(b".")) + u32(2**30) + b"\0")
        self.assertEqual([number for number, _ in replies(output)], [5])
        self.assertTrue(client.server.ended)

    def test_a_request_before_init_ends_the_session(self):
        for data in (request("stat", 1, string(b"/")), packet(77, u32(1)), request("limits", 1)):
            server = SFTPServer(Whole(), logfile=self.root / "log")
            server.input_queue = data + HELLO
            server.process()
            self.assertEqual(server.output_queue, b"")
            self.assertTrue(server.ended)
            self.assertEqual((self.root / "log").read_text().count("\n"), 1)
            (self.root / "log").unlink()
            self.assertEqual(server.storage.calls, [])

    def test_init_is_answered_with_version_three_whatever_it_says_and_again_each_time(self):
        client = self.client()
        for version, more in ((3, b""), (6, string(b"name") + string(b"data")), (0, b"\xff")):
            answer = split(client.feed(packet(1, u32(version) + more)))
            self.assertEqual(answer, [client.version])

    def test_an_init_without_its_version_ends_the_session(self):
        for size in range(4):
            self.assert_ends(self.client(), packet(1, bytes(size)))

    def test_what_follows_a_complete_body_is_passed_over(self):
        client = self.client()
        self.assertEqual(client.ask("stat", string(b"."), b"more").kind, "attrs")
        self.assertEqual(client.ask("limits", b"more").kind, "extended")


class Interface(unittest.TestCase):
    def test_the_constants_are_importable_from_the_server(self):
        everything: dict[str, Any] = {}
        exec("from pysftpserver.server import *", everything)
        self.assertIs(everything["SFTPServer"], SFTPServer)
        constants = {name for name in vars(wire) if re.match(r"SSH2_(FXP?|FXF)_", name)}
        self.assertGreaterEqual(len(constants), 42)
        for name in constants:
            self.assertEqual(everything[name], getattr(wire, name))
            self.assertEqual(getattr(server_module, name), getattr(wire, name))
        self.assertEqual((everything["SSH2_FXP_EXTENDED"], everything["SSH2_FX_OP_UNSUPPORTED"]), (200, 8))

    def test_input_and_output_queues_are_bytes_to_assign_and_add_to(self):
        server = SFTPServer(Whole())
        server.input_queue = HELLO
        server.input_queue += request("stat", 1, string(b"/"))[:7]
        server.process()
        self.assertEqual(server.input_queue, request("stat", 1, string(b"/"))[:7])
        self.assertIsInstance(server.output_queue, bytes)
        self.assertEqual(server.output_queue, server.output_queue, "reading changes nothing")
        first = server.output_queue
        server.input_queue += request("stat", 1, string(b"/"))[7:]
        server.process()
        self.assertTrue(server.output_queue.startswith(first))
        self.assertEqual(len(split(server.output_queue)), 2)
        server.output_queue = b""
        self.assertEqual((server.output_queue, server.output.size), (b"", 0))
        server.output_queue = b"kept"
        self.assertEqual((server.output_queue, server.output.size), (b"kept", 4))

    def test_raise_on_error_raises_after_the_reply_is_queued_and_needs_no_init(self):
        server = SFTPServer(Failing("stat", SFTPNotFound("gone")), raise_on_error=True)
        server.input_queue = request("stat", 1, string(b"/")) + request("lstat", 2, string(b"/"))
        with self.assertRaisesRegex(SFTPNotFound, "gone"):
            server.process()
        ((number, reply),) = replies(server.output_queue)
        self.assertEqual((number, reply.content, reply.message), (1, NO_SUCH_FILE, b"gone"))
        server.process()  # goes on behind the request that failed
        self.assertEqual([reply.kind for _, reply in replies(server.output_queue)], ["status", "attrs"])

    def test_without_raise_on_error_nothing_is_raised(self):
        client = Client(Failing("stat", ValueError()))
        self.assertEqual(client.status("stat", string(b"/")), FAILURE)

    def test_an_unknown_request_name_is_an_error_at_once(self):
        for options in ({"allow": ["open", "nope"]}, {"deny": ["OPEN"]}):
            with self.subTest(options), self.assertRaisesRegex(ValueError, "nope|OPEN"):
                SFTPServer(Whole(), **options)

    def test_a_logfile_is_appended_to(self):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "log")
            path.write_text("before\n")
            server = SFTPServer(Whole(), logfile=path)
            server.input_queue = HELLO + request("opendir", 1, string(b"d"))
            server.process()
            server.close()
            before, opened, *_ = path.read_text().splitlines()
            self.assertEqual(before, "before")
            self.assertIn('opendir "d"', opened)

    def test_a_logfile_that_cannot_be_opened_is_an_error_at_once(self):
        with self.assertRaises(OSError):
            SFTPServer(Whole(), logfile="/nonexistent/log")

    def test_close_may_be_called_twice(self):
        storage = Whole()
        client = Client(storage)
        client.open(b"f")
        client.server.close()
        client.server.close()
        self.assertEqual(storage.calls.count("close"), 1)


class Replies(InADirectory):
    def test_come_in_the_order_of_their_requests_with_their_ids(self):
        seed = random.randrange(2**32)
        order = random.Random(seed)
        (self.root / "big").write_bytes(order.randbytes(SPAN_FROM * 3))
        client = self.client()
        handle = client.open(b"big")
        shapes = [
            lambda number: request("stat", number, string(b"big")),
            lambda number: request("stat", number, string(b"missing")),
            lambda number: request("read", number, handle, u64(0), u32(SPAN_FROM * 2)),
            lambda number: request("read", number, handle, u64(5), u32(10)),
            lambda number: request("read", number, handle, u64(2**40), u32(10)),
            lambda number: packet(99, u32(number)),
            lambda number: request("limits", number),
        ]
        numbers = [order.randrange(2**32) for _ in range(300)]
        output = client.feed(b"".join(order.choice(shapes)(number) for number in numbers))
        self.assertEqual([number for number, _ in replies(output)], numbers, f"seed {seed}")

    def test_every_status_has_a_message_and_a_language_tag(self):
        client = self.client()
        for name, parts, status in (
            ("mkdir", (string(b"d"), NO_ATTRS), OK),
            ("stat", (string(b"missing"),), NO_SUCH_FILE),
            ("close", (string(b"?"),), FAILURE),
            ("stat", (u32(9),), BAD_MESSAGE),
            ("rmdir", (string(b"d"),), OK),
        ):
            body = split(client.feed(request(name, 1, *parts)))[0]
            reader = packets.Reader(body[1:])
            self.assertEqual((body[0], reader.u32(), reader.u32()), (101, 1, status))
            self.assertTrue(reader.string().decode())
            reader.string()
            reader.finish()

    def test_are_never_longer_than_a_packet_may_be(self):
        client = Client(SFTPAbstractServerStorage())
        for name, parts in (
            ("realpath", (string(b"a" * 200_000),)),
            ("expand-path", (string(b"a" * 200_000),)),
            ("users-groups-by-id", (string(u32(0) * 60_000), string(b""))),
        ):
            if name == "users-groups-by-id":
                client = Client(Whole())
            with self.subTest(name):
                output = client.feed(request(name, 1, *parts))
                self.assertEqual(len(replies(output)), 1)
                self.assertLessEqual(len(output), MAX_PACKET + 4)

    def test_unknown_types_and_extensions_are_unsupported_and_the_session_goes_on(self):
        client = self.client()
        known = set(packets.REQUEST_TYPES.values()) | {1}
        for kind in sorted(set(range(256)) - known):
            ((_, reply),) = replies(client.feed(packet(kind, u32(1) + b"whatever")))
            self.assertEqual(reply.content, OP_UNSUPPORTED, f"type {kind}")
        for name in (b"", b"nope@example.com", b"fsync", b"\xff\0", b"limits@openssh.com\0", b"x" * 1000):
            ((_, reply),) = replies(client.feed(packet(200, u32(1) + string(name))))
            self.assertEqual(reply.content, OP_UNSUPPORTED, name)
        self.assertEqual(client.ask("stat", string(b".")).kind, "attrs")

    def test_a_malformed_body_is_a_bad_message_and_the_session_goes_on(self):
        from tests.test_requests import BODIES

        client = Client(Whole())
        for name, body in BODIES.items():
            for size in range(len(body)):
                with self.subTest(name, size=size):
                    self.assertEqual(client.status(name, body[:size]), BAD_MESSAGE)
        self.assertEqual(client.server.storage.calls, [])
        ((_, reply),) = replies(client.feed(packet(200, u32(1) + u32(50) + b"limits@openssh.com")))
        self.assertEqual(reply.content, BAD_MESSAGE)
        self.assertEqual(client.ask("stat", string(b".")).kind, "attrs")


class Reading(InADirectory):
    """READ, from the queue of bytes and from spans of files that are read only when they are sent."""

    SIZE = 4 * SPAN_FROM

    def setUp(self) -> None:
        super().setUp()
        self.content = random.Random(1).randbytes(self.SIZE)
        self.file = self.root / "f"
        self.file.write_bytes(self.content)

    def test_longer_than_the_limit_is_shortened(self):
        big = random.Random(2).randbytes(MAX_DATA + 5000)
        self.file.write_bytes(big)
        client = self.client()
        handle = client.open(b"f")
        for length in (MAX_DATA, MAX_DATA + 1, 2**32 - 1):
            self.assertEqual(client.content("data", "read", handle, u64(0), u32(length)), big[:MAX_DATA])

    def test_longer_than_the_limit_is_shortened_for_storages_that_read_too_much(self):
        storage = Whole()
        storage.read = lambda handle, off, size: bytes(size + 1000)
        client = Client(storage)
        handle = client.open(b"f")
        self.assertEqual(client.content("data", "read", handle, u64(0), u32(2**32 - 1)), bytes(MAX_DATA))
        self.assertEqual(client.content("data", "read", handle, u64(0), u32(10)), bytes(10))

    def test_at_and_past_the_end_is_eof_and_up_to_it_is_short(self):
        client = self.client()
        handle = client.open(b"f")
        for offset in (self.SIZE, self.SIZE + 1, 2**33, 2**40):
            for length in (1, MAX_DATA):
                self.assertEqual(client.status("read", handle, u64(offset), u32(length)), EOF)
        for tail in (1, SPAN_FROM - 1, SPAN_FROM, SPAN_FROM + 1, MAX_DATA - 1):
            got = client.content("data", "read", handle, u64(self.SIZE - tail), u32(MAX_DATA))
            self.assertEqual(got, self.content[-tail:])

    def test_of_no_bytes_is_an_empty_data(self):
        client = self.client()
        handle = client.open(b"f")
        for offset in (0, self.SIZE, self.SIZE + 1):
            self.assertEqual(client.content("data", "read", handle, u64(offset), u32(0)), b"")

    def test_gets_the_bytes_as_they_were_before_the_requests_behind_it(self):
        read = request("read", 1, string(u32(1)), u64(0), u32(MAX_DATA))
        changes = {
            "WRITE": request("write", 2, string(u32(1)), u64(100), string(b"new" * 1000)),
            "WRITE by another handle": request("write", 2, string(u32(2)), u64(100), string(b"new" * 1000)),
            "FSETSTAT": request("fsetstat", 2, string(u32(1)), attrs(Attributes(size=10))),
            "SETSTAT": request("setstat", 2, string(b"f"), attrs(Attributes(size=10))),
            "OPEN with TRUNC": request("open", 2, string(b"f"), u32(WRITE | TRUNC), NO_ATTRS),
            "CLOSE": request("close", 2, string(u32(1))),
            "copy-data": request("copy-data", 2, string(u32(3)), u64(0), u64(0), string(u32(2)), u64(0)),
        }
        (self.root / "other").write_bytes(b"other" * 1000)
        for what, change in changes.items():
            with self.subTest(what):
                self.file.write_bytes(self.content)
                client = self.client()
                client.open(b"f", READ | WRITE)
                client.open(b"f", READ | WRITE)
                client.open(b"other", READ)
                answers = replies(client.feed(read + change))
                self.assertEqual(answers[0], (1, ("data", self.content[:MAX_DATA], b"")))
                self.assertIn(answers[1][1].kind, ("status", "handle"))
                if answers[1][1].kind == "status":
                    self.assertEqual(answers[1][1].content, OK)

    def test_a_closed_descriptor_that_is_used_again_at_once_is_not_read_from(self):
        (self.root / "g").write_bytes(bytes(self.SIZE))
        client = self.client()
        handle = client.open(b"f")
        output = client.feed(
            request("read", 1, handle, u64(0), u32(MAX_DATA))
            + request("close", 2, handle)
            + request("open", 3, string(b"g"), u32(READ), NO_ATTRS)
        )
        self.assertEqual(replies(output)[0][1].content, self.content[:MAX_DATA])

    def test_a_file_that_shrinks_before_it_is_settled_ends_the_session_without_filler(self):
        client = self.client()
        handle = client.open(b"f")
        client.server.input_queue = request("read", 1, handle, u64(0), u32(MAX_DATA))
        client.server.process()
        os.truncate(self.file, 100)
        client.server.input_queue = request("stat", 2, string(b"f"))
        client.server.process()
        self.assertTrue(client.server.ended)
        self.assertEqual(len([line for line in client.lines(ERROR) if "shrank" in line]), 1)

    def test_a_file_that_shrinks_before_its_reply_is_taken_gives_no_filler(self):
        client = self.client()
        handle = client.open(b"f")
        client.server.input_queue = request("read", 1, handle, u64(0), u32(MAX_DATA))
        client.server.process()
        os.truncate(self.file, 100)
        with self.assertRaises(SFTPSessionEnd):
            client.server.output_queue  # noqa: B018 -- reading it is what is tested

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
                    reply = client.ask("read", handle, u64(len(content)), u32(MAX_DATA))
                    if reply.kind == "status":
                        self.assertEqual(reply.content, EOF)
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
        got = client.content("data", "read", handle, u64(0), u32(MAX_DATA))
        self.assertRegex(got, rb"\A\d+\n\Z")

    def test_a_sparse_file_reads_as_zeros(self):
        os.truncate(self.file, 0)
        os.truncate(self.file, 2**33)
        client = self.client()
        handle = client.open(b"f")
        self.assertEqual(
            client.content("data", "read", handle, u64(2**32 + 5), u32(MAX_DATA)), bytes(MAX_DATA)
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
                self.assertEqual(self.read_from_a_storage_that_returns(data).content, EOF)

    def test_anything_that_is_not_bytes_like_is_a_failure_and_the_session_goes_on(self):
        for data in ("text", 5, [b"a"], (1, 2), object()):
            with self.subTest(data):
                self.assertEqual(self.read_from_a_storage_that_returns(data).content, FAILURE)

    def read_from_a_storage_that_returns(self, data: Any) -> packets.Reply:
        """The reply to a READ; the session must go on behind it."""
        storage = Whole()
        storage.read = lambda handle, off, size: data
        client = Client(storage)
        reply = client.ask("read", client.open(b"f"), u64(0), u32(100))
        self.assertEqual(client.ask("stat", string(b"/")).kind, "attrs")
        return reply


class Handles(InADirectory):
    def test_are_never_used_again_and_a_closed_one_is_a_failure(self):
        (self.root / "f").write_bytes(b"x")
        client = self.client()
        seen = set()
        for number in range(500):
            handle = client.open(b"f") if number % 2 else client.opendir(b".")
            self.assertNotIn(handle, seen)
            seen.add(handle)
            self.assertEqual(client.status("close", handle), OK)
            self.assertEqual(client.status("close", handle), FAILURE)

    def test_that_are_not_open_or_of_the_wrong_kind_are_failures_with_a_message(self):
        (self.root / "f").write_bytes(b"x")
        client = self.client()
        file, directory, closed = client.open(b"f", READ | WRITE), client.opendir(b"."), client.open(b"f")
        client.status("close", closed)
        never = [string(name) for name in (b"", b"\0", u32(0), u32(99), u64(1), b"x" * 1000)] + [closed]
        for_files = {
            "read": (u64(0), u32(1)),
            "write": (u64(0), string(b"y")),
            "fstat": (),
            "fsetstat": (attrs(Attributes(permissions=0o600)),),
            "fstatvfs": (),
            "fsync": (),
            "copy-data": (u64(0), u64(0), file, u64(0)),
        }
        for handle in (*never, directory):
            for name, rest in for_files.items():
                with self.subTest(name, handle=handle):
                    self.assertEqual(client.status(name, handle, *rest), FAILURE)
            self.assertEqual(client.status("copy-data", file, u64(0), u64(0), handle, u64(0)), FAILURE)
        for handle in (*never, file):
            with self.subTest("readdir", handle=handle):
                self.assertEqual(client.status("readdir", handle), FAILURE)
        for handle in never:
            self.assertEqual(client.status("close", handle), FAILURE)
        self.assertEqual((self.root / "f").read_bytes(), b"x")

    def test_too_many_are_a_failure_before_anything_is_opened_and_closing_makes_room(self):
        client = self.client(max_handles=3)
        flags = u32(WRITE | CREAT)
        handles = [client.opendir(b"."), client.open(b"a", WRITE | CREAT), client.open(b"b", WRITE | CREAT)]
        self.assertEqual(client.status("open", string(b"c"), flags, NO_ATTRS), FAILURE)
        self.assertEqual(client.status("opendir", string(b".")), FAILURE)
        self.assertEqual(sorted(os.listdir(self.root)), ["a", "b"])
        self.assertEqual(client.ask("stat", string(b".")).kind, "attrs")
        self.assertEqual(client.status("close", handles[0]), OK)
        client.open(b"c", WRITE | CREAT)

    def test_limits_tells_how_many_there_may_be(self):
        for limit in (1, 77):
            body = self.client(max_handles=limit).content("extended", "limits")
            self.assertEqual(body, u64(262144) + u64(261120) + u64(261120) + u64(limit))
        reader = packets.Reader(self.client().content("extended", "limits"))
        reader.take(24)
        self.assertIn(reader.u64(), range(16, os.sysconf("SC_OPEN_MAX")))

    def test_all_close_at_the_end_listings_that_were_never_read_too(self):
        (self.root / "f").write_bytes(b"x")
        before = len(os.listdir("/proc/self/fd"))
        client = self.client()
        for _ in range(20):
            client.open(b"f")
            client.opendir(b".")
        begun = client.opendir(b".")
        client.ask("readdir", begun)
        self.assertGreaterEqual(len(os.listdir("/proc/self/fd")), before + 41)
        client.server.close()
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
        closed = [line for line in client.lines() if line.startswith("forced close")]
        self.assertEqual(len(closed), 41)

    def test_one_that_cannot_be_closed_does_not_keep_the_others_open(self):
        class Stubborn(Whole):
            def close(self, handle: object) -> None:
                super().close(handle)
                raise (ValueError, SystemExit, KeyboardInterrupt)[self.calls.count("close") % 3]

        storage = Stubborn()
        client = Client(storage)
        for _ in range(6):
            client.open(b"f")
        client.server.close()
        self.assertEqual(storage.calls.count("close"), 6)

    def test_a_listing_is_closed_once_by_close_or_by_the_end(self):
        storage = Listed([])
        client = Client(storage)
        first = client.opendir(b"d")
        client.opendir(b"d")
        self.assertEqual(client.status("close", first), OK)
        self.assertEqual(storage.closed, 1)
        client.server.close()
        client.server.close()
        self.assertEqual(storage.closed, 2)

    def test_a_file_whose_descriptor_cannot_be_told_is_closed_again(self):
        storage = Failing("fileno", ValueError())
        client = Client(storage)
        self.assertEqual(client.status("open", string(b"f"), u32(READ), NO_ATTRS), FAILURE)
        self.assertEqual(storage.calls, ["open", "fileno", "close"])


class CustomBase(BaseException):
    """No Exception, and nobody's idea of an error."""


class Speechless(Exception):
    """Cannot even be printed."""

    def __str__(self) -> str:
        raise ValueError("no words")


class OddStatus(SFTPException):
    """A status code of its own."""

    status = 31


SECRET = "/srv/secret/path"
ANYTHING = [
    ValueError(SECRET),
    KeyError(SECRET),
    SystemExit(SECRET),
    OSError(SECRET),
    CustomBase(SECRET),
    MemoryError(),
    RecursionError(SECRET),
    AssertionError(SECRET),
    GeneratorExit(SECRET),
    ExceptionGroup(SECRET, [ValueError(SECRET)]),
    UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET),
]
# How each method of a storage is reached. {h}: a file's handle, {d}: a directory's.
WAYS: dict[str, tuple[str, tuple[bytes | str, ...]]] = {
    "realpath": ("realpath", (string(b"x"),)),
    "userhome": ("home-directory", (string(b"x"),)),
    "username": ("users-groups-by-id", (string(u32(1)), string(b""))),
    "groupname": ("users-groups-by-id", (string(b""), string(u32(1)))),
    "stat": ("stat", (string(b"x"),)),
    "lstat": ("lstat", (string(b"x"),)),
    "fstat": ("fstat", ("{h}",)),
    "setstat": ("setstat", (string(b"x"), attrs(Attributes(size=1)))),
    "lsetstat": ("lsetstat", (string(b"x"), attrs(Attributes(permissions=1)))),
    "fsetstat": ("fsetstat", ("{h}", attrs(Attributes(size=1)))),
    "opendir": ("opendir", (string(b"x"),)),
    "mkdir": ("mkdir", (string(b"x"), NO_ATTRS)),
    "rmdir": ("rmdir", (string(b"x"),)),
    "open": ("open", (string(b"x"), u32(READ), NO_ATTRS)),
    "fileno": ("open", (string(b"x"), u32(READ), NO_ATTRS)),
    "read": ("read", ("{h}", u64(0), u32(5))),
    "write": ("write", ("{h}", u64(0), string(b"x"))),
    "close": ("close", ("{h}",)),
    "fsync": ("fsync", ("{h}",)),
    "rm": ("remove", (string(b"x"),)),
    "rename": ("rename", (string(b"x"), string(b"y"))),
    "symlink": ("symlink", (string(b"x"), string(b"y"))),
    "readlink": ("readlink", (string(b"x"),)),
    "link": ("hardlink", (string(b"x"), string(b"y"))),
    "statvfs": ("statvfs", (string(b"x"),)),
    "fstatvfs": ("fstatvfs", ("{h}",)),
}


class StoragesThatFail(unittest.TestCase):
    def ask(self, client: Client, handle: bytes, method: str) -> packets.Reply:
        name, parts = WAYS[method]
        return client.ask(name, *(handle if part == "{h}" else part for part in parts))

    def assert_survives(self, method: str, error: BaseException) -> None:
        """A FAILURE with a message and no secret, a traceback without host paths, and life goes on."""
        storage = Failing()
        client = Client(storage)
        handle = client.open(b"f")
        storage.failing, storage.error = method, error
        client.log.clear()
        reply = self.ask(client, handle, method)
        self.assertEqual((reply.kind, reply.content), ("status", FAILURE))
        self.assertTrue(reply.message)
        self.assertNotIn(b"secret", reply.message)
        errors = client.lines(ERROR)
        self.assertTrue(any(type(error).__name__ in line for line in errors), errors)
        self.assertTrue(
            any(re.search(r"in tests\.storages, line \d+, act$", line) for line in errors), errors
        )
        self.assertFalse([line for line in errors if PACKAGE in line or ".py" in line or "\n" in line])
        storage.failing = ""
        self.assertEqual(client.ask("stat", string(b"/")).kind, "attrs")
        client.server.close()

    def test_every_method_has_its_way_here(self):
        own = {name for name in vars(SFTPAbstractServerStorage) if not name.startswith("_")} - {"home"}
        self.assertEqual(own, set(METHODS))
        self.assertEqual(own, set(WAYS))

    def test_with_anything_at_all_in_any_method_give_a_failure_and_the_session_goes_on(self):
        for method in WAYS:
            for error in ANYTHING:
                with self.subTest(method, error=repr(error)):
                    self.assert_survives(method, error)

    def test_with_a_stop_iteration_in_any_method_give_a_failure_and_the_session_goes_on(self):
        for method in WAYS:
            storage = Failing()
            client = Client(storage)
            handle = client.open(b"f")
            storage.failing, storage.error = method, StopIteration(SECRET)
            with self.subTest(method):
                reply = self.ask(client, handle, method)
                self.assertEqual((reply.kind, reply.content), ("status", FAILURE))
                self.assertNotIn(b"secret", reply.message)
                storage.failing = ""
                self.assertEqual(client.ask("stat", string(b"/")).kind, "attrs")

    def test_with_an_exception_that_cannot_be_printed_give_a_failure_and_the_session_goes_on(self):
        self.assert_survives("stat", Speechless())

    def test_with_an_oserror_whose_errno_is_no_errno_give_a_failure_and_the_session_goes_on(self):
        for error in (
            OSError("refused", SECRET),
            OSError(2**40, SECRET),
            OSError([], SECRET),
            OSError(-1, ""),
        ):
            with self.subTest(repr(error)):
                client = Client(Failing("stat", error))
                self.assertEqual(client.status("stat", string(b"/")), FAILURE)
                self.assertEqual(client.ask("lstat", string(b"/")).kind, "attrs")

    def test_with_a_status_of_their_own_send_it_and_the_session_goes_on(self):
        for error in (OddStatus(), OddStatus("with words")):
            with self.subTest(str(error)):
                client = Client(Failing("stat", error))
                self.assertEqual(client.status("stat", string(b"/")), 31)
                self.assertEqual(client.ask("lstat", string(b"/")).kind, "attrs")

    def test_with_more_words_than_a_packet_holds_are_cut_short(self):
        client = Client(Failing("stat", SFTPForbidden("x" * 1_000_000)))
        output = client.feed(request("stat", 1, string(b"/")))
        self.assertEqual(replies(output)[0][1].content, PERMISSION_DENIED)
        self.assertLessEqual(len(output), MAX_PACKET + 4)

    def test_with_an_oserror_say_what_the_system_says_and_never_the_file(self):
        for number, status, message in (
            (2, NO_SUCH_FILE, b"No such file"),
            (13, PERMISSION_DENIED, b"Permission denied"),
            (28, FAILURE, b"No space left on device"),
            (22, BAD_MESSAGE, b"Bad message"),
            (38, OP_UNSUPPORTED, b"Operation unsupported"),
        ):
            client = Client(Failing("stat", OSError(number, SECRET, SECRET)))
            reply = client.ask("stat", string(b"/"))
            self.assertEqual((reply.content, reply.message), (status, message))

    def test_with_an_exception_of_their_own_words_send_them_as_utf_8(self):
        client = Client(Failing("stat", SFTPNotFound("nicht gefunden: \u00e4\ud800")))
        reply = client.ask("stat", string(b"/"))
        self.assertEqual((reply.content, reply.message), (NO_SUCH_FILE, "nicht gefunden: \u00e4?".encode()))

    def test_in_the_middle_of_a_listing_give_a_failure(self):
        def entries():
            yield b".", SFTPAttributes()
            raise ValueError(SECRET)

        storage = Whole()
        storage.opendir = lambda path: entries()
        client = Client(storage)
        handle = client.opendir(b"d")
        reply = client.ask("readdir", handle)
        self.assertEqual(reply.content, FAILURE)
        self.assertNotIn(b"secret", reply.message)
        self.assertEqual(client.status("close", handle), OK)

    def test_with_what_is_no_listing_give_a_failure(self):
        for entries in (None, 5):
            storage = Whole()
            storage.opendir = lambda path, entries=entries: entries
            client = Client(storage)
            self.assertEqual(client.status("opendir", string(b"d")), FAILURE)
        for entry in (b"name", (b"name",), ("text", SFTPAttributes()), (b"name", None), None):
            storage = Listed([entry])
            client = Client(storage)
            with self.subTest(entry):
                self.assertEqual(client.status("readdir", client.opendir(b"d")), FAILURE)

    def test_with_answers_of_the_wrong_type_give_a_failure_and_the_session_goes_on(self):
        for method in ("stat", "lstat", "fstat", "statvfs", "fstatvfs", "realpath", "readlink", "userhome"):
            for answer in (None, "text", 5):
                storage = Whole()
                client = Client(storage)
                handle = client.open(b"f")
                setattr(storage, method, lambda *arguments, answer=answer: answer)
                with self.subTest(method, answer=answer):
                    reply = self.ask(client, handle, method)
                    self.assertEqual((reply.kind, reply.content), ("status", FAILURE))
                    self.assertEqual(client.ask("rmdir", string(b"/")).content, OK)

    def test_a_session_end_from_a_storage_ends_the_session(self):
        client = Client(Failing("stat", SFTPSessionEnd("why not")))
        self.assertEqual(client.feed(request("stat", 1, string(b"/"))), b"")
        self.assertEqual(client.server.ended, "why not")

    def test_a_home_that_fails_gives_a_failure(self):
        class Homeless(Whole):
            @property
            def home(self) -> bytes:
                raise ValueError(SECRET)

        client = Client(Homeless())
        self.assertEqual(client.status("stat", string(b"x")), FAILURE)


class MethodsThatAreMissing(unittest.TestCase):
    NEEDED = {
        "statvfs": "statvfs",
        "fstatvfs": "fstatvfs",
        "hardlink": "link",
        "fsync": "fsync",
        "lsetstat": "lsetstat",
        "posix-rename": "rename",
        "copy-data": "read",
        "users-groups-by-id": "username",
    }

    def without(self, *methods: str) -> type[Whole]:
        own = {method: getattr(SFTPAbstractServerStorage, method) for method in methods}
        return type("Partial", (Whole,), own)

    def test_are_unsupported(self):
        quiet = {"realpath", "userhome", "username", "groupname", "fileno"}
        for method in set(WAYS) - quiet:
            name, parts = WAYS[method]
            client = Client(self.without(method)())
            handle = client.open(b"f") if method != "open" else b""
            with self.subTest(method):
                reply = client.ask(name, *(handle if part == "{h}" else part for part in parts))
                self.assertEqual((reply.kind, reply.content), ("status", OP_UNSUPPORTED))
                self.assertTrue(reply.message)

    def test_keep_their_extension_from_being_announced_and_only_theirs(self):
        for extension, method in self.NEEDED.items():
            announced = packets.extensions(Client(self.without(method)()).version)
            missing = set(packets.EXTENSIONS) - set(announced)
            with self.subTest(extension):
                self.assertEqual(missing, {packets.EXTENDED_NAMES[extension]})

    def test_write_and_groupname_count_as_well(self):
        for method, extension in (("write", "copy-data"), ("groupname", "users-groups-by-id")):
            announced = packets.extensions(Client(self.without(method)()).version)
            self.assertEqual(set(packets.EXTENSIONS) - set(announced), {packets.EXTENDED_NAMES[extension]})

    def test_posix_rename_is_not_announced_for_a_rename_that_cannot_replace(self):
        class Old(Whole):
            def rename(self, old: bytes, new: bytes) -> None:
                self.calls.append("rename")

        client = Client(Old())
        announced = packets.extensions(client.version)
        self.assertEqual(set(packets.EXTENSIONS) - set(announced), {b"posix-rename@openssh.com"})
        self.assertEqual(client.status("rename", string(b"a"), string(b"b")), OK)

    def test_posix_rename_is_announced_for_a_rename_that_takes_replace_in_any_way(self):
        class Keyword(Whole):
            def rename(self, old: bytes, new: bytes, *, replace: bool = False) -> None: ...

        class Any_(Whole):
            def rename(self, old: bytes, new: bytes, **options: bool) -> None: ...

        for storage in (Whole, Keyword, Any_):
            with self.subTest(storage.__name__):
                client = Client(storage())
                self.assertIn(b"posix-rename@openssh.com", packets.extensions(client.version))
                self.assertEqual(client.status("posix-rename", string(b"a"), string(b"b")), OK)

    def test_posix_rename_that_was_not_announced_is_unsupported(self):
        class Old(Whole):
            def rename(self, old: bytes, new: bytes) -> None: ...

        self.assertEqual(Client(Old()).status("posix-rename", string(b"a"), string(b"b")), OP_UNSUPPORTED)

    def test_an_empty_storage_has_what_needs_no_storage(self):
        client = Client(SFTPAbstractServerStorage())
        offered = {b"limits@openssh.com", b"expand-path@openssh.com", b"home-directory"}
        self.assertEqual(set(packets.extensions(client.version)), offered)
        self.assertEqual(client.content("name", "realpath", string(b"."))[0].name, b"/")
        self.assertEqual(client.content("name", "realpath", string(b"a//b/../c"))[0].name, b"/a/c")

    def test_paths_arrive_as_they_were_sent_without_a_home_and_joined_with_one(self):
        seen: list[bytes] = []
        storage = Whole()
        storage.lstat = lambda path: seen.append(path) or SFTPAttributes()
        client = Client(storage)
        for storage.home in (None, b"/home/me", b"/"):
            for path in (b"a/../b", b"/abs//x", b""):
                client.ask("lstat", string(path))
        self.assertEqual(
            seen,
            [b"a/../b", b"/abs//x", b"", b"/home/me/a/../b", b"/abs//x", b"", b"/a/../b", b"/abs//x", b""],
        )


class BackPressure(InADirectory):
    def test_consume_pauses_at_the_limit_and_resumes_where_it_was(self):
        (self.root / "f").write_bytes(bytes(MAX_DATA))
        client = self.client()
        handle = client.open(b"f")
        server = client.server
        one = request("read", 7, handle, u64(0), u32(MAX_DATA))
        buffer = memoryview(bytearray(one * 100))
        at, served = 0, 0
        while at < len(buffer):
            before = at
            at = server.consume(buffer, at, len(buffer))
            self.assertGreater(at, before)
            self.assertLessEqual(server.output.size, server.queue_limit + MAX_PACKET + 4)
            if at < len(buffer):
                self.assertGreater(server.output.size, server.queue_limit)
                self.assertEqual(server.consume(buffer, at, len(buffer)), at, "paused")
            served += len(replies(server.output_queue))
            server.output.clear()
        self.assertEqual(served, 100)

    def test_process_serves_everything_and_leaves_the_limit_as_it_was(self):
        (self.root / "f").write_bytes(bytes(MAX_DATA))
        client = self.client()
        handle = client.open(b"f")
        limit = client.server.queue_limit
        answered = replies(client.feed(request("read", 7, handle, u64(0), u32(MAX_DATA)) * 20))
        self.assertEqual((len(answered), client.server.queue_limit), (20, limit))

    def test_consume_keeps_nothing_of_the_buffer(self):
        client = self.client()
        handle = client.open(b"f", READ | WRITE | CREAT)
        data = bytearray(request("write", 1, handle, u64(0), string(b"kept")))
        with memoryview(data) as view:
            self.assertEqual(client.server.consume(view, 0, len(data)), len(data))
            view[:] = bytes(len(data))
        data.clear()  # raises BufferError while anybody refers to it
        self.assertEqual((self.root / "f").read_bytes(), b"kept")

    def test_sending_in_pieces_of_any_size_gives_the_same_bytes(self):
        content = random.Random(3).randbytes(2 * SPAN_FROM)
        (self.root / "f").write_bytes(content)
        client = self.client()
        handle = client.open(b"f")
        seed = random.randrange(2**32)
        order = random.Random(seed)
        server = client.server
        server.input_queue = (
            request("read", 1, handle, u64(0), u32(SPAN_FROM + 5))
            + request("read", 2, handle, u64(9), u32(3))
            + request("read", 3, handle, u64(1), u32(MAX_DATA))
        )
        server.process()
        whole = server.output_queue
        sent = b""
        while server.output.size:
            count = min(order.choice((1, 7, 13, 1000, 50_000)), server.output.size)
            now = server.output_queue
            self.assertEqual(len(now), server.output.size)
            sent += now[:count]
            server.output.sent(count)
        self.assertEqual(sent, whole, f"seed {seed}")
        self.assertEqual((server.output.segments, server.output.spans), ([], 0))
