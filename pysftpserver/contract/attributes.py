"""Rules for attributes: stat, lstat, fstat, setstat, lsetstat, fsetstat."""

from __future__ import annotations

import os
from stat import S_IFREG, S_ISDIR, S_ISLNK, S_ISREG

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.base import DENIED, NOT_FOUND, ContractBase, needs
from pysftpserver.contract.packets import get_sftphandle, get_sftpstat

LONG_AGO = 1_000_000_000  # seconds since the epoch
EARLIER = 900_000_000


class AttributeRules(ContractBase):
    """stat, lstat, fstat, setstat, lsetstat, fsetstat."""

    def assert_same(self, one: SFTPAttributes, other: SFTPAttributes) -> None:
        """All fields agree but atime, which looking may change."""
        for field in ("size", "uid", "gid", "permissions", "mtime", "nlink"):
            self.assertEqual(getattr(one, field), getattr(other, field), field)

    # --- asking -----------------------------------------------------------------------------------

    @needs("open", "close", "stat", "lstat", "fstat")
    def test_stat_lstat_and_fstat_agree_on_a_file(self) -> None:
        path = self.file(b"f", b"12345")
        attrs = self.storage.stat(path)
        self.assertEqual(attrs.size, 5)
        self.assertTrue(S_ISREG(attrs.permissions or 0), "the file type belongs to the permissions")
        self.assert_same(self.storage.lstat(path), attrs)
        self.assert_same(self.storage.fstat(self.opened(path, os.O_RDONLY)), attrs)

    @needs("open", "close", "stat", "lstat", "fstat")
    def test_a_client_sees_the_same_attributes(self) -> None:
        path = self.file(b"f", b"12345")
        handle = get_sftphandle(self.client.call("open", path, os.O_RDONLY, 0))
        expected = self.storage.stat(path)
        expected.nlink = 1  # does not travel
        for reply in (
            self.client.call("stat", path),
            self.client.call("lstat", path),
            self.client.call("fstat", handle),
        ):
            self.assert_same(get_sftpstat(reply), expected)

    @needs("mkdir", "stat", "lstat")
    def test_a_directory_says_that_it_is_one(self) -> None:
        self.storage.mkdir(self.path(b"d"), 0o777)
        for ask in (self.storage.stat, self.storage.lstat):
            self.assertTrue(S_ISDIR(ask(self.path(b"d")).permissions or 0))

    @needs("stat", "lstat")
    def test_owner_and_times_come_in_pairs_or_not_at_all(self) -> None:
        self.put(self.path(b"f"), b"")
        attrs = self.storage.stat(self.path(b"f"))
        self.assertEqual(attrs.uid is None, attrs.gid is None)
        self.assertEqual(attrs.atime is None, attrs.mtime is None)

    @needs("stat", "lstat")
    def test_what_is_not_there_has_no_attributes(self) -> None:
        for method in ("stat", "lstat"):
            self.assert_refused(NOT_FOUND, method, self.path(b"missing"))
            self.assert_refused(NOT_FOUND, method, self.path(b"missing/f"))
        self.put(self.path(b"f"), b"")
        for method in ("stat", "lstat"):
            self.assert_refused(NOT_FOUND, method, self.path(b"f/below"))

    @needs("stat", "open", "write", "close", "fstat")
    def test_the_size_grows_with_every_write(self) -> None:
        path = self.path(b"f")
        handle = self.opened(path, os.O_WRONLY | os.O_CREAT)
        for size in (1, 10, 100_000):
            self.storage.write(handle, size - 1, b"x")
            self.assertEqual(self.storage.stat(path).size, size)
            self.assertEqual(self.storage.fstat(handle).size, size)

    # --- size -------------------------------------------------------------------------------------

    @needs("setstat", "lstat", "open", "read", "close")
    def test_setting_the_size_cuts_off_or_fills_up_with_zeros(self) -> None:
        path = self.file(b"f", b"0123456789")
        for size, expected in ((4, b"0123"), (7, b"0123\0\0\0"), (0, b""), (3, b"\0\0\0")):
            self.storage.setstat(path, SFTPAttributes(size=size))
            self.assertEqual(self.storage.lstat(path).size, size)
            self.assertEqual(self.content(path), expected)

    @needs("fsetstat", "open", "read", "write", "close", "fstat")
    def test_setting_the_size_through_a_handle_is_the_same(self) -> None:
        handle = self.opened(self.path(b"f"), os.O_RDWR | os.O_CREAT)
        self.storage.write(handle, 0, b"0123456789")
        for size, expected in ((4, b"0123"), (7, b"0123\0\0\0"), (0, b"")):
            self.storage.fsetstat(handle, SFTPAttributes(size=size))
            self.assertEqual(self.storage.fstat(handle).size, size)
            self.assertEqual(self.content(self.path(b"f")), expected)

    @needs("setstat", "mkdir")
    def test_a_directory_has_no_size_to_set(self) -> None:
        self.storage.mkdir(self.path(b"d"), 0o777)
        self.assert_refused(None, "setstat", self.path(b"d"), SFTPAttributes(size=0))

    @needs("setstat", "open", "read", "close")
    def test_a_size_that_no_file_can_have_is_refused(self) -> None:
        self.put(self.path(b"f"), b"content")
        for size in (1 << 63, (1 << 64) - 1):
            self.assert_refused(None, "setstat", self.path(b"f"), SFTPAttributes(size=size))
        self.assertEqual(self.content(self.path(b"f")), b"content")

    # --- permissions, times, owner ----------------------------------------------------------------

    @needs("setstat", "lstat", "permissions", "mkdir")
    def test_permissions_are_set_and_the_type_stays(self) -> None:
        self.make({b"f": b"", b"d": None})
        for name in (b"f", b"d"):
            path = self.path(name)
            is_directory = S_ISDIR(self.storage.lstat(path).permissions or 0)
            for mode in (0o600, 0o751, 0o700, S_IFREG | 0o744):  # clients send the type back, too
                self.storage.setstat(path, SFTPAttributes(permissions=mode))
                permissions = self.storage.lstat(path).permissions or 0
                self.assertEqual(permissions & 0o7777, mode & 0o7777)
                self.assertEqual(S_ISDIR(permissions), is_directory)

    @needs("setstat", "lstat", "times", "mkdir")
    def test_times_are_set_of_files_and_directories(self) -> None:
        self.make({b"f": b"", b"d": None})
        for name in (b"f", b"d"):
            self.storage.setstat(self.path(name), SFTPAttributes(atime=EARLIER, mtime=LONG_AGO))
            attrs = self.storage.lstat(self.path(name))
            self.assertEqual((attrs.atime, attrs.mtime), (EARLIER, LONG_AGO))

    @needs("setstat", "lstat", "times")
    def test_one_time_without_the_other_leaves_the_other(self) -> None:
        path = self.file(b"f")
        self.storage.setstat(path, SFTPAttributes(atime=EARLIER, mtime=LONG_AGO))
        self.storage.setstat(path, SFTPAttributes(mtime=LONG_AGO + 5))
        self.storage.setstat(path, SFTPAttributes(atime=EARLIER + 7))
        attrs = self.storage.lstat(path)
        self.assertEqual((attrs.atime, attrs.mtime), (EARLIER + 7, LONG_AGO + 5))

    @needs("setstat", "lstat", "owner")
    def test_the_owner_is_set_or_the_client_may_not(self) -> None:
        path = self.file(b"f")
        attrs = self.storage.lstat(path)
        self.storage.setstat(path, SFTPAttributes(uid=attrs.uid, gid=attrs.gid))  # to what it is already
        status = self.raised(self.storage.setstat, path, SFTPAttributes(uid=12345, gid=23456))
        after = self.storage.lstat(path)
        if status is None:
            self.assertEqual((after.uid, after.gid), (12345, 23456))
        else:
            self.assertEqual(status, DENIED)
            self.assertEqual((after.uid, after.gid), (attrs.uid, attrs.gid))

    @needs("setstat", "lstat", "permissions", "times")
    def test_fields_that_are_not_set_stay(self) -> None:
        path = self.file(b"f", b"content")
        self.storage.setstat(path, SFTPAttributes(permissions=0o640, atime=EARLIER, mtime=LONG_AGO))
        before = self.storage.lstat(path)
        self.storage.setstat(path, SFTPAttributes())
        self.assertEqual(self.storage.lstat(path), before)
        self.storage.setstat(path, SFTPAttributes(permissions=0o600))
        after = self.storage.lstat(path)
        self.assertEqual((after.permissions or 0) & 0o7777, 0o600)
        for field in ("size", "uid", "gid", "atime", "mtime"):
            self.assertEqual(getattr(after, field), getattr(before, field), field)
        self.storage.setstat(path, SFTPAttributes(size=3))
        self.assertEqual((self.storage.lstat(path).permissions or 0) & 0o7777, 0o600)

    @needs("setstat", "fsetstat", "open", "lstat", "permissions", "times", "close")
    def test_times_set_together_with_the_size_are_the_ones_asked_for(self) -> None:
        attrs = SFTPAttributes(size=3, permissions=0o400, atime=EARLIER, mtime=LONG_AGO)
        self.make({b"by-path": b"content", b"by-handle": b"content"})
        self.storage.setstat(self.path(b"by-path"), attrs)
        self.storage.fsetstat(self.opened(self.path(b"by-handle"), os.O_RDWR), attrs)
        for name in (b"by-path", b"by-handle"):
            after = self.storage.lstat(self.path(name))
            self.assertEqual((after.size, after.atime, after.mtime), (3, EARLIER, LONG_AGO), name)
            self.assertEqual((after.permissions or 0) & 0o7777, 0o400, name)

    @needs("setstat", "lsetstat")
    def test_nothing_can_be_set_of_what_is_not_there(self) -> None:
        for attrs in (SFTPAttributes(permissions=0o600), SFTPAttributes(atime=1, mtime=1)):
            for method in ("setstat", "lsetstat"):
                self.assert_refused(NOT_FOUND, method, self.path(b"missing"), attrs)

    # --- links ------------------------------------------------------------------------------------

    @needs("symlink", "stat", "lstat")
    def test_stat_follows_a_link_and_lstat_does_not(self) -> None:
        self.put(self.path(b"target"), b"12345")
        self.storage.symlink(self.path(b"link"), b"target")
        self.assert_same(self.storage.stat(self.path(b"link")), self.storage.stat(self.path(b"target")))
        own = self.storage.lstat(self.path(b"link"))
        self.assertTrue(S_ISLNK(own.permissions or 0))
        self.assertEqual(own.size, len(b"target"))

    @needs("symlink", "setstat", "lstat", "permissions", "times", "open", "read", "close")
    def test_setstat_follows_a_link(self) -> None:
        self.put(self.path(b"target"), b"12345")
        self.storage.symlink(self.path(b"link"), b"target")
        link = self.storage.lstat(self.path(b"link"))
        attrs = SFTPAttributes(size=2, permissions=0o640, atime=EARLIER, mtime=LONG_AGO)
        self.storage.setstat(self.path(b"link"), attrs)
        after = self.storage.lstat(self.path(b"target"))
        self.assertEqual((after.size, after.mtime), (2, LONG_AGO))
        self.assertEqual((after.permissions or 0) & 0o7777, 0o640)
        self.assertEqual(self.storage.lstat(self.path(b"link")).permissions, link.permissions)

    @needs("symlink", "lsetstat", "lstat", "times")
    def test_lsetstat_changes_the_link_itself(self) -> None:
        self.put(self.path(b"target"), b"12345")
        self.storage.symlink(self.path(b"link"), b"target")
        self.storage.symlink(self.path(b"dangling"), b"missing")
        before = self.storage.lstat(self.path(b"target"))
        for name in (b"link", b"dangling"):
            self.storage.lsetstat(self.path(name), SFTPAttributes(atime=EARLIER, mtime=LONG_AGO))
            self.assertEqual(self.storage.lstat(self.path(name)).mtime, LONG_AGO)
        # A link's own permissions mean nothing, and a storage may refuse them: the target's must stay.
        self.raised(self.storage.lsetstat, self.path(b"link"), SFTPAttributes(permissions=0o600))
        self.assertEqual(self.storage.lstat(self.path(b"target")), before)

    @needs("lsetstat", "lstat", "permissions", "times")
    def test_lsetstat_of_a_file_is_setstat(self) -> None:
        path = self.file(b"f")
        self.storage.lsetstat(path, SFTPAttributes(permissions=0o640, atime=EARLIER, mtime=LONG_AGO))
        after = self.storage.lstat(path)
        self.assertEqual(((after.permissions or 0) & 0o7777, after.mtime), (0o640, LONG_AGO))
