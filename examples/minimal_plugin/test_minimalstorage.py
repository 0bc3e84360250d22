"""The three-method plugin, tested packet by packet and with the contract suite."""

import os
import unittest

from minimalstorage import SFTPServerMinimalStorage

from pysftpserver.pysftpexceptions import SFTPNotFound
from pysftpserver.server import *  # noqa: F403
from pysftpserver.server import (
    SSH2_FXF_READ,
    SSH2_FXP_CLOSE,
    SSH2_FXP_OPEN,
    SSH2_FXP_READ,
    SFTPServer,
)
from pysftpserver.testing import *  # noqa: F403
from pysftpserver.testing import (
    StorageContract,
    get_sftpdata,
    get_sftphandle,
    sftpcmd,
    sftpint,
    sftpint64,
    sftpstring,
    t_path,
)


class Packets(unittest.TestCase):
    def setUp(self):
        self.server = SFTPServer(
            SFTPServerMinimalStorage({b"test": b"This is a test file."}),
            logfile=t_path("log"),
            raise_on_error=True,
        )
        self.addCleanup(os.unlink, t_path("log"))
        self.addCleanup(self.server.close)

    def ask(self, *parts):
        self.server.output_queue = b""
        self.server.input_queue = sftpcmd(*parts)
        self.server.process()
        return self.server.output_queue

    def test_a_file_is_opened_read_and_closed(self):
        opened = self.ask(SSH2_FXP_OPEN, sftpstring(b"test"), sftpint(SSH2_FXF_READ), sftpint(0))
        handle = get_sftphandle(opened)
        data = get_sftpdata(self.ask(SSH2_FXP_READ, sftpstring(handle), sftpint64(5), sftpint(2)))
        self.assertEqual(data, b"is")
        self.ask(SSH2_FXP_CLOSE, sftpstring(handle))

    def test_another_name_is_not_found(self):
        with self.assertRaises(SFTPNotFound):
            self.ask(SSH2_FXP_OPEN, sftpstring(b"other"), sftpint(SSH2_FXF_READ), sftpint(0))


class MinimalStorageKeepsTheContract(StorageContract, unittest.TestCase):
    unsupported = frozenset(
        "stat lstat fstat setstat lsetstat fsetstat opendir mkdir rmdir write fsync rm rename symlink "
        "readlink link statvfs fstatvfs".split()
    )

    def make_storage(self):
        return SFTPServerMinimalStorage({})

    def put(self, path, content):
        self.storage.files[path] = content
