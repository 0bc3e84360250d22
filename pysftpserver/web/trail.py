"""Reads the end of an audit log, and searches all of it, for the operators' page.

What may not enter: HTML, how records are written, site files.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass

from pysftpserver.engine.audit import LOOK_UPS
from pysftpserver.failures import Unavailable, one_line, reason_of
from pysftpserver.service.tracing import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Decide = Callable[[dict[str, Any]], str]

END = 128 << 10  # bytes read at the end of the log
MOST = 50  # records that are shown
MOST_SEARCHED = 64 << 20  # bytes; all names in them are kept in memory during a search
MOST_FOUND = 1000  # lines
LONGEST = 300  # characters of a name that are shown
QUIET = LOOK_UPS | {"init", "end", "close"}


@dataclass(frozen=True)
class Happening:
    """A record. words: of its paths. why: the rule that refused it, or what the client was told."""

    time: str
    user: str
    peer: str
    request: str
    words: str
    result: str
    why: str

    @property
    def is_refusal(self) -> bool:
        """Whether it was not carried out."""
        return self.result not in ("OK", "EOF")


class Trail:
    """Reads an audit log. decide: returns the rule that caused a record's refusal, or ""."""

    def __init__(self, decide: Decide) -> None:
        self._decide = decide
        self._seen: tuple[str, int, int] | None = None
        self._found: list[Happening] = []
        self._lock = threading.Lock()
        self._searching = threading.Lock()

    def last(self, path: str) -> list[Happening]:
        """The latest actions and refusals, newest first; reading requests only if they were refused.

        Raises Unavailable.
        """
        try:
            with self._lock, open(path, "rb") as file:
                found = os.fstat(file.fileno())
                seen = path, found.st_ino, found.st_size
                if seen == self._seen:
                    return self._found
                file.seek(max(0, found.st_size - END))
                lines = file.read(END).split(b"\n")
                self._found = self._happenings(lines[1 if found.st_size > END else 0 : -1])
                self._seen = seen
                return self._found
        except OSError as error:
            raise Unavailable(f"audit log {path}: {reason_of(error)}") from None

    def _happenings(self, lines: list[bytes]) -> list[Happening]:
        found: list[Happening] = []
        for line in reversed(lines):
            if len(found) == MOST:
                break
            try:
                record = json.loads(line)
                is_quiet = record["request"] in QUIET and record["result"] in ("OK", "EOF")
                if not is_quiet or record.get("read") or record.get("written"):
                    found.append(self._happening(record))
            except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
                continue  # what a killed session has left
        return found

    def _happening(self, record: dict[str, Any]) -> Happening:
        result = str(record["result"])
        why = self._decide(record) if result == "PERMISSION_DENIED" else ""
        words = " to ".join(_text(record[name]) for name in ("path", "target") if record.get(name))
        for name in ("read", "written"):
            if record.get(name):
                words += f" ({name} {int(record[name])} bytes)"
        if record["request"] == "put" or record["request"] == "get":
            words += f" ({int(record['bytes'])} bytes)"
        return Happening(
            _text(record["time"])[:19].replace("T", " "),
            _text(record.get("user") or ""),
            _text(record.get("peer") or ""),
            _text(record["request"]),
            words,
            _text(result),
            why or (_text(record.get("message") or "") if result != "OK" else ""),
        )

    def search(self, path: str, asked: str) -> tuple[list[str], bool]:
        """Lines about what happened to a file, newest first, and whether they are all. asked: its path.

        path: of the log; rotated files next to it are searched as well, only the newest ones if they are
        large. Raises Unavailable, BadInput.
        """
        if not self._searching.acquire(blocking=False):
            raise Unavailable("another search is running; try again")
        try:
            files, is_all = _files(path)
            lines = trace(asked, files)
        except OSError as error:
            raise Unavailable(f"audit log {path}: {reason_of(error)}") from None
        finally:
            self._searching.release()
        return lines[: -MOST_FOUND - 1 : -1], is_all and len(lines) <= MOST_FOUND


def _files(path: str) -> tuple[list[str], bool]:
    """The files of a log, oldest first, and whether they are all. Raises OSError, Unavailable."""
    directory, name = os.path.split(os.path.abspath(path))
    names = [one for one in os.listdir(directory) if one == name or one.startswith((f"{name}.", f"{name}-"))]
    paths = [os.path.join(directory, one) for one in names if not one.endswith((".chain", ".tmp"))]
    newest_first = sorted(paths, key=lambda one: os.stat(one).st_mtime_ns, reverse=True)
    left, chosen = MOST_SEARCHED, list[str]()
    for one in newest_first:
        left -= os.stat(one).st_size * (10 if one.endswith(".gz") else 1)
        if left < 0 and not chosen:
            raise Unavailable(f"{one} is too long to be searched here; use pysftp-audit who")
        if left < 0:
            break
        chosen.append(one)
    return chosen[::-1], len(chosen) == len(paths)


def _text(value: object) -> str:
    return one_line(str(value))[:LONGEST]
