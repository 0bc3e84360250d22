"""A session in a folder that gives its process back while idle, and goes on in another one.

A session without an open file has no state beyond its ticket, so a thousand idle sessions do not need a
thousand processes. It keeps its place among those that may have one, so there is always room for its next
request. To the channel, this object is the session; to the session in a process, it is the channel. What may
not enter: SSH, storages, requests.
"""

from __future__ import annotations

import asyncio

from pysftpserver.sshd.channel import EXIT_BROKEN, EXIT_CLEAN
from pysftpserver.sshd.isolated import NOTHING_OPEN
from pysftpserver.sshd.tickets import log_refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.sshd.channel import Channel
    from pysftpserver.sshd.isolated import IsolatedSession

    Start = Callable[[Any, IsolatedSession | None], IsolatedSession]


class RestingSession:
    """Serves a channel with one process after another.

    start: makes the session of a process, for a channel and the session of the process before it, or None;
    raises OSError. log: the session's.
    """

    isolation = "process"

    def __init__(self, channel: Channel, start: Start, log: SFTPLog) -> None:
        self._channel = channel
        self._start = start
        self._log = log
        self._before: IsolatedSession | None = None  # the one that has left and keeps a place
        self._is_closed = False
        self._is_draining = False
        self._session: IsolatedSession | None = start(self, None)
        self.has_begun = self._session.has_begun
        self.takes_no_more = channel.takes_no_more
        self.write = channel.write
        self.took = channel.took
        self.changed = channel.changed
        self.moved = channel.moved
        self.finish = channel.finish

    @property
    def handles(self) -> int:
        return 0 if self._session is None else self._session.handles

    # --- what the channel calls ---------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        if self._session is None and not self._is_closed:
            self._go_on_in_another_process()
        if self._session is not None:
            self._session.feed(data)

    def feed_eof(self) -> None:
        if self._session is not None:
            self._session.feed_eof()
        elif not self._is_closed:
            self._channel.finish(EXIT_CLEAN)

    def go_on(self) -> None:
        if self._session is not None:
            self._session.go_on()

    def close(self) -> None:
        was_closed, self._is_closed = self._is_closed, True  # before gone() is called from here
        if self._session is not None:
            self._session.close()
        elif not was_closed:
            self._give_up()
            asyncio.get_running_loop().call_soon(self._channel.gone)

    def cut(self) -> None:
        self.close()
        if self._session is not None:
            self._session.cut()

    def drain(self) -> None:
        self._is_draining = True
        if self._session is not None:
            self._session.drain()

    def rest(self) -> None:
        if self._session is not None:
            self._session.leave()

    def is_at_work(self) -> bool:
        return self._session is not None and self._session.is_at_work()

    async def report(self) -> dict[str, Any]:
        return NOTHING_OPEN if self._session is None else await self._session.report()

    def figures(self) -> dict[str, dict[str, float]]:
        return {} if self._session is None else self._session.figures()

    # --- what a process's session calls as well -----------------------------------------------------------

    def gone(self) -> None:
        """The process has ended."""
        session = self._session
        if session is not None and session.has_left:
            self._before = session
        if session is None or not session.has_left or self._is_closed:
            self._give_up()
            self._channel.gone()
            return
        self._session = None
        for data in session.take_unsent():
            self.feed(data)
        if session.at_eof:
            self.feed_eof()
        self._channel.changed()

    def _go_on_in_another_process(self) -> None:
        try:
            self._session = self._start(self, self._before)
        except OSError as error:
            self._give_up()
            log_refusal(self._log, error)
            self._channel.finish(EXIT_BROKEN)
            return
        self._session.has_begun.add_done_callback(self._has_gone_on)
        if self._is_draining:
            self._session.drain()

    def _give_up(self) -> None:
        if self._before is not None:
            self._before.forget()
            self._before = None

    def _has_gone_on(self, begun: asyncio.Future[bool]) -> None:
        if not begun.cancelled() and not begun.result() and not self._is_closed:
            self._channel.finish(EXIT_BROKEN)
            self._channel.gone()
