"""The server: it listens, knows its options, its users and who is there, and ends in good order.

What may not enter: concrete storages, where users are kept, command lines.
"""

from __future__ import annotations

import asyncio
import socket

import asyncssh

from pysftpserver.engine.limits import Limits
from pysftpserver.engine.log import SFTPLog
from pysftpserver.server import SFTPServer
from pysftpserver.sshd import algorithms, keys
from pysftpserver.sshd.connection import Connection
from pysftpserver.sshd.metrics import Metrics
from pysftpserver.sshd.shared import Gate, Penalties, Shared
from pysftpserver.sshd.threads import Threads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.hook import SFTPHook
    from pysftpserver.sshd.config import ServerSettings
    from pysftpserver.sshd.users import User, UserDirectory

IDLE_CHECKS = 5.0  # seconds between two looks for idle connections, at most
KEEPALIVE = 30.0  # seconds of silence, after which a client is asked whether it is there
QUICK_LOGIN = 2.0  # seconds
LAST_WORDS = 1.0  # seconds, at most
CLOSING = 5.0  # seconds for what sessions have open to be closed
KEEPALIVES = 3  # questions without an answer


class Server:
    """Serves users of a directory.

    storage_of: makes the storage of a user, for one session; raises what makes the session impossible.
    hook_of: makes the hook of a session, or None. shared, process: what this process and others of the same
    server know together, and which of them it is; None where there are no others.
    """

    def __init__(
        self,
        settings: ServerSettings,
        directory: UserDirectory,
        host_keys: Sequence[asyncssh.SSHKey],
        storage_of: Callable[[User], SFTPAbstractServerStorage],
        log: SFTPLog,
        limits: Limits | None = None,
        hook_of: Callable[[Connection], SFTPHook | None] = lambda connection: None,
        shared: Shared | None = None,
        process: int = 0,
    ) -> None:
        self.settings = settings
        self.directory = directory
        self.log = log
        shared = shared or Shared(1, settings.max_connections)
        self.gate = Gate(
            shared, process, settings.max_connections, settings.max_per_address, settings.max_per_user
        )
        self.penalties = Penalties(shared, process)
        self.metrics = Metrics()
        self.connections: set[Connection] = set()
        self.threads = Threads()
        self.is_draining = False
        self._host_keys = list(host_keys)
        self._storage_of = storage_of
        self._limits = limits or Limits()
        self._hook_of = hook_of
        self._listeners: list[asyncssh.SSHAcceptor] = []
        self._idle_check: asyncio.Task[None] | None = None

    def fingerprint(self, blob: bytes) -> str:
        """A key, as the log has it."""
        return keys.fingerprint(blob)

    # --- listening ----------------------------------------------------------------------------------------

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on sockets that listen."""
        await self.directory.start(self.on_change)
        options = asyncssh.SSHServerConnectionOptions(
            server_factory=lambda: Connection(self),
            server_host_keys=algorithms.host_keys(self._host_keys),
            login_timeout=self.settings.login_grace,
            keepalive_interval=KEEPALIVE,
            keepalive_count_max=KEEPALIVES,
            agent_forwarding=False,
            x11_forwarding=False,
            allow_scp=False,
            line_editor=False,
            encoding=None,
            compression_algs=["none"],
            gss_host=None,
            server_version="pysftpd",
            **algorithms.chosen(self.settings),
        )
        for listening in sockets:
            self._listeners.append(await asyncssh.listen(sock=listening, options=options))
        self._idle_check = asyncio.create_task(self._end_idle())

    def apply_limits(self) -> None:
        """Apply settings that have changed."""
        settings = self.settings
        if settings.max_connections > self.gate.room:
            self.log.error(f"max_connections: one process has room for {self.gate.room} until a restart")
        self.gate.limit(settings.max_connections, settings.max_per_address, settings.max_per_user)

    def make_room(self) -> None:
        """End the connection that has taken longest to log in, so that strangers cannot take all places.

        Whoever is quick is left alone: a login takes a fraction of a second.
        """
        now = asyncio.get_running_loop().time()
        strangers = [one for one in self.connections if one.user is None and now - one.began > QUICK_LOGIN]
        if strangers:
            oldest = min(strangers, key=lambda one: one.began)
            self.connections.discard(oldest)
            oldest.make_room()

    def on_change(self, name: str) -> None:
        """A user has changed: whoever may not be here any more, has to go."""
        for connection in list(self.connections):
            if connection.user is not None and connection.user.name == name:
                if not connection.is_still_welcome():
                    self.log.info(f"{connection}: ended: the user or the key is not active any more")
                    connection.end("The account has changed")

    def engine(self, connection: Connection) -> SFTPServer:
        """The engine for one session of a connection's."""
        assert connection.user is not None
        return SFTPServer(
            self._storage_of(connection.user),
            self._hook_of(connection),
            log=self._log_of(connection),
            read_only=self.settings.read_only,
            limits=self._limits,
        )

    def _log_of(self, connection: Connection) -> SFTPLog:
        """The log, with the connection's name in front of each line."""
        return SFTPLog(lambda level, text: self.log.write(level, f"{connection}: {text}"), self.log.level)

    async def _end_idle(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            most = self.settings.idle_timeout
            await asyncio.sleep(IDLE_CHECKS if most is None else min(IDLE_CHECKS, most / 4))
            if most is None:
                continue
            for connection in list(self.connections):
                if connection.user is not None and loop.time() - connection.moved_at() > most:
                    self.log.info(f"{connection}: ended: nothing moved for {most:g} seconds")
                    connection.end("Idle for too long")

    # --- ending -------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Take nobody in any more; let running transfers end, for as long as they may; end."""
        self.is_draining = True
        for listener in self._listeners:
            listener.close()
        if self._idle_check is not None:
            self._idle_check.cancel()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.drain_seconds
        everybody = set(self.connections)
        while self.connections and loop.time() < deadline:
            for connection in list(self.connections):
                if not any(channel.is_at_work() for channel in connection.channels):
                    connection.end("The server ends")
            await asyncio.sleep(0.05)
        left = list(self.connections)
        everybody |= set(left)
        for connection in left:
            self.log.info(f"{connection}: ended: the server ends")
            connection.end("The server ends")
        if left:
            # The last words are to be sent, but one whose peer has gone would never be closed.
            closing = [asyncio.ensure_future(connection.conn.wait_closed()) for connection in left]
            for waiting in (await asyncio.wait(closing, timeout=LAST_WORDS))[1]:
                waiting.cancel()
        for connection in left:
            connection.conn.abort()
        # What sessions have open is closed in threads; one that hangs must not hold up the others' end.
        deadline = loop.time() + CLOSING
        while any(connection.channels for connection in everybody) and loop.time() < deadline:
            await asyncio.sleep(0.01)
        if any(connection.channels for connection in everybody):
            self.log.error("some sessions did not end in time")
        await self.directory.close()
        self.threads.shutdown()
