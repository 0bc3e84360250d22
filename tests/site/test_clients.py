"""Site files with OpenSSH's sftp and real servers: pysftpsite, pysftpjail and pysftpd, in their sandboxes."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
import unittest
from pathlib import Path

from pysftpserver.cli.pysksync import OpenStorage
from pysftpserver.site import file
from pysftpserver.sksync.shares import Folder
from pysftpserver.storages.sharing import Storages
from tests.site.receiving import WebReceiver, deliverers
from tests.sshd.running import Place
from tests.support.cases import InAPlace
from tests.support.paths import ROOT
from tests.support.processes import command, program
from tests.support.waiting import PATIENCE, until

EXAMPLES = ROOT / "examples" / "sites"
RULES = """
hidden = "/in/secret"
[[rule]]
path = "/in/**"
allow = ["list", "upload"]
networks = "127.0.0.0/8"
[[rule]]
deny = "all"
"""


class Examples(unittest.TestCase):
    def test_they_can_be_read(self) -> None:
        for path in EXAMPLES.iterdir():
            site = file.read(str(path))
            self.assertTrue(site.rules or site.quotas or site.gates or site.events, path)


class OverPipes(InAPlace):
    made_in = tempfile.gettempdir()

    def sftp(self, server: list[str], *lines: str, address: str = "127.0.0.1") -> str:
        """What sftp says to a batch, of which every line may fail."""
        done = subprocess.run(
            [program("sftp"), "-b", "-", "-D", shlex.join(server)],
            input="".join(f"-{line}\n" for line in lines),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            cwd=self.place,
            env={**os.environ, "SSH_CONNECTION": f"{address} 1 127.0.0.1 2", "PYSFTP_WARM": ""},
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout + done.stderr

    def setUp(self) -> None:
        super().setUp()
        self.box = self.place / "files" / "acme"
        (self.box / "in").mkdir(parents=True)
        (self.box / "in" / "old").write_text("old")
        (self.place / "new").write_text("new")
        self.log = str(self.place / "log")

    def check_box(self, server: list[str]) -> None:
        said = self.sftp(
            server, "put new in/a", "put -p new in/p", "put new in/old", "get in/old got", "rm in/old",
            "ls -1 in", "put new in/x.filepart", "rename in/x.filepart in/x", "rename in/x in/y",
            "ln in/old in/l",
            "mkdir in/d", "chmod 600 in", "cp in/old in/copy",
        )  # fmt: skip
        self.assertEqual({path.name for path in (self.box / "in").iterdir()}, {"a", "p", "old", "x"}, said)
        self.assertEqual((self.box / "in" / "old").read_text(), "old")
        self.assertFalse((self.place / "got").exists())
        self.assertIn("in/a\nin/old\nin/p\n", said)
        self.assertIn('dest open "/in/old": Permission denied', said)
        self.assertIn('remote setstat "/in": Permission denied', said)

    def test_the_drop_box_of_the_examples(self) -> None:
        site = self.place / "site.toml"
        text = (EXAMPLES / "drop-box.toml").read_text()
        site.write_text(text.replace("/srv/partners", f"{self.place}/files"))
        self.check_box(command("pysftpsite", "-l", self.log, str(site), "--user", "acme"))
        self.assertIn("sandbox: Landlock", Path(self.log).read_text())

    def test_a_jail_under_a_site_file(self) -> None:
        site = self.place / "site.toml"
        site.write_text('[[rule]]\npath = "/in/**"\nallow = ["list", "upload"]\n')
        jail = command("pysftpjail", "-l", self.log, "--atomic-uploads", "--site", str(site), str(self.box))
        self.check_box(jail)
        (self.box / "in" / "s.toml").write_text("")
        done = subprocess.run(
            command("pysftpjail", "--site", str(self.box / "in" / "s.toml"), str(self.box)),
            capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        self.assertEqual(done.returncode, 2)
        site.write_text('storage = "plain:"\n')
        done = subprocess.run(
            jail, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL
        )
        self.assertIn("storage: there is another storage already", done.stderr)

    def test_a_quota_of_a_jail_under_a_site_file_leaves_the_old_file(self) -> None:
        site, state = self.place / "site.toml", self.place / "state"
        state.mkdir()
        site.write_text(f'state = "{state}"\n[quota]\nbytes = 1000\n')
        (self.place / "new").write_bytes(bytes(2000))
        jail = command("pysftpjail", "-l", self.log, "--site", str(site), str(self.box))
        said = self.sftp(jail, "put new in/old", "put new in/new", "ls -1 in")
        self.assertIn("in/old\n", said)
        self.assertEqual([path.name for path in (self.box / "in").iterdir()], ["old"])
        self.assertEqual((self.box / "in" / "old").read_text(), "old")


class Served(Place):
    def test_pysftpd_puts_users_under_site_files_that_may_change(self) -> None:
        site = self.place / "site.toml"
        site.write_text(RULES)
        server = self.server("--site", str(site))
        folder = server.files / "a" / "in"
        folder.mkdir()
        for name in ("secret", "old"):
            (folder / name).write_text("old")
        (self.place / "new").write_text("new")
        lines = "-put new in/new", "-put new in/old", "-put new /new", "-rm in/secret", "ls -1 in"
        run = self.sftp(self.alice, *lines)
        self.assertEqual(run.stdout.split()[-2:], ["in/new", "in/old"], run)
        self.assertEqual({path.name for path in folder.iterdir()}, {"new", "old", "secret"})
        self.assertEqual((folder / "old").read_text(), "old")
        self.assertFalse((server.files / "a" / "new").exists())
        site.write_text(RULES.replace('networks = "127.0.0.0/8"', 'networks = "10.0.0.0/8"'))
        self.assertIn("ermission denied", self.sftp(self.alice, "-ls -1 in").stderr)
        site.write_text("x = 1\n")
        self.assertNotEqual(self.sftp(self.alice, "ls").returncode, 0)
        server.logs("site: ")
        server.logs("line 1: x: unknown key")
        site.write_text("")
        self.assertIn("in/secret", self.sftp(self.alice, "ls -1 in").stdout)

    def test_pysftpd_counts_and_tells_of_what_users_do(self) -> None:
        receiver = WebReceiver()
        self.addCleanup(receiver.close)
        state, site = self.place / "state", self.place / "site.toml"
        state.mkdir(0o700)
        site.write_text(
            f'state = "{state}"\n[quota]\nbytes = 1000\n'
            f'[[event]]\non = ["login", "upload", "logout"]\npost = "{receiver.url}"\n'
        )
        server = self.server("--site", str(site))
        (self.place / "small").write_text("x" * 600)
        (self.place / "large").write_text("x" * 1100)
        run = self.sftp(self.alice, "put small", "-put large", "ls -1")
        self.assertEqual(run.stdout.split()[-1], "small", run)
        self.assertLessEqual(sum(path.stat().st_size for path in (server.files / "a").iterdir()), 1000)
        until(lambda: "logout" in [event["event"] for event in receiver.got])
        until(lambda: not deliverers(site))
        told = [
            (event["event"], event.get("path"), event["user"], event["address"]) for event in receiver.got
        ]
        self.assertIn(("upload", "/small", "alice", "127.0.0.1"), told)


class OtherDoors(InAPlace):
    def test_the_settings_of_other_doors_put_their_storage_under_it(self) -> None:
        site = self.place / "site.toml"
        site.write_text(
            '[[rule]]\npath = "/x/**"\nusers = "al"\nhidden = true\n[[rule]]\npath = "/y"\nhidden = true\n'
        )
        (self.place / "files" / "x").mkdir(parents=True)
        (self.place / "files" / "y").mkdir()
        for user, names in (("al", {"f"}), ("bo", {"x"})):
            storages = Storages()
            storages.check_site(str(site), "site")
            jail = storages(f"jail:{self.place}/files", "storage")
            storage = storages.under_site(str(site), "site", jail, {"user": user, "address": "1.2.3.4"})
            self.assertEqual(
                {os.fsdecode(name) for name, _ in storage.opendir(b"/")} & {"x", "y"}, names - {"f"}
            )
        opener = OpenStorage()
        opener.site = str(site)
        shared = opener(Folder(str(self.place / "files")), "server_root")
        self.assertEqual({name for name, _ in shared.opendir(b"/")}, {b".", b"..", b"x"})  # nobody is known
