"""Dead properties: data that WebDAV clients attach to files; kept in the server's state, within limits.

They are kept for each user, by path; a file renamed over SFTP loses them. What may not enter: HTTP,
storages. Facts: RFC 4918, section 4.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.web.state import State

MOST_PER_USER = 10_000
MOST_PER_FILE = 100
MOST_SIZE = 65536  # bytes of one property
COUNT = "SELECT count(*) FROM dav_properties WHERE user = ?"
PUT = "INSERT OR REPLACE INTO dav_properties (user, parent, path, tag, xml) VALUES (?, ?, ?, ?, ?)"


class NoRoom(Exception):
    """A property is too large, or there are too many."""


class DeadProperties:
    """The store. All methods raise sqlite3.Error."""

    def __init__(self, state: State) -> None:
        self._state = state

    def of(self, user: str, path: bytes) -> dict[str, str]:
        """The properties of a file: XML by tag."""
        return self._find("path", user, path).get(path, {})

    def below(self, user: str, directory: bytes) -> dict[bytes, dict[str, str]]:
        """The properties of everything below a directory, by path."""
        return self._find("parent", user, directory)

    def _find(self, column: str, user: str, value: bytes) -> dict[bytes, dict[str, str]]:
        found: dict[bytes, dict[str, str]] = {}
        query = f"SELECT path, tag, xml FROM dav_properties WHERE user = ? AND {column} = ?"
        with self._state.look() as database:
            for path, tag, xml in database.execute(query, (user, value)):
                found.setdefault(path, {})[tag] = xml
        return found

    def change(self, user: str, path: bytes, changes: list[tuple[str, str | None]]) -> None:
        """Set properties to XML, or remove them, all or none. Also raises NoRoom."""
        with self._state.change() as database:
            for tag, xml in changes:
                if xml is None:
                    which = "user = ? AND path = ? AND tag = ?"
                    database.execute(f"DELETE FROM dav_properties WHERE {which}", (user, path, tag))
                    continue
                if len(tag.encode()) + len(xml.encode()) > MOST_SIZE:
                    raise NoRoom
                database.execute(PUT, (user, _parent(path), path, tag, xml))
            of_file = database.execute(COUNT + " AND path = ?", (user, path)).fetchone()[0]
            if of_file > MOST_PER_FILE or database.execute(COUNT, (user,)).fetchone()[0] > MOST_PER_USER:
                raise NoRoom

    def forget(self, user: str, path: bytes) -> None:
        """Drop the properties of a path and of everything below it."""
        where, values = _tree(user, path)
        if self._every(user, path):
            with self._state.change() as database:
                database.execute(f"DELETE FROM dav_properties WHERE {where}", values)

    def copy(self, user: str, old: bytes, new: bytes) -> None:
        """Copy the properties of a path, and of everything below it, to another path, up to the limit."""
        rows = [(new + path[len(old) :], tag, xml) for path, tag, xml in self._every(user, old)]
        if rows:
            with self._state.change() as database:
                room = max(0, MOST_PER_USER - database.execute(COUNT, (user,)).fetchone()[0])
                database.executemany(
                    PUT, [(user, _parent(path), path, tag, xml) for path, tag, xml in rows[:room]]
                )

    def _every(self, user: str, path: bytes) -> list[tuple[bytes, str, str]]:
        where, values = _tree(user, path)
        with self._state.look() as database:
            query = f"SELECT path, tag, xml FROM dav_properties WHERE {where}"
            return database.execute(query, values).fetchall()


def _parent(path: bytes) -> bytes:
    return b"" if path == b"/" else path.rpartition(b"/")[0] or b"/"


def _tree(user: str, path: bytes) -> tuple[str, tuple[str, bytes, bytes, bytes]]:
    """SQL that selects a path and everything below it: the next byte after a slash is 0."""
    top = path.rstrip(b"/")
    return "user = ? AND (path = ? OR path > ? AND path < ?)", (user, path, top + b"/", top + b"0")
