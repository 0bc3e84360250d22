"""The audit log: the records that all doors write, of each login, file, command and end of a session.

What may not enter: keys, tokens, the content of files and the output of commands.
"""

from __future__ import annotations

import contextlib
import logging
import time

from pysftpserver.engine.log import SFTPLog
from pysftpserver.pysftpexceptions import SFTPSessionEnd
from pysftpserver.service.audit import AuditFile, DoorAudit
from pysftpserver.service.pythonlogs import sftp_log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pysftpserver.remo.session import Session

LOGGER = "pysftpserver.remo.audit"


#: The door's log, for what is written for SFTPLog.
LOG = sftp_log(logging.getLogger("pysftpserver.remo"))


class SessionAudit(DoorAudit):
    """The audit log of one session, or of one refused login."""

    def end(self, message: str) -> None:
        """Record the end of the session. message: why it ended."""
        with contextlib.suppress(SFTPSessionEnd):
            # the session is over, and the log says what was not recorded
            seconds = time.perf_counter() - self._began
            self._write(self._noted, "end", "OK", None, self._moved, seconds, {"message": message})


SILENT = SessionAudit(lambda line: None, "", None, None, SFTPLog())


class AuditTrail:
    """Where the records of a server go: to a file, or as INFO to the logger LOGGER.

    Raises BadInput for a file that cannot be written.
    """

    def __init__(self, path: str | None, is_chained: bool = False) -> None:
        self._file = None if path is None else AuditFile(path, is_chained)

    def reopen(self) -> None:
        """Go on in the file that has the name now. Raises BadInput."""
        if self._file is not None:
            self._file.reopen()

    def of(self, user: str, address: str, port: int | None) -> SessionAudit:
        """The audit log of a session of that user from that address."""
        return SessionAudit(self._file or _log_record, user, address, port, LOG)


def _log_record(line: bytes) -> None:
    logging.getLogger(LOGGER).info("%s", line.decode().rstrip())


def record(session: Session, request: str, result: str = "OK", **details: Any) -> None:
    """Record a request of a session. The rest is as for DoorAudit.note(), but for what it raises: a session
    that cannot be audited ends.
    """
    try:
        session.audit.note(request, result, **details)
    except SFTPSessionEnd:
        session.end()
