"""copy-data: copies from one open file into another without a round trip to the client.

Uses the kernel (copy_file_range) if both are real files, the storage's copy_range() if it has one, and its
read() and write() otherwise. What may not enter: packets. Facts: draft-ietf-secsh-filexfer-extensions-00,
section 7, copy_file_range(2), and the behaviour of sftp-server.c.
"""

from __future__ import annotations

import errno
import os
import sys

from pysftpserver.engine.session import MAX_OFFSET, check_count, check_offset
from pysftpserver.failures import os_error
from pysftpserver.pysftpexceptions import SFTPEndOfFile, SFTPFailure, SFTPUnsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.engine.handles import FileHandle
    from pysftpserver.engine.session import Session

KERNEL_STEP = 16 << 20  # bytes a call, about 10 milliseconds; after each such step, the session can end
STORAGE_STEP = 256 << 10  # bytes
TOLERANCE = 64 << 10  # bytes that may be missing at the end of a file: sftp-server's buffer, its status OK


def copy_data(
    session: Session, source: FileHandle, offset: int, length: int, target: FileHandle, target_offset: int
) -> int:
    """Copy length bytes (0: up to the end of the file); return how many were copied.

    Raises SFTPFailure for a file onto itself, SFTPEndOfFile when the file has fewer bytes than asked
    for by more than TOLERANCE (those that it has are copied).
    """
    if source is target or source.path == target.path:
        raise SFTPFailure("Cannot copy a file onto itself")
    if target.flags & os.O_APPEND:
        target_offset = 0
    # sftp-server reads a whole buffer there, which the kernel refuses so near the last offset, if the file
    # system has such offsets. Only a copy that fits into the buffer passes.
    check_offset(offset if 0 < length <= TOLERANCE else offset + TOLERANCE)
    check_offset(target_offset)
    if source.flags & os.O_WRONLY or not target.flags & (os.O_WRONLY | os.O_RDWR):
        raise os_error(errno.EBADF)
    # Read and write 0 bytes first, so that what cannot work fails before anything is copied.
    session.storage.read(source.object, offset, 0)
    session.storage.write(target.object, target_offset, b"")
    # No further than the current end: a target that is the same file by another name would move the end
    # away. At least one byte is asked for, in case the size is out of date; but not at the last possible
    # offset, where the kernel reports an error instead of the end of the file.
    todo = min(length or sys.maxsize, max(1, _size(session, source) - offset), MAX_OFFSET - offset)
    copied = 0
    # The kernel refuses to copy beyond the last offset even if the source has ended.
    step = _kernel_step(session, source, target) if todo <= MAX_OFFSET - target_offset else None
    while copied < todo:
        session.count_step()
        wanted = min(KERNEL_STEP, todo - copied)
        count = step(offset + copied, wanted, target_offset + copied) if step else None
        if count is None:
            step = None
            count = _storage_step(session, source, offset + copied, wanted, target, target_offset + copied)
        if not count:
            break
        copied += count
        source.bytes_read += count
        target.bytes_written += count
    if length - copied > TOLERANCE:
        raise SFTPEndOfFile
    return copied


def _size(session: Session, file: FileHandle) -> int:
    """The size of a file, or the largest possible one if only reading can tell."""
    try:
        return session.storage.fstat(file.object).size or sys.maxsize
    except SFTPUnsupported:
        return sys.maxsize


def _kernel_step(
    session: Session, source: FileHandle, target: FileHandle
) -> Callable[[int, int, int], int | None] | None:
    """A function that copies one step in the kernel or the storage, or returns None if it cannot.

    None if the target was opened to append.
    """
    reading = source.descriptor
    writing = session.storage.fileno(target.object) if target.takes_views else None
    if target.flags & os.O_APPEND:
        return None
    if reading is None or writing is None:
        copy = session.storage.copy_range

        def copy_step(offset: int, wanted: int, target_offset: int) -> int | None:
            session.storage.check_write(target.object, target_offset, wanted)
            return copy(source.object, offset, wanted, target.object, target_offset)

        return copy_step

    def step(offset: int, wanted: int, target_offset: int) -> int | None:
        session.storage.check_write(target.object, target_offset, wanted)
        try:
            # Zero may mean the end of the file, or a file system without this call: reading will tell.
            return os.copy_file_range(reading, writing, wanted, offset, target_offset) or None
        except (OSError, OverflowError):
            return None

    return step


def _storage_step(
    session: Session, source: FileHandle, offset: int, wanted: int, target: FileHandle, target_offset: int
) -> int:
    data = session.storage.read(source.object, offset, min(wanted, STORAGE_STEP))
    if data:
        chunk = data if target.takes_views or isinstance(data, bytes) else bytes(data)
        check_count(session.storage.write(target.object, target_offset, chunk), len(chunk))  # type: ignore[func-returns-value, arg-type]
    return len(data)
