"""Both sides of the rows on remote administration: a client in this process and a server in another one.

The server is running and the client has logged in. Fernet alone is measured with tokens of the same size.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography.fernet import Fernet

from bench import drivers
from bench.remo import Sizes
from bench.rows import random_file
from pysftpserver.remo.client import Client, connect
from pysftpserver.remo.wire import data_size

USER = "bench"
PARTS = 8  # puts to one name


class Nowhere:
    """A target for gets that discards everything."""

    def write(self, data: bytes) -> int:
        return len(data)


@contextlib.contextmanager
def started(top: Path, sizes: Sizes, command: drivers.Command = drivers.command) -> Iterator[Sides]:
    """Yield the sides, with the server running. command: as drivers.command()."""
    with contextlib.ExitStack() as stack:
        yield Sides(top, sizes, stack, command)


class Sides:
    """The server, and the work that is measured on it."""

    def __init__(
        self, top: Path, sizes: Sizes, stack: contextlib.ExitStack, command: drivers.Command
    ) -> None:
        self.top = top
        self._command = command
        self.sizes = sizes
        base = str(top / "users.sqlite")
        for prefix in ("server", USER):
            self._run("keygen", "--no-passphrase", prefix, str(top))
        self._run("adduser", "--base", base, USER, str(top / f"{USER}.pem"))
        self.process, port = self._start(base, stack)
        self._remote: Client = stack.enter_context(
            connect(
                "127.0.0.1",
                port,
                user=USER,
                key=top / f"{USER}_key.pem",
                server_key=top / "server.pem",
                require_numbered=True,
            )
        )

    def _run(self, *words: str) -> None:
        drivers.timed([*drivers.command("pysftpremo"), *words])

    def _start(self, base: str, stack: contextlib.ExitStack) -> tuple[subprocess.Popen[bytes], int]:
        log = self.top / "server.log"
        words = ["--port=0", f"--user-service=SQLiteUserService:{base}"]
        words += [f"--key-file={self.top / 'server_key.pem'}"]
        with log.open("wb") as errors:
            process = subprocess.Popen(
                [*self._command("pysftpremo"), "serve", "--allow-root", *words],
                stderr=errors,
                stdin=subprocess.DEVNULL,
            )
        stack.callback(_end, process)
        deadline = time.monotonic() + 30
        while not (found := re.search(r"listening on \S+:(\d+)/", log.read_text())):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"pysftpremo did not start: {log.read_text()[-500:]}")
            time.sleep(0.05)
        return process, int(found[1])

    # --- what is timed ------------------------------------------------------------------------------------

    def fernet(self) -> float:
        """Return the seconds to encrypt or to decrypt all tokens of a transfer, whichever takes longer: each
        side does one of them.
        """
        fernet = Fernet(Fernet.generate_key())
        data = os.urandom(data_size(self.sizes.transfer))
        token = fernet.encrypt(data)
        count = self.sizes.transfer // len(data)
        taken = []
        for work, given in ((fernet.encrypt, data), (fernet.decrypt, token)):
            began = time.perf_counter()
            for _ in range(count):
                work(given)
            taken.append(time.perf_counter() - began)
        return max(taken)

    def transfer(self, verb: str) -> float:
        """Get a file and discard it, or put a smaller one repeatedly to one name: a put in one piece would
        measure how fast this host allocates new memory in the tmpfs.
        """
        big = random_file(self.top / "big", self.sizes.transfer)
        part = random_file(self.top / "part", self.sizes.transfer // PARTS)
        began = time.perf_counter()
        if verb == "get":
            if self._remote.get(str(big), Nowhere()) != self.sizes.transfer:
                raise RuntimeError("the get was not whole")
        else:
            for _ in range(PARTS):
                with part.open("rb") as source:
                    self._remote.put(source, str(self.top / "stored"), part.stat().st_size)
        return time.perf_counter() - began

    def put_each(self, local: Path, target: Path) -> float:
        """Put all files of a directory into another one, one after the other."""
        began = time.perf_counter()
        for path in local.iterdir():
            with path.open("rb") as source:
                self._remote.put(source, str(target / path.name), path.stat().st_size)
        return time.perf_counter() - began

    def commands_here(self) -> float:
        """Run the same commands without a protocol, on the same processor."""
        with self._on_one_processor():
            began = time.perf_counter()
            for _ in range(self.sizes.commands):
                subprocess.run(["true"], stdin=subprocess.DEVNULL, capture_output=True, check=True)
            return time.perf_counter() - began

    def commands_there(self) -> float:
        """Run one command after the other, with its output and its status."""
        with self._on_one_processor():
            began = time.perf_counter()
            for _ in range(self.sizes.commands):
                if self._remote.run("true").status != 0:
                    raise RuntimeError("a command failed")
            return time.perf_counter() - began

    @contextlib.contextmanager
    def _on_one_processor(self) -> Iterator[None]:
        """Restrict this process and all threads of the server to one processor."""
        tasks = [0, *map(int, os.listdir(f"/proc/{self.process.pid}/task"))]
        before = os.sched_getaffinity(0)
        for task in tasks:
            os.sched_setaffinity(task, {min(before)})
        try:
            yield
        finally:
            for task in tasks:
                os.sched_setaffinity(task, before)

    def growth(self) -> int:
        """Return the peak of the server's resident memory (bytes) minus that of the idle server."""
        place = Path(f"/proc/{self.process.pid}")
        status = place / "status"
        (place / "clear_refs").write_text("5")  # resets the peak
        before = _field(status, "VmRSS")
        for verb in ("get", "put"):
            self.transfer(verb)
        return _field(status, "VmHWM") - before


def _field(status: Path, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", status.read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()
