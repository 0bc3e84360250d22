"""Users in a real Redis: what is in its keys, and what its channel says."""

from __future__ import annotations

import asyncio
import re
import unittest
from typing import Any
from unittest import mock

import redis
from redis.asyncio.client import PubSub

from pysftpserver.people.redis_users import RedisUsers
from pysftpserver.people.users import DirectoryError
from tests.sshd.material import Watcher, base64_alone, blob, line
from tests.sshd.redis_server import RedisCase, RedisServer, put_user
from tests.support.lines import Lines
from tests.support.waiting import eventually

# From the page of the protocol, word for word.
AS_PEOPLE_DO_IT = """
r.sadd('solt.sftp.users', 7)
r.hset('solt.sftp.user.7', mapping={'name': 'test', 'active': 'True'})
r.sadd('solt.sftp.user.7.keys', 'AAAAB3NzaC1yc2E...')
r.publish('sftp_users', '7')
"""


class Case(RedisCase, unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.told = Lines()

    def directory(self, **options: object) -> Watcher:
        return Watcher(RedisUsers(self.server.address(), self.told.log, **options))  # type: ignore[arg-type]

    def say(self, id: object) -> None:
        self.r.publish("sftp_users", str(id))


class OneTimeCodes(Case):
    async def test_of_all_servers_one_accepts_a_code_and_none_does_while_redis_is_away(self) -> None:
        self.put_user(1, "alice", base64_alone(), folder="a", totp="JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")
        async with self.directory() as one, self.directory() as other:
            (alice,) = one.directory.users()
            self.assertTrue(await one.directory.use_code(alice, 7))
            self.assertFalse(await other.directory.use_code(alice, 7))
            self.assertTrue(await other.directory.use_code(alice, 8))
            self.assertGreater(self.r.ttl("solt.sftp.code.7.1"), 90)
            lost = RedisUsers(self.server.address(port=1), self.told.log)
            self.assertFalse(await lost.use_code(alice, 9))
            self.assertIn("a one-time code cannot be checked: connection refused", self.told.lines[-1])


class Loading(Case):
    async def test_all_users_are_known_at_the_start_with_all_their_fields(self) -> None:
        self.put_user(1, "alice", base64_alone(), line(1) + " laptop", folder="a")
        self.put_user("x-9", "bob", folder="b", active="False", storage="gridfs:bob")
        async with self.directory() as watch:
            alice, bob = watch.directory.users()
            self.assertEqual((alice.id, alice.name, alice.folder, alice.is_active), ("1", "alice", "a", True))
            self.assertEqual((alice.keys, alice.storage), (frozenset((blob(), blob(1))), None))
            self.assertEqual(
                (bob.id, bob.is_active, bob.keys, bob.storage), ("x-9", False, frozenset(), "gridfs:bob")
            )
            self.assertEqual(watch.directory.find("alice"), alice)
            self.assertIsNone(watch.directory.find("carol"))
            self.assertIsNone(watch.directory.trouble())
            self.assertEqual((watch.changes, self.told.lines), ([], []))

    async def test_active_is_read_in_any_letter_case_and_is_false_in_doubt(self) -> None:
        values = {"True": 1, "true": 1, "TRUE": 1, "1": 1, "False": 0, "fALSE": 0, "0": 0, "yes": 0, "": 0}
        for number, value in enumerate(values):
            self.put_user(number, f"u{number}", folder="f", active=value)
        self.put_user(50, "silent", folder="f")
        self.r.hdel("solt.sftp.user.50", "active")
        async with self.directory() as watch:
            for number, (value, expected) in enumerate(values.items()):
                with self.subTest(value):
                    self.assertEqual(watch.directory.find(f"u{number}").is_active, bool(expected))
            self.assertFalse(watch.directory.find("silent").is_active)
        self.assertEqual(self.told.count("counts as False"), 3)

    async def test_many_users_are_all_loaded(self) -> None:
        pipe = self.r.pipeline()
        for number in range(1700):
            pipe.sadd("solt.sftp.users", number)
            pipe.hset(f"solt.sftp.user.{number}", mapping={"name": f"u{number}", "folder": "f", "active": 1})
            pipe.sadd(f"solt.sftp.user.{number}.keys", base64_alone())
        pipe.execute()
        async with self.directory() as watch:
            self.assertEqual(len(list(watch.directory.users())), 1700)

    async def test_a_missing_folder_is_filled_in_and_two_servers_agree(self) -> None:
        for number in range(20):
            self.put_user(number, f"u{number}")
        first, second = self.directory(), self.directory()
        async with first, second:
            for number in range(20):
                folder = self.r.hget(f"solt.sftp.user.{number}", "folder")
                self.assertRegex(str(folder), r"\A[0-9a-f]{32}\Z")
                for watch in (first, second):
                    self.assertEqual(watch.directory.find(f"u{number}").folder, folder)
            self.put_user(99, "late")
            self.say(99)
            for watch in (first, second):
                await watch.until(lambda watch=watch: watch.directory.find("late"))
            folders = {watch.directory.find("late").folder for watch in (first, second)}
            self.assertEqual(folders, {self.r.hget("solt.sftp.user.99", "folder")})

    async def test_a_folder_that_is_no_single_safe_name_makes_its_user_unusable_and_is_told(self) -> None:
        bad = ("..", ".", "/", "a/b", "", "a\0b", ".hidden", "/etc", "a\nb", "x" * 256)
        for number, folder in enumerate(bad):
            self.put_user(number, f"u{number}", base64_alone(), folder=folder)
        self.put_user(100, "good", folder="good")
        async with self.directory() as watch:
            self.assertEqual([user.name for user in watch.directory.users()], ["good"])
            for number in range(len(bad)):
                self.assertEqual(self.told.count(f"user {number} (u{number})", "the folder"), 1, self.told)

    async def test_a_bad_key_is_left_out_and_told_and_the_others_work(self) -> None:
        secret = "rubbish-that-nobody-may-read-in-a-log"
        self.put_user(1, "alice", base64_alone(), secret, f"restrict {line(1)}", folder="a")
        self.put_user(2, "bob", base64_alone(2), folder="b")
        async with self.directory() as watch:
            self.assertEqual(watch.directory.find("alice").keys, {blob()})
            self.assertEqual(watch.directory.find("bob").keys, {blob(2)})
        self.assertEqual(self.told.count("user 1 (alice)", "is left out"), 2)
        self.assertEqual(self.told.count(secret), 0)

    async def test_data_of_wrong_types_and_ids_that_are_none_harm_nobody_else(self) -> None:
        self.put_user(1, "alice", base64_alone(), folder="a")
        raw = redis.Redis(self.server.address().host, self.server.port, 1)
        self.addCleanup(raw.close)
        raw.sadd("solt.sftp.users", b"\xff\xfe", "", "a b", "1.keys", "x" * 500, 2, 3, 4, 5)
        raw.set("solt.sftp.user.2", "text")
        raw.hset("solt.sftp.user.3", mapping={"name": b"\xff", "folder": "f"})
        raw.hset("solt.sftp.user.4", mapping={"name": "dave\x1b[2J", "folder": "f"})
        raw.hset("solt.sftp.user.5", mapping={"name": "eve", "folder": "f", "active": "1"})
        raw.set("solt.sftp.user.5.keys", "text")
        async with self.directory() as watch:
            self.assertEqual([user.name for user in watch.directory.users()], ["alice"])
            for message in (b"\xff", b"", b"1.keys", b"a b", b"x" * 1000, b"\0"):
                raw.publish("sftp_users", message)
            self.r.hset("solt.sftp.user.1", "folder", "other")
            self.say(1)
            await watch.until(lambda: watch.directory.find("alice").folder == "other")
            self.assertIsNone(watch.directory.trouble())
        self.assertEqual(self.told.count("5 members", "not ids"), 1, self.told)
        self.assertEqual(self.told.count("a message that is not a user's id"), 6, self.told)

    async def test_of_two_ids_with_one_name_the_lowest_has_it_whoever_came_first(self) -> None:
        self.put_user(10, "alice", base64_alone(), folder="ten")
        async with self.directory() as watch:
            for id, expected in (("abc", "ten"), (9, "nine"), (2, "two"), (30, "two")):
                folder = {"abc": "letters", 9: "nine", 2: "two", 30: "thirty"}[id]
                self.put_user(id, "alice", folder=folder)
                self.put_user(1000, f"marker-{id}", folder="m")
                self.say(id)
                self.say(1000)
                await watch.until(lambda id=id: watch.directory.find(f"marker-{id}"))
                self.assertEqual(watch.directory.find("alice").folder, expected)
            self.assertEqual(self.told.count("user 30", "the name belongs to user 2"), 1, self.told)
            self.r.srem("solt.sftp.users", 2)
            self.say(2)
            await watch.until(lambda: watch.directory.find("alice").folder == "nine")
        async with self.directory() as watch:
            self.assertEqual(watch.directory.find("alice").folder, "nine")

    async def test_where_nothing_may_be_written_only_those_without_a_folder_are_left_out(self) -> None:
        server = RedisServer("--user", "default", "on", "nopass", "~*", "&*", "+@all", "-hsetnx")
        server.start()
        self.addCleanup(server.stop)
        with server.client() as r:
            put_user(r, 1, "alice", folder="a")
            put_user(r, 2, "bob")
        async with Watcher(RedisUsers(server.address(), self.told.log)) as watch:
            self.assertEqual([user.name for user in watch.directory.users()], ["alice"])
        self.assertEqual(self.told.count("user 2 (bob): there is no folder"), 1, self.told)

    async def test_an_unusable_user_keeps_the_name_from_others(self) -> None:
        self.put_user(1, "alice", folder="../x")
        self.put_user(2, "alice", base64_alone(), folder="b")
        async with self.directory() as watch:
            self.assertIsNone(watch.directory.find("alice"))


class Ending(Case):
    async def test_the_end_comes_even_when_redis_py_takes_the_cancellation_for_its_own(self) -> None:
        # It does so now and then, where an answer comes at the same moment. Here it does so every time, once.
        taken = []
        get_message = PubSub.get_message

        async def get_message_anyway(subscription: PubSub, **how: Any) -> object:
            try:
                return await get_message(subscription, **how)
            except asyncio.CancelledError:
                if taken:
                    raise
                taken.append("cancelled")
                return {"type": "pong", "data": b""}

        with mock.patch.object(PubSub, "get_message", get_message_anyway):
            async with self.directory() as watch:
                self.assertIsNone(watch.directory.trouble())
                await eventually(lambda: self.r.pubsub_numsub("sftp_users")[0][1] == 1)
        self.assertEqual(taken, ["cancelled"])


class Changes(Case):
    async def test_a_user_is_added_as_people_do_it_today(self) -> None:
        async with self.directory() as watch:
            exec(AS_PEOPLE_DO_IT, {"r": self.r})
            await watch.until(lambda: watch.directory.find("test"))
            user = watch.directory.find("test")
            self.assertEqual((user.id, user.is_active, user.keys), ("7", True, frozenset()))
            self.assertEqual(user.folder, self.r.hget("solt.sftp.user.7", "folder"))
            self.assertEqual(self.told.count("user 7 (test): key 1 is left out: not valid"), 1, self.told)
            exec(
                re.sub(r"AAAA\S*\.\.\.", base64_alone(0, "ssh-rsa", key_size=2048), AS_PEOPLE_DO_IT),
                {"r": self.r},
            )
            await watch.until(lambda: watch.directory.find("test").keys)
            self.assertEqual(watch.directory.find("test").keys, {blob(0, "ssh-rsa", key_size=2048)})
            self.assertEqual(set(watch.changes), {"test"})

    async def test_a_message_loads_that_user_and_no_other(self) -> None:
        self.put_user(1, "alice", base64_alone(), folder="a")
        self.put_user(2, "bob", base64_alone(), folder="b")
        async with self.directory() as watch:
            self.r.hset("solt.sftp.user.1", "active", "0")
            self.r.hset("solt.sftp.user.2", "active", "0")
            self.say(2)
            await watch.until(lambda: not watch.directory.find("bob").is_active)
            self.assertTrue(watch.directory.find("alice").is_active)
            self.assertEqual(watch.changes, ["bob"])

    async def test_keys_change_and_users_go_and_come_back(self) -> None:
        self.put_user(1, "alice", base64_alone(), folder="a")
        async with self.directory() as watch:
            self.r.sadd("solt.sftp.user.1.keys", line(1))
            self.r.srem("solt.sftp.user.1.keys", base64_alone())
            self.say(1)
            await watch.until(lambda: watch.directory.find("alice").keys == {blob(1)})
            self.r.srem("solt.sftp.users", 1)
            self.say(1)
            await watch.until(lambda: watch.directory.find("alice") is None)
            self.r.sadd("solt.sftp.users", 1)
            self.say(1)
            await watch.until(lambda: watch.directory.find("alice"))
            self.assertEqual(watch.changes, ["alice"] * 3)

    async def test_a_new_name_is_announced_together_with_the_old_one(self) -> None:
        self.put_user(1, "alice", base64_alone(), folder="a")
        async with self.directory() as watch:
            self.r.hset("solt.sftp.user.1", "name", "alicia")
            self.say(1)
            await watch.until(lambda: watch.directory.find("alicia"))
            self.assertIsNone(watch.directory.find("alice"))
            self.assertEqual(sorted(watch.changes), ["alice", "alicia"])

    async def test_a_fault_of_whoever_listens_ends_no_updates(self) -> None:
        directory = RedisUsers(self.server.address(), self.told.log)

        def fails(name: str) -> None:
            raise KeyError(name)

        await directory.start(fails)
        self.addAsyncCleanup(directory.close)
        watch = Watcher(directory)
        for number in (1, 2):
            self.put_user(number, f"u{number}", folder="f")
            self.say(number)
        await watch.until(lambda: directory.find("u2"))
        self.assertGreaterEqual(self.told.count("KeyError"), 1)

    async def test_another_channel_and_another_database_are_used_when_they_are_named(self) -> None:
        other = self.server.client(db=3)
        self.addCleanup(other.close)
        async with Watcher(
            RedisUsers(self.server.address(db=3, channel="elsewhere"), self.told.log)
        ) as watch:
            other.sadd("solt.sftp.users", 1)
            other.hset("solt.sftp.user.1", mapping={"name": "alice", "active": "1"})
            other.publish("elsewhere", 1)
            await watch.until(lambda: watch.directory.find("alice"))

    async def test_a_change_while_all_are_being_loaded_is_not_lost(self) -> None:
        directory = RedisUsers(self.server.address(), self.told.log)
        load = directory._load

        async def load_and_change(client: object) -> None:
            await load(client)  # type: ignore[arg-type]
            self.put_user(1, "alice", folder="a")
            self.say(1)  # after the data was read, and before anybody reads the channel

        directory._load = load_and_change  # type: ignore[method-assign]
        async with Watcher(directory) as watch:
            await watch.until(lambda: directory.find("alice"))


class Refusals(unittest.IsolatedAsyncioTestCase):
    async def refused(self, server: RedisServer, words: str, **fields: object) -> None:
        server.start()
        self.addCleanup(server.stop)
        told = Lines()
        directory = RedisUsers(server.address(**fields), told.log)
        with self.assertRaisesRegex(DirectoryError, words) as caught:
            await directory.start(lambda name: None)
        self.assertNotIn("hunter2", f"{caught.exception} {told} {server.address(**fields)!r}")

    async def test_a_wrong_password_is_one_clear_line_without_it(self) -> None:
        await self.refused(RedisServer(password="right"), "the password is wrong", password="hunter2")

    async def test_no_password_where_one_is_wanted_is_one_clear_line(self) -> None:
        await self.refused(RedisServer(password="hunter2"), "set redis_pass", password=None)

    async def test_a_database_that_is_not_there_is_one_clear_line(self) -> None:
        await self.refused(RedisServer("--databases", "2"), "change redis_dbindex", db=7)

    async def test_an_access_list_that_forbids_the_channel_is_one_clear_line(self) -> None:
        server = RedisServer("--user", "default", "on", "nopass", "~*", "resetchannels", "+@all")
        await self.refused(server, "its access list forbids")

    async def test_the_right_password_is_enough(self) -> None:
        server = RedisServer(password="hunter2")
        server.start()
        self.addCleanup(server.stop)
        told = Lines()
        async with Watcher(RedisUsers(server.address(), told.log)) as watch:
            self.assertIsNone(watch.directory.trouble())
