"""Rules for names and paths: which names work, realpath, the empty path, statvfs."""

from __future__ import annotations

import os

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.base import NOT_FOUND, SENSELESS, ContractBase, needs
from pysftpserver.contract.packets import get_sftpname

NAMES = (
    b"with space",
    b" leading and trailing ",
    b"new\nline",
    b"quote'and\"quote",
    b"back\\slash",
    b"-dash",
    b"...",
    b"~",
    b"~root",
    b"*?[a]",
    b"%s%n",
    b"\xc3\xa4\xe2\x82\xac",  # UTF-8
    b"\xff\xfe\x80",  # and what is not
    b"\x01\x7f\t\r",
    b"CON",
    b"x" * 255,
)


class NameRules(ContractBase):
    """Names, realpath, the empty path, statvfs and fstatvfs."""

    def possible_names(self) -> list[bytes]:
        """NAMES without those that the storage declares as unencodable."""
        return [name for name in NAMES if name not in self.unencodable]

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

    @needs("open", "read", "close")
    def test_every_name_is_possible(self) -> None:
        for name in self.possible_names():
            with self.subTest(name=name):
                self.put(self.path(name), name)
                self.assertEqual(self.content(self.path(name)), name)

    @needs("open", "read", "close", "mkdir", "opendir", "rename", "rm", "lstat")
    def test_every_name_can_be_listed_renamed_and_removed(self) -> None:
        top = self.path(b"names")
        self.storage.mkdir(top, 0o777)
        for name in self.possible_names():
            self.put(top + b"/" + name, b"")
        self.assertEqual(self.names(top), sorted(self.possible_names()))
        for name in self.possible_names():
            with self.subTest(name=name):
                self.storage.rename(top + b"/" + name, top + b"/tmp")
                self.storage.rename(top + b"/tmp", top + b"/" + name)
                self.storage.rm(top + b"/" + name)
        self.assertEqual(self.names(top), [])

    @needs("open", "close", "opendir", "mkdir")
    def test_names_that_differ_in_case_or_form_are_different_names(self) -> None:
        top = self.path(b"names")
        self.storage.mkdir(top, 0o777)
        names = [b"a", b"A", b"\xc3\xa4", b"a\xcc\x88", b"a ", b"a."]  # two forms of an umlaut among them
        for name in names:
            self.put(top + b"/" + name, b"")
        self.assertEqual(self.names(top), sorted(names))

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

    def test_realpath_is_absolute_and_free_of_dots(self) -> None:
        self.put(self.path(b"f"), b"")
        top = self.storage.realpath(self.path(b"") or b".")
        prefix = top.rstrip(b"/") + b"/"
        self.assertTrue(top.startswith(b"/"), top)
        for given, expected in (
            (b"f", prefix + b"f"),
            (b"./f", prefix + b"f"),
            (b".//./f", prefix + b"f"),
            (b".", top),
            (b"./", top),
            (b"missing", prefix + b"missing"),
            (b"\xff \n", prefix + b"\xff \n"),
        ):
            with self.subTest(given=given):
                self.assertEqual(self.storage.realpath(self.path(given)), expected)
                self.assertEqual(get_sftpname(self.client.call("realpath", self.path(given))), expected)

    def test_realpath_knows_no_way_above_the_top(self) -> None:
        for path in (b"/", b"//", b"/..", b"/../..", b"/./../.", b"/../"):
            self.assertEqual(self.storage.realpath(path), b"/", path)

    @needs("mkdir")
    def test_realpath_goes_up_again(self) -> None:
        self.storage.mkdir(self.path(b"d"), 0o777)
        top = self.storage.realpath(self.path(b"") or b".").rstrip(b"/")
        self.assertEqual(self.storage.realpath(self.path(b"d/../d/./")), top + b"/d")
        self.assertEqual(self.storage.realpath(self.path(b"d/../missing")), top + b"/missing")

    @needs("symlink", "mkdir", "stat")
    def test_realpath_resolves_links_as_stat_does(self) -> None:
        self.make({b"d": None, b"d/f": b"12345"})
        self.storage.symlink(self.path(b"to-f"), b"d/f")
        self.storage.symlink(self.path(b"to-d"), b"d")
        self.storage.symlink(self.path(b"d/back"), b"../to-f")
        expected = self.storage.realpath(self.path(b"d/f"))
        for name in (b"to-f", b"to-d/f", b"d/back", b"to-d/back", b"to-d/../to-f"):
            with self.subTest(name=name):
                real = self.storage.realpath(self.path(name))
                self.assertEqual(real, expected)
                self.assertEqual(self.storage.stat(real).size, 5)
                self.assertEqual(self.storage.realpath(real), real)

    def test_a_session_starts_at_home(self) -> None:
        home = self.storage.home
        expected = b"/" if home is None else self.storage.realpath(home)
        for path in (b".", b""):
            self.assertEqual(get_sftpname(self.client.call("realpath", path)), expected)
        self.assertTrue(home is None or home.startswith(b"/"), "home is an absolute path")

    # --- statvfs ----------------------------------------------------------------------------------

    @needs("statvfs", "fstatvfs", "open", "close")
    def test_the_figures_of_the_file_system_make_sense(self) -> None:
        self.put(self.path(b"f"), b"")
        figures = self.storage.statvfs(self.path(b"f"))
        self.assertGreater(figures.f_bsize, 0)
        self.assertGreater(figures.f_frsize, 0)
        self.assertGreaterEqual(figures.f_blocks, figures.f_bfree)
        self.assertGreaterEqual(figures.f_bfree, figures.f_bavail)
        self.assertGreaterEqual(figures.f_files, figures.f_ffree)
        self.assertGreater(figures.f_namemax, 0)
        same = self.storage.fstatvfs(self.opened(self.path(b"f"), os.O_RDONLY))
        for field in ("f_bsize", "f_frsize", "f_blocks", "f_namemax", "f_flag"):
            self.assertEqual(getattr(same, field), getattr(figures, field), field)

    @needs("statvfs")
    def test_what_is_not_there_is_on_no_file_system(self) -> None:
        self.assert_refused(NOT_FOUND, "statvfs", self.path(b"missing"))
