"""What a disk that hangs or is full holds up: what is read from it, and nothing and nobody else."""

from __future__ import annotations

import asyncio
import os
import re
import signal

from tests.sshd.isolating import IsolationCase, answer
from tests.sshd.running import write_private
from tests.support.hanging import HangingDisk
from tests.support.packets import PERMISSION_DENIED, string, u32
from tests.support.processes import Program
from tests.support.waiting import until

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
            for number in range(5):
                self.running.signal(signal.SIGHUP)
                await answer(alice, "stat", number, string(b"/"))
            bob = await self.begun("bob")
            await answer(bob, "stat", 1, string(b"/"))
            self.assertLessEqual(threads(self.running.pid), before + 1)

        self.run_async(test)
        # The others were sent while the first one was waiting: what is there then is read once more.
        fifo = self.config.with_name("fifo of the settings")
        self.config.rename(fifo)
        write_private(self.config, SETTINGS.format("yes"))
        fifo.write_text(SETTINGS.format("no"))
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
        for process in self.running.processes():
            os.kill(process, signal.SIGKILL)
        self.running.logs(" ready", ready + 2)

        async def test() -> None:
            for name in ("alice", "bob"):
                await answer(await self.begun(name), "stat", 1, string(b"/"))

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
