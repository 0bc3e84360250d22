"""Threads for what takes long, shared by all users: nobody can take all of them.

What may not enter: SSH, what is done in them.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from weakref import WeakValueDictionary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

THREADS = 64
EACH = 16  # of them, for one user


class Threads:
    """One event loop's threads. each: how many a user may have at once; what goes beyond waits."""

    def __init__(self, count: int = THREADS, each: int = EACH) -> None:
        self._each = each
        self._pool = ThreadPoolExecutor(count, "sftp")
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    def run(self, user: str, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do a user's work when it is his turn."""
        turns = self._turns.get(user)
        if turns is None:
            turns = self._turns[user] = asyncio.Semaphore(self._each)
        return asyncio.ensure_future(self._in_turn(turns, work))

    async def _in_turn(self, turns: asyncio.Semaphore, work: Callable[[], T]) -> T:
        async with turns:
            return await self.run_now(work)

    def run_now(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Do what may not wait for the user's other work: the end of a session."""
        return asyncio.get_running_loop().run_in_executor(self._pool, work)

    def shutdown(self) -> None:
        """Begin nothing more. What is under way goes on, and nobody waits for it."""
        self._pool.shutdown(wait=False, cancel_futures=True)
