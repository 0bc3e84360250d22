"""The audit log: a hook that records each operation as one line of JSON, and the sinks that store the lines.

READ and WRITE are recorded only if that is asked for: what a file's handle has moved is in the record of its
close.

Text that a client chose is inside a JSON string in plain ASCII, so no name can forge a record or drive a
terminal. An operation that cannot be recorded ends the session, unless best effort is enough. What may not
enter: storages, wire formats.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import time
from stat import S_ISREG

from pysftpserver.attributes import FIELDS, SFTPAttributes
from pysftpserver.engine.log import open_for_appending
from pysftpserver.failures import reason_of
from pysftpserver.hook import SFTPHook
from pysftpserver.pysftpexceptions import SFTPSessionEnd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.hook import SFTPEvent

    Sink = Callable[[bytes], None]

PATIENCE = 10_000  # milliseconds to wait for a sink that takes nothing
PAUSE = 0.0005  # seconds between two tries to lock a file that another session is writing to
AT_ONCE = select.PIPE_BUF  # bytes for which there is room wherever poll(2) says that there is some
TRANSFERS = ("read", "write")  # requests that are recorded at the level "all" only
LEVELS = ("operations", "all")
PIECE = 900  # characters of a record in one line of the log, which cuts longer ones
#: The names of statuses by their codes.
RESULTS = tuple(
    "OK EOF NO_SUCH_FILE PERMISSION_DENIED FAILURE BAD_MESSAGE NO_CONNECTION CONNECTION_LOST "
    "OP_UNSUPPORTED".split()
)
OPEN_FLAGS = ("READ", "WRITE", "APPEND", "CREATE", "TRUNCATE", "EXCL")  # bit 0 and up
DELETE = "\x7f"  # the one control character that JSON in ASCII leaves as it is


class AuditLog(SFTPHook):
    """Records the operations of one session.

    sink: stores one line, or raises. user, peer, port: who the session is for, and where that
    client is; None where it is not known. best_effort: lost records are counted in the session's log, and
    the session goes on. log: the session's. number: of the connection in the door's log, if it has one.
    session: the name that all records of this one have; None: a new one. level: "all" records each READ and
    WRITE as well, which keeps them off the fast path. digests: records have the SHA-256 of files.
    """

    def __init__(
        self,
        sink: Sink,
        user: str,
        peer: str | None,
        port: int | None,
        log: SFTPLog,
        best_effort: bool = False,
        number: int | None = None,
        session: str | None = None,
        level: str = LEVELS[0],
        digests: bool = False,
    ) -> None:
        self._sink = sink
        self.wants_digests = digests
        self._has_transfers = level == "all"
        self._log = log
        self._best_effort = best_effort
        self._lost = 0
        self._began = time.perf_counter()
        self._moved = 0
        self.session = session or new_session()
        own = {"session": self.session} if number is None else {"session": self.session, "number": number}
        self._who: dict[str, Any] = {**own, "peer": peer, "port": port, "user": user}
        self._always = {*self._who, "path"}

    def hears(self, name: str) -> bool:
        return self._has_transfers or name not in TRANSFERS

    def before(self, event: SFTPEvent) -> None:
        pass  # the base class would look for a method of the request's name

    def after(self, event: SFTPEvent) -> None:
        if self._has_transfers:
            self._moved += event.size
        elif event.read is not None and event.written is not None:
            self._moved += event.read + event.written
        else:
            self._moved -= event.size  # of a copy: it is counted when its two files are closed
        self._write(self.record, event)

    rejected = after

    def abandoned(self, event: SFTPEvent) -> None:
        try:
            self.after(event)
        except SFTPSessionEnd:
            pass  # the session is over, and the log has what was not recorded

    def ended(self) -> None:
        try:
            self._write(
                self._record, "end", time.time(), "OK", self._moved, time.perf_counter() - self._began
            )
        except SFTPSessionEnd:
            pass  # the session is over, and the log has what was not recorded
        if self._lost:
            self._log.error(f"audit: {self._lost} records were lost")
        if head := getattr(self._sink, "head", ""):
            self._log.info(f"audit head {head}")

    def record(self, event: SFTPEvent) -> dict[str, Any]:
        """What is recorded of an operation: names and values, in their order."""
        result = RESULTS[event.status] if event.status < len(RESULTS) else f"STATUS_{event.status}"
        record = self._record(event.name, time.time() - event.seconds, result, event.size, event.seconds)
        for name, value in (("path", event.path), ("target", event.target)):
            if value is not None:
                record.update(client_text(name, value))
        if event.message:
            record.update(client_text("message", event.message))
        record["read"], record["written"] = event.read, event.written
        record["sha256"], record["sha256_missing"] = event.sha256, event.sha256_missing or None
        for name, value in event.arguments.items():
            if isinstance(value, SFTPAttributes):
                record.update((field, getattr(value, field)) for field in FIELDS if field != "nlink")
                if value.permissions is not None:
                    record["permissions"] = f"{value.permissions:04o}"
            elif name == "flags":
                record[name] = ",".join(flag for bit, flag in enumerate(OPEN_FLAGS) if value >> bit & 1)
            elif isinstance(value, int):
                record[name] = value
            elif name == "data":
                record["length"] = len(value)
            elif name == "user":
                record.update(client_text("name", value))
        return {name: value for name, value in record.items() if value is not None or name in self._always}

    def _record(self, request: str, moment: float, result: str, size: int, seconds: float) -> dict[str, Any]:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
        return {
            "time": f"{stamp}.{int(moment % 1 * 1_000_000):06d}Z",
            **self._who,
            "request": request,
            "path": None,
            "result": result,
            "bytes": size,
            "duration": round(seconds, 6),
        }

    def _write(self, make: Callable[..., dict[str, Any]], *arguments: object) -> None:
        text = ""
        try:
            text = json.dumps(make(*arguments), separators=(",", ":")).replace(DELETE, "\\u007f")
            self._sink(text.encode() + b"\n")
        except Exception as error:  # not OSError only: whatever went wrong, there is no record
            self._lose(error, text or repr(arguments))
            return
        if self._lost:
            self._log.error(f"audit: {self._lost} records were lost; now it can be written again")
            self._lost = 0

    def _lose(self, error: Exception, text: str) -> None:
        if not self._lost or not self._best_effort:
            reason = reason_of(error) if isinstance(error, OSError) else type(error).__name__
            for start in range(0, len(text), PIECE):  # each with our words first: it is the client's text
                self._log.error(f"audit: {reason}; not recorded: {text[start : start + PIECE]}")
            if not isinstance(error, OSError):
                self._log.fault(error)
        self._lost += 1
        if not self._best_effort:
            raise SFTPSessionEnd("the audit log cannot be written") from None


def new_session() -> str:
    """A name for the records of one session."""
    return os.urandom(8).hex()


def client_text(name: str, value: bytes) -> dict[str, str]:
    """Text that a client chose: as it is if it is UTF-8, otherwise as near as can be, and in full as hex."""
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {name: value.decode(errors="replace"), f"{name}_hex": value.hex()}


def file_sink(path: str | os.PathLike[str] | int, patience: int | None = None) -> Sink:
    """A sink that appends to a file, created with mode 0600. Raises OSError when it cannot be opened.

    path: may also be what open_for_appending() has returned, and is the sink's from now on.

    Sessions that write to one file take turns, so that a record is there whole or not at all. patience:
    milliseconds to wait for a file that takes nothing; None: PATIENCE.
    """
    return FileSink(path if isinstance(path, int) else open_for_appending(path), True, patience)


def descriptor_sink(descriptor: int) -> Sink:
    """A sink that writes to an open descriptor, which other programs may be writing to as well."""
    return FileSink(descriptor)


class FileSink:
    """Stores lines. is_own: this sink alone has the descriptor, and closes it; others may have the file open.

    If a line can be written only in part, the part is cut off again; where that is not possible, the next
    record begins on a new line. A sink that takes nothing is waited for once, until it takes something again.
    """

    def __init__(self, descriptor: int, is_own: bool = False, patience: int | None = None) -> None:
        self._descriptor = descriptor
        self._is_own = is_own
        self._is_file = S_ISREG(os.fstat(descriptor).st_mode)
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._most = PATIENCE if patience is None else patience
        self._patience = self._most
        self._torn = False
        self._locked = descriptor  # whose lock is taken

    def __del__(self) -> None:
        if self._is_own:
            os.close(self._descriptor)

    def __call__(self, line: bytes) -> None:
        try:
            locked = self._is_own and self._lock()
            try:
                self._append(line, locked)
            finally:
                if locked:
                    fcntl.flock(self._locked, fcntl.LOCK_UN)
        except OSError:
            self._patience = 0
            raise
        self._patience = self._most
        self._torn = False

    def _append(self, line: bytes, locked: bool) -> None:
        self._store(memoryview(b"\n" + line if self._torn else line))

    def _store(self, line: memoryview) -> None:
        rest = line
        try:
            while rest:
                rest = rest[self._write(rest) :]
        except OSError:
            written = len(line) - len(rest)
            if written and not self._take_back(written):
                self._torn = True
            raise

    def _write(self, data: memoryview) -> int:
        """write(2). A file takes everything at once; anything else is polled for room first."""
        if self._is_file:
            return os.write(self._descriptor, data)
        if not self._poll.poll(self._patience):
            raise _timeout()
        try:
            return os.write(self._descriptor, data[:AT_ONCE])
        except BlockingIOError:  # another process took the room
            return 0

    def _take_back(self, count: int) -> bool:
        """Cut off the last count bytes again; return whether that was possible."""
        if not (self._is_own and self._is_file):
            return False
        try:
            os.ftruncate(self._descriptor, os.lseek(self._descriptor, 0, os.SEEK_CUR) - count)
        except OSError:
            return False  # an append-only file, for example
        return True

    def _lock(self) -> bool:
        """Lock the file for this session's record; return False where there are no locks."""
        deadline = time.monotonic() + self._patience / 1000
        while True:
            try:
                fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise _timeout() from None
                time.sleep(PAUSE)
            except OSError:
                return False


def _timeout() -> OSError:
    return OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
