"""A resident, and clients that hand their sessions over to it, as sshd starts them.

Clients are interpreters that start: what they import, and how they end, is what is tested.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.cases import InAPlace
from tests.support.doors import Wire
from tests.support.forked import Process, environment
from tests.support.paths import ROOT
from tests.support.processes import Program, command
from tests.support.waiting import PATIENCE, until

NOBODY = 65534  # the user and the group
#: Runs a command of bin/ that waits for its resident's answer for so many seconds: on a busy machine, the
#: usual ones may be too few.
PATIENT = """
import sys
from pysftpserver.warm import client
client.PATIENCE = float(sys.argv[1])
del sys.argv[:2]
exec(compile(open(sys.argv[0]).read(), sys.argv[0], "exec"), {"__name__": "__main__"})
"""
#: Runs a command of bin/ as another account, which a process of root's becomes. That account could not start
#: an interpreter that root has for itself, or import from there.
AS_NOBODY = f"""
import ctypes, os, sys
from pysftpserver.cli import pysftp_warm
from pysftpserver.service import logs
from pysftpserver.warm import client, server
pysftp_warm.prepare()
client.PATIENCE = {PATIENCE}
os.setgroups([]); os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3)
ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE, as after execve()
source = open(sys.argv[1]).read()
del sys.argv[0]
exec(compile(source, sys.argv[0], "exec"), {{"__name__": "__main__"}})
"""


class Client:
    """A command that sshd has started, with its session on a socket."""

    def __init__(self, argv: Sequence[Any], env: dict[str, str], log: Path, **how: Any) -> None:
        self.log_path = log
        self.sock, theirs = socket.socketpair()
        # A server that falls silent is an error here (EAGAIN) and not a wait for ever.
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(PATIENCE), 0))
        self.wire = Wire(self.sock.fileno(), self.sock.fileno())
        with theirs:
            self.process = Process(
                argv, forks=False, env=env, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, **how
            )

    def log(self) -> str:
        return self.log_path.read_text() if self.log_path.exists() else ""

    def server(self) -> int:
        """The process that serves it."""
        found = until(lambda: re.search(r"pysftpjail\[(\d+)\] session opened", self.log()), self.log)
        return int(found[1])

    def leave(self) -> int:
        """End the session; the exit status."""
        self.sock.close()
        return self.status()

    def status(self) -> int:
        _, errors = self.process.communicate(timeout=PATIENCE)
        if errors:
            raise AssertionError(f"on standard error:\n{errors.decode()}")
        return self.process.returncode

    def close(self) -> None:
        self.sock.close()
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)


class ResidentCase(InAPlace):
    """A jail, and what listens at self.socket, if a test starts it. patience: of clients, in seconds."""

    patience = PATIENCE

    def setUp(self) -> None:
        super().setUp()
        self.place.chmod(0o755)
        self.jail = self.place / "jail"
        self.jail.mkdir()
        self.directory = self.place / "run"
        self.socket = self.directory / "socket"
        self.clients: list[Client] = []

    def resident(self, *options: str, argv: Sequence[str] = ()) -> Program:
        """A resident that listens, with another command line than command()'s before its options."""
        argv = argv or command("pysftp-warm")
        program = Program([*argv, "--socket", self.socket, *options], self.place / "resident.log")
        self.addCleanup(program.close)
        program.said("listening on")
        return program

    def client(
        self,
        *options: str,
        argv: Sequence[str] = (),
        env: dict[str, str] | None = None,
        greet: bool = True,
        **how: Any,
    ) -> Client:
        """A client of pysftpjail that has been greeted. argv: what comes before its options."""
        log = self.place / f"log{len(self.clients)}"
        argv = argv or [sys.executable, "-c", PATIENT, str(self.patience), str(ROOT / "bin" / "pysftpjail")]
        variables = environment(PYSFTP_WARM=str(self.socket), **(env or {}))
        client = Client([*argv, "--logfile", str(log), *options, str(self.jail)], variables, log, **how)
        self.clients.append(client)
        self.addCleanup(client.close)
        if greet:
            client.wire.hello()
        return client

    def assert_handed_over(self, client: Client) -> None:
        self.assertNotEqual(client.server(), client.process.pid, "the client serves by itself")

    def assert_by_itself(self, client: Client) -> None:
        self.assertEqual(client.server(), client.process.pid, "the client was served by the resident")


def connected(path: Path, kind: int = socket.SOCK_SEQPACKET) -> socket.socket:
    """A connection to a resident."""
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.settimeout(PATIENCE)
    sock.connect(os.fspath(path))
    return sock


def status_of(pid: int) -> dict[str, list[str]]:
    """What /proc says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
