"""No incomplete files: what others see during an upload, and what is left when its server is killed."""

from __future__ import annotations

import datetime
import os
import time
from typing import Any
from unittest import mock

import gridfs
from bson import ObjectId

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.pysftpexceptions import SFTPFailure
from pysftpserver.storages.mongo.bucket import CHUNK_SIZE
from pysftpserver.storages.mongo.draft import BATCH
from pysftpserver.storages.mongo.gc import collect
from tests.mongo.databases import DatabaseCase
from tests.mongo.sessions import NEW, Served, get, orphans, put
from tests.support.hard import IS_HARD
from tests.support.packets import CREAT, OK, TRUNC, WRITE, Client, string, u64
from tests.support.waiting import until

OLD = b"old" * 300_000  # chunks: 4
FRESH = b"fresh" * 200_000
MIB = 1 << 20
NOW = datetime.datetime.now(datetime.UTC)


class HalfCase(DatabaseCase):
    def setUp(self) -> None:
        super().setUp()
        self.storage, self.reader = self.open_storage(), self.open_storage()
        put(self.storage, b"/f", OLD)

    def assert_others_see(self, content: bytes) -> None:
        self.assertEqual(get(self.reader, b"/f"), content)
        self.assertEqual(self.gridfs.get_last_version("f").read(), content)
        self.assertEqual(self.reader.stat(b"/f").size, len(content))

    def assert_no_orphans(self) -> None:
        self.assertEqual(orphans(self.database), 0)


class WhileItIsWritten(HalfCase):
    def test_others_see_the_old_content_until_it_is_closed(self):
        for flags in (NEW, os.O_WRONLY, os.O_RDWR):
            with self.subTest(flags=flags):
                put(self.storage, b"/f", OLD)
                handle = self.storage.open(b"/f", flags, 0)
                for off in range(0, 6 * MIB, MIB):
                    self.storage.write(handle, off, b"x" * MIB)
                    self.assert_others_see(OLD)
                self.storage.close(handle)
                self.assert_others_see(b"x" * (6 * MIB))
                self.assert_no_orphans()

    def test_a_new_file_is_not_there_until_it_is_closed(self):
        handle = self.storage.open(b"/new", NEW | os.O_EXCL, 0o666)
        self.storage.write(handle, 0, b"x" * (3 * MIB))
        with self.assertRaises(FileNotFoundError):
            self.reader.stat(b"/new")
        self.assertNotIn(b"new", [name for name, _ in self.reader.opendir(b"/")])
        self.assertFalse(self.gridfs.exists(filename="new"))
        self.storage.close(handle)
        self.assertEqual(get(self.reader, b"/new"), b"x" * (3 * MIB))

    def test_fsync_shows_it_to_others(self):
        handle = self.storage.open(b"/f", NEW, 0)
        self.storage.write(handle, 0, FRESH)
        self.storage.fsync(handle)
        self.assert_others_see(FRESH)
        self.storage.write(handle, len(FRESH), b"more")
        self.assert_others_see(FRESH)
        self.storage.close(handle)
        self.assert_others_see(FRESH + b"more")
        self.assert_no_orphans()

    def test_what_was_abandoned_after_an_fsync_is_what_was_synced(self):
        handle = self.storage.open(b"/f", NEW, 0)
        self.storage.write(handle, 0, FRESH)
        self.storage.fsync(handle)
        self.storage.write(handle, 0, b"x" * (3 * MIB))
        self.storage.abandon(handle)
        self.assert_others_see(FRESH)
        self.assert_no_orphans()

    def test_an_abandoned_one_leaves_the_old_content_and_no_chunks(self):
        for size in (1, CHUNK_SIZE, 5 * MIB):
            handle = self.storage.open(b"/f", NEW, 0)
            self.storage.write(handle, 0, b"x" * size)
            self.storage.abandon(handle)
            self.assert_others_see(OLD)
            self.assert_no_orphans()

    def test_a_spoilt_one_is_not_stored(self):
        handle = self.storage.open(b"/f", NEW, 0)
        self.storage.write(handle, 0, b"x" * (5 * MIB))
        self.storage.spoil(handle)
        with self.assertRaises(SFTPFailure):
            self.storage.close(handle)
        self.assert_others_see(OLD)
        self.assert_no_orphans()

    def test_a_session_that_ends_without_close_leaves_the_old_content(self):
        client = Client(self.storage)
        handle = client.open(b"/f", WRITE | CREAT | TRUNC)
        for off in range(0, 4 * MIB, 1 << 17):
            self.assertEqual(client.status("write", handle, u64(off), string(b"x" * (1 << 17))), OK)
        client.server.close()
        self.assert_others_see(OLD)
        self.assert_no_orphans()

    def test_one_that_cannot_be_stored_leaves_nothing_of_its_own(self):
        """Grown without a WRITE, so that its chunks come into being only at its end."""
        handle = self.storage.open(b"/f", os.O_WRONLY, 0)
        self.storage.fsetstat(handle, SFTPAttributes(size=9 * CHUNK_SIZE))
        put(self.reader, b"/f", FRESH)
        with self.assertRaises(SFTPFailure):
            self.storage.close(handle)
        self.assert_others_see(FRESH)
        self.assert_no_orphans()


class ReadWhileItIsReplaced(HalfCase):
    def changes(self) -> list[Any]:
        return [
            lambda: put(self.storage, b"/f", b"z" * len(OLD)),
            lambda: self.storage.rm(b"/f"),
            lambda: self.gridfs.delete(self.gridfs.get_last_version("f")._id),
        ]

    def test_a_reader_elsewhere_gets_the_old_bytes_or_a_failure_and_never_others(self):
        for change in self.changes():
            put(self.storage, b"/f", OLD)
            handle = self.reader.open(b"/f", os.O_RDONLY, 0)
            self.assertEqual(self.reader.read(handle, 0, 1000), OLD[:1000])
            change()
            failures = 0
            for off in range(0, len(OLD), 100_000):
                try:
                    self.assertEqual(self.reader.read(handle, off, 100_000), OLD[off : off + 100_000])
                except SFTPFailure as failure:
                    failures += 1
                    self.assertIn("replaced or removed", str(failure))
            self.assertGreater(failures, 0, "chunks that were removed cannot be read")
            self.reader.close(handle)

    def test_a_reader_of_the_same_session_reads_on(self):
        handle = self.storage.open(b"/f", os.O_RDONLY, 0)
        self.storage.rm(b"/f")
        put(self.storage, b"/f", FRESH)
        read = b"".join(self.storage.read(handle, off, 100_000) for off in range(0, len(OLD), 100_000))
        self.assertEqual(read, OLD)
        self.storage.close(handle)
        self.assert_others_see(FRESH)
        self.assert_no_orphans()

    def test_a_writer_to_a_part_of_it_stores_nothing(self):
        for change in self.changes():
            put(self.storage, b"/f", OLD)
            handle = self.reader.open(b"/f", os.O_RDWR, 0)
            self.reader.write(handle, len(OLD) - 1, b"!")
            change()
            with self.assertRaises(SFTPFailure):
                self.reader.close(handle)
            self.assertNotIn(b"!", get(self.storage, b"/f") if self.gridfs.exists(filename="f") else b"")
            self.assert_no_orphans()


class KilledServers(HalfCase):
    def killed_mid_upload(self) -> None:
        """A server that is killed when a part of an upload is in the database."""
        before = self.chunk_count()
        served = Served(self)
        self.assertTrue(served.opens(b"/f", WRITE | CREAT | TRUNC))
        handle = served.handle
        for off in range(0, 5 * MIB, 1 << 17):
            self.assertTrue(served.writes(handle, off, b"x" * (1 << 17)))
        # All that it has sent: what is under way would arrive after its end.
        sent = 5 * MIB // BATCH * (BATCH // CHUNK_SIZE)
        until(lambda: self.chunk_count() == before + sent, "chunks of the upload")
        served.kill()

    def test_one_in_the_middle_of_an_upload_leaves_the_old_file_and_orphans_for_gc(self):
        self.killed_mid_upload()
        self.assert_others_see(OLD)
        left = orphans(self.database)
        self.assertGreater(left, 0)
        young = collect(self.storage.bucket, 3600, False)
        self.assertEqual((young.orphans, young.young, young.chunks), (0, 1, 0))
        self.assertEqual(orphans(self.database), left, "too young to be removed")

        until(lambda: collect(self.storage.bucket, 1, True).orphans, "its chunks' second is over")
        would = collect(self.storage.bucket, 0, True)
        self.assertEqual((would.orphans, would.young, would.chunks), (1, 0, left))
        self.assertEqual(would.bytes, left * CHUNK_SIZE)
        self.assertEqual(orphans(self.database), left, "a dry run removes nothing")

        done = collect(self.storage.bucket, 0, False)
        self.assertEqual((done.orphans, done.chunks, done.bytes), (1, left, would.bytes))
        self.assert_no_orphans()
        self.assert_others_see(OLD)

    def killed_everywhere(self, work: Any, judge: Any, has_transactions: bool = True) -> None:
        """Kill a server before each of the commands that it sends for some work, and judge what is left.

        Daily, before every fifth of them.
        """
        for number in range(1, 60, 1 if IS_HARD else 5):
            self.database["fs.files"].delete_many({})
            self.database["fs.chunks"].delete_many({})
            self.database["fs.nodes"].delete_many({})
            put(self.storage, b"/f", OLD)
            put(self.storage, b"/g", b"of g")
            served = Served(self, number, has_transactions)
            is_done = work(served)
            was_killed = served.process.poll() is not None or not served.asks("stat", string(b"/"))
            served.kill()
            # Else what its transaction has touched is nobody's for a minute.
            self.other.admin.command("killAllSessions", [])
            with self.subTest(killed_before=number):
                judge(is_done)
                collect(self.storage.bucket, -2, False)
                self.assert_no_orphans()
                for file in self.gridfs.find():
                    self.assertEqual(len(file.read()), file.length)
            if not was_killed:
                return
        self.fail("it is never done")

    def test_one_anywhere_in_storing_a_file_leaves_the_old_one_or_the_new_one(self):
        def work(served: Served) -> bool:
            if not served.opens(b"/f", WRITE | CREAT | TRUNC):
                return False
            handle = served.handle
            return all(
                served.writes(handle, off, FRESH[off : off + 250_000])
                for off in range(0, len(FRESH), 250_000)
            ) and served.asks("close", handle)

        def judge(is_done: bool) -> None:
            there = get(self.reader, b"/f")
            self.assertIn(there, (FRESH,) if is_done else (OLD, FRESH))
            self.assert_others_see(there)
            put(self.storage, b"/f", b"next")
            self.assert_others_see(b"next")
            self.assertEqual(self.database["fs.files"].count_documents({"filename": "f"}), 1)

        self.killed_everywhere(work, judge)

    def test_one_anywhere_in_a_rename_loses_no_file(self):
        def judge(is_done: bool) -> None:
            there = get(self.reader, b"/g")
            self.assertIn(there, (OLD,) if is_done else (OLD, b"of g"))
            if there == OLD:
                with self.assertRaises(FileNotFoundError):
                    self.reader.stat(b"/f")
            else:
                self.assert_others_see(OLD)

        for has_transactions in (True, False):
            self.killed_everywhere(
                lambda served: served.asks("posix-rename", string(b"/f"), string(b"/g")),
                judge,
                has_transactions,
            )


class Orphans(HalfCase):
    def chunk(self, age: float, identity: Any, number: int = 0) -> None:
        moment = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=age)
        self.database["fs.chunks"].insert_one(
            {"_id": ObjectId.from_datetime(moment), "files_id": identity, "n": number, "data": b"12345"}
        )

    def test_only_old_ones_count_and_their_youngest_chunk_says_how_old_they_are(self):
        old, growing = ObjectId(), ObjectId()
        for number in range(3):
            self.chunk(7300 - number, old, number)
        self.chunk(9000, growing, 0)
        self.chunk(10, growing, 1)
        self.chunk(8000, "of another program")
        found = collect(self.storage.bucket, 7200, False)
        self.assertEqual((found.orphans, found.chunks, found.bytes, found.young), (2, 4, 20, 1))
        self.assertEqual(
            self.database["fs.chunks"].distinct("files_id", {"n": 1, "data": b"12345"}), [growing]
        )

    def test_of_a_running_upload_stay_though_the_uploaders_clock_is_a_day_behind(self):
        behind = mock.Mock(time=lambda: time.time() - 25 * 3600)
        with mock.patch("bson.objectid.time", behind):  # the uploader's clock
            storage = self.open_storage()
            handle = storage.open(b"/new", os.O_WRONLY | os.O_CREAT, 0o666)
            for off in range(0, 5 * MIB, MIB):
                storage.write(handle, off, b"x" * MIB)
            until(lambda: orphans(self.database), "chunks of the upload")
            self.assertLess(ObjectId().generation_time.timestamp(), time.time() - 24 * 3600)
        found = collect(self.storage.bucket, 24 * 3600, False)
        self.assertEqual((found.orphans, found.young), (0, 1))
        storage.close(handle)
        self.assertEqual(get(self.reader, b"/new"), b"x" * 5 * MIB)

    def test_are_as_old_as_they_are_though_the_uploaders_machine_was_suspended(self):
        bucket = self.open_storage().bucket
        before = bucket.now()
        clock = time.clock_gettime
        with mock.patch("time.clock_gettime", lambda which: clock(which) + 25 * 3600):
            self.assertGreater(bucket.now() - before, 24 * 3600)

    def test_that_were_removed_during_an_upload_are_missed_when_it_is_closed(self):
        handle = self.storage.open(b"/f", os.O_WRONLY | os.O_TRUNC, 0o666)
        self.storage.write(handle, 0, b"x" * 5 * MIB)
        until(lambda: orphans(self.database), "chunks of the upload")
        collect(self.storage.bucket, -2, False)  # as by a program that does not know the server's clock
        with self.assertRaisesRegex(SFTPFailure, "parts of it were removed meanwhile"):
            self.storage.close(handle)
        self.assert_others_see(OLD)

    def test_files_of_other_programs_and_other_buckets_stay(self):
        self.gridfs.put(b"theirs", filename="theirs")
        self.gridfs.put(b"theirs", _id="an _id of its own")
        elsewhere = gridfs.GridFS(self.database, "elsewhere")
        elsewhere.put(b"theirs", filename="theirs")
        self.database["elsewhere.chunks"].insert_one({"files_id": 1, "n": 0, "data": b"x"})
        self.chunk(0, "growing")
        found = collect(self.storage.bucket, 3600, False)
        self.assertEqual((found.orphans, found.young), (0, 1))
        self.database["fs.files"].insert_one(
            {"_id": "growing", "filename": "growing", "length": 5, "chunkSize": 5, "uploadDate": NOW}
        )
        found = collect(self.storage.bucket, -2, False)
        self.assertEqual((found.orphans, found.young), (0, 0))
        self.assertEqual(self.gridfs.get_last_version("growing").read(), b"12345")
        self.assertEqual(self.gridfs.get("an _id of its own").read(), b"theirs")
        self.assertEqual(self.database["elsewhere.chunks"].count_documents({}), 2)
        self.assert_others_see(OLD)
