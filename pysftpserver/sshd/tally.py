"""Counts what the processes of one user have open together, in memory that only they share.

Each writes its own number and reads those of all: a process that writes nonsense there harms its own user
alone. The fork server creates the memory, assigns the places in it, and clears the place of a process that
has ended, for whatever reason. What may not enter: what is counted, sockets.
Facts: memfd_create(2), mmap(2).
"""

from __future__ import annotations

import mmap
import os
import sys

from pysftpserver.pysftpexceptions import SFTPLimitReached
from pysftpserver.sshd.orders import FULL, NOT_BEGUN, USER_IS_FULL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PLACES = 1 << 14  # preceded by the number of those that may be in use
NUMBER = 4  # bytes
SIZE = (PLACES + 1) * NUMBER


class Tally:
    """The memory of one user, as the fork server sees it. Raises OSError."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("pysftpd-tally", os.MFD_CLOEXEC)
        os.ftruncate(self.descriptor, SIZE)
        self._free: list[int] = []
        self._used = 0
        self.count = 0  # places that are taken

    def enter(self) -> int | None:
        """The place of a new session, or None if all are taken."""
        if not self._free:
            if self._used == PLACES:
                return None
            self._used += 1
            self._free.append(self._used)
            self._write(0, self._used)
        self.count += 1
        return self._free.pop()

    def leave(self, place: int) -> None:
        """A session has ended."""
        self.clear(place)
        self._free.append(place)
        self.count -= 1

    def clear(self, place: int) -> None:
        """Clear the place of a process that has ended. Its session may go on in another one."""
        self._write(place, 0)

    def _write(self, place: int, number: int) -> None:
        os.pwrite(self.descriptor, number.to_bytes(NUMBER, sys.byteorder), place * NUMBER)

    def close(self) -> None:
        """Close the memory here."""
        os.close(self.descriptor)


class NoRoom(Exception):
    """There can be no further session. status: the one that ENDED reports."""

    def __init__(self, status: int) -> None:
        self.status = status


class Tallies:
    """The tallies of all users with sessions. most: maximum number of sessions; one user may have half."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._tallies: dict[bytes, Tally] = {}

    def __getitem__(self, name: bytes) -> Tally:
        return self._tallies[name]

    def enter(self, name: bytes) -> int:
        """A place in the tally of a user for one more session. Raises NoRoom."""
        if sum(one.count for one in self._tallies.values()) >= self._most:
            raise NoRoom(FULL)
        try:
            tally = self._tallies.get(name) or self._tallies.setdefault(name, Tally())
        except OSError:
            raise NoRoom(NOT_BEGUN) from None
        entry = tally.enter() if tally.count < max(1, self._most // 2) else None
        if entry is None:
            raise NoRoom(USER_IS_FULL)
        return entry

    def leave(self, name: bytes, entry: int) -> None:
        """A session of a user has ended."""
        tally = self._tallies[name]
        tally.leave(entry)
        if not tally.count:
            tally.close()
            del self._tallies[name]

    def let_go(self, name: bytes) -> None:
        """In a new process: close those of other users."""
        for other, tally in self._tallies.items():
            if other != name:
                tally.close()


class Share:
    """One process's part of a tally, at the place that enter() gave it: what HandleTable counts with.

    descriptor: of the user's memory, which is closed here. most: how many all processes of the user may have
    together; each process may exceed it by one. refused: called when that is reached. Raises OSError.
    """

    def __init__(self, descriptor: int, place: int, most: int, refused: Callable[[], None]) -> None:
        self._numbers = memoryview(mmap.mmap(descriptor, SIZE)).cast("I")
        os.close(descriptor)
        self._place = place
        self._most = most
        self._refused = refused
        self._count = 0

    def check(self) -> None:
        """Raises SFTPLimitReached when the user may have no more."""
        used = min(self._numbers[0], PLACES)
        if sum(self._numbers[1 : used + 1]) >= self._most:
            self._refused()
            raise SFTPLimitReached(f"{self._most} open files and directories of one user (max_handles)")

    def add(self, change: int) -> None:
        """Count that many more for this process, or fewer if negative."""
        self._count += change
        self._numbers[self._place] = self._count
