"""What the server counts for Prometheus.

Every process counts for itself; metrics_http.py adds the figures up. What may not enter: sockets, SSH, HTTP.
"""

from __future__ import annotations

from _thread import allocate_lock  # threading would do work in each new process
from collections import Counter

from pysftpserver.engine.bulk import TRANSFERS
from pysftpserver.engine.requests import EXTENDED_REQUESTS, REQUESTS
from pysftpserver.engine.wire import SSH2_FX_EOF, SSH2_FX_OK
from pysftpserver.hook import SFTPHook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pysftpserver.hook import SFTPEvent

OUTCOMES = ("accepted", "refused")
DIRECTIONS = ("received", "sent")
OTHERS = ""  # the label of users without their own; no user has this name
#: Limits, by setting where there is one.
LIMITS = (
    "auth_tries",
    "login_bytes",
    "login_share",
    "rekey_timeout",
    "rekey",
    "deferred",
    "unsent",
    "received",
    "packet_size",
    "max_connections",
    "max_per_address",
    "max_per_user",
    "evicted",
    "max_sessions",
    "buffer_bytes",
    "max_handles",
    "session_memory",
    "descriptors",
    "log_rate",
    "bans",
    "proxy_from",
    "allow_networks",
    "deny_networks",
)
#: Why an address was banned: service.bans.CAUSES, which sessions do not import.
BANS = ("failed", "garbage", "left", "crowd", "admin", "elsewhere")
#: Why the process of a session was ended: the setting of a limit; or it did not end in time; or a signal
#: or a fault has ended it.
CAUSES = ("session_seconds", "session_memory", "unresponsive", "signal", "fault")

#: Counters of requests, by request name; a session's process reports its own.
OF_REQUESTS = ("requests", "seconds", "errors", "content")
CONTENT = ("read", "written")  # the names of "content"
NAMES = {"init", "unknown", *(one.name for one in (*REQUESTS.values(), *EXTENDED_REQUESTS.values()))}
MOST = 1 << 63  # the largest figure that is accepted

#: Counters, which only grow: (key in the figures, name for Prometheus without "_total", label, help).
COUNTERS = (
    ("logins", "pysftpd_logins", "outcome", "Logins by outcome."),
    ("requests", "pysftpd_requests", "request", "SFTP requests by name."),
    ("seconds", "pysftpd_request_seconds", "request", "Seconds spent on requests by name."),
    ("errors", "pysftpd_request_errors", "request", "Requests that failed by name."),
    ("content", "pysftpd_content_bytes", "what", "Bytes read and written in files that were closed."),
    ("moved", "pysftpd_bytes", "direction", "Bytes of SFTP by direction, as seen from the server."),
    ("user_logins", "pysftpd_user_logins", "user", "Logins by user (metrics_users)."),
    ("user_received", "pysftpd_user_received_bytes", "user", "Bytes of SFTP received by user."),
    ("user_sent", "pysftpd_user_sent_bytes", "user", "Bytes of SFTP sent by user."),
    ("limited", "pysftpd_limited", "limit", "Connections and requests refused by a limit."),
    ("bans", "pysftpd_bans", "cause", "Bans that began, by the cause."),
    ("killed", "pysftpd_sessions_killed", "cause", "SFTP sessions whose process was ended, by the cause."),
)
#: Current values by a label: (key in the figures, name for Prometheus, label, help).
LABELLED = (("served", "pysftpd_sftp_sessions", "isolation", "SFTP sessions by where they are served."),)
#: Current values: (key in the figures, name for Prometheus, help).
GAUGES = (
    ("sessions", "pysftpd_sessions", "Connections that have logged in."),
    ("connections", "pysftpd_connections", "Open connections, including unauthenticated ones."),
    ("handles", "pysftpd_handles", "Open files and directories."),
    ("banned", "pysftpd_banned_networks", "Networks that are banned now."),
    ("kept", "pysftpd_kept_bytes", "Bytes received and not served, or not sent yet."),
    ("outdated", "pysftpd_users_outdated", "Processes that cannot read the users and keep those they have."),
    ("processes", "pysftpd_processes", "Processes that have answered."),
)


class Requests:
    """Counters of requests. requests, seconds, errors: by request name. content: bytes read and written."""

    def __init__(self) -> None:
        self.requests: dict[str, int] = {}
        self.seconds: dict[str, float] = {}
        self.errors: dict[str, int] = {}
        self.content: dict[str, int] = dict.fromkeys(CONTENT, 0)
        self._lock = allocate_lock()  # sessions on slow storages are served in threads

    def request(self, name: str, seconds: float, failed: bool) -> None:
        """A request was served."""
        with self._lock:
            self.requests[name] = self.requests.get(name, 0) + 1
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            self.errors[name] = self.errors.get(name, 0) + failed

    def closed(self, read: int, written: int) -> None:
        """A file was closed. read, written: bytes of its content that were moved."""
        with self._lock:
            for name, size in zip(CONTENT, (read, written), strict=True):
                self.content[name] += size

    def of_requests(self) -> dict[str, dict[str, float]]:
        """These counters, as values for JSON."""
        with self._lock:
            return {name: dict(getattr(self, name)) for name in OF_REQUESTS}


class Metrics(Requests):
    """The figures of one process.

    logins: by outcome. moved: bytes by direction, of connections that have ended. limited: by the limit that
    was reached. bans, killed: by cause. user_...: by label(); users: number of users with their own label.
    """

    def __init__(self, users: int = 0) -> None:
        super().__init__()
        self._users = users
        self.user_logins: Counter[str] = Counter()
        self.user_received: Counter[str] = Counter()
        self.user_sent: Counter[str] = Counter()
        self.logins: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        self.moved: Counter[str] = Counter(dict.fromkeys(DIRECTIONS, 0))
        self.limited: Counter[str] = Counter(dict.fromkeys(LIMITS, 0))
        self.bans: Counter[str] = Counter(dict.fromkeys(BANS, 0))
        self.killed: Counter[str] = Counter(dict.fromkeys(CAUSES, 0))

    def add(self, figures: Mapping[str, Mapping[str, float]]) -> None:
        """Add what was counted elsewhere: requests, seconds and errors by name."""
        with self._lock:
            for kind, counted in figures.items():
                own = getattr(self, kind)
                for name, count in counted.items():
                    own[name] = own.get(name, 0) + count

    def count_login(self, user: str) -> None:
        """A user has logged in."""
        self.logins["accepted"] += 1
        if self._users:
            self.user_logins[self.label(user)] += 1

    def label(self, user: str) -> str:
        """The label of a user: the name, or OTHERS if enough users had logged in before."""
        named = len(self.user_logins) - (OTHERS in self.user_logins)
        return user if user in self.user_logins or named < self._users else OTHERS

    def count_moved(self, received: int, sent: int, user: str | None) -> None:
        """A connection has ended. received, sent: bytes that it moved. user: None if there was no login."""
        self.moved["received"] += received
        self.moved["sent"] += sent
        if self._users and user is not None:
            self.user_received[self.label(user)] += received
            self.user_sent[self.label(user)] += sent

    def figures(self) -> dict[str, dict[str, float]]:
        """All counters, as values for JSON."""
        with self._lock:
            return {name: dict(getattr(self, name)) for name, *_ in COUNTERS}


class Counting(SFTPHook):
    """Counts the requests of a session, except READ and WRITE: their bytes are reported at CLOSE."""

    def __init__(self, metrics: Requests) -> None:
        self._metrics = metrics

    def before(self, event: SFTPEvent) -> None:
        pass  # the base class would look for a method of the request's name

    def hears(self, name: str) -> bool:
        return name not in TRANSFERS.values()

    def after(self, event: SFTPEvent) -> None:
        self._metrics.request(event.name, event.seconds, event.status not in (SSH2_FX_OK, SSH2_FX_EOF))
        self.abandoned(event)

    def abandoned(self, event: SFTPEvent) -> None:
        if event.read or event.written:
            self._metrics.closed(event.read or 0, event.written or 0)

    def rejected(self, event: SFTPEvent) -> None:
        self._metrics.request(event.name, event.seconds, True)


def number(told: Any) -> float:
    """A figure from another process, checked. Raises ValueError or TypeError if it is not one."""
    if 0 <= told < MOST:
        return told  # type: ignore[no-any-return]
    raise ValueError(told)


def of_requests(told: Any) -> dict[str, dict[str, float]]:
    """Another process's counters, checked. Raises ValueError and others for anything else."""
    found = {kind: {name: number(value) for name, value in told[kind].items()} for kind in OF_REQUESTS}
    if len(told) > len(found) or any(counted.keys() - NAMES.union(CONTENT) for counted in found.values()):
        raise ValueError(told)
    return found
