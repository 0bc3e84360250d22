"""Runs SecantusDB as a process on loopback: a database server for trials and tests.

It speaks MongoDB's protocol and keeps its data in a directory. Do not use it for real data: every user of the
host can connect to it, without a password. What may not enter: storages, doors, commands.
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
PATIENCE = 60.0  # seconds to wait for a start or a stop, which take less than one on an idle machine
PAUSE = 0.02  # seconds between two checks whether it has started
PR_SET_PDEATHSIG = 1
LOG, CONFIG = "secantus.log", "secantusd.toml"  # in its directory, next to the data
_LISTENS = re.compile(rb"secantus listening on [0-9.]+:(\d+)")


class EmbeddedFailed(Exception):
    """The server cannot be started. The text is one line with the reason, and what to do if that is known."""


class EmbeddedMissing(EmbeddedFailed):
    """SecantusDB is not installed."""


class EmbeddedMongo:
    """A server with its data in a directory, running from construction until stop(). A context manager.

    options: further options of SecantusDB, such as --enable-test-commands. The attribute port is where it
    listens. It is terminated when the process that started it ends, even if that is killed. Raises
    EmbeddedFailed if it does not start.
    """

    def __init__(self, directory: str | os.PathLike[str], *options: str) -> None:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        log = os.path.join(directory, LOG)
        config = os.path.join(directory, CONFIG)
        with open(config, "wb"):
            pass  # an empty file: without one, it would search for another
        command = [sys.executable, "-m", "secantus", "--config", config, "--host", LOOPBACK, "--port", "0"]
        command += ["--storage-path", os.path.join(directory, "data"), "--log-level", "INFO"]
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=functools.partial(_end_with, os.getpid()),
                process_group=0,  # so that Ctrl-C on a terminal does not reach it
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
        """Stop the server and keep its data. May be called again."""
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
    """Return the exception for a server that ended at once, with the last line that it printed."""
    if b"No module named secantus" in said:
        return EmbeddedMissing(missing("SecantusDB", "embedded").message)
    last = said.strip().rpartition(b"\n")[2].decode(errors="replace")
    return EmbeddedFailed(f"SecantusDB does not start: {last or 'it printed nothing'}")


def _end_with(parent: int) -> None:
    """Run in the new process: get a signal when the parent ends, which cannot call stop() if it is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)  # the parent had ended before prctl() took effect
