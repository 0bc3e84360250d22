"""The login of one connection: attempts, methods, refusals, and the words for the log.

What may not enter: channels, sessions, how a connection ends.
"""

from __future__ import annotations

import asyncio
import hmac
import time

import asyncssh

from pysftpserver.sshd import algorithms
from pysftpserver.sshd.certificates import BadCertificate, is_certificate, parse
from pysftpserver.sshd.keys import fingerprint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from pysftpserver.sshd.certificates import Certificate
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

    name: of the user that the client claims to be. key: that the user logs in with. certificate: the one that
    this key is in, if it is that which lets the user in. has_failed: the log says
    that the login has failed. reason: why the connection is ending before the login; for the log.
    """

    def __init__(self, server: Server, client: Client) -> None:
        self.name = ""
        self.key = b""
        self.certificate: Certificate | None = None
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
        self._refused_certificates: dict[str, None] = {}  # what was wrong with them; for the log
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

    def key_to_verify(self, name: str, offered: bytes) -> bytes | None:
        """The plain key that has to sign: the one that is offered, or the one in a certificate.

        None: a certificate that does not let the user in. That takes about as long for each user.
        """
        self.certificate = None
        if not is_certificate(offered):
            return offered
        if not self._may_try(offered):
            return None
        user = self._server.directory.find(name)
        faults = [] if user is not None else ["unknown user"]
        if user is not None and not user.is_active:
            faults.append("inactive user")
        try:
            certificate = parse(offered)
        except BadCertificate as error:
            self._refused_certificates[f"bad certificate: {error}"] = None
            return None
        principals = user.principals if user is not None and user.principals else (name,)
        faults += self._server.authorities.faults_of(certificate, principals, self._client.address)
        if faults or user is None:
            self._refused_certificates[f"{_shown(certificate)}: {', '.join(faults)}"] = None
            return None
        self.certificate, self._candidate, self.key = certificate, user, certificate.key
        return certificate.key

    def is_key_of(self, name: str, key: asyncssh.SSHKey) -> bool:
        """Whether a key is the user's. An unknown key takes as long as one of another user."""
        blob = key.public_data
        if self.certificate is not None and self.certificate.key == blob:
            algorithms.refuse_others(key)
            return True
        if not self._may_try(blob):
            return False
        user = self._server.directory.find(name)
        known = user.keys if user is not None else frozenset()
        is_known = sum(hmac.compare_digest(blob, one) for one in known) > 0  # compares with all of them
        revoked = "".join(f"{fault}, " for fault in self._server.authorities.faults_of_key(blob))
        if user is None or not user.is_active or not is_known or revoked:
            self._refused.setdefault(f"{revoked}{_fault(user, is_known)}", []).append(blob)
            return False
        algorithms.refuse_others(key)
        self._candidate, self.key = user, blob
        return True

    def _may_try(self, blob: bytes) -> bool:
        """Count an attempt with a key or a certificate; whether there may be one more."""
        if self.reason:  # the connection is ending
            return False
        self._tried.add(blob)
        if self._has_tried_enough():
            self._too_many()
            code, words = TOO_MANY
            self._client.end(words, code)
            return False
        return True

    def completed(self) -> User:
        """The user, who has proved to have the key."""
        assert self._candidate is not None
        return self._candidate

    def described(self) -> str:
        """What the user has logged in with, for the log."""
        return fingerprint(self.key) if self.certificate is None else _shown(self.certificate)

    def is_still_allowed(self, user: User) -> bool:
        """Whether the directory still lets a user in who has logged in with this."""
        now = self._server.directory.find(user.name)
        if now is None or now.id != user.id or not now.is_active:
            return False
        authorities = self._server.authorities
        if self.certificate is None:
            return self.key in now.keys and not authorities.is_revoked_later(self.key)
        principals = now.principals or (now.name,)
        return not authorities.later_faults_of(self.certificate, principals, self._client.address)

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
        certificates = list(self._refused_certificates)
        faults += certificates[:MOST_SHOWN]
        if len(certificates) > MOST_SHOWN:
            faults.append(f"{len(certificates) - MOST_SHOWN} more certificates")
        if self.key:
            faults.append(f"no proof of having the key {fingerprint(self.key)}")
        if not faults and self._claimed is not None:
            known = self._server.directory.find(self._claimed)
            faults.append(f"{'' if known else 'unknown user, '}no key was tried")
        return "; ".join(faults) or "no attempt"


def _shown(certificate: Certificate) -> str:
    """A certificate and its key, for the log."""
    return f"{certificate}, key {fingerprint(certificate.key)}"


def _fault(user: User | None, is_known: bool) -> str:
    """Why a key is refused. is_known: whether it is the user's."""
    if user is None:
        return "unknown user, key"
    if user.is_active:
        return "key" if is_known else "wrong key"
    return "inactive user, key" if is_known else "inactive user, wrong key"
