"""Sessions on the storage on GridFS: a server process that can be killed, and files in one call."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from pysftpserver.mongostorage import SFTPServerMongoStorage
from tests.mongo.databases import DatabaseCase, uri
from tests.support.doors import Wire
from tests.support.forked import Process
from tests.support.packets import NO_ATTRS, READ, request, string, u32, u64
from tests.support.paths import ROOT

NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
# URI, database, whether there are transactions, and before which command it is killed (0: none).
SERVE = """
import os, signal, sys
from pymongo import monitoring
from pysftpserver.mongostorage import SFTPServerMongoStorage
from pysftpserver.server import SFTPServer

class Killer(monitoring.CommandListener):
    def started(self, event):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    def succeeded(self, event):
        pass
    failed = succeeded

left = int(sys.argv[4])
if left:
    monitoring.register(Killer())
storage = SFTPServerMongoStorage.from_uri(sys.argv[1], sys.argv[2])
if sys.argv[3] == "no":
    storage.bucket._has_transactions = False
try:
    status = SFTPServer(storage).run()
finally:
    storage.close_client()
sys.exit(status)
"""


class Served(Wire):
    """A server process on a database, and a client of it."""

    def __init__(self, test: DatabaseCase, killed_at: int = 0, has_transactions: bool = True) -> None:
        ours, theirs = socket.socketpair()
        test.addCleanup(ours.close)
        super().__init__(ours.fileno(), ours.fileno())
        words = [uri(), test.db_name, "yes" if has_transactions else "no", str(killed_at)]
        with theirs:
            self.process = Process(
                [sys.executable, "-c", SERVE, *words],
                stdin=theirs,
                stdout=theirs,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                cwd=Path(__file__).parent,
            )
        test.addCleanup(self.kill)
        self._numbers = 0
        self.hello()

    def kill(self) -> None:
        """Kill it, unless it has ended. May be called again."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def asks(self, name: str, *parts: bytes) -> bool:
        """Whether a request is answered, and well; a server that is killed does not answer."""
        self._numbers += 1
        try:
            self.send(request(name, self._numbers, *parts))
        except BrokenPipeError:
            return False
        body = self.packet()
        if body and (body[0] != 101 or body[5:9] == u32(0)):
            self.handle = body[5:]
            return True
        return False

    def opens(self, path: bytes, flags: int = READ) -> bool:
        return self.asks("open", string(path), u32(flags), NO_ATTRS)

    def writes(self, handle: bytes, off: int, data: bytes) -> bool:
        return self.asks("write", handle, u64(off), string(data))


def put(storage: SFTPServerMongoStorage, path: bytes, content: bytes, flags: int = NEW) -> None:
    """A file in one go."""
    handle = storage.open(path, flags, 0o666)
    try:
        if content:
            storage.write(handle, 0, content)
    except BaseException:
        storage.abandon(handle)
        raise
    storage.close(handle)


def get(storage: SFTPServerMongoStorage, path: bytes, size: int = 1 << 18) -> bytes:
    """The content of a file. size: bytes that are asked for at once."""
    handle = storage.open(path, os.O_RDONLY, 0)
    try:
        data = bytearray()
        while piece := storage.read(handle, len(data), size):
            data += piece
        return bytes(data)
    finally:
        storage.close(handle)


def orphans(database: Any, bucket: str = "fs") -> int:
    """How many chunks belong to no file."""
    files = database[f"{bucket}.files"].distinct("_id")
    return int(database[f"{bucket}.chunks"].count_documents({"files_id": {"$nin": files}}))
