"""Shared by directories that hold users in memory: takes over new users, and announces changes.

What may not enter: where users come from.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from abc import ABC, abstractmethod

from pysftpserver.people.roster import Roster

CANCEL_AGAIN = 0.1  # seconds
SETTLING = 0.1  # seconds without a change before a file is read: it may still be being written
MOST_LOOKS = 20  # then it is read nevertheless
UNCOLLECTED = 60.0  # maximum seconds without garbage collection
AT_ONCE = 100  # users that are announced before others have their turn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
    from typing import TypeVar

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.people.users import User

    T = TypeVar("T")


class UserDirectory(ABC):
    """Users by name, held in a roster that a task keeps up to date; start() begins that task.

    For one event loop. find() never waits: a login needs no query.
    """

    def __init__(self, log: SFTPLog) -> None:
        self._log = log
        self._roster = Roster(log)
        self._trouble: str | None = None
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    async def start(self, on_change: Callable[[str], None]) -> None:
        """Load all users, and watch for changes from then on.

        on_change: called with the name of each user that was added, changed or removed, once find() gives the
        new state; with the old and the new name of a user that was renamed. Raises DirectoryError when
        nothing can be loaded.
        """

    def find(self, name: str) -> User | None:
        """The user of that name, active or not; None: there is none."""
        return self._roster.find(name)

    def has(self, name: str) -> bool:
        """Whether a record has that name, or may have it because loading has not succeeded yet."""
        return self._roster.has(name)

    def has_authority(self, blob: bytes) -> bool:
        """Whether that key is the CA of any user."""
        return self._roster.has_authority(blob)

    async def use_code(self, user: User, step: int) -> bool:
        """Whether a user's one-time code of that step is used for the first time on any server."""
        return True

    def users(self) -> Iterable[User]:
        """All users, in the order of their names."""
        return self._roster.users()

    def trouble(self) -> str | None:
        """Why the users may be out of date, in one line; None: they are current."""
        return self._trouble

    async def close(self) -> None:
        """Stop watching for changes."""
        if self._task is not None:
            # redis-py mistakes a cancellation for its own if an answer arrives at the same moment.
            while not self._task.done():
                self._task.cancel()
                await asyncio.wait([self._task], timeout=CANCEL_AGAIN)
            self._task = None

    def _say(self, trouble: str) -> None:
        """Note why the users may be out of date; a new reason is logged."""
        if trouble != self._trouble:
            self._trouble = trouble
            self._log.error(trouble)


async def settled(look: Callable[[], T], seen: T, pause: float) -> T:
    """The result of look() once two looks find the same in files, or after MOST_LOOKS.

    look: called in a thread. seen: what it found last. pause: seconds between two looks.
    """
    for _ in range(MOST_LOOKS):
        await asyncio.sleep(pause)
        now = await asyncio.to_thread(look)
        if now == seen:
            break
        seen = now
    return seen


async def in_steps(steps: Generator[None, None, T]) -> T:
    """Take all steps, and let the event loop do other work between them; returns their result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        await asyncio.sleep(0)


async def announce(names: Sequence[str], on_change: Callable[[str], None], log: SFTPLog) -> None:
    """Call on_change for each name; a fault in it is logged, and the next name is announced."""
    for number, name in enumerate(names):
        try:
            on_change(name)
        except Exception as error:
            log.fault(error)
        if number % AT_ONCE == AT_ONCE - 1:
            await asyncio.sleep(0)


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Collect no garbage while many users are loaded: the interpreter would repeatedly look through all of
    them, and do nothing else meanwhile. A file may hang, so collection resumes after UNCOLLECTED seconds.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    again = asyncio.get_running_loop().call_later(UNCOLLECTED, gc.enable)
    try:
        yield
    finally:
        again.cancel()
        gc.enable()
