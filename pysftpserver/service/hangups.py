"""Holds SIGHUP and other signals while a door starts, until it serves: they would end the process.

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
def hangups_held(*more: int) -> Iterator[None]:
    """Hold every SIGHUP until heed_held_hangup(), unless the process ignores the signal, as under nohup.

    A decorator for the functions that start doors, in the main thread. more: other signals to hold.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, *more)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: _held.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _held.clear()


def heed_held_hangup() -> None:
    """Send this process the signals that were held, which are now blocked or have handlers."""
    held = set(_held)
    _held.clear()
    for number in held:
        os.kill(os.getpid(), number)
