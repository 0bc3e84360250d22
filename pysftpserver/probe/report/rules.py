"""The table of rules in Markdown, for docs/rules.md.

What may not enter: reports.
"""

from __future__ import annotations

from pysftpserver.contract.rules import RULES
from pysftpserver.contract.table import LEVELS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pysftpserver.contract.table import Rule


def counts() -> str:
    """A sentence with the number of rules, by level."""
    levels = [rule.level for rule in RULES.values()]
    parts = [f"{levels.count(level)} of level {level}" for level in LEVELS]
    return f"There are {len(levels)} rules: {', '.join(parts[:-1])} and {parts[-1]}.\n"


def markdown_table() -> str:
    """All rules, a heading and a table for each group."""
    groups: dict[str, list[Rule]] = {}
    for rule in RULES.values():
        groups.setdefault(rule.group, []).append(rule)
    lines = []
    for group, rules in groups.items():
        lines += [
            f"## {group}",
            "",
            "| rule | level | what the server must do | source |",
            "| --- | --- | --- | --- |",
        ]
        lines += [
            f"| `{rule.name}` | {rule.level} | {_cell(rule.sentence)} | {_cell(rule.source)} |"
            for rule in rules
        ]
        lines.append("")
    return "\n".join(lines)


def _cell(words: str) -> str:
    for mark in "\\|<*`":
        words = words.replace(mark, f"\\{mark}")
    return words
