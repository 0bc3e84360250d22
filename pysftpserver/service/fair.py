"""Threads for slow checks of strangers: few at once, in turns by network, at most a share of a processor.

What may not enter: protocols, what is checked.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")

AT_ONCE = 0.5  # seconds of processor time that may be taken before the share counts


class FairThreads:
    """The checks of one event loop.

    count: maximum number at once. share: of one processor, from 0 to 1; it may change. name: of the threads.
    """

    def __init__(self, count: int, share: float, name: str) -> None:
        self.share = share
        self._free = count
        self._pool = ThreadPoolExecutor(count, name)
        self._queues: dict[str, deque[tuple[asyncio.Future[Any], Callable[[], Any]]]] = {}
        self._taken = 0.0  # seconds of processor time, less what was allowed meanwhile
        self._since = 0.0

    async def run(self, network: str, work: Callable[[], T]) -> T:
        """Do work in a thread when it is that network's turn; return its result, or raise what it raises.

        If the caller is cancelled before the turn, the work is not begun.
        """
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._queues.setdefault(network, deque()).append((future, work))
        self._begin()
        return await future

    def _begin(self) -> None:
        """Start work while threads are free, one piece of each network in turn."""
        loop = asyncio.get_running_loop()
        while self._free and self._queues:
            network = next(iter(self._queues))
            queue = self._queues.pop(network)
            future, work = queue.popleft()
            if queue:
                self._queues[network] = queue
            if not future.done():
                self._free -= 1
                loop.run_in_executor(self._pool, _timed, work).add_done_callback(partial(self._end, future))

    def _end(self, future: asyncio.Future[Any], ended: asyncio.Future[Any]) -> None:
        if ended.cancelled():
            future.cancel()
            return
        result, error, seconds = ended.result()
        if not future.done():
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._taken = max(0.0, self._taken - (now - self._since) * self.share) + seconds
        self._since = now
        wait = (self._taken - AT_ONCE) / self.share
        if wait > 0:
            loop.call_later(wait, self._give_back)
        else:
            self._give_back()

    def _give_back(self) -> None:
        self._free += 1
        self._begin()

    def shutdown(self) -> None:
        """Start no more work; running work goes on."""
        self._queues.clear()
        self._pool.shutdown(wait=False, cancel_futures=True)


def _timed(work: Callable[[], Any]) -> tuple[Any, BaseException | None, float]:
    """(result, exception, seconds of processor time)."""
    began = time.thread_time()
    try:
        return work(), None, time.thread_time() - began
    except Exception as error:
        return None, error, time.thread_time() - began
