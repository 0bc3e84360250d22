"""The server: it listens, holds settings, users and connections, and shuts down in good order.

What may not enter: concrete storages, where users are kept, command lines.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections import deque
from dataclasses import replace
from functools import partial

import asyncssh

from pysftpserver.engine.audit import new_session
from pysftpserver.engine.limits import DESCRIPTORS_A_HANDLE, Limits
from pysftpserver.engine.log import SFTPLog
from pysftpserver.people.lookups import Lookup, source_of
from pysftpserver.service import serving
from pysftpserver.service.accepting import Acceptor
from pysftpserver.service.admission import to_evict
from pysftpserver.service.audit import open_files
from pysftpserver.service.budget import Budget
from pysftpserver.service.fair import FairThreads
from pysftpserver.service.holdings import Holdings
from pysftpserver.service.loglimit import LogLimit
from pysftpserver.service.serving import Members
from pysftpserver.service.shared import Codes, Gate, Penalties, Shared
from pysftpserver.service.threads import Threads
from pysftpserver.service.throttle import network_of
from pysftpserver.service.turns import Rounds, Turns
from pysftpserver.sshd import algorithms
from pysftpserver.sshd.authorities import Authorities
from pysftpserver.sshd.banning import Banning
from pysftpserver.sshd.connection import Connection
from pysftpserver.sshd.guarded import GuardedConnection
from pysftpserver.sshd.hashing import ThreadTurns
from pysftpserver.sshd.hooks import record_end
from pysftpserver.sshd.isolated import IsolatedSession
from pysftpserver.sshd.metrics import Metrics
from pysftpserver.sshd.resting import RestingSession
from pysftpserver.sshd.threaded import ThreadedSession
from pysftpserver.sshd.tickets import Refused, Ticket, engine_of
from pysftpserver.sshd.window import Windows

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import FileIO

    from pysftpserver.people.lookups import Source
    from pysftpserver.people.updating import UserDirectory
    from pysftpserver.people.users import User
    from pysftpserver.service.budget import Exhausted
    from pysftpserver.sshd.channel import Channel, Session
    from pysftpserver.sshd.config import ServerSettings
    from pysftpserver.sshd.forker import Forker
    from pysftpserver.sshd.greeting import Greeting
    from pysftpserver.sshd.tickets import StorageOf

IDLE_CHECKS = 5.0  # maximum seconds between two looks for idle connections
KEEPALIVE = 30.0  # seconds of silence before a client has to answer a keep-alive request
LAST_WORDS = 1.0  # seconds for sending the reason of a disconnection
NOTES = 100  # about refused or ended connections, for pysftpctl and operators
CLOSING = 5.0  # seconds to close what sessions have open
RESERVE = 8  # one in this many descriptors is reserved for logins; half as many for sessions' starts
KEEPALIVES = 3  # requests without an answer that end a connection


class Server:
    """Serves users of a directory.

    storage_of: opens the storage of a user for one session; raises an exception if that is impossible.
    shared, process: the memory that the processes of this server share, and the number of this one; None if
    there are no others. forker: starts the processes of sessions; None: all are served in this one. may_rest:
    whether a session of a user may go on in another process. in_thread: whether the sessions of a given user
    are served here nevertheless; it may block.
    """

    def __init__(
        self,
        settings: ServerSettings,
        directory: UserDirectory,
        greeting: Greeting,
        storage_of: StorageOf,
        log: SFTPLog,
        limits: Limits | None = None,
        shared: Shared | None = None,
        process: int = 0,
        forker: Forker | None = None,
        in_thread: Callable[[User], bool] = lambda user: False,
        may_rest: Callable[[User], bool] = lambda user: not user.storage,
    ) -> None:
        self.settings = settings
        self.process = process
        self.directory = directory
        self.log = log
        self.log_limit = LogLimit(log, self._own_part(settings.log_rate), lambda: self.refused("log_rate"))
        shared = shared or Shared(1, settings.max_connections)
        self.turns = Turns(settings.login_share / 100, lambda: self.refused("login_share"))
        self.rounds = Rounds()
        self.gate = Gate(
            shared, process, settings.max_connections, settings.max_per_address, settings.max_per_user
        )
        self.penalties = Penalties(shared, process)
        self.codes = Codes(shared, process)
        # One at a time: each takes memory, and the share allows less than one processor.
        self.passwords = FairThreads(1, settings.login_share / 100, "passwords")
        self.metrics = Metrics(settings.metrics_users if settings.metrics is not None else 0)
        self.connections = Members()
        self.notes: deque[tuple[float, str]] = deque(maxlen=NOTES)  # notes about connections, and when
        self.banning = Banning(self, shared, process)
        self.channels = Members()
        self.recording = Members()  # what is being written to the audit log here
        self.threads = Threads()
        self.budget = Budget(settings.buffer_bytes // settings.workers, settings.max_connections)
        self.windows = Windows(settings.window, settings.buffer_bytes // settings.workers)
        self.handles = Holdings(
            "open files and directories",
            "max_handles",
            self._own_part(settings.max_handles) or 1,
            lambda count: not self._has_descriptors(RESERVE),
            self.refused,
        )
        self.turns_for_checksums = ThreadTurns(self._own_part(settings.checksums) or 1)
        self.lookup: Lookup | None = None
        self.ask_about_users(source_of(settings))
        self.is_draining = False
        self.authorities = Authorities(settings, log)
        self.greeting = greeting
        self._storage_of = storage_of
        self._limits = limits or Limits()
        self._forker = forker
        self._in_thread = in_thread
        self._may_rest = may_rest
        self.own_web_socket: str | None = None  # of a pysftpweb that this server runs
        self._listeners: list[Acceptor] = []
        self._idle_check: asyncio.Task[None] | None = None

    # --- listening ----------------------------------------------------------------------------------------

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Serve on sockets that listen."""
        await self.directory.start(self.on_change)
        await self.authorities.start(self.check_all)
        self.greet(self.greeting)
        loop = asyncio.get_running_loop()
        for listening in sockets:
            self._listeners.append(
                Acceptor(
                    listening,
                    lambda: GuardedConnection(loop, self._options),
                    self.log,
                    "listener",
                    front=self.banning.front,
                )
            )
        self._idle_check = asyncio.create_task(self._end_idle())

    @property
    def web_socket(self) -> str | None:
        """Where links for browsers are asked for."""
        return self.settings.web_socket or self.own_web_socket

    def greet(self, greeting: Greeting) -> None:
        """Show this to clients that connect from now on."""
        self.greeting = greeting
        self._options = asyncssh.SSHServerConnectionOptions(
            server_factory=lambda: Connection(self),
            server_host_keys=algorithms.host_keys(greeting.keys),
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

    def ask_about_users(self, source: Source | None) -> None:
        """From now on, ask this source about users that are not stored; cached answers are dropped."""
        before, self.lookup = self.lookup, None if source is None else Lookup(source, self.settings)
        if before is not None:  # requests waiting for a turn there are still asked
            asyncio.get_running_loop().call_later(before.patience, before.shutdown)

    def _has_descriptors(self, part: int) -> bool:
        """Whether more files may be opened. part: 1/part of all descriptors is kept for the rest."""
        most = serving.descriptors()
        others = min(serving.OTHER_DESCRIPTORS, most // part)
        used = DESCRIPTORS_A_HANDLE * (self.handles.count + len(self.channels)) + len(self.connections)
        return used < most - others - most // part

    def _own_part(self, limit: int | None) -> int | None:
        """This process's part of a limit that holds for all processes of the server together."""
        return None if limit is None else max(1, limit // self.settings.workers)

    def refused(self, limit: str) -> None:
        """Count that a limit was reached."""
        self.metrics.limited[limit] += 1

    def apply_limits(self) -> None:
        """Apply settings that have changed."""
        settings = self.settings
        self.handles.each = self._own_part(settings.max_handles) or 1
        self.budget.limit(settings.buffer_bytes // settings.workers, settings.max_connections)
        self.windows.limit(settings.window, settings.buffer_bytes // settings.workers)
        self.log_limit.rate = self._own_part(settings.log_rate)
        self.turns.share = self.passwords.share = settings.login_share / 100
        self.banning.apply()
        if settings.max_connections > self.gate.room:
            self.log.error(f"max_connections: one process has room for {self.gate.room} until a restart")
        self.gate.limit(settings.max_connections, settings.max_per_address, settings.max_per_user)
        self.authorities.look_now()
        self.check_all()

    def make_room(self, address: str) -> None:
        """End a connection that has not logged in, to make room for a newcomer from an address."""
        strangers = (one for one in self.connections if one.is_stranger)
        evicted = to_evict(strangers, network_of(address), asyncio.get_running_loop().time())
        if evicted is not None:
            self.connections.discard(evicted)
            self.refused("evicted")
            evicted.make_room()

    def end_largest(self, error: Exhausted) -> None:
        """End the connection that keeps most, of the user or address that has to give way."""
        theirs = [one for one in self.connections if one.causer == error.holder and not one.is_ending]
        if theirs:
            max(theirs, key=lambda one: one.kept).end_at("buffer_bytes", f"{error} (buffer_bytes)")

    def on_change(self, name: str) -> None:
        """A user has changed: end this user's connections that would not be let in now."""
        for connection in self.connections:
            if connection.user is not None and connection.user.name == name:
                self._check_again(connection)

    def check_all(self) -> None:
        """Methods, CAs or revoked keys may have changed: end the connections that would not be let in now."""
        for connection in self.connections:
            self._check_again(connection)

    def _check_again(self, connection: Connection) -> None:
        if not connection.is_still_allowed():
            self.log.info(f"{connection}: ended: the user or the key is no longer active")
            connection.end("The account has changed")

    async def begin(self, connection: Connection, channel: Channel) -> Session | None:
        """Begin a session of a connection; None: there is none, and the log says why.

        Raises OSError, ValueError, SFTPException, and whatever an administrator's own class raises.
        """
        user, settings, log = connection.user, self.settings, self.log_of(connection)
        assert user is not None
        if not self._has_descriptors(2 * RESERVE):
            self.refused("descriptors")
            raise OSError(errno.EMFILE, "too many open files in all sessions")
        ticket = Ticket(
            user,
            connection.address,
            connection.port,
            connection.number,
            self.log.level,
            settings.read_only,
            settings.allow_setid,
            settings.audit,
            settings.audit_level,
            settings.audit_digests,
            settings.audit_chain,
            new_session(),
            settings.counts_requests,
            settings.max_handles,
            settings.session_files,
            settings.session_memory,
            settings.session_seconds,
            checksums=settings.checksums > 0,
            key=connection.login.used_key,
        )
        may_rest = self._may_rest(user)
        if self._forker is None or not may_rest and await self._suits_threads(user):
            if user.run_as is not None:
                raise Refused("run_as: only sessions that are processes can have an account of their own")
            make = partial(engine_of, ticket, self._storage_of, log, self.metrics, self._limits)
            engine = await self.threads.run(user.name, make, "beginning")
            engine.handles.share = self.handles.of(user.name)
            engine.turns = self.turns_for_checksums.of(user.name)
            return ThreadedSession(channel, engine, self.threads, user.name, self.rounds.of(user.name).take)
        files: list[FileIO] = []
        if ticket.audit is not None:
            # Here, because the session's account may not be able to; for each session, to have its own lock.
            work = partial(open_files, ticket.audit, ticket.audit_chain)
            for opened in await self.threads.run(user.name, work, "beginning"):
                files.append(open(opened, "ab", buffering=0))
        start = partial(self._start, self._forker, ticket, log, files)
        # The records of an audit log belong to one process, as does the state of an administrator's class.
        may_rest = may_rest and settings.audit is None
        session = RestingSession(channel, start, log) if may_rest else start(channel)
        channel.session = session
        if await session.has_begun:
            return session
        session.cut()
        return None

    async def _suits_threads(self, user: User) -> bool:
        """Whether the sessions of a user are served here. A site file may say so, and its disk may hang."""
        return await self.threads.run(user.name, partial(self._in_thread, user), "beginning")

    def _start(
        self,
        forker: Forker,
        ticket: Ticket,
        log: SFTPLog,
        files: Sequence[FileIO],
        channel: Channel,
        before: IsolatedSession | None = None,
    ) -> IsolatedSession:
        """Start a session in a process. before: the session that it was in another process."""
        on_end = partial(self._on_end, ticket, log, time.monotonic())
        ticket = replace(ticket, root=None if before is None else before.root)
        take = self.rounds.of(ticket.user.name).take
        return IsolatedSession(channel, forker, ticket, log, files, self.refused, on_end, before, take)

    def _on_end(
        self,
        ticket: Ticket,
        log: SFTPLog,
        began: float,
        figures: dict[str, dict[str, float]],
        cause: str | None,
        has_recorded: bool,
    ) -> None:
        """The process of a session has ended. cause, has_recorded: as IsolatedSession says."""
        self.metrics.add(figures)
        if cause is not None:
            self.metrics.killed[cause] += 1
            if ticket.audit is not None and not has_recorded:
                work = partial(record_end, ticket, log, cause, time.monotonic() - began)
                recording = self.threads.run_now(work)
                self.recording.add(recording)
                recording.add_done_callback(self.recording.discard)

    def log_of(self, connection: Connection) -> SFTPLog:
        """The log with the connection's name in front of each line."""
        who = connection.causer
        write = self.log_limit.write
        return SFTPLog(lambda level, text: write(who, level, f"{connection}: {text}"), self.log.level)

    async def _end_idle(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            most, resting = self.settings.idle_timeout, self.settings.session_idle
            await asyncio.sleep(min([IDLE_CHECKS, *(one / 4 for one in (most, resting) if one is not None)]))
            self.log_limit.tell()
            self.banning.end_banned()
            for connection in self.connections:
                connection.count_kept()
            for channel in self.channels:
                channel.window.rest()
                if channel.session is not None and resting is not None:
                    if loop.time() - channel.moved_at > resting:
                        channel.session.rest()
            if most is None:
                continue
            for connection in self.connections:
                if connection.user is not None and loop.time() - connection.moved_at() > most:
                    self.log.info(f"{connection}: ended: nothing moved for {most:g} seconds")
                    connection.end("Idle for too long")

    # --- ending -------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Accept no more connections, because another process does; present ones go on."""
        for listener in self._listeners:
            listener.leave()

    async def stop(self) -> None:
        """Accept no more connections, give running transfers drain_seconds, and end."""
        self.is_draining = True
        for listener in self._listeners:
            listener.close()
        if self._idle_check is not None:
            self._idle_check.cancel()
        for connection in self.connections:
            connection.drain()
        if not await self.connections.emptied(self.settings.drain_seconds):
            for connection in self.connections:
                self.log.info(f"{connection}: ended: the server is stopping")
                connection.end("The server is stopping")
            await self.connections.emptied(LAST_WORDS)
            for connection in self.connections:
                connection.conn.abort()  # its peer takes nothing
        # Files are closed in threads; one that hangs must not hold up the end of the others.
        if not await self.channels.emptied(CLOSING):
            self.log.error("some sessions did not end in time")
        await self.recording.emptied(CLOSING)
        self.log_limit.tell()
        await self.banning.close()
        await self.directory.close()
        await self.authorities.close()
        self.passwords.shutdown()
        if self.lookup is not None:
            self.lookup.shutdown()
        self.threads.shutdown()
