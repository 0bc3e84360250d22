"""The sides of the rows for short sessions: a resident, an sshd, and the command lines that they start."""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bench import drivers
from bench.warm import Sizes
from tests.integration.sshd import TARGET, Sshd, Way

REFERENCE = ["/usr/lib/openssh/sftp-server"]
VARIABLE = "PYSFTP_WARM"
APART = 0.05  # seconds between two starts, in which the resident prepares, as it can between real ones


@contextlib.contextmanager
def started(top: Path, sizes: Sizes) -> Iterator[Sides]:
    """Yield the sides, with the resident and sshd running."""
    with contextlib.ExitStack() as stack:
        yield Sides(top, sizes, stack)


class Sides:
    """Servers are called "" (sftp-server), "alone" and "with" (pysftpjail without and with the resident)."""

    def __init__(self, top: Path, sizes: Sizes, stack: contextlib.ExitStack) -> None:
        self.sizes = sizes
        self._jail = top / "jail"
        self._jail.mkdir()
        socket = top / "run" / "socket"
        self._places = {"": "", "alone": "", "with": str(socket)}
        resident = subprocess.Popen(
            [*drivers.command("pysftp-warm"), "--socket", str(socket), "--logfile", str(top / "log")],
            stdin=subprocess.DEVNULL,
        )
        stack.callback(resident.wait)
        stack.callback(resident.terminate)
        (top / "sshd").mkdir(mode=0o700)
        self._sshd = Sshd(top / "sshd", Way.AUTHORIZED_KEYS, REFERENCE)
        self._sshd.start()
        stack.callback(self._sshd.stop)
        deadline = time.monotonic() + 30
        while not socket.exists():
            if resident.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("pysftp-warm does not start")
            time.sleep(0.05)

    def _argv(self, server: str, flags: str = "-IS") -> list[str]:
        if not server:
            return REFERENCE
        script = str(drivers.CHECKOUT / "bin" / "pysftpjail")
        python = [sys.executable, *([flags] if flags else [])]
        return [*python, script, "--log-level", "ERROR", str(self._jail)]

    def first_reply(self, server: str, flags: str = "") -> float:
        """Return the seconds from starting a server to its first reply: the median of several."""
        os.environ[VARIABLE] = self._places[server]
        taken = []
        for _ in range(self.sizes.starts):
            time.sleep(APART)
            taken.append(drivers.session_start(self._argv(server, flags)))
        del os.environ[VARIABLE]
        return statistics.median(taken)

    def sessions(self, server: str) -> float:
        """Return the seconds for many short sessions through sshd, with their logins."""
        self._sshd.serve([f"{VARIABLE}={self._places[server]}", *self._argv(server)])
        began = time.perf_counter()
        with ThreadPoolExecutor(self.sizes.at_once) as threads:
            for _ in threads.map(self._session, range(self.sizes.sessions)):
                pass
        return time.perf_counter() - began

    def _session(self, _: int) -> None:
        drivers.sftp_over_ssh(self._sshd.ssh_config, TARGET, "pwd\n")
