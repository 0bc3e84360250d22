"""Users, and the interface of the directories that hold them.

What may not enter: SSH, storages, where a directory keeps its users (redis_users.py, file_users.py).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from pysftpserver.failures import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True)
class User:
    """A user, as a directory holds it.

    id: the directory's own, which stays when the name changes. folder: a single name below the server's
    sftp_path. keys: public keys, as the binary blobs that SSH sends. storage: None for the folder, otherwise
    the text that names the storage (a GridFS prefix, a class).
    """

    id: str
    name: str
    folder: str
    is_active: bool
    keys: frozenset[bytes]
    storage: str | None = None


class DirectoryError(Unavailable):
    """A directory of users cannot be used, or has no such user. The text is one line."""


class UserDirectory(ABC):
    """Users by name, held in memory and kept up to date by the directory itself.

    For one event loop. find() never waits: a login makes no query.
    """

    @abstractmethod
    async def start(self, on_change: Callable[[str], None]) -> None:
        """Load all users, and watch for changes from then on.

        on_change: called with the name of each user that was added, changed or removed, once find() gives the
        new state; with the old and the new name of a user that was renamed. Raises DirectoryError when
        nothing can be loaded.
        """

    @abstractmethod
    def find(self, name: str) -> User | None:
        """The user of that name, active or not; None: there is none."""

    @abstractmethod
    def users(self) -> Iterable[User]:
        """All users, in the order of their names."""

    @abstractmethod
    def trouble(self) -> str | None:
        """Why the users may be out of date, in one line; None: they are current."""

    @abstractmethod
    async def close(self) -> None:
        """Stop watching for changes."""
