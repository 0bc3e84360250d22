"""Which database server is meant, and the storage class that talks to it, where its driver is installed.

What may not enter: the driver; it is imported when a storage is made.
"""

from __future__ import annotations

from pysftpserver.failures import missing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pysftpserver.mongostorage import SFTPServerMongoStorage

SCHEMES = ("mongodb://", "mongodb+srv://")
PATIENCE = 3.5  # seconds for the server's first answer: a client is told within 5
DRIVER = ("pymongo", "gridfs", "bson")  # what the package pymongo brings


class Address:
    """Where the files are. remote: a host, or a URI, which has no port. database: None: the URI's."""

    def __init__(self, remote: str, port: int | None, database: str | None) -> None:
        self.remote = remote
        self.port = port
        self.database = database

    def __str__(self) -> str:
        """Hosts and ports, for a complaint: nobody's name, and no password."""
        if self.port is not None:
            return f"{self.remote}:{self.port}"
        authority = self.remote.partition("://")[2].partition("?")[0].partition("/")[0]
        return authority.rpartition("@")[2]

    def storage(self, kind: type[SFTPServerMongoStorage], **settings: Any) -> SFTPServerMongoStorage:
        """The storage there. Raises ValueError, with a text without secrets, for a bad address or setting."""
        if self.port is None:
            return kind.from_uri(self.remote, self.database, **settings)
        return kind(self.remote, self.port, self.database or "", **settings)


def storage_class() -> type[SFTPServerMongoStorage]:
    """The storage, which needs the driver. Raises BadInput where that is not installed."""
    try:
        from pysftpserver.mongostorage import SFTPServerMongoStorage
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in DRIVER:
            raise
        raise missing("pymongo", "mongo") from None
    return SFTPServerMongoStorage
