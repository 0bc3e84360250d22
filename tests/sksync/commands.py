"""Running a command of pysksync, in this process and in one of its own."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

STARTS_WITHOUT = {"asyncio", "logging", "typing", "dataclasses", "inspect", "socket", "subprocess"}


def code(module: str) -> str:
    """A program that is one command."""
    return (
        "import sys; from pysftpserver.cli import common\n"
        f"from pysftpserver.cli.{module} import serve\n"
        "sys.exit(common.run('pysksync', serve, sys.argv[1:]))"
    )


class CommandCase(unittest.TestCase):
    """A test case with a place for files, where commands are run. module: the command's, in cli."""

    module = ""

    def setUp(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="pysftpserver-sksync-"))
        self.addCleanup(shutil.rmtree, self.place)

    def run_it(
        self, *words: object, stdin: bytes = b"", program: str = ""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command to its end, without a terminal."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
        environment |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [sys.executable, "-c", program or code(self.module), *map(str, words)],
            input=stdin,
            capture_output=True,
            cwd=self.place,
            env=environment,
            timeout=PATIENCE,
            start_new_session=True,
        )

    def run_here(self, serve: Any, *words: str) -> tuple[int, str]:
        """(status, standard output) of the command in this process."""
        from pysftpserver.cli import common

        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            status = common.run("pysksync", serve, words)
        return status, out.getvalue()

    def assert_refused(self, *words: object, says: str, stdin: bytes = b"", program: str = "") -> str:
        """The command ends with status 2 and one line, which is returned."""
        done = self.run_it(*words, stdin=stdin, program=program)
        said = done.stderr.decode()
        self.assertEqual((done.returncode, done.stdout), (2, b""), said)
        self.assertEqual(said.count("\n"), 1, said)
        self.assertTrue(said.startswith("pysksync: "), said)
        self.assertIn(says, said)
        return said

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
