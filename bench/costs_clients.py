"""Clients for measuring what servers use: each sends one request at a time, or as many bytes as it can.

The clients' own costs are not measured, so they are as simple as their protocol allows. What may not enter:
servers.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import os
from collections.abc import Sequence
from typing import Protocol

from bench import drivers
from pysftpserver.engine import wire
from pysftpserver.remo.client import Client
from pysftpserver.testing import sftpcmd, sftpint, sftpint64, sftpstring

SMALL = os.urandom(16 << 10)  # the content of a small file
BLOCK = os.urandom(32 << 10)  # the content of one READ or WRITE
HOST = "127.0.0.1"
AT_ONCE = 64  # blocks in flight before a client waits, as in OpenSSH's sftp
ASK, REPLACE = wire.SSH2_FXF_READ, wire.SSH2_FXF_WRITE | wire.SSH2_FXF_CREAT | wire.SSH2_FXF_TRUNC


class Session(Protocol):
    """One user's session at any door. Names are of files in the user's folder."""

    def look(self, name: str) -> None:
        """One request that changes nothing, and its reply."""

    def put(self, name: str, content: bytes) -> None:
        """Store a small file."""

    def get(self, name: str) -> None:
        """Fetch a small file."""

    def up(self, name: str, blocks: int) -> None:
        """Store a file of `blocks` blocks."""

    def down(self, name: str, blocks: int) -> None:
        """Fetch a file of `blocks` blocks."""

    def close(self) -> None:
        """End the session, and wait for the processes that this client has started."""


class SFTP(drivers.RawSession):
    """SFTP over a program's standard input and output: ssh, or the server itself.

    prefix: of all paths.
    """

    def __init__(self, argv: Sequence[str], prefix: str = "/") -> None:
        super().__init__(argv)
        self._prefix = prefix

    def _ask(self, packet: bytes) -> bytes:
        self.socket.sendall(packet)
        return self.packet()

    def _path(self, name: str) -> bytes:
        return sftpstring(os.fsencode(self._prefix + name))

    def _open(self, name: str, flags: int) -> bytes:
        reply = self._ask(sftpcmd(wire.SSH2_FXP_OPEN, self._path(name), sftpint(flags), sftpint(0)))
        if reply[0] != wire.SSH2_FXP_HANDLE:
            raise RuntimeError(f"{name} cannot be opened: {reply[9:]!r}")
        return sftpstring(reply[9:])

    def _expect_ok(self, reply: bytes) -> int:
        """The length of a reply that must be STATUS OK."""
        if reply[0] != wire.SSH2_FXP_STATUS or int.from_bytes(reply[5:9], "big"):
            raise RuntimeError(f"a request was refused: {reply!r}")
        return len(reply) + 4

    def look(self, name: str) -> None:
        if self._ask(sftpcmd(wire.SSH2_FXP_STAT, self._path(name)))[0] != wire.SSH2_FXP_ATTRS:
            raise RuntimeError(f"{name} is not there")

    def put(self, name: str, content: bytes) -> None:
        handle = self._open(name, REPLACE)
        self._expect_ok(self._ask(_write(handle, 0, content)))
        self._expect_ok(self._ask(sftpcmd(wire.SSH2_FXP_CLOSE, handle)))

    def get(self, name: str) -> None:
        handle = self._open(name, ASK)
        if len(self._ask(_read(handle, 0, len(SMALL)))) != 9 + len(SMALL):
            raise RuntimeError(f"{name} has another size")
        self._ask(_read(handle, len(SMALL), len(SMALL)))  # EOF, which clients ask for
        self._expect_ok(self._ask(sftpcmd(wire.SSH2_FXP_CLOSE, handle)))

    def up(self, name: str, blocks: int) -> None:
        handle = self._open(name, REPLACE)
        length = self._expect_ok(self._ask(_write(handle, 0, BLOCK)))
        for start in range(1, blocks, AT_ONCE):
            several = range(start, min(start + AT_ONCE, blocks))
            requests = b"".join(_write(handle, number * len(BLOCK), BLOCK) for number in several)
            self.exchange(requests, length * len(several))
        self._expect_ok(self._ask(sftpcmd(wire.SSH2_FXP_CLOSE, handle)))

    def down(self, name: str, blocks: int) -> None:
        handle = self._open(name, ASK)
        for start in range(0, blocks, AT_ONCE):
            several = range(start, min(start + AT_ONCE, blocks))
            requests = b"".join(_read(handle, number * len(BLOCK), len(BLOCK)) for number in several)
            self.exchange(requests, (13 + len(BLOCK)) * len(several))
        self._expect_ok(self._ask(sftpcmd(wire.SSH2_FXP_CLOSE, handle)))

    def close(self) -> None:
        self.socket.close()
        self.process.wait()


def _write(handle: bytes, offset: int, content: bytes) -> bytes:
    return sftpcmd(wire.SSH2_FXP_WRITE, handle, sftpint64(offset), sftpstring(content))


def _read(handle: bytes, offset: int, count: int) -> bytes:
    return sftpcmd(wire.SSH2_FXP_READ, handle, sftpint64(offset), sftpint(count))


class WebDAV:
    """HTTP with a password on one connection."""

    def __init__(self, port: int, user: str, password: str) -> None:
        self._connection = http.client.HTTPConnection(HOST, port, timeout=60)
        given = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {given}"}
        self.look("")

    def _ask(self, method: str, name: str, body: bytes | None = None, **headers: str) -> bytes:
        self._connection.request(method, f"/dav/{name}", body, {**self._headers, **headers})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {name}: {answer.status}")
        return content

    def look(self, name: str) -> None:
        self._ask("PROPFIND", name, Depth="0")

    def put(self, name: str, content: bytes) -> None:
        self._ask("PUT", name, content)

    def get(self, name: str) -> None:
        self._ask("GET", name)

    def up(self, name: str, blocks: int) -> None:
        self._ask("PUT", name, BLOCK * blocks)

    def down(self, name: str, blocks: int) -> None:
        if len(self._ask("GET", name)) != blocks * len(BLOCK):
            raise RuntimeError(f"{name} has another size")

    def close(self) -> None:
        self._connection.close()


class Remo:
    """Remote administration. place: the directory with the files."""

    def __init__(self, client: Client, place: str) -> None:
        self._client, self._place = client, place

    def look(self, name: str) -> None:
        self._client.info()

    def put(self, name: str, content: bytes) -> None:
        self._client.put(io.BytesIO(content), f"{self._place}/{name}", len(content))

    def get(self, name: str) -> None:
        self._client.read(f"{self._place}/{name}")

    def up(self, name: str, blocks: int) -> None:
        self.put(name, BLOCK * blocks)

    def down(self, name: str, blocks: int) -> None:
        self.get(name)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._client.close()
