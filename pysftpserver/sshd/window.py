"""The windows of channels: how much clients may send before the server takes it (RFC 4254, section 5.2).

Over a distance, a client sends at most one window in each round trip. asyncssh's windows have a fixed size,
and it gives half a window back at a time, so a waiting client sends half a window. Here a window begins as
large as OpenSSH's and grows while the client fills it and the session keeps up. A promise cannot be taken
back, so promised bytes are bounded: for a channel, for a user, and for all together. What may not enter:
SFTP, users.
"""

from __future__ import annotations

from collections import Counter, deque

from asyncssh.constants import MSG_CHANNEL_WINDOW_ADJUST
from asyncssh.packet import UInt32

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncssh

FIRST = 2 << 20  # bytes of a window at first, as in OpenSSH
LEAST = 128 << 10  # or fewer if a user has many channels, down to this
PARTS = 16  # of a window; one is given back at a time
PROMISED = 2  # at most buffer_bytes divided by this is promised; connections end only above buffer_bytes
# One part in this many of these is for a user's first window, and less for each that follows.
BEGINNINGS = 8


class Windows:
    """How many bytes the channels of all users may be promised together.

    Windows that grow are counted as long as they are used. One holder may have as much as it leaves for the
    others, so the first has at most half, and each further one finds some. When others have come meanwhile,
    those that have more give some back as they send. First windows do not count for all, because few sessions
    fill one.

    size: the most that one window may be. buffer: bytes that may be kept for all clients.
    """

    def __init__(self, size: int, buffer: int) -> None:
        self._taken = 0
        self._of: Counter[str] = Counter()
        self._firsts: Counter[str] = Counter()
        self._channels: Counter[str] = Counter()
        self.limit(size, buffer)

    def limit(self, size: int, buffer: int) -> None:
        """Set new limits; what was promised stays promised."""
        self.size = size
        self._most = buffer // PROMISED

    def room(self, holder: str) -> int:
        """Bytes that a holder may be promised beyond what it has; negative if it has too many."""
        return (self._most - self._taken - self._of[holder] - self._firsts[holder]) // 2

    def take(self, holder: str, amount: int) -> None:
        """Count a promise; a negative amount gives it back."""
        self._taken += amount
        self._of[holder] += amount

    def opened(self, holder: str) -> int:
        """Count one more channel; return the bytes of its window at first."""
        self._channels[holder] += 1
        share = self._most // BEGINNINGS // self._channels[holder]
        size = min(self.size, FIRST, max(LEAST, share))
        self._firsts[holder] += size
        return size

    def closed(self, holder: str, size: int) -> None:
        """Forget a channel. size: of its window at first."""
        self._channels[holder] -= 1
        self._firsts[holder] -= size
        if not self._channels[holder]:
            del self._channels[holder], self._firsts[holder], self._of[holder]


class Window:
    """The window of one channel. holder: the user."""

    def __init__(self, windows: Windows, holder: str) -> None:
        self._windows = windows
        self._holder = holder
        self.size = self._first = windows.opened(holder)
        self._limit = self.size  # bytes that the client has ever been allowed to send
        self._limits = deque([self.size])  # earlier ones that it has not reached
        self._received = self._taken = 0  # bytes that came to the channel, and that its session has taken
        self._proof = 0  # a window that has grown is filled where this is reached
        self._is_filled = False  # the client has sent all that it may, and waits
        self._busy = 0  # bytes that the session has taken since it last had to wait
        self._counted = 0  # of the size, for the holder
        self._rested = 0  # what was taken when it was looked at
        self._is_closed = False

    def guard(self, channel: asyncssh.SSHServerChannel[bytes]) -> None:
        """Be the window of a channel; from now on, asyncssh gives nothing back in it."""
        self._channel = channel
        channel._init_recv_window = 0

    @property
    def kept(self) -> int:
        """Bytes that have arrived and that the session has not taken."""
        return self._limit - self._channel._recv_window - self._taken

    def received(self, count: int) -> None:
        """Bytes have come to the channel. If they end where a limit was, the client had to wait there."""
        self._received += count
        limits = self._limits
        while limits and limits[0] < self._received:
            limits.popleft()
        self._is_filled = bool(limits) and limits[0] == self._received >= self._proof

    def took(self, count: int) -> None:
        """The session has taken bytes: the client may send as many more."""
        self._taken += count
        kept = self.kept
        self._busy = self._busy + count if kept else 0
        if not kept and self._is_filled:  # both wait for each other
            self._grow()
        elif self.size > self._first:
            if not self._counted and self._windows.room(self._holder) >= self.size:
                self._count(self.size)
            if not self._counted:
                self.size = self._first
            elif self._windows.room(self._holder) < 0 or self._busy > self.size < 2 * kept:
                # The holder has too much, or the session is slower than the client.
                self.size -= min(count // 2, self.size - self._first)
                self._count(self.size)
        self._promise()

    def rest(self) -> None:
        """Stop counting a window that was not used since the last call."""
        if self._rested == self._taken and not self.kept:
            self._count(0)
        self._rested = self._taken

    def close(self) -> None:
        """Give back all that was promised. May be called twice."""
        if not self._is_closed:
            self._is_closed = True
            self._count(0)
            self._windows.closed(self._holder, self._first)

    def _count(self, size: int) -> None:
        self._windows.take(self._holder, size - self._counted)
        self._counted = size

    def _grow(self) -> None:
        most = self._counted + self._windows.room(self._holder)
        size = min(2 * self.size, self._windows.size, most)
        if size > self.size:
            self._is_filled = False
            self.size = size
            self._count(size)
            self._promise()
            self._proof = self._limit

    def _promise(self) -> None:
        """Tell the client how much more it may send, once that is a PARTS-th of the window."""
        more = self.size + self._taken - self._limit
        if more >= self.size // PARTS and not self._channel.is_closing():
            self._limit += more
            self._limits.append(self._limit)
            self._channel._recv_window += more
            self._channel.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(more))
