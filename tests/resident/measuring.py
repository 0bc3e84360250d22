"""What the tests of memory share: figures, the flatness check, and a client that sends and does not read."""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tests.cli.sessions import SessionCase
from tests.support.doors import Door, Wire
from tests.support.packets import MAX_PACKET, request, string, u32

MOST = 20 << 10  # KiB resident, for any session with few open handles
GROWTH = 1024  # KiB between two points far apart: the allocator's whims, and no leak
TAKEN = 4 << 20  # bytes of requests; who takes more from a client that reads nothing takes everything
BLOCK = 1 << 16  # bytes

STATUS, HANDLE, DATA = b"\x65", b"\x66", b"\x67"

Expected = bytes | Callable[[bytes], bool]


def status(number: int, code: int, text: bytes) -> bytes:
    """The body of a STATUS."""
    return STATUS + u32(number) + u32(code) + string(text) + string(b"")


def packed(body: bytes) -> bytes:
    """A packet with that body."""
    return u32(len(body)) + body


def raw(wire: Wire, name: str, *parts: bytes) -> bytes:
    """Send a request; the body of its reply, as it came."""
    wire.send(request(name, 1, *parts))
    return wire.packet()


class MemoryCase(SessionCase):
    def assert_below(self, session: Door, most: int = MOST) -> None:
        """The peak of its memory, in KiB."""
        self.assertLess(session.memory("VmHWM"), most)

    def assert_flat(self, session: Door, act: Callable[[int], Any], turns: int) -> None:
        """Do act(turn) so often: from the first quarter to the last, the peak stays where it was."""
        early = 0
        for turn in range(turns):
            act(turn)
            if turn == turns // 4:  # caches are full by now, and the allocator has found its shape
                early = session.memory("VmHWM")
        growth = session.memory("VmHWM") - early
        self.assertLess(growth, GROWTH, f"from {early} KiB, it grew by {growth}")
        self.assert_below(session)

    def exchange(self, wire: Wire, asked: bytes, expected: bytes) -> None:
        """Send requests whose replies fit the way back, and compare all of these at once."""
        wire.send(asked)
        self.assertEqual(wire.take(len(expected)), expected)


class Pusher:
    """A client that sends as many requests as are taken, and reads replies when it is told to.

    requests: pairs of a request and its reply: the body of that, or a function that says whether it is one.
    """

    def __init__(
        self, session: Door, ours: socket.socket, requests: Iterable[tuple[bytes, Expected]]
    ) -> None:
        self._session = session
        self._ours = ours
        self._requests: Iterator[tuple[bytes, Expected]] = iter(requests)
        self._expected: deque[Expected] = deque()
        self._unsent = b""
        self._received = b""
        self._at = 0
        self.answered = 0

    def push(self) -> int:
        """Send until the server takes no more and sleeps; how many bytes it took."""
        taken = 0
        while taken < TAKEN:
            if not self._unsent:
                self._unsent = self._block()
            count = self._send()
            if not count:
                self._session.wait_until_it_waits()
                count = self._send()
                if not count:
                    return taken
            taken += count
        raise AssertionError("it reads without end")

    def _block(self) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while size < BLOCK:
            asked, expected = next(self._requests)
            pieces.append(asked)
            size += len(asked)
            self._expected.append(expected)
        return b"".join(pieces)

    def _send(self) -> int:
        try:
            count = self._ours.send(self._unsent, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        self._unsent = self._unsent[count:]
        return count

    def _take(self, size: int) -> bytes:
        """The next bytes; what comes with them is kept, since most replies are very short."""
        while len(self._received) - self._at < size:
            piece = self._ours.recv(1 << 18)
            if not piece:
                raise AssertionError("the replies end")
            self._received = self._received[self._at :] + piece
            self._at = 0
        self._at += size
        return self._received[self._at - size : self._at]

    def read_half(self) -> None:
        """Half of what is outstanding, in order, each reply compared with the one that was expected."""
        self._read(len(self._expected) // 2)

    def read_all(self) -> None:
        sending = threading.Thread(target=self._ours.sendall, args=(self._unsent,), daemon=True)
        sending.start()
        self._unsent = b""
        self._read(len(self._expected))
        sending.join()

    def _read(self, count: int) -> None:
        for _ in range(count):
            expected = self._expected.popleft()
            body = self._take(int.from_bytes(self._take(4), "big"))
            right = expected(body) if callable(expected) else body == expected
            if not right or len(body) > MAX_PACKET:
                raise AssertionError(f"reply {self.answered}: {body[:60]!r}, not {expected!r:.200}")
            self.answered += 1
