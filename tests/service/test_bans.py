"""Points that fade, bans that grow, and what several processes know of them together."""

from __future__ import annotations

import mmap
import os
import random
import unittest
from unittest import mock

from pysftpserver.service import bans as bans_module
from pysftpserver.service.bans import BYTES, CAUSES, POINTS, SETS, WAYS, Ban, Bans, Policy
from pysftpserver.service.networks import Networks
from pysftpserver.sshd.metrics import BANS
from tests.support.hard import IS_HARD

HERE, THERE = "192.0.2.1", "192.0.2.2"
TIMES = (60.0, 300.0, 1800.0)
NOW = 5000.0
#: In the daily run, a part of the table takes few addresses to fill: 256 places, and otherwise 4,096.
FEWER, ADDRESSES = (SETS, 10_000) if IS_HARD else (SETS // 16, 625)


class BansCase(unittest.TestCase):
    def setUp(self) -> None:
        self.began: list[Ban] = []
        self.memory = mmap.mmap(-1, 2 * BYTES)
        self.bans, self.other = (Bans(self.memory, own, b"secret", self.began.append) for own in (0, 1))
        for one in (self.bans, self.other):
            one.policy = Policy(30, TIMES, 600.0, Networks(["198.51.100.0/24"]))

    def fail(  # type: ignore[override]
        self, times: int, address: str = HERE, now: float = NOW, bans: Bans | None = None
    ) -> None:
        for _ in range(times):
            (bans or self.bans).fault(address, "failed", now)

    def points(self, now: float = NOW) -> float:
        return next((ban.points for ban in self.bans.listed(now) if ban.network == HERE), 0.0)


class Counting(BansCase):
    def test_an_address_with_enough_points_is_banned_and_others_are_not(self) -> None:
        self.fail(9)
        self.assertFalse(self.bans.is_banned(HERE, NOW))
        self.fail(1)
        self.assertTrue(self.bans.is_banned(HERE, NOW + 59))
        self.assertEqual([self.bans.count(NOW + 59), self.bans.count(NOW + 60)], [1, 0])
        self.assertTrue(self.bans.is_banned(f"::ffff:{HERE}", NOW))
        self.assertFalse(self.bans.is_banned(HERE, NOW + 60))
        self.assertFalse(self.bans.is_banned(THERE, NOW))
        self.assertEqual(self.began, [Ban(HERE, NOW + 60, "failed", 1, 30)])

    def test_points_that_come_within_seconds_count_in_full(self) -> None:
        for number in range(10):
            self.fail(1, now=NOW + number / 2)
        self.assertEqual(len(self.began), 1)

    def test_of_ipv6_the_network_is_banned(self) -> None:
        self.fail(5, "2001:db8::1")
        self.fail(5, "2001:db8::2:1")
        self.assertTrue(self.bans.is_banned("2001:db8::3", NOW))
        self.assertFalse(self.bans.is_banned("2001:db8:0:1::3", NOW))
        self.assertEqual(self.bans.listed(NOW)[0].network, "2001:db8::/64")

    def test_points_fade_by_halves_and_slow_failures_never_add_up(self) -> None:
        self.fail(8)
        self.assertAlmostEqual(self.points(NOW + 600), 12)
        for minute in range(2000):
            self.fail(1, now=NOW + 600 + 120 * minute)
        self.assertEqual(self.began, [])

    def test_each_ban_is_longer_and_all_are_forgotten_after_the_longest_time(self) -> None:
        now, seconds = NOW, []
        for _ in range(4):
            self.fail(10, now=now)
            seconds.append(self.began[-1].until - now)
            now = self.began[-1].until + 1
        self.assertEqual(seconds, [60, 300, 1800, 1800])
        self.fail(10, now=now + 1800)
        self.assertEqual(self.began[-1].bans, 1)

    def test_what_was_on_its_way_when_a_ban_began_is_not_counted(self) -> None:
        self.fail(100)
        self.assertEqual(len(self.began), 1)
        self.fail(9, now=NOW + 60)
        self.assertFalse(self.bans.is_banned(HERE, NOW + 60))

    def test_a_login_takes_half_of_the_points_back(self) -> None:
        for _ in range(100):  # a large office, where each tenth login fails three times at first
            self.fail(3)
            for _ in range(10):
                self.bans.succeeded(HERE, NOW)
        self.assertEqual(self.began, [])
        self.assertLess(self.points(), 1)

    def test_a_wrong_key_and_an_unknown_user_cost_the_same(self) -> None:
        self.assertEqual(set(POINTS), {"failed", "garbage", "left", "crowd"})
        self.assertEqual(BANS, CAUSES)

    def test_without_a_number_of_points_nothing_is_counted_and_bans_by_hand_hold(self) -> None:
        self.bans.policy = Policy()
        self.fail(100)
        self.assertEqual(self.bans.listed(NOW), [])
        self.bans.ban(HERE, 10, "admin", NOW)
        self.assertTrue(self.bans.is_banned(HERE, NOW))

    def test_trusted_networks_are_never_banned_whoever_says_so(self) -> None:
        self.fail(100, "198.51.100.7")
        with self.assertRaisesRegex(ValueError, "trusted"):
            self.bans.ban("198.51.100.7", 60, "admin", NOW)
        self.assertEqual(self.bans.listed(NOW), [])
        self.bans.ban(HERE, 60, "admin", NOW)
        self.bans.policy = Policy(30, TIMES, 600.0, Networks([HERE]))
        self.assertFalse(self.bans.is_banned(HERE, NOW))

    def test_what_is_not_an_address_is_never_banned(self) -> None:
        self.fail(100, "?")
        with self.assertRaisesRegex(ValueError, "not an address"):
            self.bans.ban("?", 60, "admin", NOW)
        self.assertFalse(self.bans.is_banned("?", NOW))

    def test_a_ban_by_hand_does_not_end_sooner_than_the_one_in_force(self) -> None:
        self.bans.ban(HERE, 100, "admin", NOW)
        self.bans.ban(HERE, 10, "admin", NOW)
        self.assertTrue(self.bans.is_banned(HERE, NOW + 99))

    def test_a_lifted_ban_leaves_nothing(self) -> None:
        self.fail(10)
        self.assertTrue(self.bans.lift(HERE))
        self.assertFalse(self.bans.lift(HERE))
        self.assertFalse(self.bans.is_banned(HERE, NOW))
        self.fail(9)
        self.assertEqual(len(self.began), 1)


class Sharing(BansCase):
    def test_the_points_of_all_processes_count_and_a_ban_is_known_in_each(self) -> None:
        def there() -> None:
            self.fail(5, bans=self.other)

        process = os.fork()
        if process == 0:
            try:
                there()
            finally:
                os._exit(0)
        os.waitpid(process, 0)
        self.fail(5)
        self.assertTrue(self.other.is_banned(HERE, NOW))
        self.assertEqual(self.points(), 0)

    def test_a_login_in_one_process_takes_back_points_of_another(self) -> None:
        self.fail(8, bans=self.other)
        self.bans.succeeded(HERE, NOW)
        self.assertAlmostEqual(self.points(), 12)
        self.assertAlmostEqual(self.points(NOW + 600), 6)

    def test_a_process_forgets_its_own_and_leaves_what_others_have_written(self) -> None:
        self.fail(10)
        self.assertFalse(self.other.lift(HERE))
        self.assertTrue(self.bans.is_banned(HERE, NOW))

    def test_a_record_that_is_half_written_is_none(self) -> None:
        self.fail(10)
        place = self.memory.find(b"\xff\xff" + bytes([192, 0, 2, 1])) + 6
        self.memory[place : place + 32] = b"\xff" * 32  # not numbers
        self.assertFalse(self.bans.is_banned(HERE, NOW))
        self.assertEqual(self.bans.listed(NOW), [])
        self.fail(1)


class Flooding(BansCase):
    """Many addresses must not wash out what is known of one."""

    def setUp(self) -> None:
        super().setUp()
        patch = mock.patch.object(bans_module, "SETS", FEWER)
        patch.start()
        self.addCleanup(patch.stop)

    def flood(self, addresses: int, times: int, now: float = NOW) -> None:
        for number in range(addresses):
            self.fail(times, f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1", now)

    def test_thousands_of_addresses_that_fail_wash_out_neither_a_ban_nor_many_points(self) -> None:
        self.fail(10)
        self.fail(9, THERE)
        self.flood(ADDRESSES, 1)
        self.assertTrue(self.bans.is_banned(HERE, NOW))
        self.fail(1, THERE)
        self.assertTrue(self.bans.is_banned(THERE, NOW))
        self.assertLessEqual(len(self.bans.listed(NOW)), FEWER * WAYS)

    def test_short_bans_of_many_addresses_do_not_wash_out_a_long_one(self) -> None:
        self.bans.ban(HERE, 86400, "failed", NOW, 4)
        for number in range(ADDRESSES):
            address = f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::1"
            self.bans.ban(address, random.uniform(1, 60), "failed", NOW, 1)
        self.assertTrue(self.bans.is_banned(HERE, NOW + 86399))

    def test_the_number_of_earlier_bans_outlasts_a_flood(self) -> None:
        self.fail(10)
        self.flood(ADDRESSES, 1, NOW + 61)
        self.fail(10, now=NOW + 62)
        self.assertEqual(self.began[-1].bans, 2)
