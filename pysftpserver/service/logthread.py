"""Writes a log in a separate thread: a disk or a pipe that accepts no data delays only the log.

The number of waiting bytes is limited; lines beyond that are left out and counted.
What may not enter: what the lines say.
"""

from __future__ import annotations

import threading
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 4 << 20  # bytes that wait


class LogThread:
    """The thread of one log.

    write: writes one line; it may block. left_out: makes the line that says how many lines were left out.
    most: bytes that may wait.
    """

    def __init__(
        self, write: Callable[[bytes], None], left_out: Callable[[int], bytes], most: int = MOST
    ) -> None:
        self._write = write
        self._left_out = left_out
        self._most = most
        self._waiting: deque[bytes | Callable[[], None]] = deque()
        self._size = 0  # bytes of lines that wait or are being written
        self._missed = 0
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def append(self, line: bytes) -> None:
        """Queue a line; if too many bytes wait, leave it out and count it. Never blocks."""
        with self._changed:
            if self._size + len(line) > self._most:
                self._missed += 1
                return
            self._size += len(line)
            self._waiting.append(line)
            self._changed.notify()

    def call(self, work: Callable[[], None]) -> None:
        """Call something in the thread, after the lines that wait. It must not raise."""
        with self._changed:
            self._waiting.append(work)
            self._changed.notify()

    def flush(self, seconds: float) -> None:
        """Wait until everything is written, for at most this many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not (self._waiting or self._size or self._missed), seconds)

    def close(self, seconds: float) -> bool:
        """Write the waiting lines, then end; return whether that was done within seconds."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._missed or self._is_closed)
                if self._waiting:
                    one = self._waiting.popleft()
                elif self._missed:
                    one, self._missed = self._left_out(self._missed), 0
                    self._size += len(one)
                else:
                    return
            if not isinstance(one, bytes):
                one()
                continue
            self._write(one)
            with self._changed:
                self._size -= len(one)
                self._changed.notify_all()
