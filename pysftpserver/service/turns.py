"""Gives clients turns on an event loop, so that none of them waits for all the work that another one causes.

A stranger is a connection that has not logged in. Key exchanges take milliseconds each; a crowd of strangers
would keep the loop busy with as many in each round. So there is only one in each round, networks take turns,
and all strangers together have at most their share of processor time. A user may have a hundred connections,
each with thousands of small packets: in one round, the work of one user takes at most MOST.
What may not enter: sockets, protocols.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from weakref import WeakValueDictionary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# Seconds of one round that a user may take; a piece of work that has begun is completed. With 0.005, a put is
# a fifth slower.
MOST = 0.02
AT_ONCE = 0.5  # seconds of processor time that strangers may take before their share counts


class Turns:
    """The turns of an event loop's strangers. share: of one processor, from 0 to 1; it may change.

    on_wait: called when strangers have to wait because they have used more than their share.
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


def at_once(work: Callable[[], None]) -> bool:
    """Takes the place of Share.take() if there are no turns."""
    work()
    return True


class Rounds:
    """The rounds of an event loop, in which each user has a share."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._shares: WeakValueDictionary[str, Share] = WeakValueDictionary()
        self._over: dict[Share, None] = {}  # those that wait for the next round
        self._next: asyncio.Handle | None = None

    def of(self, user: str) -> Share:
        """The share of a user, the same for all connections."""
        share = self._shares.get(user)
        if share is None:
            share = self._shares[user] = Share(self)
        return share

    def pause(self, share: Share) -> None:
        """Let a user go on in the next round."""
        self._over[share] = None
        if self._next is None:
            self._next = self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._next = None
        over, self._over = self._over, {}
        for share in over:
            try:
                share.go_on()
            except Exception as error:  # the others continue
                self.pause(share)
                self._loop.call_exception_handler({"message": "a user's turn", "exception": error})


class Share:
    """The work of one user in each round.

    Time is counted over several rounds until it is used up; then the rest has to wait for the next round. So
    rounds cost nothing while no user takes much.
    """

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self._taken = 0.0
        self._queue: deque[Callable[[], None]] = deque()

    def take(self, work: Callable[[], None], later: Callable[[], None] | None = None) -> bool:
        """Do work now, or in a later round after the work that already waits; return whether it was done now.

        later: done in its place in a later round.
        """
        if self._queue or self._taken >= MOST:
            self.wait(later or work)
            return False
        self._do(work)
        return True

    def wait(self, work: Callable[[], None]) -> None:
        """Do work in a later round."""
        self._queue.append(work)
        self._rounds.pause(self)

    def until(self) -> float:
        """The time.monotonic() at which work that has begun should pause until a later round."""
        return time.monotonic() + MOST - self._taken

    def go_on(self) -> None:
        """Continue: a new round has begun."""
        self._taken = 0.0
        while self._queue and self._taken < MOST:
            self._do(self._queue.popleft())
        if self._queue:
            self._rounds.pause(self)

    def _do(self, work: Callable[[], None]) -> None:
        began = time.monotonic()
        try:
            work()
        finally:
            self._taken += time.monotonic() - began
            if self._taken >= MOST:
                self._rounds.pause(self)
