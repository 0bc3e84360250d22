"""A pysftpd that really runs, OpenSSH's sftp as its client, and pysftpctl."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any, ClassVar

from pysftpserver.service.admin_client import ask, found
from tests.integration.sshd import HOST
from tests.sshd.running import Pysftpd, kill_group, make_key
from tests.support.forked import run
from tests.support.processes import command, program
from tests.support.waiting import PATIENCE, until

SLOW = 4000  # kilobits a second
SIZE = 16 << 20  # bytes of a file that takes half a minute at that pace


class Daemon(Pysftpd):
    """A pysftpd in a directory of its own, with a key, a file of users alice and bob, and their files."""

    def __init__(self, *options: str, workers: int = 1, users: bool = True, admin: bool = True) -> None:
        directory = Path(tempfile.mkdtemp(prefix="pysftpserver-ctl-"))
        self.socket = directory / "admin"
        if admin:
            options += ("--admin-socket", os.fspath(self.socket))
        super().__init__(directory, "--drain-seconds", "1", *options, workers=workers, users=users)
        self._clients: list[subprocess.Popen[bytes]] = []
        in_file = ["--users", os.fspath(self.users), "--sftp-path", os.fspath(self.files)] if users else []
        self._where = ["--admin-socket", os.fspath(self.socket), *in_file]
        self.key = directory / "key"
        public = make_key(self.key)
        self.write_users({name: {"folder": name, "keys": [public]} for name in NAMES})
        for name in NAMES:
            (self.files / name).mkdir(parents=True, exist_ok=True)
            (self.files / name / "large").write_bytes(bytes(SIZE))

    def refused(self) -> tuple[int, str]:
        """(exit status, what it says) of a server that does not start."""
        done = run(self.argv, text=True)
        return done.returncode, done.stderr

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send the signal, and wait for the end; the status."""
        assert self.process is not None
        status = self.process.stop(number)
        self.process = None
        return status

    def hang_up(self) -> None:
        """End all clients, and wait until the server knows."""
        self._kill_clients()
        until(lambda: not self.sessions(), "all sessions are over")

    def _kill_clients(self) -> None:
        while self._clients:
            kill_group(self._clients.pop())

    def stop(self, seconds: float = PATIENCE) -> None:
        """End everything, and remove the directory."""
        self._kill_clients()
        super().stop(seconds)
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- clients ------------------------------------------------------------------------------------------

    def sftp(self, *words: str, user: str = "alice") -> list[str]:
        options = [f"IdentityFile={self.key}", "IdentitiesOnly=yes", "StrictHostKeyChecking=no"]
        options += ["UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        before = [word for option in options for word in ("-o", option)]
        argv = [program("sftp"), "-F", "none", *before, "-P", str(self.port), *words]
        return [*argv, f"{user}@{HOST}"]

    def client(self, *words: str, user: str = "alice", say: str = "") -> subprocess.Popen[bytes]:
        """A client that goes on until it is ended. say: what is typed there."""
        process = subprocess.Popen(
            self.sftp("-q", *words, user=user),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # sftp has an ssh, which goes on where only sftp is killed
        )
        self._clients.append(process)
        if say:
            self.type(process, say)
        return process

    def type(self, process: subprocess.Popen[bytes], line: str) -> None:
        """Give a client something to do; one that has ended does nothing."""
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(f"{line}\n".encode())
            process.stdin.flush()

    def get_slowly(self, user: str = "alice") -> subprocess.Popen[bytes]:
        target = self.directory / "downloaded"
        return self.client("-l", str(SLOW), user=user, say=f"get large {target}")

    def put_slowly(self, user: str = "alice") -> subprocess.Popen[bytes]:
        source = self.files / "bob" / "large"
        return self.client("-l", str(SLOW), user=user, say=f"put {source} uploaded")

    def do(self, *lines: str, user: str = "alice") -> subprocess.CompletedProcess[bytes]:
        """A whole session with these commands."""
        text = "".join(f"{line}\n" for line in lines).encode()
        return subprocess.run(
            [*self.sftp("-b", "-", user=user)], input=text, capture_output=True, timeout=PATIENCE
        )

    # --- whoever looks ------------------------------------------------------------------------------------

    def sessions(self) -> list[dict[str, Any]]:
        """What the processes tell of their sessions."""
        answers = [ask(path, {"ask": "sessions"}) for path in found(os.fspath(self.socket))]
        return [session for answer in answers for session in answer["sessions"]]

    def ctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """pysftpctl, with the options that name this server."""
        return pysftpctl(*self._where, *words)

    def json(self, *words: str) -> Any:
        done = self.ctl("--json", *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


NAMES = ("alice", "bob")


def pysftpctl(*words: str, cwd: str | None = None) -> subprocess.CompletedProcess[str]:
    return run(command("pysftpctl", *words), text=True, cwd=cwd)


class DaemonCase(unittest.TestCase):
    """Tests that start servers of their own, or share one with the other tests of their class."""

    maxDiff = None
    _shared: ClassVar[dict[tuple[type, int], Daemon]] = {}

    def shared(self, workers: int = 1) -> Daemon:
        """One that runs and has no sessions, for tests that neither end nor count what it does."""
        place = type(self), workers
        if place not in self._shared:
            self._shared[place] = daemon = Daemon(workers=workers)
            self.addClassCleanup(lambda: self._shared.pop(place).stop())
            daemon.start()
        self.addCleanup(self._shared[place].hang_up)
        return self._shared[place]

    def daemon(self, *options: str, **how: Any) -> Daemon:
        """One that is not started yet. how: as for Daemon."""
        daemon = Daemon(*options, **how)
        self.addCleanup(daemon.stop)
        return daemon

    def started(self, *options: str, **how: Any) -> Daemon:
        daemon = self.daemon(*options, **how)
        daemon.start()
        return daemon
