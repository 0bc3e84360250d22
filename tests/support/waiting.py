"""Waiting for an event, with a deadline. No test waits by the clock.

The deadline is generous: it passes only if something is wrong, not on a busy machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 60.0  # seconds for what takes milliseconds
NEVER = 20 * PATIENCE  # a time limit that never passes: a test that waits for it fails
PAUSE = 0.01  # seconds between polls
T = TypeVar("T")


def until(
    condition: Callable[[], T],
    what: str | Callable[[], str] = "the condition stays false",
    seconds: float = PATIENCE,
) -> T:
    """Poll a condition and return its first true result.

    Args:
        condition: called repeatedly.
        what: what is waited for or what is wrong, for the failure; a function is called when it is needed.
        seconds: the deadline.

    Raises:
        AssertionError: the condition stayed false.
    """
    deadline = time.monotonic() + seconds
    is_over = False
    while not (result := condition()):
        if is_over:
            raise _timed_out(what, seconds)
        # Polled once more after the deadline: the machine may have slept meanwhile.
        is_over = time.monotonic() > deadline
        time.sleep(PAUSE)
    return result


async def eventually(
    condition: Callable[[], T],
    what: str | Callable[[], str] = "the condition stays false",
    seconds: float = PATIENCE,
) -> T:
    """until() for a coroutine: others run between polls."""
    deadline = time.monotonic() + seconds
    is_over = False
    while not (result := condition()):
        if is_over:
            raise _timed_out(what, seconds)
        is_over = time.monotonic() > deadline
        await asyncio.sleep(PAUSE)
    return result


def _timed_out(what: str | Callable[[], str], seconds: float) -> AssertionError:
    return AssertionError(f"timed out after {seconds:g} s: {what if isinstance(what, str) else what()}")
