"""Rules for a storage's own attributes: that clients see them, and what only the storage's methods can tell.

What a client sees of attributes is in the table: rules/attributes.py.
"""

from __future__ import annotations

import os

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.base import ContractBase, needs
from pysftpserver.contract.packets import get_sftphandle, get_sftpstat

LONG_AGO = 1_000_000_000  # seconds since the epoch
EARLIER = 900_000_000


class AttributeRules(ContractBase):
    """Rules for attributes that are not in the table of rules."""

    @needs("open", "close", "stat", "lstat", "fstat")
    def test_a_client_sees_the_same_attributes(self) -> None:
        path = self.file(b"f", b"12345")
        handle = get_sftphandle(self.client.call("open", path, os.O_RDONLY, 0))
        expected = self.storage.stat(path)
        for own in (self.storage.lstat(path), self.storage.fstat(self.opened(path, os.O_RDONLY))):
            self.assertEqual(own.nlink, expected.nlink)
        for reply in (
            self.client.call("stat", path),
            self.client.call("lstat", path),
            self.client.call("fstat", handle),
        ):
            seen = get_sftpstat(reply)
            for field in ("size", "uid", "gid", "permissions", "mtime"):  # reading may change atime
                self.assertEqual(getattr(seen, field), getattr(expected, field), field)

    @needs("stat", "lstat")
    def test_owner_and_times_come_in_pairs_or_not_at_all(self) -> None:
        self.put(self.path(b"f"), b"")
        attrs = self.storage.stat(self.path(b"f"))
        self.assertEqual(attrs.uid is None, attrs.gid is None)
        self.assertEqual(attrs.atime is None, attrs.mtime is None)

    @needs("setstat", "lstat", "times")
    def test_one_time_without_the_other_leaves_the_other(self) -> None:
        path = self.file(b"f")
        self.storage.setstat(path, SFTPAttributes(atime=EARLIER, mtime=LONG_AGO))
        self.storage.setstat(path, SFTPAttributes(mtime=LONG_AGO + 5))
        self.storage.setstat(path, SFTPAttributes(atime=EARLIER + 7))
        attrs = self.storage.lstat(path)
        self.assertEqual((attrs.atime, attrs.mtime), (EARLIER + 7, LONG_AGO + 5))
