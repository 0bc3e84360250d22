"""A command of bin/ as a process that serves one socket, as sshd starts it, and what one asks of it."""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path

from tests.support.doors import Door, DoorCase, Wire
from tests.support.forked import environment
from tests.support.paths import IN_MEMORY, ROOT
from tests.support.waiting import PATIENCE

COMMANDS = ("pysftpjail", "pysftpserver")


class SessionCase(DoorCase):
    """A test case that starts sessions. jail: the directory they serve, empty at first."""

    # A file system in memory: what is measured is the server, not the disk.
    made_in = IN_MEMORY
    forks = False
    patience = 4 * PATIENCE  # seconds that a whole test may take

    def setUp(self) -> None:
        super().setUp()
        self.jail = self.place / "jail"
        self.jail.mkdir()

    def command(
        self, prog: str, *flags: str, descriptors: int | None = None, greet: bool = True
    ) -> tuple[Door, Wire, socket.socket]:
        """A command of bin/ that serves the jail and logs at INFO, and a client that has said HELLO."""
        script = str(ROOT / "bin" / prog)
        log = self.place / f"log{len(self.doors)}"
        if prog == "pysftpjail":
            argv = [script, "--logfile", str(log), "--log-level", "INFO", *flags, str(self.jail)]
        else:
            argv = [script, "-e", "-l", "INFO", "-d", str(self.jail), *flags]
        return self.run_python(argv, log, descriptors, greet)

    def program(self, code: str) -> tuple[Door, Wire, socket.socket]:
        """The same with Python code instead of a command; its sys.argv[1] is the jail."""
        return self.run_python(["-c", code, str(self.jail)], self.place / f"log{len(self.doors)}")

    def run_python(
        self, argv: list[str], log: Path, descriptors: int | None = None, greet: bool = True
    ) -> tuple[Door, Wire, socket.socket]:
        """What Python runs, on a socket; its log and its standard error are one file.

        descriptors: how many it may have open; None: as many as this process.
        """
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        # A server that falls silent is an error here (EAGAIN) and not a wait for ever.
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(PATIENCE), 0))
        limits = {} if descriptors is None else {"NOFILE": descriptors}
        how = {"env": environment(), "limits": limits}
        with theirs, log.open("ab") as errors:
            session = self.start_door([sys.executable, *argv], log, theirs, theirs, stderr=errors, **how)
        wire = Wire(ours.fileno(), ours.fileno())
        if greet:
            wire.hello()
        return session, wire, ours
