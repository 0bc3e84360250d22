"""Both sides of the rows on the standalone server: OpenSSH's client with one server or the other.

All servers are running. The time of a client includes its start and its login.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncssh

from bench import drivers
from bench.pysftpd import Sizes
from bench.rows import random_file
from tests.integration.sshd import TARGET, Sshd, Way

USER = "bench"
CIPHER = ("-o", "Ciphers=aes128-gcm@openssh.com")
AT_ONCE = 50  # simultaneous logins of the program that holds idle sessions
PIECE = 200_000  # bytes that each working session writes and reads


@contextlib.contextmanager
def started(top: Path, sizes: Sizes) -> Iterator[Sides]:
    """Yield the sides, with all servers running."""
    with contextlib.ExitStack() as stack:
        yield Sides(top, sizes, stack)


class Sides:
    """The servers by name, and the work that is measured on them."""

    def __init__(self, top: Path, sizes: Sizes, stack: contextlib.ExitStack) -> None:
        self.top = top
        self.sizes = sizes
        (top / "sshd").mkdir(mode=0o700)
        (top / USER).mkdir(mode=0o700)
        self._sshd = Sshd(top / "sshd", Way.SUBSYSTEM, ["internal-sftp"])
        self._sshd.start()
        stack.callback(self._sshd.stop)
        self._key = top / "key"
        drivers.timed(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._key)])
        users = top / "users.toml"
        users.write_text(f'[users.{USER}]\nkeys = ["{self._key.with_suffix(".pub").read_text().strip()}"]\n')
        users.chmod(0o600)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._ports = {
            name: self._start(name, workers, stack) for name, workers in (("pysftpd", 1), ("two workers", 2))
        }

    def _start(self, name: str, workers: int, stack: contextlib.ExitStack) -> int:
        """Start one of our servers; return its port."""
        log = self.top / f"{name}.log"
        options = {
            "sftp-port": 0,
            "listen-address": "127.0.0.1",
            "sftp-path": self.top,
            "users": self.top / "users.toml",
            "host-key-dir": self.top / "keys",
            "workers": workers,
            "max-connections": self.sizes.idle + 100,
            "max-per-user": self.sizes.idle + 100,
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
            return drivers.sftp_over_ssh(self._sshd.ssh_config, TARGET, commands, CIPHER)
        nothing = ("-F", "none", "-i", str(self._key), "-P", str(self._ports[server]))
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

    def idle(self) -> tuple[int, float]:
        """Return (bytes resident in the server with many idle sessions, seconds for some of them to work).

        Raises the error of a session that fails.
        """
        return asyncio.run(self._idle())

    async def _idle(self) -> tuple[int, float]:
        key = asyncssh.read_private_key(str(self._key))
        some = asyncio.Semaphore(AT_ONCE)
        sessions: list[asyncssh.SFTPClient] = []
        connections: list[asyncssh.SSHClientConnection] = []

        async def log_in() -> None:
            async with some:
                connection = await asyncssh.connect(
                    "127.0.0.1",
                    self._ports["pysftpd"],
                    username=USER,
                    client_keys=[key],
                    known_hosts=None,
                    config=None,
                    agent_path=None,
                )
                connections.append(connection)
                sessions.append(await connection.start_sftp_client())

        async def work(session: asyncssh.SFTPClient, number: int) -> None:
            name = f"/working-{number}"
            async with session.open(name, "wb") as file:
                await file.write(b"x" * PIECE)
            async with session.open(name, "rb") as file:
                if len(await file.read()) != PIECE:
                    raise RuntimeError("a session read something else than it wrote")
            await session.remove(name)

        try:
            await asyncio.gather(*(log_in() for _ in range(self.sizes.idle)))
            resident = _resident(self.processes["pysftpd"].pid)
            began = time.perf_counter()
            chosen = enumerate(sessions[: self.sizes.working])
            await asyncio.gather(*(work(session, number) for number, session in chosen))
            return resident, time.perf_counter() - began
        finally:
            for connection in connections:
                connection.abort()


def _resident(process: int) -> int:
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the server has gone")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
