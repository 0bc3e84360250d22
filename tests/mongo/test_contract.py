"""The storage on GridFS keeps the storage contract, at the top of a bucket and below a prefix."""

from __future__ import annotations

import datetime
import os
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from bson.int64 import Int64

from pysftpserver.contract.names import NameRules
from pysftpserver.mongostorage import SFTPServerMongoStorage
from pysftpserver.storages.mongo.bucket import INDEXES
from pysftpserver.testing import StorageContract
from tests.mongo.databases import VARIABLE, DatabaseCase, client, hanging_up, new_name, uri
from tests.support.hard import IS_HARD, MANY
from tests.support.rules import daily


class InABucket(DatabaseCase):
    """All tests of a class have one database, emptied for each: its indexes take as long as a rule.

    They share connections too, which take half as long.
    """

    connected: ClassVar[SFTPServerMongoStorage]

    many = MANY
    prefix = ""
    bucket = "fs"
    options: dict[str, Any] = {}

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.of_class = new_name()
        cls.addClassCleanup(client().drop_database, cls.of_class)
        cls.connected = SFTPServerMongoStorage.from_uri(uri(), cls.of_class, bucket=cls.bucket, **cls.options)
        cls.addClassCleanup(cls.connected.close_client)
        cls.connected.prepare()

    def named(self) -> str:
        for collection in {collection for collection, *_ in INDEXES}:
            self.other[self.of_class][f"{self.bucket}.{collection}"].delete_many({})
        return self.of_class

    def make_storage(self) -> SFTPServerMongoStorage:
        return self.connected.at_prefix(self.prefix)  # as sessions of pysftpd share connections

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


@daily("names", "paths", also=(NameRules,))
class BelowAPrefix(InABucket, StorageContract):
    """The rules for names and paths, which a prefix changes. Old revisions are not seen in them either.

    Renames, trees, links and content take the same way as at the top, with the name that these rules prove:
    their rules come below a prefix in `make test-hard`. (Trees and listings below one are also those of
    test_listing.RandomTrees.)
    """

    prefix = "users/alice"
    bucket = "shared"
    options = {"keep_revisions": True}
    unsupported = frozenset({"link"})
    if not IS_HARD:  # a prefix changes nothing about which names there are
        test_unusual_names = test_names_without_meaning = None  # type: ignore[assignment]
