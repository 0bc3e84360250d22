"""A storage at a mount point, and what happens while it cannot be reached.

What may not enter: paths of the tree, other mounts.
"""

from __future__ import annotations

import errno
import time
from _thread import allocate_lock  # threading would be most of the import

from pysftpserver.abstractstorage import (
    SFTPAbstractServerStorage,
    check_no_links,
    moves_by_descriptor,
    moves_by_promise,
)
from pysftpserver.failures import show
from pysftpserver.host import connecting
from pysftpserver.pysftpexceptions import (
    SSH2_FX_CONNECTION_LOST,
    SSH2_FX_NO_CONNECTION,
    SFTPException,
    SFTPForbidden,
    SFTPUnavailable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Opener = Callable[[], SFTPAbstractServerStorage]

PAUSE = 10.0  # seconds until an unreachable storage is tried again
_AWAY = frozenset(
    getattr(errno, name)
    for name in "ECONNABORTED ECONNREFUSED ECONNRESET EHOSTDOWN EHOSTUNREACH ENETDOWN ENETUNREACH ENOTCONN "
    "EPIPE ESHUTDOWN ESTALE ETIMEDOUT".split()
)


class Mount:
    """A storage and how it is mounted.

    storage: the storage, or a function that opens one. It is called when the storage is needed for the first
    time, and again if it has raised. read_only: refuse every change. uses_network: whether a storage that a
    function opens talks to other hosts; None: it may. reads: paths that such a function reads on this host,
    besides those for connecting, for a sandbox that begins while the storage cannot be reached; None: not
    known, and then files are not confined.

    The tree sets point (the path where it is mounted), is_parent (whether other storages are mounted below
    that), and refuses_links (whether paths with links fail).
    """

    def __init__(
        self,
        storage: SFTPAbstractServerStorage | Opener,
        read_only: bool = False,
        *,
        uses_network: bool | None = None,
        reads: Sequence[str] | None = (),
    ) -> None:
        self.read_only = read_only
        self._reads = reads
        self.point = b"/"
        self.is_parent = False
        self.refuses_links = False
        self.pause = PAUSE
        self.opened: SFTPAbstractServerStorage | None = None
        self._opener: Opener | None = None
        if isinstance(storage, SFTPAbstractServerStorage):
            self.opened = storage
            uses_network = storage.uses_network
        else:
            self._opener = storage
        #: Whether its answers may take long: then it is not asked for the attributes of its mount point.
        self.is_remote = uses_network is not False
        self.was_changed = False
        self._territory: Sequence[int] | None = None  # the storage's own, once known
        self._lock = allocate_lock()
        self._failure: BaseException | None = None  # why it cannot be reached
        self._retry_at = 0.0
        self._is_doubtful = False  # whether it is still unreachable, and may have to be opened again

    @property
    def uses_network(self) -> bool:
        """Whether it talks to other hosts, or may."""
        return self.is_remote if self.opened is None else self.opened.uses_network

    def territory(self) -> Sequence[int] | None:
        """That of the storage; empty while it cannot be reached, or if it is read-only."""
        try:
            self._territory = self.storage().territory()
        except SFTPException:
            return None if self._reads is None and self.is_remote else ()
        return () if self.read_only and self._territory is not None else self._territory

    def reads(self) -> Sequence[str]:
        """The same for paths to read; with its territory, if it is read-only."""
        if self.opened is not None:
            kept = (self._territory or ()) if self.read_only else ()
            return [*self.opened.reads(), *(f"/proc/self/fd/{descriptor}" for descriptor in kept)]
        return [*connecting.files(), *(self._reads or ())] if self.is_remote else ()

    def storage(self) -> SFTPAbstractServerStorage:
        """The storage, opened if necessary. Raises SFTPUnavailable while it cannot be reached."""
        storage = self.opened
        if storage is None or self._failure is not None:
            return self._tried()
        return storage

    def _tried(self) -> SFTPAbstractServerStorage:
        with self._lock:
            if self._failure is not None and time.monotonic() < self._retry_at:
                raise self._unavailable() from self._failure
            is_wanted = self._is_doubtful and not getattr(self.opened, "keeps_trying", False)
            if self._opener is not None and (self.opened is None or is_wanted):
                lost = self.opened
                try:
                    self.opened = self._opener()
                except Exception as error:
                    if self.opened is None:
                        self._note(error)
                        raise self._unavailable() from error
                else:
                    self._failure = None
                    if lost is not None:
                        lost.release()  # such as the `ssh` of a connection that has failed twice
                self._is_doubtful = False
                self.prepare()
            assert self.opened is not None
            return self.opened

    def prepare(self) -> None:
        """Have an open storage refuse links, if it has others below it or the tree refuses them."""
        if (self.is_parent or self.refuses_links) and self.opened is not None:
            refuse_links = getattr(self.opened, "refuse_links", None)
            if refuse_links is not None:
                refuse_links()

    def _unavailable(self) -> SFTPUnavailable:
        return SFTPUnavailable(f"The storage of {show(self.point)} is not available; try again later")

    def _note(self, failure: BaseException) -> None:
        self._failure = failure
        self._retry_at = time.monotonic() + self.pause

    def check_no_links(self, path: bytes, follow: bool) -> None:
        """Raises OSError(ELOOP) for a path with a link, if the storage does not check that itself."""
        if not hasattr(self.storage(), "refuse_links"):
            check_no_links(self.storage(), path, follow)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the storage. Raises its errors, and SFTPUnavailable while it cannot be reached."""
        storage = self.storage()
        try:
            answer = getattr(storage, method)(*arguments)
        except BaseException as error:
            if is_away(error):
                self._is_doubtful = self._failure is not None
                self._note(error)
            raise
        self._failure = None
        return answer

    def change(self, method: str, *arguments: Any) -> Any:
        """Call a method that changes something. Raises SFTPForbidden if the mount is read-only."""
        self.check_writable()
        return self.call(method, *arguments)

    def check_writable(self) -> None:
        """Raises SFTPForbidden if the mount is read-only."""
        if self.read_only:
            raise SFTPForbidden(f"{show(self.point)} is read-only")
        self.was_changed = True


class MountedFile:
    """A handle: an open file of a mount's storage, and the methods that move its content."""

    __slots__ = ("descriptor", "mount", "object", "promises", "read", "storage", "write")

    def __init__(self, mount: Mount, storage: SFTPAbstractServerStorage, opened: Any) -> None:
        self.mount = mount
        self.storage = storage
        self.object = opened
        self.read = storage.read
        self.write = storage.write
        descriptor = storage.fileno(opened)
        if not (moves_by_descriptor(storage, "read") and moves_by_descriptor(storage, "write")):
            descriptor = None  # its own methods have to be called
        self.descriptor = descriptor
        self.promises = moves_by_promise(storage, "read") and moves_by_promise(storage, "write")


def is_away(error: BaseException) -> bool:
    """Whether an exception says that a storage cannot be reached now."""
    if isinstance(error, SFTPException):
        away = (SSH2_FX_NO_CONNECTION, SSH2_FX_CONNECTION_LOST)
        return isinstance(error, SFTPUnavailable) or error.status in away
    return isinstance(error, (ConnectionError, TimeoutError)) or (
        isinstance(error, OSError) and error.errno in _AWAY
    )
