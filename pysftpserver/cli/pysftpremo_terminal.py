"""A command there that behaves as if it ran in this terminal.

What may not enter: the protocol. Facts: termios(3), ioctl_tty(2).
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import tty

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from pysftpserver.remo.client import Interactive

LEAVE = b"\x1d"  # Ctrl-]
AT_ONCE = 8192  # bytes of what is typed
SHORTEST, LONGEST = 0.01, 0.3  # seconds between two looks at what the command says, while nobody types


def size() -> tuple[int, int]:
    """Columns and rows of this terminal."""
    found = shutil.get_terminal_size()
    return found.columns, found.lines


def talk(command: Interactive, said: bytes, is_terminal: bool) -> bool:
    """Until the command has gone, or the user leaves it with Ctrl-]; whether it has gone. Raises RemoError.

    is_terminal: whether it has a terminal of its own, which echoes and takes Ctrl-C.
    """
    before = termios.tcgetattr(0) if is_terminal else None
    resized = _Resized()
    try:
        if before is not None:
            tty.setraw(0, termios.TCSADRAIN)  # what was typed ahead is for the command
        show(said)
        return _talk(command, is_terminal, resized)
    finally:
        resized.stop()
        if before is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, before)


def _talk(command: Interactive, is_terminal: bool, resized: _Resized) -> bool:
    pause = SHORTEST
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
        if is_terminal and resized.take():
            command.resize(*size())
        said = command.send(typed)
        show(said)
        pause = SHORTEST if said or typed else min(LONGEST, pause * 2)
    return True


def show(said: bytes) -> None:
    """To this terminal, as it is: who runs a command there trusts what it says."""
    sys.stdout.flush()
    while said:
        said = said[os.write(1, said) :]


class _Resized:
    """Whether the terminal has got another size."""

    def __init__(self) -> None:
        self._is_so = False
        self._before = signal.signal(signal.SIGWINCH, self._note)

    def _note(self, _: int, __: FrameType | None) -> None:
        self._is_so = True

    def take(self) -> bool:
        """Whether it has since it was asked for the last time."""
        was, self._is_so = self._is_so, False
        return was

    def stop(self) -> None:
        signal.signal(signal.SIGWINCH, self._before)
