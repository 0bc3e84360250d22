"""The address of a database, and the storage class for it.

What may not enter: imports of the driver when this module is imported; a storage imports it when it is made.
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
    """The address. remote: a host; or a URI, with port None. database: None for the URI's."""

    def __init__(self, remote: str, port: int | None, database: str | None) -> None:
        self.remote = remote
        self.port = port
        self.database = database

    def __str__(self) -> str:
        """Return hosts and ports for messages, without user names and passwords."""
        if self.port is not None:
            return f"{self.remote}:{self.port}"
        authority = self.remote.partition("://")[2].partition("?")[0].partition("/")[0]
        return authority.rpartition("@")[2]

    def storage(self, kind: type[SFTPServerMongoStorage], **settings: Any) -> SFTPServerMongoStorage:
        """Return the storage. Raises ValueError for a bad address or setting; its text has no secrets."""
        return kind(self.remote, self.port, self.database, **settings)


def storage_class() -> type[SFTPServerMongoStorage]:
    """Import the storage class. Raises BadInput if the driver is not installed."""
    try:
        from pysftpserver.mongostorage import SFTPServerMongoStorage
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in DRIVER:
            raise
        raise missing("pymongo", "mongo") from None
    return SFTPServerMongoStorage
