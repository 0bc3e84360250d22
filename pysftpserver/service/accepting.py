"""Accepting connections on an event loop, also when the process has run out of descriptors.

asyncio's own listeners write a traceback for each attempt then, a hundred at once, and clients wait in vain.
What may not enter: protocols, what a connection serves. Facts: accept(2), errors.
"""

from __future__ import annotations

import asyncio
import os
import socket

from pysftpserver.failures import reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pysftpserver.engine.log import SFTPLog

AT_ONCE = 32  # connections that are accepted before others have their turn
PAUSE = 1.0  # seconds without accepting when there is no descriptor left at all
QUIET = 10.0  # seconds between two lines about the same


class Seldom:
    """Logs an error at most every QUIET seconds, and says how often it happened meanwhile."""

    def __init__(self, log: SFTPLog) -> None:
        self._log = log
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def error(self, text: str, now: float) -> None:
        """Log a line. now: seconds of a monotonic clock."""
        if now - self._last.get(text, float("-inf")) < QUIET:
            self._left_out[text] = self._left_out.get(text, 0) + 1
            return
        self._last[text] = now
        times = self._left_out.pop(text, 0)
        self._log.error(f"{text} ({times} times more in the last {QUIET:g} seconds)" if times else text)


class Acceptor:
    """Accepts connections on a listening socket that does not block, until close().

    factory: makes the protocol of a connection. name: what the log calls the listener. reserve: descriptors
    that are kept for it. serves_in_need: whether a connection that needs one of them is served: the
    administrator's are. Others are closed at once, so that their clients do not wait.
    """

    def __init__(
        self,
        listening: socket.socket,
        factory: Callable[[], asyncio.BaseProtocol],
        log: SFTPLog,
        name: str,
        reserve: int = 1,
        serves_in_need: bool = False,
    ) -> None:
        self._listening = listening
        self._factory = factory
        self._seldom = Seldom(log)
        self._name = name
        self._most = reserve
        self._serves_in_need = serves_in_need
        self._reserve: list[int] = []
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.refused = 0  # connections that were closed for want of descriptors
        self._refill()
        self._loop.add_reader(listening, self._accept)

    def close(self) -> None:
        """Accept no more, and close the socket. It may have been closed before."""
        if self._listening.fileno() < 0:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()
        while self._reserve:
            os.close(self._reserve.pop())

    def _refill(self) -> None:
        self._timer = None
        try:
            while len(self._reserve) < self._most:
                self._reserve.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            if self._timer is None:
                self._timer = self._loop.call_later(PAUSE, self._refill)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                one, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:  # it has gone while it waited
                continue
            except OSError as error:
                self._accept_in_need(error)
                return
            self._serve(one)

    def _accept_in_need(self, error: OSError) -> None:
        """Use the reserve."""
        action = "served from the reserve" if self._serves_in_need else "closed at once"
        text = f"{self._name}: {reason_of(error)}: connections are {action}; raise the limit on open files"
        self._seldom.error(text, self._loop.time())
        one = None
        if self._reserve:
            os.close(self._reserve.pop())
            try:
                one, _ = self._listening.accept()
            except OSError:
                pass
        if one is None:
            self._rest()
        elif self._serves_in_need:
            self._serve(one)
        else:
            self.refused += 1
            one.close()
        if self._timer is None:
            self._refill()

    def _rest(self) -> None:
        """Try again after a while: the socket stays readable."""
        self._loop.remove_reader(self._listening)
        self._loop.call_later(PAUSE, self._go_on)

    def _go_on(self) -> None:
        if self._listening.fileno() >= 0:
            self._loop.add_reader(self._listening, self._accept)

    def _serve(self, one: socket.socket) -> None:
        one.setblocking(False)
        task = self._loop.create_task(self._connect(one))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, one: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, one)
        except OSError as error:  # it has gone already, or epoll takes no more
            one.close()
            self._seldom.error(f"{self._name}: {reason_of(error)}", self._loop.time())
