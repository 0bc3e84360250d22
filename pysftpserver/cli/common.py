"""Starts a command, and turns what it raises into one line on standard error and an exit status.

Bad input is exit status 2; if something that the command needs is not available, it is status 1. Under sshd,
the client may see standard error, so the line there has no paths of the host; syslog gets the full line.
"""

from __future__ import annotations

import os
import select
import sys

from pysftpserver.engine.log import LEVELS, syslog
from pysftpserver.failures import UNAVAILABLE_STATUS, USAGE_STATUS, BadInput, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INTERNAL_ERROR = 1
INTERRUPTED = 128 + 2  # as shells report a program that SIGINT has ended
BROKEN_PIPE = 128 + 13  # and SIGPIPE
#: Exit statuses of every command. Statuses with another meaning are in the command's own declaration.
STATUSES = (
    (0, "What was asked for is done."),
    (
        UNAVAILABLE_STATUS,  # and INTERNAL_ERROR
        "Something that is needed cannot be reached or used now; or the command has a fault.",
    ),
    (USAGE_STATUS, "The command line, a file or another input is wrong; the message says what to do."),
    (INTERRUPTED, "Ctrl-C (SIGINT) has ended the command."),
    (BROKEN_PIPE, "Standard output was closed."),
)


def run(prog: str, command: Callable[[Sequence[str]], int], arguments: Sequence[str] | None) -> int:
    """Run a command; return its exit status. arguments: without the command's name; None: sys.argv's.

    Exceptions are reported on standard error and never leave this function.
    """
    _open_closed_descriptors()
    try:
        return command(sys.argv[1:] if arguments is None else arguments)
    except BadInput as error:
        text = error.message
        if "SSH_CONNECTION" in os.environ:
            syslog(LEVELS["ERROR"], prog).error(one_line(text))
            text = error.public
        tell(f"{prog}: {one_line(text)}")
        return error.status
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_output_gone():
            return BROKEN_PIPE
        syslog(LEVELS["ERROR"], prog).fault(error)
        tell(f"{prog}: internal error ({type(error).__name__}); syslog says more")
        return INTERNAL_ERROR
    finally:
        _put_out()


def _is_output_gone() -> bool:
    """Whether the reader of standard output has gone: `--help | head`."""
    poll = select.poll()
    poll.register(1, 0)
    return bool(poll.poll(0))


def _put_out() -> None:
    """Flush what print() has buffered, without Python's error at exit if the reader has gone."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)
    except (OSError, ValueError):
        pass  # a full disk, or it is closed: Python will report it


def main_of(prog: str, command: Callable[[Sequence[str]], int]) -> Callable[..., int]:
    """The main() of a command: it takes the arguments (None: sys.argv's), and returns the exit status."""
    return lambda arguments=None: run(prog, command, arguments)


def tell(line: str) -> None:
    """Write one line to standard error, and ignore failures.

    Not print(): if standard error is closed, sys.stderr is None and print() writes to standard output.
    """
    try:
        os.write(2, line.encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        pass


def _open_closed_descriptors() -> None:
    """Open closed standard descriptors on /dev/null, before another file gets their numbers."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # open() takes the lowest free number, which is this one. Standard error is opened for reading
            # only, so that `--audit -` fails instead of losing its records; other output there may fail.
            os.open(os.devnull, os.O_RDWR if descriptor < 2 else os.O_RDONLY)
