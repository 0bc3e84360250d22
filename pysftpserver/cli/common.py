"""What every command shares: how it starts, how it logs, and how it fails.

Bad input ends a command with one line on standard error and exit status 2; what the command needs and does
not get, with exit status 1. Under sshd, standard error
goes to the client; a line that would tell it a path of this host goes there without the path, and to
syslog in full.
"""

from __future__ import annotations

import os
import sys

from pysftpserver.log import LEVELS, SFTPLog, file_sink, stderr_sink, syslog_sink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

USAGE_ERROR = 2
SERVICE_ERROR = 1
INTERNAL_ERROR = 1


class CommandError(Exception):
    """Bad input. message: what is wrong and what to do, in one line. public: the same in words that may
    reach a client, when message names something of this host."""

    status = USAGE_ERROR

    def __init__(self, message: str, public: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.public = message if public is None else f"{public} (syslog says more)"


class ServiceError(CommandError):
    """Good input, and something is not there now that the command needs, such as another server."""

    status = SERVICE_ERROR


def file_log(path: str, level: int, ident: str) -> SFTPLog:
    """A log appended to a file. Raises CommandError when that file cannot be written."""
    try:
        return SFTPLog(file_sink(path, ident), level)
    except OSError as error:
        message = f"log file {path}: {error.strerror}; name a file that can be written"
        raise CommandError(message, "the log file cannot be written") from None


def syslog(level: int, ident: str, facility: str = "AUTH") -> SFTPLog:
    """A log to syslog."""
    return SFTPLog(syslog_sink(ident, facility), level)


def stderr_log(level: int) -> SFTPLog:
    """A log to standard error."""
    return SFTPLog(stderr_sink(), level)


def run(prog: str, command: Callable[[Sequence[str]], int], arguments: Sequence[str] | None) -> int:
    """Run a command; turn what goes wrong into a line and an exit status."""
    _open_closed_descriptors()
    try:
        return command(sys.argv[1:] if arguments is None else arguments)
    except CommandError as error:
        _complain(prog, error)
        return error.status
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        syslog(LEVELS["ERROR"], prog).fault(error)
        tell(f"{prog}: internal error ({type(error).__name__}); syslog says more")
        return INTERNAL_ERROR


def _complain(prog: str, error: CommandError) -> None:
    text = error.message
    if "SSH_CONNECTION" in os.environ:
        syslog(LEVELS["ERROR"], prog).error(one_line(text))
        text = error.public
    tell(f"{prog}: {one_line(text)}")


def tell(line: str) -> None:
    """One line to standard error; print() would take standard output where that was closed."""
    try:
        os.write(2, line.encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        pass


def _open_closed_descriptors() -> None:
    """Standard descriptors that were closed lead nowhere, before a file opened later takes their place."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number: this one. Standard error is not opened for writing, so that an audit
            # log there fails and is not lost; everything else that goes there may fail.
            os.open(os.devnull, os.O_RDWR if descriptor < 2 else os.O_RDONLY)


def one_line(text: str) -> str:
    """Whatever is not printable, line ends among it, as an escape."""
    parts = (letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    return "".join(parts)
