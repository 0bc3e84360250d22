"""A set of small integers, one byte each: which chunks of a file are stored. What may not enter: I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator


class Bitmap:
    """A set of integers from 0 on. The chunks of a file of a terabyte take four megabytes."""

    __slots__ = ("_count", "_marks")

    def __init__(self) -> None:
        self._marks = bytearray()  # 1 for each number that is in the set
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, number: int) -> bool:
        return number < len(self._marks) and bool(self._marks[number])

    def add(self, number: int) -> None:
        """Add a number."""
        if number not in self:
            self._marks.extend(bytes(max(0, number + 1 - len(self._marks))))
            self._marks[number] = 1
            self._count += 1

    def cut(self, stop: int) -> bool:
        """Remove the numbers from stop on; return whether there were any."""
        before = self._count
        del self._marks[stop:]
        self._count = self._marks.count(1)
        return self._count < before

    def gaps(self, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the runs of missing numbers below stop, each as (first, last + 1)."""
        marks = self._marks[:stop].ljust(stop, b"\0")
        return (run.span() for run in re.finditer(rb"\0+", marks))
