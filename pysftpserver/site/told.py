"""What a session remembers for what it tells of: receivers' wishes, files that are being written, refusals.

What may not enter: the spool, storages' methods but reading.
"""

from __future__ import annotations

import hashlib
import os
import time

from pysftpserver.site.layer import pieces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage

SAME_AGAIN, MOST_REFUSALS = 10.0, 20  # seconds, and refusals that are told of in them


class Wish:
    """A receiver that wants events.

    on: which. name: the receiver's. matches: whether it is about a path; None: about all. wait: for how many
    seconds a client waits for it; None: it does not.
    """

    def __init__(
        self, on: frozenset[str], name: str, matches: Callable[[bytes], bool] | None, wait: float | None
    ) -> None:
        self.on, self.name, self.matches, self.wait = on, name, matches, wait


class Upload:
    """A file that is open to be written.

    digest: of its bytes up to position; None: they came in another order, or no receiver asks. is_changed:
    whether there is anything to tell. note: the number of its note in the spool; 0: it needs none; None: that
    was not looked at. refusal: why something was not written.
    """

    __slots__ = ("digest", "handle", "is_changed", "note", "path", "position", "refusal")

    def __init__(self, handle: Any, path: bytes, is_summed: bool) -> None:
        self.handle, self.path, self.is_changed = handle, path, False
        self.digest: Any = hashlib.sha256() if is_summed else None
        self.position = 0
        self.note: int | None = None
        self.refusal: BaseException | None = None


class Refusals:
    """Which refusals of a session are told of: a client must not fill the spool with what costs it nothing.

    left_out: the number of those that were not, since the last one that was. clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[tuple[bytes, str], float] = {}
        self.left_out = 0

    def is_due(self, path: bytes, reason: str) -> bool:
        """Whether a refusal is told of: not the same again within SAME_AGAIN seconds, and not more than
        MOST_REFUSALS in them."""
        now = self._clock()
        self._told = {one: moment for one, moment in self._told.items() if now - moment < SAME_AGAIN}
        if (path, reason) in self._told or len(self._told) >= MOST_REFUSALS:
            self.left_out += 1
            return False
        self._told[path, reason] = now
        return True


def timestamp() -> str:
    """The time for an event: UTC, with milliseconds."""
    moment = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    return f"{stamp}.{int(moment % 1 * 1000):03d}Z"


def digest(storage: SFTPAbstractServerStorage, path: bytes) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises what the storage does."""
    total = hashlib.sha256()
    handle = storage.open(path, os.O_RDONLY, 0)
    try:
        for piece in pieces(storage, handle):
            total.update(piece)
    finally:
        storage.close(handle)
    return total.hexdigest()
