"""A server in a chroot and the sftp client of this host, with a key of the tests' own."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import unittest
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.packaging.built import call
from tests.packaging.chroots import Chroot
from tests.support.ports import LOOPBACK, free_port
from tests.support.processes import Program, descendants, program
from tests.support.waiting import PATIENCE


class Keyed(unittest.TestCase):
    """self.place is a directory, and self.key in it a private key, with its public key beside it."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.place = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.key = cls.place / "key"
        call(program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", cls.key)

    @contextmanager
    def listening(self, system: Chroot, start: str, ready: str) -> Iterator[int]:
        """A server in the chroot. start: its shell line, with PORT; ready: what it says."""
        port = free_port()
        words = system.words("sh", "-c", start.replace("PORT", str(port)))
        server = Program(words, self.place / "server.log")
        try:
            server.said(ready)
            yield port
        finally:
            # The server has changed its account, and so has lost the signal that comes with its parent's end.
            for process, _, _ in list(descendants(server.pid)):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            server.close()

    def sftp(self, port: int, user: str, batch: str) -> str:
        """What the sftp client of this host prints."""
        options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes")
        words = [program("sftp"), "-F", "none", "-i", os.fspath(self.key), "-P", str(port)]
        words += [word for option in options for word in ("-o", option)]
        done = subprocess.run(
            [*words, f"{user}@{LOOPBACK}"],
            input=batch,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.place,
            timeout=2 * PATIENCE,
        )
        self.assertEqual(done.returncode, 0, f"{shlex.join(words)}: {done.stdout}")
        return done.stdout
