"""SIGHUP while a door starts: it would end the process, so it is held until the door can reload.

Commands import this before anything that takes long. What may not enter: asyncio, what a reload does.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_held: list[int] = []


@contextmanager
def hangups_held() -> Iterator[None]:
    """Hold every SIGHUP until heed_held_hangup(), unless the process ignores the signal, as under nohup.

    A decorator of the functions that start doors. For the main thread.
    """
    before = signal.getsignal(signal.SIGHUP)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda number, _: _held.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
        _held.clear()


def heed_held_hangup() -> None:
    """Send this process the SIGHUP that was held, if there was one: now it is blocked or has its handler."""
    if _held:
        _held.clear()
        os.kill(os.getpid(), signal.SIGHUP)
