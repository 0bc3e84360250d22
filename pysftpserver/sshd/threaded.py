"""A session that is served in this process, each piece of work in a thread, one at a time for each session.

What may not enter: SSH, users, single requests.
"""

from __future__ import annotations

import asyncio
from functools import partial

from pysftpserver.engine.wire import PACKET_HEADER, u32_at
from pysftpserver.sshd.channel import EXIT_BROKEN, EXIT_CLEAN
from pysftpserver.sshd.tickets import MOST_FILES, open_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pysftpserver.server import SFTPServer
    from pysftpserver.service.threads import Threads
    from pysftpserver.sshd.channel import Channel

    Take = Callable[[Callable[[], None]], bool]

AT_ONCE = 512 << 10  # bytes in one piece of work, if they contain a packet
LOOKING = 0.5  # seconds for looking at open files


class ThreadedSession:
    """Serves a channel with an engine.

    user: the name under which it takes turns for threads. take: does work when it is the user's turn on the
    event loop.
    """

    isolation = "thread"
    handles = 0  # the server counts them

    def __init__(self, channel: Channel, server: SFTPServer, threads: Threads, user: str, take: Take) -> None:
        self._channel = channel
        self._take = take
        self._server = server
        self._threads = threads
        self._user = user
        self._rest = bytearray()
        self._at_eof = False
        self._is_busy = False
        self._is_closed = False
        self._looking: asyncio.Future[list[dict[str, Any]]] | None = None
        self._seen: list[dict[str, Any]] = []

    def feed(self, data: bytes) -> None:
        self._rest += data
        self.go_on()

    def feed_eof(self) -> None:
        self._at_eof = True
        self.go_on()

    def go_on(self) -> None:
        """Serve received requests as long as the client takes replies."""
        if not self._is_busy and not self._is_closed and not self._channel.takes_no_more():
            if self._server.ended is not None:
                self._channel.finish(EXIT_BROKEN)
            elif has_packet(self._rest, self._server.limits.packet):
                self._is_busy = True
                data = bytes(memoryview(self._rest)[: max(AT_ONCE, first_packet(self._rest))])
                done = self._threads.run(self._user, partial(_serve_all, self._server, data))
                done.add_done_callback(lambda done: self._take(partial(self._served, done)))
            elif self._at_eof:
                self._channel.finish(EXIT_CLEAN)
        self._channel.changed()

    def _served(self, done: asyncio.Future[tuple[int, bytes]]) -> None:
        self._is_busy = False
        if done.cancelled():  # the event loop ends
            return
        used, replies = done.result()
        del self._rest[:used]
        self._channel.took(used)
        if self._is_closed:
            self._close()
            return
        if replies:
            self._channel.write(replies)
        self.go_on()

    def is_at_work(self) -> bool:
        return self._is_busy or bool(self._rest or self._server.handles.opened)

    def drain(self) -> None:
        pass  # changed() is called after each piece of work

    def rest(self) -> None:
        pass  # there is no process to give back

    def close(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            self._server.stopping = True
            if not self._is_busy:
                self._close()

    cut = close  # a thread cannot be ended

    def _close(self) -> None:
        """Close what the session has open, in a thread: some storages talk to other hosts for that."""
        self._threads.run_now(partial(_close, self._server)).add_done_callback(self._closed)

    def _closed(self, done: asyncio.Future[None]) -> None:
        self._channel.moved.add(self._server.handles.moved)
        self._channel.gone()

    async def report(self) -> dict[str, Any]:
        if self._looking is None or self._looking.done():
            self._looking = self._threads.run_now(partial(open_files, self._server))
        await asyncio.wait((self._looking,), timeout=LOOKING)
        if self._looking.done() and not self._looking.cancelled():
            self._seen = self._looking.result()
        return {
            "files": self._seen[:MOST_FILES],
            "more_files": max(0, len(self._seen) - MOST_FILES),
            "handles": len(self._server.handles.opened),
        }

    def figures(self) -> dict[str, dict[str, float]]:
        return {}  # the server has them


def _close(server: SFTPServer) -> None:
    """In a thread: close what a session has open, and its storage."""
    try:
        server.close()
    finally:
        server.storage.release()


def has_packet(data: bytearray, longest: int) -> bool:
    """Whether there is a complete packet, or one that the engine has to refuse."""
    if len(data) <= PACKET_HEADER:
        return False
    length = first_packet(data)
    return not PACKET_HEADER < length <= PACKET_HEADER + longest or len(data) >= length


def first_packet(data: bytearray) -> int:
    """Size in bytes of the first packet, whose header must be in the data."""
    return PACKET_HEADER + u32_at(data, 0, len(data))


def _serve_all(server: SFTPServer, data: bytes) -> tuple[int, bytes]:
    """In a thread: (bytes consumed, replies)."""
    used = server.consume(memoryview(data), 0, len(data))
    replies = server.output_queue
    server.output_queue = b""
    return used, replies
