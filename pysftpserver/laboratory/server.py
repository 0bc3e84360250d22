"""The server: it listens, admits, judges passwords, and ends in order.

What may not enter: what is said on a connection, how services are made, configuration files.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from concurrent.futures import ThreadPoolExecutor

from pysftpserver.laboratory.config import Options
from pysftpserver.laboratory.keys import Keys
from pysftpserver.laboratory.service import Service, about, title_of
from pysftpserver.laboratory.session import Session
from pysftpserver.service.throttle import Throttle, network_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from typing import Any

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.laboratory.service import Client

ROOM = 64 << 10  # bytes that are received at once
BACKLOG = 512
THREADS = 16  # for what services do that blocks
GOODBYES = 5.0  # seconds, for services to say them when the server ends


class Services:
    """Those that clients can choose from. The first is the one that they begin with. Raises ValueError."""

    def __init__(self, services: Sequence[Service]) -> None:
        self.all = tuple(services)
        self._by_title = {title_of(service).casefold(): service for service in services}
        if not services or len(self._by_title) < len(services):
            raise ValueError("no service, or two of one name")
        self.default = services[0]

    def find(self, title: str) -> Service | None:
        """The service of a name, or None."""
        return self._by_title.get(title.strip().casefold())

    def title(self, service: Service) -> str:
        """What clients call it."""
        return title_of(service)

    def listing(self, used: Service) -> str:
        """The name of the one in use, and a line for each of them."""
        lines = [f"{title_of(service)}: {about(service)}" for service in self.all]
        return "\n".join([title_of(used), *lines]).replace("\0", "")

    def members(self, service: Service) -> set[Client]:
        """Those who use it."""
        if service._members is None:
            service._members = set()
        return service._members


class Server:
    """Serves any number of clients with these services. password: of the server, not empty.

    Raises ValueError.
    """

    def __init__(
        self, options: Options, services: Sequence[Service], log: SFTPLog, password: str | None = None
    ) -> None:
        secret = options.password if password is None else password
        if not secret:
            raise ValueError("no password")
        self._salt = secrets.token_bytes(32)
        self._proof = self._digest(secret)
        self.options = options
        self.services = Services(services)
        self.name: str = options.name
        self.log = log
        self.room = memoryview(bytearray(ROOM))
        self._throttle = Throttle()
        self._sessions: set[Session] = set()
        self._by_network: dict[str, int] = {}
        self._goodbyes: set[asyncio.Task[None]] = set()
        self._is_stopping = False

    async def start(self) -> list[tuple[str, int]]:
        """Listen; return the addresses, (host, port). Raises OSError."""
        self.loop = asyncio.get_running_loop()
        self._told = asyncio.Event()
        self._threads = ThreadPoolExecutor(THREADS, "laboratory")
        self._key_maker = ThreadPoolExecutor(1, "laboratory-keys")
        options = self.options
        self.keys = Keys(self._key_maker, options.key_age, options.key_uses, self.log)
        for service in self.services.all:
            service.attach(self._threads, self.log)
        await self.keys.start()
        self._listener = await self.loop.create_server(
            lambda: Session(self), options.host or None, options.port, backlog=BACKLOG
        )
        return [socket.getsockname()[:2] for socket in self._listener.sockets]

    async def wait_for_stop(self) -> None:
        """Return when a client that may has stopped the server, or stop_wanted() was called."""
        await self._told.wait()

    def stop_wanted(self) -> None:
        """Somebody wants the server to stop: wait_for_stop() returns."""
        self._told.set()

    async def stop(self) -> None:
        """Handle what has come, tell every client, and end, if that does not take longer than drain_seconds.

        Services have half of that time, and clients the rest.
        """
        self._is_stopping = True
        self._listener.close()
        for session in tuple(self._sessions):
            session.stop()
        began = self.loop.time()
        seconds = self.options.drain_seconds
        while not all(session.is_ended for session in self._sessions):
            if self.loop.time() >= began + seconds / 2:
                break
            await asyncio.sleep(0.01)
        for session in tuple(self._sessions):
            session.stop_now()
        while self._sessions and self.loop.time() < began + seconds:
            await asyncio.sleep(0.01)
        for session in tuple(self._sessions):
            session.transport.abort()
        await asyncio.sleep(0)  # for what was aborted to be told so
        if self._goodbyes:
            await asyncio.wait(self._goodbyes, timeout=GOODBYES)
        for service in self.services.all:
            service.detach()
        self.keys.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._key_maker.shutdown(wait=False, cancel_futures=True)

    # --- what sessions call -------------------------------------------------------------------------------

    def admit(self, session: Session) -> str | None:
        """Whether a connection may stay: None, or why not."""
        network = network_of(session.address[0])
        count = self._by_network.get(network, 0)
        if self._is_stopping:
            reason = "the server is going down"
        elif self._throttle.wait(session.address[0], self.loop.time()) > 0:
            reason = "too many wrong passwords from this address: wait"
        elif len(self._sessions) >= self.options.max_connections:
            reason = "too many connections (max_connections)"
        elif self.options.max_per_address is not None and count >= self.options.max_per_address:
            reason = "too many connections from this address (max_per_address)"
        else:
            self._sessions.add(session)
            self._by_network[network] = count + 1
            return None
        return reason

    def has_admitted(self, session: Session) -> bool:
        """Whether a connection counts as one."""
        return session in self._sessions

    def forget(self, session: Session) -> None:
        """It has gone."""
        if session in self._sessions:
            self._sessions.discard(session)
            network = network_of(session.address[0])
            self._by_network[network] -= 1
            if not self._by_network[network]:
                del self._by_network[network]

    def judge(self, session: Session, password: str) -> str | None:
        """Whether that is the password: None, or what it is refused for.

        Who has to wait is not compared with, so that many connections at once are no way around it.
        """
        host, now = session.address[0], self.loop.time()
        if self._throttle.wait(host, now) > 0:
            return "too many wrong passwords from this address: wait"
        # Digests, because how long a comparison takes would tell the length.
        if hmac.compare_digest(self._digest(password), self._proof):
            return None
        self.failed(session)
        return "wrong password"

    def failed(self, session: Session) -> None:
        """Somebody did not get in, by a wrong password or with messages that nobody understands."""
        self._throttle.failed(session.address[0], self.loop.time())

    def _digest(self, password: str) -> bytes:
        return hmac.digest(self._salt, password.encode("utf-8", "surrogatepass"), "sha256")

    def look_after(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Have something done that outlives a connection."""
        task = self.loop.create_task(work)
        self._goodbyes.add(task)
        task.add_done_callback(self._goodbyes.discard)
        return task

    @property
    def count(self) -> int:
        """Connections."""
        return len(self._sessions)
