"""A client of Laboratory servers for programs: connect() for those that block, connect_async() for asyncio.

Both return an object with the same methods. Several threads may use the one that blocks at once, for example
one that receives and others that send. Original servers work too, as far as they know the words.
What may not enter: terminals, windows, files. Facts: docs/laboratory.md.
"""

from __future__ import annotations

import asyncio
import contextlib

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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """Connect and log in.

    key: the symmetric one; None for a random one, "" for no encryption. timeout: seconds for this, and for
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
        where = f"waiting for {connection._awaited()}" if connection._line.transport else "connecting"
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


def connect(
    host: str,
    port: int = DEFAULT_PORT,
    *,
    password: str,
    name: str,
    key: str | None = None,
    timeout: float = TIMEOUT,
    max_message: int = MOST_MESSAGE,
) -> Connection:
    """As connect_async(), for programs that block. Threads may share the returned object."""
    loops = LoopThread("laboratory-client")
    try:
        found = loops.run(
            connect_async(
                host,
                port,
                password=password,
                name=name,
                key=key,
                timeout=timeout,
                max_message=max_message,
            )
        )
    except BaseException:
        loops.stop()
        raise
    return Connection(found, loops)


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
        """Why the connection is over; None: it is not."""
        return self._connection.ended

    def send(self, text: str) -> None:
        """Send a text to the service, whatever it looks like. Raises Ended, ValueError."""
        self._loops.run(self._connection.send(text))

    def send_raw(self, text: str) -> None:
        """Send a text as it is: words of the protocol are not escaped. Raises Ended, ValueError."""
        self._loops.run(self._connection.send_raw(text))

    def receive(self, timeout: float | None = None) -> str:
        """Return the next text. timeout: seconds, or None. Raises TimedOut, and Ended after the last."""
        return self._loops.run(self._connection.receive(timeout))

    def __iter__(self) -> Iterator[str]:
        while True:
            try:
                text = self.receive()
            except Ended:
                return
            yield text

    def server_name(self) -> str:
        """Return the name of the server. Raises Ended, TimedOut."""
        return self._loops.run(self._connection.server_name())

    def services(self) -> list[About]:
        """Return the services of the server. Raises Ended, TimedOut, ProtocolError."""
        return self._loops.run(self._connection.services())

    def service(self) -> str:
        """Return the name of the service in use. Raises Ended, TimedOut, ProtocolError."""
        return self._loops.run(self._connection.service())

    def choose(self, title: str) -> str:
        """Change to another service; return its name. Raises Refused, Ended, TimedOut, ProtocolError."""
        return self._loops.run(self._connection.choose(title))

    def rename(self, name: str) -> None:
        """Change the name of this client. Raises ValueError, Refused, Ended, TimedOut, ProtocolError."""
        self._loops.run(self._connection.rename(name))

    def change_key(self, key: str | None = None) -> None:
        """Change the key; None: to a random one. Raises ValueError, Ended, TimedOut."""
        self._loops.run(self._connection.change_key(key))

    def stop_server(self) -> None:
        """Stop the server, if it allows that. Raises Refused, Ended, TimedOut."""
        self._loops.run(self._connection.stop_server())

    def hang_up(self) -> None:
        """Close the connection; receive() still returns what has arrived before."""
        with contextlib.suppress(Ended):
            self._loops.run(self._connection.close())

    def close(self) -> None:
        """Close the connection; methods that wait in other threads end. It may be called twice."""
        self.hang_up()
        self._loops.stop()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
