"""Rules for names and paths: names that a storage cannot store, the empty path, home."""

from __future__ import annotations

import os

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.base import NOT_FOUND, SENSELESS, ContractBase, needs
from pysftpserver.contract.packets import get_sftpname
from pysftpserver.contract.rules.names import NAMES


class NameRules(ContractBase):
    """Impossible names, the empty path, home."""

    @needs("open", "read", "close", "mkdir", "rename", "opendir")
    def test_a_name_that_the_storage_cannot_hold_is_refused_everywhere(self) -> None:
        self.assertEqual(self.unencodable - set(NAMES), set())
        self.storage.mkdir(self.path(b"d"), 0o777)
        file = self.file(b"d/file", b"content")
        for name in sorted(self.unencodable):
            with self.subTest(name=name):
                path = self.path(b"d/" + name)
                self.assert_refused(SENSELESS, "open", path, os.O_WRONLY | os.O_CREAT, 0o666)
                self.assert_refused(SENSELESS, "mkdir", path, 0o777)
                self.assert_refused(SENSELESS, "rename", file, path)
        self.assertEqual(self.names(self.path(b"d")), [b"file"])

    @needs("statvfs", "open", "mkdir", "write", "close")
    def test_a_name_longer_than_the_limit_is_a_senseless_request(self) -> None:
        limit = self.storage.statvfs(self.path(b"")).f_namemax
        self.put(self.path(b"x" * limit), b"")
        name = self.path(b"y" * (limit + 1))
        self.assert_refused(SENSELESS, "open", name, os.O_WRONLY | os.O_CREAT, 0o666)
        self.assert_refused(SENSELESS, "mkdir", name, 0o777)

    @needs("stat", "lstat", "setstat", "lsetstat", "open", "opendir", "mkdir", "rmdir", "rm")
    def test_nothing_has_an_empty_path(self) -> None:
        attrs = SFTPAttributes(permissions=0o600)
        for method, *arguments in (
            ("stat", b""),
            ("lstat", b""),
            ("setstat", b"", attrs),
            ("lsetstat", b"", attrs),
            ("open", b"", os.O_RDONLY, 0),
            ("open", b"", os.O_WRONLY | os.O_CREAT, 0o666),
            ("opendir", b""),
            ("mkdir", b"", 0o777),
            ("rmdir", b""),
            ("rm", b""),
        ):
            with self.subTest(method=method):
                self.assert_refused(NOT_FOUND, str(method), *arguments)

    @needs("rename", "symlink", "readlink", "link", "statvfs")
    def test_nothing_is_renamed_or_linked_from_or_to_an_empty_path(self) -> None:
        self.put(self.path(b"f"), b"")
        file, free = self.path(b"f"), self.path(b"free")
        for method, *arguments in (
            ("rename", b"", free),
            ("rename", file, b""),
            ("rename", b"", free, True),
            ("rename", file, b"", True),
            ("symlink", b"", b"f"),
            ("readlink", b""),
            ("link", b"", free),
            ("link", file, b""),
            ("statvfs", b""),
        ):
            with self.subTest(method=method, arguments=arguments):
                self.assert_refused(NOT_FOUND, str(method), *arguments)

    # --- realpath ---------------------------------------------------------------------------------

    def test_a_session_starts_at_home(self) -> None:
        home = self.storage.home
        expected = b"/" if home is None else self.storage.realpath(home)
        for path in (b".", b""):
            self.assertEqual(get_sftpname(self.client.call("realpath", path)), expected)
        self.assertTrue(home is None or home.startswith(b"/"), "home is an absolute path")
