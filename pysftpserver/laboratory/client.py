"""A client of Laboratory servers for programs: connect() for those that block, connect_async() for asyncio.

Both return an object with the same methods. Several threads may use the blocking one at once, for example one
that receives and others that send. Original servers work as well, as far as they know the messages.
What may not enter: terminals, windows, files. Facts: docs/laboratory.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar

from pysftpserver.failures import reason_of
from pysftpserver.laboratory import wire
from pysftpserver.laboratory.config import DEFAULT_PORT
from pysftpserver.laboratory.connection import About, AsyncConnection
from pysftpserver.laboratory.errors import (
    Ended,
    LaboratoryError,
    ProtocolError,
    Refused,
    Stopped,
    TimedOut,
    Unreachable,
)
from pysftpserver.laboratory.handshake import ClientHandshake
from pysftpserver.laboratory.loop import LoopThread

__all__ = [
    "About",
    "AsyncConnection",
    "Connection",
    "DEFAULT_PORT",
    "Ended",
    "LaboratoryError",
    "ProtocolError",
    "Refused",
    "Stopped",
    "TimedOut",
    "Unreachable",
    "connect",
    "connect_async",
]

P = ParamSpec("P")
Result = TypeVar("Result")

TIMEOUT = 10.0  # seconds
MOST_MESSAGE = 16 << 20  # bytes of a message from the server


async def connect_async(
    host: str,
    port: int = DEFAULT_PORT,
    *,
    password: str,
    name: str,
    key: str | None = None,
    timeout: float = TIMEOUT,
    max_message: int = MOST_MESSAGE,
) -> AsyncConnection:
    """Connect to host and port, and log in with the server's password. name: the client's, of your choice.

    key: the symmetric key; None for a random one, "" for no encryption. timeout: seconds for this, and for
    each request afterwards. max_message: maximum size of a message from the server, in bytes. Raises
    ValueError for a name, password or key that cannot be sent, and Unreachable, Refused, TimedOut,
    ProtocolError.
    """
    if fault := wire.name_fault(name):
        raise ValueError(fault)
    if wire.END in password:
        raise ValueError("the password contains a NUL")
    key = wire.new_key() if key is None else key
    if fault := wire.key_fault(key):
        raise ValueError(fault)
    loop = asyncio.get_running_loop()
    handshake = ClientHandshake(password, name, key, max_message)
    connection = AsyncConnection(handshake, name, timeout)
    try:
        async with asyncio.timeout(timeout):
            await loop.create_connection(lambda: connection._line, host, port)
            await connection._accepted
    except TimeoutError:
        connection._line.abort()
        where = f"waiting for {connection._awaited()}" if connection._line.is_made else "connecting"
        raise TimedOut(f"{host} port {port}: nothing within {timeout:g} seconds, {where}") from None
    except UnicodeError:
        raise Unreachable(f"{host} port {port}: not a host name") from None
    except OSError as error:
        raise Unreachable(f"{host} port {port}: {reason_of(error)}") from None
    except BaseException:
        connection._line.abort()
        raise
    return connection


# --- for programs that block ------------------------------------------------------------------------------


def _blocking(
    method: Callable[Concatenate[AsyncConnection, P], Coroutine[Any, Any, Result]],
) -> Callable[Concatenate[Connection, P], Result]:
    """Make a method of AsyncConnection into one for Connection."""

    @functools.wraps(method)
    def wait(self: Connection, /, *arguments: P.args, **named: P.kwargs) -> Result:
        return self._loops.run(method(self._connection, *arguments, **named))

    return wait


class Connection:
    """An accepted connection. Made by connect(); `with` closes it. It has the methods of AsyncConnection."""

    def __init__(self, connection: AsyncConnection, loops: LoopThread) -> None:
        self._connection = connection
        self._loops = loops

    @property
    def name(self) -> str:
        """The name of this client."""
        return self._connection.name

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection is encrypted."""
        return self._connection.is_encrypted

    @property
    def address(self) -> tuple[str, int]:
        """(host, port) of this end."""
        return self._connection.address

    @property
    def ended(self) -> LaboratoryError | None:
        """Why the connection is over; None if it is open."""
        return self._connection.ended

    send = _blocking(AsyncConnection.send)
    send_raw = _blocking(AsyncConnection.send_raw)
    receive = _blocking(AsyncConnection.receive)
    server_name = _blocking(AsyncConnection.server_name)
    services = _blocking(AsyncConnection.services)
    service = _blocking(AsyncConnection.service)
    choose = _blocking(AsyncConnection.choose)
    rename = _blocking(AsyncConnection.rename)
    change_key = _blocking(AsyncConnection.change_key)
    stop_server = _blocking(AsyncConnection.stop_server)

    def __iter__(self) -> Iterator[str]:
        with contextlib.suppress(Ended):
            while True:
                yield self.receive()

    def hang_up(self) -> None:
        """Close the connection; receive() still returns what has arrived before."""
        with contextlib.suppress(Ended):
            self._loops.run(self._connection.close())

    def close(self) -> None:
        """Close the connection; methods waiting in other threads return. It may be called twice."""
        self.hang_up()
        self._loops.stop()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _connecting(make: Callable[P, Coroutine[Any, Any, AsyncConnection]]) -> Callable[P, Connection]:
    @functools.wraps(make)
    def connect(*arguments: P.args, **named: P.kwargs) -> Connection:
        loops = LoopThread("laboratory-client")
        try:
            return Connection(loops.run(make(*arguments, **named)), loops)
        except BaseException:
            loops.stop()
            raise

    return connect


#: As connect_async(), for programs that block. Threads may share the returned object.
connect = _connecting(connect_async)
