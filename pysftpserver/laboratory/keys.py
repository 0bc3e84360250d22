"""The server's RSA keys: made ahead in a thread, and replaced by age and by use.

Nobody who connects waits for one. While OpenSSL looks for primes, other threads run. What is replaced is
forgotten: who records connections and steals a key later can read those of that key's time only. And a key
that answers a thousand strangers is of no use to who needs a million answers (Bleichenbacher's attack).
What may not enter: sockets, what the keys are used for.
"""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from pysftpserver.laboratory import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Executor

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    from pysftpserver.engine.log import SFTPLog


AGAIN = 1.0  # seconds, until it is looked again whether the next key is there


class ServerKey(NamedTuple):
    """A key, and what a server begins with that has it."""

    private: RSAPrivateKey
    pem: bytes


def make() -> ServerKey:
    """A new one; takes tens of milliseconds."""
    private = wire.new_private_key()
    return ServerKey(private, wire.pem(private))


class Keys:
    """The key in use, and the next one. most_age: seconds. most_uses: connections."""

    def __init__(self, executor: Executor, most_age: float, most_uses: int, log: SFTPLog) -> None:
        self._executor = executor
        self._most_age = most_age
        self._most_uses = most_uses
        self._log = log
        self._next: asyncio.Future[ServerKey] | None = None
        self._uses = 0
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Make the first one, and begin with the second."""
        self._loop = asyncio.get_running_loop()
        self._key = await self._loop.run_in_executor(self._executor, make)
        self._make_next()
        self._grow_old()

    def close(self) -> None:
        """No more are wanted."""
        if self._timer is not None:
            self._timer.cancel()

    def get(self) -> ServerKey:
        """The key for a new connection."""
        if self._uses >= self._most_uses:
            self._replace()
        self._uses += 1
        return self._key

    def _grow_old(self) -> None:
        """By a timer, and not with the next connection: that may be a long time off."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._most_age, self._too_old)

    def _too_old(self) -> None:
        self._timer = None
        if self._uses:
            self._replace()
        if self._timer is None:  # nobody has used it, or the next one is not there yet
            wait = min(self._most_age, AGAIN) if self._uses else self._most_age
            self._timer = self._loop.call_later(wait, self._too_old)

    def _replace(self) -> None:
        """Go to the next one; if it is not there yet, the old one serves until it is."""
        if self._next is None:
            self._make_next()
        elif self._next.done():
            ready, self._next = self._next, None
            if ready.cancelled() or ready.exception() is not None:
                self._log.error("no new RSA key could be made: the old one stays in use")
            else:
                self._key = ready.result()
                self._uses = 0
                self._grow_old()
            self._make_next()

    def _make_next(self) -> None:
        self._next = self._loop.run_in_executor(self._executor, make)
