"""One session: what a request may touch, and the replies that it may give.

Handlers, the fast path and copies get a Session and know nothing above it. What may not enter:
framing, the table of requests, hooks, sockets, concrete storages, wire encodings (wire.py).
Facts: draft-ietf-secsh-filexfer-02, section 7, for the replies.
"""

from __future__ import annotations

import os
from stat import S_ISGID, S_ISUID

from pysftpserver.attributes import LongnameFormatter, SFTPAttributes
from pysftpserver.engine import wire
from pysftpserver.engine.handles import HandleTable
from pysftpserver.engine.segments import OutputQueue
from pysftpserver.engine.wire import SSH2_FX_OK
from pysftpserver.failures import one_line
from pysftpserver.pysftpexceptions import (
    SFTPBadMessage,
    SFTPFailure,
    SFTPSessionEnd,
    is_expected,
    status_of,
    words_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from pysftpserver.abstractstorage import SFTPAbstractServerStorage, StatVFS
    from pysftpserver.engine.limits import Limits
    from pysftpserver.engine.log import SFTPLog

    class Turns(Protocol):
        """Turns shared by several sessions. take() does not wait; it returns whether a turn was free."""

        def take(self) -> bool: ...
        def give_back(self) -> None: ...


MAX_OFFSET = (1 << 63) - 1  # bytes
#: The first numbers of a statvfs reply, in their order.
STATVFS = "f_bsize f_frsize f_blocks f_bfree f_bavail f_files f_ffree f_favail f_fsid".split()


def check_offset(offset: int) -> None:
    """Raises SFTPBadMessage for an offset that is too large for any file."""
    if offset > MAX_OFFSET:
        raise SFTPBadMessage("The offset is beyond any file's end")


def check_count(answer: object, count: int) -> None:
    """Raises SFTPFailure if a storage's write() returned fewer bytes than count, which it was given."""
    if isinstance(answer, int) and answer < count:
        raise SFTPFailure(f"The storage has stored {answer} bytes of {count}")


class Session:
    """What requests share from INIT to the end of a session.

    storage: where the files live. log, limits: the session's. read_only: whether OPEN
    refuses flags that write. raise_on_error: answer_error() raises what it has answered. allow_setid: keep
    the set-uid and set-gid bits of modes that clients send; without it, they are dropped.
    output: the replies that wait to be sent. queue_limit: their size in bytes at which serving pauses.
    sends_each: set by a door that sends each reply before the next request is served, which may take long.
    turns: limits how many sessions compute checksums at once; None: no limit.
    transfers: the types of packets that may take the fast path. position: how far the buffer that is being
    served has been consumed. stopping: set by a door, for requests that take long to give up. on_step:
    called between the steps of such requests; it may set stopping. steps: how many there were. ended: the
    reason why the session has to end, or None.
    """

    def __init__(
        self,
        storage: SFTPAbstractServerStorage,
        log: SFTPLog,
        limits: Limits,
        read_only: bool = False,
        raise_on_error: bool = False,
        allow_setid: bool = False,
    ) -> None:
        self.storage = storage
        self.log = log
        self.limits = limits
        self.read_only = read_only
        self.raise_on_error = raise_on_error
        self._dropped_bits = 0 if allow_setid else S_ISUID | S_ISGID
        self.output = OutputQueue()
        self.queue_limit = max(limits.queue, storage.window)
        self.sends_each = False
        self.transfers: frozenset[int] = frozenset()
        self.position = 0
        self.stopping = False
        self.on_step: Callable[[], None] | None = None
        self.steps = 0
        self.turns: Turns | None = None
        self.ended: str | None = None
        self.handles = HandleTable(storage, log, limits.handles)
        self.longnames = LongnameFormatter(storage.username, storage.groupname)

    def path(self, path: bytes) -> bytes:
        """The path to pass to the storage, for one that the client sent."""
        home = self.storage.home
        if home is None or not path or path.startswith(b"/"):
            return path
        return home + path if home.endswith(b"/") else home + b"/" + path

    def mode(self, attrs: SFTPAttributes, default: int) -> int:
        """The mode of a new file or directory. attrs: as the client sent them."""
        mode = default if attrs.permissions is None else attrs.permissions
        return mode & 0o7777 & ~self._dropped_bits

    def attributes(self, attrs: SFTPAttributes) -> SFTPAttributes:
        """The attributes to pass to the storage, for those that the client sent."""
        mode = attrs.permissions
        if mode is None or not mode & self._dropped_bits:
            return attrs
        mode &= ~self._dropped_bits
        return SFTPAttributes(attrs.size, attrs.uid, attrs.gid, mode, attrs.atime, attrs.mtime)

    def count_step(self) -> None:
        """Count a step of a request that takes long. Raises SFTPFailure if the request has to stop."""
        self.steps += 1
        if self.on_step is not None:
            self.on_step()
        if self.stopping:
            raise SFTPFailure("The server is going down")

    def end(self, reason: str) -> None:
        """End the session: nothing more is served. reason: for the log."""
        self.output.settle()  # earlier requests are answered and logged first
        self.ended = reason
        self.log.error(f"session ends: {reason}")

    def close(self) -> None:
        """Close every handle that the client left open. May be called twice."""
        self.handles.close_all()
        self.output.clear()

    def answer_error(self, request_id: int, name: str, error: BaseException) -> None:
        """Log the error of a request, and answer it. name: the request's, for the log.

        Raises KeyboardInterrupt, and with raise_on_error also the error that it has answered.
        """
        if isinstance(error, KeyboardInterrupt):
            raise error
        if isinstance(error, SFTPSessionEnd):
            self.end(str(error))
            return
        self.output.append(self._error_reply(request_id, name, error))
        if self.raise_on_error:
            raise error

    def _error_reply(self, request_id: int, name: str, error: BaseException) -> bytes:
        if not is_expected(error):
            self.log.error(f"{name} failed, and the session goes on:")
            self.log.fault(error)
        elif error.__cause__ is not None:  # what the storage knows and the client is not told
            cause = error.__cause__
            self.log.error(f"{name} failed because of {type(cause).__name__}: {words_of(cause)}")
        return self._status(request_id, *status_of(error))

    # --- replies: a handler ends with one of these, or raises -----------------------------------

    def send_status(self, request_id: int, status: int = SSH2_FX_OK, message: bytes | None = None) -> None:
        """Queue a STATUS. message: UTF-8; None: the usual text of the code."""
        self.output.append(self._status(request_id, status, message))

    def _status(self, request_id: int, status: int, message: bytes | None) -> bytes:
        if status > wire.SSH2_FX_EOF:
            text = wire.STATUS_MESSAGES.get(status, b"Unknown error").decode()
            words = one_line((message or b"").decode("utf-8", "replace"))
            self.log.info(f"sent status {text}" + (f": {words}" if words not in ("", text) else ""))
        if message is None:
            return wire.encode_usual_status(request_id, status)
        return wire.encode_status(request_id, status, message)

    def failed_read(self, request_id: int, error: BaseException) -> bytes:
        """The reply to a late READ that failed."""
        return self._error_reply(request_id, "read", error)

    def failed_write(self, request_id: int, error: BaseException) -> bytes:
        """The same for a late WRITE."""
        return self._error_reply(request_id, "write", error)

    def send_handle(self, request_id: int, name: bytes) -> None:
        """Queue a HANDLE."""
        self.send(wire.SSH2_FXP_HANDLE, request_id, wire.encode_string(name))

    def send(self, kind: int, request_id: int, body: bytes) -> None:
        """Queue a reply of any kind. Raises SFTPFailure if it is longer than a packet may be."""
        if len(body) > self.limits.packet - wire.REQUEST_HEADER:
            raise SFTPFailure("The reply does not fit into a packet")
        self.output.append(wire.encode_packet(kind, request_id, body))

    def send_attrs(self, request_id: int, attrs: SFTPAttributes) -> None:
        """Queue an ATTRS."""
        self.output.append(wire.encode_packet(wire.SSH2_FXP_ATTRS, request_id, wire.encode_attributes(attrs)))

    def send_name(self, request_id: int, name: bytes) -> None:
        """Queue a NAME with one entry that has no attributes."""
        self.send(wire.SSH2_FXP_NAME, request_id, wire.encode_names([wire.encode_bare_name(name)]))

    def send_statvfs(self, request_id: int, figures: StatVFS) -> None:
        """Queue the reply of statvfs@openssh.com."""
        flag = wire.SSH2_FXE_STATVFS_ST_RDONLY if figures.f_flag & os.ST_RDONLY else 0
        flag |= wire.SSH2_FXE_STATVFS_ST_NOSUID if figures.f_flag & os.ST_NOSUID else 0
        numbers = (getattr(figures, name) for name in STATVFS)
        body = wire.encode_statvfs((*numbers, flag, figures.f_namemax))
        self.send(wire.SSH2_FXP_EXTENDED_REPLY, request_id, body)

    def send_data(self, request_id: int, data: bytes) -> None:
        """Queue a DATA with bytes."""
        self.output.append(wire.encode_data_header(request_id, len(data)))
        if data:
            self.output.append(data)
