"""Rules for files and what is in them: open, read, write, close, fsync, fileno."""

from __future__ import annotations

import errno
import functools
import itertools
import os
import random
import zlib
from unittest import mock

from pysftpserver.contract.base import FAILED, NOT_FOUND, ContractBase, needs
from pysftpserver.contract.packets import (
    get_sftpdata,
    get_sftpextended,
    get_sftphandle,
    get_sftpstatus,
    sftpstring,
)
from pysftpserver.engine.checksums import ALGORITHMS
from pysftpserver.engine.wire import MAX_DATA, SSH2_FX_EOF, SSH2_FXP_EXTENDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CREATE = os.O_WRONLY | os.O_CREAT
READ, WRITE, BOTH = os.O_RDONLY, os.O_WRONLY, os.O_RDWR
HUGE = (1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)  # offsets that a client can send


class FileRules(ContractBase):
    """open, read, write, close, fsync, fileno."""

    # --- checksum -----------------------------------------------------------------------------------

    @needs("open", "read", "close")
    def test_a_checksum_that_the_storage_has_is_that_of_the_content(self) -> None:
        path = self.path(b"f")
        for content in (b"one", b"another", b""):  # each replaces the one before it
            self.put(path, content)
            for algorithm, make in ALGORITHMS.items():
                digest = make()
                digest.update(memoryview(content))
                known = self.storage.checksum(path, algorithm)
                if known is not None:
                    self.assertEqual(known, digest.digest(), f"checksum({path!r}, {algorithm!r})")
            rest = sftpstring(b"crc32") + bytes(20)
            asked = sftpstring(b"check-file-name"), sftpstring(path), rest
            told = get_sftpextended(self.client.ask(SSH2_FXP_EXTENDED, *asked))
            self.assertEqual(told, sftpstring(b"crc32") + zlib.crc32(content).to_bytes(4, "big"))

    @needs("open", "read", "close", "write", "fstat")
    def test_a_checksum_is_never_that_of_what_a_session_has_not_closed_yet(self) -> None:
        path = self.file(b"f", b"old")
        handle = self.opened(path, WRITE)
        self.storage.write(handle, 0, b"new")
        found = self.content(path)
        for algorithm, make in ALGORITHMS.items():
            digest = make()
            digest.update(memoryview(found))
            self.assertIn(self.storage.checksum(path, algorithm), (None, digest.digest()), algorithm)

    # --- open -------------------------------------------------------------------------------------

    @needs("open", "write", "read", "close", "rm", "lstat")
    def test_open_does_what_every_combination_of_flags_says(self) -> None:
        path = self.path(b"f")
        extras = (os.O_APPEND, os.O_CREAT, os.O_TRUNC, os.O_EXCL)
        for there, access in itertools.product((False, True), (READ, WRITE, BOTH)):
            for chosen in itertools.product((False, True), repeat=len(extras)):
                flags = access
                for extra, wanted in zip(extras, chosen, strict=True):
                    flags |= extra if wanted else 0
                if flags & os.O_TRUNC and access == READ:
                    continue  # POSIX leaves open what that does
                if flags & os.O_EXCL and not flags & os.O_CREAT:
                    continue  # and this
                with self.subTest(there=there, flags=bin(flags)):
                    if self.exists(path):
                        self.storage.rm(path)
                    if there:
                        self.put(path, b"old content")
                    self._check_open(path, flags, there)

    def _check_open(self, path: bytes, flags: int, there: bool) -> None:
        if not there and not flags & os.O_CREAT:
            self.assert_refused(NOT_FOUND, "open", path, flags, 0o666)
            self.assertFalse(self.exists(path))
            return
        if there and flags & os.O_EXCL:
            self.assert_refused(FAILED, "open", path, flags, 0o666)
            self.assertEqual(self.content(path), b"old content")
            return
        handle = self.storage.open(path, flags, 0o666)
        expected = b"" if not there or flags & os.O_TRUNC else b"old content"
        self.assertEqual(self.content(path), expected)
        if flags & os.O_ACCMODE != READ:
            self.storage.write(handle, 0, b"NEW")
            expected = expected + b"NEW" if flags & os.O_APPEND else b"NEW" + expected[3:]
        self.storage.close(handle)
        self.assertEqual(self.content(path), expected)

    @needs("open", "read", "close")
    def test_opening_what_is_not_there_is_not_found(self) -> None:
        self.assert_refused(NOT_FOUND, "open", self.path(b"missing"), READ, 0)

    @needs("open", "write", "close")
    def test_a_file_cannot_be_made_where_there_is_no_directory(self) -> None:
        self.put(self.path(b"file"), b"")
        self.assert_refused(NOT_FOUND, "open", self.path(b"missing/f"), CREATE, 0o666)
        self.assert_refused(NOT_FOUND, "open", self.path(b"file/f"), CREATE, 0o666)
        self.assert_refused(NOT_FOUND, "open", self.path(b"file/f"), READ, 0)

    @needs("open", "mkdir")
    def test_a_directory_cannot_be_opened_for_writing(self) -> None:
        self.storage.mkdir(self.path(b"d"), 0o777)
        for flags in (WRITE, BOTH, CREATE, WRITE | os.O_TRUNC):
            with self.subTest(flags=flags):
                self.assert_refused(FAILED, "open", self.path(b"d"), flags, 0o666)

    @needs("open", "read", "close", "mkdir")
    def test_a_directory_has_no_content_to_read(self) -> None:
        self.storage.mkdir(self.path(b"d"), 0o777)
        status = self.raised(self.content, self.path(b"d"))
        self.assertEqual(status, FAILED)

    @needs("open", "write", "close", "lstat", "permissions")
    def test_a_new_file_has_the_mode_asked_for_less_the_umask(self) -> None:
        for mode in (0o600, 0o640, 0o666, 0o755):
            path = self.path(b"mode-%o" % mode)
            self.storage.close(self.storage.open(path, CREATE, mode))
            permissions = self.storage.lstat(path).permissions or 0
            self.assertEqual(permissions & 0o7777 & ~mode, 0, f"mode {mode:o} became {permissions:o}")
            self.assertEqual(permissions & 0o700, mode & 0o700, f"mode {mode:o} became {permissions:o}")

    @needs("open", "write", "close", "lstat", "permissions", "setstat")
    def test_opening_a_file_that_is_there_leaves_its_mode(self) -> None:
        path = self.path(b"f")
        self.storage.close(self.storage.open(path, CREATE, 0o640))
        before = self.storage.lstat(path).permissions
        self.storage.close(self.storage.open(path, CREATE | os.O_TRUNC, 0o755))
        self.assertEqual(self.storage.lstat(path).permissions, before)

    # --- read -------------------------------------------------------------------------------------

    @needs("open", "read", "close")
    def test_reads_at_any_offset_give_what_is_there(self) -> None:
        rng = random.Random(self.seed)
        content = rng.randbytes(70_000)
        self.put(self.path(b"f"), content)
        handle = self.opened(self.path(b"f"), READ)
        for _ in range(200):
            off, size = rng.randrange(80_000), rng.randrange(1, 40_000)
            data = bytes(self.storage.read(handle, off, size))
            self.assertEqual(data, content[off : off + size], f"seed {self.seed}, {size} bytes at {off}")

    @needs("open", "read", "close")
    def test_reading_at_the_end_and_behind_it_gives_nothing(self) -> None:
        self.put(self.path(b"f"), b"12345")
        handle = self.opened(self.path(b"f"), READ)
        self.assertEqual(bytes(self.storage.read(handle, 3, 100)), b"45")
        for off in (5, 6, 4096, 1 << 33):
            self.assertEqual(bytes(self.storage.read(handle, off, 100)), b"", f"at {off}")

    @needs("open", "read", "close")
    def test_an_empty_file_ends_at_once(self) -> None:
        self.put(self.path(b"f"), b"")
        self.assertEqual(self.content(self.path(b"f")), b"")

    @needs("open", "read", "close")
    def test_a_client_reads_to_the_end_and_is_told_so(self) -> None:
        content = random.Random(self.seed).randbytes(2 * MAX_DATA + 12_345)
        self.put(self.path(b"f"), content)
        handle = get_sftphandle(self.client.call("open", self.path(b"f"), READ, 0))
        got = b""
        while len(got) < len(content):
            got += get_sftpdata(self.client.call("read", handle, len(got), MAX_DATA))
        self.assertEqual(got, content, f"seed {self.seed}")
        for off in (len(content), len(content) + 1, 1 << 33):
            self.assertEqual(get_sftpstatus(self.client.call("read", handle, off, 1)), SSH2_FX_EOF)
        self.assert_ok(self.client.call("close", handle))

    # --- write ------------------------------------------------------------------------------------

    @needs("open", "read", "write", "close", "fstat")
    def test_writes_at_any_offset_land_there_and_nowhere_else(self) -> None:
        rng = random.Random(self.seed)
        handle = self.opened(self.path(b"f"), BOTH | os.O_CREAT)
        model = bytearray()
        for step in range(200):
            off, chunk = rng.randrange(60_000), rng.randbytes(rng.randrange(1, 5_000))
            self.storage.write(handle, off, chunk)
            model.extend(bytes(max(0, off - len(model))))  # a hole reads as zeros
            model[off : off + len(chunk)] = chunk
            where = rng.randrange(len(model))
            data = bytes(self.storage.read(handle, where, 1_000))
            self.assertEqual(data, model[where : where + 1_000], f"seed {self.seed}, step {step}")
            self.assertEqual(self.storage.fstat(handle).size, len(model), f"seed {self.seed}, step {step}")
        self.assertEqual(self.content(self.path(b"f")), model)

    @needs("open", "read", "write", "close", "lstat")
    def test_a_hole_reads_as_zeros(self) -> None:
        handle = self.opened(self.path(b"f"), BOTH | os.O_CREAT)
        self.storage.write(handle, 0, b"head")
        self.storage.write(handle, 3_000_000, b"tail")
        self.assertEqual(self.storage.lstat(self.path(b"f")).size, 3_000_004)
        self.assertEqual(self.content(self.path(b"f")), b"head" + bytes(2_999_996) + b"tail")

    @needs("open", "read", "write", "close")
    def test_chunks_of_several_mebibytes_are_stored_whole(self) -> None:
        content = random.Random(self.seed).randbytes(3 << 20)
        handle = self.opened(self.path(b"f"), BOTH | os.O_CREAT)
        self.storage.write(handle, 0, content)
        self.storage.write(handle, len(content), content)
        self.assertTrue(self.content(self.path(b"f")) == content * 2, f"seed {self.seed}")

    @needs("open", "read", "write", "close")
    def test_a_client_writes_chunks_of_the_largest_size_in_any_order(self) -> None:
        rng = random.Random(self.seed)
        content = rng.randbytes(8 * MAX_DATA + 1)
        handle = get_sftphandle(self.client.call("open", self.path(b"f"), CREATE, 0o666))
        offsets = list(range(0, len(content), MAX_DATA))
        rng.shuffle(offsets)
        for off in offsets:
            self.assert_ok(self.client.call("write", handle, off, content[off : off + MAX_DATA]))
        self.assert_ok(self.client.call("close", handle))
        self.assertTrue(self.content(self.path(b"f")) == content, f"seed {self.seed}")

    @needs("open", "read", "write", "close")
    def test_an_empty_chunk_changes_nothing(self) -> None:
        self.put(self.path(b"f"), b"abc")
        handle = self.opened(self.path(b"f"), WRITE)
        self.storage.write(handle, 1, b"")
        self.storage.write(handle, 100, b"")
        self.assertEqual(self.content(self.path(b"f")), b"abc")

    @needs("open", "read", "write", "close")
    def test_appending_ignores_the_offset_whoever_else_writes(self) -> None:
        self.put(self.path(b"f"), b"0")
        first = self.opened(self.path(b"f"), WRITE | os.O_APPEND)
        second = self.opened(self.path(b"f"), WRITE | os.O_APPEND)
        for off, handle, chunk in ((0, first, b"1"), (0, second, b"2"), (77, first, b"3"), (0, second, b"4")):
            self.storage.write(handle, off, chunk)
        self.assertEqual(self.content(self.path(b"f")), b"01234")

    @needs("open", "read", "write", "close")
    def test_a_handle_is_good_for_no_more_than_it_was_opened_for(self) -> None:
        self.put(self.path(b"f"), b"content")
        reader = self.opened(self.path(b"f"), READ)
        self.assertIsNotNone(self.raised(self.storage.write, reader, 0, b"x"), "written through O_RDONLY")
        writer = self.opened(self.path(b"f"), WRITE)
        self.assertIsNotNone(self.raised(self.storage.read, writer, 0, 1), "read through O_WRONLY")
        self.assertEqual(self.content(self.path(b"f")), b"content")

    @needs("open", "read", "write", "close")
    def test_offsets_that_no_file_can_have_are_answered(self) -> None:
        self.put(self.path(b"f"), b"content")
        handle = get_sftphandle(self.client.call("open", self.path(b"f"), BOTH, 0))
        for off in HUGE:
            with self.subTest(off=off):
                get_sftpstatus(
                    self.client.call("read", handle, off, 10)
                )  # EOF or an error; no data, no fault
                self.assertNotEqual(get_sftpstatus(self.client.call("write", handle, off, b"x")), 0)
        self.assertEqual(self.content(self.path(b"f")), b"content")

    @needs("open", "read", "write", "close")
    def test_what_was_written_is_the_storages_own(self) -> None:
        handle = self.opened(self.path(b"f"), BOTH | os.O_CREAT)
        buffer = bytearray(b"as it was written")
        is_view = self.storage.fileno(handle) is not None  # only then a chunk may be a view
        self.storage.write(handle, 0, memoryview(buffer) if is_view else bytes(buffer))
        buffer[:] = bytes(len(buffer))
        self.assertEqual(bytes(self.storage.read(handle, 0, 100)), b"as it was written")

    # --- handles ----------------------------------------------------------------------------------

    @needs("open", "read", "write", "close")
    def test_handles_of_one_file_see_each_others_writes(self) -> None:
        writer = self.opened(self.path(b"f"), CREATE)
        reader = self.opened(self.path(b"f"), READ)
        self.storage.write(writer, 0, b"first")
        self.assertEqual(bytes(self.storage.read(reader, 0, 100)), b"first")
        self.storage.write(writer, 5, b" second")
        self.assertEqual(bytes(self.storage.read(reader, 0, 100)), b"first second")
        self.assertEqual(bytes(self.storage.read(reader, 6, 3)), b"sec")

    @needs("open", "read", "close")
    def test_handles_are_independent(self) -> None:
        for name in (b"a", b"b"):
            self.put(self.path(name), name * 100)
        handles = [(name, self.storage.open(self.path(name), READ, 0)) for name in (b"a", b"b", b"a")]
        name, closed = handles.pop()
        self.storage.close(closed)
        for off in (90, 0, 50):
            for name, handle in handles:
                self.assertEqual(bytes(self.storage.read(handle, off, 10)), name * 10)
        for _, handle in handles:
            self.storage.close(handle)

    @needs("open", "read", "write", "close", "mkdir", "opendir", "lstat", "rm")
    def test_an_abandoned_upload_leaves_what_was_there_or_what_was_written_and_nothing_else(self) -> None:
        self.storage.mkdir(self.path(b"d"), 0o777)
        path = self.path(b"d/f")
        for old, flags in ((None, os.O_EXCL), (b"old content", os.O_TRUNC), (b"old content", 0)):
            with self.subTest(old=old, flags=flags):
                if old is not None:
                    self.put(path, old)
                handle = self.storage.open(path, CREATE | flags, 0o666)
                self.storage.write(handle, 0, b"HALF")
                self.storage.abandon(handle)
                there = self.content(path) if self.exists(path) else None
                written = b"HALF" + (old or b"")[4:] if not flags & os.O_TRUNC else b"HALF"
                self.assertIn(there, (old, written))
                self.assertEqual(self.names(self.path(b"d")), [] if there is None else [b"f"])
                self.put(path, b"whole")
                self.assertEqual(self.content(path), b"whole")
                self.storage.rm(path)
                self.assertEqual(self.names(self.path(b"d")), [])

    @needs("open", "read", "write", "close", "lstat")
    def test_a_client_that_vanishes_leaves_the_file_to_others(self) -> None:
        path = self.file(b"f", b"old content")
        handle = get_sftphandle(self.client.call("open", path, CREATE | os.O_TRUNC, 0o666))
        self.assert_ok(self.client.call("write", handle, 0, b"HALF"))
        self.client.close()
        self.assertIn(self.content(path), (b"old content", b"HALF"))
        self.put(path, b"whole")
        self.assertEqual(self.content(path), b"whole")

    @needs("open", "read", "write", "close", "lstat")
    def test_a_write_that_fails_halfway_ends_in_a_close_that_says_what_is_there(self) -> None:
        for old in (None, b"old content"):
            with self.subTest(old=old):
                path = self.path(b"f-%d" % (old is None))
                if old is not None:
                    self.put(path, old)
                handle = get_sftphandle(self.client.call("open", path, CREATE | os.O_TRUNC, 0o666))
                self.assert_ok(self.client.call("write", handle, 0, b"one "))
                patch = functools.partial(mock.patch.object, self.storage)
                with patch("write", self._full), patch("window", 0):  # no write is promised
                    self.assertEqual(get_sftpstatus(self.client.call("write", handle, 4, b"two ")), FAILED)
                closed = get_sftpstatus(self.client.call("close", handle)) == 0
                there = self.content(path) if self.exists(path) else None
                self.assertEqual(there, b"one " if closed else old)
                self.put(path, b"whole")
                self.assertEqual(self.content(path), b"whole")

    def _full(self, *arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @needs("open", "read", "write", "close", "lstat", "opendir", "mkdir")
    def test_a_storage_that_fails_answers_and_has_everything_afterwards(self) -> None:
        self.make({b"d": None, b"d/f": b"content", b"d/g": b"old"})
        directory, path = self.path(b"d"), self.path(b"d/f")
        reader = self.storage.open(path, READ, 0)
        writer = self.storage.open(self.path(b"d/g"), CREATE | os.O_TRUNC, 0o666)
        context = self.failing()
        if context is not None:
            with context:
                failures = [
                    self.raised(getattr(self.storage, method), *arguments)
                    for method, *arguments in (
                        ("stat", path),
                        ("opendir", directory),
                        ("open", path, READ, 0),
                        ("open", self.path(b"d/new"), CREATE, 0o666),
                        ("read", reader, 0, 100),
                        ("write", writer, 0, b"x"),
                        ("mkdir", self.path(b"d/sub"), 0o777),
                    )
                ]
                self.assertTrue(any(failures), "nothing has failed")
        self.raised(self.storage.abandon, writer)
        self.raised(self.storage.close, reader)
        self.assertEqual(self.content(path), b"content")
        self.assertLessEqual({b"f", b"g"}, set(self.names(directory)))
        self.put(self.path(b"d/g"), b"new")
        self.assertEqual(self.content(self.path(b"d/g")), b"new")

    @needs("open", "read", "write", "close", "rm")
    def test_a_removed_file_stays_readable_and_writable_through_its_handle(self) -> None:
        path = self.file(b"f", b"old file")
        handle = self.opened(path, BOTH)
        self.storage.rm(path)
        self.assert_refused(NOT_FOUND, "open", path, READ, 0)
        self.put(path, b"new file")
        self.storage.write(handle, 0, b"OLD")
        self.assertEqual(bytes(self.storage.read(handle, 0, 100)), b"OLD file")
        self.assertEqual(self.content(path), b"new file")

    @needs("open", "read", "write", "close", "rename")
    def test_a_handle_follows_its_file_through_a_rename(self) -> None:
        self.put(self.path(b"old"), b"content")
        handle = self.opened(self.path(b"old"), BOTH)
        self.storage.rename(self.path(b"old"), self.path(b"new"))
        self.storage.write(handle, 0, b"C")
        self.assertEqual(self.content(self.path(b"new")), b"Content")

    @needs("open", "read", "write", "close", "mkdir", "opendir")
    def test_many_small_files_are_kept_apart(self) -> None:
        self.storage.mkdir(self.path(b"many"), 0o777)
        for number in range(50):
            self.put(self.path(b"many/%d" % number), b"%d" % number)
        self.assertEqual(len(self.names(self.path(b"many"))), 50)
        for number in range(50):
            self.assertEqual(self.content(self.path(b"many/%d" % number)), b"%d" % number)

    @needs("open", "read", "write", "close", "fsync")
    def test_fsync_returns_and_changes_nothing(self) -> None:
        handle = self.opened(self.path(b"f"), BOTH | os.O_CREAT)
        self.storage.write(handle, 0, b"safe")
        self.storage.fsync(handle)
        self.assertEqual(self.content(self.path(b"f")), b"safe")

    @needs("open", "read", "write", "close")
    def test_the_descriptor_behind_a_handle_is_that_file(self) -> None:
        handle = self.opened(self.path(b"f"), BOTH | os.O_CREAT)
        self.storage.write(handle, 0, b"through the storage")
        descriptor = self.storage.fileno(handle)
        if descriptor is not None:
            self.assertEqual(os.pread(descriptor, 100, 0), b"through the storage")
            os.pwrite(descriptor, b"THROUGH", 0)
            self.assertEqual(bytes(self.storage.read(handle, 0, 100)), b"THROUGH the storage")
