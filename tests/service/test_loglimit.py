"""The log lines that one user or address can cause."""

from __future__ import annotations

import logging
import tempfile
import threading
import unittest
from pathlib import Path

from pysftpserver.engine.log import ERROR, INFO, VERBOSE, SFTPLog
from pysftpserver.service.loglimit import BURST, KNOWN, TELLING, LogLimit
from pysftpserver.service.logs import ServiceLog
from pysftpserver.service.pythonlogs import ServiceHandler
from pysftpserver.service.settings import LogSettings


class Limits(unittest.TestCase):
    def setUp(self) -> None:
        self.lines: list[str] = []
        self.left_out = 0
        self.now = 1000.0
        log = SFTPLog(lambda level, text: self.lines.append(text), INFO)
        self.limit = LogLimit(log, 5, self.count, lambda: self.now)
        self.most = int(5 * BURST)

    def count(self) -> None:
        self.left_out += 1

    def flood(self, who: str, lines: int) -> None:
        log = self.limit.of(who)
        for number in range(lines):
            log.info(f"{who} {number}")

    def test_a_burst_is_logged_whole_and_the_rest_is_counted(self) -> None:
        self.flood("alice", self.most + 30)
        self.assertEqual(len(self.lines), self.most)
        self.assertEqual(self.left_out, 30)
        self.limit.tell()
        self.assertEqual(self.lines[-1], "alice: 30 log lines were left out (log_rate)")
        self.limit.tell()
        self.assertEqual(len(self.lines), self.most + 1)

    def test_others_are_logged_meanwhile_and_tell_the_count(self) -> None:
        self.flood("alice", self.most + 30)
        self.flood("bob", 1)
        self.assertEqual(self.lines[-1], "bob 0")
        self.now += TELLING
        self.flood("bob", 1)
        self.assertEqual(self.lines[-1], "alice: 30 log lines were left out (log_rate)")

    def test_lines_that_come_slowly_are_all_logged(self) -> None:
        self.flood("alice", self.most)
        for _ in range(50):
            self.now += 0.25
            self.flood("alice", 1)
        self.assertEqual(len(self.lines), self.most + 50)

    def test_what_the_level_hides_does_not_count(self) -> None:
        for _ in range(10 * self.most):
            self.limit.write("alice", VERBOSE, "hidden")
        self.limit.write("alice", ERROR, "seen")
        self.assertEqual(self.lines, ["seen"])

    def test_without_a_rate_all_is_logged(self) -> None:
        self.limit.rate = None
        self.flood("alice", 10 * self.most)
        self.assertEqual(len(self.lines), 10 * self.most)

    def test_very_many_addresses_are_not_all_remembered(self) -> None:
        for number in range(KNOWN + 10):
            self.flood(f"{number}", 1)
        self.assertEqual(len(self.limit._caused), KNOWN)

    def test_threads_share_it(self) -> None:
        self.limit.rate = 1
        threads = [threading.Thread(target=self.flood, args=("alice", 100)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(len(self.lines) + self.left_out, 800)
        self.assertEqual(len(self.lines), int(BURST))

    def test_lines_of_remote_administration_are_counted_by_what_they_name_first(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "log"
            handler = ServiceHandler(ServiceLog("pysftpremo", LogSettings(logfile=str(path))), 1)
            handler.limit = LogLimit(handler.log, 1, clock=lambda: self.now)  # whatever time this takes
            logger = logging.Logger("remo")
            logger.addHandler(handler)
            for _ in range(100):
                logger.info("%s: too many connections", "192.0.2.1")
            logger.info("%s: too many connections", "192.0.2.2")
            handler.close()
            lines = path.read_text().splitlines()
        self.assertEqual(sum("192.0.2.1: too many" in line for line in lines), int(BURST))
        self.assertTrue(any(line.endswith("192.0.2.2: too many connections") for line in lines))
        self.assertTrue(lines[-1].endswith("192.0.2.1: 80 log lines were left out (log_rate)"))
