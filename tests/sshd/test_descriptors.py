"""Users who open all they can: others log in, open files and ask the admin socket all the same."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import time
import unittest

import asyncssh

from pysftpserver.service.admin_client import ask
from tests.integration.sshd import HOST
from tests.sshd.inprocess import CHEAP, asynchronous, running, user
from tests.sshd.running import Place
from tests.sshd.test_logins import files
from tests.support.waiting import PATIENCE, eventually, until

FILE = "CHANGELOG.md"  # in the directory that tests run in
MOST = 400  # descriptors of a server


class TestHandlesOfAUser(unittest.TestCase):
    @asynchronous
    async def test_all_sessions_and_connections_of_a_user_count_together(self) -> None:
        people = user("alice"), user("bob")
        async with running(files, *people, options={"max_handles": "5"}) as server:
            async with await server.connect("alice") as one, await server.connect("alice") as two:
                async with one.start_sftp_client() as a, one.start_sftp_client() as b:
                    async with two.start_sftp_client() as c:
                        opened = [await sftp.open(FILE, "rb") for sftp in (a, a, b, b)]
                        await c.open(FILE, "rb")
                        for sftp in (a, b, c):
                            with self.assertRaisesRegex(asyncssh.SFTPFailure, "of one user .max_handles"):
                                await sftp.open(FILE, "rb")
                            with self.assertRaisesRegex(asyncssh.SFTPFailure, "max_handles"):
                                await sftp.listdir(".")
                        self.assertEqual(server.server.metrics.limited["max_handles"], 6)
                        async with await server.connect("bob") as other:
                            async with other.start_sftp_client() as d:
                                await (await d.open(FILE, "rb")).close()
                        await opened[0].close()
                        await c.listdir(".")
                        self.assertEqual(server.server.handles.count, 4)
            await eventually(lambda: server.server.handles.count == 0)


class TestWorkers(unittest.TestCase):
    @asynchronous
    async def test_each_worker_grants_its_part_of_what_holds_for_all(self) -> None:
        limits = {"max_handles": "8", "log_rate": "40", "buffer_bytes": str(64 << 20)}
        async with running(files, options={"workers": "4", **limits}) as server:
            one = server.server
            self.assertEqual((one.handles.each, one.log_limit.rate, one.budget.most), (2, 10, 16 << 20))


class TestDescriptors(Place):
    def limited(self) -> None:
        """A server that may have MOST descriptors, with the users alice and bob."""
        self.socket = self.place / "admin"
        one = self.server(
            "--admin-socket", self.socket, "--max-connections", "100", "--isolation", "thread", start=False
        )
        one.write_users(
            {name: {"folder": name, "keys": [self.alice.public]} for name in ("alice", "bob")},
        )
        (one.files / "alice").mkdir(parents=True, exist_ok=True)
        (one.files / "alice" / "f").touch()
        self.addCleanup(one.stop)
        one.start()
        self.one = one
        self.limit(MOST)

    def limit(self, most: int) -> None:
        """Let the server have that many descriptors from now on."""
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.prlimit(self.one.pid, resource.RLIMIT_NOFILE, (most, hard))

    def sessions(self) -> list[dict[str, object]]:
        """What the admin socket says."""
        return ask(str(self.socket), {"ask": "sessions"})["sessions"]

    async def login(self, name: str) -> asyncssh.SSHClientConnection:
        return await asyncssh.connect(
            HOST,
            self.one.port,
            username=name,
            client_keys=[str(self.alice.client_key)],
            known_hosts=None,
            agent_path=None,
            config=None,
            encryption_algs=[CHEAP],
        )

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.one.pid}/fd"))

    @asynchronous
    async def test_one_who_opens_all_leaves_enough_for_others(self) -> None:
        self.limited()
        opened = 0
        sessions = []
        connections = [await self.login("alice") for _ in range(4)]
        try:
            for connection in connections:
                for _ in range(10):
                    try:
                        sftp = await connection.start_sftp_client()
                    except asyncssh.Error:
                        break
                    sessions.append(sftp)
            for sftp in sessions:
                with self.assertRaisesRegex(asyncssh.SFTPFailure, "of all users"):
                    while True:
                        await sftp.open("f", "rb")
                        opened += 1
            self.assertGreater(opened, 20)
            self.assertLess(self.descriptors(), MOST - 40)
            began = time.monotonic()
            async with await self.login("bob") as other, other.start_sftp_client() as sftp:
                await sftp.stat(".")
            self.assertLess(time.monotonic() - began, PATIENCE / 2)
            self.assertEqual(len(await asyncio.to_thread(self.sessions)), 4)
        finally:
            for connection in connections:
                connection.abort()
        self.assertNotIn("Traceback", self.one.log())

    def test_without_any_left_clients_are_sent_away_and_the_administrator_is_served(self) -> None:
        self.limited()
        self.limit(self.descriptors())
        before = len(self.one.log())
        for _ in range(200):
            with socket.create_connection((HOST, self.one.port), PATIENCE) as one:
                try:
                    self.assertEqual(one.recv(1), b"")
                except ConnectionError:
                    pass
        self.one.logs("listener: too many open files: connections are closed at once")
        self.assertLess(len(self.one.log()) - before, 1000)
        self.assertEqual(self.sessions(), [])
        self.assertNotIn("Traceback", self.one.log())
        self.limit(MOST)
        until(lambda: self.sftp_works(), "logins go on")

    def sftp_works(self) -> bool:
        self.alice.meet(self.one)
        return self.sftp(self.alice, "pwd").returncode == 0
