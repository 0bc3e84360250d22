"""Rules for the tree: rm, rename, symlink, readlink, link."""

from __future__ import annotations

import os

from pysftpserver.contract.base import DENIED, FAILED, NOT_FOUND, SENSELESS, ContractBase, needs
from pysftpserver.contract.packets import get_sftpstatus


class TreeRules(ContractBase):
    """rm, rename, symlink, readlink, link."""

    # --- rm ---------------------------------------------------------------------------------------

    @needs("rm", "lstat")
    def test_a_removed_file_is_gone(self) -> None:
        for name in (b"f", b"g"):
            self.put(self.path(name), b"")
        self.storage.rm(self.path(b"f"))
        self.assertFalse(self.exists(self.path(b"f")))
        self.assertTrue(self.exists(self.path(b"g")))
        self.assert_refused(NOT_FOUND, "rm", self.path(b"f"))

    @needs("rm", "mkdir", "lstat")
    def test_rm_removes_no_directory(self) -> None:
        self.storage.mkdir(self.path(b"d"), 0o777)
        self.assert_refused(FAILED, "rm", self.path(b"d"))
        self.assertTrue(self.exists(self.path(b"d")))

    @needs("rm", "symlink", "lstat")
    def test_rm_removes_a_link_and_not_what_it_leads_to(self) -> None:
        self.put(self.path(b"f"), b"")
        for name, target in ((b"link", b"f"), (b"dangling", b"missing")):
            self.storage.symlink(self.path(name), target)
            self.storage.rm(self.path(name))
            self.assertFalse(self.exists(self.path(name)))
        self.assertTrue(self.exists(self.path(b"f")))

    # --- rename -----------------------------------------------------------------------------------

    @needs("rename", "lstat", "open", "read", "close")
    def test_a_renamed_file_has_its_content_and_attributes_under_the_new_name(self) -> None:
        for replace in (False, True):
            old, new = self.path(b"old-%d" % replace), self.path(b"new-%d" % replace)
            self.put(old, b"content")
            before = self.storage.lstat(old)
            self.storage.rename(old, new, replace)
            self.assertFalse(self.exists(old))
            self.assertEqual(self.content(new), b"content")
            after = self.storage.lstat(new)
            fields = ("size", "uid", "gid", "permissions", "mtime")
            for field in fields[:-1] if "times" in self.unsupported else fields:
                self.assertEqual(getattr(after, field), getattr(before, field), field)

    @needs("rename", "mkdir", "open", "read", "close", "lstat", "opendir")
    def test_a_renamed_directory_takes_along_what_is_in_it(self) -> None:
        self.make({b"a": None, b"a/sub": None, b"b": None, b"a/sub/f": b"content"})
        self.storage.rename(self.path(b"a"), self.path(b"b/c"))
        self.assertFalse(self.exists(self.path(b"a")))
        self.assertEqual(self.content(self.path(b"b/c/sub/f")), b"content")
        self.storage.rename(self.path(b"b/c/sub"), self.path(b"sub"), True)
        self.assertEqual(self.names(self.path(b"b/c")), [])
        self.assertEqual(self.content(self.path(b"sub/f")), b"content")

    @needs("rename", "mkdir", "open", "read", "close", "lstat")
    def test_rename_without_replace_refuses_a_target_that_exists(self) -> None:
        self.make({b"f": b"f", b"g": b"g", b"d": None, b"e": None})
        for old in (b"f", b"d"):
            for new in (b"f", b"g", b"d", b"e"):
                with self.subTest(old=old, new=new):
                    self.assert_refused(FAILED, "rename", self.path(old), self.path(new))
        self.assertEqual((self.content(self.path(b"f")), self.content(self.path(b"g"))), (b"f", b"g"))

    @needs("rename", "symlink", "readlink", "lstat")
    def test_rename_without_replace_refuses_a_link_even_if_it_dangles(self) -> None:
        self.put(self.path(b"f"), b"f")
        self.storage.symlink(self.path(b"dangling"), b"missing")
        self.assert_refused(FAILED, "rename", self.path(b"f"), self.path(b"dangling"))
        self.assertEqual(self.storage.readlink(self.path(b"dangling")), b"missing")

    @needs("rename", "open", "read", "close", "lstat")
    def test_rename_with_replace_replaces_a_file(self) -> None:
        self.make({b"old": b"new content", b"target": b"old content"})
        handle = self.opened(self.path(b"target"), os.O_RDONLY)
        self.storage.rename(self.path(b"old"), self.path(b"target"), True)
        self.assertEqual(self.content(self.path(b"target")), b"new content")
        self.assertFalse(self.exists(self.path(b"old")))
        self.assertEqual(bytes(self.storage.read(handle, 0, 100)), b"old content")

    @needs("rename", "open", "read", "close")
    def test_rename_with_replace_of_a_file_onto_itself_leaves_it(self) -> None:
        self.put(self.path(b"f"), b"content")
        self.storage.rename(self.path(b"f"), self.path(b"f"), True)
        self.assertEqual(self.content(self.path(b"f")), b"content")

    @needs("rename", "symlink", "open", "read", "close", "lstat")
    def test_rename_replaces_a_link_and_not_what_it_leads_to(self) -> None:
        self.make({b"target": b"target", b"f": b"f"})
        self.storage.symlink(self.path(b"link"), b"target")
        self.storage.rename(self.path(b"f"), self.path(b"link"), True)
        self.assertEqual(self.content(self.path(b"link")), b"f")
        self.assertEqual(self.content(self.path(b"target")), b"target")

    @needs("rename", "symlink", "readlink", "lstat")
    def test_rename_moves_a_link_itself(self) -> None:
        self.put(self.path(b"target"), b"")
        for replace, target in ((False, b"target"), (True, b"missing")):
            self.storage.symlink(self.path(b"link"), target)
            self.storage.rename(self.path(b"link"), self.path(b"moved"), replace)
            self.assertFalse(self.exists(self.path(b"link")))
            self.assertEqual(self.storage.readlink(self.path(b"moved")), target)
        self.assertTrue(self.exists(self.path(b"target")))

    @needs("rename", "mkdir", "opendir", "lstat")
    def test_rename_with_replace_puts_a_directory_in_the_place_of_an_empty_one(self) -> None:
        for name in (b"full", b"empty", b"other"):
            self.storage.mkdir(self.path(name), 0o777)
        self.make({b"full/f": b"", b"other/g": b""})
        self.assert_refused(FAILED, "rename", self.path(b"full"), self.path(b"other"), True)
        self.assertEqual(self.names(self.path(b"other")), [b"g"])
        self.storage.rename(self.path(b"full"), self.path(b"empty"), True)
        self.assertEqual(self.names(self.path(b"empty")), [b"f"])
        self.assertFalse(self.exists(self.path(b"full")))

    @needs("rename", "mkdir", "lstat", "open", "read", "close")
    def test_files_and_directories_do_not_replace_each_other(self) -> None:
        self.make({b"f": b"content", b"d": None})
        self.assert_refused(FAILED, "rename", self.path(b"f"), self.path(b"d"), True)
        self.assert_refused(NOT_FOUND, "rename", self.path(b"d"), self.path(b"f"), True)
        self.assertEqual(self.content(self.path(b"f")), b"content")
        self.assertTrue(self.exists(self.path(b"d")))

    @needs("rename", "mkdir", "lstat")
    def test_a_directory_cannot_be_moved_into_itself(self) -> None:
        self.make({b"d": None, b"d/sub": None})
        for new in (b"d/new", b"d/sub/new"):
            for replace in (False, True):
                with self.subTest(new=new, replace=replace):
                    self.assert_refused(SENSELESS, "rename", self.path(b"d"), self.path(new), replace)
        self.assertTrue(self.exists(self.path(b"d/sub")))

    @needs("rename", "lstat")
    def test_rename_needs_a_source_and_a_directory_for_the_target(self) -> None:
        self.put(self.path(b"f"), b"")
        for replace in (False, True):
            for old, new in ((b"missing", b"new"), (b"f", b"missing/new"), (b"f", b"f/new")):
                with self.subTest(old=old, new=new, replace=replace):
                    self.assert_refused(NOT_FOUND, "rename", self.path(old), self.path(new), replace)
        self.assertTrue(self.exists(self.path(b"f")))

    # --- symlink and readlink ---------------------------------------------------------------------

    @needs("symlink", "mkdir", "open", "read", "close")
    def test_links_lead_from_where_they_are_or_from_the_top(self) -> None:
        self.make({b"d": None, b"f": b"top", b"d/f": b"below"})
        absolute = self.path(b"f") if self.path(b"").startswith(b"/") else b"/" + self.path(b"f")
        links = {b"d/relative": b"f", b"d/up": b"../f", b"d/absolute": absolute, b"through": b"d/up"}
        for name, target in links.items():
            self.storage.symlink(self.path(name), target)
        contents = {name: self.content(self.path(name)) for name in links}
        self.assertEqual(
            contents, {b"d/relative": b"below", b"d/up": b"top", b"d/absolute": b"top", b"through": b"top"}
        )
        self.storage.symlink(self.path(b"to-d"), b"d")
        self.assertEqual(self.content(self.path(b"to-d/relative")), b"below")

    @needs("symlink", "stat", "lstat", "open", "read", "write", "close")
    def test_a_dangling_link_is_there_and_leads_nowhere(self) -> None:
        link = self.path(b"dangling")
        self.storage.symlink(link, b"missing")
        self.assertTrue(self.exists(link))
        self.assert_refused(NOT_FOUND, "stat", link)
        self.assert_refused(NOT_FOUND, "open", link, os.O_RDONLY, 0)
        self.assert_refused(FAILED, "open", link, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self.put(link, b"made through the link")
        self.assertEqual(self.content(self.path(b"missing")), b"made through the link")

    @needs("symlink", "stat", "open", "opendir", "rm", "lstat", "close")
    def test_links_in_a_circle_lead_nowhere(self) -> None:
        self.storage.symlink(self.path(b"self"), b"self")
        self.storage.symlink(self.path(b"a"), b"b")
        self.storage.symlink(self.path(b"b"), b"a")
        for name, path in ((b"self", self.path(b"self")), (b"a", self.path(b"a/f"))):
            self.assert_refused(NOT_FOUND, "stat", path)
            self.assert_refused(NOT_FOUND, "open", path, os.O_RDONLY, 0)
            self.assert_refused(NOT_FOUND, "opendir", path)
            self.storage.rm(self.path(name))
            self.assertFalse(self.exists(self.path(name)))

    @needs("symlink", "lstat", "mkdir")
    def test_a_link_cannot_be_made_where_something_is_or_without_its_directory(self) -> None:
        self.make({b"f": b"", b"d": None})
        self.storage.symlink(self.path(b"link"), b"missing")
        for name in (b"f", b"d", b"link"):
            self.assert_refused(FAILED, "symlink", self.path(name), b"f")
        self.assert_refused(NOT_FOUND, "symlink", self.path(b"missing/link"), b"f")
        self.assert_refused(NOT_FOUND, "symlink", self.path(b"f/link"), b"f")

    @needs("readlink", "mkdir")
    def test_only_links_can_be_read_as_links(self) -> None:
        self.make({b"f": b"", b"d": None})
        self.assert_refused(SENSELESS, "readlink", self.path(b"f"))
        self.assert_refused(SENSELESS, "readlink", self.path(b"d"))
        self.assert_refused(NOT_FOUND, "readlink", self.path(b"missing"))

    # --- link -------------------------------------------------------------------------------------

    @needs("link", "open", "read", "write", "close", "lstat", "rm")
    def test_a_hard_link_is_another_name_of_the_same_file(self) -> None:
        old, new = self.path(b"old"), self.path(b"new")
        self.put(old, b"content")
        self.storage.link(old, new)
        self.assertEqual(self.content(new), b"content")
        self.assertEqual(self.storage.lstat(new), self.storage.lstat(old))
        self.assertEqual(self.storage.lstat(new).nlink, 1 if "nlink" in self.unsupported else 2)
        handle = self.opened(new, os.O_WRONLY)
        self.storage.write(handle, 0, b"C")
        self.assertEqual(self.content(old), b"Content")
        self.storage.rm(old)
        self.assertEqual(self.content(new), b"Content")
        self.assertEqual(self.storage.lstat(new).nlink, 1)

    @needs("link", "mkdir", "open", "read", "close")
    def test_a_hard_link_needs_a_file_and_a_free_name(self) -> None:
        self.make({b"f": b"f", b"g": b"g", b"d": None})
        self.assert_refused(FAILED, "link", self.path(b"f"), self.path(b"g"))
        self.assert_refused(FAILED, "link", self.path(b"f"), self.path(b"f"))
        self.assert_refused(NOT_FOUND, "link", self.path(b"missing"), self.path(b"new"))
        self.assert_refused(NOT_FOUND, "link", self.path(b"f"), self.path(b"missing/new"))
        self.assert_refused(DENIED, "link", self.path(b"d"), self.path(b"new"))
        self.assertEqual(self.content(self.path(b"g")), b"g")

    @needs("link", "symlink", "readlink")
    def test_a_hard_link_of_a_symbolic_link_is_one(self) -> None:
        self.put(self.path(b"f"), b"")
        self.storage.symlink(self.path(b"link"), b"f")
        self.storage.link(self.path(b"link"), self.path(b"other"))
        self.assertEqual(self.storage.readlink(self.path(b"other")), b"f")

    @needs("rename", "link", "open", "read", "close")
    def test_clients_rename_replace_and_link(self) -> None:
        self.make({b"f": b"f", b"g": b"g"})
        self.assert_ok(self.client.call("link", self.path(b"f"), self.path(b"h")))
        self.assertEqual(get_sftpstatus(self.client.call("rename", self.path(b"f"), self.path(b"g"))), FAILED)
        self.assert_ok(self.client.call("rename", self.path(b"f"), self.path(b"g"), True))
        self.assertEqual(self.content(self.path(b"g")), b"f")
        self.assertEqual(self.content(self.path(b"h")), b"f")
