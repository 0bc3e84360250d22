"""Threads for slow work, shared by all users; no user can take all of them.

What may not enter: protocols, what is done in them.
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
EACH = 16  # for one user


class Threads:
    """The threads of one event loop. each: maximum number that one user or network of strangers may have
    at once for one kind of work; more work waits. name: of the threads.
    """

    def __init__(self, count: int = THREADS, each: int = EACH, name: str = "sftp") -> None:
        self._each = each
        self._pool = ThreadPoolExecutor(count, name)
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Semaphore] = WeakValueDictionary()

    def run(self, user: str, work: Callable[[], T], kind: str = "requests") -> asyncio.Future[T]:
        """Run work of a user when one of the user's threads for that kind of work is free."""
        turns = self._turns.get((user, kind))
        if turns is None:
            turns = self._turns[user, kind] = asyncio.Semaphore(self._each)
        return asyncio.ensure_future(self._in_turn(turns, work))

    async def _in_turn(self, turns: asyncio.Semaphore, work: Callable[[], T]) -> T:
        async with turns:
            return await self.run_now(work)

    def run_now(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Run work that must not wait for the user's other work: the end of a session."""
        return asyncio.get_running_loop().run_in_executor(self._pool, work)

    def shutdown(self, wait: bool = False) -> None:
        """Start no more work; running work goes on. wait: block until it has ended."""
        self._pool.shutdown(wait=wait, cancel_futures=True)
