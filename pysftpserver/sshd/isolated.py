"""A session in its own process, as the process that serves SSH sees it: it passes bytes on.

Both directions are bounded: what the session does not take stays with the client, and vice versa.
The event loop is given descriptors, because it would print a socket that it does not know in an error.
What may not enter: SSH, storages, requests, how processes are forked (forker.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import socket
from collections import deque

from pysftpserver.engine.log import LEVELS
from pysftpserver.service.turns import at_once
from pysftpserver.sshd.channel import EXIT_BROKEN, EXIT_CLEAN
from pysftpserver.sshd.metrics import number, of_requests
from pysftpserver.sshd.moved import of_session
from pysftpserver.sshd.orders import (
    DRAIN,
    FULL,
    LEAVE,
    LONGEST,
    NOT_BEGUN,
    OUT_OF_MEMORY,
    OUT_OF_TIME,
    REPORT,
    STOP,
    USER_IS_FULL,
)
from pysftpserver.sshd.tickets import as_told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import FileIO
    from typing import Any

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.sshd.channel import Channel
    from pysftpserver.sshd.forker import Forker
    from pysftpserver.sshd.tickets import Root, Ticket

SMALL = 16 << 10  # bytes; less is sent at once, and joined if it has to wait; more is collected
PIECES = 64  # that one system call sends
AT_ONCE = 256 << 10  # bytes that are read from a session in one go
LINES_AT_ONCE = 16  # of a session's log; then others have their turn
ANSWERING = 0.5  # seconds for a session to say which files are open
LOST = 30.0  # seconds for a session to end after its client has gone
CUT = 1.0  # seconds for a session to end when it must
NO_PROCESS = {
    NOT_BEGUN: "no process can be started for it",
    FULL: "as many have a process as may have one (max_sessions)",
    USER_IS_FULL: "the user has half of all processes that there may be (max_sessions)",
}
OWN_LIMITS = ("max_handles", "session_memory")  # those that a session itself reports as reached
NOTHING_OPEN: dict[str, Any] = {"files": [], "more_files": 0, "handles": 0}


class IsolatedSession:
    """Serves a channel by a process.

    log: the session's. files: other descriptors that the process needs; they are closed here. on_limit:
    called with the name of a limit that it has reached. on_end: called with the counts of requests; why the
    process was ended (one of CAUSES), None if it has ended by itself; and whether it has recorded its end.
    before: the session that goes on in this one, or None. take: does work when it is the user's turn; returns
    whether that was at once.
    Raises OSError where there are no descriptors left.
    """

    isolation = "process"

    def __init__(
        self,
        channel: Channel,
        forker: Forker,
        ticket: Ticket,
        log: SFTPLog,
        files: Sequence[FileIO],
        on_limit: Callable[[str], None],
        on_end: Callable[[dict[str, dict[str, float]], str | None, bool], None],
        before: IsolatedSession | None = None,
        take: Callable[[Callable[[], None]], bool] = at_once,
    ) -> None:
        self._channel = channel
        self._take = take
        self._forker = forker
        self._log = log
        self._on_limit = on_limit
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self.has_begun: asyncio.Future[bool] = self._loop.create_future()
        self._unsent: deque[bytes | bytearray | memoryview] = deque()
        self._is_writing = False  # _send() is called when the session takes more
        self._will_send = False  # or before
        self._forwarded = self._taken = 0  # bytes
        self._idle_at = (-1, -1)  # how many of them it had moved when it was idle
        self._status: int | None = None
        self._reads = False
        self._waits = False  # for the user's turn, to read
        self.at_eof = False  # the client's
        self._is_silent = False  # the session has sent all that it will
        self._is_closed = False
        self._has_begun = False
        self._has_ended = False
        self.root: Root | None = None
        self.has_left = False  # because it was idle
        self._is_leaving = False  # or stays: nothing is sent to it until it says which
        self._stayed_at = (-1, -1)
        self._last: dict[str, Any] = {**NOTHING_OPEN, "figures": {}}
        self._last_at = (-1, -1)
        self._asked: asyncio.Future[None] | None = None
        self._killing: asyncio.TimerHandle | None = None
        self._was_killed = False
        with contextlib.ExitStack() as opened:
            pairs = (
                socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM),
                socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET),
            )
            for pair in pairs:
                for one in pair:
                    opened.callback(one.close)
                    one.setblocking(one is not pair[0])
            (self._data, theirs), (self._talk, talk) = pairs
            opened.pop_all()
        self._loop.add_reader(self._talk.fileno(), self._heard)
        self.number: int
        earlier = 0 if before is None else before.number
        self.number = forker.begin(self, ticket, (theirs, talk, *files), earlier)

    @property
    def handles(self) -> int:
        """The number of open handles when the process was last asked."""
        return self._last["handles"]  # type: ignore[no-any-return]

    # --- from the client ----------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        if self._is_closed:
            return
        if len(data) >= SMALL:
            self._unsent.append(data)
        elif self._unsent and isinstance(last := self._unsent[-1], bytearray) and len(last) < SMALL:
            last += data  # so that many small pieces do not become many objects
        else:
            self._unsent.append(bytearray(data))
        if self._will_send:
            return
        if len(data) < SMALL:
            self._send()
        else:  # more may come in this round of the event loop
            self._will_send = True
            self._loop.call_soon(self._send)

    def feed_eof(self) -> None:
        self.at_eof = True
        if not self._unsent and not self._is_closed and not self._is_leaving:
            self._end_of_requests()

    def _send(self) -> None:
        """Send to the session as much as it takes."""
        if self._is_closed or self._is_leaving:
            return
        try:
            count = self._data.sendmsg(itertools.islice(self._unsent, PIECES))
        except BlockingIOError:
            count = 0
        except OSError:  # the session has ended; reading says so
            count = sum(map(len, self._unsent))
        self._forwarded += count
        rest = count
        while self._unsent and rest >= len(self._unsent[0]):
            rest -= len(self._unsent.popleft())
        if rest:
            self._unsent[0] = memoryview(self._unsent[0])[rest:]
        if bool(self._unsent) != self._is_writing:
            self._is_writing = not self._is_writing
            if self._is_writing:
                self._loop.add_writer(self._data.fileno(), self._send)
            else:
                self._loop.remove_writer(self._data.fileno())
        self._will_send = self._is_writing
        if self.at_eof and not self._unsent:
            self._end_of_requests()
        self._channel.took(count)

    def _end_of_requests(self) -> None:
        with contextlib.suppress(OSError):
            self._data.shutdown(socket.SHUT_WR)

    # --- from the session ---------------------------------------------------------------------------------

    def go_on(self) -> None:
        self._read_or_not()

    def _read_or_not(self) -> None:
        """Read from the session as long as the client takes its replies."""
        wants = not (self._is_closed or self._is_silent or self._waits or self._channel.takes_no_more())
        if wants and not self._reads:
            self._loop.add_reader(self._data.fileno(), self._on_readable)
        elif self._reads and not wants:
            self._loop.remove_reader(self._data.fileno())
        self._reads = wants

    def _on_readable(self) -> None:
        if not self._take(self._read):
            self._waits = True
            self._read_or_not()

    def _read(self) -> None:
        self._waits = False
        if self._is_closed or self._is_silent or self._channel.takes_no_more():
            self._read_or_not()
            return
        try:
            data = self._data.recv(AT_ONCE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._taken += len(data)
            self._channel.write(data)
        else:
            self._is_silent = True
        self._read_or_not()
        self._finish_if_over()
        self._channel.changed()

    def _heard(self) -> None:
        """Receive what the session reports about itself."""
        for _ in range(LINES_AT_ONCE):
            try:
                message = self._talk.recv(LONGEST)
            except BlockingIOError:
                return
            except OSError:
                message = b""
            if not message:
                self._loop.remove_reader(self._talk.fileno())
                return
            self._act_on(message)

    def _act_on(self, data: bytes) -> None:
        try:
            self._learn(json.loads(data))
        except Exception:  # it may have been taken over: nothing that it says may do harm here
            self._log.error("the session's process says what makes no sense, and is ended")
            self._loop.remove_reader(self._talk.fileno())
            self._channel.finish(EXIT_BROKEN)
            self.cut()

    def _learn(self, message: dict[str, Any]) -> None:
        if "log" in message:
            level, text = message["log"]
            if level not in LEVELS.values() or not isinstance(text, str):
                raise ValueError(level)
            self._log.write(level, text)
        elif "begun" in message:
            self.root = message.get("root")
            self._begin(message["begun"])
        elif "idle" in message:
            self._idle_at = tuple(message["idle"])
            self._channel.changed()
        elif "report" in message:
            self._last = _report(message["report"])
            if self._asked is not None and not self._asked.done():
                self._asked.set_result(None)
        elif "left" in message:
            self._is_leaving = False
            self._stayed_at = self._forwarded, self._taken
            self._send()
        elif "ended" in message:
            self._last = {**NOTHING_OPEN, "figures": of_requests(message["figures"])}
            self._channel.moved.add(of_session(message["moved"]))
            self._status = message["ended"]
            self.has_left = self._is_leaving and message["has_left"]
        elif message["limited"] in OWN_LIMITS:
            self._on_limit(message["limited"])
        else:
            raise ValueError(message["limited"])

    def _begin(self, has_begun: bool) -> None:
        if not self.has_begun.done():
            self.has_begun.set_result(has_begun)
        if has_begun:
            self._has_begun = True
            self._read_or_not()

    # --- for the server -----------------------------------------------------------------------------------

    def is_at_work(self) -> bool:
        if self._is_closed or (self._is_silent and not self.has_left):
            return False
        return bool(self._unsent) or self._idle_at != (self._forwarded, self._taken)

    def drain(self) -> None:
        self._ask(DRAIN)

    def rest(self) -> None:
        pass  # it keeps its process

    def leave(self) -> None:
        """Let the process end if it has nothing to do and nothing open: has_left is true then, and gone() is
        called.
        """
        moved = self._forwarded, self._taken
        is_over = self._is_closed or self._is_silent or self._has_ended or self.at_eof
        if not (
            is_over or self._is_leaving or self._will_send or self._stayed_at == moved or self.root is None
        ):
            self._is_leaving = self._will_send = True
            self._ask(LEAVE)

    def forget(self) -> None:
        """Give up its place after it has left, because no other process follows."""
        self._forker.forget(self.number)

    def take_unsent(self) -> list[bytes]:
        """The data that the client has sent since."""
        unsent = list(map(bytes, self._unsent))
        self._unsent.clear()
        return unsent

    async def report(self) -> dict[str, Any]:
        moved = (self._forwarded, self._taken)
        if moved != self._last_at and not self._has_ended:  # otherwise nothing has changed
            if self._asked is None or self._asked.done():
                self._asked = self._loop.create_future()
                self._ask(REPORT)
            done, _ = await asyncio.wait((self._asked,), timeout=ANSWERING)
            if done:
                self._last_at = moved
        return self._last

    def figures(self) -> dict[str, dict[str, float]]:
        return self._last["figures"]  # type: ignore[no-any-return]

    def _ask(self, question: bytes) -> None:
        with contextlib.suppress(OSError):
            self._talk.send(question)

    # --- the end ------------------------------------------------------------------------------------------

    def close(self) -> None:
        self._end(LOST)

    def cut(self) -> None:
        self._end(CUT)

    def _end(self, seconds: float) -> None:
        """End the session, and kill it if it has not ended after that many seconds."""
        if not self._is_closed:
            self._is_closed = True
            self._loop.remove_writer(self._data.fileno())
            self._read_or_not()
            self._data.close()
            self._unsent.clear()
            if self._has_ended:
                self._channel.gone()
            if self._status is None:
                self._forker.signal(self.number, STOP)
        if not self._has_ended and (
            self._killing is None or self._killing.when() > self._loop.time() + seconds
        ):
            if self._killing is not None:
                self._killing.cancel()
            self._killing = self._loop.call_later(seconds, self._kill)

    def _kill(self) -> None:
        self._was_killed = True
        self._forker.signal(self.number, signal.SIGKILL)

    def ended(self, status: int) -> None:
        """Handle the end of its process. status: as from wait(2), or why there was no process."""
        self._has_ended = True
        if self._killing is not None:
            self._killing.cancel()
        self._hear_the_rest()
        if status in NO_PROCESS:
            self._log.error(f"no session: {NO_PROCESS[status]}")
            if status != NOT_BEGUN:
                self._on_limit("max_sessions")
        cause = None if status in NO_PROCESS else self._cause(status)
        if cause is not None and (self._was_killed or not self._is_closed):
            self._log.error(f"the session's process ended {words_for(status)} ({cause})")
        if self._has_begun and self._status is None:
            self._channel.moved.lacks_some = True
        self._begin(False)
        if self._asked is not None and not self._asked.done():
            self._asked.set_result(None)
        self._on_end(self.figures(), cause, self._status is not None)
        self._last["figures"] = {}
        self._talk.close()
        if self._is_closed:
            self._channel.gone()
        else:
            self._finish_if_over()

    def _cause(self, status: int) -> str | None:
        """Why the process was ended, one of CAUSES; None: it ended by itself, or never began.

        status: as wait(2) has it.
        """
        said = status >> 8 if self._status is None else self._status
        if said == OUT_OF_MEMORY:
            return "session_memory"
        if self._status is not None or not self._has_begun:
            return None
        if status & 0x7F:
            return "unresponsive" if self._was_killed else "signal"
        return "session_seconds" if said == OUT_OF_TIME else "fault"

    def _hear_the_rest(self) -> None:
        self._loop.remove_reader(self._talk.fileno())
        with contextlib.suppress(OSError):
            while message := self._talk.recv(LONGEST):
                self._act_on(message)

    def _finish_if_over(self) -> None:
        """Close the channel once all replies are in it and the process has ended."""
        if self._is_silent and self._has_ended and not self._is_closed:
            if self.has_left:
                self._is_closed = True
                self._data.close()
                self._channel.gone()
                return
            self._channel.finish(EXIT_CLEAN if self._status == 0 else EXIT_BROKEN)
            self._channel.gone()


def _report(told: Any) -> dict[str, Any]:
    """A session's report, checked. Raises ValueError and others for anything else."""
    counts = {name: number(told[name]) for name in ("more_files", "handles")}
    return {**counts, "files": as_told(told["files"]), "figures": of_requests(told["figures"])}


def words_for(status: int) -> str:
    """How a process has ended, in words. status: as from wait(2)."""
    number = status & 0x7F
    if number:
        return f"by signal {number}"
    return f"with status {status >> 8}"
