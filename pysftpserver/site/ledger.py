"""The ledger of a site: one SQLite file that the site's sessions and its deliverer share.

It has the counts of quotas (accounts.py) and the events that wait for receivers (spool.py), and survives
SIGKILL and, on request, power loss. Next to it is a file of locks, with which processes of this host take
turns and learn which of them have ended: the kernel drops a lock with the process that holds it, so there is
no guessing in a sandbox, or when a process number is reused. Every file is opened, and every module imported,
before a sandbox is entered. What may not enter: what is counted, what is delivered. Facts:
sqlite.org/wal.html, sqlite.org/pragma.html#pragma_synchronous, fcntl(2) on open file description locks.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import sqlite3
import stat
import struct
import time
from _thread import RLock
from zlib import crc32

from pysftpserver.failures import BadInput, one_line, reason_of
from pysftpserver.formats import LEDGER
from pysftpserver.pysftpexceptions import SFTPFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

FILE, LOCKS, WAKE = "ledger.sqlite", "ledger.locks", "ledger.wake"
PATIENCE = 60.0  # seconds to wait for another process's transaction
TURN_PATIENCE = 300.0  # seconds to wait for another session's work on a file, which a disk may delay
#: Seconds between two tries for a lock that another process has: in the first second, and later.
FIRST_PAUSE, LATER_PAUSE = 0.0002, 0.002
FLOCK = "hhqqi4x"  # struct flock of 64-bit systems: type, whence, start, length, process
#: Places in the file of locks. Each session and each name has a byte after theirs.
TURN, DELIVERER, NAMES, SESSIONS = 0, 1, 1 << 32, 1 << 40
NORMAL, FULL = 1, 2  # of PRAGMA synchronous: safe if the process crashes, and if the machine crashes
TABLES = """
CREATE TABLE session (id INTEGER PRIMARY KEY AUTOINCREMENT, who TEXT NOT NULL);
CREATE TABLE account (
    name TEXT NOT NULL, place TEXT NOT NULL, bytes INTEGER NOT NULL, files INTEGER NOT NULL,
    PRIMARY KEY (name, place)
) WITHOUT ROWID;
CREATE TABLE change (
    id INTEGER PRIMARY KEY, account TEXT NOT NULL, place TEXT NOT NULL, session INTEGER NOT NULL,
    kind TEXT NOT NULL, path BLOB NOT NULL, witness BLOB NOT NULL, key BLOB NOT NULL, own BLOB NOT NULL,
    base INTEGER NOT NULL, had INTEGER NOT NULL, bytes INTEGER NOT NULL, files INTEGER NOT NULL
);
CREATE INDEX change_of_account ON change (account);
CREATE TABLE event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, session INTEGER NOT NULL, is_ready INTEGER NOT NULL,
    content TEXT NOT NULL
);
CREATE INDEX event_to_settle ON event (session) WHERE NOT is_ready;
CREATE TABLE event_path (path BLOB NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (path, seq)) WITHOUT ROWID;
CREATE INDEX path_of_event ON event_path (seq);
CREATE TABLE delivery (
    receiver TEXT NOT NULL, seq INTEGER NOT NULL, tries INTEGER NOT NULL, due REAL NOT NULL, since REAL NOT
    NULL, is_dead INTEGER NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (receiver, seq)
) WITHOUT ROWID;
CREATE INDEX delivery_of_event ON delivery (seq);
"""


def check(directory: str) -> None:
    """Raises BadInput if a state directory is missing, without opening a ledger there."""
    if not os.path.isdir(directory):
        reason = os.strerror(errno.ENOTDIR if os.path.lexists(directory) else errno.ENOENT).lower()
        raise BadInput(f"state {directory}: {reason}{_how(directory)}")


def _how(directory: str) -> str:
    """What to do if a state directory is missing, in words."""
    how = f"; create it for the account of the sessions, with: install -d -m 700 -o ACCOUNT {directory}"
    return "" if os.path.lexists(directory) else how


class Busy(SFTPFailure):
    """The ledger is not available now. The text is for clients."""


class Away(Busy):
    """The ledger is on another host, which cannot be reached."""


class Ledger:
    """The ledger in a state directory, open. Its methods may be called from several threads.

    directory: its path. It must exist; its files are made accessible to the accounts that may write it.
    Raises BadInput when the ledger cannot be used.
    """

    def __init__(self, directory: str) -> None:
        self.session = 0  # the number from open_session()
        self._mutex = RLock()
        self._synchronous = 0
        self._open: list[int] = []
        try:
            self.directory = self._opened(directory, os.O_RDONLY | os.O_DIRECTORY)
            mode = os.fstat(self.directory).st_mode
            if mode & stat.S_IWOTH:
                raise BadInput(f"state {directory}: it is writable by everybody; run chmod o-w on it")
            mode &= 0o660
            self._locks = self._opened(f"{directory}/{LOCKS}", os.O_RDWR | os.O_CREAT, mode)
            with contextlib.suppress(FileExistsError):
                # Only if it is new: closing any descriptor of a file drops SQLite's locks in this process.
                os.close(os.open(f"{directory}/{FILE}", os.O_RDWR | os.O_CREAT | os.O_EXCL, mode))
            with contextlib.suppress(FileExistsError):
                os.mkfifo(f"{directory}/{WAKE}", mode)
            # Linux opens a FIFO for both without waiting for a reader, and keeps data meanwhile.
            self._wake = self._opened(f"{directory}/{WAKE}", os.O_RDWR | os.O_NONBLOCK)
            self._database = self._connected(f"{directory}/{FILE}")
        except (OSError, sqlite3.Error, Busy) as error:
            self._close_descriptors()
            reason = reason_of(error) if isinstance(error, OSError) else one_line(str(error))
            raise BadInput(f"state {directory}: {reason}{_how(directory)}") from None
        except BaseException:
            self._close_descriptors()
            raise

    def _opened(self, path: str, flags: int, mode: int = 0) -> int:
        self._open.append(os.open(path, flags | os.O_CLOEXEC, mode))
        return self._open[-1]

    def _connected(self, path: str) -> sqlite3.Connection:
        database = sqlite3.connect(path, PATIENCE, isolation_level=None, check_same_thread=False)
        try:
            database.execute("PRAGMA temp_store = MEMORY")  # a sandbox has no directory for temporary tables
            self._lock(TURN)  # writers take turns: SQLite alone would poll
            try:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("BEGIN IMMEDIATE")
                (version,) = database.execute("PRAGMA user_version").fetchone()
                LEDGER.check(version, path)
                if not version:
                    for statement in TABLES.split(";\n"):
                        database.execute(statement)
                # This always writes something, so SQLite has now opened all files that it will need.
                database.execute(f"PRAGMA user_version = {LEDGER.version}")
                database.execute("COMMIT")
            finally:
                self._unlock(TURN)
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Close it; the session, if there is one, has ended. May be called twice."""
        with self._mutex:
            self._database.close()
            self._close_descriptors()

    def _close_descriptors(self) -> None:
        while self._open:
            os.close(self._open.pop())

    def territory(self, below: Sequence[int] | None) -> Sequence[int] | None:
        """The directories that a sandbox has to allow. below: those of the storage."""
        return None if below is None else [*below, self.directory]

    # --- transactions -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def changing(self, durable: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction. durable: it is safe from power loss when the context is left.

        Raises Busy if it cannot begin, or another process does not end its own within PATIENCE seconds.
        """
        level = FULL if durable else NORMAL
        with self._mutex:
            self._lock(TURN)
            try:
                database = self._database
                if level != self._synchronous:
                    database.execute(f"PRAGMA synchronous = {level}")
                    self._synchronous = level
                database.execute("BEGIN IMMEDIATE")
                try:
                    yield database
                    database.execute("COMMIT")
                except BaseException:
                    if database.in_transaction:
                        database.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:  # such as a full disk
                raise Busy(f"The ledger of this site cannot be written: {one_line(str(error))}") from None
            finally:
                self._unlock(TURN)

    def ask(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows that a query finds."""
        with self._mutex:
            return self._database.execute(query, values).fetchall()

    # --- locks ------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def holding(self, names: Iterable[bytes], shared: Iterable[bytes] = ()) -> Iterator[None]:
        """A context in which no other session holds any of the names. shared: those that others may share.

        Raises Busy if another one holds them for longer than TURN_PATIENCE seconds.
        """
        places = {NAMES + crc32(name): True for name in shared}
        places |= {NAMES + crc32(name): False for name in names}
        with self._mutex:
            held = []
            try:
                for place in sorted(places):  # the same order in all processes
                    self._lock(place, places[place], TURN_PATIENCE)
                    held.append(place)
                yield
            finally:
                for place in held:
                    self._unlock(place)

    def _lock(self, place: int, shared: bool = False, patience: float | None = None) -> None:
        """Wait for a lock. patience: seconds; None: PATIENCE. Raises Busy after that: its holder may hang."""
        patience = PATIENCE if patience is None else patience
        wanted = _flock(fcntl.F_RDLCK if shared else fcntl.F_WRLCK, place)
        deadline = often = 0.0
        while True:
            try:
                fcntl.fcntl(self._locks, fcntl.F_OFD_SETLK, wanted)
                return
            except BlockingIOError:
                now = time.monotonic()
                deadline, often = deadline or now + patience, often or now + 1
                if now >= deadline:
                    words = f"Another session has held the ledger of this site for {patience:g} seconds"
                    raise Busy(f"{words}; try again later") from None
            time.sleep(LATER_PAUSE if now > often else FIRST_PAUSE)

    def _unlock(self, place: int) -> None:
        fcntl.fcntl(self._locks, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, place))

    def _is_held(self, place: int) -> bool:
        """Whether another process, or another ledger of this one, holds a lock."""
        answer = fcntl.fcntl(self._locks, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, place))
        return bool(struct.unpack(FLOCK, answer)[0] != fcntl.F_UNLCK)

    def become_deliverer(self, wait: bool = False) -> bool:
        """Become the only deliverer until close(); return whether that worked. wait: until it can."""
        how = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
        try:
            fcntl.fcntl(self._locks, how, _flock(fcntl.F_WRLCK, DELIVERER))
        except BlockingIOError:
            return False
        return True

    def has_deliverer(self) -> bool:
        """Whether a process delivers events now."""
        return self._is_held(DELIVERER)

    def wake(self) -> None:
        """Wake the deliverer."""
        with contextlib.suppress(BlockingIOError):  # the FIFO is full: it will wake anyway
            os.write(self._wake, b"\n")

    def host(self) -> int:
        """A number of 30 bits that distinguishes this ledger from those of other hosts."""
        with self.changing() as database:
            (number,) = database.execute("PRAGMA application_id").fetchone()
            if not number:
                number = int.from_bytes(os.urandom(4), "big") % ((1 << 30) - 1) + 1
                database.execute(f"PRAGMA application_id = {number}")
        return int(number)

    def fileno(self) -> int:
        """A descriptor that becomes readable when the deliverer is woken."""
        return self._wake

    # --- sessions ---------------------------------------------------------------------------------

    def open_session(self, who: Mapping[str, object]) -> int:
        """Begin a session; return its number. who: the values of its Who."""
        with self.changing() as database:
            cursor = database.execute("INSERT INTO session (who) VALUES (?)", (json.dumps(who),))
            self.session = cursor.lastrowid or 0
            fcntl.fcntl(self._locks, fcntl.F_OFD_SETLK, _flock(fcntl.F_WRLCK, SESSIONS + self.session))
        return self.session

    def is_running(self, session: int) -> bool:
        """Whether a session has not ended."""
        return session == self.session or self._is_held(SESSIONS + session)

    def who(self, session: int) -> dict[str, Any]:
        """The values of a session's Who; empty for one that is forgotten."""
        rows = self.ask("SELECT who FROM session WHERE id = ?", session)
        return json.loads(rows[0][0]) if rows else {}

    def ended_sessions(self) -> list[int]:
        """The sessions that have ended and are not yet forgotten."""
        return [number for (number,) in self.ask("SELECT id FROM session") if not self.is_running(number)]

    def forget_sessions(self) -> None:
        """Forget the sessions that have ended and left nothing to settle."""
        ended = self.ended_sessions()
        if ended:
            with self.changing() as database:
                for number in ended:
                    database.execute(
                        "DELETE FROM session WHERE id = :id"
                        " AND NOT EXISTS (SELECT 1 FROM change WHERE session = :id)"
                        " AND NOT EXISTS (SELECT 1 FROM event WHERE session = :id)",
                        {"id": number},
                    )


def _flock(kind: int, place: int) -> bytes:
    return struct.pack(FLOCK, kind, os.SEEK_SET, place, 1, 0)
