"""pysksync users, and its older spelling useredit: by words, and typed at on a terminal."""

from __future__ import annotations

import os
from typing import Any

from pysftpserver.sksync import config, srp
from tests.sksync.commands import PROGRAM, CommandCase
from tests.sksync.terminals import Terminal

MENU = "q quit: "


class UserEdit(CommandCase):
    module = "pysksync_users"

    def run_it(self, *words: object, stdin: bytes = b"") -> Any:
        """Run pysksync with those words; options alone are those of useredit."""
        if not words or str(words[0]).startswith("-"):
            words = ("useredit", *words)
        return super().run_it(*words, stdin=stdin)

    def names(self, name: str = "sksync.json") -> list[str]:
        return list(config.read((self.place / name).read_text(), name).users)

    def assert_lets_in(self, name: str, password: str) -> None:
        users = config.read((self.place / "sksync.json").read_text(), "f").users
        server, client = srp.ServerLogin(users, b""), srp.ClientLogin(name, password)
        client.check(server.answer(client.prove(*server.challenge(name, client.public))))

    def add(self, name: str, password: str = "old") -> None:
        done = self.run_it("--add", name, "--password-file", "-", stdin=password.encode())
        self.assertEqual((done.returncode, done.stderr), (0, b""))


class Options(UserEdit):
    def test_add_change_list_and_remove_users(self) -> None:
        (self.place / "pw").write_bytes(b"p\xc3\xa4ss word \r\nsecond line\n")
        done = self.run_it("users", "add", "tom", "--password-file", "pw")
        self.assertEqual((done.returncode, done.stdout), (0, b"tom: added to sksync.json\n"), done.stderr)
        self.assert_lets_in("tom", "p\u00e4ss word ")
        done = self.run_it("--change=tom", "--password-file=-", stdin=b"new\n")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assert_lets_in("tom", "new")
        self.add("\u00e4nne")
        self.assertEqual(self.run_it("--list").stdout.decode(), "tom\n\u00e4nne\n")
        self.assertEqual(self.run_it("users", "list").stdout.decode(), "tom\n\u00e4nne\n")
        self.assertEqual(self.run_it("users", "remove", "tom").returncode, 0)
        self.assertEqual(self.names(), ["\u00e4nne"])

    def test_work_on_another_file(self) -> None:
        (self.place / "pw").write_text("secret")
        done = self.run_it("--add", "tom", "other.json", "--password-file", "pw")
        self.assertEqual((done.returncode, done.stdout), (0, b"tom: added to other.json\n"))
        self.assertEqual(self.run_it("--list", "other.json").stdout, b"tom\n")
        self.assertEqual(self.run_it("users", "list", "--config", "other.json").stdout, b"tom\n")

    def test_that_do_not_go_together_are_refused(self) -> None:
        for words in (
            ["--list", "--add", "a"],
            ["--add", "a", "--remove", "b"],
            ["--list", "--password-file", "f"],
            ["--password-file", "f"],
            ["--remove", "a", "--password-file", "f"],
        ):
            with self.subTest(words):
                self.assert_refused(*words, says="--")
        self.assert_refused("--list", "a.json", "b.json", says="more than one configuration")
        self.assert_refused("--nope", says="--help")

    def test_without_a_terminal_need_a_password_file(self) -> None:
        self.assert_refused("--add", "tom", says="--password-file", stdin=b"pw\npw\n")
        self.add("tom")
        self.assert_refused("--change", "tom", says="--password-file")
        self.assert_refused(says="use list, add, change or remove")
        self.assertEqual(self.names(), ["tom"])

    def test_with_a_password_file_that_does_not_do_are_refused(self) -> None:
        self.assert_refused("--add", "tom", "--password-file", "none", says="no such file")
        self.assert_refused("--add", "tom", "--password-file", ".", says="directory")
        for content in (b"", b"\nsecond\n", b"s3cr3t\xff\n", b"s3cr3t\0\n"):
            said = self.assert_refused("--add", "tom", "--password-file", "-", says="", stdin=content)
            self.assertNotIn("s3cr3t", said)
        self.assertEqual(os.listdir(self.place), [])

    def test_say_what_to_do_about_users_that_are_there_or_not(self) -> None:
        self.add("tom")
        self.assert_refused(
            "--add", "tom", "--password-file", "-", says="a user named 'tom' exists", stdin=b"x"
        )
        for words in (
            ("users", "change", "ann"),
            ("users", "remove", "ann"),
            ("--change", "ann"),
            ("--remove", "ann"),
        ):
            done = self.run_it(*words)
            self.assertEqual((done.returncode, done.stdout), (1, b""))
            self.assertIn(b"pysksync: no user named 'ann' in sksync.json; ", done.stderr)
        self.assert_refused("--list", "none.json", says="none.json: no such file")
        self.assert_refused("--add", "a\nb", "--password-file", "-", says="a\\nb", stdin=b"x")
        self.assert_lets_in("tom", "old")

    def test_name_the_extra_that_is_missing(self) -> None:
        self.assert_names_the_extra("srptools", "useredit", "--list")

    def test_start_without_what_makes_starting_slow(self) -> None:
        self.assert_starts_quickly()


class OnATerminal(UserEdit):
    def terminal(self, *words: str) -> Terminal:
        return Terminal(PROGRAM, *(words or ("users", "edit")), cwd=self.place)

    def test_a_password_is_asked_for_twice_and_not_shown(self) -> None:
        screen = self.terminal("users", "add", "tom")
        screen.answer("Password for tom: ", "s3cr3t")
        screen.answer("again: ", "s3cr3t")
        self.assertEqual(screen.end(), 0, screen.text)
        self.assert_lets_in("tom", "s3cr3t")
        self.assertNotIn("s3cr3t", screen.text)
        self.assertIn("tom: added to sksync.json", screen.text)

    def test_two_passwords_that_differ_change_nothing(self) -> None:
        self.add("tom")
        screen = self.terminal("useredit", "--change", "tom")
        screen.answer("Password for tom: ", "s3cr3t")
        screen.answer("again: ", "s3cr3d")
        self.assertEqual(screen.end(), 2)
        self.assertIn("differ", screen.text)
        self.assertNotIn("s3cr3", screen.text)
        self.assert_lets_in("tom", "old")

    def test_what_cannot_be_is_said_before_a_password_is_asked_for(self) -> None:
        self.add("tom")
        for words, says in (
            (("users", "add", "tom"), "exists"),
            (("users", "change", "ann"), "no user named 'ann'"),
            (("users", "add", ""), "cannot be empty"),
        ):
            screen = self.terminal(*words)
            self.assertEqual(screen.end(), 1 if "ann" in words else 2)
            self.assertNotIn("Password", screen.text)
            self.assertIn(says, screen.text)

    def test_an_end_of_input_and_an_interrupt_at_the_password_change_nothing(self) -> None:
        for typed, status in ((b"\x04", 2), (b"\x03", 130)):
            screen = self.terminal("users", "add", "tom")
            screen.type("Password for tom: ", typed)
            self.assertEqual(screen.end(), status, screen.text)
        self.assertEqual(os.listdir(self.place), [])

    def test_the_menu_makes_each_change_at_once_and_goes_on_after_errors(self) -> None:
        screen = self.terminal()

        def tell(*pairs: tuple[str, str]) -> None:
            for prompt, line in pairs:
                screen.answer(prompt, line)

        def typed(password: str) -> tuple[tuple[str, str], ...]:
            return ("Name: ", "tom"), ("Password for tom: ", password), ("again: ", password)

        tell((MENU, "l"))
        screen.read("no such file")
        tell((MENU, "a"), *typed("s3cr3t"))
        screen.read("tom: added to sksync.json")
        self.assert_lets_in("tom", "s3cr3t")
        tell((MENU, "x"), ("'x' is not one of", ""), (MENU, "a"), ("Name: ", "tom"))
        screen.read("exists")
        tell((MENU, "c"), *typed("n3w"))
        screen.read("tom: has another password")
        self.assert_lets_in("tom", "n3w")
        tell((MENU, "l"))
        screen.read("\ntom\r\n")
        tell((MENU, "r"), ("Name: ", "tom"))
        screen.read("tom: removed")
        tell((MENU, "q"))
        self.assertEqual(screen.end(), 0, screen.text)
        self.assertEqual(self.names(), [])
        self.assertNotIn("s3cr3t", screen.text)
        self.assertNotIn("n3w", screen.text)

    def test_the_menu_ends_at_the_end_of_input(self) -> None:
        screen = self.terminal()
        screen.type(MENU, b"\x04")
        self.assertEqual(screen.end(), 0, screen.text)
