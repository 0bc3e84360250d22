"""Receipts: the SHA-256 of every file that is stored or fetched, computed while its content passes.

A digest takes content only in order, from the first byte to the last. A file that was written in another
order is read again once it is closed; a file that was not fetched as a whole gets no digest. Imported only if
a hook asks for digests. What may not enter: wire formats, hooks.
"""

from __future__ import annotations

import os
from hashlib import sha256
from stat import S_ISREG

from pysftpserver.pysftpexceptions import SFTPEndOfFile, SFTPException, SFTPFailure, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pysftpserver.engine.handles import FileHandle
    from pysftpserver.engine.session import Session

STEP = 256 << 10  # bytes of each read when a file is read again
WRITES = os.O_WRONLY | os.O_RDWR
IN_PART = "not fetched as a whole, in order"


class Digest:
    """The SHA-256 of content that passes in order.

    position: bytes so far. in_order: false once content came at another offset. end: the offset at which the
    file was found to end, or -1.
    """

    __slots__ = ("_hash", "end", "in_order", "position")

    def __init__(self) -> None:
        self._hash = sha256()
        self.position = 0
        self.in_order = True
        self.end = -1

    def feed(self, offset: int, data: bytes | memoryview) -> None:
        """Add content that was read or written at an offset."""
        if offset == self.position and self.in_order:
            self._hash.update(data)
            self.position += len(data)
        elif len(data):
            self.in_order = False

    def spoil(self) -> None:
        """Give up the digest: something else has changed the file, or may have."""
        self.in_order = False

    def hexdigest(self) -> str:
        """The digest of the content so far."""
        return self._hash.hexdigest()


class Receipt:
    """What CLOSE reports of a file: its SHA-256, or why there is none; neither if nothing was moved.

    is_open: whether the file has to be read again to tell.
    """

    __slots__ = ("is_open", "missing", "sha256")

    def __init__(self, sha256: str | None = None, missing: str = "", is_open: bool = False) -> None:
        self.sha256 = sha256
        self.missing = missing
        self.is_open = is_open


def streamed(session: Session, file: FileHandle) -> Receipt:
    """The receipt for a file that is about to be closed, from the content that has passed."""
    digest = file.fetched
    if digest is not None:
        if digest.in_order and digest.position == 0 and digest.end < 0:
            return Receipt()
        is_whole = digest.in_order and digest.position in (digest.end, _size(session, file))
        return Receipt(digest.hexdigest()) if is_whole else Receipt(missing=IN_PART)
    digest = file.stored
    if digest is None:
        return Receipt()
    size = _size(session, file)
    if digest.in_order and digest.position == 0 and (size or not file.flags & (os.O_CREAT | os.O_TRUNC)):
        return Receipt()  # nothing was written
    return (
        Receipt(digest.hexdigest()) if digest.in_order and digest.position == size else Receipt(is_open=True)
    )


def read_again(session: Session, path: bytes) -> Receipt:
    """The receipt for a file that was closed. path: as the client sent it."""
    try:
        return Receipt(_digest_of(session, path))
    except (OSError, SFTPException) as error:
        return Receipt(
            missing=f"not written in order, and could not be read again: {status_of(error)[1].decode()}"
        )


def _digest_of(session: Session, path: bytes) -> str:
    storage, found = session.storage, sha256()
    opened = storage.open(session.path(path), os.O_RDONLY, 0)
    try:
        attrs = storage.fstat(opened)
        if not S_ISREG(attrs.permissions or 0) or attrs.size is None:
            raise SFTPFailure
        place = 0
        while place < attrs.size:
            session.count_step()
            data: Any = storage.read(opened, place, min(STEP, attrs.size - place))
            if not data:
                break
            found.update(data)
            place += len(data)
    except SFTPEndOfFile:
        pass
    finally:
        storage.close(opened)
    return found.hexdigest()


def _size(session: Session, file: FileHandle) -> int | None:
    try:
        return session.storage.fstat(file.object).size
    except (OSError, SFTPException):
        return None
