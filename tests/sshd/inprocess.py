"""A server in this process, whose users and storages a test makes, and raw SFTP to it by asyncssh."""

from __future__ import annotations

import asyncio
import functools
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncssh

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.engine.log import DEBUG1, SFTPLog
from pysftpserver.people.updating import UserDirectory
from pysftpserver.people.users import User
from pysftpserver.service.serving import listen
from pysftpserver.sshd.config import ServerSettings
from pysftpserver.sshd.greeting import Greeting
from pysftpserver.sshd.server import Server
from tests.support.waiting import PATIENCE

HOST = "127.0.0.1"
HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")
KEY = asyncssh.generate_private_key("ssh-ed25519")
OTHER_KEY = asyncssh.generate_private_key("ssh-ed25519")
CHEAP = "aes128-gcm@openssh.com"  # of two ends in Python, much of the processor time is the cipher's
LIMIT = 3 * PATIENCE  # seconds for one test


class Users(UserDirectory):
    """Users in memory, as a test changes them."""

    def __init__(self, *users: User) -> None:
        super().__init__(SFTPLog())
        self.by_name = {user.name: user for user in users}
        self.asked: list[str] = []

    async def start(self, on_change: Callable[[str], None]) -> None:
        self.on_change = on_change

    def find(self, name: str) -> User | None:
        self.asked.append(name)
        return self.by_name.get(name)

    def put(self, user: User) -> None:
        self.by_name[user.name] = user
        self.on_change(user.name)


def user(name: str, *keys: asyncssh.SSHKey, is_active: bool = True) -> User:
    """A user with these keys, or with KEY."""
    return User(name, name, name, is_active, frozenset(key.public_data for key in keys or (KEY,)))


class Running:
    """server: what runs; users: its directory; lines: its log."""

    def __init__(self, server: Server, users: Users, port: int, lines: list[str]) -> None:
        self.server = server
        self.users = users
        self.port = port
        self.lines = lines

    async def connect(self, name: str = "alice", key: asyncssh.SSHKey = KEY, **more: Any) -> Any:
        """Log in."""
        return await asyncssh.connect(
            HOST,
            self.port,
            username=name,
            known_hosts=None,
            agent_path=None,
            config=None,
            **{"client_keys": [key], "encryption_algs": [CHEAP], **more},
        )


@asynccontextmanager
async def running(
    storage_of: Callable[[User], SFTPAbstractServerStorage],
    *users: User,
    options: dict[str, str | bool] | None = None,
    directory: UserDirectory | None = None,
) -> AsyncIterator[Running]:
    """Serve users (alice, if none are named), or those of a directory."""
    lines: list[str] = []
    known = Users(*(users or (user("alice"),)))
    log = SFTPLog(lambda level, text: lines.append(text), DEBUG1 - 1)
    given = {"drain_seconds": "0", **(options or {})}
    table = ServerSettings.table()
    values = {name: table[name].kind.parse(str(value)) for name, value in given.items()}
    greeting = Greeting((HOST_KEY,))
    server = Server(ServerSettings(**values), directory or known, greeting, storage_of, log)
    listening = listen(HOST, 0)
    port = listening.getsockname()[1]
    await server.start([listening])
    try:
        yield Running(server, known, port, lines)
    finally:
        await server.stop()


class Raw:
    """One SFTP channel, packet by packet."""

    def __init__(self, writer: Any, reader: Any) -> None:
        self.writer = writer
        self.reader = reader

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def packet(self) -> bytes:
        """The next packet, with its length."""
        head = await self.reader.readexactly(4)
        return head + await self.reader.readexactly(struct.unpack(">I", head)[0])

    async def packets(self, count: int) -> bytes:
        return b"".join([await self.packet() for _ in range(count)])

    async def rest(self) -> bytes:
        """All that comes before the end."""
        return await self.reader.read()


async def raw(connection: Any, **more: Any) -> Raw:
    """Open an SFTP channel on a connection."""
    writer, reader, _ = await connection.open_session(subsystem="sftp", encoding=None, **more)
    return Raw(writer, reader)


def asynchronous(test: Callable[[Any], Awaitable[None]]) -> Callable[[Any], None]:
    """Run a coroutine as a test. IsolatedAsyncioTestCase would use asyncio's debug mode, which is slow."""

    @functools.wraps(test)
    def run(case: Any) -> None:
        async def limited() -> None:
            await asyncio.wait_for(test(case), LIMIT)

        asyncio.run(limited())

    return run
