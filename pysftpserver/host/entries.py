"""Directory entries of a file system: the place of one, and the listing of a directory.

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

ENCODING = sys.getfilesystemencoding()  # os.fsencode() does the same, with two more calls for each name


class Place:
    """The place of a directory entry, for calls that work on the entry itself and do not follow it.

    directory: the descriptor that name is relative to, or None for a full path. must_be_directory: whether
    the path ended in a slash, which name no longer has. A context manager that closes the descriptor.
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
        """The entry's stat result; a link is not followed."""
        return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)

    def is_dots(self) -> bool:
        """Whether the name is not that of an entry, but `.`, `..` or the top."""
        return self.name.rpartition(b"/")[2] in (b"", b".", b"..")

    def exists(self) -> bool:
        """Whether there is such an entry."""
        try:
            self.lstat()
        except FileNotFoundError:
            return False
        return True

    def existing(self) -> Place:
        """Return itself. Raises NotADirectoryError for `name/` if name exists and is not a directory."""
        if self.must_be_directory and self.exists() and not S_ISDIR(self.lstat().st_mode):
            raise os_error(errno.ENOTDIR)
        return self

    def for_a_new_file(self) -> Place:
        """Return itself. Raises the kernel's error for `name/` if what is to be made is not a directory."""
        if self.must_be_directory:
            number = errno.EEXIST if self.exists() else errno.ENOENT
            raise OSError(number, os.strerror(number))
        return self


class Listing:
    """The entries of an open directory with their attributes; closing it closes the descriptor.

    parent: called for the attributes of `..`, when they are needed.
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
        except OSError:  # the directory may be read but not searched, or is gone
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
    """The current path of an open file (proc(5), /proc/PID/fd); None: it is not known.

    It ends with " (deleted)" if the name that was opened is gone.
    """
    try:
        path = os.readlink(b"/proc/self/fd/%d" % descriptor)
    except (OSError, TypeError):
        return None
    return path if path.startswith(b"/") else None
