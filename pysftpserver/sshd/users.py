"""Who may log in: what is known of a user, and the interface of the directories that know it.

What may not enter: SSH, storages, where a directory keeps its users (redis_users.py, file_users.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True)
class User:
    """What a directory knows of a user.

    id: the directory's own, which stays when the name changes. folder: below the server's sftp_path; one
    name, never a path that leads elsewhere. keys: public keys, as the binary blobs that SSH sends. storage:
    None for the folder, or what the server makes of it (a GridFS prefix, a class).
    """

    id: str
    name: str
    folder: str
    is_active: bool
    keys: frozenset[bytes]
    storage: str | None = None


class DirectoryError(Exception):
    """A directory cannot be used, or has no such user. The text is one line."""


class UserDirectory(ABC):
    """Users by name, from memory, kept up to date by the directory itself.

    One event loop's. find() never waits: a login costs no question to anybody.
    """

    @abstractmethod
    async def start(self, on_change: Callable[[str], None]) -> None:
        """Load all users, and go on listening for changes.

        on_change: called with the name of each user who changed, appeared or went, after find() knows; with
        the old and the new name where that changed. Raises DirectoryError where nothing can be loaded.
        """

    @abstractmethod
    def find(self, name: str) -> User | None:
        """The user of that name, active or not."""

    @abstractmethod
    def users(self) -> Iterable[User]:
        """All of them, by name."""

    @abstractmethod
    def trouble(self) -> str | None:
        """Why the users may be out of date, in one line; None as long as all is well."""

    @abstractmethod
    async def close(self) -> None:
        """Stop listening."""
