"""The case the tests build on: a real ``sshd`` on loopback and the server under test behind it.

Every test class gets its own sshd, every test an empty jail. Of the clients only OpenSSH's ``sftp`` is
known here; how the others are run is in clients.py and in their own test files.

Three rules hold for all clients and are checked here, once: a client that does not end within its
time limit fails the test, the host's path of the jail appears in no byte a client prints, and the
server logs no traceback.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

from tests.integration.sshd import TARGET, Sshd, Way
from tests.support.processes import Argument, command, program
from tests.support.waiting import PATIENCE, until

# Seconds a client may take, unless the test says otherwise.
# The same for one that a test keeps connected.
SESSION_PATIENCE = 90.0
# Of exit statuses: one that does not matter, and any but 0.
ANY = None
FAILS = -1000


@dataclass(frozen=True)
class Finished:
    """What a client left: exit status and text; bytes that are not UTF-8 are surrogate escaped."""

    argv: list[str]
    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def lines(self) -> list[str]:
        """The output without the commands that ``sftp`` echoes in batch mode."""
        return [line for answer in self.answers for line in answer]

    @property
    def answers(self) -> list[list[str]]:
        """The lines of output of each command that ``sftp`` echoed in batch mode."""
        answers: list[list[str]] = [[]]
        for line in self.out.split("\n"):
            if line.startswith("sftp> "):
                answers.append([])
            elif line:
                answers[-1].append(line)
        return answers[1:] or answers

    def __str__(self) -> str:
        return f"$ {shlex.join(self.argv)}\n{self.out}{self.err}[exit status {self.status}]\n"


class SftpSession:
    """An ``sftp`` that stays connected between commands, for tests that look at the server meanwhile.

    Args:
        process: an ``sftp -b -`` with pipes for input and output.
        errors: the file that is its standard error. Not the output's pipe: ssh makes its standard
            error non-blocking, and sftp would lose output.
    """

    def __init__(self, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
        self.process = process
        self._errors = errors

    def do(self, *commands: str) -> str:
        """Run commands and return their output when all of them have ended."""
        marker = f"done-{secrets.token_hex(8)}"
        assert self.process.stdout is not None
        self.send(*commands, f"@!echo {marker}")
        output = b""
        while not output.endswith(f"{marker}\n".encode()):
            line = self.process.stdout.readline()
            if not line:
                text = os.fsdecode(output) + self.errors()
                raise AssertionError(f"sftp ended during {commands}:\n{text}")
            output += line
        return os.fsdecode(output.removesuffix(f"{marker}\n".encode()))

    def send(self, *commands: str) -> None:
        """Send commands without waiting for them."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it may have ended: do() will say so
            self.process.stdin.write("".join(f"{line}\n" for line in commands).encode())
            self.process.stdin.flush()

    def leave(self) -> int:
        """End the session as ``quit`` does and return the exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(PATIENCE)

    def errors(self) -> str:
        """Return what sftp, and the server behind it, wrote to standard error so far."""
        # Not read(), which would move the place where they write.
        descriptor = self._errors.fileno()
        return os.fsdecode(os.pread(descriptor, os.fstat(descriptor).st_size, 0))

    def kill(self) -> None:
        """Kill sftp and its ssh, without a word to the server."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


class ServedCase(unittest.TestCase):
    """A test case with an sshd for the class and an empty jail for each test.

    A class may say which way the server is put behind sshd (``way``) and what it is (``server_command``).
    """

    way: ClassVar[Way] = Way.AUTHORIZED_KEYS
    # False for a class whose server is no jail: its clients see host paths by right.
    hides_host_paths: ClassVar[bool] = True

    place: ClassVar[Path]
    home: ClassVar[Path]
    jail: ClassVar[Path]
    local: ClassVar[Path]
    outside: ClassVar[Path]
    server_log: ClassVar[Path]
    sshd: ClassVar[Sshd]

    @classmethod
    def server_command(cls) -> list[str]:
        return cls.jail_command()

    @classmethod
    def jail_command(cls, *options: Argument) -> list[str]:
        """Return the argv of ``pysftpjail`` on this class's jail."""
        return command("pysftpjail", "--logfile", cls.server_log, *options, cls.jail)

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.make_directories()
        (cls.place / "sshd").mkdir()
        cls.server_log = cls.place / "server.log"
        cls.sshd = Sshd(cls.place / "sshd", cls.way, cls.server_command())
        cls.addClassCleanup(cls.sshd.stop)
        cls.sshd.start()

    @classmethod
    def make_directories(cls, below: str = "") -> None:
        """below: of the place, where the jail is."""
        cls.place = Path(tempfile.mkdtemp(prefix="pysftpserver-integration-"))
        cls.addClassCleanup(shutil.rmtree, cls.place, ignore_errors=True)
        # The jail's name cannot appear in a client's output by chance.
        cls.jail = cls.place / below / f"jail-{secrets.token_hex(8)}"
        cls.local, cls.outside, cls.home = (cls.place / name for name in ("local", "outside", "home"))
        for directory in (cls.jail, cls.local, cls.outside, cls.home):
            directory.mkdir(parents=True)

    def setUp(self) -> None:
        super().setUp()
        self._ran: list[Finished] = []
        self._sshd_log_before = len(self.sshd.log())
        self._server_log_before = len(self.server_text())
        for directory in (self.jail, self.local, self.outside):
            empty(directory)
        # Registered first, so it runs last: when every session of the test has ended.
        self.addCleanup(self._check_and_report)

    def server_text(self) -> str:
        """Return what the servers of this class have logged."""
        return self.server_log.read_text(errors="replace") if self.server_log.exists() else ""

    def serve(self, argv: Sequence[str]) -> None:
        """Use another server for the rest of this test."""
        self.sshd.serve(argv)
        self.addCleanup(self.sshd.serve, self.server_command())

    def client(
        self,
        argv: Sequence[Argument],
        *,
        stdin: bytes = b"",
        status: int | None = 0,
        seconds: float = PATIENCE,
    ) -> Finished:
        """Run a client in ``self.local`` and return what it left.

        Args:
            argv: the command line; the program by name.
            stdin: all that it can read.
            status: the exit status it must have, ``FAILS`` or ``ANY``.
            seconds: its time limit.
        """
        words = [program(os.fsdecode(argv[0])), *map(os.fsdecode, argv[1:])]
        process = self._popen(words, stderr=subprocess.PIPE)
        try:
            out, err = process.communicate(stdin, timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            self.fail(
                f"not ended after {seconds:g} s: {shlex.join(words)}\n{os.fsdecode(out)}{os.fsdecode(err)}"
            )
        finished = Finished(words, process.returncode, os.fsdecode(out), os.fsdecode(err))
        self._ran.append(finished)
        self.assert_hides_the_jail(finished.text)
        if status == FAILS:
            self.assertNotEqual(finished.status, 0, finished)
        elif status is not ANY:
            self.assertEqual(finished.status, status, finished)
        return finished

    def sftp(
        self,
        *commands: Argument,
        flags: Sequence[Argument] = (),
        to: str = TARGET,
        status: int | None = 0,
        seconds: float = PATIENCE,
    ) -> Finished:
        """Run a batch of commands with OpenSSH's ``sftp``."""
        batch = b"".join(os.fsencode(line) + b"\n" for line in commands)
        return self.client(
            ["sftp", "-F", self.sshd.ssh_config, "-b", "-", *flags, to],
            stdin=batch,
            status=status,
            seconds=seconds,
        )

    @contextmanager
    def sftp_session(self, *flags: Argument) -> Iterator[SftpSession]:
        """Keep an ``sftp`` connected; it is ended at the end of the block."""
        words = [program("sftp"), "-F", str(self.sshd.ssh_config), "-b", "-"]
        with tempfile.TemporaryFile() as errors:
            process = self._popen([*words, *map(os.fsdecode, flags), TARGET], stderr=errors)
            session = SftpSession(process, errors)
            limit = threading.Timer(SESSION_PATIENCE, os.killpg, (process.pid, signal.SIGKILL))
            limit.start()
            try:
                yield session
            finally:
                limit.cancel()
                session.kill()
            self.assert_hides_the_jail(session.errors())

    def assert_hides_the_jail(self, text: str) -> None:
        """Fail when the jail's path on the host is in what a client saw."""
        if self.hides_host_paths:
            self.assertNotIn(self.jail.name, text, "the client saw the host's path of the jail")

    def only_server(self) -> int:
        """Return the process id of the one server that is running, once those of former sessions are gone."""

        def only() -> int:
            pids = self.sshd.servers()
            return pids[0] if len(pids) == 1 else 0

        return until(only, lambda: f"there is one server, not {self.sshd.servers()}")

    def wait_until_no_server_is_left(self) -> None:
        until(lambda: not self.sshd.servers(), "no server process is left")

    def _popen(self, words: Sequence[str], *, stderr: int | IO[bytes]) -> subprocess.Popen[bytes]:
        environment = {
            "HOME": str(self.home),
            "PATH": os.environ.get("PATH", os.defpath),
            "LC_ALL": "C.UTF-8",
            "TERM": "dumb",
            "TZ": "UTC",
        }
        # In a session of its own it has no terminal to prompt on, and its group is ours to end.
        return subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            cwd=self.local,
            env=environment,
            start_new_session=True,
        )

    def _check_and_report(self) -> None:
        log = self.server_text()[self._server_log_before :]
        outcome = getattr(self, "_outcome", None)
        if outcome is not None and not outcome.success:
            print(f"\n===== {self.id()}", *self._ran, sep="\n", file=sys.stderr)
            print("----- sshd:", self.sshd.log()[self._sshd_log_before :], file=sys.stderr)
            print("----- server:", log, file=sys.stderr)
        self.assertNotIn("Traceback", log)


def empty(directory: Path) -> None:
    """Remove all that is in a directory."""
    for entry in os.scandir(os.fsencode(directory)):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)
