"""Small new files, which are recorded in the ledger only when complete, while there is plenty of room.

This is for storages that receive new files under another name: such a file is invisible until it is closed.
What may not enter: SQL, files that are written in place.
"""

from __future__ import annotations

import os

from pysftpserver.site import accounts
from pysftpserver.site.accounts import Plan
from pysftpserver.site.counting import is_file, size_of
from pysftpserver.site.writing import Growth, WritingLayer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.attributes import SFTPAttributes
    from pysftpserver.site.accounts import Quota
    from pysftpserver.site.shared import AnyLedger

SMALL = 256 << 10  # bytes that a session may receive in all without recording them
ANEW = os.O_CREAT | os.O_TRUNC


class SmallFilesLayer(WritingLayer):
    """Receives small files before they are recorded in the ledger."""

    def __init__(
        self, below: SFTPAbstractServerStorage, ledger: AnyLedger, quotas: list[Quota], place: str
    ) -> None:
        super().__init__(below, ledger, quotas, place)
        self._small: set[Growth] = set()  # files not yet recorded
        self._receives = hasattr(below, "replaces")

    def _open(self, path: bytes, flags: int, mode: int, quotas: list[Quota]) -> Any:
        if self._receives and flags & (ANEW | os.O_APPEND) == ANEW and self._may_wait(quotas, 0, 1):
            return self._receive(path, flags, mode, quotas)
        return super()._open(path, flags, mode, quotas)

    def _may_wait(self, quotas: Iterable[Quota], size: int, files: int) -> bool:
        """Whether this much more need not be recorded yet."""
        size += sum(growth.top for growth in self._small)
        return size <= SMALL and self._accounts.has_plenty(quotas, size, files + len(self._small))

    def _receive(self, path: bytes, flags: int, mode: int, quotas: list[Quota]) -> Any:
        """Open a file that is invisible until it is closed."""
        handle = self.below.open(path, flags, mode)
        try:
            attrs = self.below.fstat(handle)
            if is_file(attrs):
                key = self._key(attrs, path)
                growth = self._received(key)
                if growth is None:
                    growth = Growth([], quotas, path, key, False, None)
                    self._small.add(growth)
                self._add(handle, growth, flags)
        except BaseException:
            self.below.abandon(handle)
            raise
        return handle

    def _granted(self, growth: Growth, handle: Any, end: int) -> int:
        if growth in self._small:
            if self._may_wait(growth.quotas, end - growth.top, 0):
                return end
            self._write_down(growth, handle)
        return super()._granted(growth, handle, end)

    def _write_down(self, growth: Growth, handle: Any) -> None:
        """Record in the ledger a file that was small so far."""
        with self._turn(growth.path):
            growth.changes = self._accounts.begin(
                self._replacing(growth, self.below.replaces(handle), growth.top)  # type: ignore[attr-defined]
            )
        self._small.discard(growth)

    def _replacing(self, growth: Growth, old: SFTPAttributes | None, size: int) -> list[Plan]:
        """The plans for a received file of that size that replaces an old one."""
        key, base, had = self._replaced(old, growth.path)
        sizes: dict[str, Any] = {"size": size, "files": 1 - had, "is_open": True, "own": growth.key}
        return [Plan(quota, accounts.WRITE, growth.path, key, base, had, **sizes) for quota in growth.quotas]

    def _close_last(self, growth: Growth, handle: Any, close: Callable[[Any], None], completes: bool) -> None:
        if growth not in self._small:
            super()._close_last(growth, handle, close, completes)
            return
        self._small.discard(growth)
        if completes:
            self._store(growth, handle)
        else:
            close(handle)

    def _store(self, growth: Growth, handle: Any) -> None:
        """Close a small file, which gets its name. There is plenty of room, so nothing is settled first."""
        with self._last(self._alone(growth.path), handle):
            try:
                size = size_of(self.below.fstat(handle))
                old = self.below.replaces(handle)  # type: ignore[attr-defined]
                plans = self._replacing(growth, old, size)
                for plan in plans:
                    plan.is_open = False
                    if old is None:
                        plan.kind, plan.key = accounts.PUT, growth.key
                changes = self._accounts.begin(plans)
            except BaseException:
                self.below.abandon(handle)
                raise
            is_closed = False
            try:
                self.below.close(handle)
                is_closed = True
            finally:
                if is_closed and old is None:
                    self._accounts.stored(changes)
                elif is_closed:
                    self._accounts.replaced(changes, size, growth.key, *self._replaced(old, growth.path))
                else:
                    growth.changes = changes
                    self._settle(growth, size, old, is_closed)

    def _follow(self, old: bytes, new: bytes) -> None:
        """Update the paths of small files after a directory was renamed."""
        for growth in self._small:
            if growth.path.startswith(old + b"/"):
                growth.path = new + growth.path[len(old) :]
