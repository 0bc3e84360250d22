"""pysftpserver.server: where packets begin and end, and what ends a session. No I/O but files."""

from __future__ import annotations

from pysftpserver.engine.log import ERROR
from pysftpserver.server import SFTPServer
from tests.support import packets as sftp
from tests.support.cases import InADirectory
from tests.support.packets import Attributes, Client, attrs, packet, replies, request, split, string, u32, u64
from tests.support.storages import Whole


class Framing(InADirectory):
    def session(self) -> bytes:
        """A session's input with requests of many shapes, good and bad."""
        handle, listing = string(u32(1)), string(u32(2))
        return b"".join(
            (
                sftp.HELLO,
                request("open", 1, string(b"f"), u32(sftp.READ | sftp.WRITE | sftp.CREAT), sftp.NO_ATTRS),
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
                sftp.HELLO,
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
        longest = packet(17, body + bytes(sftp.MAX_PACKET - 1 - len(body)))
        client = self.client()
        self.assertEqual(replies(client.feed(longest))[0][1].kind, "attrs")
        self.assert_ends(client, packet(17, body + bytes(sftp.MAX_PACKET - len(body))))

    def assert_ends(self, client: Client, data: bytes) -> None:
        """The session ends, with an error in the log, and whatever comes later is not served."""
        self.assertEqual(client.feed(data), b"")
        self.assertTrue(client.server.ended)
        self.assertEqual(len(client.lines(ERROR)), 1)
        self.assertEqual(client.feed(request("stat", 1, string(b"."))), b"")
        self.assertEqual(client.feed(sftp.HELLO), b"")
        self.assertEqual(client.server.input_queue, b"")

    def test_an_impossible_length_ends_the_session_before_its_packet_is_there(self):
        for length in (sftp.MAX_PACKET + 1, 2**31, 2**32 - 1):
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
            server.input_queue = data + sftp.HELLO
            server.process()
            self.assertEqual(server.output_queue, b"")
            self.assertTrue(server.ended)
            self.assertEqual((self.root / "log").read_text().count("\n"), 1)
            (self.root / "log").unlink()
            self.assertEqual(server.storage.calls, [])

    def test_init_is_answered_with_the_lower_version_whatever_follows_it_and_again_each_time(self):
        client = self.client()
        for version, more in ((3, b""), (6, string(b"name") + string(b"data")), (2, b""), (0, b"\xff")):
            answer = split(client.feed(packet(1, u32(version) + more)))
            self.assertEqual(answer, [b"\2" + u32(min(version, 3)) + client.version[5:]])

    def test_an_init_without_its_version_ends_the_session(self):
        for size in range(4):
            self.assert_ends(self.client(), packet(1, bytes(size)))

    def test_what_follows_a_complete_body_is_passed_over(self):
        client = self.client()
        self.assertEqual(client.ask("stat", string(b"."), b"more").kind, "attrs")
        self.assertEqual(client.ask("limits", b"more").kind, "extended")

    def test_nothing_more_is_served_once_the_door_is_stopping(self):
        client = Client(Whole())
        client.server.stopping = True
        self.assertEqual(client.feed(request("stat", 1, string(b"/")) * 3), b"")
