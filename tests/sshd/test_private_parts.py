"""What the server uses of libraries and is not promised: all of it is listed, and all of it is there."""

from __future__ import annotations

import asyncio
import inspect
import re
import unittest
import unittest.mock
from pathlib import Path

import asyncssh

from pysftpserver.sshd.buffers import Outgoing, Received
from pysftpserver.sshd.guarded import REFUSED, GuardedConnection
from tests.sshd.inprocess import KEY, asynchronous, running
from tests.sshd.test_logins import files

SOURCES = Path(__file__).parents[2] / "pysftpserver" / "sshd"
#: Attributes that begin with an underscore, of other objects than self.
PRIVATE = {"_transport", "_recv_buf", "_recv_window", "_init_recv_window", "_report_response"}
#: What guarded.py uses of its base class, and what the source of each method there has to say.
OF_THE_BASE = {
    "_inpbuf": "data_received",
    "_max_recv_pktlen": "_recv_pkthdr",
    "_recv_data": "data_received",
    "_recv_handler": "_recv_data",
    "_deferred_packets": "send_packet",
    "_send_kexinit": "send_packet",
    "_kex_complete": "send_newkeys",
    "_channels": "_recv_packet",
    "_transport": "_send",
    "_next_service": "_process_service_request",
}
OWN = {"_check_kept", "_exchanges", "_hold", "_is_held", "_longest", "_recv_handler", "_share"}
OWN |= {
    "_acknowledge",
    "_wait_for_turn",
    "_waits_for_turn",
    "_work",
    "_work_in_round",
    "_work_in_turn",
    "_work_later",
}


class PrivateParts(unittest.TestCase):
    def test_the_list_is_complete(self) -> None:
        found = set()
        for path in SOURCES.glob("*.py"):
            found |= set(re.findall(r"(?<!self)(?<!os)(?<!super\(\))\.(_[a-z]\w*)", path.read_text()))
        self.assertEqual(found, PRIVATE)

    def test_what_guards_a_connection_is_called_by_its_base_class(self) -> None:
        used = set(re.findall(r"(?:self|\))\.(_[a-z]\w*)", (SOURCES / "guarded.py").read_text()))
        self.assertEqual(used - OWN, OF_THE_BASE.keys() - OWN)
        for name, method in OF_THE_BASE.items():
            self.assertIn(f"self.{name}", inspect.getsource(getattr(asyncssh.SSHServerConnection, method)))
        source = inspect.getsource(asyncssh.SSHServerConnection._recv_packet)
        self.assertIn("handler.process_packet(pkttype, seq, packet)", source)
        self.assertIn(
            "self.create_server_channel(", inspect.getsource(asyncssh.connection.SSHServerConnection)
        )

    def test_a_key_or_a_certificate_is_judged_by_one_method_that_is_given_what_was_offered(self) -> None:
        source = " ".join(Path(asyncssh.auth.__file__).read_text().split())
        self.assertEqual(source.count(".validate_public_key("), 1)
        self.assertIn("_conn.validate_public_key(self._username, key_data, msg, signature)", source)
        source = inspect.getsource(asyncssh.SSHServerConnection.validate_public_key)
        self.assertIn("key.verify(String(self._session_id) + msg, signature)", source)

    def test_a_login_that_is_not_complete_goes_on(self) -> None:
        self.assertTrue(
            inspect.iscoroutinefunction(asyncssh.SSHServerConnection.send_userauth_success)
        )  # guarded.py has another
        source = inspect.getsource(asyncssh.auth.ServerAuth.send_success)
        self.assertIn("await self._conn.send_userauth_success()", source)

    def test_a_channel_looks_its_requests_up_by_name(self) -> None:
        source = inspect.getsource(asyncssh.SSHServerChannel._service_next_request)
        self.assertIn("getattr(self, name, None)", source)
        for name in REFUSED:
            self.assertTrue(hasattr(asyncssh.SSHServerChannel, f"_process_{name}_request"))

    def test_a_channel_has_less_of_its_window_for_each_byte_that_it_keeps(self) -> None:
        source = inspect.getsource(asyncssh.SSHServerChannel._accept_data)
        self.assertIn("self._recv_window -= len(data)", source)
        self.assertIn("self._recv_buf.append(", source)
        source = inspect.getsource(asyncssh.SSHServerChannel._deliver_data)
        self.assertIn("self._recv_window = self._init_recv_window", source)

    def test_what_was_received_is_only_used_as_the_class_for_it_can_be(self) -> None:
        source = Path(asyncssh.connection.__file__).read_text()
        cut = r"self\._inpbuf = self\._inpbuf\[(?:idx\+1|rem|self\._recv_blocksize):\]"
        taken = r"= self\._inpbuf\[[^:\[\]]*:[^:\[\]]+\]"
        asked = r"len\(self\._inpbuf\)|(?:while|and) self\._inpbuf\b|idx = self\._inpbuf\.find"
        rest = re.sub(rf"{cut}|{taken}|{asked}|self\._inpbuf (?:\+= data|= b'')", "", source)
        self.assertNotIn("_inpbuf", rest)
        received, expected = Received(b"abc"), b"abc"
        for more in (b"", b"defgh", b"i" * 50):
            received += more
            expected += more
            self.assertEqual((received[:2], received[1:3]), (expected[:2], expected[1:3]))
            received, expected = received[2:], expected[2:]  # type: ignore[assignment]
            self.assertEqual((len(received), bool(received)), (len(expected), bool(expected)))

    def test_what_is_written_together_is_sent_in_one_piece_and_nothing_after_a_failure(self) -> None:
        transport = unittest.mock.Mock(spec=asyncio.Transport)
        transport.is_closing.return_value = False
        sent = transport.write
        with Outgoing(transport) as outgoing:
            transport.write(b"a")
            with outgoing:
                transport.write(b"b")
            transport.write(b"c")
            sent.assert_not_called()
        sent.assert_called_once_with(b"abc")
        transport.write(b"d")
        sent.assert_called_with(b"d")
        transport.is_closing.return_value = True
        with outgoing:
            transport.write(b"e")
        sent.assert_called_with(b"d")

    def test_an_empty_packet_goes_before_each_other_one_from_a_single_place(self) -> None:
        source = Path(asyncssh.connection.__file__).read_text()
        self.assertEqual(source.count("MSG_IGNORE, String"), 1)
        self.assertIn("send_cipher=self._enc_alg_sc.decode('ascii')", source)
        connection = GuardedConnection.__new__(GuardedConnection)
        connection._extra = {}
        for cipher, sends_cbc in (("aes128-cbc", True), ("aes128-gcm@openssh.com", False)):
            connection.set_extra_info(send_cipher=cipher)
            self.assertIs(connection.sends_cbc, sends_cbc)

    @asynchronous
    async def test_a_transport_reads_as_much_as_it_is_told(self) -> None:
        async with running(files) as server, await server.connect():
            (connection,) = server.server.connections
            reading = inspect.getsource(type(connection.conn._transport))
            self.assertIn(".recv(self.max_size)", reading)

    @asynchronous
    async def test_a_connection_has_its_transport_and_leaves_pausing_to_us(self) -> None:
        async with running(files) as server, await server.connect():
            (connection,) = server.server.connections
            conn = connection.conn
            self.assertIsInstance(conn._transport, asyncio.Transport)
            for name in ("pause_writing", "resume_writing"):
                source = inspect.getsource(getattr(type(conn), name))
                self.assertIn("Do nothing with this for now", source)

    def test_a_key_verifies_by_the_algorithms_that_it_is_left(self) -> None:
        key = asyncssh.generate_private_key("ssh-rsa", key_size=2048)
        public = key.convert_to_public()
        signature = key.sign(b"data", b"ssh-rsa")
        self.assertTrue(public.verify(b"data", signature))
        public.all_sig_algorithms = public.all_sig_algorithms - {b"ssh-rsa"}
        self.assertFalse(public.verify(b"data", signature))
        self.assertTrue(KEY.convert_to_public().verify(b"data", KEY.sign(b"data", b"ssh-ed25519")))
