"""The log of a long-running door: plain text or JSON, to standard error or to a file that is rotated.

Several processes and threads may write to one file: each line is appended in one call, and the process that
finds the file too long renames it, which the others notice. Times are UTC. What may not enter: what the
lines say.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from _thread import allocate_lock  # threading would do work in each new process

from pysftpserver.engine.log import DEBUG1, ERROR, FATAL, INFO, LEVELS, VERBOSE, SFTPLog, open_for_appending
from pysftpserver.failures import BadInput
from pysftpserver.host.accounts import own_reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pysftpserver.service.logthread import LogThread
    from pysftpserver.service.settings import LogSettings

MIB = 1 << 20
LAST_LINES = 1.0  # seconds for writing the waiting lines at the end
NAMES = {FATAL: "fatal", ERROR: "error", INFO: "info", VERBOSE: "verbose"}


class LogFile:
    """A log file, made with mode 0600. most: size in bytes at which it is rotated; None: never. keep: number
    of rotated files to keep. Symbolic links (/dev/stdout) and files that are not regular are not rotated.
    Raises OSError when it cannot be opened.
    """

    def __init__(self, path: str, most: int | None = None, keep: int = 5) -> None:
        self._path = path
        self._most = most if is_rotated(path) else None
        self._keep = keep
        self._descriptor = open_for_appending(path)
        self._lock = allocate_lock()

    def append(self, line: bytes) -> int:
        """Append a line; return how many bytes of it could be written. Raises OSError."""
        with self._lock:
            if not self._is_current():
                self._reopen()
            if self._most is not None and os.fstat(self._descriptor).st_size + len(line) > self._most:
                self._begin_anew()
            return os.write(self._descriptor, line)

    def reopen(self) -> None:
        """Reopen the file by its name, which may be another one now. Raises OSError."""
        with self._lock:
            self._reopen()

    def _reopen(self) -> None:
        before, self._descriptor = self._descriptor, open_for_appending(self._path)
        os.close(before)

    def _is_current(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except FileNotFoundError:
            return False

    def _begin_anew(self) -> None:
        with contextlib.suppress(OSError):  # the log goes on in the file that is full
            # Opened again: forked processes share the description that lines are written to, and a lock on
            # that would not exclude any of them.
            locked = open_for_appending(self._path)
            try:
                fcntl.flock(locked, fcntl.LOCK_EX)
                is_full = os.path.samestat(os.fstat(locked), os.fstat(self._descriptor))
                if is_full and self._is_current():  # no other process was faster
                    for number in range(self._keep - 1, 0, -1):
                        _move(f"{self._path}.{number}", f"{self._path}.{number + 1}")
                    _move(self._path, f"{self._path}.1")
                self._reopen()
            finally:
                fcntl.flock(locked, fcntl.LOCK_UN)  # processes forked meanwhile have it open as well
                os.close(locked)


def is_rotated(path: str) -> bool:
    """Whether a log of that name may be renamed."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return True  # it is about to be made


def _move(old: str, new: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.replace(old, new)


def plain(ident: str, level: int, text: str) -> str:
    """A line of text: time, program[process], level unless it is the usual one, and the message."""
    moment = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    word = "" if level in (INFO, VERBOSE) else f"{NAMES.get(level, 'debug')}: "
    return f"{stamp}.{int(moment % 1 * 1000):03d}Z {ident}[{os.getpid()}] {word}{text}"


def as_json(ident: str, level: int, text: str) -> str:
    """The same as a JSON object. time: seconds since the epoch."""
    name = NAMES.get(level, "debug") if level < DEBUG1 else "debug"
    moment = round(time.time(), 3)
    return json.dumps(
        {"time": moment, "program": ident, "process": os.getpid(), "level": name, "message": text}
    )


FORMATS = {"plain": plain, "json": as_json}


class ServiceLog(SFTPLog):
    """The log that the settings of a door describe. Raises BadInput if its file cannot be opened."""

    def __init__(self, ident: str, settings: LogSettings) -> None:
        self._ident = ident
        self._path = settings.logfile
        self._format = FORMATS[settings.log_format]
        self._file: LogFile | None = None
        self._thread: LogThread | None = None
        self._lost = 0  # lines that could not be written
        self._is_cut = False  # the last one has no end
        if settings.logfile is not None:
            size = None if settings.log_size is None else settings.log_size * MIB
            try:
                self._file = LogFile(settings.logfile, size, settings.log_keep)
            except OSError as error:
                raise self._refused(error) from None
        super().__init__(self._write, LEVELS[settings.log_level])

    def _refused(self, error: OSError) -> BadInput:
        return BadInput(f"logfile {self._path}: {own_reason(error)}; name a file that can be written")

    def _write(self, level: int, text: str) -> None:
        if self._thread is None:
            self._put(self._line(level, text))
        else:
            self._thread.append(self._line(level, text))

    def _line(self, level: int, text: str) -> bytes:
        return self._format(self._ident, level, text).encode("ascii", "backslashreplace") + b"\n"

    def _put(self, line: bytes) -> None:
        """Write a line. On a full disk, lines are lost; they are counted, and reported once there is room."""
        if not self._append(line):
            self._lost += 1
        elif self._lost and self._append(self._left_out(self._lost)):
            self._lost = 0

    def _append(self, line: bytes) -> bool:
        """Write a line; return whether all of it was written: a full disk must not end the server."""
        line = b"\n" + line if self._is_cut else line
        try:
            count = os.write(2, line) if self._file is None else self._file.append(line)
        except OSError:
            return False
        self._is_cut = count < len(line)
        return not self._is_cut

    def _left_out(self, count: int) -> bytes:
        return self._line(ERROR, f"{count} log lines were left out, because the log could not be written")

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[None]:
        """Until the end of the block, write in a thread, so that a disk or a pipe delays only the log.

        The process must not fork meanwhile.
        """
        from pysftpserver.service.logthread import LogThread

        self._thread = LogThread(self._put, self._left_out)
        try:
            yield
        finally:
            if self._thread.close(LAST_LINES):
                self._thread = None

    def flush(self) -> None:
        """Wait until the thread, if there is one, has written everything, for at most LAST_LINES seconds."""
        if self._thread is not None:
            self._thread.flush(LAST_LINES)

    def reload(self, settings: LogSettings) -> None:
        """Reopen the file by its name, and log up to the level of the new settings.

        Raises BadInput if it cannot be opened; with a thread, that is logged instead.
        """
        self.level = LEVELS[settings.log_level]
        if self._thread is None:
            self._reopen()
        else:
            self._thread.call(self._reopen_quietly)

    def _reopen_quietly(self) -> None:
        try:
            self._reopen()
        except BadInput as error:
            self._put(self._line(ERROR, f"not reloaded: {error.message}"))

    def _reopen(self) -> None:
        try:
            if self._file is not None:
                self._file.reopen()
        except OSError as error:
            raise self._refused(error) from None
