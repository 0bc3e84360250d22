"""The command on a database of each test's own, and servers that do not answer."""

from __future__ import annotations

import os
import socket
from typing import Any

from pysftpserver.storages.embedded import LOOPBACK
from tests.cli.commands import CommandCase
from tests.mongo import databases
from tests.support.packets import HELLO, Reply, replies


class DatabaseCase(databases.DatabaseCase, CommandCase):
    """A test case with a database, and ways to run the command on it."""

    prog = "pysftpmongo"

    def setUp(self) -> None:
        super().setUp()
        self.variables = {"PYSFTPMONGO_URI": databases.uri()}

    def here(self, *options: Any, requests: bytes = b"", **how: Any) -> list[Reply]:
        """Serve requests from this test's database, with these options; the replies."""
        how = {"variables": self.variables, **how}
        return self.serve("--database", self.db_name, *options, requests=requests, **how)

    def run_here(self, *options: Any, **how: Any) -> Any:
        """Run the command on this test's database, with these options."""
        return self.run_it("--database", self.db_name, *options, **{"variables": self.variables, **how})

    def run_code(self, code: str, *options: Any, stdin: bytes = HELLO) -> tuple[int, list[Reply], str]:
        """The same as Python code, whose main() is the command's: exit status, replies, standard error."""
        code = f"import sys\nfrom pysftpserver.cli.pysftpmongo import main\n{code}"
        argv = ["-c", code, "--database", self.db_name, *map(os.fspath, options)]
        done = self.run_argv(argv, stdin=stdin, variables=self.variables)
        return done.returncode, [reply for _, reply in replies(done.stdout)], done.stderr.decode()

    def filenames(self) -> list[str]:
        """Of all revisions of all files."""
        return sorted(file["filename"] for file in self.database.fs.files.find())


class Silent:
    """A port on loopback that takes connections and never says anything. A context manager."""

    def __enter__(self) -> Silent:
        self.socket = socket.create_server((LOOPBACK, 0))
        self.port: int = self.socket.getsockname()[1]
        return self

    def __exit__(self, *exception: object) -> None:
        self.socket.close()


def closed_port() -> int:
    """A port on loopback that nobody listens on."""
    with Silent() as silent:
        return silent.port
