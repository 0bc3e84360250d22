"""Locks of WebDAV, in memory: they end with the server.

A lock covers paths of one tree of files (its scope), and belongs to a user. What may not enter: HTTP, XML,
storages. Times are seconds of time.monotonic(). Facts: RFC 4918, sections 6, 7, 9.10 and 9.11.
"""

from __future__ import annotations

import threading
import time
import uuid
from dataclasses import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

LONGEST = 3600.0  # seconds after which a lock has to be refreshed
USUAL = 600.0
MOST_PER_USER = 200
MOST = 20_000
MOST_OF_PATH = 16  # shared locks of one path, which listings of all users repeat for each entry
MOST_OWNER = 4096  # characters of what a client says about the owner of a lock


class TooManyLocks(Exception):
    """The maximum number of locks, of a user or of all users, is reached."""


class Locked(Exception):
    """The path is locked. lock: the lock in the way."""

    def __init__(self, lock: Lock) -> None:
        super().__init__("locked")
        self.lock = lock


@dataclass
class Lock:
    """A lock. is_deep: whether it covers everything below its path. owner: XML, as the client sent it."""

    token: str
    user: str
    path: bytes
    is_deep: bool
    is_exclusive: bool
    owner: str
    ends: float

    @property
    def seconds_left(self) -> int:
        """How long it lasts, in seconds."""
        return max(0, round(self.ends - time.monotonic()))


class Locks:
    """All locks of a server. A scope is anything hashable that stands for a tree of files."""

    def __init__(self, most_per_user: int = MOST_PER_USER) -> None:
        self._most_per_user = most_per_user
        self._scopes: dict[Any, dict[bytes, list[Lock]]] = {}
        self._lock = threading.Lock()

    def has_any(self, scope: Any) -> bool:
        """Whether there may be a lock in a scope."""
        return scope in self._scopes

    def covering(self, scope: Any, path: bytes) -> list[Lock]:
        """The locks of a path, its own and those of directories above it."""
        with self._lock:
            return list(self._covering(scope, path))

    def add(
        self,
        scope: Any,
        user: str,
        path: bytes,
        is_deep: bool,
        is_exclusive: bool,
        owner: str,
        seconds: float,
    ) -> Lock:
        """Lock a path. Raises Locked, TooManyLocks."""
        with self._lock:
            self._expire()
            covering = list(self._covering(scope, path))
            others = [*covering, *(self._below(scope, path) if is_deep else ())]
            for other in others:
                if is_exclusive or other.is_exclusive:
                    raise Locked(other)
            everything = [lock for each in self._scopes.values() for some in each.values() for lock in some]
            mine = sum(lock.user == user for lock in everything)
            if mine >= self._most_per_user or len(everything) >= MOST or len(covering) >= MOST_OF_PATH:
                raise TooManyLocks
            # It has 122 random bits, and is shown to its user alone.
            token = f"urn:uuid:{uuid.uuid4()}"
            ends = time.monotonic() + min(seconds, LONGEST)
            lock = Lock(token, user, path, is_deep, is_exclusive, owner, ends)
            self._scopes.setdefault(scope, {}).setdefault(path, []).append(lock)
            return lock

    def refresh(
        self, scope: Any, user: str, path: bytes, tokens: Collection[str], seconds: float
    ) -> Lock | None:
        """Extend the user's lock of a path that has one of these tokens; None: there is none."""
        with self._lock:
            for lock in self._covering(scope, path):
                if lock.user == user and lock.token in tokens:
                    lock.ends = time.monotonic() + min(seconds, LONGEST)
                    return lock
        return None

    def remove(self, scope: Any, user: str, path: bytes, token: str) -> bool | None:
        """Remove a lock. False: it is another user's; None: the path has none with that token."""
        with self._lock:
            for lock in self._covering(scope, path):
                if lock.token == token:
                    if lock.user != user:
                        return False
                    self._drop(scope, lock)
                    return True
        return None

    def forget(self, scope: Any, path: bytes) -> None:
        """Remove all locks at a path or below it, whose entries are gone."""
        with self._lock:
            for lock in [*self._at(scope, path), *self._below(scope, path)]:
                self._drop(scope, lock)

    def check(
        self,
        scope: Any,
        user: str,
        path: bytes,
        tokens: Collection[str],
        with_parent: bool = False,
        with_members: bool = False,
    ) -> None:
        """Raise Locked unless the user may change a path. tokens: those that the request names.

        with_parent: whether its directory is also changed. with_members: whether everything below it is.
        """
        if not self.has_any(scope):
            return
        with self._lock:
            found = list(self._covering(scope, path))
            if with_parent and path != b"/":
                found += self._covering(scope, parent_of(path))
            if with_members:
                found += self._below(scope, path)
        # Several locks of one path are shared ones, for which one token is enough.
        passed = {lock.path for lock in found if lock.user == user and lock.token in tokens}
        for lock in found:
            if lock.path not in passed:
                raise Locked(lock)

    # --- with the lock held -------------------------------------------------------------------------------

    def _at(self, scope: Any, path: bytes) -> Iterator[Lock]:
        now = time.monotonic()
        for lock in list(self._scopes.get(scope, {}).get(path, ())):
            if lock.ends > now:
                yield lock

    def _covering(self, scope: Any, path: bytes) -> Iterator[Lock]:
        if scope not in self._scopes:
            return
        yield from self._at(scope, path)
        while path != b"/":
            path = parent_of(path)
            yield from (lock for lock in self._at(scope, path) if lock.is_deep)

    def _below(self, scope: Any, path: bytes) -> Iterator[Lock]:
        top = path.rstrip(b"/") + b"/"
        for other in list(self._scopes.get(scope, ())):
            if other.startswith(top) and other != path:
                yield from self._at(scope, other)

    def _drop(self, scope: Any, lock: Lock) -> None:
        paths = self._scopes[scope]
        paths[lock.path].remove(lock)
        if not paths[lock.path]:
            del paths[lock.path]
        if not paths:
            del self._scopes[scope]

    def _expire(self) -> None:
        now = time.monotonic()
        for scope, paths in list(self._scopes.items()):
            for lock in [lock for some in paths.values() for lock in some if lock.ends <= now]:
                self._drop(scope, lock)


def parent_of(path: bytes) -> bytes:
    """The path of the directory that something is in; of the root, the root."""
    return path.rpartition(b"/")[0] or b"/"
