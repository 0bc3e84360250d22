"""A command of bin/ as a process that serves one socket, as sshd starts it, and what one asks of it."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

from tests.support.doors import Door, Wire
from tests.support.forks import fork_of
from tests.support.paths import ROOT
from tests.support.waiting import PATIENCE

COMMANDS = ("pysftpjail", "pysftpserver")


class Session(Door):
    """A process on a socket. Its log and its standard error are one file, which log() reads.

    argv: what Python runs. descriptors: how many it may have open; None: as many as this process.
    forks: it is a fork of this process, whose memory it has.
    """

    def __init__(
        self, argv: list[str], theirs: socket.socket, log: Path, descriptors: int | None, forks: bool
    ) -> None:
        self.log_path = log
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
        environment |= {"PYTHONPATH": str(ROOT)}
        argv = [sys.executable, *argv]

        def limit() -> None:
            if descriptors is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                argv,
                stdin=theirs,
                stdout=theirs,
                stderr=errors,
                env=environment,
                preexec_fn=(forks and fork_of(argv, environment)) or limit,
            )
        self.pid = self.process.pid

    def is_alive(self) -> bool:
        return self.process.poll() is None


class SessionCase(unittest.TestCase):
    """A test case that starts sessions. jail: the directory they serve, empty at first."""

    # A file system in memory: what is measured is the server, not the disk.
    where = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    forks = False
    patience = 4 * PATIENCE  # seconds that a whole test may take

    def setUp(self) -> None:
        super().setUp()
        self.place = Path(tempfile.mkdtemp(prefix="pysftpserver-sessions-", dir=self.where))
        self.addCleanup(shutil.rmtree, self.place)
        self.jail = self.place / "jail"
        self.jail.mkdir()
        self.sessions: list[Session] = []
        # A test that hangs in a system call would hang the run: kill what it waits for.
        watchdog = threading.Timer(self.patience, lambda: [one.process.kill() for one in self.sessions])
        watchdog.daemon = True
        watchdog.start()
        self.addCleanup(watchdog.cancel)

    def command(
        self, prog: str, *flags: str, descriptors: int | None = None, greet: bool = True
    ) -> tuple[Session, Wire, socket.socket]:
        """A command of bin/ that serves the jail and logs at INFO, and a client that has said HELLO."""
        script = str(ROOT / "bin" / prog)
        log = self.place / f"log{len(self.sessions)}"
        if prog == "pysftpjail":
            argv = [script, "--logfile", str(log), "--log-level", "INFO", *flags, str(self.jail)]
        else:
            argv = [script, "-e", "-l", "INFO", "-d", str(self.jail), *flags]
        return self.run_python(argv, log, descriptors, greet)

    def program(self, code: str) -> tuple[Session, Wire, socket.socket]:
        """The same with Python code instead of a command; its sys.argv[1] is the jail."""
        log = self.place / f"log{len(self.sessions)}"
        return self.run_python(["-c", code, str(self.jail)], log)

    def run_python(
        self, argv: list[str], log: Path, descriptors: int | None = None, greet: bool = True
    ) -> tuple[Session, Wire, socket.socket]:
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        # A server that falls silent is an error here (EAGAIN) and not a wait for ever.
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(PATIENCE), 0))
        with theirs:
            session = Session(argv, theirs, log, descriptors, self.forks)
        self.sessions.append(session)
        self.addCleanup(session.kill)
        wire = Wire(ours.fileno(), ours.fileno())
        if greet:
            wire.hello()
        return session, wire, ours
