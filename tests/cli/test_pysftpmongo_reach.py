"""bin/pysftpmongo and servers that do not answer, refuse or are its own; and what it tells of passwords."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pymongo.uri_parser import parse_uri

from pysftpserver.cli.title import without_passwords
from pysftpserver.storages.embedded import EmbeddedMongo
from tests.cli.commands import SSH, CommandCase
from tests.cli.databases import DatabaseCase, Silent, closed_port
from tests.mongo import databases
from tests.support.forked import Process, environment
from tests.support.packets import HELLO, NO_ATTRS, request, string
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

SOON = 15.0  # seconds: 5 on a quiet machine, 30 for the driver by itself
MKDIR = request("mkdir", 1, string(b"/d"), NO_ATTRS)
STAT = request("stat", 1, string(b"/d"))


def start(*arguments: Any, under_sshd: bool = False, **variables: str) -> Process:
    """A process of the command, whose input has ended."""
    return Process(
        [sys.executable, str(ROOT / "bin" / "pysftpmongo"), *map(str, arguments)],
        forks=False,  # its title is looked at
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(**(SSH if under_sshd else {}), **variables),
    )


class Unreachable(CommandCase):
    prog = "pysftpmongo"

    def test_a_server_that_is_not_there_or_never_answers_is_named_and_its_users_are_not(self) -> None:
        log = self.place / "log"
        file = self.place / "uri"
        with Silent() as silent:
            closed = closed_port()
            file.write_text(f"mongodb://alice:s%23cret@127.0.0.1:{closed}/db\n")
            silence = f"mongodb://alice:s%23cret@127.0.0.1:{silent.port}/db"
            started = [
                (start("127.0.0.1", closed, "db"), f"127.0.0.1:{closed}: "),
                (start("127.0.0.1", silent.port, "db"), f"127.0.0.1:{silent.port}: "),
                (start("--uri-file", file, "-l", log), f"127.0.0.1:{closed}: "),
                (start(silence, "--check-only"), f"127.0.0.1:{silent.port}: "),
                (start(PYSFTPMONGO_URI=silence, under_sshd=True), "the database cannot be reached (syslog"),
                (start(silence, under_sshd=True), "the database cannot be reached (syslog says more)\n"),
            ]
            for process, words in started:
                output, errors = process.communicate(timeout=PATIENCE)
                with self.subTest(process.args):
                    self.assertEqual((process.returncode, output), (1, b""))
                    self.assertRegex(errors.decode(), rf"\Apysftpmongo: {re.escape(words)}[^\n]*\n?\Z")
                    for secret in ("cret", "alice", *(["127.0.0.1"] if "syslog" in words else [])):
                        self.assertNotIn(secret, errors.decode())
        self.assertNotIn("cret", log.read_text())

    def test_that_is_told_within_five_seconds(self) -> None:
        with Silent() as silent:
            started = [start("127.0.0.1", port, "db") for port in (closed_port(), silent.port)]
            silent.socket.settimeout(PATIENCE)
            connection, _ = silent.socket.accept()
            self.addCleanup(connection.close)
            since = time.monotonic()  # on a busy host, interpreters take their time until then
            for process in started:
                process.communicate(timeout=PATIENCE)
                self.assertEqual(process.returncode, 1)
                self.assertLess(time.monotonic() - since, SOON)


class Refused(DatabaseCase):
    def test_a_login_that_the_server_refuses_is_one_line_and_no_session(self) -> None:
        host, port = parse_uri(databases.uri())["nodelist"][0]
        uri = f"mongodb://alice:s%23cret@{host}:{port}/{self.db_name}"
        log = self.place / "log"
        for options in ([], ["--gc"], ["--check-only"]):
            done = self.run_it(uri, "-l", log, *options, stdin=HELLO)
            text = self.assert_refused(done, f"{host}:{port}: ", status=1)
            for told in (text, log.read_text()):
                self.assertNotIn("cret", told)
                self.assertNotIn("alice", told)
        done = self.run_it(uri, stdin=HELLO, under_sshd=True)
        self.assert_refused(done, "the database cannot be reached (syslog says more)", status=1)


class Passwords(CommandCase):
    prog = "pysftpmongo"

    def test_in_the_arguments_are_gone_from_the_title_before_the_server_is_asked(self) -> None:
        with Silent() as silent:
            where = f"127.0.0.1:{silent.port}"
            process = start(
                f"mongodb://alice:s%23cret@{where}/db?tlsCertificateKeyFilePassword=c%C3%BCrt&appName=x",
                "--prefix=pre:fix@",
            )
            self.addCleanup(process.communicate)
            self.addCleanup(process.kill)
            silent.socket.settimeout(PATIENCE)
            silent.socket.accept()[0].close()
            process.send_signal(signal.SIGSTOP)  # or it would give up while it is looked at
            title = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
            listed = subprocess.run(["ps", "-ww", "-o", "args=", str(process.pid)], capture_output=True)
        expected = f"mongodb://alice:{'*' * 8}@{where}/db?tlsCertificateKeyFilePassword={'*' * 9}&appName=x"
        self.assertEqual(title[2:], [expected.encode(), b"--prefix=pre:fix@", b""])
        self.assertIn(expected.encode(), listed.stdout)

    def test_are_hidden_as_they_were_typed_and_nothing_else_is(self) -> None:
        for typed, shown in (
            ("mongodb://u:p@h/db", "mongodb://u:*@h/db"),
            ("mongodb+srv://u:p%40:x@h/db", "mongodb+srv://u:******@h/db"),
            ("mongodb://u:p/a?s@s#w@h:1,i:2/db", "mongodb://u:*********@h:1,i:2/db"),
            ("mongodb://u:two\nlines@h", "mongodb://u:*********@h"),
            ("--uri-file=mongodb://u:p@h", "--uri-file=mongodb://u:*@h"),
            ("mongodb://u:\xfc\u20ac@h", "mongodb://u:**@h"),
            ("mongodb://u:@h", "mongodb://u:@h"),
            ("mongodb://u@h/db", "mongodb://u@h/db"),
            ("mongodb://h:1/db?authSource=admin", "mongodb://h:1/db?authSource=admin"),
            ("mongodb://h/?proxyPassword=p&x=y", "mongodb://h/?proxyPassword=*&x=y"),
            (
                "mongodb://h/?authMechanismProperties=AWS_SESSION_TOKEN:p",
                "mongodb://h/?authMechanismProperties=*******************",
            ),
            ("user@host:/path", "user@host:/path"),
            ("bad --x mongodb://u:p@h and mongodb://v:q@h", "bad --x mongodb://u:*********************@h"),
        ):
            with self.subTest(typed):
                self.assertEqual(without_passwords(typed), shown)

    def test_are_in_no_complaint_about_the_arguments(self) -> None:
        uri = "mongodb://alice:s%23cret@nowhere.invalid/db"
        raw = "mongodb://alice:s#c:ret/@x'\"\\@nowhere.invalid/db"
        for arguments in (
            [uri, "--nope"],
            [uri, uri],
            [uri, "27017", "db"],
            [uri, "--bucket="],
            [uri, "--dry-run"],
            [uri, "--max-path", uri],
            [uri, f"--older-than={uri}"],
            ["--uri-file", uri],
            [f"--uri-file={raw}"],
            ["-l", uri, uri],
            [uri.replace("mongodb", "http")],
            [uri.replace("nowhere", "no%zzwhere,")],
            [raw],
            [raw, "-u", raw],
            ["alice:s%23cret@nowhere.invalid", "27017", "db"],
        ):
            with self.subTest(arguments):
                text = self.assert_refused(self.run_it(*arguments, stdin=HELLO))
                for secret in ("23cret", "ret/", "#c"):
                    self.assertNotIn(secret, text)

    def test_in_the_file_and_the_environment_are_in_no_complaint_either(self) -> None:
        file = self.place / "uri"
        for uri in ("mongodb://alice:s%zzcret@h", "mongodb://alice:se@cret@h/db", "mongodb://a:b:cret@h:1/d"):
            file.write_text(uri)
            for done in (
                self.run_it("--uri-file", file, stdin=HELLO),
                self.run_it(stdin=HELLO, variables={"PYSFTPMONGO_URI": uri}),
            ):
                self.assertNotIn("cret", self.assert_refused(done))

    def test_that_cannot_be_hidden_are_not_used(self) -> None:
        code = "import sys\nfrom pysftpserver.cli import pysftpmongo, title\n"
        code += "title.hide_passwords = lambda: False\nraise SystemExit(pysftpmongo.main(sys.argv[1:]))"
        done = self.run_argv(["-c", code, "mongodb://alice:s%23cret@nowhere.invalid/db"])
        text = self.assert_refused(done, "--uri-file", "PYSFTPMONGO_URI")
        self.assertNotIn("cret", text)


class Embedded(CommandCase):
    prog = "pysftpmongo"

    def servers(self, directory: Path) -> list[int]:
        """Processes with that directory in their arguments."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if os.fsencode(directory) in path.read_bytes():
                    found.append(int(path.parent.name))
            except OSError:
                pass  # it has ended
        return found

    def test_serves_a_directory_that_keeps_its_files_and_leaves_no_server(self) -> None:
        directory = self.place / "new" / "database"
        log = self.place / "log"
        (made,) = self.serve("--embedded", directory, "-l", log, requests=MKDIR)
        self.assertEqual(self.servers(directory), [])
        done = self.run_it("--embedded", directory, "--database", "other", "--gc")
        self.assertEqual(done.stdout, b"removed 0 orphaned uploads: 0 chunks, 0 bytes\n")
        (found,) = self.serve(f"--embedded={directory}", "--database", "sftp", "-R", requests=STAT)
        self.assertEqual((made.content, found.kind), (0, "attrs"))
        self.assertNotIn("sandbox", log.read_text())
        self.assertEqual(self.servers(directory), [])

    def test_a_directory_that_cannot_be_one_is_refused(self) -> None:
        (self.place / "file").touch()
        for directory in (self.place / "file", self.place / "file" / "below", ""):
            done = self.run_it("--embedded", directory, stdin=HELLO)
            self.assert_refused(done, "--embedded", str(directory))

    def test_a_directory_in_use_is_told_in_one_line(self) -> None:
        directory = self.place / "database"
        with EmbeddedMongo(directory):
            done = self.run_it("--embedded", directory, stdin=HELLO)
            self.assert_refused(done, "SecantusDB does not start", status=1)
            done = self.run_it("--embedded", directory, stdin=HELLO, under_sshd=True)
            self.assert_refused(done, "the embedded server does not start (syslog says more)", status=1)

    def test_a_server_that_is_not_installed_is_refused_with_what_to_install(self) -> None:
        with tempfile.TemporaryDirectory() as elsewhere:
            # A package of that name that cannot be run stands in for none.
            (Path(elsewhere) / "secantus.py").write_text("raise SystemExit('No module named secantus')\n")
            variables = {"PYTHONPATH": f"{elsewhere}:{ROOT}"}
            done = self.run_it("--embedded", self.place / "database", stdin=HELLO, variables=variables)
            self.assert_refused(done, "SecantusDB is missing; run pip install '.[embedded]'")
