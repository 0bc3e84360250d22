"""The output queue: replies on their way to the client, in order.

A segment is bytes, or a READ that is answered when its reply is about to be sent: until then it holds no
memory, and then it is read into a buffer that the door reuses. No bytes are invented: a reply holds what one
read of the file returned, and its length is that of the result. (sendfile would save a copy. It queues
references to the file's pages, so bytes that are already "sent" become zeros if another process truncates
the file before the client receives them: docs/performance.md.) What may not enter: writing; the late reads
are the queue's only I/O.
"""

from __future__ import annotations

import mmap
import os

from pysftpserver.engine.wire import (
    DATA_HEADER,
    MAX_DATA,
    SSH2_FX_EOF,
    SSH2_FX_OK,
    encode_data_header,
    encode_usual_status,
    put_data_header,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.abstractstorage import Promise
    from pysftpserver.engine.handles import FileHandle

    Segment = bytes | bytearray | memoryview


LONGEST_READ = DATA_HEADER + MAX_DATA  # bytes; every late read fits
# Where the data begins in a page of memory. Most reads begin at the start of a page of the file, and some
# processors (AMD EPYC) copy it four to six times slower to a place 1 to 31 bytes after the start of a page.
DATA_AT = 64


def buffer(size: int) -> memoryview:
    """Return a buffer whose memory is allocated only as far as it is used."""
    return memoryview(mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def room() -> memoryview:
    """Return a buffer for late reads, one at a time."""
    before = DATA_AT - DATA_HEADER
    return buffer(before + LONGEST_READ)[before:]


class LateRead:
    """A READ of up to size bytes at offset of an open file with a descriptor.

    failed: makes the reply for an error; called with the request id and the exception.
    """

    __slots__ = ("failed", "file", "offset", "request_id", "size")

    def __init__(
        self,
        request_id: int,
        file: FileHandle,
        offset: int,
        size: int,
        failed: Callable[[int, BaseException], bytes],
    ) -> None:
        self.request_id = request_id
        self.file = file
        self.offset = offset
        self.size = size
        self.failed = failed

    def reply(self, room: memoryview) -> Segment:
        """Read now; return the whole reply. DATA is made in room (at least DATA_HEADER and size bytes)."""
        end = DATA_HEADER + self.size
        try:
            count = os.preadv(self.file.descriptor, [room[DATA_HEADER:end]], self.offset)  # type: ignore[arg-type]
        except Exception as error:
            return self.failed(self.request_id, error)
        if not count:
            return self._end()
        self.file.bytes_read += count
        if self.file.fetched is not None:
            self.file.fetched.feed(self.offset, room[DATA_HEADER : DATA_HEADER + count])
        put_data_header(room, self.request_id, count)
        return room[: DATA_HEADER + count]

    def kept_reply(self) -> bytes:
        """Read now; return the whole reply in no more memory than it needs, even if more was asked for."""
        try:
            data = os.pread(self.file.descriptor, self.size, self.offset)  # type: ignore[arg-type]
            if not data:
                return self._end()
            reply = encode_data_header(self.request_id, len(data)) + data
        except Exception as error:
            return self.failed(self.request_id, error)
        self._passed(data)
        return reply

    def _passed(self, data: bytes) -> None:
        self.file.bytes_read += len(data)
        if self.file.fetched is not None:
            self.file.fetched.feed(self.offset, data)

    def _end(self) -> bytes:
        if self.file.fetched is not None:
            self.file.fetched.end = self.offset
        return encode_usual_status(self.request_id, SSH2_FX_EOF)


class PromisedReply(LateRead):
    """A READ that the storage has promised to answer: the reply is made when the promise is kept."""

    __slots__ = ("promise",)

    def __init__(
        self,
        request_id: int,
        file: FileHandle,
        promise: Promise,
        offset: int,
        size: int,
        failed: Callable[[int, BaseException], bytes],
    ) -> None:
        super().__init__(request_id, file, offset, size, failed)
        self.promise = promise

    def reply(self, room: memoryview) -> Segment:
        """Wait, and return the whole reply."""
        return self.kept_reply()

    def kept_reply(self) -> bytes:
        """The same."""
        try:
            data = self.promise.result()
        except Exception as error:
            return self.failed(self.request_id, error)
        if not data:
            return self._end()
        self._passed(data)
        return b"%b%b" % (encode_data_header(self.request_id, len(data)), data)


class PromisedStatus(PromisedReply):
    """The same for a WRITE of size bytes."""

    __slots__ = ()

    def kept_reply(self) -> bytes:
        try:
            self.promise.result()
        except Exception as error:
            if self.file.stored is not None:
                self.file.stored.spoil()
            return self.failed(self.request_id, error)
        self.file.bytes_written += self.size
        return encode_usual_status(self.request_id, SSH2_FX_OK)


class OutputQueue:
    """Segments in order, and their size.

    segments: a list that a door sends from its front; it calls sent() with the number of bytes sent.
    size: bytes that are still to be sent; late reads count with the size asked for. late: how many of the
    segments are late reads or promises. promised: how many are promises.
    """

    __slots__ = ("late", "promised", "segments", "size")

    def __init__(self) -> None:
        self.segments: list[Segment | LateRead] = []
        self.size = 0
        self.late = 0
        self.promised = 0

    def append(self, segment: Segment) -> None:
        """Queue bytes."""
        self.segments.append(segment)
        self.size += len(segment)

    def append_late(self, read: LateRead) -> None:
        """Queue a READ."""
        self.segments.append(read)
        self.size += DATA_HEADER + read.size
        self.late += 1

    def append_promise(self, reply: PromisedReply) -> None:
        """Queue a storage's promise. A WRITE counts as much as a READ: both are in flight."""
        self.append_late(reply)
        self.promised += 1

    def awaited(self) -> Promise | None:
        """Turn kept promises at the front into replies; return the promise that is first now, or None."""
        for index, segment in enumerate(self.segments):
            if isinstance(segment, PromisedReply):
                if not segment.promise.is_kept():
                    return None if index else segment.promise
                self._answered(index, segment, segment.kept_reply())
            elif type(segment) is LateRead or not self.promised:
                break
        return None

    def first(self, room: memoryview) -> Segment:
        """The bytes to be sent next, read into room if they are late; they stay in the queue."""
        segment = self.segments[0]
        return self._answered(0, segment, segment.reply(room)) if isinstance(segment, LateRead) else segment

    def batch(self, most: int) -> list[Segment]:
        """The segments at the front that are bytes, at most this many."""
        segments = self.segments[:most]
        if self.late:
            late = (index for index, segment in enumerate(segments) if isinstance(segment, LateRead))
            del segments[next(late, most) :]
        return segments  # type: ignore[return-value]

    def _answered(self, index: int, read: LateRead, reply: Segment) -> Segment:
        self.segments[index] = reply
        self.size += len(reply) - DATA_HEADER - read.size
        self.late -= 1
        self.promised -= isinstance(read, PromisedReply)
        return reply

    def sent(self, count: int) -> None:
        """Drop the first count bytes, which have been sent. None of them are late."""
        self.size -= count
        segments = self.segments
        if count == len(segments[0]):  # type: ignore[arg-type]
            del segments[0]
            return
        done = 0
        while count:
            length = len(segments[done])  # type: ignore[arg-type]
            if count < length:
                segments[done] = memoryview(segments[done])[count:]  # type: ignore[arg-type]
                break
            count -= length
            done += 1
        del segments[:done]

    def settle(self) -> None:
        """Read everything that is late now, because the next request might change or close its file."""
        # Late reads are younger than the last settle(): a search from the end finds them at a cost that does
        # not grow with the queue of a client that receives nothing. They are read in their order.
        indexes: list[int] = []
        index = len(self.segments)
        while len(indexes) < self.late:
            index -= 1
            if isinstance(self.segments[index], LateRead):
                indexes.append(index)
        for index in reversed(indexes):
            read: LateRead = self.segments[index]  # type: ignore[assignment]
            self._answered(index, read, read.kept_reply())

    def clear(self) -> None:
        """Drop everything."""
        self.segments.clear()
        self.size = 0
        self.late = self.promised = 0

    def __bytes__(self) -> bytes:
        """Everything that is queued; reads what is late."""
        self.settle()
        return b"".join(self.segments)  # type: ignore[arg-type]
