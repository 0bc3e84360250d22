"""Rules for what opendir() returns; rules for what clients see of it are in the table of rules/."""

from __future__ import annotations

from itertools import islice

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.base import ContractBase, close, needs


def without_atime(attrs: SFTPAttributes) -> SFTPAttributes:
    """The attributes without atime, which reading a directory may change."""
    return SFTPAttributes(attrs.size, attrs.uid, attrs.gid, attrs.permissions, None, attrs.mtime, attrs.nlink)


class DirectoryRules(ContractBase):
    """opendir."""

    def make_directory(self, name: bytes, *files: bytes) -> bytes:
        """A new directory with empty files."""
        path = self.path(name)
        self.storage.mkdir(path, 0o755)
        for file in files:
            self.put(path + b"/" + file, b"")
        return path

    @needs("opendir", "mkdir")
    def test_an_empty_directory_holds_the_two_dots(self) -> None:
        path = self.make_directory(b"d")
        self.assertEqual(sorted(name for name, _ in self.listing(path)), [b".", b".."])

    @needs("opendir", "mkdir", "lstat")
    def test_the_dots_have_the_attributes_of_their_directories(self) -> None:
        path = self.make_directory(b"d", b"file")
        # `..` of a directory below the top is the top, whatever the path is called.
        where = {b".": path, b"..": self.path(b"d/..")}
        for name, attrs in self.listing(path):
            expected = without_atime(self.storage.lstat(where.get(name, path + b"/" + name)))
            if "nlink" in self.unsupported:
                expected.nlink = attrs.nlink
            self.assertEqual(without_atime(attrs), expected, name)

    @needs("opendir", "mkdir", "rm", "rmdir", "lstat")
    def test_a_listing_can_be_closed_before_its_end(self) -> None:
        path = self.make_directory(b"d", *(b"%d" % number for number in range(8)))
        for taken in (0, 1, 3, 10):
            entries = self.storage.opendir(path)
            self.assertEqual(len(list(islice(entries, taken))), taken)
            close(entries)
            close(entries)  # a second close() does nothing
        for number in range(8):
            self.storage.rm(path + b"/%d" % number)
        self.storage.rmdir(path)
        self.assertFalse(self.exists(path))

    @needs("opendir", "mkdir")
    def test_iterators_of_one_directory_are_independent(self) -> None:
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
    def test_a_listing_of_thousands_has_every_entry_once(self) -> None:
        path = self.make_directory(b"d")
        expected = [b"%08d" % number for number in range(self.many)]
        self.fill(path, expected)
        names = [name for name, _ in self.listing(path)]
        self.assertEqual(len(names), self.many + 2)
        self.assertEqual(sorted(names), [b".", b"..", *expected])
        first, second = self.storage.opendir(path), self.storage.opendir(path)
        self.assertEqual(len(list(islice(first, self.many // 2))), self.many // 2)
        close(first)  # before its end; the others go on
        self.assertEqual(len(list(second)), self.many + 2)
        close(second)
