"""Where commands of the pages are typed as they stand: the places that they name, moved below a directory.

`/opt`, `/srv`, `/etc`, `/var` and `/run` become directories of the test; bare commands are found there as
well. Whoever runs the tests stands for the accounts that pages name, so sudo only runs what follows, and
chgrp does nothing; servers get a free port of loopback instead of theirs, and clients of OpenSSH a
configuration that leads every host there. Nothing else of a command is changed.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from tests.docs.pages import blocks
from tests.integration.sshd import HOST, Sshd, Way
from tests.sshd.running import make_key
from tests.support.paths import IN_MEMORY, ROOT
from tests.support.processes import Program, program
from tests.support.waiting import PATIENCE, until

INSTALLED = Path(os.environ.get("PYSFTPSERVER_BIN", Path(sys.executable).parent))
OPT = "opt/pysftpserver/bin"
#: More words for the servers, which are given free ports; the first words of commands that do not serve.
PORTLESS = {
    "pysftpd": "--listen-address 127.0.0.1 --sftp-port 0 --drain-seconds 0",
    "pysftpweb": "--listen-address 127.0.0.1 --port 0",
    "pysksync": "--listen-address 127.0.0.1 --port 0",
    "pysftplab": "--port 0",
}
CLIENTS = "*' users '*|*' make-cert '*|*' client '*|' connect '*|' window '*"
SHIMS = {
    "sudo": 'shift 2; exec "$@"',  # -u NAME
    "chgrp": 'test -e "$2"',
}
RUN: dict[tuple[str, str], str] = {}  # the test that runs a command, by page and command
Test = TypeVar("Test", bound=Callable[..., None])


def runs(page: str, *commands: str) -> Callable[[Test], Test]:
    """Marks a test that types these commands of a page. It is given them, in this order."""

    def mark(test: Test) -> Test:
        for command in commands:
            RUN[page, command] = f"{test.__module__}.{test.__qualname__}"

        @functools.wraps(test)
        def wrapped(case: Any) -> None:
            test(case, *commands)

        return wrapped  # type: ignore[return-value]

    return mark


class Stage(unittest.TestCase):
    """A test that types commands of pages."""

    is_root = os.geteuid() == 0

    def setUp(self) -> None:
        super().setUp()
        self.place = Path(self.enterContext(tempfile.TemporaryDirectory(dir=IN_MEMORY)))
        self.home, self.bin = self.place / "home", self.place / OPT
        for directory in (self.bin, self.place / "shims", self.place / "srv", self.home / ".ssh"):
            directory.mkdir(parents=True)
        for path in INSTALLED.iterdir():
            if path.name.startswith(("pysftp", "pysksync")) and path.name not in PORTLESS:
                (self.bin / path.name).symlink_to(path)
        self._script(self.bin / "python3", f'exec {sys.executable} "$@"')
        self._script(self.place / "shims" / "python3", f'exec {sys.executable} "$@"')
        for name, more in SHIMS.items():
            self._script(self.place / "shims" / name, more)
        self.public = make_key(self.home / ".ssh" / "id_ed25519")
        self.config = self.place / "ssh_config"
        self.config.write_text(
            f"Host *\nHostName {HOST}\nIdentityFile {self.home}/.ssh/id_ed25519\nIdentityAgent none\n"
            f"UserKnownHostsFile {self.place}/known_hosts\nGlobalKnownHostsFile /dev/null\n"
            "StrictHostKeyChecking accept-new\nBatchMode yes\nLogLevel ERROR\n"
        )
        for name in ("ssh", "sftp"):
            self._script(self.place / "shims" / name, f'exec {program(name)} -F {self.config} "$@"')
        for name, more in PORTLESS.items():
            root = " --allow-root" if self.is_root else ""
            started = f'exec {INSTALLED / name} "$@"'
            self._script(
                self.bin / name, f'case " $* " in {CLIENTS}) {started};; esac\n{started} {more}{root}'
            )

    @staticmethod
    def _script(path: Path, text: str) -> None:
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def moved(self, text: str) -> str:
        """A text of a page with its places moved below that of the test, and with a real key."""
        text = re.sub(r"(?<![\w./~-])/(opt|srv|etc|var)/(?!passwd|hostname)", rf"{self.place}/\1/", text)
        return text.replace("ssh-ed25519 AAAA...", " ".join(self.public.split()[:2]))

    def environment(self, **more: str) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        path = os.pathsep.join([str(self.place / "shims"), str(self.bin), inherited.get("PATH", os.defpath)])
        return {**inherited, "PATH": path, "HOME": str(self.home), "USER": "alice", **more}

    def type(
        self, *commands: str, given: str = "", status: int = 0, where: Path | None = None, **more: str
    ) -> str:
        """Type commands into a shell that reads this text; what it says. more: variables."""
        script = "\n".join(map(self.moved, commands))
        done = self._typed(script, given, where, more)
        self.assertEqual(done.returncode, status, f"{script}\n{done.stdout}")
        return done.stdout

    def type_until_it_fails(self, command: str) -> None:
        """Type a command that works until the server has noticed something."""
        script = self.moved(command)
        until(lambda: self._typed(script, "", None, {}).returncode, f"{script} still works")

    def _typed(
        self, script: str, given: str, where: Path | None, more: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-ec", script],
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=where or self.home,
            env=self.environment(**more),
            timeout=4 * PATIENCE,
            start_new_session=True,  # no terminal to ask for passwords: they are read from what is given
        )

    def serve(self, *commands: str, where: Path | None = None, **more: str) -> Program:
        """Type commands, the last of which serves until the test ends."""
        *before, last = map(self.moved, commands)
        variables = " ".join(re.findall(r"^(?:[A-Z_]+=\S+ +)+", last))
        script = "\n".join([*before, f"exec env {last}" if variables else f"exec {last}"])
        started = Program(
            ["bash", "-ec", script],
            self.place / "server.log",
            cwd=where or self.home,
            env=self.environment(**more),
        )
        self.addCleanup(started.close)
        return started

    def batch(self, command: str, *lines: str, status: int = 0, where: Path | None = None) -> str:
        """Type a command that starts sftp, and these lines into that."""
        words = command.replace("sftp ", "sftp -b - ", 1)
        return self.type(words, given="".join(f"{line}\n" for line in lines), status=status, where=where)

    def behind_sshd(self, line: str, *more: str) -> Sshd:
        """A real sshd with this line of authorized_keys, and these of sshd_config before its own."""
        directory = Path(tempfile.mkdtemp(dir=self.place))
        server = _Sshd(directory, [self.moved(each) for each in more])
        (directory / "authorized_keys").write_text(self.moved(line) + "\n")
        server.start()
        self.addCleanup(server.stop)
        others = [line for line in self.config.read_text().splitlines() if not line.startswith("Port ")]
        self.config.write_text("\n".join([*others, f"Port {server.port}", ""]))
        return server


class _Sshd(Sshd):
    """An sshd with more lines in its configuration."""

    def __init__(self, directory: Path, more: list[str]) -> None:
        self._more = more
        super().__init__(directory, Way.AUTHORIZED_KEYS, ["/bin/false"])

    def _write_sshd_config(self) -> None:
        super()._write_sshd_config()
        path = self.directory / "sshd_config"
        mine = {line.split()[0] for line in self._more if not line.startswith((" ", "Match"))}
        kept = [line for line in path.read_text().splitlines() if line.split()[0] not in mine]
        path.write_text("\n".join([*kept, *self._more]) + "\n")


def block_of(page: str, start: str) -> str:
    """The fenced block of a page that begins so."""
    (found,) = [block.text for block in blocks(page) if block.text.startswith(start)]
    return found


def line_of(page: str, start: str) -> str:
    """The line of a page that begins so."""
    (found,) = {line for line in (ROOT / page).read_text().splitlines() if line.strip().startswith(start)}
    return found.strip()
