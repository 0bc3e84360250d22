"""The SK Sync server in a thread, directories for both sides, and a client that says what it is told to.

Everything that is started here is ended by the test case that started it.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.engine.log import VERBOSE, SFTPLog
from pysftpserver.sksync import config
from pysftpserver.sksync.client import Request, Summary, sync
from pysftpserver.sksync.server import Server
from pysftpserver.sksync.shares import whole_storage
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support.cases import InAPlace
from tests.support.lines import Lines
from tests.support.waiting import PATIENCE

HOST = "127.0.0.1"
NOW = 1_700_000_000  # seconds since the epoch, of files whose time does not matter


class Served:
    """A server in a thread of its own. keys: of the configuration. errors: what asyncio complained about."""

    def __init__(self, shares: Any, context: ssl.SSLContext | None = None, **keys: Any) -> None:
        limits = {"timeout": PATIENCE, "login_grace": PATIENCE, "max_per_address": None}
        self._config = config.checked({"require_auth": False, "host": HOST, **limits, **keys})
        self._config.port = 0
        self.log = Lines()
        self.errors: list[str] = []
        self._server = (self._config, shares, SFTPLog(self.log, VERBOSE), context)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="served", daemon=True)
        self._thread.start()
        if not self._ready.wait(PATIENCE):
            raise AssertionError("the server does not start")

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        server = Server(*self._server)
        self.port = (await server.start())[0][1]
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda _, context: self.errors.append(str(context)))
        self._told = asyncio.Event()
        self._ready.set()
        await self._told.wait()
        await server.stop()

    def be_patient(self) -> None:
        """Wait for the next clients as long as a busy machine makes them need."""
        self._config.idle_timeout = PATIENCE

    def stop(self) -> None:
        """End it, and all of its sessions."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._told.set)
            self._thread.join(PATIENCE)
            if self._thread.is_alive():
                raise AssertionError("the server does not end")


class Directories(InAPlace):
    """Two directories: here is the client's, there is the server's, in its root."""

    def setUp(self) -> None:
        super().setUp()
        self.here = self.place / "here"
        self.root = self.place / "root"
        self.there = self.root / "there"
        self.here.mkdir()
        self.there.mkdir(parents=True)

    def serve(
        self,
        storage: SFTPAbstractServerStorage | None = None,
        shares: Any = None,
        context: ssl.SSLContext | None = None,
        **keys: Any,
    ) -> Served:
        """A server on self.root, if nothing else is said."""
        share = shares or whole_storage(lambda: storage or SFTPServerVirtualChroot(self.root))
        served = Served(share, context, **keys)
        self.addCleanup(served.stop)
        return served

    def sync(self, port: int, is_dry: bool = False, **wanted: Any) -> Summary:
        """Our client, between self.here and there. wanted: of the request, and storage, observer, path."""
        storage = wanted.pop("storage", None) or SFTPServerVirtualChroot(self.here)
        given = {"is_recursive": True, "timeout": PATIENCE, "server_path": "there"} | wanted
        path, observer = given.pop("path", "/"), given.pop("observer", None)
        return sync(storage, Request(HOST, port=port, **given), path, observer, is_dry)

    def at_once(self, count: int, work: Callable[[int], object]) -> None:
        """work(number) in count threads that begin together."""
        barrier = threading.Barrier(count)
        failures: list[BaseException] = []

        def run(number: int) -> None:
            try:
                barrier.wait(PATIENCE)
                work(number)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            self.assertFalse(thread.is_alive())
        if failures:
            raise failures[0]

    def raw(self, port: int, **how: Any) -> RawClient:
        """A client that says what it is told to."""
        client = RawClient(port, **how)
        self.addCleanup(client.close)
        return client


class RawClient:
    """A connection on which a test says what it wants, in pieces as it wants."""

    def __init__(self, port: int, context: ssl.SSLContext | None = None) -> None:
        self.socket = socket.create_connection((HOST, port), PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname=HOST)
        self._file = self.socket.makefile("rb")

    def say(self, *data: bytes) -> None:
        """Each of data in a call of its own."""
        for piece in data:
            self.socket.sendall(piece)

    def line(self) -> bytes:
        """The next line, with its end."""
        return self._file.readline()

    def take(self, size: int) -> bytes:
        """That many bytes, or fewer at the end."""
        return self._file.read(size)

    def rest(self) -> bytes:
        """All that comes until the server ends."""
        return self._file.read()

    def close(self) -> None:
        """End the connection."""
        self._file.close()
        self.socket.close()


def cuts(data: bytes, how: int | None) -> Iterator[bytes]:
    """data in pieces. how: bytes of each; 0 for all of it at once; a negative seed for random ones."""
    if not how:
        yield data
        return
    chance = random.Random(how)
    start = 0
    while start < len(data):
        size = how if how > 0 else chance.choice((1, 1, 2, 3, 7, 30, 400))
        yield data[start : start + size]
        start += size


def put(directory: Path, name: str, content: bytes = b"", mtime: float = NOW) -> Path:
    """A file with a time, in seconds since the epoch."""
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, ns=(round(mtime * 1000) * 1_000_000,) * 2)
    return path


def tree(directory: Path) -> dict[str, tuple[bytes, int]]:
    """(content, whole seconds) of each file below a directory."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {
        path.relative_to(directory).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns // 10**9)
        for path in files
    }
