"""The listing of a directory for a sync: regular files, by name, with their times.

Links are not followed. What may not enter: sockets, the plan.
"""

from __future__ import annotations

import fnmatch
import itertools
import sys
from collections.abc import Callable, Sequence
from stat import S_IFREG, S_ISDIR, S_ISREG

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.failures import reason_of
from pysftpserver.pysftpexceptions import SFTPException, SFTPFailure
from pysftpserver.sksync.parsing import ENTRY
from pysftpserver.sksync.wire import MOST_DEEP, MOST_TIME, Dialect
from pysftpserver.uploads import temporary
from pysftpserver.uploads.files import is_missing


class Listing:
    """What a directory contains.

    files: modification times in whole seconds, by name. others: names of other entries. unlisted: directories
    that could not be read, and why. unencodable: paths that cannot be encoded in the dialect. leftovers:
    temporary files that seem to be abandoned.
    """

    def __init__(self, excluded: Sequence[str] = (), is_recursive: bool = True) -> None:
        self.files: dict[str, int] = {}
        self.others: set[str] = set()
        self.unlisted: dict[str, str] = {}
        self.unencodable: list[bytes] = []
        self.leftovers: list[bytes] = []
        self._withheld: dict[str, str] = {}
        self._excluded = excluded
        self._is_recursive = is_recursive

    def is_excluded(self, name: str) -> bool:
        """Whether a name, or a directory above it, is left out."""
        if not self._excluded:
            return False
        parts = name.split("/")
        # One path at a time: all together may be a hundred times as long as the name, which the peer chose.
        paths = ("/".join(parts[: count + 1]) for count in range(1, len(parts)))
        return any(
            fnmatch.fnmatchcase(text, pattern)
            for text in itertools.chain(parts, paths)
            for pattern in self._excluded
        )

    def withhold(self, name: str, why: str) -> None:
        """Remove a file that cannot be read. It is not replaced either, because it may be the newer one."""
        self._withheld[name] = why
        del self.files[name]

    def refuses(self, name: str) -> str | None:
        """Why a file of that name cannot be received here, or None."""
        if name in self._withheld:
            return self._withheld[name]
        if name in self.others:
            return "a directory, a link or another special file has that name here"
        if any(temporary.is_temporary(part.encode()) for part in name.split("/")):
            return "the name is reserved for temporary files"
        if "/" in name:
            if not self._is_recursive:
                return "it is in a directory, and the sync is of one directory only"
            above = name
            while "/" in above and (self.unlisted or self.others):
                above = above.rpartition("/")[0]
                if above in self.unlisted:
                    return f"its directory cannot be read ({self.unlisted[above]})"
        return None


def listing(
    storage: SFTPAbstractServerStorage,
    top: bytes,
    is_recursive: bool,
    dialect: Dialect,
    excluded: Sequence[str] = (),
    may_be_missing: bool = False,
    take: Callable[[int], None] = lambda size: None,
) -> Listing:
    """List a directory of a storage.

    excluded: shell patterns of names that are left out: of a file, of a directory, or of a whole path.
    may_be_missing: whether a missing directory counts as an empty one. take: called with the bytes of memory
    that each entry needs; may raise to end the listing. Raises what the storage raises for the top.
    """
    found = Listing(excluded, is_recursive)
    todo: list[tuple[bytes, int]] = [(b"", 0)]
    while todo:
        directory, depth = todo.pop()
        try:
            if depth > MOST_DEEP:
                raise SFTPFailure(f"more than {MOST_DEEP} directories in each other")
            for name, attrs in storage.opendir(top + directory):
                if name in (b".", b".."):
                    continue
                take(sys.getsizeof(name) + len(directory) + ENTRY)
                if _add(found, directory + name, attrs, dialect) and is_recursive:
                    todo.append((directory + name + b"/", depth + 1))
        except (OSError, SFTPException) as error:
            if directory:
                # Its files are unknown, so none may be received there: one might replace a newer file.
                found.unlisted[directory.decode("utf-8", "backslashreplace").rstrip("/")] = reason_of(error)
            elif not (may_be_missing and is_missing(error)):
                raise
    return found


def _add(found: Listing, path: bytes, attrs: SFTPAttributes, dialect: Dialect) -> bool:
    """Add an entry; return whether it is a directory to list."""
    mode = S_IFREG if attrs.permissions is None else attrs.permissions  # a minimal plugin may omit them
    last = path.rpartition(b"/")[2]
    if temporary.is_temporary(last):
        if S_ISREG(mode) and temporary.is_abandoned(last, attrs):
            found.leftovers.append(path)
        return False
    try:
        name = path.decode()
    except UnicodeDecodeError:
        name = None
    if name is not None and found.is_excluded(name):
        return False
    if S_ISREG(mode):
        if name is None or dialect.encode(name) is None:
            found.unencodable.append(path)
        else:
            found.files[name] = seconds(attrs)
    elif name is not None:
        found.others.add(name)
    return S_ISDIR(mode)


def seconds(attrs: SFTPAttributes) -> int:
    """A modification time in whole seconds, within the protocol's limits."""
    return min(max(0, attrs.mtime or 0), MOST_TIME // 1000)
