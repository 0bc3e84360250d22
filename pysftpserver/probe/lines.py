"""A line to a server over the pipes of a child process, such as OpenSSH's ssh, with time limits.

Replies that arrive during a send are kept, so that the two sides cannot deadlock. The child and all that it
has started end with the line. What may not enter: packets. Facts: pidfd_open(2), waitid(2), killpg(3).
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time

from pysftpserver.contract.client import Broken, Closed, Silent
from pysftpserver.failures import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PIECE = 1 << 18  # bytes that are read at once
MOST_BYTES = 1 << 27  # bytes that a server may send to one rule; no rule asks for a tenth of this
MOST_WORDS = 4096  # bytes of standard error that are kept
ANY_BYTES = 1 << 62
LAST_LINES = 3
FAREWELL = 2.0  # seconds for the exit status and last messages of a child that has closed its output
ENDING = 1.0  # seconds for a child to end by itself, and then once more after SIGTERM
HURRY = 0.05  # the same, once many children have not ended in time
DYING = 10.0  # seconds for the kernel to end a child that was killed


class OutOfTime(Silent):
    """The time of the rule, or of the whole probe, is over."""


class Patience:
    """Limits of time and bytes, shared by all lines of a probe.

    seconds: without a byte, after which a server is Silent. until: the time, by now(), at which all waiting
    ends; why: the reason to give then. bytes: that may still arrive. ending: seconds for a child to end.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.ending = ENDING
        self.grant(float("inf"), "")

    def grant(self, until: float, why: str, most: int = MOST_BYTES) -> None:
        """Set new limits: until and why as above; most: bytes that may arrive meanwhile."""
        self.until = until
        self.why = why
        self.bytes = most

    def is_over(self) -> bool:
        """Whether the time is over."""
        return self.now() >= self.until

    def now(self) -> float:
        """Seconds, by a clock that is never put back."""
        return time.monotonic()

    def wait(self, poll: select.poll, seconds: float) -> list[tuple[int, int]]:
        """The events of a poll; [] if there are none within seconds."""
        return poll.poll(seconds * 1000)

    def received(self, count: int) -> None:
        """Count bytes that have arrived. Raises Broken when there are too many."""
        self.bytes -= count
        if self.bytes < 0:
            raise Broken("the server sent very many bytes, which nothing had asked for")


class PipeLine:
    """A child process as a line to a server; see contract.client.Line. Raises OSError if it does not start.

    is_closed: whether close() was called. left: why the child still runs after close(), or "".
    """

    def __init__(self, command: Sequence[str], patience: Patience) -> None:
        self._patience = patience
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(
            command, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
        assert self._child.stdin and self._child.stdout and self._child.stderr
        self._files = (self._child.stdin, self._child.stdout, self._child.stderr)
        self._to, self._from, self._errors = (file.fileno() for file in self._files)
        try:
            self._ended = os.pidfd_open(self._child.pid)
        except OSError:  # too many descriptors, or a sandbox forbids it
            os.killpg(self._child.pid, signal.SIGKILL)
            with self._child:  # waits, and closes the pipes
                raise
        for descriptor in (self._to, self._from, self._errors):
            os.set_blocking(descriptor, False)
        self._poll = select.poll()
        self._poll.register(self._from, select.POLLIN)
        self._poll.register(self._errors, select.POLLIN)
        self._kept = bytearray()
        self._words = bytearray()
        self._is_over = False  # its output has ended
        self._is_stuck = False  # it has exceeded a time limit
        self.is_closed = False
        self.left = ""

    # --- bytes --------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Send all of it; what arrives meanwhile is kept. Raises Closed, Silent."""
        rest = memoryview(data)
        deadline = 0.0
        while rest:
            try:
                rest = rest[os.write(self._to, rest) :]
                deadline = 0.0
                continue
            except BlockingIOError:
                deadline = deadline or self._patience.now() + self._patience.seconds
            except OSError:
                raise Closed(self._farewell()) from None
            self._poll.register(self._to, select.POLLOUT)
            try:
                self._wait(deadline, self._patience.seconds, "take what was sent")
            finally:
                self._poll.unregister(self._to)

    def receive(self, seconds: float) -> bytes:
        """Receive at least one byte. Raises Closed at the end, Silent if nothing arrived within seconds."""
        deadline = self._patience.now() + seconds
        while not self._kept:
            if self._is_over:
                raise Closed(self._farewell())
            self._wait(deadline, seconds, "answer")
        received = bytes(self._kept)
        self._kept.clear()
        return received

    def _wait(self, deadline: float, limit: float, what: str) -> None:
        """Wait for data and take what has arrived. Raises Silent after the deadline, even if data arrive
        then.

        limit: the seconds until the deadline; what: what the server should have done, for a sentence.
        """
        now = self._patience.now()
        left = min(deadline, self._patience.until) - now
        events = self._patience.wait(self._poll, left) if left > 0 else []
        if not events:
            self._is_stuck = True
            if self._patience.until <= deadline:
                raise OutOfTime(self._patience.why)
            raise Silent(f"the server did not {what} within {limit:g} seconds{self._after_words()}")
        for descriptor, _ in events:
            if descriptor != self._to:
                self._take(descriptor)

    def _take(self, descriptor: int) -> None:
        try:
            part = os.read(descriptor, PIECE)
        except BlockingIOError:
            return
        if not part:
            self._poll.unregister(descriptor)
            self._is_over = self._is_over or descriptor == self._from
        elif descriptor == self._errors:
            self._words = (self._words + part)[-MOST_WORDS:]
        else:
            self._kept += part
            self._patience.received(len(part))
            if len(self._kept) > MOST_BYTES:
                raise Broken("the server sends without end, and takes nothing")

    # --- the child ----------------------------------------------------------------------------------

    def words(self) -> str:
        """The last messages of the child, in one line, or ""."""
        lines = [line.strip() for line in self._words.decode("utf-8", "replace").splitlines()]
        return one_line("; ".join([line for line in lines if line][-LAST_LINES:]))

    def _after_words(self) -> str:
        words = self.words()
        return f" (it said: {words})" if words else ""

    def _farewell(self) -> str:
        """Why nothing more can be read or written, for a sentence."""
        status = self._exit_status(time.monotonic() + FAREWELL)
        return f"the server ended the session{status}{self._after_words()}"

    def _exit_status(self, deadline: float) -> str:
        if self.is_closed or not self._await_end(deadline):
            return ""
        result = os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
        if result is None or not result.si_status:
            return ""
        if result.si_code == os.CLD_EXITED:
            return f", with exit status {result.si_status}"
        try:
            return f", killed by {signal.Signals(result.si_status).name}"
        except ValueError:  # most real-time signals have no name
            return f", killed by signal {result.si_status}"

    def _await_end(self, deadline: float) -> bool:
        """Whether the child ends by the deadline. Its output is discarded: a full pipe would block it."""
        poll = select.poll()
        for descriptor in (self._from, self._errors, self._ended):
            poll.register(descriptor, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(left * 1000):
                if descriptor == self._ended:
                    self._last_words()
                    return True
                try:
                    part = os.read(descriptor, PIECE)
                except BlockingIOError:
                    continue
                if not part:
                    poll.unregister(descriptor)
                elif descriptor == self._errors:
                    self._words = (self._words + part)[-MOST_WORDS:]
        return False

    def _last_words(self) -> None:
        try:
            self._words = (self._words + os.read(self._errors, PIECE))[-MOST_WORDS:]
        except OSError:
            pass  # nothing more

    def close(self) -> None:
        """End the session, the child and all of its process group. May be called again."""
        if self.is_closed:
            return
        self._files[0].close()
        if self._child.returncode is None:
            self._end_child()
        for file in self._files:
            file.close()
        self.is_closed = True
        os.close(self._ended)

    def _end_child(self) -> None:
        has_ended = not self._is_stuck and self._ends()
        if not has_ended:
            self._signal(signal.SIGTERM)
            has_ended = self._ends()
        # The child has not been waited for yet, so no other process can have its number.
        self._signal(signal.SIGKILL)
        if has_ended or self._await_end(time.monotonic() + DYING):
            self._child.wait()
        else:
            self.left = f"process {self._child.pid} of the server, which cannot be ended"

    def _ends(self) -> bool:
        """Whether the child ends in time. A server's children are alike: wait less for the next one."""
        has_ended = self._await_end(time.monotonic() + self._patience.ending)
        if not has_ended:
            self._patience.ending = max(HURRY, self._patience.ending / 2)
        return has_ended

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self._child.pid, number)
        except OSError:
            pass  # it runs as another user: the end of its input has to suffice
