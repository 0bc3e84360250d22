"""A session's memory for reporting events: receivers' wishes, files being written, refusals.

What may not enter: the spool, storages' methods except reading.
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

SAME_AGAIN, MOST_REFUSALS = 10.0, 20  # seconds, and refusals reported in them


class Wish:
    """A receiver that wants events.

    on: kinds of events. name: the receiver's. matches: returns whether a path is meant; None: all are. wait:
    seconds for which a client waits for the receiver; None: it does not wait.
    """

    def __init__(
        self, on: frozenset[str], name: str, matches: Callable[[bytes], bool] | None, wait: float | None
    ) -> None:
        self.on, self.name, self.matches, self.wait = on, name, matches, wait


class Upload:
    """A file that is open for writing.

    digest: of its bytes up to position; None: they arrived out of order, or no receiver asks for it.
    is_changed: whether there is anything to report. note: the number of its note in the spool; 0: it needs
    none; None: not checked yet. refusal: why a write was refused.
    """

    __slots__ = ("digest", "handle", "is_changed", "note", "path", "position", "refusal")

    def __init__(self, handle: Any, path: bytes, is_summed: bool) -> None:
        self.handle, self.path, self.is_changed = handle, path, False
        self.digest: Any = hashlib.sha256() if is_summed else None
        self.position = 0
        self.note: int | None = None
        self.refusal: BaseException | None = None


class Refusals:
    """Selects the refusals of a session to report: a client must not fill the spool at no cost.

    left_out: the number of refusals not reported since the last one that was. clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told: dict[tuple[bytes, str], float] = {}
        self.left_out = 0

    def is_due(self, path: bytes, reason: str) -> bool:
        """Whether to report a refusal: within SAME_AGAIN seconds, only different ones, and at most
        MOST_REFUSALS.
        """
        now = self._clock()
        self._told = {one: moment for one, moment in self._told.items() if now - moment < SAME_AGAIN}
        if (path, reason) in self._told or len(self._told) >= MOST_REFUSALS:
            self.left_out += 1
            return False
        self._told[path, reason] = now
        return True


def timestamp() -> str:
    """The current time for an event: UTC, with milliseconds."""
    moment = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    return f"{stamp}.{int(moment % 1 * 1000):03d}Z"


def digest(storage: SFTPAbstractServerStorage, path: bytes) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises the storage's exceptions."""
    total = hashlib.sha256()
    handle = storage.open(path, os.O_RDONLY, 0)
    try:
        for piece in pieces(storage, handle):
            total.update(piece)
    finally:
        storage.close(handle)
    return total.hexdigest()
