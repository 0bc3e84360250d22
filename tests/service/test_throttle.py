"""throttle: the same answers as people expect of a door that has been knocked at too often."""

from __future__ import annotations

import unittest

from pysftpserver.service.throttle import ADDRESSES, FIRST, FREE, MOST, WINDOW, Throttle

HERE = "192.0.2.1"
THERE = "192.0.2.2"


class TestThrottle(unittest.TestCase):
    def setUp(self) -> None:
        self.throttle = Throttle()

    def fail(self, times: int, address: str = HERE, now: float = 1000.0) -> None:  # type: ignore[override]
        for _ in range(times):
            self.throttle.failed(address, now)

    def test_the_first_failures_cost_nothing(self) -> None:
        self.fail(FREE - 1)
        self.assertEqual(self.throttle.wait(HERE, 1000.0), 0.0)

    def test_each_further_failure_doubles_the_wait_up_to_a_limit(self) -> None:
        waits = []
        for _ in range(FREE + 9):
            self.fail(1)
            waits.append(self.throttle.wait(HERE, 1000.0))
        doubled = [min(MOST, FIRST * 2**number) for number in range(10)]
        self.assertEqual(waits, [0.0] * (FREE - 1) + doubled)

    def test_a_million_failures_wait_as_long_as_a_hundred(self) -> None:
        self.fail(5000)
        self.assertEqual(self.throttle.wait(HERE, 1000.0), MOST)

    def test_waiting_helps(self) -> None:
        self.fail(FREE)
        self.assertEqual(self.throttle.wait(HERE, 1000.0 + FIRST / 2), FIRST / 2)
        self.assertEqual(self.throttle.wait(HERE, 1000.0 + FIRST), 0.0)

    def test_failures_are_forgotten(self) -> None:
        self.fail(FREE + 5)
        self.fail(1, now=1001.0 + WINDOW)
        self.assertEqual(self.throttle.wait(HERE, 1001.0 + WINDOW), 0.0)

    def test_others_do_not_wait(self) -> None:
        self.fail(FREE + 5)
        self.assertEqual(self.throttle.wait(THERE, 1000.0), 0.0)

    def test_one_person_s_addresses_are_one(self) -> None:
        self.fail(FREE, "2001:db8:1:2:3::4")
        self.assertGreater(self.throttle.wait("2001:db8:1:2:ffff::1", 1000.0), 0)

    def test_no_more_is_remembered_than_there_is_room_for(self) -> None:
        self.fail(FREE)
        for number in range(ADDRESSES - 1):
            self.throttle.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1000.0)
        self.assertGreater(self.throttle.wait(HERE, 1000.0), 0)
        self.fail(1, THERE)
        self.assertEqual(self.throttle.wait(HERE, 1000.0), 0.0)
