"""The storage on another SFTP server keeps the storage contract, at the server's top and below a root."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import ClassVar

from pysftpserver.contract.names import NameRules
from pysftpserver.contract.tree import TreeRules
from pysftpserver.proxystorage import SFTPServerProxyStorage
from pysftpserver.storages.sftp.connection import Connection, ConnectionLost
from pysftpserver.storages.sftp.process import SSH
from pysftpserver.testing import StorageContract
from tests.differential.compare import sftp_server
from tests.proxy.servers import BehindTheProxy
from tests.support.cases import InAPlace
from tests.support.hard import MANY
from tests.support.paths import IN_MEMORY
from tests.support.rules import daily
from tests.support.waiting import PATIENCE


class OneServer(InAPlace):
    """All tests of a class say hello to one server, which takes less time than one for each."""

    server: ClassVar[SSH]
    connection: ClassVar[Connection]

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.start()

    @classmethod
    def start(cls) -> None:
        cls.server = server = SSH([sftp_server()], None)
        cls.addClassCleanup(server.end)
        cls.connection = Connection(server.reading, server.writing, PATIENCE)
        cls.addClassCleanup(cls.connection.close)


class ProxyKeepsTheContract(StorageContract, OneServer):
    many = MANY
    unsupported = frozenset({"nlink"})

    def make_storage(self) -> SFTPServerProxyStorage:
        storage = SFTPServerProxyStorage("server")
        storage.use(self.connection)
        storage.home = os.fsencode(self.place)
        return storage

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """The server behind is killed, and then there is another one."""
        os.kill(self.server.pid, signal.SIGKILL)
        yield
        self.start()
        assert isinstance(self.storage, SFTPServerProxyStorage)
        home = self.storage.home
        self.storage.use(self.connection)
        self.storage.home = home


@daily("names", "paths", "tree", "links", "renames", also=(TreeRules, NameRules))
class BelowARoot(StorageContract, OneServer):
    """The rules for paths: a root changes these."""

    many = MANY

    made_in = IN_MEMORY
    unsupported = frozenset({"nlink"})
    test_realpath_up_from_link = None  # type: ignore[assignment]  # `..` is resolved by the text below a root

    def make_storage(self) -> SFTPServerProxyStorage:
        storage = SFTPServerProxyStorage("server", root=os.fsencode(self.place))
        storage.use(self.connection)
        return storage


class ConnectedAgain(BehindTheProxy):
    def test_a_handle_of_the_connection_before_is_not_taken_for_one_of_the_new(self) -> None:
        for name in ("old", "new"):
            (self.root / name).write_text(name)
        storage = self.open_storage()
        old = storage.open(b"old", os.O_RDWR, 0o666)
        storage.connect()
        new = storage.open(b"new", os.O_RDWR, 0o666)
        self.assertEqual(new.name, old.name)
        for use in (
            lambda: storage.read(old, 0, 9),
            lambda: storage.promise_write(old, 0, b"overwritten"),
            lambda: storage.close(old),
        ):
            self.assertRaises(ConnectionLost, use)
        storage.abandon(old)
        self.assertEqual(bytes(storage.read(new, 0, 9)), b"new")
        storage.close(new)
