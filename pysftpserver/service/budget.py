"""One ceiling for something that many peers use, such as memory: portions of it are taken and given back.

Three quarters are shared, and one holder may take at most half of those. The rest is reserved in equal parts
for all connections, so small needs are met whatever others have taken. What may not enter: what is counted.
"""

from __future__ import annotations

import threading
from collections import Counter

RESERVED = 4  # one part in this many is reserved
STEP = 64 << 10  # the amount that a portion takes at once


class Exhausted(Exception):
    """There is not enough left. The text names the limit.

    holder: the one that would have to give something back: it asks for too much, or it has most.
    """

    def __init__(self, text: str, holder: str) -> None:
        super().__init__(text)
        self.holder = holder


class Budget:
    """The total for all holders. Threads may share it.

    most: the ceiling. connections: maximum number of portions.
    """

    def __init__(self, most: int, connections: int) -> None:
        self._lock = threading.Lock()
        self._taken = 0
        self._of: Counter[str] = Counter()
        self.limit(most, connections)

    def limit(self, most: int, connections: int) -> None:
        """Set a new ceiling; amounts already taken stay taken."""
        self.most = most
        self.reserve = most // (RESERVED * connections)
        self._common = most - self.reserve * connections

    @property
    def taken(self) -> int:
        """The amount that is taken now, without reserves."""
        return self._taken

    def take(self, holder: str, amount: int) -> None:
        """Take an amount of the shared part; a negative amount gives it back. Raises Exhausted."""
        with self._lock:
            taken, of_holder = self._taken + amount, self._of[holder] + amount
            if amount > 0 and taken > self._common:
                largest = max(self._of, key=self._of.__getitem__)
                raise Exhausted(f"all together need more than {self.most} bytes", largest)
            if amount > 0 and of_holder > self._common // 2:
                raise Exhausted(
                    f"one user or address needs more than {self._common // 2} of {self.most} bytes", holder
                )
            self._taken = taken
            self._of[holder] = of_holder
            if not of_holder:
                del self._of[holder]


class Portion:
    """One connection's part of a budget. holder: the user, or the address if it has not logged in."""

    def __init__(self, budget: Budget, holder: str) -> None:
        self._budget = budget
        self._holder = holder
        self._left = budget.reserve
        self._taken = 0

    def take(self, amount: int) -> None:
        """Take an additional amount. Raises Exhausted."""
        self._left -= amount
        if self._left < 0:
            more = STEP - self._left
            self._budget.take(self._holder, more)
            self._taken += more
            self._left = STEP

    def hold(self, amount: int) -> None:
        """Hold exactly this many bytes in all. Raises Exhausted, and changes nothing then."""
        wanted = -(-max(0, amount - self._budget.reserve) // STEP) * STEP
        if wanted != self._taken:
            self._budget.take(self._holder, wanted - self._taken)
            self._taken = wanted

    def give_back(self) -> None:
        """Give everything back, if that was not done before."""
        taken, self._taken = self._taken, 0
        if taken:
            self._budget.take(self._holder, -taken)
