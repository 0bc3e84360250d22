"""What clients may say to our server: whatever it is, the log has a reason, and nothing else has changed."""

from __future__ import annotations

import hashlib
import socket
import struct
import time

from pysftpserver.sksync import connection, wire
from tests.sksync.peers import HELLO, NEWER, PeerCase, opening, read_line, rest
from tests.support.ports import LOOPBACK
from tests.support.waiting import until

TIME = b"%d" % (NEWER * 1000)
WHERE = "/share"
UPLOAD = opening(1, WHERE)  # types: 1 to the server, 2 from it
HUGE = [b"9223372036854775808", b"9" * 100, b"-1", b"-9223372036854775808"]
NO_NUMBERS = [text.encode() for text in "|+1| 1|1 |1_000|0x1|1.0|1e3|\u0661|\uff11|x|\0".split("|")]
ENDLESS = b"x" * (1 << 16)
BAD_NAMES = (
    *b".. ../beside/new directory/../../beside/new a/.. a/../b . ./a a/./b /etc/passwd / // a//b a/".split(),
    *(b"", b"nul\0", b"\0", b"/".join([b"d"] * 102), b"/".join([b"d"] * 30_000)),
)


class Names(PeerCase):
    def test_a_name_that_leads_elsewhere_ends_the_session_before_anything_is_asked_for(self) -> None:
        serving = self.serve()
        with self.nothing_changes():
            for sync_type in (0, 1, 2, 3, 4, 5):
                for name in BAD_NAMES:
                    with self.subTest(sync_type=sync_type, name=name[:40]):
                        said = opening(sync_type, WHERE) + TIME + b" " + name + b"\n\n3\nabc"
                        answered = self.refused(serving, said, "ended: a name ")
                        self.assertEqual(answered, wire.ESTABLISHED)
        self.assert_serves(serving)

    def test_a_name_that_is_taken_by_something_else_is_refused_alone(self) -> None:
        serving = self.serve()
        names = {
            b"directory": "a directory, a link or another special file has that name here",
            b"link": "a directory, a link or another special file has that name here",
            b"link/new": "not a directory",
            b"link/new/deeper": "not a directory",
            b"old/new": "not a directory",
            b".pysftp-0123456789ab-1-1-0123456789abcdef": "the name is reserved for temporary files",
            b"directory/.pysftp-0123456789ab-1-1-0123456789abcdef/new": "reserved for temporary files",
            b"n" * 300: "file name too long",
        }
        for name, why in names.items():
            with self.subTest(name=name), self.nothing_changes():
                said = UPLOAD + TIME + b" " + name + b"\n\n3\nabc"
                self.refused(serving, said, why)
                serving.said("1 failed")
        self.assert_serves(serving)

    def test_files_beside_a_refused_one_come_and_the_client_learns_that_not_all_did(self) -> None:
        serving = self.serve()
        said = UPLOAD + TIME + b" directory\n" + TIME + b" good\n" + TIME + b" link/new\n\n4\ngood3\nbad"
        answered = self.refused(serving, said, "2 failed; received 1 files, 4 bytes")
        self.assertEqual(answered, wire.ESTABLISHED + b"good\nlink/new\n\n")
        self.assertEqual((self.share / "good").read_bytes(), b"good")
        self.assertEqual([path.name for path in (self.jail / "beside").iterdir()], ["secret"])

    def test_a_link_is_not_read_through_either(self) -> None:
        (self.share / "secret").symlink_to("../beside/secret")
        serving = self.serve()
        self.assertNotIn(b"secret", self.refused(serving, opening(2, WHERE) + b"\n", "sent 2 files"))

    def test_a_file_and_a_name_below_it_cannot_both_be_had(self) -> None:
        serving = self.serve()
        said = UPLOAD + TIME + b" both/below\n" + TIME + b" both\n\n1\na1\nb"
        self.refused(serving, said, "1 failed; received 1 files")
        self.assertEqual((self.share / "both").read_bytes(), b"a")
        self.assert_no_leftovers()

    def test_a_slash_where_one_directory_only_is_synced_ends_the_session(self) -> None:
        serving = self.serve()
        with self.nothing_changes():
            said = opening(1, WHERE, recursive=False) + TIME + b" below/new\n\n3\nabc"
            self.refused(serving, said, "ended: a name in a directory")

    def test_paths_cannot_lead_out_of_what_is_shared(self) -> None:
        (self.jail / "way-out").symlink_to("..")
        serving = self.serve(self.jailed(self.share))
        with self.nothing_changes():
            for path in ("..", "../../..", "/../outside", "link", "/link/..//link"):
                with self.subTest(path):
                    # Inside the jail, these are its top, or lead nowhere.
                    answered = self.refused(serving, opening(2, path) + b"\n", LOOPBACK)
                    self.assertNotIn(b"a secret", answered)
            self.refused(serving, opening(2, "a\0b") + b"\n", "a path with a NUL character in it")

    def test_a_path_that_is_a_link_to_nowhere_is_refused_once(self) -> None:
        (self.jail / "nowhere").symlink_to("not/there")
        serving = self.serve()
        with self.nothing_changes():
            said = opening(1, "/nowhere") + TIME + b" new\n\n3\nabc"
            self.refused(serving, said, "'new': no such file or directory")
            self.assertEqual(len(serving.lines), 2)
        self.assert_serves(serving)

    def test_what_a_client_chose_forges_no_log_line(self) -> None:
        serving = self.serve()
        name = "\x1b[2J\r\u2028error: forged\u202e".encode()
        self.refused(serving, opening(1, WHERE) + TIME + b" " + name + b"\n\n3\nabc", "received 1 files")
        self.refused(serving, opening(2, "\r\x1b]0;title\x07\u2028") + b"\n", "no such file")
        self.assert_serves(serving)


class Numbers(PeerCase):
    def test_a_number_that_is_none_ends_the_session_at_every_step(self) -> None:
        serving = self.serve()
        lengths = UPLOAD + TIME + b" new\n\n"
        with self.nothing_changes():
            for bad in (*NO_NUMBERS, *HUGE):
                steps = {
                    "sync type: not a number": HELLO + bad + b"\n0\n/share\n/c\n\n",
                    "recursion flag: not a number": HELLO + b"1\n" + bad + b"\n/share\n/c\n\n",
                    "length: not a number": lengths + (bad or b"\n") + b"\nabc",
                    "time: not a number": UPLOAD + bad + b" new\n\n3\nabc",
                }
                for words, said in steps.items():
                    with self.subTest(step=words, number=bad):
                        if words.startswith("time") and b" " in bad:
                            continue  # that is a shorter number, and a name with a space
                        self.refused(serving, said, f"ended: {words}")
            self.refused(serving, HELLO + b"6\n", "ended: sync type")
            self.refused(serving, HELLO + b"0\n2\n", "ended: recursion flag")
            self.refused(serving, UPLOAD + b"253402300800000 new\n\n", "ended: time")
        self.assert_serves(serving)

    def test_only_one_empty_line_may_be_too_many(self) -> None:
        serving = self.serve()
        with self.nothing_changes():
            self.refused(serving, UPLOAD + TIME + b" new\n\n\n\n3\nabc", "ended: length")
        self.refused(serving, UPLOAD + TIME + b" new\n\n\n3\nabc", "received 1 files, 3 bytes")

    def test_a_length_of_nine_exabytes_is_no_reason_to_take_memory_or_room(self) -> None:
        serving = self.serve()
        with self.nothing_changes():
            said = UPLOAD + TIME + b" new\n\n9223372036854775807\nabc"
            self.refused(serving, said, "the client has gone before 'new' was complete")

    def test_a_wrong_digest_leaves_the_old_file(self) -> None:
        serving = self.serve()
        opened = opening(1, WHERE, b"pysksync 2\n") + TIME + b" old\n\n3\nabc"
        right = hashlib.md5(b"abc").hexdigest().encode()
        with self.nothing_changes():
            for digest in (b"0" * 32, right[:-1], right + b"0", b"", b"x" * 32, right[:-1] + b"\xff"):
                with self.subTest(digest):
                    self.refused(serving, opened + digest + b"\n", "digest")
        self.refused(serving, opened + right.upper() + b"\n", "received 1 files, 3 bytes")


class Floods(PeerCase):
    def test_a_line_without_end_ends_the_session_at_every_step(self) -> None:
        serving = self.serve()
        steps = [b"", HELLO, HELLO + b"1\n", HELLO + b"1\n0\n", HELLO + b"1\n0\n/share\n", UPLOAD]
        steps += [UPLOAD + TIME + b" new\n\n", UPLOAD + b"1 "]
        steps += [opening(1, WHERE, b"pysksync 2\n") + TIME + b" old\n\n3\nabc", wire.SRP_START]
        with self.nothing_changes():
            for said in steps:
                for more in (ENDLESS, ENDLESS * 40):
                    with self.subTest(said=said[-30:], more=len(more)):
                        self.refused(serving, said + more, "ended: a line of more than 65536 bytes")
        self.assert_serves(serving)

    def test_a_line_may_have_64_kib(self) -> None:
        serving = self.serve()
        name = b"n" * ((1 << 16) - len(TIME) - 2)
        self.refused(serving, UPLOAD + TIME + b" " + name + b"\n\n3\nabc", "1 failed; received 0 files")

    def test_a_listing_without_end_ends_at_its_limits(self) -> None:
        serving = self.serve(max_names=100, max_listing_bytes=20_000)
        names = [TIME + b" name%d\n" % number for number in range(101)]
        with self.nothing_changes():
            long = [TIME + b" %d" % number + b"x" * 1000 + b"\n" for number in range(30)]
            again = [TIME + b" same\n"] * 2000
            wrong = [TIME + b" \xff%d\n" % number for number in range(101)]
            for listing in (names, long, again, wrong):
                with self.subTest(listing[0]):
                    self.refused(serving, opening(1, WHERE) + b"".join(listing), "a listing that is too long")
        said = opening(4, WHERE) + b"".join(names[:100]) + b"\n" + b"1\nx" * 100
        self.refused(serving, said, "received 100 files")

    def test_names_that_take_more_memory_than_bytes_count_for_that(self) -> None:
        serving = self.serve(max_listing_bytes=1 << 20)
        for letter, words in (("x", "received 0 files"), ("\U0001f600", "a listing that is too long")):
            names = (f"{number}{'x' * 60_000}{letter}".encode() for number in range(10))
            said = opening(5, WHERE) + b"".join(b"%b %b\n" % (TIME, name) for name in names) + b"\n"
            with self.subTest(letter), self.nothing_changes():
                self.refused(serving, said, words)

    def test_failures_without_number_do_not_fill_the_log(self) -> None:
        serving = self.serve()
        count = 500
        names = b"".join(TIME + b" link/%d\n" % number for number in range(count))
        self.refused(serving, UPLOAD + names + b"\n" + b"1\nx" * count, f"{count} failed")
        self.assertLess(len(serving.lines), 30)

    def test_what_comes_after_the_end_is_nobody_s_business(self) -> None:
        serving = self.serve()
        said = UPLOAD + TIME + b" new\n\n3\nabc"
        for more in (b"x", said, ENDLESS * 100):
            with self.subTest(len(more)):
                self.refused(serving, said + more, "to_server_use_time")
                self.assertEqual((self.share / "new").read_bytes(), b"abc")
        self.assert_serves(serving)

    def test_deep_names_that_are_left_out_cost_no_time(self) -> None:
        serving = self.serve(filter_fnmatch_exclude=["*.no", "*.tmp", "a*b*c*d*"])
        deep = b"/".join([b"a" * 600] * 100) + b"/b.tmp"
        names = b"".join(TIME + b" %d" % number + deep + b"\n" for number in range(20))
        with self.nothing_changes():
            began = time.process_time()
            self.refused(serving, UPLOAD + names + b"\n", "received 0 files")
            self.assertLess(time.process_time() - began, 5)


class Breaks(PeerCase):
    def test_a_client_that_goes_away_at_any_byte_leaves_the_old_file(self) -> None:
        serving = self.serve()
        digest = hashlib.md5(b"new content").hexdigest().encode() + b"\n"
        said = opening(1, WHERE, b"pysksync 2\n") + b"%b old\n%b x\n\n" % (TIME, TIME)
        said += b"11\nnew content" + digest
        with self.nothing_changes():
            for end in range(len(said) - 1):
                with self.subTest(end=end):
                    self.refused(
                        serving, said[:end], "ended: the client has gone", half_close=end % 2 == 0 or end < 10
                    )
        self.assert_serves(serving)

    def refused(self, serving, said, words, half_close=True):  # type: ignore[no-untyped-def]
        if half_close:
            return super().refused(serving, said, words)
        serving.lines.clear()  # or it resets the connection
        raw = serving.connect()
        raw.sendall(said)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if serving.lines or said.count(b"\n") >= 1:
            read_line(raw)
        raw.close()
        serving.said("ended: ")
        return b""

    def test_a_client_that_goes_away_while_it_is_sent_to_is_no_trouble(self) -> None:
        self.put("large", b"x" * 20_000_000)
        serving = self.serve()
        with self.nothing_changes():
            for read in (0, 1, 100_000):
                serving.lines.clear()
                raw = serving.connect(buffer=4096)
                raw.sendall(opening(2, WHERE) + b"\n")
                while read > 0:
                    read -= len(raw.recv(read))
                raw.close()
                serving.said("ended: the client has gone")
        self.assert_serves(serving)

    def test_one_that_half_closes_gets_all_that_it_asked_for(self) -> None:
        self.put("large", bytes(range(256)) * 40_000)
        serving = self.serve()
        answered = self.refused(serving, opening(2, WHERE) + b"\n", "sent 3 files")
        self.assertIn(bytes(range(256)) * 40_000, answered)
        self.assertTrue(answered.endswith(b"\n\n") or answered.endswith(b"\n"))

    def test_many_at_once_that_break_off_leave_room_for_others(self) -> None:
        serving = self.serve(max_clients=30)
        with self.nothing_changes():
            raws = [serving.connect() for _ in range(30)]
            for raw in raws:
                raw.sendall(UPLOAD + TIME + b" new\n\n1000000\nabc")
                self.assertEqual(read_line(raw), wire.ESTABLISHED)
            with serving.connect() as one_more:
                self.assertEqual(rest(one_more), b"")
            serving.said("refused: too many connections: 30 others (max_connections)")
            for raw in raws:
                raw.close()
            until(lambda: sum("ended: the client has gone" in line for line in list(serving.lines)) == 30)
        serving.lines.clear()
        for _ in range(3):
            self.assert_serves(serving)

    def test_an_address_that_fills_the_log_is_counted_instead(self) -> None:
        serving = self.serve(log_rate=1)
        for _ in range(60):
            with serving.connect() as raw:
                raw.sendall(b"nonsense\n")
                rest(raw)
        serving.stop()
        self.assertLess(len(serving.lines), 40)
        self.assertTrue(any("log lines were left out (log_rate)" in line for line in serving.lines))


class TheEnd(PeerCase):
    def test_a_slow_reader_gets_the_last_block_whole(self) -> None:
        size = 8 << 20
        self.put("large", bytes(size))
        self.addCleanup(setattr, connection, "LINGER", connection.LINGER)
        connection.LINGER = 0.1
        serving = self.serve()
        with serving.connect(buffer=1 << 17) as raw:
            raw.sendall(opening(2, WHERE) + b"\n")
            received = 0
            while not any("sent 3 files" in line for line in serving.lines):
                received += len(raw.recv(1 << 16))
                time.sleep(0.01)  # slower than the server, or the buffers would not fill
            # The system's buffers are full now, and so is the server's.
            time.sleep(5 * connection.LINGER)  # the slowness is what is tested
            self.assertGreater(received + len(rest(raw)), size)
