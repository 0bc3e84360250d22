"""A real ``pysftpd`` on a free port of loopback, with users in a file, and the keys they log in with.

A ``Login`` has the attributes of the integration tests' ``Sshd`` that their clients ask for, so that
clients.py there runs its clients against this server too.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import unittest
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

from pysftpserver.sshd.forkserver import FORK_SERVER, SESSION
from pysftpserver.sshd.spares import SPARE
from tests.integration.harness import ServedCase
from tests.integration.sshd import HOST, TARGET, write_ssh_config
from tests.sshd.material import put_host_keys
from tests.support.forked import run
from tests.support.processes import Argument, Program, command, descendants, is_alive, program
from tests.support.waiting import PATIENCE, until

# PEM, because paramiko reads no ECDSA key in the newer format.
KINDS = {"ed25519": [], "ecdsa": ["-b", "256", "-m", "PEM"], "rsa": ["-b", "2048"]}
#: RSA whose modulus has 1 as its first byte: half of all signatures begin with a zero, or more.
SHORT_RSA = "short-rsa"
WORDS = {kind: ["-t", kind, *more] for kind, more in KINDS.items()} | {SHORT_RSA: ["-t", "rsa", "-b", "2050"]}
_rsa: list[str] = []  # its private and its public half
_public: dict[bytes, str] = {}  # lines of public keys by the private key's file


def make_key(path: Path, kind: str = "ed25519") -> str:
    """Make a user's key with ssh-keygen; return the public one's line. RSA keys take long: all are one."""
    if kind == "rsa" and _rsa:
        path.touch(0o600)
        path.write_text(_rsa[0])
        path.with_suffix(".pub").write_text(_rsa[1])
        return _rsa[1].strip()
    argv = [program("ssh-keygen"), "-q", *WORDS[kind], "-N", "", "-C", "", "-f", str(path)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    if kind == "rsa":
        _rsa[:] = path.read_text(), path.with_suffix(".pub").read_text()
    return path.with_suffix(".pub").read_text().strip()


def public_line(path: Path) -> str:
    """The public half of a key, as ssh-keygen writes it; servers of one process share their host keys."""
    private = path.read_bytes()
    if private not in _public:
        words = [program("ssh-keygen"), "-y", "-f", path]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        _public[private] = done.stdout.strip()
    return _public[private]


class Login:
    """A user's key and the files that clients want. directory: where those go; it is made."""

    def __init__(self, directory: Path, user: str, kind: str = "ed25519") -> None:
        directory.mkdir()
        self.directory = directory
        self.user = user
        self.client_key = directory / "client_key"
        self.public = make_key(self.client_key, kind)
        self.known_hosts = directory / "known_hosts"
        self.ssh_config = directory / "ssh_config"

    def meet(self, server: Pysftpd) -> None:
        """Write the files for a server that is running."""
        self.server = server
        self.port = server.port
        self.host_key = server.host_keys / "ssh_host_ed25519_key"
        keys = map(public_line, sorted(server.host_keys.iterdir()))
        self.known_hosts.write_text("".join(f"[{HOST}]:{self.port} {key}\n" for key in keys))
        write_ssh_config(self)

    def log(self) -> str:
        return self.server.log()


class Pysftpd:
    """One pysftpd. directory: where its files go; must exist. options: for its command line, after those
    that every test wants. workers: how many lines say "ready". host_keys: whether it finds some.
    users: whether they are in a file."""

    def __init__(
        self,
        directory: Path,
        *options: Argument,
        workers: int = 1,
        host_keys: bool = True,
        users: bool = True,
    ) -> None:
        self.directory = directory
        self.users = directory / "users.toml"
        self.files = directory / "files"
        self.host_keys = directory / "host-keys"
        self.stderr = directory / "stderr"
        self.workers = workers
        self.port = 0
        self.process: Program | None = None
        words = ["--sftp-port", "0", "--listen-address", HOST, "--sftp-path", self.files]
        words += ["--host-key-dir", self.host_keys, "--workers", str(workers)]
        words += ["--users", self.users] if users else []
        self.argv = pysftpd(*words, *options)
        self.files.mkdir(exist_ok=True)
        if host_keys:
            put_host_keys(self.host_keys)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def log(self) -> str:
        """What it has written to standard error so far, in all its starts."""
        return self.stderr.read_text(errors="replace") if self.stderr.exists() else ""

    def logs(self, words: str, count: int = 1) -> None:
        """Wait until the log has these words so many times."""
        until(lambda: self.log().count(words) >= count, lambda: f"{words!r} is not in the log:\n{self.log()}")

    def write_users(self, users: Mapping[str, Mapping[str, object]]) -> None:
        """Put users into the file, whole or not at all, and create their folders."""
        for name, fields in users.items():
            if "storage" not in fields:
                (self.files / str(fields.get("folder", name))).mkdir(exist_ok=True)
        lines = []
        for name, fields in users.items():
            lines.append(f"[users.{json.dumps(name)}]")
            lines += [f"{field} = {json.dumps(value)}" for field, value in fields.items()]
        write_private(self.users, "\n".join(["[users]", *lines]) + "\n")

    def start(self, **popen: object) -> None:
        """Start it, and return when it is ready."""
        self.process = Program(self.argv, self.stderr, cwd=self.directory, **popen)
        self.process.said(r"\bready\b", self.workers)
        self.port = int(self.process.said(r"listening on \S+ port (\d+)")[1])
        if "thread" not in self.argv:  # or processes() could take it for a worker
            forks = f"{FORK_SERVER}\n"
            until(lambda: forks in map(name_of, children(self.pid)), "the fork server has its name")

    def processes(self) -> list[int]:
        """The workers of a server that has some."""
        named = {pid: name for pid, name, _ in descendants(self.pid)}
        return [pid for pid in children(self.pid) if named.get(pid) != FORK_SERVER]

    def sessions(self) -> list[int]:
        """The processes of sessions."""
        return self._forked(SESSION)

    def spares(self) -> list[int]:
        """The processes that wait for sessions."""
        return self._forked(SPARE)

    def _forked(self, name: str) -> list[int]:
        every = (pid for child in children(self.pid) for pid in children(child))
        return [pid for pid in every if name_of(pid).startswith(name)]

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Wait for its end; return the exit status."""
        assert self.process is not None
        return self.process.wait(seconds)

    def stop(self, seconds: float = PATIENCE) -> None:
        """End it as a service manager does; its status must be 0, and no process may be left."""
        if self.process is None:
            return
        every = [self.pid, *(pid for pid, _, _ in descendants(self.pid))]
        try:
            if self.process.poll() is None:
                self.process.terminate()
            status = self.process.wait(seconds)
        finally:
            self.process = None
            left = [pid for pid in every if is_alive(pid)]
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        assert not left, f"processes {left} are left:\n{self.log()}"
        assert status == 0, f"status {status}:\n{self.log()}"


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    try:
        with open(f"/proc/{process}/task/{process}/children") as file:
            return list(map(int, file.read().split()))
    except OSError:
        return []


def name_of(process: int) -> str:
    """What ps(1) calls a process; empty for one that has ended."""
    try:
        return Path(f"/proc/{process}/comm").read_text()
    except OSError:
        return ""


def pysftpd(*words: Argument) -> list[str]:
    """The argv of pysftpd, which may be root here."""
    return command("pysftpd", *words, *(["--allow-root"] if os.geteuid() == 0 else []))


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else reads, whole or not at all."""
    beside = path.with_name(path.name + ".new")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    beside.replace(path)


class Place(unittest.TestCase):
    """A case with a directory of its own for each test, self.place."""

    has_host_keys = True

    def setUp(self) -> None:
        super().setUp()
        self.place = Path(tempfile.mkdtemp(prefix="pysftpserver-sshd-"))
        self.addCleanup(shutil.rmtree, self.place, ignore_errors=True)

    def server(self, *options: Argument, workers: int = 1, start: bool = True) -> Pysftpd:
        """A server with the user alice, self.alice; it runs until the test ends."""
        server = Pysftpd(self.place, *options, workers=workers, host_keys=self.has_host_keys)
        self.alice = Login(self.place / "alice", "alice")
        server.write_users({"alice": {"folder": "a", "keys": [self.alice.public]}})
        if start:
            self.addCleanup(server.stop)
            server.start()
            self.alice.meet(server)
        return server

    def fails(self, *words: Argument, seconds: float = PATIENCE, **how: Any) -> tuple[int, str]:
        """Run pysftpd, which must end by itself: (its status, what it wrote to standard error)."""
        done = run(words, timeout=seconds, text=True, cwd=self.place, **how)
        return done.returncode, done.stderr

    def sftp(
        self, login: Login, *lines: str, flags: Sequence[Argument] = (), seconds: float = PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        """Run a batch with OpenSSH's sftp."""
        return subprocess.run(
            [program("sftp"), "-F", login.ssh_config, "-b", "-", *flags, TARGET],
            input="".join(f"{line}\n" for line in lines),
            capture_output=True,
            text=True,
            timeout=seconds,
            cwd=self.place,
        )

    def start_client(self, *words: Argument) -> subprocess.Popen[bytes]:
        """Start a client in a process group of its own, which is killed at the end."""
        process = subprocess.Popen(
            [program(os.fsdecode(words[0])), *words[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=self.place,
            start_new_session=True,
        )
        self.addCleanup(kill_group, process)
        return process

    def start_idle(self, login: Login) -> subprocess.Popen[bytes]:
        """Start a session that does nothing, and ends when the connection does."""
        return self.start_client("ssh", "-F", login.ssh_config, "-s", TARGET, "sftp")

    def start_sftp(
        self, login: Login, *lines: str, flags: Sequence[Argument] = ()
    ) -> subprocess.Popen[bytes]:
        """Start an sftp that goes on with these lines."""
        process = self.start_client("sftp", "-F", login.ssh_config, "-b", "-", *flags, TARGET)
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it may have been sent away
            process.stdin.write("".join(f"{line}\n" for line in lines).encode())
            process.stdin.flush()
        return process


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a client and what it has started, and wait for it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(BrokenPipeError):
                pipe.close()


class DaemonCase(ServedCase):
    """The integration tests' case with pysftpd in the place of sshd; the user has a key of each kind."""

    options: ClassVar[Sequence[Argument]] = ()
    server: ClassVar[Pysftpd]
    logins: ClassVar[dict[str, Login]]

    @classmethod
    def setUpClass(cls) -> None:
        cls.make_directories("files")
        cls.server = Pysftpd(cls.place, *cls.options)
        cls.server_log = cls.server.stderr
        cls.logins = {kind: Login(cls.place / kind, "alice", kind) for kind in KINDS}
        one = {"folder": cls.jail.name}
        keys = [login.public for login in cls.logins.values()]
        cls.server.write_users({name: {**one, **fields} for name, fields in cls.users(keys).items()})
        cls.addClassCleanup(cls.server.stop)
        cls.server.start()
        for login in cls.logins.values():
            login.meet(cls.server)
        cls.sshd = cls.logins["ed25519"]  # type: ignore[assignment]

    @classmethod
    def users(cls, keys: list[str]) -> dict[str, dict[str, object]]:
        """The users by name, all with one folder. keys: of alice."""
        return {"alice": {"keys": keys}}

    def with_each_key(self) -> Iterable[str]:
        """Let the clients use one kind of key after the other; yields its name."""
        for kind, login in self.logins.items():
            self.sshd = login  # type: ignore[misc, assignment]
            yield kind
