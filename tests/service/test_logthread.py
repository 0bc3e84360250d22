"""A log that is written in a thread: order, bounds, and an end that does not wait for a disk that hangs."""

from __future__ import annotations

import threading
import unittest

from pysftpserver.service.logthread import LogThread
from tests.support.waiting import PATIENCE, until


class LogThreads(unittest.TestCase):
    def setUp(self) -> None:
        self.gate = threading.Event()
        self.addCleanup(self.gate.set)
        self.written: list[bytes] = []
        self.entered = threading.Event()

    def write(self, line: bytes) -> None:
        self.entered.set()
        self.gate.wait(PATIENCE)
        self.written.append(line)

    def started(self, most: int = 100) -> LogThread:
        return LogThread(self.write, lambda count: b"%d left out" % count, most)

    def test_lines_and_work_keep_their_order_and_the_end_waits_for_them(self) -> None:
        self.gate.set()
        log = self.started()
        for number in range(5):
            log.append(b"%d" % number)
        log.call(lambda: self.written.append(b"reopened"))
        log.append(b"5")
        self.assertTrue(log.close(PATIENCE))
        self.assertEqual(self.written, [b"0", b"1", b"2", b"3", b"4", b"reopened", b"5"])

    def test_what_is_too_much_while_nothing_is_written_is_counted(self) -> None:
        log = self.started()
        for _ in range(15):
            log.append(b"x" * 10)
        log.flush(0)
        self.assertEqual(self.written, [])
        self.gate.set()
        log.flush(PATIENCE)
        self.assertEqual(self.written, [b"x" * 10] * 10 + [b"5 left out"])
        log.append(b"y" * 100)
        log.flush(PATIENCE)
        self.assertEqual(self.written[-1], b"y" * 100)

    def test_the_end_does_not_wait_for_ever(self) -> None:
        log = self.started()
        log.append(b"x")
        until(self.entered.is_set, "it writes")
        self.assertFalse(log.close(0.01))
        log.append(b"y")  # takes no longer than before
