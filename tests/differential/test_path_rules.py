"""Rules that implementations get wrong, of names: renaming, linking, paths, directories."""

import time

from .compare import DROP_IN, JAIL, Pair
from .model import Step, step
from .packets import (
    BAD_MESSAGE,
    CREAT,
    EOF,
    FAILURE,
    NO_SUCH_FILE,
    OK,
    PERMISSION_DENIED,
    READ,
    WRITE,
    Attributes,
)
from .rules import CHOWN, LISTING, Case, Outcome, each

DAY = 86400  # seconds


class Rules:
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
            *each("readlink", "name", b"to-f", b"loop", b"dangling"),
            *each("readlink", BAD_MESSAGE, b"f", b"to-d/"),
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
            *each("realpath", "name", b"", b".", b"d/../to-d/e", b"d/missing", b"dangling", b"/missing"),
            *each(
                "realpath",
                NO_SUCH_FILE,
                b"missing/x",
                b"missing/",
                b"missing/..",
                b"dangling/",
                b"f/x",
                b"loop",
            ),
        )

    def test_realpath_takes_a_file_for_a_directory(self):
        """What follows a file is only looked at when it is a name: the reference's own realpath."""
        self.agree(
            *each("realpath", "name", b"f/", b"f/.", b"f/..", b"f/../d"),
        )

    def test_expand_path_knows_the_tilde(self):
        self.agree(
            *each("expand-path@openssh.com", "name", b"~", b"~/", b"~/missing", b"d/../f", b"", b"f~"),
            *each("expand-path@openssh.com", NO_SUCH_FILE, b"~no-such-user/x", b"~/missing/x"),
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
            *each("remove", NO_SUCH_FILE, b"f/", b"to-d/"),
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
            *each("mkdir", OK, b"d/new", b"new"),
            (step("setstat", b"d", Attributes(permissions=0o700)), OK),
            (step("remove", b"d/f"), OK),
            (step("readdir", LISTING), "name"),
        )

    def test_a_large_directory_is_listed_completely(self):
        with Pair(self.candidate) as pair:
            for side in pair.sides:
                for count in range(600):
                    (side.root / "empty" / f"{count:0200}").touch()
            pair.take(step("opendir", b"empty"))
            reply = pair.take(step("readdir", LISTING))
            self.assertEqual(len(reply.content), 602)

    def test_remove_is_for_files_and_rmdir_for_empty_directories(self):
        self.agree(
            (step("remove", b"d"), FAILURE),
            *each("remove", OK, b"to-d", b"loop"),
            (step("rmdir", b"d"), FAILURE),
            (step("rmdir", b"f"), NO_SUCH_FILE),
            (step("rmdir", b"empty"), OK),
            (step("rmdir", b"empty"), NO_SUCH_FILE),
            (step("rmdir", b"d/e/."), BAD_MESSAGE),
            *each("mkdir", FAILURE, b"d", b"dangling"),
        )


class OfTheDropIn(Rules, Case):
    candidate = DROP_IN


class OfTheJail(Rules, Case):
    candidate = JAIL
