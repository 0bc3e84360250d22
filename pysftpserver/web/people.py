"""The directory of users for threads: its event loop runs in a thread of its own.

What may not enter: HTTP, storages.
"""

from __future__ import annotations

import asyncio
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any, TypeVar

    from pysftpserver.people.updating import UserDirectory
    from pysftpserver.people.users import User

    T = TypeVar("T")


class People:
    """Users by name, kept up to date. make: makes the directory, in the thread of its loop."""

    def __init__(self, make: Callable[[], UserDirectory]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="users", daemon=True)
        self._make = make
        self._directory: UserDirectory | None = None

    def start(self, on_change: Callable[[str], None]) -> None:
        """Load all users. on_change: as for UserDirectory.start(). Raises DirectoryError."""
        self._thread.start()

        async def begin() -> None:
            directory = self._make()
            await directory.start(on_change)
            self._directory = directory

        self.run(begin())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the loop of the directory, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def find(self, name: str) -> User | None:
        """The user of that name, active or not. Never waits."""
        return None if self._directory is None else self._directory.find(name)

    def is_current(self, user: User) -> bool:
        """Whether a user is as it was, so that its sessions may go on."""
        return self.find(user.name) == user and user.is_active

    def close(self) -> None:
        """Stop watching for changes."""
        if self._directory is not None:
            self.run(self._directory.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
