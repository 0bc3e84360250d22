"""Counting for quotas: a layer that finds which files there are, and makes sessions take turns to change
them.

Files are identified by device and inode number if the storage has them, otherwise by path. The size that
clients see counts: a file with holes counts in full, one with several names once, directories not at all.
What may not enter: SQL, requests, open files.
"""

from __future__ import annotations

import contextlib
from stat import S_ISDIR, S_ISREG

from pysftpserver.pysftpexceptions import SFTPException, SFTPForbidden, SFTPNotFound
from pysftpserver.site import accounts
from pysftpserver.site.accounts import Accounts
from pysftpserver.site.layer import Layer
from pysftpserver.site.ledger import Away
from pysftpserver.uploads.temporary import is_locked_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.attributes import SFTPAttributes
    from pysftpserver.site.accounts import Quota
    from pysftpserver.site.shared import AnyLedger

MISSING = (SFTPNotFound, FileNotFoundError, NotADirectoryError)


class CountingLayer(Layer):
    """Counts files. ledger: with a session. quotas: those of the session's user; there may be none.

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
        self._has_begun = False
        with contextlib.suppress(Away):  # then operations that are not counted still work
            with self._turn(b"/"):
                pass  # what killed sessions have left is settled

    def _key(self, attrs: SFTPAttributes | None, path: bytes) -> bytes:
        """The identity of a file; b"" if there is none."""
        if attrs is None:
            return b""
        return self._place + path if attrs.identity is None else b"%d:%d" % attrs.identity

    def _key_of_last(self, attrs: SFTPAttributes, path: bytes) -> bytes:
        """The same for a file that is about to lose a name; b"" if it has others."""
        return self._key(attrs, path) if attrs.nlink <= 1 else b""

    def _replaced(self, attrs: SFTPAttributes | None, path: bytes) -> tuple[bytes, int, int]:
        """The key, bytes and number (0 or 1) of the file that goes when another one takes its path."""
        return (b"", 0, 0) if attrs is None else (self._key_of_last(attrs, path), released(attrs), 1)

    # --- turns ------------------------------------------------------------------------------------

    def _concerned(self, path: bytes) -> list[Quota]:
        """The quotas that count the file at a path."""
        if all(quota.matches is None for quota in self._quotas):
            return self._quotas
        parent, slash, name = path.rstrip(b"/").rpartition(b"/")
        canonical = self.below.realpath(parent or slash or b".").rstrip(b"/") + b"/" + name
        return [quota for quota in self._quotas if quota.matches is None or quota.matches(canonical)]

    def _alone(self, *paths: bytes) -> contextlib.AbstractContextManager[None]:
        """A context in which no other session changes the files at these paths.

        A storage of this host is quick, and a file there may have several paths: one session of an account at
        a time. Elsewhere, one for each path.
        """
        self._begin()
        if self.below.uses_network:
            return self._ledger.holding([self._place + path for path in paths], self._names)
        return self._ledger.holding(self._names)

    def _begin(self) -> None:
        """Count accounts that were never counted. Raises Away."""
        if not self._has_begun:
            for quota in self._quotas:
                if not self._accounts.is_counted(quota):
                    self.recount(quota)
            self._has_begun = True

    @contextlib.contextmanager
    def _turn(self, *paths: bytes) -> Iterator[None]:
        """The same as _alone(), after settling what killed sessions have left."""
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

    # --- counting ---------------------------------------------------------------------------------

    def recount(self, quota: Quota) -> tuple[int, int]:
        """Count all files; return (bytes, files). Other sessions of the account wait meanwhile."""
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
        """Everything below a directory, except directories."""
        directories = [top]
        while directories:
            directory = directories.pop()
            try:
                entries = self.below.opendir(directory)
            except (SFTPForbidden, PermissionError, *MISSING):
                continue  # files that the session cannot see are not counted
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
    """Raises SFTPForbidden for the name of an incomplete atomic upload: such files are counted with the
    upload, and a client's own file of that name would not be counted.
    """
    if is_locked_name(path.rstrip(b"/").rpartition(b"/")[2]):
        raise SFTPForbidden("The name of an upload that is not complete")


def is_file(attrs: SFTPAttributes) -> bool:
    """Whether these are attributes of a regular file, as far as the storage says."""
    return attrs.permissions is None or S_ISREG(attrs.permissions) or not attrs.permissions & 0o170000


def size_of(attrs: SFTPAttributes) -> int:
    """The bytes of a file; links and devices have none."""
    return (attrs.size or 0) if is_file(attrs) else 0


def released(attrs: SFTPAttributes) -> int:
    """The bytes that become free when a name of a file is removed."""
    return size_of(attrs) if attrs.nlink <= 1 else 0
