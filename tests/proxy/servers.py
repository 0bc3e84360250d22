"""Servers to put behind the proxy: OpenSSH's, without ssh in between, and one that a test plays itself."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from pysftpserver.proxystorage import SFTPServerProxyStorage
from tests.differential.compare import sftp_server
from tests.support.cases import InAPlace


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
