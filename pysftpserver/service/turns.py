"""Gives strangers turns on an event loop: one in each round, and at most their share of processor time.

A stranger is a connection that has not logged in. Key exchanges take milliseconds each; a crowd of strangers
would keep the loop busy with as many in each round. Networks have their turns one after the other.
What may not enter: sockets, protocols.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

AT_ONCE = 0.5  # seconds of processor time that strangers may take before their share counts


class Turns:
    """The turns of an event loop's strangers. share: of one processor, from 0 to 1; it may change.

    on_wait: called when strangers have to wait because they have taken more.
    """

    def __init__(self, share: float, on_wait: Callable[[], None] = lambda: None) -> None:
        self.share = share
        self._on_wait = on_wait
        self._loop = asyncio.get_running_loop()
        self._taken = 0.0  # seconds of processor time, less what was theirs meanwhile
        self._since = self._loop.time()
        self._next_turn: asyncio.Handle | None = None
        self._queues: dict[str, deque[Callable[[], None]]] = {}  # by network, the next one first

    def is_free(self) -> bool:
        """Whether the next stranger has its turn at once."""
        return self._next_turn is None

    def take(self, network: str, work: Callable[[], None]) -> None:
        """Do work now, or when it is that network's turn."""
        if self.is_free():
            self._do(work)
        else:
            self._queues.setdefault(network, deque()).append(work)

    def _do(self, work: Callable[[], None]) -> None:
        began = time.thread_time()
        try:
            work()
        finally:
            now = self._loop.time()
            earned = (now - self._since) * self.share
            self._taken = max(0.0, self._taken - earned) + time.thread_time() - began
            self._since = now
            wait = (self._taken - AT_ONCE) / self.share
            if wait > 0:
                self._on_wait()
                self._next_turn = self._loop.call_later(wait, self._go_on)
            else:
                self._next_turn = self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        self._next_turn = None
        if self._queues:
            network = next(iter(self._queues))
            queue = self._queues.pop(network)
            work = queue.popleft()
            if queue:
                self._queues[network] = queue
            self._do(work)
