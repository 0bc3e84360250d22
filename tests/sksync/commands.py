"""Running a command of pysksync, in this process and in one of its own."""

from __future__ import annotations

import subprocess
import sys

from tests.support.cases import InAPlace
from tests.support.forked import environment, run
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

PROGRAM = "from pysftpserver.cli.pysksync import main; raise SystemExit(main())"
STARTS_WITHOUT = {"asyncio", "logging", "typing", "dataclasses", "inspect", "socket", "subprocess"}


class CommandCase(InAPlace):
    """A test case with a place for files, where commands are run. module: the command's, in cli."""

    module = ""

    def run_it(self, *words: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run pysksync to its end, without a terminal."""
        argv = [sys.executable, ROOT / "bin/pysksync", *map(str, words)]
        return run(argv, stdin, cwd=self.place, env=environment(), start_new_session=True)

    def assert_refused(self, *words: object, says: str, stdin: bytes = b"") -> str:
        """The command ends with status 2 and one line, which is returned."""
        return self.assert_one_line(self.run_it(*words, stdin=stdin), says)

    def assert_one_line(self, done: subprocess.CompletedProcess[bytes], says: str) -> str:
        said = done.stderr.decode()
        self.assertEqual((done.returncode, done.stdout), (2, b""), said)
        self.assertEqual(said.count("\n"), 1, said)
        self.assertTrue(said.startswith("pysksync: "), said)
        self.assertIn(says, said)
        return said

    def assert_names_the_extra(self, library: str, *words: str) -> None:
        """Without a library, only --help works."""
        program = f"import sys; sys.modules[{library!r}] = None\n{PROGRAM}"
        refused, helped = (
            run([sys.executable, "-c", program, *words, *more], cwd=self.place, env=environment())
            for more in ((), ("--help",))
        )
        self.assert_one_line(refused, "pip install '.[sksync]'")
        self.assertEqual(helped.returncode, 0)

    def assert_starts_quickly(self) -> None:
        program = f"import sys, pysftpserver.cli.{self.module}; print(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {program}"],
            capture_output=True,
            check=True,
            timeout=PATIENCE,
        )
        loaded = set(done.stdout.decode().split())
        self.assertEqual(loaded & {*STARTS_WITHOUT, "srptools", "cryptography"}, set())
