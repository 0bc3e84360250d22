"""Both sides of the rows on what is stored: our commands as they are, and with bench/unsynced.py.

All files are on a disk. Before the clock starts, everything that earlier runs have left to write is written.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from bench import drivers, remo, remo_sides, sksync, sksync_sides
from bench.stored import Sizes
from pysftpserver.laboratory import client

PASSWORD = "bench"
PIECE = 30_000  # bytes in one message


@contextlib.contextmanager
def started(top: Path, sizes: Sizes) -> Iterator[Sides]:
    """Yield the sides, with all servers running."""
    with contextlib.ExitStack() as stack:
        yield Sides(top, sizes, stack)


class Sides:
    """Each server twice: one that syncs, and one that does not."""

    def __init__(self, top: Path, sizes: Sizes, stack: contextlib.ExitStack) -> None:
        self.sizes = sizes
        self.local = top / "local"
        self.local.mkdir()
        for number in range(sizes.files):
            (self.local / f"file {number}").write_bytes(os.urandom(sizes.each))
        self._sync: dict[bool, sksync_sides.Sides] = {}
        self._remo: dict[bool, remo_sides.Sides] = {}
        self._messages: dict[bool, client.Connection] = {}
        self._served: dict[bool, Path] = {}
        for synced in (False, True):
            place = top / ("synced" if synced else "not synced")
            for name in ("sksync", "remo", "served"):
                (place / name).mkdir(parents=True)
            self._served[synced] = place / "served"
            small = sksync.Sizes(files=sizes.synced, each=sizes.each)
            command = self._command(synced)
            self._sync[synced] = stack.enter_context(sksync_sides.started(place / "sksync", small, command))
            self._remo[synced] = stack.enter_context(
                remo_sides.started(place / "remo", remo.Sizes(), command)
            )
            self._messages[synced] = self._connect(synced, place, stack)

    def _command(self, synced: bool) -> drivers.Command:
        return drivers.command if synced else drivers.unsynced_command

    def _connect(self, synced: bool, place: Path, stack: contextlib.ExitStack) -> client.Connection:
        """Start a message server with Files; return a connection to it."""
        argv = [*self._command(synced)("pysftplab"), "serve", "--allow-root", "--port", "0"]
        argv += ["--files", f"jail:{self._served[synced]}", "--logfile", str(place / "log")]
        argv += ["--service", "files"]
        environment = {**os.environ, "PYSFTPLAB_PASSWORD": PASSWORD}
        process = subprocess.Popen(argv, env=environment)
        stack.callback(_end, process)
        deadline = time.monotonic() + 30
        log = place / "log"
        while not (
            found := re.search(r"listening on \S+ port (\d+)", log.read_text() if log.exists() else "")
        ):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("pysftplab did not start")
            time.sleep(0.01)
        port = int(found[1])
        return stack.enter_context(client.connect("127.0.0.1", port, password=PASSWORD, name="bench"))

    def measure(self, door: str, synced: bool, *words: str) -> float:
        """Return the seconds that a method below takes."""
        which = "new"
        if door != "sksync":
            which = words[1] if len(words) > 1 else which
            for path in self._served[synced].iterdir():
                path.unlink()
            if which == "replaced":
                shutil.copytree(self.local, self._served[synced], dirs_exist_ok=True)
        os.sync()
        seconds: float = getattr(self, door)(synced, *words)
        if door != "sksync" and len(os.listdir(self._served[synced])) != self.sizes.files:
            raise RuntimeError("not all files were stored")
        return seconds

    def sksync(self, synced: bool, direction: str) -> float:
        return self._sync[synced].synced("small", direction, "plain")

    def remo(self, synced: bool) -> float:
        return self._remo[synced].put_each(self.local, self._served[synced])

    def messages(self, synced: bool) -> float:
        connection = self._messages[synced]
        began = time.perf_counter()
        for path in self.local.iterdir():
            connection.send(f"put /{path.name}")
            content = path.read_bytes()
            for at in range(0, len(content), PIECE):
                connection.send(f"data {base64.b64encode(content[at : at + PIECE]).decode()}")
            connection.send("end")
            for wanted in ("ready", "stored"):
                said = connection.receive(60)
                if not said.startswith(wanted):
                    raise RuntimeError(said)
        return time.perf_counter() - began

    def sftp(self, synced: bool, options: str, which: str) -> float:
        served = str(self._served[synced])
        server = [*self._command(synced)("pysftpjail"), "--log-level", "ERROR", *options.split(), served]
        puts = (f"put {shlex.quote(str(path))} {shlex.quote(path.name)}\n" for path in self.local.iterdir())
        return drivers.sftp(server, "".join(puts))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait()
