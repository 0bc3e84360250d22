"""The server: listens, admits connections, checks passwords, reloads, and drains.

What may not enter: what is said on a connection, how services are made, configuration files.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from typing import Any

from pysftpserver.engine.log import SFTPLog
from pysftpserver.laboratory.config import ServerSettings
from pysftpserver.laboratory.keys import Keys
from pysftpserver.laboratory.service import Client, Service, about, title_of
from pysftpserver.laboratory.session import Session
from pysftpserver.service.accepting import Acceptor
from pysftpserver.service.admission import admit
from pysftpserver.service.audit import AuditFile, DoorAudit
from pysftpserver.service.loglimit import LogLimit
from pysftpserver.service.logs import ServiceLog
from pysftpserver.service.serving import (
    Members,
    end_within,
    listening_sockets,
    log_addresses,
    raise_descriptor_limit,
    until_told,
)
from pysftpserver.service.threads import Threads
from pysftpserver.service.throttle import Throttle, network_of

ROOM = 64 << 10  # bytes to receive at once
GOODBYES = 5.0  # seconds that on_leave() of all services may take when the server ends
DESCRIPTORS_EACH = 3  # of a connection: its socket, and for Files a directory and a file
TRY_LATER = "too many wrong passwords from this address; try again later"


class Services:
    """The services that clients can choose from; clients begin with the first. Raises ValueError."""

    def __init__(self, services: Sequence[Service]) -> None:
        self.all = tuple(services)
        self._by_title = {title_of(service).casefold(): service for service in services}
        if not services or len(self._by_title) < len(services):
            raise ValueError("no service, or two with the same name")
        self.default = services[0]

    def find(self, title: str) -> Service | None:
        """The service with that name, or None."""
        return self._by_title.get(title.strip().casefold())

    def listing(self, used: Service) -> str:
        """The name of the service in use, and a line for each service."""
        lines = [f"{title_of(service)}: {about(service)}" for service in self.all]
        return "\n".join([title_of(used), *lines]).replace("\0", "")

    def members(self, service: Service) -> set[Client]:
        """The clients that use it."""
        if service._members is None:
            service._members = set()
        return service._members


class Server:
    """Serves any number of clients with these services.

    password: the server's, not empty; None: the one in the settings. Raises ValueError, and BadInput if the
    audit log cannot be opened.
    """

    def __init__(
        self, settings: ServerSettings, services: Sequence[Service], log: SFTPLog, password: str | None = None
    ) -> None:
        self._salt = secrets.token_bytes(32)
        self._set_password(password or settings.password)
        self.settings = settings
        self.services = Services(services)
        self.log = log
        self.log_limit = LogLimit(log, settings.log_rate)
        self.room = memoryview(bytearray(ROOM))
        self._audit_file = None if settings.audit is None else AuditFile(settings.audit, settings.audit_chain)
        self._throttle = Throttle()
        self._sessions = Members()
        self._talking = Members()  # sessions that have not ended; the rest wait for their clients to close
        self._goodbyes: set[asyncio.Task[None]] = set()
        self._is_stopping = False
        #: Set when the server has to stop: an authorized client asked for it, or stop_wanted() was called.
        self.told = asyncio.Event()

    @property
    def name(self) -> str:
        """The name of the server."""
        return self.settings.name

    def _set_password(self, password: str | None) -> None:
        if not password:
            raise ValueError("no password")
        self._proof = self._digest(password)

    async def start(self) -> list[tuple[str, int]]:
        """Listen; return the addresses, (host, port). Raises Unavailable."""
        return [one.getsockname()[:2] for one in await self.listen()]

    async def listen(self) -> list[socket.socket]:
        """Listen; return the sockets. Raises Unavailable."""
        self.loop = asyncio.get_running_loop()
        settings = self.settings
        (sockets,) = listening_sockets(settings.listen_address, settings.port)
        self._threads = Threads(name="laboratory")
        self._key_maker = ThreadPoolExecutor(1, "laboratory-keys")
        self.keys = Keys(self._key_maker, settings.key_age, settings.key_uses, self.log)
        for service in self.services.all:
            service.attach(self._threads, self.log)
        await self.keys.start()
        self._listeners = [Acceptor(one, lambda: Session(self), self.log, "listener") for one in sockets]
        return sockets

    def stop_wanted(self) -> None:
        """Set `told`: a client that is allowed to has stopped the server."""
        self.told.set()

    def reload(self, new: ServerSettings, password: str) -> list[str]:
        """Apply the settings that may change while the server runs, and the password for new logins.

        Reopens the audit log. Returns the names of changed settings that need a restart. Raises BadInput.
        """
        if self._audit_file is not None:
            self._audit_file.reopen()
        self._set_password(password)
        kept = self.settings.take_over(new)
        self.log_limit.rate = self.settings.log_rate
        return kept

    async def stop(self) -> None:
        """Handle what has arrived, tell every client, and end within drain_seconds.

        Services get half of that time, and clients the rest.
        """
        self._is_stopping = True
        for listener in self._listeners:
            listener.close()
        for session in self._sessions:
            session.stop()
        seconds = self.settings.drain_seconds
        ends = self.loop.time() + seconds
        await self._talking.emptied(seconds / 2)
        for session in self._sessions:
            session.stop_now()
        await self._sessions.emptied(ends - self.loop.time())
        for session in self._sessions:
            session.transport.abort()
        await asyncio.sleep(0)  # lets aborted connections notice it
        if self._goodbyes:
            await asyncio.wait(self._goodbyes, timeout=GOODBYES)
        for service in self.services.all:
            service.detach()
        self.log_limit.tell()
        self.keys.close()
        self._threads.shutdown()
        self._key_maker.shutdown(wait=False, cancel_futures=True)

    # --- what sessions call -------------------------------------------------------------------------------

    def admit(self, session: Session) -> str | None:
        """Count a connection. Returns None, or why it is refused."""
        session.network = network_of(session.address[0])
        settings, now = self.settings, self.loop.time()
        if self._is_stopping:
            return "the server is going down"
        if self._throttle.wait(session.address[0], now) > 0:
            return TRY_LATER
        evicted, refusal = admit(
            tuple(self._sessions), session.network, now, settings.max_connections, settings.max_per_address
        )
        if refusal is not None:
            return refusal
        if evicted is not None:
            self.forget(evicted)
            evicted.make_room()
        self._sessions.add(session)
        self._talking.add(session)
        return None

    def ended(self, session: Session) -> None:
        """A session has ended: it handles nothing more, but its connection may still be open."""
        self._talking.discard(session)

    def forget(self, session: Session) -> None:
        """Forget an admitted session, whose connection is closed."""
        self._sessions.discard(session)

    def judge(self, session: Session, password: str) -> str | None:
        """Check a password. Returns None, or why it is refused.

        While the address has to wait, it is not even compared, so many connections at once gain nothing.
        """
        host, now = session.address[0], self.loop.time()
        if self._throttle.wait(host, now) > 0:
            return TRY_LATER
        # Digests, because the time of a comparison would reveal the length.
        if hmac.compare_digest(self._digest(password), self._proof):
            return None
        self.failed(session)
        return "wrong password"

    def failed(self, session: Session) -> None:
        """A login has failed: the password was wrong, or the bytes could not be decrypted."""
        self._throttle.failed(session.address[0], self.loop.time())

    def _digest(self, password: str) -> bytes:
        return hmac.digest(self._salt, password.encode("utf-8", "surrogatepass"), "sha256")

    def audit_of(self, session: Session, user: str) -> DoorAudit | None:
        """The audit log for a session; None if none is kept."""
        sink = self._audit_file
        return None if sink is None else DoorAudit(sink, user, *session.address, self.log)

    def look_after(self, work: Coroutine[Any, Any, None], context: Context) -> asyncio.Task[None]:
        """Run a coroutine that outlives a connection. context: the session's."""
        task = self.loop.create_task(work, context=context)
        self._goodbyes.add(task)
        task.add_done_callback(self._goodbyes.discard)
        return task

    @property
    def count(self) -> int:
        """Open connections, including unauthenticated ones."""
        return len(self._sessions)


async def serve(
    server: Server, log: ServiceLog, read_again: Callable[[], tuple[ServerSettings, str]]
) -> None:
    """Serve until a signal comes or a client stops the server; then drain. Raises Unavailable.

    read_again: reads the settings and the password anew, on SIGHUP; may raise BadInput.
    """

    def read() -> Callable[[], None]:
        new, password = read_again()

        def take() -> None:
            log.reload(new)
            for name in server.reload(new, password):
                log.error(f"{name}: a change takes effect when the server is restarted")
            raise_descriptor_limit(server.settings.max_connections, DESCRIPTORS_EACH)

        return take

    raise_descriptor_limit(server.settings.max_connections, DESCRIPTORS_EACH)
    if server.settings.allow_plaintext:
        log.error("allow_plaintext: clients that do not encrypt send the password in the clear")
    sockets = await server.listen()
    await until_told(read, log, server.told, lambda: log_addresses(sockets, log))
    log.info("ending")
    end_within(server.settings.drain_seconds, log)
    await server.stop()
