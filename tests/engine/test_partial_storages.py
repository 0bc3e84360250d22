"""Storages without some of the methods: what they lack is unsupported, and not announced."""

from __future__ import annotations

import unittest

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from tests.support import packets
from tests.support.packets import OK, OP_UNSUPPORTED, READ, WAYS, WRITE, Client, string
from tests.support.storages import Whole


class MethodsThatAreMissing(unittest.TestCase):
    NEEDED = {
        "statvfs": "statvfs",
        "fstatvfs": "fstatvfs",
        "hardlink": "link",
        "fsync": "fsync",
        "lsetstat": "lsetstat",
        "posix-rename": "rename",
        "check-file": "open",
        "users-groups-by-id": "username",
    }

    def without(self, *methods: str) -> type[Whole]:
        own = {method: getattr(SFTPAbstractServerStorage, method) for method in methods}
        return type("Partial", (Whole,), own)

    def test_are_unsupported(self):
        quiet = {"realpath", "userhome", "username", "groupname", "fileno", "checksum"}
        for method in set(WAYS) - quiet:
            name, parts = WAYS[method]
            client = Client(self.without(method)())
            handle = client.open(b"f", READ | WRITE) if method != "open" else b""
            with self.subTest(method):
                reply = client.ask(name, *(handle if part == "{h}" else part for part in parts))
                self.assertEqual((reply.kind, reply.content), ("status", OP_UNSUPPORTED))
                self.assertTrue(reply.message)

    def test_keep_their_extension_from_being_announced_and_only_theirs(self):
        for extension, method in self.NEEDED.items():
            announced = packets.extensions(Client(self.without(method)()).version)
            missing = set(packets.EXTENSIONS) - set(announced)
            with self.subTest(extension):
                self.assertEqual(missing, {packets.EXTENDED_NAMES[extension]})

    def test_read_write_and_groupname_count_as_well(self):
        for method, *extensions in (
            ("write", b"copy-data"),
            ("read", b"copy-data", b"check-file"),
            ("groupname", b"users-groups-by-id@openssh.com"),
        ):
            announced = packets.extensions(Client(self.without(method)()).version)
            self.assertEqual(set(packets.EXTENSIONS) - set(announced), set(extensions))

    def test_posix_rename_is_not_announced_for_a_rename_that_cannot_replace(self):
        class Old(Whole):
            def rename(self, old: bytes, new: bytes) -> None:
                self.calls.append("rename")

        client = Client(Old())
        announced = packets.extensions(client.version)
        self.assertEqual(set(packets.EXTENSIONS) - set(announced), {b"posix-rename@openssh.com"})
        self.assertEqual(client.status("rename", string(b"a"), string(b"b")), OK)

    def test_posix_rename_is_announced_for_a_rename_that_takes_replace_in_any_way(self):
        class Keyword(Whole):
            def rename(self, old: bytes, new: bytes, *, replace: bool = False) -> None: ...

        class Any_(Whole):
            def rename(self, old: bytes, new: bytes, **options: bool) -> None: ...

        for storage in (Whole, Keyword, Any_):
            with self.subTest(storage.__name__):
                client = Client(storage())
                self.assertIn(b"posix-rename@openssh.com", packets.extensions(client.version))
                self.assertEqual(client.status("posix-rename", string(b"a"), string(b"b")), OK)

    def test_posix_rename_that_was_not_announced_is_unsupported(self):
        class Old(Whole):
            def rename(self, old: bytes, new: bytes) -> None: ...

        self.assertEqual(Client(Old()).status("posix-rename", string(b"a"), string(b"b")), OP_UNSUPPORTED)

    def test_an_empty_storage_has_what_needs_no_storage(self):
        client = Client(SFTPAbstractServerStorage())
        offered = {b"limits@openssh.com", b"expand-path@openssh.com", b"home-directory"}
        self.assertEqual(set(packets.extensions(client.version)), offered)
        self.assertEqual(client.content("name", "realpath", string(b"."))[0].name, b"/")
        self.assertEqual(client.content("name", "realpath", string(b"a//b/../c"))[0].name, b"/a/c")

    def test_paths_arrive_as_they_were_sent_without_a_home_and_joined_with_one(self):
        seen: list[bytes] = []
        storage = Whole()
        storage.lstat = lambda path: seen.append(path) or SFTPAttributes()
        client = Client(storage)
        for storage.home in (None, b"/home/me", b"/"):
            for path in (b"a/../b", b"/abs//x", b""):
                client.ask("lstat", string(path))
        self.assertEqual(
            seen,
            [b"a/../b", b"/abs//x", b"", b"/home/me/a/../b", b"/abs//x", b"", b"/a/../b", b"/abs//x", b""],
        )
