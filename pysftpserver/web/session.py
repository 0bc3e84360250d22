"""Sessions of people who have logged in, and their trees of files.

What may not enter: how users log in, what parts answer. Times are seconds of time.monotonic().
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import logging
import secrets
import threading
import time

from pysftpserver.failures import BadInput, reason_of
from pysftpserver.http.files import FileProblem
from pysftpserver.pysftpexceptions import SFTPException, SFTPSessionEnd
from pysftpserver.service.audit import DoorAudit, result_of
from pysftpserver.service.pythonlogs import sftp_log
from pysftpserver.service.throttle import network_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.people.users import User
    from pysftpserver.web.config import WebSettings
    from pysftpserver.web.wire import Request

log = logging.getLogger("pysftpserver.web")
COOKIE = "pysftpweb"
#: Because of the prefixes, browsers accept the first two over HTTPS only, and the first from this host only.
COOKIES = ("__Host-pysftpweb", "__Secure-pysftpweb", COOKIE)
ID_BYTES = 24
KEPT_EACH = 4  # unused storages that a session keeps open
KEPT = 64  # the same of all sessions
KEPT_FOR = 60.0  # seconds
AWAY = "NO_CONNECTION"  # the result if the storage cannot be opened


class TooMany(Exception):
    """The maximum number of sessions is reached."""


class Session:
    """One person, logged in. id: the value of the cookie. csrf: the token that forms have to send back.
    label: its name in logs, which cannot be used to log in.

    open_storage: opens a new storage of this person; each request has its own, because storages are made for
    one request after another. audit: its audit log; None: there is none.
    """

    def __init__(
        self,
        user: User,
        address: str,
        open_storage: Callable[[], SFTPAbstractServerStorage],
        audit: DoorAudit | None = None,
    ) -> None:
        self.user = user
        self.address = address
        self.network = network_of(address)
        self.id = secrets.token_urlsafe(ID_BYTES)
        self.csrf = secrets.token_urlsafe(ID_BYTES)
        self.began = self.used = time.monotonic()
        self.is_over = False
        self.kept: list[int] = []  # for the shelf
        self.shelf = Shelf()  # replaced when it is added to Sessions
        self._open = open_storage
        self._audit = audit or DoorAudit(lambda line: None, user.name, address, None, sftp_log(log))
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The user's name."""
        return self.user.name

    @property
    def label(self) -> str:
        return self._audit.session

    @contextlib.contextmanager
    def storage(self) -> Iterator[SFTPAbstractServerStorage]:
        """A storage for one request. Raises FileProblem if it cannot be opened."""
        storage = self.shelf.take(self)
        if storage is None:
            try:
                storage = self._open()
            except (OSError, ValueError, SFTPException, BadInput) as error:
                why = error.message if isinstance(error, BadInput) else reason_of(error)
                log.error("%s: the storage cannot be opened: %s", self.name, why)
                raise FileProblem("the files cannot be reached at the moment", AWAY) from None
        try:
            yield storage
        finally:
            self.shelf.put(self, storage)

    def note(
        self,
        request: str,
        path: bytes | None = None,
        size: int = 0,
        error: BaseException | None = None,
        seconds: float = 0.0,
        **details: Any,
    ) -> None:
        """Record in the audit log what a request did, in the words of docs/audit.md.

        size: bytes of content that it moved. error: why it failed. seconds: how long it took. details:
        further names and values; names from clients as bytes. A session that cannot be audited ends.
        """
        result = result_of(error)
        if isinstance(error, FileProblem):
            result = error.result
            details.setdefault("message", str(error))
        elif error is not None:
            details.setdefault("message", reason_of(error))
        try:
            with self._lock:
                self._audit.note(request, result, path=path, size=size, seconds=seconds, **details)
        except SFTPSessionEnd:
            self.end("the audit log cannot be written")

    def end(self, why: str = "") -> None:
        """End it; running requests break off. why: for the logs; "": nothing is logged."""
        with self._lock:
            if self.is_over:
                return
            self.is_over = True
        self.shelf.drop(self)
        if not why:
            return
        log.info("%s: session %s has ended: %s", self.name, self.label, why)
        self._audit.end(why)


class Shelf:
    """Unused storages, kept for the next request of their session: few, because each may have files and
    connections open.
    """

    def __init__(self) -> None:
        self._kept: collections.OrderedDict[int, tuple[Session, SFTPAbstractServerStorage, float]]
        self._kept = collections.OrderedDict()  # by id(); oldest first
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, session: Session) -> SFTPAbstractServerStorage | None:
        """Take one of a session's storages, if there is one."""
        with self._lock:
            return self._kept.pop(session.kept.pop())[1] if session.kept else None

    def put(self, session: Session, storage: SFTPAbstractServerStorage) -> None:
        """Keep a storage; others may give way."""
        gone = []
        with self._lock:
            if session.is_over or len(session.kept) >= KEPT_EACH:
                gone.append(storage)
            else:
                self._kept[id(storage)] = session, storage, time.monotonic()
                session.kept.append(id(storage))
            if len(self._kept) > KEPT:
                gone.append(self._remove(next(iter(self._kept))))
        for one in gone:
            one.release()

    def drop(self, session: Session) -> None:
        """Release the storages of a session that has ended. Never waits."""
        with self._lock:
            gone = [self._remove(key) for key in list(session.kept)]
        _release_later(gone)

    def sweep(self, now: float) -> None:
        """Release storages that were not used for a while. Never waits."""
        with self._lock:
            old = [key for key, (_, _, since) in self._kept.items() if now - since > KEPT_FOR]
            gone = [self._remove(key) for key in old]
        _release_later(gone)

    def _remove(self, key: int) -> SFTPAbstractServerStorage:
        session, storage, _ = self._kept.pop(key)
        session.kept.remove(key)
        return storage


def _release_later(storages: Iterable[SFTPAbstractServerStorage]) -> None:
    """Release storages in a thread: one that hangs must not delay others."""

    def release() -> None:
        for storage in storages:
            storage.release()

    if storages:
        threading.Thread(target=release, name="release", daemon=True).start()


class Sessions:
    """All sessions of a server. Ids are kept as hashes, so the time of comparing them reveals nothing."""

    def __init__(self, values: WebSettings) -> None:
        self._values = values
        self._sessions: dict[bytes, Session] = {}
        self._of: dict[str, dict[bytes, Session]] = {}  # those of each user, by name
        self._networks: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()
        self.shelf = Shelf()

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, session: Session) -> None:
        """Add a session; if the user has too many, the least recently used one ends.

        Raises TooMany.
        """
        session.shelf = self.shelf
        ended: list[Session] = []
        with self._lock:
            mine = self._of.get(session.name, {})
            if len(mine) >= self._values.max_per_user:
                ended.append(self._remove(min(mine, key=lambda key: mine[key].used)))
            if len(self._sessions) >= self._values.max_sessions:
                since = session.began - self._values.session_timeout
                late = [key for key, one in self._sessions.items() if one.used < since]
                ended += map(self._remove, late)
            is_full = len(self._sessions) >= self._values.max_sessions
            if not is_full:
                key = _key(session.id)
                self._sessions[key] = self._of.setdefault(session.name, {})[key] = session
                self._networks[session.network] += 1
        for one in ended:
            one.end("others of the user took its place, or it timed out")
        if is_full:
            raise TooMany

    def find(self, ident: str) -> Session | None:
        """The session with that id, if it is not over; it counts as used now."""
        session = self._sessions.get(_key(ident))
        now = time.monotonic()
        if session is None or session.is_over or self._is_late(session, now):
            return None
        session.used = now
        return session

    def end(self, session: Session, why: str = "logged out") -> None:
        """End a session."""
        with self._lock:
            if (key := _key(session.id)) in self._sessions:
                self._remove(key)
        session.end(why)

    def changed(self, name: str, is_current: Callable[[User], bool]) -> None:
        """End the sessions of a user who was removed or changed. Never waits."""
        for session in list(self._of.get(name, {}).values()):
            if not is_current(session.user):
                self.end(session, "the user was removed or changed")

    def sweep(self, is_current: Callable[[User], bool]) -> None:
        """End sessions that are over or timed out, or whose users were removed or changed. Never waits."""
        now = time.monotonic()
        for session in list(self._sessions.values()):
            if session.is_over or self._is_late(session, now):
                self.end(session, "timed out")
            elif not is_current(session.user):
                self.end(session, "the user was removed or changed")
        self.shelf.sweep(now)

    def has_from(self, network: str) -> bool:
        """Whether a session was begun from that network. network: as from network_of()."""
        return network in self._networks

    def user_of(self, ident: str) -> str | None:
        """The name of the user of the session with that id. Never waits."""
        session = self._sessions.get(_key(ident))
        return None if session is None else session.name

    def all(self) -> list[Session]:
        """All current sessions."""
        return list(self._sessions.values())

    def _is_late(self, session: Session, now: float) -> bool:
        return now - session.used > self._values.session_timeout

    def _remove(self, key: bytes) -> Session:
        session = self._sessions.pop(key)
        mine = self._of[session.name]
        del mine[key]
        if not mine:
            del self._of[session.name]
        self._networks[session.network] -= 1
        if not self._networks[session.network]:
            del self._networks[session.network]
        return session


def cookie_name(request: Request) -> str:
    """The name of the session cookie of a request."""
    return COOKIES[2] if not request.is_secure else COOKIES[1] if request.place else COOKIES[0]


def _key(ident: str) -> bytes:
    return hashlib.sha256(ident.encode("utf-8", "surrogateescape")).digest()
