"""The storage on SQLite keeps the storage contract; other sessions see only whole uploads; sftp works with
it.
it.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from sqlitestorage import SFTPServerSQLiteStorage

from pysftpserver.testing import StorageContract

HERE = Path(__file__).parent
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # commits are fast there
NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class InAPlace(unittest.TestCase):
    def setUp(self):
        super().setUp()
        place = tempfile.TemporaryDirectory(prefix="sqlitestorage-", dir=IN_MEMORY)
        self.addCleanup(place.cleanup)
        self.database = str(Path(place.name, "files.db"))

    def connected(self):
        storage = SFTPServerSQLiteStorage(self.database)
        self.addCleanup(storage.release)
        return storage


class SQLiteStorageKeepsTheContract(StorageContract, InAPlace):
    unsupported = frozenset("symlink readlink link fsync statvfs fstatvfs".split())
    many = 300

    def make_storage(self):
        return self.connected()


class WholeUploads(InAPlace):
    def test_another_session_sees_the_old_file_until_the_new_one_is_closed(self):
        one, other = self.connected(), self.connected()
        for content in (b"old", b"new" * 700_000):
            handle = one.open(b"/f", NEW, 0o644)
            one.write(handle, 0, content)
            if content != b"old":
                self.assertEqual(self.content(other), b"old")
            one.close(handle)
            self.assertEqual(self.content(other), content)

    def test_what_a_lost_session_has_not_closed_was_never_there(self):
        one, other = self.connected(), self.connected()
        handle = one.open(b"/f", NEW, 0o644)
        one.write(handle, 0, b"half")
        one.abandon(handle)
        self.assertEqual([name for name, _ in other.opendir(b"/")], [b".", b".."])

    def content(self, storage):
        handle = storage.open(b"/f", os.O_RDONLY, 0)
        try:
            return storage.read(handle, 0, 1 << 24)
        finally:
            storage.close(handle)


class RealClient(InAPlace):
    def test_sftp_puts_and_gets_in_two_sessions(self):
        place = Path(self.database).parent
        (place / "note").write_bytes(os.urandom(3_000_000))
        self.sftp("mkdir d\nput note d/note\nls -l d\n")
        self.sftp("rename d e\nget e/note back\nls -l e\n")
        self.assertEqual((place / "back").read_bytes(), (place / "note").read_bytes())

    def sftp(self, batch):
        sftp = shutil.which("sftp")
        self.assertIsNotNone(sftp, "OpenSSH's client is needed")
        done = subprocess.run(
            [sftp, "-b", "-", "-D", shlex.join([sys.executable, str(HERE / "serve.py"), self.database])],
            input=batch,
            cwd=Path(self.database).parent,
            env={"PYTHONPATH": str(HERE.parents[1]), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main()
