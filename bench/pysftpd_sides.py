"""Both sides of the rows on the standalone server: OpenSSH's client with one server or the other.

All servers are running. The time of a client includes its start and its login.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import asyncssh

from bench import drivers
from bench.pysftpd import Sizes
from bench.rows import random_file
from pysftpserver.service.admin_client import ask, found
from pysftpserver.sshd.forkserver import SESSION
from tests.integration.sshd import TARGET, Sshd, Way
from tests.support.packets import HELLO, MAX_DATA, NO_ATTRS, request, string, u32, u64
from tests.support.processes import descendants

USER = "bench"
CIPHER = ("-o", "Ciphers=aes128-gcm@openssh.com")
AT_ONCE = 50  # simultaneous logins of the program that holds idle sessions
OURS = ("pysftpd", "two workers", "in threads")
TICKS = os.sysconf("SC_CLK_TCK")  # in a second
PIECE = 200_000  # bytes that each working session writes and reads


@dataclass(frozen=True)
class Idle:
    """Bytes of memory with many idle sessions, once all have begun and once all are at rest; seconds that
    some of them then take for work at the same time.
    """

    begun: int
    resting: int
    seconds: float


@dataclass(frozen=True)
class Taken:
    """Seconds that passed, and seconds of processor time: of all processes of a server, and the busiest."""

    seconds: float
    processor: float
    busiest: float


@contextlib.contextmanager
def started(top: Path, sizes: Sizes) -> Iterator[Sides]:
    """Yield the sides, with all servers running."""
    with contextlib.ExitStack() as stack:
        yield Sides(top, sizes, stack)


class Sides:
    """The servers by name, and the work that is measured on them."""

    def __init__(
        self, top: Path, sizes: Sizes, stack: contextlib.ExitStack, names: Sequence[str] = OURS
    ) -> None:
        self.top = top
        self.sizes = sizes
        (top / "sshd").mkdir(mode=0o700)
        (top / USER).mkdir(mode=0o700)
        self.sshd = Sshd(top / "sshd", Way.SUBSYSTEM, ["internal-sftp"])
        self.sshd.start()
        stack.callback(self.sshd.stop)
        self.key = top / "key"
        drivers.timed(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)])
        users = top / "users.toml"
        users.write_text(f'[users.{USER}]\nkeys = ["{self.key.with_suffix(".pub").read_text().strip()}"]\n')
        users.chmod(0o600)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        how = {"pysftpd": {}, "two workers": {"workers": 2}, "in threads": {"isolation": "thread"}}
        self.ports = {name: self._start(name, stack, **how[name]) for name in names}

    def _start(
        self, name: str, stack: contextlib.ExitStack, workers: int = 1, isolation: str = "process"
    ) -> int:
        """Start one of our servers; return its port."""
        log = self.top / f"{name}.log"
        options = {
            "sftp-port": 0,
            "listen-address": "127.0.0.1",
            "sftp-path": self.top,
            "users": self.top / "users.toml",
            "host-key-dir": self.top / "keys",
            "workers": workers,
            "isolation": isolation,
            "session-idle": self.sizes.rest,
            "max-connections": self.sizes.idle + 100,
            "max-per-user": self.sizes.idle + 100,
            "admin-socket": self.top / f"{name.replace(' ', '-')}.admin",
            "max-sessions": 2 * (self.sizes.idle + 100),  # one user may have half of them
        }
        words = [f"--{option}={value}" for option, value in options.items()]
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [*drivers.command("pysftpd"), *words, "--allow-root"], stderr=errors, stdin=subprocess.DEVNULL
            )
        self.processes[name] = process
        stack.callback(_end, process)
        deadline = time.monotonic() + 30
        while log.read_text().count(" ready\n") < workers:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"pysftpd did not start: {log.read_text()[-500:]}")
            time.sleep(0.05)
        found = re.search(r"listening on \S+ port (\d+)", log.read_text())
        if found is None:
            raise RuntimeError("pysftpd names no port")
        return int(found[1])

    def _sftp(self, server: str, commands: str) -> float:
        """Return the seconds that OpenSSH's client takes for a batch."""
        if server == "sshd":
            return drivers.sftp_over_ssh(self.sshd.ssh_config, TARGET, commands, CIPHER)
        nothing = ("-F", "none", "-i", str(self.key), "-P", str(self.ports[server]))
        trusting = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-q")
        argv = ["sftp", *nothing, *trusting, *CIPHER, "-b", "-", f"{USER}@127.0.0.1"]
        return drivers.timed(argv, commands)

    def _there(self, server: str) -> Path:
        """Return the path of the folder that both servers have, as the client has to write it."""
        return self.top / USER if server == "sshd" else Path("/")

    def _big(self, size: int) -> Path:
        (self.top / USER).mkdir(exist_ok=True)
        return random_file(self.top / USER / f"file-{size}", size)

    # --- what is timed ------------------------------------------------------------------------------------

    def transfer(self, server: str, verb: str) -> float:
        """Get a file to /dev/null, or put it repeatedly to one name."""
        big = self._big(self.sizes.transfer)
        if verb == "get":
            return self._sftp(server, f"get {self._there(server) / big.name} /dev/null\n")
        return self._sftp(server, f"put {big} {self._there(server) / 'uploaded'}\n")

    def logins(self, server: str) -> float:
        """Log in many times, four at a time."""
        with ThreadPoolExecutor(4) as pool:
            began = time.perf_counter()
            list(pool.map(lambda _: self._sftp(server, "pwd\n"), range(self.sizes.logins)))
            return time.perf_counter() - began

    def at_once(self, server: str) -> float:
        """Run several clients, each of which gets a file."""
        big = self._big(self.sizes.part)
        commands = f"get /{big.name} /dev/null\n"
        with ThreadPoolExecutor(self.sizes.clients) as pool:
            began = time.perf_counter()
            list(pool.map(lambda _: self._sftp(server, commands), range(self.sizes.clients)))
            return time.perf_counter() - began

    def for_nothing(self, server: str) -> Taken:
        """Have several clients get a file. Their requests were encrypted before, the kernel discards what
        they receive, and each process of the server has the same number of them.
        """
        return asyncio.run(self._for_nothing(server))

    async def _for_nothing(self, server: str) -> Taken:
        big = self._big(self.sizes.part)
        process = self.processes[server].pid
        admin = found(str(self.top / f"{server.replace(' ', '-')}.admin"))
        each = self.sizes.clients // len(admin)
        connections: list[asyncssh.SSHClientConnection] = []
        requests = []
        try:
            while len(connections) < self.sizes.clients:
                connection = await self._connect(server)
                answers = [await asyncio.to_thread(ask, path, {"ask": "sessions"}) for path in admin]
                if max(len(answer["sessions"]) for answer in answers) > each:
                    connection.abort()
                    await connection.wait_closed()
                    continue
                connections.append(connection)
                requests.append(await _prepared(connection, f"/{big.name}", self.sizes.part))
            before = _processor(process)
            with ThreadPoolExecutor(self.sizes.clients) as pool:
                began = time.perf_counter()
                list(pool.map(_drain, connections, requests, [self.sizes.part] * len(requests)))
                seconds = time.perf_counter() - began
            used = _processor(process) - before
            return Taken(seconds, used.total() / TICKS, max(used.values()) / TICKS)
        finally:
            for connection in connections:
                connection.abort()

    async def _connect(self, server: str) -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(
            "127.0.0.1",
            self.ports[server],
            username=USER,
            client_keys=[str(self.key)],
            known_hosts=None,
            config=None,
            agent_path=None,
            encryption_algs=["aes128-gcm@openssh.com"],
        )

    def idle(self, server: str) -> Idle:
        """Measure a server with many idle sessions. Raises the error of a session that fails."""
        return asyncio.run(self._idle(server))

    async def _idle(self, server: str) -> Idle:
        is_sshd = server == "sshd"
        key = asyncssh.read_private_key(str(self.sshd.client_key if is_sshd else self.key))
        port, user = (self.sshd.port, self.sshd.user) if is_sshd else (self.ports[server], USER)
        process = self.sshd.pid if is_sshd else self.processes[server].pid
        some = asyncio.Semaphore(AT_ONCE)
        sessions: list[asyncssh.SFTPClient] = []
        connections: list[asyncssh.SSHClientConnection] = []

        async def log_in() -> None:
            async with some:
                connection = await asyncssh.connect(
                    "127.0.0.1",
                    port,
                    username=user,
                    client_keys=[key],
                    known_hosts=None,
                    config=None,
                    agent_path=None,
                )
                connections.append(connection)
                sessions.append(await connection.start_sftp_client())

        async def work(session: asyncssh.SFTPClient, number: int) -> None:
            name = str(self._there(server) / f"working-{number}")
            async with session.open(name, "wb") as file:
                await file.write(b"x" * PIECE)
            async with session.open(name, "rb") as file:
                if len(await file.read()) != PIECE:
                    raise RuntimeError("a session read something else than it wrote")
            await session.remove(name)

        try:
            await asyncio.gather(*(log_in() for _ in range(self.sizes.idle)))
            begun = _memory(process)
            while any(name.startswith(SESSION) for _, name, _ in descendants(process)):
                await asyncio.sleep(1)
            resting = _memory(process)
            began = time.perf_counter()
            chosen = enumerate(sessions[: self.sizes.working])
            await asyncio.gather(*(work(session, number) for number, session in chosen))
            return Idle(begun, resting, time.perf_counter() - began)
        finally:
            for connection in connections:
                connection.abort()


async def _prepared(connection: asyncssh.SSHClientConnection, path: str, size: int) -> bytes:
    """Open a file; return all requests that read it, encrypted as they have to be sent."""
    writer, reader, _ = await connection.open_session("", subsystem="sftp", encoding=None, window=1 << 30)
    writer.write(HELLO + request("open", 1, string(path.encode()), u32(1), NO_ATTRS))
    for _ in range(2):
        await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
    transport = connection._transport
    transport.pause_reading()
    sent: list[bytes] = []
    send, transport.write = transport.write, sent.append
    for offset in range(0, size, MAX_DATA):
        span = u64(offset) + u32(min(MAX_DATA, size - offset))
        writer.write(request("read", 2, string(u32(1)), span))
    transport.write = send
    return b"".join(sent)


def _drain(connection: asyncssh.SSHClientConnection, requests: bytes, size: int) -> None:
    """In a thread: send requests, and discard as many bytes as they ask for."""
    with socket.socket(fileno=os.dup(connection.get_extra_info("socket").fileno())) as sock:
        sock.settimeout(60)
        sock.sendall(requests)
        room = bytearray(1 << 20)
        while size > 0:
            count = sock.recv_into(room, 0, socket.MSG_TRUNC)
            if not count:
                raise RuntimeError("the server has closed the connection")
            size -= count


def _processor(process: int) -> Counter[int]:
    """Processor time of a process and of each that it has started, in TICKS."""
    found: Counter[int] = Counter()
    for pid in (process, *(pid for pid, _, _ in descendants(process))):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found[pid] = int(fields[11]) + int(fields[12])
    return found


def _memory(process: int) -> int:
    """Bytes of memory of a process and all that it has started, each with its share of shared memory."""
    total = 0
    for pid in (process, *(pid for pid, _, _ in descendants(process))):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
