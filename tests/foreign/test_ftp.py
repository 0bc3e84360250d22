"""The storage on fsspec over FTP, with a server that others wrote."""

from __future__ import annotations

import importlib.util
import os

from pysftpserver.fsspecstorage import SFTPServerFsspecStorage
from pysftpserver.pysftpexceptions import SFTPNotFound, SFTPUnavailable, SFTPUnsupported
from tests.support.cases import InAPlace

NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
BIG = os.urandom(6 << 20)  # bytes; more than fsspec sends at once


def setUpModule() -> None:
    if importlib.util.find_spec("pyftpdlib") is None:
        raise RuntimeError("these tests need pyftpdlib: pip install pyftpdlib")


class OverFTP(InAPlace):
    def setUp(self) -> None:
        from tests.foreign.ftp import FTP, PASSWORD, USER

        super().setUp()
        self.top = self.place / "top"
        self.top.mkdir()
        self.server = FTP(self.top)
        self.addCleanup(self.server.close)
        self.storage = SFTPServerFsspecStorage(self.server.url, username=USER, password=PASSWORD)

    def put(self, path: bytes, content: bytes, flags: int = NEW) -> None:
        handle = self.storage.open(path, flags, 0o666)
        for off in range(0, len(content), 1 << 20):
            self.storage.write(handle, off, content[off : off + (1 << 20)])
        self.storage.close(handle)

    def test_files_appear_whole_and_are_read_replaced_moved_and_removed(self) -> None:
        (self.top / "f").write_bytes(b"old")
        handle = self.storage.open(b"/f", NEW, 0o666)
        self.storage.write(handle, 0, BIG)
        self.assertEqual((self.top / "f").read_bytes(), b"old")
        self.storage.abandon(handle)
        self.assertEqual(os.listdir(self.top), ["f"])
        self.storage.mkdir(b"/d", 0o777)
        self.put(b"/d/g", BIG)
        self.assertTrue((self.top / "d" / "g").read_bytes() == BIG)
        reader = self.storage.open(b"/d/g", os.O_RDONLY, 0)
        self.assertTrue(bytes(self.storage.read(reader, 5 << 20, 100)) == BIG[5 << 20 :][:100])
        self.storage.close(reader)
        self.storage.rename(b"/d/g", b"/f", True)
        self.assertTrue((self.top / "f").read_bytes() == BIG)
        self.storage.rename(b"/d", b"/e")
        self.assertEqual({name for name, _ in self.storage.opendir(b"/")} - {b".", b".."}, {b"e", b"f"})
        self.storage.rmdir(b"/e")
        self.storage.rm(b"/f")
        self.assertEqual(os.listdir(self.top), [])
        self.assertRaises(SFTPNotFound, self.storage.stat, b"/f")

    def test_what_fsspec_would_replace_in_place_of_appending_is_refused(self) -> None:
        (self.top / "f").write_bytes(b"old")
        for flags in (os.O_WRONLY | os.O_APPEND, os.O_WRONLY, os.O_RDWR):
            with self.assertRaises(SFTPUnsupported):
                self.put(b"/f", b"new", flags)
            self.assertEqual((self.top / "f").read_bytes(), b"old")

    def test_a_server_that_is_gone_is_away(self) -> None:
        self.storage.stat(b"/")
        self.server.close()
        self.assertRaises(SFTPUnavailable, self.storage.opendir, b"/")
