"""Bans that several servers share by Redis, which may be away or hold anything."""

from __future__ import annotations

import contextlib
import json
import re
import time
import unittest
from collections.abc import AsyncIterator
from unittest import mock

from pysftpserver.engine.log import SFTPLog
from pysftpserver.sshd import redis_bans
from pysftpserver.sshd.redis_bans import RedisBans
from tests.sshd.inprocess import Running, asynchronous, running
from tests.sshd.redis_server import RedisServer
from tests.sshd.test_logins import files
from tests.support.paths import ROOT
from tests.support.waiting import eventually

HERE = "192.0.2.1"
OPTIONS = {"bans": "yes", "ban_points": "5", "ban_times": "1h, 2h", "trusted_networks": "198.51.100.0/24"}


class Sharing(unittest.TestCase):
    server: RedisServer

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = RedisServer()
        cls.addClassCleanup(cls.server.stop)
        cls.server.start()

    def setUp(self) -> None:
        self.r = self.server.client()
        self.addCleanup(self.r.close)
        self.r.flushall()

    @contextlib.asynccontextmanager
    async def servers(self, count: int = 2, **more: str) -> AsyncIterator[list[Running]]:
        """Servers that share bans. more: settings."""
        async with contextlib.AsyncExitStack() as stack:
            found = []
            for _ in range(count):
                one = await stack.enter_async_context(running(files, options=OPTIONS | more))
                one.server.banning.share(self.server.address(), longest_pause=0.2)
                found.append(one)
            yield found

    async def connected(self, count: int = 2) -> None:
        await eventually(lambda: dict(self.r.pubsub_numsub("sftp_users.bans"))["sftp_users.bans"] == count)

    def misbehave(self, server: Running, address: str = HERE) -> None:
        for _ in range(3):
            server.server.banning.fault(address, "failed")

    @asynchronous
    async def test_a_ban_holds_at_all_servers_until_one_lifts_it(self) -> None:
        async with self.servers() as (one, other):
            await self.connected()
            self.misbehave(one)
            await eventually(lambda: other.server.banning.is_banned(HERE))
            (ban,) = other.server.banning.listed()
            self.assertEqual((ban["cause"], ban["bans"]), ("failed", 1))
            self.assertAlmostEqual(ban["seconds"], 3600, delta=60)
            self.assertAlmostEqual(self.r.pttl(f"solt.sftp.ban.{HERE}"), 3_600_000, delta=60_000)
            self.assertTrue(any("told by another server" in line for line in other.lines))
            self.assertFalse(any("told by another server" in line for line in one.lines))
            self.assertTrue(other.server.banning.lift(HERE))
            await eventually(lambda: not one.server.banning.is_banned(HERE))
            await eventually(lambda: not self.r.keys("solt.sftp.ban.*"))

    @asynchronous
    async def test_a_server_that_starts_knows_the_bans_and_how_many_there_were(self) -> None:
        self.r.set(f"solt.sftp.ban.{HERE}", json.dumps(["failed", 1]), px=100_000)
        self.r.set("solt.sftp.ban.2001:db8::/64", json.dumps(["a new cause", 3]), px=100_000)
        async with self.servers(1) as (one,):
            await eventually(lambda: one.server.banning.is_banned("2001:db8::7"))
            await eventually(lambda: one.server.banning.is_banned(HERE))
            causes = {ban["address"]: ban["cause"] for ban in one.server.banning.listed()}
            self.assertEqual(causes, {HERE: "failed", "2001:db8::/64": "elsewhere"})
            later = mock.Mock(monotonic=mock.Mock(return_value=time.monotonic() + 200))
            with mock.patch("pysftpserver.sshd.banning.time", later):
                self.assertFalse(one.server.banning.is_banned(HERE))
                self.misbehave(one)
                self.assertAlmostEqual(one.server.banning.listed()[0]["seconds"], 7200, delta=60)

    @asynchronous
    async def test_what_is_not_a_ban_is_ignored_and_trusted_networks_stay_trusted(self) -> None:
        for number, content in enumerate(("x", "[]", '["failed", 0]', '["failed", 1, 2', "[" * 5000)):
            self.r.set(f"solt.sftp.ban.192.0.2.{number}", content, px=100_000)
        self.r.set("solt.sftp.ban.example.net", '["failed", 1]', px=100_000)
        self.r.set("solt.sftp.ban.192.0.2.99", '["failed", 1]')  # without an end
        self.r.hset("solt.sftp.ban.192.0.2.100", "a", "b")
        async with self.servers(1) as (one,):
            await self.connected(1)
            for message in ("", "x", " ", "[]", '["failed", 1]', '["failed", 1, -5]', '["failed", 1, 1e400]'):
                self.r.publish("sftp_users.bans", f"{HERE} {message}")
            self.r.publish("sftp_users.bans", '198.51.100.1 ["failed", 1, 60]')
            self.r.publish("sftp_users.bans", '203.0.113.1 ["failed", 1, 60]')
            await eventually(lambda: one.server.banning.is_banned("203.0.113.1"))
            self.assertEqual([ban["address"] for ban in one.server.banning.listed()], ["203.0.113.1"])

    def points(self, server: Running) -> float:
        return sum(ban["points"] for ban in server.server.banning.listed())

    @asynchronous
    async def test_points_count_at_all_servers_and_logins_take_them_back_everywhere(self) -> None:
        with mock.patch.object(redis_bans, "GATHERING", 0.01):
            async with self.servers(ban_fade="1000000") as (one, other):
                await self.connected()
                # Both have loaded what there is, and tell points from now on.
                self.r.publish("sftp_users.bans", '203.0.113.1 ["failed", 1, 60]')
                for server in (one, other):
                    await eventually(lambda server=server: server.server.banning.is_banned("203.0.113.1"))
                one.server.banning.fault(HERE, "failed")
                await eventually(lambda: self.points(other) == 3)
                self.assertEqual(self.points(one), 3, "its own points come back by the channel")
                other.server.banning.succeeded(HERE)
                await eventually(lambda: self.points(one) == 1.5)
                one.server.banning.fault(HERE, "left")
                await eventually(lambda: self.points(other) == 2.5)
                other.server.banning.fault(HERE, "failed")
                await eventually(lambda: one.server.banning.is_banned(HERE))
                self.assertEqual((self.points(one), self.points(other)), (0, 0))

    @asynchronous
    async def test_what_is_not_points_is_ignored(self) -> None:
        async with self.servers(1, ban_fade="1000000") as (one,):
            await self.connected(1)
            for content in ("", "x", "[]", '["a", []]', '["a", {"x": 1}]', f'["a", {{"{HERE}": "1e99"}}]'):
                self.r.publish("sftp_users.bans", f"points {content}")
            self.r.publish("sftp_users.bans", f'points ["a", {{"{HERE}": NaN}}]')
            many = {f"10.0.{number // 256}.{number % 256}": 1 for number in range(201)}
            self.r.publish("sftp_users.bans", f"points {json.dumps(['a', many])}")
            self.r.publish("sftp_users.bans", f'points ["a", {{"{HERE}": -3, "198.51.100.1": 4}}]')
            self.r.publish("sftp_users.bans", 'points ["a", {"2001:db8::/64": 4}]')
            await eventually(lambda: self.points(one))
            (ban,) = one.server.banning.listed()
            self.assertEqual((ban["address"], ban["points"], ban["seconds"]), ("2001:db8::/64", 4, 0))

    @asynchronous
    async def test_what_is_not_a_ban_does_not_fill_the_log(self) -> None:
        async with self.servers(1, log_rate="1") as (one,):
            await self.connected(1)
            for _ in range(100):
                self.r.publish("sftp_users.bans", "x")
            self.r.publish("sftp_users.bans", '203.0.113.1 ["failed", 1, 60]')
            await eventually(lambda: one.server.banning.is_banned("203.0.113.1"))
            one.server.log_limit.tell()
            ignored = one.lines.count("bans in Redis: ignored what is not a ban")
            left_out = r"bans in Redis: (\d+) log lines were left out \(log_rate\)"
            told = re.findall(left_out, "\n".join(one.lines))  # each time that there may be a line again
            self.assertGreater(len(told), 0)
            self.assertEqual(ignored + sum(map(int, told)), 100)

    @asynchronous
    async def test_the_access_list_of_the_page_is_enough_and_another_is_one_line(self) -> None:
        (rights,) = re.findall("With `bans`, add `([^`]*)`", (ROOT / "docs" / "sshd.md").read_text())
        await self.with_rights(rights, "")
        await self.with_rights(rights.replace("&sftp_users.bans ", ""), "its access list forbids a command")

    async def with_rights(self, rights: str, trouble: str) -> None:
        base = "on nopass resetchannels -@all +select +hello +auth +ping +subscribe +unsubscribe +multi +exec"
        server = RedisServer("--user", "default", *base.split(), *rights.split())
        self.addCleanup(server.stop)
        server.start()
        told: list[str] = []
        lines: list[str] = []
        log = SFTPLog(lambda level, text: lines.append(text))
        bans = RedisBans(server.address(), log, lambda network, *_: told.append(network), 0.2)
        try:
            bans.tell(HERE, (60.0, "failed", 1))
            await eventually(lambda: told or lines)
            bans.tell(HERE, (0.0, "admin", 1))
            await eventually(lambda: len(told) == 2 or lines)
        finally:
            await bans.close()
        self.assertIn(trouble, "\n".join(lines))
        self.assertEqual(len(lines), 1 if trouble else 0, lines)

    @asynchronous
    async def test_bans_hold_and_begin_while_redis_is_away_and_are_told_when_it_is_back(self) -> None:
        self.addCleanup(self.server.start)
        self.addCleanup(self.server.kill)
        async with self.servers() as (one, other):
            await self.connected()
            self.server.kill()
            await eventually(lambda: any("this server's own hold" in line for line in one.lines))
            self.misbehave(one)
            self.assertTrue(one.server.banning.is_banned(HERE))
            self.assertFalse(other.server.banning.is_banned(HERE))
            self.server.start()
            await eventually(lambda: other.server.banning.is_banned(HERE))
            self.assertTrue(any("connected again" in line for line in one.lines))
            self.server.kill()
