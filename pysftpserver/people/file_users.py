"""Users of a TOML file, held in memory and reloaded when the file changes.

A thread looks once a second at the time, size and inode of the file and of the authorized_keys files that it
names. That also notices a new file that an editor put under the old name, and works on every file system. A
version that cannot be used changes nothing.
What may not enter: SSH, what is in the file (users_file.py).
Facts: stat(2).
"""

from __future__ import annotations

import asyncio
import os

from pysftpserver.people import users_file
from pysftpserver.people.roster import shown
from pysftpserver.people.updating import SETTLING, UserDirectory, announce, in_steps, settled, uncollected
from pysftpserver.people.users import DirectoryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.people.users_file import Loaded, Signature

INTERVAL = 1.0  # seconds between two looks


class FileUsers(UserDirectory):
    """The users in a TOML file. interval: seconds from one look at it to the next."""

    def __init__(self, path: str | os.PathLike[str], log: SFTPLog, *, interval: float = INTERVAL) -> None:
        super().__init__(log)
        self._path = os.path.abspath(path)
        self._interval = interval
        self._signatures: dict[str, Signature | None] = {}

    async def start(self, on_change: Callable[[str], None]) -> None:
        """As the interface says. Raises DirectoryError if the file is missing, broken or not trustworthy."""
        self._on_change = on_change
        users_file.check_presence(self._path)
        with uncollected():
            loaded = await asyncio.to_thread(users_file.load, self._path)
            await in_steps(self._roster.replacing(loaded.records))
            await in_steps(self._roster.telling())
        self._signatures = loaded.signatures
        self._task = asyncio.create_task(self._watch(), name="users in a file")

    async def look(self) -> None:
        """Look now."""
        seen = await asyncio.to_thread(self._look)
        if seen == self._signatures:
            return
        seen = await settled(self._look, seen, min(SETTLING, self._interval))
        with uncollected():
            await self._load(seen)

    async def _load(self, seen: dict[str, Signature | None]) -> None:
        try:
            loaded = await asyncio.to_thread(users_file.load, self._path)
            self._check(loaded)
        except DirectoryError as error:
            # It is tried again at the next change.
            self._signatures = seen
            self._say(f"{error}; the server keeps the last good users")
            return
        self._signatures = loaded.signatures
        if self._trouble is not None:
            self._trouble = None
            self._log.info(f"users file {shown(self._path)}: usable again")
        names = await in_steps(self._roster.replacing(loaded.records))
        await announce(names, self._on_change, self._log)
        await in_steps(self._roster.telling())

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self.look()
            except Exception as error:  # a fault in this program must not end the updates
                self._log.fault(error)

    def _look(self) -> dict[str, Signature | None]:
        return {path: users_file.signature(path) for path in self._signatures}

    def _check(self, loaded: Loaded) -> None:
        """Raises DirectoryError for a file without users and without [users], which looks incomplete."""
        if not loaded.has_table and self._roster.users():
            raise DirectoryError(
                f"users file {self._path}: there is no user in it; if that is intended, write [users]"
            )
