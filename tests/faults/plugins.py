"""Storages that go wrong: one that does so on order, and some that lie, for the tests of the tests.

They run in the server's process. FAULTS are functions of what the method would have done; a fault does
that, or something else, and returns what the engine gets.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pysftpserver.attributes import SFTPAttributes
from pysftpserver.storage import SFTPServerStorage

Act = Callable[[], Any]
Fault = Callable[[Act], Any]
METHODS = tuple(
    name
    for name in vars(SFTPServerStorage)
    if not name.startswith("_") and callable(getattr(SFTPServerStorage, name))
    if name not in ("path_of", "sync_directory", "refuse_links")  # no request leads to these
)


def raising(make: Callable[[], BaseException]) -> Fault:
    def fault(act: Act) -> Any:
        raise make()

    return fault


def answering(value: Any) -> Fault:
    return lambda act: value


def _from_the_system(number: int) -> Callable[[], BaseException]:
    return lambda: OSError(number, os.strerror(number), "/host/path")


def _without_end(act: Act) -> Any:
    return _without_end(act) + 1


def _without_limit(act: Act) -> Any:
    return bytearray(1 << 62)


ERRORS: dict[str, Fault] = {
    **{
        name: raising(_from_the_system(getattr(errno, name)))
        for name in ("EIO", "ENOSPC", "EDQUOT", "ESTALE", "ETIMEDOUT")
    },
    **{
        kind.__name__: raising(kind)
        for kind in (MemoryError, RecursionError, SystemExit, GeneratorExit, ValueError)
    },
    # An iterator may raise StopIteration: it means the end there, and nothing anywhere else.
    "StopIteration": raising(StopIteration),
    "recursion": _without_end,
    "memory": _without_limit,
}
ANSWERS: dict[str, Fault] = {
    "nothing": answering(None),
    "text": answering("text"),
    "number": answering(987_654),  # no descriptor
    "negative": answering(-1),
    "list": answering([b"a", 7]),
    "itself": lambda act: act,
    "attributes-of-text": answering(SFTPAttributes(size="ten", permissions="rw")),  # type: ignore[arg-type]
    "attributes-of-fractions": answering(SFTPAttributes(size=1.5, atime=1.5, mtime=2.5)),  # type: ignore[arg-type]
    "negative-attributes": answering(SFTPAttributes(-1, -1, -1, -1, -1, -1)),
    "enormous-attributes": answering(SFTPAttributes(1 << 80, 1 << 80, 1 << 80, 1 << 80, 1 << 80, 1 << 80)),
    "shorter": lambda act: act()[:3],
    "longer": lambda act: act() + bytes(1 << 20),
    "view": lambda act: memoryview(bytearray(act())),
}
MADE_FROM_THE_TRUE_ONE = {"shorter", "longer", "view"}
FAULTS = ERRORS | ANSWERS


class Armed(SFTPServerStorage):
    """The plain storage, until the file `control` says otherwise: a method, a space, one of FAULTS.

    "next" and "closedir" are a listing's. A fault of closing comes after it, as close(2) has it. Without
    descriptors, every byte goes through the storage's own methods.
    """

    def __init__(self, home: str, control: str, has_descriptors: bool) -> None:
        super().__init__(home)
        self._control = control
        self._has_descriptors = has_descriptors

    def act(self, method: str, act: Act) -> Any:
        armed, _, fault = Path(self._control).read_text().partition(" ")
        if armed != method:
            return act()
        if method in ("close", "closedir"):
            act()
            return FAULTS[fault](lambda: None)
        return FAULTS[fault](act)

    def fileno(self, handle: int) -> int | None:
        return self.act("fileno", lambda: handle if self._has_descriptors else None)

    def opendir(self, path: bytes) -> Any:
        opendir = super().opendir
        return self.act("opendir", lambda: _ArmedListing(self, opendir(path)))


def _armed(name: str) -> Any:
    plain = getattr(SFTPServerStorage, name)

    def method(self: Armed, *arguments: Any, **named: Any) -> Any:
        return self.act(name, lambda: plain(self, *arguments, **named))

    return method


for _name in METHODS:
    if _name not in vars(Armed):
        setattr(Armed, _name, _armed(_name))


class _ArmedListing:
    def __init__(self, storage: Armed, listing: Any) -> None:
        self._storage = storage
        self._listing = listing

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._storage.act("next", lambda: next(self._listing))

    def close(self) -> None:
        self._storage.act("closedir", self._listing.close)


# --- liars: the tests of the tests have to find them out ---------------------------------------------


class Halving(SFTPServerStorage):
    """Stores half of each chunk, and says nothing of it."""

    def write(self, handle: int, off: int, chunk: bytes | memoryview) -> None:
        os.pwrite(handle, chunk[: len(chunk) // 2], off)


class Forgetting(SFTPServerStorage):
    """Does not store what ends a chunk of 32 KiB or more: one byte."""

    def write(self, handle: int, off: int, chunk: bytes | memoryview) -> None:
        super().write(handle, off, chunk[:-1] if len(chunk) >= 1 << 15 else chunk)


class Misplacing(SFTPServerStorage):
    """Stores everything, one byte from where it belongs."""

    def write(self, handle: int, off: int, chunk: bytes | memoryview) -> None:
        super().write(handle, off + 1, chunk)


class Inventing(SFTPServerStorage):
    """Stores what was sent, and a little more."""

    def write(self, handle: int, off: int, chunk: bytes | memoryview) -> None:
        super().write(handle, off, bytes(chunk) + b"more")


class Hushing(SFTPServerStorage):
    """Stores what it can, and keeps to itself that it could not."""

    def write(self, handle: int, off: int, chunk: bytes | memoryview) -> None:
        try:
            super().write(handle, off, chunk)
        except OSError:
            pass


class Littering(SFTPServerStorage):
    """Leaves a file of its own beside every file that is made."""

    def open(self, path: bytes, flags: int, mode: int) -> int:
        if flags & os.O_CREAT:
            os.close(super().open(path + b".tmp", flags, mode))
        return super().open(path, flags, mode)


class Postponing(SFTPServerStorage):
    """Says that all is safe, and has done nothing for it."""

    def fsync(self, handle: int) -> None:
        pass


LIARS = {
    "halving": Halving,
    "forgetting": Forgetting,
    "misplacing": Misplacing,
    "inventing": Inventing,
    "hushing": Hushing,
    "littering": Littering,
    "postponing": Postponing,
}
