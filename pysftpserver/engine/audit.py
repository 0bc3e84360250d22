"""The audit log: a hook that records each operation as one line of JSON, and the sinks that store the lines.

READ and WRITE are recorded only on request: the record of a file's close has the bytes that its handle has
moved. Records of requests that change nothing wait until a change, or until the replies are sent, and are
written together.

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
from json.encoder import encode_basestring_ascii as _quoted
from stat import S_ISREG

from pysftpserver.attributes import FIELDS, SFTPAttributes
from pysftpserver.engine.log import open_for_appending
from pysftpserver.engine.requests import EXTENDED_REQUESTS, REQUESTS
from pysftpserver.engine.wire import SSH2_FXF_READ
from pysftpserver.failures import os_error, reason_of
from pysftpserver.hook import SFTPHook
from pysftpserver.pysftpexceptions import SFTPSessionEnd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.hook import SFTPEvent

    Sink = Callable[[bytes], None]

PATIENCE = 10_000  # milliseconds to wait for a sink that accepts no data
PAUSE = 0.0005  # seconds between two tries to lock a file that another session is writing to
AT_ONCE = select.PIPE_BUF  # bytes for which there is room whenever poll(2) reports any
TRANSFERS = ("read", "write")  # requests that are recorded at the level "all" only
LEVELS = FILES, OPERATIONS, ALL = "files", "operations", "all"
PIECE = 900  # characters of a record in one line of the log, which cuts longer ones
#: The names of statuses by their codes.
RESULTS = tuple(
    "OK EOF NO_SUCH_FILE PERMISSION_DENIED FAILURE BAD_MESSAGE NO_CONNECTION CONNECTION_LOST "
    "OP_UNSUPPORTED".split()
)
OPEN_FLAGS = ("READ", "WRITE", "APPEND", "CREATE", "TRUNCATE", "EXCL")  # bit 0 and up
_ROWS = *REQUESTS.values(), *EXTENDED_REQUESTS.values()
#: Requests that change nothing.
LOOKS = frozenset(row.name for row in _ROWS if not row.writes) - {"open", "close"}
#: Those of them that reveal no content of a file or a directory: the level "files" leaves them out.
LOOK_UPS = frozenset(name for name in LOOKS - {"opendir", "read"} if not name.startswith("check-"))
#: Requests with no arguments worth recording besides paths.
BARE = frozenset(row.name for row in _ROWS if {"path", "handle", "target"}.issuperset(row.fields))
MOST_WAITING = 256  # records that wait: memory
LONG = 1024  # bytes; longer records do not wait
_encode = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps() would make one for each record
LINE = '%s%06dZ",%s,"request":%s,"path":%s,"result":"%s","bytes":%s,"duration":%d.%06d%s'
DELETE = "\x7f"  # the one control character that JSON in ASCII leaves as it is


class AuditLog(SFTPHook):
    """Records the operations of one session.

    sink: stores one line, or raises. user, peer, port: the account, and the client's address and port; None
    if not known. log: the session's. best_effort: the log counts lost records, and the session goes on.
    number: of the connection in the door's log, if it has one. session: the session's name in all its
    records; None: a new one. level: "all" records each READ and WRITE as well, which keeps them off the
    fast path; "files" leaves out look-ups that are not refused. digests: records have the SHA-256 of files.
    key: the fingerprint of the client's key, if it is known.
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
        level: str = OPERATIONS,
        digests: bool = False,
        key: str | None = None,
    ) -> None:
        self._sink = sink
        self.wants_digests = digests
        self._has_transfers = level == ALL
        self._unheard = frozenset() if level == ALL else frozenset(TRANSFERS)
        if level == FILES:
            self._unheard |= LOOK_UPS
        self._log = log
        self._best_effort = best_effort
        self._lost = 0
        self._began = time.perf_counter()
        self._moved = 0
        self._stamp = -1, ""  # a second, and the beginning of records in it
        self._waiting: list[bytes] = []
        self._store_all: Callable[[list[bytes]], int] | None = getattr(sink, "store_all", None)
        self.session = session or new_session()
        own = {"session": self.session} if number is None else {"session": self.session, "number": number}
        self._own = {**own, "peer": peer, "port": port, **({} if key is None else {"key": key})}
        self.set_user(user)

    def set_user(self, user: str) -> None:
        """Name the user in all further records."""
        self._who = _encode({**self._own, "user": user})[1:-1]

    def hears(self, name: str) -> bool:
        return name not in self._unheard

    def before(self, event: SFTPEvent) -> None:
        pass  # the base class would look for a method of the request's name

    def after(self, event: SFTPEvent) -> None:
        name = event.name
        if self._has_transfers:
            self._moved += event.size
        elif event.read is not None and event.written is not None:
            self._moved += event.read + event.written
        elif event.size:
            self._moved -= event.size  # of a copy: it is counted when its two files are closed
        try:
            line = self._of_event(event)
        except Exception as error:
            self._fail_to_make(error, event)
            return
        self._waiting.append(line)
        is_look = name in LOOKS or name == "open" and event.arguments.get("flags") == SSH2_FXF_READ
        if not is_look or self._store_all is None or len(line) > LONG or len(self._waiting) >= MOST_WAITING:
            self.replying()

    def refused(self, event: SFTPEvent) -> None:
        if event.name in LOOK_UPS:
            self.after(event)

    def rejected(self, event: SFTPEvent) -> None:
        self.after(event)
        self.replying()

    def abandoned(self, event: SFTPEvent) -> None:
        try:
            self.rejected(event)
        except SFTPSessionEnd:
            pass  # the session is over, and the log has what was not recorded

    def replying(self) -> None:
        if self._waiting:
            lines, self._waiting = self._waiting, []
            self._store(lines)

    def ended(self) -> None:
        try:
            self.replying()
        except SFTPSessionEnd:
            pass  # the session is over, and the log has what was not recorded
        try:
            seconds = time.perf_counter() - self._began
            self._write(self._line, "end", time.time(), None, "OK", self._moved, seconds)
        except SFTPSessionEnd:
            pass  # the same
        if self._lost:
            self._log.error(f"audit: {self._lost} records were lost")
        if head := getattr(self._sink, "head", ""):
            self._log.info(f"audit head {head}")

    # --- lines --------------------------------------------------------------------------------------

    def _of_event(self, event: SFTPEvent) -> bytes:
        """The record of an operation."""
        more: dict[str, Any] = {}
        if event.target is not None:
            more.update(client_text("target", event.target))
        if event.message:
            more.update(client_text("message", event.message))
        if event.read is not None or event.sha256_missing:
            more |= {"read": event.read, "written": event.written}
            more |= {"sha256": event.sha256, "sha256_missing": event.sha256_missing or None}
        for name, value in event.arguments.items() if event.name not in BARE else ():
            if isinstance(value, SFTPAttributes):
                more.update((field, getattr(value, field)) for field in FIELDS if field != "nlink")
                if value.permissions is not None:
                    more["permissions"] = f"{value.permissions:04o}"
            elif name == "flags":
                more[name] = ",".join(flag for bit, flag in enumerate(OPEN_FLAGS) if value >> bit & 1)
            elif isinstance(value, int):
                more[name] = value
            elif name == "data":
                more["length"] = len(value)
            elif name == "user":
                more.update(client_text("name", value))
        if more:
            more = {name: value for name, value in more.items() if value is not None}
        result = RESULTS[status] if (status := event.status) < len(RESULTS) else f"STATUS_{status}"
        moment = time.time() - event.seconds
        return self._line(event.name, moment, event.path, result, event.size, event.seconds, more)

    def _line(
        self,
        request: str,
        moment: float,
        path: bytes | None,
        result: str,
        size: int | None,
        seconds: float,
        more: dict[str, Any] | None = None,
    ) -> bytes:
        """A record. moment: when it began, in seconds since 1970. more: further names and values."""
        second, stamp = self._stamp
        if int(moment) != second:
            second = int(moment)
            stamp = time.strftime('{"time":"%Y-%m-%dT%H:%M:%S.', time.gmtime(second))
            self._stamp = second, stamp
        try:
            shown = "null" if path is None else _quoted(path.decode())
        except UnicodeDecodeError:
            texts = client_text("path", path or b"")
            shown, more = _quoted(texts.pop("path")), {**texts, **(more or {})}
        rest = f",{_encode(more)[1:]}\n" if more else "}\n"
        micro = int(seconds * 1e6 + 0.5)
        line = LINE % (
            *(stamp, int((moment - second) * 1e6), self._who, _quoted(request), shown, result),
            *("null" if size is None else size, micro // 1_000_000, micro % 1_000_000, rest),
        )
        return line.replace(DELETE, "\\u007f").encode()

    # --- storing ------------------------------------------------------------------------------------

    def _write(self, make: Callable[..., bytes], *arguments: object) -> None:
        """Store the line that a function makes."""
        try:
            line = make(*arguments)
        except Exception as error:
            self._fail_to_make(error, *arguments)
        else:
            self._store([line])

    def _fail_to_make(self, error: Exception, *of: object) -> None:
        self._lose(error, repr(of))
        self._end_unless_best_effort()

    def _store(self, lines: list[bytes]) -> None:
        """Store lines, at once if that is possible."""
        done = self._store_all(lines) if self._store_all is not None and len(lines) > 1 else 0
        is_lost = False
        for line in lines[done:]:
            try:
                self._sink(line)
                done += 1
            except Exception as error:  # not only OSError: on any failure, there is no record
                self._lose(error, line.decode().rstrip())
                is_lost = True
        if is_lost:
            self._end_unless_best_effort()
        elif done and self._lost:
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

    def _end_unless_best_effort(self) -> None:
        if not self._best_effort:
            raise SFTPSessionEnd("the audit log cannot be written")


def new_session() -> str:
    """A new name for the records of one session."""
    return os.urandom(8).hex()


def client_text(name: str, value: bytes) -> dict[str, str]:
    """Text that a client chose: unchanged if it is UTF-8, otherwise an approximation and the full hex."""
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {name: value.decode(errors="replace"), f"{name}_hex": value.hex()}


def file_sink(path: str | os.PathLike[str] | int, patience: int | None = None) -> Sink:
    """A sink that appends to a file, created with mode 0600. Raises OSError if it cannot be opened.

    path: may also be a descriptor from open_for_appending(), which the sink then owns.

    Sessions that write to one file take turns, so that a record is there whole or not at all. patience:
    milliseconds to wait for a file that accepts no data; None: PATIENCE.
    """
    return FileSink(path if isinstance(path, int) else open_for_appending(path), True, patience)


def descriptor_sink(descriptor: int) -> Sink:
    """A sink that writes to an open descriptor, which other programs may be writing to as well."""
    return FileSink(descriptor)


class FileSink:
    """Stores lines. is_own: the sink owns the descriptor and closes it; others may have the file open.

    If a line can be written only in part, the part is cut off again; if that is not possible, the next
    record begins on a new line. A sink that accepts no data is waited for once, until it accepts some again.
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
        self._kept = 0  # lines of those that failed together and could not be cut off again
        self._locked = descriptor  # the descriptor to lock

    def __del__(self) -> None:
        if self._is_own:
            os.close(self._descriptor)

    def __call__(self, line: bytes) -> None:
        self._take([line])

    def store_all(self, lines: list[bytes]) -> int:
        """Store lines with one write; return how many are stored. The rest can be tried one by one."""
        self._kept = 0
        if not self._is_file or self._torn:
            return 0  # another process may write in between, or a line end has to be written first
        try:
            self._take(lines)
        except OSError:
            return self._kept
        return len(lines)

    def _take(self, lines: list[bytes]) -> None:
        try:
            locked = self._is_own and self._lock()
            try:
                self._append(lines, locked)
            finally:
                if locked:
                    fcntl.flock(self._locked, fcntl.LOCK_UN)
        except OSError:
            self._patience = 0
            raise
        self._patience = self._most
        self._torn = False

    def _append(self, lines: list[bytes], locked: bool) -> None:
        self._store(b"".join((b"\n", *lines) if self._torn else lines))

    def _store(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self._write(rest) :]
        except OSError:
            written = len(data) - len(rest)
            if written and not self._take_back(written):
                self._kept = data.count(b"\n", 0, written)
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
        """Lock the file for this session's record; return False if it cannot be locked."""
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
    return os_error(errno.ETIMEDOUT)
