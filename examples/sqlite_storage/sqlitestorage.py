"""Files in one SQLite database: a plugin of pysftpserver with only the standard library, as an example.

Directories and files are rows; the content of a file is rows of up to 1 MiB. While a file is open, its
content is in an unnamed temporary file; the last close() stores it in one transaction. So other sessions
see the old file or the new one, never a part, and a session that is lost leaves nothing. There are no links.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from stat import S_IFDIR, S_IFREG, S_ISDIR

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes
from pysftpserver.pysftpexceptions import SFTPFailure, SFTPUnavailable

TOP = 1  # id of the top directory
CHUNK = 1 << 20  # bytes in a row
LARGEST = 1 << 40  # bytes of a file
NAME_MAX = 255  # bytes
PATIENCE = 10.0  # seconds that a session waits for another session's transaction
FIELDS = ("size", "uid", "gid", "mode", "atime", "mtime")
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, parent INTEGER, name BLOB NOT NULL, size INTEGER NOT NULL, uid INTEGER NOT NULL,
    gid INTEGER NOT NULL, mode INTEGER NOT NULL, atime INTEGER NOT NULL, mtime INTEGER NOT NULL,
    UNIQUE (parent, name)
);
CREATE TABLE IF NOT EXISTS chunks (
    entry INTEGER NOT NULL REFERENCES entries ON DELETE CASCADE, number INTEGER NOT NULL, data BLOB NOT NULL,
    PRIMARY KEY (entry, number)
) WITHOUT ROWID;
INSERT OR IGNORE INTO entries
    VALUES ({TOP}, NULL, x'', 4096, {os.getuid()}, {os.getgid()}, {S_IFDIR | 0o755}, unixepoch(),
    unixepoch());
"""


def fail(number: int):
    """Raise the OSError for an errno."""
    raise OSError(number, os.strerror(number))


class OpenFile:
    """A file that this session has open: its content, and its attributes for stat(). All handles of a path
    share one.

    id: its row's; None if it has none yet. place: its directory and name; None if it was removed.
    """

    def __init__(self, id: int | None, place: tuple[int, bytes], fields: dict[str, int]):
        self.id, self.place, self.fields = id, place, fields
        self.file = tempfile.TemporaryFile(buffering=0)
        self.handles = 0
        self.is_changed = id is None
        self.is_spoiled = False

    def touch(self) -> None:
        self.is_changed = True
        self.fields["mtime"] = int(time.time())
        self.fields["size"] = os.fstat(self.file.fileno()).st_size


class Handle:
    """What open() returns: a file, and the flags of the open."""

    def __init__(self, file: OpenFile, flags: int):
        self.file, self.flags = file, flags


class SFTPServerSQLiteStorage(SFTPAbstractServerStorage):
    """The files in a database, which is made if it is missing.

    The constructor and all methods are called in one process, one after another, but not always by the same
    thread (docs/plugins.md, "Threads"): each session has its own object and its own connection.
    """

    home = b"/"
    uses_network = False

    def __init__(self, path: str):
        self._open: dict[object, OpenFile] = {}  # by the id of the row, or by place while there is none
        try:
            self._base = sqlite3.connect(
                path, timeout=PATIENCE, isolation_level=None, check_same_thread=False
            )
            self._base.execute("PRAGMA journal_mode = WAL")
            self._base.execute("PRAGMA foreign_keys = ON")
            self._base.executescript(SCHEMA)
        except sqlite3.Error as error:
            raise SFTPUnavailable(f"the database cannot be opened: {error}") from None

    def release(self) -> None:
        self._base.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all or nothing, and no other session changes anything until the end of the block."""
        try:
            self._base.execute("BEGIN IMMEDIATE")
            with self._base:  # it commits, or rolls back if something is raised
                yield self._base
        except sqlite3.OperationalError as error:
            raise SFTPUnavailable(f"the database does not answer: {error}") from None

    # --- paths ------------------------------------------------------------------------------------

    def _row(self, parent: int, name: bytes) -> sqlite3.Row | tuple | None:
        return self._base.execute(
            f"SELECT id, {', '.join(FIELDS)} FROM entries WHERE parent = ? AND name = ?", (parent, name)
        ).fetchone()

    def _place(self, path: bytes) -> tuple[int, bytes]:
        """The directory and the name to which a path leads; for the top, the name b"". Raises OSError."""
        if not path:
            fail(errno.ENOENT)
        names = [name for name in self.realpath(path).split(b"/") if name]
        if any(len(name) > NAME_MAX for name in names):
            fail(errno.ENAMETOOLONG)
        parent = TOP
        for name in names[:-1]:
            row = self._row(parent, name)
            if row is None:
                fail(errno.ENOTDIR if (parent, name) in self._open else errno.ENOENT)
            if not S_ISDIR(row[4]):
                fail(errno.ENOTDIR)
            parent = row[0]
        return parent, names[-1] if names else b""

    def _find(self, path: bytes) -> tuple[int | None, OpenFile | None, dict[str, int]] | None:
        """(id, the file if this session has it open, fields) of a path; None if nothing is there."""
        parent, name = self._place(path)
        row = self._base.execute(f"SELECT id, {', '.join(FIELDS)} FROM entries WHERE id = {TOP}").fetchone()
        if name:
            row = self._row(parent, name)
        if row is None:
            file = self._open.get((parent, name))
            return None if file is None else (None, file, file.fields)
        file = self._open.get(row[0])
        fields = (
            file.fields if file is not None and file.is_changed else dict(zip(FIELDS, row[1:], strict=True))
        )
        if (
            path.rstrip(b"/") != path
            and not S_ISDIR(fields["mode"])
            or path.endswith(b"/.")
            and not S_ISDIR(fields["mode"])
        ):
            fail(errno.ENOTDIR)
        return row[0], file, fields

    def _get(self, path: bytes) -> tuple[int | None, OpenFile | None, dict[str, int]]:
        return self._find(path) or fail(errno.ENOENT)

    def _insert(self, place: tuple[int, bytes], mode: int) -> int | None:
        now = int(time.time())
        fields = {"size": 4096 if S_ISDIR(mode) else 0, "uid": os.getuid(), "gid": os.getgid()}
        return self._store_row(place, fields | {"mode": mode, "atime": now, "mtime": now})

    def _store_row(self, place: tuple[int, bytes], fields: dict[str, int]) -> int | None:
        if self._base.execute("SELECT 1 FROM entries WHERE id = ?", (place[0],)).fetchone() is None:
            fail(errno.ENOENT)  # another session has removed the directory
        values = [*place, *(fields[name] for name in FIELDS)]
        names = f"parent, name, {', '.join(FIELDS)}"
        marks = ", ".join("?" * len(values))
        self._touch(place[0])
        return self._base.execute(f"INSERT INTO entries ({names}) VALUES ({marks})", values).lastrowid

    def _touch(self, directory: int) -> None:
        self._base.execute("UPDATE entries SET mtime = unixepoch() WHERE id = ?", (directory,))

    # --- the tree ---------------------------------------------------------------------------------

    def mkdir(self, path: bytes, mode: int) -> None:
        with self._transaction():
            if self._find(path.rstrip(b"/") or path) is not None:
                fail(errno.EEXIST)
            self._insert(self._place(path), S_IFDIR | mode & 0o7777)

    def rmdir(self, path: bytes) -> None:
        with self._transaction() as base:
            id, _, fields = self._get(path)
            if not S_ISDIR(fields["mode"]):
                fail(errno.ENOTDIR)
            if id == TOP:
                fail(errno.EBUSY)
            self._check_empty(id)
            base.execute("DELETE FROM entries WHERE id = ?", (id,))
            self._touch(self._place(path)[0])

    def _check_empty(self, id: int | None) -> None:
        is_used = self._base.execute("SELECT 1 FROM entries WHERE parent = ? LIMIT 1", (id,)).fetchone()
        if is_used or any(file.place and file.place[0] == id for file in self._open.values()):
            fail(errno.ENOTEMPTY)

    def rm(self, path: bytes) -> None:
        with self._transaction():
            id, file, fields = self._get(path)
            if S_ISDIR(fields["mode"]):
                fail(errno.EISDIR)
            self._drop(id, file)
            self._touch(self._place(path)[0])

    def _drop(self, id: int | None, file: OpenFile | None) -> None:
        """Remove a file; this session's handles keep their content."""
        self._base.execute("DELETE FROM entries WHERE id = ?", (id,))
        if file is not None:
            self._open.pop(file.place if file.id is None else file.id)
            file.id = file.place = None

    def rename(self, old: bytes, new: bytes, replace: bool = False) -> None:
        with self._transaction() as base:
            id, file, fields = self._get(old)
            is_directory = S_ISDIR(fields["mode"])
            place, target = self._place(new), self._find(new.rstrip(b"/") if is_directory else new)
            if id == TOP or not place[1] or is_directory and self._is_within(place[0], id):
                fail(errno.EINVAL)  # the top, or into itself
            if target is not None and (target[0], target[1]) == (id, file):
                return fail(errno.EEXIST) if not replace else None
            if target is not None:
                self._make_way(is_directory, target, replace)
            before = self._place(old)
            for directory in (before[0], place[0]):
                self._touch(directory)
            base.execute("UPDATE entries SET parent = ?, name = ? WHERE id = ?", (*place, id))
            if file is not None:
                if file.id is None:
                    self._open[place] = self._open.pop(before)
                file.place = place

    def _make_way(self, is_directory: bool, target: tuple, replace: bool) -> None:
        """Remove the target of a rename. Raises OSError if it must not be replaced."""
        id, file, fields = target
        if not replace:
            fail(errno.EEXIST)
        if is_directory != S_ISDIR(fields["mode"]):
            fail(errno.ENOTDIR if is_directory else errno.EISDIR)
        if is_directory:
            self._check_empty(id)
        self._drop(id, file)

    def _is_within(self, directory: int, above: int | None) -> bool:
        while directory != TOP:
            if directory == above:
                return True
            directory = self._base.execute(
                "SELECT parent FROM entries WHERE id = ?", (directory,)
            ).fetchone()[0]
        return False

    def opendir(self, path: bytes) -> Iterator[tuple[bytes, SFTPAttributes]]:
        id, _, fields = self._get(path)
        if not S_ISDIR(fields["mode"]):
            fail(errno.ENOTDIR)
        rows = self._base.execute(
            f"SELECT name, id, {', '.join(FIELDS)} FROM entries WHERE parent = ?", (id,)
        ).fetchall()
        found = [(b".", fields), (b"..", fields)]
        for name, entry, *values in rows:
            file = self._open.get(entry)
            is_new = file is not None and file.is_changed
            found.append((name, file.fields if is_new else dict(zip(FIELDS, values, strict=True))))
        new = (file for file in self._open.values() if file.id is None and file.place and file.place[0] == id)
        found += [(file.place[1], file.fields) for file in new]
        return ((name, self._attributes(of)) for name, of in found)

    # --- attributes -------------------------------------------------------------------------------

    def _attributes(self, fields: dict[str, int]) -> SFTPAttributes:
        names = {"mode": "permissions"}
        links = 2 if S_ISDIR(fields["mode"]) else 1
        return SFTPAttributes(**{names.get(name, name): value for name, value in fields.items()}, nlink=links)

    def stat(self, path: bytes) -> SFTPAttributes:
        return self._attributes(self._get(path)[2])

    lstat = stat  # there are no links

    def fstat(self, handle: Handle) -> SFTPAttributes:
        return self._attributes(handle.file.fields)

    def setstat(self, path: bytes, attrs: SFTPAttributes) -> None:
        id, file, fields = self._get(path)
        if attrs.size is not None:
            if S_ISDIR(fields["mode"]):
                fail(errno.EISDIR)
            handle = self.open(path, os.O_RDWR, 0)  # truncates like any other change of content
            try:
                self._change(handle.file, attrs)
            finally:
                self.close(handle)
        elif file is not None and file.is_changed:
            self._change(file, attrs)
        else:
            with self._transaction() as base:
                for name, value in self._changes(fields, attrs).items():
                    base.execute(f"UPDATE entries SET {name} = ? WHERE id = ?", (value, id))
            if file is not None:
                file.fields |= self._changes(fields, attrs)

    lsetstat = setstat

    def fsetstat(self, handle: Handle, attrs: SFTPAttributes) -> None:
        if attrs.size is not None and handle.flags & os.O_ACCMODE == os.O_RDONLY:
            fail(errno.EINVAL)
        self._change(handle.file, attrs)

    def _change(self, file: OpenFile, attrs: SFTPAttributes) -> None:
        if attrs.size is not None:
            if attrs.size > LARGEST:
                fail(errno.EFBIG)
            file.file.truncate(attrs.size)
            file.touch()
        file.is_changed = True
        file.fields |= self._changes(file.fields, attrs)

    def _changes(self, fields: dict[str, int], attrs: SFTPAttributes) -> dict[str, int]:
        changes = {name: getattr(attrs, name) for name in ("uid", "gid", "atime", "mtime")}
        if attrs.permissions is not None:
            changes["mode"] = fields["mode"] & ~0o7777 | attrs.permissions & 0o7777
        return {name: value for name, value in changes.items() if value is not None}

    # --- files ------------------------------------------------------------------------------------

    def open(self, path: bytes, flags: int, mode: int) -> Handle:
        found = self._find(path)
        if found is None:
            if not flags & os.O_CREAT:
                fail(errno.ENOENT)
            if path.endswith((b"/", b"/.")):
                fail(errno.EISDIR)
            now, place = int(time.time()), self._place(path)
            fields = {"size": 0, "uid": os.getuid(), "gid": os.getgid(), "mode": S_IFREG | mode & 0o7777}
            file = self._open[place] = OpenFile(None, place, fields | {"atime": now, "mtime": now})
        else:
            id, file, fields = found
            if flags & os.O_CREAT and flags & os.O_EXCL:
                fail(errno.EEXIST)
            if S_ISDIR(fields["mode"]):
                fail(errno.EISDIR)
            if file is None:
                file = self._open[id] = OpenFile(id, self._place(path), fields)
                if not flags & os.O_TRUNC:
                    self._load(file)
            if flags & os.O_TRUNC:
                file.file.truncate(0)
                file.touch()
        file.handles += 1
        return Handle(file, flags)

    def _load(self, file: OpenFile) -> None:
        chunks = self._base.execute("SELECT data FROM chunks WHERE entry = ? ORDER BY number", (file.id,))
        for (data,) in chunks:
            write_all(file.file.fileno(), data, os.lseek(file.file.fileno(), 0, os.SEEK_END))

    def fileno(self, handle: Handle) -> int | None:
        return None if handle.flags & os.O_ACCMODE == os.O_WRONLY else handle.file.file.fileno()

    def read(self, handle: Handle, off: int, size: int) -> bytes:
        if handle.flags & os.O_ACCMODE == os.O_WRONLY:
            fail(errno.EBADF)
        return os.pread(handle.file.file.fileno(), size, off)

    def write(self, handle: Handle, off: int, chunk: bytes) -> None:
        if handle.flags & os.O_ACCMODE == os.O_RDONLY:
            fail(errno.EBADF)
        if off + len(chunk) > LARGEST:
            fail(errno.EFBIG)
        if chunk:
            write_all(
                handle.file.file.fileno(),
                chunk,
                handle.file.fields["size"] if handle.flags & os.O_APPEND else off,
            )
            handle.file.touch()

    def spoil(self, handle: Handle) -> None:
        handle.file.is_spoiled = True

    def abandon(self, handle: Handle) -> None:
        handle.file.is_spoiled = handle.flags & os.O_ACCMODE != os.O_RDONLY or handle.file.is_spoiled
        try:
            self.close(handle)
        except SFTPFailure:
            pass  # nobody is there to be told

    def close(self, handle: Handle) -> None:
        file = handle.file
        file.handles -= 1
        if file.handles:
            return
        try:
            if file.place is not None:
                self._open.pop(file.place if file.id is None else file.id)
            if file.is_spoiled:
                raise SFTPFailure("a part of the content is missing; the file stays as it was")
            if file.is_changed and file.place is not None:
                self._store(file)
        finally:
            file.file.close()

    def _store(self, file: OpenFile) -> None:
        """Store the content of a file, so that all sessions see it."""
        with self._transaction() as base:
            row = self._row(*file.place)
            if row is not None and S_ISDIR(row[4]):
                fail(errno.EISDIR)
            if file.id is not None and (row is None or row[0] != file.id):
                return  # another session has removed or replaced it
            id = self._store_row(file.place, file.fields) if row is None else row[0]
            assignments = ", ".join(f"{name} = ?" for name in FIELDS)
            base.execute(
                f"UPDATE entries SET {assignments} WHERE id = ?",
                [*(file.fields[name] for name in FIELDS), id],
            )
            base.execute("DELETE FROM chunks WHERE entry = ?", (id,))
            file.file.seek(0)
            number = 0
            while data := file.file.read(CHUNK):
                base.execute("INSERT INTO chunks VALUES (?, ?, ?)", (id, number, data))
                number += 1


def write_all(descriptor: int, data: bytes, off: int) -> None:
    """Write all of it. Raises OSError."""
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, off)
        view, off = view[count:], off + count
