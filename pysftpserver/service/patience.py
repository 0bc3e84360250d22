"""How long a peer is waited for: one policy for silent and for slow peers, without sockets and clocks.

The caller measures its waits and says what they brought. What may not enter: sockets, clocks, protocols.
"""

from __future__ import annotations

SLOWEST = 256  # bytes per second, on average


class OutOfPatience(Exception):
    """A peer was silent or slow for too long. The text is for the log."""


class Patience:
    """The time that one peer has left.

    timeout: seconds that a single wait may last, and seconds of waiting in all beyond what slowest allows.
    slowest: bytes per second that the peer has to move on average, once it has been waited for.

    So neither silence nor one byte now and then keeps a connection open for ever. Only waiting counts: a peer
    that is fast may have a long session.
    """

    def __init__(self, timeout: float, slowest: float = SLOWEST) -> None:
        self._timeout = timeout
        self._slowest = slowest
        self._waited = 0.0
        self._moved = 0

    def left(self) -> float:
        """Seconds that the next wait may last. Raises OutOfPatience."""
        allowed = self._timeout + self._moved / self._slowest if self._slowest else float("inf")
        left = min(self._timeout, allowed - self._waited)
        if left <= 0:
            raise self.lost()
        return left

    def waited(self, seconds: float, moved: int) -> None:
        """A wait is over. moved: bytes that it brought, or bytes that the peer took meanwhile."""
        self._waited += seconds
        self._moved += moved

    def lost(self) -> OutOfPatience:
        """What to raise when a wait lasted as long as it may."""
        return OutOfPatience(f"it was silent or too slow for {self._timeout:g} seconds")
