"""The policy for silent and slow peers: how long to wait for them.

The caller measures its waits and reports their results. What may not enter: sockets, clocks, protocols.
"""

from __future__ import annotations

SLOWEST = 256  # bytes per second, on average


class OutOfPatience(Exception):
    """A peer was silent or too slow. The text is for the log."""


class Patience:
    """The time that one peer has left.

    timeout: seconds that a single wait may last, and seconds of waiting in total beyond what slowest allows.
    slowest: bytes per second that the peer has to move on average; 0 for no minimum.

    Neither silence nor a byte now and then keeps a connection open forever. Only the time spent waiting
    counts: a fast peer may have a long session.
    """

    def __init__(self, timeout: float, slowest: float = SLOWEST) -> None:
        self._timeout = timeout
        self._slowest = slowest
        self._waited = 0.0
        self._moved = 0

    def left(self) -> float:
        """Seconds that the next wait may last. Raises OutOfPatience if there are none left."""
        allowed = self._timeout + self._moved / self._slowest if self._slowest else float("inf")
        left = min(self._timeout, allowed - self._waited)
        if left <= 0:
            raise self.lost()
        return left

    def waited(self, seconds: float, moved: int) -> None:
        """Count a wait. moved: bytes that arrived, or that the peer took, during it."""
        self._waited += seconds
        self._moved += moved

    def lost(self) -> OutOfPatience:
        """The exception for a wait that lasted as long as it may."""
        return OutOfPatience(f"it was silent or too slow for {self._timeout:g} seconds")
