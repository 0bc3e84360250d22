"""Data that outlives the server: an SQLite database in one file, which only the server's account can read.

What may not enter: what the tables mean to the modules that use them. Facts: SQLite's documentation of WAL,
PRAGMA user_version and BEGIN IMMEDIATE.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
import threading

from pysftpserver.failures import Unavailable, reason_of
from pysftpserver.formats import WEB_STATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT = 10.0  # seconds for another program that holds the database, such as a backup
#: Each version's statements, from the empty database on; a database has those up to its user_version.
VERSIONS = (
    """
    CREATE TABLE shares (
        id TEXT PRIMARY KEY,
        token BLOB NOT NULL UNIQUE,
        user TEXT NOT NULL,
        user_id TEXT NOT NULL,
        path BLOB NOT NULL,
        kind TEXT NOT NULL,
        created INTEGER NOT NULL,
        expires INTEGER NOT NULL,
        password TEXT,
        most INTEGER,
        downloads INTEGER NOT NULL DEFAULT 0,
        uploads INTEGER NOT NULL DEFAULT 0,
        used INTEGER
    ) WITHOUT ROWID;
    CREATE INDEX shares_of_users ON shares (user_id);
    CREATE INDEX shares_by_end ON shares (expires);
    CREATE TABLE downloads (
        share TEXT NOT NULL REFERENCES shares ON DELETE CASCADE,
        client BLOB NOT NULL,
        file BLOB NOT NULL,
        room INTEGER NOT NULL,
        used INTEGER NOT NULL,
        PRIMARY KEY (share, client, file)
    ) WITHOUT ROWID;
    CREATE INDEX downloads_by_use ON downloads (used);
    """,
    """
    CREATE TABLE secrets (
        name TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) WITHOUT ROWID;
    """,
    """
    CREATE TABLE dav_properties (
        user TEXT NOT NULL,
        parent BLOB NOT NULL,
        path BLOB NOT NULL,
        tag TEXT NOT NULL,
        xml TEXT NOT NULL,
        PRIMARY KEY (user, path, tag)
    ) WITHOUT ROWID;
    CREATE INDEX dav_properties_by_parent ON dav_properties (user, parent);
    """,
    """
    CREATE TABLE used_codes (
        code BLOB PRIMARY KEY,
        used INTEGER NOT NULL
    ) WITHOUT ROWID;
    """,
)


class State:
    """The database. Threads may share it. Raises Unavailable for a file that cannot be used."""

    def __init__(self, path: str) -> None:
        self._lock = threading.Lock()
        try:
            # SQLite itself would ask the umask for the mode.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._connection = sqlite3.connect(path, WAIT, isolation_level=None, check_same_thread=False)
            self._prepare()
        except (OSError, sqlite3.Error) as error:
            why = reason_of(error) if isinstance(error, OSError) else str(error)
            raise Unavailable(
                f"state {path}: {why}; name a file in a directory that can be written"
            ) from None

    def _prepare(self) -> None:
        for pragma in ("journal_mode = WAL", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        with self.change() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            problem = WEB_STATE.problem(version)
            if problem is not None:
                raise Unavailable(f"state: {problem}")
            for statements in VERSIONS[version:]:
                for statement in statements.split(";"):
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(VERSIONS)}")

    @contextlib.contextmanager
    def change(self, is_durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction: all statements in the block take effect, or none. Raises sqlite3.Error.

        is_durable: whether they have to survive a power cut, which takes as long as the disk does.
        """
        with self._lock:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextlib.contextmanager
    def look(self) -> Iterator[sqlite3.Connection]:
        """A block that only reads. Raises sqlite3.Error."""
        with self._lock:
            yield self._connection

    def secret(self, name: str) -> bytes:
        """32 random bytes that stay the same, one for each name. Raises sqlite3.Error."""
        with self.change() as connection:
            values = name, secrets.token_bytes(32)
            connection.execute("INSERT OR IGNORE INTO secrets (name, value) VALUES (?, ?)", values)
            (found,) = connection.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()
        return bytes(found)

    def close(self) -> None:
        """Close it."""
        with self._lock:
            self._connection.close()
