"""The output queue: segments on their way to the client, in order.

A segment is bytes, or a span of an open file that a door may send without copying. No invented bytes: a
file that no longer holds what was announced of it ends the session. What may not enter: packets, writing;
reading a span is the queue's only I/O.
"""

from __future__ import annotations

import os
from stat import S_ISREG

from pysftpserver.pysftpexceptions import SFTPSessionEnd

TYPE_CHECKING = False
if TYPE_CHECKING:
    Segment = bytes | bytearray | memoryview

# Bytes from which sendfile is cheaper than a read and a write. Measured with reads of 32 KiB, where the
# pages of a fresh buffer for each cost more than the second system call.
SPAN_FROM = 32 * 1024


class FileSpan:
    """length bytes at offset of the file behind descriptor, which stays open until they are sent."""

    __slots__ = ("descriptor", "length", "offset")

    def __init__(self, descriptor: int, offset: int, length: int) -> None:
        self.descriptor = descriptor
        self.offset = offset
        self.length = length

    @classmethod
    def of(cls, descriptor: int, offset: int, size: int) -> FileSpan | None:
        """The span of up to size bytes at offset, or None where it is no gain or no safe promise.

        Only a regular file with blocks of its own is promised from: the files of sysfs and the like
        announce a size that they do not hold.
        """
        if size < SPAN_FROM:
            return None
        st = os.fstat(descriptor)
        length = min(size, st.st_size - offset)
        if length < SPAN_FROM or not st.st_blocks or not S_ISREG(st.st_mode):
            return None
        return cls(descriptor, offset, length)

    def read(self) -> bytes:
        """The bytes themselves. Raises SFTPSessionEnd when the file no longer has them."""
        parts = []
        offset, missing = self.offset, self.length
        while missing:
            try:
                part = os.pread(self.descriptor, missing, offset)
            except OSError as error:
                raise SFTPSessionEnd(
                    f"reading a file failed after its data was announced: {error.strerror}"
                ) from error
            if not part:
                raise SFTPSessionEnd("a file shrank while its data was being sent")
            parts.append(part)
            offset += len(part)
            missing -= len(part)
        return b"".join(parts)


class OutputQueue:
    """Segments in order, and how many bytes they stand for.

    segments: a list that a door reads from its front; it calls sent() with what it got rid of.
    size: bytes that are still to be sent. spans: how many of the segments are spans.
    """

    __slots__ = ("segments", "size", "spans")

    def __init__(self) -> None:
        self.segments: list[Segment | FileSpan] = []
        self.size = 0
        self.spans = 0

    def append(self, segment: Segment) -> None:
        """Queue bytes."""
        self.segments.append(segment)
        self.size += len(segment)

    def append_span(self, span: FileSpan) -> None:
        """Queue a span of a file."""
        self.segments.append(span)
        self.size += span.length
        self.spans += 1

    def sent(self, count: int) -> None:
        """The first count bytes are gone."""
        self.size -= count
        segments = self.segments
        done = 0
        for segment in segments:
            is_span = type(segment) is FileSpan
            length = segment.length if is_span else len(segment)  # type: ignore[union-attr,arg-type]
            if count < length:
                if count and is_span:
                    segment.offset += count  # type: ignore[union-attr]
                    segment.length -= count  # type: ignore[union-attr]
                elif count:
                    segments[done] = memoryview(segment)[count:]  # type: ignore[arg-type]
                break
            count -= length
            done += 1
            self.spans -= is_span
        del segments[:done]

    def settle(self) -> None:
        """Read every span now, because what comes next might change or close its file."""
        for index, segment in enumerate(self.segments):
            if isinstance(segment, FileSpan):
                self.segments[index] = segment.read()
        self.spans = 0

    def clear(self) -> None:
        """Forget everything."""
        self.segments.clear()
        self.size = 0
        self.spans = 0

    def __bytes__(self) -> bytes:
        """Everything that is queued; the queue stays as it is."""
        return b"".join(s.read() if isinstance(s, FileSpan) else s for s in self.segments)
