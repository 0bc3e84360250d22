"""What a server sends to one client: messages gathered into few writes, and limits for who does not read.

What may not enter: what messages say, what a connection's end means to others.
"""

from __future__ import annotations

import asyncio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.laboratory.config import Options
    from pysftpserver.laboratory.wire import Codec

HIGH = 256 << 10  # bytes that wait to be sent, before the client is waited for
GATHERED = 64 << 10  # characters, before they are handed over


class Outgoing:
    """The messages for one client. give_up: called with the reason, when the client does not read."""

    def __init__(
        self, transport: asyncio.Transport, options: Options, give_up: Callable[[str], None]
    ) -> None:
        high = min(HIGH, options.max_unsent // 2)
        transport.set_write_buffer_limits(high, high // 4)
        self._transport = transport
        self._options = options
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self.codec: Codec | None = None
        self._texts: list[str] = []  # for the next write
        self._size = 0  # characters of them
        self._is_due = False
        self._written = 0  # bytes that were handed over to be sent
        self._room: asyncio.Future[None] | None = None
        self._stall: asyncio.TimerHandle | None = None
        #: Whether the client does not take what is sent, just now.
        self.is_full = False
        self._is_over = False

    def add(self, text: str, is_flushed_later: bool) -> None:
        """Send a message with the next write. is_flushed_later: by who calls this.

        Afterwards, is_full says whether more should wait.
        """
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
        """Hand over what is there."""
        if not self._texts:
            return
        texts, self._texts = self._texts, []
        self._size = 0
        if self.codec is None or self._is_over or self._transport.is_closing():
            return
        unsent = self._transport.get_write_buffer_size()
        if unsent > self._options.max_unsent:
            self._give_up(f"it does not read: {unsent} bytes wait for it (max_unsent)")
            return
        data = self.codec.encode(texts)
        self._written += len(data)
        self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the client has taken most of what was sent."""
        self.flush()
        if self.is_full and not self._is_over:
            if self._room is None:
                self._room = self._loop.create_future()
            await asyncio.shield(self._room)

    def pause(self) -> None:
        """As asyncio's pause_writing()."""
        self.is_full = True
        self._watch()

    def resume(self) -> None:
        """As asyncio's resume_writing()."""
        self.is_full = False
        if self._room is not None:
            self._room.set_result(None)
            self._room = None

    def close(self) -> None:
        """The connection is over."""
        self._is_over = True
        if self._stall is not None:
            self._stall.cancel()
        self.resume()

    def _taken(self) -> int:
        return self._written - self._transport.get_write_buffer_size()

    def _watch(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
        self._stall = self._loop.call_later(self._options.stall_timeout, self._check, self._taken())

    def _check(self, before: int) -> None:
        if not self.is_full or self._is_over:
            return
        if self._taken() <= before:
            seconds = self._options.stall_timeout
            self._give_up(f"it does not read: nothing was taken for {seconds:g} seconds (stall_timeout)")
            return
        self._watch()
