"""The audit log and hostile text: whatever somebody chose is one line of ASCII, and can be got back."""

from __future__ import annotations

import os
import random
import unittest
from unittest import mock

from pysftpserver.pysftpexceptions import SFTPException, SFTPFailure
from pysftpserver.stdio import peer
from tests.support.auditing import Audited, original
from tests.support.packets import BODIES, NO_ATTRS, request, string
from tests.support.storages import Failing, Whole

NASTY = (
    b'"}\n{"time":"2026-01-01T00:00:00.000000Z","request":"remove","path":"/forged","result":"OK"}',
    b'","result":"OK","path":"/forged',
    b"\r\n\x0b\x0c\x1c\x1d\x1e\x85",
    b"\x1b[2J\x1b]0;title\x07\x1b[31m",
    b"\x7f\\\x7f\\\\u007f",
    "\x80\x85\x9b31m\x9f".encode(),  # C1 as UTF-8
    b"\x80\x85\x9b31m\x9f",  # and as bytes
    "\u2028\u2029\u0085\ufeff".encode(),
    "\u202eexe.txt\u2066\u2069".encode(),
    b"back\\slash\\",
    b"'\"`$(reboot)",
    b"\xed\xa0\x80\xed\xb0\x80",  # surrogates
    b"\xc0\xaf\xf8\x88\x80\x80\x80\xff\xfe",  # overlong, too long, never
    "\U0001f600\ufffd\U0010ffff".encode(),
    b"%s%n{0}",
    b"",
)


class NamesOfAnyBytes(Audited):
    def sent(self, *names: bytes) -> None:
        """Names as a path, as a target and as a user: each is one record, and can be got back."""
        client = self.session(Whole())
        for name in names:
            with self.subTest(name[:80]):
                self.sink.lines.clear()
                client.feed(request("mkdir", 1, string(name), NO_ATTRS))
                client.feed(request("rename", 2, string(b"x"), string(name)))
                client.feed(request("symlink", 3, string(name), string(name)))
                client.feed(request("home-directory", 4, string(name)))
                mkdir, rename, symlink, home = self.sink.records
                found = [original(mkdir, "path"), original(rename, "target"), original(symlink, "path")]
                self.assertEqual(found, [name] * 3)
                self.assertEqual((original(symlink, "target"), original(home, "name")), (name, name))
                self.assertEqual((mkdir["request"], rename["path"]), ("mkdir", "x"))

    def test_are_one_line_of_ascii_each_byte_by_itself(self) -> None:
        self.sent(*(bytes((byte,)) for byte in range(1, 256)), *(b"a%cb" % byte for byte in range(1, 256)))

    def test_are_one_line_of_ascii_all_bytes_together(self) -> None:
        self.sent(bytes(range(1, 256)), bytes(range(255, 0, -1)))

    def test_are_one_line_of_ascii_with_what_drives_terminals_and_readers_of_lines(self) -> None:
        self.sent(*NASTY)

    def test_are_one_line_of_ascii_by_chance(self) -> None:
        chance = random.Random(2028)
        self.sent(*(chance.randbytes(chance.randrange(60)).replace(b"\0", b"x") for _ in range(300)))

    def test_are_one_line_of_ascii_as_long_as_they_may_be(self) -> None:
        longest = 1 << 15
        self.sent(b"x" * longest, b"\x01" * longest, b"\xff" * longest, b"\xe2\x80\xa8" * (longest // 3))
        self.assertLess(max(map(len, self.sink.lines)), 20 * longest, "a record is bounded by its request")

    def test_with_a_nul_byte_are_refused_and_the_record_has_no_part_of_them(self) -> None:
        client = self.session(Whole())
        self.assertEqual(client.status("mkdir", string(b"a\0b"), NO_ATTRS), 5)
        self.assertEqual((self.sink.last["request"], self.sink.last["path"]), ("mkdir", None))

    def test_cannot_be_taken_for_others(self) -> None:
        client = self.session(Whole())
        for name in (b"\xff", b"\xfe", "\ufffd".encode()):
            client.feed(request("mkdir", 1, string(name), NO_ATTRS))
        found = [(record["path"], record.get("path_hex")) for record in self.sink.records[1:]]
        self.assertEqual(found, [("\ufffd", "ff"), ("\ufffd", "fe"), ("\ufffd", None)])


class WordsOfPlugins(Audited):
    def test_are_one_line_of_ascii(self) -> None:
        for text in ("\n\x1b[2J\x7f\u2028", "\ud800 alone", '"}\n{"', "x" * 100_000):
            client = self.session(Failing("rm", SFTPFailure(text)))
            client.ask("remove", BODIES["remove"])
            self.assertEqual(self.sink.last["message"], text[:1000].replace("\ud800", "?"))

    def test_and_their_codes_are_recorded(self) -> None:
        for status, result in ((6, "NO_CONNECTION"), (9, "STATUS_9"), (2**32 - 1, f"STATUS_{2**32 - 1}")):
            error = SFTPException("mine")
            error.status = status
            self.session(Failing("rm", error)).ask("remove", BODIES["remove"])
            self.assertEqual(self.sink.last["result"], result)

    def test_that_cannot_be_said_are_no_reason_to_record_nothing(self) -> None:
        class Mute(SFTPFailure):
            def __str__(self) -> str:
                raise ValueError

        self.session(Failing("rm", Mute())).ask("remove", BODIES["remove"])
        self.assertEqual((self.sink.last["request"], self.sink.last["result"]), ("remove", "FAILURE"))


class ThePeer(unittest.TestCase):
    def test_is_what_sshd_says_and_never_more_than_printable_ascii(self) -> None:
        for text, expected in (
            ("192.0.2.7 50000 192.0.2.1 22", ("192.0.2.7", 50000)),
            ("fe80::1%eth0 65535 ::1 22", ("fe80::1%eth0", 65535)),
            ("UNKNOWN 65535 UNKNOWN 65535", ("UNKNOWN", 65535)),
            ("", (None, None)),
            ("  ", (None, None)),
            ("192.0.2.7", ("192.0.2.7", None)),
            ('a"\x1b[2J\udcff\\ -1', ('a"\\033[2J\\377\\\\', None)),
            ("a 1_0", ("a", None)),
            ("a \u0661", ("a", None)),
            ("a " + "9" * 10_000, ("a", None)),
            ("192.0.2.7\n50000", ("192.0.2.7", 50000)),
        ):
            with self.subTest(text[:40]), mock.patch.dict(os.environ, {"SSH_CONNECTION": text}):
                self.assertEqual(peer(), expected)
