"""pysftp-audit: verifies the chain of audit logs, and tells what became of a file.

The work is done in service/verifying.py and service/tracing.py. What may not enter: how records are written.
"""

from __future__ import annotations

from pysftpserver.cli import common
from pysftpserver.cli.options import BadValue, Command, Commands, Option, Subcommand, markdown_table
from pysftpserver.failures import BadInput, one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PROG = "pysftp-audit"
BROKEN = 1  # exit status: the log is not as it was written


def head(text: str) -> tuple[int, str]:
    """The number and the hash of a head. Raises BadValue."""
    from pysftpserver.service.verifying import head

    try:
        return head(text)
    except ValueError:
        raise BadValue(f"invalid head {text!r}: give NUMBER:HASH, as verify prints it") from None


VERIFY = Command(
    f"{PROG} verify",
    description="Verify the chain of an audit log: name every record that was changed, removed, moved "
    "or added, with its line.",
    epilog="Name all files of one log: rotated ones too, in any order, compressed with gzip or not. The last "
    "line has the head of the chain. Keep that elsewhere, and give it with --head later: who can write the "
    "log and FILE.chain can write another chain, but not one with this record in it.",
    options=(
        Option(
            "--head", metavar="HEAD", convert=head, is_repeated=True,
            help="Check that there is this record, NUMBER:HASH. The record before the first one counts "
            "as well: so the oldest files may be missing. May be given several times. The default is none.",
        ),
    ),
    rest=("file", "The files of the audit log."),
    examples=(
        ("Verify a log with its rotated files:", f"{PROG} verify /var/log/sftp-audit.json*"),
        (
            "Check that yesterday's head is still there:",
            f"{PROG} verify --head 41972:9f3c... /var/log/sftp-audit.json",
        ),
    ),
    statuses=((BROKEN, "A record was changed, removed, moved or added, or that of --head is missing."),),
)  # fmt: skip
WHO = Command(
    f"{PROG} who",
    description="Print who stored, fetched, removed or renamed a file, and when. Renames are followed.",
    epilog="Name the files of the audit log from the oldest to the newest. The chain is not verified.",
    options=(),
    arguments=[("path", "The path of the file, as clients see it; one without a slash first is below /.")],
    rest=("file", "The files of the audit log."),
    examples=(("Tell who stored or fetched a file:", f"{PROG} who /in/orders.csv /var/log/sftp-audit.json"),),
)


def files_of(values: dict[str, list[str]]) -> list[str]:
    """The files that were named. Raises BadInput without any."""
    if not values["file"]:
        raise BadInput("the audit log is missing; name its files")
    return values["file"]


def verify(words: Sequence[str]) -> int:
    """Verify a chain; return the exit status. Raises BadInput."""
    values = VERIFY.parse(words)
    from pysftpserver.service import verifying

    found = verifying.verify(files_of(values), dict(values["head"] or ()))
    for text in (*found.notes, *found.problems):
        print(text)
    count = len(found.problems)
    problems = "no problem" if not count else f"{count} problem{'s' if count > 1 else ''}"
    print(f"{found.records} records, {problems}" + (f", head {found.head}" if found.head else ""))
    return BROKEN if count else 0


def who(words: Sequence[str]) -> int:
    """Tell what became of a file; return the exit status. Raises BadInput."""
    values = WHO.parse(words)
    from pysftpserver.service.tracing import trace

    lines = trace(values["path"], files_of(values))
    for line in lines:
        print(line)
    if not lines:
        common.tell(f"{PROG}: {one_line(values['path'])}: no record; paths are as clients see them")
    return 0


COMMANDS = Commands(
    PROG,
    "Verifies audit logs, and tells what became of a file.",
    (
        Subcommand(
            "verify", "Find records that were changed, removed, moved or added.", verify, lambda: VERIFY
        ),
        Subcommand("who", "Tell who stored, fetched, removed or renamed a file.", who, lambda: WHO),
    ),
)


def verify_table() -> str:
    """The options of verify, for its page."""
    return markdown_table(VERIFY)


def who_table() -> str:
    """The same for who."""
    return markdown_table(WHO)


main = common.main_of(PROG, COMMANDS.run)
