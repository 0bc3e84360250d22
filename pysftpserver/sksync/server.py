"""The server: it listens, accepts, encrypts, and runs a session for each client, until it is told to stop.

What may not enter: the protocol, concrete storages, the format of the configuration.
"""

from __future__ import annotations

import asyncio
import ssl
from functools import partial

from pysftpserver.failures import BadInput
from pysftpserver.service import serving
from pysftpserver.service.accepting import Acceptor
from pysftpserver.service.admission import admit
from pysftpserver.service.audit import AuditFile
from pysftpserver.service.budget import Budget
from pysftpserver.service.loglimit import LogLimit
from pysftpserver.service.logs import ServiceLog
from pysftpserver.service.threads import Threads
from pysftpserver.service.throttle import network_of
from pysftpserver.sksync.connection import Connection
from pysftpserver.sksync.logins import Logins, need_srptools
from pysftpserver.sksync.receiving import MOST_WAITING
from pysftpserver.sksync.session import Session
from pysftpserver.sksync.shares import exposed, shares_of
from pysftpserver.sksync.tls import PassPhrase, server_context, tls_reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from pysftpserver.engine.audit import Sink
    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.sksync.config import ServerSettings
    from pysftpserver.sksync.shares import Find, OpenStorage

    Result = TypeVar("Result")

DESCRIPTORS = 8 + MOST_WAITING  # most that one session may need


class Server:
    """Serves what is shared to any number of clients.

    shares: the directories that clients may name. context: for TLS, or None. sink: of the audit log, or None.
    """

    def __init__(
        self,
        settings: ServerSettings,
        shares: Find,
        log: SFTPLog,
        context: ssl.SSLContext | None = None,
        sink: Sink | None = None,
    ) -> None:
        self._settings = settings
        self._shares = shares
        self._log = log
        self._log_limit = LogLimit(log, settings.log_rate)
        self._context = context
        self._sink = sink
        self._logins = Logins(settings.users)
        self._memory = Budget(settings.max_listing_memory, settings.max_connections)
        self._clients = serving.Members()
        self._listeners: list[Acceptor] = []
        self._threads = Threads(name="sksync")

    async def start(self) -> list[tuple[str, int]]:
        """Listen; return the addresses, (host, port). Raises Unavailable."""
        (sockets,) = serving.listening_sockets(self._settings.listen_address or None, self._settings.port)
        for one in sockets:
            self._listeners.append(Acceptor(one, self._connection, self._log, "listener"))
        return [one.getsockname()[:2] for one in sockets]

    def reload(self, settings: ServerSettings, shares: Find, context: ssl.SSLContext | None) -> None:
        """Use new settings for new clients; running sessions keep the old ones."""
        self._settings, self._shares, self._context = settings, shares, context
        self._logins.users = settings.users
        self._log_limit.rate = settings.log_rate
        self._memory.limit(settings.max_listing_memory, settings.max_connections)

    async def stop(self, seconds: float = 0.0) -> None:
        """Stop listening, let running syncs finish, then end the rest and remove incomplete files.

        seconds: time for running syncs. Clients that have not yet named a directory are ended at once.
        """
        for listener in self._listeners:
            listener.close()
        for client in self._clients:
            if not client.is_syncing:
                client.task.cancel()
        if seconds and any(client.is_syncing for client in self._clients):
            self._log.info(f"waiting up to {seconds:g} seconds for running syncs (drain_seconds)")
            await self._clients.emptied(seconds)
        tasks = [client.task for client in self._clients]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._log_limit.tell()
        self._threads.shutdown(wait=True)

    # --- each client --------------------------------------------------------------------------------------

    def _connection(self) -> Connection:
        return Connection(self._settings.idle_timeout, self._on_made)

    def _on_made(self, connection: Connection) -> None:
        loop, settings = asyncio.get_running_loop(), self._settings
        client = _Client(connection, loop.time())
        evicted, refusal = admit(
            tuple(self._clients),
            client.network,
            client.began,
            settings.max_connections,
            settings.max_per_address,
        )
        if refusal is not None:
            self._log_of(connection).error(f"{connection.peer}: refused: {refusal}")
            connection.abort()
            return
        if evicted is not None:
            old = evicted.connection
            self._log_of(old).error(f"{old.peer}: ended: it has not logged in, and others are waiting")
            self._clients.discard(evicted)
            old.transport.abort()
            evicted.task.cancel()
        client.task = loop.create_task(self._serve(client))
        client.task.add_done_callback(lambda _: self._clients.discard(client))
        self._clients.add(client)

    def _log_of(self, connection: Connection) -> SFTPLog:
        """A log that limits the number of lines caused by the connection's address."""
        return self._log_limit.of(network_of(connection.address[0]))

    async def _serve(self, client: _Client) -> None:
        connection, grace = client.connection, self._settings.login_grace
        try:
            if self._context is not None:
                await connection.start_tls(self._context, grace)
            client.session = Session(
                connection,
                self._settings,
                self._shares,
                self._logins,
                self._log_of(connection),
                partial(self._in_thread, client),
                self._memory,
                client.began + grace,
                self._sink,
            )
            await client.session.run()
            await connection.end()
        except (OSError, TimeoutError) as error:  # from the handshake
            self._log_of(connection).error(f"{connection.peer}: ended: {tls_reason(error)}")
        finally:
            connection.abort()

    async def _in_thread(self, client: _Client, function: Callable[..., Result], *arguments: Any) -> Result:
        done = self._threads.run(client.holder, partial(function, *arguments))
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            # Clean up after the function has returned, not while it runs.
            await asyncio.wait([done])
            raise


class _Client:
    """A connection and its session, once there is one. began: time of the event loop."""

    task: asyncio.Task[None]
    session: Session | None = None

    def __init__(self, connection: Connection, began: float) -> None:
        self.connection = connection
        self.network = network_of(connection.address[0])
        self.began = began

    @property
    def holder(self) -> str:
        """The name under which its share of common resources is counted."""
        user = None if self.session is None else self.session.user
        return self.network if user is None else f"user {user}"

    @property
    def is_stranger(self) -> bool:
        """Whether it has neither logged in nor, if no login is required, named a directory."""
        return not self.is_syncing and (self.session is None or self.session.user is None)

    @property
    def is_syncing(self) -> bool:
        return self.session is not None and self.session.is_syncing


# --- serving by a configuration -----------------------------------------------------------------------------


class Service:
    """A server run from a configuration.

    ident: the program's name in the log. load: reads the settings. file: the configuration's name, for
    messages. Raises BadInput, Unavailable.
    """

    def __init__(
        self, ident: str, load: Callable[[], ServerSettings], file: str, open_storage: OpenStorage
    ) -> None:
        self._load = load
        self._file = file
        self._open_storage = open_storage
        self._phrase = PassPhrase()
        self._settings = settings = load()
        settings.refuse_root()
        self._log = ServiceLog(ident, settings)
        context, shares = self._context(settings), self._shares(settings)
        self._phrase.may_ask = False  # from now on, waiting for an answer would stop all clients
        self._audit_file = None if settings.audit is None else AuditFile(settings.audit, settings.audit_chain)
        self._server = Server(settings, shares, self._log, context, self._audit_file)
        serving.raise_descriptor_limit(settings.max_connections, DESCRIPTORS)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. SIGHUP loads the settings again. Raises Unavailable."""
        encrypted = " with TLS" if self._settings.use_ssl else ""
        addresses = await self._server.start()

        def ready() -> None:
            for host, port in addresses:
                self._log.info(f"listening on {host} port {port}{encrypted}")

        await serving.until_told(self._read_again, self._log, ready=ready)
        serving.end_within(self._settings.drain_seconds, self._log)
        await self._server.stop(self._settings.drain_seconds)
        self._log.info("stopped")

    def _read_again(self) -> Callable[[], None]:
        """Read what the configuration names, in a thread; return a function that applies it.

        Raises BadInput; everything then stays as it was.
        """
        new = self._load()
        if new.storage != self._settings.storage:
            raise BadInput("storage: a change takes effect after a restart only")
        context, shares = self._context(new), self._shares(new)
        if self._audit_file is not None:
            self._audit_file.reopen()
        return partial(self._take, new, context, shares)

    def _take(self, new: ServerSettings, context: ssl.SSLContext | None, shares: Find) -> None:
        old = self._settings
        self._log.reload(new)
        self._server.reload(new, shares, context)
        self._settings = new
        if kept := old.kept(new):
            self._log.error(f"{', '.join(kept)}: a change takes effect after a restart only")

    def _context(self, settings: ServerSettings) -> ssl.SSLContext | None:
        settings.check_server()
        if not settings.use_ssl or settings.ssl_server_certfile is None:
            return None
        return server_context(
            settings.ssl_server_certfile,
            settings.ssl_server_keyfile,
            settings.ssl_client_certfile,
            settings.ssl_minimum_version,
            self._phrase,
        )

    def _shares(self, settings: ServerSettings) -> Find:
        self._open_storage.site = settings.site
        shares, what = shares_of(settings, self._open_storage)
        self._log.info(f"sharing {what}")
        self._remark(settings)
        return shares

    def _remark(self, settings: ServerSettings) -> None:
        """Log settings that may be mistakes. Raises BadInput if logins are not possible."""
        for key in settings.unknown:
            self._log.error(f'{self._file}: unknown key "{key}", ignored')
        if settings.needs_login or settings.users:
            need_srptools()
        if settings.needs_login and not settings.users:
            self._log.error("no user can log in: run pysksync users add NAME, or set require_auth to false")
        if not settings.needs_login and not (settings.use_ssl and settings.ssl_client_certfile):
            self._log.error(
                "no login is required: anyone who reaches this port can read and write what is shared"
            )
        for path in exposed(settings, self._file, self._open_storage):
            self._log.error(f"{path}: clients can read and replace it, because it is in a shared directory")


def serve(ident: str, load: Callable[[], ServerSettings], file: str, open_storage: OpenStorage) -> None:
    """Serve until a signal arrives. Arguments and exceptions are those of Service."""
    asyncio.run(Service(ident, load, file, open_storage).run())
