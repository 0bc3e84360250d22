"""Who is let in where a door is full, and which stranger makes room."""

from __future__ import annotations

import dataclasses
import unittest

from pysftpserver.service.admission import QUICK_LOGIN, admit, to_evict

NOW = 1000.0
OLD = NOW - QUICK_LOGIN - 1


@dataclasses.dataclass(eq=False)
class Guest:
    network: str
    began: float = OLD
    is_stranger: bool = True


class ToEvict(unittest.TestCase):
    def test_it_is_the_oldest_of_the_most_crowded_network_however_new(self) -> None:
        crowd = [Guest("crowd", NOW), Guest("crowd", NOW - 1), Guest("crowd", NOW)]
        self.assertIs(to_evict([Guest("lone"), *crowd], "newcomer", NOW), crowd[1])

    def test_where_nobody_crowds_it_is_the_oldest_one_that_had_time_to_log_in(self) -> None:
        guests = [Guest("one", NOW), Guest("two", OLD), Guest("three", OLD - 1)]
        self.assertIs(to_evict(guests, "newcomer", NOW), guests[2])
        self.assertIsNone(to_evict([Guest("one", NOW), Guest("two", NOW - 1)], "newcomer", NOW))

    def test_a_network_cannot_crowd_out_another_that_has_as_few(self) -> None:
        guests = [Guest("one", NOW), Guest("one", NOW), Guest("two", NOW)]
        self.assertIsNone(to_evict(guests, "two", NOW))
        self.assertIsNone(to_evict([], "two", NOW))


class Admit(unittest.TestCase):
    def test_while_there_is_room_nobody_goes(self) -> None:
        self.assertEqual(admit([Guest("one")], "one", NOW, 2, 2), (None, None))
        self.assertEqual(admit([Guest("one")], "one", NOW, 2, None), (None, None))

    def test_users_stay_and_the_newcomer_is_told_which_limit_it_is(self) -> None:
        guests = [Guest("one", is_stranger=False) for _ in range(3)]
        self.assertIn("max_connections", admit(guests, "two", NOW, 3, None)[1] or "")
        self.assertIn("max_per_address", admit(guests, "one", NOW, 10, 3)[1] or "")

    def test_an_address_at_its_limit_costs_others_nothing(self) -> None:
        guests = [Guest("other", OLD - 9), Guest("one", OLD), Guest("one", NOW)]
        self.assertEqual(admit(guests, "one", NOW, 10, 2), (guests[1], None))
        guests[1].is_stranger = False
        self.assertIn("max_per_address", admit(guests, "one", NOW, 10, 2)[1] or "")

    def test_a_full_door_lets_a_newcomer_in_for_a_stranger(self) -> None:
        guests = [Guest("one", is_stranger=False), Guest("two")]
        self.assertEqual(admit(guests, "three", NOW, 2, None), (guests[1], None))
