"""What a storage asks of its database, counted."""

from __future__ import annotations

import functools
from typing import Any
from unittest import mock

import pymongo
from pymongo import monitoring

from pysftpserver.mongostorage import SFTPServerMongoStorage
from tests.mongo.databases import DatabaseCase


def names(storage: SFTPServerMongoStorage, path: bytes = b"/") -> list[bytes]:
    """The names in a directory, sorted; a name that is listed twice is there twice."""
    return sorted(name for name, _ in storage.opendir(path) if name not in (b".", b".."))


class Counter(monitoring.CommandListener):
    """What a client asks of the server, and how many documents it gets.

    commands: (name, collection) of each. documents: how many came back in batches. ranges: where the ranges
    of filenames began that were asked for.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin again."""
        self.commands: list[tuple[str, str]] = []
        self.documents = 0
        self.ranges: list[str] = []

    def count(self, name: str, collection: str) -> int:
        """How many commands of one kind there were."""
        return self.commands.count((name, collection))

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        target = event.command.get("collection") or event.command.get(event.command_name)
        self.commands.append((event.command_name, str(target)))
        asked = event.command.get("filter") or (event.command.get("pipeline") or [{}])[0].get("$match", {})
        condition = asked.get("filename")
        if isinstance(condition, dict) and "$gte" in condition:
            self.ranges.append(condition["$gte"])

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        cursor = event.reply.get("cursor", {})
        self.documents += len(cursor.get("firstBatch", cursor.get("nextBatch", ())))

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        self.commands.append(("failed", event.command_name))


class CountingCase(DatabaseCase):
    """self.counter hears of every command of self.open_storage()'s."""

    def setUp(self) -> None:
        super().setUp()
        self.counter = Counter()

    def open_storage(self, **options: Any) -> SFTPServerMongoStorage:
        client = functools.partial(pymongo.MongoClient, event_listeners=[self.counter])
        with mock.patch.object(pymongo, "MongoClient", client):
            storage = super().open_storage(**options)
        self.counter.reset()
        return storage
