"""Several storages in one tree: what clients see of mount points, and what leads where."""

from __future__ import annotations

import os
from pathlib import Path
from stat import S_ISDIR
from typing import Any

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.contract.packets import get_sftpentries, get_sftphandle, get_sftpname, get_sftpstatus
from pysftpserver.mountedstorage import Mount, SFTPServerMountedStorage
from pysftpserver.pysftpexceptions import SFTPException, SFTPForbidden, SFTPNotFound
from pysftpserver.testing import SFTPTestClient
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support.cases import InAPlace
from tests.support.paths import IN_MEMORY

WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


class Trees(InAPlace):
    """Jails in directories of their own; self.tree is mounted as `mounts` says."""

    made_in = IN_MEMORY
    names = ("top", "archive", "deep")

    def setUp(self) -> None:
        super().setUp()
        for name in self.names:
            (self.place / name).mkdir()
        self.tree = self.mounted()

    def jail(self, name: str) -> SFTPServerVirtualChroot:
        return SFTPServerVirtualChroot(self.place / name)

    def directory(self, name: str) -> Path:
        return self.place / name

    def mounted(self, **options: Any) -> SFTPServerMountedStorage:
        mounts = {b"/archive": self.jail("archive"), b"/way/to/deep": self.jail("deep")}
        return SFTPServerMountedStorage(self.jail("top"), mounts, **options)

    def fill(self, *names: str) -> None:
        """Make files with their names as content; a name with a slash at its end makes a directory."""
        for name in names:
            path = self.place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir() if name.endswith("/") else path.write_text(name)

    def put(self, path: bytes, content: bytes) -> None:
        handle = self.tree.open(path, WRITE, 0o666)
        self.tree.write(handle, 0, content)
        self.tree.close(handle)

    def content(self, path: bytes) -> bytes:
        handle = self.tree.open(path, os.O_RDONLY, 0)
        try:
            return bytes(self.tree.read(handle, 0, 1 << 20))
        finally:
            self.tree.close(handle)

    def listed(self, path: bytes) -> list[bytes]:
        return sorted(name for name, _ in self.tree.opendir(path) if name not in (b".", b".."))

    def assert_missing(self, path: bytes) -> None:
        for method, *arguments in (("stat",), ("lstat",), ("opendir",), ("open", os.O_RDONLY, 0)):
            with self.subTest(path=path, method=method):
                with self.assertRaises((FileNotFoundError, NotADirectoryError, SFTPNotFound)):
                    getattr(self.tree, method)(path, *arguments)

    def assert_refused(self, words: str, method: str, *arguments: Any) -> None:
        with self.assertRaisesRegex((SFTPException, OSError), words):
            getattr(self.tree, method)(*arguments)


class MountPoints(Trees):
    def test_a_path_below_a_mount_point_is_of_its_storage(self) -> None:
        self.put(b"/archive/f", b"in the archive")
        self.put(b"/f", b"at the top")
        self.tree.mkdir(b"/way/to/deep/d", 0o777)
        self.put(b"/way/to/deep/d/f", b"deep")
        self.assertEqual((self.place / "archive/f").read_bytes(), b"in the archive")
        self.assertEqual((self.place / "top/f").read_bytes(), b"at the top")
        self.assertEqual((self.place / "deep/d/f").read_bytes(), b"deep")
        self.assertEqual(os.listdir(self.place / "top"), ["f"])

    def test_mount_points_are_listed_though_the_parent_does_not_have_them(self) -> None:
        self.fill("top/f", "archive/old", "deep/here")
        for path, names in (
            (b"/", [b"archive", b"f", b"way"]),
            (b"/way", [b"to"]),
            (b"/way/to/", [b"deep"]),
            (b"/archive", [b"old"]),
            (b"/way/to/deep/.", [b"here"]),
        ):
            with self.subTest(path):
                self.assertEqual(self.listed(path), names)
                for name, attrs in self.tree.opendir(path):
                    seen = self.tree.lstat(path.rstrip(b"/.") + b"/" + name)
                    self.assertEqual(attrs.permissions, seen.permissions, name)
        self.assertTrue(S_ISDIR(self.tree.stat(b"/way").permissions or 0))

    def test_a_directory_on_the_way_shows_what_the_parent_has_in_it(self) -> None:
        self.fill("top/way/f", "top/way/to/g")
        self.assertEqual(self.listed(b"/way"), [b"f", b"to"])
        self.assertEqual(self.listed(b"/way/to"), [b"deep", b"g"])
        self.assertEqual(self.content(b"/way/to/g"), b"top/way/to/g")

    def test_what_the_parent_has_at_a_mount_point_is_hidden(self) -> None:
        self.fill("top/archive/shadowed", "archive/seen")
        (self.place / "top/way").symlink_to("archive")  # on the way to another: a directory all the same
        self.assertEqual(self.listed(b"/archive"), [b"seen"])
        self.assertEqual(self.listed(b"/"), [b"archive", b"way"])
        self.assert_missing(b"/archive/shadowed")
        self.assertTrue(S_ISDIR(self.tree.lstat(b"/way").permissions or 0))

    def test_mount_points_and_the_way_to_them_cannot_be_removed_renamed_or_replaced(self) -> None:
        self.fill("top/archive/", "top/way/to/", "top/d/", "top/f")
        for path in (b"/", b"/archive", b"/archive/", b"/way", b"/way/to", b"/way/to/deep", b"/d/../way"):
            for method, *arguments in (
                ("rmdir", path),
                ("rm", path),
                ("rename", path, b"/new"),
                ("rename", b"/d", path),
                ("rename", b"/d", path, True),
                ("rename", b"/f", path, True),
                ("mkdir", path, 0o777),
                ("symlink", path, b"f"),
                ("link", b"/f", path),
                ("open", path, WRITE, 0o666),
            ):
                with self.subTest(method=method, arguments=arguments):
                    self.assert_refused("mount point|directory|busy", method, *arguments)
        self.assertEqual(sorted(os.listdir(self.place / "top")), ["archive", "d", "f", "way"])

    def test_mounts_nest(self) -> None:
        mounts = {b"/archive": self.jail("archive"), b"/archive/deep": self.jail("deep")}
        self.tree = SFTPServerMountedStorage(self.jail("top"), mounts)
        self.fill("archive/f", "archive/deep/shadowed", "deep/g")
        self.assertEqual(self.listed(b"/archive"), [b"deep", b"f"])
        self.assertEqual(self.listed(b"/archive/deep"), [b"g"])
        self.assertEqual(self.tree.realpath(b"/archive/deep/../f"), b"/archive/f")
        (self.place / "archive/up").symlink_to("/")
        self.assertEqual(self.listed(b"/archive/up"), [b"f", b"up"])
        self.assert_missing(b"/archive/up/deep/shadowed")

    def test_a_mount_point_that_cannot_be_one_is_refused(self) -> None:
        for path in (b"", b"archive", b"/", b"//a", b"/a/", b"/a/../b", b"/./a", b"/a\0"):
            with self.subTest(path), self.assertRaises(ValueError):
                SFTPServerMountedStorage(self.jail("top"), {path: self.jail("archive")})
        mount = Mount(self.jail("archive"))
        with self.assertRaises(ValueError):
            SFTPServerMountedStorage(self.jail("top"), {b"/a": mount, b"/b": mount})
        with self.assertRaises(ValueError):
            SFTPServerMountedStorage(self.jail("top"), {}, across="move")


class Checksums(Trees):
    class Knowing(SFTPServerVirtualChroot):
        def checksum(self, path: bytes, algorithm: str) -> bytes:
            return path + algorithm.encode()

    class Decrypting(Knowing):
        def read(self, handle: int, off: int, size: int) -> bytes:
            return super().read(handle, off, size)

    def test_a_digest_that_a_storage_has_is_handed_on(self) -> None:
        mounts = {
            b"/known": self.Knowing(self.place / "archive"),
            b"/other": self.Decrypting(self.place / "deep"),
        }
        tree = SFTPServerMountedStorage(self.jail("top"), mounts)
        self.assertEqual(tree.checksum(b"/known/../known/f", "md5"), b"/fmd5")
        for path in (b"/known", b"/f", b"/other/f"):
            self.assertIsNone(tree.checksum(path, "md5"), path)


class NothingCrosses(Trees):
    def setUp(self) -> None:
        super().setUp()
        self.fill("top/archive/shadowed", "top/d/", "top/f", "archive/d/f", "archive/f", "deep/f")

    def test_dots_in_a_path_go_up_through_mount_points_and_not_above_the_top(self) -> None:
        for path, expected in (
            (b"/archive/..", b"/"),
            (b"/archive/../f", b"/f"),
            (b"/archive/d/../../d", b"/d"),
            (b"/archive/../../../archive/d/..", b"/archive"),
            (b"/d/../archive/f", b"/archive/f"),
            (b"/way/to/deep/../../../archive/./d//f", b"/archive/d/f"),
            (b"/way/to/..", b"/way"),
            (b"/..", b"/"),
        ):
            with self.subTest(path):
                self.assertEqual(self.tree.realpath(path), expected)
                self.assertEqual(self.tree.stat(path), self.tree.stat(expected))
        self.assert_missing(b"/missing/../f")
        self.assert_missing(b"/f/../f")
        self.assert_missing(b"/archive/f/../../f")

    def test_links_lead_within_their_storage(self) -> None:
        (self.place / "archive/absolute").symlink_to("/f")
        (self.place / "archive/up").symlink_to("../../f")
        (self.place / "archive/d/top").symlink_to("/")
        for path in (b"/archive/absolute", b"/archive/up", b"/archive/d/top/f", b"/archive/d/top/../f"):
            with self.subTest(path):
                self.assertEqual(self.content(path), b"archive/f")
                self.assertEqual(self.tree.realpath(path), b"/archive/f")

    def test_links_and_dots_of_the_parent_lead_to_nothing_that_a_mount_hides(self) -> None:
        (self.place / "top/to-archive").symlink_to("archive")
        (self.place / "top/d/up").symlink_to("..")
        (self.place / "top/d/far").symlink_to("/way/to/deep")
        (self.place / "top/shadowed").symlink_to("d/up/archive/shadowed")
        self.assert_missing_target(b"/to-archive")
        for path in (b"/to-archive/shadowed", b"/d/up/archive", b"/d/up/archive/shadowed"):
            self.assert_missing(path)
        for path in (b"/d/far", b"/d/far/f", b"/shadowed", b"/d/up/d/../archive/../to-archive/f"):
            with self.assertRaises(OSError, msg=path):
                self.tree.stat(path)
        self.assertEqual(self.listed(b"/d/up"), [b"d", b"f", b"shadowed", b"to-archive"])
        for path in (b"/d/up/archive", b"/d/up/archive/shadowed", b"/d/up/way"):
            for method, *arguments in (
                ("rm", path),
                ("rmdir", path),
                ("rename", path, b"/taken"),
                ("rename", b"/d", path, True),
                ("setstat", path, SFTPAttributes(permissions=0)),
                ("open", path + b"/new", WRITE, 0o666),
                ("mkdir", path + b"/new", 0o777),
                ("symlink", path + b"/new", b"x"),
                ("link", path + b"/shadowed", b"/taken"),
                ("link", b"/f", path + b"/new"),
            ):
                with (
                    self.subTest(method=method, arguments=arguments),
                    self.assertRaises((SFTPException, OSError)),
                ):
                    getattr(self.tree, method)(*arguments)
        self.assertEqual(os.listdir(self.place / "top/archive"), ["shadowed"])

    def test_a_client_reads_absolute_links_as_paths_of_its_own(self) -> None:
        self.tree.symlink(b"/archive/link", b"/archive/d/f")
        self.assertEqual(os.readlink(self.place / "archive/link"), "/d/f")
        self.assertEqual(self.tree.readlink(b"/archive/link"), b"/archive/d/f")
        self.assertEqual(self.content(b"/archive/link"), b"archive/d/f")
        for target in (b"/f", b"/archived/f", b"/way/to/deep/f"):
            self.assert_refused("cannot lead out", "symlink", b"/archive/other", target)
        self.tree.symlink(b"/top-link", b"/archive/f")  # leads nowhere, as links of the top do not cross
        self.assert_missing_target(b"/top-link")

    def assert_missing_target(self, path: bytes) -> None:
        self.tree.lstat(path)
        with self.assertRaises(FileNotFoundError):
            self.tree.stat(path)

    def test_rename_and_hard_links_across_storages_fail_with_words(self) -> None:
        for replace in (False, True):
            self.assert_refused("different storages", "rename", b"/f", b"/archive/new", replace)
            self.assert_refused("different storages", "rename", b"/archive/d", b"/new", replace)
        self.assert_refused("another storage", "link", b"/f", b"/archive/new")
        with self.assertRaises(FileNotFoundError):
            self.tree.rename(b"/missing", b"/archive/new")
        self.tree.rename(b"/archive/f", b"/archive/g")
        self.tree.rename(b"/archive/g", b"/archive/d/f", True)

    def test_copy_data_crosses(self) -> None:
        client = SFTPTestClient(self.tree)
        source = get_sftphandle(client.call("open", b"/f", os.O_RDONLY, 0))
        target = get_sftphandle(client.call("open", b"/archive/new", WRITE, 0o666))
        body = b"".join(len(part).to_bytes(4, "big") + part for part in (b"copy-data", source))
        body += bytes(16) + len(target).to_bytes(4, "big") + target + bytes(8)
        self.assertEqual(get_sftpstatus(client.ask(200, body)), 0)
        client.close()
        self.assertEqual((self.place / "archive/new").read_text(), "top/f")

    def test_a_client_sees_the_tree(self) -> None:
        client = SFTPTestClient(self.tree)
        self.addCleanup(client.close)
        self.assertEqual(get_sftpname(client.call("realpath", b"archive/..")), b"/")
        handle = get_sftphandle(client.call("opendir", b"way"))
        entries = get_sftpentries(client.call("readdir", handle))
        self.assertEqual(sorted(name for name, _, _ in entries), [b".", b"..", b"to"])
        self.assertEqual(get_sftpstatus(client.call("readdir", handle)), 1)


class ReadOnly(Trees):
    def mounted(self, **options: Any) -> SFTPServerMountedStorage:
        return SFTPServerMountedStorage(
            self.jail("top"), {b"/archive": Mount(self.jail("archive"), read_only=True)}, across="copy"
        )

    def test_its_figures_say_that_it_is_read_only(self) -> None:
        flags = [self.tree.statvfs(path).f_flag & os.ST_RDONLY for path in (b"/", b"/archive")]
        self.assertEqual(flags, [0, os.ST_RDONLY])

    def test_everything_that_changes_something_is_refused_there_alone(self) -> None:
        self.fill("archive/f", "archive/d/", "top/f")
        handle = self.tree.open(b"/archive/f", os.O_RDONLY, 0)
        self.assertEqual(bytes(self.tree.read(handle, 0, 100)), b"archive/f")
        attrs = SFTPAttributes(permissions=0)
        calls: list[tuple[Any, ...]] = [
            ("open", b"/archive/f", flags, 0o666)
            for flags in (os.O_WRONLY, os.O_RDWR, WRITE, os.O_CREAT, os.O_RDONLY | os.O_TRUNC)
        ]
        calls += [
            ("fsetstat", handle, attrs),
            ("setstat", b"/archive", attrs),
            ("setstat", b"/archive/f", attrs),
            ("lsetstat", b"/archive/f", attrs),
            ("mkdir", b"/archive/new", 0o777),
            ("rmdir", b"/archive/d"),
            ("rm", b"/archive/f"),
            ("rename", b"/archive/f", b"/archive/g"),
            ("rename", b"/archive/f", b"/g"),
            ("rename", b"/f", b"/archive/f", True),
            ("symlink", b"/archive/new", b"f"),
            ("link", b"/archive/f", b"/archive/g"),
        ]
        for method, *arguments in calls:
            with self.subTest(method=method, arguments=arguments), self.assertRaises(SFTPForbidden):
                getattr(self.tree, method)(*arguments)
        self.tree.close(handle)
        self.assertEqual(sorted(os.listdir(self.place / "archive")), ["d", "f"])
        self.put(b"/f", b"the top is not")
