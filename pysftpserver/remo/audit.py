"""The audit log: the records that all doors write, of each login, file, command and end of a session.

What may not enter: keys, tokens, the content of files and the output of commands.
"""

from __future__ import annotations

import logging

from pysftpserver.engine.log import SFTPLog
from pysftpserver.pysftpexceptions import SFTPSessionEnd
from pysftpserver.service.audit import AuditTrail, DoorAudit
from pysftpserver.service.pythonlogs import sftp_log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pysftpserver.remo.config import ServerSettings
    from pysftpserver.remo.session import Session

LOGGER = "pysftpserver.remo.audit"


#: The door's log, for what is written for SFTPLog.
LOG = sftp_log(logging.getLogger("pysftpserver.remo"))


SILENT = DoorAudit(lambda line: None, "", None, None, SFTPLog())


def trail_of(values: ServerSettings) -> AuditTrail:
    """Where the records of a server go: to a file, or as INFO to the logger LOGGER. Raises BadInput."""
    return AuditTrail(values.audit, values.audit_chain, LOG, _log_record)


def _log_record(line: bytes) -> None:
    logging.getLogger(LOGGER).info("%s", line.decode().rstrip())


def record(session: Session, request: str, result: str = "OK", **details: Any) -> None:
    """Record a request of a session; arguments are DoorAudit.note()'s. Raises nothing for a record that
    cannot be written: the session ends instead.
    """
    try:
        session.audit.note(request, result, **details)
    except SFTPSessionEnd:
        session.end()
