"""Site files: what they may say, and several storages that are opened as one by name."""

from __future__ import annotations

import os

from pysftpserver.failures import BadInput
from pysftpserver.mountedstorage import SFTPServerMountedStorage
from pysftpserver.storages import by_name, reach, sitefile
from pysftpserver.virtualchroot import SFTPServerVirtualChroot
from tests.support.cases import InAPlace

MOUNT = '[[mount]]\npath = "/a"\nstorage = "jail:/srv"\n'


class What(InAPlace):
    def refused(self, text: str) -> str:
        with self.assertRaises(BadInput) as raised:
            sitefile.parse(text, "s.toml")
        return raised.exception.message

    def test_what_it_says(self) -> None:
        site = sitefile.parse(f'storage = "jail:/x"\nacross = "copy"\n{MOUNT}read_only = true\n', "s.toml")
        (mount,) = site.mounts
        self.assertEqual((site.storage, site.across), ("jail:/x", "copy"))
        self.assertEqual((mount.path, mount.storage, mount.read_only), ("/a", "jail:/srv", True))
        self.assertEqual(mount.place, "s.toml: line 5: storage")

    def test_mistakes_are_named_with_file_line_and_key(self) -> None:
        top = 'storage = "jail:/x"\n'
        for text, words in (
            ("", "s.toml: storage: missing"),
            ("storage = 1\n", "s.toml: line 1: storage: write a text"),
            ("storage = \n", "s.toml: Invalid value (at line 1, column 11)"),
            (f"{top}\nquota = 1\n", "s.toml: line 3: quota: unknown key; known are storage, mount, across"),
            (f"{top}[[rule]]\n", "s.toml: line 2: rule: unknown key"),
            (f"{top}[mount]\n", "s.toml: line 2: mount: write tables"),
            (f'{top}across = "move"\n', "s.toml: line 2: across: write"),
            (f'{top}[[mount]]\nstorage = "jail:/a"\n', "s.toml: mount 1: path: missing"),
            (
                f"{top}{MOUNT}ro = true\n",
                "line 5: ro: unknown key; known are path, storage, read_only",
            ),
            (f'{top}{MOUNT}read_only = "yes"\n', "s.toml: line 5: read_only: write true or false"),
            (f"{top}{MOUNT}{MOUNT}", "s.toml: line 6: path: /a is mounted twice"),
            (
                f'{top}{MOUNT}[[mount]]\npath = "/a/../b"\nstorage = "x"\n',
                "line 6: path: write an abs",
            ),
            (f'{top}[[mount]]\npath = "/"\nstorage = "x"\n', "s.toml: line 3: path: write an absolute path"),
        ):
            with self.subTest(text):
                self.assertIn(words, self.refused(text))

    def write(self, text: str, mode: int = 0o644) -> str:
        path = self.place / "site.toml"
        path.write_text(text)
        path.chmod(mode)
        return str(path)

    def test_a_file_that_everybody_may_write_is_refused(self) -> None:
        with self.assertRaisesRegex(BadInput, "everybody may write it; run chmod o-w"):
            sitefile.read(self.write("", 0o646))
        with self.assertRaisesRegex(BadInput, "not a regular file"):
            sitefile.read(os.devnull)

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
        self.assertEqual(len(storage.territory() or ()), 2)
        self.assertFalse(storage.uses_network)
        self.assertRegex(told[0], r"site\.toml: line 8: storage: /nowhere/at/all: no such file")
        name = by_name.parse(site, "NAME")
        self.assertFalse(reach.uses_network(name, "NAME", opening))
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
                r"^NAME: .*/site\.toml: storage: \{user\}: no user is known",
            ),
            (f'{top}[[mount]]\npath = "/a"\nstorage = "/srv"\n', r"line 4: storage: /srv: unknown storage"),
            (f'{top}[[mount]]\npath = "/a"\nstorage = "b.toml"\n', r"line 4: storage: a site file cannot"),
            (f'{top}[[mount]]\npath = "/a"\nstorage = "s3://a:secret@b"\n', r"line 4: storage: s3: no cred"),
        ):
            with self.subTest(text), self.assertRaisesRegex(BadInput, words):
                by_name.open_storage(self.write(text), "NAME")
