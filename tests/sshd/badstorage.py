"""A storage that does what a dead file system, a fault and an attack do."""

from __future__ import annotations

import os
import time

from pysftpserver.storage import SFTPServerStorage


class Bad(SFTPServerStorage):
    uses_network = False

    def __init__(self, directory):
        if directory.endswith("none"):
            raise OSError(28, "No space left on device", directory)
        if directory.endswith("hangs"):
            self.hang(directory)
        super().__init__(directory)

    def hang(self, path):
        os.open("fifo", os.O_RDONLY)

    def lstat(self, path):
        self.hang(path)

    def mkdir(self, path, attributes):
        while True:
            pass

    def symlink(self, *names):
        until = time.process_time() + 0.15
        while time.process_time() < until:
            pass

    def rmdir(self, path):
        self.kept = bytearray(1 << 30)

    def readlink(self, path):
        os.kill(os.getpid(), 9)

    def open(self, path, flags, mode):
        """A file without an end, and one that takes all."""
        return super().open("/dev/null" if flags else "/dev/zero", flags, mode)

    def rm(self, path):
        return [os.open("/dev/null", os.O_RDONLY) for _ in range(10_000)]
