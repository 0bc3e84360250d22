"""bin/pysftpjail: every option, and every way to get it wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from pysftpserver import __version__
from pysftpserver.cli import pysftpjail
from pysftpserver.cli.parser import build_parser
from pysftpserver.engine.requests import REQUESTS
from tests.cli.commands import BAD_UMASKS, REFERENCE, CommandCase
from tests.support import packets as sftp
from tests.support.packets import request, string, u32
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

MAKE = request("open", 1, string(b"/f"), u32(sftp.WRITE | sftp.CREAT), sftp.NO_ATTRS) + request(
    "mkdir", 2, string(b"/d"), sftp.NO_ATTRS
)
STAT = request("stat", 1, string(b"/"))
WHERE = request("realpath", 1, string(b"."))


class Jail(CommandCase):
    prog = "pysftpjail"

    # --- what it does -------------------------------------------------------------------------------

    def test_serves_the_directory_as_the_root(self):
        (self.jail / "inside").write_bytes(b"")
        where, there, escaped = self.serve(
            self.jail,
            requests=WHERE
            + request("stat", 2, string(b"/inside"))
            + request("realpath", 3, string(b"/../../.." + os.fsencode(self.jail))),
        )
        self.assertEqual(where.content[0].name, b"/")
        self.assertEqual(there.kind, "attrs")
        self.assertEqual(escaped.kind, "status")

    def test_a_relative_chroot_is_taken_from_where_it_was_started(self):
        (self.jail / "inside").write_bytes(b"")
        (reply,) = self.serve("jail", requests=request("stat", 1, string(b"/inside")))
        self.assertEqual(reply.kind, "attrs")

    def test_help_and_version_go_to_standard_output_and_end_well(self):
        self.assertIn("usage: pysftpjail", self.help_text())
        done = self.run_it("--version")
        self.assertEqual((done.returncode, done.stdout.decode()), (0, f"pysftpjail {__version__}\n"))
        self.assertEqual(done.stderr, b"")

    def test_help_that_nobody_reads_to_its_end_is_no_error(self):
        for word in ("--help", "-Q"):
            reading, writing = os.pipe()
            os.close(reading)
            argv = [sys.executable, str(ROOT / "bin" / self.prog), word]
            with open(writing, "wb") as output:
                done = subprocess.run(argv, stdout=output, stderr=subprocess.PIPE, timeout=PATIENCE)
            self.assertEqual(done.stderr, b"")

    def test_help_is_sentences_that_name_defaults(self):
        self.assert_help_is_complete(build_parser(pysftpjail.COMMAND))

    def test_the_umask_is_effective_and_octal(self):
        for option, file, directory in (("027", 0o640, 0o750), ("0", 0o666, 0o777), ("777", 0, 0)):
            with self.subTest(option):
                self.serve("--umask", option, self.jail, requests=MAKE)
                self.assertEqual((self.jail / "f").stat().st_mode & 0o7777, file)
                self.assertEqual((self.jail / "d").stat().st_mode & 0o7777, directory)
                (self.jail / "f").unlink()
                (self.jail / "d").rmdir()

    def test_read_only_serves_and_changes_nothing(self):
        for option in ("-R", "--read-only"):
            replies = self.serve(option, self.jail, requests=MAKE + STAT)
            self.assertEqual([reply.content for reply in replies[:2]], [sftp.PERMISSION_DENIED] * 2)
            self.assertEqual(replies[2].kind, "attrs")
            self.assertEqual(os.listdir(self.jail), [])

    def test_the_start_directory_is_inside_the_jail(self):
        (self.jail / "a" / "b").mkdir(parents=True)
        (self.jail / "link").symlink_to("/a/b")
        cases = {"a/b": b"/a/b", "/a": b"/a", "../../a": b"/a", "link": b"/a/b", "": b"/", "a/b/../..": b"/"}
        for given, expected in cases.items():
            for option in ("-d", "--start-directory"):
                with self.subTest(given, option=option):
                    (reply,) = self.serve(option, given, self.jail, requests=WHERE)
                    self.assertEqual(reply.content[0].name, expected)

    def test_allowed_and_denied_requests(self):
        for options, statuses in (
            (["-P", "mkdir"], ["handle", sftp.PERMISSION_DENIED]),
            (["--deny-requests", "mkdir,open"], [sftp.PERMISSION_DENIED, sftp.PERMISSION_DENIED]),
            (["-p", "open,close"], ["handle", sftp.PERMISSION_DENIED]),
            (["--allow-requests", "mkdir", "-P", "mkdir"], [sftp.PERMISSION_DENIED, sftp.PERMISSION_DENIED]),
        ):
            with self.subTest(options):
                replies = self.serve(*options, self.jail, requests=MAKE)
                got = [reply.content if reply.kind == "status" else reply.kind for reply in replies]
                self.assertEqual(got, statuses)

    def test_the_list_of_requests_is_the_references_and_ours(self):
        expected = subprocess.run([REFERENCE, "-Q", "requests"], capture_output=True, check=True).stdout
        expected += b"check-file-name\ncheck-file-handle\ncheck-file\n"
        for option in ("-Q", "--list-requests"):
            done = self.run_it(option)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, expected, b""))

    def test_every_listed_request_can_be_allowed_and_denied(self):
        names = self.run_it("-Q").stdout.decode().split()
        replies = self.serve("-p", ",".join(names), "-P", ",".join(names), self.jail, requests=STAT)
        self.assertEqual(replies[0].content, sftp.PERMISSION_DENIED)
        self.assertGreater(len(names), len(REQUESTS))

    def test_the_log_goes_to_the_file_at_the_level(self):
        log = self.place / "log"
        for level, has, has_not in (
            ("QUIET", [], ["session opened", "stat", "open"]),
            ("ERROR", [], ["session opened", "stat"]),
            ("INFO", ["session opened", 'open "/f"', 'mkdir name "/d"'], ["stat name", "debug1"]),
            ("verbose", ["session opened", 'stat name "/"'], ["debug1"]),
            ("DEBUG", ['stat name "/"', "debug1: read eof"], []),
        ):
            for option in ("--logfile", "-l"):
                self.serve(option, log, "--log-level", level, self.jail, requests=MAKE + STAT)
                text = log.read_text()
                with self.subTest(level):
                    self.assertEqual(log.stat().st_mode & 0o777, 0o600)
                    for words in has:
                        self.assertIn(words, text)
                    for words in has_not:
                        self.assertNotIn(words, text)
                log.unlink()

    def test_the_log_level_is_info_by_default(self):
        log = self.place / "log"
        self.serve("--logfile", log, self.jail, requests=MAKE + STAT)
        self.assertIn("session closed", log.read_text())
        self.assertNotIn("stat name", log.read_text())

    def test_the_log_does_not_tell_the_host_path_of_the_jail(self):
        log = self.place / "log"
        self.serve("-l", log, "--log-level", "DEBUG3", self.jail, requests=MAKE + STAT + WHERE)
        self.assertNotIn(str(self.place), log.read_text())

    def test_a_key_of_a_shared_account_can_have_a_name_in_its_records(self):
        log, audit = self.place / "log", self.place / "audit"
        self.serve("--name", "Alice B.", "-l", log, "--audit", audit, self.jail, requests=STAT)
        (opened,) = [line for line in log.read_text().split("\n") if "session opened" in line]
        self.assertIn("for Alice B. (local user ", opened)
        records = [json.loads(line) for line in audit.read_text().splitlines()]
        self.assertEqual({record["user"] for record in records}, {"Alice B."})
        self.assertIn(f"audit session {records[0]['session']}", log.read_text())
        for name in ("", "two\nlines", "x" * 200):
            self.assert_refused(self.run_it("--name", name, self.jail), "name")

    # --- what it refuses ----------------------------------------------------------------------------

    def test_no_chroot_or_two_are_refused(self):
        self.assert_refused(self.run_it(), "CHROOT")
        self.assert_refused(self.run_it(self.jail, self.jail))

    def test_a_chroot_that_is_missing_or_no_directory_is_refused(self):
        (self.place / "file").write_bytes(b"")
        (self.place / "loop").symlink_to("loop")
        (self.place / "dangling").symlink_to("nowhere")
        names = ["missing", "file", "file/below", "loop", "dangling", "", "x" * 300, "new\nline", "{path}{0}"]
        for name in names:
            with self.subTest(name):
                path = name and f"{self.place}/{name}"
                self.assert_refused(self.run_it(path, stdin=sftp.HELLO + STAT), "chroot")

    def test_a_chroot_that_cannot_be_entered_is_refused(self):
        (self.jail / "inner").mkdir()
        self.jail.chmod(0)
        try:
            for chroot in (self.jail / "inner", self.jail):
                with self.subTest(chroot.name):
                    self.assert_refused(self.run_it(chroot, stdin=sftp.HELLO + STAT, obedient=True), "chroot")
        finally:
            self.jail.chmod(0o700)

    def test_a_log_file_that_may_not_be_written_is_refused(self):
        log = self.place / "log"
        log.write_bytes(b"")
        log.chmod(0o400)
        done = self.run_it("--logfile", log, self.jail, stdin=sftp.HELLO, obedient=True)
        self.assert_refused(done, "log file", "permission denied")

    def test_what_the_account_runs_is_not_served_unless_that_is_insisted_on(self):
        home = self.place / "home"
        (home / "files").mkdir(parents=True)
        (home / ".ssh").mkdir()
        (home / ".config").mkdir()
        (home / ".local" / "share").mkdir(parents=True)
        (self.place / "elsewhere").mkdir()
        (home / ".profile").symlink_to("../elsewhere/profile")
        (self.place / "way").symlink_to("home")
        variables = {"HOME": str(self.place / "way")}
        inside = (home / ".ssh", home / ".config", home / ".local" / "share")
        for held in (self.place, home, *inside, self.place / "way", "home", "elsewhere"):
            with self.subTest(held):
                self.assert_refused(
                    self.run_it(held, variables=variables, stdin=sftp.HELLO), "--allow-home-in-jail", "home"
                )
                self.serve("--allow-home-in-jail", held, variables=variables)
        for safe in (home / "files", self.jail):
            self.serve(safe, variables=variables)

    def test_its_records_are_not_in_the_jail(self):
        (self.place / "way").symlink_to("jail")
        for option in ("--logfile", "--audit"):
            for path in (self.jail / "log", self.place / "way" / "log", "jail/deep/log"):
                with self.subTest(option, path=path):
                    done = self.run_it(option, path, self.jail, stdin=sftp.HELLO)
                    self.assert_refused(done, "outside of the jail", str(path))
                    self.assertEqual(os.listdir(self.jail), [])

    def test_a_bad_umask_is_refused(self):
        for text in BAD_UMASKS:
            with self.subTest(text):
                self.assert_refused(self.run_it(f"--umask={text}", self.jail), "umask")

    def test_an_unwritable_log_file_is_refused(self):
        for path in (self.place, self.place / "missing" / "log", "/proc/version/log"):
            with self.subTest(path):
                done = self.run_it("--logfile", path, self.jail, stdin=sftp.HELLO)
                self.assert_refused(done, "log file", str(path))

    def test_an_unknown_request_name_is_refused(self):
        for option in ("-p", "-P", "--allow-requests", "--deny-requests"):
            for names in "nope|open,nope||open,|OPEN|open, close|posix-rename@openssh.com".split("|"):
                with self.subTest(option, names=names):
                    self.assert_refused(self.run_it(option, names, self.jail, stdin=sftp.HELLO), "request")

    def test_an_unknown_option_or_level_is_refused(self):
        self.assert_refused(self.run_it("--nope", self.jail), "--nope")
        self.assert_refused(self.run_it("-Z", self.jail), "-Z")
        for level in ("NOPE", "", "7"):
            self.assert_refused(self.run_it("--log-level", level, self.jail), "log level")
        for option in ("--umask", "--logfile", "-d", "-p"):
            self.assert_refused(self.run_it(self.jail, option), option)

    def test_a_start_directory_that_is_missing_outside_or_no_directory_is_refused(self):
        (self.jail / "file").write_bytes(b"")
        (self.jail / "out").symlink_to(self.place / "outside")
        (self.place / "outside").mkdir()
        for name in ("missing", "file", "out", self.place, "/etc", "a\nb", "{x}"):
            with self.subTest(name):
                self.assert_refused(self.run_it("-d", name, self.jail, stdin=sftp.HELLO), "start directory")

    def test_an_argument_with_line_ends_is_still_one_line(self):
        for arguments in (
            ["--nope\nfatal: forged", self.jail],
            [self.jail, "two\nlines"],
            ["-p", "a\nb", self.jail],
        ):
            with self.subTest(arguments):
                self.assert_refused(self.run_it(*arguments))

    def test_under_sshd_no_error_tells_a_host_path(self):
        secret = self.place / "secret"
        for arguments in (
            [secret],
            ["--logfile", secret / "log", self.jail],
            ["-d", secret, self.jail],
            [self.jail, secret],
            [f"--nope={secret}", self.jail],
            ["--umask", secret, self.jail],
            ["--log-level", secret, self.jail],
            ["-P", secret, self.jail],
        ):
            with self.subTest(arguments):
                text = self.assert_refused(self.run_it(*arguments, stdin=sftp.HELLO, under_sshd=True))
                self.assertNotIn("secret", text)
                self.assertNotIn(str(self.place), text)

    def test_without_sshd_an_error_names_the_path(self):
        self.assert_refused(self.run_it(self.place / "missing"), str(self.place / "missing"))

    def test_what_is_no_sftp_ends_with_status_11_and_no_word_to_the_client(self):
        done = self.run_it(self.jail, stdin=b"GET / HTTP/1.0\r\n\r\n", under_sshd=True)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (11, b"", b""))

    def test_standard_descriptors_that_were_closed_lead_nowhere(self):
        # Else the next file that is opened takes their number: the log would get the replies.
        log = self.jail.parent / "closed.log"
        code = "import os, sys; from pysftpserver.cli.pysftpjail import main\n"
        code += "[os.close(int(number)) for number in sys.argv[1]]\nsys.exit(main(sys.argv[2:]))"
        for closed in ("0", "1", "01", "012"):
            with self.subTest(closed):
                done = self.run_argv(["-c", code, closed, "-l", str(log), str(self.jail)], stdin=sftp.HELLO)
                self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"", b""))
                self.assertNotIn(b"posix-rename@openssh.com", log.read_bytes())
        done = self.run_argv(["-c", code, "2", str(self.jail / "missing")], stdin=sftp.HELLO)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (2, b"", b""))
