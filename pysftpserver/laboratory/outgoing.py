"""The server's messages to one client: gathered into few writes, with limits for clients that do not read.

What may not enter: what messages say, what the end of a connection means to others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pysftpserver.laboratory.config import ServerSettings
from pysftpserver.laboratory.wire import Codec
from pysftpserver.service.patience import OutOfPatience, Patience

HIGH = 256 << 10  # unsent bytes at which the server waits for the client
GATHERED = 64 << 10  # characters that are gathered for one write


class Outgoing:
    """The messages for one client. give_up: called with the reason when the client does not read."""

    def __init__(
        self, transport: asyncio.Transport, settings: ServerSettings, give_up: Callable[[str], None]
    ) -> None:
        high = min(HIGH, settings.max_unsent // 2)
        transport.set_write_buffer_limits(high, high // 4)
        self._transport = transport
        self._settings = settings
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self.codec: Codec | None = None
        self._texts: list[str] = []  # for the next write
        self._size = 0  # characters of them
        self._is_due = False
        self._written = 0  # bytes handed to the transport
        self._room: asyncio.Future[None] | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._patience = Patience(settings.stall_timeout)
        self._waits_since, self._taken_before = 0.0, 0
        #: Whether the client is behind with reading, so that no more should be sent.
        self.is_full = False
        self._is_over = False

    def add(self, text: str, is_flushed_later: bool) -> None:
        """Send a message with the next write. is_flushed_later: whether the caller will call flush()."""
        if self._is_over:
            return
        self._texts.append(text)
        self._size += len(text)
        if self._size > GATHERED:
            self.flush()
        elif not is_flushed_later and not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._flush_due)

    def _flush_due(self) -> None:
        self._is_due = False
        self.flush()

    def flush(self) -> None:
        """Write the messages that were added."""
        if not self._texts:
            return
        texts, self._texts = self._texts, []
        self._size = 0
        if self.codec is None or self._is_over or self._transport.is_closing():
            return
        unsent = self._transport.get_write_buffer_size()
        if unsent > self._settings.max_unsent:
            self._give_up(f"it does not read: {unsent} bytes are unsent (max_unsent)")
            return
        data = self.codec.encode(texts)
        self._written += len(data)
        self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the client has read most of what was sent."""
        self.flush()
        if self.is_full and not self._is_over:
            if self._room is None:
                self._room = self._loop.create_future()
            await asyncio.shield(self._room)

    def pause(self) -> None:
        """As asyncio's pause_writing()."""
        self.is_full = True
        self._waits_since, self._taken_before = self._loop.time(), self._taken()
        self._watch()

    def resume(self) -> None:
        """As asyncio's resume_writing()."""
        if self.is_full and not self._is_over:
            self._count()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        self.is_full = False
        if self._room is not None:
            self._room.set_result(None)
            self._room = None

    def close(self) -> None:
        """The connection is over."""
        self._is_over = True
        self.resume()

    def _taken(self) -> int:
        return self._written - self._transport.get_write_buffer_size()

    def _count(self) -> int:
        """Report the bytes sent since the last call to the patience; return their number."""
        now, taken = self._loop.time(), self._taken()
        moved = taken - self._taken_before
        self._patience.waited(now - self._waits_since, moved)
        self._waits_since, self._taken_before = now, taken
        return moved

    def _watch(self) -> None:
        try:
            seconds = self._patience.left()
        except OutOfPatience:
            seconds = 0.0  # _check() then ends the connection
        self._stall = self._loop.call_later(seconds, self._check)

    def _check(self) -> None:
        try:
            if not self._count():
                raise self._patience.lost()
            self._patience.left()
            self._watch()
        except OutOfPatience as error:
            self._give_up(f"it does not read: {error} (stall_timeout)")
