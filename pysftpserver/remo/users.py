"""Who may log in: names, public keys and permissions, in SQLite.

What may not enter: sessions, HTTP. Facts: the table is `users(id, user, key, pub)`, as databases have it that
older programs made; the column `permissions` is ours, and is added where it is missing.
"""

from __future__ import annotations

import contextlib
import enum
import os
import sqlite3
from dataclasses import dataclass

from pysftpserver.remo.crypto import KeyProblem, load_public

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from pysftpserver.remo.crypto import PublicKey

MOST_NAME = 255  # characters
BUSY = 5.0  # seconds to wait for another program that writes
SERVICES = ("sqliteuserservice",)  # in any capitalisation
_TABLE = (
    "CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY AUTOINCREMENT, user TEXT UNIQUE, "
    "key TEXT, pub TEXT, permissions TEXT)"
)


class UserError(Exception):
    """What was asked of the users cannot be done; the text says why and what to do."""


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
    """Words with commas between. None, as rows have it that an older program made, is everything.

    Raises UserError.
    """
    if text is None:
        return Permissions.ALL
    if not isinstance(text, str):  # a database has what was put into it
        raise UserError(f"{text!r} is no permission; write {', '.join(WORDS)}, with commas between")
    found = Permissions.NONE
    for word in text.split(","):
        if word.strip() not in WORDS:
            raise UserError(
                f"{word.strip()!r} is no permission; write {', '.join(WORDS)}, with commas between"
            )
        found |= WORDS[word.strip()]
    return found


@dataclass(frozen=True)
class User:
    """A row. public: the public key, as text. permissions: as text."""

    name: str
    public: str
    permissions: str | None

    def key(self) -> PublicKey:
        """Raises KeyProblem."""
        return load_public(self.public)

    def may(self) -> Permissions:
        """Raises UserError."""
        return parse_permissions(self.permissions)


class Users:
    """A database of users. path: of the file. Safe to use from several threads."""

    def __init__(self, path: str) -> None:
        self._path = path

    def create(self) -> None:
        """Make the file, for its owner alone, and the table, where they are missing. Raises UserError."""
        try:
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise self._error(error) from None
        with self._opened(is_writing=True) as database:
            database.execute(_TABLE)
        self.migrate()

    def migrate(self) -> None:
        """Add the column that older databases lack; one that cannot be written to stays as it is.

        Raises UserError for what is no database of users.
        """
        with self._opened() as database:
            missing = "permissions" not in _columns(database)
        if missing:
            try:
                with self._opened(is_writing=True) as database:
                    database.execute("ALTER TABLE users ADD COLUMN permissions TEXT")
            except UserError:
                with self._opened() as database:  # somebody else was faster, or it is read-only
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

    def add(self, name: str, public: str, permissions: str | None) -> None:
        """A new user. Raises UserError for one who is there, a bad name, key or permission."""
        if not name or len(name) > MOST_NAME or not name.isprintable():
            raise UserError(f"a name has 1 to {MOST_NAME} printable characters")
        parse_permissions(permissions)
        try:
            load_public(public)
        except KeyProblem as error:
            raise UserError(f"the public key cannot be used: {error}") from None
        self.create()
        try:
            with self._opened(is_writing=True) as database:
                database.execute(
                    "INSERT INTO users (user, pub, permissions) VALUES (?, ?, ?)", (name, public, permissions)
                )
        except sqlite3.IntegrityError:
            raise UserError(f"there is a user {name!r} already; remove him first (deluser)") from None

    def remove(self, name: str) -> None:
        """Raises UserError for a user who is not there."""
        with self._opened(is_writing=True) as database:
            if not database.execute("DELETE FROM users WHERE user = ?", (name,)).rowcount:
                raise UserError(f"there is no user {name!r}")

    @contextlib.contextmanager
    def _opened(self, is_writing: bool = False) -> Iterator[sqlite3.Connection]:
        """A connection for one thing, which is committed. Raises UserError, sqlite3.IntegrityError."""
        mode = "rw" if is_writing else "ro"
        quoted = os.path.abspath(self._path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        try:
            with contextlib.closing(
                sqlite3.connect(f"file:{quoted}?mode={mode}", uri=True, timeout=BUSY)
            ) as database:
                database.text_factory = _text
                with database:
                    yield database
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise self._error(error) from None

    def _error(self, error: Exception) -> UserError:
        why = (error.strerror if isinstance(error, OSError) else str(error)) or "failure"
        return UserError(f"users {self._path}: {why}; name a database that adduser has made")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")  # one bad row is no reason to refuse the others


def _columns(database: sqlite3.Connection) -> set[str]:
    found = {row[1] for row in database.execute("PRAGMA table_info(users)")}
    if not {"user", "pub"} <= found:
        raise sqlite3.DatabaseError("it has no table of users")
    return found


def _select(database: sqlite3.Connection) -> str:
    # A row of an older program may have a user without a key, who cannot log in.
    own = "permissions" if "permissions" in _columns(database) else "NULL"
    return f"SELECT user, COALESCE(pub, ''), {own} FROM users"


def service(text: str) -> str:
    """The path in a user service's description, `SQLiteUserService:path`. Raises UserError."""
    kind, colon, path = text.partition(":")
    if kind.lower() not in SERVICES or not colon or not path:
        raise UserError(f"{text!r} is no user service; write SQLiteUserService:PATH")
    return path
