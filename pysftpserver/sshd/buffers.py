"""Buffers for what a connection has received and not yet used, and for what it sends.

asyncssh copies much of the former, and sends each packet by itself, which wakes the client each time.
What may not enter: SSH, limits.
"""

from __future__ import annotations

from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio


LOOKS = 16  # looks at what was received (two for each packet) for one look at the clock


class Received:
    """What was received and not yet used, in place of asyncssh's bytes.

    Twice for each packet, asyncssh takes bytes from the front and copies the rest.
    Here received[n:] changes the object and returns it: the old value must not be needed any more.

    until: time by time.monotonic() after which the buffer counts as empty, which ends asyncssh's work; None:
    never. has_ended: whether that has happened.
    """

    __slots__ = ("_data", "_looks", "_start", "has_ended", "until")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._start = 0
        self._looks = 0
        self.until: float | None = None
        self.has_ended = False

    def __bool__(self) -> bool:
        if self._start >= len(self._data):
            return False
        if self.until is None:
            return True
        self._looks += 1
        if self._looks % LOOKS == 0 and monotonic() >= self.until:
            self.has_ended = True
            return False
        return True

    def __len__(self) -> int:
        return len(self._data) - self._start

    def __iadd__(self, data: bytes) -> Received:
        self._data = self._data[self._start :] + data
        self._start = 0
        return self

    def __getitem__(self, part: slice) -> bytes | Received:
        start = self._start + (part.start or 0)
        if part.stop is None:
            if start < len(self._data):
                self._start = start
            else:
                self._data, self._start = b"", 0
            return self
        return self._data[start : self._start + part.stop]


class Outgoing:
    """What a connection sends, in place of its transport's write().

    What is written inside a `with` block is sent at its end, in one piece.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._write = transport.write
        self._depth = 0
        self._held: list[bytes] = []
        transport.write = self.write  # type: ignore[method-assign, assignment]

    def write(self, data: bytes) -> None:
        """Send data, or drop it if the transport has failed.

        asyncssh learns of a failure in the next round of the event loop. Until then, asyncio would log each
        write as "socket.send() raised exception."
        """
        if self._depth:
            self._held.append(data)
        elif not self._transport.is_closing():
            self._write(data)

    def __enter__(self) -> Outgoing:
        self._depth += 1
        return self

    def __exit__(self, *exception: object) -> None:
        self._depth -= 1
        if self._held and not self._depth:
            data = b"".join(self._held)
            self._held.clear()
            self.write(data)
