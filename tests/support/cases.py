"""Base classes for test cases: each test has its own directory, and a way to end what hangs."""

from __future__ import annotations

import shutil
import tempfile
import threading
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from pysftpserver.storage import SFTPServerStorage
from tests.support.packets import Client
from tests.support.paths import IN_MEMORY
from tests.support.waiting import PATIENCE


class InAPlace(unittest.TestCase):
    """Each test has its own empty directory, self.place, made in made_in."""

    made_in: ClassVar[str | None] = None

    def setUp(self) -> None:
        super().setUp()
        self.place = Path(tempfile.mkdtemp(prefix="pysftpserver-", dir=self.made_in))
        self.addCleanup(shutil.rmtree, self.place)

    def unless_over(self, act: Callable[[], Any], seconds: float = 3 * PATIENCE) -> None:
        """Call act if the test takes this long: it has to end what a hanging system call waits for."""
        watchdog = threading.Timer(seconds, act)
        watchdog.daemon = True
        watchdog.start()
        self.addCleanup(watchdog.cancel)


class InADirectory(InAPlace):
    """A plain storage on an empty directory, self.root."""

    made_in = IN_MEMORY

    def setUp(self) -> None:
        super().setUp()
        self.root = self.place

    def storage(self) -> SFTPServerStorage:
        return SFTPServerStorage(self.root)

    def client(self, **options: Any) -> Client:
        client = Client(self.storage(), **options)
        self.addCleanup(client.server.close)
        return client


class OnFiles(InADirectory):
    """InADirectory with the file f, the directory d and the link l, and self.client."""

    client: Client  # type: ignore[assignment]

    def setUp(self) -> None:
        super().setUp()
        (self.root / "f").write_bytes(b"0123456789")
        (self.root / "d").mkdir()
        (self.root / "l").symlink_to("f")
        self.client = super().client()
