"""Running a command of bin/ with everything around it under control."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.cases import InAPlace
from tests.support.forked import environment, run
from tests.support.packets import HELLO, Reply, replies
from tests.support.paths import ROOT

REFERENCE = "/usr/lib/openssh/sftp-server"
SSH = {"SSH_CONNECTION": "192.0.2.7 50000 192.0.2.1 22"}  # what sshd sets
BAD_UMASKS = ("9", "999", "abc", "-1", "01777", "", "0o22", "1_0", "+22", " 22", "\u0662", "1000")


class CommandCase(InAPlace):
    """A test case with a place for files: place/jail is an empty directory."""

    prog = ""

    def setUp(self) -> None:
        super().setUp()
        self.jail = self.place / "jail"
        self.jail.mkdir()

    def run_it(self, *arguments: Any, **how: Any) -> subprocess.CompletedProcess[bytes]:
        """Run the command to its end; how: as in run_argv()."""
        return self.run_argv([str(ROOT / "bin" / self.prog), *map(os.fspath, arguments)], **how)

    def run_argv(
        self,
        argv: list[str],
        stdin: bytes = b"",
        under_sshd: bool = False,
        cwd: Path | None = None,
        obedient: bool = False,
        variables: dict[str, str] | None = None,
        forks: bool = True,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run Python on a script or on -c to its end.

        under_sshd: as if sshd had started it. obedient: permissions of files count, even for root.
        variables: of the environment. forks: as for Process.
        """
        argv = [sys.executable, *argv]
        if obedient and os.getuid() == 0:
            argv = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *argv]
        variables = {"COLUMNS": "100", **(SSH if under_sshd else {}), **(variables or {})}
        return run(argv, stdin, env=environment(**variables), cwd=cwd or self.place, forks=forks)

    def serve(self, *arguments: Any, requests: bytes = b"", **how: Any) -> list[Reply]:
        """Serve requests behind an INIT, which must end well; the replies. how: as in run_argv()."""
        done = self.run_it(*arguments, stdin=HELLO + requests, **how)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return [reply for _, reply in replies(done.stdout)]

    def assert_refused(self, done: subprocess.CompletedProcess[bytes], *words: str, status: int = 2) -> str:
        """That exit status, one line on standard error with those words in it, and nothing served."""
        text = done.stderr.decode()
        self.assertEqual((done.returncode, done.stdout), (status, b""), text)
        self.assertRegex(text, rf"\A{self.prog}: [^\n]+\n\Z")
        for word in words:
            self.assertIn(word, text)
        return text

    def help_text(self) -> str:
        done = self.run_it("--help")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        return done.stdout.decode()

    def assert_help_is_complete(self, parser: Any) -> None:
        """Every option has a sentence, and says what happens without it."""
        actions = [action for action in parser._actions if action.dest != "help"]
        self.assertGreater(len(actions), 8)
        for action in actions:
            with self.subTest(action.option_strings or action.dest):
                self.assertRegex(action.help, r"\A[A-Z][^\n]*\.\Z")
                exits = action.help.endswith("and exit.")
                if action.option_strings and not exits:
                    self.assertIn("default", action.help)
        for text in (parser.description, parser.epilog):
            self.assertRegex(text, r"(?s)\A[A-Z].*\.\Z")
        printed = re.sub(r"\s+", " ", self.help_text())
        for action in actions:
            for option in action.option_strings:
                self.assertIn(option, printed)
