"""The storage on GridFS keeps the storage contract, at the top of a bucket and below a prefix."""

from __future__ import annotations

from pysftpserver.mongostorage import SFTPServerMongoStorage
from pysftpserver.testing import StorageContract
from tests.mongo.databases import DatabaseCase


class GridFSKeepsTheContract(StorageContract, DatabaseCase):
    unsupported = frozenset({"link"})

    def make_storage(self) -> SFTPServerMongoStorage:
        return self.open_storage()


class BelowAPrefix(GridFSKeepsTheContract):
    def make_storage(self) -> SFTPServerMongoStorage:
        return self.open_storage(bucket="shared", prefix="users/alice", keep_revisions=True)
