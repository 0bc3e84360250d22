"""Which temporary files a door removes: those of processes that have ended, old ones, and unlocked ones."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.pysftpexceptions import SFTPUnsupported
from pysftpserver.uploads import temporary
from pysftpserver.uploads.files import open_temporary
from pysftpserver.uploads.leftovers import remove_leftovers
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support.waiting import PATIENCE

ELSEWHERE = b"0" * 12  # another system


def name_of(system: bytes, process: bytes, start: int = 1, number: int = 0) -> bytes:
    return b".pysftp-%b-%b-%d-%016x" % (system, process, start, number)


class Leftovers(unittest.TestCase):
    def setUp(self) -> None:
        self.root = Path(self.enterContext(tempfile.TemporaryDirectory(prefix="pysftpserver-leftovers-")))
        self.storage = SFTPServerVirtualChroot(self.root)
        self.addCleanup(self.__dict__.pop, "storage")
        _, _, self.system, self.process, *_ = temporary.new_name().replace(b".", b"-").split(b"-")

    def put(self, name: bytes, age: float = 0) -> Path:
        path = self.root / os.fsdecode(name)
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
        return path

    def names(self) -> set[bytes]:
        return set(os.listdir(os.fsencode(self.root)))

    def test_of_ended_processes_and_old_ones_are_removed_and_all_others_stay(self) -> None:
        kept = {temporary.new_name(), name_of(ELSEWHERE, b"1"), b"f", b"pysftp-"}
        # A container's only process has the number 1 each time: when it began makes the difference.
        left = {name_of(self.system, self.process), name_of(self.system, b"4000000000")}
        old = name_of(ELSEWHERE, b"1", number=1)
        for name in kept | left:
            self.put(name)
        self.put(old, age=2 * temporary.OLD)
        users_own = {b"old", b".pysftp-notes", temporary.new_name() + b".txt"}
        for name in users_own:
            self.put(name, age=2 * temporary.OLD)
            self.assertFalse(temporary.is_temporary(name))
        self.assertEqual(remove_leftovers(self.storage, b"/"), 3)
        self.assertEqual(self.names(), kept | users_own)

    def test_of_a_running_process_stay_even_with_the_time_of_an_old_original(self) -> None:
        upload = open_temporary(self.storage, b"/f", None)
        upload.set_time(1)
        self.assertEqual(remove_leftovers(self.storage, b"/"), 0)
        code = (
            "import sys\n"
            "from pysftpserver.uploads.leftovers import remove_leftovers\n"
            "from pysftpserver.virtualchroot import SFTPServerVirtualChroot\n"
            'sys.exit(remove_leftovers(SFTPServerVirtualChroot(sys.argv[1]), b"/"))\n'
        )
        done = subprocess.run([sys.executable, "-c", code, os.fspath(self.root)], timeout=PATIENCE)
        self.assertEqual(done.returncode, 0, "another process has removed what this one writes to")
        upload.commit()
        self.assertEqual(self.names(), {b"f"})

    def test_of_another_system_stay_even_with_the_time_of_an_old_original(self) -> None:
        upload = open_temporary(self.storage, b"/f", None)
        upload.set_time(1)
        (mine,) = self.root.iterdir()
        mine.rename(self.root / os.fsdecode(name_of(ELSEWHERE, b"1")))
        self.assertEqual(remove_leftovers(self.storage, b"/"), 0)
        upload.discard()

    def test_of_a_running_process_stay_where_it_is_not_shown_when_that_began(self) -> None:
        name = name_of(self.system, b"1", start=temporary._start(1) + 1)
        self.put(name, age=2 * temporary.OLD)
        with mock.patch.object(temporary, "_start", return_value=0):
            self.assertEqual(remove_leftovers(self.storage, b"/"), 0)
        self.assertEqual(remove_leftovers(self.storage, b"/"), 1)

    def test_that_are_named_are_looked_at_once_more(self) -> None:
        old, young = (name_of(ELSEWHERE, b"1", number=number) for number in range(2))
        self.put(old, age=2 * temporary.OLD)
        self.put(young)
        self.assertEqual(remove_leftovers(self.storage, b"/", [old, young, b"missing"]), 1)
        self.assertEqual(self.names(), {young})

    def test_of_atomic_uploads_are_removed_if_they_are_not_locked(self) -> None:
        left, locked = (self.put(temporary.locked_name(name), age=2 * temporary.OLD) for name in (b"f", b"g"))
        users_own = self.put(temporary.LOCKED_PREFIX + b"notes", age=2 * temporary.OLD)
        with open(locked) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            self.assertEqual(remove_leftovers(self.storage, b"/"), 1)
        self.assertEqual([path.exists() for path in (left, locked, users_own)], [False, True, True])

    def test_of_a_storage_without_lstat_or_real_files_are_removed_by_their_names_alone(self) -> None:
        class Small(SFTPServerVirtualChroot):
            def lstat(self, path: bytes) -> SFTPAttributes:
                raise SFTPUnsupported

            def fileno(self, handle: int) -> None:
                return None

        self.put(name_of(self.system, self.process))
        locked = temporary.locked_name(b"f")
        self.put(locked)
        self.assertEqual(remove_leftovers(Small(self.root), b"/"), 1)
        self.assertEqual(self.names(), {locked})

    def test_in_a_directory_that_cannot_be_read_stay(self) -> None:
        class Locked(SFTPServerVirtualChroot):
            def opendir(self, path: bytes) -> Iterator[tuple[bytes, SFTPAttributes]]:  # type: ignore[override]
                raise PermissionError

        self.put(name_of(self.system, self.process))
        self.assertEqual(remove_leftovers(Locked(self.root), b"/"), 0)
        self.assertEqual(remove_leftovers(self.storage, b"/missing"), 0)


class TemporaryPaths(unittest.TestCase):
    def test_are_new_and_in_the_directory_of_the_path(self) -> None:
        for path, parent in ((b"/f", b"/"), (b"/d/f", b"/d/"), (b"f", b"")):
            paths = {temporary.temporary_path(path) for _ in range(100)}
            self.assertEqual(len(paths), 100)
            for one in paths:
                self.assertEqual(one[: len(parent)], parent)
                self.assertTrue(temporary.is_temporary(one[len(parent) :]))
