"""An FTP server in this process, on a directory (PyPI: pyftpdlib)."""

from __future__ import annotations

import threading
from pathlib import Path

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.ioloop import IOLoop
from pyftpdlib.servers import FTPServer

from tests.support.ports import LOOPBACK
from tests.support.waiting import PATIENCE

USER, PASSWORD = "me", "secret"


class FTP:
    """A server from construction to close(). url: of its top."""

    def __init__(self, directory: Path) -> None:
        authorizer = DummyAuthorizer()
        authorizer.add_user(USER, PASSWORD, str(directory), perm="elradfmwMT")
        handler = type("Handler", (FTPHandler,), {"authorizer": authorizer})
        self._loop = IOLoop()
        self._server = FTPServer((LOOPBACK, 0), handler, ioloop=self._loop)
        self.url = f"ftp://{LOOPBACK}:{self._server.address[1]}/"
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while not self._ends.is_set():
            self._loop.loop(timeout=0.02, blocking=False)
        self._server.close_all()

    def close(self) -> None:
        self._ends.set()
        self._thread.join(PATIENCE)
