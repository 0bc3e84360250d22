"""The CAs whose certificates let users in, and the list of revoked keys, as the files have them now.

A thread checks once a second whether they have changed. While the list cannot be used, no key lets a user in,
and while the CAs cannot be read, no certificate does; open connections stay. What may not enter: who the
users are, connections. Facts: sshd_config(5) on TrustedUserCAKeys and RevokedKeys.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import asyncssh

from pysftpserver.failures import BadInput
from pysftpserver.people.keys import fingerprint, key_line, key_type, parse_authorized_keys, parse_key
from pysftpserver.people.updating import SETTLING, settled
from pysftpserver.people.users import DirectoryError
from pysftpserver.people.users_file import read_trusted, read_trusted_bytes, signature
from pysftpserver.sshd import algorithms
from pysftpserver.sshd.certificates import faults
from pysftpserver.sshd.krl import BadList, Revoked, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.people.users import User
    from pysftpserver.people.users_file import Signature
    from pysftpserver.sshd.certificates import Certificate
    from pysftpserver.sshd.config import ServerSettings

INTERVAL = 1.0  # seconds between two looks
CA_KEYS, REVOKED_KEYS = "trusted_user_ca_keys", "revoked_keys"


@dataclass(frozen=True)
class Content:
    """What the files say. revoked: None without a list. seen: signatures by path. troubles: by setting, why
    its file cannot be used; then trusted or revoked is what it said before.
    """

    trusted: dict[bytes, asyncssh.SSHKey] = field(default_factory=dict)
    revoked: Revoked | None = None
    seen: dict[str, Signature | None] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)


class Principals(NamedTuple):
    """The names of which a certificate needs one for a user. users: if its CA is the server's. own: if its CA
    is the user's; () if it is not.
    """

    users: Collection[str]
    own: Collection[str] = ()

    @classmethod
    def of(cls, user: User, certificate: Certificate) -> Principals:
        return cls(user.valid_principals, user.own_principals(certificate.authority))


class Authorities:
    """What the files of these settings say.

    interval: seconds from one look at them to the next. any_owner: they may belong to any account, for
    commands that root runs.
    """

    def __init__(
        self, settings: ServerSettings, log: SFTPLog, *, interval: float = INTERVAL, any_owner: bool = False
    ) -> None:
        self._settings = settings
        self._log = log
        self._interval = interval
        self._any_owner = any_owner
        self._now = Content()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # --- whether something lets a user in -----------------------------------------------------------------

    def faults_of_key(self, blob: bytes) -> list[str]:
        """Why a plain key lets no user in; empty if it may."""
        if REVOKED_KEYS in self._now.troubles:
            return ["revoked_keys cannot be read"]
        return ["revoked"] if self._now.revoked is not None and self._now.revoked.has_key(blob) else []

    def faults_of(
        self, certificate: Certificate, names: Principals, address: str, is_known: bool = False
    ) -> list[str]:
        """Why a certificate does not let a user in now. is_known: whether its CA is that of any user.

        How long it takes depends on the certificate alone.
        """
        found = self._faults(certificate, names, address, time.time())
        found += [f"{name} cannot be read" for name in self._now.troubles]
        if is_known or certificate.authority in self._now.trusted:
            found += self._signature_faults(certificate)
        return found

    def _signature_faults(self, certificate: Certificate) -> list[str]:
        try:
            authority = self._now.trusted.get(certificate.authority) or _imported(certificate.authority)
            is_right = authority.verify(certificate.signed, certificate.signature)
        except ValueError:  # a CA of a user's has the form of a key, but is not a point of the curve
            is_right = False
        return [] if is_right else ["the CA's signature is wrong"]

    def later_faults_of(self, certificate: Certificate, names: Principals, address: str) -> list[str]:
        """Why a user who has logged in with a certificate may no longer stay. It may have expired meanwhile;
        for files that cannot be read, their last content counts.
        """
        return self._faults(certificate, names, address, certificate.valid_after)

    def _faults(self, certificate: Certificate, names: Principals, address: str, now: float) -> list[str]:
        is_trusted = certificate.authority in self._now.trusted
        every = (*names.own, *(names.users if is_trusted or not names.own else ()))
        found = faults(certificate, every, address, now)
        if not (is_trusted or names.own):
            found.append("its CA is not trusted")
        revoked = None if self._now.revoked is None else self._now.revoked.fault(certificate)
        return found if revoked is None else [*found, revoked]

    def is_revoked_later(self, blob: bytes) -> bool:
        """Whether a plain key that a user has logged in with has been revoked."""
        return self._now.revoked is not None and self._now.revoked.has_key(blob)

    def troubles(self) -> list[str]:
        """Which files cannot be used now and why, a line each."""
        return list(self._now.troubles.values())

    # --- files --------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Read the files once, for a command."""
        self._take(self._read(self._now))

    def check(self) -> None:
        """Read the files, and raise BadInput if one cannot be used."""
        for trouble in self._read(self._now).troubles.values():
            raise BadInput(trouble)

    async def start(self, on_change: Callable[[], None]) -> None:
        """Read the files, and watch them from then on. on_change: called when their content has changed."""
        self._on_change = on_change
        if self._paths():
            self._take(await asyncio.to_thread(self._read, self._now))
        self._task = asyncio.create_task(self._watch(), name="authorities")

    async def close(self) -> None:
        """Stop watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def look_now(self) -> None:
        """Look without waiting for the next turn: the settings may name other files."""
        self._hurry.set()

    async def _look_again(self) -> None:
        """Look now. A file that has changed is read once it stops changing."""
        seen = await asyncio.to_thread(self._look)
        if seen != self._now.seen:
            await settled(self._look, seen, min(SETTLING, self._interval))
            self._take(await asyncio.to_thread(self._read, self._now))
            self._on_change()

    async def _watch(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._interval if self._paths() else None):
                    await self._hurry.wait()
            self._hurry.clear()
            try:
                await self._look_again()
            except Exception as error:  # a fault in this program must not end the updates
                self._log.fault(error)

    def _paths(self) -> dict[str, str]:
        """The files that the settings name, by setting."""
        named = {name: getattr(self._settings, name) for name in (CA_KEYS, REVOKED_KEYS)}
        return {name: path for name, path in named.items() if path is not None}

    def _look(self) -> dict[str, Signature | None]:
        return {path: signature(path) for path in self._paths().values()}

    def _read(self, before: Content) -> Content:
        """What all files say now. before: used for a file that cannot be used now."""
        seen, paths = self._look(), self._paths()
        trusted: dict[bytes, asyncssh.SSHKey] = {}
        revoked: Revoked | None = None
        troubles = {}
        try:
            if CA_KEYS in paths:
                trusted = _authorities_in(paths[CA_KEYS], self._any_owner)
        except DirectoryError as error:
            trusted, troubles[CA_KEYS] = before.trusted, error.message
        try:
            if REVOKED_KEYS in paths:
                revoked = _revoked_in(paths[REVOKED_KEYS], self._any_owner)
        except DirectoryError as error:
            revoked, troubles[REVOKED_KEYS] = before.revoked, error.message
        return Content(trusted, revoked, seen, troubles)

    def _take(self, content: Content) -> None:
        """Use new content from now on, and log what has changed."""
        before, self._now = self._now, content
        for blob in content.trusted.keys() - before.trusted.keys():
            self._log.info(f"{CA_KEYS}: {key_type(blob)} {fingerprint(blob)}")
        for blob in before.trusted.keys() - content.trusted.keys():
            self._log.info(f"{CA_KEYS}: no longer {key_type(blob)} {fingerprint(blob)}")
        if content.revoked is not None and content.revoked is not before.revoked:
            self._log.info(f"{REVOKED_KEYS}: {len(content.revoked)} entries")
        for name, trouble in content.troubles.items():
            if before.troubles.get(name) != trouble:
                what = "no key lets anybody in" if name == REVOKED_KEYS else "no certificate lets anybody in"
                self._log.error(f"{trouble}; {what} until that is mended")
        for name in before.troubles.keys() - content.troubles.keys():
            self._log.info(f"{name}: usable again")


def _authorities_in(path: str, any_owner: bool) -> dict[bytes, asyncssh.SSHKey]:
    """The CAs' keys in a file. Raises DirectoryError for a bad line."""
    blobs, problems = parse_authorized_keys(read_trusted(path, CA_KEYS, any_owner)[0], parse_key)
    if problems:
        raise DirectoryError(f"{CA_KEYS} {path}: {problems[0]}")
    return {blob: _imported(blob) for blob in blobs}


def _imported(blob: bytes) -> asyncssh.SSHKey:
    """The key of a blob that has been checked."""
    key = asyncssh.import_public_key(key_line(blob))
    algorithms.refuse_others(key)
    return key


def _revoked_in(path: str, any_owner: bool) -> Revoked:
    """The list in a file. Raises DirectoryError."""
    try:
        return read(read_trusted_bytes(path, REVOKED_KEYS, any_owner)[0])
    except BadList as error:
        raise DirectoryError(f"{REVOKED_KEYS} {path}: {error}") from None
