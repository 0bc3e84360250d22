"""What is shared of a storage is not left by links, whatever the storage is."""

from __future__ import annotations

import os
from pathlib import Path

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.http.files import FileProblem, as_problems
from pysftpserver.mountedstorage import SFTPServerMountedStorage
from pysftpserver.site import file, opening
from pysftpserver.site.who import Who
from pysftpserver.uploads.atomic import SFTPAtomicVirtualChroot
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from pysftpserver.web import zipping
from pysftpserver.web.confined import ConfinedTree
from tests.support.cases import InADirectory
from tests.support.memory import SFTPServerMemoryStorage

RULES = '[[rule]]\npath = "/elsewhere"\ndeny = "all"\n'
SECRET = b"it is secret"


def filled(storage: SFTPAbstractServerStorage) -> SFTPAbstractServerStorage:
    """A storage with a shared folder /box, and links in it and at /way."""
    for path in (b"/box", b"/box/in", b"/out"):
        storage.mkdir(path, 0o777)
    for path, content in ((b"/out/secret", SECRET), (b"/box/in/f", b"f"), (b"/secret", SECRET)):
        handle = storage.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        storage.write(handle, 0, content)
        storage.close(handle)
    links = {b"up": b"..", b"out": b"/out", b"file": b"../secret", b"same": b"in", b"deep": b"in/../../out"}
    for name, target in links.items():
        storage.symlink(b"/box/" + name, target)
    storage.symlink(b"/way", b"box")
    return storage


class Confined(InADirectory):
    def storages(self) -> dict[str, SFTPAbstractServerStorage]:
        def jail(name: str) -> Path:
            path = Path(self.root) / name
            path.mkdir()
            return path

        who = Who("al")
        return {
            "jail": filled(SFTPServerVirtualChroot(jail("a"))),
            "jail without openat2": filled(SFTPServerVirtualChroot(jail("b"), use_openat2=False)),
            "whole uploads": filled(SFTPAtomicVirtualChroot(jail("c"))),
            "memory": filled(SFTPServerMemoryStorage()),
            "mounted": filled(SFTPServerMountedStorage(SFTPServerVirtualChroot(jail("d")), {})),
            "site": opening.layered(
                filled(SFTPServerVirtualChroot(jail("e"))), file.parse(RULES, "s.toml"), who
            ),
            "site over memory": opening.layered(
                filled(SFTPServerMemoryStorage()), file.parse(RULES, "s.toml"), who
            ),
        }

    def test_no_link_is_followed_to_read_to_list_or_to_store(self) -> None:
        for name, storage in self.storages().items():
            tree = ConfinedTree(storage, b"/box")
            calls = (tree.find, lambda path, tree=tree: list(tree.entries(path)), tree.source)
            for below in (b"up", b"out", b"file", b"same", b"deep", b"up/secret", b"out/secret", b"same/f"):
                path = tree.within(below)
                for call in calls:
                    with self.subTest(name, path=path, call=call), self.assertRaises(FileProblem):
                        if call(path) is None:
                            raise FileProblem("nothing")
                with self.subTest(name, path=path), self.assertRaises(FileProblem), as_problems():
                    tree.receive(path + b"/new", False).commit()
            with self.subTest(name):
                self.assertEqual([entry.path for entry in tree.entries(b"/box")], [b"/box/in"])
                members = zipping.members_of(tree, [b"/box"], 100)
                self.assertEqual([member.name for member in members], ["box", "box/in", "box/in/f"])
                with as_problems():
                    file = tree.receive(b"/box/up", False)  # the name is taken by a link, which stays
                    file.commit()
                self.assertEqual(file.path, b"/box/up (2)")
                found = storage.lstat(b"/box/up")
                self.assertTrue(found.permissions is not None and found.permissions & 0o120000 == 0o120000)

    def test_a_shared_path_that_has_become_a_link_is_not_there(self) -> None:
        for name, storage in self.storages().items():
            tree = ConfinedTree(storage, b"/way")
            for path in (b"/way", tree.within(b"in/f")):
                with self.subTest(name, path=path), self.assertRaises(FileProblem):
                    if tree.find(path) is None:
                        raise FileProblem("nothing")

    def test_paths_below_are_names_alone(self) -> None:
        tree = ConfinedTree(SFTPServerMemoryStorage(), b"/box")
        for below, path in {
            b"": b"/box",
            b"/": b"/box",
            b"//a//b/": b"/box/a/b",
            b"...": b"/box/...",
        }.items():
            self.assertEqual(tree.within(below), path)
        for below in (b"..", b"a/../b", b"./a", b"a/.", b"a\0"):
            with self.assertRaises(FileProblem):
                tree.within(below)
        root = ConfinedTree(SFTPServerMemoryStorage(), b"/")
        self.assertEqual((root.within(b""), root.within(b"a")), (b"/", b"/a"))
