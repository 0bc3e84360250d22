"""The output queue: late reads, and what they cost."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import sys
import tempfile
import threading
import tracemalloc
import unittest
from pathlib import Path
from unittest import mock

from pysftpserver import stdio
from pysftpserver.engine.handles import FileHandle
from pysftpserver.engine.log import INFO
from pysftpserver.engine.segments import DATA_AT, LateRead, OutputQueue, room
from pysftpserver.engine.wire import DATA_HEADER
from pysftpserver.host.linux import is_on_procfs
from pysftpserver.storage import SFTPServerStorage
from tests.support.packets import MAX_DATA, Client, replies, request, string, u32, u64


class Counting(list[object]):
    """A list that counts how often it is looked at."""

    looks = 0

    def __getitem__(self, index):
        self.looks += 1
        return super().__getitem__(index)


class Queue(unittest.TestCase):
    """A queue with late reads of a small file."""

    CONTENT = b"0123456789"

    def setUp(self) -> None:
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.root / "f").write_bytes(self.CONTENT)
        self.descriptor = os.open(self.root / "f", os.O_RDWR)
        self.addCleanup(os.close, self.descriptor)
        self.errors: list[BaseException] = []

    def late(self, number: int, offset: int = 0, size: int = MAX_DATA) -> LateRead:
        file = FileHandle(b"f", os.O_RDWR, self.descriptor)
        file.descriptor = self.descriptor
        return LateRead(number, file, offset, size, self.failed)

    def failed(self, number: int, error: BaseException) -> bytes:
        self.errors.append(error)
        return b"failed %d" % number

    def queue(self, *segments: bytes | LateRead) -> OutputQueue:
        queue = OutputQueue()
        for segment in segments:
            if isinstance(segment, LateRead):
                queue.append_late(segment)
            else:
                queue.append(segment)
        return queue

    def test_late_reads_are_read_in_their_order_and_the_size_is_that_of_what_they_brought(self):
        reads = [self.late(1), self.late(2, 4), self.late(3, 10), self.late(4, 9)]
        queue = self.queue(b"first", reads[0], b"second", *reads[1:])
        self.assertEqual(queue.size, 11 + 4 * len(room()))
        queue.settle()
        whole = b"".join(queue.segments)
        self.assertEqual((queue.size, queue.late), (len(whole), 0))
        self.assertTrue(whole.startswith(b"first"))
        answers = replies(queue.segments[1] + b"".join(queue.segments[3:]))
        self.assertEqual([number for number, _ in answers], [1, 2, 3, 4])
        self.assertEqual([reply.content for _, reply in answers], [self.CONTENT, b"456789", 1, b"9"])
        self.assertEqual([read.file.bytes_read for read in reads], [10, 6, 0, 1])

    def test_a_read_that_fails_has_its_reply_in_its_place_either_way(self):
        with mock.patch("os.preadv", side_effect=OSError(errno.EIO, "broken")):
            self.assertEqual(self.queue(self.late(7)).first(room()), b"failed 7")
        queue = self.queue(b"a", self.late(8), b"b")
        with mock.patch("os.pread", side_effect=MemoryError):
            queue.settle()
        self.assertEqual((queue.segments, queue.size), ([b"a", b"failed 8", b"b"], 10))
        self.assertEqual([type(error) for error in self.errors], [OSError, MemoryError])

    def test_a_batch_ends_before_the_first_late_read(self):
        queue = self.queue(b"a", b"b", self.late(1), b"c")
        self.assertEqual(queue.batch(9), [b"a", b"b"])
        self.assertEqual(queue.batch(1), [b"a"])
        queue.settle()
        self.assertEqual(len(queue.batch(9)), 4)

    def test_settling_does_not_look_through_a_queue_that_nobody_takes_from(self):
        queue = self.queue(*[b"reply"] * 50_000, self.late(1))
        queue.segments = looked_at = Counting(queue.segments)  # type: ignore[assignment]
        queue.settle()
        self.assertLess(looked_at.looks, 10)

    def test_data_is_read_to_where_a_copy_of_a_page_is_fast(self):
        data = ctypes.c_char.from_buffer(room(), DATA_HEADER)
        self.assertEqual(ctypes.addressof(data) % mmap.PAGESIZE, DATA_AT)
        self.assertGreaterEqual(DATA_AT, 32)

    def test_small_replies_leave_in_few_calls_whatever_stands_behind_them(self):
        reading, writing = os.pipe2(os.O_NONBLOCK)
        self.addCleanup(os.close, reading)
        self.addCleanup(os.close, writing)
        queue = self.queue(*[b"reply"] * 1000, self.late(1))
        with (
            mock.patch("pysftpserver.stdio.os.write", wraps=os.write) as write,
            mock.patch("pysftpserver.stdio.os.writev", wraps=os.writev) as writev,
        ):
            stdio._send(queue, writing, room())
        self.assertEqual((queue.size, queue.segments), (0, []))
        self.assertLess(write.call_count + writev.call_count, 5)
        self.assertTrue(os.read(reading, 1 << 20).endswith(self.CONTENT))


class Memory(unittest.TestCase):
    """What short replies to long READs may take."""

    READS = 3000
    MOST = 8 << 20  # bytes; a full-size buffer for each would be a hundred times as much

    def setUp(self) -> None:
        place = self.enterContext(tempfile.TemporaryDirectory())
        (Path(place) / "f").write_bytes(b"x")
        self.client = Client(SFTPServerStorage(place), level=INFO)
        self.addCleanup(self.client.server.close)
        self.handle = self.client.open(b"f")
        self.read = request("read", 1, self.handle, u64(0), u32(MAX_DATA))

    def peak(self, stream: bytes) -> int:
        """Bytes in use at most while the stream is served and nobody takes the replies."""
        server = self.client.server
        view = memoryview(stream)
        tracemalloc.start()
        try:
            at = server.consume(view, 0, len(stream))
            while server.output.size <= server.queue_limit and at < len(stream):
                at = server.consume(view, at, len(stream))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def test_replies_that_were_read_early_take_no_more_than_they_hold(self):
        refused = request("write", 2, self.handle, u64(0), string(b""))
        self.assertLess(self.peak((self.read + refused) * self.READS), self.MOST)

    def test_process_needs_no_more_either(self):
        server = self.client.server
        server.input_queue = self.read * self.READS
        tracemalloc.start()
        try:
            server.process()
            output = server.output_queue
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        self.assertEqual(len(output), 14 * self.READS)
        self.assertLess(peak, self.MOST)


class Threads(unittest.TestCase):
    """Sessions in several threads of one process."""

    def test_the_look_for_procfs_is_not_disturbed_by_another_threads(self):
        interval = sys.getswitchinterval()
        self.addCleanup(sys.setswitchinterval, interval)
        sys.setswitchinterval(1e-6)
        proc = os.open("/proc/self/status", os.O_RDONLY)
        self.addCleanup(os.close, proc)
        other = os.open(tempfile.gettempdir(), os.O_RDONLY)
        self.addCleanup(os.close, other)
        done = threading.Event()

        def disturb() -> None:
            while not done.is_set():
                is_on_procfs(other)

        threads = [threading.Thread(target=disturb) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            seen = {is_on_procfs(proc) for _ in range(30_000)}
        finally:
            done.set()
            for thread in threads:
                thread.join()
        self.assertEqual(seen, {True})
