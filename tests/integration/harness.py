"""A real ``sshd`` on loopback, the server under test behind it, and the case the tests build on.

Every test class gets its own sshd on a free port of 127.0.0.1, with its own keys, ended by its
process id; every test gets an empty jail. It works for root and for an ordinary user, who then logs
in as themselves. Nothing here knows a client: what is common to the OpenSSH ones is in
``ServedCase.sftp``, the others are in their own test files.

Three rules hold for all clients and are checked here, once: a client that does not end within its
time limit fails the test, the host's path of the jail appears in no byte a client prints, and the
server logs no traceback.

``PYSFTPSERVER_BIN`` may name a directory with installed commands to test instead of this checkout's.
Facts: sshd_config(5), sshd(8) on authorized_keys, proc(5).
"""

from __future__ import annotations

import enum
import getpass
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar, TypeVar

CHECKOUT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"
# The alias that the clients' ssh_config gives to the sshd of the test class.
TARGET = "server"
# Seconds a client may take, unless the test says otherwise.
PATIENCE = 30.0
# The same for one that a test keeps connected.
SESSION_PATIENCE = 90.0

PACKAGES = {
    "setpriv": "util-linux",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "sftp": "openssh-client",
    "scp": "openssh-client",
    "lftp": "lftp",
    "psftp": "putty-tools",
    "puttygen": "putty-tools",
}

# Of exit statuses: one that does not matter, and any but 0.
ANY = None
FAILS = -1000

Argument = str | bytes | Path
T = TypeVar("T")


class Hook(enum.Enum):
    """The three ways to put an SFTP server behind sshd."""

    AUTHORIZED_KEYS = 'command="..." before a key in authorized_keys'
    FORCE_COMMAND = "ForceCommand in sshd_config"
    SUBSYSTEM = "Subsystem in sshd_config"


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


def program(name: str) -> str:
    """Return the absolute path of a program, or say which Debian package has it.

    Raises:
        RuntimeError: the program is not installed.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        raise RuntimeError(f"these tests need the program {name!r}: apt-get install {PACKAGES[name]}")
    return found


def require(*names: str) -> None:
    """Raise, naming the Debian package, unless sshd and these programs are installed."""
    for name in ("setpriv", "sshd", "ssh", "ssh-keygen", *names):
        program(name)


def command(name: str, *arguments: Argument) -> list[str]:
    """Return the argv that runs ``bin/name`` of this checkout with this interpreter."""
    installed = os.environ.get("PYSFTPSERVER_BIN")
    if installed:
        return [os.path.join(installed, name), *map(os.fsdecode, arguments)]
    return [
        "/usr/bin/env",
        f"PYTHONPATH={CHECKOUT}",
        sys.executable,
        str(CHECKOUT / "bin" / name),
        *map(os.fsdecode, arguments),
    ]


def wait_for(what: str, condition: Callable[[], T], seconds: float = 10.0) -> T:
    """Return the first true result of the condition.

    Raises:
        AssertionError: it stayed false for this long.
    """
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain until {what}")
        time.sleep(0.01)
    return result


# Processes, read from /proc so that only descendants of our own sshd are ever touched.


def is_alive(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def descendants(ancestor: int) -> Iterator[tuple[int, str, bool]]:
    """Yield (pid, command name, whether it has children) of all descendants of a process."""
    names: dict[int, str] = {}
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            stat = Path(f"/proc/{entry}/stat").read_text(errors="replace")
        except OSError:
            continue
        head, _, tail = stat.rpartition(")")
        names[int(entry)] = head.partition("(")[2]
        children.setdefault(int(tail.split()[1]), []).append(int(entry))
    waiting = list(children.get(ancestor, []))
    while waiting:
        pid = waiting.pop()
        yield pid, names[pid], pid in children
        waiting += children.get(pid, [])


def peak_memory(pid: int) -> int:
    """Return the highest resident size a process has had, in bytes (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc/{pid}/status has no VmHWM")


class Sshd:
    """One sshd in the foreground, with a server under test hooked into it.

    Args:
        directory: where keys, configuration and log go; must exist.
        hook: how the server is started.
        argv: the server's command line.
    """

    def __init__(self, directory: Path, hook: Hook, argv: Sequence[str]) -> None:
        self.directory = directory
        self.hook = hook
        self.user = getpass.getuser()
        self.client_key = directory / "client_key"
        self.host_key = directory / "host_key"
        self.ssh_config = directory / "ssh_config"
        self.known_hosts = directory / "known_hosts"
        self.port = 0
        self._log = directory / "sshd.log"
        self._authorized_keys = directory / "authorized_keys"
        self._process: subprocess.Popen[bytes] | None = None
        for key in (self.client_key, self.host_key):
            subprocess.run(
                [program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(key)],
                check=True,
                stdin=subprocess.DEVNULL,
            )
        self._write_authorized_keys(argv if hook is Hook.AUTHORIZED_KEYS else None)
        self._argv = list(argv)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log(self) -> str:
        """Return what sshd has logged so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def serve(self, argv: Sequence[str]) -> None:
        """Give the connections from now on another server: sshd reads authorized_keys each time."""
        assert self.hook is Hook.AUTHORIZED_KEYS
        self._write_authorized_keys(argv)

    def start(self) -> None:
        """Start sshd and return when it accepts connections."""
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        config = str(self.directory / "sshd_config")
        for _ in range(5):
            self.port = _free_port()
            self._write_sshd_config()
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    # With setpriv(1) it ends even when the tests are killed before their clean-up.
                    [program("setpriv"), "--pdeathsig", "TERM", program("sshd"), "-D", "-e", "-f", config],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            # Another process may take the port between our look and sshd's bind: then sshd ends.
            if wait_for("sshd listens or ends", self._listens_or_ended) == "listens":
                break
        else:
            raise RuntimeError(f"sshd does not start:\n{self.log()}")
        self._write_client_files()

    def stop(self) -> None:
        """End the sshd that was started, and the sessions that it started."""
        if self._process is None:
            return
        sessions = [pid for pid, _, _ in descendants(self._process.pid)]
        self._process.terminate()
        self._process.wait(10)
        self._process = None
        for pid in sessions:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def servers(self) -> list[int]:
        """Return the process ids of the servers that sshd has running."""
        return [
            pid
            for pid, name, has_children in descendants(self.pid)
            if not name.startswith("sshd") and not has_children
        ]

    def _listens_or_ended(self) -> str:
        assert self._process is not None
        if self._process.poll() is not None:
            return "ended"
        try:
            with socket.create_connection((HOST, self.port), timeout=5) as connection:
                return "listens" if connection.recv(4) == b"SSH-" else ""
        except OSError:
            return ""

    def _write_authorized_keys(self, argv: Sequence[str] | None) -> None:
        public = self.client_key.with_suffix(".pub").read_text().strip()
        if argv is None:
            line = public
        else:
            quoted = shlex.join(argv).replace('"', '\\"')
            line = f'restrict,command="{quoted}" {public}'
        self._authorized_keys.write_text(line + "\n")

    def _write_sshd_config(self) -> None:
        # A forced command answers for any subsystem, but sshd wants one defined. /bin/false shows
        # that the forced command did answer.
        subsystem = shlex.join(self._argv) if self.hook is Hook.SUBSYSTEM else "/bin/false"
        lines = [
            f"Port {self.port}",
            f"ListenAddress {HOST}",
            f"HostKey {self.host_key}",
            f"AuthorizedKeysFile {self._authorized_keys}",
            "PidFile none",
            "UsePAM no",
            "StrictModes no",
            "PermitRootLogin yes",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UseDNS no",
            "MaxStartups 100",
            "MaxSessions 100",
            "LogLevel VERBOSE",
            # Under sshd bash reads the user's ~/.bashrc, whatever that prints and however long it takes,
            # but not when it seems to be started by another shell.
            "SetEnv SHLVL=1",
            f"Subsystem sftp {subsystem}",
        ]
        if self.hook is Hook.FORCE_COMMAND:
            lines.append(f"ForceCommand {shlex.join(self._argv)}")
        (self.directory / "sshd_config").write_text("\n".join(lines) + "\n")

    def _write_client_files(self) -> None:
        key = self.host_key.with_suffix(".pub").read_text().strip()
        self.known_hosts.write_text(f"[{HOST}]:{self.port} {key}\n")
        lines = [
            f"Host {TARGET}",
            f"HostName {HOST}",
            f"Port {self.port}",
            f"User {self.user}",
            f"IdentityFile {self.client_key}",
            "IdentitiesOnly yes",
            "IdentityAgent none",
            f"UserKnownHostsFile {self.known_hosts}",
            "GlobalKnownHostsFile /dev/null",
            "StrictHostKeyChecking yes",
            "BatchMode yes",
            "LogLevel ERROR",
            # The fastest ones: hundreds of connections are made.
            "Ciphers aes128-gcm@openssh.com",
            "KexAlgorithms curve25519-sha256",
        ]
        self.ssh_config.write_text("\n".join(lines) + "\n")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


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
        self.process.stdin.write("".join(f"{line}\n" for line in commands).encode())
        self.process.stdin.flush()

    def leave(self) -> int:
        """End the session as ``quit`` does and return the exit status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(10)

    def errors(self) -> str:
        """Return what sftp, and the server behind it, wrote to standard error so far."""
        self._errors.seek(0)
        return os.fsdecode(self._errors.read())

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

    A class may say how the server is hooked (``hook``) and what it is (``server_command``).
    """

    hook: ClassVar[Hook] = Hook.AUTHORIZED_KEYS
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
        cls.place = Path(tempfile.mkdtemp(prefix="pysftpserver-integration-"))
        cls.addClassCleanup(shutil.rmtree, cls.place, ignore_errors=True)
        # The jail's name cannot appear in a client's output by chance.
        cls.jail = cls.place / f"jail-{secrets.token_hex(8)}"
        cls.local = cls.place / "local"
        cls.outside = cls.place / "outside"
        cls.home = cls.place / "home"
        for directory in (cls.jail, cls.local, cls.outside, cls.home, cls.place / "sshd"):
            directory.mkdir()
        cls.server_log = cls.place / "server.log"
        cls.sshd = Sshd(cls.place / "sshd", cls.hook, cls.server_command())
        cls.addClassCleanup(cls.sshd.stop)
        cls.sshd.start()

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
        """Return the process id of the one server that is running."""
        pids = wait_for("there is a server process", self.sshd.servers)
        self.assertEqual(len(pids), 1, pids)
        return pids[0]

    def wait_until_no_server_is_left(self) -> None:
        wait_for("no server process is left", lambda: not self.sshd.servers())

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
