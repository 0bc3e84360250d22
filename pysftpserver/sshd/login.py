"""The login of one connection: attempts, methods, refusals, and the words for the log.

What may not enter: channels, sessions, how a connection ends.
"""

from __future__ import annotations

import asyncio
import hmac
import time

import asyncssh

from pysftpserver.sshd import algorithms
from pysftpserver.sshd.keys import fingerprint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from pysftpserver.sshd.server import Server
    from pysftpserver.sshd.users import User

    class Client(Protocol):
        """Who wants to log in. str() is its name in the log."""

        address: str

        def end(self, words: str, code: int = ...) -> None:
            """End the connection. words: the reason that the client is given."""

        def tell(self, words: str) -> None:
            """Write an error to the log, with the name in front."""


MOST_SHOWN = 6  # keys of a failed login, in a line of the log
TOO_MANY = asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "Too many authentication failures"


class Login:
    """One client's attempts to log in, which all are for the same user.

    name: of the user that the client claims to be. key: that the user logs in with. has_failed: the log says
    that the login has failed. reason: why the connection is ending before the login; for the log.
    """

    def __init__(self, server: Server, client: Client) -> None:
        self.name = ""
        self.key = b""
        self.has_failed = False
        self.reason = ""
        self._server = server
        self._client = client
        self._bytes = 0  # received before the login
        self._requests = 0
        self._other_methods = 0  # of these
        self._claimed: str | None = None  # the user name of the first attempt
        self._tried: set[bytes] = set()
        self._refused: dict[str, list[bytes]] = {}  # keys, by what was wrong; for the log
        self._candidate: User | None = None  # who has the key that was asked about last

    @property
    def has_begun(self) -> bool:
        """Whether the client has asked to be logged in."""
        return bool(self.name or self._requests)

    # --- what the client sends ----------------------------------------------------------------------------

    def received(self, size: int) -> None:
        """Count what comes before the login. Raises DisconnectError."""
        self._bytes += size
        most = self._server.settings.login_bytes
        if self._bytes > most:
            self._server.metrics.limited["login_bytes"] += 1
            self.refuse(f"{most} bytes without a login (login_bytes)")
            raise asyncssh.DisconnectError(asyncssh.DISC_PROTOCOL_ERROR, "Too much data before the login")

    def requested(self, method: bytes) -> None:
        """Count a login request. Raises DisconnectError for one too many.

        As in OpenSSH, the first "none" is free. A client asks about each key, then signs with it.
        """
        self._requests += 1
        if method != b"publickey" and (method != b"none" or self._requests > 1):
            self._other_methods += 1
        if self._requests > 2 * self._server.settings.auth_tries + 1 or self._has_tried_enough():
            self._too_many()
            raise asyncssh.DisconnectError(*TOO_MANY)

    async def begin(self, name: str) -> None:
        """The first attempt for a user. The login waits where others from the same address have failed."""
        if self._claimed is not None and name != self._claimed:
            # As in OpenSSH: the log would name only the last one.
            self.refuse("another user's name")
            self._client.end("Change of username not allowed", asyncssh.DISC_PROTOCOL_ERROR)
            return
        if self._claimed is None:
            self._claimed = name
            delay = self._server.penalties.delay(self._client.address, time.monotonic())
            if delay:
                await asyncio.sleep(delay)
        self.name = name

    def is_key_of(self, name: str, key: asyncssh.SSHKey) -> bool:
        """Whether a key is the user's. An unknown key takes as long as one of another user."""
        if self.reason:  # the connection is ending
            return False
        blob = key.public_data
        self._tried.add(blob)
        if self._has_tried_enough():
            self._too_many()
            code, words = TOO_MANY
            self._client.end(words, code)
            return False
        user = self._server.directory.find(name)
        known = user.keys if user is not None else frozenset()
        is_known = sum(hmac.compare_digest(blob, one) for one in known) > 0  # compares with all of them
        is_welcome = user is not None and user.is_welcome(self._client.address)
        if user is None or not is_welcome or not is_known:
            self._refused.setdefault(_fault(user, is_known), []).append(blob)
            return False
        algorithms.refuse_others(key)
        self._candidate, self.key = user, blob
        return True

    def completed(self) -> User:
        """The user, who has proved to have the key."""
        assert self._candidate is not None
        return self._candidate

    def described(self) -> str:
        """What the user has logged in with, for the log."""
        return fingerprint(self.key)

    def is_still_allowed(self, user: User) -> bool:
        """Whether the directory still lets a user in who has logged in with this."""
        now = self._server.directory.find(user.name)
        return (
            now is not None
            and now.id == user.id
            and now.is_welcome(self._client.address)
            and self.key in now.keys
        )

    # --- refusals -----------------------------------------------------------------------------------------

    def _has_tried_enough(self) -> bool:
        return len(self._tried) + self._other_methods > self._server.settings.auth_tries

    def _too_many(self) -> None:
        self._server.metrics.limited["auth_tries"] += 1
        self.refuse("too many attempts (auth_tries)")

    def refuse(self, reason: str) -> None:
        """The login fails, and the connection is about to end."""
        if not self.reason:
            self.reason = reason
            self.fail()

    def fail(self) -> None:
        """The login has failed."""
        self.has_failed = True
        self._server.penalties.failed(self._client.address, time.monotonic())
        self._server.metrics.logins["refused"] += 1
        self._client.tell(f"login failed: {self._why()}")
        self._server.banning.fault(self._client.address, "failed")

    def _why(self) -> str:
        """What was wrong, for the log alone: the client must not learn it."""
        faults = [self.reason] if self.reason else []
        for fault, blobs in self._refused.items():
            shown = [fingerprint(blob) for blob in dict.fromkeys(blobs)]
            more = f" and {len(shown) - MOST_SHOWN} more" if len(shown) > MOST_SHOWN else ""
            faults.append(f"{fault} {', '.join(shown[:MOST_SHOWN])}{more}")
        if self.key:
            faults.append(f"no proof of having the key {fingerprint(self.key)}")
        if not faults and self._claimed is not None:
            known = self._server.directory.find(self._claimed)
            faults.append(f"{'' if known else 'unknown user, '}no key was tried")
        return "; ".join(faults) or "no attempt"


def _fault(user: User | None, is_known: bool) -> str:
    """Why a key is refused. is_known: whether it is the user's."""
    if user is None:
        return "unknown user, key"
    if user.is_active:
        return "not from this address (networks), key" if is_known else "wrong key"
    return "inactive user, key" if is_known else "inactive user, wrong key"
