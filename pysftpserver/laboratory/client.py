"""A client of Laboratory servers for programs: connect() for those that block, connect_async() for asyncio.

Both give an object with the same methods. The one that blocks may be used by several threads at once: one
that receives, others that send. It works with the original server, too, as far as that knows the words.
What may not enter: terminals, windows, files. Facts: docs/laboratory.md.
"""

from __future__ import annotations

import asyncio

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
    """Connect, and go through the whole beginning.

    key: the symmetric one; None for a new one that nobody can guess, "" for no encryption at all. timeout:
    seconds, for this and for each request afterwards. Raises ValueError for a name, a password or a key that
    cannot be said, and Unreachable, Refused, TimedOut, ProtocolError.
    """
    if fault := wire.name_fault(name):
        raise ValueError(fault)
    if wire.END in password:
        raise ValueError("a password with a zero in it")
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
    """As connect_async(), for programs that block. Threads may share what it returns."""
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
    """A connection, accepted. Made by connect(); `with` closes it. Methods are those of AsyncConnection."""

    def __init__(self, connection: AsyncConnection, loops: LoopThread) -> None:
        self._connection = connection
        self._loops = loops

    @property
    def name(self) -> str:
        """What this client is called now."""
        return self._connection.name

    @property
    def is_encrypted(self) -> bool:
        """Whether what is sent and received is."""
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
        """The same, but words of the protocol are not changed into texts. Raises Ended, ValueError."""
        self._loops.run(self._connection.send_raw(text))

    def receive(self, timeout: float | None = None) -> str:
        """The next text. timeout: seconds; None waits for ever. Raises TimedOut, and Ended after the last."""
        return self._loops.run(self._connection.receive(timeout))

    def __iter__(self) -> Iterator[str]:
        while True:
            try:
                text = self.receive()
            except Ended:
                return
            yield text

    def server_name(self) -> str:
        """What the server is called. Raises Ended, TimedOut."""
        return self._loops.run(self._connection.server_name())

    def services(self) -> list[About]:
        """What the server offers. Raises Ended, TimedOut, ProtocolError."""
        return self._loops.run(self._connection.services())

    def service(self) -> str:
        """The name of the service in use. Raises Ended, TimedOut, ProtocolError."""
        return self._loops.run(self._connection.service())

    def choose(self, title: str) -> str:
        """Use another service; return its name. Raises Refused, Ended, TimedOut, ProtocolError."""
        return self._loops.run(self._connection.choose(title))

    def rename(self, name: str) -> None:
        """Have another name. Raises ValueError, Refused, Ended, TimedOut, ProtocolError."""
        self._loops.run(self._connection.rename(name))

    def change_key(self, key: str | None = None) -> None:
        """Encrypt with another key from now on; None: a new one. Raises ValueError, Ended, TimedOut."""
        self._loops.run(self._connection.change_key(key))

    def stop_server(self) -> None:
        """Have the server stop, where it lets clients do that. Raises Refused, Ended, TimedOut."""
        self._loops.run(self._connection.stop_server())

    def hang_up(self) -> None:
        """End the connection, as close() does; what has come before can still be received."""
        try:
            self._loops.run(self._connection.close())
        except Ended:
            pass

    def close(self) -> None:
        """End the connection, and what waits for something on it in other threads. Twice is not too often."""
        self.hang_up()
        self._loops.stop()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
