"""bin/pysftpsite: storages by their names, what is refused, --check and --gc."""

from __future__ import annotations

import contextlib
import io
import os
import zipfile
from typing import Any
from unittest import mock

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.cli import pysftpsite
from pysftpserver.cli.parser import build_parser
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storage import SFTPServerStorage
from tests.cli.commands import CommandCase
from tests.differential.compare import sftp_server
from tests.proxy.servers import script
from tests.support.auditing import records_of
from tests.support.packets import request, string

WHERE = request("realpath", 1, string(b"."))
STAT = request("stat", 2, string(b"/inside"))


class ThreeMethods(SFTPAbstractServerStorage):
    """A storage that can be listed and nothing else."""

    home = b"/"
    uses_network = False

    def opendir(self, path: bytes) -> Any:
        return iter([])

    def stat(self, path: bytes) -> Any:
        return SFTPServerStorage("/").stat(b"/")


class Lying(SFTPServerStorage):
    """A storage that loses what is appended, and whose disk is full for directories; "gc" is its own."""

    def write(self, handle: Any, off: int, chunk: Any) -> None:
        super().write(handle, off, chunk if len(chunk) > 4 else b"")

    def symlink(self, linkpath: bytes, target: bytes) -> None:
        raise SFTPFailure("The disk\nis full")

    def gc(self, older_than: float, is_dry: bool) -> list[str]:
        return [f"{older_than} {is_dry}"]


class Sessions(CommandCase):
    prog = "pysftpsite"

    def test_a_session_is_in_the_directory_of_the_user_who_is_told(self) -> None:
        (self.jail / "alice").mkdir()
        (self.jail / "alice" / "inside").write_bytes(b"")
        (self.jail / "bob").mkdir()
        name, audit = f"jail:{self.jail}/{{user}}", self.place / "audit"
        for words, user, kind in (
            (["--user", "alice", "--audit", audit], "bob", "attrs"),
            ([], "alice", "attrs"),
            ([], "bob", "status"),
        ):
            with self.subTest(words, user=user):
                where, there = self.serve(*words, name, requests=WHERE + STAT, variables={"USER": user})
                self.assertEqual((where.content[0].name, there.kind), (b"/", kind))
        self.assertEqual({record["user"] for record in records_of(audit.read_bytes())}, {"alice"})

    def test_what_is_refused_under_sshd_names_no_path_of_the_host(self) -> None:
        for words in ([f"jail:{self.jail}/none"], [f"jail:{self.jail}/{{user}}", "--user", ".."]):
            done = self.run_it(*words, under_sshd=True)
            self.assertNotIn(str(self.place), self.assert_refused(done, "the storage cannot be used"))


class InThisProcess(CommandCase):
    prog = "pysftpsite"

    def say(self, *words: Any) -> tuple[int, str, str]:
        """Run the command: exit status, standard output, standard error."""
        told: list[str] = []
        output = io.StringIO()
        with contextlib.redirect_stdout(output), mock.patch("pysftpserver.cli.common.tell", told.append):
            status = pysftpsite.main(["--logfile", str(self.place / "log"), *map(os.fspath, words)])
        return status, output.getvalue(), "\n".join(told)

    def results(self, text: str) -> dict[str, str]:
        """The column "result" of a table, by operation."""
        return {line[2:26].strip(): line[26:34].strip() for line in text.splitlines()[2:]}

    def test_help_is_sentences_that_name_defaults(self) -> None:
        self.assert_help_is_complete(build_parser(pysftpsite.COMMAND))

    def test_a_check_tries_everything_and_leaves_nothing(self) -> None:
        status, text, _ = self.say("--check", f"jail:{self.jail}")
        self.assertEqual(set(self.results(text).values()), {"works"})
        self.assertEqual((status, len(self.results(text)), os.listdir(self.jail)), (0, 22, []))
        self.assertRegex(text, r"(?m)^  upload +works +[0-9]+\.[0-9]$")

    def test_a_check_leaves_out_what_sessions_may_not_do(self) -> None:
        status, text, _ = self.say("--check", "-R", "-P", "statvfs", f"jail:{self.jail}")
        self.assertEqual(list(self.results(text)), ["connect", "list a directory", "attributes"])
        self.assertEqual((status, text.splitlines()[0]), (0, f"jail:{self.jail}:"))

    def test_a_check_says_what_a_storage_cannot_do_and_that_is_no_failure(self) -> None:
        status, text, _ = self.say("--check", f"{__name__}:ThreeMethods")
        found = self.results(text)
        self.assertEqual((status, found["attributes"], found["upload"]), (0, "works", "cannot"))

    def test_a_check_finds_what_fails_and_what_is_not_true(self) -> None:
        status, text, _ = self.say("--check", f'{__name__}:Lying ["{self.jail}"]')
        found = {name for name, result in self.results(text).items() if result == "failed"}
        self.assertEqual((status, found), (1, {"append", "symbolic link"}))
        self.assertIn("the content is another\n", text)
        self.assertIn("the disk\\nis full\n", text)
        self.assertEqual(os.listdir(self.jail), [])

    def test_a_check_through_another_sftp_server_and_what_is_not_to_be_changed_in_a_jail(self) -> None:
        server = script(self.place / "ssh", f"exec {sftp_server()} -d {self.jail}")
        name = f"sftp://me@server{self.jail}?key={self.jail}/key"
        path = {"PATH": f"{os.path.dirname(server)}:{os.environ['PATH']}"}
        with mock.patch.dict(os.environ, path):
            status, text, said = self.say("--check", name)
        self.assertEqual((status, set(self.results(text).values())), (0, {"works"}), text + said)
        self.assertEqual(os.listdir(self.jail), [])
        site = self.place / "site.toml"
        site.write_text(f'storage = "jail:{self.jail}"\n[[mount]]\npath = "/far"\nstorage = "{name}"\n')
        status, _, said = self.say("--check", site)
        self.assertEqual((status, f"file {self.jail}/key: clients could change it" in said), (2, True), said)

    def test_a_check_of_what_fsspec_opens(self) -> None:
        (self.jail / "a%20b").mkdir()
        status, text, _ = self.say("--check", f"fsspec:file://{self.jail}/{{user}}", "--user", "a b")
        found = self.results(text)
        self.assertEqual((status, found["upload"], found["hard link"]), (0, "works", "cannot"), text)
        self.assertEqual(os.listdir(self.jail / "a%20b"), [])
        with zipfile.ZipFile(self.jail / "a.zip", "w") as archive:
            archive.writestr("f", "content")
        status, text, _ = self.say("--check", f"fsspec:zip://{self.jail}/a.zip")
        self.assertEqual((status, self.results(text)["upload"]), (0, "cannot"), text)
        self.assertIn("This storage is read-only\n", text)
        status, text, _ = self.say("--check", f"fsspec:zip://{self.jail}")
        self.assertEqual((status, self.results(text)), (1, {"connect": "failed"}), text)

    def test_a_check_of_a_storage_that_is_not_there_is_status_1(self) -> None:
        status, text, _ = self.say("--check", f"jail:{self.jail}/none")
        self.assertEqual((status, self.results(text)), (1, {"connect": "failed"}))
        self.assertIn("no such file or directory", text)

    def test_a_check_finds_what_a_site_file_needs_on_this_host(self) -> None:
        site = self.place / "s.toml"
        text = '\nstate = "/nowhere/state"\n[[event]]\non = "upload"\nrun = "/nowhere/program"\n'
        text += '[[event]]\non = "upload"\npost = "http://127.0.0.1/"\nsecret = "/no/key"\n'
        for top, tables in ((f'storage = "jail:{self.jail}"', 1), ("# to be put over a storage", 0)):
            site.write_text(top + text)
            status, said, _ = self.say("--check", site)
            missing = [
                f"{site}: line 2: state: /nowhere/state: not a directory that this account can write",
                f"{site}: line 5: run: /nowhere/program: not a program that this account can run",
                f"{site}: line 9: secret: /no/key: no such file or directory; name a file that can be read",
            ]
            self.assertEqual((status, said.splitlines()[:3]), (1, missing))
            self.assertEqual(said.count("connect"), tables, said)
        site.write_text('[[rule]]\nallow = "read"\n')
        self.assertEqual(self.say("--check", site), (0, "", ""))

    def test_garbage_is_collected_where_the_storage_has_any(self) -> None:
        lying = f'{__name__}:Lying ["{self.jail}"]'
        self.assertEqual(self.say("--gc", lying)[:2], (0, "86400.0 False\n"))
        self.assertEqual(self.say("--gc", "--dry-run", "--older-than", "1", lying)[:2], (0, "3600.0 True\n"))
        status, _, said = self.say("--gc", f"jail:{self.jail}")
        self.assertEqual((status, "storages that keep parts" in said), (2, True))
        status, _, said = self.say("--gc", f"jail:{self.jail}/none")
        self.assertEqual((status, said.count("NAME: ")), (1, 1), said)

    def test_options_that_exclude_each_other_and_names_that_cannot_be_meant_are_status_2(self) -> None:
        jail = f"jail:{self.jail}"
        for words, reason in (
            (["--check", "--gc", jail], "give only one"),
            (["--dry-run", jail], "require --gc"),
            (["--gc", "-R", jail], "--read-only forbids"),
            (["/srv/files"], "unknown storage; write plain"),
            (["s3://key:secret@bucket"], "no credentials in a name"),
            (['collections:OrderedDict {"a": "secret"}'], "it makes a OrderedDict, which is not a storage"),
            ([f"{jail}/{{folder}}"], "{folder}: no folder is known here"),
            ([f"{jail}/{{user}}", "--user", "a/b"], "not a single name"),
            (["--user", "", jail], "requires --recount"),
        ):
            with self.subTest(words):
                status, _, said = self.say(*words)
                self.assertEqual((status, said.count("\n")), (2, 0))
                self.assertIn(reason, said)
                self.assertNotIn("secret", said)

    def test_a_jail_must_not_hold_start_up_files_records_or_the_file_that_names_it(self) -> None:
        jail, home = f"jail:{self.jail}", {"HOME": str(self.jail / "home")}
        site = self.jail / "site.toml"
        site.write_text(f'storage = "{jail}"\n')
        for words, reason in (
            ([jail, "--audit", self.jail / "audit"], "audit log"),
            ([site], "clients could change it"),
            (["--check", site], "clients could change it"),
        ):
            with self.subTest(words):
                status, _, said = self.say(*words)
                self.assertEqual((status, reason in said), (2, True), said)
        with mock.patch.dict(os.environ, home):
            for name in (jail, site):
                status, _, said = self.say(name)
                self.assertEqual((status, "--allow-home-in-jail" in said), (2, True), said)
