"""Another SFTP server at a mount point: promised reads and writes pass through, and it can go away alone."""

from __future__ import annotations

import os

from pysftpserver.contract.packets import get_sftpdata, get_sftphandle, get_sftpstatus
from pysftpserver.mountedstorage import SFTPServerMountedStorage
from pysftpserver.proxystorage import SFTPServerProxyStorage
from pysftpserver.pysftpexceptions import SFTPUnavailable
from pysftpserver.storages.sftp.connection import Connection
from pysftpserver.storages.sftp.process import SSH
from pysftpserver.testing import SFTPTestClient
from tests.differential.compare import sftp_server
from tests.mounted.test_tree import WRITE, Trees
from tests.support.waiting import PATIENCE


class BehindAMount(Trees):
    def mounted(self) -> SFTPServerMountedStorage:
        self.server = SSH([sftp_server()], None)
        self.addCleanup(self.server.end)
        self.connection = Connection(self.server.reading, self.server.writing, PATIENCE)
        self.addCleanup(self.connection.close)
        self.proxy = SFTPServerProxyStorage("server", root=os.fsencode(self.place / "archive"))
        self.proxy.use(self.connection)
        return SFTPServerMountedStorage(self.jail("top"), {b"/far": self.proxy})

    def test_content_is_promised_and_copied_behind_it(self) -> None:
        promised: list[str] = []
        for name in ("promise_read", "promise_write", "copy_range"):
            self.count(name, promised)
        client = SFTPTestClient(self.tree)
        self.addCleanup(client.close)
        content = os.urandom(100_000)
        handle = get_sftphandle(client.call("open", b"/far/f", WRITE, 0o666))
        self.assertEqual(get_sftpstatus(client.call("write", handle, 0, content)), 0)
        self.assertEqual(get_sftpstatus(client.call("close", handle)), 0)
        self.assertEqual((self.place / "archive/f").read_bytes(), content)
        source = get_sftphandle(client.call("open", b"/far/f", os.O_RDONLY, 0))
        self.assertEqual(get_sftpdata(client.call("read", source, 10, 1000)), content[10:1010])
        for path in (b"/far/copy", b"/copy"):
            target = get_sftphandle(client.call("open", path, WRITE, 0o666))
            body = b"".join(len(part).to_bytes(4, "big") + part for part in (b"copy-data", source))
            body += bytes(16) + len(target).to_bytes(4, "big") + target + bytes(8)
            self.assertEqual(get_sftpstatus(client.ask(200, body)), 0)
            self.assertEqual(get_sftpstatus(client.call("close", target)), 0)
        for copy in ("archive/copy", "top/copy"):
            self.assertEqual((self.place / copy).read_bytes(), content)
        self.assertLessEqual({"promise_read", "promise_write", "copy_range"}, set(promised))

    def count(self, name: str, called: list[str]) -> None:
        method = getattr(self.proxy, name)

        def counted(*arguments: object) -> object:
            called.append(name)
            return method(*arguments)

        setattr(self.proxy, name, counted)

    def test_a_server_that_is_gone_leaves_the_rest(self) -> None:
        self.fill("archive/f", "top/g")
        self.assertEqual(self.content(b"/far/f"), b"archive/f")
        self.server.end()
        for path in (b"/far/f", b"/far/f"):
            with self.assertRaises(SFTPUnavailable):
                self.tree.stat(path)
        self.assertEqual(self.content(b"/g"), b"top/g")
        self.assertEqual(self.listed(b"/"), [b"far", b"g"])
