"""Shared links: their targets, lifetimes, and how often they were used.

Only the hash of a link's token is kept: reading the database does not allow using its links. A download
counts when its content begins to be sent, in one transaction with the check of the maximum, so the count is
exact. A request for a range belongs to the same download until the same client has been sent twice the file's
size; then it is another one. What may not enter: HTTP, storages. Times are Unix times.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable

    from pysftpserver.people.users import User
    from pysftpserver.web.state import State

READ, DROP = "read", "drop"  # kinds
TOKEN_BYTES = 18  # 144 bits
ID_BYTES = 6
MOST_TOKEN = 64  # characters of anything that may be a token
MOST_SHARES = 1000  # of one user
MOST_REVOKED = 10_000  # remembered, to stop those in use
KEPT = 86400  # seconds for which a download may be continued
SWEEP = 60.0  # seconds between two sweeps
_FIELDS = "id, user, user_id, path, kind, created, expires, password, most, downloads, uploads, used"


@dataclass(frozen=True)
class Share:
    """A shared link. id: its name in logs. user, user_id: of its maker. path: in that user's storage, without
    symbolic links in it. password: its hash. most: maximum number of downloads, or of uploads for a DROP.
    used: time of last use.
    """

    id: str
    user: str
    user_id: str
    path: bytes
    kind: str
    created: int
    expires: int
    password: str | None = field(default=None, repr=False)
    most: int | None = None
    downloads: int = 0
    uploads: int = 0
    used: int | None = None

    @property
    def name(self) -> bytes:
        """The last name of its path; b"" for the root."""
        return self.path.rpartition(b"/")[2]

    @property
    def is_spent(self) -> bool:
        """Whether it has been used as often as it may."""
        return self.most is not None and (self.uploads if self.kind == DROP else self.downloads) >= self.most


@dataclass(frozen=True)
class Download:
    """A download that was counted or is continued. client, file: hashes."""

    share: str
    client: bytes
    file: bytes
    size: int


class TooManyShares(Exception):
    """The user has the maximum number of shared links."""


class Shares:
    """All shared links. clock: the time, as time.time()."""

    def __init__(self, state: State, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._clock = clock
        self._swept = 0.0
        self._revoked: dict[str, None] = {}  # ids of the last ones
        self.secret = state.secret("shares")  # signs visitors' cookies

    # --- those of a user --------------------------------------------------------------------------------

    def add(
        self,
        user: User,
        path: bytes,
        kind: str,
        seconds: float,
        password: str | None = None,
        most: int | None = None,
    ) -> tuple[Share, str]:
        """Make a link; also return its token, which cannot be read later. seconds: until it expires.

        Raises TooManyShares, sqlite3.Error.
        """
        self.sweep()
        token, now = secrets.token_urlsafe(TOKEN_BYTES), int(self._clock())
        share = Share(
            secrets.token_hex(ID_BYTES),
            user.name,
            user.id,
            path,
            kind,
            now,
            now + int(seconds),
            password,
            most,
        )
        values = {**vars(share), "token": _hash(token)}
        with self._state.change() as connection:
            (count,) = connection.execute(
                "SELECT count(*) FROM shares WHERE user_id = ?", (user.id,)
            ).fetchone()
            if count >= MOST_SHARES:
                raise TooManyShares
            names = ", ".join(values)
            marks = ", ".join(f":{name}" for name in values)
            connection.execute(f"INSERT INTO shares ({names}) VALUES ({marks})", values)
        return share, token

    def of(self, user: User) -> list[Share]:
        """The links that a user has made, newest first."""
        self.sweep()
        with self._state.look() as connection:
            rows = connection.execute(
                f"SELECT {_FIELDS} FROM shares WHERE user_id = ? ORDER BY created DESC, id", (user.id,)
            ).fetchall()
        return [Share(*row) for row in rows]

    def revoke(self, user: User, ident: str) -> Share | None:
        """End a link that a user has made. None: there is none."""
        with self._state.change() as connection:
            row = connection.execute(
                f"SELECT {_FIELDS} FROM shares WHERE user_id = ? AND id = ?", (user.id, ident)
            ).fetchone()
            connection.execute("DELETE FROM shares WHERE user_id = ? AND id = ?", (user.id, ident))
        if row is None:
            return None
        self._revoked[ident] = None
        if len(self._revoked) > MOST_REVOKED:
            del self._revoked[next(iter(self._revoked))]
        return Share(*row)

    def is_revoked(self, share: Share) -> bool:
        """Whether a link was revoked recently. Never waits."""
        return share.id in self._revoked

    # --- those who come with a link ---------------------------------------------------------------------

    def find(self, token: str) -> Share | None:
        """The link with that token. None: there is none, or it has ended; both take the same work."""
        self.sweep()
        with self._state.look() as connection:
            row = connection.execute(
                f"SELECT {_FIELDS} FROM shares WHERE token = ? AND expires > ?",
                (_hash(token[:MOST_TOKEN]), self._clock()),
            ).fetchone()
        return None if row is None else Share(*row)

    def begin_download(
        self, share: Share, client: str, file: bytes, size: int, length: int, is_range: bool
    ) -> Download | None:
        """Count a download, or continue one. None: the maximum is reached.

        client: identifies the client. file: identifies the file and its content. size: of the whole file;
        length: of the requested part, in bytes. Raises sqlite3.Error.
        """
        key = f"{share.id}|{client}".encode("utf-8", "surrogateescape")
        download = Download(share.id, hashlib.sha256(key).digest(), hashlib.sha256(file).digest(), size)
        place = (download.share, download.client, download.file)
        now = int(self._clock())
        if is_range:
            with self._state.change(is_durable=False) as connection:
                if self._goes_on(connection, place, length, now):
                    return download
        with self._state.change() as connection:
            if is_range and self._goes_on(connection, place, length, now):
                return download
            if not self._count(connection, share, "downloads", now):
                return None
            connection.execute(
                "INSERT OR REPLACE INTO downloads (share, client, file, room, used) VALUES (?, ?, ?, ?, ?)",
                (*place, max(0, 2 * size - length), now),
            )
        return download

    def _goes_on(
        self, connection: sqlite3.Connection, place: tuple[str, bytes, bytes], length: int, now: int
    ) -> bool:
        done = connection.execute(
            "UPDATE downloads SET room = room - ?, used = ? WHERE share = ? AND client = ? AND file = ? "
            "AND room >= ? AND EXISTS (SELECT 1 FROM shares WHERE id = share AND expires > ?)",
            (length, now, *place, length, now),
        )
        return done.rowcount == 1

    def end_download(self, download: Download, unsent: int) -> None:
        """Let unsent bytes be asked for again without counting. unsent: their number."""
        if unsent <= 0:
            return
        with self._state.change(is_durable=False) as connection:
            connection.execute(
                "UPDATE downloads SET room = min(?, room + ?) WHERE share = ? AND client = ? AND file = ?",
                (2 * download.size, unsent, download.share, download.client, download.file),
            )

    def begin_upload(self, share: Share) -> bool:
        """Count an upload. False: the maximum is reached. Raises sqlite3.Error."""
        with self._state.change() as connection:
            return self._count(connection, share, "uploads", int(self._clock()))

    def undo_upload(self, share: Share) -> None:
        """Take back the count of an upload that failed."""
        with self._state.change() as connection:
            connection.execute("UPDATE shares SET uploads = uploads - 1 WHERE id = ?", (share.id,))

    def _count(self, connection: sqlite3.Connection, share: Share, what: str, now: int) -> bool:
        done = connection.execute(
            f"UPDATE shares SET {what} = {what} + 1, used = ? "
            f"WHERE id = ? AND expires > ? AND (most IS NULL OR {what} < most)",
            (now, share.id, now),
        )
        return done.rowcount == 1

    # --- all --------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Remove what has expired, now and then."""
        now = self._clock()
        if abs(now - self._swept) < SWEEP:
            return
        self._swept = now
        with self._state.change() as connection:
            connection.execute("DELETE FROM shares WHERE expires <= ?", (now,))
            connection.execute("DELETE FROM downloads WHERE used < ?", (now - KEPT,))


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
