"""A storage in front of another one: the base of all layers of a site.

A layer hands every call on to the storage below it and passes its handles through as they are, so a layer
that does not look at content costs nothing on READ and WRITE: the descriptor of a real file, views of a
buffer and promises go past it. Subclasses override only the methods that they need. What may not enter:
rules, ledgers, concrete storages.
"""

from __future__ import annotations

from pysftpserver.abstractstorage import (
    SFTPAbstractServerStorage,
    known_checksum,
    moves_by_descriptor,
    moves_by_promise,
    overrides,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pysftpserver.abstractstorage import Promise

PIECE = 256 << 10  # bytes of a file read at once
#: Methods that a layer's class has, and that the class of a storage may lack.
METHODS = [name for name in vars(SFTPAbstractServerStorage) if not name.startswith("_")]


class _HandedOn:
    """A method or other attribute of a layer that is taken from the storage below."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, layer: Layer | None, owner: type) -> Any:
        if layer is None:
            return self
        found = getattr(layer.below, self._name)
        if callable(found):
            vars(layer)[self._name] = found  # later look-ups go there directly
        return found


def _handed_on() -> Any:
    return _HandedOn()


class Layer(SFTPAbstractServerStorage):
    """A storage that behaves like the one below it, except where a subclass overrides it.

    below: that storage. For subclasses:

    One that overrides close() overrides abandon() as well, and one with stat() perhaps lstat() and fstat():
    no method here calls another. One that overrides read() or write() is bypassed neither by descriptors nor
    by promises, and slow. One that only has to see writes overrides write(), check_write(),
    promise_write(), and fileno() by `fileno = Layer.fileno`. copy_range() and check_write() are asked before
    a copy moves content without write().
    """

    def __init__(self, below: SFTPAbstractServerStorage) -> None:
        self.below = below
        self._moves_by_descriptor = all(moves_by_descriptor(below, name) for name in ("read", "write"))
        self._promises = {name: moves_by_promise(below, name) for name in ("read", "write")}

    # --- what the storage is ------------------------------------------------------------------------

    @property
    def home(self) -> bytes | None:
        return self.below.home

    @home.setter
    def home(self, home: bytes | None) -> None:
        self.below.home = home

    @property
    def ends_session(self) -> bool:
        """As in some storages; hasattr() tells which."""
        return self.below.ends_session  # type: ignore[attr-defined, no-any-return]

    @ends_session.setter
    def ends_session(self, ends: bool) -> None:
        self.below.ends_session = ends  # type: ignore[attr-defined]

    @property
    def lacks(self) -> frozenset[str]:  # type: ignore[override]
        """The methods that the storage below lacks: a layer's class has all methods."""
        needs = (*METHODS, "rename(replace)")
        return self.below.lacks.union(need for need in needs if not overrides(type(self.below), need))

    uses_network = _handed_on()
    window = _handed_on()
    territory = _handed_on()
    reads = _handed_on()
    release = _handed_on()
    check_root = _handed_on()

    # Attributes of some storages. hasattr() tells which.
    label = _handed_on()
    gc = _handed_on()
    close_client = _handed_on()
    refuse_links = _handed_on()
    waits_long = _handed_on()  # for a gate or a receiver of events, which the end of the session ends

    # --- what it does -------------------------------------------------------------------------------

    realpath = _handed_on()
    userhome = _handed_on()
    username = _handed_on()
    groupname = _handed_on()
    stat = _handed_on()
    lstat = _handed_on()
    fstat = _handed_on()
    setstat = _handed_on()
    lsetstat = _handed_on()
    fsetstat = _handed_on()
    opendir = _handed_on()
    mkdir = _handed_on()
    rmdir = _handed_on()
    open = _handed_on()
    read = _handed_on()
    write = _handed_on()
    check_write = _handed_on()
    copy_range = _handed_on()
    path_of = _handed_on()
    close = _handed_on()
    abandon = _handed_on()
    spoil = _handed_on()
    fsync = _handed_on()
    sync_directory = _handed_on()
    rm = _handed_on()
    rename = _handed_on()
    symlink = _handed_on()
    readlink = _handed_on()
    link = _handed_on()
    statvfs = _handed_on()
    fstatvfs = _handed_on()

    def checksum(self, path: bytes, algorithm: str) -> bytes | None:
        return known_checksum(self.below, path, algorithm)

    def fileno(self, handle: Any) -> int | None:
        return self.below.fileno(handle) if self._moves_by_descriptor else None

    def promise_read(self, handle: Any, off: int, size: int) -> Promise | None:
        return self.below.promise_read(handle, off, size) if self._promises["read"] else None

    def promise_write(self, handle: Any, off: int, chunk: bytes | memoryview) -> Promise | None:
        return self.below.promise_write(handle, off, chunk) if self._promises["write"] else None


def pieces(storage: SFTPAbstractServerStorage, handle: Any) -> Iterator[bytes]:
    """The content of an open file."""
    off = 0
    while piece := bytes(storage.read(handle, off, PIECE)):
        yield piece
        off += len(piece)


def handle_key(handle: Any) -> int:
    """The identity of an open handle."""
    return handle if type(handle) is int else id(handle)
