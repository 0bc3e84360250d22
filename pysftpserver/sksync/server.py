"""The server: it listens, accepts, encrypts, and gives each client a session.

What may not enter: what is said in a session, concrete storages, configuration files.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import ssl
from concurrent.futures import ThreadPoolExecutor

from pysftpserver.sksync.connection import Connection
from pysftpserver.sksync.session import Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.sksync.config import Config
    from pysftpserver.sksync.session import Shares

    Result = TypeVar("Result")

THREADS = 16  # for what storages do
BACKLOG = 128


class Server:
    """Serves what is shared to any number of clients.

    config: its host, port, users, limits and so on. context: for TLS, or None.
    """

    def __init__(
        self, config: Config, shares: Shares, log: SFTPLog, context: ssl.SSLContext | None = None
    ) -> None:
        self._config = config
        self._shares = shares
        self._log = log
        self._context = context
        self._decoy = decoy(config.users)
        self._sessions: set[asyncio.Task[None]] = set()
        self._threads = ThreadPoolExecutor(THREADS, "sksync")

    async def start(self) -> list[tuple[str, int]]:
        """Listen; return the addresses, (host, port). Raises OSError."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Connection(self._config.timeout, self._on_made),
            self._config.host or None,
            self._config.port,
            backlog=BACKLOG,
        )
        return [socket.getsockname()[:2] for socket in self._listener.sockets]

    async def stop(self) -> None:
        """End all sessions, and remove what they have half received."""
        self._listener.close()
        for task in self._sessions:
            task.cancel()
        if self._sessions:
            await asyncio.wait(self._sessions)
        self._threads.shutdown()

    def _on_made(self, connection: Connection) -> None:
        if len(self._sessions) >= self._config.max_clients:
            others = len(self._sessions)
            self._log.error(f"{connection.peer}: refused, there are {others} others (max_clients)")
            connection.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)

    async def _serve(self, connection: Connection) -> None:
        try:
            if self._context is not None:
                await connection.start_tls(self._context)
            session = Session(connection, self._config, self._shares, self._decoy, self._log, self._in_thread)
            await session.run()
            await connection.end()
        except (OSError, TimeoutError) as error:  # of the handshake
            self._log.error(f"{connection.peer}: ended: {tls_reason(error)}")
        finally:
            connection.transport.abort()

    async def _in_thread(self, function: Callable[..., Result], *arguments: Any) -> Result:
        loop = asyncio.get_running_loop()
        done = loop.run_in_executor(self._threads, function, *arguments)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            # Whoever clears up comes after it, and not beside it.
            await asyncio.wait([done])
            raise


def decoy(users: Mapping[str, tuple[bytes, int]]) -> bytes:
    """A secret that stays the same when the server starts anew, as long as it has the same users.

    What unknown users are shown is made from it; if it changed with every start, they would be known by that.
    """
    if not users:
        return secrets.token_bytes(32)
    return hashlib.sha256(repr(sorted(users.items())).encode()).digest()


def tls_reason(error: Exception) -> str:
    """Why a handshake failed, in a few words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'failure').lower().replace('_', ' ')}"
    return "TLS: the handshake did not come to its end"
