"""Users in a Redis that is killed, started again, silent or not there at all."""

from __future__ import annotations

import asyncio
import os
import signal
import unittest

from pysftpserver.people.redis_users import RedisUsers
from tests.sshd.material import Watcher, base64_alone, blob
from tests.sshd.redis_server import RedisServer, put_user
from tests.support.lines import Lines
from tests.support.waiting import PATIENCE


class RedisAway(unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        self.told = Lines()
        self.server = RedisServer()
        self.addCleanup(self.server.stop)
        self.server.start()

    def put(self, id: int, name: str, *keys: str, **fields: str) -> None:
        with self.server.client() as r:
            put_user(r, id, name, *keys, **{"folder": "f", **fields})

    def directory(self, **options: float) -> Watcher:
        options = {"longest_pause": 0.2, **options}
        return Watcher(RedisUsers(self.server.address(), self.told.log, **options))

    def count_tries(self, watch: Watcher) -> list[None]:
        """A list that grows by one with every try to reach Redis."""
        tries: list[None] = []
        listen = watch.directory._listen  # type: ignore[attr-defined]

        async def listen_and_count() -> None:
            tries.append(None)
            await listen()

        watch.directory._listen = listen_and_count  # type: ignore[attr-defined]
        return tries

    async def test_the_last_known_users_are_served_while_it_is_away_and_it_is_said_once(self) -> None:
        self.put(1, "alice", base64_alone())
        async with self.directory() as watch:
            self.server.kill()
            await watch.until(lambda: "efused" in (watch.directory.trouble() or ""))
            self.assertEqual(watch.directory.find("alice").keys, {blob()})
            trouble = watch.directory.trouble()
            self.assertIn("the server keeps the last known users", str(trouble))
            tries = self.count_tries(watch)
            await watch.until(lambda: len(tries) > 4)
            self.assertEqual(self.told.lines.count(str(trouble)), 1, self.told)
            self.assertLessEqual(self.told.count("the last known users"), 2, self.told)
            self.assertEqual(watch.changes, [])

    async def test_what_changed_while_it_was_away_is_known_when_it_is_back(self) -> None:
        for number, name in enumerate(("stays", "changes", "goes")):
            self.put(number, name, base64_alone())
        async with self.directory(longest_pause=1.0) as watch:
            self.server.kill()
            await watch.until(watch.directory.trouble)
            self.server.start()
            # Without a message: whatever was said while nobody listened.
            self.put(0, "stays", base64_alone())
            self.put(1, "changes", base64_alone(1))
            self.put(3, "comes")
            await watch.until(lambda: watch.directory.find("comes") and watch.directory.trouble() is None)
            self.assertEqual([user.name for user in watch.directory.users()], ["changes", "comes", "stays"])
            self.assertEqual(watch.directory.find("changes").keys, {blob(1)})
            self.assertLessEqual({"changes", "goes", "comes"}, set(watch.changes))
            self.assertEqual(self.told.count("connected again"), 1, self.told)
            self.put(4, "later")
            with self.server.client() as r:
                r.publish("sftp_users", "4")
            await watch.until(lambda: watch.directory.find("later"))

    async def test_connections_that_are_cut_lose_no_change(self) -> None:
        async with self.directory() as watch:
            for number in range(5):
                with self.server.client() as r:
                    r.client_kill_filter(_type="pubsub")
                    put_user(r, number, f"u{number}", folder="f")
                    r.publish("sftp_users", str(number))
                await watch.until(lambda number=number: watch.directory.find(f"u{number}"))

    async def test_a_server_that_starts_first_serves_nobody_until_redis_is_there(self) -> None:
        self.server.kill()
        async with self.directory() as watch:
            self.assertIn("logins are refused", str(watch.directory.trouble()))
            self.assertEqual(list(watch.directory.users()), [])
            self.server.start()
            self.put(1, "alice")
            with self.server.client() as r:
                r.publish("sftp_users", "1")
            await watch.until(lambda: watch.directory.find("alice") and watch.directory.trouble() is None)
            self.assertEqual(watch.changes, ["alice"])
            self.assertEqual(self.told.count("logins are refused"), 1, self.told)

    async def test_a_password_that_becomes_wrong_is_trouble_and_not_the_end(self) -> None:
        self.put(1, "alice")
        async with self.directory() as watch:
            with self.server.client() as r:
                r.config_set("requirepass", "hunter2")
                r.client_kill_filter(_type="pubsub")
                await watch.until(lambda: "set redis_pass" in (watch.directory.trouble() or ""))
                self.assertIsNotNone(watch.directory.find("alice"))
                r.config_set("requirepass", "")
            await watch.until(lambda: watch.directory.trouble() is None)
        self.assertEqual(self.told.count("hunter2"), 0)

    async def test_a_redis_that_says_nothing_is_found_out_and_never_holds_the_loop(self) -> None:
        self.put(1, "alice")
        async with self.directory(patience=4.0, silence=0.3) as watch:
            with self.server.client() as r:  # silence alone is no trouble: it answers pings
                await watch.until(lambda: r.info("commandstats").get("cmdstat_ping", {}).get("calls", 0) > 3)
            self.assertIsNone(watch.directory.trouble())
            assert self.server._process is not None
            os.kill(self.server._process.pid, signal.SIGSTOP)
            loop = asyncio.get_running_loop()
            longest, last = 0.0, loop.time()
            deadline = last + PATIENCE
            while watch.directory.trouble() is None and loop.time() < deadline:
                await asyncio.sleep(0.005)
                longest, last = max(longest, loop.time() - last), loop.time()
            self.assertIn("no answer in time", str(watch.directory.trouble()))
            self.assertLess(longest, 3)
            self.assertIsNotNone(watch.directory.find("alice"))
            os.kill(self.server._process.pid, signal.SIGCONT)
            await watch.until(lambda: watch.directory.trouble() is None)

    async def test_closing_ends_everything_at_once_even_while_redis_is_away(self) -> None:
        before = asyncio.all_tasks()
        watch = self.directory()
        await watch.directory.start(lambda name: None)
        self.server.kill()
        await watch.until(watch.directory.trouble)
        await asyncio.wait_for(watch.directory.close(), PATIENCE)
        self.assertEqual(asyncio.all_tasks(), before)
