"""The smallest useful storage: three methods, read-only."""

from io import BytesIO

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.pysftpexceptions import SFTPNotFound


class SFTPServerMinimalStorage(SFTPAbstractServerStorage):
    """Serves the values of a dictionary as files, by their names."""

    def __init__(self, files):
        """Take a dictionary from names to contents, both bytes."""
        self.files = files

    def open(self, filename, flags, mode):
        """Return the file handle."""
        if filename in self.files:
            return BytesIO(self.files[filename])

        raise SFTPNotFound

    def read(self, handle, off, size):
        """Read size bytes from the handle, from offset off on."""
        handle.seek(off)
        return handle.read(size)

    def close(self, handle):
        """Close the file handle."""
        handle.close()
