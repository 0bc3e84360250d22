"""sshfs on pysftpjail, with no sshd in between.

Facts: sshfs.c, whose MAX_REPLY_LEN of 128 KiB ends the mount when a reply is longer.
"""

from __future__ import annotations

import os
import socket
import subprocess

from tests.support.cases import InAPlace
from tests.support.hard import IS_HARD
from tests.support.paths import IN_MEMORY
from tests.support.processes import command, program, why_no_fuse
from tests.support.waiting import PATIENCE, until

NAMES = 100_000 if IS_HARD else 5_000  # 2,000 of them were a reply too long


class TestSshfs(InAPlace):
    made_in = IN_MEMORY

    def setUp(self) -> None:
        lacking = why_no_fuse()
        if lacking:
            self.skipTest(lacking)
        super().setUp()
        self.jail, self.there = self.place / "jail", self.place / "there"
        self.jail.mkdir()
        self.there.mkdir()

    def server(self) -> list[str]:
        return command("pysftpjail", self.jail)

    def mount(self) -> None:
        ours, its = socket.socketpair()
        with ours, its:
            server = subprocess.Popen(self.server(), stdin=ours, stdout=ours)
            self.addCleanup(server.wait, PATIENCE)
            words = [program("sshfs"), "-f", "-o", "passive", ":/", self.there]
            sshfs = subprocess.Popen(words, stdin=its, stdout=its, stderr=subprocess.PIPE)
        assert sshfs.stderr is not None
        self.addCleanup(sshfs.stderr.close)
        self.addCleanup(sshfs.wait, PATIENCE)
        self.addCleanup(subprocess.run, ["fusermount3", "-u", "-z", self.there], capture_output=True)
        until(lambda: os.path.ismount(self.there) or sshfs.poll() is not None, "sshfs has mounted")
        if sshfs.poll() is not None:
            self.skipTest(f"sshfs does not mount here: {sshfs.stderr.read().decode().strip()}")

    def test_lists_thousands_of_names(self) -> None:
        directory = os.open(self.jail, os.O_RDONLY | os.O_DIRECTORY)
        self.addCleanup(os.close, directory)
        names = {f"name-{number:06}" for number in range(NAMES)}
        for name in names:
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=directory))
        self.mount()
        self.assertEqual(set(os.listdir(self.there)), names)
