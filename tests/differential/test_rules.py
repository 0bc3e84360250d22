"""Rules of SFTP that implementations get wrong, one short sequence each.

Every outcome is written down for the reader, checked on ours, and compared with what the reference does;
where the two differ on purpose, see `intended`. An outcome is a status, the kind of a reply, or DATA's bytes.
"""

import os
import time
import unittest
from typing import ClassVar

from . import packets
from .compare import DROP_IN, JAIL, Pair, Server
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
    OP_UNSUPPORTED,
    PERMISSION_DENIED,
    READ,
    TRUNC,
    WRITE,
    Attributes,
)

FIRST, SECOND, THIRD = (Handle("file", number) for number in range(3))
LISTING = Handle("directory")
CHOWN = OK if os.geteuid() == 0 else PERMISSION_DENIED  # what changing the owner comes to
DAY = 86400  # seconds
Outcome = int | str | bytes


class Case(unittest.TestCase):
    candidate: ClassVar[Server]

    def agree(self, *exchanges: tuple[Step, Outcome]) -> None:
        """Both must agree on these steps and on the trees they leave, and ours give these outcomes."""
        with Pair(self.candidate) as pair:
            for taken, outcome in exchanges:
                reply = pair.take(taken)
                self.assertIsNotNone(reply, f"{taken} cannot be compared")
                seen = reply.content if reply.kind in ("status", "data") else reply.kind
                self.assertEqual(seen, outcome, taken)
            pair.finish()


class Rules:
    def test_version_3_and_the_same_extensions_are_announced(self):
        with Pair(self.candidate) as pair:
            reference, ours = pair.sides
            self.assertEqual((ours.version, ours.extensions), (3, reference.extensions))

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
            (step("setstat", b"f"), OK),
            (step("setstat", b"missing"), OK),
            (step("setstat", b""), OK),
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

    # Renaming and linking

    def test_rename_refuses_an_existing_target_and_posix_rename_replaces_it(self):
        self.agree(
            (step("rename", b"f", b"g"), FAILURE),
            (step("rename", b"f", b"d"), FAILURE),
            (step("rename", b"f", b"dangling"), FAILURE),
            (step("rename", b"d/e", b"empty"), FAILURE),
            (step("rename", b"to-f", b"g"), FAILURE),
            (step("posix-rename@openssh.com", b"f", b"g"), OK),
            (step("posix-rename@openssh.com", b"empty", b"d/e"), FAILURE),
            (step("posix-rename@openssh.com", b"g", b"d"), FAILURE),
            (step("posix-rename@openssh.com", b"d/f", b"dangling"), OK),
        )

    def test_rename_moves_files_directories_and_links(self):
        self.agree(
            (step("rename", b"f", b"d/moved"), OK),
            (step("rename", b"d", b"e"), OK),
            (step("rename", b"to-f", b"e/e/link"), OK),
            (step("rename", b"e", b"e/e/below"), BAD_MESSAGE),
            (step("rename", b"missing", b"new"), NO_SUCH_FILE),
        )

    def test_rename_looks_at_the_source_first(self):
        self.agree(
            (step("rename", b"missing", b"f"), NO_SUCH_FILE),
            (step("rename", b"dangling/", b"loop"), NO_SUCH_FILE),
            (step("rename", b"to-d/", b"g"), FAILURE),
            (step("rename", b"x" * 256, b"missing/new"), BAD_MESSAGE),
            (step("hardlink@openssh.com", b"d/" + b"x" * 256, b"missing/new"), BAD_MESSAGE),
        )

    def test_rename_onto_itself_or_a_hard_link_of_itself_is_refused(self):
        self.agree(
            (step("rename", b"f", b"f"), FAILURE),
            (step("rename", b"f", b"hard"), FAILURE),
            (step("rename", b"d", b"d"), FAILURE),
            (step("posix-rename@openssh.com", b"f", b"hard"), OK),
            (step("lstat", b"hard"), "attrs"),
        )

    def test_symlink_takes_the_target_first(self):
        self.agree(
            (step("symlink", b"anything", b"link"), OK),
            (step("readlink", b"link"), "name"),
            (step("symlink", b"f", b"g"), FAILURE),
            (step("symlink", b"f", b"dangling"), FAILURE),
        )

    def test_readlink_gives_the_text_and_only_of_links(self):
        self.agree(
            (step("readlink", b"to-f"), "name"),
            (step("readlink", b"loop"), "name"),
            (step("readlink", b"dangling"), "name"),
            (step("readlink", b"f"), BAD_MESSAGE),
            (step("readlink", b"to-d/"), BAD_MESSAGE),
            (step("readlink", b"missing"), NO_SUCH_FILE),
        )

    def test_a_link_to_an_absolute_path_starts_at_the_root(self):
        self.agree(
            (step("symlink", b"/d/f", b"link"), OK),
            (step("readlink", b"link"), "name"),
            (step("stat", b"link"), "attrs"),
            (step("realpath", b"link"), "name"),
            (step("remove", b"link"), OK),  # its size is that of a text that is not the same for both
        )

    def test_hardlink_links_a_link_and_not_a_directory(self):
        self.agree(
            (step("hardlink@openssh.com", b"f", b"new"), OK),
            (step("hardlink@openssh.com", b"to-f", b"new link"), OK),
            (step("hardlink@openssh.com", b"d", b"new d"), PERMISSION_DENIED),
            (step("hardlink@openssh.com", b"f", b"g"), FAILURE),
        )

    # Paths

    def test_realpath_lets_the_last_component_be_missing_and_no_other(self):
        self.agree(
            (step("realpath", b""), "name"),
            (step("realpath", b"."), "name"),
            (step("realpath", b"d/../to-d/e"), "name"),
            (step("realpath", b"d/missing"), "name"),
            (step("realpath", b"dangling"), "name"),
            (step("realpath", b"/missing"), "name"),
            (step("realpath", b"missing/x"), NO_SUCH_FILE),
            (step("realpath", b"missing/"), NO_SUCH_FILE),
            (step("realpath", b"missing/.."), NO_SUCH_FILE),
            (step("realpath", b"dangling/"), NO_SUCH_FILE),
            (step("realpath", b"f/x"), NO_SUCH_FILE),
            (step("realpath", b"loop"), NO_SUCH_FILE),
        )

    def test_realpath_takes_a_file_for_a_directory(self):
        """What follows a file is only looked at when it is a name: the reference's own realpath."""
        self.agree(
            (step("realpath", b"f/"), "name"),
            (step("realpath", b"f/."), "name"),
            (step("realpath", b"f/.."), "name"),
            (step("realpath", b"f/../d"), "name"),
        )

    def test_expand_path_knows_the_tilde(self):
        self.agree(
            (step("expand-path@openssh.com", b"~"), "name"),
            (step("expand-path@openssh.com", b"~/"), "name"),
            (step("expand-path@openssh.com", b"~/missing"), "name"),
            (step("expand-path@openssh.com", b"d/../f"), "name"),
            (step("expand-path@openssh.com", b""), "name"),
            (step("expand-path@openssh.com", b"f~"), "name"),
            (step("expand-path@openssh.com", b"~no-such-user/x"), NO_SUCH_FILE),
            (step("expand-path@openssh.com", b"~/missing/x"), NO_SUCH_FILE),
        )

    def test_the_empty_path_is_no_file(self):
        requests = ("lstat", "stat", "opendir", "remove", "rmdir", "mkdir", "readlink", "statvfs@openssh.com")
        self.agree(
            *((step(request, b""), NO_SUCH_FILE) for request in requests),
            (step("open", b"", WRITE | CREAT), NO_SUCH_FILE),
            (step("rename", b"f", b""), NO_SUCH_FILE),
            (step("symlink", b"", b"new"), NO_SUCH_FILE),
        )

    def test_a_name_of_255_bytes_is_fine_and_of_256_a_bad_message(self):
        self.agree(
            (step("mkdir", b"x" * 255), OK),
            (step("open", b"x" * 255 + b"/" + b"\xff" * 255, WRITE | CREAT), "handle"),
            (step("mkdir", b"x" * 256), BAD_MESSAGE),
            (step("stat", b"x" * 256), BAD_MESSAGE),
            (step("realpath", b"x" * 256), BAD_MESSAGE),
            (step("open", b"x" * 256, READ), BAD_MESSAGE),
            (step("rename", b"f", b"x" * 256), BAD_MESSAGE),
            (step("stat", b"d/../" * 1000), BAD_MESSAGE),
            (step("realpath", b"d/../" * 1000), BAD_MESSAGE),
            (step("expand-path@openssh.com", b"d/../" * 1000), BAD_MESSAGE),
        )

    def test_a_trailing_slash_wants_a_directory(self):
        self.agree(
            (step("lstat", b"f/"), NO_SUCH_FILE),
            (step("lstat", b"to-d/"), "attrs"),
            (step("open", b"f/", READ), NO_SUCH_FILE),
            (step("open", b"new/", WRITE | CREAT), FAILURE),
            (step("remove", b"f/"), NO_SUCH_FILE),
            (step("remove", b"to-d/"), NO_SUCH_FILE),
            (step("rename", b"f", b"new/"), NO_SUCH_FILE),
            (step("rename", b"d/e", b"new/"), OK),
            (step("mkdir", b"newer/"), OK),
            (step("rmdir", b"newer/"), OK),
        )

    def test_odd_names_are_bytes_like_any(self):
        names = (b"new\nline", b"caf\xe9\xff", b"a b/c d")
        self.agree(
            *((step("lstat", name), "attrs") for name in names),
            (step("opendir", b"."), "handle"),
            (step("readdir", LISTING), "name"),
            (step("rename", b"caf\xe9\xff", b"\x80\r\n\x1b[31m'\"\\"), OK),
        )

    # Directories

    def test_a_listing_has_the_dots_and_looks_like_ls(self):
        """Dates are `Mon dd hh:mm` within six months and `Mon dd  yyyy` beyond, or in the future."""
        now = int(time.time())
        ages = (0, 30 * DAY, 180 * DAY, 184 * DAY, 400 * DAY, -10 * DAY, -400 * DAY)
        exchanges: list[tuple[Step, Outcome]] = [(step("mkdir", b"dated"), OK)]
        for count, age in enumerate(ages):
            name = b"dated/%d" % count
            times = Attributes(times=(now - age, now - age))
            exchanges += [(step("mkdir", name), OK), (step("setstat", name, times), OK)]
        exchanges += [
            (step("setstat", b"f", Attributes(owner=(77777, 77777), permissions=0o7777)), CHOWN),
            (step("setstat", b"g", Attributes(owner=(1, 1), permissions=0o7000)), CHOWN),
        ]
        for name in (b"dated", b".", b"d"):
            exchanges += [
                (step("opendir", name), "handle"),
                (step("readdir", LISTING), "name"),
                (step("readdir", LISTING), EOF),
                (step("readdir", LISTING), EOF),
                (step("close", LISTING), OK),
            ]
        self.agree(*exchanges)

    def test_a_listing_shows_what_is_there_when_it_is_read(self):
        self.agree(
            (step("opendir", b"d"), "handle"),
            (step("mkdir", b"d/new"), OK),
            (step("mkdir", b"new"), OK),
            (step("setstat", b"d", Attributes(permissions=0o700)), OK),
            (step("remove", b"d/f"), OK),
            (step("readdir", LISTING), "name"),
        )

    def test_a_large_directory_is_listed_completely(self):
        with Pair(self.candidate) as pair:
            for side in pair.sides:
                for count in range(2500):
                    (side.root / "empty" / f"{count:0200}").touch()
            pair.take(step("opendir", b"empty"))
            reply = pair.take(step("readdir", LISTING))
            self.assertEqual(len(reply.content), 2502)

    def test_remove_is_for_files_and_rmdir_for_empty_directories(self):
        self.agree(
            (step("remove", b"d"), FAILURE),
            (step("remove", b"to-d"), OK),
            (step("remove", b"loop"), OK),
            (step("rmdir", b"d"), FAILURE),
            (step("rmdir", b"f"), NO_SUCH_FILE),
            (step("rmdir", b"empty"), OK),
            (step("rmdir", b"empty"), NO_SUCH_FILE),
            (step("rmdir", b"d/e/."), BAD_MESSAGE),
            (step("mkdir", b"d"), FAILURE),
            (step("mkdir", b"dangling"), FAILURE),
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
            (step("close", FIRST), OK),
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
            ]
        for handle in bad[1:]:
            exchanges += [(step("readdir", handle), FAILURE), (step("close", handle), FAILURE)]
        self.agree(*exchanges)

    # Extensions

    def test_copy_data_copies_between_two_files(self):
        self.agree(
            (step("open", b"large", READ), "handle"),
            (step("open", b"new", READ | WRITE | CREAT), "handle"),
            (step("copy-data", FIRST, 0, 0, SECOND, 0), OK),
            (step("copy-data", FIRST, 5, 100_000, SECOND, 50), OK),
            (step("copy-data", FIRST, 281_000, 0, SECOND, 300_000), OK),
            (step("copy-data", FIRST, 999_999, 0, SECOND, 0), OK),
            (step("fstat", SECOND), "attrs"),
            (step("copy-data", FIRST, 1 << 63, 1, SECOND, 0), BAD_MESSAGE),
            (step("copy-data", FIRST, 0, 1, SECOND, 1 << 63), BAD_MESSAGE),
        )

    def test_copy_data_refuses_one_handle_twice_and_two_of_one_path(self):
        self.agree(
            (step("open", b"f", READ | WRITE), "handle"),
            (step("open", b"f", READ | WRITE), "handle"),
            (step("copy-data", FIRST, 0, 1, FIRST, 5), FAILURE),
            (step("copy-data", FIRST, 0, 1, SECOND, 5), FAILURE),
        )

    def test_copy_data_appends_to_an_append_handle(self):
        self.agree(
            (step("open", b"g", READ), "handle"),
            (step("open", b"f", WRITE | APPEND), "handle"),
            (step("copy-data", FIRST, 4, 5, SECOND, 0), OK),
        )

    def test_copy_data_looks_at_both_offsets_before_it_reads(self):
        """An append handle has no offset to look at."""
        beyond = 1 << 63
        self.agree(
            (step("open", b"d/f", READ), "handle"),  # empty
            (step("open", b"g", WRITE), "handle"),
            (step("open", b"hard", WRITE | APPEND), "handle"),
            (step("copy-data", FIRST, 0, 0, SECOND, beyond), BAD_MESSAGE),
            (step("copy-data", FIRST, beyond, 0, SECOND, 0), BAD_MESSAGE),
            (step("copy-data", FIRST, 0, 0, THIRD, beyond), OK),
        )

    def test_copy_data_to_the_end_reports_missing_rights(self):
        self.agree(
            (step("open", b"large", READ), "handle"),
            (step("open", b"f", READ), "handle"),
            (step("open", b"g", WRITE), "handle"),
            (step("copy-data", FIRST, 0, 0, SECOND, 0), NO_SUCH_FILE),
            (step("copy-data", THIRD, 0, 0, THIRD, 0), FAILURE),
        )

    def test_unknown_extensions_are_unsupported(self):
        self.agree(
            (step("", b""), OP_UNSUPPORTED),
            (step("fsync", Handle("bogus")), OP_UNSUPPORTED),
            (step("no-such-extension@example.com", b"\xff"), OP_UNSUPPORTED),
        )

    def test_users_and_groups_are_named_and_unknown_ones_empty(self):
        ids = packets.u32(0) + packets.u32(1) + packets.u32(4_000_000_000)
        self.agree(
            (step("users-groups-by-id@openssh.com", ids, ids), "extended"),
            (step("users-groups-by-id@openssh.com", b"", b""), "extended"),
        )

    def test_home_directory_knows_users_by_name(self):
        self.agree(
            (step("home-directory", b"no-such-user"), FAILURE),
            (step("home-directory", b""), FAILURE),
        )

    def test_limits_are_the_same(self):
        self.agree((step("limits@openssh.com"), "extended"))

    def test_statvfs_describes_the_same_file_system(self):
        self.agree(
            (step("statvfs@openssh.com", b"f"), "extended"),
            (step("statvfs@openssh.com", b"dangling"), NO_SUCH_FILE),
        )

    # The session

    def test_bytes_after_a_complete_body_are_ignored(self):
        with Pair(self.candidate) as pair:
            body = packets.string(b"f") + b"junk"
            replies = [side.session.ask(packets.REQUEST_TYPES["stat"], body) for side in pair.sides]
        self.assertEqual([reply.kind for reply in replies], ["attrs", "attrs"])

    def test_replies_come_in_the_order_of_requests(self):
        with Pair(self.candidate) as pair:
            for side in pair.sides:
                numbers = [
                    side.session.post(packets.REQUEST_TYPES[request], packets.string(b"f"))
                    for request in ("stat", "opendir", "realpath", "readlink") * 50
                ]
                for number in numbers:
                    side.session.reply_to(number)


class OfTheDropIn(Rules, Case):
    candidate = DROP_IN


class OfTheJail(Rules, Case):
    candidate = JAIL
