"""A database server of one's own, for trying out and for tests: SecantusDB, as a process on loopback.

It speaks MongoDB's protocol and keeps its data in a directory. It is not for anything that matters: whoever
is on this host can connect to it, without a password. What may not enter: storages, doors, commands.
Facts: SecantusDB's own help (python -m secantus --help), prctl(2).
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import signal
import subprocess
import sys
import time

from pysftpserver.failures import missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

LOOPBACK = "127.0.0.1"
PATIENCE = 60.0  # seconds for a start, and for an end, that take less than one on an idle machine
PAUSE = 0.02  # seconds between two looks at whether it has started
PR_SET_PDEATHSIG = 1
LOG, CONFIG = "secantus.log", "secantusd.toml"  # in its directory, beside the data
_LISTENS = re.compile(rb"secantus listening on [0-9.]+:(\d+)")


class EmbeddedFailed(Exception):
    """The server cannot be started. The text is one line, and says what to do where that is known."""


class EmbeddedMissing(EmbeddedFailed):
    """It is not installed."""


class EmbeddedMongo:
    """A server whose data is in a directory, from its making until stop(). A context manager.

    options: more of SecantusDB's own, such as --enable-test-commands. port: where it listens. It ends when
    the process that made it does, however that ends. Raises EmbeddedFailed.
    """

    def __init__(self, directory: str | os.PathLike[str], *options: str) -> None:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        log = os.path.join(directory, LOG)
        config = os.path.join(directory, CONFIG)
        with open(config, "wb"):
            pass  # empty: with none, it would take one that it finds elsewhere
        command = [sys.executable, "-m", "secantus", "--config", config, "--host", LOOPBACK, "--port", "0"]
        command += ["--storage-path", os.path.join(directory, "data"), "--log-level", "INFO"]
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=functools.partial(_end_with, os.getpid()),
                process_group=0,  # Ctrl-C on a terminal is not for it
            )
        try:
            self.port = self._wait_for_its_port(log)
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> EmbeddedMongo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End it; its data stays. May be called again."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _wait_for_its_port(self, log: str) -> int:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            has_ended = self._process.poll() is not None
            with open(log, "rb") as lines:
                said = lines.read()
            listens = _LISTENS.search(said)
            if listens:
                return int(listens[1])
            if has_ended:
                raise _failure(said)
            time.sleep(PAUSE)
        raise EmbeddedFailed(f"SecantusDB has not started within {PATIENCE:g} seconds")


def _failure(said: bytes) -> EmbeddedFailed:
    """Why a server ended at once: what it said last."""
    if b"No module named secantus" in said:
        return EmbeddedMissing(missing("SecantusDB", "embedded").message)
    last = said.strip().rpartition(b"\n")[2].decode(errors="replace")
    return EmbeddedFailed(f"SecantusDB does not start: {last or 'it said nothing'}")


def _end_with(parent: int) -> None:
    """In the new process: whoever is killed cannot stop it any more."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)  # that was too late to be told
