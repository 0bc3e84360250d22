"""Where the records of the audit log go: files, FIFOs, pipes and devices, full ones and dead ones too."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from pysftpserver.engine import audit
from pysftpserver.engine.audit import descriptor_sink, file_sink
from tests.support.cases import InAPlace
from tests.support.paths import ROOT
from tests.support.processes import open_descriptors
from tests.support.waiting import PATIENCE

MANY = """
import json, sys
from pysftpserver.engine.audit import file_sink
sink = file_sink(sys.argv[1])
sys.stdin.readline()
for number in range(int(sys.argv[2])):
    text = "x" * (number * 7919 % int(sys.argv[3]))
    sink(json.dumps([sys.argv[4], number, text]).encode() + b"\\n")
"""


class SinkCase(InAPlace):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.place / "audit"

    def fifo(self) -> int:
        """A FIFO at self.path; a descriptor to read it, which does not block."""
        os.mkfifo(self.path)
        return self.closed_later(os.open(self.path, os.O_RDONLY | os.O_NONBLOCK))

    def closed_later(self, descriptor: int) -> int:
        self.addCleanup(os.close, descriptor)
        return descriptor

    def fill(self, path: Path) -> None:
        """Leave no room in a FIFO."""
        writing = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        with self.assertRaises(BlockingIOError):
            while True:
                os.write(writing, b"." * select.PIPE_BUF)
        os.close(writing)

    def read_all(self, reading: int) -> bytes:
        data = b""
        try:
            while piece := os.read(reading, 1 << 16):
                data += piece
        except BlockingIOError:
            pass
        return data


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """As if the disk was full: what fits is written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def patience(milliseconds: int) -> Iterator[None]:
    with mock.patch.object(audit, "PATIENCE", milliseconds):
        yield


class AFile(SinkCase):
    def test_is_made_for_its_owner_only_and_appended_to_when_it_is_there(self) -> None:
        before = os.umask(0)
        try:
            file_sink(self.path)(b"one\n")
        finally:
            os.umask(before)
        self.assertEqual(self.path.stat().st_mode & 0o7777, 0o600)
        self.path.chmod(0o640)
        file_sink(self.path)(b"two\n")
        self.assertEqual(self.path.read_bytes(), b"one\ntwo\n")
        self.assertEqual(self.path.stat().st_mode & 0o7777, 0o640)

    def test_is_closed_when_nothing_writes_to_it_any_more(self) -> None:
        before = open_descriptors()
        for _ in range(20):
            file_sink(self.path)(b"one\n")
        self.assertLess(open_descriptors(), before + 20)

    def test_that_cannot_be_opened_is_an_error_at_once(self) -> None:
        os.mkfifo(self.place / "nobody reads it")
        for path in (self.place, self.place / "missing" / "audit", self.place / "nobody reads it", ""):
            with self.subTest(path), self.assertRaises(OSError):
                file_sink(path)

    def test_has_a_record_whole_or_not_at_all_when_the_disk_is_full(self) -> None:
        one, other = file_sink(self.path), file_sink(self.path)
        one(b"1" * 60 + b"\n")
        with no_file_longer_than(100):
            for _ in range(3):
                with self.assertRaises(OSError):
                    one(b"2" * 60 + b"\n")
            self.assertEqual(self.path.stat().st_size, 61)
            other(b"3" * 30 + b"\n")
        other(b"4" * 60 + b"\n")
        one(b"5" * 60 + b"\n")
        self.assertEqual(
            [line[:1] for line in self.path.read_bytes().split(b"\n")], [b"1", b"3", b"4", b"5", b""]
        )

    def test_that_may_only_grow_has_a_torn_record_on_a_line_of_its_own(self) -> None:
        sink = file_sink(self.path)
        with mock.patch("os.ftruncate", side_effect=PermissionError(1, "Operation not permitted")):
            with no_file_longer_than(10):
                for _ in range(2):
                    with self.assertRaises(OSError):
                        sink(b"a" * 60 + b"\n")
            sink(b"b" * 60 + b"\n")
            with no_file_longer_than(80):
                with self.assertRaises(OSError):
                    sink(b"c" * 60 + b"\n")
            sink(b"d\n")
        self.assertEqual(self.path.read_bytes().split(b"\n"), [b"a" * 10, b"b" * 60, b"c" * 8, b"d", b""])

    def test_has_several_records_that_are_stored_together_as_if_it_was_one_by_one(self) -> None:
        sink = file_sink(self.path)
        assert isinstance(sink, audit.FileSink)
        lines = [byte * 30 + b"\n" for byte in (b"a", b"b", b"c")]
        with mock.patch("os.write", wraps=os.write) as write:
            self.assertEqual(sink.store_all(lines), 3)
        self.assertEqual(write.call_count, 1)
        with no_file_longer_than(100 + 40):
            self.assertEqual(sink.store_all(lines), 0)
            self.assertEqual(self.path.stat().st_size, 93)
            sink(lines[0])
            with mock.patch("os.ftruncate", side_effect=PermissionError(1, "Operation not permitted")):
                self.assertEqual(sink.store_all(lines), 0)
        self.assertEqual(sink.store_all(lines), 0)  # a line end has to come first
        sink(lines[2])
        with no_file_longer_than(124 + 16 + 1 + 31 + 31 + 10):
            with mock.patch("os.ftruncate", side_effect=PermissionError(1, "Operation not permitted")):
                self.assertEqual(sink.store_all(lines), 1)
        found = self.path.read_bytes().split(b"\n")
        self.assertEqual([line[:1] + b"%d" % len(line) for line in found if line], [
            *(b"a30", b"b30", b"c30", b"a30", b"a16", b"c30", b"a30", b"b10"),
        ])  # fmt: skip

    def test_that_is_none_or_that_others_keep_locked_stores_nothing_together(self) -> None:
        reading = self.fifo()
        sink = file_sink(self.path)
        assert isinstance(sink, audit.FileSink)
        self.assertEqual(sink.store_all([b"a\n", b"b\n"]), 0)
        self.assertEqual(self.read_all(reading), b"")
        self.path.unlink()
        with patience(50):
            sink = file_sink(self.path)
        assert isinstance(sink, audit.FileSink)
        other = self.closed_later(os.open(self.path, os.O_RDONLY))
        fcntl.flock(other, fcntl.LOCK_EX)
        self.assertEqual(sink.store_all([b"a\n", b"b\n"]), 0)
        with self.assertRaises(TimeoutError):
            sink(b"a\n")

    def test_that_another_process_keeps_locked_is_not_waited_for_for_ever(self) -> None:
        with patience(50):
            sink = file_sink(self.path)
        other = self.closed_later(os.open(self.path, os.O_RDONLY))
        fcntl.flock(other, fcntl.LOCK_EX)
        for _ in range(2):
            with self.assertRaises(TimeoutError):
                sink(b"one\n")
        fcntl.flock(other, fcntl.LOCK_UN)
        sink(b"two\n")
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.assertEqual(self.path.read_bytes(), b"two\n")

    def test_on_a_file_system_without_locks_is_written_all_the_same(self) -> None:
        with mock.patch("fcntl.flock", side_effect=OSError(37, "No locks available")):
            file_sink(self.path)(b"one\n")
        self.assertEqual(self.path.read_bytes(), b"one\n")

    def test_that_two_sessions_write_at_once_has_whole_lines_only(self) -> None:
        self.assert_whole_lines(5000, 2000, self.written_by_two)

    def written_by_two(self, count: int, longest: int) -> bytes:
        self.end(self.begin(count, longest))
        return self.path.read_bytes()

    def begin(self, count: int, longest: int) -> list[subprocess.Popen[bytes]]:
        processes = []
        for name in ("a", "b"):
            process = subprocess.Popen(
                [sys.executable, "-c", MANY, self.path, str(count), str(longest), name],
                stdin=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
            self.addCleanup(self.kill, process)
            processes.append(process)
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        return processes

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.communicate()

    def end(self, processes: list[subprocess.Popen[bytes]]) -> None:
        for process in processes:
            process.communicate(timeout=PATIENCE)
            self.assertEqual(process.returncode, 0)

    def assert_whole_lines(self, count: int, longest: int, write: object) -> None:
        data = write(count, longest)  # type: ignore[operator]
        found: dict[str, list[int]] = {"a": [], "b": []}
        for line in data.splitlines():
            name, number, text = json.loads(line)
            self.assertEqual(text, "x" * (number * 7919 % longest))
            found[name].append(number)
        self.assertEqual(found, {"a": list(range(count)), "b": list(range(count))})

    def test_or_a_fifo_too_however_long_they_are(self) -> None:
        self.assert_whole_lines(200, 100_000, self.read_from_two)

    def read_from_two(self, count: int, longest: int) -> bytes:
        reading = self.fifo()
        os.set_blocking(reading, True)
        pieces: list[bytes] = []
        keeper = os.open(self.path, os.O_WRONLY)  # so that the end does not come before the writers

        def read() -> None:
            while piece := os.read(reading, 1 << 16):
                pieces.append(piece)

        reader = threading.Thread(target=read)
        reader.start()
        try:
            self.end(self.begin(count, longest))
        finally:
            os.close(keeper)
            reader.join(PATIENCE)
        return b"".join(pieces)


class AFifoOrAPipe(SinkCase):
    def test_with_a_slow_reader_is_waited_for(self) -> None:
        reading = self.fifo()
        sink = file_sink(self.path)
        line = b"x" * 300_000 + b"\n"  # several times what it holds
        received: list[bytes] = []

        def read() -> None:
            while not b"".join(received).endswith(b"\n"):
                select.select([reading], [], [], PATIENCE)
                received.append(os.read(reading, 5000))

        reader = threading.Thread(target=read)
        self.fill(self.path)
        reader.start()
        sink(line)
        reader.join(PATIENCE)
        self.assertEqual(b"".join(received).lstrip(b"."), line)

    def test_whose_reader_does_not_read_is_waited_for_once_until_it_reads_again(self) -> None:
        reading = self.fifo()
        with patience(200):
            sink = file_sink(self.path)
        self.fill(self.path)
        began = time.monotonic()
        with self.assertRaises(TimeoutError):
            sink(b"one\n")
        self.assertGreaterEqual(time.monotonic() - began, 0.2)
        began = time.monotonic()
        for _ in range(100):
            with self.assertRaises(TimeoutError):
                sink(b"two\n")
        self.assertLess(time.monotonic() - began, 15, "100 times 0.2 seconds would be 20")
        self.read_all(reading)
        sink(b"three\n")
        self.assertEqual(self.read_all(reading), b"three\n")

    def test_that_stops_in_the_middle_of_a_record_has_the_next_one_on_a_line_of_its_own(self) -> None:
        reading = self.fifo()
        with patience(20):
            sink = file_sink(self.path)
        with self.assertRaises(TimeoutError):
            sink(b"x" * 300_000 + b"\n")
        torn = self.read_all(reading)
        self.assertEqual(torn.strip(b"x"), b"")
        sink(b"next\n")
        self.assertEqual(self.read_all(reading), b"\nnext\n")

    def test_whose_reader_is_gone_is_an_error(self) -> None:
        reading, writing = os.pipe()
        sink = descriptor_sink(self.closed_later(writing))
        sink(b"one\n")
        os.close(reading)
        for _ in range(2):
            with self.assertRaises(BrokenPipeError):
                sink(b"two\n")

    def test_that_blocks_is_not_waited_for_for_ever_either(self) -> None:
        reading, writing = map(self.closed_later, os.pipe())
        with patience(50):
            sink = descriptor_sink(writing)
        # One that waits in write(2) would hang the run: then it is let go, and nothing is raised.
        self.unless_over(lambda: [os.read(reading, 1 << 16) for _ in range(5)], PATIENCE)
        with self.assertRaises(TimeoutError):
            sink(b"x" * 300_000 + b"\n")
        self.assertTrue(os.get_blocking(writing), "others may have it, and it is as it was")


class ADevice(SinkCase):
    def test_that_is_full_is_an_error_every_time(self) -> None:
        sink = file_sink("/dev/full")
        for _ in range(3):
            with self.assertRaises(OSError) as caught:
                sink(b"one\n")
            self.assertEqual(caught.exception.strerror, "No space left on device")

    def test_that_was_closed_is_an_error(self) -> None:
        writing = os.open("/dev/null", os.O_WRONLY)
        sink = descriptor_sink(writing)
        os.close(writing)
        with self.assertRaises(OSError):
            sink(b"one\n")
