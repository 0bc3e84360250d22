"""What a sync sees of a storage: regular files by name, and notes about everything else."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from typing import Any

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.sksync.listing import MOST_DEEP, listing
from pysftpserver.sksync.wire import Dialect
from pysftpserver.uploads import temporary
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.sksync.serving import NOW, put
from tests.support.cases import InADirectory


class Locked(SFTPServerVirtualChroot):
    """A jail in which the directories called `locked` cannot be read, whoever asks."""

    def opendir(self, path: bytes) -> Iterator[tuple[bytes, SFTPAttributes]]:
        if path.rstrip(b"/").endswith(b"locked"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return super().opendir(path)


class ListingCase(InADirectory):
    def list(self, top: bytes = b"/", dialect: Dialect = Dialect.PYSKSYNC_2, **how: Any) -> Any:
        return listing(Locked(self.root), top, how.pop("is_recursive", True), dialect, **how)


class WhatIsListed(ListingCase):
    def test_regular_files_have_names_below_the_top_and_whole_seconds(self) -> None:
        put(self.root, "top/a", mtime=NOW + 0.999)
        put(self.root, "top/d/e/b", mtime=NOW)
        put(self.root, "elsewhere")
        self.assertEqual(self.list(b"/top/").files, {"a": NOW, "d/e/b": NOW})

    def test_nanoseconds_do_not_make_a_file_newer(self) -> None:
        path = put(self.root, "a")
        os.utime(path, ns=(0, NOW * 10**9 + 999_999_999))
        self.assertEqual(self.list().files, {"a": NOW})

    def test_one_directory_only_is_that_one_only(self) -> None:
        put(self.root, "a")
        put(self.root, "d/b")
        found = self.list(is_recursive=False)
        self.assertEqual((found.files, found.others), ({"a": NOW}, {"d"}))

    def test_links_pipes_and_directories_are_no_files_and_are_not_followed(self) -> None:
        put(self.root, "d/b")
        (self.root / "link").symlink_to("d/b")
        (self.root / "way").symlink_to("d")
        (self.root / "nowhere").symlink_to("gone")
        os.mkfifo(self.root / "pipe")
        found = self.list()
        self.assertEqual(found.files, {"d/b": NOW})
        self.assertEqual(found.others, {"d", "link", "way", "nowhere", "pipe"})
        for name in found.others:
            self.assertIsNotNone(found.refuses(name))

    def test_times_before_1970_and_after_2038_are_listed(self) -> None:
        put(self.root, "old", mtime=-1_000_000)
        put(self.root, "new", mtime=4_000_000_000)
        self.assertEqual(self.list().files, {"old": 0, "new": 4_000_000_000})

    def test_names_that_the_dialect_cannot_say_are_kept_apart(self) -> None:
        for name in ("caf\u00e9", "\u03b1", "\u65e5\u672c/f", "two\nlines"):
            put(self.root, name)
        put(self.root, os.fsdecode(b"\xff\xfe"))
        found = self.list(dialect=Dialect.SKSYNC_1)
        self.assertEqual(found.files, {"caf\u00e9": NOW})
        unencodable = {"\u03b1".encode(), "\u65e5\u672c/f".encode(), b"two\nlines", b"\xff\xfe"}
        self.assertEqual((set(found.unencodable), len(found.unencodable)), (unencodable, 4))
        found = self.list(dialect=Dialect.PYSKSYNC_2)
        self.assertEqual(set(found.files), {"caf\u00e9", "\u03b1", "\u65e5\u672c/f"})
        self.assertEqual(set(found.unencodable), {b"two\nlines", b"\xff\xfe"})

    def test_files_in_a_directory_whose_name_is_no_utf_8_are_skipped_and_counted(self) -> None:
        put(self.root, os.fsdecode(b"\xff/f"))
        found = self.list()
        self.assertEqual((found.files, found.unencodable), ({}, [b"\xff/f"]))

    def test_a_missing_top_is_an_empty_one_only_where_that_is_allowed(self) -> None:
        self.assertEqual(self.list(b"/gone/", may_be_missing=True).files, {})
        with self.assertRaises(Exception) as caught:
            self.list(b"/gone/")
        self.assertIn("no such file", str(caught.exception).lower())

    def test_a_top_that_is_a_file_is_never_an_empty_directory(self) -> None:
        put(self.root, "f")
        with self.assertRaises(OSError):
            self.list(b"/f/", may_be_missing=True)


class WhatIsLeftOut(ListingCase):
    def test_patterns_leave_out_files_directories_and_paths(self) -> None:
        for name in ("a.tmp", "a.txt", "d/b.tmp", "cache/c", "d/cache/c", "x/y/z"):
            put(self.root, name)
        found = self.list(excluded=["*.tmp", "cache", "x/y"])
        self.assertEqual(set(found.files), {"a.txt"})
        for name in ("new.tmp", "cache/new", "d/cache/d/new", "x/y/new"):
            self.assertTrue(found.is_excluded(name), name)
        for name in ("new", "x/new", "cached/new"):
            self.assertFalse(found.is_excluded(name), name)

    def test_a_directory_that_cannot_be_read_is_told_and_takes_nothing(self) -> None:
        put(self.root, "d/locked/f")
        put(self.root, "d/g")
        found = self.list()
        self.assertEqual((found.files, found.unlisted), ({"d/g": NOW}, {"d/locked": "permission denied"}))
        self.assertIn("permission denied", found.refuses("d/locked/f") or "")
        self.assertIn("permission denied", found.refuses("d/locked/deep/f") or "")
        self.assertIsNone(found.refuses("d/h"))

    def test_directories_without_end_are_not_followed_for_ever(self) -> None:
        deep = self.root / "/".join(["d"] * (MOST_DEEP + 1))
        deep.mkdir(parents=True)
        put(deep, "f")
        put(self.root, "/".join(["e"] * MOST_DEEP) + "/f")
        found = self.list()
        self.assertEqual((len(found.files), len(found.unlisted)), (1, 1))

    def test_temporary_files_are_hidden_and_cannot_be_received(self) -> None:
        for name in (temporary.new_name(), temporary.locked_name(b"f")):
            put(self.root, name.decode(), mtime=time.time())
            found = self.list()
            self.assertEqual((found.files, found.leftovers), ({}, []))
            self.assertIsNotNone(found.refuses(name.decode()))

    def test_abandoned_files_are_found_where_they_are(self) -> None:
        old = b".pysftp-%b-1-1-%b" % (b"0" * 12, b"1" * 16)
        put(self.root, f"d/{old.decode()}", mtime=time.time() - 2 * temporary.OLD)
        self.assertEqual(self.list().leftovers, [b"d/" + old])
