"""Which directories exist in a store that has none: those with objects below, and those with a marker.

If a store holds no markers, an empty directory exists only for the session that made it. What may not enter:
listings (listing.py), attributes, paths of clients.
"""

from __future__ import annotations

import errno
import time

from pysftpserver.failures import os_error
from pysftpserver.storages.objects.errors import Missing
from pysftpserver.storages.objects.listing import HADOOP
from pysftpserver.storages.objects.names import Place
from pysftpserver.storages.objects.web import Body

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.storages.objects.s3 import S3, Meta

EMPTY = Body.of(b"")
KNOWN = 5.0  # seconds to remember that a directory exists
MOST_KNOWN = 1000  # directories


def object_at(store: S3, key: str) -> Meta | None:
    """The object with a key, or None."""
    try:
        return store.head(key)
    except Missing:
        return None


class Directories:
    """The directories below a prefix, for one session.

    has_drafts: whether the session is writing files below a prefix. has_markers: whether the store holds
    markers; None: not known yet. made: directories of the session without a marker.
    """

    def __init__(
        self, store: S3, top: str, has_drafts: Callable[[str], bool], has_markers: bool | None = None
    ) -> None:
        self.has_markers = has_markers
        self.made: set[str] = set()
        self._store = store
        self._top = top
        self._has_drafts = has_drafts
        self._known: dict[str, float] = {}

    def has(self, place: Place) -> bool:
        """Whether a directory exists: an object is below it, or it has a marker."""
        below = place.below
        if place.is_top or below in self.made or time.monotonic() - self._known.get(below, -KNOWN) < KNOWN:
            return True
        is_there = (
            bool(self._store.page(below, most=1).objects)
            or self._has_drafts(below)
            or object_at(self._store, place.key + HADOOP) is not None
        )
        if is_there:
            self.know(below)
        return is_there

    def know(self, below: str) -> None:
        """Remember for a while that a directory exists."""
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[below] = time.monotonic()

    def mark(self, below: str) -> None:
        """Make a directory exist. If the store holds no markers, it exists only for this session."""
        if self.has_markers is not False:
            self._store.put(below, EMPTY)
        if self.has_markers is None:
            self.has_markers = bool(self._store.page(below, most=1).objects)
            if not self.has_markers:  # rclone's server has made a file without the slash
                self._store.delete(below)
        if not self.has_markers:
            self.made.add(below)

    def need_parent(self, place: Place) -> None:
        """Raise "not found" if the directory of a place does not exist."""
        parent = place.parent
        if len(parent) > len(self._top) and not self.has(Place(parent[:-1], False, True)):
            raise os_error(errno.ENOENT)

    def keep_parent(self, place: Place) -> None:
        """Give a removed entry's directory a marker if it is empty now, so that it continues to exist."""
        parent = place.parent
        if len(parent) > len(self._top) and not self._store.page(parent, most=1).objects:
            self.mark(parent)

    def forget(self, below: str) -> None:
        """Note that a directory is removed."""
        self._known.pop(below, None)
        self.made.discard(below)

    def move(self, old: str, new: str) -> None:
        """Note that a directory is renamed."""
        self._known.clear()
        for below in [below for below in list(self.made) if below.startswith(old)]:
            self.made.remove(below)
            self.made.add(new + below[len(old) :])
