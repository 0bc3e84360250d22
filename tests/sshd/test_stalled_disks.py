"""What a disk that hangs or is full holds up: what is read from it, and nothing and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import unittest

from pysftpserver.service.admin_client import ask
from tests.faults.disks import Disk
from tests.sshd.isolating import IsolationCase, answer
from tests.sshd.running import write_private
from tests.support.hanging import HangingDisk
from tests.support.hard import IS_HARD
from tests.support.packets import PERMISSION_DENIED, request, string, u32
from tests.support.processes import Program
from tests.support.waiting import eventually, until

SETTINGS = "[options]\nread_only = {}\n"


def threads(process: int) -> int:
    return len(os.listdir(f"/proc/{process}/task"))


class Settings(IsolationCase):
    def stalled(self, workers: int = 1) -> None:
        """Start a server whose configuration is a FIFO from then on, and have it read that."""
        self.config = self.place / "conf"
        write_private(self.config, SETTINGS.format("no"))
        self.serve("--config", str(self.config), workers=workers)
        self.config.unlink()
        os.mkfifo(self.config)

    def test_settings_that_cannot_be_read_hold_up_nobody_and_no_signal_is_lost(self) -> None:
        self.stalled()

        async def test() -> None:
            alice = await self.begun("alice")
            before = threads(self.running.pid)
            self.running.signal(signal.SIGHUP)
            # Opened only when the server reads there: what is asked for before that needs no second reading.
            settings = await asyncio.to_thread(self.config.open, "w")
            self.addCleanup(settings.close)
            for number in range(5):
                self.running.signal(signal.SIGHUP)
                await answer(alice, "stat", number, string(b"/"))
            bob = await self.begun("bob")
            await answer(bob, "stat", 1, string(b"/"))
            self.assertLessEqual(threads(self.running.pid), before + 1)
            self.config.unlink()
            write_private(self.config, SETTINGS.format("yes"))
            with settings:
                settings.write(SETTINGS.format("no"))

        self.run_async(test)
        self.running.logs("reloaded", 2)

        async def changes_nothing() -> None:
            alice = await self.begun("alice")
            refused = await answer(alice, "rmdir", 1, string(b"/none"))
            self.assertEqual(refused[9:13], u32(PERMISSION_DENIED))

        self.run_async(changes_nothing)

    def test_a_parent_whose_settings_cannot_be_read_replaces_and_ends_its_processes(self) -> None:
        self.stalled(workers=2)
        self.running.signal(signal.SIGHUP)
        ready = self.running.log().count(" ready")
        os.kill(self.running.processes()[0], signal.SIGKILL)
        self.running.logs(" ready", ready + 1)

        async def test() -> None:
            await answer(await self.begun("alice"), "stat", 1, string(b"/"))

        self.run_async(test)
        self.running.stop()


class Disks(IsolationCase):
    def test_files_on_a_disk_that_hangs_hold_up_nobody(self) -> None:
        """Of those that the server reads at SIGHUP, every second, and when a session begins."""
        disk = HangingDisk(self, self.place / "disk", self.place / "mounted")
        there = disk.at
        (there / "banner").write_text("hello\n")
        for name in ("log", "revoked"):
            (there / name).touch(0o600)
        (there / "site.toml").write_text(f'storage = "jail:{self.place}/files/bob"\n')
        write_private(there / "conf", f'banner = "{there}/banner"\nrevoked_keys = "{there}/revoked"\n')
        options = "--config", there / "conf", "--storage-schemes", "toml", "--logfile", there / "log"
        server = self.serve(*map(str, options), starts=False)
        self.users["mallory"]["storage"] = str(there / "site.toml")
        server.write_users(self.users)
        write_private(there / "users.toml", server.users.read_text())
        server.users.unlink()
        server.users.symlink_to(there / "users.toml")
        server.process = Program(server.argv, server.stderr, cwd=self.place)
        listening = until(lambda: re.search(r"port (\d+)(?s:.*) ready\n", (there / "log").read_text()))
        server.port = int(listening[1])

        async def test() -> None:
            alice = await self.begun("alice")
            disk.hang()
            server.signal(signal.SIGHUP)
            mallory = asyncio.create_task(self.begun("mallory"))  # which needs the site file
            for number in range(20):
                await answer(alice, "stat", number, string(b"/"))
            await answer(await self.begun("bob"), "stat", 1, string(b"/"))
            self.assertFalse(mallory.done())
            disk.go_on()
            await answer(await mallory, "stat", 1, string(b"/"))

        self.run_async(test)

    @unittest.skipUnless(IS_HARD, "make test-hard")
    def test_a_folder_on_a_disk_that_hangs_costs_its_user_alone(self) -> None:
        server = self.serve(starts=False)
        disk = HangingDisk(self, self.place / "disk", self.place / "files" / "slow")
        self.users["slow"] = {**self.users["alice"], "folder": "slow"}
        server.write_users(self.users)
        server.start()

        async def test() -> None:
            alice, slow = await self.begun("alice"), await self.begun("slow")
            disk.hang()
            slow.send(request("lstat", 1, string(b"/x")))
            waiting = [asyncio.create_task(self.begun("slow")) for _ in range(3)]
            for number in range(20):
                await answer(alice, "stat", number, string(b"/"))
            await answer(await self.begun("bob"), "stat", 1, string(b"/"))
            told = await asyncio.to_thread(ask, str(self.place / "admin"), {"ask": "sessions"})
            users = [session["user"] for session in told["sessions"]]
            self.assertEqual(set(users), {"alice", "bob", "slow"})
            ended = await asyncio.to_thread(ask, str(self.place / "admin"), {"ask": "end", "user": "slow"})
            self.assertEqual(len(ended["ended"]), users.count("slow"))
            await asyncio.gather(*waiting, return_exceptions=True)
            await slow.rest()  # until the end; the request may have failed before
            await eventually(lambda: len(server.sessions()) == 2, "the sessions there have ended")

        self.run_async(test)

    @unittest.skipUnless(IS_HARD, "make test-hard")
    def test_a_log_on_a_full_disk_holds_up_nobody_and_tells_what_it_lacks(self) -> None:
        there = self.place / "logs"
        there.mkdir()
        disk = Disk(there, "size=64k")
        self.addCleanup(disk.close)
        server = self.serve("--logfile", str(there / "log"), "--log-level", "DEBUG", starts=False)
        server.argv = [*disk.inside, *server.argv]
        server.stderr = disk.seen(there) / "log"
        server.process = Program(server.argv, self.place / "stderr", cwd=self.place)
        server.logs(" ready")
        server.port = int(server.log().partition(" port ")[2].split()[0])
        full = disk.seen(there) / "full"
        with contextlib.suppress(OSError):
            full.write_bytes(bytes(1 << 20))

        async def test() -> None:
            alice = await self.begun("alice")
            for number in range(100):  # each of which is a line in the log
                await answer(alice, "stat", number, string(b"/"))
            await self.begun("bob")
            full.unlink()
            await answer(alice, "stat", 1, string(b"/"))

        self.run_async(test)
        server.logs("log lines were left out, because the log could not be written")
