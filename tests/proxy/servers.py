"""Servers to put behind the proxy: OpenSSH's, without ssh in between, and one that a test plays itself."""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from pysftpserver.engine.wire import SSH2_FXP_REALPATH
from pysftpserver.proxystorage import SFTPServerProxyStorage
from pysftpserver.storages.sftp.connection import Connection
from tests.differential.compare import sftp_server
from tests.support.cases import InAPlace
from tests.support.packets import string, u32
from tests.support.waiting import PATIENCE


class BehindTheProxy(InAPlace):
    """A proxy in front of OpenSSH's server, whose sessions start in self.root.

    A script stands in for ssh, because a login would take most of the time. options: of sftp-server.
    """

    options: Sequence[str] = ()

    def setUp(self) -> None:
        super().setUp()
        self.root = self.place / "root"
        self.root.mkdir()

    def server(self) -> list[str]:
        """The command line of the server behind."""
        return [sftp_server(), "-d", str(self.root), *self.options]

    def program(self) -> str:
        """A program that takes the place of ssh."""
        return script(self.place / "ssh", f"exec {shlex.join(self.server())}")

    def open_storage(self, **options: object) -> SFTPServerProxyStorage:
        """A proxy that is connected to a server of its own."""
        storage = SFTPServerProxyStorage("server", program=self.program(), **options)  # type: ignore[arg-type]
        storage.connect()
        self.addCleanup(storage.close_client)
        return storage


def script(path: Path, text: str) -> str:
    """Write a program for a POSIX shell; return its path."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return os.fspath(path)


Answer = Callable[[int, bytes, bytes], "list[bytes] | None"]


class Peer:
    """A server that a test plays, in a thread, for a storage on two pipes.

    answer: called with the type, the id and the body of each request after the first ones; it returns packets
    to send, raw, and None to hang up. Usual requests at the beginning are answered here.
    """

    def __init__(self, answer: Answer, extensions: bytes = b"", timeout: float = PATIENCE) -> None:
        self._answer = answer
        self._extensions = extensions
        self._in, writing = os.pipe()
        reading, self._out = os.pipe()
        self._ours = [reading, writing]
        for descriptor in self._ours:
            os.set_blocking(descriptor, False)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.storage = SFTPServerProxyStorage("peer", timeout=timeout)
        self.storage.use(Connection(reading, writing, PATIENCE))

    def close(self) -> None:
        self.storage.close_client()
        for descriptor in self._ours:
            os.close(descriptor)
        self._thread.join(PATIENCE)

    def _serve(self) -> None:
        with open(self._in, "rb") as requests, open(self._out, "wb", buffering=0) as replies:
            answered = self._hello
            while True:
                head = requests.read(4)
                packet = requests.read(int.from_bytes(head, "big")) if len(head) == 4 else b""
                if not packet:
                    return
                try:
                    sent = answered(packet[0], packet[1:5], packet[5:])
                    for reply in sent or ():
                        replies.write(reply)
                except OSError:
                    return  # the storage has hung up
                if sent is None:
                    return
                if packet[0] == SSH2_FXP_REALPATH:
                    answered = self._answer

    def _hello(self, kind: int, number: bytes, body: bytes) -> list[bytes]:
        if kind == 1:
            return [framed(b"\2\0\0\0\3" + self._extensions)]
        return [name_of(number, b"/")]


def framed(packet: bytes) -> bytes:
    """A packet with its length."""
    return u32(len(packet)) + packet


def reply(kind: int, number: bytes, *parts: bytes) -> bytes:
    """A reply of this type to the request with this id."""
    return framed(bytes((kind,)) + number + b"".join(parts))


def name_of(number: bytes, path: bytes) -> bytes:
    """What REALPATH is answered with."""
    return reply(104, number, u32(1), string(path), string(path), u32(0))
