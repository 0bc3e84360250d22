"""Where the server's log goes: lines of text or JSON, and a new file after so many bytes.

Several processes may write to one file: lines are appended whole, and whoever finds the file too long
moves it away, which the others notice. What may not enter: what the lines say.
"""

from __future__ import annotations

import fcntl
import json
import os
import time

from pysftpserver.engine.log import DEBUG1, ERROR, FATAL, INFO, VERBOSE, open_for_appending

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.engine.log import Sink

NAMES = {FATAL: "fatal", ERROR: "error", INFO: "info", VERBOSE: "verbose"}


class LogFile:
    """A file that lines are appended to. most: bytes, after which a new one begins; None: never. keep: old
    ones.
    """

    def __init__(self, path: str, most: int | None = None, keep: int = 5) -> None:
        self._path = path
        self._most = most
        self._keep = keep
        self._descriptor = open_for_appending(path)

    def append(self, line: bytes) -> None:
        """Append a line. Raises OSError."""
        if not self._is_current():
            self.reopen()
        if self._most is not None and os.fstat(self._descriptor).st_size + len(line) > self._most:
            self._begin_anew()
        os.write(self._descriptor, line)

    def reopen(self) -> None:
        """Go on in the file that has the name now."""
        before, self._descriptor = self._descriptor, open_for_appending(self._path)
        os.close(before)

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def _begin_anew(self) -> None:
        full = self._descriptor
        fcntl.flock(full, fcntl.LOCK_EX)  # released by the close in reopen()
        if self._is_current():  # and no other process was faster
            for number in range(self._keep - 1, 0, -1):
                _move(f"{self._path}.{number}", f"{self._path}.{number + 1}")
            _move(self._path, f"{self._path}.1")
        self.reopen()


def _move(old: str, new: str) -> None:
    try:
        os.replace(old, new)
    except FileNotFoundError:
        pass


def plain(level: int, text: str) -> str:
    """A line of text."""
    moment = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    word = "" if level in (INFO, VERBOSE) else f"{NAMES.get(level, 'debug')}: "
    return f"{stamp}.{int(moment % 1 * 1000):03d}Z pysftpd[{os.getpid()}] {word}{text}"


def as_json(level: int, text: str) -> str:
    """The same as a JSON object. time: seconds since the epoch."""
    name = NAMES.get(level, "debug") if level < DEBUG1 else "debug"
    return json.dumps({"time": round(time.time(), 3), "process": os.getpid(), "level": name, "message": text})


def sink(file: LogFile | None, is_json: bool) -> Sink:
    """Writes to a file, or without one to standard error."""
    form = as_json if is_json else plain

    def write(level: int, text: str) -> None:
        line = form(level, text).encode("ascii", "backslashreplace") + b"\n"
        try:
            if file is None:
                os.write(2, line)
            else:
                file.append(line)
        except OSError:
            pass  # a log that cannot be written must not end the server

    return write
