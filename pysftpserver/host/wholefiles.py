"""Writes files of this host, such as keys, into temporary files that are renamed into place.

For files of a storage, see uploads/. What may not enter: the meaning of the content.
Facts: rename(2), link(2), fsync(2).
"""

from __future__ import annotations

import contextlib
import os
import tempfile

from pysftpserver.failures import BadInput, reason_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

LONGEST_LINE = 1 << 16  # bytes
PREFIX = ".pysftp-"  # of the names of temporary files, as in uploads/temporary.py; the rest is random


class TemporaryFile:
    """A temporary file in the directory of path; commit() renames it to path. file: open for writing."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._directory = os.path.dirname(path) or "."
        descriptor, self._temporary_path = tempfile.mkstemp(prefix=PREFIX, dir=self._directory)
        self.file: BinaryIO = os.fdopen(descriptor, "wb")

    def sync(self) -> None:
        """Return when what was written is safe from a crash. Raises OSError."""
        self.file.flush()
        os.fsync(self.file.fileno())

    def commit(self, replace: bool = True) -> None:
        """Rename the file into place. If it has to survive a crash, call sync() first.

        replace: whether to replace an existing file. Raises OSError; without replace, FileExistsError.
        """
        self.file.flush()
        if replace:
            os.replace(self._temporary_path, self.path)
        else:
            self._link()
        self._sync_directory()

    def _link(self) -> None:
        try:
            os.link(self._temporary_path, self.path)
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links, such as that of a memory card: create the name first.
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            os.replace(self._temporary_path, self.path)

    def _sync_directory(self) -> None:
        """Make the new name safe from a crash, if the directory can be opened for that."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def discard(self) -> None:
        """Close the file, and remove it unless it is in place."""
        try:
            self.file.close()
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary_path)


@contextlib.contextmanager
def open_temporary(
    path: str, content: bytes = b"", mode: int = 0o600, owner: os.stat_result | None = None
) -> Iterator[TemporaryFile]:
    """A temporary file in the directory of path with that content, which is safe from a crash.

    It is discarded at the end unless it was committed. owner: the attributes of a file whose owner it gets;
    None: this process. Raises OSError, also if the file cannot be given to that owner.
    """
    temporary = TemporaryFile(path)
    descriptor = temporary.file.fileno()
    try:
        if owner is not None and (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
            _give(descriptor, owner)
        os.fchmod(descriptor, mode)
        if content:
            temporary.file.write(content)
            temporary.sync()
        yield temporary
    finally:
        temporary.discard()


def _give(descriptor: int, owner: os.stat_result) -> None:
    try:
        os.fchown(descriptor, -1, owner.st_gid)
    except PermissionError:
        pass  # the group of a file that only its owner may read does not matter
    if os.fstat(descriptor).st_uid != owner.st_uid:
        os.fchown(descriptor, owner.st_uid, -1)


def first_line(path: str | int, what: str, keep_spaces: bool = False) -> str:
    """The first line of a small file, without white space around it.

    path: or a descriptor, which stays open. what: what the file is, for the message. keep_spaces: remove only
    the line end, as for passwords. Raises BadInput if the file cannot be read.
    """
    try:
        with open(path, "rb", closefd=isinstance(path, str)) as lines:
            line = lines.readline(LONGEST_LINE).decode()
        return line.removesuffix("\n").removesuffix("\r") if keep_spaces else line.strip()
    except (OSError, ValueError) as error:
        file = f"{what} {path}" if isinstance(path, str) else what
        message = f"{file}: {reason_of(error)}; name a file that can be read"
        raise BadInput(message, f"the {what} cannot be read") from None
