"""Logins: checks a user's signature and opens a session.

A refused client learns nothing: a refusal costs the same work and takes the same time whether the user exists
or not. What may not enter: HTTP, tokens, what sessions do.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
import time

from cryptography.hazmat.primitives.asymmetric import ed448, rsa

from pysftpserver.failures import one_line
from pysftpserver.pysftpexceptions import SFTPSessionEnd
from pysftpserver.remo import wire
from pysftpserver.remo.crypto import KeyProblem, OneTimeKey, SessionCipher, is_signed, new_key, sign
from pysftpserver.remo.session import Session
from pysftpserver.remo.users import Permissions, UserError
from pysftpserver.service.throttle import Throttle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.remo.crypto import PrivateKey, PublicKey
    from pysftpserver.remo.session import Sessions
    from pysftpserver.remo.users import User, Users
    from pysftpserver.service.audit import AuditTrail

log = logging.getLogger("pysftpserver.remo")
REFUSED_AFTER = 0.1  # seconds from the request to the refusal; a successful login takes less
_MODULUS = secrets.randbits(2048) | 1 << 2047 | 1
#: Keys to verify with when there is no such user, or the user's key is of the other kind.
_OTHER_KEYS: tuple[PublicKey, ...] = (
    new_key().public_key(),
    rsa.RSAPublicNumbers(65537, _MODULUS).public_key(),
)
_KINDS = (ed448.Ed448PublicKey, rsa.RSAPublicKey)


class Refused(Exception):
    """The login is refused. wait: seconds until another one is accepted, if the address has to wait."""

    def __init__(self, wait: float = 0.0) -> None:
        super().__init__()
        self.wait = wait


class Reception:
    """Accepts logins. key: the server's private key."""

    def __init__(self, key: PrivateKey, users: Users, sessions: Sessions, trail: AuditTrail) -> None:
        self._key = key
        self._users = users
        self._sessions = sessions
        self._trail = trail
        self._throttle = Throttle()

    def check(self, address: str, port: int | None) -> None:
        """Raises Refused for an address with too many failed logins."""
        wait = self._throttle.wait(address, time.monotonic())
        if wait:
            self._record("", address, port, "PERMISSION_DENIED", "too many failed logins from this address")
            raise Refused(wait)

    def log_in(self, body: bytes, address: str, port: int | None) -> tuple[Session, bytes]:
        """The session, and the reply. Raises ProtocolError for a malformed request, Refused."""
        began = time.monotonic()
        one_time = OneTimeKey()
        try:
            login = wire.parse_login(body)
            cipher = SessionCipher(one_time.session_key(login.key))
        except wire.ProtocolError as error:
            self._record("", address, port, "BAD_MESSAGE", str(error))
            raise
        user, may, why = self._look(login)
        if user is None or may is None:
            self._throttle.failed(address, time.monotonic())
            self._record(login.user[: 2 * wire.X448_BYTES], address, port, "PERMISSION_DENIED", why)
            time.sleep(max(0.0, began + REFUSED_AFTER - time.monotonic()))
            raise Refused
        audit = self._trail.of(user.name, address, port)
        try:
            audit.note("login", seconds=time.monotonic() - began)
        except SFTPSessionEnd:
            raise Refused from None  # a session that cannot be audited
        session = Session(user, may, cipher, address, time.monotonic(), audit)
        self._sessions.add(session)
        return session, wire.login_reply(one_time.public, sign(self._key, one_time.public))

    def _record(self, user: str, address: str, port: int | None, result: str, message: str) -> None:
        """Record a refusal; if that fails, the login is refused all the same."""
        with contextlib.suppress(SFTPSessionEnd):
            self._trail.of(user, address, port).note("login", result, message=message)

    def _look(self, login: wire.Login) -> tuple[User | None, Permissions | None, str]:
        """(user, permissions, "") or (None, None, why not)."""
        user, key, may, why = None, None, None, "no such user"
        try:
            user = self._users.find(login.user)
            if user is not None:
                key = user.key()
                may = user.may()
        except KeyProblem as error:
            why = f"the user's key cannot be used: {error}"
        except UserError as error:
            why = str(error)
            log.error("login of %s: %s", one_line(login.user[: wire.X448_BYTES]), error)
        data = wire.signed_by_user(login.user, login.key)
        is_right = False
        for kind, other in zip(_KINDS, _OTHER_KEYS, strict=True):
            mine = key is not None and isinstance(key, kind)
            found = is_signed(key if mine and key is not None else other, login.signature, data)
            is_right = is_right or mine and found
        if key is not None and may is not None and not is_right:
            why = "wrong signature"
        # Only a login with a valid signature is remembered, so that strangers cannot fill the memory.
        elif is_right and not self._sessions.is_new(login.key):
            is_right, why = False, "a replayed login"
        return (user, may, "") if is_right and may is not None else (None, None, why)
