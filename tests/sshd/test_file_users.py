"""Users in a TOML file that people edit while the server runs."""

from __future__ import annotations

import gc
import os
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

from pysftpserver.people import users_file
from pysftpserver.people.file_users import FileUsers
from pysftpserver.people.updating import uncollected
from pysftpserver.people.users import DirectoryError
from tests.sshd.material import Watcher, blob, line
from tests.support.cases import InAPlace
from tests.support.lines import Lines
from tests.support.waiting import eventually


class Case(InAPlace, unittest.IsolatedAsyncioTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.file = self.place / "users.toml"
        self.told = Lines()

    def write(self, text: str, file: Path | None = None, mode: int = 0o644) -> None:
        """As editors do it: a new file in the old one's place."""
        file = file or self.file
        new = file.with_name(file.name + ".new")
        new.write_text(text)
        new.chmod(mode)
        new.replace(file)

    def directory(self, **options: Any) -> Watcher:
        return Watcher(FileUsers(self.file, self.told.log, **{"interval": 0.05, **options}))

    async def refused(self, *words: str) -> None:
        with self.assertRaises(DirectoryError) as caught:
            await FileUsers(self.file, self.told.log).start(lambda name: None)
        for word in words:
            self.assertIn(word, str(caught.exception))
        self.assertTrue(str(caught.exception).isprintable())


class Loading(Case):
    async def test_users_are_known_with_all_their_fields(self) -> None:
        self.write(
            f"[users.alice]\nfolder = 'a'\nkeys = ['{line()} x', '{line(1)}']\nactive = true\nstorage = 's'\n"
            "[users.bob]\nactive = false\n[users.'c d']\n"
        )
        async with self.directory() as watch:
            alice, bob, carol = watch.directory.users()
            self.assertEqual(
                (alice.id, alice.name, alice.folder, alice.is_active), ("alice", "alice", "a", True)
            )
            self.assertEqual((alice.keys, alice.storage), (frozenset((blob(), blob(1))), "s"))
            self.assertEqual(
                (bob.folder, bob.is_active, bob.keys, bob.storage), ("bob", False, frozenset(), None)
            )
            self.assertEqual((carol.name, carol.folder, carol.is_active), ("c d", "c d", True))
            self.assertEqual((watch.directory.find("dave"), watch.directory.trouble()), (None, None))
        self.assertEqual(self.told.lines, [])

    async def test_a_name_that_is_no_safe_folder_needs_one(self) -> None:
        self.write('[users.".x"]\n[users."a/b"]\n[users.".y"]\nfolder = "y"\n[users.bad]\nfolder = "../up"\n')
        async with self.directory() as watch:
            self.assertEqual([user.name for user in watch.directory.users()], [".y"])
        self.assertEqual(self.told.count("the user cannot log in"), 3, self.told)

    async def test_a_mistake_in_one_user_harms_no_other(self) -> None:
        self.write(
            f"[users.good]\nkeys = ['{line()}']\n[users.typo]\nactve = false\n"
            "[users.text]\nactive = 'false'\n"
            f"[users.nets]\nnetworks = '192.0.2.300'\nkeys = ['{line()}']\n"
            "[users.list]\nkeys = 'x'\n[users.numbers]\nkeys = [1]\n"
            f"[users.partly]\nkeys = ['rubbish', '{line(2)}']\n"
        )
        async with self.directory() as watch:
            self.assertEqual([user.name for user in watch.directory.users()], ["good", "partly"])
            self.assertEqual(watch.directory.find("partly").keys, {blob(2)})
        self.assertEqual(self.told.count("'actve' is not a field"), 1, self.told)
        self.assertEqual(self.told.count("user partly: key 1 is left out"), 1, self.told)

    async def test_an_authorized_keys_file_is_found_beside_the_file(self) -> None:
        (self.place / "keys").mkdir(mode=0o755)
        self.write(f"# x\n{line(1)}\nrestrict {line(2)}\n", self.place / "keys" / "alice")
        self.write(f"[users.alice]\nkeys = ['{line()}']\nauthorized_keys = 'keys/alice'\n")
        async with self.directory() as watch:
            self.assertEqual(watch.directory.find("alice").keys, {blob(), blob(1)})
        self.assertEqual(self.told.count("keys/alice, line 3: there are options"), 1, self.told)

    async def test_a_broken_file_is_refused_with_line_and_column(self) -> None:
        self.write("[users.alice]\nfolder = \n")
        await self.refused(str(self.file), "line 2, column 10")
        self.write("[users.alice]\nkeys = ['''")
        await self.refused("line 2, column 12")
        self.write("[user.alice]\n")
        await self.refused("'user' does not belong there")
        self.write("users = 3\n")
        await self.refused("[users.NAME]")
        for value in (f"{'[' * 5000}", "9" * 5000):
            self.write(f"[users.alice]\nkeys = {value}\n")
            await self.refused("nested too deeply, or a number in it is too long")
        self.file.write_bytes(b"\n# \xff\n")
        await self.refused("line 2: not UTF-8")
        self.file.unlink()
        await self.refused("no such file")
        self.file.mkdir()
        await self.refused("not a regular file")

    async def test_a_file_that_others_may_write_is_refused(self) -> None:
        for mode in (0o664, 0o646, 0o666, 0o602):
            self.write("[users.alice]\n", mode=mode)
            await self.refused(f"it is writable by others (mode {mode:04o})", "chmod go-w")
        self.write("[users.alice]\n", mode=0o600)
        self.place.chmod(0o777)
        await self.refused("its directory is writable by others")
        self.place.chmod(0o1777)
        async with self.directory() as watch:
            self.assertIsNotNone(watch.directory.find("alice"))

    @unittest.skipUnless(os.geteuid() == 0, "only root can give a file away")
    async def test_a_file_of_another_user_is_refused(self) -> None:
        self.write("[users.alice]\n")
        os.chown(self.file, 4242, -1)
        await self.refused("belongs to user number 4242")

    async def test_an_authorized_keys_file_that_others_may_write_gives_no_key(self) -> None:
        self.write(line(1), self.place / "k", mode=0o666)
        self.write(f"[users.alice]\nkeys = ['{line()}']\nauthorized_keys = 'k'\n")
        async with self.directory() as watch:
            self.assertEqual(watch.directory.find("alice").keys, {blob()})
        self.assertEqual(self.told.count("user alice", "it is writable by others"), 1, self.told)


class Collecting(Case):
    async def test_no_garbage_is_looked_for_while_users_are_loaded_and_it_is_afterwards(self) -> None:
        seen = []

        def load(*arguments: Any) -> Any:
            seen.append(gc.isenabled())
            return users_file.load(*arguments)

        self.write("[users.a]\n")
        with mock.patch("pysftpserver.people.file_users.users_file", wraps=users_file, load=load):
            async with self.directory() as watch:
                a = watch.directory.find("a")
                self.write("[users.a]\n[users.b]\n")
                await watch.until(lambda: watch.directory.find("b"))
                self.assertIs(watch.directory.find("a"), a)  # what has not changed is no new object
                await watch.until(gc.isenabled)
        self.assertEqual(seen, [False, False])

    async def test_a_load_that_hangs_does_not_put_it_off_for_ever(self) -> None:
        with mock.patch("pysftpserver.people.updating.UNCOLLECTED", 0.01), uncollected():
            self.assertFalse(gc.isenabled())
            await eventually(gc.isenabled)
        self.assertTrue(gc.isenabled())


class Changes(Case):
    async def test_a_change_is_seen_however_the_file_is_written(self) -> None:
        self.write("[users.alice]\n[users.bob]\n")
        async with self.directory() as watch:
            self.write("[users.alice]\nactive = false\n[users.bob]\n")
            await watch.until(lambda: not watch.directory.find("alice").is_active)
            self.assertEqual(watch.changes, ["alice"])
            with self.file.open("a") as file:
                file.write("[users.carol]\n")
            await watch.until(lambda: watch.directory.find("carol"))
            self.file.unlink()
            self.file.write_text("[users.bob]\nfolder = 'b'\n")
            self.file.chmod(0o644)
            await watch.until(lambda: watch.directory.find("alice") is None)
            await watch.until(lambda: watch.directory.trouble() is None)
            self.assertEqual(watch.directory.find("bob").folder, "b")
            self.assertEqual(sorted(watch.changes), ["alice", "alice", "bob", "carol", "carol"])

    async def test_a_change_of_an_authorized_keys_file_is_seen_and_its_removal_takes_the_keys(self) -> None:
        keys = self.place / "k"
        self.write("[users.alice]\nauthorized_keys = 'k'\n")
        async with self.directory() as watch:
            self.assertEqual(self.told.count("authorized_keys file", "no such file"), 1, self.told)
            for text, expected in ((line(), {blob()}), (f"{line(1)}\n{line(2)}", {blob(1), blob(2)})):
                self.write(text, keys)
                await watch.until(lambda expected=expected: watch.directory.find("alice").keys == expected)
            keys.unlink()
            await watch.until(lambda: not watch.directory.find("alice").keys)

    async def test_a_broken_version_keeps_the_last_good_users_and_says_so_once(self) -> None:
        self.write("[users.alice]\n")
        async with self.directory() as watch:
            looks = 0

            async def looked(look: Any = watch.directory.look) -> None:  # type: ignore[attr-defined]
                nonlocal looks
                await look()
                looks += 1

            watch.directory.look = looked  # type: ignore[attr-defined]
            self.write("[users.alice]\nfolder =\n[users.bob]\n")
            await watch.until(watch.directory.trouble)
            self.assertIn(f"{self.file}: line 2, column 9", str(watch.directory.trouble()))
            self.assertIn("the server keeps the last good users", str(watch.directory.trouble()))
            seen = looks
            await watch.until(lambda: looks > seen + 3)
            self.assertEqual(self.told.count("line 2, column 9"), 1, self.told)
            self.assertIsNotNone(watch.directory.find("alice"))
            self.write("[users.alice]\n[users.bob]\n")
            await watch.until(lambda: watch.directory.find("bob"))
            self.assertIsNone(watch.directory.trouble())
            self.assertEqual((watch.changes, self.told.count("usable again")), (["bob"], 1))

    async def test_what_may_be_half_a_file_ends_nobodys_session(self) -> None:
        self.write("[users.alice]\n")
        async with self.directory() as watch:
            for spoil in (
                lambda: self.write(""),
                lambda: self.write("# nobody\n"),
                lambda: self.file.unlink(),
                lambda: self.write("[users.mallory]\n", mode=0o666),
            ):
                spoil()
                await watch.until(watch.directory.trouble)
                self.assertEqual((len(list(watch.directory.users())), watch.changes), (1, []))
                self.write("[users.alice]\n")
                await watch.until(lambda: watch.directory.trouble() is None)
            self.write("[users]\n")
            await watch.until(lambda: not list(watch.directory.users()))
            self.assertEqual((watch.changes, watch.directory.trouble()), (["alice"], None))

    async def test_a_link_that_is_turned_to_another_file_is_a_change(self) -> None:
        for name in ("one", "two"):
            self.write(f"[users.{name}]\n", self.place / name)
        self.file.symlink_to("one")
        async with self.directory() as watch:
            (self.place / "link").symlink_to("two")
            (self.place / "link").replace(self.file)
            await watch.until(lambda: watch.directory.find("two"))

    async def test_a_problem_is_told_once_and_again_when_it_is_another(self) -> None:
        self.write("[users.alice]\nkeys = ['bad']\n")
        async with self.directory() as watch:
            for name in ("b", "c"):
                self.write(f"[users.alice]\nkeys = ['bad']\n[users.{name}]\n")
                await watch.until(lambda name=name: watch.directory.find(name))
            self.assertEqual(self.told.count("user alice"), 1, self.told)
            self.write("[users.alice]\nkeys = ['restrict bad']\n")
            await watch.until(lambda: watch.directory.find("c") is None)
            self.assertEqual(self.told.count("user alice"), 2, self.told)
