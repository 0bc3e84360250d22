"""What the process of a session may take, and what it may reach."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import time
import unittest
from pathlib import Path
from typing import Any

import asyncssh

from pysftpserver.service.admin_client import ask, found
from pysftpserver.service.verifying import verify
from pysftpserver.sshd.metrics import CAUSES
from tests.sshd.inprocess import HOST, raw
from tests.sshd.isolating import CREAT, FIRST, READ, WRITE, IsolationCase, answer, cpu_seconds, rss
from tests.support.hard import IS_HARD
from tests.support.packets import HELLO, MAX_DATA, NO_ATTRS, request, string, u32, u64
from tests.support.waiting import PATIENCE, eventually, until


def data_of(process: int) -> int:
    """Bytes of data of a process, as RLIMIT_DATA counts them."""
    (line,) = (line for line in Path(f"/proc/{process}/status").read_text().splitlines() if "VmData" in line)
    return int(line.split()[1]) << 10


class Limits(IsolationCase):
    """What a session's process may have."""

    def test_limits_end_sessions_and_audit_log_and_metrics_have_the_end_and_its_cause(self) -> None:
        limits = ("--session-seconds", "1", "--session-files", "100", "--session-memory", "64")
        self.serve("--audit", "audit", "--audit-chain", "--metrics", "0", *limits)
        admin = str(self.place / "admin")

        async def test() -> None:
            bob = await self.begun("bob")
            (hanging,) = self.running.sessions()
            others = [await self.begun(name) for name in ("alice", "mallory", "mallory")]
            _, signalled, busy = others
            await self.told(served={"process": 4, "thread": 0})
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
            causes = {"signal": 1, "session_seconds": 1, "unresponsive": 1}
            figures = await self.told(
                killed=dict.fromkeys(CAUSES, 0) | causes, served={"process": 0, "thread": 0}
            )
            self.assertEqual(figures["limited"]["session_memory"], 1)

        self.run_async(test)
        for words in ("MemoryError", "a request has used more than 1 seconds of the processor"):
            self.running.logs(words)
        self.running.stop()
        records = self.records()
        ends = [record for record in records if record["request"] == "end"]
        self.assertEqual(len(ends), 4)
        self.assertEqual({record["session"] for record in records}, {one["session"] for one in ends})
        self.assertEqual(verify([str(self.place / "audit")], {}).problems, [])
        causes = sorted(record["cause"] for record in ends if record["result"] != "OK")
        self.assertEqual(causes, ["session_seconds", "signal", "unresponsive"])

    async def told(self, **expected: object) -> dict[str, Any]:
        """The figures, once these are among them: the server hears later than proc(5) of a process's end, and
        waits only for a moment for what a session has to say.
        """

        def look() -> dict[str, Any]:
            return ask(str(self.place / "admin"), {"ask": "figures"})["figures"]  # type: ignore[no-any-return]

        await asyncio.to_thread(until, lambda: expected.items() <= look().items(), lambda: f"{look()}")
        return look()

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

            def figures() -> list[dict[str, Any]]:
                return [ask(path, {"ask": "figures"})["figures"] for path in found(admin)]

            # A busy session may say only the next time what it has open.
            await asyncio.to_thread(until, lambda: sum(one["handles"] for one in figures()) == 6)
            limited = [one["limited"] for one in figures()]
            self.assertEqual(sum(one["max_handles"] for one in limited), 7)
            self.assertEqual(sum(one["max_sessions"] for one in limited), 2)
            server.logs("'alice': no session: the user has half of all processes that there may be")
            server.logs("'mallory': no session: as many have a process as may have one")
            begun_with = max(map(data_of, server.processes()))
            for process in self.sessions():  # where memory is short, the kernel ends these first
                self.assertEqual(Path(f"/proc/{process}/oom_score_adj").read_text(), "500\n")
                memory, _ = resource.prlimit(process, resource.RLIMIT_DATA)
                self.assertLess(memory, (128 << 20) + begun_with + (16 << 20))  # session_memory, and a little
            for process in server.processes():  # sessions record their end all the same
                os.kill(process, signal.SIGKILL)
            await eventually(lambda: not self.sessions(), "all sessions have ended")

        admin = str(self.place / "admin")
        self.run_async(test)
        ends = [record["result"] for record in self.records() if record["request"] == "end"]
        self.assertEqual(sorted(ends), ["FAILURE", *["OK"] * 10])
        server.logs("ready", 4)

    def test_busy_sessions_may_use_the_processor_for_longer_than_one_request_may(self) -> None:
        self.serve("--session-seconds", "1")

        async def test() -> None:
            mallory = await self.begun("mallory")
            (process,) = self.running.sessions()
            requests = request("symlink", 0, string(b"a"), string(b"b")) * 6  # each takes 0.15 seconds
            while cpu_seconds(process) < 1.7:
                mallory.send(requests)
                await mallory.packets(6)

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
            await self.told(requests={"init": 1, "stat": 1})
            alice.writer.channel.get_connection().abort()
            await self.processes(0)
            await self.told(requests={"init": 1, "stat": 1})

        self.run_async(test)
        records = self.records()
        self.assertEqual([record["request"] for record in records], ["init", "stat", "end"])
        self.assertEqual({(record["user"], record["peer"]) for record in records}, {("alice", HOST)})
        self.assertEqual(len({record["session"] for record in records}), 1)

    def test_what_is_kept_for_one_user_is_counted_over_all_connections(self) -> None:
        self.serve("--buffer-bytes", str(4 << 20), "--metrics", "0")
        most = 3 << 19  # of that, for one user
        admin = str(self.place / "admin")

        async def figures() -> dict[str, Any]:
            told = await asyncio.to_thread(ask, admin, {"ask": "figures"})
            return told["figures"]  # type: ignore[no-any-return]

        async def test() -> None:
            bob = await self.begun("bob")
            connections = [await self.connect("mallory") for _ in range(3)]
            channels = [await raw(connection) for connection in connections for _ in range(10)]
            for channel in channels:
                channel.send(HELLO)
                await channel.packet()
            before = rss(self.running.pid)
            for channel in channels:  # whose processes take nothing from now on: their windows wait for them
                channel.send(request("lstat", 1, string(b"x")))
                for number in range(10):
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
