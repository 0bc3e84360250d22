"""Chunks on their way from the database: fetched several at once and ahead of who reads in order, and kept.

A chunk is known by its file and its number and never changes, so what is kept is never out of date. What may
not enter: paths, what is written.
Facts: GridFS's specification: all chunks but the last have the file's chunk size.
"""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storages.mongo.bucket import Bucket, chunk_size, key_of, length

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Any

    Document = dict[str, Any]

KEPT = 8 << 20  # bytes of chunks, in all files together
AHEAD = 2 << 20  # bytes that are fetched at once for who reads in order
MOST_AT_ONCE = 512  # chunks; other programs may have made small ones
OVERHEAD = 256  # bytes that it takes to keep one


class Span:
    """Chunks of a file, from first up to stop, that are being fetched."""

    __slots__ = ("first", "future", "stop")

    def __init__(self, first: int, stop: int, future: Future[dict[int, bytes]]) -> None:
        self.first = first
        self.stop = stop
        self.future = future


class Reading:
    """How far one handle has come, and how it goes on: from one chunk to the next, or here and there."""

    __slots__ = ("last", "window")

    def __init__(self) -> None:
        self.last = -1
        self.window = 1

    def step(self, first: int, last: int) -> int:
        """The chunks from first to last are wanted: how many from first on are worth fetching."""
        if first in (self.last, self.last + 1):
            if last > self.last:
                self.window = min(2 * self.window, MOST_AT_ONCE)
        else:
            self.window = 1
        self.last = last
        return max(self.window, last + 1 - first)


class Chunks:
    """The chunks of a bucket's files, for one session."""

    def __init__(self, bucket: Bucket, workers: ThreadPoolExecutor) -> None:
        self._bucket = bucket
        self._workers = workers
        self._kept: OrderedDict[tuple[Hashable, int], bytes] = OrderedDict()
        self._size = 0
        self._spans: dict[Hashable, Span] = {}  # by file

    def get(self, doc: Document, number: int, window: int = 1) -> bytes:
        """One chunk of a file. window: how many, with it, will probably be asked for soon.

        Raises SFTPFailure when the database has it no more: the file was replaced or removed meanwhile.
        """
        identity = key_of(doc["_id"])
        chunk = self._kept.get((identity, number))
        if chunk is None:
            chunk = self._fetch(doc, identity, number, window)
        else:
            self._kept.move_to_end((identity, number))
        if window > 1:
            self._go_ahead(doc, identity, number, window)
        return chunk

    def forget(self, identity: Any) -> None:
        """A file will not be read any more."""
        wanted = key_of(identity)
        self._spans.pop(wanted, None)
        for key in [key for key in self._kept if key[0] == wanted]:
            self._size -= len(self._kept.pop(key)) + OVERHEAD

    def _fetch(self, doc: Document, identity: Hashable, number: int, window: int) -> bytes:
        span = self._spans.pop(identity, None)
        if span is not None and span.first <= number < span.stop:
            found = span.future.result()
        else:
            found = fetch(self._bucket, doc, number, _stop(doc, number, window))
        for other, chunk in found.items():
            self._keep(identity, other, chunk)
        return found[number]

    def _go_ahead(self, doc: Document, identity: Hashable, number: int, window: int) -> None:
        """Have what comes next fetched in the background, when half of what is here has been read."""
        if identity in self._spans:
            return
        stop = _stop(doc, number, window)
        first = number + 1
        while first < stop and (identity, first) in self._kept:
            first += 1
        if first < _count(doc) and first - number <= max(1, (stop - number) // 2):
            further = _stop(doc, first, window)
            future = self._workers.submit(fetch, self._bucket, doc, first, further)
            self._spans[identity] = Span(first, further, future)

    def _keep(self, identity: Hashable, number: int, chunk: bytes) -> None:
        before = self._kept.pop((identity, number), None)
        if before is not None:
            self._size -= len(before) + OVERHEAD
        self._kept[identity, number] = chunk
        self._size += len(chunk) + OVERHEAD
        while self._size > KEPT and len(self._kept) > 1:
            _, old = self._kept.popitem(last=False)
            self._size -= len(old) + OVERHEAD


def fetch(bucket: Bucket, doc: Document, first: int, stop: int) -> dict[int, bytes]:
    """The chunks of a file from first up to stop, by number. Raises SFTPFailure unless all are there."""
    condition: Document = {"files_id": doc["_id"], "n": first}
    if stop - first > 1:
        condition["n"] = {"$gte": first, "$lt": stop}
    found: dict[int, bytes] = {}
    with bucket.chunks.find(condition, {"_id": 0, "n": 1, "data": 1}) as cursor:
        for chunk in cursor:
            data = chunk.get("data")
            if isinstance(data, bytes):
                found[int(chunk["n"])] = bytes(data)
    size, whole = chunk_size(doc), length(doc)
    for number in range(first, stop):
        if len(found.get(number, b"")) != min(size, whole - number * size):
            raise SFTPFailure("The file was replaced or removed meanwhile, or is damaged: open it again")
    return found


def _count(doc: Document) -> int:
    return -(-length(doc) // chunk_size(doc))


def _stop(doc: Document, number: int, window: int) -> int:
    """Behind the last of the chunks that are to be fetched from number on."""
    most = min(max(1, AHEAD // chunk_size(doc)), MOST_AT_ONCE)
    return min(_count(doc), number + max(1, min(window, most)))
