"""Both sides of the rows on GridFS: the same work by pymongo's GridFSBucket and by our storage.

Both use the same SecantusDB, whose data is in the benchmark's temporary directory. The methods that measure
return seconds, unless they say otherwise. They create and remove what they need before the clock starts.
"""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gridfs
import pymongo
from bson import Int64

from bench import drivers
from bench.gridfs import Sizes
from bench.rows import random_file
from pysftpserver.mongostorage import SFTPServerMongoStorage
from pysftpserver.storages.embedded import LOOPBACK, EmbeddedMongo
from pysftpserver.storages.mongo.bucket import CHUNK_SIZE

PROGRAMS = [sys.executable, "-m", "bench.gridfs_programs"]
TRANSFERS, ALONE, AMONG_OTHERS, MANY = "transfers", "alone", "among_others", "many"  # databases
SENT, FETCHED, SOUGHT = "sent", "fetched", "sought"  # files in the first of these
DIRECTORY = "listed"
OTHER_DIRECTORIES = 200  # half of them sort before DIRECTORY, half after
LISTINGS = 5  # listings of a short directory in one measurement
AT_ONCE = 10_000  # documents
BLOCK = 4096  # bytes
PIECE = os.urandom(CHUNK_SIZE)  # bytes of one write, and of one read


@contextlib.contextmanager
def started(top: Path, sizes: Sizes) -> Iterator[Sides]:
    """Yield the sides, with a running database. Raises EmbeddedFailed."""
    with EmbeddedMongo(top / "mongo") as mongo, contextlib.ExitStack() as stack:
        yield Sides(top, sizes, mongo.port, stack)


class Sides:
    """Both sides. stack: closes what they open."""

    def __init__(self, top: Path, sizes: Sizes, port: int, stack: contextlib.ExitStack) -> None:
        self.top = top
        self.sizes = sizes
        self.port = port
        self._stack = stack
        self.client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(LOOPBACK, port)
        stack.enter_context(self.client)
        self.bucket = gridfs.GridFSBucket(self.client[TRANSFERS])
        self.storage = self._storage(TRANSFERS)
        self.storage.prepare()
        self._listed: dict[str, SFTPServerMongoStorage] = {}

    def _storage(self, database: str) -> SFTPServerMongoStorage:
        storage = SFTPServerMongoStorage(LOOPBACK, self.port, database)
        self._stack.callback(storage.close_client)
        return storage

    # --- puts ---------------------------------------------------------------------------------------------

    def driver_puts(self) -> float:
        """Write pieces to an upload stream."""
        self._clear()
        began = time.perf_counter()
        with self.bucket.open_upload_stream(SENT) as upload:
            for _, piece in _pieces(self.sizes.transfer):
                upload.write(piece)
        return self._sent(began)

    def storage_puts(self) -> float:
        """Write the same pieces to the storage."""
        self._clear()
        storage = self.storage
        began = time.perf_counter()
        handle = storage.open(f"/{SENT}".encode(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for offset, piece in _pieces(self.sizes.transfer):
            storage.write(handle, offset, piece)
        storage.close(handle)
        return self._sent(began)

    def _clear(self) -> None:
        """Remove what was sent and flush the database, so that both begin with the same state."""
        for file in self.bucket.find({"filename": SENT}):
            self.bucket.delete(file._id)
        self.client.admin.command("fsync")

    def _sent(self, began: float) -> float:
        """Return the seconds since then. Raises RuntimeError unless everything has arrived."""
        seconds = time.perf_counter() - began
        _check(sum(file.length for file in self.bucket.find({"filename": SENT})), self.sizes.transfer)
        return seconds

    # --- gets ---------------------------------------------------------------------------------------------

    def driver_gets(self) -> float:
        """Read pieces from a download stream."""
        self._stored(FETCHED, self.sizes.transfer)
        began = time.perf_counter()
        size = 0
        with self.bucket.open_download_stream_by_name(FETCHED) as download:
            while piece := download.read(CHUNK_SIZE):
                size += len(piece)
        seconds = time.perf_counter() - began
        _check(size, self.sizes.transfer)
        return seconds

    def storage_gets(self) -> float:
        """Read the same pieces from the storage."""
        self._stored(FETCHED, self.sizes.transfer)
        storage = self.storage
        began = time.perf_counter()
        size = 0
        handle = storage.open(f"/{FETCHED}".encode(), os.O_RDONLY, 0)
        while piece := storage.read(handle, size, CHUNK_SIZE):
            size += len(piece)
        storage.close(handle)
        seconds = time.perf_counter() - began
        _check(size, self.sizes.transfer)
        return seconds

    def _stored(self, name: str, size: int) -> None:
        """Store a file of this many bytes in the bucket, if there is none."""
        if not any(self.bucket.find({"filename": name})):
            with self.bucket.open_upload_stream(name) as upload:
                for _, piece in _pieces(size):
                    upload.write(piece)

    # --- the same through a server, and by a program --------------------------------------------------------

    def _server(self) -> list[str]:
        options = ["--log-level", "ERROR"]  # like all servers here
        return [*drivers.command("pysftpmongo"), *options, LOOPBACK, str(self.port), TRANSFERS]

    def _put(self) -> str:
        """Return the command for sftp, and remove the file from the bucket."""
        self._clear()
        return f"put {self._local()} /{SENT}\n"

    def _get(self) -> str:
        self._stored(FETCHED, self.sizes.transfer)
        return f"get /{FETCHED} /dev/null\n"

    def _local(self) -> Path:
        return random_file(self.top / "local", self.sizes.transfer)

    def sftp_puts(self) -> float:
        """Start sftp and a server, and put a file."""
        return drivers.sftp(self._server(), self._put())

    def sftp_gets(self) -> float:
        """Start sftp and a server, and get a file."""
        return drivers.sftp(self._server(), self._get())

    def program_puts(self) -> float:
        """Start a program that uploads the same file."""
        self._clear()
        return drivers.timed([*PROGRAMS, "put", str(self.port), TRANSFERS, str(self._local()), SENT])

    def program_gets(self) -> float:
        """Start a program that downloads the same file."""
        self._stored(FETCHED, self.sizes.transfer)
        return drivers.timed([*PROGRAMS, "get", str(self.port), TRANSFERS, "/dev/null", FETCHED])

    def peak_of_put(self) -> int:
        """The highest resident size (bytes) of the server."""
        return drivers.peak_memory(self._server(), self._put(), self.top / "memory")

    def peak_of_get(self) -> int:
        """The highest resident size (bytes) of the server."""
        return drivers.peak_memory(self._server(), self._get(), self.top / "memory")

    # --- reads here and there -----------------------------------------------------------------------------

    def _offsets(self) -> list[int]:
        """Return the same offsets every time."""
        return random.Random(1).choices(range(self.sizes.sought - BLOCK), k=self.sizes.reads)

    def driver_seeks(self) -> float:
        """Seconds for one read, on average."""
        self._stored(SOUGHT, self.sizes.sought)
        offsets = self._offsets()
        with self.bucket.open_download_stream_by_name(SOUGHT) as download:
            began = time.perf_counter()
            for offset in offsets:
                download.seek(offset)
                _check(len(download.read(BLOCK)), BLOCK)
            return (time.perf_counter() - began) / self.sizes.reads

    def storage_seeks(self) -> float:
        """Seconds for one read, on average."""
        self._stored(SOUGHT, self.sizes.sought)
        offsets = self._offsets()
        handle = self.storage.open(f"/{SOUGHT}".encode(), os.O_RDONLY, 0)
        began = time.perf_counter()
        for offset in offsets:
            _check(len(self.storage.read(handle, offset, BLOCK)), BLOCK)
        seconds = time.perf_counter() - began
        self.storage.close(handle)
        return seconds / self.sizes.reads

    # --- listings -----------------------------------------------------------------------------------------

    def _directory(self, database: str, names: int, others: int) -> SFTPServerMongoStorage:
        """Return a storage on a bucket with a directory of some names, and others in further directories."""
        if database not in self._listed:
            storage = self._storage(database)
            for directory in (DIRECTORY, *(_elsewhere() if others else ())):
                storage.mkdir(f"/{directory}".encode(), 0o755)
            documents = itertools.chain(_documents([DIRECTORY], names), _documents(_elsewhere(), others))
            while some := list(itertools.islice(documents, AT_ONCE)):
                storage.bucket.files.insert_many(some, ordered=False)
            storage.prepare()  # creating the indexes last is faster
            self._listed[database] = storage
        return self._listed[database]

    def _list(self, storage: SFTPServerMongoStorage, names: int, times: int) -> float:
        began = time.perf_counter()
        for _ in range(times):
            _check(sum(1 for _ in storage.opendir(f"/{DIRECTORY}".encode())), names + 2)  # . and ..
        return (time.perf_counter() - began) / times

    def lists_alone(self) -> float:
        """Seconds to list a directory that is alone in its bucket."""
        names = self.sizes.names
        return self._list(self._directory(ALONE, names, 0), names, LISTINGS)

    def lists_among_others(self) -> float:
        """Seconds to list the same directory in a bucket with many other names."""
        names = self.sizes.names
        return self._list(self._directory(AMONG_OTHERS, names, self.sizes.others), names, LISTINGS)

    def storage_lists_many(self) -> float:
        """Seconds to list a long directory."""
        return self._list(self._directory(MANY, self.sizes.many, 0), self.sizes.many, 1)

    def driver_lists_many(self) -> float:
        """Seconds to find the files of that directory by the prefix of their names."""
        self._directory(MANY, self.sizes.many, 0)
        began = time.perf_counter()
        names = {"$gte": f"{DIRECTORY}/", "$lt": f"{DIRECTORY}0"}  # "0" follows "/"
        _check(
            sum(1 for _ in gridfs.GridFSBucket(self.client[MANY]).find({"filename": names})), self.sizes.many
        )
        return time.perf_counter() - began

    def growth(self) -> int:
        """Return the maximum growth (bytes) of a process that lists that directory."""
        self._directory(MANY, self.sizes.many, 0)
        argv = [*PROGRAMS, "growth", str(self.port), MANY, f"/{DIRECTORY}"]
        return int(subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout)


def _pieces(size: int) -> Iterator[tuple[int, bytes]]:
    """Yield (offset, bytes) for each write."""
    for offset in range(0, size - size % CHUNK_SIZE, CHUNK_SIZE):
        yield offset, PIECE
    if size % CHUNK_SIZE:
        yield size - size % CHUNK_SIZE, PIECE[: size % CHUNK_SIZE]


def _elsewhere() -> list[str]:
    return [f"{'az'[number % 2]}{number:04d}" for number in range(OTHER_DIRECTORIES)]


def _documents(directories: list[str], count: int) -> Iterator[dict[str, Any]]:
    """Yield documents of files as the storage stores them. Content is never read, so there is none."""
    now = datetime.datetime.now(datetime.UTC)
    for number in range(count):
        yield {
            "length": Int64(BLOCK),
            "chunkSize": CHUNK_SIZE,
            "uploadDate": now,
            "filename": f"{directories[number % len(directories)]}/file-{number:06d}.txt",
            "metadata": {"permissions": 0o644, "uid": 0, "gid": 0, "mtime": now, "revision": 1},
        }


def _check(found: int, expected: int) -> None:
    if found != expected:
        raise RuntimeError(f"{found} came instead of {expected}")
