"""Changing the users in sksync.json, and not a byte of anything else."""

from __future__ import annotations

import contextlib
import fcntl
import json
import multiprocessing
import os
import random
import secrets
import stat
import unittest
from collections.abc import Iterator
from typing import Any
from unittest import mock

from pysftpserver.failures import BadInput
from pysftpserver.host import wholefiles
from pysftpserver.sksync import config, jsontext, srp, users
from tests.support.cases import InAPlace

FIELD = """{
    "users": {
        "testuser": {
            "authsrp": [
                "cf78a7a5", \n                "7443843a24ac"
            ], "since": 2012,
        },
        "other" : {"note": "\\u00e4,}", "authsrp": ["00", "01",]}
    }, \n\t"host":"h" ,
    "server_dir_whitelist": ["a,]", "{\\"users\\": {}}", ],
}
"""


class UsersCase(InAPlace):
    def setUp(self) -> None:
        super().setUp()
        self.file = self.place / "sksync.json"
        self.path = str(self.file)

    def write(self, text: str) -> None:
        self.file.write_bytes(text.encode())

    def text(self) -> str:
        return self.file.read_bytes().decode()

    def refused(self, act: Any, *arguments: Any) -> str:
        with self.assertRaises(BadInput) as caught:
            act(*arguments)
        said = str(caught.exception)
        self.assertTrue(said.isprintable(), said)
        return said

    def assert_lets_in(self, name: str, password: str) -> None:
        server = srp.ServerLogin(config.read(self.text(), self.path).users, b"decoy")
        client = srp.ClientLogin(name, password)
        client.check(server.answer(client.prove(*server.challenge(name, client.public))))

    def assert_alone(self) -> None:
        self.assertEqual(os.listdir(self.place), ["sksync.json"])


class Users(UsersCase):
    def test_are_listed_in_the_files_order(self) -> None:
        self.write(FIELD)
        self.assertEqual(users.names(self.path), ["testuser", "other"])
        self.assertIn("no such file", self.refused(users.names, str(self.place / "none")))

    def test_are_added_to_a_file_that_was_not_there(self) -> None:
        users.add(self.path, "tom", "secret")
        self.assert_lets_in("tom", "secret")
        self.assertNotIn("secret", self.text())
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)
        self.assert_alone()

    def test_are_added_behind_the_last_and_the_rest_stays_byte_for_byte(self) -> None:
        self.write(FIELD)
        users.add(self.path, '\u00e4nne "x"', "secret")
        self.assert_lets_in('\u00e4nne "x"', "secret")
        before, after = FIELD.split('"01",]}')
        self.assertTrue(
            self.text().startswith(before + '"01",]},\n        "\u00e4nne \\"x\\"": {"authsrp": [')
        )
        self.assertTrue(self.text().endswith("]}" + after))

    def test_get_another_password_and_keep_what_else_they_have(self) -> None:
        self.write(FIELD)
        users.change(self.path, "testuser", "secret")
        self.assert_lets_in("testuser", "secret")
        before = FIELD[: FIELD.index("[")]
        after = FIELD[FIELD.index('], "since"') + 1 :]
        self.assertTrue(self.text().startswith(before) and self.text().endswith(after), self.text())
        with self.assertRaises(srp.Refused):
            self.assert_lets_in("testuser", "testpassword")

    def test_are_removed_first_last_and_only(self) -> None:
        self.write(FIELD)
        users.remove(self.path, "testuser")
        self.assertEqual(self.text(), FIELD[: FIELD.index('"testuser"')] + FIELD[FIELD.index('"other"') :])
        users.remove(self.path, "other")
        self.assertEqual(users.names(self.path), [])
        self.assertEqual(self.text(), '{\n    "users": {}' + FIELD[FIELD.index(', \n\t"host"') :])
        self.write(FIELD)
        users.remove(self.path, "other")
        self.assertEqual(users.names(self.path), ["testuser"])
        self.assertTrue(self.text().endswith(FIELD[FIELD.index(', \n\t"host"') :]))

    def test_are_added_where_there_is_no_key_or_an_empty_one_and_with_its_line_ends(self) -> None:
        for text in ("{}", "{ }", '{\r\n  "host": "h",\r\n}\r\n', '{"users":{},}', '{\n "users": {\n }\n}'):
            with self.subTest(text):
                self.write(text)
                users.add(self.path, "a", "1")
                users.add(self.path, "b", "2")
                self.assert_lets_in("a", "1")
                self.assert_lets_in("b", "2")
                self.assertEqual(self.text().count("\r\n"), self.text().count("\n") if "\r" in text else 0)

    def test_of_random_files_are_changed_and_all_other_values_stay(self) -> None:
        seed = secrets.randbits(32)
        chance = random.Random(seed)
        edited = 0
        for _ in range(300):
            given = {
                f"u{number},}}": {"authsrp": ["00", "01"], "x": [number]}
                for number in range(chance.randrange(4))
            }
            keys: list[tuple[str, Any]] = [("unknown {", [{}, [], ",]"]), ("host", '\u00e4\\",}')]
            keys += [("users", given)] if given or chance.random() < 0.5 else []
            chance.shuffle(keys)
            indent = chance.choice([None, 0, 1, 4, "\t"])
            text = json.dumps(dict(keys), indent=indent, ensure_ascii=chance.random() < 0.5)
            if chance.random() < 0.5:  # and a comma after each last item
                text = text.replace('"]', '", ]').replace("}\n", "},\n").replace("},\n}", "}\n,}")
            try:
                config.read(text, "f")
            except BadInput:
                continue  # two commas in a row
            edited += 1
            self.assert_edits(text, given, chance, f"seed {seed}: {text}")
        self.assertGreater(edited, 150, f"seed {seed}")

    def assert_edits(self, text: str, given: dict[str, Any], chance: random.Random, shown: str) -> None:
        expected = config.parse(text, "f")
        self.write(text)
        pair = json.dumps(["aa", "bb"])
        with mock.patch.object(users, "_pair", return_value=pair):
            action = chance.choice(["add", "change", "remove"] if given else ["add"])
            name = "new" if action == "add" else chance.choice(list(given))
            if action == "remove":
                users.remove(self.path, name)
                del expected["users"][name]
            else:
                getattr(users, action)(self.path, name, "p")
                user = expected.setdefault("users", {}).setdefault(name, {})
                user["authsrp"] = ["aa", "bb"]
        self.assertEqual(config.parse(self.text(), "f"), expected, shown)


class Refusals(UsersCase):
    def test_of_names_that_cannot_be(self) -> None:
        for name in (
            "",
            "a\0",
            "a\nb",
            "\x1b",
            "\x7f",
            "\x85",
            "\u2028",
            "\ud800",
            "a" * 256,
            "\u00e4" * 128,
        ):
            with self.subTest(name):
                self.refused(users.add, self.path, name, "secret")
        self.assertEqual(os.listdir(self.place), [])
        users.add(self.path, "\u00e4" * 127, "p")

    def test_of_passwords_that_cannot_be_do_not_show_them(self) -> None:
        for password in ("", "s3cr3t\0", "s3cr3t\n", "s3cr3t\udcff", "s3cr3t" * 1000):
            self.assertNotIn("s3cr3t", self.refused(users.add, self.path, "tom", password))
        self.assertEqual(os.listdir(self.place), [])

    def test_say_what_to_do(self) -> None:
        self.write(FIELD)
        self.assertIn("change the password", self.refused(users.add, self.path, "other", "p"))
        self.assertIn("change the password", self.refused(users.check_new, self.path, "other"))
        for act in (users.check_known, users.remove, lambda path, name: users.change(path, name, "p")):
            self.assertIn("pysksync users list", self.refused(act, self.path, "none"))
            self.assertIn("adding a user", self.refused(act, str(self.place / "none.json"), "other"))
        self.assertEqual(self.text(), FIELD)

    def test_of_files_that_are_no_configuration_leave_them(self) -> None:
        for content in (
            b"",
            b"[]",
            b"{",
            b'{"port": "x"}',
            b'{"a": 1, "a": 2}',
            b'{"host": "\xff"}',
            b"\xef\xbb\xbf{}",
        ):
            with self.subTest(content):
                self.file.write_bytes(content)
                self.refused(users.add, self.path, "tom", "p")
                self.assertEqual(self.file.read_bytes(), content)
                self.assert_alone()
        self.file.write_bytes(b" " * (config.LONGEST_FILE + 1))
        self.assertIn("longer", self.refused(users.names, self.path))

    def test_of_what_is_no_file(self) -> None:
        os.mkfifo(self.path)
        self.assertIn("not a regular file", self.refused(users.add, self.path, "tom", "p"))
        self.assertIn("not a regular file", self.refused(users.add, str(self.place), "tom", "p"))
        self.assertIn("not a regular file", self.refused(users.names, str(self.place)))
        missing = str(self.place / "missing" / "sksync.json")
        self.assertIn("no such file", self.refused(users.add, missing, "tom", "p"))

    def test_by_a_full_disk_leave_the_old_file_and_nothing_else(self) -> None:
        self.write(FIELD)
        for failing in ("fsync", "replace", "fchmod"):
            with mock.patch.object(os, failing, side_effect=OSError(28, "No space left on device")):
                self.assertIn("not changed", self.refused(users.add, self.path, "tom", "p"))
            self.assertEqual(self.text(), FIELD)
            self.assert_alone()

    def test_of_a_result_that_cannot_be_read_leave_the_old_file(self) -> None:
        self.write(FIELD)
        with mock.patch.object(jsontext, "with_member", return_value="{"):
            self.refused(users.add, self.path, "tom", "p")
        self.assertEqual(self.text(), FIELD)
        self.assert_alone()


def add_some(path: str, number: int) -> None:
    for count in range(5):
        users.add(path, f"user {number} {count}", "p")


class Files(UsersCase):
    def test_that_are_changed_are_their_owners_alone(self) -> None:
        self.write(FIELD)
        self.file.chmod(0o644)
        users.remove(self.path, "other")
        self.assertEqual(stat.S_IMODE(self.file.stat().st_mode), 0o600)

    @unittest.skipUnless(os.geteuid() == 0, "root alone can edit for others")
    def test_that_root_changes_stay_their_owners(self) -> None:
        self.write(FIELD)
        os.chown(self.path, 1234, 4321)
        users.remove(self.path, "other")
        st = self.file.stat()
        self.assertEqual((st.st_uid, st.st_gid), (1234, 4321))

    def test_that_links_lead_to_are_changed_and_the_links_stay(self) -> None:
        (self.place / "d").mkdir()
        real = self.place / "d" / "real.json"
        real.write_text(FIELD)
        self.file.symlink_to("d/real.json")
        users.remove(self.path, "other")
        self.assertTrue(self.file.is_symlink())
        self.assertNotIn("other", real.read_text())
        self.assertEqual(os.listdir(self.place / "d"), ["real.json"])

    def test_that_another_replaces_meanwhile_get_the_change_on_top_of_it(self) -> None:
        self.write(FIELD)
        open_temporary = wholefiles.open_temporary
        others = iter([FIELD.replace('"h"', '"first"'), FIELD.replace('"h"', '"second"')])

        @contextlib.contextmanager
        def slow(*arguments: Any, **more: Any) -> Iterator[wholefiles.TemporaryFile]:
            with open_temporary(*arguments, **more) as file:
                text = next(others, None)
                if text is not None:
                    (self.place / "new").write_text(text)
                    os.replace(self.place / "new", self.path)
                yield file

        with mock.patch.object(wholefiles, "open_temporary", slow):
            users.add(self.path, "tom", "p")
        self.assertIn('"second"', self.text())
        self.assert_lets_in("tom", "p")
        self.assert_alone()

    def test_that_another_makes_meanwhile_get_the_change_on_top_of_it(self) -> None:
        commit = wholefiles.TemporaryFile.commit

        def slow(file: wholefiles.TemporaryFile, replace: bool = True) -> None:
            self.write('{"host": "theirs"}')
            commit(file, replace)

        with mock.patch.object(wholefiles.TemporaryFile, "commit", slow):
            users.add(self.path, "tom", "p")
        self.assertEqual(config.read(self.text(), "f").listen_address, ("theirs",))
        self.assert_lets_in("tom", "p")

    def test_that_never_stay_the_same_are_given_up(self) -> None:
        self.write(FIELD)
        with mock.patch.object(users, "_is_same", return_value=False):
            self.assertIn("keeps changing", self.refused(users.add, self.path, "tom", "p"))
        self.assertEqual(self.text(), FIELD)
        self.assert_alone()

    def test_are_locked_while_they_are_changed(self) -> None:
        self.write(FIELD)
        is_same = users._is_same

        def looked(target: str, st: os.stat_result) -> bool:
            with open(target, "rb") as file, self.assertRaises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return is_same(target, st)

        with mock.patch.object(users, "_is_same", looked):
            users.add(self.path, "tom", "p")
        self.assert_lets_in("tom", "p")

    def test_that_several_change_at_once_have_all_their_changes(self) -> None:
        context = multiprocessing.get_context("spawn")
        running = [context.Process(target=add_some, args=(self.path, number)) for number in range(3)]
        for one in running:
            one.start()
        for one in running:
            one.join(60)
            self.assertEqual(one.exitcode, 0)
        expected = {f"user {number} {count}" for number in range(3) for count in range(5)}
        self.assertEqual(set(users.names(self.path)), expected)
        self.assert_alone()
