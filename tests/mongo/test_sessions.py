"""What one session does to a file by several ways at once, and odd documents that it meets."""

from __future__ import annotations

import errno
import os
import unittest
import warnings

from bson import Int64

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.mongostorage import SFTPServerMongoStorage
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storages.mongo.gc import collect
from tests.mongo.databases import DatabaseCase
from tests.mongo.sessions import get, put

CREATE = os.O_WRONLY | os.O_CREAT
ANEW = CREATE | os.O_TRUNC


class SeveralWays(DatabaseCase):
    def setUp(self) -> None:
        super().setUp()
        self.storage, self.other_session = self.open_storage(), self.open_storage()

    def test_a_new_file_renamed_over_another_replaces_it_when_it_is_closed_and_not_before(self):
        put(self.storage, b"/f", b"old")
        handle = self.storage.open(b"/f.part", CREATE, 0o644)
        self.storage.write(handle, 0, b"new")
        self.storage.rename(b"/f.part", b"/f", True)
        self.assertEqual(get(self.storage, b"/f"), b"new")
        self.assertEqual(get(self.other_session, b"/f"), b"old")
        self.storage.close(handle)
        self.assertEqual(get(self.other_session, b"/f"), b"new")
        self.assertEqual(self.chunk_count(), 1)

    def test_a_new_file_renamed_over_another_and_given_up_leaves_the_other(self):
        put(self.storage, b"/f", b"old")
        handle = self.storage.open(b"/f.part", CREATE, 0o644)
        self.storage.write(handle, 0, b"new")
        self.storage.rename(b"/f.part", b"/f", True)
        self.storage.abandon(handle)
        self.assertEqual(get(self.storage, b"/f"), b"old")
        self.assertEqual(self.chunk_count(), 1)

    def test_an_append_after_the_file_was_truncated_loses_no_other_sessions_content(self):
        put(self.storage, b"/f", b"")
        reader = self.storage.open(b"/f", os.O_RDONLY, 0)
        self.storage.close(self.storage.open(b"/f", ANEW, 0o644))
        handle = self.storage.open(b"/f", os.O_WRONLY | os.O_APPEND, 0)
        self.storage.write(handle, 0, b"mine")
        put(self.other_session, b"/f", b"theirs")
        with self.assertRaises(SFTPFailure):
            self.storage.close(handle)
        self.storage.close(reader)
        self.assertEqual(get(self.storage, b"/f"), b"theirs")

    def test_an_empty_file_opened_to_be_emptied_is_empty_when_it_is_closed(self):
        put(self.storage, b"/f", b"")
        handle = self.storage.open(b"/f", ANEW, 0o644)
        put(self.other_session, b"/f", b"theirs")
        self.storage.close(handle)
        self.assertEqual(get(self.other_session, b"/f"), b"")

    def test_fstat_knows_what_was_set_by_path(self):
        put(self.storage, b"/f", b"x")
        handle = self.storage.open(b"/f", os.O_RDONLY, 0)
        self.storage.setstat(b"/f", SFTPAttributes(permissions=0o600))
        self.assertEqual(self.storage.fstat(handle).permissions, 0o100600)
        self.storage.close(handle)

    def test_a_size_that_is_refused_changes_nothing(self):
        put(self.storage, b"/f", b"content")
        before = self.database.fs.files.find_one({"filename": "f"})
        handle = self.storage.open(b"/f", os.O_RDWR, 0)
        with self.assertRaises(OSError) as raised:
            self.storage.fsetstat(handle, SFTPAttributes(size=1 << 62))
        self.assertEqual(raised.exception.errno, errno.EFBIG)
        self.storage.close(handle)
        self.assertEqual(self.database.fs.files.find_one({"filename": "f"}), before)

    def test_what_is_to_be_a_directory_is_not_made_as_something_else(self):
        for call in (
            lambda: self.storage.open(b"/new/.", CREATE, 0o644),
            lambda: self.storage.open(b"/new/", CREATE, 0o644),
            lambda: self.storage.mkdir(b"/new/.", 0o755),
        ):
            self.assertRaises(OSError, call)
        self.assertEqual([name for name, _ in self.storage.opendir(b"/")], [b".", b".."])

    def test_a_path_may_not_make_the_database_work_for_ever(self):
        self.storage.mkdir(b"/d", 0o755)
        self.storage.symlink(b"/one", b"d/../" * 800 + b"d")
        self.storage.symlink(b"/deep", b"d/" * 2000)
        for path in (b"/one", b"/deep", b"/d/.." * 1000 + b"/d", b"/d" * 2000):
            with self.subTest(path=path[:9]), self.assertRaises(OSError) as raised:
                self.storage.stat(path)
            self.assertIn(raised.exception.errno, (errno.ELOOP, errno.ENAMETOOLONG))
        self.assertEqual(self.storage.realpath(b"/d/../d/../d"), b"/d")


class OddDocuments(DatabaseCase):
    def setUp(self) -> None:
        super().setUp()
        self.storage = self.open_storage()

    def test_a_file_whose_name_is_a_list_cannot_be_replaced_or_removed(self):
        self.gridfs.put(b"theirs", filename=["f", "g"])
        put(self.storage, b"/f", b"ours")
        put(self.storage, b"/f", b"ours again")
        self.storage.rm(b"/f")
        self.storage.mkdir(b"/g", 0o755)
        (file,) = self.gridfs.find()
        self.assertEqual(file.read(), b"theirs")

    def test_the_largest_number_of_a_revision_causes_no_error(self):
        for number in (Int64((1 << 63) - 1), 1e300):
            self.gridfs.put(b"theirs", filename="f", metadata={"revision": number})
            put(self.storage, b"/f", b"ours")
            self.assertEqual(get(self.storage, b"/f"), b"ours")
            self.storage.rm(b"/f")

    def test_a_chunk_that_holds_no_bytes_is_damage(self):
        for data in (5, "12345", None):
            put(self.storage, b"/f", b"12345")
            self.database.fs.chunks.update_many({}, {"$set": {"data": data}})
            with self.assertRaises(SFTPFailure):
                get(self.storage, b"/f")
            self.storage.rm(b"/f")

    def test_gc_counts_what_it_removes_whatever_chunks_hold(self):
        self.gridfs.put(b"12345", _id=Int64(7), filename="f")
        self.database.fs.chunks.update_many({}, {"$set": {"files_id": 7}})
        self.database.fs.chunks.insert_one({"files_id": 8, "n": 0, "data": 5})
        found = collect(self.storage.bucket, -60, False)
        self.assertEqual((found.orphans, found.chunks, found.bytes), (1, 1, 0))
        self.assertEqual(self.gridfs.get(7).read(), b"12345")


class Addresses(unittest.TestCase):
    def test_a_password_with_a_slash_is_refused_without_a_part_of_it(self):
        for password in ("12345/secret", "secret/12345", "/"):
            with self.assertRaises(ValueError) as raised:
                SFTPServerMongoStorage.from_uri(f"mongodb://user:{password}@db.example.com/db")
            self.assertNotIn("secret", str(raised.exception))
            self.assertNotIn("12345", str(raised.exception))

    def test_the_driver_prints_no_warning_on_standard_error(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            storage = SFTPServerMongoStorage.from_uri("mongodb://127.0.0.1:9/db?foo=1&connectTimeoutMS=x")
            storage.close_client()
        self.assertEqual(caught, [])
