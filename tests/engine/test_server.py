"""pysftpserver.server: its interface, the order of replies, back-pressure. No I/O but files."""

from __future__ import annotations

import random
import re
import tempfile
import unittest
from pathlib import Path
from typing import Any

from pysftpserver import server as server_module
from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.engine import wire
from pysftpserver.engine.bulk import LATE_FROM
from pysftpserver.pysftpexceptions import SFTPNotFound
from pysftpserver.server import SFTPServer
from tests.support import packets
from tests.support import packets as sftp
from tests.support.cases import InADirectory
from tests.support.packets import Client, packet, replies, request, split, string, u32, u64
from tests.support.storages import Failing, Whole


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

    def test_what_its_arguments_are_made_with_is_importable_from_the_server(self):
        everything: dict[str, Any] = {}
        exec("from pysftpserver.server import *", everything)
        log, limits = everything["SFTPLog"](), everything["Limits"](path=9)
        server = everything["SFTPServer"](Whole(), log=log, limits=limits)
        self.assertEqual((server.log, server.limits.path), (log, 9))

    def test_input_and_output_queues_are_bytes_to_assign_and_add_to(self):
        server = SFTPServer(Whole())
        server.input_queue = sftp.HELLO
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
        self.assertEqual((number, reply.content, reply.message), (1, sftp.NO_SUCH_FILE, b"gone"))
        server.process()  # goes on behind the request that failed
        self.assertEqual([reply.kind for _, reply in replies(server.output_queue)], ["status", "attrs"])

    def test_without_raise_on_error_nothing_is_raised(self):
        client = Client(Failing("stat", ValueError()))
        self.assertEqual(client.status("stat", string(b"/")), sftp.FAILURE)

    def test_an_unknown_request_name_is_an_error_at_once(self):
        for options in ({"allow": ["open", "nope"]}, {"deny": ["OPEN"]}):
            with self.subTest(options), self.assertRaisesRegex(ValueError, "nope|OPEN"):
                SFTPServer(Whole(), **options)

    def test_a_logfile_is_appended_to(self):
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "log")
            path.write_text("before\n")
            server = SFTPServer(Whole(), logfile=path)
            server.input_queue = sftp.HELLO + request("opendir", 1, string(b"d"))
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
        (self.root / "big").write_bytes(order.randbytes(LATE_FROM * 3))
        client = self.client()
        handle = client.open(b"big")
        shapes = [
            lambda number: request("stat", number, string(b"big")),
            lambda number: request("stat", number, string(b"missing")),
            lambda number: request("read", number, handle, u64(0), u32(LATE_FROM * 2)),
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
            ("mkdir", (string(b"d"), sftp.NO_ATTRS), sftp.OK),
            ("stat", (string(b"missing"),), sftp.NO_SUCH_FILE),
            ("close", (string(b"?"),), sftp.FAILURE),
            ("stat", (u32(9),), sftp.BAD_MESSAGE),
            ("rmdir", (string(b"d"),), sftp.OK),
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
                self.assertLessEqual(len(output), sftp.MAX_PACKET + 4)

    def test_unknown_types_and_extensions_are_unsupported_and_the_session_goes_on(self):
        client = self.client()
        known = set(packets.REQUEST_TYPES.values()) | {1}
        for kind in sorted(set(range(256)) - known):
            ((_, reply),) = replies(client.feed(packet(kind, u32(1) + b"whatever")))
            self.assertEqual(reply.content, sftp.OP_UNSUPPORTED, f"type {kind}")
        for name in (b"", b"nope@example.com", b"fsync", b"\xff\0", b"limits@openssh.com\0", b"x" * 1000):
            ((_, reply),) = replies(client.feed(packet(200, u32(1) + string(name))))
            self.assertEqual(reply.content, sftp.OP_UNSUPPORTED, name)
        self.assertEqual(client.ask("stat", string(b".")).kind, "attrs")

    def test_a_malformed_body_is_a_bad_message_and_the_session_goes_on(self):
        client = Client(Whole())
        for name, body in sftp.BODIES.items():
            for size in range(len(body)):
                with self.subTest(name, size=size):
                    self.assertEqual(client.status(name, body[:size]), sftp.BAD_MESSAGE)
        self.assertEqual(client.server.storage.calls, [])
        ((_, reply),) = replies(client.feed(packet(200, u32(1) + u32(50) + b"limits@openssh.com")))
        self.assertEqual(reply.content, sftp.BAD_MESSAGE)
        self.assertEqual(client.ask("stat", string(b".")).kind, "attrs")


class BackPressure(InADirectory):
    def test_consume_pauses_at_the_limit_and_resumes_where_it_was(self):
        (self.root / "f").write_bytes(bytes(sftp.MAX_DATA))
        client = self.client()
        handle = client.open(b"f")
        server = client.server
        one = request("read", 7, handle, u64(0), u32(sftp.MAX_DATA))
        buffer = memoryview(bytearray(one * 100))
        at, served = 0, 0
        while at < len(buffer):
            before = at
            at = server.consume(buffer, at, len(buffer))
            self.assertGreater(at, before)
            self.assertLessEqual(server.output.size, server.queue_limit + sftp.MAX_PACKET + 4)
            if at < len(buffer):
                self.assertGreater(server.output.size, server.queue_limit)
                self.assertEqual(server.consume(buffer, at, len(buffer)), at, "paused")
            served += len(replies(server.output_queue))
            server.output.clear()
        self.assertEqual(served, 100)

    def test_process_serves_everything_and_leaves_the_limit_as_it_was(self):
        (self.root / "f").write_bytes(bytes(sftp.MAX_DATA))
        client = self.client()
        handle = client.open(b"f")
        limit = client.server.queue_limit
        answered = replies(client.feed(request("read", 7, handle, u64(0), u32(sftp.MAX_DATA)) * 20))
        self.assertEqual((len(answered), client.server.queue_limit), (20, limit))

    def test_consume_keeps_nothing_of_the_buffer(self):
        client = self.client()
        handle = client.open(b"f", sftp.READ | sftp.WRITE | sftp.CREAT)
        data = bytearray(request("write", 1, handle, u64(0), string(b"kept")))
        with memoryview(data) as view:
            self.assertEqual(client.server.consume(view, 0, len(data)), len(data))
            view[:] = bytes(len(data))
        data.clear()  # raises BufferError while anybody refers to it
        self.assertEqual((self.root / "f").read_bytes(), b"kept")

    def test_sending_in_pieces_of_any_size_gives_the_same_bytes(self):
        content = random.Random(3).randbytes(2 * LATE_FROM)
        (self.root / "f").write_bytes(content)
        client = self.client()
        handle = client.open(b"f")
        seed = random.randrange(2**32)
        order = random.Random(seed)
        server = client.server
        server.input_queue = (
            request("read", 1, handle, u64(0), u32(LATE_FROM + 5))
            + request("read", 2, handle, u64(9), u32(3))
            + request("read", 3, handle, u64(1), u32(sftp.MAX_DATA))
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
        self.assertEqual((server.output.segments, server.output.late), ([], 0))
