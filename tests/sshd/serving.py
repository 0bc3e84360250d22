"""A pysftpd that really runs, OpenSSH's sftp as its client, and pysftpctl."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path
from typing import Any, ClassVar

from pysftpserver.sshd.admin_client import ask, found
from tests.sshd.material import put_host_keys
from tests.sshd.running import kill_group, make_key
from tests.support.forks import fork_of
from tests.support.processes import Program, command, program
from tests.support.waiting import PATIENCE, until

HOST = "127.0.0.1"
SLOW = 4000  # kilobits a second
SIZE = 16 << 20  # bytes of a file that takes half a minute at that pace


class Daemon:
    """A pysftpd in a directory of its own, with a key, a file of users alice and bob, and their files."""

    def __init__(self, *options: str, workers: int = 1, users: bool = True) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pysftpserver-ctl-"))
        self.workers = workers
        self.options = options
        self.key = self.directory / "key"
        self.users = self.directory / "users.toml"
        self.socket = self.directory / "admin"
        self.log = self.directory / "log"
        self.process: Program | None = None
        self._in_file = users
        put_host_keys(self.directory / "host-keys")
        self._clients: list[subprocess.Popen[bytes]] = []
        self.public = make_key(self.key)
        if users:
            lines = [f'[users.{name}]\nfolder = "{name}"\nkeys = ["{self.public}"]\n' for name in NAMES]
            self.users.write_text("\n".join(lines))
            self.users.chmod(0o600)
        for name in NAMES:
            (self.directory / "files" / name).mkdir(parents=True)
            (self.directory / "files" / name / "large").write_bytes(bytes(SIZE))

    def argv(self) -> list[str]:
        return [
            *command("pysftpd", "--allow-root", "--sftp-port", "0", "--listen-address", HOST),
            *["--sftp-path", f"{self.directory}/files", "--host-key-dir", f"{self.directory}/host-keys"],
            *["--workers", str(self.workers), "--logfile", os.fspath(self.log), "--drain-seconds", "1"],
            *(["--users", os.fspath(self.users)] if self._in_file else []),
            *self.options,
        ]

    def start(self) -> None:
        """Return when all processes are ready."""
        self.log.write_text("")
        self.process = Program(self.argv(), self.directory / "stderr", forks=True)
        until(self._is_ready, "the server is ready")
        self.port = self.number_in_log(r"listening on \S+ port (\d+)")

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(self.process.output() + self.log.read_text())
        return self.log.read_text().count(" ready\n") >= self.workers

    def number_in_log(self, pattern: str) -> int:
        match = re.search(pattern, self.log.read_text())
        assert match is not None, self.log.read_text()
        return int(match[1])

    def refused(self) -> tuple[int, str]:
        """(exit status, what it says) of a server that does not start."""
        argv = self.argv()
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, preexec_fn=fork_of(argv)
        )
        return done.returncode, done.stderr.decode()

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

    def stop(self) -> None:
        """End everything, and remove the directory."""
        self._kill_clients()
        if self.process is not None:
            self.end()
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
        source = self.directory / "files" / "bob" / "large"
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
        where = ["--admin-socket", os.fspath(self.socket)]
        if self._in_file and "--config" not in words:
            where += ["--users", os.fspath(self.users)]
        return pysftpctl(*where, *words)

    def json(self, *words: str) -> Any:
        done = self.ctl("--json", *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


NAMES = ("alice", "bob")


def pysftpctl(*words: str, cwd: str | None = None) -> subprocess.CompletedProcess[str]:
    argv = command("pysftpctl", *words)
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=PATIENCE, cwd=cwd, preexec_fn=fork_of(argv)
    )


class DaemonCase(unittest.TestCase):
    """Tests that start servers of their own, or share one with the other tests of their class."""

    maxDiff = None
    _shared: ClassVar[dict[tuple[type, int], Daemon]] = {}

    def shared(self, workers: int = 1) -> Daemon:
        """One that runs and has no sessions, for tests that neither end nor count what it does."""
        place = type(self), workers
        if place not in self._shared:
            daemon = Daemon(workers=workers)
            daemon.options = ("--admin-socket", os.fspath(daemon.socket))
            self._shared[place] = daemon
            self.addClassCleanup(lambda: self._shared.pop(place).stop())
            daemon.start()
        self.addCleanup(self._shared[place].hang_up)
        return self._shared[place]

    def daemon(self, *options: str, workers: int = 1, admin: bool = True, users: bool = True) -> Daemon:
        """One that is not started yet."""
        daemon = Daemon(*options, workers=workers, users=users)
        self.addCleanup(daemon.stop)
        if admin:
            daemon.options += ("--admin-socket", os.fspath(daemon.socket))
        return daemon

    def started(self, *options: str, workers: int = 1, admin: bool = True) -> Daemon:
        daemon = self.daemon(*options, workers=workers, admin=admin)
        daemon.start()
        return daemon
