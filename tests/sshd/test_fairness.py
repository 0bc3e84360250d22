"""One user with many greedy sessions: what others wait for, and what they still get."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import unittest
from typing import Any
from unittest import mock

import asyncssh

from pysftpserver.service import turns
from tests.sshd.flooding import ignore_answers, spent
from tests.sshd.inprocess import Raw, asynchronous, raw, running, user
from tests.sshd.isolating import FIRST, IsolationCase, answer
from tests.sshd.test_logins import files
from tests.support.hard import IS_HARD
from tests.support.packets import HELLO, NO_ATTRS, request, string, u32, u64
from tests.support.waiting import eventually

GREEDY = 4  # sessions
REQUESTS = 500  # of each, all small
CROWD = 100
READS = 500  # of each of the crowd
PIECE = 256 << 10
LARGE = 1 << 30


class ManySmallPackets(unittest.TestCase):
    @asynchronous
    async def test_a_user_waits_for_a_little_of_what_another_one_has_sent(self) -> None:
        """However long a request takes: a user has one piece of work done in each round here."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(mock.patch.object(turns, "MOST", 1e-9))
            server = await stack.enter_async_context(running(files, user("alice"), user("bob")))
            alice = await raw(await stack.enter_async_context(await server.connect("alice")))
            alice.send(HELLO)
            await alice.packet()
            greedy = [
                await raw(await stack.enter_async_context(await server.connect("bob"))) for _ in range(GREEDY)
            ]
            stats = [request("stat", number, string(b".")) for number in range(REQUESTS)]
            sent = 0
            for one in greedy:
                for packet in (HELLO, *stats):
                    one.send(packet)
                    sent += len(packet)

            def taken() -> int:
                bobs = [one for one in server.server.connections if one.user.name == "bob"]
                return sum(one.moved()[0] for one in bobs)

            run, before = server.server.threads.run, []

            def served(name: str, *more: Any) -> Any:
                """Her request has had its turn; how long a thread takes for it depends on the machine."""
                if name == "alice":
                    before.append(taken())
                return run(name, *more)

            with mock.patch.object(server.server.threads, "run", served):
                await answer(alice, "stat", 1, string(b"."))
            self.assertLess(before[0], sent / 3)
            for one in greedy:
                await one.packets(1 + REQUESTS)  # in the end, everything is answered
            self.assertEqual(taken(), sent)


@unittest.skipUnless(IS_HARD, "make test-hard")
class Crowd(IsolationCase):
    def test_a_hundred_greedy_sessions_of_one_user_delay_others_by_milliseconds(self) -> None:
        """Of processor time of the process that does SSH: sessions of all users compete for the rest."""
        self.serve()
        with open(self.place / "files" / "bob" / "large", "wb") as file:
            file.truncate(LARGE)

        async def reads(connection: asyncssh.SSHClientConnection) -> Raw:
            channel = await raw(connection, window=LARGE)
            channel.send(HELLO)
            await channel.packet()
            await answer(channel, "open", 1, string(b"/large"), u32(1), NO_ATTRS)
            return channel

        async def test() -> None:
            alice = await self.begun("alice")
            crowd = [await self.connect("bob") for _ in range(CROWD)]
            channels = [await reads(one) for one in crowd]
            for channel, connection in zip(channels, crowd, strict=True):
                for number in range(READS):
                    channel.send(request("read", number, FIRST, u64(number * PIECE), u32(PIECE)))
                ignore_answers(connection)
                await asyncio.sleep(0)  # or a busy machine could let nobody answer the server for too long
            delays = []
            for number in range(100):
                before = spent(self.running.pid)
                await answer(alice, "stat", number, string(b"/"))
                delays.append(spent(self.running.pid) - before)
            # 12 milliseconds and 90 here; it was seconds when each connection had all done in a round.
            self.assertLess(statistics.median(delays), 0.1)
            self.assertLess(max(delays), 1.0)
            await answer(await self.begun("mallory"), "stat", 1, string(b"/"))  # who logs in meanwhile
            for connection in crowd:
                connection.abort()
            await eventually(lambda: len(self.running.sessions()) == 2, "the greedy sessions have ended")

        self.run_async(test)
