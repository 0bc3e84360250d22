"""What a service is: a class with a method or three. The page for whoever writes one is docs/laboratory.md.

Methods may be plain or `async def`. A plain one is called in the event loop that serves everybody, and has
to return at once; what takes long goes through in_thread(), or is awaited. Messages of one client are handed
over one after the other, in their order. What may not enter: the protocol, sockets, concrete storages.
"""

from __future__ import annotations

import asyncio
import inspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from concurrent.futures import Executor
    from typing import Protocol, TypeVar

    from pysftpserver.engine.log import SFTPLog

    Result = TypeVar("Result")

    class Line(Protocol):
        """What a client is reached through."""

        def send(self, text: str) -> None: ...

        async def drained(self) -> None: ...

        def disconnect(self, reason: str) -> None: ...


class Client:
    """A client that is accepted. name: its own choice, which others may have, too, and which it may change.

    address: (host, port), which identifies the connection. is_encrypted: whether what it says and hears is.
    """

    def __init__(self, line: Line, name: str, address: tuple[str, int], is_encrypted: bool) -> None:
        self._line = line
        self.name = name
        self.address = address
        self.is_encrypted = is_encrypted
        self.send = line.send  # spares a call for each message

    async def drained(self) -> None:
        """Wait until not much of what was sent is left to be taken: for services that send a lot."""
        await self._line.drained()

    def disconnect(self, reason: str) -> None:
        """Tell the client why, and end the connection."""
        self._line.disconnect(reason)


class Service:
    """The base class of all services. The first line of its docstring is what clients are shown of it.

    One object serves all clients. title: what clients call it, without regard to case; the class's name, if
    it is empty.
    """

    title = ""
    _members: set[Client] | None = None
    _threads: Executor | None = None
    log: SFTPLog | None = None

    # --- for you to write ---------------------------------------------------------------------------------

    def on_join(self, client: Client) -> Awaitable[None] | None:
        """A client begins to use this service."""

    def on_message(self, client: Client, text: str) -> Awaitable[None] | None:
        """A client says something."""

    def on_leave(self, client: Client) -> Awaitable[None] | None:
        """A client has gone, or chosen another service. Called once for each on_join()."""

    def on_rename(self, client: Client, before: str) -> Awaitable[None] | None:
        """A client has another name now."""

    # --- for you to call ----------------------------------------------------------------------------------

    def send(self, client: Client, text: str) -> None:
        """Send a text. Raises ValueError for one with a zero in it."""
        client.send(text)

    def broadcast(self, text: str, but: Collection[Client] = ()) -> None:
        """Send a text to all who use this service now, with some exceptions."""
        for client in self.clients:
            if client not in but:
                client.send(text)

    @property
    def clients(self) -> tuple[Client, ...]:
        """Those who use this service now."""
        return tuple(self._members or ())

    async def in_thread(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Call what blocks, in another thread. It is waited for even if the client leaves meanwhile."""
        done = asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait([done])
            if not done.cancelled():
                done.exception()  # nobody wants to know
            raise

    # --- for the server to call ---------------------------------------------------------------------------

    def attach(self, threads: Executor | None, log: SFTPLog) -> None:
        """The server begins."""
        self._members = set()
        self._threads = threads
        self.log = log

    def detach(self) -> None:
        """The server has ended."""


def title_of(service: Service) -> str:
    """What clients call it."""
    return service.title or type(service).__name__


def about(service: Service) -> str:
    """What clients are shown of it: the first line of its docstring."""
    lines = (type(service).__doc__ or "").strip().splitlines()
    return lines[0] if lines else ""


def work_of(result: object) -> Awaitable[None] | None:
    """What is left to be done of what a method returned. Raises TypeError for a method with a yield in it."""
    if inspect.isawaitable(result):
        return result
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError("a method with a yield in it, which does nothing: write self.send()")
    return None  # what else a plain method returns is nobody's business


async def finished(result: object) -> None:
    """Wait for what a method returned. What would end the event loop is raised as another error."""
    work = work_of(result)
    if work is not None:
        try:
            await work
        except (SystemExit, KeyboardInterrupt) as error:
            raise RuntimeError(type(error).__name__) from error
