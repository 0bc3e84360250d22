"""A session is a process: what one user does, or has done to him, others do not notice."""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import asyncssh

from pysftpserver.service.admin_client import ask
from tests.sshd.isolating import BAD, CREAT, FIRST, READ, WRITE, IsolationCase, answer
from tests.sshd.running import Pysftpd, children
from tests.support.packets import NO_ATTRS, request, string, u32, u64
from tests.support.processes import is_alive
from tests.support.waiting import until


class OtherUsers(IsolationCase):
    """What one user's session does, others do not notice."""

    def test_a_storage_that_hangs_or_computes_for_ever_delays_nobody_else(self) -> None:
        self.serve()

        async def test() -> None:
            for name, *parts in (("lstat", string(b"x")), ("mkdir", string(b"x"), NO_ATTRS)):
                mallory = await self.begun("mallory")
                mallory.send(request(name, 1, *parts))
                bob = await self.begun("bob")
                for number in range(50):
                    await answer(bob, "stat", number, string(b"/"))

        self.run_async(test)

    def test_nor_does_a_path_through_very_many_links(self) -> None:
        self.serve()
        home = self.place / "files" / "alice"
        home.mkdir(exist_ok=True)
        for number in range(39):
            os.symlink("/".join(["."] * 1000 + [f"l{number + 1}"]), home / f"l{number}")

        async def test() -> None:
            alice, bob = await self.begun("alice"), await self.begun("bob")
            for number in range(50):
                alice.send(request("realpath", number, string(b"l0/" * 10)))
            for number in range(50):
                await answer(bob, "stat", number, string(b"/"))

        self.run_async(test)

    def test_a_storage_that_hangs_while_it_is_opened_holds_up_that_session_alone(self) -> None:
        self.serve()

        async def test() -> None:
            hanging = asyncio.ensure_future(self.begun("hangs"))
            bob = await self.begun("bob")
            await answer(bob, "stat", 1, string(b"/"))
            self.assertFalse(hanging.done())
            self.assertEqual(len(await self.processes(2)), 2)
            self.running.write_users({**self.users, "hangs": {**self.users["hangs"], "active": False}})
            await self.processes(1)
            with self.assertRaises((asyncssh.Error, OSError)):
                await hanging

        self.run_async(test)


class OtherUsersInThreads(IsolationCase):
    """The same where all sessions are in one process."""

    isolation = "thread"

    def test_a_storage_that_hangs_delays_nobody_else(self) -> None:
        self.serve()

        async def test() -> None:
            asyncio.ensure_future(self.begun("hangs"))
            mallory = await self.begun("mallory")
            mallory.send(request("lstat", 1, string(b"x")))
            bob = await self.begun("bob")
            for number in range(50):
                await answer(bob, "stat", number, string(b"/"))
            self.assertEqual(self.running.sessions(), [])
            told = await asyncio.to_thread(ask, str(self.place / "admin"), {"ask": "sessions"})
            self.assertEqual(len(told["sessions"]), 3)

        self.run_async(test)
        self.running.signal(signal.SIGKILL)  # threads that hang would keep it
        self.running.wait()
        self.running.process = None


class TheEnd(IsolationCase):
    """When a session ends, and how."""

    def test_a_deactivated_user_loses_a_process_that_does_not_answer(self) -> None:
        self.serve()

        async def test() -> None:
            await self.begun("bob")
            mallory = await self.begun("mallory")
            mallory.send(request("mkdir", 1, string(b"x"), NO_ATTRS))
            await self.processes(2)
            self.running.write_users({**self.users, "mallory": {**self.users["mallory"], "active": False}})
            await self.processes(1)

        self.run_async(test)

    def test_pysftpctl_ends_one_and_shows_what_is_open(self) -> None:
        self.serve()

        async def test() -> None:
            channel = await self.begun("alice")
            await answer(channel, "open", 1, string(b"/f"), u32(WRITE | CREAT), NO_ATTRS)
            await answer(channel, "write", 2, FIRST, u64(0), string(b"x" * 1000))
            mallory = await self.begun("mallory")
            mallory.send(request("lstat", 1, string(b"x")))

            def told() -> dict[str, dict[str, Any]]:
                found = ask(str(self.place / "admin"), {"ask": "sessions"})["sessions"]
                return {one["user"]: one for one in found}

            # A process that is busy may say only the next time what it has open.
            await asyncio.to_thread(until, lambda: told()["alice"]["files"])
            sessions = told()
            (file,) = sessions["alice"]["files"]
            self.assertEqual((file["path"], file["written"]), ("/f", 1000))
            self.assertEqual(sessions["mallory"]["files"], [])  # it does not answer
            for user in ("alice", "mallory"):
                question = {"ask": "end", "user": user}
                ended = await asyncio.to_thread(ask, str(self.place / "admin"), question)
                self.assertEqual(ended["ended"], [sessions[user]["number"]])
            await self.processes(0)

        self.run_async(test)

    def test_a_client_that_goes_leaves_no_process(self) -> None:
        self.serve()

        async def test() -> None:
            for name in ("alice", "bob"):
                channel = await self.begun(name)
                channel.writer.channel.get_connection().abort()
            await self.processes(0)

        self.run_async(test)

    def test_the_exit_status_says_whether_the_session_went_well_and_the_last_reply_arrives(self) -> None:
        self.serve()

        async def test() -> None:
            home = self.place / "files" / "alice"
            home.mkdir(exist_ok=True)
            (home / "f").write_bytes(bytes(1 << 20))
            channel = await self.begun("alice")
            await answer(channel, "open", 1, string(b"/f"), u32(READ), NO_ATTRS)
            for number in range(16):
                channel.send(request("read", number, FIRST, u64(number << 16), u32(1 << 16)))
            channel.writer.write_eof()
            self.assertEqual(len(await channel.rest()), 16 * (65536 + 13))
            await channel.writer.channel.wait_closed()
            self.assertEqual(channel.writer.channel.get_exit_status(), 0)
            channel = await self.begun("alice")
            channel.send(u32(0) + b"x")
            self.assertEqual(await channel.rest(), b"")
            await channel.writer.channel.wait_closed()
            self.assertEqual(channel.writer.channel.get_exit_status(), 255)
            mallory = await self.begun("mallory")
            mallory.send(request("readlink", 1, string(b"x")))
            await mallory.rest()
            await mallory.writer.channel.wait_closed()
            self.assertEqual(mallory.writer.channel.get_exit_status(), 255)

        self.run_async(test)
        self.running.logs("'mallory': the session's process ended by signal 9")

    def test_a_storage_that_cannot_be_opened_refuses_the_session_and_the_log_says_why(self) -> None:
        self.serve()

        async def test() -> None:
            with self.assertRaises(asyncssh.ChannelOpenError):
                await self.begun("none")
            await self.processes(0)

        self.run_async(test)
        self.running.logs("'none': no session: ")
        self.running.logs(f"cannot be opened: storage: {BAD}: no space left on device")

    def test_without_the_fork_server_the_server_ends_to_be_started_anew(self) -> None:
        for workers in (1, 2):
            with self.subTest(workers):
                server = Pysftpd(Path(tempfile.mkdtemp(dir=self.place)), workers=workers)
                server.write_users({})
                server.start()
                (forks,) = {*children(server.pid)} - {*server.processes()}
                os.kill(forks, signal.SIGKILL)
                self.assertEqual(server.wait(), 1)
                self.assertIn("the process that starts sessions has ended", server.log())

    def test_a_worker_that_is_killed_takes_its_sessions_along(self) -> None:
        server = self.serve(workers=2)

        async def test() -> None:
            mallory = await self.begun("mallory")
            mallory.send(request("lstat", 1, string(b"x")))
            await self.processes(1)
            for process in server.processes():
                os.kill(process, signal.SIGKILL)
            await self.processes(0)

        self.run_async(test)
        server.logs("ready", 4)

    def test_draining_waits_for_an_open_file_and_not_for_idle_sessions(self) -> None:
        server = self.serve("--drain-seconds", "300")

        async def test() -> None:
            idle = await self.begun("bob")
            channel = await self.begun("alice")
            await answer(channel, "open", 1, string(b"/f"), u32(WRITE | CREAT), NO_ATTRS)
            for process in (server.pid, *server.sessions()):  # as a service manager may
                os.kill(process, signal.SIGTERM)
            self.assertEqual(await idle.rest(), b"")
            await answer(channel, "write", 2, FIRST, u64(0), string(b"x" * 1000))
            self.assertTrue(is_alive(server.pid))
            await answer(channel, "close", 3, FIRST)
            await channel.rest()

        self.run_async(test)
        self.assertEqual(server.wait(), 0)
        self.assertEqual((server.files / "alice" / "f").read_bytes(), b"x" * 1000)
