"""pysftpremo keygen, adduser, users and deluser, and the names by which older installations know them."""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

from pysftpserver.remo import crypto
from pysftpserver.remo.users import Permissions, Users
from tests.remo.running import COMMAND, called, environment
from tests.sksync.terminals import Terminal
from tests.support.cases import InAPlace
from tests.support.forked import run
from tests.support.paths import ROOT

VARIABLE = "PYSFTPREMO_PASSPHRASE"
CODE = "import sys; from pysftpserver.cli.pysftpremo import main; sys.exit(main(sys.argv[1:]))"


class KeyCase(InAPlace):
    def run_it(self, *words: str, program: str = "", **variables: str) -> Any:
        if not program:
            done = called(words, self.place, **variables)
            done.stdout, done.stderr = done.stdout.decode(), done.stderr.decode()
            return done
        return run([sys.executable, program, *words], cwd=self.place, env=environment(**variables), text=True)

    def fine(self, *words: str, **how: Any) -> str:
        done = self.run_it(*words, **how)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return str(done.stdout)

    def refused(self, words: str, *arguments: str, status: int = 2, **how: Any) -> None:
        done = self.run_it(*arguments, **how)
        self.assertEqual((done.returncode, done.stdout), (status, ""))
        self.assertRegex(done.stderr, f"^pysftpremo: .*{words}.*\n$")

    def load(self, name: str, passphrase: bytes | None = None) -> crypto.PrivateKey:
        return crypto.load_private((self.place / name).read_bytes(), passphrase)


class Keys(KeyCase):
    def test_a_pair_of_files_that_belong_together_is_made(self) -> None:
        said = self.fine("keygen", "-n", "one")
        self.assertEqual(sorted(path.name for path in self.place.iterdir()), ["one.pem", "one_key.pem"])
        self.assertEqual((self.place / "one_key.pem").stat().st_mode & 0o777, 0o600)
        key = self.load("one_key.pem").public_key()
        self.assertEqual((self.place / "one.pem").read_bytes(), crypto.public_pem(key))
        self.assertIn("not encrypted", said)
        self.assertIn(crypto.fingerprint(key), said)

    def test_the_name_that_older_installations_know_takes_a_folder(self) -> None:
        (self.place / "d").mkdir()
        self.fine("one", "d", program=str(ROOT / "bin/build_key_pair"))
        self.load("d/one_key.pem")
        self.refused("unexpected argument 'e'", "keygen", "one", "d", "e")
        self.refused("no such file", "keygen", "one", "missing")

    def test_no_file_is_replaced_and_none_is_made_then(self) -> None:
        for name in ("one_key.pem", "one.pem"):
            (self.place / name).symlink_to("nowhere")
            self.refused(f"{name} already exists", "keygen", "-n", "one")
            self.assertEqual([path.name for path in self.place.iterdir()], [name])
            (self.place / name).unlink()

    def test_the_passphrase_of_the_environment_encrypts(self) -> None:
        self.assertNotIn("not encrypted", self.fine("keygen", "one", **{VARIABLE: "caf\u00e9"}))
        with self.assertRaises(crypto.PassphraseNeeded):
            self.load("one_key.pem")
        self.load("one_key.pem", "caf\u00e9".encode())
        with self.assertRaisesRegex(crypto.KeyProblem, "passphrase is wrong"):
            self.load("one_key.pem", b"cafe")
        self.fine("keygen", "--no-passphrase", "two", **{VARIABLE: "x"})
        self.load("two_key.pem")

    def test_a_passphrase_is_asked_for_twice_on_a_terminal_and_not_shown(self) -> None:
        terminal = Terminal(CODE, "keygen", "one", cwd=self.place)
        terminal.answer("(empty for none): ", "secret-word")
        terminal.answer("again: ", "secret-word")
        self.assertEqual(terminal.end(), 0)
        self.assertNotIn("secret-word", terminal.text)
        self.load("one_key.pem", b"secret-word")
        terminal = Terminal(CODE, "keygen", "two", cwd=self.place)
        terminal.answer("(empty for none): ", "a")
        terminal.answer("again: ", "b")
        self.assertEqual(terminal.end(), 2)
        self.assertIn("differ; no key was made", terminal.text)
        self.assertFalse((self.place / "two_key.pem").exists())


class People(KeyCase):
    def setUp(self) -> None:
        super().setUp()
        self.key = crypto.new_key().public_key()
        (self.place / "bob.pem").write_bytes(crypto.public_pem(self.key))

    def test_a_user_is_let_in_listed_and_removed(self) -> None:
        self.assertIn("bob: added, all, ", self.fine("users", "add", "bob"))
        self.assertEqual((self.place / "users_db.sqlite").stat().st_mode & 0o777, 0o600)
        self.fine("users", "add", "-p", "read,commands", "eve", "bob.pem")
        shown = crypto.fingerprint(self.key)
        self.assertEqual(self.fine("users", "list"), f"bob\tall\t{shown}\neve\tread,commands\t{shown}\n")
        other = crypto.new_key().public_key()
        (self.place / "other.pem").write_bytes(crypto.public_pem(other))
        self.assertEqual(self.fine("users", "change", "eve", "other.pem"), "eve: changed\n")
        self.fine("users", "change", "-p", "files", "bob")
        self.assertEqual(
            self.fine("users", "list"),
            f"bob\tfiles\t{shown}\neve\tread,commands\t{crypto.fingerprint(other)}\n",
        )
        self.assertEqual(self.fine("users", "remove", "bob"), "bob: removed\n")

    def test_the_older_words_do_the_same(self) -> None:
        self.assertIn("bob: added, read, ", self.fine("adduser", "-p", "read", "bob"))
        self.assertEqual(self.fine("users"), f"bob\tread\t{crypto.fingerprint(self.key)}\n")
        self.assertEqual(
            self.fine("users", "--base", "users_db.sqlite"), self.fine("users", "-busers_db.sqlite")
        )
        self.assertEqual(self.fine("deluser", "bob"), "bob: removed\n")

    def test_the_name_that_older_installations_know_takes_a_base(self) -> None:
        self.fine("--base", "other.db", "bob", program=str(ROOT / "bin/add_user"))
        self.fine("-b", "other.db", "eve", "bob.pem", program=str(ROOT / "bin/add_user"))
        users = Users(str(self.place / "other.db")).all()
        self.assertEqual(
            [(user.name, user.may()) for user in users], [("bob", Permissions.ALL), ("eve", Permissions.ALL)]
        )
        self.assertFalse((self.place / "users_db.sqlite").exists())

    def test_what_does_not_do_is_told_in_one_line(self) -> None:
        self.fine("adduser", "bob")
        (self.place / "bad.pem").write_bytes(b"\xff\xfe")
        (self.place / "private.pem").write_bytes(crypto.private_pem(crypto.new_key(), None))
        self.refused("user bob already exists; remove the user first", "adduser", "bob")
        self.refused("missing.pem: no such file", "adduser", "missing")
        self.refused("bad.pem: not UTF-8", "adduser", "x", "bad.pem")
        self.refused("unusable public key: .*it is a private one", "adduser", "x", "private.pem")
        self.refused(
            "'root' is not a permission; the .* are all",
            "adduser",
            "-p",
            "root",
            "x",
            "bob.pem",
        )
        self.refused("1 to 255 printable", "adduser", "a\nb", "bob.pem")
        self.refused("no user named x", "users", "remove", "x", status=1)
        self.refused("no user named x", "users", "change", "-p", "read", "x", status=1)
        self.refused("nothing to change", "users", "change", "bob")
        self.refused("user database missing.db: unable to open", "users", "-b", "missing.db")
        self.refused("user database missing.db: unable to open", "deluser", "-b", "missing.db", "bob")
        self.refused("required", "adduser")
        self.assertEqual(len(Users(str(self.place / "users_db.sqlite")).all()), 1)
        self.assertFalse((self.place / "missing.db").exists())


class Verbs(KeyCase):
    def test_every_verb_has_help(self) -> None:
        users = ("users", "users list", "users add", "users change", "users remove")
        for verb in ("serve", "connect", "exec", "get", "put", "keygen", *users):
            with self.subTest(verb):
                said = self.fine(*verb.split(), "--help")
                self.assertTrue(said.startswith(f"usage: pysftpremo {verb} "), said[:80])
        shown = self.fine("--help")
        for word in ("serve", "keygen", "exec", "users"):
            self.assertIn(word, shown)
        self.assertNotIn("adduser", shown)
        self.assertEqual(self.fine("exec", "--version"), self.fine("--version"))

    def test_what_is_no_verb_is_told_with_those_that_are(self) -> None:
        self.refused("unknown command 'fetch'; use one of serve, connect, exec", "fetch")
        self.refused("the command is missing; use one of serve")
        self.refused("unknown command 'fetch'; use one of list, add, change, remove", "users", "fetch")

    def test_without_the_extra_one_line_names_the_command_that_installs_it(self) -> None:
        for name, verb in (("cryptography", "keygen"), ("cheroot", "serve"), ("rich", "")):
            (self.place / name).mkdir()
            message = f"raise ModuleNotFoundError('no', name='{name}')"
            (self.place / name / "__init__.py").write_text(message)
            if verb:
                path = f"{self.place / name}/..{os.pathsep}{ROOT}"
                words = ["x"] if verb == "keygen" else ["--allow-root", *self.ready()]
                argv = [sys.executable, COMMAND, verb, *words]
                done = run(argv, cwd=self.place, env=environment(PYTHONPATH=path), text=True)
                self.assertEqual(done.returncode, 2, done.stderr)
                line = done.stderr.splitlines()[-1]
                self.assertIn(f"pysftpremo: {name} is missing; run pip install '.[remo]'", line)
            shutil.rmtree(self.place / name)

    def test_help_is_there_without_the_extra(self) -> None:
        for name in ("cryptography", "cheroot", "rich"):
            (self.place / f"{name}.py").write_text(f"raise ModuleNotFoundError('no', name={name!r})")
        for words in (
            ["bin/add_user", "--help"],
            ["bin/build_key_pair", "--help"],
            ["bin/pysftpremo", "--help"],
            ["bin/pysftpremo", "serve", "--help"],
            ["bin/pysftpremo", "users", "change", "--help"],
        ):
            with self.subTest(words):
                path = f"{self.place}{os.pathsep}{ROOT}"
                argv = [sys.executable, ROOT / words[0], *words[1:]]
                done = run(argv, env=environment(PYTHONPATH=path), text=True)
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                self.assertTrue(done.stdout.startswith("usage: pysftpremo "))

    def ready(self) -> list[str]:
        self.fine("keygen", "-n", "remo_serv")
        self.fine("adduser", "remo_serv")
        return ["-p", "0"]
