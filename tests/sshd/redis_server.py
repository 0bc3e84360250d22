"""A real redis-server on a free port of loopback, which a test may kill and start again on the same port."""

from __future__ import annotations

import shutil
import tempfile
import unittest
from pathlib import Path
from typing import Any

import redis

from pysftpserver.people.redis_records import RedisAddress
from tests.support.ports import free_port
from tests.support.processes import Program
from tests.support.waiting import until

HOST = "127.0.0.1"
DATABASE = 1


def redis_program() -> str:
    """The server's path. Raises RuntimeError, naming the Debian package, where it is missing."""
    found = shutil.which("redis-server")
    if found is None:
        raise RuntimeError("these tests need the program 'redis-server': apt-get install redis-server")
    return found


class RedisServer:
    """One redis-server that keeps nothing on disk. options: of redis.conf, as words of its command line."""

    def __init__(self, *options: str, password: str | None = None) -> None:
        self.options = [*options, *(["--requirepass", password] if password else [])]
        self.password = password
        self.port = 0
        self._directory = tempfile.mkdtemp(prefix="pysftpserver-redis-")
        self._process: Program | None = None

    def start(self) -> None:
        """Start it, on the port it had before, and return when it answers."""
        log = Path(self._directory, "log")
        # Another program may have the port, if only for a connection of its own.
        self.port = until(lambda: self._started(self.port or free_port(), log), lambda: log.read_text())

    def _started(self, port: int, log: Path) -> int:
        """Start it on a port; 0 if it cannot have that."""
        self._process = process = Program(
            [redis_program(), "--bind", HOST, "--port", str(port), "--save", "", "--appendonly", "no"]
            + ["--dir", self._directory, *self.options],
            log,
        )

        def is_there() -> bool:  # what answers at the port may be another one
            return process.poll() is not None or "Ready to accept connections" in process.output()

        until(is_there, lambda: f"redis-server is neither ready nor ended: {process.output()}")
        return port if process.poll() is None else 0

    def kill(self) -> None:
        """End it at once, without a word to its clients; its data is gone."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def stop(self) -> None:
        """End it, and remove its directory."""
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def client(self, db: int = DATABASE, **options: Any) -> redis.Redis:
        """What other people's programs would use."""
        return redis.Redis(HOST, self.port, db, self.password, decode_responses=True, **options)

    def address(self, **fields: Any) -> RedisAddress:
        return RedisAddress(
            **{"host": HOST, "port": self.port, "db": DATABASE, "password": self.password, **fields}
        )


class RedisCase(unittest.TestCase):
    """One server for the class, and an empty database for each test. self.r: another program's client."""

    server: RedisServer

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.server = RedisServer()
        cls.addClassCleanup(cls.server.stop)
        cls.server.start()

    def setUp(self) -> None:
        super().setUp()
        self.r = self.server.client()
        self.addCleanup(self.r.close)
        self.r.flushall()

    def put_user(self, id: Any, name: str, *keys: str, **fields: str) -> None:
        """A user as people write one, without a message; folder=...: with one."""
        put_user(self.r, id, name, *keys, **fields)


def put_user(r: redis.Redis, id: Any, name: str, *keys: str, **fields: str) -> None:
    r.sadd("solt.sftp.users", id)
    r.hset(f"solt.sftp.user.{id}", mapping={"name": name, "active": "True", **fields})
    if keys:
        r.sadd(f"solt.sftp.user.{id}.keys", *keys)
