"""The hooks that watch a session: the audit log, and the counters for metrics.

What may not enter: SSH, where figures are shown.
"""

from __future__ import annotations

from pysftpserver.engine import audit
from pysftpserver.failures import reason_of
from pysftpserver.hook import SFTPHooks
from pysftpserver.service.audit import DoorAudit, sink_of
from pysftpserver.sshd.metrics import Counting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pysftpserver.engine.log import SFTPLog
    from pysftpserver.hook import SFTPHook
    from pysftpserver.sshd.metrics import Requests
    from pysftpserver.sshd.tickets import Ticket


def hook_of(
    ticket: Ticket, log: SFTPLog, metrics: Requests, descriptors: Sequence[int] = ()
) -> SFTPHook | None:
    """The hook of one session, as its ticket asks for. Raises OSError if the audit log cannot be opened.

    descriptors: the session's own of the audit log; (): the file is opened.
    """
    hooks: list[SFTPHook] = []
    if ticket.audit is not None:
        # Opened for each session: a file that was moved away is left with the next one.
        sink = sink_of(ticket.audit, ticket.audit_chain, descriptors)
        who = ticket.user.name, ticket.address, ticket.port
        hooks.append(
            audit.AuditLog(
                sink,
                *who,
                log,
                number=ticket.number,
                session=ticket.session,
                level=ticket.audit_level,
                digests=ticket.audit_digests,
                key=ticket.key,
            )
        )
    if ticket.counts:
        hooks.append(Counting(metrics))
    return SFTPHooks(*hooks) if hooks else None


def record_end(ticket: Ticket, log: SFTPLog, cause: str, seconds: float) -> None:
    """Record the end of a session that could not do so itself. How much it has moved is unknown.

    cause: why it was ended. seconds: that it took.
    """
    assert ticket.audit is not None
    who = ticket.user.name, ticket.address, ticket.port
    try:
        sink = sink_of(ticket.audit, ticket.audit_chain)
    except OSError as error:
        log.error(f"audit: {reason_of(error)}; the end of the session is not recorded")
        return
    records = DoorAudit(sink, *who, log, True, ticket.number, ticket.session)
    records.cut_off(cause, seconds)
