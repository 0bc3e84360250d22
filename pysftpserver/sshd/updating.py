"""How a directory's new knowledge reaches its event loop and whoever listens.

What may not enter: where users come from.
"""

from __future__ import annotations

import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from typing import TypeVar

    from pysftpserver.engine.log import SFTPLog

    T = TypeVar("T")


async def in_steps(steps: Generator[None, None, T]) -> T:
    """Take all steps, and let the loop do other things between; what they return."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)


def announce(names: Iterable[str], on_change: Callable[[str], None], log: SFTPLog) -> None:
    """Call on_change for each name; a fault in it is logged and keeps no other name from being announced."""
    for name in names:
        try:
            on_change(name)
        except Exception as error:
            log.fault(error)
