"""One SFTP session on an SSH channel: asyncssh on one side, the engine on the other.

Requests that a local file system answers at once are served in the event loop. Those that may take longer
(all of a storage that talks to another host; on a local one copies, removals, syncs and the like) are served
in a thread, one at a time for each session, so that no session delays another. What may not enter: users,
logins, single requests.
"""

from __future__ import annotations

import asyncio
from functools import partial

import asyncssh

from pysftpserver.engine import wire
from pysftpserver.engine.segments import LONGEST_READ, LateRead
from pysftpserver.engine.wire import PACKET_HEADER, u32_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.server import SFTPServer
    from pysftpserver.sshd.threads import Threads

SUBSYSTEM = "sftp"
MOST_WAITING = 512 << 10  # bytes received and not served yet; at more, receiving pauses
MOST_UNSENT = 512 << 10  # bytes of replies in the channel
SEGMENTS_AT_ONCE = 64
QUICK = frozenset(
    (
        wire.SSH2_FXP_INIT,
        wire.SSH2_FXP_OPEN,
        wire.SSH2_FXP_CLOSE,
        wire.SSH2_FXP_READ,
        wire.SSH2_FXP_WRITE,
        wire.SSH2_FXP_LSTAT,
        wire.SSH2_FXP_FSTAT,
        wire.SSH2_FXP_OPENDIR,
        wire.SSH2_FXP_READDIR,
        wire.SSH2_FXP_REALPATH,
        wire.SSH2_FXP_STAT,
        wire.SSH2_FXP_READLINK,
    )
)

EXIT_CLEAN, EXIT_BROKEN = 0, 255

#: Late reads are read into this buffer, which all channels share: its content is copied at once.
_ROOM = memoryview(bytearray(LONGEST_READ))


def quick_part(data: memoryview, start: int, end: int, longest: int) -> tuple[int, int]:
    """(end of the complete quick packets, end of the slow one that follows them or the same).

    longest: bytes of a packet. An invalid length counts as quick, because the engine complains of it.
    """
    position = start
    while end - position > PACKET_HEADER:
        length = u32_at(data, position, end)
        if not 0 < length <= longest:
            return end, end
        stop = position + PACKET_HEADER + length
        if stop > end:
            break
        if data[position + PACKET_HEADER] not in QUICK:
            return position, stop
        position = stop
    return position, position


class Channel(asyncssh.SSHServerSession[bytes]):
    """One channel.

    begin: creates the engine when the client asks for SFTP; called once. on_end: called at the end. is_full:
    whether the connection takes no more data; go_on() has to be called when it does again.
    """

    def __init__(
        self,
        begin: Callable[[Channel], SFTPServer | None],
        on_end: Callable[[Channel], None],
        threads: Threads,
        user: str,
        is_full: Callable[[], bool] = lambda: False,
    ) -> None:
        self.server: SFTPServer | None = None
        self._has_begun = False
        self.received = 0  # bytes
        self.sent = 0
        self.moved_at = asyncio.get_running_loop().time()
        self._begin = begin
        self._on_end = on_end
        self._threads = threads
        self._user = user
        self._is_connection_full = is_full
        self._rest = bytearray()
        self._is_full = False
        self._is_paused = False
        self._is_busy = False
        self._in_vain = 0  # bytes of the rest that a thread has seen and that hold no complete packet
        self._on_idle: Callable[[], None] | None = None
        self._at_eof = False
        self._is_closed = False
        self._is_closing = False  # open files are being closed in a thread
        self._is_lost = False  # the client has closed the channel as well

    # --- what asyncssh calls ------------------------------------------------------------------------------

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        self.chan = chan

    def subsystem_requested(self, subsystem: str) -> bool:
        if subsystem != SUBSYSTEM or self._has_begun:
            return False
        self.server = self._begin(self)
        if self.server is None:
            return False
        self._has_begun = True
        self._serves_inline = not self.server.storage.uses_network
        return True

    def pty_requested(self, term_type: str, term_size: object, term_modes: object) -> bool:
        return False

    def session_started(self) -> None:
        self.chan.set_write_buffer_limits(high=MOST_UNSENT, low=MOST_UNSENT // 4)

    def data_received(self, data: bytes, datatype: int | None) -> None:
        self.received += len(data)
        self.moved_at = asyncio.get_running_loop().time()
        self._rest += data
        self._go_on()

    def eof_received(self) -> bool:
        self._at_eof = True
        self._go_on()
        return True

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self.go_on()

    def go_on(self) -> None:
        """The client has taken some data."""
        self.moved_at = asyncio.get_running_loop().time()
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_closed = True
        self._is_lost = True
        if self.server is not None:
            self.server.stopping = True
            if not self._is_busy:
                self._close()
        elif not self._is_closing:
            self._on_end(self)

    # --- serving ------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Serve received requests as far as the client takes replies."""
        server = self.server
        while server is not None and not self._is_busy and not self._is_closed:
            self._flush(server)
            if server.ended is not None:
                self._finish(EXIT_BROKEN)
                break
            if self._takes_no_more() or not self._serve(server):
                break
        self._pause_or_resume()
        if self._at_eof and not self._is_busy and not self._takes_no_more() and not self._is_closed:
            self._finish(EXIT_CLEAN)
        if self._on_idle is not None:
            self._tell_if_idle(self._on_idle)

    def _serve(self, server: SFTPServer) -> bool:
        """Serve some of the received requests; whether more may be served now."""
        rest = self._rest
        with memoryview(rest) as data:
            if self._serves_inline:
                start, stop = quick_part(data, 0, len(rest), server.limits.packet)
            else:
                start, stop = 0, len(rest)
            used = server.consume(data, 0, start) if start else 0
        if used:
            del rest[:used]
            return True
        if start < stop and len(rest) > max(PACKET_HEADER, self._in_vain):
            self._serve_in_thread(server, bytes(rest[:stop]))
        return False

    def _serve_in_thread(self, server: SFTPServer, data: bytes) -> None:
        self._is_busy = True
        done = self._threads.run(self._user, partial(_serve_all, server, data))
        done.add_done_callback(self._served)

    def _served(self, done: asyncio.Future[tuple[int, int, bytes]]) -> None:
        self._is_busy = False
        if done.cancelled():  # the event loop ends
            return
        seen, used, replies = done.result()
        del self._rest[:used]
        self._in_vain = 0 if used else seen
        if self._is_closed:
            self._close()
            return
        if replies:
            self._write(replies)
        self._go_on()

    def _flush(self, server: SFTPServer) -> None:
        """Write replies until there are no more or the channel is full."""
        output = server.output
        while output.segments and not self._takes_no_more():
            if isinstance(output.segments[0], LateRead):
                reply = bytes(output.first(_ROOM))
            else:
                reply = b"".join(output.batch(SEGMENTS_AT_ONCE))
            output.sent(len(reply))
            self._write(reply)

    def _takes_no_more(self) -> bool:
        return self._is_full or self._is_connection_full()

    def _write(self, data: bytes) -> None:
        if self.chan.is_closing():  # the connection is ending
            return
        self.sent += len(data)
        self.chan.write(data)

    def _pause_or_resume(self) -> None:
        wants_pause = len(self._rest) > MOST_WAITING
        if wants_pause and not self._is_paused:
            self._is_paused = True
            self.chan.pause_reading()
        elif self._is_paused and not wants_pause and not self._is_closed:
            self._is_paused = False
            self.chan.resume_reading()

    # --- the end ------------------------------------------------------------------------------------------

    def is_at_work(self) -> bool:
        """Whether a file is open, a request is being served, or a reply has not been sent."""
        server = self.server
        if self._is_busy or server is None:
            return self._is_busy
        return bool(self._rest or server.handles.opened or server.output.segments or self._takes_no_more())

    def drain(self, on_idle: Callable[[], None]) -> None:
        """From now on, call on_idle whenever the channel is not at work: now if it is not."""
        self._on_idle = on_idle
        if self._has_begun:
            self.chan.set_write_buffer_limits(high=0)  # it counts as full while anything is unsent
        self._tell_if_idle(on_idle)

    def _tell_if_idle(self, on_idle: Callable[[], None]) -> None:
        if not self.is_at_work():
            on_idle()

    def _finish(self, status: int) -> None:
        self._is_closed = True
        self.chan.exit(status)
        self._close()

    def _close(self) -> None:
        """Close what the session has open, in a thread, because some storages talk to other hosts then."""
        server, self.server = self.server, None
        if server is not None:
            self._is_closing = True
            self._threads.run_now(server.close).add_done_callback(self._closed)

    def _closed(self, done: asyncio.Future[None]) -> None:
        self._is_closing = False
        if self._is_lost:  # otherwise the channel still counts as open
            self._on_end(self)


def _serve_all(server: SFTPServer, data: bytes) -> tuple[int, int, bytes]:
    """In a thread: (bytes handed over, bytes consumed, replies)."""
    used = server.consume(memoryview(data), 0, len(data))
    replies = server.output_queue
    server.output_queue = b""
    return len(data), used, replies
