"""Checksums through the proxy: computed by the server behind where it can, else from what is read."""

from __future__ import annotations

import hashlib
import os
from unittest import mock

from pysftpserver import proxystorage
from pysftpserver.contract.packets import sftpint, sftpstring
from pysftpserver.engine.wire import SSH2_FXP_EXTENDED, SSH2_FXP_EXTENDED_REPLY, encode_packet
from pysftpserver.pysftpexceptions import SFTPException, SFTPNotFound
from tests.proxy.servers import BehindTheProxy, Peer
from tests.support.packets import FAILURE, Client, string, u32
from tests.support.processes import command

CONTENT = os.urandom(700_001)


class Asked(BehindTheProxy):
    """checked: whether the server behind computes it."""

    def setUp(self) -> None:
        super().setUp()
        (self.root / "f").write_bytes(CONTENT)

    def digest(self, storage: proxystorage.SFTPServerProxyStorage) -> bytes:
        """The SHA-256 of f, as a client of the proxy is told."""
        client = Client(storage)
        body = client.content("extended", "check-file-name", string(b"f"), string(b"sha256") + bytes(20))
        client.server.close()
        return body.removeprefix(string(b"sha256"))

    def test_from_what_is_read(self) -> None:
        storage = self.open_storage()
        self.assertIsNone(storage.checksum(os.fsencode(self.root / "f"), "sha256"))
        self.assertEqual(self.digest(storage), hashlib.sha256(CONTENT).digest())


class AskedOfOurs(Asked):
    def server(self) -> list[str]:
        return command("pysftpserver", "-d", self.root, "--checksums")

    def test_from_what_is_read(self) -> None:
        storage = self.open_storage()
        with mock.patch.object(proxystorage, "COMPUTED", 0):  # it would take too long
            self.assertEqual(self.digest(storage), hashlib.sha256(CONTENT).digest())

    def test_from_the_server_behind(self) -> None:
        storage = self.open_storage()
        with mock.patch.object(storage, "open"):  # nothing is opened, so nothing is read
            self.assertEqual(self.digest(storage), hashlib.sha256(CONTENT).digest())
        self.assertIsNone(storage.checksum(os.fsencode(self.root), "md5"))
        self.assertIsNone(storage.checksum(os.fsencode(self.root / "f"), "blake3"))
        with self.assertRaises(SFTPNotFound):
            storage.checksum(b"none", "md5")


class Replies(BehindTheProxy):
    def test_that_make_no_sense_are_not_believed(self) -> None:
        for body, expected in (
            (sftpstring(b"md5") + b"d" * 16, b"d" * 16),
            (sftpstring(b"sha1") + b"d" * 20, SFTPException),
            (b"\0\0", SFTPException),
        ):

            def answer(kind: int, number: bytes, rest: bytes, body: bytes = body) -> list[bytes]:
                if kind == SSH2_FXP_EXTENDED:
                    packet = encode_packet(SSH2_FXP_EXTENDED_REPLY, int.from_bytes(number, "big"), body)
                else:
                    packet = encode_packet(101, int.from_bytes(number, "big"), u32(FAILURE) + sftpint(0) * 2)
                return [packet]

            peer = Peer(answer, sftpstring(b"check-file") + sftpstring(b"md5"))
            self.addCleanup(peer.close)
            with (
                mock.patch.object(peer.storage, "stat"),
                mock.patch.object(proxystorage, "COMPUTED", 1),
            ):
                peer.storage.stat.return_value.size = 1
                if isinstance(expected, bytes):
                    self.assertEqual(peer.storage.checksum(b"/f", "md5"), expected)
                else:
                    self.assertRaises(expected, peer.storage.checksum, b"/f", "md5")
