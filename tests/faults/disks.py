"""File systems for one test, in a separate mount namespace, to be filled, remounted or removed.

A holder process keeps the namespace; when it ends, the mounts are gone, whatever happened to the tests:
it waits on a pipe of theirs. Servers are started in there with nsenter(1), and the tests look in through
/proc/PID/root. Root needs nothing else; others need user namespaces.
Facts: mount_namespaces(7), tmpfs(5), unshare(1).
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import unittest
from collections.abc import Sequence
from pathlib import Path

from tests.faults.sessions import FaultCase

_HOLD = 'mount -t "$1" -o "$2" "$3" "$0" && echo mounted && exec cat'


@functools.cache
def ways_in() -> tuple[list[str], list[str]]:
    """Options of unshare(1), and those of nsenter(1) that follow it. Raises SkipTest without any."""
    ways = [(["-m"], ["-m"]), (["-rm"], ["-U", "-m", "--preserve-credentials"])]
    said = "unshare(1) and nsenter(1) of util-linux are not installed"
    if shutil.which("unshare") and shutil.which("nsenter"):
        for unshare, nsenter in ways if os.geteuid() == 0 else ways[1:]:
            words = ["unshare", *unshare, "mount", "-t", "tmpfs", "tmpfs", "/tmp"]
            tried = subprocess.run(words, stderr=subprocess.PIPE, text=True)
            if not tried.returncode:
                return unshare, nsenter
            said = tried.stderr.strip()
    raise unittest.SkipTest(f"nothing can be mounted in a namespace here: {said}")


class Disk:
    """A file system at a directory, for the processes in its namespace only.

    options, kind, source: as for mount(8). inside: what a command that has to be in there needs in front.
    """

    def __init__(self, at: Path, options: str, kind: str = "tmpfs", source: str = "tmpfs") -> None:
        unshare, nsenter = ways_in()
        self.at = at
        self._holder = subprocess.Popen(
            ["unshare", *unshare, "sh", "-c", _HOLD, at, kind, options, source],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"mounted\n":
            _, said = self._holder.communicate()
            raise OSError(f"cannot mount {kind}: {said.decode()}")
        self.inside: Sequence[str] = ["nsenter", "-t", str(self._holder.pid), *nsenter]

    def seen(self, path: Path) -> Path:
        """Where this process sees what those inside see at path."""
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def run(self, *words: str | Path) -> None:
        """Run a command inside. Raises CalledProcessError when it fails."""
        subprocess.run([*self.inside, *words], check=True, stderr=subprocess.PIPE)

    def remounting(self, options: str) -> list[str]:
        """The command, for those inside, that changes the mount, or whatever is mounted over it."""
        # Without the options that it has already: those of tmpfs name users that a namespace may not know.
        return ["mount", "--options-mode", "ignore", "-o", f"remount,{options}", str(self.at)]

    def remount(self, options: str) -> None:
        self.run(*self.remounting(options))

    def close(self) -> None:
        """End the holder, and with it the namespace and its mounts. May be called again."""
        if self._holder.returncode is None:
            self._holder.communicate()


class DiskCase(FaultCase):
    """What is served is a small tmpfs, or has one in it."""

    def mount(self, options: str, at: Path | None = None) -> Disk:
        """Put an empty disk in the place of the one before, if there was one."""
        disk = Disk(at or self.served, options)
        self.addCleanup(disk.close)
        self.inside = disk.inside
        self.seen = disk.seen(self.served)
        return disk
