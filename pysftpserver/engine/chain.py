"""The chain of an audit log: each record has a number, the hash of the record before, and its own.

A record ends with `"seq":N,"prev":"...","hash":"..."`. The hash is the SHA-256 of the line up to that field,
so it covers the hash before. The head of the chain is in a file next to the log (FILE.chain), which all
writers lock: the chain continues when the log is rotated, and through several files at once. If a writer was
killed in the middle of a line, the next record vouches for the rest of that line (`"skipped"`). People who
can write both files can write another chain: to detect that, keep a head (number and hash of a record)
elsewhere. What may not enter: what a record says.
"""

from __future__ import annotations

import errno
import os
from hashlib import sha256

from pysftpserver.engine.audit import FileSink
from pysftpserver.engine.log import open_for_appending
from pysftpserver.failures import os_error
from pysftpserver.formats import CHAIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.engine.audit import Sink

STATE = ".chain"  # appended to the log's name: the file that has the head
NONE = "0" * 64  # the hash before the first record
SEQ, PREV, HASH, SKIPPED = b',"seq":', b',"prev":"', b',"hash":"', b',"skipped":"'
HASHED = len(HASH) + 64 + 2  # bytes of a line from the field with its hash on
#: Number and hash of the last record; device, inode and size of its file.
HEAD = "%020d %s %020d %020d %020d\n"
NEWER = b"v"  # precedes the version of a format other than 1
HEAD_SIZE = len(HEAD % (0, NONE, 0, 0, 0))
TAIL = 1 << 20  # bytes at the end of a log that are searched for the last record


class Link:
    """The chain fields of a record: seq, prev, hash; skipped: the hash of the bytes it vouches for, or "".

    is_intact: whether the hash is that of the line.
    """

    __slots__ = ("hash", "is_intact", "prev", "seq", "skipped")

    def __init__(self, seq: int, prev: str, hash: str, skipped: str, is_intact: bool) -> None:
        self.seq = seq
        self.prev = prev
        self.hash = hash
        self.skipped = skipped
        self.is_intact = is_intact


def link_of(line: bytes) -> Link | None:
    """The chain fields of a line (without its end); None for a line that is not a record of a chain."""
    body, rest = line[:-HASHED], line[-HASHED:]
    text, seq, number = body[: -len(PREV) - 65].rpartition(SEQ)
    prev = body[-len(PREV) - 65 :]
    is_shaped = rest.startswith(HASH) and rest.endswith(b'"}') and prev.startswith(PREV)
    if not (is_shaped and seq and number.isdigit() and len(number) < 20):
        return None
    skipped = text[-len(SKIPPED) - 65 :]
    return Link(
        int(number),
        _hex(prev[len(PREV) : -1]),
        _hex(rest[len(HASH) : -2]),
        _hex(skipped[len(SKIPPED) : -1]) if skipped.startswith(SKIPPED) else "",
        sha256(body).hexdigest().encode() == rest[len(HASH) : -2],
    )


def _hex(text: bytes) -> str:
    return text.decode("latin-1")


def read_head(state: bytes) -> tuple[int, str, tuple[int, int], int] | None:
    """(number, hash, (device, inode), size) from the content of FILE.chain; None if it is not a head.

    Raises OSError if a newer version has written it.
    """
    words = state.split()
    if state.startswith(NEWER):
        raise OSError(f"{STATE[1:]}: {CHAIN.problem(words[0].removeprefix(NEWER))}")
    if len(state) != HEAD_SIZE or len(words) != 5 or not all(words[n].isdigit() for n in (0, 2, 3, 4)):
        return None
    seq, device, inode, size = (int(words[n]) for n in (0, 2, 3, 4))
    return seq, _hex(words[1]), (device, inode), size


def chained_sink(log: str | os.PathLike[str] | int, state: str | int, patience: int | None = None) -> Sink:
    """A sink that appends to a log with a chain. Raises OSError, also if it is not a regular file.

    log, state: the file and its FILE.chain, or the results of open_for_appending() and open_state().
    """
    first = log if isinstance(log, int) else open_for_appending(log, reads=True)
    second = -1
    try:
        second = state if isinstance(state, int) else open_state(state)
        read_head(os.pread(second, HEAD_SIZE + 1, 0))  # do not overwrite what a newer version keeps there
        return ChainedSink(first, second, patience)
    except BaseException:
        for descriptor in (first, second):
            if descriptor >= 0:
                os.close(descriptor)
        raise


def open_state(path: str | os.PathLike[str]) -> int:
    """Open a FILE.chain, created with mode 0600; return its descriptor. Raises OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK | os.O_NOFOLLOW
    return os.open(path, flags, 0o600)


class ChainedSink(FileSink):
    """Stores records with their chain fields. It owns both descriptors.

    head: "number:hash" of the last record that it has stored.
    """

    def __init__(self, log: int, state: int, patience: int | None = None) -> None:
        super().__init__(log, False, patience)
        if not self._is_file:
            raise os_error(errno.EINVAL)
        self._is_own = True
        self._locked = self._state = state
        found = os.fstat(log)
        self._place = found.st_dev, found.st_ino
        self.head = ""

    def __del__(self) -> None:
        super().__del__()
        if self._is_own:
            os.close(self._state)

    def _append(self, lines: list[bytes], locked: bool) -> None:
        if not locked:
            raise os_error(errno.ENOLCK)
        size = os.fstat(self._descriptor).st_size
        seq, prev, start = self._last(size)
        skipped = b'%b%b"' % (SKIPPED, self._hash_of(start, size)) if start < size else b""
        is_torn = start < size and self._tail(size - 1, size) != b"\n"
        records = [b"\n"] if is_torn else []
        for line in lines:
            seq += 1
            body = b'%b%b%b%d%b%b"' % (line[:-2], skipped, SEQ, seq, PREV, prev.encode())
            prev, skipped = sha256(body).hexdigest(), b""
            records.append(b'%b%b%b"}\n' % (body, HASH, prev.encode()))
        self._store(b"".join(records))
        size = os.fstat(self._descriptor).st_size
        os.pwrite(self._state, (HEAD % (seq, prev, *self._place, size)).encode(), 0)
        self.head = f"{seq}:{prev}"

    def _last(self, size: int) -> tuple[int, str, int]:
        """Number and hash of the last record, and the offset of the bytes after it in this file.

        size: of the file.
        """
        found = read_head(os.pread(self._state, HEAD_SIZE + 1, 0))
        if found is None:
            start = max(0, size - TAIL)
            seq, digest, end = _recovered(self._tail(start, size), 0, NONE)
            return seq, digest, start + end if seq else 0
        seq, digest, place, end = found
        if place == self._place and size == end:
            return seq, digest, size
        if place == self._place and size > end:  # a writer was killed before it could say what it has written
            seq, digest, more = _recovered(self._tail(end, size), seq, digest)
            return seq, digest, end + more
        # The last record is in another file. Here, only an unfinished line can be left over.
        if not size or self._tail(size - 1, size) == b"\n":
            return seq, digest, size
        return seq, digest, size - len(self._tail(max(0, size - TAIL), size).rpartition(b"\n")[2])

    def _tail(self, start: int, end: int) -> bytes:
        """The log's content between two offsets, at most TAIL bytes."""
        return os.pread(self._descriptor, min(end - start, TAIL), start)

    def _hash_of(self, start: int, end: int) -> bytes:
        found = sha256()
        while piece := self._tail(start, end):
            found.update(piece)
            start += len(piece)
        return found.hexdigest().encode()


def _recovered(tail: bytes, seq: int, digest: str) -> tuple[int, str, int]:
    """Number and hash of the last whole record in a tail, or those given; and where the record ends in it."""
    end = place = 0
    for line in tail.splitlines(keepends=True):
        place += len(line)
        link = link_of(line[:-1]) if line.endswith(b"\n") else None
        if link is not None and link.is_intact and (not seq or (link.seq, link.prev) == (seq + 1, digest)):
            seq, digest, end = link.seq, link.hash, place
    return seq, digest, end
