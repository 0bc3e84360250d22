"""A database for tests: of the server that PYSFTP_TEST_MONGO_URI names, or of a SecantusDB of their own.

One SecantusDB serves a whole run; it ends with the process that runs the tests.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import tempfile
import unittest
import uuid
from collections.abc import Iterator
from typing import Any

import gridfs
import pymongo

from pysftpserver.mongostorage import SFTPServerMongoStorage
from pysftpserver.storages.embedded import LOOPBACK, EmbeddedMongo

VARIABLE = "PYSFTP_TEST_MONGO_URI"
COMMANDS = "aggregate count delete distinct find findAndModify getMore insert update".split()
_running: list[EmbeddedMongo] = []


def uri() -> str:
    """A URI of the server."""
    given = os.environ.get(VARIABLE)
    if given:
        return given
    if not _running:
        directory = tempfile.TemporaryDirectory(prefix="pysftpserver-mongo-")
        atexit.register(directory.cleanup)
        _running.append(EmbeddedMongo(directory.name, "--enable-test-commands"))  # failpoints
        atexit.register(_running[0].stop)
    return f"mongodb://{LOOPBACK}:{_running[0].port}"


@functools.cache
def client() -> pymongo.MongoClient[dict[str, Any]]:
    """What other programs reach the server with: one for the whole process."""
    made: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(uri(), tz_aware=True)
    atexit.register(made.close)
    return made


def new_name() -> str:
    """A name for a database."""
    return f"pysftpserver_{uuid.uuid4().hex[:16]}"


@contextlib.contextmanager
def hanging_up(other: pymongo.MongoClient[dict[str, Any]]) -> Iterator[None]:
    """The server hangs up on every command of a storage. other: another program's connection."""
    data = {"failCommands": COMMANDS, "appName": "pysftpserver", "closeConnection": True}
    other.admin.command({"configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data})
    try:
        yield
    finally:
        other.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


class DatabaseCase(unittest.TestCase):
    """A database of the test's own, and what another program would use to reach it."""

    def setUp(self) -> None:
        super().setUp()
        self.other: Any = client()
        self.db_name = self.named()
        self.database = self.other[self.db_name]
        self.gridfs = gridfs.GridFS(self.database)

    def named(self) -> str:
        """The name of the database."""
        name = new_name()
        self.addCleanup(client().drop_database, name)
        return name

    def open_storage(self, **options: Any) -> SFTPServerMongoStorage:
        """A storage on that database, with its indexes."""
        storage = SFTPServerMongoStorage.from_uri(uri(), self.db_name, **options)
        self.addCleanup(storage.close_client)
        storage.prepare()
        return storage

    def chunk_count(self, bucket: str = "fs") -> int:
        """How many chunks there are, of whatever file."""
        return self.database[f"{bucket}.chunks"].count_documents({})
