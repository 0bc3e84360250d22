"""How long a peer is waited for, without a peer or a clock."""

from __future__ import annotations

import random
import unittest

from pysftpserver.service.patience import SLOWEST, OutOfPatience, Patience


class ThePatience(unittest.TestCase):
    def test_a_first_wait_may_last_the_timeout(self) -> None:
        self.assertEqual(Patience(7).left(), 7)

    def test_silence_is_over_after_the_timeout(self) -> None:
        patience = Patience(7)
        patience.waited(7, 0)
        with self.assertRaisesRegex(OutOfPatience, "^it was silent or too slow for 7 seconds$"):
            patience.left()

    def test_waits_without_bytes_add_up(self) -> None:
        patience = Patience(7)
        patience.waited(3, 0)
        self.assertEqual(patience.left(), 4)

    def test_bytes_buy_time_but_never_more_than_the_timeout_at_once(self) -> None:
        patience = Patience(7)
        patience.waited(5, 4 * SLOWEST)
        self.assertEqual(patience.left(), 6)
        patience.waited(0, 1 << 30)
        self.assertEqual(patience.left(), 7)

    def test_a_byte_now_and_then_is_not_enough(self) -> None:
        patience = Patience(10)
        seconds = 0.0
        with self.assertRaises(OutOfPatience):
            while seconds < 1000:
                patience.left()
                patience.waited(1, 1)
                seconds += 1
        self.assertLess(seconds, 12)

    def test_who_is_fast_may_have_a_session_as_long_as_he_likes(self) -> None:
        patience = Patience(1)
        for _ in range(100_000):
            self.assertGreater(patience.left(), 0)
            patience.waited(0.5, SLOWEST)

    def test_whatever_happens_the_waits_stay_within_what_the_bytes_pay_for(self) -> None:
        seed = random.randrange(1 << 32)
        chance = random.Random(seed)
        for _ in range(200):
            timeout = chance.uniform(0.1, 100)
            patience, waited, received = Patience(timeout), 0.0, 0
            try:
                for _ in range(1000):
                    left = patience.left()
                    self.assertLessEqual(left, timeout, f"seed {seed}")
                    seconds = chance.uniform(0, left)
                    count = chance.choice((0, 1, 100, 10_000))
                    patience.waited(seconds, count)
                    waited, received = waited + seconds, received + count
            except OutOfPatience:
                pass
            self.assertLessEqual(waited, timeout + received / SLOWEST + 1e-6, f"seed {seed}")
