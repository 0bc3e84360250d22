"""Sessions of people who have logged in, and their trees of files.

What may not enter: HTTP, how somebody logs in. Times are seconds of time.monotonic().
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import secrets
import threading
import time

from pysftpserver.service.throttle import network_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.people.users import User
    from pysftpserver.web.config import WebSettings
    from pysftpserver.web.wire import Request

COOKIE = "pysftpweb"
#: By their prefixes, browsers take the first two over HTTPS alone, and the first from no other host.
COOKIES = ("__Host-pysftpweb", "__Secure-pysftpweb", COOKIE)
ID_BYTES = 24
KEPT_TREES = 4  # storages that a session keeps open while no request has them


class Session:
    """One person, logged in. id: what is in the cookie. csrf: what forms have to send back.

    open_storage: opens the storage of this person anew; a request has one for itself, because storages are
    made for one session's requests, one after the other.
    """

    def __init__(
        self, user: User, address: str, open_storage: Callable[[], SFTPAbstractServerStorage]
    ) -> None:
        self.user = user
        self.address = address
        self.network = network_of(address)
        self.id = secrets.token_urlsafe(ID_BYTES)
        self.csrf = secrets.token_urlsafe(ID_BYTES)
        self.began = self.used = time.monotonic()
        self.is_over = False
        self._open = open_storage
        self._free: list[SFTPAbstractServerStorage] = []
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The user's name."""
        return self.user.name

    @contextlib.contextmanager
    def storage(self) -> Iterator[SFTPAbstractServerStorage]:
        """A storage for one request. Raises what opening one raises."""
        with self._lock:
            storage = self._free.pop() if self._free else None
        if storage is None:
            storage = self._open()
        try:
            yield storage
        finally:
            with self._lock:
                keep = not self.is_over and len(self._free) < KEPT_TREES
                if keep:
                    self._free.append(storage)
            if not keep:
                storage.release()

    def end(self) -> None:
        """End it; requests that are running still finish."""
        with self._lock:
            self.is_over = True
            free, self._free = self._free, []
        for storage in free:
            storage.release()


class Sessions:
    """All sessions of a server. Ids are kept as hashes: what compares them tells nothing by its time."""

    def __init__(self, values: WebSettings) -> None:
        self._values = values
        self._sessions: dict[bytes, Session] = {}
        self._networks: collections.Counter[str] = collections.Counter()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def add(self, session: Session) -> None:
        """Add one; the least recently used one of the same user, or of all, ends where there are too many."""
        with self._lock:
            mine = [key for key, one in self._sessions.items() if one.user.id == session.user.id]
            ended = self._oldest(mine, self._values.max_per_user)
            ended += self._oldest(list(self._sessions), self._values.max_sessions)
            gone = [one for one in map(self._remove, ended) if one is not None]
            self._sessions[_key(session.id)] = session
            self._networks[session.network] += 1
        for one in gone:
            one.end()

    def find(self, ident: str) -> Session | None:
        """The session of that id, if it is not over; it counts as used now."""
        session = self._sessions.get(_key(ident))
        now = time.monotonic()
        if session is None or session.is_over or now - session.used > self._values.session_timeout:
            return None
        session.used = now
        return session

    def end(self, session: Session) -> None:
        """End one."""
        with self._lock:
            self._remove(_key(session.id))
        session.end()

    def sweep(self, is_current: Callable[[User], bool]) -> None:
        """End those that timed out, and those of users who were removed or changed."""
        now = time.monotonic()
        for session in list(self._sessions.values()):
            if now - session.used > self._values.session_timeout or not is_current(session.user):
                self.end(session)

    def has_from(self, network: str) -> bool:
        """Whether one was begun from that network. network: of network_of()."""
        return network in self._networks

    def user_of(self, ident: str) -> str | None:
        """The name of the user of that id. Never waits."""
        session = self._sessions.get(_key(ident))
        return None if session is None else session.user.name

    def all(self) -> list[Session]:
        """Those that are there now."""
        return list(self._sessions.values())

    def _oldest(self, keys: list[bytes], most: int) -> list[bytes]:
        """The least recently used of so many sessions that there is room for one more."""
        surplus = max(0, len(keys) + 1 - most)
        return sorted(keys, key=lambda key: self._sessions[key].used)[:surplus]

    def _remove(self, key: bytes) -> Session | None:
        session = self._sessions.pop(key, None)
        if session is not None:
            self._networks[session.network] -= 1
            if not self._networks[session.network]:
                del self._networks[session.network]
        return session


def cookie_name(request: Request) -> str:
    """The name of the cookie that a request has its session in."""
    return COOKIES[2] if not request.is_secure else COOKIES[1] if request.place else COOKIES[0]


def _key(ident: str) -> bytes:
    return hashlib.sha256(ident.encode("utf-8", "surrogateescape")).digest()
