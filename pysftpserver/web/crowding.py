"""Limits strangers: how much they may ask for at the same time, and how many links they may guess.

What may not enter: HTTP except for refusals, what they ask for. Times are seconds of time.monotonic().
"""

from __future__ import annotations

import collections
import threading

from pysftpserver.web.wire import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

MOST_MISSES = 60  # requests of one network for links that do not exist
WINDOW = 600.0  # seconds in which these are counted
MOST_KEPT = 4096  # networks


class Crowd:
    """Counts what is under way, by keys such as a network."""

    def __init__(self) -> None:
        self._counts: collections.Counter[Hashable] = collections.Counter()
        self._lock = threading.Lock()

    def enter(self, *limits: tuple[Hashable, int]) -> Callable[[], None]:
        """Begin something; call the returned function once when it ends. limits: keys, and their maximums.

        Raises Refusal if a limit is reached.
        """
        keys = [key for key, _ in limits]
        with self._lock:
            if any(self._counts[key] >= most for key, most in limits):
                words = "Too many people are using shared links now; try again in a minute."
                raise Refusal(503, words, [("Retry-After", "30")])
            self._counts.update(keys)

        def leave() -> None:
            with self._lock:
                self._counts.subtract(keys)
                for key in keys:
                    if not self._counts[key]:
                        del self._counts[key]

        return leave


class Guesses:
    """Counts requests of networks for links that do not exist."""

    def __init__(self) -> None:
        self._misses: dict[str, tuple[int, float]] = {}  # count, and time of the first; oldest first
        self._lock = threading.Lock()

    def check(self, network: str, now: float) -> None:
        """Raises Refusal for a network that has guessed too often."""
        with self._lock:
            count, since = self._misses.get(network, (0, now))
        left = since + WINDOW - now
        if count >= MOST_MISSES and left > 0:
            words = "Too many links from your network were wrong; try again later."
            raise Refusal(429, words, [("Retry-After", str(int(left) + 1))])

    def missed(self, network: str, now: float) -> None:
        """Count a link that does not exist."""
        with self._lock:
            count, since = self._misses.get(network, (0, now))
            if now - since > WINDOW:
                self._misses.pop(network)
                count, since = 0, now
            self._misses[network] = count + 1, since
            if len(self._misses) > MOST_KEPT:
                del self._misses[next(iter(self._misses))]
