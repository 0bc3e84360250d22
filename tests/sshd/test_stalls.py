"""What no user waits for: a log that takes nothing, a silent Redis, a storage of others that hangs."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import unittest
from collections.abc import AsyncIterator
from typing import Any

from pysftpserver.people.redis_users import RedisUsers
from tests.sshd import inprocess
from tests.sshd.inprocess import asynchronous, raw
from tests.sshd.isolating import CREAT, FIRST, WRITE, IsolationCase, answer, rss
from tests.sshd.material import base64_alone, private_key
from tests.sshd.redis_server import RedisServer, put_user
from tests.sshd.test_logins import files
from tests.support.lines import Lines
from tests.support.packets import HELLO, NO_ATTRS, request, string, u32, u64
from tests.support.waiting import PATIENCE, eventually

MIB = 1 << 20
SMALLEST_PIPE = 4096


class Stalls(IsolationCase):
    def stall_the_log(self) -> Any:
        """Start the server with a log that is read until it is ready; return the end to read."""
        ours, theirs = os.pipe()
        fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE)
        process = subprocess.Popen(self.running.argv, stderr=theirs, cwd=self.place)
        os.close(theirs)
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        reading = open(ours, "rb")
        self.addCleanup(reading.close)
        said = b""
        while not said.endswith(b" ready\n"):
            said = reading.readline()
            self.assertTrue(said, "the server has ended")
            if b"listening on" in said:
                self.running.port = int(said.split()[-1])
        return reading

    def test_a_log_that_takes_nothing_holds_up_no_session_and_no_login(self) -> None:
        self.serve("--log-level", "DEBUG", starts=False)
        reading = self.stall_the_log()

        async def test() -> None:
            alice = await self.begun("alice")
            for number in range(200):  # each of which is a line in the log
                await answer(alice, "stat", number, string(b"/"))
            bob = await self.begun("bob")
            await answer(bob, "stat", 1, string(b"/"))

        self.run_async(test)
        lines = 0
        while lines < 200:
            lines += b"stat" in reading.readline().lower()

    def test_a_storage_that_hangs_with_a_full_window_costs_its_user_alone(self) -> None:
        self.serve("--metrics", "0")

        async def test() -> None:
            alice = await self.begun("alice")
            before = rss(self.running.pid)
            mallory = await self.begun("mallory")
            mallory.send(request("open", 1, string(b"f"), u32(WRITE | CREAT), NO_ATTRS))
            await mallory.packet()
            mallory.send(request("lstat", 1, string(b"x")))  # nothing is taken from now on
            piece = request("write", 2, FIRST, u64(0), string(bytes(32000)))
            for _ in range(8 * MIB // len(piece)):
                mallory.send(piece)
            channel = mallory.writer.channel
            await eventually(lambda: channel._send_window == 0)
            self.assertGreater(channel.get_write_buffer_size(), 5 * MIB)
            for number in range(20):
                await answer(alice, "stat", number, string(b"/"))
            self.assertLess(rss(self.running.pid) - before, 8 * MIB)
            channel.get_connection().abort()

        self.run_async(test)


class SilentRedis(unittest.TestCase):
    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Any]:
        redis = RedisServer()
        self.addCleanup(redis.stop)
        redis.start()
        with redis.client() as client:
            put_user(client, 1, "alice", base64_alone(), folder="f")
        told = Lines()
        directory = RedisUsers(redis.address(), told.log, silence=0.2)
        async with inprocess.running(files, directory=directory) as server:
            assert redis._process is not None
            os.kill(redis._process.pid, signal.SIGSTOP)
            try:
                yield server
            finally:
                os.kill(redis._process.pid, signal.SIGCONT)

    @asynchronous
    async def test_known_users_log_in_and_are_served_while_redis_is_silent(self) -> None:
        async with self.serving() as server:
            for _ in range(2):
                async with await server.connect(key=private_key()) as connection:
                    channel = await raw(connection)
                    channel.send(HELLO + request("stat", 1, string(b".")))
                    await asyncio.wait_for(channel.packets(2), PATIENCE)
                await eventually(lambda: server.server.directory.trouble() is not None)
