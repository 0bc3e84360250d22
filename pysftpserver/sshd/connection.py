"""One SSH connection: its login, its limits and its channels.

What may not enter: where users are kept, which storage a user has, how the server listens.
"""

from __future__ import annotations

import asyncio
import hmac
import itertools
import time

import asyncssh

from pysftpserver.service.budget import Exhausted, Portion
from pysftpserver.service.throttle import network_of
from pysftpserver.sshd import algorithms
from pysftpserver.sshd.channel import Channel
from pysftpserver.sshd.guarded import GuardedConnection
from pysftpserver.sshd.keys import fingerprint
from pysftpserver.sshd.tickets import log_refusal
from pysftpserver.sshd.window import Window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.sshd.channel import Session
    from pysftpserver.sshd.server import Server
    from pysftpserver.sshd.users import User

MOST_SHOWN = 6  # keys of a failed login, in a line of the log
MOST_CHANNELS = 10  # on one connection, as in OpenSSH
TOO_MANY = asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "Too many authentication failures"
_numbers = itertools.count(1)


class Connection(asyncssh.SSHServer):
    """A client, from the first byte to the last.

    number: its name in the log, in the audit log and for pysftpctl; no other process of this server has it.
    """

    def __init__(self, server: Server) -> None:
        self.number = next(_numbers) * server.settings.workers + server.process
        self.user: User | None = None
        self.key = b""  # that the user logged in with
        self.address = self.network = ""
        self.port: int | None = None
        self.name = ""
        self.began = asyncio.get_running_loop().time()
        self.channels: set[Channel] = set()
        self._server = server
        self._is_unsent = False  # the transport's buffer is full
        self._exchange: asyncio.TimerHandle | None = None  # ends the connection if the key exchange does not
        self._login_bytes = 0  # received before the login
        self._requests = 0  # for a login
        self._other_methods = 0  # of these
        self._claimed: str | None = None  # the user name of the first attempt
        self._tried: set[bytes] = set()
        self._refused: dict[str, list[bytes]] = {}  # keys, by what was wrong; for the log
        self._place = -1
        self.kept = 0  # bytes for the client, when they were counted
        self._moved_at = self.began  # on channels that have ended
        self._moved = (0, 0)  # bytes received and sent on channels that have ended
        self._reason = ""  # why it was refused, for the log
        self._has_failed = False  # to log in, and the log says so
        self.is_ending = False

    # --- coming and going ---------------------------------------------------------------------------------

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        assert isinstance(conn, GuardedConnection)
        self.conn = conn
        self.turns = self._server.turns
        assert conn._transport is not None
        self._transport = conn._transport
        conn.greet(self, self._transport)
        peer = conn.get_extra_info("peername")
        self.address, self.port = peer[:2] if peer else ("?", None)
        self.network = network_of(self.address)
        self._portion = Portion(self._server.budget, self.causer)
        if self._server.gate.is_full():
            self._server.make_room(self.address)
        self._place, refusal = self._server.gate.enter(self.address)
        if refusal is not None:
            self._too_many_connections(refusal)
            # A client understands packets only after the server's version.
            loop = asyncio.get_running_loop()
            loop.call_soon(self.end, "Too many connections", asyncssh.DISC_TOO_MANY_CONNECTIONS)
            return
        self._server.connections.add(self)
        if self._server.is_draining:
            asyncio.get_running_loop().call_soon(self.drain)
        # asyncssh buffers without limit: it ignores these two calls of the transport.
        conn.pause_writing = self._on_full  # type: ignore[method-assign]
        conn.resume_writing = self._on_taken  # type: ignore[method-assign]

    @property
    def is_stranger(self) -> bool:
        """Whether it has not logged in."""
        return self.user is None

    def make_room(self) -> None:
        """End, because others are waiting and this one has not logged in."""
        self._reason = "others are waiting (max_connections)"
        self._server.gate.leave(self._place)
        self._place = -1
        self.conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        server = self._server
        if self._exchange is not None:
            self._exchange.cancel()
        server.connections.discard(self)
        self.is_ending = True
        self.kept = 0
        self._portion.give_back()
        server.metrics.count_moved(*self.moved())
        if self._place >= 0:
            server.gate.leave(self._place)
        if self.user is not None:
            self._log.info(f"{self}: gone")
        elif self._has_failed:
            pass
        elif self._reason:
            self._log.error(f"{self}: refused: {self._reason}")
        elif self.name or self._requests:
            self._failed()

    def _on_full(self) -> None:
        """The peer does not take what is sent."""
        self._is_unsent = True
        if self.user is None:  # no honest client has that many answers to take before the login
            self._reason = "it takes no answers"
            asyncio.get_running_loop().call_soon(self.conn.abort)

    def _on_taken(self) -> None:
        self._is_unsent = False
        self._go_on()

    @property
    def is_full(self) -> bool:
        """Whether what a channel wrote now would have to be kept."""
        return self._is_unsent or self._exchange is not None

    def _go_on(self) -> None:
        if not self.is_full:
            for channel in list(self.channels):
                channel.go_on()

    # --- limits -------------------------------------------------------------------------------------------

    def received_from_stranger(self, size: int) -> None:
        """Count what comes before the login. Raises DisconnectError."""
        self._login_bytes += size
        most = self._server.settings.login_bytes
        if self._login_bytes > most:
            self._server.metrics.limited["login_bytes"] += 1
            self._refuse(f"{most} bytes without a login (login_bytes)")
            raise asyncssh.DisconnectError(asyncssh.DISC_PROTOCOL_ERROR, "Too much data before the login")

    def login_requested(self, method: bytes) -> None:
        """Count a login request. Raises DisconnectError for one too many.

        As in OpenSSH, the first "none" is free. A client asks about each key, then signs with it.
        """
        self._requests += 1
        if method != b"publickey" and (method != b"none" or self._requests > 1):
            self._other_methods += 1
        if self._requests > 2 * self._server.settings.auth_tries + 1 or self._has_tried_enough():
            self._too_many()
            raise asyncssh.DisconnectError(*TOO_MANY)

    def _has_tried_enough(self) -> bool:
        return len(self._tried) + self._other_methods > self._server.settings.auth_tries

    def _too_many(self) -> None:
        self._server.metrics.limited["auth_tries"] += 1
        self._refuse("too many attempts (auth_tries)")

    def _refuse(self, reason: str) -> None:
        """The login fails, and the connection is about to end."""
        if not self._reason:
            self._reason = reason
            self._failed()

    def count_kept(self) -> None:
        """Take what is kept for the client from the budget of all; the largest one ends if it is too much."""
        if self.is_ending:
            return
        self.kept = self.conn.kept() + sum(channel.window.kept for channel in self.channels)
        try:
            self._portion.hold(self.kept)
        except Exhausted as error:
            self._server.end_largest(error)

    def exchange_began(self) -> None:
        """Let the client end a key exchange in time. The first one belongs to the login."""
        if self.user is not None and self._exchange is None:
            seconds = self._server.settings.rekey_timeout
            words = f"a key exchange took longer than {seconds:g} seconds (rekey_timeout)"
            loop = asyncio.get_running_loop()
            self._exchange = loop.call_later(seconds, self.end_at, "rekey_timeout", words)

    def exchange_ended(self) -> None:
        """Go on with what has waited for it."""
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None
            asyncio.get_running_loop().call_soon(self._go_on)

    def end_at(self, limit: str, words: str) -> None:
        """End the connection at once, because it has reached a limit."""
        self._server.metrics.limited[limit] += 1
        self.is_ending = True
        if self.user is None:
            self._refuse(words)
        else:
            self._log.error(f"{self}: ended: {words}")
        self.conn.abort()

    def end(self, words: str, code: int = asyncssh.DISC_BY_APPLICATION) -> None:
        """End the connection. words: the reason that the client is given."""
        self.is_ending = True
        for channel in self.channels:
            channel.cut()
        self.conn.disconnect(code, words)

    def drain(self) -> None:
        """End as soon as no channel is at work."""
        self._transport.set_write_buffer_limits(0)  # it counts as full while anything is unsent
        for channel in list(self.channels):
            channel.drain(self._end_if_idle)
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if not self.is_ending and not any(channel.is_at_work() for channel in self.channels):
            self.end("The server is stopping")

    def moved(self) -> tuple[int, int]:
        """Bytes (received, sent) on all channels so far."""
        received, sent = self._moved
        return (
            received + sum(channel.received for channel in self.channels),
            sent + sum(channel.sent for channel in self.channels),
        )

    def moved_at(self) -> float:
        """When data was last moved, by the event loop's clock."""
        return max([self._moved_at, *(channel.moved_at for channel in self.channels)])

    @property
    def _log(self) -> SFTPLog:
        """The log, with a limit for the lines of the user, or of the address before the login."""
        return self._server.log_limit.of(self.causer)

    @property
    def causer(self) -> str:
        """The user, or the network of the address before the login."""
        return network_of(self.address) if self.user is None else f"user {self.user.name!r}"

    def __str__(self) -> str:
        return (
            f"#{self.number} {self.address} {self.name!r}" if self.name else f"#{self.number} {self.address}"
        )

    # --- logging in ---------------------------------------------------------------------------------------

    async def begin_auth(self, username: str) -> bool:
        """Every user needs a key. The login waits where others from the same address have failed."""
        if self._claimed is not None and username != self._claimed:
            # As in OpenSSH: the log would name only the last one. False would mean that no key is needed.
            self._refuse("another user's name")
            self.end("Change of username not allowed", asyncssh.DISC_PROTOCOL_ERROR)
            return True
        if self._claimed is None:
            self._claimed = username
            delay = self._server.penalties.delay(self.address, time.monotonic())
            if delay:
                await asyncio.sleep(delay)
        self.name = username
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        """Whether a key is the user's. An unknown key takes as long as one of another user."""
        if self._reason:  # the connection is ending
            return False
        blob = key.public_data
        self._tried.add(blob)
        if self._has_tried_enough():
            self._too_many()
            code, words = TOO_MANY
            self.end(words, code)
            return False
        user = self._server.directory.find(username)
        known = user.keys if user is not None else frozenset()
        is_known = sum(hmac.compare_digest(blob, one) for one in known) > 0  # compares with all of them
        if user is None or not user.is_active or not is_known:
            self._refused.setdefault(_fault(user, is_known), []).append(blob)
            return False
        algorithms.refuse_others(key)
        self._candidate, self.key = user, blob
        return True

    def auth_completed(self) -> None:
        """The client has proved that it has the key."""
        user = self._candidate
        refusal = self._server.gate.log_in(self._place, user.name)
        if refusal is not None:
            self._too_many_connections(refusal)
            self.end("Too many connections", asyncssh.DISC_TOO_MANY_CONNECTIONS)
            return
        self.user = user
        self._portion.give_back()
        self._portion = Portion(self._server.budget, self.causer)
        self.conn.trust()
        self._server.metrics.logins["accepted"] += 1
        self._log.info(f"{self}: logged in with {fingerprint(self.key)}")

    def _too_many_connections(self, refusal: str) -> None:
        """refusal: what Gate says."""
        self._reason = refusal
        self._server.refused(refusal.rpartition("(")[2].removesuffix(")"))

    def _failed(self) -> None:
        server = self._server
        self._has_failed = True
        server.penalties.failed(self.address, time.monotonic())
        server.metrics.logins["refused"] += 1
        self._log.error(f"{self}: login failed: {self._why()}")

    def _why(self) -> str:
        """What was wrong, for the log alone: the client must not learn it."""
        faults = [self._reason] if self._reason else []
        for fault, blobs in self._refused.items():
            shown = [fingerprint(blob) for blob in dict.fromkeys(blobs)]
            more = f" and {len(shown) - MOST_SHOWN} more" if len(shown) > MOST_SHOWN else ""
            faults.append(f"{fault} {', '.join(shown[:MOST_SHOWN])}{more}")
        if self.key and self.user is None:
            faults.append(f"no proof of having the key {fingerprint(self.key)}")
        if not faults and self._claimed is not None:
            known = self._server.directory.find(self._claimed)
            faults.append(f"{'' if known else 'unknown user, '}no key was tried")
        return "; ".join(faults) or "no attempt"

    def is_still_allowed(self) -> bool:
        """Whether the directory still lets this user in with the key that was used."""
        if self.user is None:
            return True
        user = self._server.directory.find(self.user.name)
        return user is not None and user.id == self.user.id and user.is_active and self.key in user.keys

    # --- sessions -----------------------------------------------------------------------------------------

    def session_requested(self) -> tuple[asyncssh.SSHServerChannel[bytes], Channel] | bool:
        if self.user is None or len(self.channels) >= MOST_CHANNELS or self._server.is_draining:
            return False
        answers = self._server.settings.checksums > 0
        window = Window(self._server.windows, self.causer)
        channel = Channel(self._begin, self._on_end, window, lambda: self.is_full, self.count_kept, answers)
        ssh_channel = self.conn.create_server_channel(None, "strict", window.size)
        window.guard(ssh_channel)
        self.channels.add(channel)
        self._server.channels.add(channel)
        return ssh_channel, channel

    async def _begin(self, channel: Channel) -> Session | None:
        """A session; None where the user's storage cannot be opened."""
        try:
            return await self._server.begin(self, channel)
        except Exception as error:
            log_refusal(self._server.log_of(self), error)
        return None

    def _on_end(self, channel: Channel) -> None:
        self.channels.discard(channel)
        self._server.channels.discard(channel)
        self._moved_at = max(self._moved_at, channel.moved_at)
        self._moved = (self._moved[0] + channel.received, self._moved[1] + channel.sent)


def _fault(user: User | None, is_known: bool) -> str:
    """Why a key is refused. is_known: whether it is the user's."""
    if user is None:
        return "unknown user, key"
    if user.is_active:
        return "wrong key"
    return "inactive user, key" if is_known else "inactive user, wrong key"
