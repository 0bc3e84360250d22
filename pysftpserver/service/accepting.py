"""Accepts connections, even when the process has run out of descriptors: on an event loop, and in threads.

In that case, asyncio's own listeners write a traceback for each attempt, a hundred at once, and clients hang.
What may not enter: protocols, what a connection serves. Facts: accept(2), errors.
"""

from __future__ import annotations

import asyncio
import os
import socket

from pysftpserver.failures import reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import logging
    from collections.abc import Callable
    from typing import Any

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.service.front import Front

AT_ONCE = 32  # connections that are accepted before other work has its turn
PAUSE = 1.0  # seconds without accepting when there is no descriptor left at all
QUIET = 10.0  # seconds between two lines about the same


class Seldom:
    """Logs an error at most every QUIET seconds, with the number of times that it happened meanwhile."""

    def __init__(self, log: SFTPLog | logging.Logger) -> None:
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


class Reserve:
    """Descriptors that are reserved for a listening socket, to accept connections when there are no others.

    most: how many. Not thread-safe.
    """

    def __init__(self, most: int = 1) -> None:
        self._most = most
        self._kept: list[int] = []
        self.refill()

    def refill(self) -> bool:
        """Open as many as there should be; return whether that was possible."""
        try:
            while len(self._kept) < self._most:
                self._kept.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            return False
        return True

    def accept(self, accept: Callable[[], tuple[socket.socket, Any]]) -> socket.socket | None:
        """Close one of the descriptors and accept a connection in its place; None if that fails as well."""
        if not self._kept:
            return None
        os.close(self._kept.pop())
        try:
            return accept()[0]
        except OSError:
            return None

    def close(self) -> None:
        """Close them."""
        while self._kept:
            os.close(self._kept.pop())


def no_descriptor_line(name: str, error: OSError, is_served: bool = False) -> str:
    """The line about a connection that could not be accepted. name: of the listener."""
    action = "served from the reserve" if is_served else "closed at once"
    return f"{name}: {reason_of(error)}: connections are {action}; raise the limit on open files"


class Acceptor:
    """Accepts connections on a listening socket that does not block, until close().

    factory: makes the protocol of a connection. name: the listener's name in the log. reserve: descriptors
    that are reserved for it. serves_in_need: whether to serve a connection that needs one of them, as for the
    administrator; otherwise it is closed at once, so that the client does not wait. front: screens
    connections before they are served.
    """

    def __init__(
        self,
        listening: socket.socket,
        factory: Callable[[], asyncio.BaseProtocol],
        log: SFTPLog,
        name: str,
        reserve: int = 1,
        serves_in_need: bool = False,
        front: Front | None = None,
    ) -> None:
        self._listening = listening
        self._factory = factory
        self._seldom = Seldom(log)
        self._name = name
        self._serves_in_need = serves_in_need
        self._front = front
        self._reserve = Reserve(reserve)
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.refused = 0  # connections that were closed for want of descriptors
        self._refill()
        self._loop.add_reader(listening, self._accept)

    def close(self) -> None:
        """Accept no more, and close the socket. It may have been closed before."""
        self.leave()
        if self._front is not None:
            self._front.close()

    def leave(self) -> None:
        """The same, if another process accepts on the socket: the screening of connections here goes on."""
        if self._listening.fileno() < 0:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()
        self._reserve.close()

    def _refill(self) -> None:
        self._timer = None
        if not self._reserve.refill():
            self._timer = self._loop.call_later(PAUSE, self._refill)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                one, name = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:  # it has gone while it waited
                continue
            except OSError as error:
                self._accept_in_need(error)
                return
            one.setblocking(False)
            if self._front is None:
                self._serve(one)
            else:
                self._front.screen(one, name[0], self._serve)

    def _accept_in_need(self, error: OSError) -> None:
        """Accept a connection with a descriptor of the reserve."""
        self._seldom.error(no_descriptor_line(self._name, error, self._serves_in_need), self._loop.time())
        one = self._reserve.accept(self._listening.accept)
        if one is None:
            self._rest()
        elif self._serves_in_need:
            one.setblocking(False)
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
        task = self._loop.create_task(self._connect(one))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, one: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, one)
        except OSError as error:  # it has gone already, or epoll takes no more
            one.close()
            self._seldom.error(f"{self._name}: {reason_of(error)}", self._loop.time())
