"""Reports to show: real rules run against a server in this process, and one with hostile texts."""

from __future__ import annotations

from pysftpserver.abstractstorage import SFTPAbstractServerStorage
from pysftpserver.contract.client import Broken, Client, Refused
from pysftpserver.contract.in_process import ServerLine
from pysftpserver.contract.rules import RULES
from pysftpserver.contract.subject import Subject
from pysftpserver.contract.table import LEVELS
from pysftpserver.probe.results import ERROR, FAILED, PASSED, UNSUPPORTED, Figure, Outcome, Report, Task
from pysftpserver.probe.words import step_of
from pysftpserver.pysftpexceptions import SFTPFailure
from tests.support.memory import SFTPServerMemoryStorage

HOSTILE = "\x1b]0;x\x07<script src='//x.org/'>alert(\"1\")</script>&amp;`|*\r\n\u202e\x00\ud800 ]]> -->"


class Upside(SFTPServerMemoryStorage):
    """A storage that breaks rules: a link has another text, and a failure words that are no text."""

    def readlink(self, path: bytes) -> bytes:
        try:
            return super().readlink(path)[::-1] + b"\xff!"
        except SFTPFailure:
            raise SFTPFailure(HOSTILE.replace("\ud800", "")) from None


def outcome_of(name: str, storage: SFTPAbstractServerStorage) -> Outcome:
    """A rule of the table tried on a storage, as if it were a must."""
    rule = RULES[name]
    client = Client(ServerLine(storage))
    client.hello()
    found = Outcome(name, rule.group, "must", rule.sentence, rule.source, PASSED, seconds=0.25)
    try:
        rule.check(Subject(client, b"/", lambda: ServerLine(storage)))
    except (Broken, Refused) as error:
        found.verdict, found.why = FAILED, str(error)
    for exchange in client.exchanges:
        found.steps.append(step_of(exchange.request, True))
        if exchange.reply is not None:
            found.steps.append(step_of(exchange.reply, False, exchange.request))
    if found.verdict == PASSED:
        found.steps.clear()
    client.close()
    return found


def report_of(make: type[SFTPAbstractServerStorage] = SFTPServerMemoryStorage) -> Report:
    """The rules of links tried on a storage, with outcomes of other kinds, tasks and figures."""
    names = ("link-text", "symlink-target-first", "readlink-of-no-link")
    report = Report("memory", "3.1", 1_795_000_000.0, 1.5, 3, {"limits@openssh.com": "1"}, ["nlink"])
    report.outcomes = [outcome_of(name, make()) for name in names]
    draft = "draft-ietf-secsh-filexfer-02"
    report.outcomes += [
        Outcome("fsync-of-a-file", "files", "should", "fsync flushes.", "OpenSSH PROTOCOL, 4.6", UNSUPPORTED),
        Outcome("stat-size", "files", "should", "STAT tells the size of a file.", f"{draft}, 6.8", PASSED),
    ]
    report.tasks = [
        Task("rclone", "sync", "observed", True, "works, but re-copies every file", ["times are not kept"]),
        Task("sshfs", "edit in place", "documented", False, "fails, because RENAME was refused"),
    ]
    report.figures = [
        Figure("STAT, one at a time", 0.21834, "ms"),
        Figure("download, READ of 32768 bytes", 412.3, "MB/s"),
        Figure("longest READ", 261120.0, "bytes", 261120.0),
    ]
    report.trip = 0.0001
    return report


def hostile_report() -> Report:
    """Every text is somebody else's, and bad; every level and verdict is there."""
    step = step_of(HOSTILE.encode("utf-8", "surrogatepass"), False)
    step.words = HOSTILE
    bad = step_of(b"\0\0\0\1", True)
    bad.octets = HOSTILE
    outcomes = [
        Outcome(f"{number}{HOSTILE}", HOSTILE, level, HOSTILE, HOSTILE, verdict, HOSTILE, 1e300, [step, bad])
        for number, (level, verdict) in enumerate(
            (level, verdict) for level in LEVELS for verdict in (PASSED, FAILED, UNSUPPORTED, ERROR)
        )
    ]
    return Report(
        HOSTILE, HOSTILE, 1e300, 1e300, 3, {HOSTILE: HOSTILE}, [HOSTILE], outcomes,
        [Task(HOSTILE, HOSTILE, HOSTILE, works, HOSTILE, [HOSTILE], [step]) for works in (True, False)],
        [Figure(HOSTILE, value, HOSTILE, value) for value in (0.0, 1e300, float("nan"), float("inf"))],
        [HOSTILE], HOSTILE, 1.0,
    )  # fmt: skip
