"""Fetches chunks from the database, several at once and ahead of sequential readers, and caches them.

A chunk is identified by its file and its number and never changes, so the cache is never out of date. What
may not enter: paths, writing.
Facts: GridFS's specification: all chunks but the last have the file's chunk size.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storages.mongo.bucket import Bucket, Document, chunk_size, key_of, length

KEPT = 8 << 20  # bytes of chunks, in all files together
AHEAD = 2 << 20  # bytes that are fetched at once for sequential readers
MOST_AT_ONCE = 512  # chunks; other programs may have made small ones
OVERHEAD = 256  # bytes of overhead for a cached chunk


class Span(NamedTuple):
    """Chunks of a file that are being fetched, from first up to stop."""

    first: int
    stop: int
    future: Future[dict[int, bytes]]


class Reading:
    """The position of one handle, and whether it reads sequentially or at random."""

    last = -1
    window = 1

    def step(self, first: int, last: int) -> int:
        """Note a read of the chunks from first to last; return how many to fetch from first on."""
        if first in (self.last, self.last + 1):
            if last > self.last:
                self.window = min(2 * self.window, MOST_AT_ONCE)
        else:
            self.window = 1
        self.last = last
        return max(self.window, last + 1 - first)


class Chunks:
    """The chunk cache of one session."""

    def __init__(self, bucket: Bucket, workers: ThreadPoolExecutor) -> None:
        self._bucket = bucket
        self._workers = workers
        self._kept: OrderedDict[tuple[Hashable, int], bytes] = OrderedDict()
        self._size = 0
        self._spans: dict[Hashable, Span] = {}  # by file

    def get(self, doc: Document, number: int, window: int = 1) -> bytes:
        """Return one chunk of a file. window: how many, including this one, will probably be read soon.

        Raises SFTPFailure if the chunk is gone: the file was replaced or removed meanwhile.
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
        """Drop the chunks of a file that will not be read any more."""
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
        """Fetch the next chunks in the background once half of those here have been read."""
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
    """Fetch the chunks of a file from first up to stop, by number. Raises SFTPFailure if one is missing."""
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
    """Return the number after the last chunk to fetch from number on."""
    most = min(max(1, AHEAD // chunk_size(doc)), MOST_AT_ONCE)
    return min(_count(doc), number + max(1, min(window, most)))
