"""A ceiling for what many use: what is taken, by whom, and what is always left for small needs."""

from __future__ import annotations

import threading
import unittest

from pysftpserver.service.budget import STEP, Budget, Exhausted, Portion

MOST = 400 * STEP
CONNECTIONS = 10


class Ceiling(unittest.TestCase):
    def setUp(self) -> None:
        self.budget = Budget(MOST, CONNECTIONS)

    def fill(self, holder: str) -> Portion:
        """A portion that takes what it gets."""
        portion = Portion(self.budget, holder)
        with self.assertRaises(Exhausted):
            while True:
                portion.take(STEP)
        return portion

    def test_one_holder_gets_half_of_what_is_for_all_with_any_number_of_portions(self) -> None:
        self.fill("one")
        half = self.budget.taken
        self.assertLessEqual(half, (MOST - CONNECTIONS * self.budget.reserve) // 2)
        with self.assertRaisesRegex(Exhausted, "one user or address"):
            self.fill("one").take(self.budget.reserve)
        self.assertEqual(self.budget.taken, half)

    def test_all_together_stay_below_it_and_everybody_has_the_reserve(self) -> None:
        for number in range(3):
            self.fill(f"holder {number}")
        self.assertLessEqual(self.budget.taken + CONNECTIONS * self.budget.reserve, MOST)
        small = Portion(self.budget, "newcomer")
        small.take(self.budget.reserve)
        with self.assertRaisesRegex(Exhausted, f"all together need more than {MOST} bytes"):
            small.take(1)

    def test_what_is_given_back_is_there_for_others(self) -> None:
        for portion in (self.fill("one"), self.fill("two")):
            portion.give_back()
            portion.give_back()
        self.assertEqual(self.budget.taken, 0)
        Portion(self.budget, "three").take(100 * STEP)

    def test_what_grows_and_shrinks_holds_what_it_needs(self) -> None:
        portion, other = Portion(self.budget, "one"), Portion(self.budget, "two")
        for amount in (0, self.budget.reserve, 10 * STEP, self.budget.reserve + 1, 5 * STEP, 0):
            portion.hold(amount)
            self.assertIn(self.budget.taken - max(0, amount - self.budget.reserve), range(STEP))
        portion.hold(100 * STEP)
        with self.assertRaisesRegex(Exhausted, "one user or address") as caught:
            other.hold(200 * STEP)
        self.assertEqual(caught.exception.holder, "two")
        other.hold(149 * STEP)
        portion.hold(149 * STEP)
        with self.assertRaisesRegex(Exhausted, "all together") as caught:
            Portion(self.budget, "three").hold(100 * STEP)
        self.assertIn(caught.exception.holder, ("one", "two"))

    def test_threads_lose_nothing(self) -> None:
        def work(holder: str) -> None:
            for _ in range(300):
                portion = Portion(self.budget, holder)
                portion.take(self.budget.reserve + 1)
                portion.give_back()

        threads = [threading.Thread(target=work, args=(f"{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.budget.taken, 0)
