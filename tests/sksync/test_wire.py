"""Lines of the protocol to values and back; the expected bytes are the page's."""

from __future__ import annotations

import unittest

from pysftpserver.sksync import wire
from pysftpserver.sksync.wire import Dialect, Malformed, SyncType, Undecodable
from tests.support.examples import given, st

NAME_PART = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="/\n\0"), min_size=1, max_size=9
)
GOOD_PART = NAME_PART.filter(lambda part: part not in (".", ".."))
NAMES = st.lists(GOOD_PART, min_size=1, max_size=4).map("/".join)
TIMES = st.integers(0, wire.MOST_TIME // 1000)
LATIN, GREEK, JAPANESE = "caf\u00e9", "\u03b1\u03b2\u03b3", "\u65e5\u672c\u8a9e"


class Names(unittest.TestCase):
    def test_the_three_names_of_the_protocol_are_known_and_nothing_else(self) -> None:
        for title in ("sksync 1", "pysksync 1", "pysksync 2"):
            self.assertEqual(wire.parse_dialect(title.encode()).title, title)
        for line in (
            b"",
            b"sksync 2",
            b"pysksync 3",
            b"SKSYNC 1",
            b"sksync 1 ",
            b"sksync 1\r",
            b"GET / HTTP/1.1",
        ):
            with self.subTest(line), self.assertRaises(Malformed):
                wire.parse_dialect(line)

    def test_only_the_newest_has_digests(self) -> None:
        self.assertEqual([dialect.title for dialect in Dialect if dialect.has_digests], ["pysksync 2"])

    def test_sksync_1_is_cp1252_and_the_others_are_utf_8(self) -> None:
        self.assertEqual(Dialect.SKSYNC_1.encode(LATIN), b"caf\xe9\n")
        self.assertEqual(Dialect.SKSYNC_1.encode("\u20ac"), b"\x80\n")
        self.assertEqual(Dialect.SKSYNC_1.decode(b"caf\xe9"), LATIN)
        for dialect in (Dialect.PYSKSYNC_1, Dialect.PYSKSYNC_2):
            self.assertEqual(dialect.encode(LATIN), b"caf\xc3\xa9\n")
            self.assertEqual(dialect.encode(JAPANESE), JAPANESE.encode() + b"\n")

    def test_what_an_encoding_does_not_have_cannot_be_said(self) -> None:
        for text in (GREEK, JAPANESE, "\x81", "\U0001f600"):
            self.assertIsNone(Dialect.SKSYNC_1.encode(text))
        self.assertIsNone(Dialect.PYSKSYNC_2.encode("\ud800"))
        for dialect in Dialect:
            self.assertIsNone(dialect.encode("two\nlines"))

    def test_bytes_of_another_encoding_are_undecodable(self) -> None:
        with self.assertRaises(Undecodable):
            Dialect.SKSYNC_1.decode(b"\x81")
        with self.assertRaises(Undecodable):
            Dialect.PYSKSYNC_1.decode(b"caf\xe9")

    @given(NAMES, TIMES, st.sampled_from(Dialect))
    def test_an_entry_that_can_be_said_is_read_as_what_it_was(
        self, name: str, mtime: int, dialect: Dialect
    ) -> None:
        line = wire.entry(name, mtime, dialect)
        if line is not None:
            self.assertEqual((line.count(b"\n"), line[-1:]), (1, b"\n"))
            self.assertEqual(wire.parse_entry(line[:-1], dialect), (name, mtime))

    def test_a_name_may_have_spaces_wherever_it_likes(self) -> None:
        for name in (" ", " a", "a ", "a  b", "1 2"):
            line = wire.entry(name, 5, Dialect.PYSKSYNC_2)
            self.assertEqual(line, f"5000 {name}\n".encode())
            self.assertEqual(wire.parse_entry(line[:-1], Dialect.PYSKSYNC_2), (name, 5))

    def test_the_entry_of_the_captured_session_is_read(self) -> None:
        found = wire.parse_entry(b"1345316070000 test2.txt", Dialect.SKSYNC_1)
        self.assertEqual(found, ("test2.txt", 1_345_316_070))

    def test_names_that_lead_elsewhere_are_refused(self) -> None:
        bad = (
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "../a",
            "a/..",
            "a/../b",
            "a/./b",
            "a\0b",
            "/etc/passwd",
        )
        for name in bad:
            with self.subTest(name), self.assertRaises(Malformed):
                wire.parse_name(name.encode(), Dialect.PYSKSYNC_2)
            with self.subTest(name), self.assertRaises(Malformed):
                wire.parse_entry(b"1000 " + name.encode(), Dialect.PYSKSYNC_2)

    def test_names_that_only_look_odd_are_taken(self) -> None:
        for name in ("...", "..a", "a..", ".a/..b", "a\\b", "C:", "~", "-rf", "\t", "\r", "\u2028"):
            self.assertEqual(wire.parse_name(name.encode(), Dialect.PYSKSYNC_2), name)


class Numbers(unittest.TestCase):
    def test_types_are_0_to_5(self) -> None:
        self.assertEqual([wire.parse_type(b"%d" % number) for number in range(6)], list(SyncType))
        for line in (b"6", b"-1", b"", b"a", b"1 ", b" 1", b"1.0", b"\xb2", b"+1", b"1_0", b"0x1"):
            with self.subTest(line), self.assertRaises(Malformed):
                wire.parse_type(line)

    def test_zero_is_recursive_and_one_is_not(self) -> None:
        self.assertTrue(wire.parse_recursive(b"0"))
        self.assertFalse(wire.parse_recursive(b"1"))
        for line in (b"2", b"-1", b"", b"true"):
            with self.subTest(line), self.assertRaises(Malformed):
                wire.parse_recursive(line)

    def test_times_are_milliseconds_cut_to_whole_seconds(self) -> None:
        for line, seconds in ((b"0", 0), (b"999", 0), (b"1000", 1), (b"1345316070999", 1_345_316_070)):
            self.assertEqual(wire.parse_time(line), seconds)

    def test_lengths_and_times_out_of_reason_are_refused(self) -> None:
        for line in (b"-1", b"", b"1e3", b"9" * 20, b"9" * 5000, b"nan", b"1\r", b"1\0", "\u0661".encode()):
            for parse in (wire.parse_length, wire.parse_time):
                with self.subTest(line[:30], parse=parse.__name__), self.assertRaises(Malformed):
                    parse(line)
        self.assertEqual(wire.parse_length(b"%d" % wire.MOST_LENGTH), wire.MOST_LENGTH)
        with self.assertRaises(Malformed):
            wire.parse_length(b"%d" % (wire.MOST_LENGTH + 1))
        with self.assertRaises(Malformed):
            wire.parse_time(b"%d" % (wire.MOST_TIME + 1))

    def test_an_entry_without_a_name_or_a_number_is_refused(self) -> None:
        for line in (b"1000", b"1000 ", b" name", b"x name", b"-1000 name", b"name"):
            with self.subTest(line), self.assertRaises(Malformed):
                wire.parse_entry(line, Dialect.PYSKSYNC_2)

    def test_digests_are_32_digits_in_either_case(self) -> None:
        md5 = "d41d8cd98f00b204e9800998ecf8427e"
        self.assertEqual(wire.parse_digest(md5.upper().encode()), md5)
        self.assertEqual(wire.digest(md5), md5.encode() + b"\n")
        for line in (md5[:-1].encode(), md5.encode() + b"0", b"", b"g" * 32, b" " + md5[1:].encode()):
            with self.subTest(line), self.assertRaises(Malformed):
                wire.parse_digest(line)


class Logins(unittest.TestCase):
    def test_the_first_line_of_a_login_is_the_page_s(self) -> None:
        self.assertEqual(wire.srp_start("al", 0x1FF), b"PYSKSYNC SRP START:616c 01ff\n")
        self.assertEqual(wire.srp_challenge(b"\x00\x01", 10), b"0001 0a\n")
        self.assertEqual(wire.srp_proof(b"\x00\xff"), b"00ff\n")

    @given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(0, 1 << 2048))
    def test_a_login_is_read_as_what_it_was(self, user: str, public: int) -> None:
        self.assertEqual(wire.parse_srp_start(wire.srp_start(user, public)[:-1]), (user, public))

    def test_a_number_with_a_digit_left_out_in_front_is_read(self) -> None:
        self.assertEqual(wire.parse_srp_start(b"PYSKSYNC SRP START:61 FFf"), ("a", 0xFFF))
        self.assertEqual(wire.parse_srp_challenge(b"cf78a7a5 a"), (bytes.fromhex("cf78a7a5"), 10))

    def test_rubbish_in_a_login_is_refused(self) -> None:
        start = b"PYSKSYNC SRP START:"
        rests = (b"", b"61", b"61 ", b" 61", b"61 zz", b"61 0a 0b", b"ff 0a", b"61 " + b"a" * 5000, b"61 -1")
        for rest in rests:
            with self.subTest(rest[:20]), self.assertRaises(Malformed):
                wire.parse_srp_start(start + rest)
        for line in (b"", b"00", b"00 ", b"zz 00", b"00 00 00"):
            with self.subTest(line), self.assertRaises(Malformed):
                wire.parse_srp_challenge(line)
