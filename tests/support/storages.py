"""Small storages for tests of the engine: one that has everything, one that fails on demand."""

from __future__ import annotations

import os
from stat import S_IFREG
from types import SimpleNamespace
from typing import Any

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.attributes import SFTPAttributes

FIGURES = ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail", "fsid", "namemax")
METHODS = """realpath userhome username groupname stat lstat fstat setstat lsetstat fsetstat opendir mkdir
rmdir open read write close fsync fileno rm rename symlink readlink link statvfs fstatvfs checksum""".split()


class Whole(SFTPAbstractServerStorage):
    """Has every method, and one file of ten bytes at any path. calls: the methods that were called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def act(self, method: str) -> None:
        """Record that a method was called."""
        self.calls.append(method)


def _method(name: str, answer: Any) -> Any:
    def method(self: Whole, *arguments: Any) -> Any:
        self.act(name)
        return answer(*arguments)

    method.__name__ = name
    return method


def _rename(self: Whole, old: bytes, new: bytes, replace: bool = False) -> None:
    self.act("rename")


_FILE = SFTPAttributes(size=10, permissions=S_IFREG | 0o644)
_ANSWERS: dict[str, Any] = dict.fromkeys(METHODS, lambda *arguments: None)
_ANSWERS |= dict.fromkeys(("stat", "lstat", "fstat"), lambda *arguments: _FILE)
_ANSWERS |= dict.fromkeys(("realpath", "userhome", "readlink"), lambda path: b"/" + path.lstrip(b"/"))
_ANSWERS |= dict.fromkeys(("username", "groupname"), lambda number: b"name")
_ANSWERS |= dict.fromkeys(
    ("statvfs", "fstatvfs"),
    lambda *arguments: SimpleNamespace(f_flag=os.ST_RDONLY | os.ST_NOSUID, **{f"f_{f}": 7 for f in FIGURES}),
)
_ANSWERS["opendir"] = lambda path: iter([(b".", _FILE), (b"..", _FILE)])
_ANSWERS["open"] = lambda path, flags, mode: object()
_ANSWERS["read"] = lambda handle, off, size: b"0123456789"[off : off + size]
for _name, _answer in _ANSWERS.items():
    setattr(Whole, _name, _method(_name, _answer))
Whole.rename = _rename  # type: ignore[method-assign, assignment]


class Failing(Whole):
    """Raises `error` from the method called `failing`; with `failing` empty it is a Whole storage."""

    def __init__(self, failing: str = "", error: BaseException | None = None) -> None:
        super().__init__()
        self.failing = failing
        self.error = error

    def act(self, method: str) -> None:
        super().act(method)
        if method == self.failing and self.error is not None:
            raise self.error


class Listed(Whole):
    """Its only directory has given entries. closed: number of listings that were closed."""

    def __init__(self, entries: list[tuple[bytes, SFTPAttributes]]) -> None:
        super().__init__()
        self.entries = entries
        self.closed = 0

    def opendir(self, path: bytes) -> Any:
        return _Listing(self)


class _Listing:
    def __init__(self, storage: Listed) -> None:
        self._storage = storage
        self._entries = iter(storage.entries)

    def __iter__(self) -> _Listing:
        return self

    def __next__(self) -> tuple[bytes, SFTPAttributes]:
        return next(self._entries)

    def close(self) -> None:
        self._storage.closed += 1
