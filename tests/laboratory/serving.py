"""A Laboratory server in a thread, and clients of the old style, written from the protocol with sockets.

Nothing of the package's wire module is used here. Everything that is started is ended by the test case that
started it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import itertools
import socket
import threading
import unittest
from collections.abc import Iterator
from typing import Any
from unittest import mock

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from pysftpserver.engine.log import VERBOSE, SFTPLog
from pysftpserver.laboratory import client, keys
from pysftpserver.laboratory.config import options
from pysftpserver.laboratory.server import Server
from pysftpserver.laboratory.service import Service
from pysftpserver.laboratory.services.echo import Echo
from tests.support.lines import Lines
from tests.support.waiting import PATIENCE

HOST = "127.0.0.1"
PASSWORD = "correct horse"
_made = functools.cache(lambda number, make=keys.make: make())
_numbers = itertools.count()


def some_key() -> keys.ServerKey:
    """In place of keys.make(): one of a few keys, but not the one before."""
    return _made(next(_numbers) % 3)


class Served:
    """A server in a thread of its own. given: options."""

    def __init__(self, services: tuple[Service, ...], **given: Any) -> None:
        self._services = services
        self._options = options(**{"port": 0, "password": PASSWORD, "step_timeout": PATIENCE, **given})
        self.log = Lines()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        if not self._ready.wait(PATIENCE):
            raise AssertionError("the server does not start")

    async def _serve(self) -> None:
        self.server = Server(self._options, self._services, SFTPLog(self.log, VERBOSE))
        self.port = (await self.server.start())[0][1]
        self.loop = asyncio.get_running_loop()
        self._ready.set()
        await self.server.told.wait()
        await self.server.stop()

    def stop(self) -> None:
        """End it, in order."""
        if self._thread.is_alive():
            self.loop.call_soon_threadsafe(self.server.stop_wanted)
        self.join()

    def join(self) -> None:
        """Wait until it has ended."""
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            raise AssertionError("the server does not end")


class ServerCase(unittest.TestCase):
    """Servers and clients that are ended with the test. The RSA keys are not made anew for each server."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.enterClassContext(mock.patch.object(keys, "make", some_key))

    def serve(self, *services: Service, **given: Any) -> Served:
        served = Served(services or (Echo(),), **given)
        self.addCleanup(served.stop)
        return served

    def raw(self, served: Served, source: str = HOST) -> OldClient:
        """A client that has connected, and said nothing. source: its address."""
        client = OldClient(served.port, source=source)
        self.addCleanup(client.close)
        return client

    def old(self, served: Served, key: str = "", name: str = "old", source: str = HOST) -> OldClient:
        """A client that is accepted."""
        client = self.raw(served, source)
        client.introduce(key, PASSWORD, name)
        return client


class OldClient:
    """The protocol as it is written down, a step at a time."""

    def __init__(self, port: int, room: int | None = None, source: str = HOST) -> None:
        """room: bytes that the system keeps for it, about; None: as many as it likes."""
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        if room is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.socket.bind((source, 0))
        self.socket.connect((HOST, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.cipher: Fernet | None = None
        self._rest = b""

    def close(self) -> None:
        self.socket.close()

    # --- bytes --------------------------------------------------------------------------------------------

    def send_bytes(self, data: bytes) -> None:
        self.socket.sendall(data)

    def until(self, end: bytes) -> bytes:
        """All up to some end, without it; raises EOFError where the server ends before."""
        while end not in self._rest:
            try:
                piece = self.socket.recv(65536)
            except ConnectionResetError:
                piece = b""
            if not piece:
                raise EOFError(self._rest)
            self._rest += piece
        found, _, self._rest = self._rest.partition(end)
        return found

    def rest(self) -> bytes:
        """All until the server ends."""
        data = self._rest
        self._rest = b""
        try:
            while piece := self.socket.recv(65536):
                data += piece
        except ConnectionResetError:
            pass
        return data

    # --- the protocol -------------------------------------------------------------------------------------

    def pem(self) -> bytes:
        found = self.until(b"-----END RSA PUBLIC KEY-----\n")
        return found + b"-----END RSA PUBLIC KEY-----\n"

    def send_key(self, key: str) -> None:
        public = serialization.load_pem_public_key(self.pem())
        self.send_bytes(public.encrypt(key.encode(), padding.PKCS1v15()))  # type: ignore[union-attr,call-arg]
        self.cipher = cipher(key) if key else None

    def introduce(self, key: str, password: str, name: str) -> None:
        self.send_key(key)
        for question, answer in (("PASSWORD ?", password), ("NAME ?", name)):
            assert self.receive() == question
            self.send(answer)
        assert self.receive() == "ACCEPTED"

    def bytes_of(self, *texts: str) -> bytes:
        if self.cipher is None:
            return b"".join(text.encode() + b"\0" for text in texts)
        return b"".join(self.cipher.encrypt(text.encode() + b"\0") + b"\n" for text in texts)

    def send(self, *texts: str) -> None:
        self.send_bytes(self.bytes_of(*texts))

    def receive(self) -> str:
        if self.cipher is None:
            return self.until(b"\0").decode()
        text = self.cipher.decrypt(self.until(b"\n")).decode()
        assert text.endswith("\0") and text.count("\0") == 1
        return text[:-1]

    def ask(self, text: str) -> str:
        self.send(text)
        return self.receive()


def cipher(key: str) -> Fernet:
    """What the protocol makes of a symmetric key."""
    derived = HKDF(hashes.SHA256(), 32, salt=None, info=b"laboratory").derive(key.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


@contextlib.contextmanager
def noted() -> Iterator[list[client.AsyncConnection]]:
    """The connections that clients begin in the block, also those that do not come about."""
    found: list[client.AsyncConnection] = []

    class Noted(client.AsyncConnection):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            found.append(self)

    with mock.patch.object(client, "AsyncConnection", Noted):
        yield found


def is_awaited(what: str, connections: list[client.AsyncConnection]) -> bool:
    """Whether that is what the only connection waits for."""
    return any(one._line.is_made and one._awaited() == what for one in connections)


class ServiceCase(ServerCase):
    """Clients of the library that talk to a service."""

    def connect(self, served: Served, name: str = "ann") -> client.Connection:
        connection = client.connect(HOST, served.port, password=PASSWORD, name=name, timeout=PATIENCE)
        self.addCleanup(connection.close)
        return connection

    def ask(self, connection: client.Connection, text: str) -> str:
        connection.send(text)
        return connection.receive(PATIENCE)
