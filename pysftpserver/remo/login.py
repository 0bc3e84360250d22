"""Logins: who may open a session, and what somebody learns who may not: nothing.

A refusal costs the same work whether there is such a user or not, and takes the same time. What may not
enter: HTTP, tokens, what sessions do.
"""

from __future__ import annotations

import logging
import secrets
import time

from cryptography.hazmat.primitives.asymmetric import ed448, rsa

from pysftpserver.remo import audit, wire
from pysftpserver.remo.crypto import KeyProblem, OneTimeKey, SessionCipher, is_signed, new_key, sign
from pysftpserver.remo.users import Permissions, UserError
from pysftpserver.service.throttle import Throttle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.remo.crypto import PrivateKey, PublicKey
    from pysftpserver.remo.sessions import Session, Sessions
    from pysftpserver.remo.users import User, Users

log = logging.getLogger("pysftpserver.remo")
REFUSED_AFTER = 0.1  # seconds, in which all that is done for a login has its place
_MODULUS = secrets.randbits(2048) | 1 << 2047 | 1
#: Nobody's keys: what is verified with when there is no user of that name, or his key is of the other kind.
_NOBODY: tuple[PublicKey, ...] = (new_key().public_key(), rsa.RSAPublicNumbers(65537, _MODULUS).public_key())
_KINDS = (ed448.Ed448PublicKey, rsa.RSAPublicKey)


class Refused(Exception):
    """The login is refused; nothing more is said. wait: seconds until another one may be tried, if any."""

    def __init__(self, wait: float = 0.0) -> None:
        super().__init__()
        self.wait = wait


class Reception:
    """Where logins come in. key: the server's."""

    def __init__(self, key: PrivateKey, users: Users, sessions: Sessions) -> None:
        self._key = key
        self._users = users
        self._sessions = sessions
        self._throttle = Throttle()

    def check(self, address: str) -> None:
        """Raises Refused for an address from which too much has failed."""
        wait = self._throttle.wait(address, time.monotonic())
        if wait:
            audit.record("login", "not looked at: too many have failed", address)
            raise Refused(wait)

    def log_in(self, body: bytes, address: str) -> tuple[Session, bytes]:
        """The session, and what is answered. Raises ProtocolError for what is no login, Refused."""
        began = time.monotonic()
        one_time = OneTimeKey()
        try:
            login = wire.parse_login(body)
            cipher = SessionCipher(one_time.session_key(login.key))
        except wire.ProtocolError as error:
            audit.record("login", str(error), address)
            raise
        user, may, why = self._look(login)
        if user is None or may is None:
            self._throttle.failed(address, time.monotonic())
            audit.record("login", why, address, user=login.user[: 2 * wire.X448_BYTES])
            time.sleep(max(0.0, began + REFUSED_AFTER - time.monotonic()))
            raise Refused
        session = self._sessions.add(user, may, cipher, address, time.monotonic())
        audit.record("login", "OK", address, session)
        return session, wire.login_reply(one_time.public, sign(self._key, one_time.public))

    def _look(self, login: wire.Login) -> tuple[User | None, Permissions | None, str]:
        """(user, what he may, "") or (None, None, why not)."""
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
            log.error("login of %a: %s", login.user[: wire.X448_BYTES], error)
        data = wire.signed_by_user(login.user, login.key)
        is_right = False
        for kind, nobody in zip(_KINDS, _NOBODY, strict=True):
            mine = key is not None and isinstance(key, kind)
            found = is_signed(key if mine and key is not None else nobody, login.signature, data)
            is_right = is_right or mine and found
        if key is not None and may is not None and not is_right:
            why = "wrong signature"
        # Only a right one is remembered: nobody else can fill the memory.
        elif is_right and not self._sessions.is_new(login.key):
            is_right, why = False, "a login that was there before"
        return (user, may, "") if is_right and may is not None else (None, None, why)
