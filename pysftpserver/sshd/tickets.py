"""Describes a session for the process or thread that serves it, and makes the engine for it.

What may not enter: SSH, concrete storages, keys and passwords.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass

from pysftpserver.engine.handles import FileHandle
from pysftpserver.failures import one_line, reason_of
from pysftpserver.people.users import User, Visit
from pysftpserver.pysftpexceptions import SFTPException
from pysftpserver.server import SFTPServer
from pysftpserver.sshd.hooks import hook_of
from pysftpserver.sshd.metrics import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage
    from pysftpserver.engine.limits import Limits
    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.sshd.metrics import Requests

    StorageOf = Callable[[User], SFTPAbstractServerStorage]
    Root = list[int]  # identifies a folder: device and inode

# Compiled throughout: the process of each session decodes a ticket.
_DECODE = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
MOST_FILES = 20  # of a session, listed one by one
LONGEST_PATH = 4096  # characters that are shown


class Refused(ValueError):
    """The session cannot be served. The text is for the log."""


@dataclass
class Ticket:
    """One session, according to the settings at its beginning.

    number: of the connection. audit: the file of the audit log. audit_*: as in the settings. session: its
    name in the audit log. counts: whether requests are counted for metrics. handles: maximum number of open
    handles in a process of its own. files, memory, seconds: limits of such a process: descriptors, MiB of
    memory, and seconds of processor time for a request. root: of a session that goes on in another process:
    INIT has been answered, and the folder must be the same. checksums: whether they are offered. key: with
    which the user has logged in, for the audit log; None: none was used.
    """

    user: User
    address: str
    port: int | None
    number: int
    log_level: int
    read_only: bool = False
    allow_setid: bool = False
    audit: str | None = None
    audit_level: str = "operations"
    audit_digests: bool = False
    audit_chain: bool = False
    session: str | None = None
    counts: bool = False
    handles: int = 1024
    files: int = 1024
    memory: int = 128
    seconds: int = 60
    root: Root | None = None
    checksums: bool = True
    key: str | None = None

    def packed(self) -> bytes:
        """The ticket as bytes, for another process. The user's keys stay behind."""
        user = {**vars(self.user), "keys": (), "authorities": ()}
        return json.dumps([list(user.values()), *list(vars(self).values())[1:]]).encode()

    @classmethod
    def unpacked(cls, data: bytes) -> Ticket:
        """The ticket in bytes that packed() has returned."""
        (identity, name, folder, is_active, _, *more), *fields = _DECODE(data.decode(), 0)[0]
        return cls(User(identity, name, folder, is_active, frozenset(), *more), *fields)


def engine_of(
    ticket: Ticket,
    storage_of: StorageOf,
    log: SFTPLog,
    metrics: Requests,
    limits: Limits,
    descriptor: int = -1,
    audit: Sequence[int] = (),
) -> SFTPServer:
    """The engine of a session. descriptor: of the socket that it serves if it has its own process. audit: the
    descriptors of the audit log, for a session that takes them over; (): it opens the file itself.

    Raises OSError, ValueError, SFTPException, and what an administrator's own class raises.
    """
    visit = Visit(**vars(ticket.user), address=ticket.address, session=ticket.session or "")
    server = SFTPServer(
        storage_of(visit),
        hook_of(ticket, log, metrics, audit),
        log=log,
        read_only=ticket.read_only,
        allow_setid=ticket.allow_setid,
        limits=limits,
        checksums=ticket.checksums,
        fd_in=descriptor,
        fd_out=descriptor,
    )
    if ticket.root is not None:
        server.initialized = True
        server.handles.number_from_anywhere()
    return server


def root_of(server: SFTPServer, user: User) -> Root | None:
    """The identity of a user's folder; None for another storage."""
    territory = None if user.storage else server.storage.territory()
    if territory is None or len(territory) != 1:
        return None
    (descriptor,) = territory
    found = os.fstat(descriptor)
    return [found.st_dev, found.st_ino]


def log_refusal(log: SFTPLog, error: Exception) -> None:
    """Log why engine_of() has failed."""
    if isinstance(error, Refused):
        log.error(f"no session: {error}")
    elif isinstance(error, (OSError, ValueError, SFTPException)):
        path = getattr(error, "filename", None)
        what = "the storage" if path is None else one_line(str(path))
        log.error(f"no session: {what} cannot be opened: {reason_of(error)}")
    else:  # the administrator's own class
        log.error("no session: the storage cannot be opened:")
        log.fault(error)


# --- open files, for pysftpctl ----------------------------------------------------------------------------


def open_files(server: SFTPServer) -> list[dict[str, Any]]:
    """The open files of a session. id: the same as long as the file is open."""
    return [
        {
            "id": str(int.from_bytes(name, "big")),
            "path": handle.path.decode("utf-8", "backslashreplace")[:LONGEST_PATH],
            "read": handle.bytes_read,
            "written": handle.bytes_written,
            "size": _size(handle),
        }
        for name, handle in list(server.handles.opened.items())
        if type(handle) is FileHandle
    ]


def as_told(files: Any) -> list[dict[str, Any]]:
    """Another process's open files, checked. Raises ValueError and others for anything else."""
    return [
        {
            "id": str(file["id"])[:LONGEST_PATH],
            "path": str(file["path"])[:LONGEST_PATH],
            "read": number(file["read"]),
            "written": number(file["written"]),
            "size": None if file["size"] is None else number(file["size"]),
        }
        for file in files[:MOST_FILES]
    ]


def _size(handle: FileHandle) -> int | None:
    """The size of a file that is being read; None for an upload, or if the system does not know it."""
    if handle.descriptor is None or handle.flags & os.O_ACCMODE != os.O_RDONLY:
        return None
    try:
        return os.fstat(handle.descriptor).st_size
    except OSError:
        return None
