"""What test cases of several files stand on: a directory of their own."""

from __future__ import annotations

import shutil
import tempfile
import unittest
from pathlib import Path
from typing import Any

from pysftpserver.storage import SFTPServerStorage
from tests.support.packets import Client
from tests.support.paths import IN_MEMORY


class InADirectory(unittest.TestCase):
    """A plain storage on an empty directory, self.root."""

    def setUp(self) -> None:
        super().setUp()
        self.root = Path(tempfile.mkdtemp(prefix="pysftpserver-server-", dir=IN_MEMORY))
        self.addCleanup(shutil.rmtree, self.root)

    def storage(self) -> SFTPServerStorage:
        return SFTPServerStorage(self.root)

    def client(self, **options: Any) -> Client:
        client = Client(self.storage(), **options)
        self.addCleanup(client.server.close)
        return client


class OnFiles(unittest.TestCase):
    """A plain storage on a directory with the file f, the directory d and the link l."""

    def setUp(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="pysftpserver-requests-", dir=IN_MEMORY))
        self.addCleanup(shutil.rmtree, self.root)
        (self.root / "f").write_bytes(b"0123456789")
        (self.root / "d").mkdir()
        (self.root / "l").symlink_to("f")
        self.client = Client(SFTPServerStorage(self.root))
        self.addCleanup(self.client.server.close)
