"""Reads the fields of SSH's binary formats: keys, certificates, revocation lists.

What may not enter: what the fields mean. Facts: RFC 4251 section 5.
"""

from __future__ import annotations


class Fields:
    """The fields of some data, one after another.

    what: names the data in messages, such as "the key". error: made from a message and raised.
    """

    def __init__(self, data: bytes, what: str, error: type[Exception]) -> None:
        self._data = data
        self._what = what
        self._error = error
        self.position = 0

    def raw(self, size: int) -> bytes:
        """Bytes that are not preceded by their length."""
        start, self.position = self.position, self.position + size
        if self.position > len(self._data):
            raise self._error(f"{self._what} is cut off")
        return self._data[start : self.position]

    def whole(self, size: int) -> int:
        """An unsigned number of that many bytes."""
        return int.from_bytes(self.raw(size), "big")

    def string(self) -> bytes:
        """Bytes that are preceded by their length, in 4 bytes."""
        return self.raw(self.whole(4))

    def number(self) -> int:
        """A positive number in the one form that SSH allows (mpint)."""
        field = self.string()
        if not field or field[0] & 0x80 or (field[0] == 0 and not (len(field) > 1 and field[1] & 0x80)):
            raise self._error(f"a number in {self._what} is not in SSH's form")
        return int.from_bytes(field, "big")

    def inner(self, what: str) -> Fields:
        """The fields in a string."""
        return Fields(self.string(), what, self._error)

    def __bool__(self) -> bool:
        """Whether there are more."""
        return self.position < len(self._data)

    def end(self) -> None:
        """Raise the error if there are more."""
        if self:
            raise self._error(f"there is more after {self._what}")
