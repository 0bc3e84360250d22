"""The tables of docs/commands.md."""

from __future__ import annotations

from pysftpserver.cli.common import STATUSES
from pysftpserver.cli.registry import PROGRAMS
from tools.manual import formats
from tools.manual.commands import OLDER, declaration, programs, section_of, summary, walk


def common_statuses() -> str:
    """The exit statuses of every command."""
    rows = [f"| {status} | {words} |" for status, words in STATUSES]
    return "\n".join(["| status | when |", "| --- | --- |", *rows]) + "\n"


def own_statuses() -> str:
    """The exit statuses that mean something else in a command."""
    rows = ["| command | status | when |", "| --- | --- | --- |"]
    for program in programs():
        for words, command in walk(declaration(program)):
            name = " ".join((program.name, *words))
            rows += [f"| `{name}` | {status} | {text} |" for status, text in sorted(command.statuses)]
    return "\n".join(rows) + "\n"


def pages() -> str:
    """The manual pages."""
    rows = ["| page | is about |", "| --- | --- |"]
    for program in PROGRAMS:
        if program.name not in OLDER:
            does = summary(declaration(program)).replace("|", "\\|")
            rows.append(f"| `{program.name}`({section_of(program.name)}) | {does} |")
    for (name, section), about in formats.SUMMARIES.items():
        rows.append(f"| `{name}`({section}) | {about} |")
    return "\n".join(rows) + "\n"
