"""bin/pysftpserver: sftp-server(8)'s flags, and every way to get them wrong."""

from __future__ import annotations

import os
import pwd
import shlex
import subprocess

from pysftpserver import __version__
from pysftpserver.cli import pysftpserver
from pysftpserver.cli.parser import build_parser
from tests.cli.commands import BAD_UMASKS, REFERENCE, CommandCase
from tests.support import packets as sftp
from tests.support.packets import replies, request, string, u32
from tests.support.processes import command, program
from tests.support.waiting import PATIENCE

MAKE = request("open", 1, string(b"f"), u32(sftp.WRITE | sftp.CREAT), sftp.NO_ATTRS) + request(
    "mkdir", 2, string(b"d"), sftp.NO_ATTRS
)
STAT = request("stat", 1, string(b"/"))
WHERE = request("realpath", 1, string(b"."))


class Server(CommandCase):
    prog = "pysftpserver"

    def where(self, *arguments: str) -> bytes:
        """Where a session starts."""
        (reply,) = self.serve(*arguments, requests=WHERE, cwd=self.jail)
        return reply.content[0].name

    # --- what it does -------------------------------------------------------------------------------

    def test_serves_everything_from_where_it_was_started(self):
        self.assertEqual(self.where(), os.fsencode(self.jail.resolve()))
        (reply,) = self.serve(requests=request("stat", 1, string(b"/etc/passwd")))
        self.assertEqual(reply.kind, "attrs")

    def test_the_start_directory_expands_user_home_and_percent(self):
        user = pwd.getpwuid(os.getuid())
        (self.jail / "%" / user.pw_name).mkdir(parents=True)
        jail = os.fsencode(self.jail.resolve())
        for given, expected in (
            ("%d", os.fsencode(os.path.realpath(user.pw_dir))),
            ("%%", jail + b"/%"),
            ("%%/%u", jail + b"/%/" + user.pw_name.encode()),
            (f"{self.jail}/%%", jail + b"/%"),
            ("/", b"/"),
        ):
            with self.subTest(given):
                self.assertEqual(self.where("-d", given), expected)

    def test_an_unknown_escape_is_refused(self):
        for given in ("%x", "a%", "%{", "%}", "%{path}", "%\n"):
            with self.subTest(given):
                self.assert_refused(self.run_it("-d", given, stdin=sftp.HELLO), "start directory")

    def test_a_missing_start_directory_is_logged_and_passed_over_as_in_openssh(self):
        (self.jail / "file").write_bytes(b"")
        for name, reason in (("nope", "No such file or directory"), ("file", "Not a directory")):
            done = self.run_it("-e", "-d", name, stdin=sftp.HELLO + WHERE, cwd=self.jail)
            self.assertEqual(done.returncode, 0)
            self.assertRegex(done.stderr.decode(), rf'\Achdir to "[^"]*{name}" failed: {reason}\n\Z')
            self.assertEqual(replies(done.stdout)[0][1].content[0].name, os.fsencode(self.jail.resolve()))

    def test_help_and_version_go_to_standard_output_and_end_well(self):
        self.assertIn("usage: pysftpserver", self.help_text())
        done = self.run_it("--version")
        self.assertEqual((done.returncode, done.stdout.decode()), (0, f"pysftpserver {__version__}\n"))
        self.assertEqual(self.run_it("-h").stdout, self.run_it("--help").stdout)

    def test_help_is_sentences_that_name_defaults(self):
        self.assert_help_is_complete(build_parser(pysftpserver.COMMAND))

    def test_every_letter_of_the_reference_is_an_option(self):
        letters = {
            option[1]
            for action in build_parser(pysftpserver.COMMAND)._actions
            for option in action.option_strings
            if len(option) == 2
        }
        self.assertLessEqual(set("dehflPpuQR"), letters)

    def test_the_list_of_requests_is_the_references_and_ours(self):
        expected = subprocess.run([REFERENCE, "-Q", "requests"], capture_output=True, check=True).stdout
        expected += b"check-file-name\ncheck-file-handle\ncheck-file\n"
        done = self.run_it("-Q", "requests")
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, expected, b""))

    def test_the_umask_is_effective_and_octal(self):
        self.serve("-u", "027", requests=MAKE, cwd=self.jail)
        self.assertEqual((self.jail / "f").stat().st_mode & 0o7777, 0o640)
        self.assertEqual((self.jail / "d").stat().st_mode & 0o7777, 0o750)

    def test_read_only_allowed_and_denied(self):
        for options, statuses in (
            (["-R"], [sftp.PERMISSION_DENIED] * 2),
            (["-P", "mkdir"], ["handle", sftp.PERMISSION_DENIED]),
            (["-p", "mkdir,open", "-P", "mkdir"], ["handle", sftp.PERMISSION_DENIED]),
        ):
            with self.subTest(options):
                answers = self.serve(*options, requests=MAKE, cwd=self.jail)
                got = [reply.content if reply.kind == "status" else reply.kind for reply in answers]
                self.assertEqual(got, statuses)

    def test_the_log_goes_to_standard_error_at_the_level_and_only_with_e(self):
        for options, has, has_not in (
            (["-e"], [], ["session", "open"]),
            (
                ["-e", "-l", "INFO"],
                ["session opened for local user", 'open "f" flags WRITE,CREATE'],
                ["stat "],
            ),
            (["-e", "-l", "verbose"], ['stat name "/"'], ["debug1"]),
            (["-e", "-l", "DEBUG3"], ['stat name "/"', "debug1: read eof"], []),
            (["-l", "DEBUG3"], [], ["session"]),
            (["-f", "LOCAL3", "-l", "DEBUG3"], [], ["session"]),
        ):
            done = self.run_it(*options, stdin=sftp.HELLO + MAKE + STAT, cwd=self.jail)
            with self.subTest(options):
                self.assertEqual(done.returncode, 0)
                for words in has:
                    self.assertIn(words, done.stderr.decode())
                for words in has_not:
                    self.assertNotIn(words, done.stderr.decode())
                self.assertEqual(bool(done.stderr), bool(has))

    def test_the_log_names_the_client_that_sshd_names(self):
        done = self.run_it("-e", "-l", "INFO", stdin=sftp.HELLO, under_sshd=True)
        self.assertIn(b"from [192.0.2.7]\n", done.stderr)

    def test_operands_are_ignored_as_the_reference_does(self):
        for operands in (["host"], ["host", "sftp"], ["--", "host", "sftp"], ["--", "-Z"], ["--"]):
            with self.subTest(operands):
                answers = self.serve("-R", *operands, requests=MAKE, cwd=self.jail)
                self.assertEqual([reply.content for reply in answers], [sftp.PERMISSION_DENIED] * 2)

    def test_scp_starts_it_directly(self):
        server = self.place / "server"
        server.write_text(f'#!/bin/sh\nexec {shlex.join(command("pysftpserver", "-R"))} "$@"\n')
        server.chmod(0o700)
        (self.jail / "f").write_bytes(b"content")
        done = subprocess.run(
            [program("scp"), "-D", server, f"host:{self.jail}/f", self.place / "g"],
            capture_output=True,
            timeout=PATIENCE,
        )
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual((self.place / "g").read_bytes(), b"content")

    # --- what it refuses ----------------------------------------------------------------------------

    def test_bad_values_are_refused(self):
        for arguments in (
            ["-Q", "nope"],
            ["-Q"],
            ["-f", "NOPE"],
            ["-l", "NOPE"],
            ["-Z"],
            ["--nope"],
            ["-p", "nope"],
            ["-P", "open,nope"],
            *(["-u", text] if not text.startswith("-") else [f"-u{text}"] for text in BAD_UMASKS),
        ):
            with self.subTest(arguments):
                self.assert_refused(self.run_it(*arguments, stdin=sftp.HELLO))

    def test_under_sshd_no_error_tells_a_host_path(self):
        for arguments in (["-d", "/srv/secret/%x"], ["--/srv/secret"], ["-f", "/srv/secret"]):
            with self.subTest(arguments):
                text = self.assert_refused(self.run_it(*arguments, stdin=sftp.HELLO, under_sshd=True))
                self.assertNotIn("secret", text)
