"""Turns of strangers: one in each round of the loop, one network after the other, a share of the time."""

from __future__ import annotations

import asyncio
import time
import unittest
from types import SimpleNamespace
from unittest import mock

from pysftpserver.service import turns
from pysftpserver.service.turns import Turns
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
