"""The class from which you derive your services. docs/laboratory.md explains how.

Methods may be plain or `async def`. A plain one is called in the event loop that serves all clients, and has
to return at once; await anything slow, through in_thread() if it blocks. The messages of one client
arrive one after the other, in order. What may not enter: the protocol, sockets, concrete storages.
"""

from __future__ import annotations

import asyncio
import inspect
from contextvars import ContextVar
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection
    from typing import TypeVar

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.laboratory.session import Session
    from pysftpserver.service.threads import Threads

    Result = TypeVar("Result")

#: The network of the client that a method works for: threads are shared out among networks.
NETWORK = ContextVar("NETWORK", default="")


class Client:
    """A client that has logged in, made by the server.

    name: chosen by the client; other clients may have the same one, and it may change. address: (host, port),
    which identifies the connection. is_encrypted: whether the connection is encrypted. send(text), await
    drained(), disconnect(reason) and note(request, result, ...) are those of its Session.
    """

    def __init__(self, session: Session, name: str, address: tuple[str, int], is_encrypted: bool) -> None:
        self.name = name
        self.address = address
        self.is_encrypted = is_encrypted
        self.send = session.send
        self.drained = session.drained
        self.disconnect = session.disconnect
        self.note = session.note


class Service:
    """The base class of all services. Clients are shown the first line of a class's docstring.

    One object serves all clients, in the server's event loop: a method returns at once, or is `async`. An
    exception that it raises is logged, and the client is told the name of its class. text: may contain
    anything but NUL. client: the client concerned. title: the name by which clients choose the service, in
    any case; if it is empty, the name of the class.
    """

    title = ""
    _members: set[Client] | None = None
    _threads: Threads | None = None
    log: SFTPLog | None = None

    # --- for you to write ---------------------------------------------------------------------------------

    def on_join(self, client: Client) -> Awaitable[None] | None:
        """A client begins to use this service."""

    def on_message(self, client: Client, text: str) -> Awaitable[None] | None:
        """A client has sent a text."""

    def on_leave(self, client: Client) -> Awaitable[None] | None:
        """A client has left, or changed to another service. Called once for each on_join()."""

    def on_rename(self, client: Client, before: str) -> Awaitable[None] | None:
        """A client has changed its name. before: the old one."""

    # --- for you to call ----------------------------------------------------------------------------------

    def send(self, client: Client, text: str) -> None:
        """Send a text to a client. Raises ValueError for a text that contains a NUL."""
        client.send(text)

    def broadcast(self, text: str, exclude: Collection[Client] = ()) -> None:
        """Send a text to all clients that use this service. exclude: clients to leave out."""
        for client in self.clients:
            if client not in exclude:
                client.send(text)

    @property
    def clients(self) -> tuple[Client, ...]:
        """The clients that use this service now."""
        return tuple(self._members or ())

    async def in_thread(self, function: Callable[..., Result], *arguments: object) -> Result:
        """Call a blocking function with arguments in another thread; return its result.

        Waits for it even if the client leaves. Raises what the function raises.

        Each network of clients has a share of the threads; when all of these are busy, its calls wait.
        """
        assert self._threads is not None, "the server has not begun"
        done = self._threads.run(NETWORK.get(), partial(function, *arguments))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            await asyncio.wait([done])
            if not done.cancelled():
                done.exception()  # which nothing waits for
            raise

    # --- for the server to call ---------------------------------------------------------------------------

    def attach(self, threads: Threads, log: SFTPLog) -> None:
        """The server starts. threads: for in_thread(). log: the server's."""
        self._members = set()
        self._threads = threads
        self.log = log

    def detach(self) -> None:
        """The server has ended."""


def title_of(service: Service) -> str:
    """The name by which clients choose a service."""
    return service.title or type(service).__name__


def about(service: Service) -> str:
    """The description that clients see: the first line of the service's docstring."""
    lines = (type(service).__doc__ or "").strip().splitlines()
    return lines[0] if lines else ""


def work_of(result: object) -> Awaitable[None] | None:
    """A method's result if it has to be awaited, else None. Raises TypeError for a method with a yield."""
    if inspect.isawaitable(result):
        return result
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError("a method with a yield in it does nothing; call self.send() instead")
    return None  # other results of plain methods are ignored


async def finished(result: object) -> None:
    """Await a method's result. Exceptions that would end the event loop become RuntimeError."""
    work = work_of(result)
    if work is not None:
        try:
            await work
        except (SystemExit, KeyboardInterrupt) as error:
            raise RuntimeError(type(error).__name__) from error
