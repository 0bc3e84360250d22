"""The users: names, public keys and permissions, in SQLite.

What may not enter: sessions, HTTP. Facts: the table is `users(id, user, key, pub)` in databases of older
programs; the column `permissions` is ours, and is added if it is missing.
"""

from __future__ import annotations

import contextlib
import enum
import os
import sqlite3
from dataclasses import dataclass

from pysftpserver.failures import UNAVAILABLE_STATUS, BadInput, one_line, reason_of
from pysftpserver.formats import REMO_USERS
from pysftpserver.remo.crypto import KeyProblem, fingerprint, load_public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pysftpserver.remo.crypto import PublicKey

MOST_NAME = 255  # characters
BUSY = 5.0  # seconds to wait while another program writes
SERVICES = ("sqliteuserservice",)  # in any capitalisation
_TABLE = (
    "CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT UNIQUE, "
    "key TEXT, pub TEXT, permissions TEXT)"
)


class UserError(BadInput):
    """The user database cannot do what it was asked; the text says why and what to do."""


class NoSuchUser(UserError):
    """There is no user of that name."""

    status = UNAVAILABLE_STATUS

    def __init__(self, name: str) -> None:
        super().__init__(f"no user named {name}")


class Permissions(enum.Flag):
    """What a user may do."""

    NONE = 0
    READ = enum.auto()
    WRITE = enum.auto()
    COMMANDS = enum.auto()
    FILES = READ | WRITE
    ALL = READ | WRITE | COMMANDS


WORDS = {
    "all": Permissions.ALL,
    "read": Permissions.READ,
    "files": Permissions.FILES,
    "commands": Permissions.COMMANDS,
    "none": Permissions.NONE,
}


def parse_permissions(text: str | None) -> Permissions:
    """Parse words separated by commas. None, as in rows that an older program made, means everything.

    Raises UserError.
    """
    if text is None:
        return Permissions.ALL
    if not isinstance(text, str):  # the column may contain any type
        raise _unknown(text)
    found = Permissions.NONE
    for word in text.split(","):
        if word.strip() not in WORDS:
            raise _unknown(word.strip())
        found |= WORDS[word.strip()]
    return found


def _unknown(word: object) -> UserError:
    return UserError(f"{word!r} is not a permission; the permissions are {', '.join(WORDS)}")


@dataclass(frozen=True)
class User:
    """A row. public: the public key as text. permissions: words, or None."""

    name: str
    public: str
    permissions: str | None

    def key(self) -> PublicKey:
        """The public key. Raises KeyProblem."""
        return load_public(self.public)

    def may(self) -> Permissions:
        """What the user may do. Raises UserError."""
        return parse_permissions(self.permissions)

    def line(self) -> str:
        """The line for a list of users: name, permissions, and the key's fingerprint, separated by tabs."""
        try:
            self.may()
            permitted = "all" if self.permissions is None else self.permissions
        except UserError as error:
            permitted = f"(nothing: {one_line(str(error))})"
        try:
            key = fingerprint(self.key())
        except KeyProblem as error:
            key = f"(unusable key: {error})"
        return f"{one_line(self.name)}\t{permitted}\t{key}"


class Users:
    """A user database. path: the file's. Several threads may use it."""

    def __init__(self, path: str) -> None:
        self._path = path

    def create(self) -> None:
        """Make the file, for its owner only, and the table, if they are missing. Raises UserError."""
        try:
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise self._error(error) from None
        with self._opened(is_writing=True) as database:
            database.execute(_TABLE)
        self.migrate()

    def migrate(self) -> None:
        """Add the column that older databases lack; a read-only database stays as it is.

        Raises UserError for a file that is not a user database.
        """
        with self._opened() as database:
            missing = "permissions" not in _columns(database)
        if missing:
            try:
                with self._opened(is_writing=True) as database:
                    database.execute("ALTER TABLE users ADD COLUMN permissions TEXT")
            except UserError:
                with self._opened() as database:  # another program was faster, or it is read-only
                    _columns(database)

    def find(self, name: str) -> User | None:
        """A user. Raises UserError."""
        with self._opened() as database:
            row = database.execute(f"{_select(database)} WHERE user = ?", (name,)).fetchone()
        return User(*row) if row else None

    def all(self) -> list[User]:
        """Every user, by name. Raises UserError."""
        with self._opened() as database:
            named = f"{_select(database)} WHERE typeof(user) = 'text' ORDER BY user"
            return [User(*row) for row in database.execute(named)]

    def add(self, name: str, public: str, permissions: str | None) -> str:
        """Add a user; return the fingerprint of the key.

        Raises UserError for a user who exists, a bad name, key or permission.
        """
        if not name or len(name) > MOST_NAME or not name.isprintable():
            raise UserError(f"a user's name has 1 to {MOST_NAME} printable characters")
        parse_permissions(permissions)
        found = _fingerprint(public)
        self.create()
        try:
            with self._opened(is_writing=True) as database:
                database.execute(
                    "INSERT INTO users (user, pub, permissions) VALUES (?, ?, ?)", (name, public, permissions)
                )
        except sqlite3.IntegrityError:
            raise UserError(f"user {name} already exists; remove the user first, or use change") from None
        return found

    def change(self, name: str, public: str | None, permissions: str | None) -> None:
        """Change a user's public key and permissions; None keeps them. Raises UserError, NoSuchUser."""
        parse_permissions(permissions)
        if public is not None:
            _fingerprint(public)
        self.migrate()
        with self._opened(is_writing=True) as database:
            changed = database.execute(
                "UPDATE users SET pub = COALESCE(?, pub), permissions = COALESCE(?, permissions) "
                "WHERE user = ?",
                (public, permissions, name),
            )
            if not changed.rowcount:
                raise NoSuchUser(name)

    def remove(self, name: str) -> None:
        """Remove a user. Raises NoSuchUser, UserError."""
        with self._opened(is_writing=True) as database:
            if not database.execute("DELETE FROM users WHERE user = ?", (name,)).rowcount:
                raise NoSuchUser(name)

    @contextlib.contextmanager
    def _opened(self, is_writing: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction, which is committed. Raises UserError, sqlite3.IntegrityError."""
        mode = "rw" if is_writing else "ro"
        quoted = os.path.abspath(self._path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        try:
            with contextlib.closing(
                sqlite3.connect(f"file:{quoted}?mode={mode}", uri=True, timeout=BUSY)
            ) as database:
                database.text_factory = _text
                (version,) = database.execute("PRAGMA user_version").fetchone()
                REMO_USERS.check(version, f"user database {self._path}")
                with database:
                    yield database
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise self._error(error) from None

    def _error(self, error: Exception) -> UserError:
        hint = "name a database that `pysftpremo users add` has made"
        return UserError(f"user database {self._path}: {reason_of(error)}; {hint}")


def _fingerprint(public: str) -> str:
    try:
        return fingerprint(load_public(public))
    except KeyProblem as error:
        raise UserError(f"unusable public key: {error}") from None


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")  # a bad row must not lock out the others


def _columns(database: sqlite3.Connection) -> set[str]:
    found = {row[1] for row in database.execute("PRAGMA table_info(users)")}
    if not {"user", "pub"} <= found:
        raise sqlite3.DatabaseError("there is no table of users in it")
    return found


def _select(database: sqlite3.Connection) -> str:
    # A row of an older program may have a user without a key, who cannot log in.
    own = "permissions" if "permissions" in _columns(database) else "NULL"
    return f"SELECT user, COALESCE(pub, ''), {own} FROM users"


def service(text: str) -> str:
    """The path in a user service's description, `SQLiteUserService:path`. Raises UserError."""
    kind, colon, path = text.partition(":")
    if kind.lower() not in SERVICES or not colon or not path:
        raise UserError(f"{text!r} is not a user service; write SQLiteUserService:PATH")
    return path
