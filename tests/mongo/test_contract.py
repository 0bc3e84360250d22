"""The storage on GridFS keeps the storage contract, at the top of a bucket and below a prefix."""

from __future__ import annotations

import datetime
import os
from contextlib import AbstractContextManager

from bson.int64 import Int64

from pysftpserver.contract.attributes import AttributeRules
from pysftpserver.contract.directories import DirectoryRules
from pysftpserver.contract.files import FileRules
from pysftpserver.contract.names import NameRules
from pysftpserver.contract.tree import TreeRules
from pysftpserver.mongostorage import SFTPServerMongoStorage
from pysftpserver.testing import StorageContract
from tests.mongo.databases import VARIABLE, DatabaseCase, hanging_up
from tests.support.hard import IS_HARD, MANY


class InABucket(DatabaseCase):
    many = MANY
    prefix = ""

    def failing(self) -> AbstractContextManager[None] | None:
        return None if VARIABLE in os.environ else hanging_up(self.other)

    def fill(self, directory: bytes, names: list[bytes]) -> None:
        """Insert the documents of empty files at once, as the storage would one by one."""
        now = datetime.datetime.now(datetime.UTC)
        top = self.prefix + directory.decode()
        metadata = {"permissions": 0o644, "uid": 0, "gid": 0, "mtime": now, "revision": 1}
        self.storage.bucket.files.insert_many(
            [
                {
                    "length": Int64(0),
                    "chunkSize": 255 << 10,
                    "uploadDate": now,
                    "filename": f"{top}/{name.decode()}".lstrip("/"),
                    "metadata": metadata,
                }
                for name in names
            ]
        )


class GridFSKeepsTheContract(InABucket, StorageContract):
    unsupported = frozenset({"link"})

    def make_storage(self) -> SFTPServerMongoStorage:
        return self.open_storage()


class BelowAPrefix(InABucket, TreeRules, NameRules):
    """The rules for paths: a prefix changes these. Of old revisions nothing may be seen in them either.

    (Listings below a prefix are those of test_listing.RandomTrees, too.)
    """

    prefix = "users/alice"
    unsupported = frozenset({"link"})
    if not IS_HARD:  # a prefix changes nothing about how many links or which names there are
        test_link_circle = test_unusual_names = test_names_without_meaning = None  # type: ignore[assignment]

    def make_storage(self) -> SFTPServerMongoStorage:
        return self.open_storage(bucket="shared", prefix=self.prefix, keep_revisions=True)


if IS_HARD:

    class FilesBelowAPrefix(FileRules, AttributeRules, DirectoryRules, BelowAPrefix):
        """The rules for content, attributes and listings, which take the same way as at the top."""
