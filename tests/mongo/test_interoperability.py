"""The storage and other programs that use the same bucket through GridFS: content and revisions."""

from __future__ import annotations

import datetime
import hashlib
import os
import random
from typing import Any

import gridfs
from bson import Binary, Decimal128, Int64, ObjectId
from bson.datetime_ms import DatetimeMS
from pymongo.errors import OperationFailure

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.storages.mongo import bucket as buckets
from pysftpserver.storages.mongo import revisions
from tests.mongo.clients import names
from tests.mongo.databases import DatabaseCase
from tests.mongo.sessions import get, put

SEED = 20261124
FAR = datetime.datetime(9999, 12, 30, tzinfo=datetime.UTC)
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


class ProgramsCase(DatabaseCase):
    def setUp(self) -> None:
        super().setUp()
        self.storage = self.open_storage()
        self.files = self.database["fs.files"]

    def foreign(self, filename: object, data: bytes = b"data", **fields: Any) -> Any:
        """A file of one chunk, as no driver would store it; its _id."""
        doc = {"length": len(data), "chunkSize": 1000, "uploadDate": NOW, "filename": filename, **fields}
        identity = self.files.insert_one(doc).inserted_id
        self.database["fs.chunks"].insert_one({"files_id": identity, "n": 0, "data": Binary(data)})
        return identity

    def document(self, filename: str) -> dict[str, Any]:
        """The only one of that name."""
        (doc,) = self.files.find({"filename": filename})
        return doc

    def assert_no_stray_chunks(self) -> None:
        owners = self.files.distinct("_id")
        self.assertEqual(self.database["fs.chunks"].count_documents({"files_id": {"$nin": owners}}), 0)


class AFileOfAnotherProgram(ProgramsCase):
    def test_is_there_at_once_whatever_size_its_chunks_have(self) -> None:
        rng = random.Random(SEED)
        for size, length in ((1, 700), (1000, 12345), (1 << 20, 3 << 20), (261120, 261120), (1000, 1000)):
            with self.subTest(chunk_size=size, seed=SEED):
                data = rng.randbytes(length)
                self.gridfs.put(data, filename="d/f", chunk_size=size)
                self.assertEqual(self.storage.stat(b"/d/f").size, length)
                self.assertEqual(get(self.storage, b"/d/f"), data)
                self.assertEqual(get(self.storage, b"/d/f", 777 if size > 1 else 50), data)
                self.storage.rm(b"/d/f")
                self.assertEqual(self.chunk_count(), 0)

    def test_goes_on_in_chunks_of_its_own_size_when_a_part_is_written(self) -> None:
        for size in (7, 1000, 1 << 20):
            with self.subTest(chunk_size=size):
                self.gridfs.put(b"0123456789" * 5, filename="f", chunk_size=size)
                handle = self.storage.open(b"/f", os.O_RDWR, 0)
                self.storage.write(handle, 48, b"abcd")
                self.storage.write(handle, 3, b"X")
                self.storage.close(handle)
                wanted = b"012X456789" + b"0123456789" * 3 + b"01234567abcd"
                self.assertEqual(self.gridfs.get_last_version("f").read(), wanted)
                self.assertEqual(self.document("f")["chunkSize"], size)
                self.assert_no_stray_chunks()
                self.storage.rm(b"/f")

    def test_may_have_numbers_of_any_type(self) -> None:
        for length in (4, 4.0, Int64(4)):
            for size in (1000, 1000.0, Int64(1000), 4.0, 1 << 40):
                with self.subTest(length=length, chunk_size=size):
                    self.foreign("f", length=length, chunkSize=size)
                    self.assertEqual(self.storage.stat(b"/f").size, 4)
                    self.assertEqual(get(self.storage, b"/f"), b"data")
                    handle = self.storage.open(b"/f", os.O_WRONLY | os.O_APPEND, 0)
                    self.storage.write(handle, 0, b" and more")
                    self.storage.close(handle)
                    self.assertEqual(self.gridfs.get_last_version("f").read(), b"data and more")
                    self.storage.rm(b"/f")
                    self.assertEqual(self.chunk_count(), 0)

    def test_may_be_in_one_chunk_that_cannot_grow_to_its_size(self) -> None:
        self.foreign("f", chunkSize=1 << 30)
        handle = self.storage.open(b"/f", os.O_RDWR, 0)
        data = b"0123456789abcdef" * (1 << 16)
        for number in range(17):
            self.storage.write(handle, 2 + number * len(data), data)
        self.assertEqual(self.storage.read(handle, 0, 6), b"da0123")
        self.storage.close(handle)
        self.assertEqual(self.gridfs.get_last_version("f").read(), b"da" + data * 17)
        self.assert_no_stray_chunks()

    def test_may_have_any_id(self) -> None:
        for identity in (
            "text",
            7,
            7.5,
            Int64(1 << 40),
            {"a": 1, "b": [2]},
            Binary(b"x", 4),
            Decimal128("1"),
            NOW,
        ):
            with self.subTest(identity=identity):
                data = bytes(range(256)) * 20
                self.gridfs.put(data, filename="f", _id=identity, chunk_size=1000)
                self.assertEqual(get(self.storage, b"/f", 600), data)
                self.storage.rename(b"/f", b"/g")
                handle = self.storage.open(b"/g", os.O_RDWR, 0)
                self.storage.write(handle, 10, b"abc")
                self.assertEqual(self.storage.read(handle, 9, 5), b"\x09abc\x0d")
                self.storage.close(handle)
                self.assertEqual(get(self.storage, b"/g"), data[:10] + b"abc" + data[13:])
                self.assert_no_stray_chunks()
                self.storage.rm(b"/g")
                self.assertEqual(self.chunk_count(), 0)

    def test_may_have_any_metadata_or_none(self) -> None:
        odd = {"permissions": "rw", "uid": -1, "gid": 1 << 40, "mtime": "noon", "atime": 5, "revision": "r"}
        for known in (
            None,
            "text",
            [1, {"a": 2}],
            7,
            {},
            odd,
            {"uid": 1},
            {"revision": 1.0, "permissions": None},
        ):
            with self.subTest(metadata=known):
                self.foreign("f", metadata=known)
                attrs = self.storage.stat(b"/f")
                self.assertEqual((attrs.permissions, attrs.mtime), (0o100644, int(NOW.timestamp())))
                self.storage.setstat(b"/f", SFTPAttributes(permissions=0o600, atime=1, mtime=2))
                attrs = self.storage.stat(b"/f")
                self.assertEqual((attrs.permissions, attrs.mtime), (0o100600, 2))
                self.storage.rename(b"/f", b"/g")
                put(self.storage, b"/g", b"new")
                kept = self.document("g")["metadata"]
                self.assertEqual(kept["permissions"], 0o600)
                if known is not None and not isinstance(known, dict):
                    self.assertEqual(kept["value"], known)
                self.storage.rm(b"/g")

    def test_keeps_metadata_that_is_not_a_document_when_it_is_replaced_or_renamed_onto_another(self) -> None:
        for known in ("text", [1, 2], 7):
            with self.subTest(metadata=known):
                self.foreign("f", metadata=known)
                put(self.storage, b"/f", b"new")
                self.assertEqual(self.document("f")["metadata"]["value"], known)
                self.foreign("g", metadata=known)
                self.storage.rename(b"/g", b"/f", replace=True)
                self.assertEqual(self.document("f")["metadata"]["value"], known)
                self.storage.rm(b"/f")

    def test_may_have_lengths_that_are_none_and_breaks_no_listing(self) -> None:
        lengths = (float("nan"), float("inf"), 1e300, -5, "4", None, [4], Int64((1 << 63) - 1))
        for number, length in enumerate(lengths):
            self.foreign(f"f{number}", length=length, chunkSize=length)
        sizes = [attrs.size for name, attrs in self.storage.opendir(b"/") if name not in (b".", b"..")]
        most = (1 << 63) - 1
        self.assertEqual(sizes, [0, 0, most, 0, 0, 0, 0, most])
        for number in range(len(lengths)):
            put(self.storage, b"/f%d" % number, b"mended")
            self.assertEqual(get(self.storage, b"/f%d" % number), b"mended")

    def test_may_be_empty(self) -> None:
        self.gridfs.put(b"", filename="empty")
        self.foreign("none", b"", chunkSize=0)
        for path in (b"/empty", b"/none"):
            self.assertEqual(get(self.storage, path), b"")
            handle = self.storage.open(path, os.O_WRONLY, 0)
            self.storage.write(handle, 2, b"x")
            self.storage.close(handle)
            self.assertEqual(self.gridfs.get_last_version(path[1:].decode()).read(), b"\0\0x")

    def test_that_lacks_a_part_is_not_read_as_if_it_were_whole(self) -> None:
        identity = self.gridfs.put(b"x" * 5000, filename="f", chunk_size=1000)
        self.database["fs.chunks"].delete_one({"files_id": identity, "n": 3})
        handle = self.storage.open(b"/f", os.O_RDONLY, 0)
        self.addCleanup(self.storage.close, handle)
        self.assertEqual(self.storage.read(handle, 0, 2000), b"x" * 2000)
        with self.assertRaisesRegex(Exception, "damaged"):
            self.storage.read(handle, 3000, 1000)

    def test_may_be_of_any_date(self) -> None:
        for moment in (FAR, datetime.datetime(1, 1, 1), datetime.datetime(1969, 1, 1), None, "noon", 7):
            with self.subTest(moment=moment):
                self.foreign("d/f", uploadDate=moment)
                for path in (b"/d", b"/d/f"):
                    self.assertIn(self.storage.stat(path).mtime, range(1 << 32))
                put(self.storage, b"/d/f", b"new")
                self.assertEqual(get(self.storage, b"/d/f"), b"new")
                self.assertEqual(self.document("d/f")["length"], 3)
                self.foreign("g", uploadDate=moment)
                self.storage.rename(b"/d/f", b"/g", replace=True)
                self.assertEqual(get(self.storage, b"/g"), b"new")
                self.storage.rm(b"/g")

    def test_may_have_no_date_at_all(self) -> None:
        self.files.update_one({"_id": self.foreign("f")}, {"$unset": {"uploadDate": ""}})
        self.assertEqual(self.storage.stat(b"/f").mtime, 0)
        put(self.storage, b"/f", b"new")
        self.assertEqual(self.document("f")["length"], 3)


class DatesOutOfPythonsRange(ProgramsCase):
    """Not every server that tests run on takes them, so these begin where the driver hands them over."""

    def test_count_as_what_they_are(self) -> None:
        far, before = DatetimeMS(10**15), DatetimeMS(-(10**15))
        self.assertEqual(buckets.uploaded({"uploadDate": far}), 10**15)
        self.assertEqual(buckets.seconds(far, None), (1 << 32) - 1)
        self.assertEqual(buckets.seconds(before, None), 0)
        self.assertLess(buckets.uploaded({"uploadDate": before}), buckets.uploaded({"uploadDate": NOW}))
        self.assertLess(buckets.uploaded({"uploadDate": NOW}), buckets.uploaded({"uploadDate": far}))

    def test_are_passed_by_what_replaces_them_and_kept_as_they_are(self) -> None:
        far = DatetimeMS(10**15)
        there = {"uploadDate": far, "metadata": {"until": far}}
        new = revisions._document("f", {"_id": 1, "length": 1, "chunkSize": 1}, {"revision": 1}, there)
        self.assertEqual(new["uploadDate"], DatetimeMS(10**15 + 1))
        self.assertEqual(new["metadata"], {"until": far, "revision": 1})

    def test_cause_no_errors_and_stay_unchanged_in_what_others_store(self) -> None:
        try:
            self.foreign("f", uploadDate=DatetimeMS(10**15), metadata={"until": DatetimeMS(10**15 + 1)})
        except OperationFailure:
            self.skipTest("this server takes no such dates")
        put(self.storage, b"/f", b"new")
        self.assertEqual(get(self.storage, b"/f"), b"new")
        self.assertEqual(self.storage.bucket.revisions("f")[0]["metadata"]["until"], DatetimeMS(10**15 + 1))
        self.assertEqual(self.files.count_documents({}), 1)
        put(self.storage, b"/g", b"newer")
        self.storage.rename(b"/g", b"/f", replace=True)
        self.assertEqual(get(self.storage, b"/f"), b"newer")


class AFileOverSFTP(ProgramsCase):
    def test_reads_back_through_gridfs_byte_for_byte(self) -> None:
        rng = random.Random(SEED)
        self.storage.mkdir(b"/a", 0o755)
        for length in (0, 1, 261119, 261120, 261121, 3 << 20):
            with self.subTest(length=length, seed=SEED):
                data = rng.randbytes(length)
                put(self.storage, b"/a/b", data)
                found = self.gridfs.get_last_version("a/b")
                self.assertEqual((found.read(), found.length), (data, length))

    def test_is_a_file_as_the_specification_has_it(self) -> None:
        put(self.storage, b"/f", b"x" * 300000)
        doc = self.document("f")
        self.assertEqual(set(doc), {"_id", "length", "chunkSize", "uploadDate", "filename", "metadata"})
        self.assertEqual((doc["length"], doc["chunkSize"]), (300000, 261120))
        self.assertIsInstance(doc["_id"], ObjectId)
        self.assertLess(abs(doc["uploadDate"] - datetime.datetime.now(datetime.UTC)).total_seconds(), 600)
        chunks = list(self.database["fs.chunks"].find().sort("n", 1))
        self.assertEqual([set(chunk) for chunk in chunks], [{"_id", "files_id", "n", "data"}] * 2)
        self.assertEqual([(c["n"], len(c["data"])) for c in chunks], [(0, 261120), (1, 38880)])
        self.storage.setstat(b"/f", SFTPAttributes(permissions=0o600, uid=1, gid=2, atime=3, mtime=4))
        self.assertEqual(set(self.document("f")), set(doc))

    def test_the_md5_of_another_program_is_the_checksum_until_the_file_is_replaced(self) -> None:
        md5 = hashlib.md5(b"old")
        self.gridfs.put(b"old", filename="f", md5=md5.hexdigest())
        self.gridfs.put(b"old", filename="g", md5="what is that")
        self.assertEqual(self.storage.checksum(b"/f", "md5"), md5.digest())
        self.assertIsNone(self.storage.checksum(b"/f", "sha1"))
        self.assertIsNone(self.storage.checksum(b"/g", "md5"))
        self.assertIsNone(self.storage.checksum(b"/", "md5"))
        handle = self.storage.open(b"/f", os.O_WRONLY, 0)
        self.storage.write(handle, 0, b"new")
        self.assertIsNone(self.storage.checksum(b"/f", "md5"))
        self.storage.close(handle)
        self.assertIsNone(self.storage.checksum(b"/f", "md5"))

    def test_keeps_what_other_programs_have_in_its_document_but_the_old_contents_md5(self) -> None:
        self.gridfs.put(
            b"old",
            filename="f",
            contentType="text/plain",
            aliases=["g"],
            metadata={"owner": {"id": 7}, "permissions": 0o600},
            md5="9cd599a3523898e6a12e13ec787da50a",
            tenant="x",
        )
        put(self.storage, b"/f", b"new")
        doc = self.document("f")
        self.assertNotIn("md5", doc)
        self.assertEqual((doc["contentType"], doc["aliases"], doc["tenant"]), ("text/plain", ["g"], "x"))
        self.assertEqual((doc["metadata"]["owner"], doc["metadata"]["permissions"]), ({"id": 7}, 0o600))
        self.storage.setstat(b"/f", SFTPAttributes(size=1, permissions=0o640))
        doc = self.document("f")
        self.assertEqual((doc["contentType"], doc["length"]), ("text/plain", 1))
        self.assertEqual((doc["metadata"]["owner"], doc["metadata"]["permissions"]), ({"id": 7}, 0o640))

    def test_is_gone_at_once_when_another_program_deletes_it(self) -> None:
        put(self.storage, b"/f", b"data")
        self.gridfs.delete(self.document("f")["_id"])
        self.assertEqual(names(self.storage), [])
        with self.assertRaises(FileNotFoundError):
            self.storage.stat(b"/f")
        with self.assertRaises(FileNotFoundError):
            self.storage.open(b"/f", os.O_RDONLY, 0)

    def test_is_all_that_gridfs_lists_next_to_directories_and_links(self) -> None:
        self.storage.mkdir(b"/d", 0o755)
        self.storage.mkdir(b"/d/e", 0o755)
        self.storage.symlink(b"/d/link", b"f")
        put(self.storage, b"/d/f", b"1")
        put(self.storage, b"/g", b"2")
        self.assertEqual(sorted(self.gridfs.list()), ["d/f", "g"])
        self.assertEqual(len(list(gridfs.GridFSBucket(self.database).find({}))), 2)
        self.assertEqual(names(self.storage, b"/d"), [b"e", b"f", b"link"])


class Revisions(ProgramsCase):
    def three(self, name: str = "f") -> None:
        for data in (b"one", b"two!", b"three"):
            self.gridfs.put(data, filename=name)
            # Their dates are of milliseconds; of two of the same nobody knows which is newer.
            self.files.update_many(
                {"filename": name}, [{"$set": {"uploadDate": {"$subtract": ["$uploadDate", 9]}}}]
            )

    def test_of_other_programs_are_one_file_the_newest(self) -> None:
        self.three()
        self.assertEqual(names(self.storage), [b"f"])
        self.assertEqual(get(self.storage, b"/f"), b"three")
        self.assertEqual([a.size for n, a in self.storage.opendir(b"/") if n == b"f"], [5])
        self.storage.setstat(b"/f", SFTPAttributes(permissions=0o600))
        self.assertEqual(get(self.storage, b"/f"), b"three")

    def test_all_go_when_the_file_is_removed(self) -> None:
        self.three()
        self.storage.rm(b"/f")
        self.assertEqual((self.files.count_documents({}), self.chunk_count()), (0, 0))

    def test_all_move_when_the_file_is_renamed(self) -> None:
        self.three()
        self.storage.rename(b"/f", b"/g")
        self.assertEqual(names(self.storage), [b"g"])
        self.assertEqual(
            [self.gridfs.get_version("g", n).read() for n in range(3)], [b"one", b"two!", b"three"]
        )
        self.assertFalse(self.gridfs.exists(filename="f"))

    def test_older_ones_go_when_the_file_is_replaced(self) -> None:
        self.three()
        put(self.storage, b"/f", b"four")
        self.assertEqual((self.files.count_documents({}), self.chunk_count()), (1, 1))
        self.assertEqual(self.gridfs.get_last_version("f").read(), b"four")

    def test_older_ones_stay_where_that_is_asked_for(self) -> None:
        storage = self.open_storage(keep_revisions=True)
        self.three()
        put(storage, b"/f", b"four")
        self.gridfs.put(b"five", filename="f")
        put(storage, b"/f", b"six")
        found = [self.gridfs.get_version("f", number).read() for number in range(6)]
        self.assertEqual(found, [b"one", b"two!", b"three", b"four", b"five", b"six"])
        self.gridfs.put(b"other", filename="g")
        storage.rename(b"/f", b"/g", replace=True)
        self.assertEqual(self.gridfs.get_last_version("g").read(), b"six")
        self.assertEqual(self.files.count_documents({"filename": "g"}), 7)
        put(storage, b"/g", b"eight")
        self.assertEqual(get(storage, b"/g"), b"eight")

    def test_of_other_programs_and_of_sftp_take_turns(self) -> None:
        for turn in range(4):
            put(self.storage, b"/f", b"sftp %d" % turn)
            self.assertEqual(self.gridfs.get_last_version("f").read(), b"sftp %d" % turn)
            for again in range(turn):
                self.gridfs.put(b"other %d" % again, filename="f")
                self.assertEqual(get(self.storage, b"/f"), b"other %d" % again)
        put(self.storage, b"/f", b"last")
        self.assertEqual(self.files.count_documents({}), 1)
        self.assert_no_stray_chunks()

    def test_of_the_future_do_not_win_over_what_is_stored_now(self) -> None:
        future = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=400)
        for name, moment in (("f", future), ("g", FAR)):
            with self.subTest(name):
                self.foreign(name, b"other's", uploadDate=moment)
                path = b"/" + name.encode()
                for data in (b"first", b"second"):
                    put(self.storage, path, data)
                    self.assertEqual(get(self.storage, path), data)
                self.assertEqual(self.document(name)["length"], 6)
                put(self.storage, b"/h", b"third")
                self.storage.rename(b"/h", path, replace=True)
                self.assertEqual(get(self.storage, path), b"third")
                self.assert_no_stray_chunks()

    def test_of_one_date_are_one_file_for_all_requests(self) -> None:
        for data in (b"1", b"22", b"333"):
            self.foreign("f", data)
        (size,) = [attrs.size for name, attrs in self.storage.opendir(b"/") if name == b"f"]
        self.assertEqual(self.storage.stat(b"/f").size, size)
        self.assertEqual(len(get(self.storage, b"/f")), size)

    def test_of_other_programs_are_not_hindered_by_ours(self) -> None:
        put(self.storage, b"/f", b"ours")
        put(self.storage, b"/g", b"ours, too")
        for number in range(3):
            self.gridfs.put(b"%d" % number, filename="f", metadata={"owner": 1})
        bucket = gridfs.GridFSBucket(self.database)
        bucket.upload_from_stream("f", b"by another interface")
        self.assertEqual(get(self.storage, b"/f"), b"by another interface")
        (identity,) = (found._id for found in bucket.find({"filename": "g"}))
        bucket.rename(identity, "h")
        self.assertEqual(names(self.storage), [b"f", b"h"])
        self.assertEqual(get(self.storage, b"/h"), b"ours, too")
        put(self.storage, b"/g", b"anew")
        self.assertEqual(get(self.storage, b"/g"), b"anew")

    def test_may_be_made_of_files_of_ours_by_renaming_one_to_another(self) -> None:
        put(self.storage, b"/f", b"one")
        put(self.storage, b"/g", b"other")
        newest = self.document("g")["_id"]
        gridfs.GridFSBucket(self.database).rename(newest, "f")
        self.assertEqual(get(self.storage, b"/f"), b"other")
        put(self.storage, b"/f", b"next")
        put(self.storage, b"/g", b"again")
        self.assertEqual((get(self.storage, b"/f"), get(self.storage, b"/g")), (b"next", b"again"))
        self.assertEqual(self.files.count_documents({}), 2)
