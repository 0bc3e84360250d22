"""Figures of a server's life, counted as they happen, and the text that Prometheus reads.

Every process counts for itself; sums are made where they are read. What may not enter: sockets, SSH.
Facts: the text-based exposition format of Prometheus, version 0.0.4.
"""

from __future__ import annotations

from collections import Counter
from threading import Lock

from pysftpserver.engine.wire import SSH2_FX_EOF, SSH2_FX_OK
from pysftpserver.hook import SFTPHook

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from pysftpserver.hook import SFTPEvent

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OUTCOMES = ("accepted", "refused")
DIRECTIONS = ("received", "sent")

#: What only grows: (among the figures, in the text, its label, what it is).
COUNTERS = (
    ("logins", "pysftpd_logins_total", "outcome", "Logins by outcome."),
    ("requests", "pysftpd_requests_total", "request", "SFTP requests by name."),
    ("seconds", "pysftpd_request_seconds_total", "request", "Seconds spent on requests by name."),
    ("errors", "pysftpd_request_errors_total", "request", "Requests that failed by name."),
    ("moved", "pysftpd_bytes_total", "direction", "Bytes of SFTP by direction, as the server sees it."),
)
#: What is so at the moment.
GAUGES = (
    ("sessions", "pysftpd_sessions", "Connections of users who have logged in."),
    ("connections", "pysftpd_connections", "Connections, those that have not logged in among them."),
    ("outdated", "pysftpd_users_outdated", "Processes that cannot read the users, and serve the last known."),
    ("processes", "pysftpd_processes", "Processes that have answered."),
)


class Metrics:
    """logins: by outcome. requests, seconds, errors: by the request's name. moved: bytes by direction, of
    connections that have ended."""

    def __init__(self) -> None:
        self.logins: Counter[str] = Counter(dict.fromkeys(OUTCOMES, 0))
        self.requests: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}
        self.errors: Counter[str] = Counter()
        self.moved: Counter[str] = Counter(dict.fromkeys(DIRECTIONS, 0))
        self._lock = Lock()  # sessions on slow storages are served in threads

    def request(self, name: str, seconds: float, failed: bool) -> None:
        """A request was served."""
        with self._lock:
            self.requests[name] += 1
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            self.errors[name] += failed

    def count_moved(self, received: int, sent: int) -> None:
        """A connection has ended, on which so many bytes were moved."""
        self.moved["received"] += received
        self.moved["sent"] += sent

    def figures(self) -> dict[str, dict[str, float]]:
        """All of it, as JSON has it."""
        with self._lock:
            return {name: dict(getattr(self, name)) for name, *_ in COUNTERS}


class Counting(SFTPHook):
    """Counts the requests of a session. Under a hook, the engine serves packets one by one."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def before(self, event: SFTPEvent) -> None:
        pass  # and no search for a method by the request's name

    def after(self, event: SFTPEvent) -> None:
        self._metrics.request(event.name, event.seconds, event.status not in (SSH2_FX_OK, SSH2_FX_EOF))

    def rejected(self, event: SFTPEvent) -> None:
        self._metrics.request(event.name, event.seconds, True)


def total(many: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of figures: numbers, and numbers by a label."""
    found: dict[str, Any] = {}
    for figures in many:
        for name, value in figures.items():
            if isinstance(value, dict):
                part = found.setdefault(name, {})
                for label, number in value.items():
                    part[label] = part.get(label, 0) + number
            else:
                found[name] = found.get(name, 0) + value
    return found


def counters(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the figures that only grow."""
    return {name: figures.get(name, {}) for name, *_ in COUNTERS}


def exposition(figures: Mapping[str, Any]) -> str:
    """The text for Prometheus."""
    return "\n".join(_lines(figures)) + "\n"


def _lines(figures: Mapping[str, Any]) -> Iterator[str]:
    for name, title, help in GAUGES:
        yield from _head(title, help, "gauge")
        yield f"{title} {_number(figures.get(name, 0))}"
    for name, title, label, help in COUNTERS:
        yield from _head(title, help, "counter")
        for key, value in sorted(figures.get(name, {}).items()):
            yield f'{title}{{{label}="{_escaped(key)}"}} {_number(value)}'


def _head(title: str, help: str, kind: str) -> Iterator[str]:
    yield f"# HELP {title} {help}"
    yield f"# TYPE {title} {kind}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9g}"
