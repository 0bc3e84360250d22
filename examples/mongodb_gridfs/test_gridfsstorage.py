"""The GridFS plugin against a real server, over TCP: packet by packet, and with the contract suite.

The server is the one that PYSFTP_TEST_MONGO_URI names, or a SecantusDB that the test starts.
"""

import os
import tempfile
import unittest
import uuid

import gridfs
import pymongo
from gridfsstorage import SFTPServerMongoStorage

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.pysftpexceptions import SFTPNotFound
from pysftpserver.server import *  # noqa: F403
from pysftpserver.server import (
    SSH2_FXF_CREAT,
    SSH2_FXP_CLOSE,
    SSH2_FXP_OPEN,
    SSH2_FXP_READ,
    SFTPServer,
)
from pysftpserver.storages.embedded import LOOPBACK, EmbeddedMongo
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

SERVER = {}  # remote, port, and the client of another program


def setUpModule():
    uri = os.environ.get("PYSFTP_TEST_MONGO_URI")
    if uri:
        SERVER["remote"], SERVER["port"] = uri, None
    else:
        directory = tempfile.TemporaryDirectory()
        unittest.addModuleCleanup(directory.cleanup)
        server = EmbeddedMongo(directory.name)
        unittest.addModuleCleanup(server.stop)
        SERVER["remote"], SERVER["port"] = LOOPBACK, server.port
    SERVER["other"] = pymongo.MongoClient(SERVER["remote"], SERVER["port"])
    unittest.addModuleCleanup(SERVER["other"].close)


class WithADatabase(unittest.TestCase):
    """Gives each test a database, and GridFS as another program would use it."""

    def setUp(self):
        super().setUp()
        self.db_name = f"pysftpserver_{uuid.uuid4().hex[:16]}"
        self.addCleanup(SERVER["other"].drop_database, self.db_name)
        self.gridfs = gridfs.GridFS(SERVER["other"][self.db_name])


class Packets(WithADatabase):
    storage_class = SFTPServerMongoStorage

    def setUp(self):
        super().setUp()
        storage = self.storage_class(SERVER["remote"], SERVER["port"], self.db_name)
        self.addCleanup(storage.client.close)
        self.server = SFTPServer(storage, logfile=t_path("log"), raise_on_error=True)
        self.addCleanup(os.unlink, t_path("log"))
        self.addCleanup(self.server.close)

    def ask(self, *parts):
        self.server.output_queue = b""
        self.server.input_queue = sftpcmd(*parts)
        self.server.process()
        return self.server.output_queue

    def open(self, name):
        return get_sftphandle(self.ask(SSH2_FXP_OPEN, sftpstring(name), sftpint(SSH2_FXF_CREAT), sftpint(0)))

    def test_a_file_that_another_program_has_put_is_opened_read_and_closed(self):
        content = b"This is a test file."
        self.gridfs.put(content, filename="test")
        handle = self.open(b"test")
        read = self.ask(SSH2_FXP_READ, sftpstring(handle), sftpint64(0), sftpint(len(content)))
        self.assertEqual(get_sftpdata(read), content)
        self.ask(SSH2_FXP_CLOSE, sftpstring(handle))

    def test_a_file_of_many_chunks_is_read_piece_by_piece_to_its_end(self):
        content = os.urandom(600_000)
        self.gridfs.put(content, filename="large")
        handle = self.open(b"large")
        pieces = []
        for offset in range(0, len(content), 100_000):
            read = self.ask(SSH2_FXP_READ, sftpstring(handle), sftpint64(offset), sftpint(100_000))
            pieces.append(get_sftpdata(read))
        self.assertEqual(b"".join(pieces), content)

    def test_another_name_is_not_found(self):
        with self.assertRaises(SFTPNotFound):
            self.open(b"other")


class AsInTheFirstTutorial(SFTPAbstractServerStorage):
    """The storage of the project's first tutorial: it ignores offsets, reads on from its position, and takes
    the first file with a name. Such plugins exist and have to keep working."""

    def __init__(self, remote, port, db_name):
        self.client = pymongo.MongoClient(remote, port)
        self.gridfs = gridfs.GridFS(self.client[db_name])

    def open(self, filename, flags, mode):
        filename = filename.decode()
        if self.gridfs.exists(filename=filename):
            return self.gridfs.find({"filename": filename})[0]
        raise SFTPNotFound

    def read(self, handle, off, size):
        return handle.read(size)

    def close(self, handle):
        handle.close()


class PacketsOfTheFirstTutorial(Packets):
    storage_class = AsInTheFirstTutorial


class GridFSStorageKeepsTheContract(StorageContract, WithADatabase):
    unsupported = frozenset(
        "stat lstat fstat setstat lsetstat fsetstat opendir mkdir rmdir write fsync rm rename symlink "
        "readlink link statvfs fstatvfs".split()
    )

    def make_storage(self):
        storage = SFTPServerMongoStorage(SERVER["remote"], SERVER["port"], self.db_name)
        self.addCleanup(storage.client.close)
        return storage

    def put(self, path, content):
        self.gridfs.put(content, filename=path.decode())

    def test_every_name_is_possible(self):
        """The one rule that it cannot keep: GridFS's names are text, so other bytes cannot name a file."""
        for name in ("with space", "new\nline", "back\\slash", "~", "\xe4\u20ac", "x" * 255):
            with self.subTest(name=name):
                self.put(name.encode(), b"content")
                self.assertEqual(self.content(name.encode()), b"content")
        with self.assertRaises(SFTPNotFound):
            self.storage.open(b"\xff\xfe\x80", os.O_RDONLY, 0)
