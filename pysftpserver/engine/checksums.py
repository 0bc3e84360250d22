"""check-file: digests of a file's content, computed on the server.

hashlib takes longer to import than everything else in a session: the first digest imports it, or an earlier
call of load(). What may not enter: names of requests, concrete storages.
Facts: draft-ietf-secsh-filexfer-extensions-00, section 3; ISO 3309 for crc32, whose bytes are in network
order, as in the usual eight digits.
"""

from __future__ import annotations

import os
import time
import zlib
from functools import partial
from stat import S_IFMT, S_IFREG

from pysftpserver.engine import wire
from pysftpserver.engine.session import MAX_OFFSET, check_offset
from pysftpserver.pysftpexceptions import SFTPFailure, SFTPUnsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from pysftpserver.engine.handles import FileHandle
    from pysftpserver.engine.session import Session

    class Digest(Protocol):
        def update(self, data: memoryview, /) -> object: ...
        def digest(self) -> bytes: ...


STEP = 256 << 10  # bytes, about a millisecond: after each, the session can end
LEAST_BLOCK = 256  # bytes
PAUSE = 0.02  # seconds between two tries to get a turn
PATIENCE = 60.0  # seconds to wait for a turn


class CRC32:
    """zlib's CRC-32 with the interface of a hashlib digest."""

    digest_size = 4

    def __init__(self) -> None:
        self._value = 0

    def update(self, data: memoryview) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self.digest_size, "big")


def _new(name: str) -> Digest:
    import hashlib

    # Declared as not for security: otherwise some systems refuse MD5 and SHA-1.
    made: Digest = getattr(hashlib, name)(usedforsecurity=False)
    return made


def load() -> None:
    """Import what digests need now: a sandboxed process cannot do it later."""
    _new("md5")


#: Bytes of a digest, by algorithm.
SIZES = {"md5": 16, "sha1": 20, "sha224": 28, "sha256": 32, "sha384": 48, "sha512": 64, "crc32": 4}
ALGORITHMS: dict[str, Callable[[], Digest]] = {name: partial(_new, name) for name in SIZES} | {"crc32": CRC32}


def chosen(algorithms: bytes, block: int) -> str:
    """The first algorithm of a client's list that this server has.

    Raises SFTPFailure if it has none, and for a block size that the draft excludes.
    """
    if 0 < block < LEAST_BLOCK:
        raise SFTPFailure(f"A block has at least {LEAST_BLOCK} bytes")
    for word in algorithms.split(b","):
        name = word.decode("latin-1")
        if name in ALGORITHMS:
            return name
    raise SFTPFailure(f"None of these algorithms is known; there are {', '.join(ALGORITHMS)}")


def reply(
    session: Session, file: FileHandle, offset: int, length: int, block: int, algorithm: str, prefix: bytes
) -> bytes:
    """The body of a reply about a part of an open file: prefix, the algorithm, the digests in a row.

    length: bytes; 0: up to the end. A part beyond the end is left out. block: bytes for each digest, of which
    the last may cover fewer; 0: one digest for all. Raises SFTPFailure for a file that is not open for
    reading or not a regular file, and for more digests than fit into a packet.
    """
    prefix += wire.encode_string(algorithm.encode())
    check_offset(offset)
    if file.flags & os.O_WRONLY:
        raise SFTPFailure("The file is not open for reading")
    most = (session.limits.packet - wire.REQUEST_HEADER - len(prefix)) // SIZES[algorithm]
    todo = min(length or MAX_OFFSET, MAX_OFFSET - offset)
    size = _size(session, file)
    if size is not None:
        todo = min(todo, max(0, size - offset))
        if block and todo > most * block:
            raise _too_many(most)
    with _Turn(session):
        return prefix + _digests(session, file, offset, todo, block, ALGORITHMS[algorithm], most)


def _size(session: Session, file: FileHandle) -> int | None:
    """The size of a file; None if only reading can tell."""
    try:
        attrs = session.storage.fstat(file.object)
    except SFTPUnsupported:
        return None
    if attrs.permissions is not None and S_IFMT(attrs.permissions) not in (0, S_IFREG):
        raise SFTPFailure("Only regular files have checksums")  # /dev/zero has no end, and a FIFO waits
    return attrs.size or None  # files of /proc have size 0, but content


def _digests(
    session: Session,
    file: FileHandle,
    offset: int,
    todo: int,
    block: int,
    make: Callable[[], Digest],
    most: int,
) -> bytes:
    read = _reader(session, file)
    found: list[bytes] = []
    digest = make()
    filled = 0  # bytes in the digest
    while todo:
        session.count_step()
        data = read(offset, min(STEP, todo))
        if not data:
            break
        offset += len(data)
        todo -= len(data)
        while data:
            part = data[: block - filled] if block else data
            digest.update(part)
            filled += len(part)
            data = data[len(part) :]
            if filled == block:
                found.append(digest.digest())
                digest, filled = make(), 0
                if len(found) > most:
                    raise _too_many(most)
    if filled or not block:
        found.append(digest.digest())
    return b"".join(found)


def _reader(session: Session, file: FileHandle) -> Callable[[int, int], memoryview]:
    """A function of an offset and a size that reads up to size bytes. The next call may reuse the memory."""
    descriptor = file.descriptor
    if descriptor is None:
        read = session.storage.read
        return lambda offset, size: memoryview(read(file.object, offset, size) or b"")[:size]
    buffer = memoryview(bytearray(STEP))

    def from_descriptor(offset: int, size: int) -> memoryview:
        return buffer[: os.preadv(descriptor, [buffer[:size]], offset)]

    return from_descriptor


def _too_many(most: int) -> SFTPFailure:
    return SFTPFailure(f"A reply has room for {most} digests; ask for larger blocks or a part of the file")


class _Turn:
    """A turn among the sessions that compute checksums, if their number is limited."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._turns = session.turns

    def __enter__(self) -> None:
        turns = self._turns
        if turns is None:
            return
        deadline = time.monotonic() + PATIENCE
        while not turns.take():
            self._session.count_step()
            if time.monotonic() > deadline:
                raise SFTPFailure("Too many checksums are being computed; try again later")
            time.sleep(PAUSE)

    def __exit__(self, *exception: object) -> None:
        if self._turns is not None:
            self._turns.give_back()
