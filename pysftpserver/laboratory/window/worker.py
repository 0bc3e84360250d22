"""The thread that talks to the server, through the client library: orders in, events out.

An order returns at once. The thread has an event loop, in which an attempt can be given up at any moment
without leaving anything behind. What may not enter: tkinter, the window's state.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pysftpserver.failures import reason_of
from pysftpserver.laboratory import client
from pysftpserver.laboratory.client import AsyncConnection, LaboratoryError
from pysftpserver.laboratory.loop import LoopThread
from pysftpserver.laboratory.window import events

Order = Callable[[AsyncConnection], Awaitable[None]]
Events = queue.SimpleQueue[events.Event]

MOST_EVENTS = 500  # events not shown yet, at which the server has to wait
REST = 0.02  # seconds between checks of their number
LAST_WORDS = 1.0  # seconds to send what was typed before the end
FAREWELL = 3.0  # seconds for the thread to end


class Worker:
    """Talks to one server at a time.

    remember: called with a server that has accepted; may block, and raises OSError. timeout: seconds, as for
    the client library.
    """

    def __init__(self, remember: Callable[[events.Target], None], timeout: float = client.TIMEOUT) -> None:
        self._remember = remember
        self._timeout = timeout
        #: What has happened, for the thread of the window.
        self.events: Events = queue.SimpleQueue()
        self._conversation: _Conversation | None = None
        self._thread = LoopThread("laboratory-window")

    # --- orders, from any thread --------------------------------------------------------------------------

    def connect(self, attempt: int, target: events.Target) -> None:
        """Begin an attempt, ending an earlier one."""
        self._call(self._begin, attempt, target)

    def disconnect(self) -> None:
        """End an attempt at once, or a connection cleanly."""
        self._call(self._end)

    def send(self, text: str) -> None:
        """Send a text to the service."""
        self._call(self._order, "send", text)

    def choose(self, title: str) -> None:
        """Change to another service."""
        self._call(self._order, "choose", title)

    def stop(self) -> None:
        """End the thread, and wait a moment for it."""
        self._thread.stop(FAREWELL)

    def _call(self, function: Callable[..., object], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._thread.loop.call_soon_threadsafe(function, *arguments)

    # --- in the thread ------------------------------------------------------------------------------------

    def _begin(self, attempt: int, target: events.Target) -> None:
        self._end()
        self._conversation = _Conversation(attempt, target, self.events, self._remember)
        self._conversation.begin(self._timeout)

    def _end(self) -> None:
        if self._conversation is not None:
            self._conversation.end()

    def _order(self, what: str, text: str) -> None:
        if self._conversation is not None:
            self._conversation.order(what, text)


@dataclass(eq=False)
class _Conversation:
    """One attempt, and the connection if it succeeds."""

    attempt: int
    target: events.Target
    told: Events
    remember: Callable[[events.Target], None]

    def __post_init__(self) -> None:
        self._orders: asyncio.Queue[Order] = asyncio.Queue()
        self._is_connected = False
        self._end_wanted = asyncio.Event()

    def begin(self, timeout: float) -> None:
        """Start its task."""
        self._task = asyncio.get_running_loop().create_task(self._run(timeout))

    def end(self) -> None:
        """Tell its task to end."""
        self._end_wanted.set()
        if not self._is_connected:
            self._task.cancel()

    def order(self, what: str, text: str) -> None:
        """Queue a text to send, or a service to choose."""
        does = self._send if what == "send" else self._choose
        self._orders.put_nowait(functools.partial(does, text))

    def _tell(self, kind: Callable[..., events.Event], *values: object) -> None:
        self.told.put(kind(self.attempt, *values))

    async def _run(self, timeout: float) -> None:
        try:
            await self._converse(timeout)
        except Exception as error:  # a bug: the window must not wait for ever
            traceback.print_exc()
            reason = f"internal error ({type(error).__name__}); the terminal says more"
            self._tell(events.Disconnected, reason)

    async def _converse(self, timeout: float) -> None:
        target = self.target
        try:
            connection = await client.connect_async(
                target.host,
                target.port,
                password=target.password,
                name=target.name,
                key=target.key,
                timeout=timeout,
            )
        except (LaboratoryError, ValueError) as error:
            self._tell(events.Failed, failure(error), isinstance(error, client.Refused))
            return
        self._is_connected = True
        self._tell(events.Connected, connection.is_encrypted)
        async with connection:
            reason = await self._talk(connection)
        self._tell(events.Disconnected, reason)

    async def _talk(self, connection: AsyncConnection) -> str | None:
        """Talk until the connection ends; return why, or None if this side ended it."""
        create = asyncio.get_running_loop().create_task
        self._orders.put_nowait(self._look_around)
        obeying = create(self._obey(connection))
        receiving = create(self._receive(connection))
        remembering = create(self._keep())
        ending = create(self._end_wanted.wait())
        everything = (obeying, receiving, remembering, ending)
        try:
            await asyncio.wait((receiving, ending, obeying), return_when=asyncio.FIRST_COMPLETED)
            if obeying.done():
                obeying.result()  # raises only after a bug
            if receiving.done():
                return str(receiving.result())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS):
                    await self._orders.join()
            return None
        finally:
            for task in everything:
                task.cancel()
            await asyncio.gather(*everything, return_exceptions=True)

    async def _receive(self, connection: AsyncConnection) -> LaboratoryError:
        """Pass on what arrives, no faster than it is shown; return why the connection ended."""
        while True:
            try:
                text = await connection.receive()
            except LaboratoryError as error:
                return error
            self._tell(events.Received, text)
            while self.told.qsize() > MOST_EVENTS:
                await asyncio.sleep(REST)

    async def _obey(self, connection: AsyncConnection) -> None:
        while True:
            order = await self._orders.get()
            try:
                await order(connection)
            finally:
                self._orders.task_done()

    async def _keep(self) -> None:
        try:
            await asyncio.to_thread(self.remember, self.target)
        except OSError as error:
            reason = f"this server is not remembered: {reason_of(error)}"
            self._tell(events.Remark, reason)

    # --- orders -------------------------------------------------------------------------------------------

    async def _look_around(self, connection: AsyncConnection) -> None:
        """Ask for the name of the server and its services, which an original server may not know."""
        try:
            self._tell(events.Named, await connection.server_name())
            titles = tuple(about.title for about in await connection.services())
            self._tell(events.Offered, titles, await connection.service())
        except client.TimedOut:
            self._tell(events.Remark, "the server does not answer questions about itself")
        except client.ProtocolError:
            self._tell(events.Remark, "the server offers no choice of services")
        except LaboratoryError:
            pass  # the connection is over; another event reports it

    async def _send(self, text: str, connection: AsyncConnection) -> None:
        error = None
        try:
            await connection.send(text)
        except (LaboratoryError, ValueError) as reason:
            error = str(reason)
        self._tell(events.Sent, text, error)

    async def _choose(self, title: str, connection: AsyncConnection) -> None:
        error = None
        try:
            title = await connection.choose(title)
        except (LaboratoryError, ValueError) as reason:
            error = str(reason)
        self._tell(events.Chosen, title, error)


def failure(error: LaboratoryError | ValueError) -> str:
    """Why an attempt has failed, in one line."""
    if isinstance(error, client.Unreachable):
        return f"the server cannot be reached: {error}"
    if isinstance(error, client.Refused):
        return f"the server refuses the connection: {error}"
    if isinstance(error, client.TimedOut):
        return f"timed out: {error}"
    return f"not connected: {error}"
