"""The units of the Debian package under a real systemd: started, upgraded with a session open, removed."""

from __future__ import annotations

import os
import subprocess

from tests.packaging.booted import Booted, booted
from tests.packaging.built import newer, package
from tests.packaging.chroots import HOME, Chroot, debian, needs_chroot
from tests.packaging.serving import Keyed
from tests.support.ports import LOOPBACK
from tests.support.processes import program
from tests.support.waiting import PATIENCE, until

SYSTEM = ("adduser", "ca-certificates", "dbus", "python3", "python3-venv", "systemd")
CONFIG = "/etc/pysftpserver/pysftpd.toml"


@needs_chroot
class Units(Keyed):
    system: Chroot
    running: Booted

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.system = cls.enterClassContext(debian(*SYSTEM))
        cls.system.lend_pip()
        cls.system.copy(package(), f"{HOME}/first.deb")
        cls.system.apt("install", f"{HOME}/first.deb")
        cls.system.run("pysftpserver-extras", "sshd", **cls.system.pip_variables())
        cls.system.copy(cls.key.with_suffix(".pub"), f"{HOME}/alice.pub")
        cls.system.run("pysftpctl", "--config", CONFIG, "add", "alice", "--key", f"{HOME}/alice.pub")
        cls.system.path("/usr/sbin/policy-rc.d").unlink()  # its services are meant to run
        cls.running = cls.enterClassContext(booted(cls.system, cls.place / "boot.log"))

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(
            self.running.run, "systemctl", "disable", "--now", "pysftpd", "pysftp-warm", status=None
        )

    def main_process(self) -> str:
        return self.running.run("systemctl", "show", "--property=MainPID", "--value", "pysftpd")

    def session(self) -> subprocess.Popen[str]:
        """An sftp client with a session, which prints what it is told to."""
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes")
        words = [program("sftp"), "-F", "none", "-q", "-i", os.fspath(self.key), "-P", "2200", "-b", "-"]
        words += [word for option in options for word in ("-o", option)]
        client = subprocess.Popen(
            self.running.near(*words, f"alice@{LOOPBACK}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.place,
        )
        self.addCleanup(client.wait)
        self.addCleanup(client.kill)
        return client

    def ask(self, client: subprocess.Popen[str], line: str, answer: str) -> None:
        """Type a line and wait for its answer; the client ends, with a word of it, when the server does."""
        assert client.stdin is not None and client.stdout is not None
        client.stdin.write(f"{line}\n")
        client.stdin.flush()
        said = ""
        while answer not in said:
            read = client.stdout.readline()
            self.assertTrue(read, said)
            said += read

    def test_nothing_is_enabled_and_pysftp_warm_runs_once_it_is(self) -> None:
        for unit in ("pysftpd.service", "pysftpd.socket", "pysftp-warm.service"):
            self.assertEqual(self.running.run("systemctl", "is-enabled", unit, status=1), "disabled")
            self.assertEqual(self.running.run("systemctl", "is-active", unit, status=3), "inactive")
        self.running.run("systemctl", "enable", "--now", "pysftp-warm")
        self.assertEqual(self.running.run("systemctl", "is-active", "pysftp-warm"), "active")

    def test_pysftpd_serves_in_its_sandbox_and_an_upgrade_ends_no_session(self) -> None:
        self.running.run("systemctl", "enable", "--now", "pysftpd")
        before = self.main_process()
        (self.place / "up").write_text("uploaded\n")
        client = self.session()
        self.ask(client, f"put {self.place}/up report.txt", "put")
        self.ask(client, "ls -1", "report.txt")
        self.running.run("pysftpctl", "--config", CONFIG, "health")
        later = newer(self.system, "9.0-1", {})
        self.running.run("dpkg", "--install", later)
        until(lambda: self.main_process() not in ("0", before), lambda: self.journal(), 2 * PATIENCE)
        self.ask(client, "rename report.txt kept.txt", "rename")
        self.ask(client, "ls -1", "kept.txt")
        second = self.session()
        self.ask(second, "ls -1", "kept.txt")
        for each in (client, second):
            assert each.stdin is not None
            each.stdin.close()
            self.assertEqual(each.wait(PATIENCE), 0)
        self.assertEqual(self.running.run("systemctl", "is-active", "pysftpd"), "active")
        self.assertEqual(self.system.path("/srv/pysftpd/alice/kept.txt").read_text(), "uploaded\n")
        self.running.run("systemctl", "stop", "pysftpd")
        self.assertIn("inactive", self.running.run("systemctl", "is-active", "pysftpd", status=3))

    def test_removed_it_stops_what_ran(self) -> None:
        self.addCleanup(self.running.run, "dpkg", "--install", f"{HOME}/first.deb")
        self.running.run("systemctl", "enable", "--now", "pysftpd")
        main = self.main_process()
        self.running.run("test", "-e", f"/proc/{main}")
        self.running.run("dpkg", "--remove", "pysftpserver")
        self.running.run("test", "-e", f"/proc/{main}", status=1)
        self.assertTrue(self.system.path(CONFIG).exists())

    def journal(self) -> str:
        return self.running.run("journalctl", "--no-pager", "--unit", "pysftpd", "--lines", "50")
