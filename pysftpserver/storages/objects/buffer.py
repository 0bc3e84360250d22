"""Content that was written to a file and is not yet in the store: some in memory, more in a spool file.

A spool file has no name, so it leaves nothing behind after a crash, and the spool of a storage has a limit.
What may not enter: requests, keys.
Facts: open(2) for O_TMPFILE.
"""

from __future__ import annotations

import mmap
import os
import threading
from bisect import bisect_right

from pysftpserver.failures import reason_of
from pysftpserver.pysftpexceptions import SFTPFailure

MEMORY = 12 << 20  # bytes of one file that are held in memory
IN_ALL = 2 * MEMORY  # bytes of all files of a session: anything above is in the spool
MOST_PIECES = 1 << 14  # disconnected pieces of one file: each takes memory
AT_ONCE = 2  # parts of a session that are sent at the same time
LITTLE = 1 << 18  # bytes up to which the interpreter's memory is used, of which less is given back


class Spool:
    """The memory and disk space that the files which a session is writing may use together.

    directory, limit: of the disk space for content that is not written in order; None for none, and bytes.
    used: bytes of it. slots: for parts that are being sent. left: (key, id) of uploads that could not be
    aborted. Clients that share a storage share this.
    """

    def __init__(self, directory: str | None, limit: int) -> None:
        self.directory, self.limit = directory, limit
        self.used = 0
        self.slots = threading.Semaphore(AT_ONCE)
        self.left: list[tuple[str, str]] = []
        self._held = 0
        self._rooms: list[mmap.mmap] = []  # used before: new memory would take longer than the copy
        self._lock = threading.Lock()

    def hold(self, size: int) -> bool:
        """Reserve size more bytes of memory (a negative size frees some); return whether there is room."""
        with self._lock:
            if size > 0 and self._held + size > IN_ALL:
                return False
            self._held += size
            return True

    def room(self) -> mmap.mmap:
        """A buffer of MEMORY bytes with arbitrary content."""
        try:
            return self._rooms.pop()
        except IndexError:
            return mmap.mmap(-1, MEMORY)

    def rest(self) -> None:
        """A file was closed: if none is held in memory any more, give the rooms back to the system."""
        if not self._held:
            self._rooms.clear()

    def give_room(self, view: memoryview) -> None:
        """Take a buffer back after its content was sent."""
        room = view.obj
        if isinstance(room, mmap.mmap) and len(room) == MEMORY and len(self._rooms) < AT_ONCE and self._held:
            self._rooms.append(room)

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
        """Use size more bytes. Raises SFTPFailure if that exceeds the limit."""
        with self._lock:
            if self.used + size > self.limit:
                words = f"More than {self.limit} bytes would have to be held for this write"
                raise SFTPFailure(f"{words}; write in order instead")
            self.used += size

    def give(self, size: int) -> None:
        """Use size bytes fewer."""
        with self._lock:
            self.used -= size


class Buffer:
    """Bytes at offsets from `origin` on, in memory as long as they are within MEMORY bytes of it.

    A range that was not written is a gap: fill() leaves it unchanged.
    """

    def __init__(self, spool: Spool) -> None:
        self.origin = 0
        self._spool = spool
        self._data: bytearray | mmap.mmap = bytearray()
        self._file: int | None = None
        self._taken = 0  # bytes of the spool
        self._held = 0  # bytes of memory
        self._starts: list[int] = []  # of the written ranges, in order, and their ends
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
        if len(self._starts) >= MOST_PIECES and self.contiguous(off) == off:
            raise SFTPFailure("Too many separate pieces of this file are written; write in order instead")
        if self._file is None and not self._reserve(end - self.origin):
            self.spill()
        if self._file is None:
            at = off - self.origin
            self._data[at : at + len(chunk)] = chunk
        else:
            new = len(chunk) - self._written(off, end)
            self._spool.take(new)
            self._taken += new
            self._pwrite(off, chunk)
        self._mark(off, end)

    def _reserve(self, size: int) -> bool:
        """Make room for size bytes in memory; return whether that was possible."""
        old = self._data
        if size <= len(old):
            return True
        is_little = size <= LITTLE and isinstance(old, bytearray)
        room = size if is_little else MEMORY
        if size > MEMORY or not self._spool.hold(room - self._held):
            return False
        self._held = room
        if is_little:
            assert isinstance(old, bytearray)
            old.extend(bytes(size - len(old)))
        else:
            self._data = self._spool.room()
            self._data[: len(old)] = bytes(old)
        return True

    def _drop_memory(self) -> None:
        self._spool.hold(-self._held)
        self._data, self._held = bytearray(), 0

    def _begin_with(self, origin: int, rest: bytes | bytearray) -> None:
        """Keep only rest, which begins at origin."""
        self._drop_memory()
        self._drop_file()
        self.origin = origin
        if self._reserve(len(rest)):
            self._data[: len(rest)] = rest
        else:
            self._data = bytearray(rest)
            self.spill()

    def spill(self) -> None:
        """Move the content to a spool file. Raises SFTPFailure."""
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
        data = self._data
        self._drop_memory()
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
        """The end of the written range at an offset; the offset itself if nothing was written there."""
        index = bisect_right(self._starts, off) - 1
        return max(off, self._ends[index]) if index >= 0 else off

    def next_written(self, off: int, end: int) -> int:
        """The first written offset from off on; end if there is none before it."""
        if self.contiguous(off) > off:
            return off
        index = bisect_right(self._starts, off)
        return min(end, self._starts[index]) if index < len(self._starts) else end

    def fill(self, target: bytearray, off: int) -> None:
        """Put written content into target, a piece of the file that begins at off."""
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
        """Remove and return the first bytes, without copying them; None if that is not possible."""
        origin = self.origin
        if self._file is not None or self.contiguous(origin) - origin < size:
            return None
        taken = memoryview(self._data)[:size]
        self.forget(origin + size)
        return taken

    def forget(self, until: int) -> None:
        """Drop the content below an offset; nothing is written there again."""
        if until == self.origin:
            return
        while self._starts and self._ends[0] <= until:
            del self._starts[0], self._ends[0]
        if self._starts and self._starts[0] < until:
            self._starts[0] = until
        size = self._ends[-1] - until if self._starts else 0
        if size <= MEMORY:  # the spool file is no longer needed
            rest = bytearray(size)
            self.fill(rest, until)
            self._begin_with(until, rest)
        self.origin = until

    def cut(self, size: int) -> None:
        """Cut the file off at this offset."""
        while self._starts and self._starts[-1] >= size:
            del self._starts[-1], self._ends[-1]
        if self._starts:
            self._ends[-1] = min(self._ends[-1], size)

    def _drop_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._spool.give(self._taken)
            self._file, self._taken = None, 0

    def close(self) -> None:
        """Release everything."""
        self._drop_file()
        self._drop_memory()
        self._spool.rest()
        self.origin = 0
        self._starts, self._ends = [], []
