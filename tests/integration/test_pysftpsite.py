"""pysftpsite behind a real sshd, with OpenSSH's sftp: a jail, a database, and both in one tree."""

from __future__ import annotations

import unittest

from tests.integration.harness import ServedCase
from tests.integration.sshd import TARGET
from tests.mongo import databases
from tests.support.hard import IS_HARD
from tests.support.processes import Argument, command, require


def setUpModule() -> None:
    require("sftp")


class Site(databases.DatabaseCase, ServedCase):
    """An sshd that starts pysftpsite; each test says on what."""

    @classmethod
    def site(cls, *words: Argument) -> list[str]:
        return command("pysftpsite", "--logfile", cls.server_log, "--log-level", "VERBOSE", *words)

    @classmethod
    def server_command(cls) -> list[str]:
        return cls.site(f"jail:{cls.jail}/{{user}}", "--user", "partner's & sons")

    def database_name(self) -> str:
        """The storage's name of this test's database, in the place of the user."""
        (self.place / "uri").write_text(databases.uri())
        return f"gridfs:{self.place}/uri?database={self.db_name}&prefix=/{{user}}"

    def test_a_jail_of_the_user_is_all_that_clients_reach(self) -> None:
        (self.jail / "partner's & sons").mkdir()
        (self.jail / "other").mkdir()
        (self.local / "sent").write_bytes(b"content")
        run = self.sftp("put sent got", "ls -1", "-ls ../other", "pwd")
        self.assertEqual(run.lines, ["got", "Remote working directory: /"])
        self.assertEqual((self.jail / "partner's & sons" / "got").read_bytes(), b"content")
        self.assertIn("session opened for partner's & sons", self.server_text())
        self.assertIn("sandbox: Landlock", self.server_text())

    def test_a_place_that_is_not_there_is_told_without_paths(self) -> None:
        run = self.client(["ssh", "-F", self.sshd.ssh_config, TARGET], status=2)
        self.assertEqual(run.text, "pysftpsite: the storage cannot be used (syslog says more)\n")

    def test_a_database_and_a_jail_are_one_tree(self) -> None:
        for name in ("top", "far"):
            (self.jail / name).mkdir()
        site = self.outside / "site.toml"
        site.write_text(
            f'storage = "jail:{self.jail}/top"\nacross = "copy"\n'
            f'[[mount]]\npath = "/db"\nstorage = "{self.database_name()}"\n'
        )
        self.serve(self.site("--user", "al", site))
        (self.local / "sent").write_bytes(b"content" * 10_000)
        self.sftp("put sent", "rename sent db/moved", "get db/moved back", "-rm db")
        self.assertEqual((self.local / "back").read_bytes(), b"content" * 10_000)
        found = [file["filename"].strip("/") for file in self.database["fs.files"].find()]
        self.assertEqual(found, ["al/moved"])
        self.assertEqual(list((self.jail / "top").iterdir()), [])

    @unittest.skipUnless(IS_HARD, "each session takes seconds; the tree has a database, too")
    def test_a_database_alone_and_a_check_of_it(self) -> None:
        name = self.database_name()
        (self.local / "sent").write_bytes(b"content")
        self.serve(self.site("--user", "al", name))
        self.assertEqual(self.sftp("put sent got", "ls -1").lines, ["got"])
        run = self.client([*self.site("--check", "--user", "al", name)])
        self.assertRegex(run.out, r"(?m)^  rename onto a file +works ")
        self.assertRegex(run.out, r"(?m)^  hard link +cannot ")
        self.client([*self.site("--gc", "--dry-run", "--user", "al", name)])
        self.assertEqual(self.sftp("ls -1").lines, ["got"])
