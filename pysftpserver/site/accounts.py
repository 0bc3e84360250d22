"""The accounts in the ledger, which hold what quotas count, and the changes to them under way.

An account has the bytes and files that it counts. Before something changes, the change is recorded with the
most that it may add, so that all sessions together stay within the limit; when it is done, the account gets
the actual difference. A change that a killed session has left is settled by looking at the file. An account
may count several trees, such as those of all users of a site; each has its place and its count.

A small new file is recorded once, before it gets its name. Its row says what to count, which is done for
several files at once.

Changes to one file know of each other by its key, and by its path. `base` is the amount in the account for
the file: when one change is settled, the others get the new base, whatever they do later. What may not enter:
storages, limits of anything else. Facts: getquota(8) counts a file with several names once; so does this.
"""

from __future__ import annotations

import errno
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from pysftpserver.site.shared import AnyLedger

BLOCK = 8 << 20  # bytes by which a file may grow before the ledger is asked again, if there is room
SHARE = 8  # a file gets at most one part in this many of the free space in advance
FRESH = 10.0  # seconds for which the last known free space is believed, for small files
TOGETHER = 16  # new files counted at once
MOST = (1 << 63) - 1  # bytes, and files: no limit
#: Kinds of changes. How each is settled after its session was killed:
WRITE = "write"  # the file at path has another size, or is new
PUT = "put"  # the file at path is new and complete
DROP = "drop"  # if there is nothing at witness, a file is no longer counted
GAIN = "gain"  # if there is nothing at witness, files are counted
MAKE = "make"  # if there is something at path, it is counted
FILES = WRITE, PUT


class Quota:
    """A limit. account: its name. bytes, files: maximum numbers.

    matches: whether a canonical path is counted; None: all are.
    """

    def __init__(
        self, account: str, size: int | None, files: int | None, matches: Callable[[bytes], bool] | None
    ) -> None:
        self.account = account
        self.bytes = MOST if size is None else size
        self.files = MOST if files is None else files
        self.matches = matches


class Change:
    """A change to one account. number: in the ledger. base: bytes counted for the file before. room: bytes
    that may be added to these; grow() increases it.
    """

    __slots__ = ("base", "number", "quota", "room")

    def __init__(self, quota: Quota, number: int, base: int, room: int) -> None:
        self.quota, self.number, self.base, self.room = quota, number, base, room


class Plan:
    """A planned change to an account. base, had: bytes and files that are counted now and concerned.

    key: of the file; empty if there is none yet, or if it keeps another name. size: maximum bytes to be
    added; for a file being written, its size after that. files: maximum to be added. is_open: more may be
    added later. own: the key of the file that is received to replace it.
    """

    def __init__(
        self,
        quota: Quota,
        kind: str,
        path: bytes,
        key: bytes = b"",
        base: int = 0,
        had: int = 0,
        *,
        witness: bytes = b"",
        size: int = 0,
        files: int = 0,
        is_open: bool = False,
        own: bytes = b"",
    ) -> None:
        self.own = own
        self.quota, self.kind, self.path, self.witness, self.key = quota, kind, path, witness, key
        self.base, self.had, self.size, self.files, self.is_open = base, had, size, files, is_open


class Accounts:
    """The accounts in a ledger, for a session that open_session() has begun. place: of the session's tree."""

    def __init__(self, ledger: AnyLedger, place: str) -> None:
        self._ledger, self._place = ledger, place
        self._stored: list[int] = []  # completed changes of kind PUT
        self._free: dict[str, tuple[float, int, int]] = {}  # time, bytes and files, by account

    def stored(self, changes: Iterable[Change]) -> None:
        """Note that new files recorded as PUT are in place. Their rows say what to count."""
        self._stored += [change.number for change in changes]
        if len(self._stored) >= TOGETHER:
            self.count_stored()

    def count_stored(self) -> None:
        """Count the new files that are in place."""
        if not self._stored:
            return
        # Other sessions may have counted some of them, and reused their numbers.
        marks = ", ".join("?" * len(self._stored))
        mine = f"session = {self._ledger.session} AND kind = '{PUT}'"
        of_these = f"FROM change AS new WHERE id IN ({marks}) AND {mine}"
        with self._ledger.changing() as database:
            sums = f"SELECT account, place, sum(bytes), sum(files) {of_these} GROUP BY account, place"
            for account, place, size, files in database.execute(sums, self._stored).fetchall():
                _add(database, {"account": account, "place": place}, size, files)
            opened = f"SELECT {', '.join(COLUMNS)} {of_these} AND {IS_OPEN}"
            for values in database.execute(opened, self._stored).fetchall():
                row = dict(zip(COLUMNS, values, strict=True))
                _tell_others(database, row, row["key"], row["bytes"], 1)
            database.execute(f"DELETE {of_these}", self._stored)
        self._stored.clear()

    def has_plenty(self, quotas: Iterable[Quota], size: int, files: int) -> bool:
        """Whether that much is a small part of the space that was free a moment ago."""
        since = time.monotonic() - FRESH
        for quota in quotas:
            when, free_bytes, free_files = self._free.get(quota.account, (0.0, 0, 0))
            if when < since or size * SHARE > free_bytes or files * SHARE > free_files:
                return False
        return True

    def begin(self, plans: Iterable[Plan]) -> list[Change]:
        """Record planned changes. Raises OSError(EDQUOT) if a limit does not allow them."""
        found = []
        with self._ledger.changing() as database:
            for plan in plans:
                quota = plan.quota
                # The amount counted for an open file is not its size.
                base, had = plan.base, plan.had
                if plan.kind != PUT:  # it has no name yet
                    base, had = _counted(database, quota, plan.key, base, had)
                if had < 0:
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
                room = max(0, plan.size - base) if plan.kind in FILES else plan.size
                free_bytes, free_files = _free(database, quota)
                if room > max(free_bytes, 0) or plan.files > max(free_files, 0):
                    raise over_quota()
                if plan.is_open:
                    room += _ahead(free_bytes - room)
                cursor = database.execute(
                    "INSERT INTO change (account, place, session, kind, path, witness, key, own, base, had,"
                    " bytes, files) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (quota.account, self._place, self._ledger.session, plan.kind, plan.path, plan.witness)
                    + (plan.key, plan.own, base, had, room, plan.files),
                )
                self._free[quota.account] = time.monotonic(), free_bytes - room, free_files - plan.files
                found.append(Change(quota, cursor.lastrowid or 0, base, room))
        return found

    def grow(self, changes: Iterable[Change], end: int) -> None:
        """Let a file become that large. Raises OSError(EDQUOT) if a limit does not allow it."""
        with self._ledger.changing() as database:
            for change in changes:
                query = "SELECT base, bytes FROM change WHERE id = ?"  # other sessions may have changed it
                change.base, change.room = database.execute(query, (change.number,)).fetchone()
                missing = end - change.base - change.room
                if missing > 0:
                    free, _ = _free(database, change.quota)
                    if missing > free:
                        raise over_quota()
                    change.room += missing + _ahead(free - missing)
                    database.execute("UPDATE change SET bytes = ? WHERE id = ?", (change.room, change.number))

    def opened(self, changes: Iterable[Change], own: bytes, is_new: bool) -> None:
        """Note that the file is open. own: its key. is_new: this file is counted from now on."""
        with self._ledger.changing() as database:
            for change in changes:
                database.execute(
                    f"UPDATE change SET own = ?1{', key = ?1' if is_new else ''} WHERE id = ?2",
                    (own, change.number),
                )

    def keys(self, changes: Sequence[Change]) -> list[bytes]:
        """The keys of the files as other sessions have left them: another key if the file is gone."""
        numbers = ", ".join(str(change.number) for change in changes)
        return [key for (key,) in self._ledger.ask(f"SELECT key FROM change WHERE id IN ({numbers})")]

    def path(self, changes: Sequence[Change]) -> bytes:
        """The path of the file as other sessions have left it; b"" if it is not known."""
        rows = self._ledger.ask("SELECT path FROM change WHERE id = ?", changes[0].number)
        return rows[0][0] if rows else b""

    def cancel(self, changes: Iterable[Change]) -> None:
        """Drop changes of which nothing has happened."""
        with self._ledger.changing() as database:
            for change in changes:
                database.execute("DELETE FROM change WHERE id = ?", (change.number,))

    def written(self, changes: Iterable[Change], size: int, key: bytes) -> None:
        """Count a file with that key at its new size, unless others have removed it."""
        with self._ledger.changing() as database:
            for change in changes:
                row = _taken(database, change.number)
                if row is not None and row["key"] == key:
                    _settle_write(database, row, size, key)

    def found(self, changes: Iterable[Change], size: int | None, key: bytes) -> None:
        """Count a file of that size that is now at the path; None: there is none."""
        with self._ledger.changing() as database:
            for change in changes:
                row = _taken(database, change.number)
                if row is not None:
                    _settle_write(database, row, size or 0, key, size is not None)

    def replaced(
        self, changes: Iterable[Change], size: int, key: bytes, old_key: bytes, old_size: int, had: int
    ) -> None:
        """Count a new file of that size and key that has replaced another one. had: 0 if there was none."""
        with self._ledger.changing() as database:
            for change in changes:
                row = _taken(database, change.number)
                if row is not None:
                    base, had = _counted(database, change.quota, old_key, old_size, had)
                    _settle_write(database, {**row, "key": old_key, "base": base, "had": had}, size, key)

    def done(self, changes: Iterable[Change]) -> None:
        """Count changes as recorded: they have happened. For all kinds except WRITE."""
        with self._ledger.changing() as database:
            for change in changes:
                row = _taken(database, change.number)
                if row is not None:
                    _settle(database, row)

    def moved(self, quotas: Iterable[Quota], old: bytes, new: bytes, size: int, by_path: bool) -> None:
        """Follow a file of that size, or a directory, to another path. by_path: paths identify files."""
        accounts = [quota.account for quota in quotas]
        marks = ", ".join("?" * len(accounts))
        query = (
            "SELECT id, path, own != key FROM change"
            f" WHERE account IN ({marks}) AND place = ? AND kind IN {FILES}"
        )
        for number, path, is_received in self._ledger.ask(query, *accounts, self._place):
            rest = path[len(old) :]
            values: tuple[object, ...] | None = None
            if is_received and path == old and not by_path:
                continue  # an upload gets the name with which it was opened
            if path.startswith(old) and rest[:1] in (b"", b"/"):
                how = f"key = x'', {REBASED}, had = 0" if by_path else "path = ?"
                values = (0, 0) if by_path else (new + rest,)
            elif path == new and by_path:
                how, values = f"key = own, {REBASED}, had = 1", (size, size)
            if values is not None:
                with self._ledger.changing() as database:
                    database.execute(f"UPDATE change SET {how} WHERE id = ?", (*values, number))

    # --- what is left -----------------------------------------------------------------------------

    def left_behind(self, quotas: Iterable[Quota]) -> list[dict[str, Any]]:
        """The changes that killed sessions have left in these accounts."""
        found = []
        query = f"SELECT {', '.join(COLUMNS)} FROM change WHERE account = ? AND place = ? AND session != ?"
        for quota in quotas:
            for values in self._ledger.ask(query, quota.account, self._place, self._ledger.session):
                row = dict(zip(COLUMNS, values, strict=True))
                if not self._ledger.is_running(row["session"]):
                    found.append(row)
        return found

    def settle(self, row: dict[str, Any], size: int | None, key: bytes) -> None:
        """Settle one of them. size, key: of the file at its witness or path; size None: there is none."""
        with self._ledger.changing() as database:
            taken = _taken(database, row["id"])
            if taken is None:
                return
            if taken["kind"] in FILES:
                if size is None or not taken["own"] or key in (taken["own"], taken["key"]):
                    _settle_write(database, taken, size or 0, key, size is not None)
            elif (size is None) != (taken["kind"] == MAKE):
                _settle(database, taken)

    # --- counting ---------------------------------------------------------------------------------

    def used(self, quota: Quota) -> tuple[int, int]:
        """Bytes and files that are counted, in all places, including changes under way."""
        ((size, files),) = self._ledger.ask(USED, quota.account)
        return size, files

    def is_counted(self, quota: Quota) -> bool:
        """Whether the account was ever counted."""
        query = "SELECT 1 FROM account WHERE name = ? AND place = ?"
        return bool(self._ledger.ask(query, quota.account, self._place))

    def recounted(self, quota: Quota, size: int, files: int, seen: dict[bytes, int]) -> None:
        """Set the counts of an account in this place. seen: the sizes of files, by key."""
        with self._ledger.changing() as database:
            database.execute(
                "INSERT OR REPLACE INTO account VALUES (?, ?, ?, ?)",
                (quota.account, self._place, size, files),
            )
            query = f"SELECT id, key FROM change WHERE account = ? AND place = ? AND kind = '{WRITE}'"
            for number, key in database.execute(query, (quota.account, self._place)).fetchall():
                database.execute(
                    f"UPDATE change SET {REBASED}, had = ? WHERE id = ?",
                    (seen.get(key, 0), seen.get(key, 0), key in seen, number),
                )
            database.executemany(FORGET, [(quota.account, self._place, key) for key in seen])

    def under_way(self, quota: Quota) -> set[bytes]:
        """The keys of the files that are being changed."""
        query = f"SELECT key FROM change WHERE account = ? AND place = ? AND kind IN {FILES}"
        return {key for (key,) in self._ledger.ask(query, quota.account, self._place)}


#: Forget a new file that is counted by now.
FORGET = f"DELETE FROM change WHERE account = ? AND kind = '{PUT}' AND place = ? AND key = ?"
#: Whether a session has a new file open.
IS_OPEN = (
    "EXISTS (SELECT 1 FROM change AS other WHERE other.account = new.account AND other.place = new.place"
    f" AND other.kind = '{WRITE}' AND other.key = new.key)"
)
#: Set another base (given twice). A session that has the file open may still write as much as before.
REBASED = "bytes = bytes + max(0, base - ?), base = ?"
RECEIVED = 0, -1  # for the temporary file of an upload
COLUMNS = "id account place session kind path witness key own base had bytes files".split()
USED = """
SELECT coalesce((SELECT sum(bytes) FROM account WHERE name = ?1), 0) + coalesce(sum(bytes), 0),
       coalesce((SELECT sum(files) FROM account WHERE name = ?1), 0) + coalesce(sum(files), 0)
FROM change WHERE account = ?1
"""


def over_quota() -> OSError:
    """The error for a client that may not store more."""
    return OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def _ahead(free: int) -> int:
    return max(0, min(BLOCK, free // SHARE))


def _free(database: sqlite3.Connection, quota: Quota) -> tuple[int, int]:
    """Bytes and files that may be added; negative if there are too many."""
    size, files = database.execute(USED, (quota.account,)).fetchone()
    return quota.bytes - size, quota.files - files


def _counted(database: sqlite3.Connection, quota: Quota, key: bytes, size: int, had: int) -> tuple[int, int]:
    """Bytes and files counted for a file, or RECEIVED. size, had: these if it is not open for writing."""
    query = (
        "SELECT key, base, had FROM change"
        f" WHERE account = ?1 AND kind IN {FILES} AND (key = ?2 OR own = ?2) ORDER BY key != ?2 LIMIT 1"
    )
    row = database.execute(query, (quota.account, key)).fetchone() if key else None
    if row is None:
        return size, had
    return (row[1], row[2]) if row[0] == key else RECEIVED


def _taken(database: sqlite3.Connection, number: int) -> dict[str, Any] | None:
    """Remove a change from the ledger, and return it."""
    row = database.execute(f"SELECT {', '.join(COLUMNS)} FROM change WHERE id = ?", (number,)).fetchone()
    database.execute("DELETE FROM change WHERE id = ?", (number,))
    return None if row is None else dict(zip(COLUMNS, row, strict=True))


def _settle_write(
    database: sqlite3.Connection, row: dict[str, Any], size: int, key: bytes, is_there: bool = True
) -> None:
    size = size if is_there else 0
    _add(database, row, size - row["base"], is_there - row["had"])
    _tell_others(database, row, key if is_there else b"", size, int(is_there))


def _settle(database: sqlite3.Connection, row: dict[str, Any]) -> None:
    if row["kind"] == DROP:
        _add(database, row, -row["base"], -row["had"])
        _tell_others(database, row, b"", 0, 0)
    else:
        _add(database, row, row["bytes"], row["files"])


def _add(database: sqlite3.Connection, row: dict[str, Any], size: int, files: int) -> None:
    """Add to an account, but never below zero: files may have been changed without the site."""
    database.execute(
        "INSERT INTO account VALUES (?1, ?2, max(0, ?3), max(0, ?4)) ON CONFLICT (name, place) DO UPDATE"
        " SET bytes = max(0, bytes + ?3), files = max(0, files + ?4)",
        (row["account"], row["place"], size, files),
    )


def _tell_others(database: sqlite3.Connection, row: dict[str, Any], key: bytes, size: int, had: int) -> None:
    """Give the other changes to this file the amount that is counted for it now."""
    database.execute(
        f"UPDATE change SET {REBASED}, key = ?, had = ? WHERE account = ? AND kind = '{WRITE}'"
        " AND place = ? AND key = ? AND (key != x'' OR path = ?)",
        (size, size, key, had, row["account"], row["place"], row["key"], row["path"]),
    )
    if row["key"]:
        database.execute(FORGET, (row["account"], row["place"], row["key"]))
