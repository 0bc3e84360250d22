"""READs and WRITEs that a storage promises: many at once, in order, and before anything else is served."""

from __future__ import annotations

import os
import unittest
from typing import Any

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.engine.segments import PromisedReply
from pysftpserver.pysftpexceptions import SFTPForbidden
from tests.support import packets as sftp
from tests.support.doors import FILE
from tests.support.packets import Client, replies, request, string, u32, u64


class Promise:
    """Kept when a test says so, or when somebody waits for it."""

    def __init__(self, storage: Promising, what: str, answer: Any) -> None:
        self.storage = storage
        self.what = what
        self.answer = answer
        self.is_here = False

    def is_kept(self) -> bool:
        return self.is_here

    def result(self) -> Any:
        self.storage.done.append(self.what)
        self.is_here = True
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def fileno(self) -> int:
        return 0

    def seconds_left(self) -> float:
        return 60


class Promising(SFTPAbstractServerStorage):
    """One file of ten bytes. refuses: what promise_read() and promise_write() leave to read() and write()."""

    window = 1 << 20

    def __init__(self) -> None:
        self.content = bytearray(b"0123456789")
        self.promises: list[Promise] = []
        self.done: list[str] = []
        self.failure: Exception | None = None
        self.refuses = False

    def open(self, path: bytes, flags: int, mode: int) -> object:
        return self

    def close(self, handle: object) -> None:
        self.done.append("close")

    def fstat(self, handle: object) -> SFTPAttributes:
        self.done.append("fstat")
        return SFTPAttributes(size=len(self.content))

    def read(self, handle: object, off: int, size: int) -> bytes:
        self.done.append(f"read {off}")
        return bytes(self.content[off : off + size])

    def write(self, handle: object, off: int, chunk: Any) -> None:
        self.done.append(f"write {off}")

    def promise_read(self, handle: object, off: int, size: int) -> Promise | None:
        return self._promise(f"promised read {off}", bytes(self.content[off : off + size]))

    def promise_write(self, handle: object, off: int, chunk: Any) -> Promise | None:
        self.content[off : off + len(chunk)] = chunk
        return self._promise(f"promised write {off}", None)

    def _promise(self, what: str, answer: Any) -> Promise | None:
        if self.refuses:
            return None
        self.promises.append(Promise(self, what, self.failure or answer))
        return self.promises[-1]


def read(number: int, off: int, size: int = 4) -> bytes:
    return request("read", number, FILE, u64(off), u32(size))


def write(number: int, off: int, data: bytes) -> bytes:
    return request("write", number, FILE, u64(off), string(data))


class Promises(unittest.TestCase):
    def setUp(self) -> None:
        self.storage = Promising()
        self.client = Client(self.storage, level=0)
        self.client.open(b"f", sftp.READ | sftp.WRITE)

    def feed(self, *packets: bytes) -> None:
        data = b"".join(packets)
        self.client.server.consume(memoryview(data), 0, len(data))

    def sendable(self) -> bytes:
        """What a door could send now, without waiting."""
        output = self.client.server.output
        sent = b""
        while output.segments and output.awaited() is None:
            segment = output.first(memoryview(b""))
            sent += segment
            output.sent(len(segment))
        return sent

    def answered(self) -> list[tuple[int, Any]]:
        return [(number, reply.content) for number, reply in replies(self.sendable())]

    def test_many_are_in_flight_and_answered_in_order(self) -> None:
        self.feed(read(1, 0), read(2, 4), write(3, 8, b"XY"), read(4, 6))
        first, second, third, fourth = self.storage.promises
        self.assertEqual(self.answered(), [])
        third.is_here = second.is_here = True
        self.assertEqual(self.answered(), [])
        first.is_here = True
        self.assertEqual(self.answered(), [(1, b"0123"), (2, b"4567"), (3, sftp.OK)])
        fourth.is_here = True
        self.assertEqual(self.answered(), [(4, b"67XY")])
        self.assertEqual(self.client.server.output.size, 0)

    def test_another_request_waits_for_all_of_them(self) -> None:
        self.feed(read(1, 0), write(2, 0, b"x"), request("fstat", 3, FILE))
        self.assertEqual(self.storage.done, ["promised read 0", "promised write 0", "fstat"])
        self.assertEqual([number for number, _ in self.answered()], [1, 2, 3])

    def test_one_that_fails_is_answered_with_its_words_and_the_session_goes_on(self) -> None:
        self.storage.failure = SFTPForbidden("not this one")
        self.feed(read(1, 0), write(2, 0, b"x"))
        self.storage.failure = None
        self.feed(read(3, 4))
        for promise in self.storage.promises:
            promise.is_here = True
        self.assertEqual(
            self.answered(), [(1, sftp.PERMISSION_DENIED), (2, sftp.PERMISSION_DENIED), (3, b"4567")]
        )

    def test_content_that_is_empty_is_the_end(self) -> None:
        self.feed(read(1, 10))
        self.storage.promises[0].is_here = True
        self.assertEqual(self.answered(), [(1, sftp.EOF)])

    def test_what_is_not_promised_is_read_and_written(self) -> None:
        self.storage.refuses = True
        self.feed(read(1, 0), write(2, 0, b"x"))
        self.assertEqual(self.storage.done, ["read 0", "write 0"])
        self.assertEqual(self.answered(), [(1, b"0123"), (2, sftp.OK)])

    def test_a_subclass_that_reads_and_writes_otherwise_is_not_bypassed(self) -> None:
        class Otherwise(Promising):
            def read(self, handle: object, off: int, size: int) -> bytes:
                return b"decrypted"[:size]

            def write(self, handle: object, off: int, chunk: Any) -> None:
                self.done.append("encrypted")

        self.storage = Otherwise()
        self.client = Client(self.storage, level=0)
        self.client.open(b"f", sftp.READ | sftp.WRITE)
        self.feed(read(1, 0), write(2, 0, b"x"))
        self.assertEqual(self.answered(), [(1, b"decr"), (2, sftp.OK)])
        self.assertEqual((self.storage.promises, self.storage.done), ([], ["encrypted"]))

    def test_no_more_is_asked_for_than_the_queue_holds(self) -> None:
        server = self.client.server
        server.queue_limit = 100
        data = b"".join(read(number, 0, 60) for number in range(5))
        used = server.consume(memoryview(data), 0, len(data))
        self.assertEqual(len(self.storage.promises), 2)
        self.storage.promises[0].is_here = True
        self.assertEqual([number for number, _ in self.answered()], [0])
        server.consume(memoryview(data), used, len(data))
        self.assertEqual(len(self.storage.promises), 3)

    def test_bytes_are_counted_when_they_have_moved(self) -> None:
        self.feed(read(1, 0), write(2, 8, b"XY"))
        (file,) = self.client.server.handles.opened.values()
        self.assertEqual((file.bytes_read, file.bytes_written), (0, 0))
        self.feed(request("fstat", 3, FILE))
        self.assertEqual((file.bytes_read, file.bytes_written), (4, 2))

    def test_the_window_is_what_the_storage_needs(self) -> None:
        self.assertEqual(self.client.server.queue_limit, 1 << 20)
        self.storage.window = 8 << 20
        self.assertEqual(Client(self.storage).server.queue_limit, 8 << 20)

    def test_a_session_that_ends_forgets_them(self) -> None:
        self.feed(read(1, 0))
        self.client.server.close()
        self.assertEqual(self.storage.done, ["close"])
        self.assertIsNone(self.client.server.output.awaited())
        self.assertFalse(any(isinstance(s, PromisedReply) for s in self.client.server.output.segments))


class Copies(unittest.TestCase):
    def test_are_made_where_the_files_are_if_the_storage_can(self) -> None:
        copied: list[tuple[int, int, int]] = []

        class Copying(Promising):
            def copy_range(self, source: Any, off: int, size: int, target: Any, target_off: int) -> int:
                copied.append((off, size, target_off))
                return size

        client = Client(Copying())
        source, target = client.open(b"a"), client.open(b"b", sftp.WRITE)
        reply = client.ask("copy-data", source, u64(2), u64(0), target, u64(5))
        self.assertEqual((reply.content, copied), (sftp.OK, [(2, 8, 5)]))


class Lacks(unittest.TestCase):
    def test_an_extension_that_does_not_work_there_is_not_announced(self) -> None:
        class Lacking(Promising):
            lacks = frozenset({"fsync"})

            def fsync(self, handle: Any) -> None:
                os.sync()

            def statvfs(self, path: bytes) -> os.statvfs_result:
                return os.statvfs("/")

        announced = sftp.extensions(Client(Lacking()).version)
        self.assertIn(b"statvfs@openssh.com", announced)
        self.assertNotIn(b"fsync@openssh.com", announced)
