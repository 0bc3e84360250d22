"""The audit log without READ and WRITE: the fast path stays on, and each close says what has moved."""

from __future__ import annotations

import hashlib
import os
from typing import Any
from unittest import mock

from pysftpserver.engine import receipts
from pysftpserver.engine.bulk import LATE_FROM
from pysftpserver.hook import SFTPEvent, SFTPHook, SFTPHooks
from pysftpserver.pysftpexceptions import SFTPForbidden
from pysftpserver.storage import SFTPServerStorage
from pysftpserver.uploads.atomic import AtomicUploads
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.engine.test_promises import Promising
from tests.support import packets as sftp
from tests.support.auditing import Audited
from tests.support.packets import Attributes, Client, attrs, replies, request, string, u32, u64
from tests.support.watching import READING, WRITING, Watched

PIECE = 32768
FLAGS = sftp.WRITE | sftp.CREAT | sftp.TRUNC


class OfOneRequest(SFTPHook):
    """Counts what it is told of WRITE, and has no method for anything else."""

    def __init__(self) -> None:
        self.count = 0

    def after_write(self, event: SFTPEvent) -> None:
        self.count += 1


class NoClosing(SFTPHook):
    wants = frozenset({"close"})

    def before(self, event: SFTPEvent) -> None:
        raise SFTPForbidden


class Case(Watched, Audited):
    digests = True

    def setUp(self) -> None:
        super().setUp()
        self.content = os.urandom(5 * PIECE + 77)
        (self.root / "f").write_bytes(self.content)

    def audited(self, storage: Any = None, *others: SFTPHook, **how: Any) -> Client:
        audit = self.audit(level="operations", digests=self.digests, **how)
        hook = SFTPHooks(*others, audit) if others else audit
        return self.client_of(storage or SFTPServerStorage(self.root), hook=hook)

    def put(self, client: Client, path: bytes, order: Any = range(6), flags: int = FLAGS) -> bytes:
        """Write the content in pieces; return the handle."""
        handle = client.open(path, flags)
        pieces = [(n * PIECE, self.content[n * PIECE : (n + 1) * PIECE]) for n in order]
        stream = (request("write", 1, handle, u64(place), string(piece)) for place, piece in pieces)
        for _, reply in replies(client.feed(b"".join(stream))):
            self.assertEqual(reply.content, sftp.OK)
        return handle

    def get(self, client: Client, path: bytes, sizes: Any = (PIECE,) * 7) -> bytes:
        handle, place = client.open(path), 0
        stream = []
        for size in sizes:
            stream.append(request("read", 1, handle, u64(place), u32(size)))
            place += size
        client.feed(b"".join(stream))
        return handle

    def closed(self, client: Client, handle: bytes) -> dict[str, Any]:
        """The record of a close."""
        self.assertEqual(client.status("close", handle), sftp.OK)
        record = self.sink.last
        self.assertEqual(record["request"], "close")
        return record

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


class WhatHooksWant(Case):
    def test_transfers_of_an_audited_session_take_the_fast_path(self) -> None:
        client = self.audited()
        self.closed(client, self.put(client, b"g"))
        self.closed(client, self.get(client, b"g"))
        self.assert_fast(WRITING, 6)
        self.assert_fast(READING, 7)
        self.assertEqual([r["request"] for r in self.sink.records], ["init", *["open", "close"] * 2])

    def test_a_request_that_a_hook_wants_is_watched_and_the_other_is_not(self) -> None:
        hook = OfOneRequest()
        client = self.audited(None, hook)
        self.put(client, b"g")
        self.get(client, b"f")
        self.assertEqual(hook.count, 6)
        self.assert_fast(WRITING, 0)
        self.assert_fast(READING, 7)

    def test_of_several_hooks_each_is_told_what_it_wants(self) -> None:
        hook = OfOneRequest()
        self.assertTrue(hook.hears("write"))
        self.assertFalse(hook.hears("read"))
        client = self.audited(None, hook, NoClosing())
        handle = self.put(client, b"g")
        self.assertEqual(client.status("close", handle), sftp.PERMISSION_DENIED)
        self.assertNotIn("read", self.sink.last)
        self.assertEqual(hook.count, 6)

    def test_bytes_are_counted_at_the_close_and_once_at_the_end(self) -> None:
        client = self.audited()
        size = len(self.content)
        record = self.closed(client, self.put(client, b"g"))
        self.assertEqual((record["read"], record["written"], record["bytes"]), (0, size, 0))
        record = self.closed(client, self.get(client, b"g"))
        self.assertEqual((record["read"], record["written"]), (size, 0))
        source, target = client.open(b"f"), client.open(b"h", FLAGS)
        client.ask("copy-data", source, u64(0), u64(0), target, u64(0))
        self.assertEqual(self.closed(client, target)["written"], size)
        client.ask("read", source, u64(0), u32(10))
        client.server.close()
        left, end = self.sink.records[-2:]
        self.assertEqual((left["request"], left["path"], left["read"]), ("abandoned", "f", size + 10))
        self.assertEqual((end["request"], end["bytes"]), ("end", 3 * size + 10))


class Digests(Case):
    def test_are_those_of_files_that_are_stored_and_fetched_whatever_the_pieces(self) -> None:
        (self.root / "empty").touch()
        nothing = hashlib.sha256().hexdigest()
        for jail in (False, True):
            client = self.audited(SFTPServerVirtualChroot(self.root) if jail else None)
            self.assertEqual(self.closed(client, self.put(client, b"g"))["sha256"], self.sha256)
            for sizes in ((PIECE,) * 7, (100, LATE_FROM, PIECE + 1, 4 * PIECE), (2**30,), (5 * PIECE, 77)):
                self.assertEqual(self.closed(client, self.get(client, b"f", sizes))["sha256"], self.sha256)
            self.assertEqual(self.closed(client, self.get(client, b"empty"))["sha256"], nothing)
            self.assertEqual(self.closed(client, client.open(b"new", FLAGS))["sha256"], nothing)

    def test_are_taken_off_the_fast_path_as_well(self) -> None:
        client = self.audited()
        client.server.transfers = frozenset()
        self.assertEqual(self.closed(client, self.put(client, b"g"))["sha256"], self.sha256)
        self.assertEqual(self.closed(client, self.get(client, b"f"))["sha256"], self.sha256)
        self.assert_never_fast()

    def test_are_taken_of_promises(self) -> None:
        storage = Promising()
        digest = hashlib.sha256(storage.content).hexdigest()
        client = self.audited(storage)
        handle = client.open(b"f")
        client.feed(b"".join(request("read", n, handle, u64(5 * n), u32(5)) for n in range(3)))
        self.assertEqual(self.closed(client, handle)["sha256"], digest)
        handle = client.open(b"f", sftp.WRITE)
        client.feed(b"".join(request("write", n, handle, u64(5 * n), string(b"abcde")) for n in range(2)))
        self.assertEqual(self.closed(client, handle)["sha256"], hashlib.sha256(b"abcde" * 2).hexdigest())
        self.assertTrue(any(what.startswith("promised write") for what in storage.done))

    def test_of_a_file_that_is_not_written_in_order_come_from_reading_it_again(self) -> None:
        atomic = type("Atomic", (AtomicUploads, SFTPServerVirtualChroot), {})(self.root)
        for storage in (None, atomic):
            for order in ((1, 0, 2, 3, 4, 5), (5, 4, 3, 2, 1, 0), (0, 1, 1, 2, 3, 4, 5)):
                client = self.audited(storage)
                with mock.patch.object(receipts, "read_again", wraps=receipts.read_again) as again:
                    record = self.closed(client, self.put(client, b"g", order))
                self.assertEqual((record["sha256"], again.call_count), (self.sha256, 1))

    def test_tell_what_is_in_the_file_whatever_else_has_changed_it(self) -> None:
        def cut(client: Client, handle: bytes) -> None:
            client.ask("fsetstat", handle, attrs(Attributes(size=5)))
            client.ask("fsetstat", handle, attrs(Attributes(size=len(self.content))))

        def cut_by_name(client: Client, handle: bytes) -> None:
            client.ask("setstat", string(b"g"), attrs(Attributes(size=5)))
            client.ask("setstat", string(b"g"), attrs(Attributes(size=len(self.content))))

        def copy(client: Client, handle: bytes) -> None:
            client.ask("copy-data", client.open(b"f"), u64(5), u64(9), handle, u64(0))

        for change in (cut, cut_by_name, copy):
            client = self.audited()
            handle = self.put(client, b"g")
            change(client, handle)
            record = self.closed(client, handle)
            self.assertEqual(record["sha256"], hashlib.sha256((self.root / "g").read_bytes()).hexdigest())
            self.assertNotEqual(record["sha256"], self.sha256)

    def test_of_a_longer_file_that_is_overwritten_in_part_or_appended_to_are_of_all_of_it(self) -> None:
        for flags in (sftp.WRITE, sftp.WRITE | sftp.APPEND):
            (self.root / "g").write_bytes(self.content + b"more")
            client = self.audited()
            record = self.closed(client, self.put(client, b"g", (0,), flags))
            self.assertEqual(record["sha256"], hashlib.sha256((self.root / "g").read_bytes()).hexdigest())

    def test_are_missing_with_a_reason_if_a_file_was_not_fetched_as_a_whole_in_order(self) -> None:
        for sizes, first in (((PIECE,), 0), ((PIECE,) * 7, PIECE)):
            client = self.audited()
            handle = client.open(b"f")
            client.ask("read", handle, u64(first), u32(100))
            client.feed(
                b"".join(request("read", 1, handle, u64(n * PIECE), u32(PIECE)) for n in range(len(sizes)))
            )
            record = self.closed(client, handle)
            self.assertEqual(record["sha256_missing"], receipts.IN_PART)
            self.assertNotIn("sha256", record)

    def test_are_missing_with_a_reason_if_it_cannot_be_read_again(self) -> None:
        client = self.audited()
        handle = self.put(client, b"g", (1, 0))
        client.ask("remove", string(b"g"))
        record = self.closed(client, handle)
        self.assertIn("could not be read again: No such file", record["sha256_missing"])

    def test_are_not_there_where_nothing_was_moved_or_nobody_asks(self) -> None:
        client = self.audited()
        for flags in (sftp.READ, sftp.WRITE):
            self.assertFalse(
                {"sha256", "sha256_missing"} & set(self.closed(client, client.open(b"f", flags)))
            )
        self.digests = False
        client = self.audited()
        self.assertFalse({"sha256", "sha256_missing"} & set(self.closed(client, self.put(client, b"g"))))

    def test_of_files_that_are_left_open_are_there_as_far_as_they_are_known(self) -> None:
        client = self.audited()
        self.get(client, b"f")
        self.put(client, b"g", (1, 0))
        client.server.close()
        fetched, stored = self.sink.records[-3:-1]
        self.assertEqual(fetched["sha256"], self.sha256)
        self.assertEqual(stored["sha256_missing"], "not closed, and not written in order")

    def test_of_a_write_that_failed_in_part_tell_what_is_there(self) -> None:
        client = self.audited()
        handle = self.put(client, b"g")
        with mock.patch.object(SFTPServerStorage, "write", side_effect=OSError(28, "full")):
            client.feed(request("write", 1, handle, u64(len(self.content)), string(b"x")))
        with mock.patch.object(receipts, "read_again", wraps=receipts.read_again) as again:
            self.assertEqual(self.closed(client, handle)["sha256"], self.sha256)
        self.assertEqual(again.call_count, 1)


class OfFilesOnly(Case):
    """The level "files"."""

    def recorded(self, *others: SFTPHook, **how: Any) -> list[tuple[str, str, str]]:
        """What is recorded of a session that does something of each kind: request, path and result."""
        hook = self.audit(level="files")
        client = self.client_of(
            SFTPServerStorage(self.root), hook=SFTPHooks(*others, hook) if others else hook, **how
        )
        for name in ("stat", "lstat", "realpath", "readlink", "statvfs", "opendir"):
            client.ask(name, string(b"missing"))
        handle = client.open(b"f")
        client.ask("fstat", handle)
        client.ask("close", handle)
        client.ask("mkdir", string(b"d"), sftp.NO_ATTRS)
        return [(one["request"], one["path"], one["result"]) for one in self.sink.records[1:]]

    def test_leaves_look_ups_out(self) -> None:
        what = ("opendir", "missing", "NO_SUCH_FILE"), ("open", "f", "OK"), ("close", "f", "OK")
        self.assertEqual(self.recorded(), [*what, ("mkdir", "d", "OK")])

    def test_has_those_that_are_refused_whatever_other_hooks_hear(self) -> None:
        refused = [(name, path, "PERMISSION_DENIED") for name, path in (("lstat", "missing"), ("fstat", "f"))]
        for others in ((), (SFTPHook(),), (HearsAll(),)):
            self.setUp()
            found = self.recorded(*others, deny=("lstat", "fstat"))
            self.assertEqual([one for one in found if one[0] in ("lstat", "fstat")], refused)

    def test_is_all_that_is_refused_but_read_and_write(self) -> None:
        client = self.client_of(SFTPServerStorage(self.root), hook=self.audit(level="files"), deny=("read",))
        handle = client.open(b"f")
        self.sink.lines.clear()
        client.ask("read", handle, u64(0), u32(1))
        self.assertEqual(self.sink.lines, [])


class HearsAll(SFTPHook):
    def after(self, event: SFTPEvent) -> None:
        pass
