"""Delays logins from addresses with recent failures.

For a server of one process; shared.py does the same for several. Times are arguments, in seconds of any
monotonic clock. What may not enter: sockets, clocks.
"""

from __future__ import annotations

import functools
import ipaddress
from _thread import allocate_lock  # threading would do work in each new process

from pysftpserver.service.networks import address_of

ADDRESSES = 4096  # remembered; those with the oldest failures are forgotten first
FREE = 3  # failures without a delay: many people try a wrong key first
FIRST = 0.5  # seconds of delay after that; each failure doubles it
MOST = 30.0  # seconds of delay, at most
WINDOW = 600  # seconds without a failure after which all are forgotten


class Throttle:
    """The failed logins of each address, or other counted failures. Threads may share it.

    spare: failures without a delay, in addition to FREE.
    """

    def __init__(self, spare: int = 0) -> None:
        self._spare = spare
        self._failures: dict[str, tuple[int, float]] = {}  # count and time of the last, oldest first
        self._lock = allocate_lock()

    def failed(self, address: str, now: float) -> None:
        """A login from an address has failed."""
        network = network_of(address)
        with self._lock:
            count, _ = self._current(network, now)
            self._failures.pop(network, None)
            self._failures[network] = (count + 1, now)
            if len(self._failures) > ADDRESSES:
                del self._failures[next(iter(self._failures))]

    def wait(self, address: str, now: float) -> float:
        """Seconds until a login from an address may be tried; 0.0: now."""
        with self._lock:
            count, last = self._current(network_of(address), now)
        return max(0.0, last + delay(count - self._spare) - now)

    def _current(self, network: str, now: float) -> tuple[int, float]:
        count, last = self._failures.get(network, (0, now))
        return (count, last) if now - last <= WINDOW else (0, now)


def delay(failures: int) -> float:
    """Seconds to wait after that number of failures."""
    return min(MOST, FIRST * 2.0 ** min(failures - FREE, 60)) if failures >= FREE else 0.0


@functools.lru_cache(1024)  # a connection asks for its own some ten times
def network_of(address: str) -> str:
    """The network that an address counts as: for IPv6 the /64, which usually belongs to one person."""
    parsed = address_of(address)
    if parsed is None:
        return address
    return str(parsed) if parsed.version == 4 else str(ipaddress.ip_network((parsed, 64), strict=False))
