"""Processes of sessions before a session begins and while a client is idle."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import Any

import asyncssh

from tests.sshd.inprocess import raw
from tests.sshd.isolating import CREAT, FIRST, READ, WRITE, IsolationCase, answer
from tests.support.packets import HELLO, NO_ATTRS, request, string, u32, u64
from tests.support.processes import is_alive
from tests.support.waiting import eventually


class Spares(IsolationCase):
    """A process waits for the next session."""

    async def spare(self) -> int:
        await eventually(self.running.spares, "a spare process")
        return self.running.spares()[0]

    def test_it_becomes_the_session_and_reaches_no_other_process(self) -> None:
        self.serve()

        async def test() -> None:
            for name in ("alice", "bob"):
                spare = await self.spare()
                await answer(await self.begun(name), "stat", 1, string(b"/"))
                self.assertIn(spare, self.running.sessions())
                links = [os.readlink(f"/proc/{spare}/fd/{one}") for one in os.listdir(f"/proc/{spare}/fd")]
                sockets = [link for link in links if link.startswith("socket:")]
                self.assertEqual(len(sockets), 2, links)  # to the process that serves SSH

        self.run_async(test)

    def test_a_session_begins_without_it_and_it_ends_with_the_server(self) -> None:
        self.serve()

        async def test() -> None:
            killed = await self.spare()
            os.kill(killed, signal.SIGKILL)
            await eventually(lambda: not is_alive(killed), "it has ended")
            await answer(await self.begun("alice"), "stat", 1, string(b"/"))
            await eventually(lambda: set(self.running.spares()) - {killed}, "another spare process")

        self.run_async(test)


class Resting(IsolationCase):
    """An idle session in a folder gives its process back."""

    def test_the_next_request_is_answered_by_another_process_and_an_open_file_keeps_its_own(self) -> None:
        self.serve("--session-idle", "1")

        async def test() -> None:
            await self.begun("mallory")  # her storage is of a class, which may keep something in memory
            (hers,) = await self.processes(1)
            alice = await self.begun("alice")
            first = set(self.running.sessions()) - {hers}
            self.assertEqual(await self.processes(1), [hers])
            opened = await answer(alice, "open", 1, string(b"/f"), u32(WRITE | CREAT), NO_ATTRS)
            second = set(await self.processes(2)) - {hers}
            self.assertNotEqual(second, first)
            bob = await self.begun("bob")
            self.assertEqual(set(await self.processes(2)), second | {hers})
            await answer(alice, "write", 2, opened[9:], u64(0), string(b"x"))
            await answer(alice, "close", 3, opened[9:])
            await self.processes(1)
            for number in (1, 2):
                self.assertIn(b"f", await answer(alice, "realpath", number, string(b"f")))
            bob.writer.write_eof()
            await bob.writer.channel.wait_closed()
            self.assertEqual(bob.writer.channel.get_exit_status(), 0)

        self.run_async(test)

    def test_its_place_is_kept_until_its_client_or_its_server_has_gone(self) -> None:
        server = self.serve("--session-idle", "1", "--max-sessions", "2", workers=2)

        async def in_free_place(name: str) -> Any:
            while True:
                with contextlib.suppress(asyncssh.ChannelOpenError):
                    return await self.begun(name)

        async def rests() -> Any:
            alice = await in_free_place("alice")
            await self.processes(0)
            return alice

        async def test() -> None:
            for rests_again in (False, True):
                alice, mallory = await rests(), await in_free_place("mallory")
                for name in ("alice", "bob"):  # half of all is hers, and all are taken
                    with self.assertRaises(asyncssh.ChannelOpenError):
                        await self.begun(name)
                await answer(alice, "stat", 1, string(b"/"))
                if rests_again:
                    await self.processes(1)
                for one in (alice, mallory):
                    one.writer.channel.get_connection().abort()
                await self.processes(0)
            await rests()
            for process in server.processes():
                os.kill(process, signal.SIGKILL)
            server.logs("ready", 4)
            for name in ("mallory", "bob"):
                await in_free_place(name)

        self.run_async(test)

    def test_a_folder_that_was_replaced_meanwhile_ends_the_session(self) -> None:
        self.serve("--session-idle", "1")

        async def test() -> None:
            alice = await self.begun("alice")
            await self.processes(0)
            home = self.place / "files" / "alice"
            home.rename(home.with_name("old"))
            home.mkdir()
            alice.send(request("stat", 1, string(b"/")))
            self.assertEqual(await alice.rest(), b"")
            await alice.writer.channel.wait_closed()
            self.assertEqual(alice.writer.channel.get_exit_status(), 255)
            self.running.logs("the folder was moved, replaced or unmounted")

        self.run_async(test)

    def test_a_client_that_goes_without_its_replies_leaves_no_channel(self) -> None:
        """Or each one would take a part of all descriptors, until nobody could begin a session."""
        self.serve("--session-idle", "1")
        (self.place / "files" / "alice").mkdir(parents=True, exist_ok=True)
        (self.place / "files" / "alice" / "f").write_bytes(bytes(1 << 16))

        async def test() -> None:
            connection = await self.connect("alice")
            alice = await raw(connection, window=4096)
            alice.writer.channel.pause_reading()
            opening = request("open", 1, string(b"/f"), u32(READ), NO_ATTRS)
            reading = [request("read", number, FIRST, u64(0), u32(64 << 10)) for number in range(11)]
            alice.send(HELLO + opening + b"".join(reading) + request("close", 12, FIRST))
            await self.processes(0)  # what the server has not taken of the replies is still there
            connection.abort()

        self.run_async(test)
        self.running.stop()
        self.assertNotIn("some sessions did not end in time", self.running.log())
