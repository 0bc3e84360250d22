"""One SSH channel: asyncssh on one side, an SFTP session on the other, in threads or in a process of its own.

It passes bytes on, and keeps either side from sending more than the other takes: it limits the client by the
channel's window (window.py), and the session by not reading from it. What may not enter: users, logins,
requests, where the session is served.
"""

from __future__ import annotations

import asyncio

import asyncssh

from pysftpserver.service.sums import Refused, understood
from pysftpserver.sshd.guarded import GuardedConnection
from pysftpserver.sshd.moved import Moved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any, Protocol

    from pysftpserver.service.sums import Command, Output
    from pysftpserver.sshd.window import Window

    class Session(Protocol):
        """Serves a channel. It calls the channel's write(), finish(), took(), changed() and gone(), and adds
        to moved before gone().
        """

        @property
        def isolation(self) -> str:
            """The value of the setting that means this kind."""

        @property
        def handles(self) -> int:
            """The number of open handles in another process, as far as this one knows."""

        def feed(self, data: bytes) -> None:
            """Take bytes from the client; the channel's took() is called when they are no longer kept."""

        def feed_eof(self) -> None:
            """Note that the client sends no more."""

        def go_on(self) -> None:
            """Go on sending: the client takes bytes again."""

        def close(self) -> None:
            """End: the channel is closed, or will be. gone() follows. May be called twice."""

        def cut(self) -> None:
            """End at once: the user may not be served any longer."""

        def drain(self) -> None:
            """From now on, call changed() whenever nothing is at work."""

        def rest(self) -> None:
            """Nothing has moved for a while: give back what an idle session does not need."""

        def is_at_work(self) -> bool:
            """Whether a file is open, a request is being served, or a reply is not in the channel."""

        async def report(self) -> dict[str, Any]:
            """The open files: `files` and `more_files`; and `handles`, the number of all open handles."""

        def figures(self) -> dict[str, dict[str, float]]:
            """The counts of requests in another process, as far as this one knows."""


SUBSYSTEM = "sftp"
WEB = "web"  # the command that prints a link for a browser
MOST_UNSENT = 512 << 10  # bytes of replies in the channel
MOST_REPLIES = 4 << 10  # bytes of a session's replies to a command, usually some hundreds
EXIT_CLEAN, EXIT_BROKEN = 0, 255


class Channel(asyncssh.SSHServerSession[bytes]):
    """One channel.

    begin: makes the session when the client asks for SFTP, or returns None; called once. It may set `session`
    before it returns: then the session is closed if the client leaves meanwhile. on_end: called at the end.
    window: how much the client may send. is_full: whether the connection takes no more data; call go_on()
    when it does again. on_kept: called when more data is kept that cannot be sent yet. answers: whether
    commands for checksums are answered. moved: where sessions add what they have moved.
    link: what the command WEB prints; None: it is refused.
    """

    def __init__(
        self,
        begin: Callable[[Channel], Awaitable[Session | None]],
        on_end: Callable[[Channel], None],
        window: Window,
        is_full: Callable[[], bool] = lambda: False,
        on_kept: Callable[[], None] = lambda: None,
        answers: bool = False,
        moved: Moved | None = None,
        link: Callable[[], Awaitable[Output]] | None = None,
    ) -> None:
        self.session: Session | None = None
        self.received = 0  # bytes
        self.sent = 0
        self.moved_at = asyncio.get_running_loop().time()
        self._begin = begin
        self._beginning: asyncio.Task[None] | None = None
        self._on_end = on_end
        self.window = window
        self.moved = moved or Moved()
        self.took = window.took
        self._is_connection_full = is_full
        self._on_kept = on_kept
        self._is_full = False
        self._is_cut = False
        self._answers = answers
        self._link = link
        self._is_for_link = False
        self._command: Command | None = None  # in place of SFTP
        self._data = b""  # for the command: input, or the session's replies
        self._on_idle: Callable[[], None] | None = None
        self._is_lost = False  # the client has closed the channel as well
        self._is_over = False

    # --- what asyncssh calls ------------------------------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self.chan = chan
        connection = chan.get_connection()
        assert isinstance(connection, GuardedConnection)
        self._outgoing = connection.outgoing

    def subsystem_requested(self, subsystem: str) -> bool:
        if subsystem != SUBSYSTEM or self._beginning is not None:
            return False
        self._beginning = asyncio.ensure_future(self._start())
        return None  # type: ignore[return-value]  # asyncssh then waits for _report_response()

    def exec_requested(self, command: str) -> bool:
        if command == WEB and self._link is not None and self._beginning is None:
            self._is_for_link = True  # session_started() follows at once
            return True
        if not self._answers or self._beginning is not None:
            return False
        try:
            self._command = understood(command.encode())
        except Refused:
            return False
        if self._command is None or not self._command.requests:
            return self._command is not None
        self._beginning = asyncio.ensure_future(self._start())
        return None  # type: ignore[return-value]  # as above

    async def _start(self) -> None:
        session = await self._begin(self)
        if session is not None:
            self.session = session
            if self._is_lost or self._is_cut:
                session.cut()
        elif self._is_lost:
            self._end()
        if not self._is_lost:
            self.chan._report_response(session is not None)

    def pty_requested(self, term_type: str, term_size: object, term_modes: object) -> bool:
        return False

    async def _give_link(self, link: Callable[[], Awaitable[Output]]) -> None:
        output = await link()
        if self._is_lost:
            self._end()
        else:
            self._print(output)
            self.changed()

    def session_started(self) -> None:
        if self._is_for_link and self._link is not None:
            self._beginning = asyncio.ensure_future(self._give_link(self._link))
            return
        limit = MOST_UNSENT if self._on_idle is None else 0
        self.chan.set_write_buffer_limits(high=limit, low=limit // 4)
        if self._command is not None and self.session is not None:
            self.session.feed(self._command.requests)
            self.session.feed_eof()
        elif self._command is not None and not self._command.reads:
            self.finish(EXIT_CLEAN)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self.received += len(data)
        self.moved_at = asyncio.get_running_loop().time()
        self.window.received(len(data))
        if self.session is not None and self._command is None:
            self.session.feed(data)
            return
        if self._command is not None and self._command.reads:
            self._data = data[:1]
        self.took(len(data))

    def eof_received(self) -> bool:
        if self._command is not None:
            if self._command.reads:
                self.finish(EXIT_CLEAN)
        elif self.session is not None:
            self.session.feed_eof()
        return True

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self.go_on()

    def go_on(self) -> None:
        """The client has taken some data."""
        self.moved_at = asyncio.get_running_loop().time()
        if self.session is not None:
            self.session.go_on()
            self.changed()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        if self.session is not None:
            self.session.close()
        elif self._beginning is None or self._beginning.done():
            self._end()

    # --- what a session calls -----------------------------------------------------------------------------

    def takes_no_more(self) -> bool:
        """Whether replies have to wait; go_on() of the session is called when they need not."""
        return self._is_full or self._is_connection_full()

    def write(self, data: bytes) -> None:
        """Send bytes to the client."""
        if self.chan.is_closing():  # the connection is ending
            return
        if self._command is not None:
            self._data = (self._data + data)[-MOST_REPLIES:]
            return
        self.sent += len(data)
        with self._outgoing:
            self.chan.write(data)
        if self.chan.get_write_buffer_size() or self._is_connection_full():
            self._on_kept()

    def finish(self, status: int) -> None:
        """The session has ended."""
        if not self._is_lost:
            if self._command is not None:
                self._print(self._command.output(self._data))
            else:
                self.chan.exit(status)
        if self.session is not None:
            self.session.close()

    def _print(self, output: Output) -> None:
        """Send what a command prints, and its exit status."""
        self.sent += len(output.out) + len(output.errors)
        self.chan.write(output.out)
        self.chan.write_stderr(output.errors)
        self.chan.exit(output.status)

    def changed(self) -> None:
        """The session may be idle now."""
        if self._on_idle is not None and not self.is_at_work():
            self._on_idle()

    def gone(self) -> None:
        """Note that the session is gone. The channel counts as open until the client closes it."""
        self.session = None
        self.took(self.window.kept)
        if self._is_lost:
            self._end()

    def _end(self) -> None:
        if not self._is_over:
            self._is_over = True
            self.window.close()
            self._on_end(self)

    # --- the end ------------------------------------------------------------------------------------------

    def is_at_work(self) -> bool:
        """Whether a file is open, a request is being served, or a reply has not been sent."""
        if self.session is None:
            return self._beginning is not None and not self._beginning.done()
        return self.session.is_at_work() or self.takes_no_more()

    def drain(self, on_idle: Callable[[], None]) -> None:
        """From now on, call on_idle whenever the channel is idle, which may be at once."""
        self._on_idle = on_idle
        if self.session is not None:
            self.chan.set_write_buffer_limits(high=0)  # it counts as full while anything is unsent
            self.session.drain()
        self.changed()

    def cut(self) -> None:
        """End the session at once."""
        self._is_cut = True
        if self.session is not None:
            self.session.cut()
