"""What watches a session: the audit log, and the counters for metrics.

What may not enter: SSH, where figures are shown.
"""

from __future__ import annotations

from pysftpserver.engine import audit
from pysftpserver.hook import SFTPHooks
from pysftpserver.service.audit import WAIT
from pysftpserver.sshd.metrics import Counting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.hook import SFTPHook
    from pysftpserver.sshd.connection import Connection
    from pysftpserver.sshd.server import Server


def hook_of(server: Server, connection: Connection) -> SFTPHook | None:
    """The hook of one session, as the settings want it. Raises OSError where there can be no audit log.

    None where nothing watches: with a hook, the engine serves packets one by one.
    """
    hooks: list[SFTPHook] = []
    if server.settings.audit is not None:
        # Opened for each session: a file that was moved away is left with the next one.
        sink = audit.file_sink(server.settings.audit, WAIT)
        who = connection.name, connection.address, connection.port
        hooks.append(audit.AuditLog(sink, *who, server.log, number=connection.number))
    if server.settings.metrics is not None:
        hooks.append(Counting(server.metrics))
    return SFTPHooks(*hooks) if hooks else None
