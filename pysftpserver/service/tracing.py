"""Tells from audit logs what became of a file: who stored, fetched, removed or renamed it, and when.

Renames are followed, also those of directories: each file that ever had the name has its history. What may
not enter: how records are written, chains.
"""

from __future__ import annotations

import json
import os
import posixpath

from pysftpserver.formats import AUDIT
from pysftpserver.service.verifying import lines_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

RENAMES = ("rename", "posix-rename")
STORED, FETCHED = ("put", "write"), ("get", "read")
CLOSES = ("close", "abandoned")
# The words for what other requests do to a file.
DEEDS = {"remove": "removed", "rmdir": "removed", "mkdir": "made", "symlink": "made a link"}


class _Node:
    """A name: the names below it, and what happened to the file that has it now: (order, text)."""

    __slots__ = ("below", "events", "is_asked")

    def __init__(self) -> None:
        self.below: dict[bytes, _Node] = {}
        self.events: list[tuple[int, str]] = []
        self.is_asked = False


def trace(path: str, files: Iterable[str]) -> list[str]:
    """Lines about all files that had a path, in the order of the records. Raises BadInput."""
    tracing = _Tracing(_parts(os.fsencode(path)))
    for file in files:
        for line in lines_of(file):
            try:
                record = json.loads(line)
                if isinstance(record, dict):
                    AUDIT.check(record.get("v"), file)
                if isinstance(record, dict) and record.get("result") == "OK":
                    tracing.see(record)
            except (ValueError, TypeError, AttributeError, LookupError, RecursionError):
                continue  # an incomplete line of a killed session, or a foreign one
    return tracing.found()


def _parts(path: bytes) -> list[bytes]:
    return [part for part in posixpath.normpath(b"/" + path).split(b"/") if part]


def _bytes(record: dict[str, Any], name: str) -> bytes:
    """A path of a record, as the client sent it."""
    if f"{name}_hex" in record:
        return bytes.fromhex(record[f"{name}_hex"])
    return str(record[name]).encode("utf-8", "surrogateescape")


class _Tracing:
    """The tree of names while records are read. asked: the components of the path that is asked for."""

    def __init__(self, asked: list[bytes]) -> None:
        self._asked = asked
        self._top = _Node()
        self._count = 0
        self._done: list[_Node] = []  # of files that are gone, if they were asked for
        self._moved: dict[tuple[str, bytes], list[int]] = {}  # by session and path: bytes read and written

    def see(self, record: dict[str, Any]) -> None:
        """Take the next record of an operation that was carried out."""
        request = record["request"]
        if record.get("path") is None:
            return
        path = _bytes(record, "path")
        self._count += 1
        if request in RENAMES:
            self._rename(record, path, _bytes(record, "target"))
        elif request in ("hardlink", "symlink"):
            for name in ("path", "target") if request == "hardlink" else ("path",):
                text = f"linked {_shown(path)} as {_shown(_bytes(record, 'target'))}"
                self._note(record, _bytes(record, name), text if request == "hardlink" else DEEDS[request])
        elif request in DEEDS:
            self._note(record, path, DEEDS[request])
            if request in ("remove", "rmdir"):
                self._forget(_parts(path))
        elif request in ("read", "write"):
            moved = self._moved.setdefault((str(record["session"]), path), [0, 0])
            moved[request == "write"] += record["bytes"]
        elif request in CLOSES:
            read, written = self._moved.pop((str(record["session"]), path), (0, 0))
            if "share" in record:
                read = record[
                    "bytes"
                ]  # a file sent through a link has an open and a close; one received has a put
            self._closed(record, path, record.get("read", read), record.get("written", written))
        elif request in STORED:
            self._note(record, path, f"stored {record['bytes']} bytes{_digest(record)}")
        elif request in FETCHED:
            self._note(record, path, f"fetched {record['bytes']} bytes{_digest(record)}")
        elif request == "copy-data":
            self._note(record, path, f"copied to {_shown(_bytes(record, 'target'))}")
        elif request in ("setstat", "fsetstat") and "size" in record:
            self._note(record, path, f"set the size to {record['size']}")

    def _closed(self, record: dict[str, Any], path: bytes, read: int, written: int) -> None:
        end = " and left it open" if record["request"] == "abandoned" else ""
        if written or (not read and "sha256" in record):
            self._note(record, path, f"stored {written} bytes{_digest(record)}{end}")
        elif read:
            self._note(record, path, f"fetched {read} bytes{_digest(record)}{end}")

    def _note(self, record: dict[str, Any], path: bytes, text: str) -> None:
        who = f"{record['time']} {_words(record.get('user'))} {_words(record.get('peer')) or '-'}"
        if "share" in record:
            who += f" by the link {_words(record['share'])}"
        node = self._node(_parts(path))
        shown = _shown(b"/" + b"/".join(_parts(path)))
        node.events.append((self._count, _words(f"{who} {text}: {shown}")))

    def _node(self, parts: list[bytes]) -> _Node:
        node = self._top
        for part in parts:
            node = node.below.setdefault(part, _Node())
        if parts == self._asked:
            node.is_asked = True
        return node

    def _forget(self, parts: list[bytes]) -> _Node | None:
        """Remove the node of a name from the tree, and return it."""
        if not parts:
            return None
        node = self._node(parts)
        del self._node(parts[:-1]).below[parts[-1]]
        self._done.append(node)
        return node

    def _rename(self, record: dict[str, Any], old: bytes, new: bytes) -> None:
        if _parts(old) == _parts(new):
            return
        self._note(record, old, f"renamed to {_shown(new)}")
        node = self._forget(_parts(old))
        if node is None or not _parts(new):
            return
        self._done.pop()
        self._forget(_parts(new))  # a file that was replaced
        *above, name = _parts(new)
        self._node(above).below[name] = node
        self._mark()

    def _mark(self) -> None:
        """Note which file has the name that is asked for."""
        node: _Node | None = self._top
        for part in self._asked:
            node = None if node is None else node.below.get(part)
        if node is not None:
            node.is_asked = True

    def found(self) -> list[str]:
        """What happened to the files that had the name, in order."""
        events = [event for top in (*self._done, self._top) for node in _all(top) for event in node.events]
        return [text for _, text in sorted(set(events))]


def _all(top: _Node) -> Iterator[_Node]:
    """All nodes of a tree that were asked for."""
    waiting = [top]
    while waiting:
        node = waiting.pop()
        if node.is_asked:
            yield node
        waiting.extend(node.below.values())


def _shown(path: bytes) -> str:
    return _words(path.decode("utf-8", "backslashreplace"))


def _words(text: object) -> str:
    from pysftpserver.failures import one_line

    return "" if text is None else one_line(str(text))


def _digest(record: dict[str, Any]) -> str:
    return f", sha256 {_words(record['sha256'])}" if record.get("sha256") else ""
