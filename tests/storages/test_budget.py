"""No request uses much processor time, whatever a path or a list leads to."""

from __future__ import annotations

import gc
import os
import subprocess
import tempfile
import time
import unittest
from collections.abc import Callable
from pathlib import Path

from pysftpserver.host.linux import has_openat2
from pysftpserver.storage import MOST_LINKS, SFTPServerStorage
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support import packets as sftp
from tests.support.cases import OnFiles
from tests.support.packets import Client, string, u32

MOST = 0.1  # seconds of processor time
LONG = 2000  # directories below each other: as many as fit into a path


class LongWays(unittest.TestCase):
    """A directory with links that each lead through hundreds of names, and to the next link."""

    def setUp(self) -> None:
        gc.disable()  # its time would count, and depends on what other tests have left
        self.addCleanup(gc.enable)
        self.top = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.top / "a").mkdir()
        for number in range(MOST_LINKS - 1):
            (self.top / f"l{number}").symlink_to("a/../" * 800 + f"l{number + 1}")
        (self.top / f"l{MOST_LINKS - 1}").touch()
        self.storages = (
            SFTPServerVirtualChroot(self.top),
            SFTPServerVirtualChroot(self.top, use_openat2=False),
            SFTPServerStorage(self.top),
        )

    def assert_is_quick(self, what: Callable[[], object]) -> object:
        """What it returns, or the error that it raises."""
        began = time.thread_time()
        try:
            result = what()
        except OSError as error:
            result = error
        self.assertLess(time.thread_time() - began, MOST)
        return result

    def test_links_through_many_names_end_in_an_error_in_time(self) -> None:
        for storage in self.storages:
            top = os.fsencode(self.top) if type(storage) is SFTPServerStorage else b""
            for method in (storage.realpath, storage.stat, storage.lstat, storage.readlink):
                for path in (b"/l0", b"/l0/", b"/l0/..", b"/a/.." * 700 + b"/l0/x"):
                    with self.subTest(type(storage).__name__, method=method.__name__, path=path[-20:]):
                        self.assert_is_quick(lambda method=method, path=top + path: method(path))

    def test_two_long_ways_in_one_request_take_no_more_time(self) -> None:
        storage = self.storages[1]
        (self.top / f"l{MOST_LINKS - 1}").unlink()
        last = self.top / f"l{MOST_LINKS - 1}"
        last.mkdir()
        for links in range(1, 6):  # of about six milliseconds each
            way = b"/l%d" % (MOST_LINKS - 1 - links)
            (last / "f").touch()
            for method in (storage.rename, storage.link):
                with self.subTest(method.__name__, links=links):
                    self.assert_is_quick(lambda method=method, way=way: method(way + b"/f", way + b"/g"))
            for file in last.iterdir():
                file.unlink()

    def test_the_longest_paths_have_a_real_path(self) -> None:
        if not has_openat2():
            self.skipTest("the kernel has no openat2")
        directory = os.open(self.top, os.O_RDONLY)
        for _ in range(LONG):
            os.mkdir(b"x", dir_fd=directory)
            below = os.open(b"x", os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = below
        os.close(directory)
        self.addCleanup(subprocess.run, ["rm", "-rf", self.top / "x"], check=True)
        for storage in (self.storages[0], self.storages[2]):
            top = os.fsencode(self.top) if type(storage) is SFTPServerStorage else b""
            way = top + b"/x" * LONG
            for path, real in ((way + b"/.", way), (way + b"/../..", way[:-4])):
                with self.subTest(type(storage).__name__, path=path[-6:]):
                    found = self.assert_is_quick(lambda storage=storage, path=path: storage.realpath(path))
                    self.assertEqual(found, real)


class ManyNames(OnFiles):
    def test_names_of_very_many_numbers_end_in_an_error_in_time(self) -> None:
        client = Client(SFTPServerStorage(self.root))
        numbers = string(b"".join(map(u32, range(100_000, 130_000))))
        began = time.thread_time()
        status = client.status("users-groups-by-id", numbers, numbers)
        self.assertLess(time.thread_time() - began, 2 * MOST)
        self.assertEqual(status, sftp.FAILURE)
