"""Listings of the storage on GridFS: what is in them, what they cost, and that a simple model agrees."""

from __future__ import annotations

import datetime
import os
import random
import subprocess
import sys
import unittest
import uuid
from typing import Any
from unittest import mock

import pymongo

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.mongostorage import SFTPServerMongoStorage
from pysftpserver.storages.mongo import listing
from pysftpserver.storages.mongo.names import to_text
from tests.mongo.clients import CountingCase, names
from tests.mongo.databases import DatabaseCase, uri
from tests.mongo.sessions import put
from tests.support.hard import IS_HARD
from tests.support.paths import ROOT

SEED = 20261125
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
SUBS = [b"sub", b"sub-x", b"sub.d", b"sub0", b"sub!", b"sub\x7f", b"su", b"sub ", b"sub\xc3\xa9", b"sub\xff"]
OTHERS = [b"a", b"A", b"\xf0\x9f\x98\x80", b"\xef\xbf\xbf", b"\xee\x80\x80", b"\xef\x82\x80", b"\x80", b"zz"]
NAMES = SUBS + OTHERS
FILE, DIRECTORY, LINK = "-", "d", "l"
TYPES = {0o100000: FILE, 0o040000: DIRECTORY, 0o120000: LINK}

Tree = dict[bytes, Any]  # a directory's entries: dictionaries, sizes of files, texts of links


def kind_of(attrs: SFTPAttributes) -> str:
    return TYPES[(attrs.permissions or 0) & 0o170000]


def document(filename: str, size: int = 0) -> dict[str, Any]:
    """A file's; its content does not matter here."""
    return {
        "filename": filename,
        "length": size,
        "chunkSize": 261120,
        "uploadDate": NOW,
        "metadata": {"k": 1},
    }


class RandomTrees(DatabaseCase):
    """Built half over SFTP and half by another program."""

    def test_are_listed_as_they_are(self) -> None:
        for number in range(SEED, SEED + (4 if IS_HARD else 2)):
            with self.subTest(seed=number):
                rng = random.Random(number)
                prefix = rng.choice(("", "top", "sub/sub-x"))
                storage = self.open_storage(bucket=f"b{number}", prefix=prefix)
                tree = self.build(storage, rng, f"b{number}", f"{prefix}/" if prefix else "")
                self.compare(storage, tree, b"")
                self.assertEqual(storage.remarks(), [])

    def build(self, storage: SFTPServerMongoStorage, rng: random.Random, bucket: str, top: str) -> Tree:
        tree: Tree = {}
        foreign = []
        for step in range(100 if IS_HARD else 12):
            path, directory = b"", tree
            while rng.random() < 0.7:
                name = rng.choice(NAMES)
                if not isinstance(directory.setdefault(name, {}), dict):
                    break
                path, directory = path + b"/" + name, directory[name]
                if rng.random() < 0.5:
                    self.make(storage, path)
            name = rng.choice(NAMES)
            if name in directory and not isinstance(directory[name], int):
                continue
            path += b"/" + name
            if rng.random() < 0.15 and name not in directory:
                self.make(storage, path.rpartition(b"/")[0])
                storage.symlink(path, b"x" * rng.randrange(1, 9))
                directory[name] = storage.readlink(path)
            elif rng.random() < 0.3:
                self.make(storage, path.rpartition(b"/")[0])
                foreign = [doc for doc in foreign if doc["filename"] != top + to_text(path[1:])]
                put(storage, path, b"x" * 7)
                directory[name] = 7
            else:
                size = rng.randrange(1 << 40)
                doc = document(top + to_text(path[1:]), size)
                doc["uploadDate"] = datetime.datetime(2100, 1, 1) + datetime.timedelta(seconds=step)
                foreign.append(doc)
                directory[name] = size
        rng.shuffle(foreign)
        if foreign:
            self.database[f"{bucket}.files"].insert_many(foreign)
        self.drop_empty(storage, tree, b"")
        return tree

    def make(self, storage: SFTPServerMongoStorage, path: bytes) -> None:
        """A directory and those above it."""
        parts = path.split(b"/")
        for count in range(2, len(parts) + 1):
            try:
                storage.mkdir(b"/".join(parts[:count]), 0o755)
            except FileExistsError:
                pass

    def drop_empty(self, storage: SFTPServerMongoStorage, tree: Tree, path: bytes) -> None:
        """Directories of the model that neither a file nor a client has brought about."""
        for name, entry in list(tree.items()):
            if isinstance(entry, dict):
                self.drop_empty(storage, entry, path + b"/" + name)
                if not entry and not self.is_made(storage, path + b"/" + name):
                    del tree[name]

    def is_made(self, storage: SFTPServerMongoStorage, path: bytes) -> bool:
        full = f"{storage._top}/{to_text(path[1:])}".lstrip("/")
        return storage.bucket.nodes.count_documents({"path": full}) > 0

    def compare(self, storage: SFTPServerMongoStorage, tree: Tree, path: bytes) -> None:
        listed = dict[bytes, SFTPAttributes]()
        for name, attrs in storage.opendir(path or b"/"):
            self.assertNotIn(name, listed, path)
            listed[name] = attrs
        self.assertEqual(listed.pop(b".").permissions, storage.stat(path + b"/.").permissions)
        self.assertEqual(kind_of(listed.pop(b"..")), DIRECTORY)
        self.assertEqual(sorted(listed), sorted(tree), path)
        for name, entry in tree.items():
            there = path + b"/" + name
            self.assertEqual(listed[name], storage.lstat(there), there)
            if isinstance(entry, dict):
                self.assertEqual(kind_of(listed[name]), DIRECTORY, there)
                self.compare(storage, entry, there)
            elif isinstance(entry, int):
                self.assertEqual((kind_of(listed[name]), listed[name].size), (FILE, entry), there)
            else:
                self.assertEqual((kind_of(listed[name]), storage.readlink(there)), (LINK, entry), there)


def setUpModule() -> None:
    """A batch is a tenth of what it is in sessions, so that tenths of the names show the same."""
    patched = mock.patch.object(listing, "BATCH", listing.BATCH // 10)
    patched.start()
    unittest.addModuleCleanup(patched.stop)


class ADirectoryWhileItIsListed(DatabaseCase):
    def setUp(self) -> None:
        super().setUp()
        self.storage = self.open_storage()
        self.files = self.database["fs.files"]

    def test_shows_each_name_that_stays_exactly_once(self) -> None:
        staying = {f"d/{number:05d}" for number in range(0, 220, 2)}
        self.files.insert_many([document(f"d/{number:05d}") for number in range(220)])
        seen = []
        for count, (name, _) in enumerate(self.storage.opendir(b"/d")):
            seen.append(name.decode())
            if count % 50 == 10:
                self.files.delete_many({"filename": {"$in": [f"d/{n:05d}" for n in range(1, count + 90, 2)]}})
                self.files.insert_one(document(f"d/{count:05d}/in/a/directory"))
                put(self.storage, b"/d/new%d" % count, b"1")
                self.storage.mkdir(b"/d/newer%d" % count, 0o755)
        self.assertEqual(len(seen), len(set(seen)))
        self.assertLessEqual({name.removeprefix("d/") for name in staying}, set(seen))

    def test_may_go_altogether(self) -> None:
        self.files.insert_many([document(f"d/{number:05d}") for number in range(150)])
        entries = self.storage.opendir(b"/d")
        first = [next(entries)[0] for _ in range(10)]
        self.files.delete_many({})
        rest = [name for name, _ in entries]
        self.assertEqual(len(first + rest), len(set(first + rest)))

    def test_may_be_left_at_any_time(self) -> None:
        self.files.insert_many([document(f"d/{number:05d}") for number in range(150)])
        entries: Any = self.storage.opendir(b"/d")
        for _ in range(110):
            next(entries)
        entries.close()
        self.assertEqual(len(names(self.storage, b"/d")), 150)


class RevisionsInAListing(CountingCase):
    def test_are_one_name_with_the_newest_ones_size_wherever_a_batch_ends(self) -> None:
        storage = self.open_storage()
        rng = random.Random(SEED)
        wanted: dict[bytes, int | None] = {b"a": None, b"a0": None}
        docs = [document("d/a/x"), document("d/a0/x")]
        for number in range(40):
            count = rng.choice((1, 1, 2, 30))
            wanted[b"f%02d" % number] = count
            for size in range(1, count + 1):
                doc = document(f"d/f{number:02d}", size)
                doc["uploadDate"] += datetime.timedelta(seconds=size)
                docs.append(doc)
        for size in range(1, 151):
            docs.append(document("d/many", size))
            docs[-1]["uploadDate"] += datetime.timedelta(seconds=size)
        wanted[b"many"] = 150
        rng.shuffle(docs)
        self.database["fs.files"].insert_many(docs)
        found = {
            name: attrs.size if kind_of(attrs) == FILE else None for name, attrs in storage.opendir(b"/d")
        }
        self.assertEqual(found, {b".": None, b"..": None, **wanted}, f"seed {SEED}")


class ListingsCostWhatIsInThem(CountingCase):
    """Two buckets: one with a few directories, and one with the same and 1,900 files beside and below."""

    db_filled = ""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.db_filled = f"pysftpserver_{uuid.uuid4().hex[:16]}"
        client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(uri())
        cls.addClassCleanup(client.close)
        cls.addClassCleanup(client.drop_database, cls.db_filled)
        few = [f"d/{number:04d}" for number in range(100)]
        few += [f"s/sub{number:02d}/f" for number in range(50)]
        few += [f"s/{letter}{number:03d}" for number in range(50) for letter in "0x"]
        few += ["t/a/f", *(f"t/f{number:04d}" for number in range(400))]
        beside = ("c/{}", "d-/{}", "d.{}", "d0/{}", "e/f/{}", "d!{}", "D/{}", "{}")
        many = [beside[number % len(beside)].format(number) for number in range(400)]
        many += [f"s/sub{number % 50:02d}/in/{number}" for number in range(1500)]
        for bucket, filenames in (("few", few), ("fs", few + many)):
            storage = SFTPServerMongoStorage.from_uri(uri(), cls.db_filled, bucket=bucket)
            cls.addClassCleanup(storage.close_client)
            storage.prepare()
            files = client[cls.db_filled][f"{bucket}.files"]
            files.insert_many([document(name) for name in filenames])
            for number in range(25):  # half of them get documents of their own
                path = b"/s/sub%02d" % (2 * number)
                storage.setstat(path, SFTPAttributes(permissions=0o700))

    def setUp(self) -> None:
        super().setUp()
        self.db_name = self.db_filled
        self.few, self.full = self.open_storage(bucket="few"), self.open_storage()

    def cost(self, storage: SFTPServerMongoStorage, path: bytes, count: int) -> tuple[int, int]:
        """Commands and documents for a listing of so many names."""
        self.counter.reset()
        self.assertEqual(len(names(storage, path)), count)
        return len(self.counter.commands), self.counter.documents

    def test_whatever_else_is_in_the_bucket(self) -> None:
        commands, documents = self.cost(self.full, b"/d", 100)
        self.assertEqual((commands, documents), self.cost(self.few, b"/d", 100))
        self.assertLessEqual(commands, 12)
        self.assertLessEqual(documents, 103)

    def test_whatever_is_in_its_subdirectories(self) -> None:
        small = self.cost(self.few, b"/s", 150)
        commands, documents = self.cost(self.full, b"/s", 150)
        self.assertLessEqual(commands, small[0] + 60)
        # At most a batch too many at first, and then a few behind each of them.
        self.assertLessEqual(documents, 150 + listing.BATCH + 50 * (listing.NEAR + 1) + 100)

    def test_whatever_is_next_to_it_in_a_directory_without_a_document(self) -> None:
        self.counter.reset()
        self.assertEqual(len(names(self.full, b"/e/f")), 50)
        self.full.stat(b"/e/f/4")
        with self.assertRaises(FileNotFoundError):
            self.full.stat(b"/e/f/none")
        self.assertLessEqual(set(self.counter.ranges), {"e/f/", "e/f/none/"})
        self.assertIn("e/f/", self.counter.ranges)

    def test_in_round_trips_too_where_a_subdirectory_comes_before_many_files(self) -> None:
        commands, documents = self.cost(self.full, b"/t", 401)
        self.assertLessEqual(commands, 16)
        self.assertLessEqual(documents, 401 + listing.BATCH + 100)

    def test_and_memory_for_a_batch(self) -> None:
        files = self.other[self.db_name]["fs.files"]
        files.insert_many([document(f"small/{number:05d}") for number in range(1000)])
        files.insert_many([document(f"large/{number:05d}") for number in range(2500)])
        ran = subprocess.run(
            [sys.executable, "-c", LISTS, uri(), self.db_name],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
            text=True,
        )
        small, large, count = map(int, ran.stdout.split())
        self.assertEqual(count, 2502)
        self.assertLess(large - small, 1024, "KiB resident")


LISTS = """
import sys
from pysftpserver.mongostorage import SFTPServerMongoStorage
storage = SFTPServerMongoStorage.from_uri(*sys.argv[1:])
peaks = []
for path in (b"/small", b"/large"):
    count = sum(1 for _ in storage.opendir(path))
    peaks.append(int(open("/proc/self/status").read().partition("VmHWM:")[2].split()[0]))
print(*peaks, count)
"""
