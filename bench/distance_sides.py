"""Both sides of the rows over a distance: OpenSSH's client, a proxy that delays, and one of three servers.

All servers and proxies are running. The time of a client includes its start and its login, which takes about
six round trips.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench import drivers, pysftpd_sides
from bench.distance import Sizes
from bench.pysftpd import Sizes as Idle
from bench.rows import Material
from tests.objects.stores import rclone
from tests.support.ports import free_port

LOOPBACK = "127.0.0.1"
QUIET = ("-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-q")


@contextlib.contextmanager
def started(top: Path, sizes: Sizes) -> Iterator[Sides]:
    """Yield the sides, with all servers running."""
    with contextlib.ExitStack() as stack:
        yield Sides(top, sizes, stack)


class Sides:
    """The servers by name, and ways to reach them by round-trip time in milliseconds."""

    def __init__(self, top: Path, sizes: Sizes, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._material = Material(top)
        self._small = self._material.small_files(self._material.local / "small", sizes.files)
        there = pysftpd_sides.Sides(top, Idle(idle=1), stack, ["pysftpd"])
        self._folder = top / pysftpd_sides.USER
        self._material.small_files(self._folder / "small", sizes.files)
        self._key = there.key
        self._users = {"sshd": there.sshd.user, "pysftpd": pysftpd_sides.USER, "rclone": "rclone"}
        self._keys = {"sshd": there.sshd.client_key, "pysftpd": there.key, "rclone": there.key}
        self._ports = {"sshd": there.sshd.port, **there.ports, "rclone": self._rclone(top)}
        self._delayed: dict[tuple[str, int], int] = {}

    def _rclone(self, top: Path) -> int:
        """Start rclone's server in the same folder; return its port."""
        port = free_port()
        words = ["--addr", f"{LOOPBACK}:{port}", "--authorized-keys", str(self._key.with_suffix(".pub"))]
        words += ["--cache-dir", str(top / "rclone"), "--dir-cache-time", "0s", str(self._folder)]
        process = self._start([rclone(), "--config", os.devnull, "serve", "sftp", *words])
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, port)):
                return port
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("rclone serve sftp does not start")
            time.sleep(0.05)

    def _start(self, argv: list[str]) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def _port(self, server: str, trip: int | None) -> int:
        """Return the port that leads to a server, directly or with a delay."""
        if trip is None:
            return self._ports[server]
        if (server, trip) not in self._delayed:
            words = [str(self._ports[server]), str(trip / 2000)]
            process = self._start([sys.executable, "-m", "bench.delay", *words])
            assert process.stdout is not None
            self._delayed[server, trip] = int(process.stdout.readline())
        return self._delayed[server, trip]

    def measure(self, server: str, trip: int | None, verb: str, amount: int) -> float:
        """Return the seconds for a get or a put of a file, or of the small ones.

        trip: milliseconds of a round trip; None: without a proxy. amount: bytes, or number of small files.
        """
        place = self._folder if server == "sshd" else Path("/")
        is_small = amount < 1 << 20
        big = self._material.big(0 if is_small else amount)
        fresh = self._material.fresh("fresh")
        uploaded = self._folder / "uploaded"
        shutil.rmtree(uploaded, ignore_errors=True)
        uploaded.mkdir()
        if not is_small and verb == "get":
            with contextlib.suppress(FileExistsError):
                os.link(big, self._folder / big.name)
        commands = {
            ("get", False): f"get {place / big.name} {fresh}/big",
            ("put", False): f"put {big} {place}/uploaded/big",
            ("get", True): f"get -r {place}/small {fresh}",
            ("put", True): f"put -r {self._small} {place}/uploaded",
        }[verb, is_small]
        words = ["-i", str(self._keys[server]), "-P", str(self._port(server, trip)), *pysftpd_sides.CIPHER]
        argv = ["sftp", *QUIET, *words, "-b", "-", f"{self._users[server]}@{LOOPBACK}"]
        seconds = drivers.timed(argv, commands + "\n")
        arrived = (fresh if verb == "get" else uploaded) / ("small" if is_small else "big")
        found = len(list(arrived.iterdir())) if is_small else arrived.stat().st_size
        if found != amount:
            raise RuntimeError(f"{found} of {amount} have arrived")
        return seconds
