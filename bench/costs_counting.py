"""Counters of a server's requests to the services behind it: Redis, MongoDB, an object store.

Each counts round trips at the service itself, or on the way there; the server is not changed for it. What may
not enter: doors, clients.
Facts: INFO commandstats of Redis; the header of MongoDB's OP_MSG.
"""

from __future__ import annotations

from collections import Counter as Counts
from typing import Any, Protocol

from tests.objects.fake import FakeS3
from tests.support.between import UP, Between

OP_MSG = (2013).to_bytes(4, "little")
NAME_AT = 26  # of the command, after the header (16), flags (4), kind (1), length (4) and type (1)
WATCHING = {"hello", "ismaster", "isMaster", "ping", "endSessions"}  # not caused by what is measured
BY_HAND = {"info", "ping", "config", "select", "hello", "client", "auth", "client|setinfo", "client|setname"}


class Counter(Protocol):
    """name: of the service. read(): how many requests of each kind there have been."""

    name: str

    def read(self) -> Counts[str]: ...


class RedisCommands:
    """Commands that a redis-server has executed, without those of the counter itself."""

    name = "Redis"

    def __init__(self, client: Any) -> None:
        self._client = client

    def read(self) -> Counts[str]:
        found = self._client.info("commandstats")
        named = {name.removeprefix("cmdstat_"): values["calls"] for name, values in found.items()}
        return Counts({name: calls for name, calls in named.items() if name not in BY_HAND})

    def seconds(self) -> float:
        """Processor time of redis-server."""
        found = self._client.info("cpu")
        return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])


class MongoCommands:
    """Commands that pass a relay on their way to a server. port: the relay's."""

    name = "MongoDB"

    def __init__(self, port: int) -> None:
        self._seen: Counts[str] = Counts()
        self._between = Between(port)
        self._between.order = self._look
        self.port = self._between.port
        self.close = self._between.close

    def _look(self, direction: str, so_far: int, piece: bytes) -> None:
        # A client has one request in flight per connection: a piece begins with a header, or continues one.
        if direction == UP and piece[12:16] == OP_MSG:
            name = piece[NAME_AT : NAME_AT + 40].split(b"\0")[0].decode("ascii", "replace")
            if name not in WATCHING:
                self._seen[name] += 1

    def read(self) -> Counts[str]:
        return self._seen.copy()


class StoreRequests:
    """Requests to an object store."""

    name = "S3"

    def __init__(self, store: FakeS3) -> None:
        self._store = store

    def read(self) -> Counts[str]:
        return Counts(method for method, _, _ in list(self._store.requests))
