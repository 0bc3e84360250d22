"""The new content of a file that is being written: chunks with a new identity, over the old content.

A draft is written to the database as it grows, in batches, in the background, and is invisible: chunks
without a document in BUCKET.files belong to no file. finish() completes it (chunks that were not written are
copied from the old file, or are zeros); publishing its document then makes it the file. Until then it can be
discarded, by its writer or, if that was killed, by a later --gc.
What may not enter: names, documents of BUCKET.files.
Facts: GridFS's specification; a file has no holes there, so zeros are stored.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from bson import ObjectId
from pymongo import InsertOne, ReplaceOne
from pymongo.errors import OperationFailure

from pysftpserver.failures import os_error
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storages.mongo.bitmap import Bitmap
from pysftpserver.storages.mongo.bucket import CHUNK_SIZE, Bucket, Document, chunk_size, delete_chunks, length
from pysftpserver.storages.mongo.chunks import Chunks, fetch

Change = InsertOne[Document] | ReplaceOne[Document]

BATCH = 2 << 20  # bytes of chunks that are written at once
MOST_CHUNK = (16 << 20) - 1024  # bytes, the limit of MongoDB's documents; a larger chunk is sent alone
MOST_IN_A_BATCH = 512  # chunks; other programs may have made small ones
MOST_COPIED = 1024  # chunks per command, to limit its duration
MOST_ZEROS = 16 << 30  # bytes of a hole: it takes space, and time when the file is stored
NOT_UNDERSTOOD = (40324, 40415, 59, 115)  # errors of a server without $merge


class Draft:
    """A file that is being written.

    identity: the files_id of its chunks, and the file's _id once it is published. length: bytes. base: the
    document of the old file, or None; content that is not written comes from there.
    """

    def __init__(
        self, bucket: Bucket, chunks: Chunks, workers: ThreadPoolExecutor, base: Document | None
    ) -> None:
        self.identity = ObjectId()
        self.base = base
        self.length = length(base) if base is not None else 0
        self.chunk_size = chunk_size(base) if base is not None else CHUNK_SIZE
        self._bucket = bucket
        self._chunks = chunks
        self._workers = workers
        self._kept = self.length  # bytes of the base that are still visible
        self._dirty: dict[int, bytes | bytearray] = {}  # by number; may still be shorter than when stored
        self._size = 0  # maximum number of those
        self._stored = Bitmap()
        self._flying: dict[int, bytes | bytearray] = {}
        self._flight: Future[None] | None = None
        self._is_finished = False
        if base is not None and self.chunk_size > MOST_CHUNK:
            self._take_over(base)

    def _take_over(self, base: Document) -> None:
        """Copy the content of a single chunk that is shorter than the file's chunk size."""
        content = self._chunks.get(base, 0) if self.length else b""
        self.base, self.length, self.chunk_size, self._kept = None, 0, CHUNK_SIZE, 0
        self.write(0, content)

    # --- reading ------------------------------------------------------------------------------------------

    def read(self, off: int, size: int) -> bytes:
        """Return up to size bytes from offset off, as the file would be if it were stored now."""
        end = min(off + size, self.length)
        parts = []
        while off < end:
            number, start = divmod(off, self.chunk_size)
            stop = min(self.chunk_size, start + end - off)
            part = bytes(memoryview(self._content(number))[start:stop])
            parts.append(part.ljust(stop - start, b"\0"))
            off += stop - start
        return b"".join(parts)

    def _content(self, number: int) -> bytes | bytearray:
        """Return a chunk, which may still be too short: zeros follow."""
        for where in (self._dirty, self._flying):
            if number in where:
                return where[number]
        if number in self._stored:
            like = {
                "_id": self.identity,
                "chunkSize": self.chunk_size,
                "length": (number + 1) * self.chunk_size,
            }
            return fetch(self._bucket, like, number, number + 1)[number]
        shown = self._kept - number * self.chunk_size
        if self.base is None or shown <= 0:
            return b""
        return self._chunks.get(self.base, number)[:shown]

    # --- writing ------------------------------------------------------------------------------------------

    def write(self, off: int, data: bytes) -> None:
        """Store data at an offset. Raises OSError (EFBIG) if that leaves a hole that is too large."""
        if not data:
            return
        self._check(off + len(data), off)
        view = memoryview(data)
        while view:
            number, start = divmod(off, self.chunk_size)
            part = view[: self.chunk_size - start]
            if len(part) == self.chunk_size:
                self._set(number, data if len(part) == len(data) else bytes(part))
            else:
                self._change(number, start, part)
            view = view[len(part) :]
            off += len(part)
            self.length = max(self.length, off)
            if self._size >= BATCH or len(self._dirty) >= MOST_IN_A_BATCH:
                self._send(exclude=number if off % self.chunk_size else -1)

    def resize(self, size: int) -> None:
        """Truncate the file, or extend it with zeros. Raises OSError (EFBIG)."""
        self._check(size, size)
        if size < self.length:
            self._land()
            keep = -(-size // self.chunk_size)
            for number in [number for number in self._dirty if number >= keep]:
                self._size -= len(self._dirty.pop(number))
            if size % self.chunk_size:
                cut = bytearray(self._content(keep - 1)[: size % self.chunk_size])
                self._set(keep - 1, cut)
            if self._stored.cut(keep):
                self._bucket.chunks.delete_many({"files_id": self.identity, "n": {"$gte": keep}})
            self._kept = min(self._kept, size)
        self.length = size

    def _check(self, end: int, start: int) -> None:
        if start - self.length > MOST_ZEROS or -(-end // self.chunk_size) >= 1 << 31:
            raise os_error(errno.EFBIG)

    def _set(self, number: int, chunk: bytes | bytearray) -> None:
        self._size += len(chunk) - len(self._dirty.get(number, b""))
        self._dirty[number] = chunk

    def _change(self, number: int, start: int, part: memoryview) -> None:
        chunk = self._dirty.get(number)
        if not isinstance(chunk, bytearray):
            chunk = bytearray(self._content(number))
            self._size += len(chunk) - len(self._dirty.get(number, b""))
            self._dirty[number] = chunk
        before = len(chunk)
        if before < start:
            chunk.extend(bytes(start - before))
        chunk[start : start + len(part)] = part
        self._size += len(chunk) - before

    def _send(self, exclude: int = -1) -> None:
        """Write dirty chunks in the background. exclude: the number of a chunk that is still growing."""
        self._land()
        growing = self._dirty.pop(exclude, None)
        batch, self._dirty = self._dirty, {}
        self._size = 0
        if growing is not None:
            self._set(exclude, growing)
        if batch:
            self._flying = batch
            self._flight = self._workers.submit(self._store, self._changes(batch))

    def _changes(self, batch: dict[int, bytes | bytearray]) -> list[Change]:
        changes: list[Change] = []
        for number, chunk in batch.items():
            doc = {"files_id": self.identity, "n": number, "data": self._padded(number, chunk)}
            if number in self._stored:
                changes.append(ReplaceOne({"files_id": self.identity, "n": number}, doc))
            else:
                changes.append(InsertOne({"_id": self._bucket.new_id(), **doc}))
        return changes

    def _padded(self, number: int, chunk: bytes | bytearray) -> bytes:
        """Return a chunk padded to full length, because it may still grow; finish() cuts off its end."""
        size = self.chunk_size
        if self._is_finished:
            size = min(size, self.length - number * size)
        return bytes(chunk) if len(chunk) == size else bytes(chunk[:size]).ljust(size, b"\0")

    def _store(self, changes: list[Change]) -> None:
        self._bucket.chunks.bulk_write(changes, ordered=False)

    def _land(self) -> None:
        """Wait for the background writes. Raises their error, after which the draft cannot be used."""
        if self._flight is not None:
            self._flight.result()
            self._flight = None
            for number in self._flying:
                self._stored.add(number)
            self._flying = {}

    # --- the end ------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Complete the chunks of the file in the database, each with its final length."""
        # Chunks that were or are the last may be stored with another length.
        for end in (self._kept, self.length):
            number, rest = divmod(end, self.chunk_size)
            is_shown = number * self.chunk_size < self.length
            if (
                rest
                and is_shown
                and number not in self._dirty
                and (end == self.length or number not in self._stored)
            ):
                self._set(number, bytearray(self._content(number)))
        self._is_finished = True
        self._send()
        self._land()
        count = -(-self.length // self.chunk_size)
        whole = min(self._kept // self.chunk_size, count) if self.base is not None else 0
        for first, stop in self._stored.gaps(count):
            for start in range(first, min(stop, whole), MOST_COPIED):
                self._copy(start, min(start + MOST_COPIED, stop, whole))
            if stop > whole:
                self._fill(max(first, whole), stop)
        if count and self._bucket.chunks.count_documents({"files_id": self.identity}) != count:
            # The source was removed meanwhile, or these chunks were taken for orphans.
            raise SFTPFailure("The file could not be stored: parts of it were removed meanwhile")

    def _copy(self, first: int, stop: int) -> None:
        """Copy chunks of the base, inside the database if the server supports that."""
        assert self.base is not None
        pipeline: list[Document] = [
            {"$match": {"files_id": self.base["_id"], "n": {"$gte": first, "$lt": stop}}},
            {"$project": {"_id": 0, "files_id": {"$literal": self.identity}, "n": 1, "data": 1}},
            {"$merge": {"into": self._bucket.chunks.name}},
        ]
        try:
            self._bucket.chunks.aggregate(pipeline).close()
        except OperationFailure as error:
            if error.code not in NOT_UNDERSTOOD:
                raise
            self._copy_through_here(first, stop)

    def _copy_through_here(self, first: int, stop: int) -> None:
        assert self.base is not None
        step = max(1, BATCH // self.chunk_size)
        for start in range(first, stop, step):
            found = fetch(self._bucket, self.base, start, min(stop, start + step))
            self._insert(iter(found.items()))

    def _fill(self, first: int, stop: int) -> None:
        """Store zeros for chunks that were not written."""
        step = max(1, BATCH // self.chunk_size)
        for start in range(first, stop, step):
            self._insert((number, b"") for number in range(start, min(stop, start + step)))

    def _insert(self, chunks: Iterator[tuple[int, bytes]]) -> None:
        docs = [
            {
                "_id": self._bucket.new_id(),
                "files_id": self.identity,
                "n": n,
                "data": self._padded(n, chunk),
            }
            for n, chunk in chunks
        ]
        self._bucket.chunks.insert_many(docs, ordered=False)

    def discard(self) -> None:
        """Discard the draft and its chunks."""
        if self._flight is not None:
            self._flight.exception()  # pending writes must not arrive later
            self._flight = None
        if len(self._stored) or self._flying or self._is_finished:
            delete_chunks(self._bucket, [self.identity])
