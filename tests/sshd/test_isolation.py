"""A session is a process: what one user does, or has done to him, others do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import signal
import tempfile
import time
import unittest
from pathlib import Path
from typing import Any

import asyncssh

from pysftpserver.sshd.admin_client import ask, found
from pysftpserver.sshd.metrics import CAUSES
from tests.sshd.inprocess import HOST, raw
from tests.sshd.running import Place, Pysftpd, children, make_key
from tests.support.hard import IS_HARD
from tests.support.packets import HELLO, MAX_DATA, NO_ATTRS, request, string, u32, u64
from tests.support.processes import descendants, is_alive
from tests.support.waiting import PATIENCE, eventually

BAD = "tests.sshd.badstorage:Bad"
READ, WRITE, CREAT = 1, 2, 8
FIRST = string(u32(1))


class IsolationCase(Place):
    isolation = "process"

    def serve(self, *options: str, workers: int = 1) -> Pysftpd:
        """A server with alice and bob, who have folders, and mallory and others, whose storages are bad."""
        os.mkfifo(self.place / "fifo")
        server = Pysftpd(
            self.place,
            *("--isolation", self.isolation, "--storage-classes", BAD, "--drain-seconds", "1"),
            *("--admin-socket", self.place / "admin", "--create-folders", *options),
            workers=workers,
        )
        make_key(self.place / "key")
        self.key = asyncssh.read_private_key(self.place / "key")
        public = (self.place / "key.pub").read_text().strip()
        users: dict[str, dict[str, object]] = {
            name: {"folder": name, "keys": [public]} for name in ("alice", "bob")
        }
        for name in ("mallory", "none", "hangs"):
            users[name] = {
                "folder": name,
                "keys": [public],
                "storage": f'{BAD} "{self.place}/files/{{folder}}"',
            }
            (self.place / "files" / name).mkdir(parents=True)
        self.users = users
        server.write_users(users)
        self.addCleanup(server.stop)
        server.start()
        self.running = server
        return server

    async def connect(self, name: str, **more: Any) -> Any:
        return await asyncssh.connect(
            HOST,
            self.running.port,
            username=name,
            client_keys=[self.key],
            known_hosts=None,
            agent_path=None,
            config=None,
            **more,
        )

    async def begun(self, name: str, **more: Any) -> Any:
        """A channel on which INIT was answered."""
        channel = await raw(await self.connect(name, **more))
        channel.send(HELLO)
        await channel.packet()
        return channel

    def sessions(self) -> list[int]:
        """The processes of sessions, where several processes serve."""
        return [pid for pid, name, _ in descendants(self.running.pid) if name.startswith("sftp ")]

    async def processes(self, count: int) -> list[int]:
        """The processes of sessions, once there are so many."""
        await eventually(lambda: len(self.running.sessions()) == count, f"{count} sessions")
        return self.running.sessions()

    def run_async(self, test: Any) -> None:
        async def limited() -> None:
            await asyncio.wait_for(test(), 3 * PATIENCE)

        asyncio.run(limited())


async def answer(channel: Any, name: str, number: int, *parts: bytes) -> bytes:
    """Make a request; the packet that answers it."""
    channel.send(request(name, number, *parts))
    packet = await asyncio.wait_for(channel.packet(), PATIENCE)
    assert packet[5:9] == u32(number), packet
    return packet  # type: ignore[no-any-return]


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
            self.assertNotEqual(await self.spare(), killed)

        self.run_async(test)


class Resting(IsolationCase):
    """An idle session in a folder gives its process back."""

    def test_the_next_request_is_answered_by_another_process_and_an_open_file_keeps_its_own(self) -> None:
        self.serve("--session-idle", "1")

        async def test() -> None:
            await self.begun("mallory")  # her storage is of a class, which may keep something in memory
            (hers,) = await self.processes(1)
            alice = await self.begun("alice")
            first = set(await self.processes(2)) - {hers}
            self.assertEqual(await self.processes(1), [hers])
            opened = await answer(alice, "open", 1, string(b"/f"), u32(WRITE | CREAT), NO_ATTRS)
            second = set(await self.processes(2)) - {hers}
            self.assertNotEqual(second, first)
            bob = await self.begun("bob")
            await self.processes(3)
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
            await self.processes(1)
            await self.processes(0)
            home = self.place / "files" / "alice"
            home.rename(home.with_name("old"))
            home.mkdir()
            alice.send(request("stat", 1, string(b"/")))
            self.assertEqual(await alice.rest(), b"")
            await alice.writer.channel.wait_closed()
            self.assertEqual(alice.writer.channel.get_exit_status(), 255)
            self.assertIn("the folder was moved, replaced or unmounted", self.running.log())

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
            await self.processes(1)
            await self.processes(0)  # what the server has not taken of the replies is still there
            connection.abort()

        self.run_async(test)
        self.running.stop()
        self.assertNotIn("some sessions did not end in time", self.running.log())


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
            told = await asyncio.to_thread(ask, str(self.place / "admin"), {"ask": "sessions"})
            sessions = {one["user"]: one for one in told["sessions"]}
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


class Limits(IsolationCase):
    """What a session's process may have."""

    def test_limits_end_sessions_and_audit_log_and_metrics_have_the_end_and_its_cause(self) -> None:
        limits = ("--session-seconds", "1", "--session-files", "100", "--session-memory", "64")
        self.serve("--audit", "audit", "--metrics", "0", *limits)
        admin = str(self.place / "admin")

        async def test() -> None:
            bob = await self.begun("bob")
            (hanging,) = self.running.sessions()
            others = [await self.begun(name) for name in ("alice", "mallory", "mallory")]
            _, signalled, busy = others
            told = await asyncio.to_thread(ask, admin, {"ask": "figures"})
            self.assertEqual(told["figures"]["served"], {"process": 4, "thread": 0})
            for name in ("rmdir", "remove"):  # a GiB of memory, 10,000 descriptors
                packet = await answer(signalled, name, 1, string(b"x"))
                self.assertEqual(packet[9:13], u32(4))
            signalled.send(request("readlink", 2, string(b"x")))
            busy.send(request("mkdir", 2, string(b"x"), NO_ATTRS))
            os.kill(hanging, signal.SIGSTOP)
            for user in ("alice", "bob"):
                await asyncio.to_thread(ask, admin, {"ask": "end", "user": user})
            for channel in (bob, *others):
                await channel.rest()
            await self.processes(0)
            told = await asyncio.to_thread(ask, admin, {"ask": "figures"})
            causes = {"signal": 1, "session_seconds": 1, "unresponsive": 1}
            self.assertEqual(told["figures"]["killed"], dict.fromkeys(CAUSES, 0) | causes)
            self.assertEqual(told["figures"]["limited"]["session_memory"], 1)
            self.assertEqual(told["figures"]["served"], {"process": 0, "thread": 0})

        self.run_async(test)
        for words in ("MemoryError", "a request has used more than 1 seconds of the processor"):
            self.running.logs(words)
        self.running.stop()
        records = self.records()
        ends = [record for record in records if record["request"] == "end"]
        self.assertEqual(len(ends), 4)
        self.assertEqual({record["session"] for record in records}, {one["session"] for one in ends})
        causes = sorted(record["cause"] for record in ends if record["result"] != "OK")
        self.assertEqual(causes, ["session_seconds", "signal", "unresponsive"])

    def records(self) -> list[dict[str, Any]]:
        """What is in the audit log."""
        return list(map(json.loads, (self.place / "audit").read_text().splitlines()))

    def test_files_and_processes_of_a_user_count_over_all_connections_and_workers(self) -> None:
        limits = ("--max-handles", "5", "--max-sessions", "10")
        server = self.serve("--metrics", "0", "--audit", "audit", *limits, workers=2)

        async def opens(channel: Any, number: int) -> bool:
            packet = await answer(channel, "open", number, string(b"/f"), u32(WRITE | CREAT), NO_ATTRS)
            return packet[4] == 102

        async def refused(name: str) -> None:
            with self.assertRaises(asyncssh.ChannelOpenError):
                await self.begun(name)

        async def test() -> None:
            channels = [await self.begun("alice") for _ in range(3)]
            (first, *_) = channels
            for channel, number in ((first, 1), (channels[1], 2), (channels[2], 3), (channels[2], 4)):
                self.assertTrue(await opens(channel, number))
            second = await raw(first.writer.channel.get_connection())
            second.send(HELLO)
            await second.packet()
            self.assertTrue(await opens(second, 5))
            for channel in (*channels, second):
                self.assertFalse(await opens(channel, 6))
            packet = await answer(first, "opendir", 7, string(b"/"))
            self.assertIn(b"of one user (max_handles)", packet)
            self.assertTrue(await opens(await self.begun("bob"), 1))
            await answer(first, "close", 8, FIRST)
            self.assertTrue(await opens(second, 9))
            before = self.sessions()
            hungry = await self.begun("alice")
            (process,) = {*self.sessions()} - {*before}
            self.assertFalse(await opens(hungry, 1))
            await refused("alice")  # who has half of all processes
            await answer(second, "close", 10, FIRST)
            self.assertTrue(await opens(hungry, 2))
            os.kill(process, signal.SIGKILL)  # what it had is free again
            await hungry.rest()
            self.assertTrue(await opens(second, 11))
            self.assertFalse(await opens(second, 12))
            for name in ("alice", *["bob"] * 4):
                await self.begun(name)
            await refused("mallory")
            told = [await asyncio.to_thread(ask, path, {"ask": "figures"}) for path in found(admin)]
            limited = [one["figures"]["limited"] for one in told]
            self.assertEqual(sum(one["max_handles"] for one in limited), 7)
            self.assertEqual(sum(one["max_sessions"] for one in limited), 2)
            self.assertEqual(sum(one["figures"]["handles"] for one in told), 6)
            for process in self.sessions():  # where memory is short, the kernel ends these first
                self.assertEqual(Path(f"/proc/{process}/oom_score_adj").read_text(), "500\n")
                memory, _ = resource.prlimit(process, resource.RLIMIT_DATA)
                self.assertLess(memory, (128 + 48) << 20)  # session_memory, and what each begins with
            for process in server.processes():  # sessions record their end all the same
                os.kill(process, signal.SIGKILL)
            await eventually(lambda: not self.sessions(), "all sessions have ended")

        admin = str(self.place / "admin")
        self.run_async(test)
        server.logs("'alice': no session: the user has half of all processes that there may be")
        server.logs("'mallory': no session: as many have a process as may have one")
        ends = [record["result"] for record in self.records() if record["request"] == "end"]
        self.assertEqual(sorted(ends), ["FAILURE", *["OK"] * 10])
        server.logs("ready", 4)

    def test_busy_sessions_may_use_the_processor_for_longer_than_one_request_may(self) -> None:
        self.serve("--session-seconds", "1")

        async def test() -> None:
            alice = await self.begun("alice")
            (process,) = self.running.sessions()
            number = 0
            while cpu_seconds(process) < 1.7:
                alice.send(b"".join(request("stat", number, string(b"/a/b/c" * 50)) for _ in range(500)))
                await alice.packets(500)

        self.run_async(test)

    @unittest.skipUnless(IS_HARD, "it takes three seconds of the processor")
    def test_a_copy_that_goes_on_may_use_the_processor_for_longer(self) -> None:
        self.serve("--session-seconds", "1")

        async def test() -> None:
            mallory = await self.begun("mallory")
            (process,) = self.running.sessions()
            for number, name, flags in ((1, b"zero", READ), (2, b"null", WRITE)):
                await answer(mallory, "open", number, string(name), u32(flags), NO_ATTRS)
            ends = string(u32(1)), u64(0), u64(0), string(u32(2)), u64(0)
            mallory.send(request("copy-data", 3, *ends))
            await eventually(lambda: cpu_seconds(process) > 3)
            mallory.writer.channel.abort()
            await self.processes(0)

        self.run_async(test)
        self.assertNotIn("of the processor", self.running.log())

    def test_a_session_is_recorded_to_its_end(self) -> None:
        self.serve("--audit", "audit", "--metrics", "0")

        async def test() -> None:
            alice = await self.begun("alice")
            await answer(alice, "stat", 1, string(b"/"))
            figures = await asyncio.to_thread(ask, str(self.place / "admin"), {"ask": "figures"})
            self.assertEqual(figures["figures"]["requests"], {"init": 1, "stat": 1})
            alice.writer.channel.get_connection().abort()
            await self.processes(0)
            figures = await asyncio.to_thread(ask, str(self.place / "admin"), {"ask": "figures"})
            self.assertEqual(figures["figures"]["requests"], {"init": 1, "stat": 1})

        self.run_async(test)
        records = self.records()
        self.assertEqual([record["request"] for record in records], ["init", "stat", "end"])
        self.assertEqual({(record["user"], record["peer"]) for record in records}, {("alice", HOST)})
        self.assertEqual(len({record["session"] for record in records}), 1)

    def test_what_is_kept_for_one_user_is_counted_over_all_connections(self) -> None:
        self.serve("--buffer-bytes", str(32 << 20), "--metrics", "0")
        most = 12 << 20  # of that, for one user
        admin = str(self.place / "admin")

        async def figures() -> dict[str, Any]:
            told = await asyncio.to_thread(ask, admin, {"ask": "figures"})
            return told["figures"]  # type: ignore[no-any-return]

        async def test() -> None:
            bob = await self.begun("bob")
            channels = [await self.begun("mallory") for _ in range(8)]
            connections = [channel.writer.channel.get_connection() for channel in channels]
            before = rss(self.running.pid)
            for channel in channels:  # whose processes take nothing from now on: 2.5 MiB wait for each
                channel.send(request("lstat", 1, string(b"x")))
                for number in range(100):
                    channel.send(request("write", number, FIRST, u64(0), string(bytes(32768))))
            slowest = 0.0
            while not (found := await figures())["limited"]["buffer_bytes"]:
                self.assertLessEqual(found["kept"], most + (1 << 20))
                self.assertLess(rss(self.running.pid) - before, 32 << 20)
                began = time.monotonic()
                await answer(bob, "stat", 1, string(b"/"))
                slowest = max(slowest, time.monotonic() - began)
            self.assertLess(slowest, PATIENCE / 10)
            self.running.logs("'mallory': ended: one user or address needs more than")
            for connection in connections:
                connection.abort()
            while (await figures())["kept"] > 1 << 20:
                await asyncio.sleep(0.05)

        self.run_async(test)

    def test_the_process_of_a_folder_is_confined(self) -> None:
        self.serve("--log-level", "VERBOSE")

        async def test() -> None:
            await self.begun("alice")
            (process,) = self.running.sessions()
            status = Path(f"/proc/{process}/status").read_text()
            self.assertIn("Seccomp:\t2", status)
            self.assertIn("NoNewPrivs:\t1", status)
            with open(f"/proc/{process}/comm") as file:
                self.assertEqual(file.read(), "sftp alice\n")
            links = [os.readlink(f"/proc/{process}/fd/{one}") for one in os.listdir(f"/proc/{process}/fd")]
            self.assertFalse([link for link in links if "host-keys" in link or "users.toml" in link])

        self.run_async(test)
        self.running.logs("'alice': sandbox: ")

    def test_neither_direction_keeps_what_the_other_side_does_not_take(self) -> None:
        self.serve()
        home = self.place / "files" / "alice"
        home.mkdir(exist_ok=True)
        (home / "f").write_bytes(bytes(32 << 20))

        async def test() -> None:
            channel = await self.begun("alice", window=1 << 30)
            await answer(channel, "open", 1, string(b"/f"), u32(READ), NO_ATTRS)
            before = rss(self.running.pid)
            channel.writer.channel.get_connection()._transport.pause_reading()
            for number in range(128):
                channel.send(request("read", number, FIRST, u64(number << 18), u32(MAX_DATA)))
            mallory = await self.begun("mallory")
            mallory.send(request("lstat", 1, string(b"x")))
            for number in range(1000):
                mallory.send(request("write", number, FIRST, u64(0), string(bytes(32768))))
            for _ in range(30):
                await asyncio.sleep(0.02)
                self.assertLess(rss(self.running.pid) - before, 12 << 20)
            channel.writer.channel.get_connection()._transport.resume_reading()
            await channel.packets(128)

        self.run_async(test)


def cpu_seconds(process: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss(process: int) -> int:
    """Resident memory of a process in bytes."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
