"""Our server in a thread, users and keys of a test's own, and clients of both kinds.

Everything that is started here is ended by the class or the test that started it.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
import threading
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from pysftpserver.http.server import Server
from pysftpserver.remo import client, config, crypto
from pysftpserver.remo.application import Application
from pysftpserver.remo.server import log
from pysftpserver.remo.users import Users
from pysftpserver.storage import SFTPServerStorage
from tests.remo import oldstyle
from tests.support.lines import Lines, logged
from tests.support.waiting import PATIENCE

HOST = "127.0.0.1"
USER, RSA_USER = "alice", "rudi"


@functools.cache
def server_key() -> Any:
    return crypto.new_key()


@functools.cache
def user_key() -> Any:
    return crypto.new_key()


@functools.cache
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def said_by(command: Callable[[bytes], bytes], wanted: bytes, said: bytes = b"") -> bytes:
    """What an interactive command says in the end, however slow it is to begin."""
    deadline = time.monotonic() + PATIENCE
    while len(said) < len(wanted) and time.monotonic() < deadline:
        said += command(b"")
    return said


class Served:
    """A server in threads of its own, with the users of this module. settings: by their
    names.
    """

    def __init__(self, place: Path, **settings: Any) -> None:
        base = str(place / "users.sqlite")
        users = Users(base)
        for name, key in ((USER, user_key()), (RSA_USER, rsa_key())):
            users.add(name, crypto.public_pem(key.public_key()).decode(), None)
        own = {"port": 0, "listen_address": HOST, "idle_timeout": 5.0, "threads": 8, "max_per_address": 200}
        self.values = config.ServerSettings(**{**own, **settings})
        self.application = Application(
            self.values, server_key(), users, lambda *_: SFTPServerStorage(str(place))
        )
        self._server = Server(self.values, self.application, "pysftpremo", log)
        self._server.expiration_interval = 0.05  # seconds until it sees that it is to stop
        self._server.prepare()
        self.port = int(self._server.bind_addr[1])
        self._thread = threading.Thread(target=self._server.serve, name="served", daemon=True)
        self._thread.start()

    @property
    def sessions(self) -> Any:
        return self.application.sessions

    def stop(self) -> None:
        self.application.close()
        self._server.stop()
        self._thread.join(PATIENCE)


class RemoCase(unittest.TestCase):
    """A directory of the class's own, and our server with `settings` on it."""

    settings: dict[str, Any] = {}
    place: Path
    served: Served
    log: Lines

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.place = Path(tempfile.mkdtemp(prefix="pysftpserver-remo-"))
        cls.addClassCleanup(shutil.rmtree, cls.place)
        cls.log = cls.enterClassContext(logged("pysftpserver.remo"))
        cls.served = Served(cls.place, **cls.settings)
        cls.addClassCleanup(cls.served.stop)

    def setUp(self) -> None:
        super().setUp()
        self.marks = self.place / f"marks-{self.id().rpartition('.')[2]}"

    @property
    def marking(self) -> str:
        """A command line that leaves a mark each time it runs, and says so."""
        return f"sh -c 'echo x >> {self.marks}; echo marked'"

    def runs(self) -> int:
        """How many times it ran."""
        return len(self.marks.read_text().splitlines()) if self.marks.exists() else 0

    def old(self, is_numbered: bool = False, port: int | None = None, **how: Any) -> oldstyle.Client:
        """An old-style client that is logged in."""
        key, user = how.pop("key", None), how.pop("user", USER)
        found = oldstyle.Client(port or self.served.port, is_numbered, **how)
        self.addCleanup(found.close)
        answer = found.log_in(user, key or user_key(), server_key().public_key())
        self.assertEqual(answer.status, 200)
        return found

    def connect(self, port: int | None = None, **how: Any) -> client.Client:
        """Our client, logged in."""
        given = {"user": USER, "key": user_key(), "server_key": server_key().public_key()}
        found = client.connect(HOST, port or self.served.port, **{**given, "timeout": PATIENCE, **how})
        self.addCleanup(found.close)
        return found

    def session(self, cookie: str) -> Any:
        """The server's session of an id, if it is not over."""
        return self.served.sessions.find(cookie, time.monotonic())
