"""Uploads to an object store: whole or not at all, in parts while the client sends, in order or not."""

from __future__ import annotations

import itertools
import os
import random
import threading
from unittest import mock

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.pysftpexceptions import SFTPException, SFTPFailure
from pysftpserver.storages.objects import buffer as buffers
from pysftpserver.storages.objects import draft as drafts
from pysftpserver.storages.objects.buffer import Buffer, Spool
from pysftpserver.storages.objects.draft import PART, part_size
from pysftpserver.storages.objects.s3 import MOST, MOST_PARTS
from tests.objects.stores import StoreCase, fake
from tests.support.hard import IS_HARD

CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
SCALE = 1 if IS_HARD else 16  # everything is so many times smaller
MIB = (1 << 20) // SCALE
CHUNK = MIB // 4


class UploadCase(StoreCase):
    server = "fake"

    def setUp(self):
        super().setUp()
        self.storage = self.open_storage()
        self.content = random.Random(1).randbytes(2 * PART // SCALE + 3 * MIB)
        for module in (drafts, buffers):
            for name in ("PART", "LAG", "SMALL", "LEAST_PART", "MEMORY", "LITTLE", "IN_ALL"):
                if hasattr(module, name):
                    self.enterContext(mock.patch.object(module, name, getattr(module, name) // SCALE))
        self.enterContext(mock.patch.object(fake(), "least_part", fake().least_part // SCALE))

    def write(self, handle, content, off=0, storage=None):
        for at in range(0, len(content), CHUNK):
            (storage or self.storage).write(handle, off + at, content[at : at + CHUNK])

    def failing(self, status, code, which):
        """Make the store answer with a failure. which: (method, query) -> whether a request fails."""
        return mock.patch.object(
            fake(), "fault", lambda method, key, query: (status, code) if which(method, query) else None
        )


class InOrder(UploadCase):
    def test_an_upload_appears_when_it_is_closed_and_parts_were_sent_before(self):
        self.put_object("f", b"old")
        handle = self.storage.open(b"/f", CREATE, 0o666)
        self.write(handle, self.content)
        self.assertEqual(self.get_object("f"), b"old")
        self.assertEqual(len(self.all_uploads()), 1)
        self.storage.close(handle)
        self.assertTrue(self.get_object("f") == self.content)
        self.assertEqual(self.all_uploads(), [])

    def test_a_small_upload_is_one_request(self):
        handle = self.storage.open(b"/f", CREATE, 0o666)
        self.storage.write(handle, 0, b"small")
        before = len(fake().requests)
        self.storage.close(handle)
        self.assertEqual([method for method, _, _ in fake().requests[before:]], ["PUT"])

    def test_writes_may_overtake_one_another_a_little(self):
        rng = random.Random(2)
        offsets = list(range(0, len(self.content), CHUNK))
        for start in range(0, len(offsets), 8):  # within 2 MiB
            some = offsets[start : start + 8]
            rng.shuffle(some)
            offsets[start : start + 8] = some
        storage = self.open_storage(settings="&spool=none")
        handle = storage.open(b"/f", CREATE, 0o666)
        for off in offsets:
            storage.write(handle, off, self.content[off : off + CHUNK])
        storage.close(handle)
        self.assertTrue(self.get_object("f") == self.content)

    def test_a_file_is_stored_when_it_is_closed_although_it_is_open_to_be_read(self):
        handle = self.storage.open(b"/f", CREATE, 0o666)
        reader = self.storage.open(b"/f", os.O_RDONLY, 0)
        self.storage.write(handle, 0, b"content")
        self.assertEqual(self.storage.read(reader, 0, 9), b"content")
        self.storage.close(handle)
        self.assertEqual(self.get_object("f"), b"content")
        self.assertEqual(self.storage.read(reader, 3, 9), b"tent")
        self.storage.close(reader)

    def test_many_uploads_at_once_share_a_bounded_memory(self):
        handles = [self.storage.open(b"/%d" % number, CREATE, 0o666) for number in range(6)]
        for off in range(0, len(self.content), CHUNK):
            for handle in handles:
                self.storage.write(handle, off, self.content[off : off + CHUNK])
            self.assertLessEqual(self.storage._spool._held, buffers.IN_ALL)
        self.assertGreater(self.storage._spool.used, 0)
        for handle in handles:
            self.storage.close(handle)
        self.assertEqual((self.storage._spool._held, self.storage._spool.used), (0, 0))
        for number in range(6):
            self.assertTrue(self.get_object(str(number)) == self.content)

    def test_the_session_sees_what_it_writes(self):
        handle = self.storage.open(b"/f", CREATE, 0o666)
        self.storage.write(handle, 0, b"12345")
        self.assertEqual(self.storage.stat(b"/f").size, 5)
        self.assertIn(b"f", [name for name, _ in self.storage.opendir(b"/")])
        self.assertEqual(self.all_keys(), [])
        self.storage.close(handle)

    def test_parts_grow_so_that_the_largest_object_has_no_more_than_are_allowed(self):
        sizes = [SCALE * part_size(number) for number in range(1, MOST_PARTS + 1)]
        self.assertGreaterEqual(sum(sizes), MOST)
        self.assertEqual((min(sizes), sizes[0]), (PART, PART))
        self.assertLessEqual(max(sizes), 5 << 30)

    def test_large_parts_wait_in_the_spool_and_not_in_memory(self):
        with mock.patch.object(drafts, "IN_MEMORY", 0):
            handle = self.storage.open(b"/f", CREATE, 0o666)
            self.write(handle, self.content)
            self.storage.close(handle)
        self.assertTrue(self.get_object("f") == self.content)


class NeverHalf(UploadCase):
    def test_a_client_that_vanishes_leaves_the_old_file_and_no_upload(self):
        self.put_object("f", b"old")
        handle = self.storage.open(b"/f", CREATE, 0o666)
        self.write(handle, self.content)
        self.storage.abandon(handle)
        self.assertEqual(self.get_object("f"), b"old")
        self.assertEqual(self.all_uploads(), [])

    def test_a_write_that_was_refused_spoils_the_file(self):
        handle = self.storage.open(b"/f", CREATE, 0o666)
        self.write(handle, self.content)
        self.storage.spoil(handle)
        with self.assertRaisesRegex(SFTPFailure, "not stored"):
            self.storage.close(handle)
        self.assertEqual((self.all_keys(), self.all_uploads()), ([], []))

    def test_a_part_that_the_store_refuses_is_reported_and_nothing_is_left(self):
        handle = self.storage.open(b"/f", CREATE, 0o666)
        with self.failing(400, "QuotaExceeded", lambda method, query: "partNumber" in query):
            with self.assertRaisesRegex(SFTPException, "quota of the store is exhausted"):
                self.write(handle, self.content * 2)
            with self.assertRaisesRegex(SFTPFailure, "not stored: The quota"):
                self.storage.close(handle)
        self.assertEqual((self.all_keys(), self.all_uploads()), ([], []))

    def test_a_file_that_could_not_be_cut_off_is_not_stored_with_zeros(self):
        handle = self.storage.open(b"/f", CREATE, 0o666)
        self.write(handle, self.content)
        with self.failing(403, "AccessDenied", lambda method, query: method == "DELETE"):
            with self.assertRaisesRegex(SFTPException, "denies access"):
                self.storage.fsetstat(handle, SFTPAttributes(size=0))
        with self.assertRaisesRegex(SFTPFailure, "not stored: The store denies access"):
            self.storage.close(handle)
        self.assertEqual(self.all_keys(), [])

    def test_what_fails_unexpectedly_spoils_the_file_as_well(self):
        handle = self.storage.open(b"/f", CREATE, 0o666)
        with mock.patch.object(Buffer, "write", side_effect=MemoryError), self.assertRaises(MemoryError):
            self.storage.write(handle, 0, b"lost")
        self.storage.write(handle, 4, b"more")
        with self.assertRaisesRegex(SFTPFailure, "not stored: a write failed"):
            self.storage.close(handle)
        self.assertEqual(self.all_keys(), [])

    def test_a_completion_that_fails_with_status_200_fails_the_close(self):
        self.put_object("f", b"old")
        handle = self.storage.open(b"/f", CREATE, 0o666)
        self.write(handle, self.content)
        failing = self.failing(200, "InternalError", lambda method, query: method == "POST")
        with failing, self.assertRaises(SFTPFailure):
            self.storage.close(handle)
        self.assertEqual(self.get_object("f"), b"old")
        self.assertEqual(self.all_uploads(), [])

    def test_a_removed_file_is_not_stored_when_it_is_closed(self):
        handle = self.storage.open(b"/f", CREATE, 0o666)
        self.write(handle, self.content)
        self.storage.rm(b"/f")
        self.assertEqual(self.all_uploads(), [])
        self.write(handle, self.content, len(self.content))
        self.storage.close(handle)
        self.assertEqual((self.all_keys(), self.all_uploads()), ([], []))

    def test_what_a_crash_leaves_is_found_and_aborted(self):
        handle = self.storage.open(b"/d\xc3\xa4", CREATE, 0o666)
        self.write(handle, self.content)
        other = self.open_storage()
        self.assertEqual(other.gc(), [])  # it may still be running
        self.assertRegex(other.gc(older_than=0, is_dry=True)[0], "^Would abort an upload of d\xe4 that began")
        self.assertEqual(len(self.all_uploads()), 1)
        self.assertRegex(other.gc(older_than=0)[0], "^Aborted an upload of d\xe4")
        self.assertEqual(self.all_uploads(), [])
        with self.assertRaisesRegex(SFTPFailure, "it was aborted"):
            self.storage.close(handle)


class ExclusiveCreation(UploadCase):
    def create(self, content):
        handle = self.storage.open(b"/f", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self.write(handle, content)
        self.put_object("f", b"of another program")
        with self.assertRaisesRegex(SFTPFailure, "exists already"):
            self.storage.close(handle)
        self.assertEqual(self.get_object("f"), b"of another program")
        self.assertEqual(self.all_uploads(), [])

    def test_a_file_that_appears_meanwhile_is_not_replaced(self):
        for content in (b"small", self.content):
            with self.subTest(len(content)):
                self.create(content)
                self.storage.rm(b"/f")

    def test_where_the_store_knows_no_conditions_it_is_looked_for(self):
        with mock.patch.object(fake(), "knows_conditions", False):
            self.test_a_file_that_appears_meanwhile_is_not_replaced()


class LostAnswers(UploadCase):
    def lost(self, which):
        """Cut the first answer to a request, which is done all the same."""
        count = itertools.count()

        def fault(method, key, query):
            return "cut" if which(method, query) and not next(count) else None

        return mock.patch.object(fake(), "fault", fault)

    def test_a_file_whose_first_answer_was_lost_is_reported_as_stored(self):
        for flags in (0, os.O_EXCL):
            for content, method in ((b"small", "PUT"), (self.content, "POST")):
                with self.subTest(flags=flags, method=method):
                    handle = self.storage.open(b"/f", CREATE | flags, 0o666)
                    self.write(handle, content)
                    with self.lost(lambda asked, query, method=method: asked == method):
                        self.storage.close(handle)
                    self.assertTrue(self.get_object("f") == content)
                    self.storage.rm(b"/f")


class OutOfOrder(UploadCase):
    def test_segments_that_are_written_side_by_side_go_through_the_spool(self):
        half = len(self.content) // 2 // CHUNK * CHUNK
        handle = self.storage.open(b"/f", CREATE, 0o666)
        for off in range(0, half, CHUNK):
            for at in (half + off, off):
                self.storage.write(handle, at, self.content[at : at + CHUNK])
        self.write(handle, self.content[2 * half :], 2 * half)
        self.storage.close(handle)
        self.assertTrue(self.get_object("f") == self.content)
        self.assertEqual(self.storage._spool.used, 0)

    def test_without_a_spool_the_first_such_write_is_refused_with_words(self):
        storage = self.open_storage(settings="&spool=none")
        handle = storage.open(b"/f", CREATE, 0o666)
        with self.assertRaisesRegex(SFTPFailure, "from the beginning to the end, in order"):
            storage.write(handle, 20 * MIB, b"far ahead")
        with self.assertRaisesRegex(SFTPFailure, "not stored"):
            storage.close(handle)

    def test_the_spool_has_a_limit(self):
        storage = self.open_storage(settings=f"&spool_size={MIB}")
        handle = storage.open(b"/f", CREATE, 0o666)
        with self.assertRaisesRegex(SFTPFailure, "A gap of more than"):
            storage.write(handle, 20 * MIB, b"far ahead")
        storage.abandon(handle)
        self.put_object("large", self.content)
        handle = storage.open(b"/large", os.O_WRONLY, 0)
        with self.assertRaisesRegex(SFTPFailure, f"More than {MIB} bytes"):
            self.write(handle, self.content[: 2 * MIB], 0, storage)
        storage.abandon(handle)
        self.assertTrue(self.get_object("large") == self.content)

    def test_what_is_written_in_countless_pieces_is_refused(self):
        handle = self.storage.open(b"/f", CREATE, 0o666)
        with mock.patch.object(buffers, "MOST_PIECES", 100):
            with self.assertRaisesRegex(SFTPFailure, "Too many separate pieces"):
                for number in range(102):
                    self.storage.write(handle, 2 * number, b"x")
        self.storage.abandon(handle)

    def test_what_was_sent_already_cannot_be_written_again(self):
        handle = self.storage.open(b"/f", CREATE, 0o666)
        self.write(handle, self.content)
        with self.assertRaisesRegex(SFTPFailure, "in the store already"):
            self.storage.write(handle, 0, b"again")
        self.storage.abandon(handle)
        self.assertEqual(self.all_uploads(), [])


class Changes(UploadCase):
    def setUp(self):
        super().setUp()
        self.put_object("f", self.content, colour="blue")

    def test_appending_copies_the_beginning_inside_the_store(self, copies=True):
        for flags, off in ((os.O_WRONLY, len(self.content)), (os.O_WRONLY | os.O_APPEND, 0)):
            with self.subTest(flags=flags):
                before = len(fake().requests)
                handle = self.storage.open(b"/f", flags, 0)
                more = b"more" * 3 * MIB
                self.write(handle, more, off)
                self.storage.close(handle)
                asked = {method for method, key, _ in fake().requests[before:] if key}
                self.content += more
                self.assertTrue(self.get_object("f") == self.content)
                if copies:
                    self.assertNotIn("GET", asked)
        self.assertEqual(self.other.head("f").metadata, {"colour": "blue"})

    def test_a_change_in_the_middle_copies_what_was_not_touched(self):
        handle = self.storage.open(b"/f", os.O_RDWR, 0)
        self.storage.write(handle, 12 * MIB, b"changed")
        self.assertEqual(self.storage.read(handle, 12 * MIB - 3, 13)[3:10], b"changed")
        before = len(fake().requests)
        self.storage.close(handle)
        expected = self.content[: 12 * MIB] + b"changed" + self.content[12 * MIB + 7 :]
        self.assertTrue(self.get_object("f") == expected)
        self.assertEqual(sum("partNumber" in query for _, _, query in fake().requests[before:]), 2)

    def test_where_the_store_copies_no_parts_the_content_goes_to_and_fro(self):
        with mock.patch.object(fake(), "copies_parts", False):
            self.test_appending_copies_the_beginning_inside_the_store(copies=False)
            self.put_object("f", self.content)
            handle = self.storage.open(b"/f", os.O_RDWR, 0)
            self.storage.write(handle, 12 * MIB, b"changed")
            self.storage.close(handle)
        expected = self.content[: 12 * MIB] + b"changed" + self.content[12 * MIB + 7 :]
        self.assertTrue(self.get_object("f") == expected)

    def test_a_copied_beginning_never_ends_in_a_part_that_is_too_small(self):
        for copied in (15 * MIB, 17 * MIB):  # of 19
            with mock.patch.object(drafts, "COPIED", copied):
                self.test_appending_copies_the_beginning_inside_the_store()

    def test_a_file_is_cut_off_and_grows(self):
        self.storage.setstat(b"/f", SFTPAttributes(size=13 * MIB))
        self.assertTrue(self.get_object("f") == self.content[: 13 * MIB])
        self.storage.setstat(b"/f", SFTPAttributes(size=14 * MIB))
        self.assertTrue(self.get_object("f") == self.content[: 13 * MIB] + bytes(MIB))

    def test_a_file_that_another_program_replaces_meanwhile_is_not_mixed_with_it(self):
        handle = self.storage.open(b"/f", os.O_WRONLY, 0)
        self.storage.write(handle, 12 * MIB, b"changed")
        self.put_object("f", self.content[::-1])
        with self.assertRaisesRegex(SFTPFailure, "replaced"):
            self.storage.close(handle)
        self.assertTrue(self.get_object("f") == self.content[::-1])
        self.assertEqual(self.all_uploads(), [])

    def test_of_two_that_change_a_file_at_once_the_second_to_close_is_refused(self):
        other = self.open_storage()
        first, second = self.storage.open(b"/f", os.O_WRONLY, 0), other.open(b"/f", os.O_WRONLY, 0)
        self.storage.write(first, 0, b"one")
        other.write(second, 3, b"two")
        self.storage.close(first)
        with self.assertRaisesRegex(SFTPFailure, "replaced"):
            other.close(second)
        self.assertTrue(self.get_object("f") == b"one" + self.content[3:])
        self.assertEqual(self.all_uploads(), [])

    def test_of_two_that_write_a_file_anew_at_once_the_last_to_close_has_it_whole(self):
        other = self.open_storage()
        first, second = self.storage.open(b"/f", CREATE, 0o666), other.open(b"/f", CREATE, 0o666)
        for at in range(0, len(self.content), CHUNK):  # both in parts, by turns
            self.storage.write(first, at, self.content[at : at + CHUNK])
            other.write(second, at, self.content[::-1][at : at + CHUNK])
        other.close(second)
        self.assertTrue(self.get_object("f") == self.content[::-1])
        self.storage.close(first)
        self.assertTrue(self.get_object("f") == self.content)
        self.assertEqual(self.all_uploads(), [])

    def test_of_two_that_create_a_file_exclusively_one_gets_it(self):
        other = self.open_storage()
        flags = CREATE | os.O_EXCL
        results = []
        opened = [(one, one.open(b"/new", flags, 0o666)) for one in (self.storage, other)]
        for number, (storage, handle) in enumerate(opened):
            storage.write(handle, 0, b"%d" % number)
            try:
                storage.close(handle)
                results.append(number)
            except SFTPException:
                pass
        self.assertEqual((results, self.get_object("new")), ([0], b"0"))

    def test_random_changes_give_what_a_file_would_have(self):
        rng = random.Random(3)
        model = bytearray(self.content)
        for _ in range(2):
            handle = self.storage.open(b"/f", os.O_RDWR, 0)
            for _ in range(20):
                off, chunk = (
                    rng.randrange(len(model) + MIB),
                    rng.randbytes(rng.randrange(1, 300_000 // SCALE)),
                )
                self.storage.write(handle, off, chunk)
                model.extend(bytes(max(0, off - len(model))))
                model[off : off + len(chunk)] = chunk
                at = rng.randrange(len(model))
                self.assertTrue(self.storage.read(handle, at, 70_000) == model[at : at + 70_000])
            self.storage.close(handle)
            self.assertTrue(self.get_object("f") == model)

    def test_a_removed_file_that_is_too_large_to_be_fetched_cannot_be_changed(self):
        handle = self.storage.open(b"/f", os.O_RDWR | os.O_APPEND, 0)
        self.storage.rm(b"/f")
        for call in (lambda: self.storage.write(handle, 0, b"x"), lambda: self.storage.read(handle, 0, 9)):
            with self.assertRaisesRegex(SFTPFailure, "was removed"):
                call()
        with self.assertRaisesRegex(SFTPFailure, "not stored"):
            self.storage.close(handle)


class SharedByClients(UploadCase):
    def test_calls_of_several_clients_may_overlap(self):
        faults = []

        def work(seed):
            rng = random.Random(seed)
            try:
                for _ in range(40):
                    name = b"/%d" % rng.randrange(3)
                    try:
                        handle = self.storage.open(name, CREATE, 0o666)
                        for off in range(0, 4 * CHUNK, CHUNK):
                            self.storage.write(handle, off, b"x" * CHUNK)
                        list(self.storage.opendir(b"/"))
                        self.storage.close(handle)
                        if rng.random() < 0.3:
                            self.storage.rm(name)
                    except (OSError, SFTPException):
                        pass
            except BaseException as error:
                faults.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(faults, [])
        for key in self.all_keys():
            self.assertEqual(set(self.get_object(key)) - {ord("x")}, set())
        self.assertEqual((self.all_uploads(), self.storage._drafts), ([], {}))


class Buffers(UploadCase):
    def test_a_buffer_is_a_file_with_gaps_in_memory_and_in_a_spool(self):
        rng = random.Random(4)
        for is_spilt in (False, True):
            buffer = Buffer(Spool("/tmp", 1 << 30))
            model, known, floor = bytearray(300_000), bytearray(300_000), 0
            if is_spilt:
                buffer.spill()
            for _ in range(40):
                off, size = rng.randrange(floor, 290_000), rng.randrange(1, 9_000)
                chunk = rng.randbytes(size)
                buffer.write(off, chunk)
                model[off : off + size], known[off : off + size] = chunk, b"\1" * size
                if rng.random() < 0.05:
                    floor = rng.randrange(floor, min(floor + 5_000, 290_000))
                    buffer.forget(floor)
                    if is_spilt:
                        buffer.spill()
                at = rng.randrange(floor, 299_999)
                piece = bytearray(b"?" * rng.randrange(1, 20_000))[: 300_000 - at]
                expected = bytes(model[at + n] if known[at + n] else ord("?") for n in range(len(piece)))
                buffer.fill(piece, at)
                self.assertEqual(piece, expected)
                ends = known.find(0, at) if known[at] else at
                self.assertEqual(buffer.contiguous(at), ends)
            buffer.close()
