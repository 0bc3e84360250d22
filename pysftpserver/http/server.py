"""The web server: cheroot, hardened against slow and malformed peers.

It replaces cheroot's choice of the connections that get a thread (only those with a request that arriving.py
calls ready), and what is in requests.py, connections.py, listening.py and streams.py. What may not enter:
what the application does.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import resource
import socket
import threading
import time

from cheroot import wsgi

from pysftpserver.http.arriving import State
from pysftpserver.http.connections import LINGER, Connection
from pysftpserver.http.listening import NOT_ACCEPTED, Listening
from pysftpserver.http.streams import MOST_HEADER
from pysftpserver.service.admission import admit
from pysftpserver.service.serving import raise_descriptor_limit
from pysftpserver.service.throttle import network_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable
    from typing import Any, Protocol

    class Sessions(Protocol):
        """The sessions of people who have logged in."""

        def has_from(self, network: str) -> bool:
            """Whether one was begun from that network. network: of network_of()."""

    class Application(Protocol):
        """A WSGI application with sessions."""

        @property
        def sessions(self) -> Sessions: ...

        def user_of(self, arriving: Arriving) -> str | None:
            """The name of the user whose request it is, if that is known already. Never waits."""

        def __call__(
            self, environ: dict[str, Any], start_response: Callable[..., Any]
        ) -> Iterable[bytes]: ...

    from pysftpserver.http.arriving import Arriving
    from pysftpserver.http.settings import HTTPSettings

KEEP = 60  # seconds that an idle connection is kept
TOO_LONG = b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
KEPT = 4  # one thread in this many is reserved for addresses that have a session
KEPT_FOR_LOGINS = 8  # and one in this many for addresses without a session
EACH = 4  # one user gets at most one thread in this many
FEWEST_EACH = 4  # threads that a user gets in any case
SMALL = 16 << 10  # bytes of an arriving request that are always accepted
OPEN_PER_REQUEST = 4  # open connections of an address for each request that it may make at once
FEWEST_OPEN = 16
PER_REQUEST = 4  # descriptors that a request may need besides its connection
OWN = 64  # descriptors of the process and of interactive commands


class Server(wsgi.Server):  # type: ignore[misc, unused-ignore]
    """The server. Raises OSError when it cannot listen. tls: for HTTPS; it may change for new connections."""

    ConnectionClass = Connection

    def __init__(
        self,
        values: HTTPSettings,
        application: Application,
        name: str,
        log: logging.Logger,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.log = log
        self.tls = tls
        self.idle_timeout = values.idle_timeout
        self.slowest = values.slowest
        self._max_per_address = values.max_per_address
        self._threads = values.threads
        self._is_proxy = values.is_proxy
        # Neither strangers with many addresses nor users must lock the others out.
        kept = {False: values.threads // KEPT, True: max(1, values.threads // KEPT_FOR_LOGINS)}
        self._most_turns = {known: values.threads - count for known, count in kept.items()}
        self._turns = {False: 0, True: 0}  # requests that have a thread, or are next, by whether it is known
        # All of a user's requests may hang if a file system does.
        self._most_each = max(FEWEST_EACH, values.threads // EACH)
        self._users: collections.Counter[str | None] = collections.Counter()  # the same by user
        self._queue: list[Connection] = []  # those that wait for a thread
        self.knows, self._user_of = application.sessions.has_from, application.user_of
        self._arriving, self._most_arriving = 0, values.max_request_memory  # bytes
        raise_descriptor_limit(values.max_connections + values.max_sessions + PER_REQUEST * values.threads, 1)
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - OWN - PER_REQUEST * values.threads
        self._most_open = max(FEWEST_OPEN, min(values.max_connections, descriptors))
        self._busy: collections.Counter[str] = collections.Counter()
        self._open: collections.Counter[str] = collections.Counter()
        self._guests: set[Connection] = set()  # those that count as open
        self._count_lock = threading.Lock()
        self._unbound: OSError | None = None
        super().__init__(
            (values.listen_address, values.port),
            application,
            numthreads=values.threads,
            max=values.threads,
            server_name=name,
            timeout=KEEP,
            request_queue_size=128,
            shutdown_timeout=5,
            accepted_queue_size=values.max_connections,
            accepted_queue_timeout=1,
        )
        self.max_request_header_size = MOST_HEADER
        self.keep_alive_conn_limit = values.max_connections

    def prepare(self) -> None:
        try:
            super().prepare()  # type: ignore[no-untyped-call, unused-ignore]
        except OSError as error:
            raise self._unbound or error from None
        waits = self.socket.gettimeout()
        self.socket = Listening(self.socket.detach(), self.log)
        self.socket.settimeout(waits)

    def bind(self, family: int, type: int, proto: int = 0) -> None:
        """Bind the socket; keep the error if that fails, because prepare() would give only its text."""
        try:
            super().bind(family, type, proto)  # type: ignore[no-untyped-call, unused-ignore]
        except OSError as error:
            self._unbound = error
            raise

    def process_conn(self, conn: Connection) -> None:
        """Give a thread to a connection that has a complete request; others wait without one."""
        conn.is_waiting = False
        if conn.ends_at is not None:
            self._wait_for_end(conn, conn.drain())
        elif conn.is_new:
            conn.is_new = False
            self._begin(conn)
        else:
            state = conn.receive()
            if state is State.READY:
                self._take_turn(conn)
            elif state is State.TOO_LONG:
                self._wait_for_end(conn, conn.turn_away(TOO_LONG))
            elif state is None:
                conn.close()
            elif self._arriving > self._most_arriving and conn.arriving and len(conn.arriving.data) > SMALL:
                self.log.info("%s: too many long requests at once (max_request_memory)", conn.remote_addr)
                self._wait_for_end(conn, conn.turn_away())
            else:
                self.put_conn(conn)

    def _begin(self, conn: Connection) -> None:
        """Let a new connection wait for its first request, if there is room for it."""
        address = conn.network = network_of(conn.remote_addr or "")
        conn.is_proxy = self._is_proxy(conn.remote_addr or "")
        per_address = OPEN_PER_REQUEST * (self._threads if conn.is_proxy else self._max_per_address)
        evicted, refusal = None, None
        with self._count_lock:
            if self._open[address] >= per_address or len(self._guests) >= self._most_open:
                evicted, refusal = admit(self._guests, address, conn.began, self._most_open, per_address)
            if refusal is None:
                self._open[address] += 1
                self._guests.add(conn)
                conn.is_counted = True
        if refusal is not None:
            self.log.info("%s: %s", conn.remote_addr, refusal)
            conn.turn_away()
            conn.close()
            return
        if evicted is not None:
            self.log.info("%s: ended: it has not logged in, and others are waiting", evicted.remote_addr)
            self.closed(evicted)
            evicted.ends_at = conn.began
            with contextlib.suppress(OSError):
                evicted.socket.shutdown(socket.SHUT_RDWR)  # so that the selector notices
        self.put_conn(conn)

    def _take_turn(self, conn: Connection) -> None:
        """Give a thread to a request, now or when it is its turn."""
        assert conn.arriving is not None
        conn.user = self._user_of(conn.arriving)
        conn.is_known = self.knows(conn.network)
        conn.arrived()
        if not conn.is_known and not conn.can_answer():
            conn.close()
            return
        with self._count_lock:
            # A request that waits for others of its user does not take its neighbours' places.
            is_refused = self._has_share(conn) and not self._become_busy(conn)
            if not is_refused:
                self._queue.append(conn)
        if is_refused:
            self.log.info("%s: too many requests at once (max_per_address)", conn.remote_addr)
            self._wait_for_end(conn, conn.turn_away())
        else:
            self._give_turns()

    def _has_share(self, conn: Connection) -> bool:
        """With the lock held: whether its user may have another thread."""
        return conn.user is None or self._users[conn.user] < self._most_each

    def _become_busy(self, conn: Connection) -> bool:
        """With the lock held: count a request of its address. Returns whether that may have another one."""
        most = self._threads if conn.is_proxy else self._max_per_address
        if not conn.is_busy and self._busy[conn.network] < most:
            self._busy[conn.network] += 1
            conn.is_busy = True
        return conn.is_busy

    def claim(self, conn: Connection, user: str) -> bool:
        """Count a running request for a user, if that user may have another one."""
        with self._count_lock:
            if conn.user == user or not conn.has_turn:
                return True
            if self._users[user] >= self._most_each:
                return False
            self._users[conn.user] -= 1
            if self._users[conn.user] <= 0:
                del self._users[conn.user]
            self._users[user] += 1
            conn.user = user
        return True

    def _give_turns(self) -> None:
        """Give threads to the requests that may have one."""
        given = []
        with self._count_lock:
            for conn in self._queue:
                most = self._threads if conn.is_proxy else self._most_turns[conn.is_known]
                if self._turns[conn.is_known] >= most:
                    continue
                if self._has_share(conn) and self._become_busy(conn):
                    self._turns[conn.is_known] += 1
                    self._users[conn.user] += 1
                    conn.has_turn = True
                    given.append(conn)
            if given:
                self._queue = [conn for conn in self._queue if not conn.has_turn]
        for conn in given:
            super().process_conn(conn)

    def put_conn(self, conn: Connection) -> None:
        """Let a connection wait for its peer, without a thread."""
        seconds = float(KEEP)
        if conn.ends_at is not None:
            seconds = LINGER
        elif not conn.stream.is_ready:  # the limit for the whole handshake
            seconds = max(0.0, conn.began + self.idle_timeout - time.monotonic())
        elif conn.arriving is not None:
            seconds = min(self.idle_timeout, conn.stream.seconds_left())
        conn.is_waiting = True
        super().put_conn(conn)
        conn.last_used = time.time() - KEEP + seconds  # from which cheroot computes when to close it

    def _wait_for_end(self, conn: Connection, is_open: bool) -> None:
        if is_open:
            self.put_conn(conn)
        else:
            conn.close()

    def leave(self, conn: Connection) -> None:
        """Note that a request is over."""
        if conn.is_busy:
            conn.is_busy = False
            self._subtract(self._busy, conn.network)
        if conn.has_turn:
            conn.has_turn = False
            with self._count_lock:
                self._turns[conn.is_known] -= 1
            self._subtract(self._users, conn.user)
            self._give_turns()

    def closed(self, conn: Connection) -> None:
        """Note that a connection is over."""
        if conn.is_counted:
            conn.is_counted = False
            with self._count_lock:
                self._guests.discard(conn)
            self._subtract(self._open, conn.network)

    def count_arriving(self, size: int) -> None:
        """Count bytes of requests that are not complete."""
        with self._count_lock:
            self._arriving += size

    def _subtract(self, counter: collections.Counter[Any], key: str | None) -> None:
        with self._count_lock:
            counter[key] -= 1
            if counter[key] <= 0:
                del counter[key]

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Log what cheroot reports; a reply that breaks off is not an error."""
        if msg == "Error in HTTPServer.serve":  # it tries again at once, and may fail again
            time.sleep(NOT_ACCEPTED)
        self.log.log(
            min(level, logging.INFO) if "ReplyBroken" in msg else level, "%s", msg[:500], exc_info=False
        )
        if traceback and "ReplyBroken" not in msg:
            self.log.debug("where that was", exc_info=True)
