"""The audit log: one JSON object a line for each operation that a client asked for. It is a hook.

Whatever a client chose is text inside a JSON string in plain ASCII, so no name can forge a record or drive
a terminal. What was done and could not be recorded ends the session, unless best effort is enough. What
may not enter: storages, wire formats, where the records go (a sink says that).
"""

from __future__ import annotations

import errno
import json
import os
import select
import time

from pysftpserver.attributes import FIELDS, SFTPAttributes
from pysftpserver.hook import SFTPHook
from pysftpserver.log import open_for_appending
from pysftpserver.pysftpexceptions import SFTPSessionEnd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pysftpserver.hook import SFTPEvent
    from pysftpserver.log import SFTPLog

    Sink = Callable[[bytes], None]

PATIENCE = 10_000  # milliseconds that a sink which takes nothing is waited for
RESULTS = (
    "OK",
    "EOF",
    "NO_SUCH_FILE",
    "PERMISSION_DENIED",
    "FAILURE",
    "BAD_MESSAGE",
    "NO_CONNECTION",
    "CONNECTION_LOST",
    "OP_UNSUPPORTED",
)  # by their codes
OPEN_FLAGS = ("READ", "WRITE", "APPEND", "CREATE", "TRUNCATE", "EXCL")  # bit 0 and up
DELETE = "\x7f"  # the one control character that JSON in ASCII leaves as it is


class AuditLog(SFTPHook):
    """Records every operation of one session.

    sink: stores one line, or raises OSError. user, peer, port: who the session is for, and where that
    client is; None where it is not known. best_effort: lost records are counted in the session's log, and
    the session goes on. log: the session's.
    """

    def __init__(
        self,
        sink: Sink,
        user: str,
        peer: str | None,
        port: int | None,
        log: SFTPLog,
        best_effort: bool = False,
    ) -> None:
        self._sink = sink
        self._log = log
        self._best_effort = best_effort
        self._lost = 0
        self._began = time.perf_counter()
        self._moved = 0
        self._who: dict[str, Any] = {
            "session": os.urandom(8).hex(),
            "peer": peer,
            "port": port,
            "user": user,
        }
        self._always = {*self._who, "path"}

    def after(self, event: SFTPEvent) -> None:
        self._moved += event.size
        self._write(self.record(event))

    rejected = after

    def ended(self) -> None:
        record = self._record("end", time.time(), "OK", self._moved, time.perf_counter() - self._began)
        try:
            self._write(record)
        except SFTPSessionEnd:
            pass  # it is over, and the log has what was not recorded

    def record(self, event: SFTPEvent) -> dict[str, Any]:
        """What is recorded of an operation: names and values, in their order."""
        result = RESULTS[event.status] if event.status < len(RESULTS) else f"STATUS_{event.status}"
        record = self._record(event.name, time.time() - event.seconds, result, event.size, event.seconds)
        for name, value in (("path", event.path), ("target", event.target)):
            if value is not None:
                record.update(_text(name, value))
        if event.message:
            record.update(_text("message", event.message))
        for name, value in event.arguments.items():
            if isinstance(value, SFTPAttributes):
                record.update((field, getattr(value, field)) for field in FIELDS if field != "nlink")
                if value.permissions is not None:
                    record["permissions"] = f"{value.permissions:04o}"
            elif name == "flags":
                record[name] = ",".join(flag for bit, flag in enumerate(OPEN_FLAGS) if value >> bit & 1)
            elif isinstance(value, int):
                record[name] = value
            elif name == "user":
                record.update(_text("name", value))
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

    def _write(self, record: dict[str, Any]) -> None:
        text = json.dumps(record, separators=(",", ":")).replace(DELETE, "\\u007f")
        try:
            self._sink(text.encode() + b"\n")
        except OSError as error:
            if not self._lost or not self._best_effort:
                self._log.error(f"audit: {error.strerror or 'failed'}; not recorded: {text}")
            self._lost += 1
            if not self._best_effort:
                raise SFTPSessionEnd("the audit log cannot be written") from None
            return
        if self._lost:
            self._log.error(f"audit: {self._lost} records were lost; now it can be written again")
            self._lost = 0


def _text(name: str, value: bytes) -> dict[str, str]:
    """Text that a client chose: as it is if it is UTF-8, otherwise as near as can be, and in full as hex."""
    try:
        return {name: value.decode()}
    except UnicodeDecodeError:
        return {name: value.decode(errors="replace"), f"{name}_hex": value.hex()}


def file_sink(path: str | os.PathLike[str]) -> Sink:
    """Appends to a file, made with mode 0600. Raises OSError when it cannot be opened."""
    return descriptor_sink(open_for_appending(path))


def descriptor_sink(descriptor: int) -> Sink:
    """Writes to an open descriptor: a whole line in one call, where there is room for it.

    A line that could be written in part only is ended before the next one, so that no other is lost by it.
    """
    torn = False

    def sink(line: bytes) -> None:
        nonlocal torn
        rest = memoryview(b"\n" + line if torn else line)
        whole = len(rest)
        try:
            while rest:
                rest = rest[_write(descriptor, rest) :]
        except OSError:
            torn = torn or len(rest) < whole
            raise
        torn = False

    return sink


def _write(descriptor: int, data: memoryview) -> int:
    """write(2) that waits for a while where there is no room now."""
    while True:
        try:
            return os.write(descriptor, data)
        except BlockingIOError:
            poll = select.poll()
            poll.register(descriptor, select.POLLOUT)
            if not poll.poll(PATIENCE):
                raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
