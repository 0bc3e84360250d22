"""pysftp-users and pysftpjail --check, as commands; on a host with accounts: test_on_a_host.py."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import unittest

from tests.sshd.material import line
from tests.support.cases import InAPlace
from tests.support.forked import run
from tests.support.paths import ROOT
from tests.support.processes import command

ACCOUNT = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.getuid()).pw_name


class Commands(InAPlace):
    def setUp(self) -> None:
        super().setUp()
        self.place.chmod(0o755)
        self.keys = self.place / "keys"
        self.table = self.place / "customers.csv"
        self.table.write_text(f"name,key,read_only\nal,{line(1)},\nbo,{line(2)},yes\n")

    def say(self, *words: object, status: int = 0) -> subprocess.CompletedProcess[str]:
        where = ["--account", ACCOUNT, "--path", self.place / "files", "--authorized-keys", self.keys]
        argv = command("pysftp-users", *where, *map(str, words))
        done = run(argv, text=True)
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done

    def test_a_dry_run_says_what_would_be_done_and_does_nothing(self) -> None:
        said = self.say("import", self.table, "--dry-run").stdout.splitlines()
        self.assertEqual(
            said,
            [
                f"would make the directory {self.place}/files",
                f"would make the directory {self.place}/files/al",
                f"would make the directory {self.place}/files/bo",
                "would add customer al",
                "would add customer bo",
                f"would write {self.keys}",
            ],
        )
        self.assertEqual(os.listdir(self.place), ["customers.csv"])
        self.assertEqual(
            len(json.loads(self.say("import", self.table, "--dry-run", "--json").stdout)["would"]), 6
        )

    def test_customers_are_listed_with_what_they_may(self) -> None:
        self.say("import", self.table, "--json")
        found = json.loads(self.say("list", "--json").stdout)
        self.assertEqual([(one["name"], one["read_only"]) for one in found], [("al", False), ("bo", True)])
        self.assertEqual(found[0]["folder"], f"{self.place}/files/al")
        self.say("deactivate", "bo")
        self.assertRegex(self.say("list").stdout, r"\nbo +no +1 +read only +/")
        self.assertIn("nothing to do", self.say("deactivate", "bo").stdout)
        self.say("remove", "al", "bo")
        self.assertEqual(json.loads(self.say("list", "--json").stdout), [])

    def test_bad_input_is_one_line_that_says_what_to_do(self) -> None:
        key = self.place / "private"
        key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n")
        options = self.place / "options.csv"
        options.write_text(f"name,key,options\nal,{line(1)},--no-such\n")
        check = self.place / "check.csv"
        check.write_text(f"name,key,options\nal,{line(1)},--check\n")
        ended = self.place / "ended.csv"
        ended.write_text(f"name,key,options\nal,{line(1)},--\n")
        storage = self.place / "storage.csv"
        storage.write_text(f"name,key,storage\nal,{line(1)},s3://b\n")
        for words, message in (
            (("import", self.place / "none"), "none: no such file or directory; name a file"),
            (("add", "al"), "add: give the customer's public key, or its file, with --key"),
            (("add", "al", "--key", key), "private: line 1: this is a private key; use the public one"),
            (("import", options), "customer al: options: unrecognized arguments: --no-such"),
            (("import", check), "customer al: options: --check serves nothing; remove it"),
            (("import", ended), "customer al: options: unrecognized arguments"),
            (("import", storage), "customer al: pysftp-users has no use for storage; use pysftpd"),
            (("remove", "zoe"), f"no customer named zoe in {self.keys}"),
            (("remove",), "name at least one customer"),
            (("check",), f"there are no customers in {self.keys}; add some"),
            (("list", "--own-accounts"), "--account and --own-accounts: give one of them"),
            (("list", "--command", "/bin/sh"), "has to run pysftpjail"),
        ):
            with self.subTest(words):
                said = self.say(*words, status=2).stderr
                self.assertIn(message, said)
                self.assertEqual(said.count("\n"), 1)
                self.assertNotIn("c2VjcmV0", said)

    def test_a_command_line_is_tried_as_sshd_would_and_faults_are_status_1(self) -> None:
        program = self.place / "pysftpjail"  # as pip installs it: with the interpreter of its environment
        program.write_text(f"#!{sys.executable}\n" + (ROOT / "bin" / "pysftpjail").read_text())
        program.chmod(0o755)
        done = run([program, "--check", "--read-only", self.place], text=True)
        self.assertRegex(done.stdout, rf"(?m)^ok +directory {self.place}$")
        self.assertRegex(done.stdout, r"(?m)^ok +command \S+pysftpjail --read-only \S+$")
        done = run([program, self.place / "none", "--check"], text=True)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stdout, r"(?m)^wrong +directory .*/none: no such file or directory; ")
        self.assertRegex(done.stdout, r"(?m)^wrong +command .*name an existing directory")
        done = run(command("pysftpjail", "--check", "--account", "no-such-account", self.place), text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("there is no such account on this host", done.stdout)


if __name__ == "__main__":
    unittest.main()
