"""Quotas: a layer that counts stored files while they grow, and refuses changes that would exceed a limit.

In this module: names that files get and lose, and the figures that clients ask for. What may not enter: SQL,
what a limit is for, how a file grows.
"""

from __future__ import annotations

import os
from stat import S_ISDIR

from pysftpserver.pysftpexceptions import SFTPForbidden, SFTPUnsupported
from pysftpserver.site import accounts
from pysftpserver.site.accounts import Plan
from pysftpserver.site.counting import check_name, released, size_of
from pysftpserver.site.small import SmallFilesLayer
from pysftpserver.uploads.temporary import is_locked_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pysftpserver.abstractstorage import StatVFS
    from pysftpserver.attributes import SFTPAttributes
    from pysftpserver.site.accounts import Quota

NO_LIMIT = accounts.MOST
FIGURES = ["f_" + name for name in "bsize frsize blocks bfree bavail files ffree favail".split()]
BLOCK_SIZE = 4096  # bytes, in the figures for a storage that has none


class QuotaLayer(SmallFilesLayer):
    """Counts for quotas."""

    def _dropped(self, quota: Quota, path: bytes, attrs: SFTPAttributes, witness: bytes) -> Plan:
        """The plan for a file that loses a name. witness: the path at which nothing will be then."""
        key = self._key_of_last(attrs, path)
        return Plan(quota, accounts.DROP, path, key, released(attrs), 1, witness=witness)

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
            self._follow(old, new)

    def _moves(self, old: bytes, new: bytes, source: SFTPAttributes) -> list[Plan]:
        """The plans for a rename, which takes from some quotas and adds to others."""
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
                act(*arguments)  # it will fail
                return
            self._carry_out(
                [Plan(quota, accounts.MAKE, path, files=1) for quota in quotas], path, act, *arguments
            )

    def _carry_out(
        self, plans: list[Plan], witness: bytes, act: Callable[..., None], *arguments: Any
    ) -> None:
        """Carry out plans, and count them. witness: a path that shows whether it was done, if it fails."""
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
        return self._figures(self._concerned(path), lambda: self._below_statvfs(path))

    def _below_statvfs(self, path: bytes) -> StatVFS:
        try:
            return self.below.statvfs(path)
        except SFTPUnsupported:
            self.below.stat(path)  # figures exist only for existing paths
            raise

    def fstatvfs(self, handle: Any) -> StatVFS:
        growth = self._growths.get(id(handle))
        quotas = self._quotas if growth is None else growth.quotas
        return self._figures(quotas, lambda: self.below.fstatvfs(handle))

    def _figures(self, quotas: list[Quota], ask: Callable[[], StatVFS]) -> StatVFS:
        try:
            figures = ask()
            size, unit, *counts = (getattr(figures, name) for name in FIGURES)
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
