"""Quotas: a layer that counts what is stored while it grows, and refuses what would pass a limit.

Files are known by device and inode number where the storage has them, and by their paths elsewhere. What
counts is the size that clients see: a file with holes counts in full, one with several names once,
directories not at all. A WRITE within what the ledger has granted costs a comparison. Small files of a
storage that receives new files under another name are written down when they are complete, as long as there
is plenty of room. What may not enter: SQL, what a limit is for.
"""

from __future__ import annotations

import contextlib
import errno
import os
from stat import S_ISDIR, S_ISREG

from pysftpserver.pysftpexceptions import SFTPException, SFTPForbidden, SFTPNotFound, SFTPUnsupported
from pysftpserver.site import accounts
from pysftpserver.site.accounts import Accounts, Plan
from pysftpserver.site.layer import Layer
from pysftpserver.site.ledger import Away
from pysftpserver.uploads.temporary import is_locked_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import Any

    from pysftpserver.abstractstorage import Promise, SFTPAbstractServerStorage, StatVFS
    from pysftpserver.attributes import SFTPAttributes
    from pysftpserver.site.accounts import Change, Quota
    from pysftpserver.site.shared import AnyLedger

CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
MISSING = (SFTPNotFound, FileNotFoundError, NotADirectoryError)
NO_LIMIT = accounts.MOST
SMALL = 256 << 10  # bytes that a session may receive in all without writing it down
ANEW = os.O_CREAT | os.O_TRUNC
BLOCK_SIZE = 4096  # bytes, of the figures of a storage that has none


class Growth:
    """A file that is open to be written.

    changes: in the ledger; none of a small file that is not written down yet. quotas: those that count it.
    path, key: its own. in_place: whether that is the file at path; None: nothing tells. top: the size that it
    may have. handles: those that lead to it. position: the end of what is appended, or None.
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


class QuotaLayer(Layer):
    """Counts for quotas. ledger: with a session. quotas: those of the session's user; there may be none.

    place: the same for all sessions that see the same tree.
    """

    def __init__(
        self, below: SFTPAbstractServerStorage, ledger: AnyLedger, quotas: list[Quota], place: str
    ) -> None:
        super().__init__(below)
        self._ledger, self._quotas = ledger, quotas
        self._place = place.encode(errors="surrogateescape") + b" "
        self._accounts = Accounts(ledger, place)
        self._names = [b"quota " + quota.account.encode(errors="surrogateescape") for quota in quotas]
        self._growths: dict[int, Growth] = {}  # by the id() of a handle, which it keeps
        self._tops: dict[int, int] = {}
        self._small: set[Growth] = set()  # those that are not written down
        self._receives = hasattr(below, "replaces")
        self._has_begun = False
        with contextlib.suppress(Away):  # then what is not counted still works
            with self._turn(b"/"):
                pass  # what killed sessions have left is settled

    def _key(self, attrs: SFTPAttributes | None, path: bytes) -> bytes:
        """What tells a file from others; nothing if there is none."""
        if attrs is None:
            return b""
        return self._place + path if attrs.identity is None else b"%d:%d" % attrs.identity

    def _key_of_last(self, attrs: SFTPAttributes, path: bytes) -> bytes:
        """The same for a file that is about to lose a name; nothing if it has others."""
        return self._key(attrs, path) if attrs.nlink <= 1 else b""

    def _dropped(self, quota: Quota, path: bytes, attrs: SFTPAttributes, witness: bytes) -> Plan:
        """That a file loses a name. witness: the path at which nothing will be then."""
        key = self._key_of_last(attrs, path)
        return Plan(quota, accounts.DROP, path, key, released(attrs), 1, witness=witness)

    # --- turns ------------------------------------------------------------------------------------

    def _concerned(self, path: bytes) -> list[Quota]:
        """The quotas that count what is at a path."""
        if all(quota.matches is None for quota in self._quotas):
            return self._quotas
        parent, slash, name = path.rstrip(b"/").rpartition(b"/")
        canonical = self.below.realpath(parent or slash or b".").rstrip(b"/") + b"/" + name
        return [quota for quota in self._quotas if quota.matches is None or quota.matches(canonical)]

    def _alone(self, *paths: bytes) -> contextlib.AbstractContextManager[None]:
        """A context in which no other session changes what this one looks at.

        A storage of this host is quick, and a file there may have several paths: one session of an account at
        a time. Elsewhere, one for each path.
        """
        self._begin()
        if self.below.uses_network:
            return self._ledger.holding([self._place + path for path in paths], self._names)
        return self._ledger.holding(self._names)

    def _begin(self) -> None:
        """Count what never was. Raises Away."""
        if not self._has_begun:
            for quota in self._quotas:
                if not self._accounts.is_counted(quota):
                    self.recount(quota)
            self._has_begun = True

    @contextlib.contextmanager
    def _turn(self, *paths: bytes) -> Iterator[None]:
        """The same, and what killed sessions have left is settled."""
        with self._alone(*paths):
            for row in self._accounts.left_behind(self._quotas):
                look = self.below.stat if row["kind"] in accounts.FILES else self.below.lstat
                with contextlib.suppress(SFTPException, OSError):  # another time
                    found = self._look(look, row["witness"] or row["path"])
                    size = None if found is None else size_of(found)
                    self._accounts.settle(row, size, self._key(found, row["path"]))
            yield

    def _look(self, look: Callable[[bytes], SFTPAttributes], path: bytes) -> SFTPAttributes | None:
        try:
            return look(path)
        except MISSING:
            return None

    # --- files that are written -------------------------------------------------------------------

    def open(self, path: bytes, flags: int, mode: int) -> Any:
        quotas = self._concerned(path) if self._quotas and flags & CHANGES else []
        if not quotas:
            return self.below.open(path, flags, mode)
        check_name(path)
        if self._receives and flags & (ANEW | os.O_APPEND) == ANEW and self._may_wait(quotas, 0, 1):
            return self._receive(path, flags, mode, quotas)
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

    def _may_wait(self, quotas: Iterable[Quota], size: int, files: int) -> bool:
        """Whether more of what is received need not be written down yet."""
        size += sum(growth.top for growth in self._small)
        return size <= SMALL and self._accounts.has_plenty(quotas, size, files + len(self._small))

    def _receive(self, path: bytes, flags: int, mode: int, quotas: list[Quota]) -> Any:
        """Open a file that nothing can be seen of before it is closed."""
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

    def _write_down(self, growth: Growth, handle: Any) -> None:
        """Know from now on of a file that was small."""
        with self._turn(growth.path):
            growth.changes = self._accounts.begin(
                self._replacing(growth, self.below.replaces(handle), growth.top)  # type: ignore[attr-defined]
            )
        self._small.discard(growth)

    def _replacing(self, growth: Growth, old: SFTPAttributes | None, size: int) -> list[Plan]:
        """That a file that is received will have that size, in the place of an old one."""
        key, base = (b"", 0) if old is None else (self._key_of_last(old, growth.path), released(old))
        had = int(old is not None)
        return [
            Plan(
                *(quota, accounts.WRITE, growth.path, key, base, had),
                size=size,
                files=1 - had,
                is_open=True,
                own=growth.key,
            )
            for quota in growth.quotas
        ]

    def _open_again(self, path: bytes, flags: int, mode: int) -> Any:
        """Open a file that is being received, and is not there yet."""
        handle = self.below.open(path, flags, mode)
        growth = self._received(self._key(self.below.fstat(handle), path))
        if growth is None:
            self.below.abandon(handle)
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._add(handle, growth, flags)
        return handle

    def _received(self, key: bytes) -> Growth | None:
        """The upload of this session whose temporary file has that key."""
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
        """Let a file become as large as a write makes it. Raises OSError(EDQUOT); it is spoilt then."""
        growth = self._growths[id(handle)]
        if growth.position is not None:
            if not size:
                return
            end = growth.position = growth.position + size
            if end > growth.top:  # others may have made it longer
                end = growth.position = size_of(self.below.fstat(handle)) + size
        if end <= growth.top or not size:
            return
        if growth in self._small and self._may_wait(growth.quotas, end - growth.top, 0):
            growth.top = end
        else:
            self._grow_in_ledger(growth, handle, end)
            growth.top = top_of(growth.changes)
        for number in growth.handles:
            if self._tops[number] >= 0:
                self._tops[number] = growth.top

    def _grow_in_ledger(self, growth: Growth, handle: Any, end: int) -> None:
        try:
            if growth in self._small:
                self._write_down(growth, handle)
            try:
                self._accounts.grow(growth.changes, end)
            except OSError:
                with self._turn(growth.path):
                    pass  # perhaps a killed session has left something
                self._accounts.grow(growth.changes, end)
        except (OSError, SFTPException):  # the limit, or the ledger
            self.below.spoil(handle)
            raise

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
            return
        if growth in self._small:
            self._small.discard(growth)
            if completes:
                self._store(growth, handle)
            else:
                close(handle)
            return
        with self._last(self._turn(growth.path), handle):
            size = size_of(self.below.fstat(handle))
            if growth.in_place is False:
                growth.path = (
                    self._accounts.path(growth.changes) or growth.path
                )  # of a directory that was renamed
            old = self._look(self.below.stat, growth.path) if growth.in_place is False else None
            is_closed = False
            try:
                close(handle)
                is_closed = completes
            finally:
                self._settle(growth, size, old, is_closed)

    @contextlib.contextmanager
    def _last(self, turn: contextlib.AbstractContextManager[None], handle: Any) -> Iterator[None]:
        """A turn in which a handle is closed; if the ledger does not let it begin, the file is abandoned."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(turn)
            except BaseException:
                self.below.abandon(handle)
                raise
            yield

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
                elif is_closed and old is not None:
                    key = self._key_of_last(old, growth.path)
                    self._accounts.replaced(changes, size, growth.key, key, released(old), 1)
                else:
                    growth.changes = changes
                    self._settle(growth, size, old, is_closed)

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
                old_key, old_size = (
                    (b"", 0) if old is None else (self._key_of_last(old, growth.path), released(old))
                )
                had = int(old is not None)
                self._accounts.replaced(changes, size, growth.key, old_key, old_size, had)
            elif (
                is_closed
            ):  # it is in place, but its directory has been renamed: nothing is known of an old one
                self._accounts.replaced(changes, size, growth.key, b"", 0, 0)
            else:
                self._accounts.cancel(changes)

    def _settle_by_look(self, changes: list[Change], path: bytes, before: SFTPAttributes | None) -> None:
        """Settle a change that has failed: it may have been carried out in part."""
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

    # --- names ------------------------------------------------------------------------------------

    def rm(self, path: bytes) -> None:
        quotas = self._concerned(path) if self._quotas else []
        if not quotas or is_locked_name(path.rpartition(b"/")[2]):
            self.below.rm(path)
            return
        with self._turn(path):
            found = self._look(self.below.lstat, path)
            if found is None or S_ISDIR(found.permissions or 0):
                self.below.rm(path)
                return
            self._carry_out(
                [self._dropped(quota, path, found, path) for quota in quotas], path, self.below.rm, path
            )

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        how = (old, new, True) if replace else (old, new)
        if not self._quotas:
            self.below.rename(*how)
            return
        check_name(old)
        check_name(new)
        with self._turn(old, new):
            source = self._look(self.below.lstat, old)
            target = self._look(self.below.lstat, new) if replace else None
            is_same = target is not None and source is not None and target.identity == source.identity
            if source is None or (is_same and source.identity is not None) or old == new:
                self.below.rename(*how)
                return
            plans = self._moves(old, new, source)
            if target is not None and not S_ISDIR(target.permissions or 0):
                plans += [self._dropped(quota, new, target, old) for quota in self._concerned(new)]
            self._carry_out(plans, old, self.below.rename, *how)
            self._accounts.moved(self._quotas, old, new, size_of(source), source.identity is None)
            for growth in self._small:
                if growth.path.startswith(old + b"/"):
                    growth.path = new + growth.path[len(old) :]

    def _moves(self, old: bytes, new: bytes, source: SFTPAttributes) -> list[Plan]:
        """What a rename takes from quotas and gives to others."""
        leaves, enters = self._concerned(old), self._concerned(new)
        if not S_ISDIR(source.permissions or 0):
            size = size_of(source)
            return [
                *(self._dropped(quota, old, source, old) for quota in leaves if quota not in enters),
                *(
                    Plan(quota, accounts.GAIN, new, witness=old, size=size, files=1)
                    for quota in enters
                    if quota not in leaves
                ),
            ]
        plans = []
        limited = [quota for quota in self._quotas if quota.matches is not None]
        before = {quota: [0, 0] for quota in limited}
        after = {quota: [0, 0] for quota in limited}
        for path, attrs in self._files(old) if limited else ():
            for quota in limited:
                assert quota.matches is not None
                for counts, place in ((before, path), (after, new + path[len(old) :])):
                    if quota.matches(place):
                        counts[quota][0] += size_of(attrs)
                        counts[quota][1] += 1
        for quota in limited:
            size, files = after[quota][0] - before[quota][0], after[quota][1] - before[quota][1]
            if size > 0 or files > 0:
                gained = max(size, 0), max(files, 0)
                plans.append(Plan(quota, accounts.GAIN, new, witness=old, size=gained[0], files=gained[1]))
            if size < 0 or files < 0:
                lost = max(-size, 0), max(-files, 0)
                plans.append(Plan(quota, accounts.DROP, old, b"", *lost, witness=old))
        return plans

    def symlink(self, linkpath: bytes, target: bytes) -> None:
        self._make(self._concerned(linkpath), linkpath, self.below.symlink, linkpath, target)

    def link(self, old: bytes, new: bytes) -> None:
        if not self._quotas or "link" in self.lacks:
            self.below.link(old, new)
            return
        source = self.below.lstat(old)
        if source.identity is None:
            raise SFTPUnsupported("Hard links cannot be counted in this storage")
        enters = self._concerned(new)
        check_name(old)
        if enters != self._concerned(old):
            raise SFTPForbidden("A hard link cannot lead into another quota")
        self._make(enters, new, self.below.link, old, new)

    def _make(self, quotas: list[Quota], path: bytes, act: Callable[..., None], *arguments: bytes) -> None:
        if not quotas:
            act(*arguments)
            return
        check_name(path)
        with self._turn(path):
            if self._look(self.below.lstat, path) is not None:
                act(*arguments)  # which fails
                return
            self._carry_out(
                [Plan(quota, accounts.MAKE, path, files=1) for quota in quotas], path, act, *arguments
            )

    def _carry_out(
        self, plans: list[Plan], witness: bytes, act: Callable[..., None], *arguments: Any
    ) -> None:
        """Do what was planned, and count it. witness: a path that tells whether it was done, if it fails."""
        if not plans:
            act(*arguments)
            return
        is_making = plans[0].kind == accounts.MAKE
        changes = self._accounts.begin(plans)
        try:
            act(*arguments)
        except BaseException:
            if (self._look(self.below.lstat, witness) is not None) == is_making:
                self._accounts.done(changes)
            else:
                self._accounts.cancel(changes)
            raise
        self._accounts.done(changes)

    # --- figures ----------------------------------------------------------------------------------

    @property
    def lacks(self) -> frozenset[str]:  # type: ignore[override]
        return super().lacks - {"statvfs", "fstatvfs"} if self._quotas else super().lacks

    def statvfs(self, path: bytes) -> StatVFS:
        if not self._quotas:
            return self.below.statvfs(path)
        return self._figures(self._concerned(path), lambda: self.below.statvfs(path))

    def fstatvfs(self, handle: Any) -> StatVFS:
        growth = self._growths.get(id(handle))
        quotas = self._quotas if growth is None else growth.quotas
        return self._figures(quotas, lambda: self.below.fstatvfs(handle))

    def _figures(self, quotas: list[Quota], ask: Callable[[], StatVFS]) -> StatVFS:
        try:
            figures = ask()
            names = (
                "f_bsize",
                "f_frsize",
                "f_blocks",
                "f_bfree",
                "f_bavail",
                "f_files",
                "f_ffree",
                "f_favail",
            )
            size, unit, *counts = (getattr(figures, name) for name in names)
            rest = figures.f_flag, figures.f_namemax, figures.f_fsid
        except SFTPUnsupported:
            if not quotas:
                raise
            size = unit = BLOCK_SIZE
            counts, rest = [NO_LIMIT // unit] * 3 + [NO_LIMIT] * 3, (0, 255, 0)
        for quota in quotas:
            used = self._accounts.used(quota)
            for at, limit, taken in (
                (0, quota.bytes // unit, -(-used[0] // unit)),
                (3, quota.files, used[1]),
            ):
                if limit < counts[at] or limit - taken < counts[at + 2]:
                    counts[at] = min(counts[at], limit)
                    counts[at + 1] = counts[at + 2] = max(0, min(counts[at + 2], limit - taken))
        return os.statvfs_result((size, unit, *counts, *rest))

    # --- counting ---------------------------------------------------------------------------------

    def recount(self, quota: Quota) -> tuple[int, int]:
        """Count what is there; return how many bytes and files. Sessions of the account wait meanwhile."""
        with self._ledger.holding([b"quota " + quota.account.encode(errors="surrogateescape")]):
            under_way = self._accounts.under_way(quota)
            seen: dict[bytes, int] = {}
            linked = set()
            total = files = 0
            for path, attrs in self._files(b"/"):
                if quota.matches is None or quota.matches(path):
                    files += 1
                    key = self._key(attrs, path)
                    if key in under_way:
                        seen[key] = size_of(attrs)
                    if attrs.nlink > 1 and attrs.identity is not None:
                        if attrs.identity in linked:
                            continue
                        linked.add(attrs.identity)
                    total += size_of(attrs)
            self._accounts.recounted(quota, total, files, seen)
            return total, files

    def _files(self, top: bytes) -> Iterator[tuple[bytes, SFTPAttributes]]:
        """What is below a directory and is no directory."""
        directories = [top]
        while directories:
            directory = directories.pop()
            try:
                entries = self.below.opendir(directory)
            except (SFTPForbidden, PermissionError, *MISSING):
                continue  # what the session cannot see is not counted
            try:
                for name, attrs in entries:
                    path = directory.rstrip(b"/") + b"/" + name
                    if S_ISDIR(attrs.permissions or 0):
                        if name not in (b".", b".."):
                            directories.append(path)
                    elif not is_locked_name(name):
                        yield path, attrs
            finally:
                close = getattr(entries, "close", None)
                if close is not None:
                    close()

    def territory(self) -> Sequence[int] | None:
        return self._ledger.territory(self.below.territory())

    def release(self) -> None:
        self._accounts.count_stored()
        self.below.release()
        self._ledger.close()


def check_name(path: bytes) -> None:
    """Raises SFTPForbidden for the name of an atomic upload that is not complete: such files are counted with
    the upload, and a client's own would not be counted at all."""
    if is_locked_name(path.rstrip(b"/").rpartition(b"/")[2]):
        raise SFTPForbidden("The name of an upload that is not complete")


def top_of(changes: list[Change]) -> int:
    """The size that a file may have."""
    return min(change.base + change.room for change in changes)


def is_file(attrs: SFTPAttributes) -> bool:
    """Whether these are of a regular file, as far as the storage says."""
    return attrs.permissions is None or S_ISREG(attrs.permissions) or not attrs.permissions & 0o170000


def size_of(attrs: SFTPAttributes) -> int:
    """The bytes of a file; links and devices have none."""
    return (attrs.size or 0) if is_file(attrs) else 0


def released(attrs: SFTPAttributes) -> int:
    """The bytes that are free when a name of a file is gone."""
    return size_of(attrs) if attrs.nlink <= 1 else 0
