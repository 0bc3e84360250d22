"""A set of small integers, one bit each: which chunks of a file are stored. What may not enter: I/O."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


class Bitmap:
    """A set of integers from 0 on. The chunks of a file of a terabyte take half a megabyte."""

    __slots__ = ("_bits", "_count")

    def __init__(self) -> None:
        self._bits = bytearray()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, number: int) -> bool:
        byte = number >> 3
        return byte < len(self._bits) and bool(self._bits[byte] >> (number & 7) & 1)

    def add(self, number: int) -> None:
        """Add a number."""
        if number not in self:
            byte = number >> 3
            if byte >= len(self._bits):
                self._bits.extend(bytes(byte + 1 - len(self._bits)))
            self._bits[byte] |= 1 << (number & 7)
            self._count += 1

    def cut(self, stop: int) -> bool:
        """Remove the numbers from stop on; return whether there were any."""
        before = self._count
        for number in range(stop, len(self._bits) * 8):
            if number in self:
                self._bits[number >> 3] &= ~(1 << (number & 7)) & 0xFF
                self._count -= 1
        del self._bits[(stop + 7) >> 3 :]
        return self._count < before

    def gaps(self, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the runs of missing numbers below stop, each as (first, last + 1)."""
        first = None
        number = 0
        while number < stop:
            byte = number >> 3
            is_byte = number & 7 == 0 and number + 8 <= stop
            if is_byte and first is None and byte < len(self._bits) and self._bits[byte] == 0xFF:
                number += 8
                continue
            if is_byte and first is not None and (byte >= len(self._bits) or not self._bits[byte]):
                number += 8
                continue
            if number not in self:
                first = number if first is None else first
            elif first is not None:
                yield first, number
                first = None
            number += 1
        if first is not None:
            yield first, stop
