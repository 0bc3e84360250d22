"""Files that are there whole or not at all: written beside, and renamed.

What may not enter: what is in them. Facts: rename(2), link(2), fsync(2).
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
PREFIX = ".pysftp-"  # of the names beside; the rest is chance


@contextlib.contextmanager
def beside(
    path: str, content: bytes, mode: int = 0o600, owner: os.stat_result | None = None
) -> Iterator[str]:
    """The name of a new file in the directory of path, with that content, safe on the disk.

    It goes away at the end unless it was put in place. owner: None for this process's. Raises OSError, also
    when the file cannot be given to that owner.
    """
    descriptor, name = tempfile.mkstemp(prefix=PREFIX, dir=os.path.dirname(path) or ".")
    try:
        with os.fdopen(descriptor, "wb") as file:
            if owner is not None and (owner.st_uid, owner.st_gid) != (os.geteuid(), os.getegid()):
                _give(descriptor, owner)
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        yield name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


@contextlib.contextmanager
def beside_open(path: str, mode: int) -> Iterator[tuple[BinaryIO, str]]:
    """A new file in the directory of path, open for writing, and its name; the rest is as for beside()."""
    descriptor, name = tempfile.mkstemp(prefix=PREFIX, dir=os.path.dirname(os.path.realpath(path)))
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            yield file, name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def _give(descriptor: int, owner: os.stat_result) -> None:
    try:
        os.fchown(descriptor, -1, owner.st_gid)
    except PermissionError:
        pass  # the group of a file that only its owner may read does not matter
    if os.fstat(descriptor).st_uid != owner.st_uid:
        os.fchown(descriptor, owner.st_uid, -1)


def replace(name: str, path: str) -> None:
    """Put a file in the place of another, or where none is. Raises OSError."""
    os.replace(name, path)
    _sync_directory(path)


def put(name: str, path: str) -> None:
    """Put a file where none is. Raises FileExistsError, OSError."""
    try:
        os.link(name, path)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links, such as a memory card's: the name is taken first.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        os.replace(name, path)
    _sync_directory(path)


def _sync_directory(path: str) -> None:
    """Make the new name safe from a crash, where the directory can be opened for that."""
    with contextlib.suppress(OSError):
        descriptor = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def first_line(path: str, what: str) -> str:
    """The first line of a small file that holds one, without white space around it.

    what: what the file is, for the complaint. Raises BadInput for one that cannot be read.
    """
    try:
        with open(path, "rb") as lines:
            return lines.readline(LONGEST_LINE).decode().strip()
    except (OSError, ValueError) as error:
        message = f"{what} {path}: {reason_of(error)}; name a file that can be read"
        raise BadInput(message, f"the {what} cannot be read") from None
