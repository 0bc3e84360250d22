"""Rules that implementations get wrong, of files: reading, writing, opening, attributes, handles."""

from . import packets
from .compare import DROP_IN, JAIL, Pair, disagreement
from .model import Handle, Step, step
from .packets import (
    APPEND,
    BAD_MESSAGE,
    CREAT,
    EOF,
    EXCL,
    FAILURE,
    NO_SUCH_FILE,
    OK,
    READ,
    TRUNC,
    WRITE,
    Attributes,
)
from .rules import CHOWN, FIRST, SECOND, THIRD, Case, Outcome, each


class Rules:
    # Reading and writing

    def test_read_at_or_past_the_end_is_end_of_file(self):
        self.agree(
            (step("open", b"f", READ), "handle"),
            (step("read", FIRST, 0, 4), b"0123"),
            (step("read", FIRST, 8, 4), b"89"),
            (step("read", FIRST, 10, 1), EOF),
            (step("read", FIRST, 11, 1), EOF),
            (step("read", FIRST, 1 << 32, 1), EOF),
        )

    def test_read_of_nothing_is_empty_data_even_past_the_end(self):
        self.agree(
            (step("open", b"f", READ), "handle"),
            (step("open", b"f", WRITE), "handle"),
            (step("open", b"d", READ), "handle"),
            (step("read", FIRST, 0, 0), b""),
            (step("read", FIRST, 10, 0), b""),
            (step("read", FIRST, 100, 0), b""),
            (step("read", SECOND, 0, 0), b""),
            (step("read", THIRD, 0, 0), b""),
        )

    def test_read_longer_than_the_limit_is_shortened(self):
        large = (bytes(range(256)) * 1100)[:261120]
        self.agree(
            (step("open", b"large", READ), "handle"),
            (step("read", FIRST, 0, 261120), large),
            (step("read", FIRST, 0, 261121), large),
            (step("read", FIRST, 0, (1 << 32) - 1), large),
        )

    def test_a_copy_from_or_to_the_last_offset_there_is_ends_as_the_file_system_says(self):
        last = (1 << 63) - 1
        buffer = 1 << 16  # that the reference reads into, on file systems that have such offsets
        sources = (
            (last, 1),
            (last - 1, 1),
            (last - 1, 2),
            (last, 0),
            (last - buffer, 0),
            (last + 1 - buffer, 0),
        )
        for offsets in (
            *((*source, SECOND, 0) for source in sources),
            (1000, 5, SECOND, last),
            (0, 5, SECOND, last),
        ):
            with self.subTest(offsets):
                steps = [
                    step("open", b"f", READ),
                    step("open", b"g", READ | WRITE),
                    step("copy-data", FIRST, *offsets),
                ]
                self.assertFalse(disagreement(self.candidate, steps))

    def test_an_offset_that_no_file_has_is_a_bad_message(self):
        self.agree(
            (step("open", b"f", READ | WRITE), "handle"),
            (step("read", FIRST, 1 << 63, 1), BAD_MESSAGE),
            (step("read", FIRST, (1 << 64) - 1, 1), BAD_MESSAGE),
            (step("read", FIRST, 1 << 63, 0), BAD_MESSAGE),
            (step("write", FIRST, 1 << 63, b"x"), BAD_MESSAGE),
            (step("write", FIRST, (1 << 64) - 1, b""), BAD_MESSAGE),
        )

    def test_reading_and_writing_need_the_right_to(self):
        """The kernel's EBADF, which the reference calls NO_SUCH_FILE."""
        self.agree(
            (step("open", b"f", READ), "handle"),
            (step("open", b"f", WRITE), "handle"),
            (step("open", b"f", READ | APPEND), "handle"),
            (step("write", FIRST, 0, b"x"), NO_SUCH_FILE),
            (step("write", FIRST, 0, b""), NO_SUCH_FILE),
            (step("read", SECOND, 0, 1), NO_SUCH_FILE),
            (step("write", THIRD, 0, b"x"), NO_SUCH_FILE),
            (step("read", THIRD, 0, 2), b"01"),
        )

    def test_write_beyond_the_end_leaves_a_hole_and_an_empty_write_nothing(self):
        self.agree(
            (step("open", b"f", READ | WRITE), "handle"),
            (step("write", FIRST, 20, b""), OK),
            (step("read", FIRST, 0, 100), b"0123456789"),
            (step("write", FIRST, 12, b"x"), OK),
            (step("read", FIRST, 0, 100), b"0123456789\0\0x"),
        )

    def test_write_on_an_append_handle_ignores_the_offset(self):
        self.agree(
            (step("open", b"f", READ | WRITE | APPEND), "handle"),
            (step("write", FIRST, 0, b"a"), OK),
            (step("write", FIRST, 1 << 63, b"b"), OK),
            (step("write", FIRST, 3, b""), OK),
            (step("read", FIRST, 0, 100), b"0123456789ab"),
        )

    def test_a_directory_opened_as_a_file_can_be_looked_at_but_not_read(self):
        self.agree(
            (step("open", b"d", READ), "handle"),
            (step("fstat", FIRST), "attrs"),
            (step("read", FIRST, 0, 1), FAILURE),
            (step("readdir", FIRST), FAILURE),
            (step("write", FIRST, 0, b"x"), NO_SUCH_FILE),
            (step("fsetstat", FIRST, Attributes(permissions=0o711)), OK),
            (step("fsetstat", FIRST, Attributes(size=0)), BAD_MESSAGE),
            (step("fsync@openssh.com", FIRST), OK),
            (step("fstatvfs@openssh.com", FIRST), "extended"),
            (step("close", FIRST), OK),
        )

    # Opening

    def test_open_with_neither_read_nor_write_is_for_reading(self):
        self.agree(
            (step("open", b"f", 0), "handle"),
            (step("open", b"f", APPEND), "handle"),
            (step("open", b"new", CREAT), "handle"),
            (step("open", b"d", 0), "handle"),
            (step("read", FIRST, 0, 1), b"0"),
            (step("read", SECOND, 0, 1), b"0"),
            (step("write", THIRD, 0, b"x"), NO_SUCH_FILE),
        )

    def test_truncate_without_create_truncates_what_exists(self):
        self.agree(
            (step("open", b"f", WRITE | TRUNC), "handle"),
            (step("fstat", FIRST), "attrs"),
            (step("open", b"g", READ | TRUNC), "handle"),
            (step("stat", b"g"), "attrs"),
            (step("open", b"missing", WRITE | TRUNC), NO_SUCH_FILE),
        )

    def test_exclusive_create_refuses_whatever_exists(self):
        exclusive = WRITE | CREAT | EXCL
        self.agree(
            (step("open", b"f", exclusive), FAILURE),
            (step("open", b"d", exclusive), FAILURE),
            (step("open", b"dangling", exclusive), FAILURE),
            (step("open", b"loop", exclusive), FAILURE),
            (step("open", b"f", READ | EXCL), "handle"),
            (step("open", b"new", exclusive), "handle"),
        )

    def test_create_follows_a_dangling_link_and_not_a_loop(self):
        self.agree(
            (step("open", b"dangling", WRITE | CREAT), "handle"),
            (step("lstat", b"missing"), "attrs"),
            (step("open", b"loop", WRITE | CREAT), NO_SUCH_FILE),
        )

    def test_open_of_a_directory_for_writing_fails(self):
        for flags in (WRITE, READ | WRITE, READ | CREAT, READ | TRUNC):
            with self.subTest(flags=flags):
                self.agree((step("open", b"d", flags), FAILURE), (step("open", b"to-d", flags), FAILURE))

    def test_new_files_get_the_permissions_asked_for_less_the_umask(self):
        """Size, times and owner of OPEN and MKDIR count for nothing."""
        others = {"size": 7, "owner": (1, 1), "times": (1, 1)}
        exchanges: list[tuple[Step, Outcome]] = []
        for mode in (None, 0, 0o600, 0o666, 0o777, 0o7777, 0o100640, 0o177777):
            attributes = Attributes(permissions=mode, **others)
            name = str(mode).encode()
            exchanges.append((step("open", b"file" + name, WRITE | CREAT, attributes), "handle"))
            exchanges.append((step("mkdir", b"directory" + name, attributes), OK))
        self.agree(*exchanges)

    def test_unknown_open_flags_and_attribute_flags_are_ignored(self):
        unknown = packets.string(b"f") + packets.u32(READ | 0x40) + packets.u32(0x10)
        with Pair(self.candidate) as pair:
            replies = [side.session.ask(packets.REQUEST_TYPES["open"], unknown) for side in pair.sides]
        self.assertEqual([reply.kind for reply in replies], ["handle", "handle"])

    # Attributes

    def test_setstat_size_truncates_and_extends(self):
        self.agree(
            (step("setstat", b"f", Attributes(size=3)), OK),
            (step("setstat", b"to-f", Attributes(size=30)), OK),
            (step("stat", b"f"), "attrs"),
            (step("setstat", b"d", Attributes(size=0)), FAILURE),
            (step("setstat", b"missing", Attributes(size=0)), NO_SUCH_FILE),
            (step("setstat", b"f", Attributes(size=1 << 63)), BAD_MESSAGE),
            (step("setstat", b"missing", Attributes(size=1 << 63)), BAD_MESSAGE),
        )

    def test_size_comes_before_times_and_owner_after_permissions(self):
        every = Attributes(5, (1, 1), 0o6755, (1_000_000, 2_000_000))
        self.agree(
            (step("setstat", b"f", every), CHOWN),
            (step("lstat", b"f"), "attrs"),
            (step("open", b"g", READ | WRITE), "handle"),
            (step("fsetstat", FIRST, every), CHOWN),
            (step("fstat", FIRST), "attrs"),
        )

    def test_one_attribute_that_fails_does_not_keep_the_others_from_being_set(self):
        self.agree(
            (step("setstat", b"d", Attributes(5, None, 0o711, (1, 2))), FAILURE),
            (step("lstat", b"d"), "attrs"),
        )

    def test_setstat_of_nothing_is_fine_even_where_nothing_is(self):
        self.agree(
            *each("setstat", OK, b"f", b"missing", b""),
            (step("lsetstat@openssh.com", b"missing"), OK),
        )

    def test_times_are_unsigned_32_bit_seconds(self):
        self.agree(
            (step("setstat", b"f", Attributes(times=(1 << 31, (1 << 32) - 1))), OK),
            (step("stat", b"f"), "attrs"),
            (step("setstat", b"f", Attributes(times=(0, 0))), OK),
            (step("stat", b"f"), "attrs"),
        )

    def test_fsetstat_size_needs_a_handle_for_writing_and_the_others_do_not(self):
        self.agree(
            (step("open", b"f", READ), "handle"),
            (step("fsetstat", FIRST, Attributes(size=0)), BAD_MESSAGE),
            (step("fsetstat", FIRST, Attributes(permissions=0o600, times=(1, 2))), OK),
            (step("fstat", FIRST), "attrs"),
            (step("fsetstat", FIRST, Attributes(size=1, permissions=0o640, times=(3, 4))), BAD_MESSAGE),
            (step("fstat", FIRST), "attrs"),
        )

    def test_lsetstat_is_about_the_link_itself(self):
        self.agree(
            (step("lsetstat@openssh.com", b"to-f", Attributes(times=(1, 2))), OK),
            (step("lsetstat@openssh.com", b"dangling", Attributes(times=(1, 2))), OK),
            (step("lstat", b"dangling"), "attrs"),
            (step("lsetstat@openssh.com", b"to-f", Attributes(permissions=0o600)), FAILURE),
            (step("lsetstat@openssh.com", b"f", Attributes(permissions=0o600)), OK),
        )

    def test_lsetstat_with_a_size_does_nothing_at_all(self):
        self.agree(
            (step("lsetstat@openssh.com", b"f", Attributes(size=1, permissions=0o600)), BAD_MESSAGE),
            (step("lstat", b"f"), "attrs"),
        )

    # Handles

    def test_a_handle_works_after_its_file_was_renamed_and_removed(self):
        self.agree(
            (step("open", b"g", READ | WRITE), "handle"),
            (step("rename", b"g", b"h"), OK),
            (step("write", FIRST, 0, b"A"), OK),
            (step("remove", b"h"), OK),
            (step("read", FIRST, 0, 3), b"Ahe"),
            (step("fstat", FIRST), "attrs"),
            (step("close", FIRST), OK),
        )

    def test_a_handle_of_the_wrong_kind_or_of_none_is_refused(self):
        bad = [Handle("directory"), Handle("closed"), *(Handle("bogus", number) for number in range(6))]
        exchanges: list[tuple[Step, Outcome]] = [
            (step("opendir", b"d"), "handle"),
            (step("open", b"f", READ), "handle"),
            (step("open", b"g", READ | WRITE), "handle"),
            (step("close", FIRST), OK),
            (step("readdir", FIRST), FAILURE),
        ]
        for handle in bad:
            exchanges += [
                (step("read", handle, 0, 1), FAILURE),
                (step("write", handle, 0, b"x"), FAILURE),
                (step("fstat", handle), FAILURE),
                (step("fsetstat", handle, Attributes(permissions=0o600)), FAILURE),
                (step("fsync@openssh.com", handle), FAILURE),
                (step("fstatvfs@openssh.com", handle), FAILURE),
                (step("copy-data", handle, 0, 0, handle, 0), FAILURE),
                (step("copy-data", FIRST, 0, 0, handle, 0), FAILURE),
            ]
        for handle in bad[1:]:
            exchanges += [(step("readdir", handle), FAILURE), (step("close", handle), FAILURE)]
        self.agree(*exchanges)


class OfTheDropIn(Rules, Case):
    candidate = DROP_IN


class OfTheJail(Rules, Case):
    candidate = JAIL
