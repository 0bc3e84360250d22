"""Turns: of strangers one in each round of the loop, one network after the other; of users a little each."""

from __future__ import annotations

import asyncio
import time
import unittest
from collections.abc import Callable
from types import SimpleNamespace
from unittest import mock

from pysftpserver.service import turns
from pysftpserver.service.turns import Rounds, Turns
from tests.sshd.inprocess import asynchronous
from tests.support.waiting import eventually


class TurnsOfStrangers(unittest.TestCase):
    def setUp(self) -> None:
        self.done: list[str] = []

    def say(self, what: str) -> None:
        self.done.append(what)

    async def rounds(self, count: int) -> None:
        for _ in range(count):
            await asyncio.sleep(0)

    @asynchronous
    async def test_each_round_has_one_and_networks_take_turns(self) -> None:
        one = Turns(1.0)
        for what in ("a1", "a2", "a3", "b1", "c1", "b2"):
            one.take(what[0], lambda what=what: self.say(what))  # type: ignore[misc]
        self.assertEqual(self.done, ["a1"])
        for count in range(2, 7):
            await self.rounds(1)
            self.assertEqual(len(self.done), count)
        self.assertEqual(self.done, ["a1", "a2", "b1", "c1", "a3", "b2"])
        await self.rounds(1)
        self.assertTrue(one.is_free())

    @asynchronous
    async def test_they_take_no_more_than_their_share(self) -> None:
        waits: list[None] = []
        one = Turns(0.2, lambda: waits.append(None))
        clock = SimpleNamespace(used=0.0)
        clock.thread_time = lambda: clock.used

        def work() -> None:
            clock.used += 0.05

        began = time.monotonic()
        with mock.patch.object(turns, "AT_ONCE", 0.1), mock.patch.object(turns, "time", clock):
            for _ in range(4):
                one.take("a", work)
            one.take("a", lambda: self.say("end"))
            await eventually(lambda: self.done)
        self.assertGreater(time.monotonic() - began, (4 * 0.05 - 0.1) / 0.2 - 0.01)
        self.assertTrue(waits)

    @asynchronous
    async def test_an_error_ends_no_turns(self) -> None:
        one = Turns(1.0)
        with self.assertRaises(ZeroDivisionError):
            one.take("a", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
        one.take("a", lambda: self.say("on"))
        await self.rounds(2)
        self.assertEqual(self.done, ["on"])


class TurnsOfUsers(unittest.TestCase):
    def setUp(self) -> None:
        self.done: list[str] = []
        self.enterContext(mock.patch.object(turns, "MOST", 1e-9))  # each piece of work takes longer

    def work(self, what: str) -> Callable[[], None]:
        return lambda: self.done.append(what)

    @asynchronous
    async def test_the_work_of_one_user_is_spread_over_rounds_and_others_go_on_at_once(self) -> None:
        rounds = Rounds()
        alice, bob = rounds.of("alice"), rounds.of("bob")
        self.assertIs(rounds.of("alice"), alice)
        with mock.patch.object(turns, "MOST", 60.0):
            self.assertTrue(alice.take(self.work("a1")))
            self.assertTrue(alice.take(self.work("a2")))
            self.assertLess(time.monotonic() + 50, alice.until())
        for number in range(3, 6):
            self.assertFalse(alice.take(self.work("at once"), self.work(f"a{number}")))
        self.assertTrue(bob.take(self.work("b1")))
        self.assertFalse(bob.take(self.work("b2")))
        self.assertEqual(self.done, ["a1", "a2", "b1"])
        await asyncio.sleep(0)
        self.assertEqual(self.done[3:], ["a3", "b2"])
        alice.wait(self.work("a6"))
        for _ in range(3):
            await asyncio.sleep(0)
        self.assertEqual(self.done[5:], ["a4", "a5", "a6"])

    @asynchronous
    async def test_a_fault_holds_up_nobody(self) -> None:
        rounds = Rounds()
        alice, bob = rounds.of("alice"), rounds.of("bob")
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, what: faults.append(what["exception"]))
        alice.wait(lambda: self.done.remove("nothing"))
        alice.wait(self.work("a"))
        bob.wait(self.work("b"))
        await eventually(lambda: self.done == ["b", "a"])
        self.assertIsInstance(faults[0], ValueError)
