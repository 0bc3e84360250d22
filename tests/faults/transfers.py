"""OpenSSH's sftp in the middle of a transfer, slowed down enough to be met there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.faults.sessions import FaultCase, environment

# Of sftp -l: some 5 MB a second, so that a transfer of 24 MiB is met seconds before its end.
KILOBITS = "40000"


class TransferCase(FaultCase):
    @contextmanager
    def transfer(self, command: str, *options: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
        """sftp at work, and the log of its server. At the end neither is left."""
        argv, log = self.command(*options)
        client = subprocess.Popen(
            self.sftp_argv(argv, "-l", KILOBITS),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.local,
            env=environment(),
        )
        try:
            assert client.stdin is not None
            client.stdin.write(f"{command}\n".encode())
            client.stdin.close()
            yield client, log
        finally:
            client.kill()  # with it the server's connection, if that is still there
            client.wait()
