"""Rules of SFTP that implementations get wrong, one short sequence each: extensions and the session."""

from . import packets
from .compare import DROP_IN, JAIL, Pair
from .model import Handle, step
from .packets import APPEND, BAD_MESSAGE, CREAT, FAILURE, NO_SUCH_FILE, OK, OP_UNSUPPORTED, READ, WRITE
from .rules import FIRST, SECOND, THIRD, Case, each


class Rules:
    def test_version_3_and_the_same_extensions_are_announced(self):
        with Pair(self.candidate) as pair:
            reference, ours = pair.sides
            self.assertEqual((ours.version, ours.extensions), (3, reference.extensions))

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
            *each("home-directory", FAILURE, b"no-such-user"),
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
