"""The login of one connection: attempts, methods and refusals.

What may not enter: channels, sessions, how a connection ends.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from dataclasses import replace

import asyncssh

from pysftpserver.people import methods
from pysftpserver.people.checks import code_fault, is_password
from pysftpserver.people.keys import fingerprint
from pysftpserver.people.lookups import NoAnswer, is_looked_up
from pysftpserver.people.methods import PASSWORD, PUBLICKEY, TOTP
from pysftpserver.sshd import algorithms
from pysftpserver.sshd.attempts import Attempts
from pysftpserver.sshd.authorities import Principals
from pysftpserver.sshd.certificates import FORCED, BadCertificate, is_certificate, parse
from pysftpserver.sshd.refusals import Refusals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from pysftpserver.people.methods import Combination
    from pysftpserver.people.users import User
    from pysftpserver.sshd.certificates import Certificate
    from pysftpserver.sshd.server import Server

    Question = tuple[str, str, str, list[tuple[str, bool]]]  # name, instruction, language, prompts with echo

    class Client(Protocol):
        """The connection of a client that wants to log in. str() is its name in the log."""

        address: str
        network: str

        def end(self, words: str, code: int = ...) -> None:
            """End the connection. words: the reason that the client is given."""

        def tell(self, words: str) -> None:
            """Write an error to the log, with the name in front."""


LONGEST_REQUEST = 8192  # bytes of a request with a password
WORDS = {PUBLICKEY: "the key", PASSWORD: "the password", TOTP: "the code"}
TOO_MANY = asyncssh.DISC_NO_MORE_AUTH_METHODS_AVAILABLE, "Too many authentication failures"


class Login:
    """One client's attempts to log in, all for the same user.

    name: of the user that the client claims to be. key: with which the user logs in. certificate: which
    contains this key, if it is the certificate that lets the user in. has_failed: the log says that the login
    has failed. reason: why the connection is ending before the login; for the log.
    """

    def __init__(self, server: Server, client: Client) -> None:
        self.name = ""
        self.key = b""
        self.certificate: Certificate | None = None
        self.has_failed = False
        self.reason = ""
        self._server = server
        self._client = client
        self._attempts = Attempts()
        self._claimed: str | None = None  # the user name of the first attempt
        self._refusals = Refusals()
        self._passed: Combination = ()  # methods that have succeeded
        self._user: User | None = None  # as the directory had the user then
        self._right: tuple[str, User] | None = None  # method and user of the last attempt, if it is right
        self._certified: tuple[Certificate, User] | None = None  # of the last attempt, if it is in order
        self._asked = ""  # the method that the client was asked a question for

    @property
    def has_begun(self) -> bool:
        """Whether the client has asked to be logged in."""
        return bool(self.name) or self._attempts.have_begun

    # --- what the client sends ----------------------------------------------------------------------------

    def received(self, size: int) -> None:
        """Count bytes that arrive before the login. Raises DisconnectError for more than login_bytes."""
        self._attempts.received += size
        most = self._server.settings.login_bytes
        if self._attempts.received > most:
            self._server.metrics.limited["login_bytes"] += 1
            self.refuse(f"{most} bytes without a login (login_bytes)")
            raise asyncssh.DisconnectError(asyncssh.DISC_PROTOCOL_ERROR, "Too much data before the login")

    def requested(self, method: bytes, size: int = 0) -> None:
        """Count a login request of a size in bytes. Raises DisconnectError for one too many."""
        self._right, self._asked = None, ""
        self._attempts.request(method)
        tries = self._server.settings.auth_tries + len(self._passed)
        if self._attempts.are_too_many_requests(tries) or self._has_tried_enough():
            self._too_many()
            raise asyncssh.DisconnectError(*TOO_MANY)
        if method == b"password" and size > LONGEST_REQUEST and self.offers(PASSWORD):
            self.refuse("a password that is too long")
            raise asyncssh.DisconnectError(asyncssh.DISC_PROTOCOL_ERROR, "Password too long")

    async def begin(self, name: str) -> None:
        """Begin the first attempt for a user. It is delayed if others from the same address have failed."""
        if self._claimed is not None and name != self._claimed:
            # As in OpenSSH: the log would name only the last one.
            self.refuse("another user's name")
            self._client.end("Change of username not allowed", asyncssh.DISC_PROTOCOL_ERROR)
            return
        if self._claimed is None:
            self._claimed = name
            await self._wait_for_penalties()
        self.name = name

    async def _wait_for_penalties(self) -> None:
        """Wait if others from the same address have failed."""
        delay = self._server.penalties.delay(self._client.address, time.monotonic())
        if delay:
            await asyncio.sleep(delay)

    # --- methods ------------------------------------------------------------------------------------------

    def offers(self, method: str) -> bool:
        """Whether the client is told that it may try a method now.

        Before the first one has succeeded, all clients are told the same: a client must not learn whether
        there is such a user.
        """
        if self._user is not None:
            return method in methods.following(self._combinations(self._user), self._passed)
        return method != TOTP and method in self._server.settings.offered

    def _combinations(self, user: User) -> list[Combination]:
        return methods.of_user(user, self._server.settings)

    def _fault(self, user: User | None, method: str) -> str:
        """Why a method cannot let a user in, whatever the client sends; "": it can."""
        if user is None:
            return "unknown user"
        if not user.is_active:
            return "inactive user"
        if not user.is_welcome(self._client.address):
            return "not from this address (networks)"
        if self._user is not None and not self._is_the_same(user):
            return "the user has changed meanwhile"
        if method not in methods.following(self._combinations(user), self._passed):
            return f"{method} is not what the user needs now"
        if not self._is_key_still_allowed(user):
            return "the key is no longer allowed"
        return ""

    def _is_the_same(self, user: User) -> bool:
        """Whether this is still the record of the user for whom a method has succeeded."""
        if is_looked_up(user) and self._user is not None:  # an answer may contain only what its method needs
            user = replace(user, keys=self._user.keys, password=self._user.password)
        return user == self._user

    def _is_current(self, user: User) -> bool:
        """Whether the directory still has the same record, or still none if the user was looked up."""
        directory = self._server.directory
        return not directory.has(user.name) if is_looked_up(user) else directory.find(user.name) == user

    async def _find(self, name: str, method: str, **shown: Any) -> tuple[User | None, bool]:
        """A user, and whether a lookup says that the key or password shown is right.

        Stored users are never looked up, unusable ones included.
        """
        user, lookup = self._server.directory.find(name), self._server.lookup
        if user is not None or lookup is None or self._server.directory.has(name):
            return user, False
        client = self._client
        try:
            user, is_right = await lookup.find(client.network, name, method, client.address, **shown)
        except NoAnswer as error:
            client.tell(f"lookup of {name!r}: {error}")
            return None, False
        return (None, False) if user is not None and not self._is_current(user) else (user, is_right)

    def proved(self) -> bool:
        """The last attempt has succeeded. Returns whether that logs the user in; otherwise more is needed."""
        assert self._right is not None
        method, self._user = self._right
        self._right = None
        self._passed += (method,)
        if method == PUBLICKEY:
            self._attempts.take_back_offer()
        else:
            self._attempts.take_back_request()
        return self._passed in self._combinations(self._user)

    def completed(self) -> User:
        """The user who has logged in."""
        assert self._user is not None
        return self._user

    def described(self) -> str:
        """What the user has logged in with, for the log."""
        words = {PUBLICKEY: self._shown_key(), PASSWORD: "a password", TOTP: "a code"}
        found = " (by lookup)" if self._user is not None and is_looked_up(self._user) else ""
        return " and ".join(words[method] for method in self._passed) + found

    def _shown_key(self) -> str:
        return fingerprint(self.key) if self.certificate is None else _shown(self.certificate)

    @property
    def used_key(self) -> str | None:
        """The fingerprint of the key that the user has logged in with, or what the certificate is, if any."""
        return self._shown_key() if PUBLICKEY in self._passed else None

    @property
    def is_for_sftp_only(self) -> bool:
        """Whether the certificate that was right, if there was one, forces a command, which is SFTP's."""
        return self.certificate is not None and any(name == FORCED for name, _ in self.certificate.options)

    def is_still_allowed(self, user: User) -> bool:
        """Whether the directory would still let a user in with what this user has logged in with."""
        now, then = self._server.directory.find(user.name), self._user
        if is_looked_up(user):
            return not self._server.directory.has(user.name) and self._is_key_still_allowed(user)
        if now is None or then is None or now.id != then.id or not now.is_welcome(self._client.address):
            return False
        if not self._is_key_still_allowed(now):
            return False
        is_same = now.password == then.password or PASSWORD not in self._passed
        return is_same and now.totp == then.totp and self._passed in self._combinations(now)

    def _is_key_still_allowed(self, user: User) -> bool:
        """Whether the key that was right, if there was one, or its certificate still lets a user in."""
        authorities = self._server.authorities
        if PUBLICKEY not in self._passed:
            return True
        if self.certificate is None:
            is_known = is_looked_up(user) or self.key in user.keys
            return is_known and not authorities.is_revoked_later(self.key)
        address = self._client.address
        names = Principals.of(user, self.certificate)
        return not authorities.later_faults_of(self.certificate, names, address)

    # --- keys ---------------------------------------------------------------------------------------------

    async def key_to_verify(self, name: str, offered: bytes) -> bytes | None:
        """The plain key that has to sign: the one that is offered, or the one in a certificate.

        None: a certificate that does not let the user in. That takes about as long for each user.
        """
        self._certified = None
        if not is_certificate(offered):
            return offered
        if not self._may_offer(offered):
            return None
        user = self._server.directory.find(name)
        try:
            certificate = parse(offered)
        except BadCertificate as error:
            self._refusals.certificate(f"bad certificate: {error}")
            return None
        own = ""
        if user is None and self._server.lookup is not None:
            user, own = await self._look_up(name, certificate)
        names = Principals.of(user, certificate) if user is not None else Principals((name,))
        own = own or self._fault(user, PUBLICKEY)
        faults = self._certificate_faults(certificate, names)
        if user is None or own or faults:
            every = ", ".join([own, *faults] if own else faults)
            self._refusals.certificate(f"{_shown(certificate)}: {every}")
            return None
        self._certified = certificate, user
        return certificate.key

    def _certificate_faults(self, certificate: Certificate, names: Principals) -> list[str]:
        is_known = self._server.directory.has_authority(certificate.authority)
        return self._server.authorities.faults_of(certificate, names, self._client.address, is_known)

    async def _look_up(self, name: str, certificate: Certificate) -> tuple[User | None, str]:
        """The user that a lookup knows, and its objection to a certificate that is otherwise in order."""
        if self._certificate_faults(certificate, Principals(certificate.principals)):
            return None, ""
        shown = {
            "key_id": certificate.key_id.decode("utf-8", "replace"),
            "serial": certificate.serial,
            "ca": fingerprint(certificate.authority),
        }
        user, is_accepted = await self._find(name, "certificate", key=certificate.key, certificate=shown)
        return user, "" if is_accepted or user is None else "the lookup does not accept it"

    async def is_key_of(self, name: str, key: asyncssh.SSHKey) -> bool:
        """Whether a key is the user's. An unknown key takes as long as one of another user."""
        blob = key.public_data
        if self._certified is not None and self._certified[0].key == blob:
            self.certificate, owner = self._certified
            self._right, self.key = (PUBLICKEY, owner), blob
            algorithms.refuse_others(key)
            return True
        if not self._may_offer(blob):
            return False
        user, is_known = await self._find(name, PUBLICKEY, key=blob)
        known = user.keys if user is not None else frozenset()
        is_known |= sum(hmac.compare_digest(blob, one) for one in known) > 0  # compares with all of them
        faults = self._fault(user, PUBLICKEY), *self._server.authorities.faults_of_key(blob)
        fault = ", ".join(filter(None, faults))
        if user is None or fault or not is_known:
            wrong = "key" if is_known or user is None else "wrong key"
            self._refusals.key(f"{fault}, {wrong}" if fault else wrong, blob)
            return False
        algorithms.refuse_others(key)
        self._right, self.key, self.certificate = (PUBLICKEY, user), blob, None
        return True

    def _may_offer(self, blob: bytes) -> bool:
        """Count an attempt with a key or a certificate; whether there may be one more."""
        if self.reason:  # the connection is ending
            return False
        self._attempts.offer(blob)
        if self._has_tried_enough():
            self._too_many()
            code, words = TOO_MANY
            self._client.end(words, code)
            return False
        return True

    # --- passwords ----------------------------------------------------------------------------------------

    async def is_password_of(self, name: str, password: str) -> bool:
        """Whether a password is the user's. Every attempt takes as long as one with a wrong password."""
        if not await self._may_try():
            return False
        user, is_accepted = await self._find(name, PASSWORD, password=password)
        hash = user.password if user is not None else None
        is_right = await self._is_hash_of(hash, password) or is_accepted
        fault = self._fault(user, PASSWORD)
        if user is not None and not fault:
            if not user.password and not is_accepted:
                fault = "no password is set"
            elif not self._is_current(user):  # it took a while
                fault = "the user has changed meanwhile"
            elif is_right:
                self._right = PASSWORD, user
                return True
        self._failed_try(f"{fault}, password" if fault else "wrong password")
        return False

    async def _is_hash_of(self, hash: str | None, password: str) -> bool:
        """Whether a password has that hash; None takes as long as any hash."""
        client = self._client
        return await is_password(self._server.passwords, client.network, hash, password, client.tell)

    async def _may_try(self) -> bool:
        """Wait for one more attempt; return whether the connection goes on."""
        if not self.reason:
            await self._wait_for_penalties()
        return not self.reason

    def _failed_try(self, fault: str) -> None:
        self._refusals.other(fault)
        self._server.penalties.failed(self._client.address, time.monotonic())

    def refuse_change(self) -> bool:
        """Refuse to change the password: only pysftpctl can do that."""
        self._refusals.other("a change of the password was asked for")
        return False

    # --- keyboard-interactive -----------------------------------------------------------------------------

    def question(self) -> Question:
        """What a client that uses keyboard-interactive is asked for: the password, or the code."""
        self._asked = PASSWORD if self.offers(PASSWORD) else TOTP
        return "", "", "", [("Password: " if self._asked == PASSWORD else "Verification code: ", False)]

    async def answered(self, name: str, answers: Sequence[str]) -> Question | bool:
        """Judge the client's answers; return the next question, or whether the answer was right."""
        asked, self._asked = self._asked, ""  # there is one answer to a question, however many are sent
        if len(answers) != 1 or not asked:
            self._failed_try("an answer without a question")
            return False
        if asked == TOTP:
            return await self._is_code_of(name, answers[0])
        if not await self.is_password_of(name, answers[0]):
            return False
        assert self._right is not None
        _, user = self._right
        combinations = self._combinations(user)
        passed = (*self._passed, PASSWORD)
        if passed in combinations or TOTP not in methods.following(combinations, passed):
            return True
        self.proved()
        return self.question()

    async def _is_code_of(self, name: str, code: str) -> bool:
        """Whether a one-time code is the user's. A wrong one takes as long as a wrong password."""
        if not await self._may_try():
            return False
        user = self._server.directory.find(name)
        if self._user is not None and is_looked_up(self._user) and self._is_current(self._user):
            user = self._user
        fault = self._fault(user, TOTP)
        if user is not None and not fault:
            fault = await code_fault(self._server, user, code) or self._fault(user, TOTP)
            if not fault and not self._is_current(user):  # it took a while
                fault = "the user has changed meanwhile"
            if not fault:
                self._right = TOTP, user
                return True
        await self._is_hash_of(None, code)
        self._failed_try(fault)
        return False

    # --- refusals -----------------------------------------------------------------------------------------

    def _has_tried_enough(self) -> bool:
        return self._attempts.are_too_many(self._server.settings.auth_tries)

    def _too_many(self) -> None:
        self._server.metrics.limited["auth_tries"] += 1
        self.refuse("too many attempts (auth_tries)")

    def refuse(self, reason: str) -> None:
        """Note that the login fails and the connection is about to end."""
        if not self.reason:
            self.reason = reason
            self.fail()

    def fail(self) -> None:
        """The login has failed."""
        self.has_failed = True
        if not self._refusals.has_others:  # those were counted when they were refused
            self._server.penalties.failed(self._client.address, time.monotonic())
        self._server.metrics.logins["refused"] += 1
        self._client.tell(f"login failed: {self._why()}")
        self._server.banning.fault(self._client.address, "failed")

    def _why(self) -> str:
        """What was wrong, for the log alone: the client must not learn it."""
        faults = [*([self.reason] if self.reason else []), *self._refusals.words()]
        if self.key and PUBLICKEY not in self._passed:
            faults.append(f"no proof of having the key {fingerprint(self.key)}")
        if not faults and self._claimed is not None:
            known = self._server.directory.find(self._claimed)
            faults.append(f"{'' if known else 'unknown user, '}no key was tried")
        if self._passed:
            faults.append(f"{' and '.join(WORDS[method] for method in self._passed)} had been right")
        return "; ".join(faults) or "no attempt"


def _shown(certificate: Certificate) -> str:
    """A certificate and its key, for the log."""
    return f"{certificate}, key {fingerprint(certificate.key)}"
