"""A storage as the browser door uses it: entries of directories, whole files, copies, removals.

Blocking calls, in the thread of one request. What may not enter: HTTP, sessions, concrete storages. Paths are
the storage's: bytes that begin with a slash, without `.` and `..`.
"""

from __future__ import annotations

import os
import posixpath
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import NamedTuple

from pysftpserver.abstractstorage import overrides
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.http.files import FileProblem, Source, Target, as_problems, problem
from pysftpserver.pysftpexceptions import SFTPException, SFTPUnsupported
from pysftpserver.uploads.files import attributes
from pysftpserver.uploads.leftovers import remove_leftovers
from pysftpserver.uploads.temporary import is_temporary, temporary_path
from pysftpserver.web import incoming

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.web.incoming import Incoming

SETTLED = 2  # seconds after a change in which another may get the same time (RFC 9110, 8.8.2.2)
MODE_OF_DIRECTORY = 0o777  # before the umask


class Entry(NamedTuple):
    """The file or directory at a path, links followed. size: bytes, 0 if the storage does not say. mtime:
    Unix time.

    is_link: whether a listing showed a link there.
    """

    path: bytes
    is_directory: bool
    is_file: bool
    size: int
    mtime: int | None
    identity: tuple[int, int] | None = None  # the same for all names of one file; None: not known
    is_link: bool = False

    @property
    def name(self) -> bytes:
        """Its last name; b"" for the root."""
        return self.path.rpartition(b"/")[2]


def entry_of(path: bytes, attrs: SFTPAttributes) -> Entry:
    """An entry from a storage's attributes. A storage that gives no types has only files."""
    mode = attrs.permissions
    mtime = None if attrs.mtime is None else int(attrs.mtime)
    if mode is None or S_ISREG(mode):
        return Entry(path, False, True, attrs.size or 0, mtime, attrs.identity)
    return Entry(path, S_ISDIR(mode), False, 0, mtime, attrs.identity)


class Tree:
    """A storage as the browser door sees it. All methods raise FileProblem, whose text is fit for users."""

    def __init__(self, storage: SFTPAbstractServerStorage) -> None:
        self.storage = storage

    def find(self, path: bytes) -> Entry | None:
        """The entry at a path; None: there is none."""
        try:
            return entry_of(path, self.storage.stat(path))
        except (OSError, SFTPException) as error:
            found = problem(error)
            if found.result == "NO_SUCH_FILE":
                return None
            raise found from None

    def look(self, path: bytes) -> SFTPAttributes | None:
        """The attributes at a path, links not followed; None: nothing is there."""
        with as_problems():
            return attributes(self.storage.lstat, path)

    def entries(self, path: bytes) -> Iterator[Entry]:
        """The entries of a directory, in the storage's order. Links are followed, dangling ones left out."""
        top = path.rstrip(b"/") + b"/"
        listing = None
        try:
            listing = self.storage.opendir(path)
            for name, attrs in listing:
                if name[:1] == b"." and (name in (b".", b"..") or is_temporary(name)):
                    continue
                if attrs.permissions is None or not S_ISLNK(attrs.permissions):
                    yield entry_of(top + name, attrs)
                    continue
                try:
                    found = self.find(top + name)
                except FileProblem:
                    continue
                if found is not None:
                    yield found._replace(is_link=True)
        except (OSError, SFTPException) as error:
            raise problem(error) from None
        finally:
            close = getattr(listing, "close", None)
            if close is not None:
                close()

    def source(self, path: bytes) -> Source:
        """A file to be read."""
        return Source(self.storage, path)

    def target(self, path: bytes, sweeps: bool = True) -> Target:
        """A file to be stored, which appears under its name when it is complete. sweeps: as for Target."""
        return Target(self.storage, path, sweeps)

    def receive(self, path: bytes, replaces: bool, hidden: bytes = b"") -> Incoming:
        """A file to be stored, under another name if its own is taken, unless it replaces that file.

        hidden: the name of its temporary file. Wrap its methods in as_problems() to get FileProblem.
        """
        with as_problems():
            self._check_target(path, replaces)
            return incoming.receive(self.storage, path, replaces, hidden)

    def receive_more(self, path: bytes, replaces: bool, hidden: bytes) -> Incoming:
        """The same for a file that was begun before."""
        with as_problems():
            return incoming.receive_more(self.storage, path, replaces, hidden)

    def _check_target(self, path: bytes, replaces: bool) -> None:
        if "rename" in self.storage.lacks or not overrides(type(self.storage), "rename"):
            raise problem(SFTPUnsupported())
        found = self.find(path) if replaces else None
        if found is not None and not found.is_file:
            raise FileProblem("is a directory" if found.is_directory else "not a regular file")
        remove_leftovers(self.storage, posixpath.dirname(path) or b"/")

    def make_directories(self, path: bytes) -> None:
        """Make a directory, and the missing ones above it."""
        missing = []
        while path.strip(b"/") and (found := self.find(path)) is None:
            missing.append(path)
            path = posixpath.dirname(path)
        if path.strip(b"/") and found is not None and not found.is_directory:
            raise FileProblem("there is a file where a folder should be")
        for path in reversed(missing):
            try:
                self.make_directory(path)
            except FileProblem:
                if self.find(path) is None:  # another client was not faster
                    raise

    def is_read_only(self, path: bytes) -> bool:
        """Whether nothing can be changed at a path, if the storage says so."""
        if not overrides(type(self.storage), "write"):
            return True
        try:
            return bool(self.storage.statvfs(path).f_flag & os.ST_RDONLY)
        except (OSError, SFTPException):
            return False

    def link_at(self, path: bytes) -> bytes | None:
        """The text of the link at a path; None: there is no link."""
        with as_problems():
            found = self.look(path)
            mode = found.permissions if found is not None else None
            return self.storage.readlink(path) if mode is not None and S_ISLNK(mode) else None

    def make_link(self, path: bytes, text: bytes) -> None:
        """Make a link."""
        with as_problems():
            self.storage.symlink(path, text)

    def set_time(self, path: bytes, mtime: int) -> None:
        """Set the modification time, in seconds since the epoch."""
        with as_problems():
            self.storage.setstat(path, SFTPAttributes(atime=mtime, mtime=mtime))

    def copy_file(self, old: bytes, new: bytes, step: int) -> None:
        """Copy the content of a file to another path, where it appears when it is complete.

        step: bytes at once.
        """
        source = self.source(old)
        try:
            target = self.target(new, False)
            try:
                target.copy(source, step)
                target.finish()
            except BaseException:
                target.give_up()
                raise
        finally:
            source.close()

    def check_writable(self, entry: Entry) -> None:
        """Raise unless something could be stored in place of a file, or in a directory."""
        path = temporary_path(entry.path + b"/x") if entry.is_directory else entry.path
        self.target(path, False).give_up()

    def set_aside(self, path: bytes) -> bytes:
        """Rename an entry to a temporary name in its directory, and return the new path."""
        aside = temporary_path(path)
        self.move(path, aside)
        return aside

    def scope(self) -> tuple[int, int] | None:
        """Identifies the directory, for all storages of it alike; None: the storage does not know."""
        try:
            return self.storage.stat(b"/").identity
        except (OSError, SFTPException):
            return None

    def make_directory(self, path: bytes) -> None:
        """Make a directory, which must not exist."""
        with as_problems():
            self.storage.mkdir(path, MODE_OF_DIRECTORY)

    def remove(self, path: bytes) -> None:
        """Remove a file, a link, or a directory with all of its content. A problem has the path at fault."""
        at = [path]
        try:
            self._remove(path, at)
        except (OSError, SFTPException) as error:
            found = problem(error)
            found.path = at[0]
            raise found from None

    def _remove(self, path: bytes, at: list[bytes]) -> None:
        mode = self.storage.lstat(path).permissions
        if mode is None or not S_ISDIR(mode):
            self.storage.rm(path)
            return
        todo = [(path, False)]
        while todo:
            path, is_empty = todo.pop()
            at[0] = path
            if is_empty:
                self.storage.rmdir(path)
                continue
            todo.append((path, True))
            for name, attrs in list(self.storage.opendir(path)):
                if name in (b".", b".."):
                    continue
                below = posixpath.join(path, name)
                if attrs.permissions is not None and S_ISDIR(attrs.permissions):
                    todo.append((below, False))
                else:
                    at[0] = below
                    self.storage.rm(below)

    def move(self, old: bytes, new: bytes) -> None:
        """Move an entry to another path, where nothing may be."""
        with as_problems():
            self.storage.rename(old, new)

    def replace(self, old: bytes, new: bytes) -> None:
        """Move an entry to another path, and atomically replace a file there."""
        with as_problems():
            self.storage.rename(old, new, True)

    def space(self, path: bytes) -> tuple[int, int] | None:
        """(bytes used, bytes free) where a path is, considering quotas; None: the storage does not say."""
        try:
            found = self.storage.statvfs(path)
        except (OSError, SFTPException):
            return None
        return (found.f_blocks - found.f_bfree) * found.f_frsize, found.f_bavail * found.f_frsize


def joined(directory: bytes, name: str) -> bytes:
    """The path of a name from a user, in a directory. Raises FileProblem if it is not a single name."""
    found = os.fsencode(name)
    if not found or found in (b".", b"..") or b"/" in found or b"\0" in found or len(found) > 255:
        raise FileProblem("use a name of 1 to 255 bytes without slashes", "BAD_MESSAGE")
    if is_temporary(found):
        raise FileProblem("names like that are for files that are being uploaded", "BAD_MESSAGE")
    return posixpath.join(directory, found)
