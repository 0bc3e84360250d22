"""Rules for a storage's own file methods: checksum, write, abandon, close, fileno, and failures.

What a client sees of files is in the table: rules/opens.py, files.py, data.py and handles.py.
"""

from __future__ import annotations

import errno
import functools
import os
import random
import zlib
from unittest import mock

from pysftpserver.contract.base import FAILED, ContractBase, needs
from pysftpserver.contract.packets import (
    get_sftpextended,
    get_sftphandle,
    get_sftpstatus,
    sftpstring,
)
from pysftpserver.engine.checksums import ALGORITHMS
from pysftpserver.engine.wire import SSH2_FXP_EXTENDED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CREATE = os.O_WRONLY | os.O_CREAT
READ, WRITE, BOTH = os.O_RDONLY, os.O_WRONLY, os.O_RDWR


class FileRules(ContractBase):
    """Rules for files that are not in the table of rules."""

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

    @needs("open", "read", "write", "close")
    def test_chunks_of_several_mebibytes_are_stored_whole(self) -> None:
        content = random.Random(self.seed).randbytes(3 << 20)
        handle = self.opened(self.path(b"f"), BOTH | os.O_CREAT)
        self.storage.write(handle, 0, content)
        self.storage.write(handle, len(content), content)
        self.assertTrue(self.content(self.path(b"f")) == content * 2, f"seed {self.seed}")

    @needs("open", "read", "write", "close")
    def test_what_was_written_is_the_storages_own(self) -> None:
        handle = self.opened(self.path(b"f"), BOTH | os.O_CREAT)
        buffer = bytearray(b"as it was written")
        is_view = self.storage.fileno(handle) is not None  # only then may a chunk be a view
        self.storage.write(handle, 0, memoryview(buffer) if is_view else bytes(buffer))
        buffer[:] = bytes(len(buffer))
        self.assertEqual(bytes(self.storage.read(handle, 0, 100)), b"as it was written")

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

    @needs("open", "read", "write", "close")
    def test_the_descriptor_behind_a_handle_is_that_file(self) -> None:
        handle = self.opened(self.path(b"f"), BOTH | os.O_CREAT)
        self.storage.write(handle, 0, b"through the storage")
        descriptor = self.storage.fileno(handle)
        if descriptor is not None:
            self.assertEqual(os.pread(descriptor, 100, 0), b"through the storage")
            os.pwrite(descriptor, b"THROUGH", 0)
            self.assertEqual(bytes(self.storage.read(handle, 0, 100)), b"THROUGH the storage")
