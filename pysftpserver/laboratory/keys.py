"""The server's RSA keys: generated ahead in a thread, and replaced by age and by use.

No client waits for one; other threads run while OpenSSL looks for primes. A replaced key is deleted, so an
attacker who has recorded connections and later steals a key can read only those that began with this key.
And a key that serves only a thousand clients does not help an attack that needs a million answers
(Bleichenbacher's). What may not enter: sockets, what the keys are used for.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from pysftpserver.engine.log import SFTPLog
from pysftpserver.laboratory import wire

AGAIN = 1.0  # seconds between checks whether the next key is ready


class ServerKey(NamedTuple):
    """A key, and the bytes with which the server begins a connection."""

    private: RSAPrivateKey
    pem: bytes


def make() -> ServerKey:
    """Generate a key; takes tens of milliseconds."""
    private = wire.new_private_key()
    return ServerKey(private, wire.pem(private))


class Keys:
    """The key in use, and the next one. most_age: in seconds. most_uses: in connections."""

    def __init__(self, executor: Executor, most_age: float, most_uses: int, log: SFTPLog) -> None:
        self._executor = executor
        self._most_age = most_age
        self._most_uses = most_uses
        self._log = log
        self._next: asyncio.Future[ServerKey] | None = None
        self._uses = 0
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Generate the first key, and begin to generate the second."""
        self._loop = asyncio.get_running_loop()
        self._key = await self._loop.run_in_executor(self._executor, make)
        self._make_next()
        self._grow_old()

    def close(self) -> None:
        """Stop replacing keys."""
        if self._timer is not None:
            self._timer.cancel()

    def get(self) -> ServerKey:
        """The key for a new connection."""
        if self._uses >= self._most_uses:
            self._replace()
        self._uses += 1
        return self._key

    def _grow_old(self) -> None:
        """Replace an old key by a timer: the next connection may be a long time off."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._most_age, self._too_old)

    def _too_old(self) -> None:
        self._timer = None
        if self._uses:
            self._replace()
        if self._timer is None:  # it was not used, or the next one is not ready
            wait = min(self._most_age, AGAIN) if self._uses else self._most_age
            self._timer = self._loop.call_later(wait, self._too_old)

    def _replace(self) -> None:
        """Use the next key, or keep the old one until the next is ready."""
        if self._next is None:
            self._make_next()
        elif self._next.done():
            ready, self._next = self._next, None
            if ready.cancelled() or ready.exception() is not None:
                self._log.error("a new RSA key could not be generated; the old one stays in use")
            else:
                self._key = ready.result()
                self._uses = 0
                self._grow_old()
            self._make_next()

    def _make_next(self) -> None:
        self._next = self._loop.run_in_executor(self._executor, make)
