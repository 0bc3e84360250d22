"""Packets as lines of words, whatever their bytes are."""

from __future__ import annotations

import unittest

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.packets import sftpattrs, sftpcmd, sftpint, sftpint64, sftpstring
from pysftpserver.engine import wire
from pysftpserver.probe import words
from pysftpserver.probe.words import step_of, words_of
from tests.support.examples import SEEDED, example, given, settings, st
from tests.support.hard import IS_HARD

HANDLE = sftpstring(b"\0\0\0\1")
A, B = sftpstring(b"/a"), sftpstring(b"/b")
MODE = sftpattrs(SFTPAttributes(permissions=0o644))
ALL = sftpattrs(SFTPAttributes(5, 1, 2, 0o100600, 3, 4))
ALL_WORDS = "attrs(size 5, uid 1, gid 2, permissions 0100600, atime 3, mtime 4)"
CHECK = sftpstring(b"sha256,md5") + sftpint64(1) + sftpint64(2) + sftpint(512)
CHECK_WORDS = '"sha256,md5" offset 1 length 2 block 512'
STATVFS = "bsize 1 frsize 2 blocks 3 bfree 4 bavail 5 files 6 ffree 7 favail 8 fsid 9 flag 10 namemax 11"


def extended(name: bytes, *fields: bytes) -> bytes:
    return sftpcmd(wire.SSH2_FXP_EXTENDED, sftpstring(name), *fields, request_id=9)


def entry(name: bytes, longname: bytes) -> bytes:
    return wire.encode_name_entry(name, longname, SFTPAttributes(size=1))


REQUESTS = {
    sftpcmd(wire.SSH2_FXP_INIT, sftpint(3)): "INIT version 3",
    sftpcmd(wire.SSH2_FXP_INIT, sftpint(3), A, B): 'INIT version 3 extensions "/a"="/b"',
    **{
        sftpcmd(kind, fields, request_id=9): f"{name} id 9 {said}".rstrip()
        for kind, name, fields, said in (
            (3, "OPEN", A + sftpint(0x0A) + MODE, '"/a" WRITE|CREAT attrs(permissions 0644)'),
            (3, "OPEN", A + sftpint(0x81) + sftpint(0), '"/a" READ|0x80 attrs()'),
            (3, "OPEN", A + sftpint(0) + sftpint(0x10), '"/a" no flags attrs(unknown flags 0x10)'),
            (4, "CLOSE", HANDLE, "handle 00000001"),
            (4, "CLOSE", sftpstring(b""), "handle of no bytes"),
            (
                5,
                "READ",
                HANDLE + sftpint64(1 << 40) + sftpint(7),
                f"handle 00000001 offset {1 << 40} length 7",
            ),
            (6, "WRITE", HANDLE + sftpint64(0) + sftpstring(b"x"), 'handle 00000001 offset 0 1 byte "x"'),
            (6, "WRITE", HANDLE + sftpint64(0) + sftpstring(b""), "handle 00000001 offset 0 0 bytes"),
            (7, "LSTAT", A, '"/a"'),
            (8, "FSTAT", HANDLE, "handle 00000001"),
            (9, "SETSTAT", A + ALL, f'"/a" {ALL_WORDS}'),
            (10, "FSETSTAT", HANDLE + ALL, f"handle 00000001 {ALL_WORDS}"),
            (11, "OPENDIR", A, '"/a"'),
            (12, "READDIR", HANDLE, "handle 00000001"),
            (13, "REMOVE", A, '"/a"'),
            (14, "MKDIR", A + MODE, '"/a" attrs(permissions 0644)'),
            (15, "RMDIR", A, '"/a"'),
            (16, "REALPATH", sftpstring(b""), '""'),
            (17, "STAT", sftpint(190) + b"n" * 190, f'"{"n" * 128}"... (190 bytes)'),
            (18, "RENAME", A + B, '"/a" "/b"'),
            (19, "READLINK", A, '"/a"'),
            (20, "SYMLINK", A + B, '"/a" "/b"'),
            (77, "type 77", b"abc", "(3 bytes after it: 616263)"),
        )
    },
    **{
        extended(name, fields): f'EXTENDED id 9 "{name.decode()}" {said}'.rstrip()
        for name, fields, said in (
            (b"posix-rename@openssh.com", A + B, '"/a" "/b"'),
            (b"statvfs@openssh.com", A, '"/a"'),
            (b"fstatvfs@openssh.com", HANDLE, "handle 00000001"),
            (b"hardlink@openssh.com", A + B, '"/a" "/b"'),
            (b"fsync@openssh.com", HANDLE, "handle 00000001"),
            (b"lsetstat@openssh.com", A + MODE, '"/a" attrs(permissions 0644)'),
            (b"limits@openssh.com", b"", ""),
            (b"expand-path@openssh.com", sftpstring(b"~"), '"~"'),
            (
                b"copy-data",
                HANDLE + sftpint64(1) + sftpint64(2) + HANDLE + sftpint64(3),
                "handle 00000001 offset 1 length 2 handle 00000001 offset 3",
            ),
            (b"home-directory", sftpstring(b"bob"), '"bob"'),
            (
                b"users-groups-by-id@openssh.com",
                sftpstring(sftpint(1) + sftpint(2)) + sftpstring(b"x"),
                "users 1,2 groups none and no whole number",
            ),
            (b"check-file-name", A + CHECK, f'"/a" {CHECK_WORDS}'),
            (b"check-file-handle", HANDLE + CHECK, f"handle 00000001 {CHECK_WORDS}"),
            (b"check-file", HANDLE + CHECK, f"handle 00000001 {CHECK_WORDS}"),
            (b"of-others", b"abc", "(3 bytes after it: 616263)"),
        )
    },
}
REPLIES = {
    wire.encode_version(
        [(b"limits@openssh.com", b"1")]
    ): 'VERSION version 3 extensions "limits@openssh.com"="1"',
    **{
        wire.encode_packet(kind, 9, fields): f"{name} id 9 {said}".rstrip()
        for kind, name, fields, said in (
            (101, "STATUS", sftpint(2) + A + sftpstring(b""), 'NO_SUCH_FILE (2) "/a"'),
            (101, "STATUS", sftpint(44) + A + sftpstring(b"en"), 'unknown status (44) "/a" language "en"'),
            (101, "STATUS", sftpint(0), "OK (0), which ends inside a number"),
            (102, "HANDLE", sftpstring(b"h" * 17), f"handle {'68' * 16}... (17 bytes)"),
            (103, "DATA", sftpstring(b'"\\\x1b'), r'3 bytes "\"\\\033"'),
            (103, "DATA", sftpstring(bytes(1000)), f'1000 bytes "{chr(92)}000{(chr(92) + "000") * 23}"...'),
            (104, "NAME", sftpint(1) + wire.encode_bare_name(b"/x"), '1 name: "/x" attrs()'),
            (104, "NAME", sftpint(1) + entry(b"x", b"- x"), '1 name: "x" longname "- x" attrs(size 1)'),
            (104, "NAME", sftpint(0), "0 names"),
            (104, "NAME", b"\xff" * 4, "which ends inside a number of name 1 of 4294967295"),
            (105, "ATTRS", ALL, ALL_WORDS),
            (
                105,
                "ATTRS",
                sftpint(0x80000000) + sftpint(1) + A + B,
                'attrs(1 extended attribute: "/a"="/b")',
            ),
            (201, "EXTENDED_REPLY", wire.encode_limits(1, 2, 3, 4), "packet 1 read 2 write 3 handles 4"),
            (201, "EXTENDED_REPLY", wire.encode_statvfs(tuple(range(1, 12))), STATVFS),
            (201, "EXTENDED_REPLY", b"ab", "(2 bytes after it: 6162)"),
        )
    },
}
ANY = {**REQUESTS, **REPLIES}
EXAMPLES = settings(SEEDED, max_examples=2_000 if IS_HARD else 40)
ESCAPES = (b"\x1b]0;x\x07", b"\x9b31m", "\u202e\u2028\x85".encode(), b"\r\n\t\0", b"\xff\xfe")


class WordsOfAPacket(unittest.TestCase):
    def assert_a_line(self, line: str) -> None:
        self.assertTrue(line.isprintable() and line.isascii(), ascii(line))
        self.assertLess(0, len(line))
        self.assertLessEqual(len(line), words.LONGEST)

    def test_every_kind_of_packet_has_its_words(self):
        for asked, table in ((True, REQUESTS), (False, REPLIES)):
            for packet, expected in table.items():
                said = words_of(packet, asked)
                with self.subTest(expected):
                    self.assertEqual(said.replace("9, which", "9 which"), expected)

    def test_every_request_that_openssh_documents_is_among_these(self):
        kinds = {packet[4] for packet in ANY}
        self.assertEqual(
            {value for name, value in vars(wire).items() if name.startswith("SSH2_FXP_")} - kinds, set()
        )

    def test_the_request_tells_what_an_extended_reply_holds(self):
        names = sftpstring(sftpstring(b"root") + sftpstring(b""))
        for request, body, said in (
            (extended(b"check-file-name"), sftpstring(b"md5") + b"\1\2", '"md5" digests 0102'),
            (
                extended(b"check-file"),
                sftpstring(b"check-file") + sftpstring(b"md5"),
                '"check-file" "md5" digests ',
            ),
            (
                extended(b"users-groups-by-id@openssh.com"),
                names + sftpstring(b""),
                'users "root","" groups none',
            ),
            (
                extended(b"limits@openssh.com"),
                b"\0" * 7,
                ", which ends inside a number (7 bytes left: " + "00" * 7,
            ),
            (extended(b"of-others"), b"\1" * 32, "(32 bytes after it: " + "01" * 24 + "...)"),
            (b"\0\0\0\x0c\xc8\0\0\0\1\0\0\0\x09abc", b"\1", "(1 byte after it: 01)"),
        ):
            with self.subTest(said):
                self.assertIn(said, words_of(wire.encode_packet(201, 9, body), False, request))

    def test_packets_sent_at_once_are_told_apart(self):
        one = sftpcmd(wire.SSH2_FXP_LSTAT, A, request_id=1)
        self.assertEqual(words_of(one * 2, True), 'LSTAT id 1 "/a"; LSTAT id 1 "/a"')
        self.assertTrue(words_of(one * 9, True).endswith(f"; and {5 * len(one)} bytes more"))
        self.assertEqual(words_of(one + b"xyz", True), 'LSTAT id 1 "/a" (its length field says 11; 14 came)')

    def test_what_the_other_side_alone_may_send_is_said_to_be_so(self):
        self.assertIn("(which only servers send)", words_of(wire.encode_usual_status(1, 0), True))
        self.assertIn("(which only clients send)", words_of(sftpcmd(wire.SSH2_FXP_LSTAT, A), False))

    def test_no_other_peoples_byte_reaches_a_terminal(self):
        for text in ESCAPES:
            for packet in (
                sftpcmd(wire.SSH2_FXP_RENAME, sftpstring(text), sftpstring(text)),
                wire.encode_status(1, 4, text),
                wire.encode_version([(text, text)]),
                wire.encode_packet(104, 1, sftpint(1) + entry(text, text + b"x")),
                wire.encode_packet(103, 1, sftpstring(text)),
                extended(text, text),
                text,
            ):
                self.assert_a_line(words_of(packet, False))

    @EXAMPLES
    @given(st.binary(max_size=200), st.booleans(), st.binary(max_size=20))
    @example(b"\0\0\0\0" * 50, True, b"")
    def test_any_bytes_have_words(self, packet: bytes, asked: bool, request: bytes):
        self.assert_a_line(words_of(packet, asked, request))

    @EXAMPLES
    @given(st.sampled_from(sorted(ANY)), st.data())
    def test_a_packet_that_is_cut_or_damaged_has_words(self, packet: bytes, data: st.DataObject):
        damaged = bytearray(packet[: data.draw(st.integers(0, len(packet)))])
        for position in data.draw(st.lists(st.integers(0, len(packet)), max_size=3)):
            damaged[position : position + 1] = data.draw(st.binary(max_size=6))
        self.assert_a_line(words_of(bytes(damaged), data.draw(st.booleans())))

    def test_a_long_packet_is_cut_to_a_line(self):
        listing = wire.encode_names([entry(b"n" * 255, b"l" * 300)] * 1000)
        self.assert_a_line(words_of(wire.encode_packet(104, 1, listing), False))
        self.assert_a_line(words_of(wire.encode_version([(b"n" * 60, b"1")] * 100), False))


class Steps(unittest.TestCase):
    def test_a_step_keeps_the_first_bytes_and_the_length(self):
        packet = sftpcmd(wire.SSH2_FXP_WRITE, HANDLE, sftpint64(0), sftpstring(bytes(5000)), request_id=1)
        step = step_of(packet, True)
        self.assertEqual((step.asked, step.length), (True, len(packet)))
        self.assertEqual(bytes.fromhex(step.octets), packet[: words.KEPT])
        self.assertEqual(step.words, words_of(packet, True))
