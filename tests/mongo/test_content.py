"""What is in the files of the storage on GridFS: random requests against a model, and what they cost."""

from __future__ import annotations

import errno
import os
import random
from typing import Any
from unittest import mock

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storages.mongo import chunks, draft
from tests.mongo.clients import CountingCase
from tests.mongo.databases import DatabaseCase
from tests.mongo.sessions import get, put
from tests.support.hard import IS_HARD

SEED = 20261126
STEPS = 400 if IS_HARD else 30
NAMES = ("a", "b", "d/c")
OPENINGS = (
    os.O_RDONLY,
    os.O_RDWR,
    os.O_WRONLY,
    os.O_RDWR | os.O_CREAT,
    os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    os.O_RDWR | os.O_APPEND,
)
GIB = 1 << 30


class Opened:
    """A handle, and what it may do."""

    def __init__(self, name: str, handle: Any, flags: int) -> None:
        self.name = name
        self.handle = handle
        self.writes = bool(flags & (os.O_WRONLY | os.O_RDWR))
        self.reads = not flags & os.O_WRONLY
        self.appends = bool(flags & os.O_APPEND)


class RandomSequences(DatabaseCase):
    """Of requests to a few files with tiny chunks, some of them made by another program.

    self.files: what this session sees of each. self.stored: what everybody sees.
    """

    def run_with(self, number: int, size: int, batch: int, most: int, copy: Any = draft.Draft._copy) -> None:
        with (
            mock.patch.multiple(draft, CHUNK_SIZE=size, BATCH=batch, MOST_IN_A_BATCH=most),
            mock.patch.multiple(chunks, AHEAD=3 * size, KEPT=4 * size + 4 * chunks.OVERHEAD),
            mock.patch.object(draft.Draft, "_copy", copy),
        ):
            self.rng = random.Random(number)
            self.storage = self.open_storage(bucket=f"b{number}")
            self.bucket = f"b{number}"
            self.other_gridfs = type(self.gridfs)(self.database, self.bucket)
            self.files: dict[str, bytearray] = {}
            self.stored: dict[str, bytes] = {}
            self.opened: list[Opened] = []
            self.storage.mkdir(b"/d", 0o755)
            steps = (
                self.open,
                self.open,
                self.write,
                self.write,
                self.write,
                self.read,
                self.read,
                self.resize,
            )
            steps += (self.close, self.close, self.fsync, self.setstat, self.foreign, self.remove)
            for step in range(STEPS):
                with self.subTest(seed=number, step=step):
                    self.rng.choice(steps)()
            while self.opened:
                self.close()
            self.check_all()

    def choose(self, wanted: str) -> Opened | None:
        there = [one for one in self.opened if getattr(one, wanted)]
        return self.rng.choice(there) if there else None

    def open(self) -> None:
        if len(self.opened) >= 6:
            return self.close()
        name, flags = self.rng.choice(NAMES), self.rng.choice(OPENINGS)
        if name not in self.files and not flags & os.O_CREAT:
            with self.assertRaises(FileNotFoundError):
                self.storage.open(b"/" + name.encode(), flags, 0o644)
            return None
        handle = self.storage.open(b"/" + name.encode(), flags, 0o644)
        content = self.files.setdefault(name, bytearray())
        if flags & os.O_TRUNC:
            content.clear()
        self.opened.append(Opened(name, handle, flags))
        return None

    def write(self) -> None:
        one = self.choose("writes")
        if one is None:
            return
        content = self.files[one.name]
        off = self.rng.randrange(len(content) + 30)
        data = self.rng.randbytes(self.rng.choice((1, 3, 16, 17, 64, 200)))
        self.storage.write(one.handle, off, data)
        if one.appends:
            off = len(content)
        content.extend(bytes(max(0, off - len(content))))
        content[off : off + len(data)] = data

    def read(self) -> None:
        one = self.choose("reads")
        if one is None:
            return
        content = self.files[one.name]
        off, size = self.rng.randrange(len(content) + 20), self.rng.choice((1, 5, 16, 100, 1000))
        self.assertEqual(self.storage.read(one.handle, off, size), content[off : off + size])
        self.assertEqual(self.storage.fstat(one.handle).size, len(content))

    def resize(self) -> None:
        one = self.choose("writes")
        if one is None:
            return
        content = self.files[one.name]
        size = self.rng.choice(
            (0, self.rng.randrange(len(content) + 1), len(content) + self.rng.randrange(99))
        )
        self.storage.fsetstat(one.handle, SFTPAttributes(size=size))
        self.cut(content, size)

    def setstat(self) -> None:
        if not self.files:
            return
        name = self.rng.choice(sorted(self.files))
        size = self.rng.randrange(150)
        self.storage.setstat(b"/" + name.encode(), SFTPAttributes(size=size))
        self.cut(self.files[name], size)
        self.assertEqual(self.storage.stat(b"/" + name.encode()).size, size)
        if not any(one.name == name for one in self.opened):
            self.check_stored(name)

    def cut(self, content: bytearray, size: int) -> None:
        del content[size:]
        content.extend(bytes(size - len(content)))

    def fsync(self) -> None:
        one = self.choose("writes")
        if one is not None:
            self.storage.fsync(one.handle)
            self.check_stored(one.name)

    def close(self) -> None:
        if not self.opened:
            return
        one = self.opened.pop(self.rng.randrange(len(self.opened)))
        self.storage.close(one.handle)
        if one.writes:
            self.check_stored(one.name)
        if not self.opened:
            self.check_all()

    def closed_name(self) -> str | None:
        free = [name for name in NAMES if not any(one.name == name for one in self.opened)]
        return self.rng.choice(free) if free else None

    def foreign(self) -> None:
        """Another program stores a file that is not open here."""
        name = self.closed_name()
        if name is not None:
            data = self.rng.randbytes(self.rng.randrange(120))
            if name in self.files:
                self.storage.rm(b"/" + name.encode())
            self.other_gridfs.put(data, filename=name, chunk_size=self.rng.choice((1, 3, 16, 100)))
            self.files[name] = bytearray(data)
            self.check_stored(name)

    def remove(self) -> None:
        name = self.closed_name()
        if name is not None and name in self.files and self.rng.random() < 0.5:
            self.storage.rm(b"/" + name.encode())
            del self.files[name]

    def check_stored(self, name: str) -> None:
        """What this session sees is what everybody sees, and chunks are as GridFS has them."""
        found = self.other_gridfs.get_last_version(name)
        self.assertEqual(found.read(), self.files[name])
        there = self.database[f"{self.bucket}.chunks"].find({"files_id": found._id}).sort("n", 1)
        size, length = found.chunk_size, len(self.files[name])
        wanted = [(n, min(size, length - n * size)) for n in range(-(-length // size))]
        self.assertEqual([(chunk["n"], len(chunk["data"])) for chunk in there], wanted)

    def check_all(self) -> None:
        """Nothing is open: there are those files, and not a chunk but theirs."""
        self.assertEqual(sorted(self.other_gridfs.list()), sorted(self.files))
        for name in self.files:
            self.check_stored(name)
            self.assertEqual(get(self.storage, b"/" + name.encode(), 33), self.files[name])
        owners = self.database[f"{self.bucket}.files"].distinct("_id")
        self.assertEqual(len(owners), len(self.files))
        strays = self.database[f"{self.bucket}.chunks"].count_documents({"files_id": {"$nin": owners}})
        self.assertEqual(strays, 0)

    def test_agree_with_a_model(self) -> None:
        self.run_with(SEED, 16, 64, 3)

    def test_agree_with_a_model_whatever_size_batches_have(self) -> None:
        self.run_with(SEED + 1, 7, 1, 1)
        self.run_with(SEED + 2, 100, 1 << 20, 512)

    def test_agree_with_a_model_where_the_server_does_not_copy(self) -> None:
        self.run_with(SEED + 3, 16, 64, 3, draft.Draft._copy_through_here)


class Holes(DatabaseCase):
    def setUp(self) -> None:
        super().setUp()
        self.storage = self.open_storage()

    def test_are_zeros_in_every_session(self) -> None:
        handle = self.storage.open(b"/f", os.O_RDWR | os.O_CREAT, 0o644)
        self.storage.write(handle, 1_000_000, b"end")
        self.storage.write(handle, 300_000, b"middle")
        self.assertEqual(self.storage.read(handle, 299_998, 9), b"\0\0middle\0")
        self.storage.close(handle)
        wanted = bytes(300_000) + b"middle" + bytes(699_994) + b"end"
        self.assertEqual(self.gridfs.get_last_version("f").read(), wanted)
        self.storage.setstat(b"/f", SFTPAttributes(size=1_500_000))
        self.assertEqual(self.gridfs.get_last_version("f").read(), wanted + bytes(499_997))

    def test_that_are_huge_are_refused(self) -> None:
        handle = self.storage.open(b"/f", os.O_RDWR | os.O_CREAT, 0o644)
        self.storage.write(handle, 0, b"data")
        for size in (17 * GIB, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1):
            with self.subTest(size=size), self.assertRaises(OSError) as raised:
                self.storage.fsetstat(handle, SFTPAttributes(size=size))
            self.assertEqual(raised.exception.errno, errno.EFBIG)
        self.storage.close(handle)
        with self.assertRaises(OSError) as raised:
            self.storage.setstat(b"/f", SFTPAttributes(size=1 << 50))
        self.assertEqual(raised.exception.errno, errno.EFBIG)
        self.assertEqual((get(self.storage, b"/f"), self.chunk_count()), (b"data", 1))

    def test_that_are_huge_are_refused_to_a_write_and_nothing_is_stored_then(self) -> None:
        put(self.storage, b"/f", b"data")
        for off in (17 * GIB, 1 << 62, (1 << 63) - 1):
            with self.subTest(off=off):
                handle = self.storage.open(b"/f", os.O_RDWR, 0)
                self.storage.write(handle, 0, b"DATA")
                with self.assertRaises(OSError) as raised:
                    self.storage.write(handle, off, b"x")
                self.assertEqual(raised.exception.errno, errno.EFBIG)
                with self.assertRaises(SFTPFailure):
                    self.storage.close(handle)
        self.assertEqual((get(self.storage, b"/f"), self.chunk_count()), (b"data", 1))


class Reading(CountingCase):
    def setUp(self) -> None:
        super().setUp()
        self.storage = self.open_storage()
        self.data = random.Random(SEED).randbytes(8 << 20)
        self.gridfs.put(self.data, filename="f")
        self.handle = self.storage.open(b"/f", os.O_RDONLY, 0)
        self.addCleanup(self.storage.close, self.handle)
        self.counter.reset()

    def read(self, off: int, size: int) -> int:
        """Read a part, compare it; how many times that has asked for chunks."""
        before = self.counter.count("find", "fs.chunks")
        self.assertEqual(self.storage.read(self.handle, off, size), self.data[off : off + size])
        return self.counter.count("find", "fs.chunks") - before

    def test_here_and_there_fetches_one_chunk_for_a_read_and_none_twice(self) -> None:
        rng = random.Random(SEED)
        numbers = list(range(29, 0, -2))
        for number in numbers:
            off = number * 261120 + rng.randrange(261120 - 4096)
            self.assertEqual(self.read(off, 4096), 1)
        self.assertEqual(self.counter.documents, len(numbers))
        for number in numbers:
            off = number * 261120 + rng.randrange(261120 - 4096)
            self.assertEqual(self.read(off, 4096), 0)
        self.assertEqual({name for name, _ in self.counter.commands}, {"find"})

    def test_across_two_chunks_fetches_both_at_once(self) -> None:
        self.assertEqual(self.read(20 * 261120 - 100, 4096), 1)
        self.assertEqual(self.counter.documents, 2)

    def test_in_order_fetches_ahead_in_batches_and_each_chunk_once(self) -> None:
        for off in range(0, len(self.data), 32768):
            self.read(off, 32768)
        self.assertEqual(self.counter.documents, -(-len(self.data) // 261120))
        self.assertLessEqual(self.counter.count("find", "fs.chunks"), 10)

    def test_in_order_of_tiny_chunks_fetches_many_at_once(self) -> None:
        data = self.data[:800]
        self.gridfs.put(data, filename="g", chunk_size=1)
        self.counter.reset()
        self.assertEqual(get(self.storage, b"/g", 800), data)
        self.assertEqual(self.counter.documents, 800 + 1)  # with the file's own
        self.assertLessEqual(self.counter.count("find", "fs.chunks"), 800 // chunks.MOST_AT_ONCE + 12)

    def test_keeps_fewer_chunks_the_more_that_is_kept_takes(self) -> None:
        self.gridfs.put(self.data[:2000], filename="g", chunk_size=1)
        with mock.patch.object(chunks, "KEPT", 700 * chunks.OVERHEAD):
            handle = self.storage.open(b"/g", os.O_RDONLY, 0)
            self.addCleanup(self.storage.close, handle)
            self.assertEqual(self.storage.read(handle, 0, 2000), self.data[:2000])
            for off, times in ((1980, 0), (0, 1)):
                self.counter.reset()
                self.assertEqual(self.storage.read(handle, off, 1), self.data[off : off + 1])
                self.assertEqual(self.counter.count("find", "fs.chunks"), times, off)
