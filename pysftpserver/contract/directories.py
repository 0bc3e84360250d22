"""Rules for directories: opendir, mkdir, rmdir."""

from __future__ import annotations

from itertools import islice

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.base import FAILED, NOT_FOUND, ContractBase, close, needs
from pysftpserver.contract.packets import get_sftpentries, get_sftphandle, get_sftpstatus
from pysftpserver.engine.wire import SSH2_FX_EOF, SSH2_FX_OK

MANY = 300  # entries with names of 100 bytes: more than one reply has room for


def without_atime(attrs: SFTPAttributes) -> SFTPAttributes:
    """The same but for atime, which reading a directory may change."""
    return SFTPAttributes(attrs.size, attrs.uid, attrs.gid, attrs.permissions, None, attrs.mtime, attrs.nlink)


class DirectoryRules(ContractBase):
    """opendir, mkdir, rmdir."""

    def make_directory(self, name: bytes, *files: bytes) -> bytes:
        """A new directory with empty files."""
        path = self.path(name)
        self.storage.mkdir(path, 0o755)
        for file in files:
            self.put(path + b"/" + file, b"")
        return path

    # --- opendir ----------------------------------------------------------------------------------

    @needs("opendir", "mkdir")
    def test_a_listing_has_every_name_once_and_the_two_dots(self) -> None:
        path = self.make_directory(b"d", b"one", b"two", b".hidden")
        names = [name for name, _ in self.listing(path)]
        self.assertEqual(sorted(names), [b".", b"..", b".hidden", b"one", b"two"])

    @needs("opendir", "mkdir")
    def test_an_empty_directory_holds_the_two_dots(self) -> None:
        path = self.make_directory(b"d")
        self.assertEqual(sorted(name for name, _ in self.listing(path)), [b".", b".."])

    @needs("opendir", "mkdir", "lstat")
    def test_the_attributes_of_entries_are_those_of_lstat(self) -> None:
        path = self.make_directory(b"d", b"file")
        self.make_directory(b"d/sub", b"x")
        if "symlink" not in self.unsupported:
            self.storage.symlink(path + b"/link", b"file")
            self.storage.symlink(path + b"/dangling", b"missing")
        for name, attrs in self.listing(path):
            with self.subTest(name=name):
                # `..` of a directory below the top is the top, whatever the path is called.
                where = {b".": path, b"..": self.path(b"d/sub/../..")}.get(name, path + b"/" + name)
                expected = without_atime(self.storage.lstat(where))
                if "nlink" in self.unsupported:
                    expected.nlink = attrs.nlink
                self.assertEqual(without_atime(attrs), expected)

    @needs("opendir")
    def test_what_is_no_directory_cannot_be_listed(self) -> None:
        self.put(self.path(b"f"), b"")
        # At once: the rules call opendir() and never ask for an entry.
        self.assert_refused(NOT_FOUND, "opendir", self.path(b"missing"))
        self.assert_refused(NOT_FOUND, "opendir", self.path(b"f"))

    @needs("opendir", "mkdir", "rm", "rmdir", "lstat")
    def test_a_listing_can_be_closed_before_its_end(self) -> None:
        path = self.make_directory(b"d", *(b"%d" % number for number in range(8)))
        for taken in (0, 1, 3, 10):
            entries = self.storage.opendir(path)
            self.assertEqual(len(list(islice(entries, taken))), taken)
            close(entries)
            close(entries)  # twice is once
        for number in range(8):
            self.storage.rm(path + b"/%d" % number)
        self.storage.rmdir(path)
        self.assertFalse(self.exists(path))

    @needs("opendir", "mkdir")
    def test_listings_are_independent(self) -> None:
        path = self.make_directory(b"d", b"one", b"two")
        first, second = self.storage.opendir(path), self.storage.opendir(path)
        next(first)
        self.assertEqual(len(list(second)), 4)
        self.assertEqual(len(list(first)), 3)
        close(first)
        close(second)

    @needs("opendir", "mkdir", "rm")
    def test_a_listing_goes_on_while_the_directory_changes(self) -> None:
        path = self.make_directory(
            b"d", *(b"stays-%d" % n for n in range(8)), *(b"goes-%d" % n for n in range(8))
        )
        entries = self.storage.opendir(path)
        got = [next(entries)[0]]
        for number in range(8):
            self.storage.rm(path + b"/goes-%d" % number)
            self.put(path + b"/new-%d" % number, b"")
        got += [name for name, _ in entries]
        close(entries)
        self.assertEqual(len(got), len(set(got)), "a name came twice")
        self.assertLessEqual({b"stays-%d" % number for number in range(8)}, set(got))

    @needs("opendir", "mkdir")
    def test_a_client_gets_all_of_a_large_directory_and_then_the_end(self) -> None:
        path = self.make_directory(b"d")
        self.fill(path, [b"%0100d" % number for number in range(MANY)])
        handle = get_sftphandle(self.client.call("opendir", path))
        names: list[bytes] = []
        replies = 0
        while True:
            reply = self.client.call("readdir", handle)
            if reply[4] == 101:
                break
            replies += 1
            names += [name for name, _, _ in get_sftpentries(reply)]
        self.assertEqual(get_sftpstatus(reply), SSH2_FX_EOF)
        self.assertEqual(get_sftpstatus(self.client.call("readdir", handle)), SSH2_FX_EOF)
        self.assertEqual(sorted(names), [*sorted([b".", b".."] + [b"%0100d" % n for n in range(MANY)])])
        self.assertGreater(replies, 1)
        self.assertEqual(get_sftpstatus(self.client.call("close", handle)), SSH2_FX_OK)

    @needs("opendir", "mkdir")
    def test_a_listing_of_thousands_has_every_entry_once(self) -> None:
        path = self.make_directory(b"d")
        expected = [b"%08d" % number for number in range(self.many)]
        self.fill(path, expected)
        names = [name for name, _ in self.listing(path)]
        self.assertEqual(len(names), self.many + 2)
        self.assertEqual(sorted(names), [b".", b"..", *expected])
        first, second = self.storage.opendir(path), self.storage.opendir(path)
        self.assertEqual(len(list(islice(first, self.many // 2))), self.many // 2)
        close(first)  # half-way, and others go on
        self.assertEqual(len(list(second)), self.many + 2)
        close(second)

    @needs("opendir", "mkdir", "symlink")
    def test_a_link_to_a_directory_is_listed_as_that_directory(self) -> None:
        self.make_directory(b"d", b"inside")
        self.storage.symlink(self.path(b"link"), b"d")
        self.assertEqual(self.names(self.path(b"link")), [b"inside"])

    # --- mkdir and rmdir --------------------------------------------------------------------------

    @needs("mkdir", "lstat", "permissions")
    def test_a_new_directory_has_the_mode_asked_for_less_the_umask(self) -> None:
        for mode in (0o700, 0o750, 0o777):
            path = self.path(b"mode-%o" % mode)
            self.storage.mkdir(path, mode)
            permissions = self.storage.lstat(path).permissions or 0
            self.assertEqual(permissions & 0o777 & ~mode, 0, f"mode {mode:o} became {permissions:o}")
            self.assertEqual(permissions & 0o700, 0o700)

    @needs("mkdir", "open", "read", "write", "close")
    def test_directories_nest(self) -> None:
        self.make_directory(b"a")
        self.make_directory(b"a/b")
        self.put(self.make_directory(b"a/b/c") + b"/f", b"deep")
        self.assertEqual(self.content(self.path(b"a/b/c/f")), b"deep")

    @needs("mkdir")
    def test_a_directory_cannot_be_made_where_something_is(self) -> None:
        self.make_directory(b"d")
        self.put(self.path(b"f"), b"")
        self.assert_refused(FAILED, "mkdir", self.path(b"d"), 0o777)
        self.assert_refused(FAILED, "mkdir", self.path(b"f"), 0o777)

    @needs("mkdir")
    def test_a_directory_cannot_be_made_without_its_parent(self) -> None:
        self.put(self.path(b"f"), b"")
        self.assert_refused(NOT_FOUND, "mkdir", self.path(b"missing/d"), 0o777)
        self.assert_refused(NOT_FOUND, "mkdir", self.path(b"f/d"), 0o777)

    @needs("rmdir", "mkdir", "lstat")
    def test_an_empty_directory_can_be_removed(self) -> None:
        path = self.make_directory(b"d")
        self.storage.rmdir(path)
        self.assertFalse(self.exists(path))

    @needs("rmdir", "mkdir", "opendir")
    def test_a_directory_that_is_not_empty_stays(self) -> None:
        path = self.make_directory(b"d", b"f")
        self.assert_refused(FAILED, "rmdir", path)
        self.assertEqual(self.names(path), [b"f"])

    @needs("rmdir", "lstat")
    def test_rmdir_removes_nothing_but_directories(self) -> None:
        self.put(self.path(b"f"), b"")
        self.assert_refused(NOT_FOUND, "rmdir", self.path(b"f"))
        self.assert_refused(NOT_FOUND, "rmdir", self.path(b"missing"))
        self.assertTrue(self.exists(self.path(b"f")))

    @needs("rmdir", "mkdir", "symlink", "lstat")
    def test_rmdir_does_not_follow_a_link(self) -> None:
        self.make_directory(b"d")
        self.storage.symlink(self.path(b"link"), b"d")
        self.assert_refused(NOT_FOUND, "rmdir", self.path(b"link"))
        self.assertTrue(self.exists(self.path(b"d")))
        self.assertTrue(self.exists(self.path(b"link")))
