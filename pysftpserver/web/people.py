"""The directory of users for threads: its event loop runs in its own thread.

What may not enter: HTTP, storages.
"""

from __future__ import annotations

import asyncio
import threading

from pysftpserver.people.lookups import is_looked_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, TypeVar

    from pysftpserver.people.lookups import Lookup
    from pysftpserver.people.updating import UserDirectory
    from pysftpserver.people.users import User

    T = TypeVar("T")


class People:
    """Users by name, kept up to date. make: makes the directory, in the thread of its loop.

    lookup: asks about users that are not stored; None: there are no lookups.
    """

    directory: UserDirectory  # from start() on

    def __init__(self, make: Callable[[], UserDirectory], lookup: Lookup | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="users", daemon=True)
        self._make = make
        self._lookup = lookup

    def start(self, on_change: Callable[[str], None]) -> None:
        """Load all users. on_change: as for UserDirectory.start(). Raises DirectoryError."""
        self._thread.start()

        async def begin() -> None:
            self.directory = self._make()
            await self.directory.start(on_change)

        self.run(begin())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop of the directory, and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def call(self, function: Callable[[], object]) -> None:
        """Call a function in the loop, without waiting for it."""
        self._loop.call_soon_threadsafe(function)

    def find(self, name: str) -> User | None:
        """The stored user of that name, active or not. Never waits."""
        return self.directory.find(name)

    async def look_up(
        self, network: str, name: str, method: str, address: str, password: str
    ) -> tuple[User | None, bool]:
        """A user, and whether a lookup says that the password is right. Stored users are never looked up.

        In the loop. Raises NoAnswer.
        """
        user = self.directory.find(name)
        if user is not None or self._lookup is None or self.directory.has(name):
            return user, False
        return await self._lookup.find(network, name, method, address, password=password)

    def is_current(self, user: User) -> bool:
        """Whether a user is unchanged, or still not stored if looked up, so that its sessions may go on."""
        if is_looked_up(user):
            return not self.directory.has(user.name)
        return self.find(user.name) == user and user.is_active

    def close(self) -> None:
        """Stop watching for changes."""
        if self._lookup is not None:
            self.call(self._lookup.shutdown)
        if hasattr(self, "directory"):
            self.run(self.directory.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
