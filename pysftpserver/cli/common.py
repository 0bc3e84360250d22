"""What every command shares: how it starts, how it logs, and how it fails.

Bad input ends a command with one line on standard error and exit status 2; what the command needs and does
not get, with exit status 1. Under sshd, standard error
goes to the client; a line that would tell it a path of this host goes there without the path, and to
syslog in full.
"""

from __future__ import annotations

import os
import sys

from pysftpserver.engine.log import LEVELS, syslog
from pysftpserver.failures import BadInput, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INTERNAL_ERROR = 1


def run(prog: str, command: Callable[[Sequence[str]], int], arguments: Sequence[str] | None) -> int:
    """Run a command; turn what goes wrong into a line and an exit status."""
    _open_closed_descriptors()
    try:
        return command(sys.argv[1:] if arguments is None else arguments)
    except BadInput as error:
        _complain(prog, error)
        return error.status
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        syslog(LEVELS["ERROR"], prog).fault(error)
        tell(f"{prog}: internal error ({type(error).__name__}); syslog says more")
        return INTERNAL_ERROR


def _complain(prog: str, error: BadInput) -> None:
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
