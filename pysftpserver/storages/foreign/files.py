"""Files of fsspec that a client has open: reads at any offset, writes where the file object can, uploads.

What may not enter: paths of clients, sessions. Facts: io, fsspec.spec.AbstractBufferedFile (commit, discard).
"""

from __future__ import annotations

import contextlib
import errno
import io
import os

from pysftpserver.failures import os_error
from pysftpserver.pysftpexceptions import SFTPFailure, SFTPUnsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

STEP = 1 << 20  # bytes read at once to get to an offset in a file that cannot seek
MOST = (1 << 63) - 1  # bytes of a file
MOST_IN_MEMORY = 1 << 30  # bytes of a file that is held in memory: a gap takes as much as content


class OpenFile:
    """A file of fsspec, opened in place.

    path: its current or future path. flags: the client's. open_again: opens it at its beginning.
    """

    def __init__(self, file: Any, path: str, flags: int, open_again: Callable[[], Any] | None = None) -> None:
        self.file = file
        self.path = path
        self.flags = flags
        self._open_again = open_again
        self.is_broken = False

    def read(self, off: int, size: int) -> bytes:
        """Up to size bytes from offset off."""
        if self.flags & os.O_ACCMODE == os.O_WRONLY or not self.file.readable():
            raise os_error(errno.EBADF)
        if off > MOST:
            return b""
        if not self._is_at(off):
            self._go_forward(off)
        parts: list[bytes] = []
        while size > 0 and (part := self.file.read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _is_at(self, off: int) -> bool:
        if self.file.tell() == off:
            return True
        try:
            self.file.seek(off)
        except (OSError, NotImplementedError, ValueError):
            if not isinstance(self.file, io.IOBase) or self.file.seekable() or self._open_again is None:
                raise
            return False
        return True

    def _go_forward(self, off: int) -> None:
        """Get to an offset by reading, from the beginning if necessary."""
        if self.file.tell() > off and self._open_again is not None:
            self.file.close()
            self.file = self._open_again()
        while (missing := off - self.file.tell()) > 0 and self.file.read(min(missing, STEP)):
            pass

    def write(self, off: int, chunk: bytes | memoryview) -> None:
        """Store a chunk. Raises SFTPUnsupported if the file cannot seek and another offset comes next."""
        if self.flags & os.O_ACCMODE == os.O_RDONLY:
            raise os_error(errno.EBADF)
        self._check_size(off + len(chunk), errno.EFBIG)
        if not chunk:
            return
        try:
            if self.flags & os.O_APPEND:
                if self.file.seekable():
                    self.file.seek(0, os.SEEK_END)
            elif self.file.tell() != off:
                if not self.file.seekable():
                    raise SFTPUnsupported(
                        f"This storage takes a file in order: byte {self.file.tell()} comes next, not {off}"
                    )
                self.file.seek(off)
            self.file.write(chunk)
            if self.file.seekable():
                self.file.flush()
        except BaseException:
            self.is_broken = True
            raise

    def size(self) -> int | None:
        """Its size, or None if it can only be found by its path."""
        if not self.file.seekable():
            return None if self.file.readable() else self.file.tell()
        at = self.file.tell()
        size: int = self.file.seek(0, os.SEEK_END)
        self.file.seek(at)
        return size

    def truncate(self, size: int) -> None:
        """Truncate it, or fill it up with zeros. Raises SFTPUnsupported if it cannot."""
        old = self.size()
        if size == old:
            return
        self._check_size(size, errno.EINVAL)
        if old is None or not self.file.seekable() or self.flags & os.O_ACCMODE == os.O_RDONLY:
            raise SFTPUnsupported("This storage cannot change the size of an open file")
        if size < old:
            self.file.truncate(size)
        else:
            self.file.seek(size - 1)
            self.file.write(b"\0")
        self.file.flush()

    def _check_size(self, size: int, number: int) -> None:
        """Raises OSError with that number for a size that the file cannot have."""
        if size > (MOST_IN_MEMORY if isinstance(self.file, io.BytesIO) else MOST):
            raise OSError(number, os.strerror(number))

    def close(self) -> None:
        """Close it for the client."""
        self.file.close()

    def discard(self) -> None:
        """Close it; content that was written in place cannot be undone."""
        self.file.close()


class Upload(OpenFile):
    """A file that is received under a temporary name, or in parts that are not committed yet.

    put: puts it in place; commits: whether the file object does that. remove: removes the received file.
    """

    def __init__(
        self,
        file: Any,
        path: str,
        flags: int,
        put: Callable[[], None],
        remove: Callable[[], None],
        commits: bool,
    ) -> None:
        super().__init__(file, path, flags)
        self._put = put
        self._remove = remove
        self._commits = commits

    def close(self) -> None:
        if self.is_broken:
            self.discard()
            raise SFTPFailure("Not put in place: a part of it could not be written")
        try:
            self.file.close()
            self._put()
        except BaseException:
            self._remove_quietly()
            raise

    def discard(self) -> None:
        with contextlib.suppress(Exception):
            if self._commits:
                self.file.discard()  # first, or closing would send the rest
                self.file.closed = True
            else:
                self.file.close()
        self._remove_quietly()

    def _remove_quietly(self) -> None:
        with contextlib.suppress(Exception):
            self.file.closed = True  # or a buffered one would be sent again when it is forgotten
        with contextlib.suppress(Exception):
            self._remove()


def can_commit(fs: Any, temporary: str) -> bool:
    """Whether a closed file can be discarded until commit(); tested with a temporary file."""
    from fsspec.spec import AbstractBufferedFile

    try:
        file = fs.open(temporary, "wb", autocommit=False)
    except Exception:  # of any library
        return False
    fs.transaction.files.remove(file)
    commits = isinstance(file, AbstractBufferedFile) and all(
        getattr(type(file), name) is not getattr(AbstractBufferedFile, name) for name in ("commit", "discard")
    )
    Upload(file, temporary, 0, lambda: None, lambda: fs.rm_file(temporary), commits).discard()
    return commits


def appends(file: Any) -> bool:
    """Whether a file that was opened for appending appends. That of FTP in fsspec replaces the content.

    If not, closing it would replace the content with nothing: it is not closed.
    """
    from fsspec.spec import AbstractBufferedFile

    is_right = (
        not isinstance(file, AbstractBufferedFile)
        or type(file)._initiate_upload is not AbstractBufferedFile._initiate_upload
    )
    if not is_right:
        file.closed = True
    return is_right
