"""Site files as names of storages: several storages that are opened as one."""

from __future__ import annotations

import os

from pysftpserver.failures import BadInput
from pysftpserver.mountedstorage import SFTPServerMountedStorage
from pysftpserver.site import file
from pysftpserver.storages import by_name, reach, sites
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support.cases import InAPlace


class What(InAPlace):
    def write(self, text: str, mode: int = 0o644) -> str:
        path = self.place / "site.toml"
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    def test_a_file_that_everybody_may_write_is_refused(self) -> None:
        with self.assertRaisesRegex(BadInput, "it is writable by everybody; run chmod o-w"):
            file.read(self.write("", 0o646))
        with self.assertRaisesRegex(BadInput, "not a regular file"):
            file.read(os.devnull)

    def test_its_storages_are_one_tree_with_their_fields_filled_in(self) -> None:
        for name in ("top/al", "shared/al"):
            os.makedirs(self.place / name)
            (self.place / name / name.replace("/", "-")).touch()
        site = self.write(
            f'storage = "jail:{self.place}/top/{{user}}"\n'
            f'[[mount]]\npath = "/s"\nstorage = "jail:{self.place}/shared/{{user}}"\nread_only = true\n'
            '[[mount]]\npath = "/gone"\nstorage = "jail:/nowhere/at/all"\n'
        )
        told: list[str] = []
        opening = by_name.Opening({"user": "al"}, tell=told.append)
        storage = by_name.open_storage(site, "NAME", opening)
        self.assertIsInstance(storage, SFTPServerMountedStorage)
        self.assertEqual(sorted(name for name, _ in storage.opendir(b"/"))[2:], [b"gone", b"s", b"top-al"])
        self.assertIn(b"shared-al", [name for name, _ in storage.opendir(b"/s")])
        self.assertEqual((len(storage.territory() or ()), len(storage.reads())), (1, 1))
        self.assertFalse(storage.uses_network)
        self.assertRegex(told[0], r"site\.toml: line 8: storage: /nowhere/at/all: no such file")
        name = by_name.parse(site, "NAME")
        self.assertFalse(reach.suits_threads(name, "NAME", opening))
        jails = reach.directories(name, "NAME", opening)
        self.assertEqual(jails, [f"{self.place}/{one}/al" for one in ("top", "shared")] + ["/nowhere/at/all"])

    def test_one_storage_alone_is_itself(self) -> None:
        storage = by_name.open_storage(self.write(f'storage = "jail:{self.place}"\n'), "NAME")
        self.assertIs(type(storage), SFTPServerVirtualChroot)

    def test_names_in_it_are_checked_when_it_is_opened(self) -> None:
        top = f'storage = "jail:{self.place}"\n'
        for text, words in (
            (
                'storage = "jail:/srv/{user}"\n',
                r"^NAME: .*/site\.toml: line 1: storage: \{user\}: no user is known",
            ),
            (f'{top}[[mount]]\npath = "/a"\nstorage = "/srv"\n', r"line 4: storage: /srv: unknown storage"),
            (f'{top}[[mount]]\npath = "/a"\nstorage = "b.toml"\n', r"line 4: storage: a site file cannot"),
            (f'{top}[[mount]]\npath = "/a"\nstorage = "s3://a:secret@b"\n', r"line 4: storage: s3: no cred"),
        ):
            with self.subTest(text), self.assertRaisesRegex(BadInput, words):
                by_name.open_storage(self.write(text), "NAME")

    def test_a_mount_may_be_for_some_users_and_one_for_each_of_their_groups(self) -> None:
        for name in ("a", "b", "staff"):
            (self.place / name).mkdir()
        site = self.write(
            f'storage = "jail:{self.place}"\n[group]\na = ["al", "bo"]\nb = ["al"]\n'
            f'[[mount]]\npath = "/of/{{group}}"\nstorage = "jail:{self.place}/{{group}}"\n'
            f'[[mount]]\npath = "/staff"\nstorage = "jail:{self.place}/staff"\nusers = ["a*"]\n'
        )
        for user, mounts in (("al", [b"/of/a", b"/of/b", b"/staff"]), ("bo", [b"/of/a"]), ("cy", [])):
            opening = by_name.Opening({"user": user})
            storage = by_name.open_storage(site, "NAME", opening)
            for path in (b"/of/a", b"/of/b"):
                if path in mounts:
                    self.assertEqual(storage.realpath(path + b"/x"), path + b"/x")
                    storage.mkdir(path + b"/" + user.encode(), 0o755)
                    self.assertTrue((self.place / path[-1:].decode() / user).is_dir())
                else:
                    self.assertRaises(FileNotFoundError, storage.stat, path)
            self.assertEqual(isinstance(storage, SFTPServerMountedStorage), bool(mounts))
            names = reach.parts(by_name.parse(site, "NAME"), "NAME", opening)
            self.assertEqual(len(names), 1 + len(mounts))
            self.assertTrue(all(os.path.isdir(path) for path in reach.directories(
                by_name.parse(site, "NAME"), "NAME", opening)))  # fmt: skip

    def test_a_storage_can_be_put_under_a_site(self) -> None:
        (self.place / "m").mkdir()
        jail = SFTPServerVirtualChroot(self.place)
        mount = f'[[mount]]\npath = "/s"\nstorage = "jail:{self.place}/m"\n'
        storage = sites.put_over(self.write(mount), "--site", jail, by_name.Opening())
        self.assertEqual(storage.realpath(b"/s/x"), b"/s/x")
        with self.assertRaisesRegex(BadInput, "line 1: storage: there is another storage already"):
            sites.put_over(self.write(f'storage = "plain:"\n{mount}'), "--site", jail, by_name.Opening())
        with self.assertRaisesRegex(BadInput, "storage: missing"):
            by_name.open_storage(self.write(mount), "NAME")
