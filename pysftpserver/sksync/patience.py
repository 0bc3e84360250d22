"""How long a peer is waited for. What may not enter: sockets, clocks; who waits says how long it took."""

from __future__ import annotations

SLOWEST = 256  # bytes in a second, on average; who is slower holds up more than he is worth


class OutOfPatience(Exception):
    """A peer let one wait too long. The text is for the log."""


class Patience:
    """One peer's. timeout: seconds without a byte, and seconds in all beyond what SLOWEST allows.

    So neither silence nor one byte now and then keeps a connection for ever. Only waiting counts: a peer
    that is fast may have a long session.
    """

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._waited = 0.0
        self._received = 0

    def left(self) -> float:
        """Seconds that the next wait may last. Raises OutOfPatience."""
        left = min(self._timeout, self._timeout + self._received / SLOWEST - self._waited)
        if left <= 0:
            raise self.lost()
        return left

    def waited(self, seconds: float, received: int) -> None:
        """A wait is over. received: bytes that it brought; or without one, bytes that the peer took."""
        self._waited += seconds
        self._received += received

    def lost(self) -> OutOfPatience:
        """What to raise when a wait lasted as long as it may."""
        return OutOfPatience(f"it was silent or too slow for {self._timeout:g} seconds")
