"""Turns for computing checksums: limits how many sessions do that at once, across threads and processes.

One user has at most half of the turns, so the files of one do not keep others waiting. Sessions in
processes take theirs with locks on bytes of a file in memory, which the kernel gives back when a process
ends, however it does. What may not enter: what is computed. Facts: fcntl(2), memfd_create(2).
"""

from __future__ import annotations

import fcntl
import os
import zlib
from _thread import allocate_lock
from collections import Counter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def half(most: int) -> int:
    """The number of turns that one user may have."""
    return (most + 1) // 2


class ProcessTurns:
    """The turns of processes that are forked from this one. most: maximum at once. Raises OSError."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._descriptor = os.memfd_create("pysftpd-checksums", os.MFD_CLOEXEC)

    def of(self, user: str) -> ProcessTurn:
        """What a session of a user takes its turns from, in its process."""
        first = zlib.crc32(user.encode())
        places = [(first + number) % self._most for number in range(half(self._most))]
        return ProcessTurn(self._descriptor, places)


class ProcessTurn:
    """A process's turn. places: the bytes of the file, one of which has to be locked."""

    def __init__(self, descriptor: int, places: Iterable[int]) -> None:
        self._descriptor = descriptor
        self._places = places
        self._taken = -1

    def take(self) -> bool:
        for place in self._places:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except BlockingIOError:
                continue
            self._taken = place
            return True
        return False

    def give_back(self) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, self._taken)


class ThreadTurns:
    """The turns of the sessions in this process. most: maximum at once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = allocate_lock()
        self._taken: Counter[str] = Counter()

    def of(self, user: str) -> ThreadTurn:
        """What a session of a user takes its turns from."""
        return ThreadTurn(self, user)

    def take(self, user: str) -> bool:
        """Take a turn; return whether there was one."""
        with self._lock:
            if self._taken.total() >= self._most or self._taken[user] >= half(self._most):
                return False
            self._taken[user] += 1
            return True

    def give_back(self, user: str) -> None:
        """Give a turn back."""
        with self._lock:
            self._taken[user] -= 1
            if not self._taken[user]:
                del self._taken[user]


class ThreadTurn:
    """One session's turn."""

    def __init__(self, turns: ThreadTurns, user: str) -> None:
        self._turns = turns
        self._user = user

    def take(self) -> bool:
        return self._turns.take(self._user)

    def give_back(self) -> None:
        self._turns.give_back(self._user)
