"""One SSH connection: its limits and its channels. login.py has its login.

What may not enter: where users are kept, which storage a user has, how the server listens.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from functools import partial

import asyncssh

from pysftpserver.failures import reason_of
from pysftpserver.people.methods import PASSWORD, PUBLICKEY, TOTP
from pysftpserver.service import proxyprotocol
from pysftpserver.service.budget import Exhausted, Portion
from pysftpserver.service.throttle import network_of
from pysftpserver.sshd.channel import Channel
from pysftpserver.sshd.guarded import GuardedConnection
from pysftpserver.sshd.login import Login
from pysftpserver.sshd.moved import Moved
from pysftpserver.sshd.tickets import log_refusal
from pysftpserver.sshd.window import Window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.people.users import User
    from pysftpserver.service.sums import Output
    from pysftpserver.sshd.channel import Session
    from pysftpserver.sshd.login import Question
    from pysftpserver.sshd.server import Server

VERSION = b"SSH-"  # what an SSH client sends first
NO_SSH = "what it sends is not SSH"
NO_PROXY = "it sends a PROXY header, and its address is not in proxy_from"
MOST_CHANNELS = 10  # on a connection, as in OpenSSH
ADDING = 3.0  # seconds after the connection's end in which sessions may report what they have moved
_numbers = itertools.count(1)


class Connection(asyncssh.SSHServer):
    """The connection of a client, from the first byte to the last.

    number: its name in the log, in the audit log and for pysftpctl; no other process of this server has it.
    """

    def __init__(self, server: Server) -> None:
        self.number = next(_numbers) * server.settings.workers + server.process
        self.user: User | None = None
        self.address = self.network = ""
        self.port: int | None = None
        self.began = asyncio.get_running_loop().time()
        self.channels: set[Channel] = set()
        self.login = Login(server, self)
        self._server = server
        self._is_unsent = False  # the transport's buffer is full
        self._exchange: asyncio.TimerHandle | None = None  # ends the connection if the exchange does not end
        self._place = -1
        self.kept = 0  # bytes kept for the client when they were last counted
        self._moved_at = self.began  # on channels that have ended
        self._moved = (0, 0)  # bytes received and sent on channels that have ended
        self._files = Moved()
        self._last_words = ("", "")  # in the log, around what _files says
        self._adding: asyncio.TimerHandle | None = None
        self._has_keys = False  # a key exchange has ended
        self._was_admitted = False
        self.is_ending = False
        self._why_ended = ""  # by the server, for the log

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
        self._was_admitted = True
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
        self._server.gate.leave(self._place)
        self._place = -1
        self.cast_out("others are waiting (max_connections)")

    def cast_out(self, reason: str) -> None:
        """End at once a connection that has not logged in. reason: for the log."""
        self.login.reason = reason
        self.conn.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        server = self._server
        if self._exchange is not None:
            self._exchange.cancel()
        server.connections.discard(self)
        self.is_ending = True
        self.kept = 0
        self._portion.give_back()
        received, sent = self.moved()
        server.metrics.count_moved(received, sent, None if self.user is None else self.user.name)
        if self._place >= 0:
            server.gate.leave(self._place)
        if self.user is not None:
            seconds = asyncio.get_running_loop().time() - self.began
            moved = f"{received} bytes received, {sent} bytes sent"
            why = self._why_ended or (reason_of(exc) if exc is not None else "the client has left")
            self._last_words = f"{self}: gone after {seconds:.1f} seconds", f"{moved}: {why}"
            if self.channels:
                self._adding = asyncio.get_running_loop().call_later(ADDING, self._log_end)
            else:
                self._log_end()
        elif self.login.has_failed:
            pass
        elif self.login.has_begun and not self.login.reason:
            self.login.fail()
        else:
            self._left()

    def _log_end(self) -> None:
        """Log the end: sessions have reported what they have moved, or have had the time to."""
        if self._adding is not None:
            self._adding.cancel()
            self._adding = None
        self._files.lacks_some = self._files.lacks_some or bool(self.channels)
        self._log.info(f", {self._files}, ".join(self._last_words))

    def _left(self) -> None:
        """Handle an end without a login attempt. After a key exchange, that is not a fault."""
        reason, cause = self.login.reason, "" if self._has_keys else "left"
        first = self.conn.first
        if first and not first.startswith(VERSION):
            reason, cause = NO_PROXY if proxyprotocol.begins(first) else NO_SSH, "garbage"
        if reason:
            self.tell(f"refused: {reason}")
        if cause and self._was_admitted and not self._server.is_draining:
            self._server.banning.fault(self.address, cause)

    def _on_full(self) -> None:
        """Handle a transport whose buffer is full: the peer does not take what is sent."""
        self._is_unsent = True
        if self.user is None:  # no honest client has that many answers to take before the login
            self.login.reason = "it takes no answers"
            asyncio.get_running_loop().call_soon(self.conn.abort)

    def _on_taken(self) -> None:
        self._is_unsent = False
        self._go_on()

    @property
    def is_full(self) -> bool:
        """Whether data written by a channel now would have to be kept."""
        return self._is_unsent or self._exchange is not None

    def _go_on(self) -> None:
        if not self.is_full:
            for channel in list(self.channels):
                channel.go_on()

    # --- limits -------------------------------------------------------------------------------------------

    def received_from_stranger(self, size: int) -> None:
        self.login.received(size)

    def login_requested(self, method: bytes, size: int) -> None:
        self.login.requested(method, size)

    def login_proved(self) -> bool:
        return self.login.proved()

    def count_kept(self) -> None:
        """Count what is kept for the client in the budget of all; if it is exceeded, the largest one ends."""
        if self.is_ending:
            return
        self.kept = self.conn.kept() + sum(channel.window.kept for channel in self.channels)
        try:
            self._portion.hold(self.kept)
        except Exhausted as error:
            self._server.end_largest(error)

    def exchange_began(self) -> None:
        """Give the client limited time for a key exchange. The first one belongs to the login."""
        if self.user is not None and self._exchange is None:
            seconds = self._server.settings.rekey_timeout
            words = f"a key exchange took longer than {seconds:g} seconds (rekey_timeout)"
            loop = asyncio.get_running_loop()
            self._exchange = loop.call_later(seconds, self.end_at, "rekey_timeout", words)

    def exchange_ended(self) -> None:
        """Go on with what has waited for the end of the key exchange."""
        self._has_keys = True
        if self._exchange is not None:
            self._exchange.cancel()
            self._exchange = None
            asyncio.get_running_loop().call_soon(self._go_on)

    def end_at(self, limit: str, words: str) -> None:
        """End the connection at once, because it has reached a limit."""
        self._server.metrics.limited[limit] += 1
        self.is_ending = True
        if self.user is None:
            self.login.refuse(words)
        else:
            self.tell(f"ended: {words}")
            self._why_ended = words
        self.conn.abort()

    def end(self, words: str, code: int = asyncssh.DISC_BY_APPLICATION) -> None:
        """End the connection. words: the reason that the client is given."""
        self.is_ending = True
        self._why_ended = self._why_ended or words
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

    def tell(self, words: str) -> None:
        """Write an error to the log, with the name in front."""
        self._server.notes.append((time.time(), f"{self}: {words}"))
        self._log.error(f"{self}: {words}")

    @property
    def name(self) -> str:
        """The name of the user that the client claims to be."""
        return self.login.name

    def __str__(self) -> str:
        return (
            f"#{self.number} {self.address} {self.name!r}" if self.name else f"#{self.number} {self.address}"
        )

    # --- logging in ---------------------------------------------------------------------------------------

    async def begin_auth(self, username: str) -> bool:
        """Begin a login. Returns True: every user has to log in."""
        if self._server.greeting.banner and not self.login.name:
            self.conn.send_auth_banner(self._server.greeting.banner)
        await self.login.begin(username)
        return True

    def public_key_auth_supported(self) -> bool:
        return self.login.offers(PUBLICKEY)

    async def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return await self.login.is_key_of(username, key)

    def password_auth_supported(self) -> bool:
        return self.login.offers(PASSWORD)

    async def validate_password(self, username: str, password: str) -> bool:
        return await self.login.is_password_of(username, password)

    def change_password(self, username: str, old_password: str, new_password: str) -> bool:
        """Refuse: passwords are changed with pysftpctl."""
        return self.login.refuse_change()

    def kbdint_auth_supported(self) -> bool:
        return self.login.offers(PASSWORD) or self.login.offers(TOTP)

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Question:
        return self.login.question()

    async def validate_kbdint_response(self, username: str, responses: Sequence[str]) -> Question | bool:
        return await self.login.answered(username, responses)

    async def key_to_verify(self, name: str, offered: bytes) -> bytes | None:
        return await self.login.key_to_verify(name, offered)

    def auth_completed(self) -> None:
        """Let the client in: it has logged in."""
        user = self.login.completed()
        refusal = self._server.gate.log_in(self._place, user.name)
        if refusal is not None:
            self._too_many_connections(refusal)
            self.end("Too many connections", asyncssh.DISC_TOO_MANY_CONNECTIONS)
            return
        self.user = user.without_secrets()
        self._portion.give_back()
        self._portion = Portion(self._server.budget, self.causer)
        self.conn.trust(self._server.rounds.of(user.name))
        self._server.metrics.count_login(user.name)
        self._server.banning.succeeded(self.address)
        self._log.info(f"{self}: logged in with {self.login.described()}")

    def _too_many_connections(self, refusal: str) -> None:
        """Refuse the user a connection. refusal: what Gate says."""
        self.login.reason = refusal
        limit = refusal.rpartition("(")[2].removesuffix(")")
        self._server.refused(limit)
        if limit == "max_per_address":
            self._server.banning.fault(self.address, "crowd")

    def is_still_allowed(self) -> bool:
        """Whether the directory still lets this user in with what was used."""
        return self.user is None or self.login.is_still_allowed(self.user)

    # --- sessions -----------------------------------------------------------------------------------------

    def session_requested(self) -> tuple[asyncssh.SSHServerChannel[bytes], Channel] | bool:
        if self.user is None or len(self.channels) >= MOST_CHANNELS or self._server.is_draining:
            return False
        answers = self._server.settings.checksums > 0
        window = Window(self._server.windows, self.causer)
        ends = self._begin, self._on_end
        path = None if self.login.is_for_sftp_only else self._server.web_socket
        link = None if path is None else partial(self._link, path)
        channel = Channel(*ends, window, lambda: self.is_full, self.count_kept, answers, self._files, link)
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

    async def _link(self, path: str) -> Output:
        """What the command `web` prints. path: of the socket on which to ask for a link."""
        from pysftpserver.sshd import weblinks  # here, because most users never ask for one

        return await weblinks.output(self._server, self, path)

    def _on_end(self, channel: Channel) -> None:
        self.channels.discard(channel)
        self._server.channels.discard(channel)
        self._moved_at = max(self._moved_at, channel.moved_at)
        self._moved = (self._moved[0] + channel.received, self._moved[1] + channel.sent)
        if self._adding is not None and not self.channels:
            self._log_end()
