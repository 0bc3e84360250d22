"""The audit log of doors that do not speak SFTP: the same records as the engine's hook writes.

One schema for all doors: time, session, peer, port, user, request, path, result, bytes, duration, and what
else there is to say of a request. What may not enter: keys, tokens, what files and commands contain.
"""

from __future__ import annotations

import os
import time
from _thread import allocate_lock  # threading would do work in each new process

from pysftpserver.engine.audit import RESULTS, AuditLog, client_text, file_sink
from pysftpserver.engine.log import open_for_appending
from pysftpserver.failures import BadInput
from pysftpserver.host.accounts import own_reason
from pysftpserver.pysftpexceptions import status_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pysftpserver.engine.audit import Sink


WAIT = 200  # milliseconds for an audit log that takes nothing: an event loop stands still meanwhile


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
    """Open what sink_of() takes; return the descriptors, which can be given to a process. Raises OSError."""
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
        """Go on in the file that has the name now. Raises BadInput, and goes on in the old one then."""
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
    """The word for what became of a request: "OK", or the name of the status that SFTP has for the error."""
    return "OK" if error is None else RESULTS[status_of(error)[0]]


class DoorAudit(AuditLog):
    """The audit log of one session of a door. Arguments are those of AuditLog."""

    def set_user(self, user: str) -> None:
        """Name the user in all further records: the session has logged in."""
        self._who["user"] = user

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

        Raises SFTPSessionEnd when the record cannot be stored and best effort is not enough.
        """
        self._moved += size
        self._write(self._noted, request, result, path, size, seconds, details)

    def _noted(
        self,
        request: str,
        result: str,
        path: bytes | None,
        size: int,
        seconds: float,
        details: dict[str, Any],
    ) -> dict[str, Any]:
        record = self._record(request, time.time() - seconds, result, size, seconds)
        for name, value in (("path", path), *details.items()):
            record.update(client_text(name, value) if isinstance(value, bytes) else {name: value})
        return record
