"""docs/troubles.md: what OpenSSH's clients show, and what pysftpd logs then, over real connections."""

from __future__ import annotations

import re
import subprocess
import unittest
from pathlib import Path

from tests.integration.sshd import TARGET, Sshd, Way
from tests.sshd.running import Login, Place
from tests.support.cases import InAPlace
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT
from tests.support.processes import command, program
from tests.support.waiting import PATIENCE

PAGE = (ROOT / "docs" / "troubles.md").read_text()


def said(name: str, config: Path, *words: str) -> str:
    """What a client of OpenSSH says that must fail."""
    line = [program(name), "-F", str(config), *words]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode != 0, done
    return done.stdout + done.stderr


class InThePage(unittest.TestCase):
    def assert_explained(self, message: str, text: str) -> None:
        """The page explains the message, which a program has said word for word."""
        self.assertIn(f"`{message}`", PAGE)
        self.assertRegex(text, ".+".join(map(re.escape, message.split("..."))))


@unittest.skipUnless(IS_HARD, "starts two servers; test_messages has the words of commands every day")
class OverPysftpd(InThePage, Place):
    def test_what_clients_and_the_log_say_of_logins_and_sessions_that_fail(self):
        server = self.server()
        config = self.alice.ssh_config
        for name, words, message in (
            ("ssh", ["true"], "exec request failed on channel 0"),
            ("ssh", [], "shell request failed on channel 0"),
            ("scp", ["-O", str(config), f"{TARGET}:x"], "exec request failed on channel 0"),
        ):
            where = [] if name == "scp" else [TARGET]
            with self.subTest(name, words=words):
                self.assert_explained(message, said(name, config, *where, *words))
        self.assert_explained("Permission denied (publickey).", said("sftp", config, f"nobody@{TARGET}"))
        server.logs("unknown user")
        self.assertIn("`unknown user`", PAGE)
        other = Login(self.place / "other", "alice")
        other.meet(server)
        self.assert_explained("Permission denied (publickey).", said("sftp", other.ssh_config, TARGET))
        server.logs("wrong key")
        self.assertIn("`wrong key`", PAGE)
        other.known_hosts.write_text("")
        self.assert_explained("Host key verification failed.", said("sftp", other.ssh_config, TARGET))
        (server.files / "a").rmdir()
        self.assert_explained("subsystem request failed on channel 0", said("sftp", config, TARGET))
        server.logs("no session: ")
        missing = "folder ... is missing; create it, mount its disk, or set create_folders"
        self.assert_explained(missing, server.log())


class WithoutSubsystem(Sshd):
    """An sshd that knows no subsystem."""

    def _write_sshd_config(self) -> None:
        super()._write_sshd_config()
        config = self.directory / "sshd_config"
        config.write_text(re.sub(r"(?m)^Subsystem .*\n", "", config.read_text()))


@unittest.skipUnless(IS_HARD, "starts two servers; test_messages has the words of commands every day")
class OverSshd(InThePage, InAPlace):
    def sshd(self, kind: type[Sshd], *words: str) -> Sshd:
        server = kind(self.place, Way.AUTHORIZED_KEYS, command(*words))
        self.addCleanup(server.stop)
        server.start()
        return server

    def test_without_a_subsystem_the_request_for_it_fails_even_for_a_forced_command(self):
        server = self.sshd(WithoutSubsystem, "pysftpjail", str(self.place))
        words = said("sftp", server.ssh_config, TARGET)
        self.assert_explained("subsystem request failed on channel 0", words)

    def test_ssh_shows_what_sftp_does_not_and_says_where_to_look_for_more(self):
        server = self.sshd(Sshd, "pysftpjail", str(self.place / "nowhere"))
        words = said("ssh", server.ssh_config, TARGET)
        self.assert_explained("the chroot directory cannot be used", words)
        self.assertIn("(syslog says more)", words)
        self.assertIn("(syslog says more)", PAGE)
        server.serve(command("pysftpjail", str(self.place), "--prot"))
        self.assert_explained("bad arguments", said("ssh", server.ssh_config, TARGET))

    def test_another_command_than_sftp_is_refused(self):
        server = self.sshd(Sshd, "pysftpjail", "--allow-home-in-jail", str(self.place))
        words = said("ssh", server.ssh_config, TARGET, "scp -t x")
        self.assert_explained("this service allows sftp connections only", words)
