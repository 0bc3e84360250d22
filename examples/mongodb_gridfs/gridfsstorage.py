"""A storage of three methods on MongoDB's GridFS: clients can only read files by name."""

import gridfs
import pymongo

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.pysftpexceptions import SFTPNotFound


class SFTPServerMongoStorage(SFTPAbstractServerStorage):
    """The files of one database's GridFS."""

    def __init__(self, remote, port, db_name):
        """Connect to the MongoDB at remote and port, and use the bucket `fs` of the database db_name."""
        self.client = pymongo.MongoClient(remote, port)
        self.gridfs = gridfs.GridFS(self.client[db_name])

    def open(self, filename, flags, mode):
        """Return the file handle: the newest revision of that name."""
        try:
            return self.gridfs.get_last_version(filename.decode())
        except (gridfs.NoFile, UnicodeDecodeError):  # GridFS's names are text
            raise SFTPNotFound from None

    def read(self, handle, off, size):
        """Read size bytes from the handle, from offset off on."""
        handle.seek(off)
        return handle.read(size)

    def close(self, handle):
        """Close the file handle."""
        handle.close()
