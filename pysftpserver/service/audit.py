"""The audit log of doors that do not speak SFTP: the same records as the engine's hook writes.

One schema for all doors: time, session, peer, port, user, request, path, result, bytes, duration, and further
details of a request. What may not enter: keys, tokens, the content of files and commands.
"""

from __future__ import annotations

import contextlib
import os
import time
from _thread import allocate_lock  # threading would do work in each new process

from pysftpserver.engine.audit import RESULTS, AuditLog, client_text, file_sink
from pysftpserver.engine.log import open_for_appending
from pysftpserver.failures import BadInput
from pysftpserver.host.accounts import own_reason
from pysftpserver.pysftpexceptions import SFTPSessionEnd, status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pysftpserver.engine.audit import Sink
    from pysftpserver.engine.log import SFTPLog


WAIT = 200  # milliseconds for an audit log that accepts no data: an event loop stands still meanwhile


def sink_of(path: str, is_chained: bool, descriptors: Sequence[int] = ()) -> Sink:
    """The sink of an audit log. Raises OSError.

    descriptors: as open_files() returns them; (): the file is opened.
    """
    if not is_chained:
        return file_sink(descriptors[0] if descriptors else path, WAIT)
    from pysftpserver.engine import chain

    log, state = descriptors or (path, path + chain.STATE)
    return chain.chained_sink(log, state, WAIT)


def open_files(path: str, is_chained: bool) -> list[int]:
    """Open the files for sink_of(); return descriptors, which can be passed to a process. Raises OSError."""
    opened = [open_for_appending(path, is_chained)]
    if is_chained:
        from pysftpserver.engine import chain

        try:
            opened.append(chain.open_state(path + chain.STATE))
        except OSError:
            os.close(opened[0])
            raise
    return opened


class AuditFile:
    """The file of a door's audit log: a sink that threads may share. Raises BadInput."""

    def __init__(self, path: str, is_chained: bool = False) -> None:
        self._path = path
        self._is_chained = is_chained
        self._lock = allocate_lock()
        self.reopen()

    def reopen(self) -> None:
        """Continue in the file that has the name now. Raises BadInput, and continues in the old one then."""
        try:
            sink = sink_of(self._path, self._is_chained)
        except OSError as error:
            problem = f"audit log {self._path}: {own_reason(error)}; name a file that can be written"
            raise BadInput(problem) from None
        with self._lock:
            self._sink = sink

    def __call__(self, line: bytes) -> None:
        with self._lock:
            self._sink(line)

    @property
    def head(self) -> str:
        """ "number:hash" of the last record, if there is a chain."""
        return getattr(self._sink, "head", "")


def result_of(error: BaseException | None) -> str:
    """The word for the result of a request: "OK", or the name of SFTP's status for the error."""
    return "OK" if error is None else RESULTS[status_of(error)[0]]


class DoorAudit(AuditLog):
    """The audit log of one session of a door. Arguments are those of AuditLog."""

    def note(
        self,
        request: str,
        result: str = "OK",
        *,
        path: bytes | None = None,
        size: int = 0,
        seconds: float = 0.0,
        **details: Any,
    ) -> None:
        """Record one request. size: bytes of content that it moved. details: further names and values.

        Raises SFTPSessionEnd if the record cannot be stored and best effort is not enough.
        """
        self._moved += size
        self._write(self._noted, request, result, path, size, seconds, details)

    def cut_off(self, cause: str, seconds: float) -> None:
        """Record the end of a session that could not do so itself. How much it has moved is not known."""
        self._write(self._line, "end", time.time(), None, "FAILURE", None, seconds, {"cause": cause})

    def end(self, message: str) -> None:
        """Record the end of the session. message: why it ended."""
        with contextlib.suppress(SFTPSessionEnd):
            # the session is over, and the log says what was not recorded
            seconds = time.perf_counter() - self._began
            self._write(self._noted, "end", "OK", None, self._moved, seconds, {"message": message})

    def _noted(
        self,
        request: str,
        result: str,
        path: bytes | None,
        size: int,
        seconds: float,
        details: dict[str, Any],
    ) -> bytes:
        more: dict[str, Any] = {}
        for name, value in details.items():
            more.update(client_text(name, value) if isinstance(value, bytes) else {name: value})
        return self._line(request, time.time() - seconds, path, result, size, seconds, more)


class AuditTrail:
    """Stores the records of a door, in a file or in `otherwise`.

    log: the door's. Raises BadInput if the file cannot be written.
    """

    def __init__(
        self, path: str | None, is_chained: bool, log: SFTPLog, otherwise: Sink = lambda line: None
    ) -> None:
        self._file = None if path is None else AuditFile(path, is_chained)
        self._otherwise = otherwise
        self._log = log

    def reopen(self) -> None:
        """Continue in the file that has the name now. Raises BadInput."""
        if self._file is not None:
            self._file.reopen()

    def of(self, user: str, address: str, port: int | None) -> DoorAudit:
        """The audit log of a session of that user from that address, or of one refused login."""
        return DoorAudit(self._file or self._otherwise, user, address, port, self._log)
