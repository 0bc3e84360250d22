"""What was written to a file and is not yet in the store: a little of it in memory, more in a spool file.

A spool file has no name, so nothing is left of it after a crash, and the spool of a storage has a limit.
What may not enter: requests, keys.
Facts: open(2) for O_TMPFILE.
"""

from __future__ import annotations

import mmap
import os
from bisect import bisect_right

from pysftpserver.failures import reason_of
from pysftpserver.pysftpexceptions import SFTPFailure

MEMORY = 12 << 20  # bytes of one file that are held in memory
LITTLE = 1 << 18  # bytes up to which the memory is the interpreter's, which gives back less of it


class Spool:
    """Disk space for what cannot be sent in order. directory: None for none. limit: bytes in all."""

    def __init__(self, directory: str | None, limit: int) -> None:
        self.directory, self.limit = directory, limit
        self.used = 0

    def file(self) -> int:
        """A descriptor of a new file without a name. Raises SFTPFailure."""
        if self.directory is None:
            raise SFTPFailure("Files on this store are written from the beginning to the end, in order")
        try:
            try:
                return os.open(self.directory, os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
            except OSError:  # not every file system has O_TMPFILE
                path = os.path.join(self.directory, f".pysftpserver-{os.getpid()}-{os.urandom(8).hex()}")
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                os.unlink(path)
                return descriptor
        except OSError as error:
            raise SFTPFailure(f"The spool for this write cannot be used: {reason_of(error)}") from error

    def take(self, size: int) -> None:
        """Use so many bytes more. Raises SFTPFailure if that is over the limit."""
        if self.used + size > self.limit:
            raise SFTPFailure(
                f"More than {self.limit} bytes would have to be held for this write; write in order instead"
            )
        self.used += size


class Buffer:
    """Bytes at offsets from `origin` on, in memory as long as they are within MEMORY of it.

    What was not written between them is a gap: fill() leaves it as it is.
    """

    def __init__(self, spool: Spool) -> None:
        self.origin = 0
        self._spool = spool
        self._data: bytearray | mmap.mmap = bytearray()
        self._file: int | None = None
        self._taken = 0
        self._starts: list[int] = []  # of what was written, in order, and where it ends
        self._ends: list[int] = []

    @property
    def is_empty(self) -> bool:
        return not self._starts

    @property
    def is_in_memory(self) -> bool:
        return self._file is None

    def write(self, off: int, chunk: bytes | bytearray | memoryview) -> None:
        """Keep a chunk. off: not below origin. Raises SFTPFailure if there is no room; nothing changes."""
        end = off + len(chunk)
        if self._file is None and end - self.origin > MEMORY:
            self.spill()
        if self._file is None:
            at = off - self.origin
            self._reserve(end - self.origin)
            self._data[at : at + len(chunk)] = chunk
        else:
            new = len(chunk) - self._written(off, end)
            self._spool.take(new)
            self._taken += new
            self._pwrite(off, chunk)
        self._mark(off, end)

    def _reserve(self, size: int) -> None:
        """Have room for so many bytes in memory."""
        old = self._data
        if size <= len(old):
            return
        if size <= LITTLE and isinstance(old, bytearray):
            old.extend(bytes(size - len(old)))
            return
        self._data = mmap.mmap(-1, max(MEMORY, size))
        self._data[: len(old)] = bytes(old)

    def _rest(self, size: int) -> None:
        """Keep only what is in memory behind so many bytes."""
        end = max(size, (self._ends[-1] if self._ends else 0) - self.origin)
        rest = bytes(memoryview(self._data)[size:end])
        self._data = bytearray()
        self._reserve(len(rest))
        self._data[: len(rest)] = rest

    def spill(self) -> None:
        """Go on in a spool file. Raises SFTPFailure."""
        if self._file is not None:
            return
        written = sum(self._ends) - sum(self._starts)
        descriptor = self._spool.file()
        try:
            self._spool.take(written)
        except BaseException:
            os.close(descriptor)
            raise
        self._taken, self._file = written, descriptor
        data, self._data = self._data, bytearray()
        for start, end in zip(self._starts, self._ends, strict=True):
            self._pwrite(start, memoryview(data)[start - self.origin : end - self.origin])

    def _pwrite(self, off: int, chunk: bytes | bytearray | memoryview) -> None:
        view = memoryview(chunk)
        assert self._file is not None
        while view:
            try:
                done = os.pwrite(self._file, view, off)
            except OSError as error:
                raise SFTPFailure(f"The spool for this write cannot be used: {reason_of(error)}") from error
            off, view = off + done, view[done:]

    def _mark(self, off: int, end: int) -> None:
        starts, ends = self._starts, self._ends
        if ends and off == ends[-1] or starts and starts[-1] <= off <= ends[-1]:  # in order
            ends[-1] = max(ends[-1], end)
            return
        first = bisect_right(ends, off - 1)
        last = bisect_right(starts, end)
        if first < last:
            off, end = min(off, starts[first]), max(end, ends[last - 1])
        starts[first:last], ends[first:last] = [off], [end]

    def _written(self, off: int, end: int) -> int:
        """How many bytes of a range were written before."""
        if not self._ends or off >= self._ends[-1]:
            return 0
        pairs = zip(self._starts, self._ends, strict=True)
        return sum(max(0, min(end, stop) - max(off, start)) for start, stop in pairs)

    def contiguous(self, off: int) -> int:
        """Where what was written from an offset on ends; the offset itself if nothing was written there."""
        index = bisect_right(self._starts, off) - 1
        return max(off, self._ends[index]) if index >= 0 else off

    def next_written(self, off: int, end: int) -> int:
        """The first offset from off on that was written; end if that is none before it."""
        if self.contiguous(off) > off:
            return off
        index = bisect_right(self._starts, off)
        return min(end, self._starts[index]) if index < len(self._starts) else end

    def fill(self, target: bytearray, off: int) -> None:
        """Put what was written into a piece of the file that begins at off."""
        end = off + len(target)
        index = max(0, bisect_right(self._ends, off))
        while index < len(self._starts) and self._starts[index] < end:
            start, stop = max(off, self._starts[index]), min(end, self._ends[index])
            if start < stop:
                target[start - off : stop - off] = self._stored(start, stop)
            index += 1

    def _stored(self, start: int, stop: int) -> bytes | memoryview:
        if self._file is None:
            return bytes(memoryview(self._data)[start - self.origin : stop - self.origin])
        pieces = []
        while start < stop:
            piece = os.pread(self._file, stop - start, start)
            if not piece:
                raise SFTPFailure("The spool for this write cannot be used: it was cut off")
            pieces.append(piece)
            start += len(piece)
        return b"".join(pieces)

    def take(self, size: int) -> memoryview | None:
        """The first bytes, which are forgotten then, without a copy of them; None if that is not possible."""
        origin = self.origin
        if self._file is not None or self.contiguous(origin) - origin < size:
            return None
        taken = memoryview(self._data)[:size]
        self.forget(origin + size)
        return taken

    def forget(self, until: int) -> None:
        """What is below an offset is not needed any more; nothing is written there again."""
        while self._starts and self._ends[0] <= until:
            del self._starts[0], self._ends[0]
        if self._starts and self._starts[0] < until:
            self._starts[0] = until
        if self._file is None:
            self._rest(until - self.origin)
            self.origin = until
            return
        self.origin = until
        if (
            not self._starts or self._ends[-1] - until <= MEMORY
        ):  # back into memory; the disk space is free again
            size = self._ends[-1] - until if self._starts else 0
            data = bytearray(size)
            self.fill(data, until)
            self._drop_file()
            self._data = data

    def cut(self, size: int) -> None:
        """The file ends at this offset now."""
        while self._starts and self._starts[-1] >= size:
            del self._starts[-1], self._ends[-1]
        if self._starts:
            self._ends[-1] = min(self._ends[-1], size)

    def _drop_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._spool.used -= self._taken
            self._file, self._taken = None, 0

    def close(self) -> None:
        """Let go of everything."""
        self._drop_file()
        self.origin, self._data = 0, bytearray()
        self._starts, self._ends = [], []
