"""A user, in the form that all directories of users share.

What may not enter: SSH, storages, where a directory keeps its users (redis_users.py, file_users.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from pysftpserver.failures import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True)
class User:
    """A user from a directory.

    id: the directory's own, which stays when the name changes. folder: a single name below the server's
    sftp_path. keys: public keys, as the binary blobs that SSH sends. storage: None for the folder, otherwise
    the text that names the storage (a GridFS prefix, a class). run_as: the system account that sessions run
    as; None for the server's choice. site: the site file that applies to the storage; None for the server's
    choice. password: its hash. totp: the secret of the second factor. methods: the combinations of methods
    that let the user in; None for the server's choice. principals: a certificate of the server's CAs needs
    one of these; () for the name. networks: from which the user may log in, separated by commas, with a "!"
    before those not allowed; None for all. authorities: CAs whose certificates count like keys of the user,
    each with the principals of which one is needed; () for the name.
    """

    id: str
    name: str
    folder: str
    is_active: bool
    keys: frozenset[bytes]
    storage: str | None = None
    run_as: str | None = None
    site: str | None = None
    password: str | None = field(default=None, repr=False)
    totp: str | None = field(default=None, repr=False)
    methods: tuple[str, ...] | None = None
    principals: tuple[str, ...] = ()
    networks: str | None = None
    authorities: frozenset[tuple[bytes, tuple[str, ...]]] = frozenset()

    def without_secrets(self) -> Self:
        """The user without password and second factor, for code that need not know how the user logs in."""
        return replace(self, password=None, totp=None)

    @property
    def valid_principals(self) -> tuple[str, ...]:
        """The principals of which a certificate of a CA of the server's needs one."""
        return self.principals or (self.name,)

    def own_principals(self, authority: bytes) -> tuple[str, ...]:
        """The principals of which a certificate of that CA needs one; () if it is not a CA of the user."""
        every = [names or (self.name,) for blob, names in self.authorities if blob == authority]
        return tuple(name for names in every for name in names)

    def is_welcome(self, address: str) -> bool:
        """Whether the user is active and may log in from that address."""
        if self.networks is None or not self.is_active:
            return self.is_active
        from pysftpserver.service.networks import networks_of  # few users have some

        return address in networks_of(self.networks)


@dataclass(frozen=True)
class Visit(User):
    """A user with a session. address: the client's. session: the session's name in the audit log."""

    address: str = ""
    session: str = ""


class DirectoryError(Unavailable):
    """A directory of users cannot be used, or has no such user. The text is one line."""
