"""A command on the server that behaves as if it ran in this terminal.

What may not enter: the protocol. Facts: termios(3), ioctl_tty(2).
"""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import tty

from pysftpserver.failures import BadInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.remo.client import Client, Interactive

LEAVE = b"\x1d"  # Ctrl-]
AT_ONCE = 8192  # bytes of typed input
SHORTEST, LONGEST = 0.01, 0.3  # seconds between polls for output while nothing is typed


def size() -> tuple[int, int]:
    """Columns and rows of this terminal."""
    found = shutil.get_terminal_size()
    return found.columns, found.lines


def run(remote: Client, line: str, left: int) -> int:
    """Run a command on its own terminal; return its exit status. left: the status to return after Ctrl-].

    Raises BadInput if this side has no terminal, RemoError.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BadInput("--pty needs a terminal on this side, too; leave it out in a script")
    command, said = remote.start(line, size=size())
    if not talk(command, said, is_terminal=True):
        return left
    status, _ = command.outcome()
    return 0 if status is None else status


def talk(command: Interactive, said: bytes, is_terminal: bool) -> bool:
    """Connect this terminal to a command; return True when it has ended, False when Ctrl-] was typed.

    said: its output so far. is_terminal: whether it has its own terminal, which echoes and handles Ctrl-C.
    Raises RemoError.
    """
    before = termios.tcgetattr(0) if is_terminal else None
    try:
        if before is not None:
            tty.setraw(0, termios.TCSADRAIN)  # input typed ahead is for the command
        show(said)
        return _talk(command, is_terminal)
    finally:
        if before is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, before)


def _talk(command: Interactive, is_terminal: bool) -> bool:
    pause, known = SHORTEST, size()
    while not command.is_over:
        typed = b""
        if select.select([0], [], [], pause)[0]:
            typed = os.read(0, AT_ONCE)
            if is_terminal and LEAVE in typed:
                return False
            if not typed:
                for piece in command.finish():
                    show(piece)
                return True
        now = size()
        if is_terminal and now != known:
            command.resize(*now)
            known = now
        said = command.send(typed)
        show(said)
        pause = SHORTEST if said or typed else min(LONGEST, pause * 2)
    return True


def show(said: bytes) -> None:
    """Write output to this terminal unchanged: a user who runs a command trusts its output."""
    sys.stdout.flush()
    while said:
        said = said[os.write(1, said) :]


class Output:
    """Standard output, unbuffered: the next piece of a command's output may be a long time off."""

    def write(self, data: bytes) -> None:
        show(data)
