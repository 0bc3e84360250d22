"""pysftpserver.engine.wire and attributes: packets to values and back, and the `ls -l` lines.

What is expected is built by tests/differential/packets.py, which shares no code with the package.
"""

from __future__ import annotations

import itertools
import re
import struct
import time
import unittest

from pysftpserver.attributes import LongnameFormatter, SFTPAttributes
from pysftpserver.engine import wire
from pysftpserver.engine.wire import MalformedPacket
from tests.support.examples import SEEDED, given, st
from tests.support.packets import Attributes, Reader, attrs, replies, split, string, u32, u64

FULL = Attributes(2**40 + 7, (1000, 100), 0o100644, (11, 22), ((b"acl@x", b"a\0b"), (b"", b"")))
FULL_FIELDS = SFTPAttributes(2**40 + 7, 1000, 100, 0o100644, 11, 22)

# Every decoder that takes arguments, a body as a client sends it, and what it holds.
BODIES = [
    (wire.decode_string, string(b"\0\xffhandle"), (b"\0\xffhandle",)),
    (wire.decode_path, string(b"/a b\n\xff"), (b"/a b\n\xff",)),
    (wire.decode_two_paths, string(b"old") + string(b""), (b"old", b"")),
    (wire.decode_path_attrs, string(b"f") + attrs(FULL), (b"f", FULL_FIELDS)),
    (wire.decode_handle_attrs, string(b"\0\0\0\1") + attrs(FULL), (b"\0\0\0\1", FULL_FIELDS)),
    (wire.decode_open, string(b"f") + u32(0x2B) + attrs(FULL), (b"f", 0x2B, FULL_FIELDS)),
    (wire.decode_read, string(b"h") + u64(2**64 - 1) + u32(2**32 - 1), (b"h", 2**64 - 1, 2**32 - 1)),
    (wire.decode_write, string(b"h") + u64(2**63) + string(b"\0data"), (b"h", 2**63, b"\0data")),
    (
        wire.decode_copy_data,
        string(b"h1") + u64(1) + u64(2**64 - 1) + string(b"") + u64(3),
        (b"h1", 1, 2**64 - 1, b"", 3),
    ),
    (
        wire.decode_check_name,
        string(b"f") + string(b"md5,crc32") + u64(2**64 - 1) + u64(2) + u32(2**32 - 1),
        (b"f", b"md5,crc32", 2**64 - 1, 2, 2**32 - 1),
    ),
    (
        wire.decode_check_handle,
        string(b"h\0") + string(b"") + u64(1) + u64(2**63) + u32(256),
        (b"h\0", b"", 1, 2**63, 256),
    ),
    (
        wire.decode_ids,
        string(u32(0) + u32(2**32 - 1)) + string(u32(7)),
        ((0, 2**32 - 1), (7,)),
    ),
]
FIELDS = (
    ("size", "uid gid", "permissions", "atime mtime"),
    ("size", "owner", "permissions", "times"),
    (123, (1, 2), 0o40755, (3, 4)),
)


class Decoding(unittest.TestCase):
    def test_a_body_gives_the_values_that_were_put_in(self):
        for decoder, body, values in BODIES:
            with self.subTest(decoder.__name__):
                self.assertEqual(decoder(body, 0, len(body)), values)

    def test_a_body_may_lie_anywhere_in_any_kind_of_buffer_and_what_follows_it_is_passed_over(self):
        for (decoder, body, values), kind in itertools.product(BODIES, (bytes, bytearray, memoryview)):
            with self.subTest(decoder.__name__, kind=kind.__name__):
                buffer = kind(b"\xff" * 13 + body + b"\xff" * 9)
                self.assertEqual(decoder(buffer, 13, 13 + len(body)), values)
                self.assertEqual(decoder(buffer, 13, len(buffer)), values)

    def test_every_truncation_is_malformed(self):
        for decoder, body, _ in BODIES:
            for size in range(len(body)):
                with self.subTest(decoder.__name__, size=size):
                    with self.assertRaises(MalformedPacket):
                        decoder(body[:size], 0, size)
                    # The bytes behind the end belong to the next packet, however well they would fit.
                    with self.assertRaises(MalformedPacket):
                        decoder(body + bytes(64), 0, size)

    def test_every_decoder_of_the_table_is_tested_here(self):
        from pysftpserver.engine.requests import EXTENDED_REQUESTS, REQUESTS

        used = {row.decode for row in (*REQUESTS.values(), *EXTENDED_REQUESTS.values())}
        self.assertEqual(used - {decoder for decoder, _, _ in BODIES}, {wire.decode_nothing})

    def test_a_length_that_overflows_is_malformed(self):
        for decoder, body, _ in BODIES:
            with self.subTest(decoder.__name__), self.assertRaises(MalformedPacket):
                decoder(b"\xff\xff\xff\xff" + body[4:], 0, len(body))

    def test_a_nul_byte_in_a_path_is_malformed_in_first_and_second_place(self):
        for body in (string(b"a\0b"), string(b"\0"), string(b"a\0")):
            with self.subTest(body):
                with self.assertRaises(MalformedPacket):
                    wire.decode_path(body, 0, len(body))
                with self.assertRaises(MalformedPacket):
                    wire.decode_two_paths(body + string(b"b"), 0, len(body) + 5)
                with self.assertRaises(MalformedPacket):
                    wire.decode_two_paths(string(b"b") + body, 0, len(body) + 5)
                for decoder in (wire.decode_path_attrs, wire.decode_open):
                    with self.assertRaises(MalformedPacket):
                        decoder(body + bytes(32), 0, len(body) + 32)

    def test_ids_that_are_no_whole_numbers_are_malformed(self):
        for users, groups in ((b"123", b""), (b"", b"12345"), (b"1", b"1")):
            body = string(users) + string(groups)
            with self.subTest(body), self.assertRaises(MalformedPacket):
                wire.decode_ids(body, 0, len(body))

    def test_the_data_of_a_write_is_a_view_and_no_copy(self):
        body = bytearray(string(b"h") + u64(0) + string(b"old"))
        chunk = wire.decode_write(body, 0, len(body))[2]
        body[-3:] = b"new"
        self.assertEqual(bytes(chunk), b"new")

    @SEEDED
    @given(st.sampled_from([decoder for decoder, _, _ in BODIES]), st.binary(max_size=80))
    def test_any_bytes_decode_or_are_malformed(self, decoder, body):
        try:
            decoder(body, 0, len(body))
        except MalformedPacket as error:
            self.assertTrue(str(error))

    @SEEDED
    @given(st.binary(max_size=200), st.integers(0, 2**64 - 1), st.binary(max_size=200))
    def test_strings_and_numbers_survive_the_way_there_and_back(self, handle, number, data):
        body = wire.encode_string(handle) + wire.encode_u64(number) + wire.encode_string(data)
        self.assertEqual(body, string(handle) + u64(number) + string(data))
        self.assertEqual(wire.decode_write(body, 0, len(body)), (handle, number, data))
        if number < 2**32:
            self.assertEqual(wire.encode_u32(number), u32(number))


class AttributesOnTheWire(unittest.TestCase):
    def combinations(self):
        """Each set of flags: SFTPAttributes, and the client's idea of the same."""
        ours, theirs, values = FIELDS
        for chosen in itertools.product((False, True), repeat=4):
            attributes = SFTPAttributes()
            fields = {}
            for wanted, names, field, value in zip(chosen, ours, theirs, values, strict=True):
                if wanted:
                    fields[field] = value
                    numbers = value if isinstance(value, tuple) else (value,)
                    for name, number in zip(names.split(), numbers, strict=True):
                        setattr(attributes, name, number)
            yield attributes, Attributes(**fields)

    def test_each_combination_of_flags_is_encoded_with_just_those_fields(self):
        for ours, theirs in self.combinations():
            with self.subTest(theirs):
                self.assertEqual(wire.encode_attributes(ours), attrs(theirs))

    def test_each_combination_of_flags_is_decoded_to_just_those_fields(self):
        for ours, theirs in self.combinations():
            for extended in (None, (), ((b"name", b"\0\xff"),), ((b"", b""), (b"x", b"y" * 1000))):
                body = attrs(theirs._replace(extended=extended))
                with self.subTest(theirs, extended=extended):
                    self.assertEqual(wire.attributes_at(body, 0, len(body)), ours)
                    for size in range(len(body)):
                        with self.assertRaises(MalformedPacket):
                            wire.attributes_at(body, 0, size)

    def test_unknown_flags_are_passed_over(self):
        body = u32(0x7FFFFFF0 | 4) + u32(0o755)
        self.assertEqual(wire.attributes_at(body, 0, len(body)), SFTPAttributes(permissions=0o755))

    def test_a_count_of_extended_pairs_that_no_packet_could_hold_is_malformed_at_once(self):
        body = u32(0x80000000) + u32(0xFFFFFFFF) + string(b"a") * 3
        before = time.process_time()
        with self.assertRaises(MalformedPacket):
            wire.attributes_at(body, 0, len(body))
        self.assertLess(time.process_time() - before, 1)

    def test_half_of_a_pair_is_left_out(self):
        for half in ({"uid": 1}, {"gid": 1}, {"atime": 1}, {"mtime": 1}):
            with self.subTest(half):
                self.assertEqual(wire.encode_attributes(SFTPAttributes(**half)), u32(0))

    def test_numbers_too_wide_keep_their_low_bits(self):
        for others in ({}, {"permissions": 0o644}):
            wide = SFTPAttributes(2**64 + 5, 2**32 + 1, -1, atime=-2, mtime=2**40 + 3, **others)
            got = Reader(wire.encode_attributes(wide)).attrs()
            self.assertEqual(got[:2], (5, (1, 2**32 - 1)))
            self.assertEqual(got.times, (2**32 - 2, 3))

    def test_zero_is_a_value_and_not_a_missing_field(self):
        everything = SFTPAttributes(0, 0, 0, 0, 0, 0)
        self.assertFalse(everything.is_empty())
        self.assertEqual(wire.encode_attributes(everything), attrs(Attributes(0, (0, 0), 0, (0, 0))))
        self.assertTrue(SFTPAttributes().is_empty())


class Encoding(unittest.TestCase):
    def test_a_status_carries_its_message_and_a_language_tag(self):
        body = split(wire.encode_status(9, 4, "a b\xe9".encode()))[0]
        self.assertEqual(body, b"\x65" + u32(9) + u32(4) + string("a b\xe9".encode()) + string(b""))

    def test_a_data_header_and_its_data_are_one_packet(self):
        for size in (0, 1, 261120):
            packet = wire.encode_data_header(2**32 - 1, size) + bytes(size)
            self.assertEqual(replies(packet), [(2**32 - 1, ("data", bytes(size), b""))])

    def test_names_are_any_bytes_and_a_longname_is_another_string(self):
        name, longname = b"\xff \n\0", b"- \xfe"
        entries = [wire.encode_name_entry(name, longname, FULL_FIELDS), wire.encode_bare_name(b"/a")]
        ((number, reply),) = replies(wire.encode_packet(104, 3, wire.encode_names(entries)))
        self.assertEqual(number, 3)
        self.assertEqual(
            reply.content,
            ((name, longname, FULL._replace(extended=None)), (b"/a", b"/a", Attributes())),
        )

    def test_an_empty_list_of_names_is_a_whole_packet(self):
        self.assertEqual(replies(wire.encode_packet(104, 3, wire.encode_names([])))[0][1].content, ())

    def test_version_is_three_and_lists_pairs(self):
        packet = wire.encode_version([(b"a@b", b"1"), (b"c", b"")])
        body = split(packet)[0]
        self.assertEqual(body, b"\2" + u32(3) + string(b"a@b") + string(b"1") + string(b"c") + string(b""))

    def test_figures_of_a_file_system_are_eleven_wide_numbers(self):
        self.assertEqual(wire.encode_statvfs(tuple(range(11))), struct.pack(">11Q", *range(11)))
        self.assertEqual(wire.encode_statvfs((-1,) * 11), b"\xff" * 88)

    def test_limits_are_four_wide_numbers(self):
        self.assertEqual(wire.encode_limits(1, 2, 3, 4), struct.pack(">4Q", 1, 2, 3, 4))

    def test_a_list_of_strings_is_strings_in_a_string(self):
        self.assertEqual(wire.encode_string_list([b"a", b""]), string(string(b"a") + string(b"")))
        self.assertEqual(wire.encode_string_list([]), string(b""))


class Longname(unittest.TestCase):
    """The shape is `%s %3u %-8s %-8s %8llu %s %s`, with a mode that ends in a blank, as OpenSSH's."""

    def setUp(self):
        self.lookups = []
        self.formatter = LongnameFormatter(self.user, lambda gid: b"staff" if gid == 50 else None)

    def user(self, uid):
        self.lookups.append(uid)
        return {0: b"root", 7: b"a-very-long-name"}.get(uid)

    def line(self, **fields):
        return self.formatter.longname(b"name", SFTPAttributes(**fields))

    def date(self, mtime):
        """The date's column of 12 bytes, for a modification time."""
        line = self.line(mtime=mtime)
        self.assertTrue(line.endswith(b" name"), line)
        return line[-17:-5].decode()

    def test_is_exactly_what_openssh_prints(self):
        now = int(time.time())
        line = self.formatter.longname(b".", SFTPAttributes(4096, 0, 50, 0o40755, now, now, 3))
        date = time.strftime("%b %e %H:%M", time.localtime(now)).encode()
        self.assertEqual(line, b"drwxr-xr-x    3 root     staff        4096 " + date + b" .")

    def test_modes_are_ten_characters_for_every_kind_of_file(self):
        for mode, text in (
            (0o100644, b"-rw-r--r--"),
            (0o120777, b"lrwxrwxrwx"),
            (0o10600, b"prw-------"),
            (0o140755, b"srwxr-xr-x"),
            (0o20666, b"crw-rw-rw-"),
            (0o60660, b"brw-rw----"),
            (0o106755, b"-rwsr-sr-x"),
            (0o41777, b"drwxrwxrwt"),
            (0o106644, b"-rwSr-Sr--"),
            (0o41776, b"drwxrwxrwT"),
        ):
            with self.subTest(oct(mode)):
                self.assertEqual(self.line(permissions=mode)[:12], text + b"  ")

    def test_numbers_stand_for_users_and_groups_without_a_name(self):
        self.assertEqual(self.line(uid=12345, gid=2**32 - 2).split()[2:4], [b"12345", b"4294967294"])
        self.assertEqual(self.line(uid=7, gid=50).split()[2:4], [b"a-very-long-name", b"staff"])

    def test_wide_columns_push_the_rest_and_are_never_cut(self):
        line = self.formatter.longname(b"n", SFTPAttributes(2**63, 0, 50, 0o100644, 0, 0, 123456))
        self.assertEqual(line.split()[1:5], [b"123456", b"root", b"staff", b"9223372036854775808"])

    def test_every_column_is_there_whatever_is_missing(self):
        shape = re.compile(rb"\S{10} +\d+ \S+ +\S+ +\d+ \w{3} [ \d]\d (\d\d:\d\d| \d{4}) name")
        known = {"size": 1, "uid": 0, "gid": 50, "permissions": 0o100600, "atime": 1, "mtime": 1}
        for chosen in itertools.product((False, True), repeat=len(known)):
            fields = dict(itertools.compress(known.items(), chosen))
            with self.subTest(fields):
                self.assertRegex(self.line(**fields), rb"\A" + shape.pattern + rb"\Z")

    def test_names_are_passed_on_as_they_are(self):
        for name in (b" lead", b"a\nb", b"\xff\xfe", b"a  b ", b"%s"):
            self.assertTrue(self.formatter.longname(name, SFTPAttributes()).endswith(b" " + name))

    def test_dates_within_six_months_have_the_time_of_day(self):
        now = int(time.time())
        for ago in (0, 3600, 30 * 86400, 182 * 86400):
            expected = time.strftime("%b %e %H:%M", time.localtime(now - ago))
            self.assertEqual(self.date(now - ago), expected)

    def test_dates_beyond_six_months_and_in_the_future_have_the_year(self):
        now = int(time.time())
        for mtime in (
            now - 183 * 86400,
            now - 3650 * 86400,
            0,
            now + 2 * 86400,
            now + 400 * 86400,
            2**32 - 1,
        ):
            with self.subTest(mtime):
                self.assertEqual(self.date(mtime), time.strftime("%b %e  %Y", time.localtime(mtime)))

    def test_times_that_no_calendar_has_do_not_break_a_listing(self):
        for mtime in (2**62, -(2**62), 2**70):
            with self.subTest(mtime):
                self.assertEqual(self.line(mtime=mtime).split()[-1], b"name")

    def test_owners_are_looked_up_once_and_dates_are_not_kept_without_bound(self):
        for number in range(10_000):
            self.line(uid=0, gid=50, mtime=number)
        self.assertEqual(self.lookups, [0])
        self.assertLessEqual(len(self.formatter._dates), 4096)
