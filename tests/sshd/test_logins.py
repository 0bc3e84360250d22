"""Who may log in, who may stay, and that nobody learns from a refusal why it was one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
import unittest
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import asyncssh
from asyncssh.packet import SSHPacket, String

from pysftpserver.people.keys import fingerprint
from pysftpserver.service.admission import QUICK_LOGIN
from pysftpserver.service.shared import Penalties, Shared
from pysftpserver.sshd.config import ServerSettings
from pysftpserver.sshd.connection import Connection
from pysftpserver.sshd.sessions import Sessions
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.sshd.flooding import USERAUTH, flood, password, stranger
from tests.sshd.inprocess import HOST, KEY, OTHER_KEY, Running, asynchronous, raw, running, user
from tests.sshd.running import Login, Place, Pysftpd
from tests.support.waiting import PATIENCE, eventually, until

MIB = 1 << 20


def files(user: object) -> SFTPServerVirtualChroot:
    """Somewhere; these tests write nothing by it."""
    return SFTPServerVirtualChroot(Path.cwd())


class TestRefusals(Place):
    """A wrong key, an unknown user and an inactive one: nobody can tell which it was."""

    def attempt(self, login: Login, name: str) -> str:
        """What ssh sees of a login, without what differs by chance: numbers, times and the name."""
        run = self.sftp(login, "pwd", flags=["-vvv", "-o", f"User={name}", "-o", "LogLevel=DEBUG3"])
        self.assertEqual(run.returncode, 255, run.stderr)
        lines = [
            line for line in run.stderr.splitlines() if re.search("receive|send|auth|Permission|closed", line)
        ]
        text = "\n".join(lines).replace(name, "NAME")
        return re.sub(r"[0-9a-f]{16,}|\d+ bytes|port \d+|rekey\S*|fd \d+|length \d+", "", text)

    def test_they_look_the_same_on_the_wire(self) -> None:
        server = self.server(start=False)
        wrong = Login(self.place / "wrong", "wrong")
        server.write_users(
            {
                "known": {"folder": "a", "keys": [self.alice.public]},
                "former": {"folder": "b", "keys": [wrong.public], "active": False},
            }
        )
        self.addCleanup(server.stop)
        server.start()
        wrong.meet(server)
        seen = {name: self.attempt(wrong, name) for name in ("known", "former", "nobody")}
        self.assertIn("Permission denied (publickey)", seen["known"])
        self.assertEqual(seen["known"], seen["former"])
        self.assertEqual(seen["known"], seen["nobody"])
        for name in seen:
            server.logs(f"127.0.0.1 '{name}': login failed")

    @asynchronous
    async def test_the_end_of_a_session_is_logged_with_its_bytes_its_time_and_the_reason(self) -> None:
        def said(words: str) -> bool:
            files = r"\d files stored \(\d+ bytes\), \d fetched \(\d+ bytes\)"
            moved = rf"{files}, [1-9]\d* bytes received, [1-9]\d* bytes sent"
            form = rf" 127.0.0.1 'alice': gone after \d+\.\d seconds, {moved}: {words}$"
            return any(re.search(form, line) for line in server.lines)

        async with running(files, user("alice"), options={"metrics": "1", "metrics_users": "1"}) as server:
            for words in ("the client has left", "Ended by the administrator"):
                connection = await server.connect()
                await (await connection.start_sftp_client()).stat(".")
                if words.startswith("Ended"):
                    (there,) = server.server.connections
                    figures = await Sessions(server.server).figures()
                    self.assertEqual(figures["user_received"].keys(), {"alice"})
                    there.end(words)
                else:
                    connection.close()
                await connection.wait_closed()
                await eventually(lambda words=words: said(words))

    @asynchronous
    async def test_an_rsa_signature_without_its_leading_zeros_opens(self) -> None:
        """PuTTY and WinSCP send it so: with the usual length of keys, one in 256."""
        key = asyncssh.generate_private_key("ssh-rsa", key_size=2050)  # a quarter have such zeros
        sign, lengths = key.sign, set()

        def shortened(data: bytes, algorithm: bytes) -> bytes:
            fields = SSHPacket(sign(data, algorithm))
            name, signature = fields.get_string(), fields.get_string().lstrip(b"\0")
            lengths.add(len(signature))
            return String(name) + String(signature)

        async with running(files, user("alice", key)) as server:
            with mock.patch.object(key, "sign", shortened):
                while lengths <= {257}:
                    (await server.connect(key=key)).close()

    @asynchronous
    async def test_they_cost_the_same_look_into_the_directory(self) -> None:
        people = user("known"), user("former", OTHER_KEY, is_active=False)
        async with running(files, *people) as server:
            asked = []
            for name in ("known", "former", "nobody"):
                server.users.asked.clear()
                with self.assertRaises(asyncssh.PermissionDenied) as caught:
                    await server.connect(name, OTHER_KEY)
                asked.append((len(server.users.asked), str(caught.exception).replace(name, "")))
            self.assertEqual(len(set(asked)), 1, asked)
            await eventually(lambda: server.server.metrics.logins["refused"] == 3)

    @asynchronous
    async def test_repeated_failures_are_slowed_and_logins_from_elsewhere_are_not(self) -> None:
        async with running(files) as server:
            penalties = server.server.penalties
            for count in range(1, 4):
                with self.assertRaises(asyncssh.PermissionDenied):
                    await server.connect("nobody", OTHER_KEY)
                await eventually(lambda: server.server.metrics.logins["refused"] == count)  # noqa: B023
            self.assertEqual(penalties.delay("127.0.0.1", time.monotonic()), 0.5)
            self.assertEqual(penalties.delay("192.0.2.1", time.monotonic()), 0)
            began = time.monotonic()
            (await server.connect()).close()
            self.assertGreaterEqual(time.monotonic() - began, 0.5)

    @asynchronous
    async def test_what_comes_while_a_login_is_slowed_is_not_kept(self) -> None:
        async with running(files) as server:
            for _ in range(8):
                server.server.penalties.failed("127.0.0.1", time.monotonic())
            one = await stranger(server.port)
            (there,) = server.server.connections
            flooding = asyncio.create_task(flood(one, USERAUTH, *password(30_000), most=MIB))
            await eventually(lambda: not there.conn._transport.is_reading())
            self.assertLess(len(there.conn._inpbuf), 100_000)
            there.conn.abort()
            await flooding

    @asynchronous
    async def test_who_takes_no_answers_before_the_login_is_sent_away(self) -> None:
        async with running(files) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            (there,) = await eventually(lambda: list(server.server.connections))
            there.conn.pause_writing()  # as the transport does
            self.assertTrue(await asyncio.wait_for(reader.read(), PATIENCE))
            writer.close()
            await eventually(lambda: not server.server.connections)

    @asynchronous
    async def test_the_log_has_the_reason_and_the_client_has_not(self) -> None:
        mallory = user("mallory", OTHER_KEY, is_active=False)
        away = replace(user("away"), networks="192.0.2.0/24")
        own, other = (fingerprint(key.public_data) for key in (KEY, OTHER_KEY))
        cases: tuple[tuple[str, dict[str, Any], str], ...] = (
            ("alice", {"client_keys": [OTHER_KEY]}, f"wrong key {other}"),
            ("nobody", {"client_keys": [OTHER_KEY, KEY]}, f"unknown user, key {other}, {own}"),
            ("mallory", {"client_keys": [OTHER_KEY]}, f"inactive user, key {other}"),
            ("mallory", {"client_keys": [KEY]}, f"inactive user, wrong key {own}"),
            ("away", {"client_keys": [KEY]}, f"not from this address (networks), key {own}"),
            ("away", {"client_keys": [OTHER_KEY]}, f"not from this address (networks), wrong key {other}"),
            ("alice", {"client_keys": [], "password": "guess"}, "no key was tried"),
            ("nobody", {"client_keys": [], "password": "guess"}, "unknown user, no key was tried"),
        )
        async with running(files, user("alice"), mallory, away) as server:
            said = set()
            for name, login, reason in cases:
                with self.assertRaises(asyncssh.PermissionDenied) as caught:
                    await server.connect(name, **login)
                said.add(str(caught.exception).replace(name, "NAME"))
                end = f" 127.0.0.1 '{name}': login failed: {reason}"
                await eventually(lambda end=end: any(line.endswith(end) for line in server.lines))
                server.server.penalties = Penalties(Shared(1, 10), 0)  # without delays
        self.assertEqual(len(said), 1, said)

    @asynchronous
    async def test_a_user_is_let_in_from_the_networks_of_the_record_as_long_as_it_names_them(self) -> None:
        here = replace(user("alice"), networks="127.0.0.0/8, !127.0.0.2")
        async with running(files, here) as server:
            async with await server.connect() as connection:
                server.users.put(replace(here, networks="127.0.0.1"))
                self.assertFalse(connection.is_closed())
                server.users.put(replace(here, networks="!127.0.0.1"))
                await asyncio.wait_for(connection.wait_closed(), PATIENCE)

    @asynchronous
    async def test_a_connection_is_for_one_name(self) -> None:
        class Other(asyncssh.SSHClient):
            """Its second request is for another user."""

            def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
                self.conn = conn
                self.keys = [OTHER_KEY, KEY]

            def public_key_auth_requested(self) -> asyncssh.SSHKey | None:
                if len(self.keys) == 1:
                    self.conn._username = "bob"
                return self.keys.pop(0) if self.keys else None

        async with running(files, user("alice"), user("bob")) as server:
            with self.assertRaises(asyncssh.Error):
                await server.connect(client_factory=Other, client_keys=[])
            await eventually(lambda: any("'alice': login failed" in line for line in server.lines))
            self.assertEqual(server.server.metrics.logins["accepted"], 0)
            self.assertFalse(any("logged in" in line for line in server.lines), server.lines)


class TestTries(unittest.TestCase):
    """How many keys a client may try, and how long."""

    async def tries(self, server: Running, wrong: int) -> None:
        keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(wrong)]
        connection = await server.connect(client_keys=[*keys, KEY])
        connection.close()
        await connection.wait_closed()

    @asynchronous
    async def test_as_many_keys_as_auth_tries_says_may_be_tried(self) -> None:
        async with running(files, options={"auth_tries": "3"}) as server:
            await self.tries(server, 2)
            with self.assertRaises(asyncssh.DisconnectError):
                await self.tries(server, 3)
            await eventually(lambda: any("too many attempts" in line for line in server.lines))
            self.assertEqual(server.server.metrics.logins["refused"], 1)

    @asynchronous
    async def test_who_tries_too_many_keys_again_and_again_is_slowed(self) -> None:
        async with running(files, options={"auth_tries": "1"}) as server:
            for _ in range(3):
                with self.assertRaises(asyncssh.DisconnectError):
                    await self.tries(server, 2)
            self.assertGreater(server.server.penalties.delay("127.0.0.1", time.monotonic()), 0)

    @asynchronous
    async def test_who_says_nothing_is_gone_after_login_grace(self) -> None:
        async with running(files, options={"login_grace": "1"}) as server:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await asyncio.wait_for(reader.read(), PATIENCE)
            writer.close()
            await eventually(lambda: not server.server.connections)


class TestLimits(unittest.TestCase):
    async def is_refused(self, server: object, name: str) -> None:
        """Whose user has too many, learns it when the login is over."""
        with self.assertRaises((asyncssh.Error, OSError)):
            await raw(await server.connect(name))

    @asynchronous
    async def test_one_connection_too_many_is_refused_and_another_has_its_place_later(self) -> None:
        for option, others in (
            ("max_connections", "bob"),
            ("max_per_user", "alice"),
            ("max_per_address", "bob"),
        ):
            people = user("alice"), user("bob")
            async with running(files, *people, options={option: "2"}) as server:
                first = await server.connect("alice")
                second = await server.connect(others)
                await self.is_refused(server, others)
                await eventually(lambda: any(option in line for line in server.lines))  # noqa: B023
                first.close()
                await first.wait_closed()
                await eventually(lambda: len(server.server.connections) == 1)
                third = await server.connect(others)
                for one in (second, third):
                    one.close()
                    await one.wait_closed()

    @asynchronous
    async def test_strangers_who_take_all_places_make_room_for_who_comes(self) -> None:
        async with running(files, options={"max_connections": "3"}) as server:
            async with await server.connect():
                strangers = [await asyncio.open_connection(HOST, server.port) for _ in range(2)]
                await eventually(lambda: len(server.server.connections) == 3)
                for one in server.server.connections:
                    one.began -= QUICK_LOGIN + 1  # as if they had been there for that long
                async with await server.connect():
                    await eventually(lambda: any("others are waiting" in line for line in server.lines))
                    self.assertEqual(len(server.server.connections), 3)
                    self.assertEqual(server.server.metrics.limited["evicted"], 1)
                for _, writer in strangers:
                    writer.close()

    @asynchronous
    async def test_a_client_that_is_one_too_many_is_told_so(self) -> None:
        async with running(files, options={"max_connections": "1"}) as server:
            async with await server.connect():
                with self.assertRaises(asyncssh.DisconnectError) as caught:
                    await server.connect()
                self.assertIn("Too many connections", str(caught.exception))
                self.assertEqual(server.server.metrics.limited["max_connections"], 1)

    def test_one_user_cannot_take_all_places(self) -> None:
        defaults = ServerSettings()
        self.assertLessEqual(10 * (defaults.max_per_user or 1000), defaults.max_connections)

    @asynchronous
    async def test_another_users_place_is_free_while_one_has_his_full(self) -> None:
        async with running(files, user("alice"), user("bob"), options={"max_per_user": "1"}) as server:
            async with await server.connect("alice"), await server.connect("bob"):
                await self.is_refused(server, "alice")


class TestUsersWhoGo(unittest.TestCase):
    @asynchronous
    async def test_whoever_is_not_welcome_any_more_goes_at_once_and_others_stay(self) -> None:
        changes = (user("alice", is_active=False), user("alice", OTHER_KEY))
        for changed in changes:
            async with running(files, user("alice"), user("bob")) as server:
                async with await server.connect("alice") as alice, await server.connect("bob") as bob:
                    await raw(alice)
                    server.users.put(changed)
                    await asyncio.wait_for(alice.wait_closed(), PATIENCE)
                    await raw(bob)
                    self.assertEqual([one.name for one in server.server.connections], ["bob"])

    @asynchronous
    async def test_a_change_that_leaves_the_key_leaves_the_session(self) -> None:
        async with running(files) as server, await server.connect() as connection:
            server.users.put(user("alice", KEY, OTHER_KEY))
            await raw(connection)

    @asynchronous
    async def test_who_has_gone_between_key_and_login_is_not_taken_for_welcome(self) -> None:
        async with running(files) as server, await server.connect() as connection:
            (there,) = server.server.connections
            assert isinstance(there, Connection)
            self.assertTrue(there.is_still_allowed())
            del server.users.by_name["alice"]
            self.assertFalse(there.is_still_allowed())
            del connection


class TestUsersFile(Place):
    """The same with a file and real clients, in the middle of a transfer."""

    def two(self, server: Pysftpd) -> Login:
        bob = Login(self.place / "bob", "bob")
        self.both = {
            "alice": {"folder": "a", "keys": [self.alice.public]},
            "bob": {"folder": "b", "keys": [bob.public]},
        }
        server.write_users(self.both)
        self.addCleanup(server.stop)
        server.start()
        for login in (self.alice, bob):
            login.meet(server)
        (self.place / "big").write_bytes(bytes(8 * MIB))
        return bob

    def test_a_deactivated_users_upload_ends_and_anothers_goes_on(self) -> None:
        server = self.server(start=False)
        bob = self.two(server)
        one = self.start_sftp(self.alice, "put big", flags=["-l", "2000"])  # kbit/s: half a minute
        other = self.start_sftp(bob, "put big", flags=["-l", "32000"])
        for folder in ("a", "b"):
            until(lambda f=server.files / folder: any(f.glob("*")), "the upload runs")
        self.both["alice"]["active"] = False
        server.write_users(self.both)
        self.assertNotEqual(one.wait(PATIENCE), 0)
        assert other.stdin is not None
        other.stdin.close()
        self.assertEqual(other.wait(PATIENCE), 0)
        self.assertEqual((server.files / "b" / "big").stat().st_size, 8 * MIB)
        server.logs("no longer active")
        self.assertEqual(self.sftp(self.alice, "pwd").returncode, 255)

    def test_a_client_that_is_killed_in_the_middle_of_an_upload_leaves_nothing_open(self) -> None:
        server = self.server(start=False)
        self.two(server)
        upload = self.start_sftp(self.alice, "put big", flags=["-l", "8000"])
        until(lambda: any((server.files / "a").glob("*")), "the upload runs")

        def of_alice() -> list[str]:
            links = []
            for process in (server.pid, *server.sessions()):
                with contextlib.suppress(OSError):
                    for link in Path(f"/proc/{process}/fd").iterdir():
                        with contextlib.suppress(OSError):
                            links.append(str(link.readlink()))
            return [link for link in links if link.startswith(str(server.files))]

        until(of_alice, "the file is open")
        os.killpg(upload.pid, signal.SIGKILL)
        until(lambda: not of_alice(), "nothing is open")
        self.assertEqual(self.sftp(self.alice, "pwd").returncode, 0)
