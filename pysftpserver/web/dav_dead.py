"""Dead properties: what WebDAV's clients want to be kept of a file, in SQLite, within limits.

They are kept for each user, by path; what SFTP renames leaves them behind. What may not enter: HTTP,
storages. Facts: RFC 4918, section 4.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_PER_USER = 10_000
MOST_PER_FILE = 100
MOST_SIZE = 65536  # bytes of one
WAIT = 5.0  # seconds for another process that writes
TABLE = """
create table if not exists dav_properties (
    user text not null, parent blob not null, path blob not null, tag text not null, xml text not null,
    primary key (user, path, tag)
) without rowid;
create index if not exists dav_properties_by_parent on dav_properties (user, parent);
"""


class NoRoom(Exception):
    """A property is too large, or there are too many. The text is for people."""


class DeadProperties:
    """The store, in a file that is made when the first property is kept."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None

    def of(self, user: str, path: bytes) -> dict[str, str]:
        """The properties of a file: XML by tag."""
        return self._find("path", user, path).get(path, {})

    def below(self, user: str, directory: bytes) -> dict[bytes, dict[str, str]]:
        """Those of all that is in a directory, by path."""
        return self._find("parent", user, directory)

    def _find(self, column: str, user: str, value: bytes) -> dict[bytes, dict[str, str]]:
        found: dict[bytes, dict[str, str]] = {}
        if self._connection is None and not os.path.exists(self._path):
            return found
        with self._opened() as database:
            query = f"select path, tag, xml from dav_properties where user = ? and {column} = ?"
            for path, tag, xml in database.execute(query, (user, value)):
                found.setdefault(path, {})[tag] = xml
        return found

    def change(self, user: str, path: bytes, changes: list[tuple[str, str | None]]) -> None:
        """Set properties, to XML, or remove them, all or none. Raises NoRoom, sqlite3.Error."""
        with self._opened() as database:
            for tag, xml in changes:
                if xml is None:
                    which = "user = ? and path = ? and tag = ?"
                    database.execute(f"delete from dav_properties where {which}", (user, path, tag))
                    continue
                if len(tag.encode()) + len(xml.encode()) > MOST_SIZE:
                    raise NoRoom("The property is too long.")
                database.execute(
                    "insert or replace into dav_properties values (?, ?, ?, ?, ?)",
                    (user, _parent(path), path, tag, xml),
                )
            count = "select count(*) from dav_properties where user = ?"
            of_file = database.execute(count + " and path = ?", (user, path)).fetchone()[0]
            if of_file > MOST_PER_FILE or database.execute(count, (user,)).fetchone()[0] > MOST_PER_USER:
                raise NoRoom("There are too many properties.")

    def forget(self, user: str, path: bytes) -> None:
        """Drop those of a path, and of all below it."""
        if self._connection is None and not os.path.exists(self._path):
            return
        with self._opened() as database:
            where, values = _tree(user, path)
            database.execute(f"delete from dav_properties where {where}", values)

    def copy(self, user: str, old: bytes, new: bytes) -> None:
        """Give another path, and all below it, the properties of a path, up to the limit."""
        if self._connection is None and not os.path.exists(self._path):
            return
        with self._opened() as database:
            where, values = _tree(user, old)
            every = database.execute(f"select path, tag, xml from dav_properties where {where}", values)
            room = database.execute(
                "select ? - count(*) from dav_properties where user = ?", (MOST_PER_USER, user)
            ).fetchone()[0]
            rows = [(new + path[len(old) :], tag, xml) for path, tag, xml in every.fetchall()]
            database.executemany(
                "insert or replace into dav_properties values (?, ?, ?, ?, ?)",
                [(user, _parent(path), path, tag, xml) for path, tag, xml in rows[: max(0, room)]],
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The database, in a transaction. Raises sqlite3.Error."""
        with self._lock:
            if self._connection is None:
                with contextlib.suppress(OSError):  # SQLite then says what is wrong
                    os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                connection = sqlite3.connect(self._path, WAIT, check_same_thread=False)
                connection.execute("pragma journal_mode = wal")
                connection.executescript(TABLE)
                self._connection = connection
            with self._connection:
                yield self._connection


def _parent(path: bytes) -> bytes:
    return b"" if path == b"/" else path.rpartition(b"/")[0] or b"/"


def _tree(user: str, path: bytes) -> tuple[str, tuple[str, bytes, bytes, bytes]]:
    """What selects a path and all below it: the next byte after a slash is 0."""
    top = path.rstrip(b"/")
    return "user = ? and (path = ? or path > ? and path < ?)", (user, path, top + b"/", top + b"0")
