"""The session's log: the levels and lines of sftp-server(8), to syslog, stderr or a file.

Not the logging module: importing it costs more than the rest of a session's start. Text that a client chose
(names above all) goes through show(), so that no name can forge a line or drive a terminal.
What may not enter: what the lines say. Facts: sftp-server(8), syslog(3).
"""

from __future__ import annotations

import os
import sys
import time

from pysftpserver.failures import BadInput, reason_of, show
from pysftpserver.pysftpexceptions import words_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Sink = Callable[[int, str], None]

QUIET, FATAL, ERROR, INFO, VERBOSE, DEBUG1, DEBUG2, DEBUG3 = range(8)
LEVELS = {
    "QUIET": QUIET,
    "FATAL": FATAL,
    "ERROR": ERROR,
    "INFO": INFO,
    "VERBOSE": VERBOSE,
    "DEBUG": DEBUG1,
    "DEBUG1": DEBUG1,
    "DEBUG2": DEBUG2,
    "DEBUG3": DEBUG3,
}
FACILITIES = ("DAEMON", "USER", "AUTH") + tuple(f"LOCAL{number}" for number in range(8))

MOST_LINE = 1021  # characters; sftp-server(8) cuts its lines there too
MOST_CAUSES = 5  # of a fault in the log
MOST_CALLS = 30  # of a traceback in the log, the innermost ones
_PREFIXES = {FATAL: "fatal: ", ERROR: "error: ", DEBUG1: "debug1: ", DEBUG2: "debug2: ", DEBUG3: "debug3: "}


class SFTPLog:
    """Lines up to a level and a length, handed to a sink: a function of (level, text) that never raises."""

    def __init__(self, sink: Sink | None = None, level: int = INFO) -> None:
        self.sink = sink
        self.level = level if sink is not None else QUIET

    def write(self, level: int, text: str) -> None:
        """Log one line, if the level lets it through."""
        if level <= self.level and self.sink is not None:
            text = text[:MOST_LINE]
            if not (text.isascii() and text.isprintable()):  # text that has not been through show()
                text = "".join(
                    letter if " " <= letter <= "~" and letter != "\\" else ascii(letter)[1:-1]
                    for letter in text
                )[:MOST_LINE]
            self.sink(level, text)

    def error(self, text: str) -> None:
        """Log a line at ERROR: something is wrong on the server's side."""
        self.write(ERROR, text)

    def info(self, text: str) -> None:
        """Log a line at INFO: what a session did."""
        self.write(INFO, text)

    def fault(self, error: BaseException) -> None:
        """Log an unexpected exception with the calls that led to it and its causes, one line for each.

        Calls are named by module and line, without paths of this host.
        """
        seen: list[BaseException] = []
        cause: BaseException | None = error
        while cause is not None and len(seen) < MOST_CAUSES and all(cause is not one for one in seen):
            if seen:
                self.error("  because of:")
            seen.append(cause)
            self._one_fault(cause)
            cause = cause.__cause__

    def _one_fault(self, error: BaseException) -> None:
        words = words_of(error).encode("utf-8", "backslashreplace")
        self.error(f"{type(error).__name__}: {show(words)}")
        calls = []
        trace = error.__traceback__
        while trace is not None:
            frame = trace.tb_frame
            module = frame.f_globals.get("__name__", "?")
            calls.append(f"  in {module}, line {trace.tb_lineno}, {frame.f_code.co_name}")
            trace = trace.tb_next
        for call in calls[-MOST_CALLS:]:
            self.error(call)


def open_for_appending(path: str | os.PathLike[str], reads: bool = False) -> int:
    """Open a file for appending, created with mode 0600; return its descriptor. Raises OSError.

    reads: for reading as well.
    """
    # O_NONBLOCK: a FIFO without a reader is an error at once instead of an endless wait.
    flags = (
        (os.O_RDWR if reads else os.O_WRONLY)
        | os.O_APPEND
        | os.O_CREAT
        | os.O_CLOEXEC
        | os.O_NOCTTY
        | os.O_NONBLOCK
    )
    return os.open(path, flags, 0o600)


def file_sink(path: str | os.PathLike[str], ident: str = "") -> Sink:
    """A sink that appends to a file, created with mode 0600. Raises OSError when it cannot be opened."""
    descriptor = open_for_appending(path)
    who = f"{ident or 'pysftpserver'}[{os.getpid()}]"

    def sink(level: int, text: str) -> None:
        moment = time.time()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
        line = f"{stamp}.{int(moment % 1 * 1000):03d}Z {who} {_PREFIXES.get(level, '')}{text}\n"
        _write_quietly(descriptor, line)

    return sink


def stderr_sink() -> Sink:
    """A sink that writes to standard error, as `sftp-server -e` does."""

    def sink(level: int, text: str) -> None:
        prefix = _PREFIXES.get(level, "") if level >= DEBUG1 else ""
        _write_quietly(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"{prefix}{text}\n")

    return sink


def syslog(level: int, ident: str, facility: str = "AUTH") -> SFTPLog:
    """A log to syslog. facility: one of FACILITIES."""
    import syslog

    syslog.openlog(ident, syslog.LOG_PID, getattr(syslog, f"LOG_{facility}"))
    priorities = {
        FATAL: syslog.LOG_CRIT,
        ERROR: syslog.LOG_ERR,
        INFO: syslog.LOG_INFO,
        VERBOSE: syslog.LOG_INFO,
    }

    def sink(level: int, text: str) -> None:
        syslog.syslog(priorities.get(level, syslog.LOG_DEBUG), _PREFIXES.get(level, "") + text)

    return SFTPLog(sink, level)


def _write_quietly(descriptor: int, line: str) -> None:
    """Write a line; a log that cannot be written (disk full, stderr gone) must not end the session."""
    try:
        os.write(descriptor, line.encode("ascii", "backslashreplace"))
    except OSError:
        pass


def file_log(path: str, level: int, ident: str) -> SFTPLog:
    """A log appended to a file. Raises BadInput when that file cannot be written."""
    try:
        return SFTPLog(file_sink(path, ident), level)
    except OSError as error:
        message = f"log file {path}: {reason_of(error)}; name a file that can be written"
        raise BadInput(message, "the log file cannot be written") from None
