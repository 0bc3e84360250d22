"""Rules for the tree: what its methods raise, and hard links.

What the methods do is in the table of rules/, in its groups tree, renames and links.
"""

from __future__ import annotations

import os

from pysftpserver.contract.base import DENIED, FAILED, NOT_FOUND, SENSELESS, ContractBase, needs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class TreeRules(ContractBase):
    """opendir, mkdir, rmdir, rm, rename, symlink, readlink, link."""

    # --- statuses: those for the errno of a file system --------------------------------------------

    def assert_statuses(self, method: str, *cases: tuple[Any, ...]) -> None:
        """Check that the method refuses each of cases, (status, argument...), with its status; bytes are
        names.
        """
        for status, *arguments in cases:
            with self.subTest(method=method, arguments=arguments):
                paths = [self.path(a) if isinstance(a, bytes) else a for a in arguments]
                self.assert_refused(status, method, *paths)

    @needs("opendir", "rm", "rmdir", "mkdir")
    def test_what_cannot_be_listed_made_or_removed_is_refused_with_the_status_of_its_errno(self) -> None:
        self.make({b"f": b"", b"d": None, b"d/g": b""})
        # opendir() itself raises: nothing here asks for an entry.
        self.assert_statuses("opendir", (NOT_FOUND, b"missing"), (NOT_FOUND, b"f"))
        self.assert_statuses("mkdir", (FAILED, b"d", 0o777), (FAILED, b"f", 0o777))
        self.assert_statuses("mkdir", (NOT_FOUND, b"missing/d", 0o777), (NOT_FOUND, b"f/d", 0o777))
        self.assert_statuses("rmdir", (FAILED, b"d"), (NOT_FOUND, b"f"), (NOT_FOUND, b"missing"))
        self.assert_statuses("rm", (FAILED, b"d"), (NOT_FOUND, b"missing"))

    @needs("rename", "mkdir")
    def test_what_cannot_be_renamed_is_refused_with_the_status_of_its_errno(self) -> None:
        self.make({b"f": b"f", b"g": b"g", b"d": None, b"e": None, b"full": None, b"full/h": b"h"})
        for old in (b"f", b"d"):
            self.assert_statuses("rename", *((FAILED, old, new) for new in (b"f", b"g", b"d", b"e")))
        self.assert_statuses("rename", (FAILED, b"f", b"d", True), (NOT_FOUND, b"d", b"f", True))
        self.assert_statuses("rename", (FAILED, b"d", b"full", True))
        for replace in (False, True):
            self.assert_statuses("rename", (SENSELESS, b"d", b"d/new", replace))
            for old, new in ((b"missing", b"new"), (b"f", b"missing/new"), (b"f", b"g/new")):
                self.assert_statuses("rename", (NOT_FOUND, old, new, replace))

    @needs("symlink", "readlink", "stat", "open", "opendir", "rmdir", "rename", "mkdir")
    def test_what_links_cannot_do_is_refused_with_the_status_of_its_errno(self) -> None:
        self.make({b"f": b"", b"d": None})
        for name, target in ((b"link", b"missing"), (b"to-d", b"d"), (b"a", b"b"), (b"b", b"a")):
            self.storage.symlink(self.path(name), target)
        for name in (b"f", b"d", b"link"):
            self.assert_refused(FAILED, "symlink", self.path(name), b"f")
        for name in (b"missing/link", b"f/link"):
            self.assert_refused(NOT_FOUND, "symlink", self.path(name), b"f")
        self.assert_statuses("readlink", (SENSELESS, b"f"), (SENSELESS, b"d"), (NOT_FOUND, b"missing"))
        self.assert_statuses("stat", (NOT_FOUND, b"a"), (NOT_FOUND, b"link"))
        self.assert_statuses("opendir", (NOT_FOUND, b"link"))
        self.assert_statuses("open", (NOT_FOUND, b"link", os.O_RDONLY, 0))
        self.assert_statuses("open", (FAILED, b"link", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        self.assert_statuses("rename", (FAILED, b"f", b"link"))
        self.assert_statuses("rmdir", (NOT_FOUND, b"to-d"))

    @needs("link", "mkdir")
    def test_what_cannot_be_linked_is_refused_with_the_status_of_its_errno(self) -> None:
        self.make({b"f": b"f", b"g": b"g", b"d": None})
        self.assert_statuses("link", (FAILED, b"f", b"g"), (FAILED, b"f", b"f"), (DENIED, b"d", b"new"))
        self.assert_statuses("link", (NOT_FOUND, b"missing", b"new"), (NOT_FOUND, b"f", b"missing/new"))

    # --- link -------------------------------------------------------------------------------------

    @needs("link", "lstat", "rm")
    def test_a_hard_link_is_another_name_of_the_same_file(self) -> None:
        old, new = self.path(b"old"), self.path(b"new")
        self.put(old, b"content")
        self.storage.link(old, new)
        self.assertEqual(self.storage.lstat(new), self.storage.lstat(old))
        self.assertEqual(self.storage.lstat(new).nlink, 1 if "nlink" in self.unsupported else 2)
        self.storage.rm(old)
        self.assertEqual(self.storage.lstat(new).nlink, 1)

    @needs("link", "symlink", "readlink")
    def test_a_hard_link_of_a_symbolic_link_is_one(self) -> None:
        self.put(self.path(b"f"), b"")
        self.storage.symlink(self.path(b"link"), b"f")
        self.storage.link(self.path(b"link"), self.path(b"other"))
        self.assertEqual(self.storage.readlink(self.path(b"other")), b"f")
