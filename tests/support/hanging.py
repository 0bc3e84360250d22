"""A disk that hangs: every access waits until it goes on.

It is a mount of sshfs, whose process is stopped. Facts: fuse(4), sshfs(1) on passive.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import unittest
from pathlib import Path

from tests.support.processes import command, program, why_no_fuse
from tests.support.waiting import PATIENCE, until


class HangingDisk:
    """A directory mounted at another place until the test ends. Raises SkipTest without FUSE."""

    def __init__(self, test: unittest.TestCase, directory: Path, at: Path) -> None:
        lacking = why_no_fuse()
        if lacking:
            raise unittest.SkipTest(lacking)
        directory.mkdir(exist_ok=True)
        at.mkdir()
        self.at = at
        ours, its = socket.socketpair()
        with ours, its:
            self._server = subprocess.Popen(
                command("pysftpjail", directory), stdin=ours.fileno(), stdout=ours.fileno()
            )
            # No caching of names and attributes, and no reading ahead.
            options = "passive,dcache_timeout=0,entry_timeout=0,attr_timeout=0,direct_io,idmap=user"
            words = [program("sshfs"), "-f", "-o", options, ":/", os.fspath(at)]
            self._sshfs = subprocess.Popen(
                words, stdin=its.fileno(), stdout=its.fileno(), stderr=subprocess.PIPE
            )
        test.addCleanup(self._close)
        until(lambda: os.path.ismount(at) or self._sshfs.poll() is not None, "sshfs has mounted")
        if self._sshfs.poll() is not None:
            assert self._sshfs.stderr is not None
            raise unittest.SkipTest(
                f"sshfs does not mount here: {self._sshfs.stderr.read().decode().strip()}"
            )

    def hang(self) -> None:
        """Make every access wait from now on."""
        self._sshfs.send_signal(signal.SIGSTOP)
        # Until all of its threads have stopped, one may still answer.
        os.waitid(os.P_PID, self._sshfs.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def go_on(self) -> None:
        """Answer waiting and later accesses."""
        self._sshfs.send_signal(signal.SIGCONT)

    def _close(self) -> None:
        subprocess.run(["fusermount3", "-u", "-z", self.at], capture_output=True)
        self._sshfs.kill()  # waiting accesses fail now
        self._sshfs.wait(PATIENCE)
        self._server.wait(PATIENCE)
        if self._sshfs.stderr is not None:
            self._sshfs.stderr.close()
