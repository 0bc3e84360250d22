"""Helpers for tests of the fast path: a record of what it served, and sizes that matter to it."""

from __future__ import annotations

import random
from typing import Any
from unittest import mock

from pysftpserver import server as server_module
from pysftpserver.engine.bulk import LATE_FROM, serve_transfers
from pysftpserver.engine.handles import FileHandle
from pysftpserver.engine.log import INFO
from pysftpserver.server import SFTPServer
from pysftpserver.storage import SFTPServerStorage
from tests.support.cases import InADirectory
from tests.support.packets import (
    Client,
)

READING, WRITING = 5, 6
MEDIUM = 3 * LATE_FROM + 77
BIG = (1 << 20) + 54321


class Watch:
    """Replaces serve_transfers: records what it was called for and what it served, by type of packet."""

    def __init__(self) -> None:
        self.calls = 0
        self.served = {READING: 0, WRITING: 0}

    def __call__(self, server: SFTPServer, buffer: memoryview, start: int, end: int) -> int:
        self.calls += 1
        done = serve_transfers(server, buffer, start, end)
        while start < done:
            self.served[buffer[start + 4]] += 1
            start += 4 + int.from_bytes(buffer[start : start + 4], "big")
        if start != done:
            raise AssertionError("it stopped inside a packet")
        return done


class Watched(InADirectory):
    """Watches the fast path in every test."""

    def setUp(self) -> None:
        super().setUp()
        self.watch = Watch()
        patch = mock.patch.object(server_module, "serve_transfers", self.watch)
        patch.start()
        self.addCleanup(patch.stop)

    def client_of(self, storage: SFTPServerStorage, fast: bool = True, **options: Any) -> Client:
        options.setdefault("level", INFO)
        client = Client(storage, **options)
        self.addCleanup(client.server.close)
        if not fast:
            client.server.transfers = frozenset()
        return client

    def random_file(self, name: str, size: int) -> bytes:
        content = random.Random(size).randbytes(size)
        (self.root / name).write_bytes(content)
        return content

    def assert_fast(self, kind: int, count: int) -> None:
        self.assertEqual(self.watch.served[kind], count)

    def assert_never_fast(self) -> None:
        self.assertEqual(self.watch.calls, 0)


def counters(server: SFTPServer) -> list[tuple[bytes, int, int]]:
    return [
        (name, file.bytes_read, file.bytes_written)
        for name, file in server.handles.opened.items()
        if type(file) is FileHandle
    ]
