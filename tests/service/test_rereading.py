"""Reading again at a signal: one thread, no signal lost, and nothing waits for a disk that hangs."""

from __future__ import annotations

import os
import queue
import signal
import threading
import unittest

from pysftpserver.engine.log import SFTPLog
from pysftpserver.service import serving
from pysftpserver.service.rereading import Rereading
from tests.support.waiting import PATIENCE


class Disk:
    """A disk that answers when it is told to. asked: has an entry for each question."""

    def __init__(self, test: unittest.TestCase) -> None:
        self.asked: queue.Queue[threading.Thread] = queue.Queue()
        self.answers = threading.Semaphore(0)
        test.addCleanup(self.answers.release, 100)

    def read(self) -> None:
        self.asked.put(threading.current_thread())
        self.answers.acquire()

    def question(self) -> threading.Thread:
        """Wait for the next question; the thread that has asked."""
        return self.asked.get(timeout=PATIENCE)


class Signals(unittest.TestCase):
    def test_what_is_asked_for_meanwhile_is_read_once_more_by_the_same_thread(self) -> None:
        disk = Disk(self)
        rereading = Rereading(disk.read)
        self.assertTrue(rereading.is_over(0))
        rereading.ask()
        first = disk.question()
        for _ in range(3):
            rereading.ask()
        self.assertFalse(rereading.is_over(0))
        disk.answers.release()
        self.assertIs(disk.question(), first)
        disk.answers.release()
        self.assertTrue(rereading.is_over(PATIENCE))
        self.assertTrue(disk.asked.empty())
        rereading.ask()
        disk.question()

    def test_a_server_of_threads_ends_at_a_signal_while_its_disk_hangs(self) -> None:
        disk = Disk(self)

        def end() -> None:
            disk.question()
            os.kill(os.getpid(), signal.SIGTERM)

        ending = threading.Thread(target=end)

        def ready() -> None:
            ending.start()
            os.kill(os.getpid(), signal.SIGHUP)

        serving.block_until_told(disk.read, SFTPLog(), ready)
        ending.join(PATIENCE)
