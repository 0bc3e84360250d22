"""docs/troubles.md: each message of ours is in the code, and the common ones are what programs print."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import unittest
from collections.abc import Sequence
from typing import ClassVar

from tests.support.cases import InAPlace
from tests.support.forked import environment, run
from tests.support.paths import ROOT
from tests.support.processes import command, program
from tests.support.waiting import PATIENCE
from tools.site_builder.messages import ELLIPSIS, Said, messages

PAGE = (ROOT / "docs" / "troubles.md").read_text()
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINyb8ic9F28r167AyreIWptL51c3Zit63v0de1nIMojb alice"
#: What is set up wrongly, by what the page says about it.
SET_UP_WRONGLY: dict[str, Sequence[str]] = {
    "chroot ...: ...; name an existing directory that this user may enter": ["pysftpjail", "nowhere"],
    "start directory ...: no such directory in the jail": ["pysftpjail", "--start-directory", "/x", "jail"],
    "log file ...: ...; name a file that can be written": ["pysftpjail", "--logfile", "no/log", "jail"],
    "audit log ...: ...; name a file that this user may write": ["pysftpjail", "--audit", "no/log", "jail"],
    "log file ...: clients could change it; name a file outside of the jail ...": [
        "pysftpjail", "--logfile", "jail/log", "jail",
    ],
    "the following arguments are required: ...": ["pysftpjail"],
    "unrecognized arguments: ...": ["pysftpjail", "jail", "--prot"],
    "unknown storage; write ...": ["pysftpsite", "ftp://example.org"],
    "no password in a name; use ssh_config, key=FILE, agent=true or password_file=FILE": [
        "pysftpsite", "sftp://alice:secret@example.org/",
    ],
    "only ... may be in braces": ["pysftpsite", "jail:/srv/{usr}"],
    "it is not a single name; slashes and a leading . or ~ are not allowed": [
        "pysftpsite", "jail:/srv/{user}", "--user", "../bob",
    ],
    "No module named ...": ["pysftpsite", "no_such_module:Storage"],
    "...: unknown key; known are ...": ["pysftpsite", "wrong.toml"],
    "URI file ...: ...; name a file that can be read": ["pysftpsite", "gridfs:nofile"],
    "users file ...: ...; create it with: pysftpctl --users ... add NAME --key FILE": [
        "pysftpd", "--allow-root", "--users", "no.toml", "--sftp-path", "jail",
    ],
    "sftp_path ...: ...; create it with: install -d -o ... ..., or name another directory of the users' "
    "folders with --sftp-path": [
        "pysftpd", "--allow-root", "--users", "users.toml", "--sftp-path", "nowhere",
    ],
    "unknown key ...; the keys are ...": ["pysftpd", "--allow-root", "--config", "wrong.toml"],
    "...; name a configuration file that can be read": ["pysftpd", "--config", "no.conf"],
    "users file ...: it is writable by others (mode ...); run chmod go-w on it": [
        "pysftpctl", "--users", "open.toml", "list",
    ],
    "key file ...: ...; name a file, or give a key's line": [
        "pysftpctl", "--users", "users.toml", "add", "bob", "--key", "no.pub",
    ],
    "there is already a user named ...": ["pysftpctl", "--users", "users.toml", "add", "alice", "--key", KEY],
    "no admin socket; give --admin-socket, or with --config a file that has admin_socket": [
        "pysftpctl", "--users", "users.toml", "sessions",
    ],
    "users in Redis at ...: ...": ["pysftpctl", "--redis-host", "127.0.0.1", "--redis-port", "1", "list"],
}  # fmt: skip
ONLY_FOR_ROOT: dict[str, Sequence[str]] = {
    "running as root is refused; ...": ["pysftpd", "--users", "users.toml", "--sftp-path", "jail"],
}


class Page(unittest.TestCase):
    said: ClassVar[Said]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.said = Said(ROOT / "pysftpserver")

    def test_every_message_of_ours_is_in_the_code(self):
        every = list(messages(PAGE))
        self.assertGreater(len(every), 90)
        for message in every:
            with self.subTest(message):
                self.assertTrue(self.said.has(message))

    def test_a_message_that_no_program_has_is_found_out(self):
        page = "| message | what it means |\n| --- | --- |\n| `the jail is out of order: ...` | |\n"
        (message,) = messages(page)
        self.assertFalse(self.said.has(message))
        self.assertFalse(self.said.has("..."))

    def test_every_row_says_what_it_means_or_what_to_do(self):
        rows = re.findall(r"^\| (?!message|---|started)(`.*) \|$", PAGE, re.MULTILINE)
        for row in rows:
            with self.subTest(row):
                self.assertTrue(re.sub(r"``.*?``|`[^`]*`|[|, ]", "", row.partition(" | ")[2]))


class Printed(InAPlace):
    """The messages, from real runs of commands that were set up wrongly."""

    def setUp(self) -> None:
        super().setUp()
        (self.place / "jail").mkdir()
        users = f'[users.alice]\nkeys = ["{KEY}"]\n'
        for name, mode in (("users.toml", 0o600), ("open.toml", 0o666)):
            (self.place / name).write_text(users)
            (self.place / name).chmod(mode)
        (self.place / "wrong.toml").write_text('prot = "x"\n')

    def test_commands_that_are_set_up_wrongly_print_the_words_of_the_page(self):
        cases = SET_UP_WRONGLY | (ONLY_FOR_ROOT if os.geteuid() == 0 else {})
        for message, (name, *arguments) in cases.items():
            with self.subTest(message):
                self.assertIn(message, PAGE)
                done = run(command(name, *arguments), cwd=self.place, env=environment())
                self.assertIn(done.returncode, (1, 2), done)
                wanted = ".+".join(map(re.escape, message.split(ELLIPSIS)))
                self.assertRegex(done.stderr.decode(), rf"(?m)^{name}: (?:.+: )?{wanted}")

    def test_sftp_says_connection_closed_if_the_jail_cannot_be_used(self):
        said = self.sftp(*command("pysftpjail", "nowhere"))
        self.assertRegex(said, r"(?m)^Connection closed")
        self.assertIn("`Connection closed` and nothing else", PAGE)

    def test_sftp_takes_what_something_prints_before_sftp_begins_for_a_long_message(self):
        script = self.place / "login"
        script.write_text("#!/bin/sh\necho Welcome to this host\nexec cat > /dev/null\n")
        script.chmod(0o755)
        said = self.sftp(str(script))
        self.assertRegex(said, r"(?m)^Received message too long \d+")
        self.assertIn("`Received message too long ...`", PAGE)

    def sftp(self, *server: str) -> str:
        """What sftp says when this is its server."""
        line = [program("sftp"), "-D", shlex.join(server), "anywhere"]
        done = subprocess.run(
            line, cwd=self.place, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE
        )
        self.assertNotEqual(done.returncode, 0)
        return done.stdout + done.stderr
