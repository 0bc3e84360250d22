"""How a directory takes over new users in its event loop, and announces them.

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
    """Take all steps, and let the event loop do other work between them; returns their result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)


def announce(names: Iterable[str], on_change: Callable[[str], None], log: SFTPLog) -> None:
    """Call on_change for each name; a fault in it is logged, and the next name is announced."""
    for name in names:
        try:
            on_change(name)
        except Exception as error:
            log.fault(error)
