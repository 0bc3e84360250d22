"""Limits the log lines that one user or address can cause, and counts those that are left out.

The limit is an average over BURST seconds, so that a short burst is logged completely. Threads may share it;
each process counts for itself. What may not enter: what the lines say, files.
"""

from __future__ import annotations

import time
from _thread import allocate_lock  # threading would do work in each new process

from pysftpserver.engine.log import ERROR, SFTPLog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BURST = 20.0  # seconds
TELLING = 10.0  # seconds between two lines that say how many were left out
KNOWN = 4096  # users and addresses that are remembered; those that were silent longest are forgotten


class _Caused:
    """The lines that one user or address has caused."""

    __slots__ = ("left_out", "room", "since")

    def __init__(self, room: float, since: float) -> None:
        self.room = room  # lines that may follow at once
        self.since = since
        self.left_out = 0


class LogLimit:
    """Logs of users and addresses over one log. rate: lines a second; None: no limit; it may change.

    on_left_out: called for each line that is left out.
    """

    def __init__(
        self,
        log: SFTPLog,
        rate: int | None,
        on_left_out: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rate = rate
        self._log = log
        self._on_left_out = on_left_out
        self._clock = clock
        self._lock = allocate_lock()
        self._caused: dict[str, _Caused] = {}  # the one that was silent longest first
        self._pending: set[str] = set()
        self._told_at = clock()

    def of(self, who: str) -> SFTPLog:
        """The log of a user or an address, all of whose lines are counted together."""
        return SFTPLog(lambda level, text: self.write(who, level, text), self._log.level)

    def write(self, who: str, level: int, text: str) -> None:
        """Log a line that a user or address has caused, unless there are too many."""
        if level > self._log.level:
            return
        with self._lock:
            lets_through = self._lets_through(who)
        if lets_through:
            self._log.write(level, text)
        else:
            self._on_left_out()
        if self._pending and self._clock() - self._told_at >= TELLING:
            self.tell()

    def tell(self) -> None:
        """Log how many lines of each cause were left out since the last time."""
        with self._lock:
            self._told_at = self._clock()
            pending, self._pending = self._pending, set()
            counts = []
            for who in sorted(pending):
                counts.append((who, self._caused[who].left_out))
                self._caused[who].left_out = 0
        for who, count in counts:
            self._log.write(ERROR, f"{who}: {count} log lines were left out (log_rate)")

    def _lets_through(self, who: str) -> bool:
        if self.rate is None:
            return True
        now, most = self._clock(), self.rate * BURST
        caused = self._caused.pop(who, None) or _Caused(most, now)
        self._caused[who] = caused
        if len(self._caused) > KNOWN:
            oldest = next(iter(self._caused))
            self._pending.discard(oldest)
            del self._caused[oldest]
        caused.room = min(most, caused.room + (now - caused.since) * self.rate)
        caused.since = now
        if caused.room < 1:
            caused.left_out += 1
            self._pending.add(who)
            return False
        caused.room -= 1
        return True
