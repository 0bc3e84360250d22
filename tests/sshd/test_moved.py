"""The last line of a connection in the log: how many files it has stored and fetched, and their bytes."""

from __future__ import annotations

import os
import signal
from typing import Any

from tests.sshd.inprocess import raw
from tests.sshd.isolating import CREAT, READ, WRITE, IsolationCase, answer
from tests.support.packets import HELLO, NO_ATTRS, string, u32, u64
from tests.support.waiting import eventually


async def stored(channel: Any, name: bytes, content: bytes, closes: bool = True) -> None:
    """Upload a file."""
    opened = await answer(channel, "open", 1, string(name), u32(WRITE | CREAT), NO_ATTRS)
    handle = opened[9:]
    await answer(channel, "write", 2, handle, u64(0), string(content))
    if closes:
        await answer(channel, "close", 3, handle)


class Process(IsolationCase):
    options: tuple[str, ...] = ()

    def test_files_and_bytes_of_all_its_channels_are_in_the_log(self) -> None:
        self.serve(*self.options)

        async def test() -> None:
            connection = await self.connect("alice")
            channels = [await raw(connection) for _ in range(2)]
            for channel in channels:
                channel.send(HELLO)
                await channel.packet()
            await stored(channels[0], b"one", b"x" * 100)
            await self.between(channels[0])
            await stored(channels[0], b"empty", b"")
            await stored(channels[1], b"two", b"y" * 40_000)
            await stored(channels[1], b"open", b"z" * 7, closes=False)
            opened = await answer(channels[0], "open", 1, string(b"two"), u32(READ), NO_ATTRS)
            for number in range(2):
                await answer(channels[0], "read", 2, opened[9:], u64(number * 32768), u32(32768))
            await answer(channels[0], "close", 3, opened[9:])
            connection.close()
            await connection.wait_closed()
            words = r", 3 files stored (40107 bytes), 1 fetched (40000 bytes), "
            await eventually(lambda: words in self.running.log(), self.running.log)
            self.assertNotIn("at least", self.running.log())

        self.run_async(test)

    async def between(self, channel: Any) -> None:
        """Something may happen to the session here."""


class Thread(Process):
    isolation = "thread"


class Resting(Process):
    """It goes on in another process, and what the first one has moved is not forgotten."""

    options = ("--session-idle", "1")

    async def between(self, channel: Any) -> None:
        await eventually(lambda: not self.sessions(), "it rests")


class Killed(IsolationCase):
    def test_a_session_that_could_not_say_it_makes_it_the_least(self) -> None:
        self.serve()

        async def test() -> None:
            connection = await self.connect("alice")
            channel = await raw(connection)
            channel.send(HELLO)
            await channel.packet()
            await stored(channel, b"one", b"x")
            (process,) = await self.processes(1)
            os.kill(process, signal.SIGKILL)
            await eventually(lambda: not self.sessions(), "it has ended")
            connection.close()
            await connection.wait_closed()
            words = ", at least 0 files stored (0 bytes), 0 fetched (0 bytes), "
            await eventually(lambda: words in self.running.log(), self.running.log)

        self.run_async(test)
