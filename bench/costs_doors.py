"""The doors whose costs are measured: each is started with a user, and provides client sessions.

What may not enter: what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

from bench import drivers
from bench.costs_clients import HOST, SFTP, Remo, Session, WebDAV
from bench.costs_counting import Counter
from pysftpserver.remo.client import connect
from tests.integration.sshd import TARGET, Sshd, Way, write_ssh_config

USER, PASSWORD = "bench", "a long password for a benchmark"
PEOPLE = 40  # users of a door at which a first login costs more than later ones
CROWD = 10_000  # connections: no limit of a door may be reached
STARTS_WITHIN = 60.0  # seconds


@dataclass
class Door:
    """A running door. pids: its processes. session: begins one, and returns once it has been answered.

    login: a connection that logs in and ends without a session, if a client can do that. trips: counters of
    requests to the services behind it. is_server: whether something runs without a session.
    """

    pids: Callable[[], Sequence[int]]
    session: Callable[[], Session]
    login: Callable[[], object] | None = None
    trips: Sequence[Counter] = ()
    is_server: bool = True


def started(argv: Sequence[str], log: Path, ready: str, stack: contextlib.ExitStack, **how: Any) -> int:
    """Start a server and end it with the stack; return its process id once its log contains `ready`."""
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **how)
    stack.callback(ended, process)
    deadline = time.monotonic() + STARTS_WITHIN
    while not re.search(ready, log.read_text(errors="replace")):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{argv[1]} did not start: {log.read_text(errors='replace')[-500:]}")
        time.sleep(0.02)
    return process.pid


def ended(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started here."""
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def port_in(log: Path) -> int:
    """The port in a server's log."""
    found = re.search(r"listening on [^\n]*?(?:port |:)(\d+)", log.read_text())
    if found is None:
        raise RuntimeError(f"no port in the log: {log.read_text()[-500:]}")
    return int(found[1])


def logged_in(port: int, user: str, key: Path) -> None:
    """Log in over SSH, and leave without a session."""

    async def log_in() -> None:
        async with asyncssh.connect(
            HOST,
            port,
            username=user,
            client_keys=[str(key)],
            known_hosts=None,
            config=None,
            agent_path=None,
            encryption_algs=["aes128-gcm@openssh.com"],
            kex_algs=["curve25519-sha256"],
        ):
            pass

    asyncio.run(log_in())


# --- OpenSSH's sshd, with a server for each session ---------------------------------------------------------


def behind_sshd(top: Path, stack: contextlib.ExitStack, argv: Sequence[str], prefix: str, *more: int) -> Door:
    """sshd with a command behind it. more: ids of further processes that count."""
    (top / "sshd").mkdir(mode=0o700)
    sshd = Sshd(top / "sshd", Way.SUBSYSTEM if argv == ["internal-sftp"] else Way.AUTHORIZED_KEYS, argv)
    sshd.start()
    stack.callback(sshd.stop)
    ssh = ["ssh", "-q", "-F", str(sshd.ssh_config)]
    log_in = functools.partial(logged_in, sshd.port, sshd.user, sshd.client_key)
    return Door(lambda: (sshd.pid, *more), lambda: SFTP([*ssh, "-s", TARGET, "sftp"], prefix), log_in)


@contextlib.contextmanager
def internal_sftp(top: Path) -> Iterator[Door]:
    """The reference: OpenSSH's own server."""
    with contextlib.ExitStack() as stack:
        (top / "jail").mkdir()
        yield behind_sshd(top, stack, ["internal-sftp"], f"{top}/jail/")


@contextlib.contextmanager
def stdio(top: Path) -> Iterator[Door]:
    """pysftpjail, as sshd starts it."""
    with contextlib.ExitStack() as stack:
        (top / "jail").mkdir()
        yield behind_sshd(top, stack, jailed(top / "jail"), "/")


def jailed(directory: Path) -> list[str]:
    return [*drivers.command("pysftpjail"), "--log-level", "ERROR", str(directory)]


@contextlib.contextmanager
def warm(top: Path) -> Iterator[Door]:
    """pysftpjail with pysftp-warm, whose processes count as well."""
    with contextlib.ExitStack() as stack:
        (top / "jail").mkdir()
        socket = top / "run" / "socket"
        words = ["--socket", str(socket), "--logfile", str(top / "warm.log"), "--log-level", "INFO"]
        resident = subprocess.Popen([*drivers.command("pysftp-warm"), *words], stdin=subprocess.DEVNULL)
        stack.callback(ended, resident)
        deadline = time.monotonic() + STARTS_WITHIN
        while not socket.exists():
            if resident.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("pysftp-warm does not start")
            time.sleep(0.02)
        argv = [f"PYSFTP_WARM={socket}", *jailed(top / "jail")]
        yield behind_sshd(top, stack, argv, "/", resident.pid)


# --- pysftpd ------------------------------------------------------------------------------------------------


class Standalone:
    """pysftpd, and what its client needs: a key, and files that ssh reads."""

    def __init__(self, top: Path) -> None:
        self.top, self.user, self.port = top, USER, 0
        self.client_key, self.known_hosts = top / "key", top / "known_hosts"
        self.ssh_config = top / "ssh_config"
        drivers.timed(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(self.client_key)])
        self.public = self.client_key.with_suffix(".pub").read_text().strip()

    def start(self, stack: contextlib.ExitStack, *flags: str, **options: Any) -> int:
        """Start the server with options, in a directory for its files; return its process id."""
        (self.top / "files" / USER).mkdir(parents=True, exist_ok=True)
        given = {
            "sftp-port": 0,
            "listen-address": HOST,
            "sftp-path": self.top / "files",
            "host-key-dir": self.top / "host-keys",
            "log-level": "INFO",
            "max-connections": CROWD,
            "max-per-address": CROWD,
            "max-per-user": CROWD,
            "max-sessions": CROWD,
            **options,
        }
        log = self.top / "pysftpd.log"
        words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
        words += [f"--{flag}" for flag in flags]
        argv = [*drivers.command("pysftpd"), *words, *(["--allow-root"] if os.geteuid() == 0 else [])]
        pid = started(argv, log, r" ready\n", stack, cwd=self.top)
        self.port = port_in(log)
        made = ["ssh-keygen", "-y", "-f"]
        keys = [
            subprocess.run([*made, str(path)], check=True, capture_output=True, text=True).stdout.strip()
            for path in sorted((self.top / "host-keys").iterdir())
        ]
        self.known_hosts.write_text("".join(f"[{HOST}]:{self.port} {key}\n" for key in keys))
        write_ssh_config(self, "Ciphers aes128-gcm@openssh.com", "KexAlgorithms curve25519-sha256")
        return pid

    def door(self, pid: int, *trips: Counter) -> Door:
        ssh = ["ssh", "-q", "-F", str(self.ssh_config)]
        log_in = functools.partial(logged_in, self.port, self.user, self.client_key)
        return Door(lambda: (pid,), lambda: SFTP([*ssh, "-s", TARGET, "sftp"]), log_in, trips)


@contextlib.contextmanager
def pysftpd(top: Path, **options: Any) -> Iterator[Door]:
    """pysftpd with users in a file. options: further options of its command line."""
    with contextlib.ExitStack() as stack:
        standalone = Standalone(top)
        users = top / "users.toml"
        users.touch(0o600)
        users.write_text(f'[users.{USER}]\nkeys = ["{standalone.public}"]\n')
        pid = standalone.start(stack, users=users, **options)
        yield standalone.door(pid)


@contextlib.contextmanager
def in_threads(top: Path) -> Iterator[Door]:
    with pysftpd(top, isolation="thread") as door:
        yield door


@contextlib.contextmanager
def at_rest(top: Path) -> Iterator[Door]:
    """pysftpd whose idle sessions give their processes back, here after a second."""
    with pysftpd(top, session_idle=1) as door:
        yield door


# --- the others ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def web(top: Path) -> Iterator[Door]:
    """pysftpweb by WebDAV. A login is a user's first request; a session is one more connection."""
    from argon2 import PasswordHasher

    with contextlib.ExitStack() as stack:
        hashed = PasswordHasher().hash(PASSWORD)
        names = [USER, *(f"user{number}" for number in range(PEOPLE))]
        users = top / "users.toml"
        users.touch(0o600)
        users.write_text("".join(f"[users.{name}]\npassword = '{hashed}'\n" for name in names))
        for name in names:
            (top / "files" / name).mkdir(parents=True)
        log = top / "web.log"
        words = ["--port=0", f"--users={users}", f"--sftp-path={top / 'files'}", f"--logfile={log}"]
        words += [f"--state={top / 'state.sqlite'}", "--auth-methods=password", "--max-per-user=1000"]
        words += ["--allow-root"] if os.geteuid() == 0 else []
        log.touch()
        argv = [*drivers.command("pysftpweb"), *words]
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        stack.callback(ended, process)
        deadline = time.monotonic() + STARTS_WITHIN
        while not (found := re.search(r"http://127\.0\.0\.1:(\d+)/", log.read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("pysftpweb does not start")
            time.sleep(0.02)
        port = int(found[1])
        strangers = iter(names[1:])

        def log_in() -> None:
            WebDAV(port, next(strangers), PASSWORD).close()

        yield Door(lambda: (process.pid,), lambda: WebDAV(port, USER, PASSWORD), log_in)


@contextlib.contextmanager
def remo(top: Path) -> Iterator[Door]:
    """pysftpremo. A session is a login, and nothing more."""
    with contextlib.ExitStack() as stack:
        base = str(top / "users.sqlite")
        for prefix in ("server", USER):
            drivers.timed([*drivers.command("pysftpremo"), "keygen", "--no-passphrase", prefix, str(top)])
        added = ["adduser", "--base", base, USER, str(top / f"{USER}.pem")]
        drivers.timed([*drivers.command("pysftpremo"), *added])
        log = top / "remo.log"
        words = ["--port=0", f"--user-service=SQLiteUserService:{base}"]
        words += [f"--key-file={top / 'server_key.pem'}"]
        words += ["--allow-root"] if os.geteuid() == 0 else []
        argv = [*drivers.command("pysftpremo"), "serve", *words]
        pid = started(argv, log, r"listening on \S+:\d+/", stack)
        port = port_in(log)
        (top / "files").mkdir()

        def begin() -> Session:
            keys = {"key": top / f"{USER}_key.pem", "server_key": top / "server.pem"}
            client = connect(HOST, port, user=USER, require_numbered=True, **keys)
            return Remo(client, str(top / "files"))

        yield Door(lambda: (pid,), begin)


# --- SK Sync, whose sessions are syncs ----------------------------------------------------------------------


class Syncing:
    """A pysksync server with TLS and a user, and a client that syncs a directory with it."""

    def __init__(self, top: Path, stack: contextlib.ExitStack) -> None:
        self._top = top
        self.here, self.there = top / "here", top / "shared" / "there"
        self.here.mkdir()
        self.there.mkdir(parents=True)
        pair = ["--cert", str(top / "cert.pem"), "--key", str(top / "key.pem")]
        drivers.timed([*drivers.command("pysksync"), "make-cert", *pair])
        tls = {"use_ssl": True, "ssl_server_certfile": pair[1], "ssl_server_keyfile": pair[3]}
        server = top / "server.json"
        keys = {"host": HOST, "port": 0, "server_root": str(top / "shared"), "require_auth": True, **tls}
        server.touch(0o600)
        server.write_text(json.dumps(keys))
        (top / "password").write_text(PASSWORD + "\n")
        words = ["users", "add", USER, "--config", str(server), "--password-file", str(top / "password")]
        drivers.timed([*drivers.command("pysksync"), *words])
        log = top / "sksync.log"
        argv = [*drivers.command("pysksync"), *(["--allow-root"] if os.geteuid() == 0 else []), str(server)]
        self.pid = started(argv, log, r"listening on \S+ port \d+", stack)
        sync = {"server_path": "/there", "client_path": str(self.here), "recursive": True}
        mine: Mapping[str, Any] = {
            "host": HOST,
            "port": port_in(log),
            "username": USER,
            "password": PASSWORD,
            "protocol": "pysksync 2",
            **tls,
        }
        self._configs = {}
        for direction in ("from", "to"):
            self._configs[direction] = config = top / f"{direction}.json"
            config.touch(0o600)
            each = {**sync, "sync_type": f"{direction}_server_use_time"}
            config.write_text(json.dumps({**mine, "client": each}))

    def sync(self, direction: str) -> None:
        """Sync "from" or "to" the server. The client is a program."""
        argv = [*drivers.command("pysksync"), str(self._configs[direction]), "client", "client"]
        drivers.timed(argv)
