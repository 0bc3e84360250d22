"""Checksums by pysftpd: commands on exec channels, rclone, and turns among the sessions of many users."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import threading
import unittest
from typing import Any
from unittest import mock

import asyncssh

from pysftpserver.engine import checksums
from pysftpserver.sshd.hashing import ProcessTurns, ThreadTurns
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.integration.rclone import Rclone
from tests.integration.sshd import TARGET
from tests.sshd.inprocess import asynchronous, raw, running, user
from tests.sshd.running import DaemonCase
from tests.support.cases import InADirectory
from tests.support.hard import IS_HARD
from tests.support.packets import FAILURE, HELLO, request, split, string, u32, u64
from tests.support.processes import require
from tests.support.waiting import PATIENCE, eventually, until

WHOLE = string(b"md5") + u64(0) + u64(0) + u32(0)


def setUpModule() -> None:
    require("ssh")


if IS_HARD:

    class OfRclone(Rclone, DaemonCase):
        """rclone asks as behind OpenSSH, in tests/integration."""


class InProcesses(DaemonCase):
    """A session's process, with the sandbox."""

    def test_commands_are_answered_from_the_folder_and_no_others(self) -> None:
        (self.jail / "a b").write_bytes(b"content")
        (self.jail / "link").symlink_to("/etc/passwd")
        digest = hashlib.sha256(b"content").hexdigest()
        for command, status, out in (
            ("sha256sum '/a b'", 0, f"{digest}  /a b\n"),
            ("md5sum link", 1, ""),
            ("id", 255, ""),
        ):
            run = self.client(["ssh", "-F", self.sshd.ssh_config, TARGET, command], status=status)
            self.assertEqual(run.out, out)
            if status == 1:
                self.assertEqual(run.err, "md5sum: link: No such file\n")
        until(lambda: not self.server.sessions(), "the sessions have ended")

    def test_a_client_that_goes_ends_the_computing(self) -> None:
        with open(self.jail / "large", "wb") as file:
            file.truncate(1 << 42)
        words = ["ssh", "-F", self.sshd.ssh_config, TARGET, "sha512sum large"]
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        until(self.server.sessions, "a session has begun")
        process.kill()
        process.communicate()
        until(lambda: not self.server.sessions(), "the session has ended")
        self.sftp("ls")


class InThreads(InADirectory):
    """The same in one process, where a test can look at it."""

    def jail(self, user: object = None) -> SFTPServerVirtualChroot:
        return SFTPServerVirtualChroot(self.root)

    @asynchronous
    async def test_commands_have_output_errors_and_a_status(self) -> None:
        (self.root / "f").write_bytes(b"content")
        async with running(self.jail) as server, await server.connect() as connection:
            for command, given, expected in (
                ("md5sum f", None, (f"{hashlib.md5(b'content').hexdigest()}  f\n", "", 0)),
                ("md5sum none", None, ("", "md5sum: none: No such file\n", 1)),
                ("sha1sum", b"", (f"{hashlib.sha1().hexdigest()}  -\n", "", 0)),
                ("sha1sum", "x" * 9000, ("", "sha1sum: -: Input cannot be read here; give a path\n", 1)),
                ("echo ${ShellId}%ComSpec%", None, ("%ComSpec%\n", "", 0)),
            ):
                with self.subTest(command):
                    more = {"stdin": asyncssh.DEVNULL} if given == b"" else {"input": given}
                    run = await connection.run(command, **more)
                    self.assertEqual((run.stdout, run.stderr, run.exit_status), expected)
            for command in ("md5sum f f", "md5sum f;id", "sh"):
                with self.subTest(command), self.assertRaises(asyncssh.ChannelOpenError):
                    await connection.run(command)
            await eventually(lambda: not server.server.channels, "all have ended")

    @asynchronous
    async def test_a_user_who_waits_for_a_turn_keeps_nobody_else_waiting(self) -> None:
        (self.root / "f").write_bytes(b"content")
        gate = threading.Event()
        self.addCleanup(gate.set)

        class Slow(SFTPServerVirtualChroot):
            def fileno(self, handle: int) -> None:
                return None

            def read(self, handle: int, off: int, size: int) -> bytes:
                gate.wait(PATIENCE)
                return super().read(handle, off, size)

        def storage_of(user: Any) -> SFTPServerVirtualChroot:
            return Slow(self.root) if user.name == "alice" else self.jail()

        options = {"max_checksums": "2"}
        async with running(storage_of, user("alice"), user("bob"), options=options) as server:
            turns = server.server.turns_for_checksums
            alice, bob = await server.connect("alice"), await server.connect("bob")
            async with alice, bob:
                waiting = [asyncio.ensure_future(alice.run("md5sum f")) for _ in range(3)]
                await eventually(lambda: turns._taken["alice"] == 1, "one has a turn")
                run = await bob.run("md5sum f")
                self.assertEqual(run.exit_status, 0)
                self.assertEqual(turns._taken["alice"], 1)
                gate.set()
                self.assertEqual({(await one).exit_status for one in waiting}, {0})
            self.assertEqual(turns._taken, {})

    @asynchronous
    async def test_a_client_that_goes_ends_the_computing_and_the_waiting(self) -> None:
        class Endless(SFTPServerVirtualChroot):
            def fileno(self, handle: int) -> None:
                return None

            def fstat(self, handle: int) -> Any:
                attrs = super().fstat(handle)
                attrs.size = 1 << 62
                return attrs

            def read(self, handle: int, off: int, size: int) -> bytes:
                return bytes(size)

        (self.root / "f").write_bytes(b"content")
        async with running(lambda user: Endless(self.root), options={"max_checksums": "1"}) as server:
            turns = server.server.turns_for_checksums
            connections = [await server.connect() for _ in range(2)]
            for connection in connections:
                channel = await raw(connection)
                channel.send(HELLO)
                await channel.packet()
                channel.send(request("check-file-name", 1, string(b"f"), WHOLE))
            await eventually(lambda: turns._taken["alice"] == 1, "one is being computed")
            for connection in connections:
                connection.abort()
            await eventually(lambda: not server.server.channels, "both have ended")
            self.assertEqual(turns._taken, {})

    @asynchronous
    async def test_with_none_allowed_there_are_none(self) -> None:
        async with running(self.jail, options={"max_checksums": "0"}) as server:
            async with await server.connect() as connection:
                with self.assertRaises(asyncssh.ChannelOpenError):
                    await connection.run("md5sum f")
                channel = await raw(connection)
                channel.send(HELLO)
                self.assertNotIn(b"check-file", await channel.packet())

    @asynchronous
    async def test_one_that_has_waited_for_too_long_is_told_so(self) -> None:
        (self.root / "f").write_bytes(b"content")
        async with running(self.jail) as server, await server.connect() as connection:
            server.server.turns_for_checksums = ThreadTurns(0)
            with mock.patch.object(checksums, "PATIENCE", 0.0):
                channel = await raw(connection)
                channel.send(HELLO + request("check-file-name", 1, string(b"f"), WHOLE))
                _, answer = split(await channel.packets(2))
                self.assertEqual(answer[5:9], u32(FAILURE))
                self.assertIn(b"try again later", answer)


class Turns(unittest.TestCase):
    def test_processes_have_as_many_as_there_are_and_those_of_the_dead_are_free(self) -> None:
        turns = ProcessTurns(3)
        ready, told = os.pipe()
        children = []
        names = [f"user {number}" for number in range(9)]
        for name in names:
            process = os.fork()
            if not process:
                os.write(told, b"\1" if turns.of(name).take() else b"\0")
                signal.pause()
                os._exit(0)
            children.append(process)
        try:
            said = b""
            while len(said) < len(names):
                said += os.read(ready, 9)
            self.assertEqual(said.count(1), 3)
            self.assertFalse(any(turns.of(name).take() for name in names))
            for process in children:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
            children.clear()
            turn = turns.of("user")
            self.assertTrue(turn.take())
            turn.give_back()
        finally:
            for process in children:
                os.kill(process, signal.SIGKILL)
                os.waitpid(process, 0)
            os.close(ready)
            os.close(told)

    def test_one_user_has_at_most_half_of_them(self) -> None:
        for most, own in ((1, 1), (2, 1), (3, 2), (8, 4)):
            turns = ThreadTurns(most)
            mine = turns.of("user")
            self.assertEqual([mine.take() for _ in range(most + 1)].count(True), own)
            self.assertEqual([turns.of(f"{n}").take() for n in range(most)].count(True), most - own)
            mine.give_back()
            self.assertTrue(turns.of("other").take())
            self.assertEqual(len(set(ProcessTurns(most).of("user")._places)), own)
