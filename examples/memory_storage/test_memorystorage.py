"""The storage in memory keeps the storage contract, and the real sftp client works with it."""

import shlex
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from memorystorage import SFTPServerMemoryStorage

from pysftpserver.pysftpexceptions import status_of
from pysftpserver.testing import StorageContract

HERE = Path(__file__).parent


class MemoryStorageKeepsTheContract(StorageContract, unittest.TestCase):
    def make_storage(self):
        return SFTPServerMemoryStorage()


class Capacity(unittest.TestCase):
    def test_a_full_storage_says_so_and_has_room_again_when_files_go(self):
        storage = SFTPServerMemoryStorage(capacity=10)
        handle = storage.open(b"/f", 0o1 | 0o100, 0o666)
        storage.write(handle, 0, b"12345678")
        with self.assertRaises(OSError) as raised:
            storage.write(handle, 8, b"901")
        self.assertEqual(status_of(raised.exception), (4, b"No space left on device"))
        storage.rm(b"/f")
        other = storage.open(b"/g", 0o1 | 0o100, 0o666)
        with self.assertRaises(OSError):
            storage.write(other, 0, b"123")  # open files still take up space
        storage.close(handle)
        storage.write(other, 0, b"1234567890")


class RealClient(unittest.TestCase):
    def test_sftp_puts_lists_and_gets(self):
        sftp = shutil.which("sftp")
        self.assertIsNotNone(sftp, "OpenSSH's client is needed")
        with tempfile.TemporaryDirectory() as directory:
            Path(directory, "note").write_bytes(b"kept in memory")
            server = shlex.join([sys.executable, str(HERE / "serve.py")])
            done = subprocess.run(
                [sftp, "-b", "-", "-D", server],
                input="mkdir d\nput note d/note\nln -s note d/link\nrename d e\nls -l e\nget e/link back\n",
                cwd=directory,
                env={"PYTHONPATH": str(HERE.parents[1]), "PATH": "/usr/bin:/bin"},
                capture_output=True,
                text=True,
                timeout=30,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("note", done.stdout)
            self.assertEqual(Path(directory, "back").read_bytes(), b"kept in memory")
