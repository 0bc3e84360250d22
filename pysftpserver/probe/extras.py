"""What a probe does after the rules on request: measures speed, and plays clients.

What may not enter: how that is measured and played.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pysftpserver.contract.client import Line
    from pysftpserver.contract.subject import Subject
    from pysftpserver.probe.results import Report

    Extra = Callable[[Report, Subject, Callable[[], Line], Callable[[str], None]], None]


def speed(
    report: Report, subject: Subject, connect: Callable[[], Line], progress: Callable[[str], None]
) -> None:
    """Measure the server; the figures go into the report, including those before a failure."""
    from pysftpserver.probe.speed import measure

    measure(subject.client, connect, subject.directory, progress=progress, figures=report.figures)


def clients(
    report: Report, subject: Subject, connect: Callable[[], Line], progress: Callable[[str], None]
) -> None:
    """Play well-known clients; the results for their users go into the report."""
    from pysftpserver.probe.clients import run_all

    seconds = subject.client.seconds
    report.tasks += run_all(connect, subject.directory, subject.lacks, seconds, progress)
