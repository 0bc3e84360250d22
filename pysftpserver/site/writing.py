"""Files that are open for writing, and grow within the room that quotas leave.

A WRITE within what the ledger has granted costs a comparison. What may not enter: SQL, changes of names,
files that need not be recorded.
"""

from __future__ import annotations

import contextlib
import errno
import os

from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.site import accounts
from pysftpserver.site.accounts import Plan
from pysftpserver.site.counting import CountingLayer, check_name, is_file, size_of
from pysftpserver.site.layer import Layer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pysftpserver.abstractstorage import Promise, SFTPAbstractServerStorage
    from pysftpserver.attributes import SFTPAttributes
    from pysftpserver.site.accounts import Change, Quota
    from pysftpserver.site.shared import AnyLedger

CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Growth:
    """A file that is open for writing.

    changes: in the ledger; none for a small file that is not recorded yet. quotas: those that count it. path,
    key: its own. in_place: whether it is the file at path; None: unknown. top: the size that it may reach.
    handles: those of this file. position: the end of appended data, or None.
    """

    __slots__ = ("changes", "handles", "in_place", "key", "path", "position", "quotas", "top")

    def __init__(
        self,
        changes: list[Change],
        quotas: list[Quota],
        path: bytes,
        key: bytes,
        in_place: bool | None,
        position: int | None,
    ) -> None:
        self.changes, self.quotas = changes, quotas
        self.path, self.key, self.in_place = path, key, in_place
        self.position = position
        self.handles: dict[int, Any] = {}
        self.top = top_of(changes) if changes else 0


class WritingLayer(CountingLayer):
    """Counts the growth of files that are open for writing."""

    def __init__(
        self, below: SFTPAbstractServerStorage, ledger: AnyLedger, quotas: list[Quota], place: str
    ) -> None:
        super().__init__(below, ledger, quotas, place)
        self._growths: dict[int, Growth] = {}  # by the id() of a handle, which it keeps
        self._tops: dict[int, int] = {}

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        quotas = self._concerned(path) if self._quotas and flags & CHANGES else []
        if not quotas:
            return self.below.open(path, flags, mode)
        check_name(path)
        return self._open(path, flags, mode, quotas)

    def _open(self, path: bytes, flags: int, mode: int, quotas: list[Quota]) -> Any:
        """Open a file that these quotas count."""
        with self._turn(path):
            before = self._look(self.below.stat, path)
            is_new = before is None
            if before is None and not flags & os.O_CREAT:
                return self._open_again(path, flags, mode)
            if before is not None and not is_file(before):
                return self.below.open(path, flags, mode)
            base, key = (0, b"") if before is None else (size_of(before), self._key(before, path))
            kind = accounts.WRITE
            changes = self._accounts.begin(
                Plan(quota, kind, path, key, base, int(not is_new), files=int(is_new), is_open=True)
                for quota in quotas
            )
            try:
                handle = self.below.open(path, flags, mode)
            except BaseException:
                self._settle_by_look(changes, path, before)
                raise
            try:
                self._add(handle, self._growth(handle, changes, path, flags, before), flags)
            except BaseException:
                self.below.abandon(handle)
                self._settle_by_look(changes, path, before)
                raise
            return handle

    def _open_again(self, path: bytes, flags: int, mode: int) -> Any:
        """Open a file that is being received and is not in place yet."""
        handle = self.below.open(path, flags, mode)
        growth = self._received(self._key(self.below.fstat(handle), path))
        if growth is None:
            self.below.abandon(handle)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._add(handle, growth, flags)
        return handle

    def _received(self, key: bytes) -> Growth | None:
        """This session's upload whose temporary file has that key."""
        received = (growth for growth in self._growths.values() if growth.in_place is False)
        return next((growth for growth in received if growth.key == key), None)

    def _add(self, handle: Any, growth: Growth, flags: int) -> None:
        growth.handles[id(handle)] = handle
        self._growths[id(handle)] = growth
        self._tops[id(handle)] = -1 if flags & os.O_APPEND else growth.top

    def _growth(
        self, handle: Any, changes: list[Change], path: bytes, flags: int, before: SFTPAttributes | None
    ) -> Growth:
        attrs = self.below.fstat(handle)
        key, in_place = self._key(attrs, path), None
        if attrs.identity is not None:
            at_path = before if before is not None else self._look(self.below.stat, path)
            in_place = at_path is not None and at_path.identity == attrs.identity
            other = self._received(key)
            if other is not None:  # another handle of the same upload
                self._accounts.cancel(changes)
                return other
        self._accounts.opened(changes, key, before is None and in_place is not False)
        position = (attrs.size or 0) if flags & os.O_APPEND else None
        return Growth(changes, [change.quota for change in changes], path, key, in_place, position)

    def write(self, handle: Any, off: int, chunk: bytes | memoryview) -> None:
        top = self._tops.get(id(handle))
        if top is not None and off + len(chunk) > top:
            self._grow(handle, off + len(chunk), len(chunk))
        return self.below.write(handle, off, chunk)  # with the number of bytes, if there is one

    def promise_write(self, handle: Any, off: int, chunk: bytes | memoryview) -> Promise | None:
        top = self._tops.get(id(handle))
        if top is not None and off + len(chunk) > top:
            self._grow(handle, off + len(chunk), len(chunk))
        return super().promise_write(handle, off, chunk)

    def check_write(self, handle: Any, off: int, size: int) -> None:
        top = self._tops.get(id(handle))
        if top is not None and off + size > top:
            self._grow(handle, off + size, size)
        self.below.check_write(handle, off, size)

    fileno = Layer.fileno

    def _grow(self, handle: Any, end: int, size: int) -> None:
        """Let a file grow for a write. Raises OSError(EDQUOT), and then spoils the file."""
        growth = self._growths[id(handle)]
        if growth.position is not None:
            if not size:
                return
            end = growth.position = growth.position + size
            if end > growth.top:  # other sessions may have made it longer
                end = growth.position = size_of(self.below.fstat(handle)) + size
        if end <= growth.top or not size:
            return
        try:
            growth.top = self._granted(growth, handle, end)
        except (OSError, SFTPException):  # the limit, or the ledger
            self.below.spoil(handle)
            raise
        for number in growth.handles:
            if self._tops[number] >= 0:
                self._tops[number] = growth.top

    def _granted(self, growth: Growth, handle: Any, end: int) -> int:
        """The size that a file may have from now on, at least end. Raises OSError(EDQUOT), Away."""
        try:
            self._accounts.grow(growth.changes, end)
        except OSError:
            with self._turn(growth.path):
                pass  # a killed session may have left changes to settle
            self._accounts.grow(growth.changes, end)
        return top_of(growth.changes)

    def close(self, handle: Any) -> None:
        self._close(handle, self.below.close, True)

    def abandon(self, handle: Any) -> None:
        self._close(handle, self.below.abandon, False)

    def _close(self, handle: Any, close: Callable[[Any], None], completes: bool) -> None:
        growth = self._growths.pop(id(handle), None)
        self._tops.pop(id(handle), None)
        if growth is not None:
            del growth.handles[id(handle)]
        if growth is None or growth.handles:
            close(handle)
        else:
            self._close_last(growth, handle, close, completes)

    def _close_last(self, growth: Growth, handle: Any, close: Callable[[Any], None], completes: bool) -> None:
        """Close the last handle of a file, and count its new size."""
        with self._last(self._turn(growth.path), handle):
            size = size_of(self.below.fstat(handle))
            if growth.in_place is False:
                # Its directory may have been renamed.
                growth.path = self._accounts.path(growth.changes) or growth.path
            old = self._look(self.below.stat, growth.path) if growth.in_place is False else None
            is_closed = False
            try:
                close(handle)
                is_closed = completes
            finally:
                self._settle(growth, size, old, is_closed)

    @contextlib.contextmanager
    def _last(self, turn: contextlib.AbstractContextManager[None], handle: Any) -> Iterator[None]:
        """A turn in which a handle is closed; if the ledger is not available, the file is abandoned."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(turn)
            except BaseException:
                self.below.abandon(handle)
                raise
            yield

    def _settle(self, growth: Growth, size: int, old: SFTPAttributes | None, is_closed: bool) -> None:
        changes = growth.changes
        if growth.in_place:
            self._accounts.written(changes, size, growth.key)
        elif growth.in_place is None:
            is_ours = all(key == growth.key for key in self._accounts.keys(changes))
            if not (is_closed and is_ours):
                found = self._look(self.below.stat, growth.path)
                if found is not None:
                    size = size_of(found)
                elif not is_closed:
                    self._accounts.found(changes, None, b"")
                    return
            self._accounts.found(changes, size, growth.key)
        else:
            now = self._look(self.below.stat, growth.path)
            if now is not None and self._key(now, growth.path) == growth.key:
                self._accounts.replaced(changes, size, growth.key, *self._replaced(old, growth.path))
            elif is_closed:  # in place, but in a renamed directory: it is unknown whether it replaced a file
                self._accounts.replaced(changes, size, growth.key, b"", 0, 0)
            else:
                self._accounts.cancel(changes)

    def _settle_by_look(self, changes: list[Change], path: bytes, before: SFTPAttributes | None) -> None:
        """Settle a failed change, which may have been carried out in part."""
        found = self._look(self.below.stat, path)
        if found is None and before is None:
            self._accounts.cancel(changes)
        else:
            self._accounts.found(changes, None if found is None else size_of(found), self._key(found, path))

    # --- sizes ------------------------------------------------------------------------------------

    def fsetstat(self, handle: Any, attrs: SFTPAttributes) -> None:
        growth = self._growths.get(id(handle))
        if growth is not None and attrs.size is not None:
            if growth.position is not None:
                growth.position = 0
            self._grow(handle, attrs.size, attrs.size)
        self.below.fsetstat(handle, attrs)

    def setstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        quotas = self._concerned(path) if self._quotas and attrs.size is not None else []
        if not quotas:
            self.below.setstat(path, attrs)
            return
        with self._turn(path):
            before = self._look(self.below.stat, path)
            if before is None or not is_file(before):
                self.below.setstat(path, attrs)
                return
            key, base = self._key(before, path), size_of(before)
            changes = self._accounts.begin(
                Plan(quota, accounts.WRITE, path, key, base, 1, size=attrs.size or 0) for quota in quotas
            )
            try:
                self.below.setstat(path, attrs)
            finally:
                self._settle_by_look(changes, path, before)


def top_of(changes: list[Change]) -> int:
    """The size that a file may reach."""
    return min(change.base + change.room for change in changes)
