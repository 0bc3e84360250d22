"""Directory entries of a file system: where one is, and all of a directory's.

Used by the storages of real files. What may not enter: how a path is resolved.
"""

from __future__ import annotations

import errno
import os
import sys
from stat import S_ISDIR

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.failures import os_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

ENCODING = sys.getfilesystemencoding()  # os.fsencode() does the same, at the price of two more calls a name


class Place:
    """Where a directory entry is: for calls that work on the entry itself and do not follow it.

    directory: the descriptor that name is relative to, or None for a full path. must_be_directory: the
    path ended in a slash that name no longer has. A context manager: leaving it closes the descriptor.
    """

    __slots__ = ("directory", "must_be_directory", "name", "owned")

    def __init__(
        self, directory: int | None, name: bytes, owned: bool = False, must_be_directory: bool = False
    ) -> None:
        self.directory = directory
        self.name = name
        self.owned = owned
        self.must_be_directory = must_be_directory

    def __enter__(self) -> Place:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self.owned and self.directory is not None:
            os.close(self.directory)

    def lstat(self) -> os.stat_result:
        """What is there, links not followed."""
        return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)

    def is_dots(self) -> bool:
        """Whether the name does not name an entry: `.`, `..`, or the top."""
        return self.name.rpartition(b"/")[2] in (b"", b".", b"..")

    def exists(self) -> bool:
        """Whether anything is there."""
        try:
            self.lstat()
        except FileNotFoundError:
            return False
        return True

    def existing(self) -> Place:
        """Itself. Raises NotADirectoryError for `name/` where something else than a directory is."""
        if self.must_be_directory and self.exists() and not S_ISDIR(self.lstat().st_mode):
            raise os_error(errno.ENOTDIR)
        return self

    def for_a_new_file(self) -> Place:
        """Itself. Raises what the kernel says to `name/` where something else than a directory is made."""
        if self.must_be_directory:
            number = errno.EEXIST if self.exists() else errno.ENOENT
            raise OSError(number, os.strerror(number))
        return self


class Listing:
    """The entries of an open directory with their attributes; closing it closes the descriptor.

    parent: asked for the attributes of `..`, when they are due.
    """

    def __init__(self, descriptor: int, parent: Callable[[], SFTPAttributes]) -> None:
        self._descriptor = descriptor
        self._parent = parent
        self._dots = [b"..", b"."]
        self._entries = os.scandir(descriptor)
        self._closed = False

    def __iter__(self) -> Iterator[tuple[bytes, SFTPAttributes]]:
        return self

    def __next__(self) -> tuple[bytes, SFTPAttributes]:
        if self._dots:
            name = self._dots.pop()
            return name, self._attributes_of_dot() if name == b"." else self._attributes_of_parent()
        for entry in self._entries:
            try:
                # The entry's own stat is relative to the open directory, and follows nothing.
                found = entry.stat(follow_symlinks=False)
                return entry.name.encode(ENCODING, "surrogateescape"), SFTPAttributes.from_stat(found)
            except OSError:
                continue  # gone since the directory was read
        raise StopIteration

    def _attributes_of_dot(self) -> SFTPAttributes:
        return SFTPAttributes.from_stat(os.fstat(self._descriptor))

    def _attributes_of_parent(self) -> SFTPAttributes:
        try:
            return self._parent()
        except OSError:  # of a directory that may be read and not searched, or is gone
            return self._attributes_of_dot()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._dots.clear()
            self._entries.close()
            os.close(self._descriptor)

    def __del__(self) -> None:
        if hasattr(self, "_closed"):
            self.close()


def path_of_descriptor(descriptor: int) -> bytes | None:
    """The path at which an open file is now (proc(5), /proc/PID/fd); None: that is not known.

    It ends with " (deleted)" if the name that was opened is gone.
    """
    try:
        path = os.readlink(b"/proc/self/fd/%d" % descriptor)
    except (OSError, TypeError):
        return None
    return path if path.startswith(b"/") else None
