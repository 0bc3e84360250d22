"""Users: databases old and new, and what each user may do."""

from __future__ import annotations

import base64
import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from pysftpserver.remo import client, crypto
from pysftpserver.remo.users import Permissions, UserError, Users, parse_permissions, service
from tests.remo.running import COMMAND, USER_KEY, Served, admit, called, environment
from tests.support.cases import InAPlace
from tests.support.waiting import PATIENCE

OLD = (
    "CREATE TABLE users(id INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT UNIQUE, key TEXT, pub TEXT)",
    "INSERT INTO users(user, key, pub) VALUES (?, ?, ?)",
)
PUBLIC = USER_KEY.public_key()
PEM = crypto.public_pem(PUBLIC).decode()
RAW = PUBLIC.public_bytes_raw()
NOBODY = 65534


def raw_with(wanted: str) -> bytes:
    """A raw public key whose base64 has a letter in it in which the alphabets differ."""
    while True:
        raw = crypto.new_key().public_key().public_bytes_raw()
        if wanted in base64.b64encode(raw).decode():
            return raw


def old_database(path: Path, *rows: tuple[str | None, str | None, str | bytes | None]) -> Users:
    """As older programs made it. rows: user, key, pub."""
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(OLD[0])
        database.executemany(OLD[1], rows)
    return Users(str(path))


def columns(path: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return [row[1] for row in database.execute("PRAGMA table_info(users)")]


class InADirectory(InAPlace):
    def setUp(self) -> None:
        super().setUp()
        self.path = self.place / "users_db.sqlite"

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """The database can be read and not written."""
        self.place.chmod(0o555)
        self.path.chmod(0o444)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(NOBODY)
        try:
            yield
        finally:
            if is_root:
                os.seteuid(0)
            self.place.chmod(0o755)


class OldDatabases(InADirectory):
    def test_every_form_of_a_public_key_is_read(self) -> None:
        plus, slash = raw_with("+"), raw_with("/")
        forms = {
            "pem": (PEM, RAW),
            "crlf": (PEM.replace("\n", "\r\n"), RAW),
            "urlsafe": (base64.urlsafe_b64encode(plus).decode(), plus),
            "plain": (base64.b64encode(slash).decode(), slash),
            "line end": (base64.b64encode(RAW).decode() + "\n", RAW),
            "bytes": (PEM.encode(), RAW),
        }
        users = old_database(self.path, *((name, None, text) for name, (text, _) in forms.items()))
        for migrated in (False, True):
            if migrated:
                users.migrate()
            for name, (_, raw) in forms.items():
                with self.subTest(name, migrated=migrated):
                    user = users.find(name)
                    assert user is not None
                    key = user.key()
                    assert not isinstance(key, crypto.rsa.RSAPublicKey)
                    self.assertEqual(key.public_bytes_raw(), raw)
                    self.assertEqual(user.may(), Permissions.ALL)

    def test_rows_with_holes_let_nobody_in_and_harm_nobody(self) -> None:
        users = old_database(
            self.path, (None, None, PEM), ("hollow", None, None), ("empty", "x", ""), ("a", None, PEM)
        )
        users.migrate()
        self.assertIsNone(users.find(""))
        for name in ("hollow", "empty"):
            user = users.find(name)
            assert user is not None
            with self.assertRaises(crypto.KeyProblem):
                user.key()
        self.assertEqual(sorted(user.name for user in users.all() if user.name), ["a", "empty", "hollow"])

    def test_migration_adds_a_column_and_older_programs_still_write(self) -> None:
        users = old_database(self.path, ("a", "k", PEM))
        users.migrate()
        users.migrate()
        self.assertEqual(columns(self.path), ["id", "user", "key", "pub", "permissions"])
        with contextlib.closing(sqlite3.connect(self.path)) as database, database:
            database.execute(OLD[1], ("b", None, PEM))
            self.assertEqual(database.execute("SELECT key FROM users WHERE user = 'a'").fetchone(), ("k",))
        self.assertEqual([user.may() for user in users.all()], [Permissions.ALL] * 2)

    def test_one_that_cannot_be_written_to_opens_as_it_is(self) -> None:
        users = old_database(self.path, ("a", None, PEM))
        with self.read_only():
            users.migrate()
            found = users.find("a")
            with self.assertRaises(UserError):
                users.add("b", PEM, "all")
            with self.assertRaises(UserError):
                users.remove("a")
        assert found is not None
        self.assertEqual(found.may(), Permissions.ALL)
        self.assertNotIn("permissions", columns(self.path))

    def test_many_may_migrate_at_once(self) -> None:
        for attempt in range(5):
            users = old_database(self.place / f"{attempt}", ("a", None, PEM))
            barrier = threading.Barrier(6)
            failed: list[Exception] = []

            def migrate(
                users: Users = users, barrier: threading.Barrier = barrier, failed: list[Exception] = failed
            ) -> None:
                barrier.wait()
                try:
                    users.migrate()
                    assert users.find("a")
                except Exception as error:
                    failed.append(error)

            threads = [threading.Thread(target=migrate) for _ in range(6)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(failed, [])
            self.assertEqual(columns(self.place / f"{attempt}").count("permissions"), 1)

    def test_two_programs_may_add_users_to_an_old_one_at_once(self) -> None:
        old_database(self.path, ("a", None, PEM))
        (self.place / "key.pem").write_text(PEM)
        names = ["b", "c", "d"]
        running = [
            subprocess.Popen(
                [sys.executable, COMMAND, "adduser", name, "key.pem"],
                cwd=self.place,
                env=environment(),
                stdout=subprocess.DEVNULL,
            )
            for name in names
        ]
        self.assertEqual([process.wait(PATIENCE) for process in running], [0] * 3)
        self.assertEqual([user.name for user in Users(str(self.path)).all()], ["a", *names])

    def test_what_is_no_database_of_users_is_refused_in_words(self) -> None:
        for name, content in (("text", b"not a database at all " * 100), ("empty", b"")):
            (self.place / name).write_bytes(content)
            for call in (
                lambda users: users.migrate(),
                lambda users: users.find("a"),
                lambda users: users.all(),
            ):
                with (
                    self.subTest(name),
                    self.assertRaisesRegex(UserError, "name a database that `pysftpremo users add`"),
                ):
                    call(Users(str(self.place / name)))
        for name in ("missing", "."):
            with self.subTest(name), self.assertRaises(UserError):
                Users(str(self.place / name)).migrate()
        self.assertFalse((self.place / "missing").exists())

    def test_names_of_files_are_taken_word_for_word(self) -> None:
        for name in ("a?mode=memory", "a#b", "a%41", "with space", "caf\u00e9", ":memory:"):
            with self.subTest(name):
                users = Users(str(self.place / name))
                users.add("a", PEM, "all")
                self.assertTrue((self.place / name).exists())
                self.assertIsNotNone(users.find("a"))


class NewUsers(InADirectory):
    def test_the_database_is_made_for_its_owner_alone(self) -> None:
        Users(str(self.path)).add("a", PEM, "all")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_what_does_not_do_is_refused_and_nothing_is_made(self) -> None:
        users = Users(str(self.path))
        short = crypto.rsa.generate_private_key(65537, 1024).public_key()
        cases = (
            ("", PEM, "all"),
            ("x" * 256, PEM, "all"),
            ("a\nb", PEM, "all"),
            ("a\0b", PEM, "all"),
            ("a", "", "all"),
            ("a", "no key", "all"),
            ("a", base64.b64encode(RAW[:56]).decode(), "all"),
            ("a", crypto.private_pem(USER_KEY, None).decode(), "all"),
            ("a", crypto.public_pem(short).decode(), "all"),
            ("a", PEM, "everything"),
            ("a", PEM, ""),
            ("a", PEM, "read,,files"),
        )
        for name, key, permissions in cases:
            with self.subTest((name, key[:30], permissions)), self.assertRaises(UserError):
                users.add(name, key, permissions)
        self.assertFalse(self.path.exists())

    def test_nobody_is_added_twice_or_removed_twice(self) -> None:
        users = Users(str(self.path))
        users.add("a", PEM, "read")
        with self.assertRaisesRegex(UserError, "user a already exists"):
            users.add("a", PEM, "all")
        found = users.find("a")
        assert found is not None
        self.assertEqual(found.may(), Permissions.READ)
        users.remove("a")
        with self.assertRaisesRegex(UserError, "no user named a$"):
            users.remove("a")
        self.assertIsNone(users.find("a"))

    def test_names_are_told_apart_by_every_letter(self) -> None:
        users = Users(str(self.path))
        for name in ("a", "A", "a ", "\u00e9", "e\u0301", "a'; DROP TABLE users; --", "%", "_"):
            users.add(name, PEM, "all")
        self.assertEqual(len(users.all()), 8)
        self.assertIsNone(users.find("b"))

    def test_permissions_are_words_and_anything_else_is_an_error(self) -> None:
        self.assertEqual(parse_permissions(None), Permissions.ALL)
        self.assertEqual(parse_permissions("read, commands"), Permissions.READ | Permissions.COMMANDS)
        self.assertEqual(parse_permissions("none"), Permissions.NONE)
        for text in ("", "ALL", "all ,", "read;files", "\0", "7", "reed"):
            with self.subTest(text), self.assertRaises(UserError):
                parse_permissions(text)

    def test_the_service_is_named_in_either_capitalisation(self) -> None:
        for text in ("SQLiteUserService:a:b", "SqliteUserService:a:b"):
            self.assertEqual(service(text), "a:b")
        for text in ("", "users.db", "SQLiteUserService:", "Redis:a", ":a"):
            with self.subTest(text), self.assertRaisesRegex(UserError, "SQLiteUserService:PATH"):
                service(text)


class WhatUsersMayDo(Served):
    MAY = {
        "read": {"get", "lst"},
        "files": {"get", "lst", "put"},
        "commands": {"run", "start", "terminal"},
        "read,commands": {"get", "lst", "run", "start", "terminal"},
        "none": set(),
        "all": {"get", "lst", "put", "run", "start", "terminal"},
    }

    @classmethod
    def prepare(cls) -> None:
        for words in cls.MAY:
            admit(cls.place, words, words)
        admit(cls.place, "null", None)

    def write(self, name: str, permissions: object) -> None:
        with contextlib.closing(sqlite3.connect(self.place / "users_db.sqlite")) as database, database:
            row = (name, PEM, permissions)
            database.execute("INSERT INTO users (user, pub, permissions) VALUES (?, ?, ?)", row)

    def attempts(self, remote: client.Client) -> set[str]:
        """What works; the rest is refused with 403, and nothing was done."""
        stored = self.place / "stored"
        stored.unlink(missing_ok=True)
        ran = self.place / "ran"
        ran.unlink(missing_ok=True)
        done = set()
        for name, attempt in {
            "get": lambda: remote.read("alice.pem"),
            "lst": lambda: remote.list("."),
            "put": lambda: remote.put(b"stored", "stored"),
            "run": lambda: remote.run("touch ran"),
            "start": lambda: remote.start("true"),
            "terminal": lambda: remote.start("true", size=(80, 24)),
        }.items():
            try:
                attempt()
                done.add(name)
            except client.RequestFailed as error:
                self.assertEqual(error.status, 403)
        self.assertEqual((stored.exists(), ran.exists()), ("put" in done, "run" in done))
        return done

    def test_each_permission_gives_what_it_says_and_no_more(self) -> None:
        for words, expected in {**self.MAY, "null": self.MAY["all"]}.items():
            with self.subTest(words):
                remote = self.login(words)
                self.assertEqual(self.attempts(remote), expected)
                self.assertIn("pysftpserver", remote.info())

    def test_in_plain_mode_too(self) -> None:
        self.remote = self.login("read")
        self.plainly()
        self.assertEqual(self.attempts(self.remote), self.MAY["read"])

    def test_permissions_that_nobody_knows_let_nobody_in(self) -> None:
        users = Users(str(self.place / "users_db.sqlite"))
        for number, value in enumerate(("root", "all,root", "ALL", 7, "all\0", b"all", b"\xff", "")):
            with self.subTest(repr(value)):
                self.write(f"garbage{number}", value)
                user = users.find(f"garbage{number}")
                assert user is not None
                with self.assertRaisesRegex(UserError, "is not a permission"):
                    user.may()
                if number < 6:
                    continue  # too many logins that fail would have this address wait
                with self.assertRaisesRegex(client.RemoError, "refuses"):
                    self.server.connect(f"garbage{number}")
                line = self.server.audit("login")[-1]
                self.assertIn("is not a permission", line["message"])

    def test_the_users_are_listed_whatever_a_row_has(self) -> None:
        self.write("listed1", "")
        self.write("listed2", b"\xff\n")
        with contextlib.closing(sqlite3.connect(self.place / "users_db.sqlite")) as database, database:
            database.execute("INSERT INTO users (user, pub) VALUES (NULL, NULL)")
        done = called(["users"], self.place)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        rows = dict(line.split("\t")[:2] for line in done.stdout.decode().splitlines())
        self.assertEqual((rows["alice"], rows["null"], rows["read"]), ("all", "all", "read"))
        self.assertNotIn(rows["listed1"], ("all", "none"))
