"""Sessions: the user, the storage, the request numbers used so far, and when a session is over.

What may not enter: HTTP, tokens, files, how commands run. Times are seconds of time.monotonic().
"""

from __future__ import annotations

import collections
import secrets
import threading
from dataclasses import dataclass

from pysftpserver.remo.audit import SILENT
from pysftpserver.remo.wire import PAUSE, Tampered, next_number
from pysftpserver.service.throttle import network_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.remo.config import ServerSettings
    from pysftpserver.remo.crypto import SessionCipher
    from pysftpserver.remo.users import Permissions, User
    from pysftpserver.service.audit import DoorAudit

    class Work(Protocol):
        """Work that a session has running."""

        def stop(self) -> None:
            """End it, from another thread; it may be over already."""


ID_BYTES = 24
MOST_UNCONFIRMED = 256  # sessions that have not yet proved that they know their key
#: One-time keys that are remembered, so that a replayed login does not open a session.
MOST_REMEMBERED = 65536


class TooMany(Exception):
    """The maximum number of sessions is reached."""


@dataclass(eq=False, repr=False)
class Session:
    """One login. may: what the user may do. address: the client's. id: the value of the cookie."""

    user: User
    may: Permissions
    cipher: SessionCipher
    address: str
    began: float
    audit: DoorAudit = SILENT

    def __post_init__(self) -> None:
        self.id = new_id()
        self.network = network_of(self.address)
        self.used = self.began
        self.is_confirmed = False
        self.is_numbered = False
        self.is_over = False
        self.command: Work | None = None  # the interactive one
        self.outcome = "none"  # of the latest command
        self.lock = threading.Lock()
        self._opening = threading.Lock()  # held while the storage is opened, which may hang
        self.turn = threading.Lock()  # of the interactive command
        self._number = 0
        self._made = 0
        self._counted = self.began
        self._work: set[Work] = set()
        self._storage: SFTPAbstractServerStorage | None = None

    @property
    def label(self) -> str:
        """Its name in the logs: not its id, which would let a reader of the logs take it over."""
        return self.audit.session

    def storage(self, open_storage: Callable[[], SFTPAbstractServerStorage]) -> SFTPAbstractServerStorage:
        """Its storage, opened on first use. Raises what open_storage() raises."""
        with self._opening:
            if self._storage is None:
                self._storage = open_storage()
                if self.is_over:
                    self._storage.release()
            return self._storage

    def count(self, number: int, made: int, now: float) -> None:
        """Check and count a numbered request. made: when its token was made, by the peer's clock. Raises
        Tampered.
        """
        with self.lock:
            expected = next_number(self._number) if self.is_numbered else 1
            is_new = made > self._made and self.is_numbered and now - self._counted >= PAUSE
            if number != expected and not is_new:
                raise Tampered("a request is missing, repeated or not in its place")
            self.is_numbered = True
            self._number = number
            self._made = max(made, self._made)
            self._counted = now

    def begin(self, work: Work) -> bool:
        """Register work that ends with the session; return False if the session is over."""
        with self.lock:
            if self.is_over:
                return False
            self._work.add(work)
            return True

    def done(self, work: Work) -> None:
        """Unregister work that has ended."""
        with self.lock:
            self._work.discard(work)

    def is_busy(self) -> bool:
        """Whether a transfer or a command of cmd is under way; an interactive one waits for its user."""
        with self.lock:
            return bool(self._work - {self.command})

    def end(self) -> None:
        """End the session and the work that it has running."""
        with self.lock:
            self.is_over = True
            work, self._work = self._work, set()
            storage, self._storage = self._storage, None
        for each in work:
            each.stop()
        if storage is not None:
            storage.release()


class Sessions:
    """All sessions of a server.

    values: the limits, which may change while the server runs. told: called with each session that ends and
    the reason, unless the session never proved that it knew its key.
    """

    def __init__(
        self, values: ServerSettings, told: Callable[[Session, str], object] = lambda session, why: None
    ) -> None:
        self._values = values
        self._told = told
        self._sessions: dict[str, Session] = {}
        self._unconfirmed: dict[str, Session] = {}  # oldest first
        self._networks: collections.Counter[str] = collections.Counter()  # of confirmed sessions
        self._keys: dict[bytes, None] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions) + len(self._unconfirmed)

    def is_new(self, key: bytes) -> bool:
        """Remember a login's one-time key; return whether it is new."""
        with self._lock:
            if key in self._keys:
                return False
            self._keys[key] = None
            if len(self._keys) > MOST_REMEMBERED:
                del self._keys[next(iter(self._keys))]
            return True

    def add(self, session: Session) -> None:
        """Add a session that has not yet proved that it knows its key."""
        crowded = None
        with self._lock:
            self._unconfirmed[session.id] = session
            if len(self._unconfirmed) > MOST_UNCONFIRMED:
                crowded = self._unconfirmed.pop(next(iter(self._unconfirmed)))
        if crowded is not None:
            crowded.end()

    def find(self, ident: str, now: float) -> Session | None:
        """The session with that id, if it is not over."""
        with self._lock:
            session = self._sessions.get(ident) or self._unconfirmed.get(ident)
        if session is None or session.is_over:
            return None
        if self._is_late(session, now):
            self._time_out(session)
            return None
        return session

    def user_of(self, ident: str) -> str | None:
        """The user name of the session with that id, if there is one. Never waits for a lock."""
        session = self._sessions.get(ident) or self._unconfirmed.get(ident)
        return None if session is None else session.user.name

    def confirm(self, session: Session, now: float) -> None:
        """Confirm a session that has proved that it knows its key. Raises TooMany."""
        session.used = now
        if session.is_confirmed:
            return
        crowded = None
        with self._lock:
            if self._unconfirmed.pop(session.id, None) is None:
                return  # two requests at once, or it is over
            mine = [each for each in self._sessions.values() if each.user.name == session.user.name]
            if len(mine) >= self._values.max_per_user:
                crowded = min(mine, key=lambda each: each.used)
                del self._sessions[crowded.id]
                self._left(crowded)
            elif len(self._sessions) >= self._values.max_sessions:
                raise TooMany
            session.is_confirmed = True
            self._sessions[session.id] = session
            self._networks[session.network] += 1
        if crowded is not None:
            crowded.end()
            self._told(crowded, "the user has too many sessions, and this was the least recently used")

    def end(self, session: Session, why: str) -> None:
        """End a session. why: for the logs."""
        if self._remove(session):
            self._told(session, why)

    def _time_out(self, session: Session) -> None:
        if self._remove(session) and session.is_confirmed:
            self._told(session, "timed out")

    def _remove(self, session: Session) -> bool:
        """Remove a session; return whether it was there."""
        with self._lock:
            was_there = session.id in self._sessions or session.id in self._unconfirmed
            self._unconfirmed.pop(session.id, None)
            if self._sessions.pop(session.id, None) is not None:
                self._left(session)
        session.end()
        return was_there

    def _left(self, session: Session) -> None:
        """Count a confirmed session as gone. The caller holds the lock."""
        self._networks[session.network] -= 1
        if not self._networks[session.network]:
            del self._networks[session.network]

    def sweep(self, now: float) -> list[Session]:
        """End sessions that have timed out, and return them."""
        with self._lock:
            every = [*self._sessions.values(), *self._unconfirmed.values()]
        for session in every:
            if session.is_over:  # it ended because it could not be audited
                self.end(session, "ended, because the audit log cannot be written")
        late = [session for session in every if not session.is_over and self._is_late(session, now)]
        for session in late:
            self._time_out(session)
        return late

    def has_from(self, network: str) -> bool:
        """Whether there is a confirmed session from that network. network: as from network_of()."""
        return network in self._networks

    def all(self) -> list[Session]:
        """The confirmed sessions."""
        with self._lock:
            return list(self._sessions.values())

    def close(self) -> None:
        """End all sessions."""
        with self._lock:
            every = [*self._sessions.values(), *self._unconfirmed.values()]
        for session in every:
            if self._remove(session) and session.is_confirmed:
                self._told(session, "the server stops")

    def _is_late(self, session: Session, now: float) -> bool:
        if session.is_busy():
            return False
        timeout, grace = self._values.session_timeout, self._values.login_grace
        return now - session.used > (timeout if session.is_confirmed else min(grace, timeout))


def new_id() -> str:
    """A session id of 192 random bits."""
    return secrets.token_urlsafe(ID_BYTES)
